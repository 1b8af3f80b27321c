/*
 * node among others: read leases, and who may be elected when.
 */
#include "tests/unit/raftd/cluster_fixture.h"

static struct cluster *create(void)
{
    struct cluster *cluster = cluster_allocate(3);

    cluster->config.read_mode = MS_READ_LEASE;
    for (node_id id = 1; id <= 3; id++) {
        (void)cluster_add_world(cluster, id);
        cluster_start_node(cluster, id);
    }
    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 5); /* data dirs are registered; each change of the membership ends one */
    return cluster;
}

static bool has_lease(const struct cluster *cluster, node_id id)
{
    return cluster_status(cluster, id).lease_end_ns > cluster->worlds[id]->now.ns;
}

/* Whoever has a lease must be the only one who leads. All clocks here show the same. */
static void check_leases(const struct cluster *cluster)
{
    for (node_id id = 1; id <= cluster->size; id++) {
        for (node_id other = 1; has_lease(cluster, id) && other <= cluster->size; other++) {
            const struct ms_raft_status status = cluster_status(cluster, other);

            cr_assert(
                other == id || !cluster_is_up(cluster, other) || status.role != MS_RAFT_LEADER ||
                    status.term < cluster_status(cluster, id).term,
                "node %ju leads although node %ju has a lease", (uintmax_t)other, (uintmax_t)id);
        }
    }
}

Test(node_lease, leader_has_one_and_renews_it)
{
    struct cluster *cluster = create();

    for (unsigned i = 0; i < 30; i++) {
        cluster_tick(cluster, 1);
        cr_assert(has_lease(cluster, 1));
        cr_assert_not(has_lease(cluster, 2));
        cr_assert_not(has_lease(cluster, 3));
    }
    cluster_destroy(cluster);
}

Test(node_lease, none_is_published_in_safe_mode)
{
    struct cluster *cluster = cluster_create(3);

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 5);
    cr_assert_eq(cluster_status(cluster, 1).lease_end_ns, 0);
    cluster_destroy(cluster);
}

Test(node_lease, ends_before_another_can_lead)
{
    struct cluster *cluster = create();

    cluster_tick(cluster, 3);
    cluster_cut_off(cluster, 1, true);
    for (unsigned i = 0; i < 100; i++) {
        cluster_tick(cluster, 1);
        check_leases(cluster);
    }
    cr_assert_not(has_lease(cluster, 1));
    cr_assert_neq(cluster_leader(cluster), 1);
    cr_assert(has_lease(cluster, cluster_leader(cluster)));
    cluster_destroy(cluster);
}

/* A follower that was started anew has forgotten what it promised, and keeps it all the same. */
Test(node_lease, follower_that_was_started_anew_elects_nobody_while_it_may_hold)
{
    struct cluster *cluster = create();

    cluster_tick(cluster, 3);
    /* The third has not heard of the leader for long, and would be elected by the second. */
    cluster->cut[1][3] = cluster->cut[3][1] = true;
    for (unsigned i = 0; i < 40; i++) {
        cluster_tick(cluster, 1);
        if (i % 7 == 0) {
            cluster_kill_raftd(cluster, 2);
            cluster_restart_raftd(cluster, 2);
        }
        check_leases(cluster);
    }
    cluster_destroy(cluster);
}

Test(node_lease, is_given_up_before_leadership_is)
{
    struct cluster *cluster = create();

    cluster_tick(cluster, 3);
    cr_assert(has_lease(cluster, 1));
    raftd_node_leave(cluster->worlds[1]->node, cluster->worlds[1]->now);
    world_run_ok(cluster->worlds[1]);
    cr_assert_gt(cluster->worlds[1]->network.message_count, 0);
    cr_assert_not(has_lease(cluster, 1), "the order to campaign is on its way");
    cluster_settle(cluster);
    check_leases(cluster);
    cluster_destroy(cluster);
}

Test(node_lease, is_given_up_when_the_disk_is_stuck)
{
    struct cluster *cluster = create();

    cluster_tick(cluster, 3);
    cluster->stalled[1] = true;
    (void)cluster_propose(cluster, 1);
    for (unsigned i = 0; i < 30; i++) {
        cluster_tick(cluster, 1);
        check_leases(cluster);
    }
    cr_assert_not(has_lease(cluster, 1));
    cluster_destroy(cluster);
}

Test(node_lease, raftd_that_takes_over_publishes_none_before_it_leads_again)
{
    struct cluster *cluster = create();

    cluster_tick(cluster, 3);
    cr_assert(has_lease(cluster, 1));
    cluster_kill_raftd(cluster, 1);
    cluster_restart_raftd(cluster, 1);
    world_run_ok(cluster->worlds[1]);
    cr_assert_eq(cluster_status(cluster, 1).lease_end_ns, 0);
    cluster_tick(cluster, 3);
    cr_assert_eq(cluster_leader(cluster), 1, "the others let it come back at once");
    cr_assert(has_lease(cluster, 1));
    cluster_destroy(cluster);
}

Test(node_lease, nobody_leads_while_another_has_one)
{
    uint64_t seed = test_seed("node_lease");
    struct cluster *cluster = create();

    for (unsigned i = 0; i < 1500; i++) {
        const node_id id = 1 + test_random_below(&seed, 3);
        const uint64_t what = test_random_below(&seed, 30);

        if (what == 0) {
            cluster_kill_raftd(cluster, id);
            cluster_restart_raftd(cluster, id);
        } else if (what < 3) {
            cluster_cut_off(cluster, id, true);
        } else if (what < 5) {
            cluster->cut[id][1 + test_random_below(&seed, 3)] = true;
        } else if (what < 8) {
            memset(cluster->cut, 0, sizeof(cluster->cut));
        } else if (what == 8) {
            cluster->stalled[id] = !cluster->stalled[id];
        } else if (what == 9) {
            raftd_node_leave(cluster->worlds[id]->node, cluster->worlds[id]->now);
        }
        cluster_tick(cluster, 1);
        check_leases(cluster);
    }
    cluster_destroy(cluster);
}

/*
 * The second founder's disk has nothing of the first leader yet, when it confirms that leader and
 * dies; then the third, who has lost the leader, asks for its vote.
 */
static void forget_early(unsigned ticks)
{
    struct cluster *cluster = cluster_allocate(3);

    cluster->config.read_mode = MS_READ_LEASE;
    for (node_id id = 1; id <= 3; id++) {
        (void)cluster_add_world(cluster, id);
        cluster_start_node(cluster, id);
    }
    world_settle(cluster->worlds[2]); /* the first entries are written */
    cluster->stalled[2] = true;
    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster->cut[1][3] = cluster->cut[3][1] = true;
    cluster_tick(cluster, ticks);
    cluster->cut[1][2] = cluster->cut[2][1] = true;
    cluster_kill_raftd(cluster, 2);
    cluster_kill_store(cluster, 2);
    cluster->stalled[2] = false;
    cluster->worlds[2]->first_start = true;
    cluster_start_node(cluster, 2);
    cluster_settle(cluster);
    /* Something between them refuses the connection, so it does not wait for the first founder. */
    cluster->events[2].absent(cluster->events[2].ctx, 1);
    for (unsigned i = 0; i < 12; i++) {
        check_leases(cluster);
        cluster_tick(cluster, 1);
    }
    cluster_destroy(cluster);
}

Test(node_lease, founder_that_was_started_anew_keeps_its_promise_too)
{
    for (unsigned ticks = 8; ticks < 24; ticks++) {
        forget_early(ticks);
    }
}

/* Whoever was the other voter until a moment ago may have a lease that counts on this node. */
Test(node_lease, lone_voter_that_was_started_anew_waits)
{
    struct world *world = world_create();
    struct ms_raft_status forgotten = {.self = 1};

    world->config.read_mode = MS_READ_LEASE;
    world_create_node(world);
    world_start_store(world);
    world_settle(world);
    cr_assert_eq(world_status(world).role, MS_RAFT_LEADER, "nobody has heard of it yet");

    raftd_node_destroy(world->node);
    world_create_node(world);
    world_start_store(world);
    world_settle(world);
    cr_assert_eq(world_status(world).role, MS_RAFT_LEADER, "nobody else has led meanwhile");

    raftd_node_destroy(world->node);
    ms_status_page_write(world->page, &forgotten, true);
    world_create_node(world);
    world_start_store(world);
    for (unsigned i = 0; i < 10; i++) {
        world_settle(world);
        cr_assert_neq(world_status(world).role, MS_RAFT_LEADER, "after %u ticks", i);
        world_tick(world, 100);
    }
    world_settle(world);
    cr_assert_eq(world_status(world).role, MS_RAFT_LEADER);
    world_destroy(world);
}

/* ---- founding ---- */

Test(node_lease, nodes_with_different_lists_found_nothing_together)
{
    struct cluster *cluster = cluster_allocate(2);
    struct world *other;

    (void)cluster_add_world(cluster, 1);
    other = cluster_add_world(cluster, 2);
    (void)snprintf(other->config.cluster, sizeof(other->config.cluster),
                   "http://127.0.0.1:9021,http://127.0.0.1:9022,http://127.0.0.1:9023");
    cluster_start_node(cluster, 1);
    cluster_start_node(cluster, 2);
    cluster_tick(cluster, 60);
    cr_assert_eq(cluster_leader(cluster), 0);
    cr_assert_eq(cluster_status(cluster, 1).term, 1);
    cr_assert_eq(cluster_status(cluster, 2).term, 1);
    cluster_destroy(cluster);
}

Test(node_lease, founders_wait_for_each_other_but_not_for_ever)
{
    struct cluster *cluster = cluster_allocate(3);

    (void)cluster_add_world(cluster, 2);
    (void)cluster_add_world(cluster, 3);
    cluster_start_node(cluster, 2);
    cluster_start_node(cluster, 3);
    cluster_tick(cluster, 5);
    cr_assert_eq(cluster_leader(cluster), 0, "the first founder has not been asked yet");
    cluster_tick(cluster, 100);
    cr_assert_neq(cluster_leader(cluster), 0);
    cluster_destroy(cluster);
}

/*
 * node_time: who campaigns early, and who counts as there. Hand-over, stuck disks and leases are in
 * node_cluster_test.c and node_lease_test.c.
 */
#include "raftd/node_private.h"
#include "tests/unit/raftd/cluster_fixture.h"

static struct cluster *led_by_one(enum ms_read_mode read_mode)
{
    struct cluster *cluster = cluster_allocate(3);

    cluster->config.read_mode = read_mode;
    for (node_id id = 1; id <= 3; id++) {
        (void)cluster_add_world(cluster, id);
        cluster_start_node(cluster, id);
    }
    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 3);
    return cluster;
}

/* The host of the peer says that nobody listens there. */
static void say_absent(struct cluster *cluster, node_id to, node_id peer)
{
    cluster->events[to].absent(cluster->events[to].ctx, peer);
}

Test(node_time, leader_whose_host_refuses_is_replaced_without_a_timeout)
{
    struct cluster *cluster = led_by_one(MS_READ_SAFE);

    cluster_kill_store(cluster, 1);
    cluster_kill_raftd(cluster, 1);
    say_absent(cluster, 2, 1);
    say_absent(cluster, 3, 1);
    cluster_settle(cluster);
    cluster_tick(cluster, 1);
    cr_assert_eq(cluster_leader(cluster), 2, "the first in turn");
    cr_assert_eq(cluster_status(cluster, 3).leader, 2);
    cluster_destroy(cluster);
}

/* Who is first in turn may be unable to win; then it is the next one's turn. */
Test(node_time, next_in_turn_campaigns_when_the_first_is_gone_too)
{
    struct cluster *cluster = cluster_create(5);

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 3);
    for (node_id id = 1; id <= 2; id++) {
        cluster_kill_store(cluster, id);
        cluster_kill_raftd(cluster, id);
    }
    for (node_id id = 3; id <= 5; id++) {
        say_absent(cluster, id, 1);
    }
    cluster_tick(cluster, 3);
    cr_assert_eq(cluster_leader(cluster), 3);
    cluster_destroy(cluster);
}

/* Something between two hosts refuses connections: the others know better. */
Test(node_time, false_alarm_costs_no_election)
{
    struct cluster *cluster = led_by_one(MS_READ_SAFE);
    const raft_term term = cluster_status(cluster, 1).term;

    say_absent(cluster, 2, 1);
    cluster_settle(cluster);
    cluster_tick(cluster, 5);
    cr_assert_eq(cluster_leader(cluster), 1);
    cr_assert_eq(cluster_status(cluster, 1).term, term);
    cr_assert_eq(cluster_status(cluster, 2).leader, 1);
    cluster_destroy(cluster);
}

/* Leases rest on the followers' patience. */
Test(node_time, lease_reads_keep_the_timeout)
{
    struct cluster *cluster = led_by_one(MS_READ_LEASE);

    cluster_kill_store(cluster, 1);
    cluster_kill_raftd(cluster, 1);
    say_absent(cluster, 2, 1);
    say_absent(cluster, 3, 1);
    cluster_tick(cluster, 5);
    cr_assert_eq(cluster_leader(cluster), 0);
    cr_assert_eq(cluster_status(cluster, 2).leader, 1);
    cluster_destroy(cluster);
}

Test(node_time, peer_counts_as_there_while_it_is_heard_of)
{
    struct cluster *cluster = led_by_one(MS_READ_SAFE);
    struct raftd_node *node = cluster->worlds[1]->node;

    cr_assert(raftd_node_is_there(node, 2));
    cr_assert_not(raftd_node_is_there(node, 4), "nobody of this name was ever heard of");
    for (unsigned i = 0; i < 11;
         i++) { /* one more than an election timeout, and all others frozen */
        world_tick(cluster->worlds[1], CLUSTER_TICK_MS);
    }
    cr_assert(cluster->worlds[1]->network.connected[2], "the connection stands");
    cr_assert_not(raftd_node_is_there(node, 2));
    cluster_destroy(cluster);
}

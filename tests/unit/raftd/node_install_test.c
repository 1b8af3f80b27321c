/*
 * node: a snapshot that comes in, with accidents at every step of the way.
 */
#include "tests/unit/raftd/cluster_fixture.h"

/* A cluster of three whose third member needs a snapshot to catch up; it is still cut off. */
static struct cluster *create_with_laggard(void)
{
    struct cluster *cluster = cluster_create(3);

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 5);
    cluster_cut_off(cluster, 3, true);
    for (unsigned i = 0; i < 20; i++) {
        (void)cluster_propose(cluster, 1);
    }
    cluster_settle(cluster);
    store_make_snapshot(&cluster->worlds[1]->store, 2);
    /* raftd keeps the newest entries whatever the log forgets; a new one does not. */
    cluster_kill_raftd(cluster, 1);
    cluster_restart_raftd(cluster, 1);
    cluster_tick(cluster, 1);
    cr_assert_eq(cluster_await_leader(cluster), 1);
    return cluster;
}

static void reconnect(struct cluster *cluster)
{
    cluster_cut_off(cluster, 3, false);
    cluster_tick(cluster, 60);
}

static void assert_caught_up(struct cluster *cluster)
{
    (void)cluster_propose(cluster, 1);
    cluster_tick(cluster, 3);
    cr_assert_gt(cluster->worlds[3]->store.compacted, 0, "it was no snapshot");
    cluster_assert_equal(cluster);
}

static void storaged_dies(struct cluster *cluster, node_id id)
{
    cluster_kill_store(cluster, id);
    world_start_store(cluster->worlds[id]);
}

static void raftd_dies(struct cluster *cluster, node_id id)
{
    cluster_kill_raftd(cluster, id);
    cluster_restart_raftd(cluster, id);
}

static void both_die(struct cluster *cluster, node_id id)
{
    cluster_kill_raftd(cluster, id);
    cluster_kill_store(cluster, id);
    cluster_restart_raftd(cluster, id);
}

/* Once more for each message that storaged handles, until a run has fewer of them. */
static void survive(void (*accident)(struct cluster *cluster, node_id id), node_id victim)
{
    unsigned fuse = 0;
    bool happened;

    do {
        struct cluster *cluster = create_with_laggard();

        fuse++;
        cluster->on_accident = accident;
        cluster->fuse[victim] = fuse;
        reconnect(cluster);
        happened = cluster->fuse[victim] == 0;
        cluster->fuse[victim] = 0;
        assert_caught_up(cluster);
        cluster_destroy(cluster);
    } while (happened);
    cr_assert_gt(fuse, 5, "only %u steps", fuse);
}

Test(node_install, snapshot_takes_the_place_of_log_and_membership)
{
    struct cluster *cluster = create_with_laggard();
    struct world *laggard = cluster->worlds[3];

    reconnect(cluster);
    assert_caught_up(cluster);
    cr_assert_eq(cluster->snapshots, 1);
    cr_assert_eq(world_status(laggard).member_count, 3);
    cr_assert_eq(world_status(laggard).first_index, laggard->store.compacted + 1);
    cr_assert_eq(laggard->store.conf.len_bytes, cluster->worlds[1]->store.conf.len_bytes);
    cluster_destroy(cluster);
}

/* The log goes on behind the snapshot while the state machine is still being replaced. */
Test(node_install, entries_are_taken_while_the_snapshot_is_being_installed)
{
    struct cluster *cluster = create_with_laggard();
    struct fake_store *laggard = &cluster->worlds[3]->store;

    laggard->slow_install = true;
    cluster_cut_off(cluster, 3, false);
    cluster_tick(cluster, 20);
    cr_assert_gt(laggard->compacted, laggard->applied, "it is not being installed");
    for (unsigned i = 0; i < 10; i++) {
        (void)cluster_propose(cluster, 1);
        cluster_tick(cluster, 1);
    }
    cr_assert_eq(laggard->last, cluster->worlds[1]->store.last);
    cr_assert_gt(laggard->compacted, laggard->applied);
    store_install(laggard);
    store_say_done(laggard);
    cluster_tick(cluster, 3);
    cluster_assert_equal(cluster);
    cluster_destroy(cluster);
}

Test(node_install, storaged_of_the_receiver_dies_at_any_step)
{
    survive(storaged_dies, 3);
}

Test(node_install, raftd_of_the_receiver_dies_at_any_step)
{
    survive(raftd_dies, 3);
}

Test(node_install, receiver_dies_at_any_step)
{
    survive(both_die, 3);
}

Test(node_install, storaged_of_the_sender_dies_at_any_step)
{
    survive(storaged_dies, 1);
}

/* What waits to be applied when a snapshot comes is part of it, and never applied twice. */
Test(node_install, changes_of_the_membership_that_wait_are_part_of_the_snapshot)
{
    struct cluster *cluster = cluster_create(3);

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 5);
    /* Its log is written, but nothing is applied: a change of the membership waits there. */
    ms_link_fini(&cluster->worlds[3]->store.apply);
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_ADD_LEARNER, 4), MS_MEMBER_OK);
    cluster_cut_off(cluster, 3, true);
    for (unsigned i = 0; i < 5; i++) {
        (void)cluster_propose(cluster, 1);
    }
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_REMOVE, 4), MS_MEMBER_OK);
    cluster_settle(cluster);
    store_make_snapshot(&cluster->worlds[1]->store, 0);
    cluster_kill_raftd(cluster, 1);
    cluster_restart_raftd(cluster, 1);
    cluster_tick(cluster, 1);
    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_cut_off(cluster, 3, false);
    cluster_tick(cluster, 10);
    storaged_dies(cluster, 3);
    cluster_tick(cluster, 60);
    cr_assert_geq(cluster->snapshots, 1);
    cluster_assert_equal(cluster);
    cr_assert_eq(world_status(cluster->worlds[3]).member_count, 3);
    cluster_destroy(cluster);
}

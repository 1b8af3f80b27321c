/*
 * node among others: who joins, who is removed, and who has been away while that happened.
 */
#include "tests/unit/raftd/cluster_fixture.h"

static size_t members_at(const struct cluster *cluster, node_id id)
{
    return cluster_status(cluster, id).member_count;
}

Test(node_members, data_dirs_are_registered)
{
    struct cluster *cluster = cluster_create(3);
    struct ms_conf_state conf;

    (void)cluster_await_leader(cluster);
    cluster_tick(cluster, 5);
    for (node_id id = 1; id <= 3; id++) {
        const struct fake_conf *stored = &cluster->worlds[id]->store.conf;

        cr_assert_eq(ms_conf_state_decode(stored->bytes, stored->len_bytes, &conf), MS_OK);
        cr_assert_neq(conf.cluster_id, 0);
        for (uint32_t i = 0; i < 3; i++) {
            cr_assert_eq(conf.members[i].data_id, 0xda7a0000 + conf.members[i].id);
        }
    }
    cluster_destroy(cluster);
}

Test(node_members, new_member_gets_the_whole_log_and_votes)
{
    struct cluster *cluster = cluster_create(3);
    uint64_t op;

    (void)cluster_await_leader(cluster);
    (void)cluster_propose(cluster, 1);
    cr_assert_eq(cluster_change(cluster, 2, MS_MEMBER_ADD_VOTER, 4), MS_MEMBER_OK);
    cr_assert_eq(members_at(cluster, 2), 4);
    cluster_join(cluster, 4);
    cr_assert_eq(cluster->worlds[4]->network.member_count, 0);
    cluster_tick(cluster, 10);
    cluster_assert_equal(cluster);
    cr_assert_eq(members_at(cluster, 4), 4);
    op = cluster_propose(cluster, 4);
    cluster_tick(cluster, 1);
    cr_assert_eq(cluster_count_op(cluster, 1, op), 1);
    /* Three of four are a quorum, two are not. */
    cluster_cut_off(cluster, 3, true);
    op = cluster_propose(cluster, 1);
    cluster_tick(cluster, 1);
    cr_assert_eq(cluster_count_op(cluster, 4, op), 1);
    cluster_destroy(cluster);
}

/* A snapshot that was made before it was added lacks it; the leader makes another. */
Test(node_members, new_member_gets_a_snapshot_that_knows_it)
{
    struct cluster *cluster = cluster_create(3);
    raft_index before;

    (void)cluster_await_leader(cluster);
    cluster_tick(cluster, 3);
    for (unsigned i = 0; i < 20; i++) {
        (void)cluster_propose(cluster, 1);
    }
    cluster_settle(cluster);
    store_make_snapshot(&cluster->worlds[1]->store, 2);
    before = cluster->worlds[1]->store.snapshot.index;
    cluster_settle(cluster);
    /* raftd keeps the newest entries whatever the log forgets; a new one does not. */
    cluster_kill_raftd(cluster, 1);
    cluster_restart_raftd(cluster, 1);
    cluster_tick(cluster, 1);
    cr_assert_eq(cluster_await_leader(cluster), 1);
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_ADD_LEARNER, 4), MS_MEMBER_OK);
    cluster_join(cluster, 4);
    cluster_tick(cluster, 40);
    cr_assert_eq(cluster->snapshots, 1, "%ju", (uintmax_t)cluster->snapshots);
    cr_assert_gt(cluster->worlds[1]->store.snapshot.index, before);
    cluster_assert_equal(cluster);
    cr_assert_eq(members_at(cluster, 4), 4);
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_PROMOTE, 4), MS_MEMBER_OK);
    cr_assert_eq(cluster_status(cluster, 4).members[3].role, MS_MEMBER_VOTER);
    cluster_destroy(cluster);
}

Test(node_members, removed_follower_learns_it_and_ends)
{
    struct cluster *cluster = cluster_create(3);

    (void)cluster_await_leader(cluster);
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_REMOVE, 3), MS_MEMBER_OK);
    cluster_tick(cluster, 30);
    cr_assert_eq(cluster->worlds[3]->removed_calls, 1);
    cr_assert_eq(members_at(cluster, 1), 2);
    cr_assert_eq(cluster->worlds[1]->removed_calls, 0);
    cluster_destroy(cluster);
}

Test(node_members, removed_leader_hands_over_first)
{
    struct cluster *cluster = cluster_create(3);
    node_id leader;

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 3);
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_REMOVE, 1), MS_MEMBER_OK);
    leader = cluster_leader(cluster);
    cr_assert(leader == 2 || leader == 3);
    cr_assert_eq(members_at(cluster, leader), 2);
    cluster_tick(cluster, 30);
    cr_assert_eq(cluster->worlds[1]->removed_calls, 1);
    cr_assert_eq(cluster_leader(cluster), leader);
    cluster_destroy(cluster);
}

Test(node_members, last_two_become_one)
{
    struct cluster *cluster = cluster_create(2);
    uint64_t op;

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 3);
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_REMOVE, 1), MS_MEMBER_OK);
    cluster_tick(cluster, 30);
    cr_assert_eq(cluster->worlds[1]->removed_calls, 1);
    cr_assert_eq(cluster_status(cluster, 2).sole_voter, 1);
    op = cluster_propose(cluster, 2);
    cluster_settle(cluster);
    cr_assert_eq(cluster_count_op(cluster, 2, op), 1);
    cluster_destroy(cluster);
}

Test(node_members, data_dir_of_a_removed_member_is_refused_at_the_next_start)
{
    struct cluster *cluster = cluster_create(3);
    struct world *world;

    (void)cluster_await_leader(cluster);
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_REMOVE, 3), MS_MEMBER_OK);
    cluster_tick(cluster, 3);
    world = cluster->worlds[3];
    cluster_kill_raftd(cluster, 3);
    cluster_kill_store(cluster, 3);
    cr_assert_eq(world_try_create_node(world), MS_OK);
    world_start_store(world);
    cr_assert_eq(world_run(world), MS_EINVAL);
    cr_assert_not_null(strstr(world->err.text, "removed"), "%s", world->err.text);
    cluster_destroy(cluster);
}

/* A raftd that dies while its node is on its way out is replaced; that one goes on with it. */
Test(node_members, removed_member_whose_raftd_dies_still_ends_in_order)
{
    struct cluster *cluster = cluster_create(3);

    (void)cluster_await_leader(cluster);
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_REMOVE, 3), MS_MEMBER_OK);
    cluster_settle(cluster);
    cr_assert_eq(cluster->worlds[3]->removed_calls, 0);
    cluster_kill_raftd(cluster, 3);
    cluster_restart_raftd(cluster, 3);
    cluster_tick(cluster, 30);
    cr_assert_eq(cluster->worlds[3]->removed_calls, 1);
    cluster_destroy(cluster);
}

/* It knows neither the leader nor its URL, and must answer it all the same. */
Test(node_members, member_that_was_away_while_all_others_changed_finds_the_new_leader)
{
    struct cluster *cluster = cluster_create(2);

    (void)cluster_await_leader(cluster);
    cluster_tick(cluster, 3);
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_ADD_LEARNER, 3), MS_MEMBER_OK);
    cluster_join(cluster, 3);
    cluster_tick(cluster, 10);
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_PROMOTE, 3), MS_MEMBER_OK);
    cluster_cut_off(cluster, 2, true);
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_ADD_LEARNER, 4), MS_MEMBER_OK);
    cluster_join(cluster, 4);
    for (node_id id = 1; id <= 4; id++) {
        cluster->cut[2][id] = cluster->cut[id][2] = true;
    }
    cluster_tick(cluster, 10);
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_PROMOTE, 4), MS_MEMBER_OK);
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_TRANSFER, 4), MS_MEMBER_OK);
    cluster_tick(cluster, 3);
    cr_assert_eq(cluster_leader(cluster), 4);
    cluster_cut_off(cluster, 2, false);
    /* Nobody but the leader, whom member 2 has never heard of, can reach it. */
    cluster->cut[2][1] = cluster->cut[1][2] = true;
    cluster->cut[2][3] = cluster->cut[3][2] = true;
    cluster_tick(cluster, 40);
    cluster_assert_equal(cluster);
    cr_assert_eq(members_at(cluster, 2), 4);
    cluster_destroy(cluster);
}

/* What its disk does not know, the next start would not know either; but it waits not for ever. */
Test(node_members, removed_member_gives_its_disk_time_to_learn_it)
{
    struct cluster *cluster = cluster_create(3);

    (void)cluster_await_leader(cluster);
    cluster_tick(cluster, 5);
    ms_link_fini(&cluster->worlds[3]->store.apply); /* its log is written, but not applied */
    cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_REMOVE, 3), MS_MEMBER_OK);
    cluster_tick(cluster, 10);
    cr_assert_eq(cluster->worlds[3]->removed_calls, 0);
    cluster_tick(cluster, 20);
    cr_assert_eq(cluster->worlds[3]->removed_calls, 1);
    cluster_destroy(cluster);
}

static void storaged_stalls(struct cluster *cluster, node_id id)
{
    cluster->stalled[id] = true;
}

/* Its log tells of the removal of one that had the same id before. */
Test(node_members, member_that_was_added_again_outlives_the_removal_of_its_predecessor)
{
    unsigned fuse = 0;
    bool happened;

    do {
        struct cluster *cluster = cluster_create(3);

        (void)cluster_await_leader(cluster);
        cluster_tick(cluster, 5);
        cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_REMOVE, 3), MS_MEMBER_OK);
        world_destroy(cluster->worlds[3]);
        cluster->worlds[3] = NULL;
        cluster_tick(cluster, 1);
        cr_assert_eq(cluster_change(cluster, 1, MS_MEMBER_ADD_VOTER, 3), MS_MEMBER_OK);
        cluster->on_accident = storaged_stalls;
        cluster->fuse[3] = ++fuse;
        cluster_join(cluster, 3);
        cluster_tick(cluster, 8);
        happened = cluster->fuse[3] == 0;
        cluster->fuse[3] = 0;
        cluster->stalled[3] = false;
        store_say_durable(&cluster->worlds[3]->store);
        store_say_done(&cluster->worlds[3]->store);
        cluster_tick(cluster, 20);
        cr_assert_eq(cluster->worlds[3]->removed_calls, 0, "stalled after %u messages", fuse);
        cluster_assert_equal(cluster);
        cluster_destroy(cluster);
    } while (happened);
    cr_assert_gt(fuse, 5, "only %u steps", fuse);
}

/* A lone node starts although somebody else has its peer port, but stays alone. */
Test(node_members, node_that_nobody_can_connect_to_adds_nobody)
{
    struct cluster *cluster = cluster_allocate(1);
    struct world *world = cluster_add_world(cluster, 1);

    cr_assert_eq(world_try_create_node(world), MS_OK);
    world_start_store(world);
    cluster_tick(cluster, 1);
    cluster_ask(cluster, 1, MS_MEMBER_ADD_LEARNER, 2);
    world_settle(world);
    cr_assert_eq(world->admin_answers, 1, "no answer");
    cr_assert_eq(world->admin_answer.head.code, MS_MEMBER_NOT_READY);
    cr_assert_not_null(strstr(world->admin_answer.text, "no peer port"), "%s",
                       world->admin_answer.text);
    cr_assert_eq(members_at(cluster, 1), 1);
    cluster_destroy(cluster);
}

Test(node_members, node_that_nobody_can_connect_to_joins_nobody)
{
    struct world *world = world_create();

    world->config.join = 1;
    cr_assert_eq(world_try_create_node(world), MS_OK);
    world_start_store(world);
    cr_assert_eq(world_run(world), MS_EINVAL);
    cr_assert_not_null(strstr(world->err.text, "peer URL"), "%s", world->err.text);
    world_destroy(world);
}

Test(node_members, node_that_nobody_can_connect_to_is_no_part_of_a_cluster)
{
    struct cluster *cluster = cluster_allocate(2);
    struct world *world = cluster_add_world(cluster, 1);

    cr_assert_eq(world_try_create_node(world), MS_OK);
    world_start_store(world);
    do {
        if (store_write(&world->store, 100) > 0) {
            store_say_durable(&world->store);
        }
        if (store_apply(&world->store, 100) > 0) {
            store_say_done(&world->store);
        }
    } while (raftd_node_run(world->node, world->now, &world->err) != MS_EINVAL);
    cr_assert_not_null(strstr(world->err.text, "peer URL"), "%s", world->err.text);
    cluster_destroy(cluster);
}

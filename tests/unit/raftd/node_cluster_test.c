/*
 * node among others: three nodes and what they do for each other.
 */
#include "tests/unit/raftd/cluster_fixture.h"

/* ---- founding and replication ---- */

Test(node_cluster, founders_elect_a_leader_without_waiting_for_a_timeout)
{
    struct cluster *cluster = cluster_create(3);

    cluster_settle(cluster);
    cluster_tick(cluster, 2);
    cr_assert_eq(cluster_leader(cluster), 1);
    for (node_id id = 1; id <= 3; id++) {
        const struct ms_raft_status status = cluster_status(cluster, id);

        cr_assert_eq(status.leader, 1);
        cr_assert_eq(status.sole_voter, 0);
        cr_assert_eq(status.member_count, 3);
        cr_assert_eq(cluster->worlds[id]->ready_calls, 1);
    }
    cluster_assert_equal(cluster);
    cluster_destroy(cluster);
}

Test(node_cluster, entry_is_committed_by_two_disks_of_three)
{
    struct cluster *cluster = cluster_create(3);
    uint64_t op;

    (void)cluster_await_leader(cluster);
    cluster_settle(cluster);
    cluster->stalled[3] = true;
    op = cluster_propose(cluster, 1);
    cluster_settle(cluster);
    cr_assert_eq(cluster_count_op(cluster, 1, op), 1);
    cr_assert_eq(cluster_count_op(cluster, 2, op), 1);
    cr_assert_eq(cluster_count_op(cluster, 3, op), 0);
    cluster->stalled[3] = false;
    cluster_settle(cluster);
    cluster_assert_equal(cluster);
    cluster_destroy(cluster);
}

Test(node_cluster, one_disk_of_three_commits_nothing)
{
    struct cluster *cluster = cluster_create(3);
    uint64_t op;

    (void)cluster_await_leader(cluster);
    cluster_settle(cluster);
    cluster->stalled[2] = true;
    cluster->stalled[3] = true;
    op = cluster_propose(cluster, 1);
    cluster_settle(cluster);
    cr_assert_eq(cluster_count_op(cluster, 1, op), 0);
    cluster_destroy(cluster);
}

Test(node_cluster, follower_passes_proposals_on)
{
    struct cluster *cluster = cluster_create(3);
    uint64_t op;

    (void)cluster_await_leader(cluster);
    op = cluster_propose(cluster, 3);
    cluster_settle(cluster);
    for (node_id id = 1; id <= 3; id++) {
        cr_assert_eq(cluster_count_op(cluster, id, op), 1);
    }
    cluster_destroy(cluster);
}

Test(node_cluster, read_at_a_follower_is_confirmed_by_a_quorum)
{
    struct cluster *cluster = cluster_create(3);
    raft_index commit;

    (void)cluster_await_leader(cluster);
    (void)cluster_propose(cluster, 1);
    cluster_settle(cluster);
    commit = cluster_status(cluster, 1).commit;
    api_read(cluster->worlds[2], 0, 5);
    cluster_settle(cluster);
    cr_assert(api_expect_read(cluster->worlds[2], 0, 5).index >= commit);
    cluster_destroy(cluster);
}

/* ---- another leader ---- */

/* What only the old leader has is replaced by what the others have committed (Raft 5.3). */
Test(node_cluster, entries_of_a_deposed_leader_are_replaced)
{
    struct cluster *cluster = cluster_create(3);
    uint64_t lost;
    uint64_t kept;
    node_id leader;

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_cut_off(cluster, 1, true);
    lost = cluster_propose(cluster, 1);
    cluster_settle(cluster);
    for (unsigned i = 0; i < 200 && (cluster_leader(cluster) == 1 || cluster_leader(cluster) == 0);
         i++) {
        cluster_tick(cluster, 1);
    }
    leader = cluster_leader(cluster);
    cr_assert_neq(leader, 1);
    cr_assert_neq(leader, 0);
    kept = cluster_propose(cluster, leader);
    cluster_settle(cluster);
    cluster_cut_off(cluster, 1, false);
    cluster_tick(cluster, 3);
    cluster_assert_equal(cluster);
    cr_assert_eq(cluster_count_op(cluster, 1, kept), 1);
    cr_assert_eq(cluster_count_op(cluster, 1, lost), 0);
    cluster_destroy(cluster);
}

static bool got_proposals_lost(struct world *world)
{
    struct ms_ipc_message message;
    bool got = false;

    while (api_answer(world, 0, &message)) {
        got = got || message.type == MS_IPC_PROPOSALS_LOST;
    }
    return got;
}

Test(node_cluster, apid_is_told_when_its_proposals_may_be_lost)
{
    struct cluster *cluster = cluster_create(3);

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 3);
    cr_assert_not(got_proposals_lost(cluster->worlds[2]), "nothing was proposed yet");
    cluster_cut_off(cluster, 1, true);
    (void)cluster_propose(cluster, 1);
    for (unsigned i = 0; i < 40; i++) {
        cluster_tick(cluster, 1);
    }
    cr_assert_not(got_proposals_lost(cluster->worlds[1]), "nobody to propose it to");
    cluster_cut_off(cluster, 1, false);
    cluster_tick(cluster, 3);
    cr_assert(got_proposals_lost(cluster->worlds[1]));
    cr_assert_not(got_proposals_lost(cluster->worlds[2]));
    cluster_destroy(cluster);
}

Test(node_cluster, raftd_that_led_leads_again_at_once)
{
    struct cluster *cluster = cluster_create(3);
    raft_term term;

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 5);
    term = cluster_status(cluster, 1).term;
    cluster_kill_raftd(cluster, 1);
    cluster_restart_raftd(cluster, 1);
    cluster_settle(cluster);
    cluster_tick(cluster, 1);
    cr_assert_eq(cluster_leader(cluster), 1);
    cr_assert_eq(cluster_status(cluster, 1).term, term + 1);
    cluster_destroy(cluster);
}

Test(node_cluster, follower_whose_raftd_died_disturbs_nobody)
{
    struct cluster *cluster = cluster_create(3);
    raft_term term;

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 5);
    term = cluster_status(cluster, 1).term;
    cluster_kill_raftd(cluster, 2);
    (void)cluster_propose(cluster, 1);
    cluster_settle(cluster);
    cluster_restart_raftd(cluster, 2);
    cluster_tick(cluster, 5);
    cr_assert_eq(cluster_leader(cluster), 1);
    cr_assert_eq(cluster_status(cluster, 1).term, term);
    cluster_assert_equal(cluster);
    cluster_destroy(cluster);
}

Test(node_cluster, leader_that_stops_hands_over)
{
    struct cluster *cluster = cluster_create(3);
    node_id leader;

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cr_assert_not(raftd_node_may_leave(cluster->worlds[1]->node));
    raftd_node_leave(cluster->worlds[1]->node, cluster->worlds[1]->now);
    cluster_settle(cluster);
    leader = cluster_leader(cluster);
    cr_assert_neq(leader, 1);
    cr_assert_neq(leader, 0);
    cr_assert(raftd_node_may_leave(cluster->worlds[1]->node));
    cluster_destroy(cluster);
}

/* ---- storaged away, or stuck ---- */

Test(node_cluster, leader_whose_storaged_died_goes_on_leading)
{
    struct cluster *cluster = cluster_create(3);
    raft_term term;
    uint64_t op;

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 3);
    term = cluster_status(cluster, 1).term;
    world_kill_store(cluster->worlds[1]);
    op = cluster_propose(cluster, 1);
    cluster_tick(cluster, 3);
    cr_assert_eq(cluster_count_op(cluster, 2, op), 1, "two other disks are enough");
    cr_assert_eq(cluster_count_op(cluster, 1, op), 0);
    world_start_store(cluster->worlds[1]);
    cluster_tick(cluster, 3);
    cluster_assert_equal(cluster);
    cr_assert_eq(cluster_status(cluster, 1).term, term);
    cr_assert_eq(cluster_leader(cluster), 1);
    cluster_destroy(cluster);
}

Test(node_cluster, leader_with_a_stuck_disk_hands_over_after_an_election_timeout)
{
    struct cluster *cluster = cluster_create(3);
    node_id leader;
    uint64_t op;

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster->stalled[1] = true;
    op = cluster_propose(cluster, 1);
    cluster_tick(cluster, 9);
    cr_assert_eq(cluster_leader(cluster), 1);
    cluster_tick(cluster, 3);
    leader = cluster_leader(cluster);
    cr_assert_neq(leader, 1);
    cr_assert_neq(leader, 0);
    cr_assert_eq(cluster_count_op(cluster, 1, op), 0, "acknowledged without its disk");
    (void)cluster_propose(cluster, leader);
    cluster_tick(cluster, 50);
    cr_assert_eq(cluster_leader(cluster), leader, "who cannot write does not campaign");
    cluster->stalled[1] = false;
    cluster_tick(cluster, 3);
    cluster_assert_equal(cluster);
    cluster_destroy(cluster);
}

Test(node_cluster, leader_with_a_stuck_disk_and_nobody_to_hand_over_to_stops_leading)
{
    struct cluster *cluster = cluster_create(3);

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster->stalled[1] = true;
    (void)cluster_propose(cluster, 1);
    cluster_settle(cluster);
    cluster_cut_off(cluster, 1, true);
    cluster_tick(cluster, 20);
    cr_assert_neq(cluster_status(cluster, 1).role, MS_RAFT_LEADER);
    cluster_destroy(cluster);
}

static void say_full(struct cluster *cluster, node_id id)
{
    const struct ms_log_space full = {.full = 1};

    cr_assert_eq(ms_link_send(&cluster->worlds[id]->store.log, MS_IPC_LOG_SPACE, &full), MS_OK);
}

Test(node_cluster, leader_with_a_full_disk_hands_over)
{
    struct cluster *cluster = cluster_create(3);
    node_id leader;

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 5);
    say_full(cluster, 1);
    cluster_tick(cluster, 3);
    leader = cluster_leader(cluster);
    cr_assert_neq(leader, 1);
    cr_assert_neq(leader, 0);
    cluster_destroy(cluster);
}

/* It would go round and round for nothing. */
Test(node_cluster, leadership_does_not_circle_where_all_disks_are_full)
{
    struct cluster *cluster = cluster_create(3);
    raft_term term;

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 5);
    for (node_id id = 1; id <= 3; id++) {
        say_full(cluster, id);
    }
    cluster_tick(cluster, 20);
    term = cluster_status(cluster, cluster_leader(cluster)).term;
    cluster_tick(cluster, 40);
    cr_assert_leq(cluster_status(cluster, cluster_leader(cluster)).term, term + 3);
    cluster_destroy(cluster);
}

/* Two of three are enough to go on; the third catches up when its disk answers again. */
Test(node_cluster, follower_with_a_stuck_disk_costs_nothing_but_itself)
{
    struct cluster *cluster = cluster_create(3);
    raft_term term;

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 3);
    term = cluster_status(cluster, 1).term;
    cluster->stalled[3] = true;
    for (unsigned i = 0; i < 50; i++) {
        (void)cluster_propose(cluster, 1 + i % 2);
        cluster_tick(cluster, 1);
    }
    cr_assert_eq(cluster_status(cluster, 1).term, term);
    cr_assert_lt(cluster->worlds[3]->store.applied, cluster->worlds[1]->store.applied);
    cluster->stalled[3] = false;
    cluster_tick(cluster, 10);
    cluster_assert_equal(cluster);
    cluster_destroy(cluster);
}

/* What a raftd publishes as committed outlives it, and is believed by the next one. */
Test(node_cluster, commit_is_not_published_for_entries_that_are_about_to_be_replaced)
{
    struct cluster *cluster = cluster_create(3);
    raft_index certain;

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 5);
    /* The first appends what nobody else gets, and dies. */
    cluster_cut_off(cluster, 1, true);
    certain = cluster->worlds[1]->store.last;
    for (unsigned i = 0; i < 5; i++) {
        (void)cluster_propose(cluster, 1);
    }
    cluster_settle(cluster);
    cr_assert_eq(cluster->worlds[1]->store.last, certain + 5);
    cluster_kill_raftd(cluster, 1);
    cluster_tick(cluster, 100);
    (void)cluster_propose(cluster, cluster_leader(cluster));
    cluster_settle(cluster);
    /* It learns what is committed there instead, but its disk does not. */
    cluster_restart_raftd(cluster, 1);
    cluster_settle(cluster);
    cluster->stalled[1] = true;
    cluster_cut_off(cluster, 1, false);
    cluster_tick(cluster, 3);
    cr_assert_leq(ms_status_page_commit(cluster->worlds[1]->page), certain, "%ju, certain %ju",
                  (uintmax_t)ms_status_page_commit(cluster->worlds[1]->page), (uintmax_t)certain);
    /* A new start of everything takes what is on the disk for what it is. */
    cluster_kill_raftd(cluster, 1);
    cluster_kill_store(cluster, 1);
    cluster->stalled[1] = false;
    cluster_restart_raftd(cluster, 1);
    cluster_tick(cluster, 5);
    cluster_assert_equal(cluster);
    cluster_destroy(cluster);
}

/* ---- proposals that get lost ---- */

Test(node_cluster, leader_that_cannot_take_a_proposal_says_so_and_the_apid_hears_of_it)
{
    const struct ms_log_space full = {.full = 1};
    struct cluster *cluster = cluster_create(3);

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 5);
    cr_assert_eq(ms_link_send(&cluster->worlds[1]->store.log, MS_IPC_LOG_SPACE, &full), MS_OK);
    (void)cluster_propose(cluster, 2);
    cluster_settle(cluster);
    cr_assert_eq(cluster->lost_notes, 1);
    cr_assert_not(got_proposals_lost(cluster->worlds[2]), "not before a pause");
    cluster_tick(cluster, 2);
    cr_assert(got_proposals_lost(cluster->worlds[2]));
    cr_assert_not(got_proposals_lost(cluster->worlds[3]));
    cluster_destroy(cluster);
}

Test(node_cluster, connection_to_the_leader_that_broke_may_have_cost_proposals)
{
    struct cluster *cluster = cluster_create(3);

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 5);
    (void)cluster_propose(cluster, 2);
    world_run_ok(cluster->worlds[2]);
    network_clear(&cluster->worlds[2]->network); /* lost on its way */
    cluster->cut[2][1] = true;
    cluster_settle(cluster);
    cr_assert_not(got_proposals_lost(cluster->worlds[2]));
    cluster->cut[2][1] = false;
    cluster_tick(cluster, 3);
    cr_assert(got_proposals_lost(cluster->worlds[2]));
    cluster_destroy(cluster);
}

/* ---- those who lag ---- */

Test(node_cluster, follower_gets_from_the_log_what_the_leader_no_longer_keeps)
{
    struct cluster *cluster = cluster_create(3);

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_cut_off(cluster, 3, true);
    for (unsigned i = 0; i < 20; i++) {
        (void)cluster_propose(cluster, 1);
    }
    cluster_settle(cluster);
    /* A new raftd keeps nothing of what is applied. */
    cluster_kill_raftd(cluster, 1);
    cluster_restart_raftd(cluster, 1);
    (void)cluster_await_leader(cluster);
    cluster_cut_off(cluster, 3, false);
    cluster_tick(cluster, 15);
    cluster_assert_equal(cluster);
    cr_assert_eq(cluster->snapshots, 0);
    cluster_destroy(cluster);
}

Test(node_cluster, follower_behind_the_log_gets_a_snapshot)
{
    struct cluster *cluster = cluster_create(3);
    struct world *leader;

    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_tick(cluster, 3);
    cluster_cut_off(cluster, 3, true);
    for (unsigned i = 0; i < 20; i++) {
        (void)cluster_propose(cluster, 1);
    }
    cluster_settle(cluster);
    leader = cluster->worlds[1];
    store_make_snapshot(&leader->store, 2);
    /* raftd keeps the newest entries whatever the log forgets; a new one does not. */
    cluster_kill_raftd(cluster, 1);
    cluster_restart_raftd(cluster, 1);
    cr_assert_eq(cluster_await_leader(cluster), 1);
    cluster_cut_off(cluster, 3, false);
    cluster_tick(cluster, 30);
    cr_assert_eq(cluster->snapshots, 1);
    cr_assert_gt(cluster->worlds[3]->store.compacted, 0);
    (void)cluster_propose(cluster, 1);
    cluster_settle(cluster);
    cluster_assert_equal(cluster);
    cluster_destroy(cluster);
}

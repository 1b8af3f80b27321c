/*
 * node: the way from nothing to a leader, and what the neighbours see while it leads.
 */
#include "tests/unit/raftd/node_fixture.h"

/* ---- starting ---- */

Test(node, first_start_writes_the_membership_before_it_does_anything_else)
{
    struct world *world = world_create();
    struct fake_store *store = &world->store;

    world_create_node(world);
    world_start_store(world);
    world_run_ok(world);
    cr_assert_eq(world->ready_calls, 0, "ready before the first entry is durable");
    cr_assert_eq(store_write(store, 10), 1);
    cr_assert_eq(store->last, 1);
    cr_assert_eq(store->entries[1].header.type, MS_ENTRY_CONF_CHANGE);
    cr_assert_eq(store->hard.term, 1);
    cr_assert_eq(store->hard.commit, 1);
    cr_assert_eq(ms_status_page_commit(world->page), 0);

    store_say_durable(store);
    world_run_ok(world);
    cr_assert_eq(world->ready_calls, 1);
    cr_assert_eq(store_apply(&world->store, 10), 0, "applied before its configuration is recorded");
    cr_assert_eq(store_write(store, 10), 1);
    cr_assert_eq(store->recorded[1].index, 1);

    store_say_durable(store);
    world_settle(world);
    cr_assert_eq(store->conf.index, 1);
    world_destroy(world);
}

Test(node, first_start_ends_as_leader_and_sole_voter)
{
    struct world *world = world_create_leader();
    struct ms_raft_status status = world_status(world);

    cr_assert_eq(status.self, 1);
    cr_assert_eq(status.leader, 1);
    cr_assert_eq(status.term, 2);
    cr_assert_eq(status.commit, 2);
    cr_assert_eq(status.last_index, 2);
    cr_assert_eq(status.first_index, 1);
    cr_assert_eq(status.leaderless_since_ns, 0);
    cr_assert_eq(status.member_count, 1);
    cr_assert_eq(status.members[0].id, 1);
    cr_assert_eq(status.members[0].role, MS_MEMBER_VOTER);
    cr_assert_str_eq(status.members[0].peer_url, "http://127.0.0.1:9021");
    cr_assert_eq(world->store.applied, 2);
    cr_assert_eq(world->ready_calls, 1);
    cr_assert_eq(world_metric(world, MS_METRIC_RAFT_IS_LEADER), 1);
    world_destroy(world);
}

Test(node, first_start_survives_a_storaged_that_dies_in_it)
{
    struct world *world = world_create();

    world_create_node(world);
    world_start_store(world);
    world_run_ok(world);
    cr_assert_eq(store_write(&world->store, 10), 1);
    world_kill_store(world); /* written, never said */
    world_start_store(world);
    world_settle(world);
    cr_assert_eq(world_status(world).role, MS_RAFT_LEADER);
    cr_assert_eq(world->store.applied, 2);
    world_destroy(world);
}

Test(node, sole_voter_is_not_claimed_before_an_entry_of_the_term_is_committed)
{
    struct world *world = world_create();
    struct fake_store *store = &world->store;

    world_create_node(world);
    world_start_store(world);
    do {
        world_run_ok(world);
        if (store_write(store, 100) > 0 && store->hard.term < 2) {
            store_say_durable(store);
        }
        if (store_apply(&world->store, 100) > 0) {
            store_say_done(store);
        }
    } while (store->hard.term < 2);
    store_say_durable(store); /* its vote */
    world_run_ok(world);
    cr_assert_eq(world_status(world).role, MS_RAFT_LEADER);
    cr_assert_eq(world_status(world).sole_voter, 0);
    world_settle(world);
    cr_assert_eq(world_status(world).sole_voter, 1);
    world_destroy(world);
}

Test(node, state_machine_ahead_of_the_log_is_refused)
{
    struct world *world = world_create();

    world->store.hard = (struct ms_hard_state){.term = 1, .vote = 1, .commit = 0};
    world->store.applied = 5;
    world->store.entries[5].header.term = 1;
    world_create_node(world);
    world_start_store(world);
    cr_assert_eq(world_run(world), MS_ECORRUPT);
    world_destroy(world);
}

/* ---- proposals ---- */

Test(node, nothing_is_applied_before_it_is_durable)
{
    struct world *world = world_create_leader();
    raft_index before = world->store.last;

    api_propose(world, 1);
    world_run_ok(world);
    cr_assert_eq(store_write(&world->store, 10), 1);
    cr_assert_eq(world->store.last, before + 1);
    world_run_ok(world);
    cr_assert_eq(store_apply(&world->store, 10), 0);
    cr_assert_eq(ms_status_page_commit(world->page), before);

    store_say_durable(&world->store);
    world_run_ok(world);
    cr_assert_eq(ms_status_page_commit(world->page), before + 1);
    cr_assert_eq(store_apply(&world->store, 10), 1);
    cr_assert_eq(world->store.applied, before + 1);
    cr_assert_eq(store_op(&world->store, before + 1), 1);
    world_destroy(world);
}

Test(node, what_waits_in_the_ring_becomes_one_record)
{
    struct world *world = world_create_leader();
    uint64_t before = world->store.appends;

    api_propose(world, 100);
    world_run_ok(world);
    cr_assert_eq(store_write(&world->store, 1000), 1);
    cr_assert_eq(world->store.appends, before + 1);
    store_say_durable(&world->store);
    world_settle(world);
    cr_assert_eq(world->store.applied, 102);
    cr_assert_eq(world_metric(world, MS_METRIC_RAFT_PROPOSALS), 100);
    world_destroy(world);
}

/* A sync for each commit index would double the disk's work. */
Test(node, commit_index_rides_with_the_next_record)
{
    struct world *world = world_create_leader();
    uint64_t appends;

    api_propose(world, 1);
    world_settle(world);
    appends = world->store.appends;
    world_tick(world, 100);
    world_settle(world);
    cr_assert_eq(world->store.appends, appends);
    cr_assert_eq(world->store.hard.commit, 2);
    api_propose(world, 1);
    world_settle(world);
    cr_assert_eq(world->store.appends, appends + 1);
    cr_assert_eq(world->store.hard.commit, 3);
    world_destroy(world);
}

Test(node, both_apids_are_served)
{
    struct world *world = world_create_leader();

    world_link_api(world, 1);
    cr_assert(api_propose_sized(world, 0, 64));
    cr_assert(api_propose_sized(world, 1, 64));
    world_settle(world);
    cr_assert_eq(world->store.applied, 4);
    world_destroy(world);
}

Test(node, full_log_refuses_proposals_until_there_is_room)
{
    struct world *world = world_create_leader();
    struct ms_log_space space = {.full = 1};

    cr_assert_eq(ms_link_send(&world->store.log, MS_IPC_LOG_SPACE, &space), MS_OK);
    world_run_ok(world);
    cr_assert_eq(world_status(world).log_full, 1);
    api_propose(world, 2);
    world_settle(world);
    api_expect_refusal(world, 0, 1, MS_REFUSED_NO_SPACE);
    api_expect_refusal(world, 0, 2, MS_REFUSED_NO_SPACE);
    cr_assert_eq(world->store.applied, 2);
    cr_assert_eq(world_metric(world, MS_METRIC_RAFT_PROPOSALS_REFUSED), 2);

    space.full = 0;
    cr_assert_eq(ms_link_send(&world->store.log, MS_IPC_LOG_SPACE, &space), MS_OK);
    world_run_ok(world);
    api_propose(world, 1);
    world_settle(world);
    cr_assert_eq(world_status(world).log_full, 0);
    cr_assert_eq(world->store.applied, 3);
    world_destroy(world);
}

Test(node, command_too_large_for_the_rings_to_storaged_is_refused)
{
    struct world *world = world_create_leader();

    world->ring_bytes = 4 * FIXTURE_RING_BYTES;
    world_link_api(world, 0);
    cr_assert(api_propose_sized(world, 0, FIXTURE_RING_BYTES));
    cr_assert(api_propose_sized(world, 0, FIXTURE_RING_BYTES / 2 - 256));
    world_settle(world);
    api_expect_refusal(world, 0, 1, MS_REFUSED_TOO_LARGE);
    cr_assert_eq(world->store.applied, 3);
    cr_assert_eq(store_op(&world->store, 3), 2);
    world_destroy(world);
}

Test(node, suggestion_is_proposed)
{
    struct world *world = world_create_leader();
    struct ms_suggest suggest = {0};
    struct ms_command command = {.kind = MS_COMMAND_COMPACT, .revision = 7};
    void *body = NULL;
    void *tail = NULL;

    cr_assert_eq(ms_link_begin(&world->store.apply, MS_IPC_SUGGEST,
                               ms_command_encoded_bytes(&command), &body, &tail),
                 MS_OK);
    memcpy(body, &suggest, sizeof(suggest));
    ms_command_encode(&command, tail);
    ms_link_commit(&world->store.apply);
    world_settle(world);
    cr_assert_eq(world->store.applied, 3);
    cr_assert_eq(world->store.entries[3].header.len_bytes, MS_COMMAND_HEADER_BYTES);
    world_destroy(world);
}

/* ---- back-pressure ---- */

Test(node, storaged_that_does_not_read_stops_the_apid_and_loses_nothing)
{
    struct world *world = world_create_leader();
    const size_t len_bytes = 8192;
    uint64_t taken = 0;
    uint64_t accepted;

    /* Until neither ring nor node takes any more. */
    for (unsigned idle = 0; idle < 3;) {
        if (api_propose_sized(world, 0, len_bytes)) {
            idle = 0;
        } else {
            idle++;
            world_run_ok(world);
        }
    }
    accepted = world->next_op - 1;
    cr_assert(accepted * len_bytes > 16u * 1024u * 1024u);
    cr_assert(accepted * len_bytes < 20u * 1024u * 1024u, "unbounded: %ju commands",
              (uintmax_t)accepted);
    while (taken < accepted) {
        cr_assert(store_write(&world->store, 3) > 0);
        store_say_durable(&world->store);
        world_run_ok(world);
        if (store_apply(&world->store, 3) > 0) {
            store_say_done(&world->store);
        }
        world_run_ok(world);
        taken = world->store.last - 2;
    }
    world_settle(world);
    cr_assert_eq(world->store.applied, accepted + 2);
    for (uint64_t op = 1; op <= accepted; op++) {
        cr_assert_eq(store_op(&world->store, op + 2), op);
    }
    world_destroy(world);
}

Test(node, answers_that_find_the_ring_full_arrive_later)
{
    struct world *world = world_create_leader();
    struct ms_log_space space = {.full = 1};
    unsigned proposed = 0;
    unsigned answered = 0;
    struct ms_ipc_message message;

    world->ring_bytes = 4096;
    world_link_api(world, 0);
    cr_assert_eq(ms_link_send(&world->store.log, MS_IPC_LOG_SPACE, &space), MS_OK);
    while (proposed < 1000) {
        if (api_propose_sized(world, 0, 64)) {
            proposed++;
            continue;
        }
        world_run_ok(world);
        if (!api_propose_sized(world, 0, 64)) {
            while (api_answer(world, 0, &message)) {
                answered++;
            }
        } else {
            proposed++;
        }
    }
    for (unsigned i = 0; i < 1000; i++) {
        world_run_ok(world);
        while (api_answer(world, 0, &message)) {
            answered++;
        }
    }
    cr_assert_eq(answered, proposed);
    world_destroy(world);
}

/* ---- reads ---- */

Test(node, leader_answers_a_read_at_once_with_its_commit_index)
{
    struct world *world = world_create_leader();

    world_link_api(world, 1);
    api_read(world, 0, 5);
    api_read(world, 1, 6);
    world_run_ok(world);
    cr_assert_eq(api_expect_read(world, 0, 5).index, 2);
    cr_assert_eq(api_expect_read(world, 1, 6).index, 2);
    cr_assert_eq(world_metric(world, MS_METRIC_RAFT_READ_INDEX), 2);
    world_destroy(world);
}

Test(node, read_waits_for_the_first_commit_of_the_term)
{
    struct world *world = world_create_leader();
    struct ms_ipc_message message;

    raftd_node_destroy(world->node);
    world_create_node(world);
    world_start_store(world);
    world_link_api(world, 0);
    api_read(world, 0, 5);
    world_run_ok(world);
    cr_assert_not(api_answer(world, 0, &message));
    world_settle(world);
    cr_assert_eq(api_expect_read(world, 0, 5).index, 3);
    world_destroy(world);
}

Test(node, answer_to_an_apid_that_was_replaced_is_dropped)
{
    struct world *world = world_create_leader();
    struct ms_ipc_message message;

    raftd_node_destroy(world->node);
    world_create_node(world);
    world_start_store(world);
    world_link_api(world, 0);
    api_read(world, 0, 5);
    world_run_ok(world);
    world_link_api(world, 0);
    world_settle(world);
    cr_assert_not(api_answer(world, 0, &message));
    world_destroy(world);
}

/* ---- without a leader ---- */

Test(node, who_waits_for_a_leader_is_refused_at_his_deadline)
{
    struct world *world = world_create_leader();
    struct ms_ipc_message message;

    raftd_node_destroy(world->node);
    world_create_node(world);
    world_start_store(world);
    world_link_api(world, 0);
    api_propose(world, 1);
    api_read(world, 0, 5);
    world_run_ok(world);
    world_tick(world, 2000);
    world_tick(world, 2000);
    cr_assert_not(api_answer(world, 0, &message), "a sole voter's proposals wait");
    world_tick(world, 2000);
    api_expect_refusal(world, 0, 1, MS_REFUSED_NO_LEADER);
    cr_assert_eq(api_expect_read(world, 0, 5).reason, MS_REFUSED_NO_LEADER);
    world_settle(world);
    cr_assert_eq(world->store.last, 3, "refused, and yet in the log");
    world_destroy(world);
}

/* ---- ending ---- */

Test(node, drained_node_takes_nothing_more_and_finishes_what_it_took)
{
    struct world *world = world_create_leader();

    cr_assert(raftd_node_is_idle(world->node));
    api_propose(world, 1);
    world_run_ok(world);
    raftd_node_drain(world->node);
    api_propose(world, 1);
    world_run_ok(world);
    cr_assert_not(raftd_node_is_idle(world->node));
    world_settle(world);
    cr_assert(raftd_node_is_idle(world->node));
    cr_assert_eq(world->store.applied, 3);
    world_destroy(world);
}

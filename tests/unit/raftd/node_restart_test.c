/*
 * node: neighbours that die and come back, neighbours that lie, and raftd's own return.
 */
#include "tests/unit/raftd/node_fixture.h"

/* A rebuild of the state machine does not pass a change of which nothing is recorded. */
Test(node_restart, change_without_effect_is_recorded_too)
{
    static const uint8_t nonsense[4] = {0xff, 0xff, 0xff, 0xff};
    struct world *world = world_create_leader();
    struct fake_store *store = &world->store;
    struct ms_ipc_entry change = {
        .term = store->hard.term, .type = MS_ENTRY_CONF_CHANGE, .len_bytes = sizeof(nonsense)};
    struct ms_conf_state conf;

    raftd_node_destroy(world->node);
    change.index = store->last + 1;
    store_put_entry(store, &change, nonsense);
    world_create_node(world);
    world_start_store(world);
    world_settle(world);
    cr_assert_gt(store->applied, change.index);
    cr_assert_eq(store->conf.index, change.index);
    cr_assert_eq(ms_conf_state_decode(store->conf.bytes, store->conf.len_bytes, &conf), MS_OK);
    cr_assert_eq(conf.member_count, 1);
    cr_assert_eq(world_status(world).member_count, 1);
    world_destroy(world);
}

/* ---- storaged comes back ---- */

Test(node_restart, unanswered_entries_are_sent_again)
{
    struct world *world = world_create_leader();

    api_propose(world, 5);
    world_run_ok(world);
    world_kill_store(world); /* nothing of it was written */
    world_start_store(world);
    world_settle(world);
    cr_assert_eq(world->store.applied, 7);
    cr_assert_eq(world_status(world).term, 2, "raftd kept its role");
    world_destroy(world);
}

Test(node_restart, what_log_state_has_already_is_not_sent_again)
{
    struct world *world = world_create_leader();
    struct ms_ipc_message message;
    struct ms_log_append body;

    for (unsigned i = 0; i < 3; i++) {
        api_propose(world, 2);
        world_run_ok(world);
    }
    cr_assert_eq(store_write(&world->store, 2), 2); /* two records written, none of them said */
    cr_assert_eq(world->store.last, 6);
    world_kill_store(world);
    world_start_store(world);
    world_run_ok(world);
    cr_assert_eq(ms_link_receive(&world->store.log, &message), MS_OK);
    cr_assert_eq(message.type, MS_IPC_LOG_APPEND);
    memcpy(&body, message.body, sizeof(body));
    cr_assert_eq(body.seq, 1, "numbers count from 1 on a new link");
    cr_assert_eq(body.first_index, 7);
    cr_assert_eq(body.count, 2);
    world_settle(world);
    cr_assert_eq(world->store.applied, 8);
    world_destroy(world);
}

Test(node_restart, record_of_which_a_part_is_durable_continues_after_it)
{
    struct world *world = world_create_leader();

    /* Too much for one record of this ring, proposed as one batch. */
    for (unsigned i = 0; i < 20; i++) {
        cr_assert(api_propose_sized(world, 0, 8192));
    }
    world_run_ok(world);
    cr_assert_eq(store_write(&world->store, 1), 1);
    cr_assert(world->store.last > 2 && world->store.last < 22);
    world_kill_store(world);
    world_start_store(world);
    world_settle(world);
    cr_assert_eq(world->store.applied, 22);
    for (uint64_t op = 1; op <= 20; op++) {
        cr_assert_eq(store_op(&world->store, op + 2), op);
    }
    world_destroy(world);
}

Test(node_restart, answer_that_was_published_before_the_death_counts)
{
    struct world *world = world_create_leader();

    api_propose(world, 1);
    world_run_ok(world);
    cr_assert_eq(store_write(&world->store, 10), 1);
    store_say_durable(&world->store);
    world_kill_store(world); /* drained first */
    world_run_ok(world);
    cr_assert_eq(ms_status_page_commit(world->page), 3);
    world_destroy(world);
}

Test(node_restart, committed_entries_that_were_not_applied_are_sent_again)
{
    struct world *world = world_create_leader();

    for (unsigned i = 0; i < 4; i++) {
        api_propose(world, 2);
        world_run_ok(world);
        cr_assert_eq(store_write(&world->store, 10), 1);
        store_say_durable(&world->store);
        world_run_ok(world);
    }
    cr_assert_eq(store_apply(&world->store, 2), 2); /* two of four applied, none of them said */
    cr_assert_eq(world->store.applied, 6);
    world_kill_store(world);
    world_start_store(world);
    world_settle(world);
    cr_assert_eq(world->store.applied, 10);
    world_destroy(world);
}

/* A rebuilt state machine goes as far as the published commit index, raftd's sending or not. */
Test(node_restart, storaged_may_come_back_further_than_it_was_told_to)
{
    struct world *world = world_create_leader();

    api_propose(world, 3);
    world_run_ok(world);
    cr_assert_eq(store_write(&world->store, 10), 1);
    store_say_durable(&world->store);
    world_run_ok(world);
    world_kill_store(world);
    world->store.applied = 5;
    world_start_store(world);
    world_settle(world);
    cr_assert_eq(world->store.applied, 5);
    api_propose(world, 1);
    world_settle(world);
    cr_assert_eq(world->store.applied, 6);
    world_destroy(world);
}

Test(node_restart, proposals_are_taken_while_storaged_is_away)
{
    struct world *world = world_create_leader();

    world_kill_store(world);
    for (unsigned i = 0; i < 10; i++) {
        api_propose(world, 10);
        world_tick(world, 100);
    }
    cr_assert_eq(world_status(world).role, MS_RAFT_LEADER);
    cr_assert_eq(world_status(world).last_index, 102);
    cr_assert_eq(world_status(world).commit, 2);
    api_read(world, 0, 1);
    world_run_ok(world);
    cr_assert_eq(api_expect_read(world, 0, 1).index, 2);
    world_start_store(world);
    world_settle(world);
    cr_assert_eq(world->store.applied, 102);
    world_destroy(world);
}

Test(node_restart, new_link_without_word_of_the_death_is_as_good)
{
    struct world *world = world_create_leader();

    api_propose(world, 3);
    world_run_ok(world);
    cr_assert_eq(store_write(&world->store, 10), 1);
    store_say_durable(&world->store);
    world_start_store(world);
    world_settle(world);
    cr_assert_eq(world->store.applied, 5);
    world_destroy(world);
}

/* ---- raftd comes back ---- */

static void restart_raftd(struct world *world)
{
    raftd_node_destroy(world->node);
    world->ready_calls = 0;
    world_create_node(world);
    world_start_store(world);
    world_link_api(world, 0);
}

Test(node_restart, raftd_leads_again_at_once)
{
    struct world *world = world_create_leader();

    api_propose(world, 3);
    world_settle(world);
    restart_raftd(world);
    world_settle(world);
    cr_assert_eq(world->ready_calls, 1);
    cr_assert_eq(world_status(world).role, MS_RAFT_LEADER);
    cr_assert_eq(world_status(world).term, 3);
    cr_assert_eq(world_status(world).sole_voter, 1);
    cr_assert_str_eq(world_status(world).members[0].peer_url, "http://127.0.0.1:9021");
    cr_assert_eq(world->store.applied, 6);
    world_destroy(world);
}

Test(node_restart, raftd_reads_back_what_is_not_applied)
{
    struct world *world = world_create_leader();

    for (unsigned i = 0; i < 5; i++) {
        api_propose(world, 9);
        world_run_ok(world);
    }
    cr_assert_eq(store_write(&world->store, 10), 5);
    restart_raftd(world);
    world_settle(world);
    cr_assert_eq(world->store.applied, 2 + 45 + 1);
    for (uint64_t op = 1; op <= 45; op++) {
        cr_assert_eq(store_op(&world->store, op + 2), op);
    }
    world_destroy(world);
}

/* What is applied was committed, though the log's own note of it may be older. */
Test(node_restart, applied_index_counts_as_committed)
{
    struct world *world = world_create_leader();

    api_propose(world, 3);
    world_settle(world);
    cr_assert_eq(world->store.applied, 5);
    cr_assert_eq(world->store.hard.commit, 2);
    restart_raftd(world);
    world_run_ok(world);
    cr_assert_eq(world_status(world).commit, 5);
    world_settle(world);
    cr_assert_eq(world->store.hard.commit, 5);
    world_destroy(world);
}

Test(node_restart, storaged_that_dies_while_raftd_loads_starts_it_over)
{
    struct world *world = world_create_leader();

    api_propose(world, 30);
    world_run_ok(world);
    cr_assert_eq(store_write(&world->store, 10), 1);
    restart_raftd(world);
    world_run_ok(world);
    cr_assert_eq(store_apply(&world->store, 1), 1); /* one LOG_READ of several */
    world_run_ok(world);
    cr_assert_eq(world->ready_calls, 0);
    world_kill_store(world);
    world_run_ok(world);
    world_start_store(world);
    world_settle(world);
    cr_assert_eq(world->store.applied, 33);
    world_destroy(world);
}

Test(node_restart, first_start_cut_short_after_the_first_entry_goes_on)
{
    struct world *world = world_create();

    world_create_node(world);
    world_start_store(world);
    world_run_ok(world);
    cr_assert_eq(store_write(&world->store, 10), 1);
    restart_raftd(world);
    world_settle(world);
    cr_assert_eq(world->store.conf.index, 1);
    cr_assert_eq(world_status(world).role, MS_RAFT_LEADER);
    cr_assert_eq(world_status(world).member_count, 1);
    world_destroy(world);
}

/* The hard state follows the entries, so it may be missing behind them. */
Test(node_restart, term_of_the_last_entry_counts_if_the_hard_state_is_older)
{
    struct world *world = world_create_leader();

    api_propose(world, 1);
    world_settle(world);
    cr_assert_eq(store_term(&world->store, world->store.last), 2);
    world->store.hard = (struct ms_hard_state){.term = 1, .commit = 1};
    restart_raftd(world);
    world_run_ok(world);
    world_settle(world);
    cr_assert_eq(world_status(world).term, 3);
    cr_assert_eq(world->store.hard.term, 3);
    cr_assert_eq(world->store.applied, 4);
    world_destroy(world);
}

/* ---- neighbours that break the protocol ---- */

static void assert_reported(struct world *world, enum ms_role role, enum ms_link_kind kind)
{
    world_run_ok(world);
    cr_assert_eq(world->reports, 1);
    cr_assert_eq(world->reported.peer_role, (uint32_t)role);
    cr_assert_eq(world->reported.kind, (uint32_t)kind);
}

/* The node has lost a link and nothing else: once storaged is back, it works. */
static void assert_recovers(struct world *world)
{
    world_kill_store(world);
    world_start_store(world);
    world_link_api(world, 0);
    api_propose(world, 1);
    world_settle(world);
    cr_assert_eq(world->store.applied, world->store.last);
    cr_assert_eq(store_op(&world->store, world->store.last), world->next_op - 1);
    world_destroy(world);
}

Test(node_restart, answer_to_a_record_that_was_never_sent_is_reported)
{
    struct world *world = world_create_leader();
    struct ms_log_durable body = {.seq = 1000};

    cr_assert_eq(ms_link_send(&world->store.log, MS_IPC_LOG_DURABLE, &body), MS_OK);
    assert_reported(world, MS_ROLE_STORAGED, MS_LINK_RAFT_LOG);
    assert_recovers(world);
}

Test(node_restart, applied_beyond_what_was_sent_is_reported)
{
    struct world *world = world_create_leader();
    struct ms_apply_done body = {.applied = 1000};

    cr_assert_eq(ms_link_send(&world->store.apply, MS_IPC_APPLY_DONE, &body), MS_OK);
    assert_reported(world, MS_ROLE_STORAGED, MS_LINK_RAFT_APPLY);
    assert_recovers(world);
}

Test(node_restart, log_that_lost_durable_entries_is_reported)
{
    struct world *world = world_create_leader();

    api_propose(world, 3);
    world_settle(world);
    world_kill_store(world);
    world->store.last = 4;
    world_start_store(world);
    assert_reported(world, MS_ROLE_STORAGED, MS_LINK_RAFT_LOG);
    world->store.last = 5;
    assert_recovers(world);
}

Test(node_restart, state_machine_that_lost_entries_is_reported)
{
    struct world *world = world_create_leader();

    api_propose(world, 3);
    world_settle(world);
    world_kill_store(world);
    world->store.applied = 4;
    world_start_store(world);
    assert_reported(world, MS_ROLE_STORAGED, MS_LINK_RAFT_APPLY);
    world->store.applied = 5;
    assert_recovers(world);
}

Test(node_restart, second_log_state_is_reported)
{
    struct world *world = world_create_leader();

    store_say_log_state(&world->store);
    assert_reported(world, MS_ROLE_STORAGED, MS_LINK_RAFT_LOG);
    assert_recovers(world);
}

Test(node_restart, unasked_entries_are_reported)
{
    struct world *world = world_create_leader();
    struct ms_log_entries body = {.request = 1, .first_index = 1};

    cr_assert_eq(ms_link_send(&world->store.apply, MS_IPC_LOG_ENTRIES, &body), MS_OK);
    assert_reported(world, MS_ROLE_STORAGED, MS_LINK_RAFT_APPLY);
    assert_recovers(world);
}

Test(node_restart, proposal_without_a_command_is_reported)
{
    struct world *world = world_create_leader();

    cr_assert(api_propose_sized(world, 0, 8));
    assert_reported(world, MS_ROLE_APID, MS_LINK_API_RAFT);
    assert_recovers(world);
}

Test(node_restart, link_that_raftd_has_no_end_of_is_refused)
{
    struct world *world = world_create_leader();
    struct ms_link link;

    ms_link_init_closed(&link);
    link.info.kind = MS_LINK_API_RAFT;
    link.info.peer_instance = MS_API_WORKERS_MAX;
    cr_assert_eq(raftd_node_take_link(world->node, &link, world->now, &world->err), MS_EPROTO);
    world_destroy(world);
}

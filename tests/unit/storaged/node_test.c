/*
 * node: the whole of storaged but its process, between a raftd and an apid of our own.
 */
#include "common/conf_state.h"
#include "tests/unit/storaged/node_fixture.h"

Test(node, operations_are_made_durable_applied_and_answered)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.last_index, 0);
    cr_assert_eq(apply.applied, 0);
    cr_assert_eq(apply.revision, 1);
    fixture_connect_apid(&f, &opened);
    for (uint64_t i = 1; i <= 20; i++) {
        fixture_do_put(&f, i);
    }
    fixture_fini(&f);
}

Test(node, nothing_is_applied_before_it_is_durable)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_control_peer_down down = {.role = MS_ROLE_RAFTD};

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    fixture_send_apply(&f, 1, 1);
    fixture_settle(&f);
    cr_assert_eq(f.reports, 1);
    cr_assert_eq(f.reported, MS_LINK_RAFT_APPLY);
    store_node_peer_down(f.node, &down);
    fixture_connect_raftd(&f, &log, &apply);
    cr_assert_eq(apply.applied, 0);
    fixture_fini(&f);
}

Test(node, a_repeated_operation_gets_its_first_answer)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    struct ms_apply_result result;

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    fixture_connect_apid(&f, &opened);
    fixture_do_put(&f, 1);
    fixture_do_put(&f, 2);
    fixture_append(&f, 1);
    fixture_send_apply(&f, f.index, 1);
    fixture_expect(&f, &f.api, MS_IPC_APPLY_RESULT, &result, sizeof(result));
    cr_assert_eq(result.id.seq, 1);
    cr_assert_eq(result.revision, 2, "the first write's revision, not another one");
    fixture_fini(&f);
}

Test(node, waits_end_when_the_index_is_applied)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    struct ms_wait_applied wait = {.request = 5, .index = 2};
    struct ms_apply_result result;
    struct ms_wait_done done;

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    fixture_connect_apid(&f, &opened);
    cr_assert_eq(ms_link_send(&f.api, MS_IPC_WAIT_APPLIED, &wait), MS_OK);
    ms_link_flush(&f.api);
    fixture_do_put(&f, 1);
    fixture_append(&f, 2);
    fixture_send_apply(&f, 2, 2);
    fixture_expect(&f, &f.api, MS_IPC_APPLY_RESULT, &result, sizeof(result));
    fixture_expect(&f, &f.api, MS_IPC_WAIT_DONE, &done, sizeof(done));
    cr_assert_eq(done.request, 5);
    cr_assert_eq(done.applied, 2);
    wait = (struct ms_wait_applied){.request = 6, .index = 1};
    cr_assert_eq(ms_link_send(&f.api, MS_IPC_WAIT_APPLIED, &wait), MS_OK);
    ms_link_flush(&f.api);
    fixture_expect(&f, &f.api, MS_IPC_WAIT_DONE, &done, sizeof(done));
    cr_assert_eq(done.request, 6);
    fixture_fini(&f);
}

Test(node, a_new_raftd_finds_what_the_old_one_published)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    struct ms_control_peer_down down = {.role = MS_ROLE_RAFTD};

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    fixture_connect_apid(&f, &opened);
    fixture_do_put(&f, 1);
    fixture_append(&f, 2);
    fixture_send_apply(&f, 2, 2); /* and dies */
    fixture_append(&f, 3);
    store_node_peer_down(f.node, &down);
    fixture_connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.last_index, 3);
    cr_assert_eq(log.last_term, 1);
    cr_assert_eq(apply.applied, 2);
    cr_assert_eq(apply.applied_term, 1);
    fixture_fini(&f);
}

Test(node, the_log_can_be_read_back)
{
    struct ms_log_read read = {.request = 9, .low = 1, .high = 4, .max_bytes = 1 << 20};
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    struct ms_log_entries entries;

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    fixture_connect_apid(&f, &opened);
    for (uint64_t i = 1; i <= 5; i++) {
        fixture_do_put(&f, i);
    }
    cr_assert_eq(ms_link_send(&f.apply, MS_IPC_LOG_READ, &read), MS_OK);
    ms_link_flush(&f.apply);
    fixture_expect(&f, &f.apply, MS_IPC_LOG_ENTRIES, &entries, sizeof(entries));
    cr_assert_eq(entries.request, 9);
    cr_assert_eq(entries.status, MS_OK);
    cr_assert_eq(entries.count, 3);
    read.high = 7;
    cr_assert_eq(ms_link_send(&f.apply, MS_IPC_LOG_READ, &read), MS_OK);
    ms_link_flush(&f.apply);
    fixture_expect(&f, &f.apply, MS_IPC_LOG_ENTRIES, &entries, sizeof(entries));
    cr_assert_eq(entries.status, MS_EUNAVAILABLE);
    cr_assert_eq(entries.count, 0);
    fixture_fini(&f);
}

Test(node, killed_it_continues_and_after_a_fault_of_its_own_it_rebuilds)
{
    struct ms_raft_status status = {.commit = 10};
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    uint64_t epoch;

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    fixture_connect_apid(&f, &opened);
    epoch = opened.epoch;
    for (uint64_t i = 1; i <= 10; i++) {
        fixture_do_put(&f, i);
    }
    fixture_append(&f, 11);
    fixture_restart(&f, MS_END_KILLED);
    fixture_connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.last_index, 11);
    cr_assert_geq(apply.applied, 10);
    fixture_connect_apid(&f, &opened);
    cr_assert_eq(opened.epoch, epoch, "the same file");

    ms_status_page_write(f.page, &status, true);
    fixture_restart(&f, MS_END_OWN_FAULT);
    fixture_connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.last_index, 11);
    cr_assert_eq(apply.applied, 10, "what the status page says is committed, and no more");
    fixture_connect_apid(&f, &opened);
    cr_assert_neq(opened.epoch, epoch, "another file");
    cr_assert_eq(opened.read_floor, 11);
    fixture_fini(&f);
}

Test(node, snapshots_are_taken_and_the_log_is_compacted)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    struct ms_log_compacted compacted;

    fixture_init(&f);
    f.config.snapshot_count = 20;
    fixture_connect_raftd(&f, &log, &apply);
    fixture_connect_apid(&f, &opened);
    for (uint64_t i = 1; i < 20; i++) {
        fixture_do_put(&f, i);
    }
    fixture_append(&f, 20);
    fixture_send_apply(&f, 20, 20);
    {
        struct ms_apply_done done;

        fixture_expect(&f, &f.apply, MS_IPC_APPLY_DONE, &done, sizeof(done));
    }
    fixture_expect(&f, &f.apply, MS_IPC_LOG_COMPACTED, &compacted, sizeof(compacted));
    cr_assert_eq(compacted.snapshot_index, 20);
    cr_assert_eq(compacted.first_index, 16);
    cr_assert_eq(compacted.snapshot_term, 1);
    fixture_restart(&f, MS_END_OWN_FAULT);
    fixture_connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.first_index, 16);
    cr_assert_eq(apply.applied, 20);
    cr_assert_eq(apply.revision, 21);
    fixture_fini(&f);
}

Test(node, long_history_makes_it_suggest_a_compaction)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    struct ms_apply_done done;
    struct ms_suggest suggest;

    fixture_init(&f);
    f.config.history = 10;
    fixture_connect_raftd(&f, &log, &apply);
    fixture_connect_apid(&f, &opened);
    for (uint64_t i = 1; i < 12; i++) {
        fixture_do_put(&f, i);
    }
    fixture_append(&f, 12);
    fixture_send_apply(&f, 12, 12);
    fixture_expect(&f, &f.apply, MS_IPC_APPLY_DONE, &done, sizeof(done));
    fixture_expect(&f, &f.apply, MS_IPC_SUGGEST, &suggest, sizeof(suggest));
    fixture_fini(&f);
}

Test(node, an_orderly_stop_leaves_nothing_in_memory_and_everything_on_disk)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    fixture_connect_apid(&f, &opened);
    fixture_do_put(&f, 1);
    fixture_append(&f, 2);
    store_node_stop(f.node);
    f.node = NULL;
    cr_assert(rmdir(f.config.memory_dir) == 0, "the memory directory is not empty");
    cr_assert(mkdir(f.config.memory_dir, 0700) == 0);
    fixture_start(&f, MS_END_STOPPED);
    fixture_connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.last_index, 2);
    cr_assert_eq(apply.applied, 1);
    fixture_fini(&f);
}

/*
 * Appends a change of the configuration, and records what it leads to if that is known. The commit
 * index that comes with it names the change itself.
 */
static void append_change(struct node_fixture *f, bool record)
{
    struct ms_log_append append = {.seq = ++f->seq,
                                   .first_index = ++f->index,
                                   .count = 1,
                                   .has_hard_state = 1,
                                   .hard_state = {.term = 1, .vote = 1, .commit = f->index}};
    const struct log_entry change = {.term = 1, .type = MS_ENTRY_CONF_CHANGE};
    const struct ms_conf_state members = {.member_count = 1,
                                          .members = {{.id = 1, .flags = MS_CONF_VOTER}}};
    struct ms_log_conf conf = {.index = f->index};
    struct ms_log_durable durable;
    void *body;
    void *tail;

    if (record) {
        append.hard_state.commit = 1; /* what it is without the last word of raftd */
    }
    cr_assert_eq(link_fixture_entries(&f->log, MS_IPC_LOG_APPEND, &append, sizeof(append), f->index,
                                      1, &change),
                 MS_OK);
    link_fixture_expect(&f->log, MS_IPC_LOG_DURABLE, &durable, sizeof(durable));
    if (!record) {
        return;
    }
    conf.seq = ++f->seq;
    cr_assert_eq(ms_link_begin(&f->log, MS_IPC_LOG_CONF, ms_conf_state_encoded_bytes(&members),
                               &body, &tail),
                 MS_OK);
    memcpy(body, &conf, sizeof(conf));
    ms_conf_state_encode(&members, tail);
    ms_link_commit(&f->log);
    ms_link_flush(&f->log);
    link_fixture_expect(&f->log, MS_IPC_LOG_DURABLE, &durable, sizeof(durable));
}

static void stop_and_start(struct node_fixture *f)
{
    store_node_stop(f->node);
    f->node = NULL;
    fixture_start(f, MS_END_STOPPED);
}

/* A configuration is recorded once its change is committed, so the record alone says that. */
Test(node, a_recorded_configuration_is_in_effect_after_any_start)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    fixture_append(&f, 1);
    fixture_append(&f, 2);
    append_change(&f, true);
    stop_and_start(&f);
    fixture_connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.last_index, 3);
    cr_assert_eq(log.hard_state.commit, 1);
    cr_assert_eq(apply.applied, 3);
    fixture_fini(&f);
}

/* Power failed between the commit index and the record: raftd does it again. */
Test(node, a_change_whose_configuration_is_not_recorded_waits_for_raftd)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    fixture_append(&f, 1);
    fixture_append(&f, 2);
    append_change(&f, false);
    fixture_append(&f, 4);
    stop_and_start(&f);
    fixture_connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.last_index, 4);
    cr_assert_eq(log.hard_state.commit, 3);
    cr_assert_eq(apply.applied, 2);
    fixture_fini(&f);
}

/* Results that find apid's ring full wait, and nothing more is applied meanwhile. */
Test(node, a_full_ring_to_apid_holds_applying_back_and_loses_nothing)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    uint64_t sent = 0;
    uint64_t seen = 0;

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    fixture_connect_apid(&f, &opened);
    for (uint64_t i = 1; i <= 1500; i++) {
        struct ms_ipc_message message;

        fixture_append(&f, i);
        fixture_send_apply(&f, i, i);
        sent++;
        fixture_settle(&f);
        while (ms_link_receive(&f.apply, &message) == MS_OK) {
            ms_link_release(&f.apply);
            ms_link_flush(&f.apply);
        }
        if (sent - seen > 1300) {
            /* By now the ring to apid is full. Let it read a little. */
            for (int k = 0; k < 500; k++) {
                struct ms_apply_result result;

                fixture_expect(&f, &f.api, MS_IPC_APPLY_RESULT, &result, sizeof(result));
                cr_assert_eq(result.id.seq, ++seen);
            }
        }
    }
    while (seen < sent) {
        struct ms_apply_result result;

        fixture_expect(&f, &f.api, MS_IPC_APPLY_RESULT, &result, sizeof(result));
        cr_assert_eq(result.id.seq, ++seen);
    }
    fixture_fini(&f);
}

/* A commit index of a term that the log does not end in says nothing about the log's entries. */
Test(node, a_commit_index_of_another_term_is_not_applied)
{
    struct ms_raft_status status = {.commit = 5, .term = 2};
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    for (uint64_t i = 1; i <= 2; i++) {
        fixture_append(&f, i);
    }
    cr_assert_eq(link_fixture_append(&f.log, ++f.seq, 3, 5), MS_OK);
    {
        struct ms_log_durable durable;

        link_fixture_expect(&f.log, MS_IPC_LOG_DURABLE, &durable, sizeof(durable));
    }
    /* raftd follows a leader of term 2, whose entries up to 5 are not durable here yet. */
    ms_status_page_write(f.page, &status, true);
    fixture_restart(&f, MS_END_OWN_FAULT);
    fixture_connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.last_index, 7);
    cr_assert_leq(apply.applied, 1, "only what the log itself says is committed");
    status.term = 1;
    ms_status_page_write(f.page, &status, true);
    fixture_restart(&f, MS_END_OWN_FAULT);
    fixture_connect_raftd(&f, &log, &apply);
    cr_assert_eq(apply.applied, 5);
    fixture_fini(&f);
}

/* Entries that replace others must not be mistaken for those. */
Test(node, a_conflict_cuts_the_log_and_nothing_beyond_is_applied)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_apply_done done;
    struct ms_log_durable durable;

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    for (uint64_t i = 1; i <= 10; i++) {
        fixture_append(&f, i);
    }
    fixture_send_apply(&f, 1, 1);
    fixture_expect(&f, &f.apply, MS_IPC_APPLY_DONE, &done, sizeof(done));
    cr_assert_eq(link_fixture_append(&f.log, ++f.seq, 3, 1), MS_OK);
    link_fixture_expect(&f.log, MS_IPC_LOG_DURABLE, &durable, sizeof(durable));
    cr_assert_eq(durable.last_index, 3);
    fixture_send_apply(&f, 2, 2);
    fixture_expect(&f, &f.apply, MS_IPC_APPLY_DONE, &done, sizeof(done));
    cr_assert_eq(done.applied, 2);
    fixture_send_apply(&f, 3, 3);
    fixture_expect(&f, &f.apply, MS_IPC_APPLY_DONE, &done, sizeof(done));
    fixture_send_apply(&f, 4, 4);
    fixture_settle(&f);
    cr_assert_eq(f.reports, 1, "entry 4 is gone");
    fixture_fini(&f);
}

/*
 * Flow control and limits (thesis 10.2.1), and what peers and storage may do wrong.
 */
#include "tests/unit/raftd/raft_fixture.h"

static struct fixture f;

/* A leader 1 of three. */
static void start(void)
{
    fixture_start_all(&f);
    fixture_elect(&f, 1);
}

Test(raft_limits, uncommitted_payload_is_bounded_and_freed_by_applying)
{
    fixture_prepare(&f, 3);
    f.nodes[0].options.max_uncommitted_bytes = 10;
    start();
    fixture_isolate(&f, 1, true);
    cr_assert_eq(fixture_propose(&f, 1, "123456789012345"), MS_OK, "the first may be any size");
    cr_assert_eq(fixture_propose(&f, 1, "1"), MS_EDROPPED);
    cr_assert_eq(fixture_status(&f, 1).last_index, 2);
    cr_assert_eq(fixture_propose(&f, 1, ""), MS_OK, "nothing weighs nothing");
    fixture_run(&f);
    fixture_isolate(&f, 1, false);
    fixture_tick(&f, 1, 1);
    fixture_run(&f);
    cr_assert_eq(fixture_status(&f, 1).applied, 3);
    cr_assert_eq(fixture_propose(&f, 1, "1234567890"), MS_OK);
    fixture_fini(&f);
}

Test(raft_limits, change_refused_with_its_batch_leaves_no_pending_change)
{
    static const uint8_t add[] = {0x08, 0x00, 0x12, 0x04, 0x08, 0x00, 0x10, 0x09};
    struct raft_entry batch[] = {
        {.data = "xxxxxxxxxxxxxxxx", .len_bytes = 16},
        {.type = RAFT_ENTRY_CONF_CHANGE_V2, .data = add, .len_bytes = sizeof(add)},
    };

    fixture_prepare(&f, 3);
    f.nodes[0].options.max_uncommitted_bytes = 10;
    start();
    fixture_isolate(&f, 1, true);
    cr_assert_eq(fixture_propose(&f, 1, "12345678901"), MS_OK);
    cr_assert_eq(raft_propose(f.nodes[0].raft, batch, 2), MS_EDROPPED);
    fixture_isolate(&f, 1, false);
    fixture_tick(&f, 1, 1);
    fixture_run(&f);
    cr_assert_eq(raft_propose(f.nodes[0].raft, &batch[1], 1), MS_OK);
    fixture_run(&f);
    cr_assert_eq(f.nodes[0].conf.voters.count, 4, "it was not taken for a second change");
    fixture_fini(&f);
}

Test(raft_limits, inflight_bytes_stop_the_stream)
{
    fixture_prepare(&f, 3);
    f.nodes[0].options.max_message_bytes = 20;
    f.nodes[0].options.max_inflight_bytes = 20;
    start();
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(fixture_propose(&f, 1, "1234567890"), MS_OK);
    }
    cr_assert_eq(fixture_progress(&f, 1, 2).inflight_messages, 2);
    cr_assert(fixture_progress(&f, 1, 2).inflight_full);
    cr_assert(fixture_progress(&f, 1, 2).paused);
    fixture_run(&f);
    cr_assert_eq(fixture_progress(&f, 1, 2).match, 6);
    cr_assert_eq(fixture_progress(&f, 1, 2).inflight_messages, 0);
    fixture_fini(&f);
}

Test(raft_limits, messages_are_cut_to_size)
{
    fixture_prepare(&f, 3);
    f.nodes[0].options.max_message_bytes = 40;
    start();
    fixture_isolate(&f, 3, true);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(fixture_propose(&f, 1, "1234567890"), MS_OK);
        fixture_run(&f);
    }
    fixture_isolate(&f, 3, false);
    cr_assert_eq(raft_report_unreachable(f.nodes[0].raft, 3), MS_OK);
    fixture_tick(&f, 1, 1);
    while (fixture_progress(&f, 1, 3).match < 101) {
        size_t before = fixture_count(&f, RAFT_MSG_APP, 3);

        fixture_flush(&f, 1);
        for (size_t i = 0; i < f.queued; i++) {
            cr_assert_leq(f.queue[i].entries.count, 2, "an entry has 16 bytes");
        }
        cr_assert_leq(fixture_count(&f, RAFT_MSG_APP, 3) - before, RAFT_APPEND_BURST + 1,
                      "one event causes a bounded burst");
        cr_assert_gt(f.queued, 0);
        (void)fixture_deliver(&f, 0);
        fixture_flush(&f, 2);
        fixture_flush(&f, 3);
    }
    fixture_fini(&f);
}

Test(raft_limits, one_entry_per_message_if_the_size_is_0)
{
    fixture_prepare(&f, 3);
    f.nodes[0].options.max_message_bytes = 0;
    start();
    fixture_isolate(&f, 2, true);
    cr_assert_eq(fixture_propose(&f, 1, "a"), MS_OK);
    cr_assert_eq(fixture_propose(&f, 1, "b"), MS_OK);
    fixture_run(&f);
    cr_assert_eq(fixture_status(&f, 3).commit, 3);
    fixture_fini(&f);
}

/* An append of one entry after index 0. */
static struct raft_message append_one(struct raft_entry *entry)
{
    return (struct raft_message){.type = RAFT_MSG_APP,
                                 .to = 1,
                                 .from = 2,
                                 .term = 1,
                                 .index = entry->index - 1,
                                 .log_term = entry->index > 1,
                                 .entries = {.entries = entry, .count = 1}};
}

Test(raft_limits, what_waits_for_the_disk_is_bounded)
{
    struct raft_entry entry = {.term = 1, .index = 1, .data = "12345", .len_bytes = 5};
    struct raft_message message = append_one(&entry);

    fixture_prepare(&f, 3);
    f.nodes[0].options.max_unstable_bytes = 8;
    fixture_start_all(&f);
    cr_assert_eq(raft_step(f.nodes[0].raft, &message), MS_OK);
    entry.index = 2;
    message = append_one(&entry);
    cr_assert_eq(raft_step(f.nodes[0].raft, &message), MS_EFULL);
    cr_assert_eq(fixture_status(&f, 1).last_index, 1);
    fixture_flush(&f, 1);
    cr_assert_eq(raft_step(f.nodes[0].raft, &message), MS_OK, "it is stable now");
    cr_assert_eq(fixture_status(&f, 1).last_index, 2);
    fixture_fini(&f);
}

Test(raft_limits, outbox_is_bounded)
{
    int rc = MS_OK;
    size_t ticks = 0;

    fixture_prepare(&f, 3);
    start();
    while (rc == MS_OK && ticks < RAFT_OUTBOX_MAX) {
        rc = raft_tick(f.nodes[0].raft);
        ticks++;
    }
    cr_assert_eq(rc, MS_EFULL);
    fixture_isolate(&f, 1, true);
    cr_assert(fixture_ready(&f, &f.nodes[0]), "but it can always be emptied");
    cr_assert_eq(raft_tick(f.nodes[0].raft), MS_OK);
    fixture_fini(&f);
}

Test(raft_limits, members_are_bounded)
{
    struct raft_conf_state conf;
    struct raft_conf_change change = {.count = 1};

    fixture_prepare(&f, 1);
    fixture_start_all(&f);
    for (node_id id = 2; id <= RAFT_MEMBERS_MAX; id++) {
        change.changes[0] = (struct raft_change){RAFT_ADD_LEARNER, id};
        cr_assert_eq(raft_apply_conf_change(f.nodes[0].raft, &change, &conf), MS_OK);
    }
    cr_assert_eq(conf.learners.count, RAFT_MEMBERS_MAX - 1);
    change.changes[0].id = RAFT_MEMBERS_MAX + 1;
    cr_assert_eq(raft_apply_conf_change(f.nodes[0].raft, &change, &conf), MS_EINVAL);
    cr_assert_str_eq(raft_conf_change_reason(f.nodes[0].raft), "too many members");
    fixture_fini(&f);
}

Test(raft_limits, forwarding_can_be_forbidden)
{
    fixture_prepare(&f, 3);
    f.nodes[1].options.disable_proposal_forwarding = true;
    start();
    cr_assert_eq(fixture_propose(&f, 2, "x"), MS_EDROPPED);
    cr_assert_eq(fixture_propose(&f, 3, "y"), MS_OK);
    fixture_run(&f);
    cr_assert_eq(fixture_status(&f, 1).commit, 2);
    fixture_fini(&f);
}

/* ---- snapshots ---- */

/* 3 needs a snapshot from 1, which has been sent and is lost. */
static void need_snapshot(void)
{
    fixture_prepare(&f, 3);
    start();
    fixture_isolate(&f, 3, true);
    cr_assert_eq(fixture_propose(&f, 1, "x"), MS_OK);
    fixture_run(&f);
    fixture_compact(&f.nodes[0], 2);
    cr_assert_eq(raft_report_unreachable(f.nodes[0].raft, 3), MS_OK);
    fixture_isolate(&f, 3, false);
    fixture_tick(&f, 1, 1);
    fixture_flush(&f, 1);
    while (fixture_progress(&f, 1, 3).state != RAFT_PROGRESS_SNAPSHOT) {
        cr_assert_gt(f.queued, 0);
        (void)fixture_deliver(&f, 0);
        for (node_id id = 1; id <= 3; id++) {
            fixture_flush(&f, id);
        }
    }
}

Test(raft_limits, 7_snapshot_brings_a_member_back)
{
    need_snapshot();
    fixture_run(&f);
    cr_assert_eq(fixture_progress(&f, 1, 3).state, RAFT_PROGRESS_REPLICATE);
    cr_assert_eq(fixture_status(&f, 3).commit, 2);
    cr_assert_eq(fixture_status(&f, 3).applied, 2);
    fixture_fini(&f);
}

Test(raft_limits, 7_failed_snapshot_is_sent_again)
{
    need_snapshot();
    fixture_isolate(&f, 3, true);
    while (f.queued > 0) { /* the snapshot is lost */
        f.queued--;
        raft_message_release(&f.nodes[0].options.alloc, &f.queue[f.queued]);
    }
    fixture_isolate(&f, 3, false);
    fixture_tick(&f, 1, 2);
    fixture_run(&f);
    cr_assert_eq(fixture_progress(&f, 1, 3).state, RAFT_PROGRESS_SNAPSHOT, "waits for news");
    cr_assert_eq(raft_report_snapshot(f.nodes[0].raft, 3, true), MS_OK);
    cr_assert_eq(fixture_progress(&f, 1, 3).state, RAFT_PROGRESS_PROBE);
    cr_assert_eq(fixture_progress(&f, 1, 3).next, 2, "as if none had been sent");
    cr_assert(fixture_progress(&f, 1, 3).paused, "until it is heard of");
    fixture_tick(&f, 1, 1);
    fixture_run(&f);
    cr_assert_eq(fixture_status(&f, 3).commit, 2);
    fixture_fini(&f);
}

Test(raft_limits, 7_delivered_snapshot_is_probed_after_it)
{
    need_snapshot();
    cr_assert_eq(raft_report_snapshot(f.nodes[0].raft, 3, false), MS_OK);
    cr_assert_eq(fixture_progress(&f, 1, 3).state, RAFT_PROGRESS_PROBE);
    cr_assert_eq(fixture_progress(&f, 1, 3).next, 3);
    fixture_run(&f);
    cr_assert_eq(fixture_progress(&f, 1, 3).state, RAFT_PROGRESS_REPLICATE);
    fixture_fini(&f);
}

/* ---- entries that are not in memory ---- */

Test(raft_limits, entries_being_fetched_are_sent_when_they_are_there)
{
    fixture_prepare(&f, 3);
    start();
    fixture_isolate(&f, 3, true);
    cr_assert_eq(fixture_propose(&f, 1, "x"), MS_OK);
    fixture_run(&f);
    fixture_isolate(&f, 3, false);
    cr_assert_eq(raft_report_unreachable(f.nodes[0].raft, 3), MS_OK);
    f.nodes[0].fetch = true;
    fixture_tick(&f, 1, 1);
    fixture_run(&f);
    cr_assert_eq(fixture_progress(&f, 1, 3).match, 1);
    cr_assert_not(raft_has_ready(f.nodes[0].raft));
    f.nodes[0].fetch = false;
    cr_assert_eq(raft_entries_available(f.nodes[0].raft), MS_OK);
    fixture_run(&f);
    cr_assert_eq(fixture_progress(&f, 1, 3).match, 2);
    fixture_fini(&f);
}

Test(raft_limits, committed_entries_being_fetched_are_applied_when_they_are_there)
{
    fixture_prepare(&f, 1);
    fixture_start_all(&f);
    fixture_elect(&f, 1);
    cr_assert_eq(fixture_propose(&f, 1, "x"), MS_OK);
    fixture_run(&f);
    fixture_crash(&f, 1);
    f.nodes[0].applied = 0;
    f.nodes[0].fetch = true;
    fixture_start(&f.nodes[0]);
    fixture_run(&f);
    cr_assert_eq(f.nodes[0].applied, 0);
    cr_assert_eq(raft_campaign(f.nodes[0].raft), MS_OK);
    cr_assert_eq(fixture_status(&f, 1).state, RAFT_STATE_FOLLOWER, "who votes is not known yet");
    f.nodes[0].fetch = false;
    cr_assert_eq(raft_entries_available(f.nodes[0].raft), MS_OK);
    fixture_run(&f);
    cr_assert_eq(f.nodes[0].applied, 2);
    fixture_elect(&f, 1);
    fixture_fini(&f);
}

/* ---- messages that should not exist ---- */

Test(raft_limits, impossible_messages_are_refused_without_effect)
{
    struct raft_entry entries[] = {{.term = 1, .index = 1}, {.term = 1, .index = 3}};
    struct raft_message gap = {.type = RAFT_MSG_APP,
                               .to = 1,
                               .from = 2,
                               .term = 9,
                               .entries = {.entries = entries, .count = 2}};
    struct raft_message bad[] = {
        gap,
        {.type = RAFT_MSG_APP, .to = 2, .from = 2, .term = 9},
        {.type = RAFT_MSG_APP, .to = 1, .from = 1, .term = 9},
        {.type = RAFT_MSG_APP, .to = 1, .from = RAFT_NONE, .term = 9},
        {.type = RAFT_MSG_APP, .to = 1, .from = RAFT_APPEND_THREAD, .term = 9},
        {.type = RAFT_MSG_APP, .to = 1, .from = 2, .term = 9, .index = UINT64_MAX},
        {.type = RAFT_MSG_SNAP, .to = 1, .from = 2, .term = 9},
        {.type = RAFT_MSG_PROP, .to = 1, .from = 2},
        {.type = RAFT_MSG_VOTE, .to = 1, .from = 2},
        {.type = (enum raft_message_type)99, .to = 1, .from = 2, .term = 9},
    };
    struct raft_message local = {.type = RAFT_MSG_HUP, .to = 1, .from = 2};
    struct raft_message stranger = {.type = RAFT_MSG_APP_RESP, .to = 1, .from = 7, .term = 9};

    fixture_prepare(&f, 3);
    fixture_start_all(&f);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(raft_step(f.nodes[0].raft, &bad[i]), MS_EINVAL, "message %zu", i);
    }
    cr_assert_eq(raft_step(f.nodes[0].raft, &local), MS_EPERM);
    cr_assert_eq(raft_step(f.nodes[0].raft, &stranger), MS_ENOENT);
    cr_assert_eq(fixture_status(&f, 1).term, 0);
    cr_assert_not(raft_has_ready(f.nodes[0].raft));
    fixture_fini(&f);
}

Test(raft_limits, 5_3_contradictions_of_what_is_committed_are_corrupt)
{
    struct raft_entry other = {.term = 2, .index = 2};
    struct raft_message conflict;
    struct raft_message heartbeat = {
        .type = RAFT_MSG_HEARTBEAT, .to = 3, .from = 1, .term = 1, .commit = 99};
    struct raft_message ack = {
        .type = RAFT_MSG_APP_RESP, .to = 1, .from = 2, .term = 1, .index = 99};

    fixture_prepare(&f, 3);
    start();
    cr_assert_eq(fixture_propose(&f, 1, "x"), MS_OK);
    fixture_run(&f);
    cr_assert_eq(raft_step(fixture_node(&f, 3)->raft, &heartbeat), MS_ECORRUPT);
    cr_assert_eq(raft_step(f.nodes[0].raft, &ack), MS_ECORRUPT);

    /* A leader that would replace a committed entry: its answer is what is committed. */
    conflict = append_one(&other);
    conflict.to = 3;
    conflict.term = 2;
    conflict.index = 1;
    conflict.log_term = 1;
    cr_assert_eq(raft_step(fixture_node(&f, 3)->raft, &conflict), MS_OK);
    cr_assert_eq(fixture_status(&f, 3).commit, 2);
    fixture_flush(&f, 3);
    cr_assert_eq(f.queue[f.queued - 1].index, 2);
    fixture_fini(&f);
}

Test(raft_limits, malformed_changes_are_refused)
{
    static const uint8_t bytes[][4] = {
        {0x08}, {0x08, 0x07}, {0x12, 0x05, 0x08}, {0xff, 0xff, 0xff, 0xff}};
    struct raft_conf_change change = {.v1 = true};
    struct raft_entry entry = {.type = RAFT_ENTRY_CONF_CHANGE_V2};
    size_t len_bytes;

    fixture_prepare(&f, 3);
    start();
    for (size_t i = 0; i < 4; i++) {
        entry.data = bytes[i];
        entry.len_bytes = i == 0 ? 1 : i == 1 ? 2 : i == 2 ? 3 : 4;
        cr_assert_eq(raft_propose(f.nodes[0].raft, &entry, 1), MS_EINVAL, "change %zu", i);
    }
    cr_assert_eq(raft_conf_change_encode(&change, NULL, 0, &len_bytes), MS_EINVAL);
    cr_assert_eq(raft_propose(f.nodes[0].raft, NULL, 0), MS_EINVAL);
    fixture_fini(&f);
}

Test(raft_limits, changes_survive_encoding)
{
    struct raft_conf_change change = {.transition = RAFT_TRANSITION_EXPLICIT,
                                      .count = 3,
                                      .changes = {{RAFT_ADD_VOTER, 1},
                                                  {RAFT_REMOVE_MEMBER, UINT64_MAX - 9},
                                                  {RAFT_ADD_LEARNER, 300}},
                                      .context = "peer:2380",
                                      .context_bytes = 9};
    struct raft_conf_change back;
    struct raft_entry entry = {.type = RAFT_ENTRY_CONF_CHANGE_V2};
    uint8_t bytes[128];

    cr_assert_eq(raft_conf_change_encode(&change, bytes, 3, &entry.len_bytes), MS_ERANGE);
    cr_assert_eq(raft_conf_change_encode(&change, bytes, sizeof(bytes), &entry.len_bytes), MS_OK);
    entry.data = bytes;
    cr_assert_eq(raft_conf_change_decode(&entry, &back), MS_OK);
    cr_assert_eq(back.transition, RAFT_TRANSITION_EXPLICIT);
    cr_assert_eq(back.count, 3);
    cr_assert_eq(back.changes[1].type, RAFT_REMOVE_MEMBER);
    cr_assert_eq(back.changes[1].id, UINT64_MAX - 9);
    cr_assert_eq(back.changes[2].id, 300);
    cr_assert_eq(back.context_bytes, 9);
    cr_assert_eq(memcmp(back.context, "peer:2380", 9), 0);

    change.v1 = true;
    change.count = 1;
    change.transition = RAFT_TRANSITION_AUTO;
    cr_assert_eq(raft_conf_change_encode(&change, bytes, sizeof(bytes), &entry.len_bytes), MS_OK);
    entry.type = RAFT_ENTRY_CONF_CHANGE;
    cr_assert_eq(raft_conf_change_decode(&entry, &back), MS_OK);
    cr_assert(back.v1);
    cr_assert_eq(back.changes[0].id, 1);
    cr_assert_eq(back.context_bytes, 9);
}

/*
 * The allocator may refuse at any time: the event has then not happened, and may come again.
 */
#include "raftd/core/core.h"
#include "tests/unit/raftd/raft_fixture.h"

static struct fixture f;

/* All that an event may change, in comparable form. */
struct picture {
    struct raft_status status;
    size_t messages;
    size_t after_append;
    size_t read_states;
    size_t reads;
    size_t unstable;
    raft_index offset;
    raft_index in_progress;
    raft_index applying;
    raft_index pending_conf;
    uint64_t uncommitted;
    uint32_t election_elapsed;
    uint32_t heartbeat_elapsed;
    size_t advanced;
    const void *snapshot;
};

static struct picture look(const struct raft *raft)
{
    struct picture picture;

    memset(&picture, 0, sizeof(picture));
    raft_status(raft, &picture.status);
    picture.messages = raft->messages.count;
    picture.after_append = raft->after_append.count;
    picture.read_states = raft->read_state_count;
    picture.reads = raft->reads.count;
    picture.unstable = raft->log.unstable.count;
    picture.offset = raft->log.unstable.offset;
    picture.in_progress = raft->log.unstable.offset_in_progress;
    picture.applying = raft->log.applying;
    picture.pending_conf = raft->pending_conf_index;
    picture.uncommitted = raft->uncommitted_bytes;
    picture.election_elapsed = raft->election_elapsed;
    picture.heartbeat_elapsed = raft->heartbeat_elapsed;
    picture.advanced = raft->advanced;
    picture.snapshot = raft->log.unstable.snapshot;
    return picture;
}

/*
 * Does something to node 1 with its nth allocation refused, n growing until it succeeds; each
 * refusal must leave the node as it was. Returns how many refusals there were.
 */
static unsigned insist(int (*event)(void *arg), void *arg)
{
    struct fixture_node *node = &f.nodes[0];
    unsigned refusals = 0;

    for (long n = 0;; n++) {
        struct picture before = look(node->raft);
        struct picture after;
        int rc;

        node->memory.countdown = n;
        node->memory.refused = false;
        rc = event(arg);
        node->memory.countdown = -1;
        if (rc == MS_OK) {
            return refusals;
        }
        cr_assert_eq(rc, MS_ENOMEM);
        cr_assert(node->memory.refused);
        after = look(node->raft);
        cr_assert_eq(memcmp(&before, &after, sizeof(before)), 0, "allocation %ld left a trace", n);
        refusals++;
    }
}

static int do_tick(void *arg)
{
    (void)arg;
    return raft_tick(f.nodes[0].raft);
}

static int do_campaign(void *arg)
{
    (void)arg;
    return raft_campaign(f.nodes[0].raft);
}

static int do_propose(void *arg)
{
    static const struct raft_entry entries[200] = {{.data = "x", .len_bytes = 1}};

    (void)arg;
    return raft_propose(f.nodes[0].raft, entries, 200);
}

static int do_propose_change(void *arg)
{
    return raft_propose_conf_change(f.nodes[0].raft, arg);
}

static int do_apply_change(void *arg)
{
    return raft_apply_conf_change(f.nodes[0].raft, arg, NULL);
}

static int do_read(void *arg)
{
    (void)arg;
    return raft_read_index(f.nodes[0].raft, (struct raft_read_id){.seq = 1});
}

static int do_step(void *arg)
{
    return raft_step(f.nodes[0].raft, arg);
}

static int do_ready(void *arg)
{
    return raft_ready(f.nodes[0].raft, arg);
}

static int do_advance(void *arg)
{
    (void)arg;
    return raft_advance(f.nodes[0].raft);
}

/* Deals with what node 1 has to do, refusing each allocation once on the way. */
static unsigned insist_on_ready(void)
{
    struct fixture_node *node = &f.nodes[0];
    unsigned refusals = 0;

    while (raft_has_ready(node->raft)) {
        struct raft_ready ready;

        refusals += insist(do_ready, &ready);
        if (!node->options.async_storage) {
            fixture_write(node, &ready.hard_state, ready.snapshot, &ready.entries);
            fixture_apply(&f, node, &ready.committed);
        }
        for (size_t i = 0; i < ready.message_count; i++) {
            struct raft_message *message = &ready.messages[i];

            if (message->to == RAFT_APPEND_THREAD || message->to == RAFT_APPLY_THREAD) {
                raft_message_take(&node->work[node->work_count++], message);
            } else {
                fixture_send(&f, message);
            }
        }
        raft_ready_release(node->raft, &ready);
        if (!node->options.async_storage) {
            /* Steps one by one: a refusal in the middle keeps those that are done. */
            refusals += insist(do_advance, NULL);
        }
    }
    return refusals;
}

/* Delivers everything; what goes to node 1 is refused on the way. */
static unsigned insist_on_run(void)
{
    unsigned refusals = insist_on_ready();

    while (f.queued > 0 || fixture_work(&f, &f.nodes[0])) {
        struct raft_message message;

        refusals += insist_on_ready();
        if (f.queued == 0) {
            continue;
        }
        if (f.queue[0].to != 1) {
            node_id to = f.queue[0].to;

            (void)fixture_deliver(&f, 0);
            fixture_flush(&f, to);
            while (fixture_work(&f, fixture_node(&f, to))) {
                fixture_flush(&f, to);
            }
            continue;
        }
        raft_message_take(&message, &f.queue[0]);
        f.queued--;
        memmove(&f.queue[0], &f.queue[1], f.queued * sizeof(f.queue[0]));
        refusals += insist(do_step, &message);
        raft_message_release(&f.nodes[0].options.alloc, &message);
        refusals += insist_on_ready();
    }
    return refusals;
}

/* A whole life under refusals: elected, writes, changes members, reads, is deposed. */
static void live(bool async_storage)
{
    struct raft_conf_change change = {.count = 2,
                                      .changes = {{RAFT_ADD_LEARNER, 4}, {RAFT_ADD_LEARNER, 5}}};
    unsigned refusals = 0;

    fixture_prepare(&f, 3);
    for (size_t i = 0; i < 3; i++) {
        f.nodes[i].options.async_storage = async_storage;
        f.nodes[i].options.pre_vote = true;
    }
    fixture_start_all(&f);
    refusals += insist(do_campaign, NULL);
    refusals += insist_on_run();
    cr_assert_eq(fixture_status(&f, 1).state, RAFT_STATE_LEADER);
    refusals += insist(do_propose, NULL);
    refusals += insist_on_run();
    refusals += insist(do_read, NULL);
    refusals += insist(do_tick, NULL);
    refusals += insist_on_run();
    cr_assert_eq(raft_has_ready(f.nodes[0].raft), false);
    refusals += insist(do_propose_change, &change);
    refusals += insist_on_run();
    cr_assert_eq(f.nodes[0].conf.learners.count, 2);
    cr_assert_eq(f.nodes[0].conf.voters_outgoing.count, 0, "left the joint configuration");
    fixture_elect(&f, 2);
    cr_assert_eq(fixture_status(&f, 1).state, RAFT_STATE_FOLLOWER);
    cr_assert_eq(fixture_status(&f, 1).commit, fixture_status(&f, 2).commit);
    cr_assert_gt(refusals, 20, "the loop must have met allocations");
    fixture_fini(&f);
}

Test(raft_memory, refusals_leave_no_trace_with_asynchronous_storage)
{
    live(true);
}

Test(raft_memory, refusals_leave_no_trace_with_synchronous_storage)
{
    live(false);
}

Test(raft_memory, refused_creation_leaves_nothing)
{
    fixture_prepare(&f, 3);
    for (long n = 0; f.nodes[0].raft == NULL; n++) {
        int rc;

        f.nodes[0].memory.countdown = n;
        rc = raft_create(&f.nodes[0].options, &f.nodes[0].raft);
        cr_assert(rc == MS_OK || (rc == MS_ENOMEM && f.nodes[0].memory.live == 0));
    }
    f.nodes[0].memory.countdown = -1;
    fixture_fini(&f);
}

Test(raft_memory, refused_conflict_resolution_leaves_the_old_entries)
{
    struct raft_entry old[] = {{.term = 1, .index = 1, .data = "a", .len_bytes = 1},
                               {.term = 1, .index = 2, .data = "b", .len_bytes = 1},
                               {.term = 1, .index = 3, .data = "c", .len_bytes = 1}};
    struct raft_entry other = {.term = 2, .index = 2, .data = "B", .len_bytes = 1};
    struct raft_message message = {.type = RAFT_MSG_APP,
                                   .to = 1,
                                   .from = 2,
                                   .term = 1,
                                   .entries = {.entries = old, .count = 3}};

    fixture_prepare(&f, 3);
    f.nodes[0].options.async_storage = true;
    fixture_start_all(&f);
    cr_assert_gt(insist(do_step, &message), 0);
    fixture_flush(&f, 1); /* handed out, not stable: slices of it are outside */
    message = (struct raft_message){.type = RAFT_MSG_APP,
                                    .to = 1,
                                    .from = 3,
                                    .term = 2,
                                    .index = 1,
                                    .log_term = 1,
                                    .entries = {.entries = &other, .count = 1}};
    cr_assert_gt(insist(do_step, &message), 0);
    cr_assert_eq(fixture_status(&f, 1).last_index, 2);
    cr_assert_eq(f.nodes[0].work[0].entries.count, 3);
    cr_assert_eq(f.nodes[0].work[0].entries.entries[2].term, 1, "what was handed out stays");
    fixture_run(&f);
    cr_assert_eq(f.nodes[0].count, 2);
    cr_assert_eq(f.nodes[0].entries[1].term, 2);
    fixture_fini(&f);
}

Test(raft_memory, refused_membership_leaves_the_old_one)
{
    struct raft_conf_change change = {
        .count = 3, .changes = {{RAFT_ADD_VOTER, 4}, {RAFT_ADD_VOTER, 5}, {RAFT_REMOVE_MEMBER, 3}}};

    fixture_prepare(&f, 3);
    fixture_start_all(&f);
    fixture_elect(&f, 1);
    cr_assert_gt(insist(do_apply_change, &change), 0);
    cr_assert_eq(fixture_progress(&f, 1, 5).state, RAFT_PROGRESS_PROBE);
    fixture_fini(&f);
}

Test(raft_memory, message_is_shorter_if_joining_is_refused)
{
    fixture_prepare(&f, 3);
    f.nodes[0].options.async_storage = true;
    fixture_start_all(&f);
    fixture_elect(&f, 1);
    fixture_isolate(&f, 3, true);
    cr_assert_eq(fixture_propose(&f, 1, "stable"), MS_OK);
    fixture_run(&f);
    fixture_isolate(&f, 3, false);
    cr_assert_eq(raft_report_unreachable(f.nodes[0].raft, 3), MS_OK);
    cr_assert_eq(fixture_propose(&f, 1, "unstable"), MS_OK);
    fixture_tick(&f, 1, 1);
    fixture_flush(&f, 1);
    while (fixture_count(&f, RAFT_MSG_HEARTBEAT_RESP, 1) == 0) { /* from 3 alone */
        size_t at = 0;

        while (f.queue[at].to != 3) {
            at++;
        }
        (void)fixture_deliver(&f, at);
        fixture_flush(&f, 3);
    }
    /* Any event reserves what the next one needs, too. */
    cr_assert_eq(raft_report_unreachable(f.nodes[0].raft, 3), MS_OK);
    /* One allocation for what storage returns; none to put the unstable entry behind it. */
    f.nodes[0].memory.countdown = 1;
    f.nodes[0].memory.refused = false;
    cr_assert_eq(fixture_deliver(&f, f.queued - 1), MS_OK);
    cr_assert(f.nodes[0].memory.refused);
    f.nodes[0].memory.countdown = -1;
    fixture_flush(&f, 1);
    cr_assert_eq(f.queue[f.queued - 1].type, RAFT_MSG_APP);
    cr_assert_eq(f.queue[f.queued - 1].entries.count, 1, "only the stable entry");
    fixture_run(&f);
    cr_assert_eq(fixture_status(&f, 3).commit, 3);
    fixture_fini(&f);
}

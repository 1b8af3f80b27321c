/*
 * Whole clusters under random faults: lost and reordered messages, crashes, slow disks, changes
 * of membership and compaction. Raft's safety properties (figure 3) hold throughout; once the
 * faults stop, entries commit again. MS_SEED replays a run.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "tests/unit/raftd/raft_fixture.h"

#define STEPS   6000
#define RUNS    8
#define INDEXES FIXTURE_ENTRIES_MAX

static struct fixture f;

/* What was applied first at each index; all nodes must agree (state machine safety). */
static struct {
    raft_term term;
    const void *data;
} history[INDEXES];
static raft_index history_last;

/* Who led in a term; there is at most one (election safety). */
static node_id leaders[INDEXES];

static void check_applied(struct fixture *fixture, struct fixture_node *node,
                          const struct raft_entry *entry)
{
    (void)fixture;
    cr_assert_lt(entry->index, INDEXES);
    if (entry->index > history_last) {
        cr_assert_eq(entry->index, history_last + 1);
        history_last = entry->index;
        history[entry->index].term = entry->term;
        history[entry->index].data = entry->data;
    }
    cr_assert_eq(history[entry->index].term, entry->term, "node %lu applied another entry %lu",
                 node->id, entry->index);
    cr_assert_eq(history[entry->index].data, entry->data);
}

static void check_leaders(void)
{
    for (size_t i = 0; i < f.count; i++) {
        struct raft_basic_status status;

        if (f.nodes[i].raft == NULL) {
            continue;
        }
        raft_basic_status(f.nodes[i].raft, &status);
        if (status.state != RAFT_STATE_LEADER) {
            continue;
        }
        cr_assert_lt(status.term, INDEXES);
        cr_assert(leaders[status.term] == 0 || leaders[status.term] == status.id,
                  "two leaders in term %lu", status.term);
        leaders[status.term] = status.id;
        /* Leader completeness: whatever was applied anywhere is in its log. */
        if (status.term_committed) {
            cr_assert_geq(status.last_index, f.nodes[i].applied);
        }
    }
}

static uint32_t below(uint32_t n)
{
    return fixture_draw(&f.seed, n);
}

static void random_change(struct fixture_node *node)
{
    static const enum raft_change_type types[] = {RAFT_ADD_VOTER, RAFT_ADD_LEARNER,
                                                  RAFT_REMOVE_MEMBER};
    struct raft_conf_change change = {.count = 1 + below(2),
                                      .transition = (enum raft_transition)below(2)};

    for (size_t i = 0; i < change.count; i++) {
        change.changes[i] = (struct raft_change){types[below(3)], 1 + below((uint32_t)f.count)};
    }
    if (change.count == 1) {
        change.transition = RAFT_TRANSITION_AUTO;
    }
    (void)raft_propose_conf_change(node->raft, &change); /* may be refused */
}

static void random_fault(struct fixture_node *node)
{
    switch (below(8)) {
    case 0:
        fixture_crash(&f, node->id);
        break;
    case 1:
    case 2:
        fixture_isolate(&f, node->id, below(2) == 0);
        break;
    case 3:
        if (node->applied > node->dummy_index) {
            fixture_compact(node, node->applied);
        }
        break;
    case 4:
        cr_assert_eq(raft_transfer_leader(node->raft, 1 + below((uint32_t)f.count)), MS_OK);
        break;
    case 5:
        node->fetch = !node->fetch;
        cr_assert_eq(raft_entries_available(node->raft), MS_OK);
        break;
    case 6:
        cr_assert_eq(raft_report_unreachable(node->raft, 1 + below((uint32_t)f.count)), MS_OK);
        cr_assert_eq(raft_report_snapshot(node->raft, 1 + below((uint32_t)f.count), below(2) == 0),
                     MS_OK);
        break;
    default:
        random_change(node);
        break;
    }
}

static void deliver_some(void)
{
    size_t count = below(8);

    for (size_t i = 0; i < count && f.queued > 0; i++) {
        /* Mostly in order; what a node sends itself is never lost nor overtaken. */
        size_t at = below(4) == 0 ? below((uint32_t)f.queued) : 0;
        const struct raft_message *message = &f.queue[at];
        bool internal = message->from == message->to || message->from > f.count;
        int rc;

        if (internal && at > 0) {
            continue;
        }
        if (!internal && below(20) == 0) {
            raft_message_release(&f.nodes[0].options.alloc, &f.queue[at]);
            f.queued--;
            memmove(&f.queue[at], &f.queue[at + 1], (f.queued - at) * sizeof(f.queue[0]));
            continue;
        }
        rc = fixture_deliver(&f, at);
        cr_assert(rc == MS_OK || rc == MS_ENOENT || rc == MS_EDROPPED, "step: %d", rc);
    }
}

/* Data is its own identity: the address of a byte that no other proposal uses. */
static const char bytes[2 * STEPS];
static size_t next_byte;

static void propose_something(struct fixture_node *node)
{
    struct raft_entry entry = {.data = &bytes[next_byte], .len_bytes = 1};

    cr_assert_lt(next_byte, sizeof(bytes));
    next_byte++;
    (void)raft_propose(node->raft, &entry, 1); /* may be refused */
}

static void work_some(struct fixture_node *node)
{
    uint32_t count = node->work_count > 0 ? 1 + below(6) : 0;

    while (count > 0 && fixture_work(&f, node)) {
        count--;
    }
}

static void random_step(void)
{
    struct fixture_node *node = &f.nodes[below((uint32_t)f.count)];

    if (node->raft == NULL) {
        if (below(4) == 0) {
            fixture_start(node);
        }
        return;
    }
    switch (below(10)) {
    case 0:
    case 1:
    case 2:
        cr_assert_eq(raft_tick(node->raft), MS_OK);
        break;
    case 3:
    case 4:
        propose_something(node);
        break;
    case 5:
        work_some(node);
        break;
    case 6:
        if (below(10) == 0) {
            random_fault(node);
        }
        break;
    default:
        break;
    }
    if (node->raft != NULL && node->work_count < 60) {
        (void)fixture_ready(&f, node);
    }
    deliver_some();
    check_leaders();
}

/* Whoever sends a snapshot must say what became of it; these were all lost. */
static void report_lost_snapshots(struct fixture_node *node)
{
    for (size_t i = 0; i < f.count; i++) {
        cr_assert_eq(raft_report_snapshot(node->raft, i + 1, true), MS_OK);
    }
}

static void heal(void)
{
    raft_index before = history_last;
    bool progress = false;

    memset(f.cut, 0, sizeof(f.cut));
    f.hold_storage = false;
    for (size_t i = 0; i < f.count; i++) {
        f.nodes[i].fetch = false;
        if (f.nodes[i].raft == NULL) {
            fixture_start(&f.nodes[i]);
        }
        cr_assert_eq(raft_entries_available(f.nodes[i].raft), MS_OK);
    }
    for (unsigned round = 0; round < 400 && !progress; round++) {
        for (size_t i = 0; i < f.count; i++) {
            cr_assert_eq(raft_tick(f.nodes[i].raft), MS_OK);
        }
        fixture_run(&f);
        check_leaders();
        for (size_t i = 0; i < f.count && round % 20 == 10; i++) {
            report_lost_snapshots(&f.nodes[i]);
            propose_something(&f.nodes[i]);
        }
        progress = history_last > before + 3;
    }
    cr_assert(progress, "nothing commits although nothing is broken");
}

static void run(uint64_t seed, size_t count, bool async_storage)
{
    (void)printf("MS_SEED=%" PRIu64 "\n", seed);
    (void)fflush(stdout);
    memset(history, 0, sizeof(history));
    memset(leaders, 0, sizeof(leaders));
    history_last = 0;
    next_byte = 0;
    fixture_prepare(&f, count);
    f.seed = seed;
    f.applied = check_applied;
    f.hold_storage = true;
    for (size_t i = 0; i < count; i++) {
        f.nodes[i].options.async_storage = async_storage;
        f.nodes[i].options.pre_vote = seed % 2 == 0;
        f.nodes[i].options.check_quorum = seed % 3 == 0;
        f.nodes[i].options.max_message_bytes = seed % 5 == 0 ? 30 : RAFT_NO_LIMIT;
        f.nodes[i].options.max_inflight_messages = 1 + (uint32_t)(seed % 7);
        f.nodes[i].options.step_down_on_removal = true;
    }
    fixture_start_all(&f);
    for (size_t i = 0; i < STEPS; i++) {
        random_step();
    }
    heal();
    fixture_fini(&f);
}

static uint64_t first_seed(void)
{
    const char *text = getenv("MS_SEED");

    return text != NULL ? strtoull(text, NULL, 10) : (uint64_t)time(NULL) * 1000;
}

Test(raft_random, figure_3_holds_with_asynchronous_storage, .timeout = 120)
{
    uint64_t seed = first_seed();

    for (uint64_t i = 0; i < RUNS; i++) {
        run(seed + i, 3 + (seed + i) % 3, true);
    }
}

Test(raft_random, figure_3_holds_with_synchronous_storage, .timeout = 120)
{
    uint64_t seed = first_seed();

    for (uint64_t i = 0; i < RUNS; i++) {
        run(seed + i, 3 + (seed + i) % 3, false);
    }
}

struct regression {
    uint64_t seed;
    bool async_storage;
};

static void run_again(const struct regression *runs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        run(runs[i].seed, 3 + runs[i].seed % 3, runs[i].async_storage);
    }
}

/*
 * Nobody could be elected any more: who knew that a change was committed had been removed or
 * demoted by it, and the rest needed votes of those whose logs were longer.
 */
Test(raft_random, thesis_4_2_2_leaders_that_remove_themselves_leave_an_electable_rest,
     .timeout = 120)
{
    static const struct regression runs[] = {
        {310, false}, {394, false},           {762, false}, {825, false}, {918, false},
        {930, false}, {1795242719001, false}, {594, true},  {633, true},  {1599, true},
    };

    run_again(runs, sizeof(runs) / sizeof(runs[0]));
}

/*
 * A leader went on for ever in a term that was over for the member it needed, which was back
 * after a removal that it knew of, and so did not campaign.
 */
Test(raft_random, 5_1_leaders_hear_of_later_terms, .timeout = 120)
{
    static const struct regression runs[] = {{5004643, false}};

    run_again(runs, sizeof(runs) / sizeof(runs[0]));
}

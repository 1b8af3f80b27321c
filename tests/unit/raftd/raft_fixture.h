/*
 * raft_fixture: a cluster of cores in one process, for tests of raftd/core.
 *
 * Each node has an in-memory log and an allocator that counts what is live and can refuse.
 * Messages go through one queue that a test may look at, drop from or hold back.
 */
#ifndef METASTORE_TESTS_UNIT_RAFTD_RAFT_FIXTURE_H
#define METASTORE_TESTS_UNIT_RAFTD_RAFT_FIXTURE_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "raftd/core/raft.h"

#define FIXTURE_NODES_MAX   5
#define FIXTURE_ENTRIES_MAX 4096
#define FIXTURE_QUEUE_MAX   8192
#define FIXTURE_READS_MAX   64

/* Counts live allocations; refuses the one after countdown more, if that is not negative. */
struct fixture_memory {
    long live;
    long countdown;
    bool refused;
};

static inline void *fixture_take(void *ctx, size_t len_bytes)
{
    struct fixture_memory *memory = ctx;
    void *result;

    if (memory->countdown == 0) {
        memory->refused = true;
        return NULL;
    }
    memory->countdown -= memory->countdown > 0;
    result = malloc(len_bytes);
    cr_assert_not_null(result);
    memory->live++;
    return result;
}

static inline void fixture_give(void *ctx, void *bytes)
{
    struct fixture_memory *memory = ctx;

    memory->live--;
    free(bytes);
}

struct fixture_node {
    node_id id;
    struct raft_options options;
    struct raft *raft; /* NULL while it is down */
    struct fixture_memory memory;
    /* What survives a restart. */
    struct raft_hard_state hard;
    struct raft_conf_state conf; /* as of applied */
    raft_index dummy_index;
    raft_term dummy_term;
    struct raft_entry entries[FIXTURE_ENTRIES_MAX];
    size_t count;
    raft_index applied;
    struct raft_read_state reads[FIXTURE_READS_MAX];
    size_t read_count;
    bool fetch;                   /* storage says MS_EAGAIN for entries */
    struct raft_message work[64]; /* for the storage threads, oldest first */
    size_t work_count;
};

struct fixture {
    struct fixture_node nodes[FIXTURE_NODES_MAX];
    size_t count;
    struct raft_message queue[FIXTURE_QUEUE_MAX];
    size_t queued;
    uint64_t seed;
    bool hold_storage; /* storage messages wait for fixture_work() */
    void (*applied)(struct fixture *f, struct fixture_node *node, const struct raft_entry *entry);
    bool cut[FIXTURE_NODES_MAX + 1][FIXTURE_NODES_MAX + 1]; /* from, to: messages are lost */
};

/* splitmix64 */
static inline uint64_t fixture_random(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint32_t fixture_draw(void *ctx, uint32_t n)
{
    return (uint32_t)(fixture_random(ctx) % n);
}

/* ---- storage ---- */

static inline int fixture_initial(void *ctx, struct raft_hard_state *hard,
                                  struct raft_conf_state *conf)
{
    const struct fixture_node *node = ctx;

    *hard = node->hard;
    *conf = node->conf;
    return MS_OK;
}

static inline raft_index fixture_first(void *ctx)
{
    return ((const struct fixture_node *)ctx)->dummy_index + 1;
}

static inline raft_index fixture_last(void *ctx)
{
    const struct fixture_node *node = ctx;

    return node->dummy_index + node->count;
}

static inline int fixture_entries(void *ctx, raft_index first, raft_index end, uint64_t max_bytes,
                                  struct raft_slice *out)
{
    const struct fixture_node *node = ctx;
    const struct raft_entry *entries;

    if (first <= node->dummy_index) {
        return MS_ECOMPACTED;
    }
    if (node->fetch) {
        return MS_EAGAIN;
    }
    entries = &node->entries[first - node->dummy_index - 1];
    return raft_slice_create(&node->options.alloc, entries,
                             raft_entries_fit(entries, (size_t)(end - first), max_bytes), out);
}

static inline int fixture_term(void *ctx, raft_index index, raft_term *term)
{
    const struct fixture_node *node = ctx;

    if (index < node->dummy_index) {
        return MS_ECOMPACTED;
    }
    if (index > node->dummy_index + node->count) {
        return MS_EUNAVAILABLE;
    }
    *term = index == node->dummy_index ? node->dummy_term
                                       : node->entries[index - node->dummy_index - 1].term;
    return MS_OK;
}

/* Snapshots are made on demand, of what is applied. */
static inline int fixture_snapshot(void *ctx, struct raft_snapshot **out)
{
    struct fixture_node *node = ctx;
    raft_term term;

    if (node->applied == 0 || fixture_term(node, node->applied, &term) != MS_OK) {
        return MS_EAGAIN;
    }
    return raft_snapshot_create(&node->options.alloc, node->applied, term, &node->conf, NULL, out);
}

static inline void fixture_cut_log(struct fixture_node *node, size_t keep)
{
    while (node->count > keep) {
        node->count--;
        raft_buffer_release(node->entries[node->count].owner);
    }
}

/* Forgets the log up to index, which must be in it. */
static inline void fixture_compact(struct fixture_node *node, raft_index index)
{
    size_t gone = (size_t)(index - node->dummy_index);

    cr_assert(index > node->dummy_index && gone <= node->count);
    node->dummy_term = node->entries[gone - 1].term;
    node->dummy_index = index;
    for (size_t i = 0; i < gone; i++) {
        raft_buffer_release(node->entries[i].owner);
    }
    node->count -= gone;
    memmove(node->entries, node->entries + gone, node->count * sizeof(node->entries[0]));
}

/* ---- life ---- */

/* A node with id of voters 1 .. count, not started. */
static inline void fixture_prepare(struct fixture *f, size_t count)
{
    memset(f, 0, sizeof(*f));
    f->count = count;
    f->seed = 1;
    for (size_t i = 0; i < count; i++) {
        struct fixture_node *node = &f->nodes[i];

        node->id = i + 1;
        node->memory.countdown = -1;
        for (size_t v = 0; v < count; v++) {
            node->conf.voters.ids[node->conf.voters.count++] = v + 1;
        }
        node->options = (struct raft_options){
            .id = node->id,
            .election_ticks = 10,
            .heartbeat_ticks = 1,
            .max_message_bytes = RAFT_NO_LIMIT,
            .max_inflight_messages = 256,
            .alloc = {.alloc = fixture_take, .free = fixture_give, .ctx = &node->memory},
            .storage = {.initial_state = fixture_initial,
                        .entries = fixture_entries,
                        .term = fixture_term,
                        .first_index = fixture_first,
                        .last_index = fixture_last,
                        .snapshot = fixture_snapshot,
                        .ctx = node},
            .draw = fixture_draw,
            .draw_ctx = &f->seed,
        };
    }
}

static inline struct fixture_node *fixture_node(struct fixture *f, node_id id)
{
    return &f->nodes[id - 1];
}

static inline void fixture_start(struct fixture_node *node)
{
    node->options.applied = node->applied;
    cr_assert_eq(raft_create(&node->options, &node->raft), MS_OK);
}

static inline void fixture_start_all(struct fixture *f)
{
    for (size_t i = 0; i < f->count; i++) {
        fixture_start(&f->nodes[i]);
    }
}

/* Loses all that was not written, and messages to the node. */
static inline void fixture_crash(struct fixture *f, node_id id)
{
    struct fixture_node *node = fixture_node(f, id);
    size_t kept = 0;

    raft_destroy(node->raft);
    node->raft = NULL;
    for (size_t i = 0; i < f->queued; i++) {
        if (f->queue[i].to == id) {
            raft_message_release(&node->options.alloc, &f->queue[i]);
        } else {
            f->queue[kept++] = f->queue[i];
        }
    }
    f->queued = kept;
    for (size_t i = 0; i < node->work_count; i++) {
        raft_message_release(&node->options.alloc, &node->work[i]);
    }
    node->work_count = 0;
}

/* Ends everything and checks that no memory is left over. */
static inline void fixture_fini(struct fixture *f)
{
    for (size_t i = 0; i < f->count; i++) {
        fixture_crash(f, i + 1);
        fixture_cut_log(&f->nodes[i], 0);
    }
    for (size_t i = 0; i < f->count; i++) {
        cr_assert_eq(f->nodes[i].memory.live, 0, "node %zu leaks %ld", i + 1,
                     f->nodes[i].memory.live);
    }
}

/* ---- running ---- */

static inline void fixture_send(struct fixture *f, struct raft_message *message)
{
    bool lost =
        message->to > f->count || (message->from <= f->count && f->cut[message->from][message->to]);

    if (lost) {
        raft_message_release(&f->nodes[0].options.alloc, message);
        return;
    }
    cr_assert_lt(f->queued, FIXTURE_QUEUE_MAX);
    raft_message_take(&f->queue[f->queued++], message);
}

static inline void fixture_write(struct fixture_node *node, const struct raft_hard_state *hard,
                                 const struct raft_snapshot *snapshot,
                                 const struct raft_slice *entries)
{
    if (hard->term != 0 || hard->vote != 0 || hard->commit != 0) {
        node->hard = *hard;
    }
    if (snapshot != NULL) {
        fixture_cut_log(node, 0);
        node->dummy_index = snapshot->index;
        node->dummy_term = snapshot->term;
        node->conf = snapshot->conf;
        node->applied = snapshot->index;
    }
    if (entries->count > 0 && entries->entries[0].index > node->dummy_index) {
        size_t keep = (size_t)(entries->entries[0].index - node->dummy_index - 1);

        cr_assert_leq(keep, node->count, "a gap in the log of node %lu", node->id);
        cr_assert_leq(keep + entries->count, FIXTURE_ENTRIES_MAX);
        fixture_cut_log(node, keep);
        for (size_t i = 0; i < entries->count; i++) {
            raft_buffer_ref(entries->entries[i].owner);
            node->entries[node->count++] = entries->entries[i];
        }
    }
}

static inline void fixture_apply(struct fixture *f, struct fixture_node *node,
                                 const struct raft_slice *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        const struct raft_entry *entry = &entries->entries[i];
        struct raft_conf_change change;

        cr_assert_eq(entry->index, node->applied + 1, "applied out of order");
        node->applied = entry->index;
        if (entry->type != RAFT_ENTRY_NORMAL) {
            int rc;

            cr_assert_eq(raft_conf_change_decode(entry, &change), MS_OK);
            rc = raft_apply_conf_change(node->raft, &change, &node->conf);
            cr_assert(rc == MS_OK || rc == MS_EINVAL);
        }
        if (f->applied != NULL) {
            f->applied(f, node, entry);
        }
    }
}

/* Does the oldest storage work of a node; false if there is none. */
static inline bool fixture_work(struct fixture *f, struct fixture_node *node)
{
    struct raft_message message;

    if (node->work_count == 0) {
        return false;
    }
    message = node->work[0];
    node->work_count--;
    memmove(node->work, node->work + 1, node->work_count * sizeof(node->work[0]));
    if (message.type == RAFT_MSG_STORAGE_APPEND) {
        struct raft_hard_state hard = {
            .term = message.term, .vote = message.vote, .commit = message.commit};

        fixture_write(node, &hard, message.snapshot, &message.entries);
    } else {
        fixture_apply(f, node, &message.entries);
    }
    for (size_t i = 0; i < message.response_count; i++) {
        fixture_send(f, &message.responses[i]);
    }
    raft_message_release(&node->options.alloc, &message);
    return true;
}

/* Deals with one ready; false if there is none. */
static inline bool fixture_ready(struct fixture *f, struct fixture_node *node)
{
    struct raft_ready ready;

    if (!raft_has_ready(node->raft)) {
        return false;
    }
    cr_assert_eq(raft_ready(node->raft, &ready), MS_OK);
    if (!node->options.async_storage) {
        fixture_write(node, &ready.hard_state, ready.snapshot, &ready.entries);
        fixture_apply(f, node, &ready.committed);
    }
    for (size_t i = 0; i < ready.message_count; i++) {
        struct raft_message *message = &ready.messages[i];

        if (message->to == RAFT_APPEND_THREAD || message->to == RAFT_APPLY_THREAD) {
            cr_assert_lt(node->work_count, sizeof(node->work) / sizeof(node->work[0]));
            raft_message_take(&node->work[node->work_count++], message);
        } else {
            fixture_send(f, message);
        }
    }
    for (size_t i = 0; i < ready.read_state_count; i++) {
        cr_assert_lt(node->read_count, FIXTURE_READS_MAX);
        node->reads[node->read_count++] = ready.read_states[i];
    }
    if (!node->options.async_storage) {
        cr_assert_eq(raft_advance(node->raft), MS_OK);
    }
    raft_ready_release(node->raft, &ready);
    return true;
}

/* Takes message at out of the queue and gives it to its node; what raft_step() said. */
static inline int fixture_deliver(struct fixture *f, size_t at)
{
    struct raft_message message = f->queue[at];
    struct fixture_node *node = fixture_node(f, message.to);
    int rc = MS_OK;

    f->queued--;
    memmove(&f->queue[at], &f->queue[at + 1], (f->queued - at) * sizeof(f->queue[0]));
    if (node->raft != NULL) {
        rc = raft_step(node->raft, &message);
    }
    raft_message_release(&node->options.alloc, &message);
    return rc;
}

/* Until nothing is left to do. Responses from members that are none any more are fine. */
static inline void fixture_run(struct fixture *f)
{
    bool busy = true;

    while (busy) {
        busy = false;
        for (size_t i = 0; i < f->count; i++) {
            struct fixture_node *node = &f->nodes[i];

            while (node->raft != NULL && fixture_ready(f, node)) {
                busy = true;
            }
            while (!f->hold_storage && fixture_work(f, node)) {
                busy = true;
            }
        }
        while (f->queued > 0) {
            int rc = fixture_deliver(f, 0);

            cr_assert(rc == MS_OK || rc == MS_ENOENT || rc == MS_EDROPPED, "step: %d", rc);
            busy = true;
        }
    }
}

/* Loses every message between the node and all others from now on, or no longer. */
static inline void fixture_isolate(struct fixture *f, node_id id, bool isolated)
{
    for (size_t i = 1; i <= f->count; i++) {
        f->cut[id][i] = isolated && i != id;
        f->cut[i][id] = isolated && i != id;
    }
}

static inline void fixture_elect(struct fixture *f, node_id id)
{
    struct raft_basic_status status;

    cr_assert_eq(raft_campaign(fixture_node(f, id)->raft), MS_OK);
    fixture_run(f);
    raft_basic_status(fixture_node(f, id)->raft, &status);
    cr_assert_eq(status.state, RAFT_STATE_LEADER);
}

static inline void fixture_tick(struct fixture *f, node_id id, unsigned ticks)
{
    for (unsigned i = 0; i < ticks; i++) {
        cr_assert_eq(raft_tick(fixture_node(f, id)->raft), MS_OK);
    }
}

/* Proposes constant text on a node. */
static inline int fixture_propose(struct fixture *f, node_id id, const char *text)
{
    struct raft_entry entry = {.data = text, .len_bytes = strlen(text)};

    return raft_propose(fixture_node(f, id)->raft, &entry, 1);
}

static inline struct raft_basic_status fixture_status(struct fixture *f, node_id id)
{
    struct raft_basic_status status;

    raft_basic_status(fixture_node(f, id)->raft, &status);
    return status;
}

static inline struct raft_progress_status fixture_progress(struct fixture *f, node_id leader,
                                                           node_id peer)
{
    static struct raft_status status;

    raft_status(fixture_node(f, leader)->raft, &status);
    for (size_t i = 0; i < status.progress_count; i++) {
        if (status.progress[i].id == peer) {
            return status.progress[i];
        }
    }
    cr_assert_fail("node %lu does not track %lu", leader, peer);
    return (struct raft_progress_status){0};
}

/* How many messages of a type to a node are in the queue. */
static inline size_t fixture_count(const struct fixture *f, enum raft_message_type type, node_id to)
{
    size_t count = 0;

    for (size_t i = 0; i < f->queued; i++) {
        count += f->queue[i].type == type && f->queue[i].to == to;
    }
    return count;
}

/* Handles the readies of one node, without delivering anything. */
static inline void fixture_flush(struct fixture *f, node_id id)
{
    while (fixture_ready(f, fixture_node(f, id))) {
    }
}

#endif

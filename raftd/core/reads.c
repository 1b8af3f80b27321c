/*
 * reads: linearizable reads without log entries (thesis 6.4).
 *
 * The leader notes its commit index, makes sure that it still leads, and answers with that
 * index. One heartbeat round confirms all reads that came before it: rounds are counted, a
 * peer confirms the highest it has heard of.
 */
#include <assert.h>
#include <string.h>

#include "raftd/core/core.h"

#define READS_CAPACITY_MIN 64

/* Doubles *capacity until needed fit; a new array with used elements copied, or MS_ENOMEM. */
static int grow(const struct raft_alloc *alloc, void **array, size_t element_bytes, size_t start,
                size_t used, size_t needed, size_t *capacity)
{
    size_t grown = *capacity < READS_CAPACITY_MIN ? READS_CAPACITY_MIN : *capacity;
    void *fresh;

    while (grown < needed) {
        grown *= 2;
    }
    fresh = alloc->alloc(alloc->ctx, grown * element_bytes);
    if (fresh == NULL) {
        return MS_ENOMEM;
    }
    if (*array != NULL) {
        memcpy(fresh, (char *)*array + start * element_bytes, used * element_bytes);
        alloc->free(alloc->ctx, *array);
    }
    *array = fresh;
    *capacity = grown;
    return MS_OK;
}

/* Room for extra more requests in the queue. */
static int reserve_requests(struct raft *raft, size_t extra)
{
    struct reads *reads = &raft->reads;
    void *items = reads->items;
    int rc;

    if (extra > RAFT_READS_MAX - reads->count) {
        return MS_EFULL;
    }
    if (reads->start + reads->count + extra <= reads->capacity) {
        return MS_OK;
    }
    if (reads->count + extra <= reads->capacity / 2) {
        memmove(reads->items, &reads->items[reads->start], reads->count * sizeof(*reads->items));
        reads->start = 0;
        return MS_OK;
    }
    rc = grow(&raft->options.alloc, &items, sizeof(*reads->items), reads->start, reads->count,
              reads->count + extra, &reads->capacity);
    if (rc == MS_OK) {
        reads->items = items;
        reads->start = 0;
    }
    return rc;
}

int core_reads_reserve(struct raft *raft, size_t extra)
{
    size_t answers = raft->read_state_count + raft->reads.count + extra + 1;
    void *states = raft->read_states;
    int rc = reserve_requests(raft, extra);

    if (rc != MS_OK) {
        return rc;
    }
    if (answers <= raft->read_state_capacity) {
        return MS_OK;
    }
    if (raft->read_state_count > RAFT_READS_MAX) {
        return MS_EFULL;
    }
    rc = grow(&raft->options.alloc, &states, sizeof(*raft->read_states), 0, raft->read_state_count,
              answers, &raft->read_state_capacity);
    raft->read_states = states;
    return rc;
}

void core_reads_fini(struct raft *raft)
{
    const struct raft_alloc *alloc = &raft->options.alloc;

    if (raft->reads.items != NULL) {
        alloc->free(alloc->ctx, raft->reads.items);
    }
    if (raft->read_states != NULL) {
        alloc->free(alloc->ctx, raft->read_states);
    }
}

void core_reads_reset(struct raft *raft)
{
    raft->reads.start = 0;
    raft->reads.count = 0;
    raft->reads.pending = 0;
    raft->reads.confirmed = 0;
}

/* ---- answers ---- */

void core_reads_answer_self(struct raft *raft, struct raft_read_id id, raft_index index)
{
    assert(raft->read_state_count < raft->read_state_capacity);
    raft->read_states[raft->read_state_count++] =
        (struct raft_read_state){.id = id, .index = index};
}

static void answer(struct raft *raft, const struct read_request *request)
{
    struct raft_message *message;

    if (request->from == raft->id || request->from == RAFT_NONE) {
        core_reads_answer_self(raft, request->id, request->index);
        return;
    }
    message = core_outbox_push(raft, RAFT_MSG_READ_INDEX_RESP, request->from);
    message->index = request->index;
    message->read_id = request->id;
}

static void pop(struct reads *reads)
{
    reads->start++;
    reads->count--;
    if (reads->count == 0) {
        reads->start = 0;
    }
}

/* ---- requests ---- */

/* Whether the leader may answer without asking anybody. */
static bool needs_no_round(const struct raft *raft)
{
    return tracker_singleton(&raft->tracker) ||
           (raft->options.read_mode == RAFT_READ_LEASE && !raft->lease_broken);
}

static bool term_committed(const struct raft *raft)
{
    return raftlog_term_or_zero(&raft->log, raft->log.committed) == raft->term;
}

/* Starts a round for the reads that have none yet. */
static void start_round(struct raft *raft)
{
    struct progress *own = tracker_find(&raft->tracker, raft->id);

    if (own != NULL) {
        own->read_acked = core_reads_round(raft);
    }
    core_replicate_heartbeat(raft);
}

void core_reads_request(struct raft *raft, struct raft_read_id id, node_id from)
{
    struct reads *reads = &raft->reads;
    struct read_request request = {.id = id, .from = from};

    if (term_committed(raft)) {
        request.index = raft->log.committed;
        if (needs_no_round(raft)) {
            answer(raft, &request);
            return;
        }
    }
    assert(reads->start + reads->count < reads->capacity);
    reads->items[reads->start + reads->count++] = request;
    if (request.index == 0) {
        /* What earlier leaders have committed is not known before that. */
        reads->pending++;
    } else {
        start_round(raft);
    }
}

void core_reads_release(struct raft *raft)
{
    struct reads *reads = &raft->reads;

    if (reads->pending == 0 || !term_committed(raft)) {
        return;
    }
    /* Nothing else waits: before the first commit no read gets a round. */
    assert(reads->pending == reads->count);
    for (size_t i = 0; i < reads->count; i++) {
        reads->items[reads->start + i].index = raft->log.committed;
    }
    reads->pending = 0;
    if (needs_no_round(raft)) {
        while (reads->count > 0) {
            answer(raft, &reads->items[reads->start]);
            pop(reads);
        }
        return;
    }
    start_round(raft);
}

uint64_t core_reads_round(const struct raft *raft)
{
    size_t waiting = raft->reads.count - raft->reads.pending;

    return waiting == 0 ? 0 : raft->reads.confirmed + waiting;
}

int core_reads_acknowledge(struct raft *raft, struct progress *progress, uint64_t round)
{
    if (round > raft->reads.confirmed + raft->reads.count - raft->reads.pending) {
        return MS_ECORRUPT;
    }
    if (round > progress->read_acked) {
        progress->read_acked = round;
        core_reads_advance(raft);
    }
    return MS_OK;
}

void core_reads_advance(struct raft *raft)
{
    struct reads *reads = &raft->reads;
    uint64_t confirmed = tracker_reads_confirmed(&raft->tracker);

    while (reads->count > reads->pending && reads->confirmed < confirmed) {
        answer(raft, &reads->items[reads->start]);
        pop(reads);
        reads->confirmed++;
    }
}

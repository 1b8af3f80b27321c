/*
 * progress: see progress.h.
 */
#include "raftd/core/progress.h"

#include <assert.h>
#include <string.h>

#define INFLIGHTS_CAPACITY_MIN 32

static raft_index min_index(raft_index a, raft_index b)
{
    return a < b ? a : b;
}

static raft_index max_index(raft_index a, raft_index b)
{
    return a > b ? a : b;
}

/* ---- window ---- */

int inflights_reserve(const struct raft_alloc *alloc, struct inflights *inflights, size_t extra)
{
    size_t room = inflights->max_count - inflights->count;
    size_t needed = inflights->count + (extra < room ? extra : room);
    size_t capacity = inflights->capacity;
    struct inflight *ring;

    if (needed <= capacity) {
        return MS_OK;
    }
    capacity = capacity < INFLIGHTS_CAPACITY_MIN ? INFLIGHTS_CAPACITY_MIN : capacity;
    while (capacity < needed) {
        capacity *= 2;
    }
    ring = alloc->alloc(alloc->ctx, capacity * sizeof(*ring));
    if (ring == NULL) {
        return MS_ENOMEM;
    }
    for (size_t i = 0; i < inflights->count; i++) {
        ring[i] = inflights->ring[(inflights->start + i) % inflights->capacity];
    }
    inflights_fini(alloc, inflights);
    inflights->ring = ring;
    inflights->capacity = capacity;
    inflights->start = 0;
    return MS_OK;
}

void inflights_fini(const struct raft_alloc *alloc, struct inflights *inflights)
{
    if (inflights->ring != NULL) {
        alloc->free(alloc->ctx, inflights->ring);
    }
    inflights->ring = NULL;
    inflights->capacity = 0;
}

bool inflights_full(const struct inflights *inflights)
{
    return inflights->count == inflights->max_count ||
           (inflights->max_bytes != 0 && inflights->bytes >= inflights->max_bytes);
}

void inflights_add(struct inflights *inflights, raft_index index, uint64_t bytes)
{
    size_t slot;

    assert(!inflights_full(inflights));
    assert(inflights->count < inflights->capacity);
    slot = (inflights->start + inflights->count) % inflights->capacity;
    inflights->ring[slot] = (struct inflight){.index = index, .bytes = bytes};
    inflights->count++;
    inflights->bytes += bytes;
}

void inflights_free_to(struct inflights *inflights, raft_index index)
{
    while (inflights->count > 0 && inflights->ring[inflights->start].index <= index) {
        inflights->bytes -= inflights->ring[inflights->start].bytes;
        inflights->start = (inflights->start + 1) % inflights->capacity;
        inflights->count--;
    }
}

void inflights_reset(struct inflights *inflights)
{
    inflights->start = 0;
    inflights->count = 0;
    inflights->bytes = 0;
}

/* ---- states ---- */

static void enter(struct progress *progress, enum raft_progress_state state)
{
    progress->flow_paused = false;
    progress->pending_snapshot = 0;
    progress->state = state;
    inflights_reset(&progress->inflights);
}

void progress_become_probe(struct progress *progress)
{
    /* After a snapshot that was delivered, what follows it is what the member needs next. */
    raft_index known = progress->state == RAFT_PROGRESS_SNAPSHOT ? progress->pending_snapshot : 0;

    enter(progress, RAFT_PROGRESS_PROBE);
    progress->next = max_index(progress->match, known) + 1;
    progress->sent_commit = min_index(progress->sent_commit, progress->next - 1);
}

void progress_become_replicate(struct progress *progress)
{
    enter(progress, RAFT_PROGRESS_REPLICATE);
    progress->next = progress->match + 1;
}

void progress_become_snapshot(struct progress *progress, raft_index index)
{
    enter(progress, RAFT_PROGRESS_SNAPSHOT);
    progress->pending_snapshot = index;
    progress->next = index + 1;
    progress->sent_commit = index;
}

void progress_reset(struct progress *progress, raft_index match, raft_index next)
{
    enter(progress, RAFT_PROGRESS_PROBE);
    progress->match = match;
    progress->next = next;
    progress->sent_commit = 0;
    progress->recent_active = false;
    progress->fetch_wait = false;
    progress->vote = QUORUM_VOTE_NONE;
    progress->read_acked = 0;
}

/* ---- events ---- */

void progress_sent(struct progress *progress, size_t count, uint64_t bytes)
{
    assert(progress->state != RAFT_PROGRESS_SNAPSHOT);
    if (progress->state == RAFT_PROGRESS_PROBE) {
        progress->flow_paused = progress->flow_paused || count > 0;
        return;
    }
    if (count > 0) {
        progress->next += count;
        inflights_add(&progress->inflights, progress->next - 1, bytes);
    }
    /* With the window full, this message is the one that finds out whether any arrive. */
    progress->flow_paused = inflights_full(&progress->inflights);
}

bool progress_can_bump_commit(const struct progress *progress, raft_index commit)
{
    return commit > progress->sent_commit && progress->sent_commit < progress->next - 1;
}

bool progress_update(struct progress *progress, raft_index index)
{
    if (index <= progress->match) {
        return false;
    }
    progress->match = index;
    progress->next = max_index(progress->next, index + 1);
    progress->flow_paused = false;
    return true;
}

bool progress_decrease(struct progress *progress, raft_index rejected, raft_index hint)
{
    if (progress->state == RAFT_PROGRESS_REPLICATE) {
        if (rejected <= progress->match) {
            return false; /* it has accepted that index since */
        }
        progress->next = progress->match + 1;
    } else {
        /* A probe is one message at next - 1; any other rejection is an old one. */
        if (progress->next - 1 != rejected) {
            return false;
        }
        progress->next = max_index(min_index(rejected, hint + 1), progress->match + 1);
        progress->flow_paused = false;
    }
    progress->sent_commit = min_index(progress->sent_commit, progress->next - 1);
    return true;
}

bool progress_paused(const struct progress *progress)
{
    return progress->state == RAFT_PROGRESS_SNAPSHOT || progress->flow_paused;
}

void progress_text(struct text *text, const struct progress *progress)
{
    static const char *const names[] = {
        [RAFT_PROGRESS_PROBE] = "StateProbe",
        [RAFT_PROGRESS_REPLICATE] = "StateReplicate",
        [RAFT_PROGRESS_SNAPSHOT] = "StateSnapshot",
    };

    core_text_str(text, names[progress->state]);
    core_text_str(text, " match=");
    core_text_dec(text, progress->match);
    core_text_str(text, " next=");
    core_text_dec(text, progress->next);
    if (progress->is_learner) {
        core_text_str(text, " learner");
    }
    if (progress_paused(progress)) {
        core_text_str(text, " paused");
    }
    if (progress->pending_snapshot > 0) {
        core_text_str(text, " pendingSnap=");
        core_text_dec(text, progress->pending_snapshot);
    }
    if (!progress->recent_active) {
        core_text_str(text, " inactive");
    }
    if (progress->inflights.count > 0) {
        core_text_str(text, " inflight=");
        core_text_dec(text, progress->inflights.count);
        if (inflights_full(&progress->inflights)) {
            core_text_str(text, "[full]");
        }
    }
}

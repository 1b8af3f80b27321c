/*
 * unstable: see unstable.h.
 */
#include "raftd/core/unstable.h"

#include <assert.h>
#include <string.h>

#define BLOCK_CAPACITY_MIN 64

void unstable_init(struct unstable *unstable, const struct raft_alloc *alloc,
                   const struct logger *logger, raft_index offset)
{
    memset(unstable, 0, sizeof(*unstable));
    unstable->alloc = *alloc;
    unstable->logger = logger;
    unstable->offset = offset;
    unstable->offset_in_progress = offset;
}

void unstable_fini(struct unstable *unstable)
{
    core_block_release(unstable->block);
    core_block_release(unstable->spare);
    raft_snapshot_release(unstable->snapshot);
}

static uint64_t payload_bytes(const struct raft_entry *entries, size_t count)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        bytes += entries[i].len_bytes;
    }
    return bytes;
}

static const struct raft_entry *entries_of(const struct unstable *unstable)
{
    return unstable->block == NULL ? NULL : &unstable->block->entries[unstable->start];
}

/* ---- growing ---- */

/* Starts over at the front of the block, if nobody else can see what is in it. */
static void reuse_empty_block(struct unstable *unstable)
{
    if (unstable->count == 0 && unstable->block != NULL && unstable->block->refs == 1) {
        core_block_forget(unstable->block, unstable->block->used);
        unstable->block->used = 0;
        unstable->block->released = 0;
        unstable->start = 0;
    }
}

static struct raft_block *bigger_block(const struct unstable *unstable, size_t count)
{
    size_t capacity = 2 * (unstable->count + count);

    return core_block_create(&unstable->alloc,
                             capacity < BLOCK_CAPACITY_MIN ? BLOCK_CAPACITY_MIN : capacity);
}

int unstable_reserve(struct unstable *unstable, size_t count, bool replacing)
{
    struct raft_block *block;

    if (replacing &&
        (unstable->spare == NULL || unstable->spare->capacity < unstable->count + count)) {
        block = bigger_block(unstable, count);
        if (block == NULL) {
            return MS_ENOMEM;
        }
        core_block_release(unstable->spare);
        unstable->spare = block;
    }
    reuse_empty_block(unstable);
    if (unstable->block != NULL && count <= unstable->block->capacity - unstable->block->used) {
        return MS_OK;
    }
    block = bigger_block(unstable, count);
    if (block == NULL) {
        return MS_ENOMEM;
    }
    if (unstable->count > 0) {
        core_block_append(block, entries_of(unstable), unstable->count);
    }
    core_block_release(unstable->block);
    unstable->block = block;
    unstable->start = 0;
    return MS_OK;
}

struct raft_entry *unstable_stage(struct unstable *unstable, const struct raft_entry *entries,
                                  size_t count)
{
    struct raft_block *block = unstable->block;
    struct raft_entry *staged;

    assert(block != NULL && count <= block->capacity - block->used);
    staged = &block->entries[block->used];
    memmove(staged, entries, count * sizeof(*entries)); /* entries may be staged already */
    return staged;
}

/* Keeps the first keep entries and makes the rest of the block writable. */
static void cut(struct unstable *unstable, size_t keep)
{
    struct raft_block *old = unstable->block;

    if (old == NULL || keep == unstable->count) {
        return;
    }
    /* Slices that were handed out may show what is cut off, so it stays as it is. */
    assert(unstable->spare != NULL && unstable->spare->used == 0);
    core_block_append(unstable->spare, entries_of(unstable), keep);
    unstable->block = unstable->spare;
    unstable->spare = NULL;
    unstable->start = 0;
    unstable->count = keep;
    core_block_release(old);
    unstable->bytes = payload_bytes(entries_of(unstable), keep);
}

void unstable_append(struct unstable *unstable, const struct raft_entry *entries, size_t count)
{
    raft_index first = entries[0].index;

    assert(count > 0);
    if (first == unstable->offset + unstable->count) {
        /* Continues what is here. */
    } else if (first <= unstable->offset) {
        core_logger_write(unstable->logger, RAFT_LOG_INFO,
                          "replace the unstable entries from index %lu", first);
        cut(unstable, 0);
        unstable->offset = first;
        unstable->offset_in_progress = first;
    } else {
        core_logger_write(unstable->logger, RAFT_LOG_INFO,
                          "truncate the unstable entries before index %lu", first);
        cut(unstable, (size_t)(first - unstable->offset));
        if (unstable->offset_in_progress > first) {
            unstable->offset_in_progress = first;
        }
    }
    core_block_append(unstable->block, entries, count);
    unstable->count += count;
    unstable->bytes += payload_bytes(entries, count);
}

void unstable_restore(struct unstable *unstable, struct raft_snapshot *snapshot)
{
    struct raft_snapshot *old = unstable->snapshot;

    unstable->snapshot = raft_snapshot_ref(snapshot);
    raft_snapshot_release(old);
    unstable->snapshot_in_progress = false;
    unstable->offset = snapshot->index + 1;
    unstable->offset_in_progress = unstable->offset;
    unstable->start += unstable->count;
    unstable->count = 0;
    unstable->bytes = 0;
    reuse_empty_block(unstable);
}

/* ---- reading ---- */

const struct raft_entry *unstable_entry(const struct unstable *unstable, raft_index index)
{
    if (index < unstable->offset || index - unstable->offset >= unstable->count) {
        return NULL;
    }
    return &entries_of(unstable)[index - unstable->offset];
}

bool unstable_term(const struct unstable *unstable, raft_index index, raft_term *term)
{
    const struct raft_entry *entry = unstable_entry(unstable, index);

    if (entry != NULL) {
        *term = entry->term;
        return true;
    }
    if (unstable->snapshot != NULL && unstable->snapshot->index == index) {
        *term = unstable->snapshot->term;
        return true;
    }
    return false;
}

bool unstable_last_index(const struct unstable *unstable, raft_index *index)
{
    if (unstable->count > 0) {
        *index = unstable->offset + unstable->count - 1;
        return true;
    }
    if (unstable->snapshot != NULL) {
        *index = unstable->snapshot->index;
        return true;
    }
    return false;
}

struct raft_slice unstable_slice(const struct unstable *unstable, raft_index first, raft_index end)
{
    assert(first >= unstable->offset && first <= end);
    assert(end <= unstable->offset + unstable->count);
    if (first == end) {
        return (struct raft_slice){0};
    }
    return core_block_slice(unstable->block, unstable->start + (size_t)(first - unstable->offset),
                            (size_t)(end - first));
}

/* ---- handing out ---- */

bool unstable_has_next(const struct unstable *unstable)
{
    return unstable->offset_in_progress - unstable->offset < unstable->count;
}

struct raft_slice unstable_next(const struct unstable *unstable)
{
    if (!unstable_has_next(unstable)) {
        return (struct raft_slice){0};
    }
    return unstable_slice(unstable, unstable->offset_in_progress,
                          unstable->offset + unstable->count);
}

void unstable_accept(struct unstable *unstable)
{
    if (unstable->count > 0) {
        unstable->offset_in_progress = unstable->offset + unstable->count;
    }
    if (unstable->snapshot != NULL) {
        unstable->snapshot_in_progress = true;
    }
}

void unstable_stable_to(struct unstable *unstable, raft_index index, raft_term term)
{
    raft_term found;
    size_t gone;

    if (!unstable_term(unstable, index, &found)) {
        core_logger_write(unstable->logger, RAFT_LOG_INFO,
                          "entry at index %lu missing from unstable log; ignoring", index);
        return;
    }
    if (index < unstable->offset) {
        core_logger_write(unstable->logger, RAFT_LOG_INFO,
                          "entry at index %lu matched unstable snapshot; ignoring", index);
        return;
    }
    if (found != term) {
        /* Replaced while the write was under way; the newer write will report itself. */
        core_logger_write(unstable->logger, RAFT_LOG_INFO,
                          "entry at (index,term)=(%lu,%lu) mismatched with entry at (%lu,%lu) in "
                          "unstable log; ignoring",
                          index, term, index, found);
        return;
    }
    gone = (size_t)(index + 1 - unstable->offset);
    unstable->bytes -= payload_bytes(entries_of(unstable), gone);
    unstable->start += gone;
    unstable->count -= gone;
    unstable->offset = index + 1;
    if (unstable->offset_in_progress < unstable->offset) {
        unstable->offset_in_progress = unstable->offset;
    }
    core_block_forget(unstable->block, unstable->start);
}

void unstable_snapshot_stable(struct unstable *unstable, raft_index index)
{
    if (unstable->snapshot != NULL && unstable->snapshot->index == index) {
        raft_snapshot_release(unstable->snapshot);
        unstable->snapshot = NULL;
        unstable->snapshot_in_progress = false;
    }
}

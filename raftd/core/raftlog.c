/*
 * raftlog: see raftlog.h.
 */
#include "raftd/core/raftlog.h"

#include <assert.h>
#include <string.h>

uint64_t core_entries_encoded_bytes(const struct raft_entry *entries, size_t count)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        bytes += raft_entry_encoded_bytes(&entries[i]);
    }
    return bytes;
}

uint64_t core_entries_payload_bytes(const struct raft_entry *entries, size_t count)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        bytes += entries[i].len_bytes;
    }
    return bytes;
}

void raftlog_init(struct raftlog *log, const struct raft_options *options,
                  const struct logger *logger)
{
    raft_index first;

    memset(log, 0, sizeof(*log));
    log->storage = options->storage;
    log->logger = logger;
    first = log->storage.first_index(log->storage.ctx);
    unstable_init(&log->unstable, &options->alloc, logger,
                  log->storage.last_index(log->storage.ctx) + 1);
    /* What was compacted had been applied. */
    log->committed = first - 1;
    log->applying = first - 1;
    log->applied = first - 1;
    log->max_applying_bytes = options->max_committed_bytes;
}

void raftlog_fini(struct raftlog *log)
{
    unstable_fini(&log->unstable);
}

/* ---- positions and terms ---- */

raft_index raftlog_first_index(const struct raftlog *log)
{
    if (log->unstable.snapshot != NULL) {
        return log->unstable.snapshot->index + 1;
    }
    return log->storage.first_index(log->storage.ctx);
}

raft_index raftlog_last_index(const struct raftlog *log)
{
    raft_index last;

    if (unstable_last_index(&log->unstable, &last)) {
        return last;
    }
    return log->storage.last_index(log->storage.ctx);
}

int raftlog_term(const struct raftlog *log, raft_index index, raft_term *term)
{
    if (unstable_term(&log->unstable, index, term)) {
        return MS_OK;
    }
    /* The entry before the first is gone, but its term is still known. */
    if (index + 1 < raftlog_first_index(log)) {
        return MS_ECOMPACTED;
    }
    if (index > raftlog_last_index(log)) {
        return MS_EUNAVAILABLE;
    }
    return log->storage.term(log->storage.ctx, index, term);
}

raft_term raftlog_term_or_zero(const struct raftlog *log, raft_index index)
{
    raft_term term;

    return raftlog_term(log, index, &term) == MS_OK ? term : 0;
}

struct entry_id raftlog_last_id(const struct raftlog *log)
{
    raft_index last = raftlog_last_index(log);

    return (struct entry_id){.term = raftlog_term_or_zero(log, last), .index = last};
}

bool raftlog_match(const struct raftlog *log, struct entry_id id)
{
    raft_term term;

    return raftlog_term(log, id.index, &term) == MS_OK && term == id.term;
}

bool raftlog_up_to_date(const struct raftlog *log, struct entry_id id)
{
    struct entry_id last = raftlog_last_id(log);

    return id.term > last.term || (id.term == last.term && id.index >= last.index);
}

/* ---- reading ---- */

/* Appends to *stable what of [offset, end) still fits; leaves it as it is if memory is short. */
static void join_unstable(const struct raftlog *log, raft_index end, uint64_t max_bytes,
                          struct raft_slice *stable)
{
    const struct unstable *unstable = &log->unstable;
    const struct raft_entry *rest = unstable_entry(unstable, unstable->offset);
    uint64_t used = 0;
    struct raft_block *block;
    size_t count;

    if (max_bytes != RAFT_NO_LIMIT) {
        used = core_entries_encoded_bytes(stable->entries, stable->count);
        if (used >= max_bytes || raft_entry_encoded_bytes(rest) > max_bytes - used) {
            return;
        }
    }
    count = raft_entries_fit(rest, (size_t)(end - unstable->offset),
                             max_bytes == RAFT_NO_LIMIT ? RAFT_NO_LIMIT : max_bytes - used);
    block = core_block_create(&unstable->alloc, stable->count + count);
    if (block == NULL) {
        return; /* a shorter slice is as good; the rest follows */
    }
    core_block_append(block, stable->entries, stable->count);
    core_block_append(block, rest, count);
    raft_slice_release(stable);
    *stable = (struct raft_slice){.block = block, .entries = block->entries, .count = block->used};
}

int raftlog_slice(const struct raftlog *log, raft_index first, raft_index end, uint64_t max_bytes,
                  struct raft_slice *out)
{
    const struct unstable *unstable = &log->unstable;
    struct raft_slice slice = {0};
    raft_index cut;
    int rc;

    assert(first < end && end <= raftlog_last_index(log) + 1);
    if (first < raftlog_first_index(log)) {
        return MS_ECOMPACTED;
    }
    if (first >= unstable->offset) {
        size_t fit =
            raft_entries_fit(unstable_entry(unstable, first), (size_t)(end - first), max_bytes);

        *out = unstable_slice(unstable, first, first + fit);
        return MS_OK;
    }
    cut = end < unstable->offset ? end : unstable->offset;
    rc = log->storage.entries(log->storage.ctx, first, cut, max_bytes, &slice);
    if (rc != MS_OK) {
        return rc == MS_ECOMPACTED || rc == MS_ENOMEM ? rc : MS_EAGAIN;
    }
    assert(slice.count > 0 && slice.count <= cut - first);
    if (slice.count == cut - first && cut < end) {
        join_unstable(log, end, max_bytes, &slice);
    }
    *out = slice;
    return MS_OK;
}

/* ---- comparing ---- */

raft_index raftlog_find_conflict(const struct raftlog *log, const struct raft_entry *entries,
                                 size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct entry_id id = {.term = entries[i].term, .index = entries[i].index};

        if (raftlog_match(log, id)) {
            continue;
        }
        if (id.index <= raftlog_last_index(log)) {
            core_logger_write(
                log->logger, RAFT_LOG_INFO,
                "found conflict at index %lu [existing term: %lu, conflicting term: %lu]", id.index,
                raftlog_term_or_zero(log, id.index), id.term);
        }
        return id.index;
    }
    return 0;
}

struct entry_id raftlog_find_by_term(const struct raftlog *log, raft_index index, raft_term term)
{
    for (; index > 0; index--) {
        raft_term own;

        if (raftlog_term(log, index, &own) != MS_OK) {
            return (struct entry_id){.term = 0, .index = index};
        }
        if (own <= term) {
            return (struct entry_id){.term = own, .index = index};
        }
    }
    return (struct entry_id){0};
}

/* ---- changing ---- */

void raftlog_append(struct raftlog *log, const struct raft_entry *entries, size_t count)
{
    if (count == 0) {
        return;
    }
    assert(entries[0].index > log->committed);
    unstable_append(&log->unstable, entries, count);
}

void raftlog_commit_to(struct raftlog *log, raft_index index)
{
    if (index > log->committed) {
        assert(index <= raftlog_last_index(log));
        log->committed = index;
    }
}

void raftlog_restore(struct raftlog *log, struct raft_snapshot *snapshot)
{
    const struct unstable *unstable = &log->unstable;

    core_logger_write(log->logger, RAFT_LOG_INFO,
                      "log [committed=%lu, applied=%lu, applying=%lu, unstable.offset=%lu, "
                      "unstable.offsetInProgress=%lu, len(unstable.Entries)=%lu] starts to restore "
                      "snapshot [index: %lu, term: %lu]",
                      log->committed, log->applied, log->applying, unstable->offset,
                      unstable->offset_in_progress, (uint64_t)unstable->count, snapshot->index,
                      snapshot->term);
    log->committed = snapshot->index;
    unstable_restore(&log->unstable, snapshot);
}

/* ---- applying ---- */

static raft_index appliable(const struct raftlog *log, bool allow_unstable)
{
    raft_index stable = log->unstable.offset - 1;

    return allow_unstable || log->committed < stable ? log->committed : stable;
}

bool raftlog_has_committed(const struct raftlog *log, bool allow_unstable)
{
    /* A snapshot replaces the state machine; what follows it has to wait. */
    if (log->applying_paused || log->applying_fetch || log->unstable.snapshot != NULL) {
        return false;
    }
    return log->applying < appliable(log, allow_unstable);
}

int raftlog_next_committed(struct raftlog *log, bool allow_unstable, struct raft_slice *out)
{
    int rc;

    *out = (struct raft_slice){0};
    if (!raftlog_has_committed(log, allow_unstable)) {
        return MS_OK;
    }
    rc = raftlog_slice(log, log->applying + 1, appliable(log, allow_unstable) + 1,
                       log->max_applying_bytes - log->applying_bytes, out);
    if (rc == MS_ENOMEM) {
        return rc;
    }
    /* Entries that are not applied are never compacted, so storage only needs time. */
    log->applying_fetch = rc != MS_OK;
    return MS_OK;
}

void raftlog_accept_applying(struct raftlog *log, const struct raft_slice *slice,
                             bool allow_unstable)
{
    if (slice->count == 0) {
        return;
    }
    log->applying += slice->count;
    assert(log->applying <= log->committed);
    log->applying_bytes += core_entries_encoded_bytes(slice->entries, slice->count);
    /* If the limit has cut the slice short, the next entry would exceed it. */
    log->applying_paused = log->applying_bytes >= log->max_applying_bytes ||
                           log->applying < appliable(log, allow_unstable);
}

void raftlog_applied_to(struct raftlog *log, raft_index index, uint64_t bytes)
{
    assert(index >= log->applied && index <= log->committed);
    log->applied = index;
    if (log->applying < index) {
        log->applying = index;
    }
    log->applying_bytes -= bytes < log->applying_bytes ? bytes : log->applying_bytes;
    log->applying_paused = log->applying_bytes >= log->max_applying_bytes;
}

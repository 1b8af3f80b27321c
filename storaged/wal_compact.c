/*
 * wal_compact: snapshot marks, compaction, and giving segments back.
 *
 * A mark is a batch of its own, durable when the call returns. It may use the room that every
 * segment keeps for that purpose, so it also works when the disk is full, which is when it is
 * needed most.
 */
#include <inttypes.h>
#include <string.h>

#include "storaged/wal_private.h"

/* Writes a mark in a batch of its own. What is staged comes after it. */
static int wal_mark(struct wal *wal, enum wal_record_type type, raft_index index, raft_term term,
                    struct ms_err *err)
{
    struct wal_item item = {.type = type, .mark = {.index = index, .term = term}};
    struct log_state after = wal->durable;
    size_t payload_bytes;
    int rc;

    if (wal_state_take(&after, &item, NULL) != MS_OK) {
        return ms_err_set(err, MS_EINVAL, 0, "entry %" PRIu64 " cannot be marked in the log",
                          index);
    }
    rc = wal_make_room(wal, wal_record_bytes(2 * sizeof(uint64_t)), 0, err);
    if (rc != MS_OK) {
        return rc;
    }
    payload_bytes = wal_put_mark(wal->mark_block + WAL_BATCH_HEADER_BYTES, type, index, term);
    rc = wal_write_batch(wal, wal_last(wal), wal->mark_block, payload_bytes, err);
    if (rc != MS_OK) {
        return rc;
    }
    (void)pthread_mutex_lock(&wal->lock);
    wal->durable = after;
    (void)pthread_mutex_unlock(&wal->lock);
    /* The staged state runs ahead in its entries only; the marks are the same in both. */
    if (wal->payload_bytes == 0) {
        wal->staged = after;
    } else {
        wal->staged.first_index = after.first_index;
        wal->staged.compacted_term = after.compacted_term;
        wal->staged.snapshot_index = after.snapshot_index;
        wal->staged.snapshot_term = after.snapshot_term;
    }
    return MS_OK;
}

int wal_set_snapshot(struct log_store *store, raft_index index, raft_term term, struct ms_err *err)
{
    struct wal *wal = (struct wal *)store;
    raft_term held = 0;
    int rc = wal_check(wal, err);

    if (rc != MS_OK) {
        return rc;
    }
    if (index < wal->durable.snapshot_index) {
        return ms_err_set(err, MS_EINVAL, 0, "snapshot %" PRIu64 " is older than %" PRIu64, index,
                          wal->durable.snapshot_index);
    }
    rc = wal_term(store, index, &held, err);
    if (rc == MS_OK && held == term) {
        return wal_mark(wal, WAL_RECORD_SNAPSHOT, index, term, err);
    }
    if (rc != MS_OK && rc != MS_EUNAVAILABLE && rc != MS_ECOMPACTED) {
        return rc;
    }
    if (wal->payload_bytes > 0) {
        return ms_err_set(err, MS_EINVAL, 0, "entries are staged for a log that is to start anew");
    }
    rc = wal_mark(wal, WAL_RECORD_RESET, index, term, err);
    if (rc == MS_OK) {
        wal_release_segments(wal);
    }
    return rc;
}

int wal_compact(struct log_store *store, raft_index index, struct ms_err *err)
{
    struct wal *wal = (struct wal *)store;
    raft_index staged_lowest = wal->summary.lowest;
    raft_term term = 0;
    int rc = wal_check(wal, err);

    if (rc != MS_OK || index < wal->durable.first_index) {
        return rc;
    }
    if (index > wal->durable.snapshot_index || index > wal->durable.last_index ||
        (staged_lowest != 0 && staged_lowest <= index)) {
        return ms_err_set(err, MS_EINVAL, 0,
                          "compacting to %" PRIu64 " with a snapshot at %" PRIu64
                          " and a log to %" PRIu64,
                          index, wal->durable.snapshot_index, wal->durable.last_index);
    }
    rc = wal_term(store, index, &term, err);
    if (rc == MS_OK) {
        rc = wal_mark(wal, WAL_RECORD_COMPACT, index, term, err);
    }
    if (rc == MS_OK) {
        wal_release_segments(wal);
    }
    return rc;
}

/* How many of the oldest segments hold nothing that is still wanted and are not being read. */
static size_t wal_releasable(const struct wal *wal)
{
    raft_index below = wal->durable.first_index; /* entries from here on are wanted */
    size_t count = 0;

    /* What a segment and all before it hold ends where the next one begins. */
    while (count + 1 < wal->segment_count && wal->segments[count + 1]->before < below &&
           wal->segments[count]->pins == 0) {
        count++;
    }
    return count;
}

void wal_release_segments(struct wal *wal)
{
    struct wal_segment *released[16];
    size_t count;

    do {
        (void)pthread_mutex_lock(&wal->lock);
        count = wal_releasable(wal);
        if (count > sizeof(released) / sizeof(released[0])) {
            count = sizeof(released) / sizeof(released[0]);
        }
        if (count > 0) {
            memcpy(released, wal->segments, count * sizeof(struct wal_segment *));
            wal->segment_count -= count;
            memmove(wal->segments, wal->segments + count,
                    wal->segment_count * sizeof(struct wal_segment *));
        }
        (void)pthread_mutex_unlock(&wal->lock);
        for (size_t i = 0; i < count; i++) {
            wal_segment_free(released[i]);
        }
    } while (count > 0);
    if (wal->segment_count > 0) {
        wal_stock_release(wal->stock, wal->segments[0]->header.sequence);
    }
}

/*
 * wal_compact: snapshot marks, foreign snapshots, compaction, and giving segments back.
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

/* Whether the log holds the entry with that term, or begins right behind it. */
static int wal_holds(struct wal *wal, raft_index index, raft_term term, bool *out,
                     struct ms_err *err)
{
    raft_term held = 0;
    int rc = wal_term(&wal->base, index, &held, err);

    if (rc == MS_EUNAVAILABLE || rc == MS_ECOMPACTED) {
        *out = false;
        return MS_OK;
    }
    *out = rc == MS_OK && held == term;
    return rc;
}

static int wal_check_snapshot(const struct wal *wal, raft_index index, struct ms_err *err)
{
    int rc = wal_check(wal, err);

    if (rc == MS_OK && index < wal->durable.snapshot_index) {
        rc = ms_err_set(err, MS_EINVAL, 0, "snapshot %" PRIu64 " is older than %" PRIu64, index,
                        wal->durable.snapshot_index);
    }
    return rc;
}

int wal_set_snapshot(struct log_store *store, raft_index index, raft_term term, struct ms_err *err)
{
    struct wal *wal = (struct wal *)store;
    bool holds = false;
    int rc = wal_check_snapshot(wal, index, err);

    if (rc == MS_OK) {
        rc = wal_holds(wal, index, term, &holds, err);
    }
    if (rc == MS_OK && !holds) {
        rc = ms_err_set(err, MS_EINVAL, 0, "a snapshot of entry %" PRIu64 ", which is not here",
                        index);
    }
    return rc == MS_OK ? wal_mark(wal, WAL_RECORD_SNAPSHOT, index, term, err) : rc;
}

/* Writes what is staged as the marks are written; *offset is where. */
static int wal_write_install(struct wal *wal, uint64_t *offset, struct ms_err *err)
{
    struct wal_segment *segment;
    int rc = wal_make_room(wal, wal->payload_bytes, 0, err);

    if (rc != MS_OK) {
        return rc;
    }
    segment = wal_last(wal);
    (void)pthread_mutex_lock(&wal->lock);
    rc = wal_directory_reserve(&segment->directory, err);
    (void)pthread_mutex_unlock(&wal->lock);
    if (rc != MS_OK) {
        return rc;
    }
    *offset = segment->end;
    return wal_write_batch(wal, segment, wal->batch, wal->payload_bytes, err);
}

/* Lays the batch of an installation out; nothing else is staged. *after: what it leads to. */
static int wal_stage_install(struct wal *wal, const struct log_store_install *install, bool holds,
                             struct log_state *after, struct ms_err *err)
{
    const struct wal_item mark = {.type = holds ? WAL_RECORD_SNAPSHOT : WAL_RECORD_RESET,
                                  .mark = {.index = install->index, .term = install->term}};
    uint8_t *dst = wal->batch + WAL_BATCH_HEADER_BYTES;

    *after = wal->durable;
    if (wal_state_take(after, &mark, NULL) != MS_OK) {
        return ms_err_set(err, MS_EINVAL, 0, "snapshot %" PRIu64 " cannot be recorded",
                          install->index);
    }
    if (install->hard_state.commit > after->last_index) {
        return ms_err_set(err, MS_EINVAL, 0, "commit index %" PRIu64 " with a snapshot at %" PRIu64,
                          install->hard_state.commit, install->index);
    }
    after->hard_state = install->hard_state;
    dst += wal_put_mark(dst, mark.type, install->index, install->term);
    dst += wal_put_conf(dst, install->index, install->conf, install->conf_bytes);
    dst += wal_put_hard_state(dst, &install->hard_state);
    wal->payload_bytes = (size_t)(dst - wal->batch) - WAL_BATCH_HEADER_BYTES;
    wal->summary = (struct wal_summary){.conf_count = 1, .confs = {install->index}};
    return MS_OK;
}

int wal_install(struct log_store *store, const struct log_store_install *install,
                struct ms_err *err)
{
    struct wal *wal = (struct wal *)store;
    struct log_state after;
    uint64_t offset = 0;
    bool holds = false;
    int rc = wal_check_snapshot(wal, install->index, err);

    if (rc != MS_OK) {
        return rc;
    }
    if (wal->payload_bytes > 0) {
        return ms_err_set(err, MS_EBUSY, 0, "entries are staged for a log that is to start anew");
    }
    if (install->conf_bytes > LOG_STORE_CONF_BYTES_MAX ||
        install->conf_bytes > wal->batch_room / 2) {
        return ms_err_set(err, MS_ERANGE, 0, "a configuration of %zu bytes", install->conf_bytes);
    }
    rc = wal_holds(wal, install->index, install->term, &holds, err);
    if (rc == MS_OK) {
        rc = wal_stage_install(wal, install, holds, &after, err);
    }
    if (rc != MS_OK) {
        return rc;
    }
    rc = wal_write_install(wal, &offset, err);
    if (rc == MS_OK) {
        wal_note_batch(wal, &wal->summary, offset, &after);
    }
    wal_unstage(wal);
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

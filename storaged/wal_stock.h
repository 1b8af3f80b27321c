/*
 * wal_stock: keeps segments ready before they are needed, in a thread of its own.
 *
 * Making a segment writes it whole once; the thread that serves appends must not wait for that. It
 * takes what is ready, and what the log no longer needs goes back here to be used again. While the
 * stock cannot be filled up the disk counts as full.
 */
#ifndef METASTORE_STORAGED_WAL_STOCK_H
#define METASTORE_STORAGED_WAL_STOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/wal_segment.h"

struct wal_stock;

/* Segments kept ready; what is on its way when the disk becomes full still fits into them. */
#define WAL_STOCK_READY 2
/* Of these, a start may find more: all are kept. */
#define WAL_STOCK_READY_MAX 8
/* Given-up files kept for later use; more are removed. */
#define WAL_STOCK_USED_MAX 16
/* How long to wait before a full disk is tried again when nothing else changed. */
#define WAL_STOCK_RETRY_MS 500

struct wal_stock_options {
    struct wal_disk disk;
    uint64_t next_sequence;         /* of the first segment to be made */
    uint64_t oldest;                /* lowest sequence number of a segment on disk */
    const struct wal_header *ready; /* found ready, ascending, below next_sequence; copied */
    size_t ready_count;             /* at most WAL_STOCK_READY_MAX */
};

/* Starts the thread. It first removes temporary files in the directory. */
int wal_stock_create(const struct wal_stock_options *options, struct wal_stock **out,
                     struct ms_err *err);

/* Ends the thread, after the file it is at. NULL is allowed. */
void wal_stock_destroy(struct wal_stock *stock);

/* The next segment in sequence, from now on the caller's. MS_EAGAIN: none is ready. */
int wal_stock_take(struct wal_stock *stock, struct wal_header *out);

/* All segments below sequence are no longer needed. */
void wal_stock_release(struct wal_stock *stock, uint64_t sequence);

/* Readable after a segment became ready or the failure below changed; wal_stock_clear resets it. */
int wal_stock_event_fd(const struct wal_stock *stock);
void wal_stock_clear(struct wal_stock *stock);

/* MS_OK, or why the last attempt to make a segment failed (err, may be NULL, says more). */
int wal_stock_failure(struct wal_stock *stock, struct ms_err *err);

/* Waits until a segment is ready or making one failed; that status. */
int wal_stock_wait(struct wal_stock *stock, struct ms_err *err);

#endif

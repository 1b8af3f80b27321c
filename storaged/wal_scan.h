/*
 * wal_scan: reads a segment front to back and tells where it ends and why.
 */
#ifndef METASTORE_STORAGED_WAL_SCAN_H
#define METASTORE_STORAGED_WAL_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/wal_format.h"

/* Part of a file in memory. Beyond the end of the file there are zeros. */
struct wal_window {
    int fd; /* borrowed */
    uint64_t file_bytes;
    uint8_t *data; /* owned */
    size_t capacity_bytes;
    size_t chunk_bytes; /* read at least so many at a time */
    uint64_t base;      /* offset in the file of data[0] */
    size_t len_bytes;
};

/* One valid batch; payload is in the window, until its next use. */
struct wal_batch {
    uint64_t number;
    uint64_t offset;
    uint64_t end; /* offset behind it, a block boundary */
    const uint8_t *payload;
    size_t payload_bytes;
};

/* Bytes that a window usually reads at a time. */
#define WAL_WINDOW_BYTES (1u << 20)

/* An empty window on fd. MS_EIO: the size of the file cannot be told. */
int wal_window_init(struct wal_window *window, int fd, struct ms_err *err);
void wal_window_fini(struct wal_window *window);

/*
 * Makes [offset, offset + len_bytes) available at *out until the next call. MS_EIO, MS_ENOMEM; err
 * does not name the file.
 */
int wal_window_get(struct wal_window *window, uint64_t offset, size_t len_bytes,
                   const uint8_t **out, struct ms_err *err);

/* The batch at offset. MS_ENOENT: no valid batch of this segment starts there. MS_EIO, MS_ENOMEM.
 */
int wal_scan_batch(struct wal_window *window, const struct wal_header *segment, uint64_t offset,
                   struct wal_batch *out, struct ms_err *err);

enum wal_tail {
    WAL_TAIL_CLEAN,   /* nothing was ever written behind the last batch */
    WAL_TAIL_TORN,    /* something was, but no valid batch begins there or behind */
    WAL_TAIL_DAMAGED, /* a valid batch lies behind what is no valid batch */
};

/* Where the tail begins, and up to which offset valid batches are looked for. */
struct wal_tail_range {
    uint64_t offset;
    uint64_t end;
};

/*
 * Says what lies where wal_scan_batch found nothing, or a batch out of sequence. For
 * WAL_TAIL_DAMAGED, *found is the offset of the valid batch.
 */
int wal_scan_tail(struct wal_window *window, const struct wal_header *segment,
                  const struct wal_tail_range *range, enum wal_tail *tail, uint64_t *found,
                  struct ms_err *err);

#endif

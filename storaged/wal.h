/*
 * wal: the log store in files of its own: segments of checksummed batches, one sync per batch.
 *
 * The default implementation of log_store. The format is drawn in wal_format.h. What a start finds
 * is either whole, or ends in a torn batch, which is cut, or is damaged: then it says where and
 * changes nothing.
 */
#ifndef METASTORE_STORAGED_WAL_H
#define METASTORE_STORAGED_WAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/log_store.h"
#include "storaged/wal_io.h"
#include "storaged/wal_segment.h"

/* Bounds of the segment size. */
#define WAL_SEGMENT_BYTES_MIN (UINT64_C(64) << 10)
#define WAL_SEGMENT_BYTES_MAX (UINT64_C(1) << 31)

/* The segment size for requests of up to so many bytes: a power of two, some requests long. */
uint64_t wal_segment_bytes_for(uint64_t max_request_bytes);

struct wal_options {
    const char *directory;   /* made if it is not there; its parent must be */
    uint64_t segment_bytes;  /* of new segments: a power of two within the bounds above */
    bool verify_all;         /* read and check every segment, not only the last */
    const struct wal_io *io; /* NULL: the system's */
};

/* What opening found; names and numbers for a log line. */
struct wal_report {
    uint64_t segments;
    uint64_t read_bytes;
    bool direct;                    /* direct writes are used */
    bool tail_cut;                  /* a torn batch was cut ... */
    char tail_file[WAL_NAME_BYTES]; /* ... from this file ... */
    uint64_t tail_offset;           /* ... at this offset */
};

/*
 * Opens or makes the log. report may be NULL.
 *
 *   MS_ECORRUPT  damaged, truncated or missing segments: err names file and offset
 *   MS_EINVAL    a file that is no segment of this format: err names it
 *   MS_ENOSPC    not even one segment fits
 *   MS_EIO, MS_ENOMEM
 */
int wal_open(const struct wal_options *options, struct log_store **out, struct wal_report *report,
             struct ms_err *err);

#endif

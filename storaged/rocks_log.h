/*
 * rocks_log: the log store in a database of RocksDB: one batch, written and synced, per sync.
 *
 * What a start finds is what was synced; a torn end of the library's own log is cut by it, anything
 * else that is damaged is an error that names the directory.
 */
#ifndef METASTORE_STORAGED_ROCKS_LOG_H
#define METASTORE_STORAGED_ROCKS_LOG_H

#include <stdint.h>

#include "common/err.h"
#include "storaged/log_store.h"

struct rocks_log_options {
    const char *directory;    /* made if it is not there; its parent must be */
    size_t batch_bytes;       /* what one sync takes at most; several requests long */
    uint64_t reserve_bytes;   /* the store is full while the file system has less than this */
    unsigned background_jobs; /* flushes and compactions at a time */
};

#define ROCKS_LOG_BATCH_BYTES_MIN (UINT64_C(64) << 10)
#define ROCKS_LOG_RESERVE_BYTES   (UINT64_C(128) << 20)
#define ROCKS_LOG_JOBS            1

/* The batch size for requests of up to so many bytes. */
size_t rocks_log_batch_bytes_for(uint64_t max_request_bytes);

/*
 * Opens or makes the log.
 *
 *   MS_ECORRUPT  damaged, or its records contradict each other: err names the directory
 *   MS_EINVAL    a database, but not one of these
 *   MS_EBUSY     open in another process
 *   MS_ENOSPC, MS_EIO, MS_ENOMEM
 */
int rocks_log_open(const struct rocks_log_options *options, struct log_store **out,
                   struct ms_err *err);

#endif

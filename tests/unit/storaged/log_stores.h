/*
 * log_stores: all implementations of the log store, for tests that run on each of them.
 */
#ifndef METASTORE_TESTS_UNIT_STORAGED_LOG_STORES_H
#define METASTORE_TESTS_UNIT_STORAGED_LOG_STORES_H

#include <stdbool.h>
#include <stdio.h>

#if MS_ROCKSDB
#include "storaged/rocks_log.h"
#endif
#include "storaged/wal.h"
#include "tests/unit/storaged/store_fixture.h"

struct implementation {
    const char *name;
    /* path is an existing directory of the store's own. */
    int (*open)(const char *path, struct log_store **out, struct ms_err *err);
};

static inline int open_wal(const char *path, bool verify_all, struct log_store **out,
                           struct ms_err *err)
{
    char directory[FIXTURE_PATH_BYTES + 8];
    struct wal_options options = {
        .directory = directory, .segment_bytes = WAL_SEGMENT_BYTES_MIN, .verify_all = verify_all};

    (void)snprintf(directory, sizeof(directory), "%s/wal", path);
    return wal_open(&options, out, NULL, err);
}

static inline int open_wal_verified(const char *path, struct log_store **out, struct ms_err *err)
{
    return open_wal(path, true, out, err);
}

static inline int open_wal_quickly(const char *path, struct log_store **out, struct ms_err *err)
{
    return open_wal(path, false, out, err);
}

#if MS_ROCKSDB
static inline int open_rocks_log(const char *path, struct log_store **out, struct ms_err *err)
{
    char directory[FIXTURE_PATH_BYTES + 16];
    struct rocks_log_options options = {.directory = directory,
                                        .batch_bytes = ROCKS_LOG_BATCH_BYTES_MIN,
                                        .background_jobs = ROCKS_LOG_JOBS};

    (void)snprintf(directory, sizeof(directory), "%s/rocks-log", path);
    return rocks_log_open(&options, out, err);
}
#endif

static const struct implementation implementations[] = {
    {"wal", open_wal_verified},
    {"wal, opened quickly", open_wal_quickly},
#if MS_ROCKSDB
    {"rocksdb", open_rocks_log},
#endif
};

#define IMPLEMENTATIONS (sizeof(implementations) / sizeof(implementations[0]))

#endif

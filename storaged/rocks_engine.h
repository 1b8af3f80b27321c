/*
 * rocks_engine: the state engine on disk, in RocksDB; for data beyond memory and fast restarts.
 *
 * The Raft log is its log: a commit is visible at once, but durable only after a flush, which is
 * done in the background every now and then. After a crash it stands at the flush before, as one
 * commit left it, and the log leads on from there (engine_stats.durable_applied says from where at
 * the latest). The layout is drawn in rocks_layout.h.
 */
#ifndef METASTORE_STORAGED_ROCKS_ENGINE_H
#define METASTORE_STORAGED_ROCKS_ENGINE_H

#include <stdint.h>

#include "common/err.h"
#include "storaged/engine.h"
#include "storaged/rocks.h"

struct rocks_engine_options {
    const char *directory; /* made if it is not there; its parent must be */
    struct rocks_tuning tuning;
    /*
     * The engine is full while the file system has less than this. Some write buffers, for what
     * was committed must find room.
     */
    uint64_t reserve_bytes;
    /* So many applied entries, or so many seconds after the first of them, call for a flush. */
    uint64_t flush_entries;
    uint64_t flush_seconds;
};

#define ROCKS_ENGINE_CACHE_BYTES        (UINT64_C(128) << 20)
#define ROCKS_ENGINE_WRITE_BUFFER_BYTES (UINT64_C(16) << 20)
#define ROCKS_ENGINE_JOBS               2
#define ROCKS_ENGINE_RESERVE_BYTES      (UINT64_C(128) << 20)
#define ROCKS_ENGINE_FLUSH_ENTRIES      50000
#define ROCKS_ENGINE_FLUSH_SECONDS      60

/* The defaults above for a directory. */
void rocks_engine_defaults(const char *directory, struct rocks_engine_options *out);

/*
 * Makes an empty store in a directory that is empty or not there: revision 1, nothing applied.
 * MS_EEXIST: there is one. Other errors as for rocks_open.
 */
int rocks_engine_create(const struct rocks_engine_options *options, struct engine **out,
                        struct ms_err *err);

/*
 * Opens the store that is in the directory, as of its last flush or orderly end. MS_ENOENT: there
 * is none, or it was never completed; MS_ECORRUPT: damaged, or not this layout. Other errors as for
 * rocks_open.
 */
int rocks_engine_open(const struct rocks_engine_options *options, struct engine **out,
                      struct ms_err *err);

/* Changes the block cache and the write buffers of an open one. Owner thread. */
int rocks_engine_retune(struct engine *engine, const struct rocks_tuning *tuning,
                        struct ms_err *err);

/* What the library says about an open one. Owner thread; costs some microseconds. */
void rocks_engine_library_stats(const struct engine *engine, struct rocks_stats *out);

#endif

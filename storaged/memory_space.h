/*
 * memory_space: room for the memory engine's file: bounded, and reserved before it is used.
 *
 * Writing to a mapped page that tmpfs cannot provide kills the process, so pages are reserved ahead
 * of the file's end in steps. What is ahead is also the margin that lets everything that was
 * accepted before the store was declared full, and deletes and compaction, still succeed.
 */
#ifndef METASTORE_STORAGED_MEMORY_SPACE_H
#define METASTORE_STORAGED_MEMORY_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lmdb.h>

#include "common/err.h"

struct memory_space {
    MDB_env *env;            /* borrowed */
    uint64_t limit_bytes;    /* used above it: full */
    uint64_t map_bytes;      /* the file never grows beyond */
    uint64_t reserved_bytes; /* of the file, from its start */
    uint64_t used_bytes;     /* an upper bound, exact after memory_space_measure */
    uint32_t unmeasured;     /* commits since */
    uint64_t measured_at;    /* how long the file was then */
    bool refused;            /* the file system had no room for the reserve */
    bool full;
};

/* How large the map must be for a limit: what is above is address space, not memory. */
uint64_t memory_space_map_bytes(uint64_t limit_bytes);

/* For an opened environment. MS_ENOSPC: there is not even room for the first reserve. */
int memory_space_init(struct memory_space *space, MDB_env *env, uint64_t limit_bytes,
                      uint64_t map_bytes, struct ms_err *err);

/*
 * Before a write transaction that may take up to need_bytes of new pages. MS_ENOSPC: it could run
 * into pages that do not exist.
 */
int memory_space_ensure(struct memory_space *space, uint64_t need_bytes, struct ms_err *err);

/* After each commit; cheap as long as the file is below the limit. */
void memory_space_committed(struct memory_space *space);

/* Counts the free pages, and tries again for a reserve that was refused. */
int memory_space_measure(struct memory_space *space, struct ms_err *err);

/* How large the file is, whether its pages are in use or free. */
uint64_t memory_space_file_bytes(const struct memory_space *space);

#endif

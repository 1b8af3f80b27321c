/*
 * memory_engine: the state engine in memory: the write side of common/memdb_layout.h.
 *
 * The data lies in an LMDB environment in shared memory, which outlives this process and is read
 * by others while it is written. Room in the file is reserved ahead of need, so that a full tmpfs
 * is a status here and never a SIGBUS.
 */
#ifndef METASTORE_STORAGED_MEMORY_ENGINE_H
#define METASTORE_STORAGED_MEMORY_ENGINE_H

#include <stdint.h>

#include "common/err.h"
#include "storaged/engine.h"

/*
 * Makes an empty store in the existing, empty directory: revision 1, nothing applied.
 * MS_ENOSPC: not even the first pages fit.
 */
int memory_engine_create(const char *directory, uint64_t limit_bytes, struct engine **out,
                         struct ms_err *err);

/*
 * Opens the store that an earlier process left in the directory, at its last commit.
 * MS_ENOENT: there is none, or its installation was never finished; MS_ECORRUPT: not this layout.
 */
int memory_engine_open(const char *directory, uint64_t limit_bytes, struct engine **out,
                       struct ms_err *err);

#endif

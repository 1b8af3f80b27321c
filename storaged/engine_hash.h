/*
 * engine_hash: the hash of a state, the same for every engine.
 */
#ifndef METASTORE_STORAGED_ENGINE_HASH_H
#define METASTORE_STORAGED_ENGINE_HASH_H

#include <stdint.h>

#include "common/err.h"
#include "storaged/engine.h"

/* As engine_hash, made from what engine_range gives: for an implementation's table of calls. */
int engine_hash_by_range(struct engine *engine, uint64_t revision, uint64_t *out,
                         struct ms_err *err);

#endif

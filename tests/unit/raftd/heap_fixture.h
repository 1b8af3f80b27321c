/*
 * heap_fixture: the plain heap as an allocator of the core.
 */
#ifndef METASTORE_TESTS_UNIT_RAFTD_HEAP_FIXTURE_H
#define METASTORE_TESTS_UNIT_RAFTD_HEAP_FIXTURE_H

#include <stdlib.h>

#include "raftd/core/raft.h"

static inline void *heap_take(void *ctx, size_t len_bytes)
{
    (void)ctx;
    return malloc(len_bytes);
}

static inline void heap_give(void *ctx, void *memory)
{
    (void)ctx;
    free(memory);
}

static const struct raft_alloc heap = {.alloc = heap_take, .free = heap_give};

#endif

/*
 * engine_kinds: all engines, for tests that run on each of them.
 */
#ifndef METASTORE_TESTS_UNIT_STORAGED_ENGINE_KINDS_H
#define METASTORE_TESTS_UNIT_STORAGED_ENGINE_KINDS_H

#include "storaged/engine.h"
#include "storaged/memory_engine.h"
#if MS_ROCKSDB
#include "storaged/rocks_engine.h"
#endif

#define ENGINE_KINDS_LIMIT_BYTES (UINT64_C(256) << 20)

struct engine_kind {
    const char *name;
    int (*create)(const char *dir, struct engine **out, struct ms_err *err);
    int (*open)(const char *dir, struct engine **out, struct ms_err *err);
};

static inline int create_memory(const char *dir, struct engine **out, struct ms_err *err)
{
    return memory_engine_create(dir, ENGINE_KINDS_LIMIT_BYTES, out, err);
}

static inline int open_memory(const char *dir, struct engine **out, struct ms_err *err)
{
    return memory_engine_open(dir, ENGINE_KINDS_LIMIT_BYTES, out, err);
}

static const struct engine_kind memory_kind = {"memory", create_memory, open_memory};

#if MS_ROCKSDB
/* Small buffers, so that tests reach files; flushes when they say so. */
static inline struct rocks_engine_options rocks_test_options(const char *dir)
{
    struct rocks_engine_options options;

    rocks_engine_defaults(dir, &options);
    options.tuning.cache_bytes = UINT64_C(8) << 20;
    options.tuning.write_buffer_bytes = UINT64_C(256) << 10;
    options.reserve_bytes = 0;
    options.flush_entries = UINT64_MAX;
    options.flush_seconds = 3600;
    return options;
}

static inline int create_rocks(const char *dir, struct engine **out, struct ms_err *err)
{
    const struct rocks_engine_options options = rocks_test_options(dir);

    return rocks_engine_create(&options, out, err);
}

static inline int open_rocks(const char *dir, struct engine **out, struct ms_err *err)
{
    const struct rocks_engine_options options = rocks_test_options(dir);

    return rocks_engine_open(&options, out, err);
}

static const struct engine_kind rocks_kind = {"rocksdb", create_rocks, open_rocks};
#endif

static const struct engine_kind *const engine_kinds[] = {
    &memory_kind,
#if MS_ROCKSDB
    &rocks_kind,
#endif
};

#define ENGINE_KINDS (sizeof(engine_kinds) / sizeof(engine_kinds[0]))

#endif

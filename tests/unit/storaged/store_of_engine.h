/*
 * store_of_engine: an engine with a state machine on it, and the model that it is held against.
 */
#ifndef METASTORE_TESTS_UNIT_STORAGED_STORE_OF_ENGINE_H
#define METASTORE_TESTS_UNIT_STORAGED_STORE_OF_ENGINE_H

#include "tests/unit/storaged/engine_fixture.h"
#include "tests/unit/storaged/engine_kinds.h"

#define KEYS 240

struct store {
    const struct engine_kind *kind;
    char dir[256];
    struct engine *engine;
    struct apply *apply;
    struct model model;
    struct fixture_random random;
};

static inline void store_init(struct store *store, const struct engine_kind *kind, const char *test)
{
    store->kind = kind;
    fixture_make_dir(store->dir);
    store->random = fixture_random_init(test);
    model_init(&store->model);
    MUST(store->kind->create(store->dir, &store->engine, err));
    MUST(apply_create(store->engine, &store->apply, err));
}

static inline void store_close(struct store *store)
{
    apply_destroy(store->apply);
    engine_close(store->engine);
    store->apply = NULL;
    store->engine = NULL;
}

static inline void store_fini(struct store *store)
{
    store_close(store);
    model_fini(&store->model);
    fixture_remove_dir(store->dir);
}

static inline void store_reopen(struct store *store)
{
    store_close(store);
    MUST(store->kind->open(store->dir, &store->engine, err));
    MUST(apply_create(store->engine, &store->apply, err));
}

/* A random put or delete, done to the model too. */
static inline struct apply_entry random_entry(struct store *store, raft_index index)
{
    size_t n = fixture_below(&store->random, KEYS);
    uint64_t seed = fixture_next(&store->random) | 1; /* 0 would be a tombstone */
    bool is_delete = fixture_below(&store->random, 4) == 0;
    static uint8_t value[16384];
    struct fixture_key key;
    struct ms_command command;

    fixture_key_of(n, &key);
    command = (struct ms_command){
        .id = {.origin = 1 + index % 3, .seq = index},
        .ack_seq = index > 20 ? index - 20 : 1,
        .kind = is_delete ? MS_COMMAND_DELETE : MS_COMMAND_PUT,
        .key = key.data,
        .key_bytes = key.bytes,
        .value = value,
        .value_bytes = is_delete ? 0 : model_value(seed, value),
    };
    if (is_delete) {
        model_delete(&store->model, n);
    } else {
        model_put(&store->model, n, seed);
    }
    return fixture_entry(index, &command);
}

static inline void apply_random_batch(struct store *store, size_t count)
{
    struct apply_entry entries[64];
    struct apply_result results[64];
    struct ms_memdb_meta meta;
    size_t result_count = 0;

    engine_meta(store->engine, &meta);
    for (size_t i = 0; i < count; i++) {
        entries[i] = random_entry(store, meta.applied + 1 + i);
    }
    MUST(apply_entries(store->apply, entries, count, results, &result_count, err));
    cr_assert_eq(result_count, count);
    for (size_t i = 0; i < count; i++) {
        fixture_free_entry(&entries[i]);
    }
    engine_meta(store->engine, &meta);
    cr_assert_eq(meta.revision, store->model.revision);
}

static inline void compact_at(struct store *store, uint64_t revision)
{
    const struct ms_command command = {.kind = MS_COMMAND_COMPACT, .revision = revision};

    (void)fixture_apply(store->engine, store->apply, &command);
    store->model.compact_revision = revision;
}

/* A revision that can still be read. */
static inline uint64_t random_revision(struct store *store)
{
    uint64_t low = store->model.compact_revision == 0 ? 1 : store->model.compact_revision;

    return low + fixture_below(&store->random, (size_t)(store->model.revision - low + 1));
}

/* What is physically there. */
struct tally {
    size_t stamps;
    size_t changes;
};

static inline int tally_record(void *ctx, const uint8_t *name, size_t name_bytes,
                               const uint8_t *value, size_t value_bytes, struct ms_err *err)
{
    (void)ctx;
    (void)name;
    (void)name_bytes;
    (void)value;
    (void)value_bytes;
    (void)err;
    return MS_OK;
}

static inline int tally_key(void *ctx, const uint8_t *key, size_t key_bytes,
                            const struct engine_stamp *stamps, size_t count, struct ms_err *err)
{
    struct tally *tally = ctx;

    (void)key;
    (void)key_bytes;
    (void)stamps;
    (void)err;
    tally->stamps += count;
    return MS_OK;
}

static inline int tally_change(void *ctx, const struct engine_change *change, struct ms_err *err)
{
    struct tally *tally = ctx;

    (void)change;
    (void)err;
    tally->changes++;
    return MS_OK;
}

/* Changes in the history; the index must have a stamp for each. */
static inline size_t history_length(struct engine *engine)
{
    struct engine_snapshot *snapshot;
    struct tally tally = {0};
    const struct engine_sink sink = {tally_record, tally_key, tally_change, &tally};

    MUST(engine_snapshot_begin(engine, &snapshot, err));
    MUST(engine_snapshot_export(engine, snapshot, &sink, err));
    engine_snapshot_end(engine, snapshot);
    cr_assert_eq(tally.stamps, tally.changes);
    return tally.changes;
}

/* What entry index says depends on the index and the state before it only. */
static inline void apply_numbered(struct engine *engine, struct apply *apply)
{
    static uint8_t value[16384];
    struct fixture_random random;
    struct ms_memdb_meta meta;
    struct ms_command command;
    struct fixture_key key;
    raft_index index;
    bool is_delete;

    engine_meta(engine, &meta);
    index = meta.applied + 1;
    if (index % 50 == 0 && meta.revision > 100) {
        command = (struct ms_command){.kind = MS_COMMAND_COMPACT, .revision = meta.revision - 100};
        (void)fixture_apply(engine, apply, &command);
        return;
    }
    random = (struct fixture_random){index};
    fixture_key_of(fixture_below(&random, KEYS), &key);
    is_delete = fixture_below(&random, 4) == 0;
    command = (struct ms_command){
        .id = {.origin = 9, .seq = index},
        .ack_seq = index > 50 ? index - 50 : 1,
        .kind = is_delete ? MS_COMMAND_DELETE : MS_COMMAND_PUT,
        .key = key.data,
        .key_bytes = key.bytes,
        .value = value,
        .value_bytes = is_delete ? 0 : model_value(fixture_next(&random) | 1, value),
    };
    (void)fixture_apply(engine, apply, &command);
}

#endif

/*
 * rocks_engine: opening, batches, durability and statistics of the state engine in RocksDB.
 */
#include "storaged/rocks_engine.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "storaged/engine_hash.h"
#include "storaged/rocks_engine_private.h"

/* Of the reserve, what must be left at the beginning of a batch: what is refused is not started. */
#define RESERVE_SHARE 4

static const struct rocks_family families[ROCKS_LAYOUT_FAMILIES] = {
    [ROCKS_LAYOUT_META] = {.name = "meta"},
    [ROCKS_LAYOUT_VERSIONS] = {.name = "versions",
                               .filtered = true,
                               .suffix_bytes = ROCKS_LAYOUT_STAMP_BYTES},
    [ROCKS_LAYOUT_HISTORY] = {.name = "history"},
    [ROCKS_LAYOUT_RECORDS] = {.name = "records"},
};

void rocks_engine_forget(struct rocks_engine *engine)
{
    rocks_iter_destroy(engine->points);
    rocks_iter_destroy(engine->walks);
    engine->points = NULL;
    engine->walks = NULL;
}

int rocks_engine_corrupt(const struct rocks_engine *engine, const char *what, struct ms_err *err)
{
    return ms_err_set(err, MS_ECORRUPT, 0, "%s: %s cannot be decoded", rocks_directory(engine->db),
                      what);
}

/* ---- opening ------------------------------------------------------------------------------- */

static void rocks_engine_close(struct engine *base)
{
    struct rocks_engine *engine = (struct rocks_engine *)base;

    assert(engine->snapshots == 0);
    rocks_flusher_destroy(engine->flusher);
    rocks_engine_forget(engine);
    rocks_overlay_fini(&engine->overlay);
    rocks_batch_destroy(engine->batch);
    rocks_close(engine->db); /* flushes */
    free(engine->install);
    free(engine);
}

static const struct engine_ops rocks_engine_ops;

static int open_database(const struct rocks_engine_options *options, bool must_exist,
                         struct rocks_engine **out, struct ms_err *err)
{
    const struct rocks_options database = {
        .directory = options->directory,
        .must_exist = must_exist,
        .families = families,
        .family_count = ROCKS_LAYOUT_FAMILIES,
        .durability = ROCKS_ATOMIC_FLUSHES,
        .tuning = options->tuning,
    };
    struct rocks_engine *engine = calloc(1, sizeof(*engine));
    int rc;

    if (engine == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for the engine");
    }
    engine->base.ops = &rocks_engine_ops;
    engine->reserve_bytes = options->reserve_bytes;
    engine->flush_entries = options->flush_entries;
    engine->flush_ns = options->flush_seconds * UINT64_C(1000000000);
    rc = rocks_open(&database, &engine->db, err);
    if (rc == MS_OK) {
        rc = rocks_batch_create(engine->db, &engine->batch, err);
    }
    if (rc == MS_OK) {
        rc = rocks_flusher_create(engine->db, ROCKS_LAYOUT_META, &engine->flusher, err);
    }
    if (rc != MS_OK) {
        rocks_engine_close(&engine->base);
        return rc;
    }
    *out = engine;
    return MS_OK;
}

/* The newest change there can be so far. */
static void set_last(struct rocks_engine *engine)
{
    engine->last = (struct engine_stamp){.revision = engine->meta.meta.revision, .sub = UINT32_MAX};
}

static int start(struct rocks_engine *engine, struct engine **out, struct ms_err *err)
{
    int rc = rocks_engine_measure(engine, err);

    if (rc != MS_OK) {
        rocks_engine_close(&engine->base);
        return rc;
    }
    set_last(engine);
    *out = &engine->base;
    return MS_OK;
}

void rocks_engine_defaults(const char *directory, struct rocks_engine_options *out)
{
    *out = (struct rocks_engine_options){
        .directory = directory,
        .tuning = {.cache_bytes = ROCKS_ENGINE_CACHE_BYTES,
                   .write_buffer_bytes = ROCKS_ENGINE_WRITE_BUFFER_BYTES,
                   .background_jobs = ROCKS_ENGINE_JOBS},
        .reserve_bytes = ROCKS_ENGINE_RESERVE_BYTES,
        .flush_entries = ROCKS_ENGINE_FLUSH_ENTRIES,
        .flush_seconds = ROCKS_ENGINE_FLUSH_SECONDS,
    };
}

int rocks_engine_create(const struct rocks_engine_options *options, struct engine **out,
                        struct ms_err *err)
{
    struct rocks_engine *engine;
    int rc = open_database(options, false, &engine, err);

    if (rc != MS_OK) {
        return rc;
    }
    rc = rocks_engine_load_meta(engine->db, NULL, &engine->meta, err);
    if (rc == MS_OK) {
        rc = ms_err_set(err, MS_EEXIST, 0, "%s: there is a store already", options->directory);
    } else if (rc == MS_ENOENT) {
        engine->meta = (struct rocks_layout_meta){.meta = {.revision = 1}, .complete = true};
        rc = rocks_engine_write_batch(engine, err);
    }
    if (rc != MS_OK) {
        rocks_engine_close(&engine->base);
        return rc;
    }
    return start(engine, out, err);
}

int rocks_engine_open(const struct rocks_engine_options *options, struct engine **out,
                      struct ms_err *err)
{
    struct rocks_engine *engine;
    int rc = open_database(options, true, &engine, err);

    if (rc != MS_OK) {
        return rc;
    }
    rc = rocks_engine_load_meta(engine->db, NULL, &engine->meta, err);
    if (rc == MS_ENOENT || (rc == MS_OK && !engine->meta.complete)) {
        rc = ms_err_set(err, MS_ENOENT, 0, "%s: the store was never completed", options->directory);
    }
    if (rc != MS_OK) {
        rocks_engine_close(&engine->base);
        return rc;
    }
    return start(engine, out, err);
}

int rocks_engine_retune(struct engine *base, const struct rocks_tuning *tuning, struct ms_err *err)
{
    assert(base->ops == &rocks_engine_ops);
    return rocks_retune(((struct rocks_engine *)base)->db, tuning, err);
}

void rocks_engine_library_stats(const struct engine *base, struct rocks_stats *out)
{
    assert(base->ops == &rocks_engine_ops);
    rocks_stats(((const struct rocks_engine *)base)->db, out);
}

/* ---- one batch ----------------------------------------------------------------------------- */

int rocks_engine_write_batch(struct rocks_engine *engine, struct ms_err *err)
{
    uint8_t record[ROCKS_LAYOUT_META_BYTES];
    const struct rocks_piece piece = {record, sizeof(record)};
    int rc;

    rocks_layout_encode_meta(&engine->meta, record);
    rocks_batch_put(engine->batch, ROCKS_LAYOUT_META, (const uint8_t *)ROCKS_LAYOUT_META_KEY,
                    strlen(ROCKS_LAYOUT_META_KEY), &piece, 1);
    rocks_engine_forget(engine);
    rc = rocks_write(engine->db, engine->batch, err);
    rocks_batch_clear(engine->batch);
    if (rc != MS_OK) {
        /* Some kinds of it the library would get over; but then not all of the batch is there. */
        return rc == MS_ENOSPC ? MS_EIO : rc;
    }
    engine->commits++;
    return MS_OK;
}

static void rocks_engine_meta(const struct engine *base, struct ms_memdb_meta *out)
{
    *out = ((const struct rocks_engine *)base)->meta.meta;
}

static int rocks_engine_begin(struct engine *base, const struct engine_volume *volume,
                              struct ms_err *err)
{
    struct rocks_engine *engine = (struct rocks_engine *)base;

    assert(!engine->in_batch && engine->install == NULL);
    if (engine->free_bytes < engine->reserve_bytes / RESERVE_SHARE + volume->bytes) {
        /* What the last tick saw may have changed. */
        int rc = rocks_free_bytes(engine->db, &engine->free_bytes, err);

        if (rc == MS_OK &&
            engine->free_bytes < engine->reserve_bytes / RESERVE_SHARE + volume->bytes) {
            rc = ms_err_set(err, MS_ENOSPC, 0, "%s: %llu bytes free", rocks_directory(engine->db),
                            (unsigned long long)engine->free_bytes);
        }
        if (rc != MS_OK) {
            return rc;
        }
    }
    engine->in_batch = true;
    return MS_OK;
}

static int rocks_engine_record_put(struct engine *base, const uint8_t *name, size_t name_bytes,
                                   const uint8_t *value, size_t value_bytes, struct ms_err *err)
{
    struct rocks_engine *engine = (struct rocks_engine *)base;
    const struct rocks_piece piece = {value, value_bytes};

    (void)err;
    assert(engine->in_batch);
    assert(name_bytes > 0 && name_bytes <= ENGINE_RECORD_NAME_MAX);
    rocks_batch_put(engine->batch, ROCKS_LAYOUT_RECORDS, name, name_bytes, &piece, 1);
    return MS_OK;
}

static int rocks_engine_record_remove(struct engine *base, const uint8_t *name, size_t name_bytes,
                                      struct ms_err *err)
{
    struct rocks_engine *engine = (struct rocks_engine *)base;

    (void)err;
    assert(engine->in_batch);
    rocks_batch_remove(engine->batch, ROCKS_LAYOUT_RECORDS, name, name_bytes);
    return MS_OK;
}

static int rocks_engine_set_conf(struct engine *base, const uint8_t *conf, size_t len_bytes,
                                 struct ms_err *err)
{
    struct rocks_engine *engine = (struct rocks_engine *)base;
    const struct rocks_piece piece = {conf, len_bytes};

    (void)err;
    assert(engine->in_batch);
    assert(len_bytes <= MS_CONF_STATE_BYTES_MAX);
    rocks_batch_put(engine->batch, ROCKS_LAYOUT_META, (const uint8_t *)ROCKS_LAYOUT_CONF_KEY,
                    strlen(ROCKS_LAYOUT_CONF_KEY), &piece, 1);
    return MS_OK;
}

static int rocks_engine_commit(struct engine *base, const struct ms_memdb_meta *meta,
                               struct ms_err *err)
{
    struct rocks_engine *engine = (struct rocks_engine *)base;
    int rc;

    assert(engine->in_batch);
    engine->meta.meta = *meta;
    rc = rocks_engine_write_batch(engine, err);
    if (rc == MS_OK) {
        rocks_overlay_clear(&engine->overlay);
        set_last(engine);
        engine->in_batch = false;
    }
    return rc;
}

static int rocks_engine_conf(struct engine *base, uint8_t *dst, size_t *len_bytes,
                             struct ms_err *err)
{
    return rocks_engine_load_conf(((struct rocks_engine *)base)->db, NULL, dst, len_bytes, err);
}

static int rocks_engine_records(struct engine *base,
                                int (*visit)(void *ctx, const uint8_t *name, size_t name_bytes,
                                             const uint8_t *value, size_t value_bytes,
                                             struct ms_err *err),
                                void *ctx, struct ms_err *err)
{
    return rocks_engine_walk_records(((struct rocks_engine *)base)->db, NULL, visit, ctx, err);
}

/* ---- housekeeping -------------------------------------------------------------------------- */

static int measure_durable(struct rocks_engine *engine, struct ms_err *err)
{
    const struct rocks_key key = {ROCKS_LAYOUT_META, (const uint8_t *)ROCKS_LAYOUT_META_KEY,
                                  strlen(ROCKS_LAYOUT_META_KEY)};
    struct rocks_layout_meta durable;
    struct rocks_value value;
    int rc = rocks_get_durable(engine->db, &key, &value, err);

    if (rc == MS_ENOENT) {
        engine->durable_applied = 0;
        return MS_OK;
    }
    if (rc != MS_OK) {
        return rc;
    }
    if (rocks_layout_decode_meta(value.data, value.bytes, &durable) != MS_OK) {
        rc = rocks_engine_corrupt(engine, "the meta record on disk", err);
    } else {
        engine->durable_applied = durable.complete ? durable.meta.applied : 0;
    }
    rocks_value_release(engine->db, &value);
    return rc;
}

int rocks_engine_measure(struct rocks_engine *engine, struct ms_err *err)
{
    struct rocks_stats stats;
    int rc = measure_durable(engine, err);

    if (rc == MS_OK) {
        rc = rocks_free_bytes(engine->db, &engine->free_bytes, err);
    }
    if (rc == MS_OK) {
        rocks_stats(engine->db, &stats);
        engine->used_bytes = stats.file_bytes + stats.write_buffer_bytes;
    }
    return rc;
}

static void rocks_engine_stats(const struct engine *base, struct engine_stats *out)
{
    const struct rocks_engine *engine = (const struct rocks_engine *)base;
    bool full = engine->free_bytes < engine->reserve_bytes;

    *out = (struct engine_stats){
        .used_bytes = engine->used_bytes,
        .file_bytes = engine->used_bytes,
        .limit_bytes = engine->used_bytes + (full ? 0 : engine->free_bytes - engine->reserve_bytes),
        .commits = engine->commits,
        .compacted_to = engine->meta.compacted_to,
        .durable_applied = engine->durable_applied,
        .memory_full = full,
    };
}

static int rocks_engine_flush(struct engine *base, struct ms_err *err)
{
    (void)err;
    rocks_flusher_ask(((struct rocks_engine *)base)->flusher);
    return MS_OK;
}

/* Flushes when enough was applied since the last time, or something long ago. */
static void consider_flush(struct rocks_engine *engine)
{
    struct ms_instant now = ms_clock_now();
    raft_index applied = engine->meta.meta.applied;

    if (applied <= engine->durable_applied) {
        engine->dirty_since = (struct ms_instant){0};
        return;
    }
    if (engine->dirty_since.ns == 0) {
        engine->dirty_since = now;
    }
    if (applied - engine->durable_applied >= engine->flush_entries ||
        ms_clock_elapsed_ns(engine->dirty_since, now) >= engine->flush_ns) {
        engine->dirty_since = now;
        rocks_flusher_ask(engine->flusher);
    }
}

static int rocks_engine_tick(struct engine *base, struct ms_err *err)
{
    struct rocks_engine *engine = (struct rocks_engine *)base;
    int rc;

    assert(!engine->in_batch);
    rocks_engine_forget(engine); /* files that it holds may be of no more use */
    rc = rocks_engine_measure(engine, err);
    if (rc == MS_OK) {
        consider_flush(engine);
    }
    return rc;
}

static const struct engine_ops rocks_engine_ops = {
    .name = "rocksdb",
    .close = rocks_engine_close,
    .meta = rocks_engine_meta,
    .conf = rocks_engine_conf,
    .begin = rocks_engine_begin,
    .find = rocks_engine_find,
    .change = rocks_engine_change,
    .record_put = rocks_engine_record_put,
    .record_remove = rocks_engine_record_remove,
    .set_conf = rocks_engine_set_conf,
    .commit = rocks_engine_commit,
    .get = rocks_engine_get,
    .range = rocks_engine_range,
    .records = rocks_engine_records,
    .compact_step = rocks_engine_compact_step,
    .hash = engine_hash_by_range,
    .stats = rocks_engine_stats,
    .tick = rocks_engine_tick,
    .flush = rocks_engine_flush,
    .snapshot_begin = rocks_engine_snapshot_begin,
    .snapshot_info = rocks_engine_snapshot_info,
    .snapshot_export = rocks_engine_snapshot_export,
    .snapshot_end = rocks_engine_snapshot_end,
    .install_begin = rocks_engine_install_begin,
    .install_finish = rocks_engine_install_finish,
};

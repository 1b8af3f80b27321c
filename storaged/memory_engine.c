/*
 * memory_engine: opening, batches, reads and statistics of the state engine in memory.
 */
#include "storaged/memory_engine.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storaged/engine_hash.h"
#include "storaged/memory_private.h"

/* Durability is the log's task; the map is written in place; a transaction is not a thread's. */
#define ENV_FLAGS (MDB_NOSYNC | MDB_WRITEMAP | MDB_NOTLS)

#define DATA_FILE "data.mdb"

/* New pages that an operation can take: a leaf each of index, history and records, with splits. */
#define PAGES_PER_OPERATION 4
#define PAGE_BYTES          4096

int memory_fail(int code, const char *what, struct ms_err *err)
{
    return ms_err_set(err, ms_memdb_status(code), 0, "memory engine: %s: %s", what,
                      mdb_strerror(code));
}

/* ---- transactions -------------------------------------------------------------------------- */

void memory_end_reading(struct memory_engine *engine)
{
    if (engine->reading) {
        ms_memdb_read_end(engine->read);
        engine->reading = false;
    }
}

/* A view of the newest commit for the owner thread, held until the next call. */
static int begin_reading(struct memory_engine *engine, struct ms_err *err)
{
    int rc;

    assert(engine->txn == NULL);
    memory_end_reading(engine);
    rc = ms_memdb_read_begin(engine->read);
    if (rc != MS_OK) {
        return ms_err_set(err, rc, 0, "memory engine: begin to read");
    }
    engine->reading = true;
    return MS_OK;
}

int memory_begin(struct memory_engine *engine, uint64_t need_bytes, struct ms_err *err)
{
    int code;
    int rc;

    assert(engine->txn == NULL);
    memory_end_reading(engine);
    rc = memory_space_ensure(&engine->space, need_bytes, err);
    if (rc != MS_OK) {
        return rc;
    }
    code = mdb_txn_begin(engine->env, NULL, 0, &engine->txn);
    if (code == MDB_SUCCESS) {
        code = mdb_cursor_open(engine->txn, engine->db->index, &engine->cursors.index);
    }
    if (code == MDB_SUCCESS) {
        code = mdb_cursor_open(engine->txn, engine->db->branches, &engine->cursors.branches);
    }
    if (code == MDB_SUCCESS) {
        code = mdb_cursor_open(engine->txn, engine->db->history, &engine->cursors.history);
    }
    if (code != MDB_SUCCESS) {
        memory_abort(engine);
        return memory_fail(code, "begin", err);
    }
    engine->at_end = false;
    return MS_OK;
}

static int put_main(struct memory_engine *engine, const char *name, const void *data,
                    size_t len_bytes, struct ms_err *err)
{
    MDB_val key = {strlen(name), (void *)(uintptr_t)name};
    MDB_val value = {len_bytes, (void *)(uintptr_t)data};
    int code = mdb_put(engine->txn, engine->db->main, &key, &value, 0);

    return code == MDB_SUCCESS ? MS_OK : memory_fail(code, name, err);
}

int memory_commit(struct memory_engine *engine, struct ms_err *err)
{
    MDB_txn *txn = engine->txn;
    int rc = put_main(engine, MS_MEMDB_META_KEY, &engine->meta, sizeof(engine->meta), err);
    int code;

    if (rc != MS_OK) {
        return rc;
    }
    engine->txn = NULL; /* gone, whatever the outcome; and the cursors with it */
    engine->cursors = (struct ms_memdb_cursors){0};
    ms_memdb_release(engine->env);
    code = mdb_txn_commit(txn);
    if (code != MDB_SUCCESS) {
        return memory_fail(code, "commit", err);
    }
    engine->commits++;
    memory_space_committed(&engine->space);
    return MS_OK;
}

void memory_abort(struct memory_engine *engine)
{
    if (engine->txn != NULL) {
        mdb_txn_abort(engine->txn); /* closes the cursors too */
        engine->txn = NULL;
    }
    engine->cursors = (struct ms_memdb_cursors){0};
}

/* ---- opening ------------------------------------------------------------------------------- */

/* The databases and the first meta record, in one commit. */
static int make_store(MDB_env *env, struct ms_err *err)
{
    const struct ms_memdb_record_meta meta = {
        .layout = MS_MEMDB_LAYOUT,
        .complete = 1,
        .revision = 1,
        .next_branch = 1,
    };
    MDB_val key = {sizeof(MS_MEMDB_META_KEY) - 1, (void *)(uintptr_t)MS_MEMDB_META_KEY};
    MDB_val value = {sizeof(meta), (void *)(uintptr_t)&meta};
    struct ms_memdb handles = {.env = env};
    MDB_txn *txn = NULL;
    int code = mdb_txn_begin(env, NULL, 0, &txn);
    int rc;

    if (code != MDB_SUCCESS) {
        return memory_fail(code, "make", err);
    }
    rc = ms_memdb_open_dbs(&handles, txn, true, err);
    if (rc != MS_OK) {
        mdb_txn_abort(txn);
        return rc;
    }
    code = mdb_put(txn, handles.main, &key, &value, MDB_NOOVERWRITE);
    if (code != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return memory_fail(code, "make", err);
    }
    code = mdb_txn_commit(txn);
    return code == MDB_SUCCESS ? MS_OK : memory_fail(code, "make", err);
}

static const struct engine_ops memory_ops;

static int open_env(const char *directory, uint64_t limit_bytes, bool make, struct engine **out,
                    struct ms_err *err)
{
    struct memory_engine *engine = calloc(1, sizeof(*engine));
    uint64_t map_bytes = memory_space_map_bytes(limit_bytes);
    int code;
    int rc;

    if (engine == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory engine: out of memory");
    }
    engine->base.ops = &memory_ops;
    code = mdb_env_create(&engine->env);
    if (code == MDB_SUCCESS) {
        code = mdb_env_set_maxdbs(engine->env, MS_MEMDB_DBS);
    }
    if (code == MDB_SUCCESS) {
        code = mdb_env_set_maxreaders(engine->env, MS_MEMDB_READERS_MAX);
    }
    if (code == MDB_SUCCESS) {
        code = mdb_env_set_mapsize(engine->env, map_bytes);
    }
    if (code == MDB_SUCCESS) {
        code = mdb_env_open(engine->env, directory, ENV_FLAGS, 0600);
    }
    if (code != MDB_SUCCESS) {
        rc = ms_err_set(err, ms_memdb_status(code), 0, "memory engine: open %s: %s", directory,
                        mdb_strerror(code));
        goto out;
    }
    rc = memory_space_init(&engine->space, engine->env, limit_bytes, map_bytes, err);
    if (rc == MS_OK && make) {
        rc = make_store(engine->env, err);
    }
    if (rc == MS_OK) {
        rc = ms_memdb_attach(engine->env, &engine->db, err);
    }
    if (rc == MS_OK) {
        rc = ms_memdb_read_create(engine->db, &engine->read, err);
    }
    if (rc == MS_OK) {
        rc = begin_reading(engine, err);
    }
    if (rc == MS_OK) {
        rc = ms_memdb_load_meta(engine->db, ms_memdb_read_txn(engine->read), &engine->meta);
        memory_end_reading(engine);
    }
    if (rc == MS_OK) {
        rc = memory_space_measure(&engine->space, err);
    }
    if (rc != MS_OK) {
        goto out;
    }
    *out = &engine->base;
    engine = NULL;

out:
    if (engine != NULL) {
        memory_ops.close(&engine->base);
    }
    return rc;
}

int memory_engine_create(const char *directory, uint64_t limit_bytes, struct engine **out,
                         struct ms_err *err)
{
    return open_env(directory, limit_bytes, true, out, err);
}

int memory_engine_open(const char *directory, uint64_t limit_bytes, struct engine **out,
                       struct ms_err *err)
{
    char path[4096];
    int length = snprintf(path, sizeof(path), "%s/%s", directory, DATA_FILE);

    if (length < 0 || (size_t)length >= sizeof(path)) {
        return ms_err_set(err, MS_EINVAL, 0, "memory engine: path too long: %s", directory);
    }
    /* LMDB would make what is not there. */
    if (access(path, R_OK | W_OK) != 0) {
        return ms_err_set(err, errno == ENOENT ? MS_ENOENT : MS_EIO, errno,
                          "memory engine: open %s", path);
    }
    return open_env(directory, limit_bytes, false, out, err);
}

static void memory_close(struct engine *base)
{
    struct memory_engine *engine = (struct memory_engine *)base;

    assert(engine->snapshots == 0);
    memory_abort(engine);
    if (engine->read != NULL) {
        memory_end_reading(engine);
        ms_memdb_read_destroy(engine->read);
    }
    ms_memdb_close(engine->db);
    if (engine->env != NULL) {
        mdb_env_close(engine->env);
    }
    free(engine->install);
    free(engine);
}

/* ---- one batch ----------------------------------------------------------------------------- */

static void memory_meta(const struct engine *base, struct ms_memdb_meta *out)
{
    const struct memory_engine *engine = (const struct memory_engine *)base;

    *out = (struct ms_memdb_meta){
        .applied = engine->meta.applied,
        .applied_term = engine->meta.applied_term,
        .revision = engine->meta.revision,
        .compact_revision = engine->meta.compact_revision,
        .keys = engine->meta.keys,
    };
}

static int memory_batch_begin(struct engine *base, const struct engine_volume *volume,
                              struct ms_err *err)
{
    uint64_t key_bytes = (uint64_t)volume->operations * MS_KEY_BYTES_MAX;
    uint64_t pages = (uint64_t)volume->operations * PAGES_PER_OPERATION;

    /* A long key takes a page for each of its parts. */
    if (key_bytes > volume->bytes) {
        key_bytes = volume->bytes;
    }
    pages += key_bytes / MS_MEMDB_BRANCH_CHUNK;
    return memory_begin((struct memory_engine *)base, 2 * volume->bytes + pages * PAGE_BYTES, err);
}

static int memory_record_put(struct engine *base, const uint8_t *name, size_t name_bytes,
                             const uint8_t *value, size_t value_bytes, struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;
    MDB_val key = {name_bytes, (void *)(uintptr_t)name};
    MDB_val data = {value_bytes, (void *)(uintptr_t)value};
    int code;

    assert(engine->txn != NULL);
    assert(name_bytes > 0 && name_bytes <= ENGINE_RECORD_NAME_MAX);
    code = mdb_put(engine->txn, engine->db->records, &key, &data, 0);
    return code == MDB_SUCCESS ? MS_OK : memory_fail(code, "put a record", err);
}

static int memory_record_remove(struct engine *base, const uint8_t *name, size_t name_bytes,
                                struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;
    MDB_val key = {name_bytes, (void *)(uintptr_t)name};
    int code;

    assert(engine->txn != NULL);
    code = mdb_del(engine->txn, engine->db->records, &key, NULL);
    return code == MDB_SUCCESS || code == MDB_NOTFOUND ? MS_OK
                                                       : memory_fail(code, "remove a record", err);
}

static int memory_set_conf(struct engine *base, const uint8_t *conf, size_t len_bytes,
                           struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;

    assert(engine->txn != NULL);
    assert(len_bytes <= MS_CONF_STATE_BYTES_MAX);
    return put_main(engine, MEMORY_CONF_KEY, conf, len_bytes, err);
}

static int memory_batch_commit(struct engine *base, const struct ms_memdb_meta *meta,
                               struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;

    assert(engine->txn != NULL);
    engine->meta.applied = meta->applied;
    engine->meta.applied_term = meta->applied_term;
    engine->meta.revision = meta->revision;
    engine->meta.compact_revision = meta->compact_revision;
    engine->meta.keys = meta->keys;
    return memory_commit(engine, err);
}

/* ---- reading ------------------------------------------------------------------------------- */

static int memory_conf(struct engine *base, uint8_t *dst, size_t *len_bytes, struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;
    int rc = begin_reading(engine, err);

    if (rc == MS_OK) {
        rc = memory_read_conf(engine->db, ms_memdb_read_txn(engine->read), dst, len_bytes, err);
        memory_end_reading(engine);
    }
    return rc;
}

static int memory_get(struct engine *base, const uint8_t *key, size_t key_bytes, uint64_t revision,
                      struct ms_memdb_kv *out, struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;
    int rc = begin_reading(engine, err);

    if (rc != MS_OK) {
        return rc;
    }
    rc = ms_memdb_get(engine->read, key, key_bytes, revision, out);
    return rc == MS_OK ? MS_OK
                       : ms_err_set(err, rc, 0, "memory engine: get at revision %llu",
                                    (unsigned long long)revision);
}

static int memory_range(struct engine *base, const struct ms_memdb_range *range,
                        bool (*visit)(void *ctx, const struct ms_memdb_kv *kv), void *ctx,
                        struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;
    int rc = begin_reading(engine, err);

    if (rc != MS_OK) {
        return rc;
    }
    rc = ms_memdb_walk(engine->read, range, visit, ctx);
    memory_end_reading(engine);
    return rc == MS_OK ? MS_OK
                       : ms_err_set(err, rc, 0, "memory engine: range at revision %llu",
                                    (unsigned long long)range->revision);
}

static int memory_records(struct engine *base,
                          int (*visit)(void *ctx, const uint8_t *name, size_t name_bytes,
                                       const uint8_t *value, size_t value_bytes,
                                       struct ms_err *err),
                          void *ctx, struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;
    int rc = begin_reading(engine, err);

    if (rc == MS_OK) {
        rc = memory_walk_records(engine->db, ms_memdb_read_txn(engine->read), visit, ctx, err);
        memory_end_reading(engine);
    }
    return rc;
}

/* ---- housekeeping -------------------------------------------------------------------------- */

static void memory_stats(const struct engine *base, struct engine_stats *out)
{
    const struct memory_engine *engine = (const struct memory_engine *)base;

    *out = (struct engine_stats){
        .used_bytes = engine->space.used_bytes,
        .file_bytes = engine->space.reserved_bytes,
        .limit_bytes = engine->space.limit_bytes,
        .commits = engine->commits,
        .compacted_to = engine->meta.compacted_to,
        .memory_full = engine->space.full,
    };
}

static int memory_tick(struct engine *base, struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;
    int dead = 0;
    int code;

    assert(engine->txn == NULL);
    code = mdb_reader_check(engine->env, &dead);
    if (code != MDB_SUCCESS) {
        return memory_fail(code, "check the readers", err);
    }
    return memory_space_measure(&engine->space, err);
}

static const struct engine_ops memory_ops = {
    .name = "memory",
    .close = memory_close,
    .meta = memory_meta,
    .conf = memory_conf,
    .begin = memory_batch_begin,
    .find = memory_find,
    .change = memory_change,
    .record_put = memory_record_put,
    .record_remove = memory_record_remove,
    .set_conf = memory_set_conf,
    .commit = memory_batch_commit,
    .get = memory_get,
    .range = memory_range,
    .records = memory_records,
    .compact_step = memory_compact_step,
    .hash = engine_hash_by_range,
    .stats = memory_stats,
    .tick = memory_tick,
    .snapshot_begin = memory_snapshot_begin,
    .snapshot_info = memory_snapshot_info,
    .snapshot_export = memory_snapshot_export,
    .snapshot_end = memory_snapshot_end,
    .install_begin = memory_install_begin,
    .install_finish = memory_install_finish,
};

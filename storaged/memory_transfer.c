/*
 * memory_transfer: the memory engine's content out of it and into an empty one.
 *
 * Out: the side records and the configuration come from one view, keys and history from views that
 * are renewed every now and then, so that no page stays pinned for long. That is sound because
 * nothing at or below the snapshot's revision changes while physical compaction is held back, and
 * what is newer is left out. In: everything comes in order and is appended.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "storaged/memory_private.h"

/* A view is renewed after so many items or bytes. */
#define SLICE_ITEMS 2048
#define SLICE_BYTES (256 * 1024)

/* An installation commits after so many items or bytes. */
#define INSTALL_ITEMS 16384
#define INSTALL_BYTES (UINT64_C(4) << 20)

struct engine_snapshot {
    struct memory_engine *engine;
    struct ms_memdb_read *read;
    bool exported;
    struct engine_snapshot_info info;
};

/* ---- out ----------------------------------------------------------------------------------- */

int memory_read_conf(const struct ms_memdb *db, MDB_txn *txn, uint8_t *dst, size_t *len_bytes,
                     struct ms_err *err)
{
    MDB_val key = {sizeof(MEMORY_CONF_KEY) - 1, (void *)(uintptr_t)MEMORY_CONF_KEY};
    MDB_val value;
    int code = mdb_get(txn, db->main, &key, &value);

    if (code == MDB_NOTFOUND) {
        *len_bytes = 0;
        return MS_OK;
    }
    if (code != MDB_SUCCESS) {
        return memory_fail(code, "read the configuration", err);
    }
    if (value.mv_size > MS_CONF_STATE_BYTES_MAX) {
        return ms_err_set(err, MS_ECORRUPT, 0, "memory engine: configuration of %zu bytes",
                          value.mv_size);
    }
    memcpy(dst, value.mv_data, value.mv_size);
    *len_bytes = value.mv_size;
    return MS_OK;
}

int memory_walk_records(const struct ms_memdb *db, MDB_txn *txn,
                        int (*visit)(void *ctx, const uint8_t *name, size_t name_bytes,
                                     const uint8_t *value, size_t value_bytes, struct ms_err *err),
                        void *ctx, struct ms_err *err)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    int rc = MS_OK;
    int code = mdb_cursor_open(txn, db->records, &cursor);

    if (code != MDB_SUCCESS) {
        return memory_fail(code, "read the records", err);
    }
    while (rc == MS_OK && (code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == MDB_SUCCESS) {
        rc = visit(ctx, key.mv_data, key.mv_size, value.mv_data, value.mv_size, err);
    }
    if (rc == MS_OK && code != MDB_NOTFOUND) {
        rc = memory_fail(code, "read the records", err);
    }
    mdb_cursor_close(cursor);
    return rc;
}

int memory_snapshot_begin(struct engine *base, struct engine_snapshot **out, struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;
    struct engine_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    int rc;

    assert(engine->txn == NULL);
    if (snapshot == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory engine: out of memory");
    }
    snapshot->engine = engine;
    snapshot->info.compacted_to = engine->meta.compacted_to;
    rc = ms_memdb_read_create(engine->db, &snapshot->read, err);
    if (rc != MS_OK) {
        goto out;
    }
    rc = ms_memdb_read_begin(snapshot->read);
    if (rc == MS_OK) {
        rc = ms_memdb_read_meta(snapshot->read, &snapshot->info.meta);
    }
    if (rc != MS_OK) {
        (void)ms_err_set(err, rc, 0, "memory engine: begin a snapshot");
        goto out;
    }
    rc = memory_read_conf(engine->db, ms_memdb_read_txn(snapshot->read), snapshot->info.conf,
                          &snapshot->info.conf_bytes, err);
    if (rc != MS_OK) {
        goto out;
    }
    engine->snapshots++;
    *out = snapshot;
    snapshot = NULL;

out:
    if (snapshot != NULL) {
        ms_memdb_read_destroy(snapshot->read);
        free(snapshot);
    }
    return rc;
}

void memory_snapshot_info(const struct engine_snapshot *snapshot, struct engine_snapshot_info *out)
{
    *out = snapshot->info;
}

void memory_snapshot_end(struct engine *base, struct engine_snapshot *snapshot)
{
    struct memory_engine *engine = (struct memory_engine *)base;

    assert(engine->snapshots > 0);
    engine->snapshots--;
    ms_memdb_read_destroy(snapshot->read);
    free(snapshot);
}

static int renew(struct engine_snapshot *snapshot, struct ms_err *err)
{
    int rc;

    ms_memdb_read_end(snapshot->read);
    rc = ms_memdb_read_begin(snapshot->read);
    if (rc == MS_OK && ms_memdb_read_cursors(snapshot->read) == NULL) {
        rc = MS_ECORRUPT;
    }
    return rc == MS_OK ? MS_OK : ms_err_set(err, rc, 0, "memory engine: go on with a snapshot");
}

/* The stamps of the key that the walker is at, up to the snapshot's revision. */
static int export_stamps(const struct engine_snapshot *snapshot, struct ms_memdb_walker *walker,
                         const struct engine_sink *sink, size_t *count, struct ms_err *err)
{
    struct engine_stamp stamps[ENGINE_STAMPS_MAX];
    MDB_val part;
    MDB_val value;
    size_t waiting = 0;
    size_t total = 0;
    int rc = MS_OK;
    int code = mdb_cursor_get(walker->at, &part, &value, MDB_GET_CURRENT);

    for (; code == MDB_SUCCESS; code = mdb_cursor_get(walker->at, &part, &value, MDB_NEXT_DUP)) {
        struct ms_memdb_stamp stamp;

        if (ms_memdb_decode_stamp(&value, &stamp) != MS_OK) {
            return ms_err_set(err, MS_ECORRUPT, 0, "memory engine: not a stamp");
        }
        if (stamp.revision > snapshot->info.meta.revision) {
            code = MDB_NOTFOUND;
            break;
        }
        if (waiting == ENGINE_STAMPS_MAX) {
            rc = sink->key(sink->ctx, walker->key, walker->key_bytes, stamps, waiting, err);
            if (rc != MS_OK) {
                return rc;
            }
            waiting = 0;
        }
        stamps[waiting++] = (struct engine_stamp){stamp.revision, stamp.sub, stamp.tombstone};
        total++;
    }
    if (code != MDB_NOTFOUND) {
        return memory_fail(code, "read stamps", err);
    }
    *count = total;
    return waiting == 0
               ? MS_OK
               : sink->key(sink->ctx, walker->key, walker->key_bytes, stamps, waiting, err);
}

static int export_keys(struct engine_snapshot *snapshot, const struct engine_sink *sink,
                       struct ms_err *err)
{
    struct ms_memdb_walker walker;
    uint8_t last[MS_KEY_BYTES_MAX];
    size_t items = 0;
    int rc;

    ms_memdb_walker_init(&walker, ms_memdb_read_cursors(snapshot->read));
    rc = ms_memdb_walker_seek(&walker, NULL, 0, false);
    while (rc == MS_OK) {
        size_t count = 0;

        rc = export_stamps(snapshot, &walker, sink, &count, err);
        if (rc != MS_OK) {
            return rc;
        }
        items += count + 1;
        if (items < SLICE_ITEMS) {
            rc = ms_memdb_walker_next(&walker);
            continue;
        }
        items = 0;
        memcpy(last, walker.key, walker.key_bytes);
        rc = renew(snapshot, err);
        if (rc != MS_OK) {
            return rc;
        }
        rc = ms_memdb_walker_seek(&walker, last, walker.key_bytes, true);
    }
    return rc == MS_ENOENT ? MS_OK : ms_err_set(err, rc, 0, "memory engine: walk over the keys");
}

static int export_change(const struct engine_snapshot *snapshot, const MDB_val *key,
                         const MDB_val *value, const struct engine_sink *sink,
                         struct ms_memdb_stamp *last, bool *end, struct ms_err *err)
{
    struct engine_change change;

    if (ms_memdb_decode_change(key, value, last, &change.kv) != MS_OK) {
        return ms_err_set(err, MS_ECORRUPT, 0, "memory engine: not a history record");
    }
    if (last->revision > snapshot->info.meta.revision) {
        *end = true;
        return MS_OK;
    }
    change.sub = last->sub;
    change.tombstone = last->tombstone;
    return sink->change(sink->ctx, &change, err);
}

static int export_history(struct engine_snapshot *snapshot, const struct engine_sink *sink,
                          struct ms_err *err)
{
    struct ms_memdb_stamp next = {.revision = 0};
    bool end = false;

    while (!end) {
        const struct ms_memdb_cursors *cursors = ms_memdb_read_cursors(snapshot->read);
        uint8_t name[MS_MEMDB_STAMP_BYTES];
        MDB_val key = {ms_memdb_history_key(&next, name), name};
        MDB_val value;
        size_t items = 0;
        size_t bytes = 0;
        int rc = MS_OK;
        int code = mdb_cursor_get(cursors->history, &key, &value, MDB_SET_RANGE);

        while (code == MDB_SUCCESS && rc == MS_OK && !end && items < SLICE_ITEMS &&
               bytes < SLICE_BYTES) {
            bytes += value.mv_size;
            items++;
            rc = export_change(snapshot, &key, &value, sink, &next, &end, err);
            if (rc == MS_OK) {
                code = mdb_cursor_get(cursors->history, &key, &value, MDB_NEXT);
            }
        }
        if (rc != MS_OK) {
            return rc;
        }
        if (code == MDB_NOTFOUND) {
            end = true;
        } else if (code != MDB_SUCCESS) {
            return memory_fail(code, "read the history", err);
        }
        next.sub++; /* right behind the last one */
        rc = renew(snapshot, err);
        if (rc != MS_OK) {
            return rc;
        }
    }
    return MS_OK;
}

int memory_snapshot_export(struct engine_snapshot *snapshot, const struct engine_sink *sink,
                           struct ms_err *err)
{
    int rc;

    assert(!snapshot->exported);
    snapshot->exported = true;
    rc = memory_walk_records(snapshot->engine->db, ms_memdb_read_txn(snapshot->read), sink->record,
                             sink->ctx, err);
    if (rc == MS_OK) {
        rc = renew(snapshot, err);
    }
    if (rc == MS_OK) {
        rc = export_keys(snapshot, sink, err);
    }
    if (rc == MS_OK) {
        rc = export_history(snapshot, sink, err);
    }
    return rc;
}

/* ---- in ------------------------------------------------------------------------------------ */

static int install_commit(struct memory_engine *engine, struct ms_err *err)
{
    engine->install->pending_bytes = 0;
    engine->install->pending_items = 0;
    return memory_commit(engine, err);
}

/* Room and an open transaction for one more item. */
static int install_room(struct memory_engine *engine, uint64_t bytes, struct ms_err *err)
{
    struct memory_install *install = engine->install;
    int rc;

    if (engine->txn != NULL && (install->pending_items >= INSTALL_ITEMS ||
                                install->pending_bytes + bytes > INSTALL_BYTES)) {
        rc = install_commit(engine, err);
        if (rc != MS_OK) {
            return rc;
        }
    }
    if (engine->txn == NULL) {
        rc = memory_begin(engine, 2 * (bytes + INSTALL_BYTES), err);
        if (rc != MS_OK) {
            return rc;
        }
    }
    install->pending_items++;
    install->pending_bytes += bytes;
    return MS_OK;
}

static int install_record(void *ctx, const uint8_t *name, size_t name_bytes, const uint8_t *value,
                          size_t value_bytes, struct ms_err *err)
{
    struct memory_engine *engine = ctx;
    int rc = content_check_record(name, name_bytes, err);

    if (rc == MS_OK) {
        rc = install_room(engine, name_bytes + value_bytes, err);
    }
    return rc == MS_OK ? engine_record_put(&engine->base, name, name_bytes, value, value_bytes, err)
                       : rc;
}

static int install_key(void *ctx, const uint8_t *key, size_t key_bytes,
                       const struct engine_stamp *stamps, size_t count, struct ms_err *err)
{
    struct memory_engine *engine = ctx;
    bool is_new = false;
    int rc =
        content_check_key(&engine->install->check, key, key_bytes, stamps, count, &is_new, err);

    if (rc == MS_OK) {
        rc = install_room(engine, key_bytes + count * MS_MEMDB_STAMP_BYTES, err);
    }
    for (size_t i = 0; i < count && rc == MS_OK; i++) {
        const struct ms_memdb_stamp stamp = {stamps[i].revision, stamps[i].sub,
                                             stamps[i].tombstone};

        rc = memory_put_stamp(engine, key, key_bytes, &stamp, is_new && i == 0, err);
    }
    return rc;
}

static int install_change(void *ctx, const struct engine_change *change, struct ms_err *err)
{
    struct memory_engine *engine = ctx;
    int rc = content_check_change(&engine->install->check, change, err);

    if (rc == MS_OK) {
        rc = install_room(engine, change->kv.key_bytes + change->kv.value_bytes, err);
    }
    return rc == MS_OK ? memory_put_history(engine, change, err) : rc;
}

int memory_install_begin(struct engine *base, struct engine_sink *out, struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;
    int rc;

    assert(engine->txn == NULL && engine->install == NULL);
    assert(engine->meta.applied == 0 && engine->meta.revision == 1);
    engine->install = calloc(1, sizeof(*engine->install));
    if (engine->install == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory engine: out of memory");
    }
    rc = memory_begin(engine, INSTALL_BYTES, err);
    if (rc != MS_OK) {
        return rc;
    }
    engine->meta.complete = 0;
    rc = install_commit(engine, err);
    if (rc != MS_OK) {
        return rc;
    }
    *out = (struct engine_sink){
        .record = install_record,
        .key = install_key,
        .change = install_change,
        .ctx = engine,
    };
    return MS_OK;
}

int memory_install_finish(struct engine *base, const struct engine_snapshot_info *info,
                          struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;
    int rc;

    assert(engine->install != NULL);
    rc = content_check_finish(&engine->install->check, info, err);
    if (rc == MS_OK) {
        rc = install_room(engine, info->conf_bytes, err);
    }
    if (rc == MS_OK && info->conf_bytes > 0) {
        rc = engine_set_conf(base, info->conf, info->conf_bytes, err);
    }
    if (rc != MS_OK) {
        return rc;
    }
    engine->meta.complete = 1;
    engine->meta.applied = info->meta.applied;
    engine->meta.applied_term = info->meta.applied_term;
    engine->meta.revision = info->meta.revision;
    engine->meta.compact_revision = info->meta.compact_revision;
    engine->meta.keys = info->meta.keys;
    engine->meta.compacted_to = info->compacted_to;
    rc = install_commit(engine, err);
    free(engine->install);
    engine->install = NULL;
    return rc;
}

/*
 * rocks_engine_transfer: this engine's content out of it and into an empty one.
 *
 * Out: all of it from one view, which later writes do not touch. In: the versions carry everything,
 * so the stamps that come before are only checked; each change becomes a version and its place in
 * the history.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "storaged/rocks_engine_private.h"

/* An installation writes after so many bytes. */
#define INSTALL_BYTES ((size_t)4 << 20)

struct engine_snapshot {
    struct rocks_engine *engine;
    struct rocks_view *view;
    bool exported;
    struct engine_snapshot_info info;
};

/* ---- out ----------------------------------------------------------------------------------- */

int rocks_engine_snapshot_begin(struct engine *base, struct engine_snapshot **out,
                                struct ms_err *err)
{
    struct rocks_engine *engine = (struct rocks_engine *)base;
    struct engine_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    int rc;

    assert(!engine->in_batch);
    if (snapshot == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a snapshot");
    }
    snapshot->engine = engine;
    snapshot->view = rocks_view_take(engine->db);
    snapshot->info.meta = engine->meta.meta;
    snapshot->info.compacted_to = engine->meta.compacted_to;
    rc = rocks_engine_load_conf(engine->db, snapshot->view, snapshot->info.conf,
                                &snapshot->info.conf_bytes, err);
    if (rc != MS_OK) {
        rocks_view_release(engine->db, snapshot->view);
        free(snapshot);
        return rc;
    }
    engine->snapshots++;
    *out = snapshot;
    return MS_OK;
}

void rocks_engine_snapshot_info(const struct engine_snapshot *snapshot,
                                struct engine_snapshot_info *out)
{
    *out = snapshot->info;
}

void rocks_engine_snapshot_end(struct engine *base, struct engine_snapshot *snapshot)
{
    struct rocks_engine *engine = (struct rocks_engine *)base;

    assert(engine->snapshots > 0);
    engine->snapshots--;
    rocks_view_release(engine->db, snapshot->view);
    free(snapshot);
}

/* What the walk over the versions has of the key it is at. */
struct key_stamps {
    uint8_t key[MS_KEY_BYTES_MAX];
    size_t key_bytes;
    size_t prefix_bytes;
    uint8_t prefix[ROCKS_LAYOUT_KEY_BYTES_MAX];
    size_t count; /* of stamps, newest first; those beyond ENGINE_STAMPS_MAX are not kept */
    struct engine_stamp stamps[ENGINE_STAMPS_MAX];
};

/* Sends what the array holds, which is newest first, in ascending order. */
static int send_reversed(const struct key_stamps *at, const struct engine_sink *sink,
                         struct ms_err *err)
{
    struct engine_stamp ascending[ENGINE_STAMPS_MAX];

    for (size_t i = 0; i < at->count; i++) {
        ascending[i] = at->stamps[at->count - 1 - i];
    }
    return sink->key(sink->ctx, at->key, at->key_bytes, ascending, at->count, err);
}

/* The same for a key with more: goes back over its versions from the oldest. */
static int send_backwards(const struct engine_snapshot *snapshot, const struct key_stamps *at,
                          const struct engine_sink *sink, struct ms_err *err)
{
    const struct rocks_iter_options options = {
        .family = ROCKS_LAYOUT_VERSIONS, .view = snapshot->view, .bulk = true};
    struct rocks_iter *iter = rocks_iter_create(snapshot->engine->db, &options);
    struct engine_stamp stamps[ENGINE_STAMPS_MAX];
    struct rocks_layout_key behind;
    size_t waiting = 0;
    size_t left = at->count;
    bool stands;
    int rc = MS_OK;

    if (iter == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a snapshot");
    }
    behind.prefix_bytes = at->prefix_bytes;
    memcpy(behind.data, at->prefix, at->prefix_bytes);
    rocks_layout_pass_key(&behind);
    for (stands = rocks_iter_seek_before(iter, behind.data, behind.prefix_bytes);
         stands && left > 0 && rc == MS_OK; stands = rocks_iter_previous(iter)) {
        struct rocks_version version;

        rc = rocks_engine_version(snapshot->engine, iter, &version, err);
        if (rc != MS_OK) {
            break;
        }
        stamps[waiting++] = version.stamp;
        left--;
        if (waiting == ENGINE_STAMPS_MAX || left == 0) {
            rc = sink->key(sink->ctx, at->key, at->key_bytes, stamps, waiting, err);
            waiting = 0;
        }
    }
    if (rc == MS_OK && left > 0) {
        rc = rocks_iter_status(iter, err);
        if (rc == MS_OK) {
            rc = rocks_engine_corrupt(snapshot->engine, "the versions of a key", err);
        }
    }
    rocks_iter_destroy(iter);
    return rc;
}

static int send_key(const struct engine_snapshot *snapshot, const struct key_stamps *at,
                    const struct engine_sink *sink, struct ms_err *err)
{
    if (at->count == 0) {
        return MS_OK;
    }
    return at->count <= ENGINE_STAMPS_MAX ? send_reversed(at, sink, err)
                                          : send_backwards(snapshot, at, sink, err);
}

/* Makes the key that the iterator stands on the one that stamps are collected for. */
static int enter_key(const struct engine_snapshot *snapshot, const uint8_t *key, size_t bytes,
                     struct key_stamps *at, struct ms_err *err)
{
    if (bytes > sizeof(at->prefix) + ROCKS_LAYOUT_STAMP_BYTES ||
        rocks_layout_split(key, bytes, at->key, &at->key_bytes) != MS_OK) {
        return rocks_engine_corrupt(snapshot->engine, "a key", err);
    }
    at->prefix_bytes = bytes - ROCKS_LAYOUT_STAMP_BYTES;
    memcpy(at->prefix, key, at->prefix_bytes);
    at->count = 0;
    return MS_OK;
}

static int walk_keys(const struct engine_snapshot *snapshot, struct rocks_iter *iter,
                     struct key_stamps *at, const struct engine_sink *sink, struct ms_err *err)
{
    int rc = MS_OK;

    for (bool stands = rocks_iter_seek(iter, (const uint8_t *)"", 0); stands && rc == MS_OK;
         stands = rocks_iter_next(iter)) {
        struct rocks_version version;
        size_t bytes = 0;
        const uint8_t *key = rocks_iter_key(iter, &bytes);

        if (at->prefix_bytes == 0 || bytes < at->prefix_bytes ||
            memcmp(key, at->prefix, at->prefix_bytes) != 0) {
            rc = send_key(snapshot, at, sink, err);
            if (rc == MS_OK) {
                rc = enter_key(snapshot, key, bytes, at, err);
            }
        }
        if (rc == MS_OK) {
            rc = rocks_engine_version(snapshot->engine, iter, &version, err);
        }
        if (rc != MS_OK) {
            return rc;
        }
        if (at->count < ENGINE_STAMPS_MAX) {
            at->stamps[at->count] = version.stamp;
        }
        at->count++;
    }
    if (rc == MS_OK) {
        rc = rocks_iter_status(iter, err);
    }
    return rc == MS_OK ? send_key(snapshot, at, sink, err) : rc;
}

static int export_keys(const struct engine_snapshot *snapshot, const struct engine_sink *sink,
                       struct ms_err *err)
{
    const struct rocks_iter_options options = {
        .family = ROCKS_LAYOUT_VERSIONS, .view = snapshot->view, .bulk = true};
    struct rocks_iter *iter = rocks_iter_create(snapshot->engine->db, &options);
    struct key_stamps *at = calloc(1, sizeof(*at));
    int rc;

    if (iter == NULL || at == NULL) {
        rc = ms_err_set(err, MS_ENOMEM, 0, "memory for a snapshot");
    } else {
        rc = walk_keys(snapshot, iter, at, sink, err);
    }
    free(at);
    rocks_iter_destroy(iter);
    return rc;
}

/* Sends the change at a place in the history, whose key is given. */
static int export_change(const struct engine_snapshot *snapshot, struct rocks_layout_key *name,
                         struct engine_change *change, const struct engine_sink *sink,
                         struct ms_err *err)
{
    const struct rocks_engine *engine = snapshot->engine;
    uint64_t revision = change->kv.mod_revision;
    struct ms_memdb_kv *kv = &change->kv;
    const uint8_t *key = kv->key;
    size_t key_bytes = kv->key_bytes;
    struct rocks_value value;
    struct rocks_key at;
    int rc;

    if (key_bytes == 0 || key_bytes > MS_KEY_BYTES_MAX) {
        return rocks_engine_corrupt(engine, "a key in the history", err);
    }
    rocks_layout_set_key(name, key, key_bytes);
    rocks_layout_set_stamp(name, revision, change->sub);
    at = (struct rocks_key){ROCKS_LAYOUT_VERSIONS, name->data, rocks_layout_bytes(name)};
    rc = rocks_get(engine->db, snapshot->view, &at, &value, err);
    if (rc != MS_OK) {
        return rc == MS_ENOENT ? rocks_engine_corrupt(engine, "a change without its version", err)
                               : rc;
    }
    rc = rocks_layout_decode_version(value.data, value.bytes, kv, &change->tombstone);
    if (rc == MS_OK) {
        kv->key = key;
        kv->key_bytes = key_bytes;
        kv->mod_revision = revision;
        rc = sink->change(sink->ctx, change, err);
    } else {
        rc = rocks_engine_corrupt(engine, "a version of a key", err);
    }
    rocks_value_release(engine->db, &value);
    return rc;
}

static int export_history(const struct engine_snapshot *snapshot, const struct engine_sink *sink,
                          struct ms_err *err)
{
    const struct rocks_iter_options options = {
        .family = ROCKS_LAYOUT_HISTORY, .view = snapshot->view, .bulk = true};
    struct rocks_iter *iter = rocks_iter_create(snapshot->engine->db, &options);
    struct rocks_layout_key name;
    int rc = MS_OK;

    if (iter == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a snapshot");
    }
    for (bool stands = rocks_iter_seek(iter, (const uint8_t *)"", 0); stands && rc == MS_OK;
         stands = rocks_iter_next(iter)) {
        struct engine_change change = {0};
        size_t bytes = 0;
        const uint8_t *place = rocks_iter_key(iter, &bytes);

        if (rocks_layout_decode_history_key(place, bytes, &change.kv.mod_revision, &change.sub) !=
            MS_OK) {
            rc = rocks_engine_corrupt(snapshot->engine, "a place in the history", err);
            break;
        }
        change.kv.key = rocks_iter_value(iter, &change.kv.key_bytes);
        rc = export_change(snapshot, &name, &change, sink, err);
    }
    if (rc == MS_OK) {
        rc = rocks_iter_status(iter, err);
    }
    rocks_iter_destroy(iter);
    return rc;
}

int rocks_engine_snapshot_export(struct engine_snapshot *snapshot, const struct engine_sink *sink,
                                 struct ms_err *err)
{
    int rc;

    assert(!snapshot->exported);
    snapshot->exported = true;
    rc = rocks_engine_walk_records(snapshot->engine->db, snapshot->view, sink->record, sink->ctx,
                                   err);
    if (rc == MS_OK) {
        rc = export_keys(snapshot, sink, err);
    }
    return rc == MS_OK ? export_history(snapshot, sink, err) : rc;
}

/* ---- in ------------------------------------------------------------------------------------ */

/* Writes what has gathered when it is much. */
static int install_write(struct rocks_engine *engine, struct ms_err *err)
{
    return rocks_batch_bytes(engine->batch) < INSTALL_BYTES ? MS_OK
                                                            : rocks_engine_write_batch(engine, err);
}

static int install_record(void *ctx, const uint8_t *name, size_t name_bytes, const uint8_t *value,
                          size_t value_bytes, struct ms_err *err)
{
    struct rocks_engine *engine = ctx;
    const struct rocks_piece piece = {value, value_bytes};
    int rc = content_check_record(name, name_bytes, err);

    if (rc != MS_OK) {
        return rc;
    }
    rocks_batch_put(engine->batch, ROCKS_LAYOUT_RECORDS, name, name_bytes, &piece, 1);
    return install_write(engine, err);
}

static int install_key(void *ctx, const uint8_t *key, size_t key_bytes,
                       const struct engine_stamp *stamps, size_t count, struct ms_err *err)
{
    struct rocks_engine *engine = ctx;
    bool is_new;

    return content_check_key(engine->install, key, key_bytes, stamps, count, &is_new, err);
}

static int install_change(void *ctx, const struct engine_change *change, struct ms_err *err)
{
    struct rocks_engine *engine = ctx;
    int rc = content_check_change(engine->install, change, err);

    if (rc != MS_OK) {
        return rc;
    }
    rocks_engine_put_change(engine, change);
    return install_write(engine, err);
}

int rocks_engine_install_begin(struct engine *base, struct engine_sink *out, struct ms_err *err)
{
    struct rocks_engine *engine = (struct rocks_engine *)base;
    int rc;

    assert(!engine->in_batch && engine->install == NULL);
    assert(engine->meta.meta.applied == 0 && engine->meta.meta.revision == 1);
    engine->install = calloc(1, sizeof(*engine->install));
    if (engine->install == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory to install a snapshot");
    }
    engine->meta.complete = false;
    rc = rocks_engine_write_batch(engine, err);
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

int rocks_engine_install_finish(struct engine *base, const struct engine_snapshot_info *info,
                                struct ms_err *err)
{
    struct rocks_engine *engine = (struct rocks_engine *)base;
    int rc;

    assert(engine->install != NULL);
    rc = content_check_finish(engine->install, info, err);
    if (rc != MS_OK) {
        return rc;
    }
    if (info->conf_bytes > 0) {
        const struct rocks_piece piece = {info->conf, info->conf_bytes};

        rocks_batch_put(engine->batch, ROCKS_LAYOUT_META, (const uint8_t *)ROCKS_LAYOUT_CONF_KEY,
                        strlen(ROCKS_LAYOUT_CONF_KEY), &piece, 1);
    }
    engine->meta = (struct rocks_layout_meta){
        .meta = info->meta, .compacted_to = info->compacted_to, .complete = true};
    rc = rocks_engine_write_batch(engine, err);
    if (rc != MS_OK) {
        return rc;
    }
    engine->last = (struct engine_stamp){.revision = info->meta.revision, .sub = UINT32_MAX};
    free(engine->install);
    engine->install = NULL;
    /* Else the next crash would undo all of it, and it would be done again. */
    rocks_flush(engine->db, ROCKS_LAYOUT_META);
    rc = rocks_engine_measure(engine, err);
    if (rc == MS_OK && engine->durable_applied < info->meta.applied) {
        rc = ms_err_set(err, MS_EIO, 0, "%s: the installed snapshot could not be flushed",
                        rocks_directory(engine->db));
    }
    return rc;
}

/*
 * rocks_engine_read: single keys and ranges at any revision, side records, the meta record.
 */
#include <assert.h>
#include <string.h>

#include "storaged/rocks_engine_private.h"

/* Older versions of a key that a walk steps over before it seeks the next key instead. */
#define STEPS_MAX 8

/* ---- one key ------------------------------------------------------------------------------- */

int rocks_engine_points(struct rocks_engine *engine, struct rocks_iter **out, struct ms_err *err)
{
    const struct rocks_iter_options options = {.family = ROCKS_LAYOUT_VERSIONS,
                                               .within_suffix = true};

    if (engine->points == NULL) {
        engine->points = rocks_iter_create(engine->db, &options);
    }
    *out = engine->points;
    return engine->points != NULL ? MS_OK
                                  : ms_err_set(err, MS_ENOMEM, 0, "memory to read the engine");
}

int rocks_engine_version(const struct rocks_engine *engine, const struct rocks_iter *iter,
                         struct rocks_version *out, struct ms_err *err)
{
    size_t key_bytes = 0;
    size_t bytes = 0;
    const uint8_t *key = rocks_iter_key(iter, &key_bytes);
    const uint8_t *value = rocks_iter_value(iter, &bytes);

    if (rocks_layout_stamp_of(key, key_bytes, &out->stamp.revision, &out->stamp.sub) != MS_OK ||
        rocks_layout_decode_version(value, bytes, &out->kv, &out->stamp.tombstone) != MS_OK) {
        return rocks_engine_corrupt(engine, "a version of a key", err);
    }
    out->kv.mod_revision = out->stamp.revision;
    return MS_OK;
}

int rocks_engine_seek(struct rocks_engine *engine, struct rocks_iter *points, uint64_t revision,
                      struct rocks_version *out, struct ms_err *err)
{
    struct rocks_layout_key *sought = &engine->sought;
    size_t bytes = 0;
    const uint8_t *key;
    int rc;

    rocks_layout_set_stamp(sought, revision, UINT32_MAX);
    if (!rocks_iter_seek(points, sought->data, rocks_layout_bytes(sought))) {
        rc = rocks_iter_status(points, err);
        return rc == MS_OK ? MS_ENOENT : rc;
    }
    key = rocks_iter_key(points, &bytes);
    if (bytes != rocks_layout_bytes(sought) ||
        memcmp(key, sought->data, sought->prefix_bytes) != 0) {
        return MS_ENOENT;
    }
    return rocks_engine_version(engine, points, out, err);
}

/* Whether the state can be read at this revision. */
static int check_revision(const struct rocks_engine *engine, uint64_t revision, struct ms_err *err)
{
    const struct ms_memdb_meta *meta = &engine->meta.meta;

    if (revision > meta->revision) {
        return ms_err_set(err, MS_EINVAL, 0, "revision %llu is in the future, %llu is the newest",
                          (unsigned long long)revision, (unsigned long long)meta->revision);
    }
    if (revision != 0 && revision < meta->compact_revision) {
        return ms_err_set(err, MS_ECOMPACTED, 0, "revision %llu is compacted, %llu is the oldest",
                          (unsigned long long)revision, (unsigned long long)meta->compact_revision);
    }
    return MS_OK;
}

int rocks_engine_get(struct engine *base, const uint8_t *key, size_t key_bytes, uint64_t revision,
                     struct ms_memdb_kv *out, struct ms_err *err)
{
    struct rocks_engine *engine = (struct rocks_engine *)base;
    struct rocks_version version;
    struct rocks_iter *points;
    int rc;

    assert(!engine->in_batch);
    if (key_bytes == 0 || key_bytes > MS_KEY_BYTES_MAX) {
        return ms_err_set(err, MS_EINVAL, 0, "a key of %zu bytes", key_bytes);
    }
    rc = check_revision(engine, revision, err);
    if (rc == MS_OK) {
        rc = rocks_engine_points(engine, &points, err);
    }
    if (rc != MS_OK) {
        return rc;
    }
    rocks_layout_set_key(&engine->sought, key, key_bytes);
    rc = rocks_engine_seek(engine, points, revision == 0 ? UINT64_MAX : revision, &version, err);
    if (rc != MS_OK || version.stamp.tombstone) {
        return rc == MS_OK ? MS_ENOENT : rc;
    }
    memcpy(engine->found_key, key, key_bytes);
    version.kv.key = engine->found_key;
    version.kv.key_bytes = key_bytes;
    *out = version.kv;
    return MS_OK;
}

/* ---- ranges -------------------------------------------------------------------------------- */

struct bounds {
    struct rocks_layout_key prefix; /* all keys begin so; empty: any */
    struct rocks_layout_key end;    /* the first prefix no longer wanted; empty: none */
};

static void set_bounds(const struct ms_memdb_range *range, struct bounds *out)
{
    rocks_layout_open_key(&out->prefix, range->prefix,
                          range->prefix == NULL ? 0 : range->prefix_bytes);
    out->end.prefix_bytes = 0;
    if (range->to == NULL) {
        return;
    }
    if (range->to_bytes <= MS_KEY_BYTES_MAX) {
        rocks_layout_set_key(&out->end, range->to, range->to_bytes);
    } else {
        /* No key is as long: what the end begins with, if that is a key, comes before it. */
        rocks_layout_set_key(&out->end, range->to, MS_KEY_BYTES_MAX);
        rocks_layout_pass_key(&out->end);
    }
}

static bool beyond(const struct bounds *bounds, const uint8_t *key, size_t bytes)
{
    if (bounds->end.prefix_bytes > 0 &&
        rocks_layout_compare(key, bytes, bounds->end.data, bounds->end.prefix_bytes) >= 0) {
        return true;
    }
    return bytes < bounds->prefix.prefix_bytes ||
           memcmp(key, bounds->prefix.data, bounds->prefix.prefix_bytes) != 0;
}

/* To the first version of the first key of the range. */
static bool walk_start(struct rocks_engine *engine, struct rocks_iter *iter,
                       const struct ms_memdb_range *range, const struct bounds *bounds)
{
    struct rocks_layout_key *sought = &engine->sought;
    size_t bytes = 0;
    const uint8_t *key;
    bool stands;

    sought->prefix_bytes = 0;
    if (range->from != NULL && range->from_bytes > 0) {
        rocks_layout_set_key(sought, range->from, range->from_bytes);
        if (range->after) {
            rocks_layout_pass_key(sought);
        }
    }
    stands = rocks_iter_seek(iter, sought->data, sought->prefix_bytes);
    if (stands && bounds->prefix.prefix_bytes > 0) {
        key = rocks_iter_key(iter, &bytes);
        if (rocks_layout_compare(key, bytes, bounds->prefix.data, bounds->prefix.prefix_bytes) <
            0) {
            stands = rocks_iter_seek(iter, bounds->prefix.data, bounds->prefix.prefix_bytes);
        }
    }
    return stands;
}

/*
 * The iterator stands on the newest version of a key, which becomes the sought one. Moves on to the
 * version that was current at the revision. MS_ENOENT: the key was not there yet; the iterator is
 * behind it already.
 */
static int walk_to_revision(struct rocks_engine *engine, struct rocks_iter *iter, uint64_t revision,
                            struct rocks_version *out, struct ms_err *err)
{
    struct rocks_layout_key *sought = &engine->sought;
    size_t bytes = 0;
    const uint8_t *key = rocks_iter_key(iter, &bytes);
    int rc = rocks_engine_version(engine, iter, out, err);

    if (rc != MS_OK) {
        return rc;
    }
    if (bytes > sizeof(sought->data)) {
        return rocks_engine_corrupt(engine, "a version of a key", err);
    }
    sought->prefix_bytes = bytes - ROCKS_LAYOUT_STAMP_BYTES;
    memcpy(sought->data, key, sought->prefix_bytes);
    return out->stamp.revision <= revision ? MS_OK
                                           : rocks_engine_seek(engine, iter, revision, out, err);
}

/* To the newest version of the key behind the sought one. */
static bool walk_next(struct rocks_engine *engine, struct rocks_iter *iter)
{
    struct rocks_layout_key *sought = &engine->sought;

    for (int step = 0; step < STEPS_MAX; step++) {
        size_t bytes = 0;
        const uint8_t *key;

        if (!rocks_iter_next(iter)) {
            return false;
        }
        key = rocks_iter_key(iter, &bytes);
        if (bytes < sought->prefix_bytes || memcmp(key, sought->data, sought->prefix_bytes) != 0) {
            return true;
        }
    }
    rocks_layout_pass_key(sought);
    return rocks_iter_seek(iter, sought->data, sought->prefix_bytes);
}

static int check_range(const struct rocks_engine *engine, const struct ms_memdb_range *range,
                       struct ms_err *err)
{
    if ((range->from != NULL && range->from_bytes > MS_KEY_BYTES_MAX) ||
        (range->prefix != NULL && range->prefix_bytes > MS_KEY_BYTES_MAX)) {
        return ms_err_set(err, MS_EINVAL, 0, "a range whose start is longer than any key");
    }
    return check_revision(engine, range->revision, err);
}

static int walk(struct rocks_engine *engine, const struct ms_memdb_range *range,
                bool (*visit)(void *ctx, const struct ms_memdb_kv *kv), void *ctx,
                struct ms_err *err)
{
    uint64_t revision = range->revision == 0 ? UINT64_MAX : range->revision;
    struct rocks_iter *iter = engine->walks;
    struct rocks_version version;
    struct bounds bounds;
    bool stands;

    set_bounds(range, &bounds);
    stands = walk_start(engine, iter, range, &bounds);
    while (stands) {
        size_t bytes = 0;
        const uint8_t *key = rocks_iter_key(iter, &bytes);
        int rc;

        if (beyond(&bounds, key, bytes)) {
            return MS_OK;
        }
        rc = walk_to_revision(engine, iter, revision, &version, err);
        if (rc == MS_ENOENT) {
            stands = rocks_iter_valid(iter);
            continue;
        }
        if (rc == MS_OK && !version.stamp.tombstone) {
            key = rocks_iter_key(iter, &bytes);
            rc = rocks_layout_split(key, bytes, engine->found_key, &version.kv.key_bytes);
            if (rc != MS_OK) {
                return rocks_engine_corrupt(engine, "a key", err);
            }
            version.kv.key = engine->found_key;
            if (!visit(ctx, &version.kv)) {
                return MS_OK;
            }
        }
        if (rc != MS_OK) {
            return rc;
        }
        stands = walk_next(engine, iter);
    }
    return rocks_iter_status(iter, err);
}

int rocks_engine_range(struct engine *base, const struct ms_memdb_range *range,
                       bool (*visit)(void *ctx, const struct ms_memdb_kv *kv), void *ctx,
                       struct ms_err *err)
{
    const struct rocks_iter_options options = {.family = ROCKS_LAYOUT_VERSIONS};
    struct rocks_engine *engine = (struct rocks_engine *)base;
    int rc = check_range(engine, range, err);

    assert(!engine->in_batch);
    if (rc != MS_OK) {
        return rc;
    }
    if (engine->walks == NULL) {
        engine->walks = rocks_iter_create(engine->db, &options);
    }
    if (engine->walks == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory to read the engine");
    }
    return walk(engine, range, visit, ctx, err);
}

/* ---- the other families -------------------------------------------------------------------- */

static struct rocks_key meta_key(const char *name)
{
    return (struct rocks_key){ROCKS_LAYOUT_META, (const uint8_t *)name, strlen(name)};
}

int rocks_engine_load_meta(struct rocks *db, const struct rocks_view *view,
                           struct rocks_layout_meta *out, struct ms_err *err)
{
    const struct rocks_key key = meta_key(ROCKS_LAYOUT_META_KEY);
    struct rocks_value value;
    int rc = rocks_get(db, view, &key, &value, err);

    if (rc != MS_OK) {
        return rc;
    }
    rc = rocks_layout_decode_meta(value.data, value.bytes, out);
    rocks_value_release(db, &value);
    return rc == MS_OK
               ? MS_OK
               : ms_err_set(err, rc, 0, "%s: the meta record does not hold", rocks_directory(db));
}

int rocks_engine_load_conf(struct rocks *db, const struct rocks_view *view, uint8_t *dst,
                           size_t *len_bytes, struct ms_err *err)
{
    const struct rocks_key key = meta_key(ROCKS_LAYOUT_CONF_KEY);
    struct rocks_value value;
    int rc = rocks_get(db, view, &key, &value, err);

    if (rc == MS_ENOENT) {
        *len_bytes = 0;
        return MS_OK;
    }
    if (rc != MS_OK) {
        return rc;
    }
    if (value.bytes > MS_CONF_STATE_BYTES_MAX) {
        rc = ms_err_set(err, MS_ECORRUPT, 0, "%s: a configuration of %zu bytes",
                        rocks_directory(db), value.bytes);
    } else {
        memcpy(dst, value.data, value.bytes);
        *len_bytes = value.bytes;
    }
    rocks_value_release(db, &value);
    return rc;
}

int rocks_engine_walk_records(struct rocks *db, const struct rocks_view *view,
                              int (*visit)(void *ctx, const uint8_t *name, size_t name_bytes,
                                           const uint8_t *value, size_t value_bytes,
                                           struct ms_err *err),
                              void *ctx, struct ms_err *err)
{
    const struct rocks_iter_options options = {.family = ROCKS_LAYOUT_RECORDS, .view = view};
    struct rocks_iter *iter = rocks_iter_create(db, &options);
    int rc = MS_OK;

    if (iter == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory to read the engine");
    }
    for (bool stands = rocks_iter_seek(iter, (const uint8_t *)"", 0); stands && rc == MS_OK;
         stands = rocks_iter_next(iter)) {
        size_t name_bytes = 0;
        size_t bytes = 0;
        const uint8_t *name = rocks_iter_key(iter, &name_bytes);
        const uint8_t *value = rocks_iter_value(iter, &bytes);

        rc = visit(ctx, name, name_bytes, value, bytes, err);
    }
    if (rc == MS_OK) {
        rc = rocks_iter_status(iter, err);
    }
    rocks_iter_destroy(iter);
    return rc;
}

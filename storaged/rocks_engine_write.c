/*
 * rocks_engine_write: changes to keys, and the removal of history that nobody can read any more.
 */
#include <assert.h>
#include <string.h>

#include "storaged/rocks_engine_private.h"

/* ---- finding and changing ------------------------------------------------------------------ */

int rocks_engine_find(struct engine *base, const uint8_t *key, size_t key_bytes,
                      struct ms_memdb_kv *out, struct ms_err *err)
{
    struct rocks_engine *engine = (struct rocks_engine *)base;
    const struct engine_change *pending;
    struct rocks_version version;
    struct rocks_iter *points;
    int rc;

    assert(engine->in_batch);
    assert(key_bytes > 0 && key_bytes <= MS_KEY_BYTES_MAX);
    pending = rocks_overlay_find(&engine->overlay, key, key_bytes);
    if (pending != NULL) {
        if (pending->tombstone) {
            return MS_ENOENT;
        }
        *out = pending->kv;
        return MS_OK;
    }
    rc = rocks_engine_points(engine, &points, err);
    if (rc != MS_OK) {
        return rc;
    }
    rocks_layout_set_key(&engine->sought, key, key_bytes);
    rc = rocks_engine_seek(engine, points, UINT64_MAX, &version, err);
    if (rc != MS_OK || version.stamp.tombstone) {
        return rc == MS_OK ? MS_ENOENT : rc;
    }
    memcpy(engine->found_key, key, key_bytes);
    version.kv.key = engine->found_key;
    version.kv.key_bytes = key_bytes;
    *out = version.kv;
    return MS_OK;
}

void rocks_engine_put_change(struct rocks_engine *engine, const struct engine_change *change)
{
    const struct ms_memdb_kv *kv = &change->kv;
    uint8_t stamp[ROCKS_LAYOUT_STAMP_BYTES];
    uint8_t header[ROCKS_LAYOUT_HEADER_BYTES];
    size_t header_bytes = rocks_layout_encode_header(kv, change->tombstone, header);
    const struct rocks_piece version[] = {{header, header_bytes}, {kv->value, kv->value_bytes}};
    const struct rocks_piece changed = {kv->key, kv->key_bytes};
    struct rocks_layout_key *key = &engine->sought;

    rocks_layout_set_key(key, kv->key, kv->key_bytes);
    rocks_layout_set_stamp(key, kv->mod_revision, change->sub);
    rocks_batch_put(engine->batch, ROCKS_LAYOUT_VERSIONS, key->data, rocks_layout_bytes(key),
                    version, 2);
    rocks_layout_history_key(kv->mod_revision, change->sub, stamp);
    rocks_batch_put(engine->batch, ROCKS_LAYOUT_HISTORY, stamp, sizeof(stamp), &changed, 1);
}

int rocks_engine_change(struct engine *base, const struct engine_change *change, struct ms_err *err)
{
    struct rocks_engine *engine = (struct rocks_engine *)base;
    const struct ms_memdb_kv *kv = &change->kv;

    assert(engine->in_batch);
    assert(kv->key_bytes > 0 && kv->key_bytes <= MS_KEY_BYTES_MAX);
    assert(change->sub < ENGINE_SUB_MAX);
    assert(!change->tombstone || kv->value_bytes == 0);
    if (kv->mod_revision < engine->last.revision ||
        (kv->mod_revision == engine->last.revision && change->sub <= engine->last.sub)) {
        return ms_err_set(err, MS_ECORRUPT, 0, "%s: revision %llu is not the newest",
                          rocks_directory(engine->db), (unsigned long long)kv->mod_revision);
    }
    if (rocks_overlay_put(&engine->overlay, change) != MS_OK) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a batch of the engine");
    }
    rocks_engine_put_change(engine, change);
    engine->last = (struct engine_stamp){.revision = kv->mod_revision, .sub = change->sub};
    return MS_OK;
}

/* ---- compaction ---------------------------------------------------------------------------- */

/* More than this is not removed in one step, whatever the budget. */
#define COMPACT_BUDGET_MAX 4096

struct thinning {
    struct rocks_engine *engine;
    struct rocks_iter *points;
    uint64_t bound; /* the compact revision */
    size_t budget;  /* what is left of it */
    struct ms_err *err;
};

/* Removes the version of the sought key with this stamp, and its place in the history. */
static void remove_version(struct thinning *work, const struct engine_stamp *stamp)
{
    struct rocks_engine *engine = work->engine;
    uint8_t place[ROCKS_LAYOUT_STAMP_BYTES];

    rocks_layout_set_stamp(&engine->sought, stamp->revision, stamp->sub);
    rocks_batch_remove(engine->batch, ROCKS_LAYOUT_VERSIONS, engine->sought.data,
                       rocks_layout_bytes(&engine->sought));
    rocks_layout_history_key(stamp->revision, stamp->sub, place);
    rocks_batch_remove(engine->batch, ROCKS_LAYOUT_HISTORY, place, sizeof(place));
    work->budget--;
}

/*
 * Removes from one key what the bound makes unreadable: all that is older than the version in force
 * at the bound, and that version too if it is a tombstone, but only after all others: while it is
 * there the rest can be found again. Other changes of the key at or below the bound do nothing,
 * for this one comes after them. *done: there is no more.
 */
static int thin_key(struct thinning *work, const uint8_t *key, size_t key_bytes,
                    const struct engine_stamp *changed, bool *done)
{
    struct rocks_version version;
    struct engine_stamp in_force;
    int rc;

    *done = true;
    rocks_layout_set_key(&work->engine->sought, key, key_bytes);
    rc = rocks_engine_seek(work->engine, work->points, work->bound, &version, work->err);
    if (rc == MS_ENOENT) {
        return rocks_engine_corrupt(work->engine, "a change without its version", work->err);
    }
    if (rc != MS_OK || version.stamp.revision != changed->revision ||
        version.stamp.sub != changed->sub) {
        return rc;
    }
    in_force = version.stamp;
    while (rocks_iter_next(work->points)) {
        rc = rocks_engine_version(work->engine, work->points, &version, work->err);
        if (rc != MS_OK) {
            return rc;
        }
        if (work->budget == 0) {
            *done = false;
            return MS_OK;
        }
        remove_version(work, &version.stamp);
    }
    rc = rocks_iter_status(work->points, work->err);
    if (rc == MS_OK && in_force.tombstone) {
        *done = work->budget > 0;
        if (*done) {
            remove_version(work, &in_force);
        }
    }
    return rc;
}

/*
 * Goes through the changes that the bound has passed since the last time. Each of them is the only
 * reason for which older changes of its key may have become unreadable; so what this costs depends
 * on how much was written, not on how much there is. Stops between revisions when the budget is
 * used up, and within one only if something was removed: every step gets on.
 */
static int thin_history(struct thinning *work, struct rocks_iter *history)
{
    struct rocks_layout_meta *meta = &work->engine->meta;
    uint8_t from[ROCKS_LAYOUT_STAMP_BYTES];
    uint64_t revision = 0; /* the one at hand */
    bool stands;
    int rc;

    rocks_layout_history_key(meta->compacted_to + 1, 0, from);
    for (stands = rocks_iter_seek(history, from, sizeof(from)); stands;
         stands = rocks_iter_next(history)) {
        struct engine_stamp stamp = {0};
        size_t bytes = 0;
        const uint8_t *data = rocks_iter_key(history, &bytes);
        bool done = false;

        if (rocks_layout_decode_history_key(data, bytes, &stamp.revision, &stamp.sub) != MS_OK) {
            return rocks_engine_corrupt(work->engine, "a place in the history", work->err);
        }
        if (stamp.revision > work->bound) {
            break;
        }
        if (stamp.revision != revision) {
            meta->compacted_to = stamp.revision - 1;
            if (work->budget == 0) {
                return MS_OK;
            }
            work->budget -= revision != 0; /* the first one is free, for the sake of its removals */
            revision = stamp.revision;
        }
        data = rocks_iter_value(history, &bytes);
        if (bytes == 0 || bytes > MS_KEY_BYTES_MAX) {
            return rocks_engine_corrupt(work->engine, "a key in the history", work->err);
        }
        rc = thin_key(work, data, bytes, &stamp, &done);
        if (rc != MS_OK || !done) {
            return rc;
        }
    }
    rc = stands ? MS_OK : rocks_iter_status(history, work->err);
    if (rc == MS_OK) {
        meta->compacted_to = work->bound;
    }
    return rc;
}

int rocks_engine_compact_step(struct engine *base, size_t budget, bool *more, struct ms_err *err)
{
    const struct rocks_iter_options options = {.family = ROCKS_LAYOUT_HISTORY};
    struct rocks_engine *engine = (struct rocks_engine *)base;
    struct thinning work = {
        .engine = engine,
        .bound = engine->meta.meta.compact_revision,
        .budget = budget < COMPACT_BUDGET_MAX ? budget : COMPACT_BUDGET_MAX,
        .err = err,
    };
    struct rocks_iter *history;
    int rc;

    assert(!engine->in_batch && budget > 0);
    *more = false;
    if (engine->snapshots > 0 || engine->meta.compacted_to >= work.bound) {
        return MS_OK;
    }
    rc = rocks_engine_points(engine, &work.points, err);
    if (rc != MS_OK) {
        return rc;
    }
    history = rocks_iter_create(engine->db, &options);
    if (history == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory to compact the engine");
    }
    rc = thin_history(&work, history);
    rocks_iter_destroy(history);
    if (rc == MS_OK) {
        rc = rocks_engine_write_batch(engine, err);
    }
    if (rc == MS_OK) {
        *more = engine->meta.compacted_to < work.bound;
    }
    return rc;
}

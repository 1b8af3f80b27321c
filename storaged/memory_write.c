/*
 * memory_write: changes to keys, and the removal of history that nobody can read any more.
 *
 * All of it happens inside a write transaction that memory_engine opened and will commit.
 */
#include <assert.h>
#include <string.h>

#include "storaged/memory_private.h"

/* ---- finding ------------------------------------------------------------------------------- */

/*
 * As ms_memdb_find_key, but learns on the way whether the key is behind all others: keys that come
 * in order then fill their pages instead of leaving each half empty.
 */
static int find_stamps(struct memory_engine *engine, const uint8_t *key, size_t key_bytes,
                       MDB_cursor **at)
{
    MDB_val found = {key_bytes, (void *)(uintptr_t)key};
    MDB_val value;
    int code;

    engine->at_end = false;
    if (key_bytes > MS_MEMDB_ROOT_CHUNK) {
        return ms_memdb_find_key(&engine->cursors, key, key_bytes, at);
    }
    code = mdb_cursor_get(engine->cursors.index, &found, &value, MDB_SET_RANGE);
    if (code == MDB_NOTFOUND) {
        engine->at_end = true;
        return MS_ENOENT;
    }
    if (code != MDB_SUCCESS) {
        return ms_memdb_status(code);
    }
    *at = engine->cursors.index;
    return found.mv_size == key_bytes && memcmp(found.mv_data, key, key_bytes) == 0 ? MS_OK
                                                                                    : MS_ENOENT;
}

int memory_find(struct engine *base, const uint8_t *key, size_t key_bytes, struct ms_memdb_kv *out,
                struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;
    struct ms_memdb_stamp stamp;
    MDB_cursor *at;
    int rc;

    assert(engine->txn != NULL);
    rc = find_stamps(engine, key, key_bytes, &at);
    if (rc == MS_OK) {
        rc = ms_memdb_stamp_at(at, 0, &stamp);
    }
    if (rc == MS_OK && stamp.tombstone) {
        return MS_ENOENT;
    }
    if (rc == MS_OK) {
        rc = ms_memdb_load_change(&engine->cursors, &stamp, key, key_bytes, out);
    }
    if (rc != MS_OK && rc != MS_ENOENT) {
        (void)ms_err_set(err, rc, 0, "memory engine: find a key of %zu bytes", key_bytes);
    }
    return rc;
}

/* ---- changing ------------------------------------------------------------------------------ */

/* The branch behind a marker, made if it is not there. */
static int need_branch(struct memory_engine *engine, MDB_cursor *cursor, MDB_val *marker,
                       uint64_t *branch, struct ms_err *err)
{
    struct ms_memdb_stamp stamp;
    uint8_t raw[MS_MEMDB_STAMP_BYTES];
    MDB_val value;
    int code = mdb_cursor_get(cursor, marker, &value, MDB_SET);

    if (code == MDB_SUCCESS) {
        /* A branch number is laid out as a stamp's revision. */
        if (ms_memdb_decode_stamp(&value, &stamp) != MS_OK) {
            return ms_err_set(err, MS_ECORRUPT, 0, "memory engine: a branch without a number");
        }
        *branch = stamp.revision;
        return MS_OK;
    }
    if (code != MDB_NOTFOUND) {
        return memory_fail(code, "find a branch", err);
    }
    stamp = (struct ms_memdb_stamp){.revision = engine->meta.next_branch};
    ms_memdb_encode_stamp(&stamp, raw);
    value = (MDB_val){sizeof(raw), raw};
    code = mdb_cursor_put(cursor, marker, &value, 0);
    if (code != MDB_SUCCESS) {
        return memory_fail(code, "make a branch", err);
    }
    *branch = engine->meta.next_branch++;
    return MS_OK;
}

int memory_put_stamp(struct memory_engine *engine, const uint8_t *key, size_t key_bytes,
                     const struct ms_memdb_stamp *stamp, bool append, struct ms_err *err)
{
    uint64_t branch = 0;

    for (size_t depth = 0;; depth++) {
        uint8_t scratch[MS_MEMDB_LMDB_KEY_MAX];
        uint8_t raw[MS_MEMDB_STAMP_BYTES];
        MDB_cursor *cursor = depth == 0 ? engine->cursors.index : engine->cursors.branches;
        MDB_val part;
        MDB_val value = {sizeof(raw), raw};
        int code;

        if (ms_memdb_part(key, key_bytes, depth, branch, scratch, &part)) {
            int rc = need_branch(engine, cursor, &part, &branch, err);

            if (rc != MS_OK) {
                return rc;
            }
            continue;
        }
        ms_memdb_encode_stamp(stamp, raw);
        code = mdb_cursor_put(cursor, &part, &value, append && depth == 0 ? MDB_APPEND : 0);
        if (code == MDB_KEYEXIST && append) {
            code = mdb_cursor_put(cursor, &part, &value, 0);
        }
        return code == MDB_SUCCESS ? MS_OK : memory_fail(code, "put into the index", err);
    }
}

int memory_put_history(struct memory_engine *engine, const struct engine_change *change,
                       struct ms_err *err)
{
    const struct ms_memdb_kv *kv = &change->kv;
    const struct ms_memdb_stamp stamp = {.revision = kv->mod_revision, .sub = change->sub};
    const struct ms_memdb_change_header header = {
        .create_revision = kv->create_revision,
        .version = kv->version,
        .lease = kv->lease,
        .key_bytes = (uint32_t)kv->key_bytes,
        .tombstone = change->tombstone,
    };
    uint8_t name[MS_MEMDB_STAMP_BYTES];
    MDB_val at = {ms_memdb_history_key(&stamp, name), name};
    MDB_val value = {sizeof(header) + kv->key_bytes + kv->value_bytes, NULL};
    uint8_t *dst;
    int code = mdb_cursor_put(engine->cursors.history, &at, &value, MDB_APPEND | MDB_RESERVE);

    if (code == MDB_KEYEXIST) {
        return ms_err_set(err, MS_ECORRUPT, 0, "memory engine: revision %llu is not the newest",
                          (unsigned long long)kv->mod_revision);
    }
    if (code != MDB_SUCCESS) {
        return memory_fail(code, "append to the history", err);
    }
    ms_memdb_acquire(engine->env);
    dst = value.mv_data;
    memcpy(dst, &header, sizeof(header));
    memcpy(dst + sizeof(header), kv->key, kv->key_bytes);
    if (kv->value_bytes > 0) {
        memcpy(dst + sizeof(header) + kv->key_bytes, kv->value, kv->value_bytes);
    }
    return MS_OK;
}

int memory_change(struct engine *base, const struct engine_change *change, struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;
    const struct ms_memdb_stamp stamp = {
        .revision = change->kv.mod_revision,
        .sub = change->sub,
        .tombstone = change->tombstone,
    };
    int rc;

    assert(engine->txn != NULL);
    assert(change->kv.key_bytes > 0 && change->kv.key_bytes <= MS_KEY_BYTES_MAX);
    assert(change->sub < ENGINE_SUB_MAX);
    assert(!change->tombstone || change->kv.value_bytes == 0);
    rc =
        memory_put_stamp(engine, change->kv.key, change->kv.key_bytes, &stamp, engine->at_end, err);
    engine->at_end = false;
    return rc == MS_OK ? memory_put_history(engine, change, err) : rc;
}

/* ---- compaction ---------------------------------------------------------------------------- */

/* New pages for one removal: leaves of two trees, and what is above them. Pages of the commit
 * before are mostly used again, so this is plenty. */
#define COMPACT_BYTES_PER_REMOVAL 16384

/* More than this is not removed in one step, whatever the budget. */
#define COMPACT_BUDGET_MAX 1024

struct thinning {
    struct memory_engine *engine;
    uint64_t bound; /* the compact revision */
    size_t budget;  /* what is left of it */
    struct ms_err *err;
};

/* Removes the markers of branches that hold nothing any more, from the deepest up. */
static int prune_branches(struct memory_engine *engine, const uint8_t *key, size_t key_bytes,
                          struct ms_err *err)
{
    uint64_t branch[MS_MEMDB_DEPTH_MAX + 1] = {0};
    uint8_t scratch[MS_MEMDB_LMDB_KEY_MAX];
    size_t depth = 0;
    MDB_val part;
    MDB_val value;
    int code;

    while (ms_memdb_part(key, key_bytes, depth, branch[depth], scratch, &part)) {
        struct ms_memdb_stamp number;
        MDB_cursor *cursor = depth == 0 ? engine->cursors.index : engine->cursors.branches;

        code = mdb_cursor_get(cursor, &part, &value, MDB_SET);
        if (code != MDB_SUCCESS || ms_memdb_decode_stamp(&value, &number) != MS_OK) {
            return ms_err_set(err, MS_ECORRUPT, 0, "memory engine: a key without its branch");
        }
        branch[++depth] = number.revision;
    }
    for (; depth > 0; depth--) {
        struct ms_memdb_stamp number = {.revision = branch[depth]};
        uint8_t id[MS_MEMDB_STAMP_BYTES];

        ms_memdb_encode_stamp(&number, id);
        part = (MDB_val){MS_MEMDB_BRANCH_ID, id};
        code = mdb_cursor_get(engine->cursors.branches, &part, &value, MDB_SET_RANGE);
        if (code == MDB_SUCCESS && memcmp(part.mv_data, id, MS_MEMDB_BRANCH_ID) == 0) {
            return MS_OK;
        }
        if (code != MDB_SUCCESS && code != MDB_NOTFOUND) {
            return memory_fail(code, "look into a branch", err);
        }
        (void)ms_memdb_part(key, key_bytes, depth - 1, branch[depth - 1], scratch, &part);
        code = mdb_del(engine->txn, depth == 1 ? engine->db->index : engine->db->branches, &part,
                       NULL);
        if (code != MDB_SUCCESS) {
            return memory_fail(code, "remove a branch", err);
        }
    }
    return MS_OK;
}

/* Removes one change: its stamp, which the cursor stands on, and its history record. */
static int remove_change(struct thinning *work, MDB_cursor *at, const struct ms_memdb_stamp *stamp)
{
    struct memory_engine *engine = work->engine;
    uint8_t lmdb_key[MS_MEMDB_LMDB_KEY_MAX];
    uint8_t raw[MS_MEMDB_STAMP_BYTES];
    MDB_val part;
    MDB_val value = {sizeof(raw), raw};
    int code = mdb_cursor_get(at, &part, NULL, MDB_GET_CURRENT);

    if (code != MDB_SUCCESS || part.mv_size > sizeof(lmdb_key)) {
        return ms_err_set(work->err, MS_ECORRUPT, 0, "memory engine: a stamp without a key");
    }
    /* Out of the page, which the removal rewrites. */
    memcpy(lmdb_key, part.mv_data, part.mv_size);
    part.mv_data = lmdb_key;
    ms_memdb_encode_stamp(stamp, raw);
    code =
        mdb_del(engine->txn, at == engine->cursors.index ? engine->db->index : engine->db->branches,
                &part, &value);
    if (code == MDB_SUCCESS) {
        value.mv_size = ms_memdb_history_key(stamp, raw);
        code = mdb_del(engine->txn, engine->db->history, &value, NULL);
    }
    if (code != MDB_SUCCESS) {
        return memory_fail(code, "remove an old change", work->err);
    }
    return MS_OK;
}

/*
 * Removes from one key what the bound makes unreadable: every change that another one at or below
 * the bound has replaced, and a tombstone that is the last of those. *done: there is no more.
 */
static int thin_key(struct thinning *work, const uint8_t *key, size_t key_bytes, bool *done)
{
    for (;;) {
        struct ms_memdb_stamp first;
        struct ms_memdb_stamp second = {.revision = UINT64_MAX};
        MDB_cursor *at;
        MDB_val part;
        MDB_val value;
        bool only;
        int code;
        int rc = ms_memdb_find_key(&work->engine->cursors, key, key_bytes, &at);

        if (rc == MS_ENOENT) {
            *done = true; /* the last of it went as a tombstone */
            return MS_OK;
        }
        code = rc == MS_OK ? mdb_cursor_get(at, &part, &value, MDB_GET_CURRENT) : MDB_CORRUPTED;
        if (code != MDB_SUCCESS || ms_memdb_decode_stamp(&value, &first) != MS_OK) {
            return ms_err_set(work->err, MS_ECORRUPT, 0, "memory engine: a key without stamps");
        }
        code = mdb_cursor_get(at, &part, &value, MDB_NEXT_DUP);
        only = code == MDB_NOTFOUND;
        if (!only && (code != MDB_SUCCESS || ms_memdb_decode_stamp(&value, &second) != MS_OK)) {
            return ms_err_set(work->err, MS_ECORRUPT, 0, "memory engine: not a stamp");
        }
        if (second.revision > work->bound && (first.revision > work->bound || !first.tombstone)) {
            *done = true;
            return MS_OK;
        }
        if (work->budget == 0) {
            *done = false;
            return MS_OK;
        }
        work->budget--;
        rc = remove_change(work, at, &first);
        if (rc == MS_OK && only && key_bytes > MS_MEMDB_ROOT_CHUNK) {
            rc = prune_branches(work->engine, key, key_bytes, work->err);
        }
        if (rc != MS_OK) {
            return rc;
        }
    }
}

/*
 * Goes through the changes that the bound has passed since the last time. Each of them is the only
 * reason for which older changes of its key may have become unreadable; so what this costs depends
 * on how much was written, not on how much there is. Stops between revisions when the budget is
 * used up, and within one only if something was removed: every step gets on.
 */
static int thin_history(struct thinning *work)
{
    struct ms_memdb_record_meta *meta = &work->engine->meta;
    struct ms_memdb_stamp next = {.revision = meta->compacted_to + 1};

    for (;;) {
        uint8_t key[MS_KEY_BYTES_MAX];
        uint8_t name[MS_MEMDB_STAMP_BYTES];
        struct ms_memdb_stamp stamp;
        struct ms_memdb_kv kv;
        bool done = false;
        MDB_val at = {ms_memdb_history_key(&next, name), name};
        MDB_val value;
        int code = mdb_cursor_get(work->engine->cursors.history, &at, &value, MDB_SET_RANGE);
        int rc;

        if (code != MDB_SUCCESS && code != MDB_NOTFOUND) {
            return memory_fail(code, "read the history", work->err);
        }
        if (code == MDB_SUCCESS && ms_memdb_decode_change(&at, &value, &stamp, &kv) != MS_OK) {
            return ms_err_set(work->err, MS_ECORRUPT, 0, "memory engine: not a history record");
        }
        if (code == MDB_NOTFOUND || stamp.revision > work->bound) {
            meta->compacted_to = work->bound;
            return MS_OK;
        }
        if (next.sub == 0 || stamp.revision > next.revision) {
            meta->compacted_to = stamp.revision - 1;
            if (work->budget == 0) {
                return MS_OK;
            }
            work->budget--;
        }
        memcpy(key, kv.key, kv.key_bytes); /* the page may be rewritten now */
        rc = thin_key(work, key, kv.key_bytes, &done);
        if (rc != MS_OK || !done) {
            return rc;
        }
        next = (struct ms_memdb_stamp){.revision = stamp.revision, .sub = stamp.sub + 1};
    }
}

int memory_compact_step(struct engine *base, size_t budget, bool *more, struct ms_err *err)
{
    struct memory_engine *engine = (struct memory_engine *)base;
    struct thinning work = {
        .engine = engine,
        .bound = engine->meta.compact_revision,
        .budget = budget < COMPACT_BUDGET_MAX ? budget : COMPACT_BUDGET_MAX,
        .err = err,
    };
    int rc;

    assert(engine->txn == NULL && budget > 0);
    *more = false;
    if (engine->snapshots > 0 || engine->meta.compacted_to >= work.bound) {
        return MS_OK;
    }
    rc = memory_begin(engine, work.budget * COMPACT_BYTES_PER_REMOVAL, err);
    while (rc == MS_ENOSPC && work.budget > 1) {
        work.budget /= 8; /* with hardly any room left, get some in small steps */
        work.budget += work.budget == 0;
        rc = memory_begin(engine, work.budget * COMPACT_BYTES_PER_REMOVAL, err);
    }
    if (rc != MS_OK) {
        return rc;
    }
    rc = thin_history(&work);
    if (rc == MS_OK) {
        rc = memory_commit(engine, err);
    }
    if (rc != MS_OK) {
        memory_abort(engine);
        return rc;
    }
    *more = engine->meta.compacted_to < work.bound;
    return MS_OK;
}

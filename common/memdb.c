/*
 * memdb: opens the memory engine for reading and reads it: single keys, ranges, any revision.
 *
 * Never writes to the data. What the file says is checked before it is used, as far as this can be
 * done for the price of a read.
 */
#include "common/memdb.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/memdb_layout.h"

struct ms_memdb_read {
    struct ms_memdb *db;
    MDB_txn *txn;
    struct ms_memdb_cursors cursors;
    bool begun;
    bool branches_current; /* that cursor belongs to this view; made so when it is needed */
    bool meta_known;
    struct ms_memdb_record_meta meta;
};

int ms_memdb_attach(MDB_env *env, struct ms_memdb **out, struct ms_err *err)
{
    struct ms_memdb *db = calloc(1, sizeof(*db));
    struct ms_memdb_record_meta meta;
    MDB_txn *txn = NULL;
    int code;
    int rc;

    if (db == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory engine: out of memory");
    }
    db->env = env;
    db->borrowed = true;
    code = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    if (code != MDB_SUCCESS) {
        rc = ms_err_set(err, ms_memdb_status(code), 0, "memory engine: first read: %s",
                        mdb_strerror(code));
        goto out;
    }
    rc = ms_memdb_open_dbs(db, txn, false, err);
    if (rc != MS_OK) {
        goto out;
    }
    rc = ms_memdb_load_meta(db, txn, &meta);
    if (rc != MS_OK) {
        (void)ms_err_set(err, rc, 0, "memory engine: %s",
                         rc == MS_ENOENT ? "the store was never completed"
                                         : "the store has another layout");
        goto out;
    }
    /* A commit, though nothing was written: it makes the database handles permanent. */
    code = mdb_txn_commit(txn);
    txn = NULL;
    if (code != MDB_SUCCESS) {
        rc = ms_err_set(err, ms_memdb_status(code), 0, "memory engine: %s", mdb_strerror(code));
        goto out;
    }
    *out = db;
    db = NULL;

out:
    if (txn != NULL) {
        mdb_txn_abort(txn);
    }
    free(db);
    return rc;
}

int ms_memdb_open(const char *directory, struct ms_memdb **out, struct ms_err *err)
{
    struct ms_memdb *db = NULL;
    MDB_env *env = NULL;
    int code = mdb_env_create(&env);
    int rc;

    if (code == MDB_SUCCESS) {
        code = mdb_env_set_maxdbs(env, MS_MEMDB_DBS);
    }
    if (code == MDB_SUCCESS) {
        code = mdb_env_set_maxreaders(env, MS_MEMDB_READERS_MAX);
    }
    if (code == MDB_SUCCESS) {
        code = mdb_env_open(env, directory, MDB_RDONLY | MDB_NOTLS, 0600);
    }
    if (code != MDB_SUCCESS) {
        rc = ms_err_set(err, ms_memdb_status(code), 0, "memory engine: open %s: %s", directory,
                        mdb_strerror(code));
        goto out;
    }
    rc = ms_memdb_attach(env, &db, err);
    if (rc != MS_OK) {
        goto out;
    }
    db->borrowed = false;
    *out = db;
    env = NULL;

out:
    if (env != NULL) {
        mdb_env_close(env);
    }
    return rc;
}

void ms_memdb_close(struct ms_memdb *db)
{
    if (db == NULL) {
        return;
    }
    if (!db->borrowed) {
        mdb_env_close(db->env);
    }
    free(db);
}

int ms_memdb_read_create(struct ms_memdb *db, struct ms_memdb_read **out, struct ms_err *err)
{
    struct ms_memdb_read *read = calloc(1, sizeof(*read));
    int code;

    if (read == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory engine: out of memory");
    }
    read->db = db;
    code = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &read->txn);
    if (code == MDB_SUCCESS) {
        code = mdb_cursor_open(read->txn, db->index, &read->cursors.index);
    }
    if (code == MDB_SUCCESS) {
        code = mdb_cursor_open(read->txn, db->branches, &read->cursors.branches);
    }
    if (code == MDB_SUCCESS) {
        code = mdb_cursor_open(read->txn, db->history, &read->cursors.history);
    }
    if (code != MDB_SUCCESS) {
        ms_memdb_read_destroy(read);
        return ms_err_set(err, ms_memdb_status(code), 0, "memory engine: reader: %s",
                          mdb_strerror(code));
    }
    mdb_txn_reset(read->txn);
    *out = read;
    return MS_OK;
}

void ms_memdb_read_destroy(struct ms_memdb_read *read)
{
    if (read == NULL) {
        return;
    }
    if (read->cursors.index != NULL) {
        mdb_cursor_close(read->cursors.index);
    }
    if (read->cursors.branches != NULL) {
        mdb_cursor_close(read->cursors.branches);
    }
    if (read->cursors.history != NULL) {
        mdb_cursor_close(read->cursors.history);
    }
    if (read->txn != NULL) {
        mdb_txn_abort(read->txn);
    }
    free(read);
}

int ms_memdb_read_begin(struct ms_memdb_read *read)
{
    int code;

    assert(!read->begun);
    code = mdb_txn_renew(read->txn);
    if (code != MDB_SUCCESS) {
        return ms_memdb_status(code);
    }
    ms_memdb_acquire(read->db->env);
    code = mdb_cursor_renew(read->txn, read->cursors.index);
    if (code == MDB_SUCCESS) {
        code = mdb_cursor_renew(read->txn, read->cursors.history);
    }
    if (code != MDB_SUCCESS) {
        mdb_txn_reset(read->txn);
        return ms_memdb_status(code);
    }
    read->begun = true;
    read->branches_current = false;
    read->meta_known = false;
    return MS_OK;
}

void ms_memdb_read_end(struct ms_memdb_read *read)
{
    assert(read->begun);
    ms_memdb_release(read->db->env);
    mdb_txn_reset(read->txn);
    read->begun = false;
}

static int need_branches(struct ms_memdb_read *read)
{
    int code;

    if (read->branches_current) {
        return MS_OK;
    }
    code = mdb_cursor_renew(read->txn, read->cursors.branches);
    read->branches_current = code == MDB_SUCCESS;
    return ms_memdb_status(code);
}

static int need_meta(struct ms_memdb_read *read)
{
    int rc;

    if (read->meta_known) {
        return MS_OK;
    }
    rc = ms_memdb_load_meta(read->db, read->txn, &read->meta);
    if (rc != MS_OK) {
        return MS_ECORRUPT; /* it was there when the store was opened */
    }
    read->meta_known = true;
    return MS_OK;
}

MDB_txn *ms_memdb_read_txn(struct ms_memdb_read *read)
{
    assert(read->begun);
    return read->txn;
}

const struct ms_memdb_cursors *ms_memdb_read_cursors(struct ms_memdb_read *read)
{
    assert(read->begun);
    return need_branches(read) == MS_OK ? &read->cursors : NULL;
}

int ms_memdb_read_meta(struct ms_memdb_read *read, struct ms_memdb_meta *out)
{
    int rc;

    assert(read->begun);
    rc = need_meta(read);
    if (rc != MS_OK) {
        return rc;
    }
    *out = (struct ms_memdb_meta){
        .applied = read->meta.applied,
        .applied_term = read->meta.applied_term,
        .revision = read->meta.revision,
        .compact_revision = read->meta.compact_revision,
        .keys = read->meta.keys,
    };
    return MS_OK;
}

/* Whether the view can be read at this revision. */
static int check_revision(struct ms_memdb_read *read, uint64_t revision)
{
    int rc;

    if (revision == 0) {
        return MS_OK;
    }
    rc = need_meta(read);
    if (rc != MS_OK) {
        return rc;
    }
    if (revision > read->meta.revision) {
        return MS_EINVAL;
    }
    return revision < read->meta.compact_revision ? MS_ECOMPACTED : MS_OK;
}

int ms_memdb_get(struct ms_memdb_read *read, const uint8_t *key, size_t key_bytes,
                 uint64_t revision, struct ms_memdb_kv *out)
{
    struct ms_memdb_stamp stamp;
    MDB_cursor *at;
    int rc;

    assert(read->begun);
    if (key_bytes == 0 || key_bytes > MS_KEY_BYTES_MAX) {
        return MS_EINVAL;
    }
    rc = check_revision(read, revision);
    if (rc == MS_OK && key_bytes > MS_MEMDB_ROOT_CHUNK) {
        rc = need_branches(read);
    }
    if (rc == MS_OK) {
        rc = ms_memdb_find_key(&read->cursors, key, key_bytes, &at);
    }
    if (rc == MS_OK) {
        rc = ms_memdb_stamp_at(at, revision, &stamp);
    }
    if (rc == MS_OK && stamp.tombstone) {
        rc = MS_ENOENT;
    }
    return rc == MS_OK ? ms_memdb_load_change(&read->cursors, &stamp, key, key_bytes, out) : rc;
}

/* Byte order, a shorter key before those that continue it. */
static int compare(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes)
{
    int difference = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);

    return difference != 0 ? difference : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

/* Whether a key that is not before the start of the range lies behind its end. */
static bool beyond(const struct ms_memdb_range *range, const uint8_t *key, size_t key_bytes)
{
    if (range->to != NULL && compare(key, key_bytes, range->to, range->to_bytes) >= 0) {
        return true;
    }
    return range->prefix != NULL && (key_bytes < range->prefix_bytes ||
                                     memcmp(key, range->prefix, range->prefix_bytes) != 0);
}

static int range_start(struct ms_memdb_walker *walker, const struct ms_memdb_range *range)
{
    bool from_prefix = range->prefix != NULL &&
                       (range->from == NULL || compare(range->prefix, range->prefix_bytes,
                                                       range->from, range->from_bytes) > 0);

    if (from_prefix) {
        return ms_memdb_walker_seek(walker, range->prefix, range->prefix_bytes, false);
    }
    return ms_memdb_walker_seek(walker, range->from, range->from == NULL ? 0 : range->from_bytes,
                                range->after);
}

int ms_memdb_walk(struct ms_memdb_read *read, const struct ms_memdb_range *range,
                  bool (*visit)(void *ctx, const struct ms_memdb_kv *kv), void *ctx)
{
    struct ms_memdb_walker walker;
    int rc;

    assert(read->begun);
    if ((range->from != NULL && range->from_bytes > MS_KEY_BYTES_MAX) ||
        (range->prefix != NULL && range->prefix_bytes > MS_KEY_BYTES_MAX)) {
        return MS_EINVAL;
    }
    rc = check_revision(read, range->revision);
    if (rc == MS_OK) {
        rc = need_branches(read);
    }
    if (rc != MS_OK) {
        return rc;
    }
    ms_memdb_walker_init(&walker, &read->cursors);
    for (rc = range_start(&walker, range); rc == MS_OK; rc = ms_memdb_walker_next(&walker)) {
        struct ms_memdb_stamp stamp;
        struct ms_memdb_kv kv;

        if (beyond(range, walker.key, walker.key_bytes)) {
            return MS_OK;
        }
        rc = ms_memdb_stamp_at(walker.at, range->revision, &stamp);
        if (rc == MS_ENOENT || (rc == MS_OK && stamp.tombstone)) {
            continue;
        }
        if (rc == MS_OK) {
            rc = ms_memdb_load_change(&read->cursors, &stamp, walker.key, walker.key_bytes, &kv);
        }
        if (rc != MS_OK) {
            return rc;
        }
        if (!visit(ctx, &kv)) {
            return MS_OK;
        }
    }
    return rc == MS_ENOENT ? MS_OK : rc;
}

/*
 * store_fixture: a memory engine's file with a few keys, written by its layout.
 */
#ifndef METASTORE_TESTS_UNIT_APID_STORE_FIXTURE_H
#define METASTORE_TESTS_UNIT_APID_STORE_FIXTURE_H

#include <criterion/criterion.h>
#include <ftw.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memdb_layout.h"

#define STORE_APPLIED 9

struct store {
    char directory[256];
    MDB_env *env;
    struct ms_memdb db;
    uint64_t revision;
};

/* One at a time. */
static struct store store;

static inline MDB_val val(const void *data, size_t len_bytes)
{
    return (MDB_val){.mv_data = (void *)(uintptr_t)data, .mv_size = len_bytes};
}

static inline void put_meta(MDB_txn *txn, uint32_t complete)
{
    const struct ms_memdb_record_meta meta = {.layout = MS_MEMDB_LAYOUT,
                                              .complete = complete,
                                              .applied = STORE_APPLIED,
                                              .applied_term = 1,
                                              .revision = store.revision,
                                              .compact_revision = 1,
                                              .next_branch = 1};
    MDB_val key = val(MS_MEMDB_META_KEY, strlen(MS_MEMDB_META_KEY));
    MDB_val value = val(&meta, sizeof(meta));

    cr_assert_eq(mdb_put(txn, store.db.main, &key, &value, 0), 0);
}

static inline void store_create(void)
{
    const char *tmp = getenv("TMPDIR");
    struct ms_err err;
    MDB_txn *txn;

    (void)snprintf(store.directory, sizeof(store.directory), "%s/apid-view-XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(store.directory));
    cr_assert_eq(mdb_env_create(&store.env), 0);
    cr_assert_eq(mdb_env_set_maxdbs(store.env, MS_MEMDB_DBS), 0);
    cr_assert_eq(mdb_env_set_mapsize(store.env, 16 << 20), 0);
    cr_assert_eq(mdb_env_open(store.env, store.directory, MDB_NOSYNC, 0600), 0);
    cr_assert_eq(mdb_txn_begin(store.env, NULL, 0, &txn), 0);
    cr_assert_eq(ms_memdb_open_dbs(&store.db, txn, true, &err), MS_OK, "%s", err.text);
    store.revision = 1;
    put_meta(txn, 1);
    cr_assert_eq(mdb_txn_commit(txn), 0);
}

/* One PUT of a short key; returns its revision. */
static inline uint64_t store_put(const char *key, const void *data, size_t len_bytes)
{
    struct ms_memdb_stamp stamp = {.revision = ++store.revision};
    struct ms_memdb_change_header header = {
        .create_revision = stamp.revision, .version = 1, .key_bytes = (uint32_t)strlen(key)};
    uint8_t encoded[MS_MEMDB_STAMP_BYTES];
    uint8_t history_key[MS_MEMDB_STAMP_BYTES];
    uint8_t change[1024];
    MDB_val at;
    MDB_val value;
    MDB_txn *txn;

    memcpy(change, &header, sizeof(header));
    memcpy(change + sizeof(header), key, strlen(key));
    memcpy(change + sizeof(header) + strlen(key), data, len_bytes);
    cr_assert_eq(mdb_txn_begin(store.env, NULL, 0, &txn), 0);
    at = val(history_key, ms_memdb_history_key(&stamp, history_key));
    value = val(change, sizeof(header) + strlen(key) + len_bytes);
    cr_assert_eq(mdb_put(txn, store.db.history, &at, &value, 0), 0);
    ms_memdb_encode_stamp(&stamp, encoded);
    at = val(key, strlen(key));
    value = val(encoded, sizeof(encoded));
    cr_assert_eq(mdb_put(txn, store.db.index, &at, &value, 0), 0);
    put_meta(txn, 1);
    cr_assert_eq(mdb_txn_commit(txn), 0);
    return stamp.revision;
}

static inline int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void store_remove(void)
{
    (void)nftw(store.directory, remove_one, 4, FTW_DEPTH | FTW_PHYS);
}

/*
 * LMDB wants a file opened once per process: the writer's environment is closed before the view
 * opens it.
 */
static inline void store_seal(void)
{
    mdb_env_close(store.env);
    store.env = NULL;
}

#endif

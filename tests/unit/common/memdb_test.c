/*
 * memdb_test: the read side against stores written here, record by record, as memdb_layout.h draws
 * them; sound ones and ones that contradict themselves.
 */
#include "common/memdb.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/memdb_layout.h"

struct fixture {
    char dir[256];
    MDB_env *env;
    struct ms_memdb handles;
    MDB_txn *txn; /* while writing */
    struct ms_memdb_record_meta meta;
    struct ms_memdb *db;
    struct ms_memdb_read *read;
};

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

static void begin_writing(struct fixture *f)
{
    struct ms_err err = {0};

    cr_assert_eq(mdb_txn_begin(f->env, NULL, 0, &f->txn), MDB_SUCCESS);
    cr_assert_eq(ms_memdb_open_dbs(&f->handles, f->txn, true, &err), MS_OK, "%s", err.text);
}

static void put(struct fixture *f, MDB_dbi dbi, const void *key, size_t key_bytes,
                const void *value, size_t value_bytes)
{
    MDB_val k = {key_bytes, (void *)(uintptr_t)key};
    MDB_val v = {value_bytes, (void *)(uintptr_t)value};

    cr_assert_eq(mdb_put(f->txn, dbi, &k, &v, 0), MDB_SUCCESS);
}

static void commit(struct fixture *f)
{
    put(f, f->handles.main, "meta", 4, &f->meta, sizeof(f->meta));
    cr_assert_eq(mdb_txn_commit(f->txn), MDB_SUCCESS);
    f->txn = NULL;
}

static void fixture_init(struct fixture *f)
{
    const char *base = getenv("TMPDIR");

    memset(f, 0, sizeof(*f));
    (void)snprintf(f->dir, sizeof(f->dir), "%s/metastore-test-XXXXXX",
                   base == NULL ? "/tmp" : base);
    cr_assert_not_null(mkdtemp(f->dir));
    cr_assert_eq(mdb_env_create(&f->env), MDB_SUCCESS);
    cr_assert_eq(mdb_env_set_maxdbs(f->env, MS_MEMDB_DBS), MDB_SUCCESS);
    cr_assert_eq(mdb_env_set_maxreaders(f->env, MS_MEMDB_READERS_MAX), MDB_SUCCESS);
    cr_assert_eq(mdb_env_set_mapsize(f->env, (size_t)64 << 20), MDB_SUCCESS);
    cr_assert_eq(mdb_env_open(f->env, f->dir, MDB_NOSYNC | MDB_WRITEMAP | MDB_NOTLS, 0600),
                 MDB_SUCCESS);
    f->meta = (struct ms_memdb_record_meta){
        .layout = MS_MEMDB_LAYOUT, .complete = 1, .revision = 1, .next_branch = 1};
    begin_writing(f);
}

static void open_for_reading(struct fixture *f)
{
    struct ms_err err = {0};

    commit(f);
    cr_assert_eq(ms_memdb_attach(f->env, &f->db, &err), MS_OK, "%s", err.text);
    cr_assert_eq(ms_memdb_read_create(f->db, &f->read, &err), MS_OK, "%s", err.text);
    cr_assert_eq(ms_memdb_read_begin(f->read), MS_OK);
}

static void fixture_fini(struct fixture *f)
{
    if (f->read != NULL) {
        ms_memdb_read_end(f->read);
        ms_memdb_read_destroy(f->read);
    }
    ms_memdb_close(f->db);
    mdb_env_close(f->env);
    (void)nftw(f->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void stamp_bytes(uint64_t revision, uint32_t sub, uint8_t dst[12])
{
    for (int i = 0; i < 8; i++) {
        dst[i] = (uint8_t)(revision >> (56 - 8 * i));
    }
    for (int i = 0; i < 4; i++) {
        dst[8 + i] = (uint8_t)(sub >> (24 - 8 * i));
    }
}

static void put_history(struct fixture *f, const uint8_t *key, size_t key_bytes, uint64_t revision,
                        const char *value)
{
    uint8_t name[12];
    uint8_t record[sizeof(struct ms_memdb_change_header) + MS_KEY_BYTES_MAX + 64];
    struct ms_memdb_change_header header = {.key_bytes = (uint32_t)key_bytes,
                                            .tombstone = value == NULL};
    size_t value_bytes = value == NULL ? 0 : strlen(value);

    if (value != NULL) {
        header.create_revision = revision;
        header.version = 1;
        header.lease = 5;
    }
    memcpy(record, &header, sizeof(header));
    memcpy(record + sizeof(header), key, key_bytes);
    memcpy(record + sizeof(header) + key_bytes, value == NULL ? "" : value, value_bytes);
    stamp_bytes(revision, 0, name);
    put(f, f->handles.history, name, 8, record, sizeof(header) + key_bytes + value_bytes);
}

static void put_stamp(struct fixture *f, MDB_dbi dbi, const uint8_t *key, size_t key_bytes,
                      uint64_t revision, bool tombstone)
{
    uint8_t stamp[12];

    stamp_bytes(revision, tombstone ? UINT32_C(0x80000000) : 0, stamp);
    put(f, dbi, key, key_bytes, stamp, sizeof(stamp));
}

/* A change of a short key; value NULL is a tombstone. */
static void change(struct fixture *f, const char *key, uint64_t revision, const char *value)
{
    put_stamp(f, f->handles.index, (const uint8_t *)key, strlen(key), revision, value == NULL);
    put_history(f, (const uint8_t *)key, strlen(key), revision, value);
    f->meta.revision = revision;
}

static int get(struct fixture *f, const char *key, uint64_t revision, struct ms_memdb_kv *kv)
{
    return ms_memdb_get(f->read, (const uint8_t *)key, strlen(key), revision, kv);
}

static void expect_value(struct fixture *f, const char *key, uint64_t revision, const char *value)
{
    struct ms_memdb_kv kv;
    int rc = get(f, key, revision, &kv);

    if (value == NULL) {
        cr_assert_eq(rc, MS_ENOENT, "%s at %d: %s", key, (int)revision, ms_status_text(rc));
        return;
    }
    cr_assert_eq(rc, MS_OK, "%s at %d: %s", key, (int)revision, ms_status_text(rc));
    cr_assert_eq(kv.value_bytes, strlen(value));
    cr_assert_eq(memcmp(kv.value, value, kv.value_bytes), 0);
    cr_assert_eq(kv.key_bytes, strlen(key));
    cr_assert_eq(kv.lease, 5);
}

Test(memdb, finds_each_version_at_its_revision)
{
    struct ms_memdb_meta meta;
    struct ms_memdb_kv kv;
    struct fixture f;

    fixture_init(&f);
    change(&f, "a", 2, "one");
    change(&f, "b", 3, "");
    change(&f, "a", 4, "two");
    change(&f, "a", 5, NULL);
    change(&f, "a", 7, "three");
    f.meta.compact_revision = 2;
    f.meta.compacted_to = 2;
    f.meta.applied = 99;
    f.meta.keys = 2;
    open_for_reading(&f);
    cr_assert_eq(ms_memdb_read_meta(f.read, &meta), MS_OK);
    cr_assert_eq(meta.applied, 99);
    cr_assert_eq(meta.revision, 7);
    cr_assert_eq(meta.keys, 2);
    expect_value(&f, "a", 0, "three");
    expect_value(&f, "a", 7, "three");
    expect_value(&f, "a", 6, NULL);
    expect_value(&f, "a", 5, NULL);
    expect_value(&f, "a", 4, "two");
    expect_value(&f, "a", 3, "one");
    expect_value(&f, "a", 2, "one");
    expect_value(&f, "b", 2, NULL);
    expect_value(&f, "b", 0, "");
    expect_value(&f, "c", 0, NULL);
    cr_assert_eq(get(&f, "a", 1, &kv), MS_ECOMPACTED);
    cr_assert_eq(get(&f, "a", 8, &kv), MS_EINVAL);
    cr_assert_eq(get(&f, "", 0, &kv), MS_EINVAL);
    cr_assert_eq(ms_memdb_get(f.read, (const uint8_t *)"a", MS_KEY_BYTES_MAX + 1, 0, &kv),
                 MS_EINVAL);
    fixture_fini(&f);
}

/* A view stays as it is until it is renewed. */
Test(memdb, a_view_is_one_commit)
{
    struct ms_memdb_meta meta;
    struct fixture f;

    fixture_init(&f);
    change(&f, "a", 2, "one");
    open_for_reading(&f);
    begin_writing(&f);
    change(&f, "a", 3, "two");
    commit(&f);
    expect_value(&f, "a", 0, "one");
    cr_assert_eq(ms_memdb_read_meta(f.read, &meta), MS_OK);
    cr_assert_eq(meta.revision, 2);
    ms_memdb_read_end(f.read);
    cr_assert_eq(ms_memdb_read_begin(f.read), MS_OK);
    expect_value(&f, "a", 0, "two");
    cr_assert_eq(ms_memdb_read_meta(f.read, &meta), MS_OK);
    cr_assert_eq(meta.revision, 3);
    fixture_fini(&f);
}

struct seen {
    char text[1024];
    size_t limit;
};

static bool note(void *ctx, const struct ms_memdb_kv *kv)
{
    struct seen *seen = ctx;
    size_t length = strlen(seen->text);

    (void)snprintf(seen->text + length, sizeof(seen->text) - length, "%.*s=%.*s ",
                   (int)kv->key_bytes, (const char *)kv->key, (int)kv->value_bytes,
                   (const char *)kv->value);
    return --seen->limit > 0;
}

static void expect_walk(struct fixture *f, struct ms_memdb_range range, size_t limit,
                        const char *expected)
{
    struct seen seen = {.limit = limit};

    cr_assert_eq(ms_memdb_walk(f->read, &range, note, &seen), MS_OK);
    cr_assert_str_eq(seen.text, expected);
}

#define TEXT(s) (const uint8_t *)(s), sizeof(s) - 1

Test(memdb, walks_in_byte_order_within_bounds)
{
    struct fixture f;
    uint8_t long_prefix[MS_KEY_BYTES_MAX + 1] = {'c'};

    fixture_init(&f);
    change(&f, "d", 2, "d");
    change(&f, "b", 3, "b");
    change(&f, "a", 4, "old");
    change(&f, "bb", 5, "bb");
    change(&f, "c", 6, "c");
    change(&f, "a", 7, "a");
    change(&f, "c", 8, NULL);
    open_for_reading(&f);
    expect_walk(&f, (struct ms_memdb_range){0}, 9, "a=a b=b bb=bb d=d ");
    expect_walk(&f, (struct ms_memdb_range){0}, 2, "a=a b=b ");
    expect_walk(&f, (struct ms_memdb_range){.revision = 6}, 9, "a=old b=b bb=bb c=c d=d ");
    expect_walk(&f, (struct ms_memdb_range){.revision = 2}, 9, "d=d ");
    expect_walk(&f, (struct ms_memdb_range){.from = (const uint8_t *)"b", .from_bytes = 1}, 9,
                "b=b bb=bb d=d ");
    expect_walk(
        &f, (struct ms_memdb_range){.from = (const uint8_t *)"b", .from_bytes = 1, .after = true},
        9, "bb=bb d=d ");
    expect_walk(&f, (struct ms_memdb_range){.prefix = (const uint8_t *)"b", .prefix_bytes = 1}, 9,
                "b=b bb=bb ");
    expect_walk(&f,
                (struct ms_memdb_range){.prefix = (const uint8_t *)"b",
                                        .prefix_bytes = 1,
                                        .from = (const uint8_t *)"b",
                                        .from_bytes = 1,
                                        .after = true},
                9, "bb=bb ");
    expect_walk(&f,
                (struct ms_memdb_range){.prefix = (const uint8_t *)"b",
                                        .prefix_bytes = 1,
                                        .from = (const uint8_t *)"c",
                                        .from_bytes = 1},
                9, "");
    expect_walk(&f, (struct ms_memdb_range){.prefix = (const uint8_t *)"", .prefix_bytes = 0}, 9,
                "a=a b=b bb=bb d=d ");
    expect_walk(&f, (struct ms_memdb_range){.to = (const uint8_t *)"bb", .to_bytes = 2}, 9,
                "a=a b=b ");
    expect_walk(&f, (struct ms_memdb_range){.from = (const uint8_t *)"e", .from_bytes = 1}, 9, "");
    cr_assert_eq(ms_memdb_walk(f.read,
                               &(struct ms_memdb_range){.prefix = long_prefix,
                                                        .prefix_bytes = sizeof(long_prefix)},
                               note, NULL),
                 MS_EINVAL);
    fixture_fini(&f);
}

/* A long key in its parts: the root's chunk and marker, then a branch. */
Test(memdb, long_keys_lie_in_branches)
{
    uint8_t key[600];
    uint8_t part[MS_MEMDB_LMDB_KEY_MAX];
    uint8_t branch[12];
    struct seen seen = {.limit = 9};
    struct ms_memdb_kv kv;
    struct fixture f;

    memset(key, 'x', sizeof(key));
    fixture_init(&f);
    change(&f, "w", 2, "before");
    /* index: 510 bytes and a zero byte -> branch 7 */
    memcpy(part, key, 510);
    part[510] = 0;
    stamp_bytes(7, 0, branch);
    put(&f, f.handles.index, part, 511, branch, sizeof(branch));
    /* branches: the number, and the remaining 90 bytes */
    memcpy(part, branch, 8);
    memcpy(part + 8, key + 510, 90);
    put_stamp(&f, f.handles.branches, part, 98, 3, false);
    put_history(&f, key, sizeof(key), 3, "long");
    change(&f, "y", 4, "behind");
    open_for_reading(&f);
    cr_assert_eq(ms_memdb_get(f.read, key, sizeof(key), 0, &kv), MS_OK);
    cr_assert_eq(kv.value_bytes, 4);
    cr_assert_eq(ms_memdb_get(f.read, key, sizeof(key) - 1, 0, &kv), MS_ENOENT);
    cr_assert_eq(ms_memdb_get(f.read, key, 510, 0, &kv), MS_ENOENT);
    cr_assert_eq(ms_memdb_walk(f.read, &(struct ms_memdb_range){.from = key, .from_bytes = 599},
                               note, &seen),
                 MS_OK);
    cr_assert_not_null(strstr(seen.text, "xxx=long y=behind"));
    fixture_fini(&f);
}

/* ---- stores that contradict themselves ---- */

static void expect_corrupt(struct fixture *f, const char *key)
{
    struct seen seen = {.limit = 100};
    struct ms_memdb_kv kv;

    open_for_reading(f);
    cr_assert_eq(get(f, key, 0, &kv), MS_ECORRUPT);
    cr_assert_eq(ms_memdb_walk(f->read, &(struct ms_memdb_range){0}, note, &seen), MS_ECORRUPT);
    fixture_fini(f);
}

Test(memdb, contradictions_are_found)
{
    static const struct ms_memdb_change_header huge = {.key_bytes = 100};
    static const struct ms_memdb_change_header strange = {.key_bytes = 1, .tombstone = 2};
    uint8_t record[sizeof(huge) + 1];
    uint8_t name[12];
    struct fixture f;

    fixture_init(&f); /* a stamp without a change */
    put_stamp(&f, f.handles.index, TEXT("k"), 2, false);
    expect_corrupt(&f, "k");

    fixture_init(&f); /* the change of another key */
    put_stamp(&f, f.handles.index, TEXT("k"), 2, false);
    put_history(&f, (const uint8_t *)"other", 5, 2, "v");
    expect_corrupt(&f, "k");

    fixture_init(&f); /* a tombstone by the index only */
    put_stamp(&f, f.handles.index, TEXT("k"), 2, false);
    put_history(&f, (const uint8_t *)"k", 1, 2, NULL);
    expect_corrupt(&f, "k");

    stamp_bytes(2, 0, name);
    fixture_init(&f); /* a change that is longer than its record */
    put_stamp(&f, f.handles.index, TEXT("k"), 2, false);
    memcpy(record, &huge, sizeof(huge));
    record[sizeof(huge)] = 'k';
    put(&f, f.handles.history, name, 8, record, sizeof(record));
    expect_corrupt(&f, "k");

    fixture_init(&f); /* an unknown kind of change */
    put_stamp(&f, f.handles.index, TEXT("k"), 2, false);
    memcpy(record, &strange, sizeof(strange));
    put(&f, f.handles.history, name, 8, record, sizeof(record));
    expect_corrupt(&f, "k");

    fixture_init(&f); /* a record too short to be one */
    put_stamp(&f, f.handles.index, TEXT("k"), 2, false);
    put(&f, f.handles.history, name, 8, "short", 5);
    expect_corrupt(&f, "k");

    fixture_init(&f); /* stamps that are none */
    put(&f, f.handles.index, "k", 1, "short", 5);
    expect_corrupt(&f, "k");
}

/* Branches that lead nowhere, or round in a circle, end in a status. */
Test(memdb, impossible_branches_are_found)
{
    uint8_t key[1200];
    uint8_t part[MS_MEMDB_LMDB_KEY_MAX];
    uint8_t branch[12];
    struct seen seen = {.limit = 100};
    struct ms_memdb_kv kv;
    struct fixture f;

    memset(key, 'x', sizeof(key));
    fixture_init(&f); /* an empty branch */
    memcpy(part, key, 510);
    part[510] = 0;
    stamp_bytes(7, 0, branch);
    put(&f, f.handles.index, part, 511, branch, sizeof(branch));
    open_for_reading(&f);
    cr_assert_eq(ms_memdb_get(f.read, key, sizeof(key), 0, &kv), MS_ENOENT);
    cr_assert_eq(ms_memdb_walk(f.read, &(struct ms_memdb_range){0}, note, &seen), MS_ECORRUPT);
    begin_writing(&f);
    /* a branch inside itself */
    memcpy(part, branch, 8);
    memset(part + 8, 'x', 502);
    part[510] = 0;
    put(&f, f.handles.branches, part, 511, branch, sizeof(branch));
    commit(&f);
    ms_memdb_read_end(f.read);
    cr_assert_eq(ms_memdb_read_begin(f.read), MS_OK);
    cr_assert_eq(ms_memdb_walk(f.read, &(struct ms_memdb_range){0}, note, &seen), MS_ECORRUPT);
    cr_assert_eq(ms_memdb_get(f.read, key, sizeof(key), 0, &kv), MS_ENOENT);
    fixture_fini(&f);
}

/* What is not a finished store of this layout is not opened. */
Test(memdb, unfinished_and_foreign_stores_are_refused)
{
    struct fixture f;
    struct ms_memdb *db = NULL;

    fixture_init(&f);
    f.meta.complete = 0;
    commit(&f);
    cr_assert_eq(ms_memdb_attach(f.env, &db, NULL), MS_ENOENT);
    begin_writing(&f);
    f.meta.complete = 1;
    f.meta.layout = MS_MEMDB_LAYOUT + 1;
    commit(&f);
    cr_assert_eq(ms_memdb_attach(f.env, &db, NULL), MS_ECORRUPT);
    begin_writing(&f);
    f.meta.layout = MS_MEMDB_LAYOUT;
    f.meta.compact_revision = 5; /* beyond the revision */
    commit(&f);
    cr_assert_eq(ms_memdb_attach(f.env, &db, NULL), MS_ECORRUPT);
    begin_writing(&f);
    put(&f, f.handles.main, "meta", 4, "short", 5);
    cr_assert_eq(mdb_txn_commit(f.txn), MDB_SUCCESS);
    cr_assert_eq(ms_memdb_attach(f.env, &db, NULL), MS_ECORRUPT);
    fixture_fini(&f);
    cr_assert_eq(ms_memdb_open("/nowhere/at/all", &db, NULL), MS_ENOENT);
}

/* By path, read-only, in another process than the writer: as apid does. */
Test(memdb, opens_by_path)
{
    struct fixture f;
    pid_t child;
    int status;

    fixture_init(&f);
    change(&f, "a", 2, "one");
    commit(&f);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        struct ms_memdb_read *read = NULL;
        struct ms_memdb *db = NULL;
        struct ms_memdb_kv kv;
        bool good =
            ms_memdb_open(f.dir, &db, NULL) == MS_OK &&
            ms_memdb_read_create(db, &read, NULL) == MS_OK && ms_memdb_read_begin(read) == MS_OK &&
            ms_memdb_get(read, (const uint8_t *)"a", 1, 0, &kv) == MS_OK && kv.value_bytes == 3;

        _exit(good ? 0 : 1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    fixture_fini(&f);
}

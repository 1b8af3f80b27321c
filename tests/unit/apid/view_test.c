/*
 * view: reads from a memory engine's file, as answers. The file is written here, by its layout.
 */
#include "apid/view.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/memdb_layout.h"

#define APPLIED 9

struct store {
    char directory[256];
    MDB_env *env;
    struct ms_memdb db;
    uint64_t revision;
};

static struct store store;

/* What view_serve delivered, copied. */
static struct {
    struct answer answer;
    char body[4096];
    unsigned count;
} delivered;

static MDB_val val(const void *data, size_t len_bytes)
{
    return (MDB_val){.mv_data = (void *)(uintptr_t)data, .mv_size = len_bytes};
}

static void put_meta(MDB_txn *txn, uint32_t complete)
{
    const struct ms_memdb_record_meta meta = {.layout = MS_MEMDB_LAYOUT,
                                              .complete = complete,
                                              .applied = APPLIED,
                                              .applied_term = 1,
                                              .revision = store.revision,
                                              .compact_revision = 1,
                                              .next_branch = 1};
    MDB_val key = val(MS_MEMDB_META_KEY, strlen(MS_MEMDB_META_KEY));
    MDB_val value = val(&meta, sizeof(meta));

    cr_assert_eq(mdb_put(txn, store.db.main, &key, &value, 0), 0);
}

static void store_create(void)
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
static uint64_t store_put(const char *key, const void *data, size_t len_bytes)
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

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void store_remove(void)
{
    (void)nftw(store.directory, remove_one, 4, FTW_DEPTH | FTW_PHYS);
}

/*
 * LMDB wants a file opened once per process: the writer's environment is closed before the view
 * opens it.
 */
static void store_seal(void)
{
    mdb_env_close(store.env);
    store.env = NULL;
}

static void on_answer(void *ctx, const struct answer *answer)
{
    (void)ctx;
    delivered.count++;
    delivered.answer = *answer;
    cr_assert_lt(answer->body_bytes, sizeof(delivered.body));
    if (answer->body_bytes > 0) {
        memcpy(delivered.body, answer->body, answer->body_bytes);
    }
    delivered.body[answer->body_bytes] = '\0';
}

static void serve(struct view *view, const struct api_request *request)
{
    delivered.count = 0;
    cr_assert_eq(view_serve(view, request, on_answer, NULL), MS_OK);
    cr_assert_eq(delivered.count, 1);
}

static struct api_request get_of(const char *key)
{
    return (struct api_request){
        .kind = API_GET, .key = (const uint8_t *)key, .key_bytes = strlen(key)};
}

static void open_view(struct view *view)
{
    struct ms_err err;

    *view = (struct view){0};
    cr_assert_eq(view_open(view, store.directory, 1, &err), MS_OK, "%s", err.text);
}

Test(view, closed_view_says_so)
{
    struct view view = {0};
    struct api_request request = get_of("/a");
    raft_index applied;

    cr_assert_eq(view_serve(&view, &request, on_answer, NULL), MS_EUNAVAILABLE);
    cr_assert_eq(view_applied(&view, &applied), MS_EUNAVAILABLE);
    cr_assert_eq(delivered.count, 0);
    view_close(&view);
}

Test(view, missing_store_leaves_the_view_closed)
{
    struct view view = {0};
    struct ms_err err;

    cr_assert_neq(view_open(&view, "/nonexistent/metastore", 1, &err), MS_OK);
    cr_assert_not(view_is_open(&view));
}

Test(view, get_answers_value_and_revision)
{
    struct api_request request = get_of("/a");
    struct view view;
    raft_index applied;
    uint64_t revision;

    store_create();
    revision = store_put("/a", "va\0lue", 6);
    store_seal();
    open_view(&view);
    cr_assert_eq(view_applied(&view, &applied), MS_OK);
    cr_assert_eq(applied, APPLIED);
    serve(&view, &request);
    cr_assert_eq(delivered.answer.status, 200);
    cr_assert_eq(delivered.answer.type, ANSWER_OCTETS);
    cr_assert_eq(delivered.answer.revision, revision);
    cr_assert_eq(delivered.answer.body_bytes, 6);
    cr_assert_arr_eq(delivered.body, "va\0lue", 6);
    request = get_of("/b");
    serve(&view, &request);
    cr_assert_eq(delivered.answer.status, 404);
    view_close(&view);
    store_remove();
}

Test(view, conditions_of_a_get)
{
    struct api_request request;
    struct view view;
    uint64_t revision;

    store_create();
    revision = store_put("/a", "v", 1);
    store_seal();
    open_view(&view);

    request = get_of("/a");
    request.unless_revision = revision;
    serve(&view, &request);
    cr_assert_eq(delivered.answer.status, 304);
    cr_assert_eq(delivered.answer.revision, revision);
    cr_assert_eq(delivered.answer.body_bytes, 0);

    request.unless_revision = revision + 1;
    serve(&view, &request);
    cr_assert_eq(delivered.answer.status, 200);

    request = get_of("/a");
    request.unless_any = true;
    serve(&view, &request);
    cr_assert_eq(delivered.answer.status, 304);

    request = get_of("/a");
    request.condition = MS_CONDITION_MOD_REVISION;
    request.revision = revision + 1;
    serve(&view, &request);
    cr_assert_eq(delivered.answer.status, 412);
    request.revision = revision;
    serve(&view, &request);
    cr_assert_eq(delivered.answer.status, 200);

    request = get_of("/absent");
    request.condition = MS_CONDITION_PRESENT;
    serve(&view, &request);
    cr_assert_eq(delivered.answer.status, 412);
    view_close(&view);
    store_remove();
}

Test(view, listing_keeps_prefix_order_and_limit)
{
    struct api_request request = {
        .kind = API_LIST, .key = (const uint8_t *)"/a/", .key_bytes = 3, .limit = 2};
    struct view view;

    store_create();
    (void)store_put("/a/3", "3", 1);
    (void)store_put("/a/1", "1", 1);
    (void)store_put("/b", "b", 1);
    (void)store_put("/a/2", "2", 1);
    store_seal();
    open_view(&view);
    serve(&view, &request);
    cr_assert_eq(delivered.answer.status, 200);
    cr_assert_eq(delivered.answer.type, ANSWER_JSON);
    cr_assert(delivered.answer.more);
    cr_assert_str_eq(delivered.body, "[{\"key\":\"/a/1\",\"value\":\"MQ==\",\"create_revision\":3,"
                                     "\"mod_revision\":3,\"version\":1},"
                                     "{\"key\":\"/a/2\",\"value\":\"Mg==\",\"create_revision\":5,"
                                     "\"mod_revision\":5,\"version\":1}]\n");
    request.after = (const uint8_t *)"/a/2";
    request.after_bytes = 4;
    serve(&view, &request);
    cr_assert_not(delivered.answer.more);
    cr_assert_not_null(strstr(delivered.body, "\"/a/3\""));
    cr_assert_null(strstr(delivered.body, "\"/a/2\""));
    cr_assert_null(strstr(delivered.body, "\"/b\""));
    request.key = (const uint8_t *)"/none";
    request.key_bytes = 5;
    request.after = NULL;
    serve(&view, &request);
    cr_assert_str_eq(delivered.body, "[]\n");
    view_close(&view);
    store_remove();
}

Test(view, same_epoch_stays_open_and_another_is_opened)
{
    struct api_request request = get_of("/a");
    struct ms_memdb *before;
    char first[256];
    struct view view;
    struct ms_err err;

    store_create();
    (void)store_put("/a", "first", 5);
    store_seal();
    open_view(&view);
    before = view.db;
    cr_assert_eq(view_open(&view, store.directory, 1, &err), MS_OK);
    cr_assert(view.db == before);

    memcpy(first, store.directory, sizeof(first));
    store_create();
    (void)store_put("/a", "second", 6);
    store_seal();
    cr_assert_eq(view_open(&view, store.directory, 2, &err), MS_OK);
    serve(&view, &request);
    cr_assert_str_eq(delivered.body, "second");
    view_close(&view);
    store_remove();
    memcpy(store.directory, first, sizeof(first));
    store_remove();
}

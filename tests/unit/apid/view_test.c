/*
 * view: reads from a memory engine's file, as answers.
 */
#include "apid/view.h"

#include "tests/unit/apid/store_fixture.h"

/* What view_serve delivered, copied. */
static struct {
    struct answer answer;
    char body[4096];
    unsigned count;
} delivered;

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
    cr_assert_eq(applied, STORE_APPLIED);
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

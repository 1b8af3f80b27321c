/*
 * request: every row of the routes, and what is refused with which error.
 */
#include "apid/request.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX 1024

struct translated {
    int rc;
    struct api_request request;
    enum api_error error;
    uint8_t scratch[32768];
};

static struct request_text text(const char *string)
{
    return (struct request_text){.data = string, .len_bytes = string != NULL ? strlen(string) : 0};
}

static struct translated *translate(const struct request_input *input)
{
    static struct translated out;

    memset(&out, 0, sizeof(out));
    cr_assert_leq(request_scratch_bytes(input), sizeof(out.scratch));
    out.rc = request_translate(input, BODY_MAX, out.scratch, &out.request, &out.error);
    return &out;
}

static struct translated *simple(const char *method, const char *target)
{
    struct request_input input = {.method = text(method), .target = text(target)};

    return translate(&input);
}

static void expect_error(const char *method, const char *target, enum api_error error)
{
    struct translated *t = simple(method, target);

    cr_assert_eq(t->rc, MS_EINVAL, "%s %s must be refused", method, target);
    cr_assert_eq(t->error, error, "%s %s: error %d", method, target, (int)t->error);
}

static void expect_key(const struct translated *t, const char *key, size_t key_bytes)
{
    cr_assert_eq(t->rc, MS_OK);
    cr_assert_eq(t->request.key_bytes, key_bytes);
    cr_assert_arr_eq(t->request.key, key, key_bytes);
}

Test(request, get_names_the_key_with_its_slash)
{
    struct translated *t = simple("GET", "/config/db/host");

    expect_key(t, "/config/db/host", 15);
    cr_assert_eq(t->request.kind, API_GET);
    cr_assert_not(t->request.head);
    cr_assert_not(t->request.serializable);
}

Test(request, head_is_a_get_without_body)
{
    struct translated *t = simple("HEAD", "/a");

    cr_assert_eq(t->rc, MS_OK);
    cr_assert_eq(t->request.kind, API_GET);
    cr_assert(t->request.head);
}

Test(request, put_takes_the_body_as_it_is)
{
    struct request_input input = {
        .method = text("PUT"), .target = text("/a?x=1"), .body = {.data = "v\0w", .len_bytes = 3}};
    struct translated *t = translate(&input);

    expect_key(t, "/a", 2);
    cr_assert_eq(t->request.kind, API_PUT);
    cr_assert_eq(t->request.value_bytes, 3);
    cr_assert_arr_eq(t->request.value, "v\0w", 3);
    cr_assert_eq(t->request.condition, MS_CONDITION_NONE);
}

Test(request, put_without_body_is_an_empty_value)
{
    struct translated *t = simple("PUT", "/a");

    cr_assert_eq(t->rc, MS_OK);
    cr_assert_eq(t->request.value_bytes, 0);
}

Test(request, body_over_the_limit_is_too_large)
{
    static char body[BODY_MAX + 1];
    struct request_input input = {
        .method = text("PUT"), .target = text("/a"), .body = {.data = body, .len_bytes = BODY_MAX}};

    cr_assert_eq(translate(&input)->rc, MS_OK);
    input.body.len_bytes = BODY_MAX + 1;
    cr_assert_eq(translate(&input)->rc, MS_EINVAL);
    cr_assert_eq(translate(&input)->error, API_ERROR_TOO_LARGE);
}

Test(request, any_byte_can_be_escaped)
{
    expect_key(simple("GET", "/a%00b"), "/a\0b", 4);
    expect_key(simple("GET", "/a%2Fb%2fc"), "/a/b/c", 6);
    expect_key(simple("GET", "/%ff%FE"), "/\xff\xfe", 3);
    expect_key(simple("GET", "/%25"), "/%", 2);
    expect_key(simple("GET", "/a%3Fb?consistency=linearizable"), "/a?b", 4);
}

Test(request, path_is_not_normalised)
{
    expect_key(simple("GET", "/a/../b"), "/a/../b", 7);
    expect_key(simple("GET", "//a//"), "//a//", 5);
    expect_key(simple("GET", "/a/./+b"), "/a/./+b", 7);
}

Test(request, malformed_escape_is_refused)
{
    expect_error("GET", "/a%", API_ERROR_BAD_PERCENT);
    expect_error("GET", "/a%1", API_ERROR_BAD_PERCENT);
    expect_error("PUT", "/a%1g", API_ERROR_BAD_PERCENT);
    expect_error("GET", "/a%-1", API_ERROR_BAD_PERCENT);
    expect_error("GET", "/?prefix=true&after=%zz", API_ERROR_BAD_PERCENT);
}

Test(request, other_targets_are_refused)
{
    expect_error("GET", "", API_ERROR_BAD_PATH);
    expect_error("OPTIONS", "*", API_ERROR_BAD_PATH);
    expect_error("CONNECT", "host:1", API_ERROR_BAD_PATH);
}

Test(request, empty_key_is_refused_but_lists_everything)
{
    struct translated *t;

    expect_error("GET", "/", API_ERROR_EMPTY_KEY);
    expect_error("PUT", "/", API_ERROR_EMPTY_KEY);
    expect_error("DELETE", "/?x", API_ERROR_EMPTY_KEY);
    t = simple("GET", "/?prefix=true");
    expect_key(t, "/", 1);
    cr_assert_eq(t->request.kind, API_LIST);
}

Test(request, key_is_measured_after_decoding)
{
    char *target = malloc(3 * MS_KEY_BYTES_MAX + 16);

    target[0] = '/';
    for (size_t i = 1; i < MS_KEY_BYTES_MAX; i++) {
        memcpy(target + 1 + 3 * (i - 1), "%61", 3);
    }
    target[1 + 3 * (MS_KEY_BYTES_MAX - 1)] = '\0';
    cr_assert_eq(simple("GET", target)->rc, MS_OK);
    cr_assert_eq(simple("GET", target)->request.key_bytes, MS_KEY_BYTES_MAX);
    strcat(target, "b");
    expect_error("GET", target, API_ERROR_KEY_TOO_LONG);
    free(target);
}

Test(request, consistency_is_one_of_two_words)
{
    cr_assert(simple("GET", "/a?consistency=serializable")->request.serializable);
    cr_assert_not(simple("GET", "/a?consistency=linearizable")->request.serializable);
    cr_assert(simple("GET", "/a?prefix=true&consistency=serializable")->request.serializable);
    expect_error("GET", "/a?consistency=", API_ERROR_BAD_CONSISTENCY);
    expect_error("GET", "/a?consistency", API_ERROR_BAD_CONSISTENCY);
    expect_error("GET", "/a?consistency=strong", API_ERROR_BAD_CONSISTENCY);
}

Test(request, listing_takes_limit_and_after)
{
    struct translated *t = simple("GET", "/a?prefix=true&limit=7&after=/a%2Fb+c&unknown=1&&");

    expect_key(t, "/a", 2);
    cr_assert_eq(t->request.kind, API_LIST);
    cr_assert_eq(t->request.limit, 7);
    cr_assert_eq(t->request.after_bytes, 6);
    cr_assert_arr_eq(t->request.after, "/a/b+c", 6);
}

Test(request, escaped_prefix_and_after_do_not_overlap)
{
    struct translated *t = simple("GET", "/%61?prefix=true&after=%62%63");

    expect_key(t, "/a", 2);
    cr_assert_eq(t->request.after_bytes, 2);
    cr_assert_arr_eq(t->request.after, "bc", 2);
}

Test(request, limit_has_a_default_and_a_maximum)
{
    struct translated *t = simple("GET", "/a?prefix=true");

    cr_assert_eq(t->request.limit, REQUEST_LIST_LIMIT_DEFAULT);
    cr_assert_null(t->request.after);
    t = simple("GET", "/a?prefix=true&limit=99999999");
    cr_assert_eq(t->request.limit, REQUEST_LIST_LIMIT_MAX);
    expect_error("GET", "/a?prefix=true&limit=0", API_ERROR_BAD_LIMIT);
    expect_error("GET", "/a?prefix=true&limit=-1", API_ERROR_BAD_LIMIT);
    expect_error("GET", "/a?prefix=true&limit=", API_ERROR_BAD_LIMIT);
    expect_error("GET", "/a?prefix=true&limit=1x", API_ERROR_BAD_LIMIT);
    expect_error("GET", "/a?prefix=true&limit=99999999999999999999999", API_ERROR_BAD_LIMIT);
    expect_error("GET", "/a?prefix=yes", API_ERROR_BAD_PREFIX);
    cr_assert_eq(simple("GET", "/a?prefix=false")->request.kind, API_GET);
}

static struct translated *conditional(const char *method, const char *match, const char *none_match)
{
    struct request_input input = {.method = text(method),
                                  .target = text("/a"),
                                  .if_match = text(match),
                                  .if_none_match = text(none_match)};

    return translate(&input);
}

Test(request, write_conditions)
{
    struct translated *t = conditional("PUT", "\"12\"", NULL);

    cr_assert_eq(t->request.condition, MS_CONDITION_MOD_REVISION);
    cr_assert_eq(t->request.revision, 12);
    cr_assert_eq(conditional("PUT", "*", NULL)->request.condition, MS_CONDITION_PRESENT);
    cr_assert_eq(conditional("PUT", NULL, "*")->request.condition, MS_CONDITION_ABSENT);
    cr_assert_eq(conditional("DELETE", "\"1\"", NULL)->request.condition,
                 MS_CONDITION_MOD_REVISION);
}

Test(request, malformed_write_conditions_are_refused)
{
    static const char *const bad[] = {"12",          "\"\"", "\"x\"", "\"1",    "W/\"1\"", "\"-1\"",
                                      "\"1\",\"2\"", "",     "\"",    "\"03\"", "\"0\""};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct translated *t = conditional("PUT", bad[i], NULL);

        cr_assert_eq(t->rc, MS_EINVAL, "If-Match: %s", bad[i]);
        cr_assert_eq(t->error, API_ERROR_BAD_IF_MATCH);
    }
    cr_assert_eq(conditional("PUT", NULL, "\"3\"")->error, API_ERROR_BAD_IF_NONE_MATCH);
    cr_assert_eq(conditional("PUT", "*", "*")->error, API_ERROR_TWO_CONDITIONS);
}

/* Several lines are one list (RFC 9110 5.3), and of a list we could only guess. */
Test(request, repeated_conditions_are_refused_on_a_write_and_ignored_on_a_read)
{
    struct request_input input = {.method = text("PUT"),
                                  .target = text("/a"),
                                  .if_match = text("*"),
                                  .if_match_repeated = true};

    cr_assert_eq(translate(&input)->error, API_ERROR_BAD_IF_MATCH);
    input = (struct request_input){.method = text("PUT"),
                                   .target = text("/a"),
                                   .if_none_match = text("*"),
                                   .if_none_match_repeated = true};
    cr_assert_eq(translate(&input)->error, API_ERROR_BAD_IF_NONE_MATCH);
    input.method = text("GET");
    cr_assert_eq(translate(&input)->rc, MS_OK);
    cr_assert_not(translate(&input)->request.unless_any);
}

Test(request, a_target_in_absolute_form_is_its_path)
{
    struct translated *t = simple("GET", "http://node:9121/a/b?consistency=serializable");

    cr_assert_eq(t->request.key_bytes, 4);
    cr_assert_arr_eq(t->request.key, "/a/b", 4);
    cr_assert(t->request.serializable);
    cr_assert_eq(simple("GET", "https://node/health")->request.kind, API_HEALTH);
    expect_error("GET", "http://node", API_ERROR_EMPTY_KEY);
    expect_error("GET", "http:/a", API_ERROR_BAD_PATH);
    expect_error("GET", "ftp://node/a", API_ERROR_BAD_PATH);
}

Test(request, read_conditions)
{
    cr_assert_eq(conditional("GET", NULL, "\"5\"")->request.unless_revision, 5);
    cr_assert_eq(conditional("GET", NULL, "W/\"5\"")->request.unless_revision, 5);
    cr_assert(conditional("GET", NULL, "*")->request.unless_any);
    cr_assert_eq(conditional("GET", NULL, "\"abc\"")->rc, MS_OK, "it just never matches");
    cr_assert_eq(conditional("GET", NULL, "\"abc\"")->request.unless_revision, 0);
    cr_assert_eq(conditional("GET", "\"5\"", NULL)->request.condition, MS_CONDITION_MOD_REVISION);
}

Test(request, pages_take_get_and_head)
{
    cr_assert_eq(simple("GET", "/health")->request.kind, API_HEALTH);
    cr_assert_eq(simple("GET", "/health?exclude=x")->request.kind, API_HEALTH);
    cr_assert_eq(simple("HEAD", "/livez")->request.kind, API_LIVEZ);
    cr_assert_eq(simple("GET", "/readyz")->request.kind, API_READYZ);
    cr_assert_eq(simple("GET", "/metrics")->request.kind, API_METRICS);
    cr_assert_eq(simple("GET", "/version")->request.kind, API_VERSION);
    cr_assert_eq(simple("GET", "/%68ealth")->request.kind, API_HEALTH);
    cr_assert_eq(simple("GET", "/health/x")->request.kind, API_GET);
    expect_error("PUT", "/health", API_ERROR_PAGE_METHOD);
    expect_error("DELETE", "/version", API_ERROR_PAGE_METHOD);
}

Test(request, reserved_names_are_not_keys)
{
    expect_error("GET", "/v3/kv/range", API_ERROR_RESERVED);
    expect_error("POST", "/v3/kv/put", API_ERROR_RESERVED);
    expect_error("PUT", "/ui/index.html", API_ERROR_RESERVED);
    expect_error("PUT", "/%763/x", API_ERROR_RESERVED);
    cr_assert_eq(simple("PUT", "/v3x")->rc, MS_OK);
    cr_assert_eq(simple("GET", "/a/v3/")->rc, MS_OK);
}

Test(request, methods_that_keys_do_not_take)
{
    expect_error("POST", "/a", API_ERROR_KEY_METHOD);
    expect_error("OPTIONS", "/a", API_ERROR_KEY_METHOD);
    expect_error("get", "/a", API_ERROR_KEY_METHOD);
    expect_error("", "/a", API_ERROR_KEY_METHOD);
    expect_error("GETX", "/a", API_ERROR_KEY_METHOD);
}

Test(request, digits_are_members_to_post_and_delete_only)
{
    cr_assert_eq(simple("DELETE", "/123")->request.kind, API_MEMBER_REMOVE);
    cr_assert_eq(simple("DELETE", "/%31")->request.member, 1);
    cr_assert_eq(simple("DELETE", "/9223372036854775807")->request.member, INT64_MAX);
    expect_error("DELETE", "/0", API_ERROR_BAD_MEMBER_ID);
    expect_error("DELETE", "/9223372036854775808", API_ERROR_BAD_MEMBER_ID);
    expect_error("DELETE", "/99999999999999999999999", API_ERROR_BAD_MEMBER_ID);
    expect_error("POST", "/0", API_ERROR_BAD_MEMBER_ID);
    expect_error("POST", "/4a", API_ERROR_KEY_METHOD);
    expect_error("POST", "/", API_ERROR_KEY_METHOD);
    cr_assert_eq(simple("PUT", "/123")->request.kind, API_PUT);
    cr_assert_eq(simple("GET", "/123")->request.kind, API_GET);
    cr_assert_eq(simple("DELETE", "/123a")->request.kind, API_DELETE);
}

Test(request, a_member_is_added_with_the_url_in_the_body)
{
    static const struct {
        const char *body;
        const char *url;
    } rows[] = {
        {"http://127.0.0.1:42379", "http://127.0.0.1:42379"},
        {" \thttp://[::1]:1/\r\n", "http://[::1]:1"},
        {"http://h:1\n\n", "http://h:1"},
    };
    static const char *const bad[] = {
        NULL,          "",           "\n",           "h:1",
        "https://h:1", "http://h:0", "http://h:1/x", "http://h:1 http://i:1"};
    struct request_input input = {.method = text("POST"), .target = text("/4")};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct translated *t;

        input.body = text(rows[i].body);
        t = translate(&input);
        cr_assert_eq(t->rc, MS_OK);
        cr_assert_eq(t->request.kind, API_MEMBER_ADD);
        cr_assert_eq(t->request.member, 4);
        cr_assert_eq(t->request.peer_url_bytes, strlen(rows[i].url), "%s", rows[i].body);
        cr_assert_arr_eq(t->request.peer_url, rows[i].url, strlen(rows[i].url));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        input.body = text(bad[i]);
        cr_assert_eq(translate(&input)->rc, MS_EINVAL);
        cr_assert_eq(translate(&input)->error, API_ERROR_BAD_MEMBER_URL);
    }
}

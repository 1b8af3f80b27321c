/*
 * The REST routes of one node, as the manual gives them.
 */
#include "tests/system/fixture.h"

#include <signal.h>
#include <stdio.h>

SYSTEM_SUITE(rest);

Test(rest, a_value_is_stored_read_and_deleted)
{
    uint64_t revision;

    node_start(&node, NULL);
    ASSERT_STATUS(http_get(client, "/config/db/host", &answer), 404);
    assert_error_body(404);
    ASSERT_STATUS(http_put(client, "/config/db/host", "db1.example", &answer), 204);
    revision = http_revision(&answer);
    cr_assert_eq(answer.body_bytes, 0);
    ASSERT_STATUS(http_get(client, "/config/db/host", &answer), 200);
    assert_body("db1.example");
    cr_assert_eq(http_revision(&answer), revision);
    cr_assert_str_eq(http_header(&answer, "content-type"), "application/octet-stream");
    ASSERT_STATUS(http_delete(client, "/config/db/host", &answer), 204);
    ASSERT_STATUS(http_get(client, "/config/db/host", &answer), 404);
    ASSERT_STATUS(http_delete(client, "/config/db/host", &answer), 404);
    assert_error_body(404);
    node_finish(&node);
}

Test(rest, revisions_count_the_stores_changes)
{
    uint64_t first;

    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/a", "1", &answer), 204);
    first = http_revision(&answer);
    cr_assert_eq(first, 2, "a new store stands at revision 1");
    ASSERT_STATUS(http_put(client, "/b", "1", &answer), 204);
    cr_assert_eq(http_revision(&answer), first + 1);
    ASSERT_STATUS(http_put(client, "/a", "1", &answer), 204);
    cr_assert_eq(http_revision(&answer), first + 2, "the same value is a change as well");
    ASSERT_STATUS(http_delete(client, "/nothing", &answer), 404);
    ASSERT_STATUS(http_delete(client, "/b", &answer), 204);
    ASSERT_STATUS(http_put(client, "/c", "1", &answer), 204);
    cr_assert_eq(http_revision(&answer), first + 4, "a 404 changes nothing, a DELETE does");
    node_finish(&node);
}

Test(rest, values_are_any_bytes)
{
    enum {
        BIG = 1000000
    };
    static uint8_t big[BIG];
    struct http_request put = {.method = "PUT", .path = "/bytes", .body = big};

    for (size_t i = 0; i < BIG; i++) {
        big[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    node_start(&node, NULL);
    for (size_t len_bytes = 0; len_bytes <= BIG; len_bytes = len_bytes * 10 + 1) {
        put.body_bytes = len_bytes;
        ASSERT_STATUS(http_send(client, &put, &answer), 204);
        ASSERT_STATUS(http_get(client, "/bytes", &answer), 200);
        cr_assert_eq(answer.body_bytes, len_bytes);
        cr_assert_eq(memcmp(answer.body, big, len_bytes), 0);
    }
    put.body_bytes = BIG;
    ASSERT_STATUS(http_send(client, &put, &answer), 204);
    ASSERT_STATUS(http_get(client, "/bytes", &answer), 200);
    cr_assert_eq(answer.body_bytes, BIG);
    cr_assert_eq(memcmp(answer.body, big, BIG), 0);
    node_finish(&node);
}

/* The key is the decoded path: any byte, nothing normalised. */
Test(rest, keys_are_any_bytes)
{
    static const char *const paths[] = {
        "/a//b",  "/a/b",   "/a/./b", "/a/../b", "/%00",    "/%ff%fe", "/%2f",
        "//",     "/a%20b", "/a+b",   "/%3f",    "/%c3%a4", "/~user",  "/a;b=c",
        "/a:b@c", "/%25",   "/123",   "/v3",     "/uix",
    };

    node_start(&node, NULL);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        char value[32];

        (void)snprintf(value, sizeof(value), "value %zu", i);
        ASSERT_STATUS(http_put(client, paths[i], value, &answer), 204);
    }
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        char value[32];

        /* "//" and "/%2f" are one key; the later value holds. */
        (void)snprintf(value, sizeof(value), "value %zu", strcmp(paths[i], "/%2f") == 0 ? 7 : i);
        ASSERT_STATUS(http_get(client, paths[i], &answer), 200);
        cr_assert_str_eq(answer.body, value, "%s", paths[i]);
    }
    node_finish(&node);
}

Test(rest, keys_up_to_8_kib_are_taken)
{
    static char path[3 * 8192 + 16];
    static const size_t sizes[] = {511, 512, 513, 1022, 4096, 8191, 8192};

    node_start(&node, NULL);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char value[32];

        memset(path, 'k', sizes[i]);
        path[0] = '/';
        path[sizes[i]] = '\0';
        (void)snprintf(value, sizeof(value), "%zu", sizes[i]);
        ASSERT_STATUS(http_put(client, path, value, &answer), 204);
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char value[32];

        memset(path, 'k', sizes[i]);
        path[0] = '/';
        path[sizes[i]] = '\0';
        (void)snprintf(value, sizeof(value), "%zu", sizes[i]);
        ASSERT_STATUS(http_get(client, path, &answer), 200);
        assert_body(value);
    }
    memset(path, 'k', 8193);
    path[0] = '/';
    path[8193] = '\0';
    ASSERT_STATUS(http_put(client, path, "x", &answer), 414);
    assert_error_body(414);
    ASSERT_STATUS(http_get(client, path, &answer), 414);
    ASSERT_STATUS(http_delete(client, path, &answer), 414);
    node_finish(&node);
}

/* What counts is the decoded length. */
Test(rest, a_percent_encoded_key_may_be_8_kib_as_well)
{
    static char path[3 * 8192 + 16] = "/";

    for (size_t i = 0; i < 8191; i++) {
        memcpy(path + 1 + 3 * i, "%fe", 4);
    }
    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, path, "x", &answer), 204);
    ASSERT_STATUS(http_get(client, path, &answer), 200);
    assert_body("x");
    node_finish(&node);
}

Test(rest, if_match_changes_only_what_was_read)
{
    char condition[64];

    node_start(&node, NULL);
    ASSERT_STATUS(send_with("PUT", "/k", "0", "If-Match: \"2\""), 412);
    assert_error_body(412);
    ASSERT_STATUS(http_put(client, "/k", "1", &answer), 204);
    (void)snprintf(condition, sizeof(condition), "If-Match: \"%llu\"",
                   (unsigned long long)http_revision(&answer));
    ASSERT_STATUS(send_with("PUT", "/k", "2", condition), 204);
    ASSERT_STATUS(send_with("PUT", "/k", "3", condition), 412);
    ASSERT_STATUS(send_with("DELETE", "/k", NULL, condition), 412);
    ASSERT_STATUS(http_get(client, "/k", &answer), 200);
    assert_body("2");
    (void)snprintf(condition, sizeof(condition), "If-Match: \"%llu\"",
                   (unsigned long long)http_revision(&answer));
    ASSERT_STATUS(send_with("DELETE", "/k", NULL, condition), 204);
    ASSERT_STATUS(send_with("DELETE", "/k", NULL, condition), 412);
    node_finish(&node);
}

Test(rest, if_none_match_creates_once)
{
    node_start(&node, NULL);
    ASSERT_STATUS(send_with("PUT", "/lock", "mine", "If-None-Match: *"), 204);
    ASSERT_STATUS(send_with("PUT", "/lock", "yours", "If-None-Match: *"), 412);
    assert_error_body(412);
    ASSERT_STATUS(http_get(client, "/lock", &answer), 200);
    assert_body("mine");
    ASSERT_STATUS(http_delete(client, "/lock", &answer), 204);
    ASSERT_STATUS(send_with("PUT", "/lock", "yours", "If-None-Match: *"), 204);
    node_finish(&node);
}

Test(rest, if_match_star_needs_any_value)
{
    node_start(&node, NULL);
    ASSERT_STATUS(send_with("PUT", "/k", "1", "If-Match: *"), 412);
    ASSERT_STATUS(http_put(client, "/k", "1", &answer), 204);
    ASSERT_STATUS(send_with("PUT", "/k", "2", "If-Match: *"), 204);
    node_finish(&node);
}

Test(rest, malformed_conditions_are_refused)
{
    static const char *const headers[] = {
        "If-Match: 2",    "If-Match: \"two\"", "If-Match: \"2",
        "If-Match: \"\"", "If-Match: \"-1\"",  "If-Match: \"99999999999999999999\"",
    };

    node_start(&node, NULL);
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        int status = send_with("PUT", "/k", "1", headers[i]);

        /* An entity tag that this server never gave cannot match: 412 is right for those. */
        cr_assert(status == 400 || status == 412, "%s: %d", headers[i], status);
        assert_error_body(status);
    }
    ASSERT_STATUS(http_get(client, "/k", &answer), 404);
    node_finish(&node);
}

Test(rest, a_get_can_be_answered_with_not_modified)
{
    char condition[64];

    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "1", &answer), 204);
    (void)snprintf(condition, sizeof(condition), "If-None-Match: \"%llu\"",
                   (unsigned long long)http_revision(&answer));
    ASSERT_STATUS(send_with("GET", "/k", NULL, condition), 304);
    cr_assert_eq(answer.body_bytes, 0);
    ASSERT_STATUS(http_put(client, "/k", "2", &answer), 204);
    ASSERT_STATUS(send_with("GET", "/k", NULL, condition), 200);
    assert_body("2");
    node_finish(&node);
}

Test(rest, head_is_get_without_the_body)
{
    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "12345", &answer), 204);
    ASSERT_STATUS(send_with("HEAD", "/k", NULL, NULL), 200);
    cr_assert_eq(answer.body_bytes, 0);
    cr_assert_str_eq(http_header(&answer, "content-length"), "5");
    cr_assert_gt(http_revision(&answer), 0);
    ASSERT_STATUS(send_with("HEAD", "/absent", NULL, NULL), 404);
    node_finish(&node);
}

Test(rest, consistency_can_be_chosen)
{
    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "1", &answer), 204);
    ASSERT_STATUS(http_get(client, "/k?consistency=serializable", &answer), 200);
    assert_body("1");
    ASSERT_STATUS(http_get(client, "/k?consistency=linearizable", &answer), 200);
    ASSERT_STATUS(http_get(client, "/k?consistency=whatever", &answer), 400);
    assert_error_body(400);
    node_finish(&node);
}

/* ---- listing ------------------------------------------------------------------------------- */

static json_t *list(const char *path)
{
    json_error_t error;
    json_t *json;

    ASSERT_STATUS(http_get(client, path, &answer), 200);
    json = json_loads(answer.body, 0, &error);
    cr_assert(json_is_array(json), "%s: not a list: %s", path, answer.body);
    return json;
}

static void assert_listed(json_t *json, size_t position, const char *key, const char *base64)
{
    json_t *row = json_array_get(json, position);
    const char *name = json_string_value(json_object_get(row, "key"));
    const char *value = json_string_value(json_object_get(row, "value"));

    cr_assert_not_null(name, "row %zu of %s", position, answer.body);
    cr_assert_str_eq(name, key);
    cr_assert_str_eq(value, base64);
    cr_assert_gt(json_integer_value(json_object_get(row, "mod_revision")), 1);
    cr_assert_gt(json_integer_value(json_object_get(row, "create_revision")), 1);
    cr_assert_gt(json_integer_value(json_object_get(row, "version")), 0);
}

Test(rest, a_prefix_is_listed_in_byte_order)
{
    json_t *json;

    node_start(&node, NULL);
    json = list("/p/?prefix=true");
    cr_assert_eq(json_array_size(json), 0);
    json_decref(json);
    ASSERT_STATUS(http_put(client, "/p/b", "B", &answer), 204);
    ASSERT_STATUS(http_put(client, "/p/a", "", &answer), 204);
    ASSERT_STATUS(http_put(client, "/p/a/x", "AX", &answer), 204);
    ASSERT_STATUS(http_put(client, "/q", "Q", &answer), 204);
    ASSERT_STATUS(http_put(client, "/p/a", "A", &answer), 204);

    json = list("/p/?prefix=true");
    cr_assert_eq(json_array_size(json), 3);
    assert_listed(json, 0, "/p/a", "QQ==");
    assert_listed(json, 1, "/p/a/x", "QVg=");
    assert_listed(json, 2, "/p/b", "Qg==");
    cr_assert_eq(json_integer_value(json_object_get(json_array_get(json, 0), "version")), 2);
    cr_assert_null(http_header(&answer, "x-metastore-more"));
    json_decref(json);

    json = list("/?prefix=true");
    cr_assert_eq(json_array_size(json), 4);
    json_decref(json);
    node_finish(&node);
}

Test(rest, a_listing_is_cut_and_continued)
{
    json_t *json;
    size_t seen = 0;
    char path[128] = "/n/?prefix=true&limit=10";

    node_start(&node, NULL);
    for (int i = 0; i < 35; i++) {
        char key[32];

        (void)snprintf(key, sizeof(key), "/n/%03d", i);
        ASSERT_STATUS(http_put(client, key, "v", &answer), 204);
    }
    for (;;) {
        size_t count;

        json = list(path);
        count = json_array_size(json);
        for (size_t i = 0; i < count; i++) {
            char key[32];

            (void)snprintf(key, sizeof(key), "/n/%03zu", seen++);
            assert_listed(json, i, key, "dg==");
        }
        if (http_header(&answer, "x-metastore-more") == NULL) {
            json_decref(json);
            break;
        }
        cr_assert_eq(count, 10);
        (void)snprintf(path, sizeof(path), "/n/?prefix=true&limit=10&after=%s",
                       json_string_value(json_object_get(json_array_get(json, 9), "key")));
        json_decref(json);
    }
    cr_assert_eq(seen, 35);
    node_finish(&node);
}

Test(rest, keys_that_are_not_text_are_listed_in_base64)
{
    json_t *json;
    json_t *row;

    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/b/%ff", "v", &answer), 204);
    ASSERT_STATUS(http_put(client, "/b/%22%5c%0a%00", "v", &answer), 204);
    ASSERT_STATUS(http_get(client, "/b/?prefix=true", &answer), 200);
    json = json_loads(answer.body, JSON_ALLOW_NUL, NULL);
    cr_assert_eq(json_array_size(json), 2, "%s", answer.body);
    row = json_array_get(json, 1);
    cr_assert_str_eq(json_string_value(json_object_get(row, "key_base64")), "L2Iv/w==");
    cr_assert_null(json_object_get(row, "key"));
    row = json_array_get(json, 0);
    cr_assert_eq(json_string_length(json_object_get(row, "key")), 7);
    cr_assert_eq(memcmp(json_string_value(json_object_get(row, "key")), "/b/\"\\\n\0", 7), 0);
    json_decref(json);
    node_finish(&node);
}

Test(rest, wrong_list_parameters_are_refused)
{
    static const char *const queries[] = {
        "limit=0",  "limit=-1",    "limit=x",   "limit=",       "limit=99999999999999999999",
        "limit=1x", "limit=10001", "after=%zz", "prefix=maybe",
    };

    node_start(&node, NULL);
    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        char path[128];

        (void)snprintf(path, sizeof(path), "/n/?prefix=true&%s", queries[i]);
        /* "prefix" given twice, or a limit that is cut to the largest, may also be taken. */
        if (http_get(client, path, &answer) != 200) {
            cr_assert_eq(answer.status, 400, "%s: %d", queries[i], answer.status);
            assert_error_body(400);
        } else {
            cr_assert(i >= 6 && i != 7, "%s was taken", queries[i]);
        }
    }
    node_finish(&node);
}

/* ---- the rest of the surface ---------------------------------------------------------------- */

Test(rest, the_nodes_own_routes_answer)
{
    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "1", &answer), 204);
    ASSERT_STATUS(http_get(client, "/health", &answer), 200);
    assert_body("{\"health\":\"true\"}");
    ASSERT_STATUS(http_get(client, "/livez", &answer), 200);
    ASSERT_STATUS(http_get(client, "/readyz", &answer), 200);
    ASSERT_STATUS(http_get(client, "/version", &answer), 200);
    cr_assert_not_null(strstr(answer.body, "\"metastore\""));
    ASSERT_STATUS(http_get(client, "/metrics", &answer), 200);
    cr_assert_eq(strncmp(http_header(&answer, "content-type"), "text/plain", 10), 0);
    cr_assert_not_null(strstr(answer.body, "\nmetastore_raft_is_leader 1\n"));
    cr_assert_not_null(
        strstr(answer.body, "\nmetastore_http_requests_total{route=\"put\",code=\"204\"} 1\n"));
    cr_assert_not_null(
        strstr(answer.body, "\nmetastore_http_request_duration_seconds_count{route=\"put\"} 1\n"));
    cr_assert_not_null(
        strstr(answer.body, "\nmetastore_worker_restarts_total{worker=\"raftd\"} 0\n"));
    node_finish(&node);
}

Test(rest, reserved_names_are_no_keys)
{
    static const char *const reserved[] = {"/health", "/livez", "/readyz", "/metrics", "/version"};

    node_start(&node, NULL);
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        ASSERT_STATUS(http_put(client, reserved[i], "x", &answer), 405);
        assert_error_body(405);
        cr_assert_not_null(strstr(http_header(&answer, "allow"), "GET"));
        ASSERT_STATUS(http_delete(client, reserved[i], &answer), 405);
    }
    ASSERT_STATUS(http_put(client, "/v3/kv/put", "x", &answer), 404);
    assert_error_body(404);
    ASSERT_STATUS(http_put(client, "/ui/x", "x", &answer), 404);
    ASSERT_STATUS(http_get(client, "/ui/", &answer), 404);
    node_finish(&node);
}

Test(rest, other_methods_are_refused_with_allow)
{
    static const char *const methods[] = {"PATCH", "OPTIONS", "TRACE", "FOO"};

    node_start(&node, NULL);
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        const char *allow;

        ASSERT_STATUS(send_with(methods[i], "/k", NULL, NULL), 405);
        assert_error_body(405);
        allow = http_header(&answer, "allow");
        cr_assert_not_null(allow);
        cr_assert(strstr(allow, "GET") != NULL && strstr(allow, "PUT") != NULL &&
                      strstr(allow, "DELETE") != NULL,
                  "%s", allow);
    }
    ASSERT_STATUS(send_with("POST", "/k", "x", NULL), 405);
    node_finish(&node);
}

Test(rest, malformed_paths_are_refused)
{
    static const char *const paths[] = {"/%", "/%1", "/%zz", "/a%2", "/%%20"};

    node_start(&node, NULL);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        ASSERT_STATUS(http_put(client, paths[i], "x", &answer), 400);
        assert_error_body(400);
        ASSERT_STATUS(http_get(client, paths[i], &answer), 400);
    }
    ASSERT_STATUS(http_put(client, "/", "x", &answer), 400);
    node_finish(&node);
}

Test(rest, a_larger_request_than_allowed_gets_413)
{
    static char body[20001];
    struct http_request put = {.method = "PUT", .path = "/k", .body = body};

    memset(body, 'v', sizeof(body));
    node_start(&node, "--max-request-bytes", "20000", NULL);
    put.body_bytes = 20000;
    ASSERT_STATUS(http_send(client, &put, &answer), 204);
    put.body_bytes = 20001;
    ASSERT_STATUS(http_send(client, &put, &answer), 413);
    assert_error_body(413);
    ASSERT_STATUS(http_get(client, "/k", &answer), 200);
    cr_assert_eq(answer.body_bytes, 20000);
    node_finish(&node);
}

/* raftd is stopped: a write cannot be decided within the deadline, and the answer says so. */
Test(rest, a_passed_deadline_is_504_and_says_that_the_outcome_is_unknown)
{
    pid_t raftd;

    node_start(&node, "--request-timeout", "300", "--liveness-deadline", "30000", NULL);
    ASSERT_STATUS(http_put(client, "/k", "1", &answer), 204);
    raftd = admin_kill_worker(&node, "raftd", SIGSTOP);
    ASSERT_STATUS(http_put(client, "/k", "2", &answer), 504);
    assert_error_body(504);
    cr_assert_not_null(strstr(answer.body, "unknown"), "%s", answer.body);
    cr_assert_eq(kill(raftd, SIGCONT), 0);
    ASSERT_STATUS(http_put(client, "/k", "3", &answer), 204);
    ASSERT_STATUS(http_get(client, "/k", &answer), 200);
    assert_body("3");
    node_finish(&node);
}

Test(rest, several_api_processes_share_the_port)
{
    struct admin_worker workers[ADMIN_WORKERS_MAX];
    size_t apids = 0;

    node_start(&node, "--api-workers", "3", NULL);
    for (int i = 0; i < 30; i++) {
        struct http_client *other = http_client_create(node.url);
        char key[32];

        (void)snprintf(key, sizeof(key), "/k%d", i);
        ASSERT_STATUS(http_put(other, key, key, &answer), 204);
        http_client_destroy(other);
        ASSERT_STATUS(http_get(client, key, &answer), 200);
        assert_body(key);
    }
    for (size_t i = admin_workers(&node, workers, ADMIN_WORKERS_MAX); i > 0; i--) {
        apids += strncmp(workers[i - 1].name, "apid", 4) == 0;
    }
    cr_assert_eq(apids, 3);
    node_finish(&node);
}

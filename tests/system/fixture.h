/*
 * fixture: one node and one client for each test of a file.
 *
 * A test ends with node_finish(&node); one that does not get there shows the node's log.
 */
#ifndef METASTORE_TESTS_SYSTEM_FIXTURE_H
#define METASTORE_TESTS_SYSTEM_FIXTURE_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/admin.h"
#include "tests/support/check.h"
#include "tests/support/files.h"
#include "tests/support/http.h"
#include "tests/support/node.h"

static struct node node;
static struct http_client *client;
static struct http_response answer;

static inline void fixture_fail(const char *text)
{
    cr_assert_fail("%s", text);
}

static inline void fixture_init(void)
{
    check_set_handler(fixture_fail);
    node_init(&node);
    client = http_client_create(node.url);
}

static inline void fixture_fini(void)
{
    http_response_fini(&answer);
    http_client_destroy(client);
    client = NULL;
    node_fini(&node);
}

#define SYSTEM_SUITE(name) \
    TestSuite(name, .init = fixture_init, .fini = fixture_fini, .timeout = 120)

/* The answer has this status; otherwise says what it was. */
#define ASSERT_STATUS(expression, wanted)                                                          \
    do {                                                                                           \
        int status_ = (expression);                                                                \
        cr_assert_eq(status_, (wanted), "%s: status %d instead of %d: %s%s", #expression, status_, \
                     (wanted), answer.body != NULL ? answer.body : "", answer.error);              \
    } while (0)

/* The last answer is an error as the manual describes it: JSON with "error" and "code". */
static inline void assert_error_body(int code)
{
    json_error_t error;
    json_t *json = json_loads(answer.body != NULL ? answer.body : "", 0, &error);
    const char *type = http_header(&answer, "content-type");

    cr_assert_not_null(json, "not JSON: \"%s\"", answer.body);
    cr_assert(json_is_string(json_object_get(json, "error")), "no error text: %s", answer.body);
    cr_assert_eq(json_integer_value(json_object_get(json, "code")), code, "code: %s", answer.body);
    cr_assert_not_null(type);
    cr_assert_eq(strncmp(type, "application/json", 16), 0, "type %s", type);
    json_decref(json);
}

/* Sends a request with one extra header and returns the status. */
static inline int send_with(const char *method, const char *path, const char *body,
                            const char *header)
{
    const struct http_request request = {
        .method = method,
        .path = path,
        .body = body,
        .body_bytes = body != NULL ? strlen(body) : 0,
        .headers = {header},
    };

    return http_send(client, &request, &answer);
}

/* The last answer's body is exactly this text. */
static inline void assert_body(const char *text)
{
    cr_assert_eq(answer.body_bytes, strlen(text), "body is \"%s\"", answer.body);
    cr_assert_eq(memcmp(answer.body, text, strlen(text)), 0, "body is \"%s\"", answer.body);
}

#endif

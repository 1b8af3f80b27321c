/*
 * What no decent client sends: oversized, truncated, slow and plainly wrong HTTP. The node answers
 * or closes, within bounds, and goes on serving everybody else.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/seed.h"
#include "tests/system/fixture.h"

SYSTEM_SUITE(http_limits);

/* No worker was replaced, and requests are answered. */
static void assert_unharmed(void)
{
    struct admin_worker workers[ADMIN_WORKERS_MAX];
    size_t count;

    ASSERT_STATUS(http_put(client, "/unharmed", "yes", &answer), 204);
    ASSERT_STATUS(http_get(client, "/unharmed", &answer), 200);
    count = admin_workers(&node, workers, ADMIN_WORKERS_MAX);
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(workers[i].restarts, 0, "%s was replaced", workers[i].name);
    }
}

static int exchange(const char *text)
{
    char reply[4096];

    return http_raw_exchange(node.port, text, strlen(text), reply, sizeof(reply));
}

/* The same on a connection that stays open: the answer must not wait for the rest of the request.
 */
static int exchange_open(const char *text)
{
    char reply[4096];
    int status = 0;
    int fd = http_raw_connect(node.port);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    ssize_t got;

    cr_assert(http_raw_send(fd, text, strlen(text)));
    cr_assert_eq(poll(&wait, 1, 5000), 1, "no answer");
    got = read(fd, reply, sizeof(reply) - 1);
    reply[got > 0 ? got : 0] = '\0';
    (void)sscanf(reply, "HTTP/1.%*d %d", &status);
    (void)close(fd);
    return status;
}

Test(http_limits, garbage_is_answered_with_400_or_closed)
{
    static const char *const requests[] = {
        "\r\n\r\n",
        "GARBAGE\r\n\r\n",
        "GET\r\n\r\n",
        "GET /k\r\n\r\n",
        "GET /k HTTP/9.9\r\n\r\n",
        "GET /k HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /k HTTP/1.1\r\n: empty\r\n\r\n",
        "PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: abc\r\n\r\nx",
        "PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\nx",
        "PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551616\r\n\r\nx",
        "PUT /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
        "PUT /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "PUT /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\nx",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        "GET http://[ HTTP/1.1\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET k HTTP/1.1\r\nHost: h\r\n\r\n",
    };

    node_start(&node, NULL);
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        int status = exchange(requests[i]);

        cr_assert(status == 0 || (status >= 400 && status < 600), "\"%s\": %d", requests[i],
                  status);
    }
    assert_unharmed();
    ASSERT_STATUS(http_get(client, "/k", &answer), 404);
    node_finish(&node);
}

Test(http_limits, random_bytes_do_no_harm)
{
    uint64_t state = test_seed("http_limits");

    node_start(&node, NULL);
    for (int i = 0; i < 200; i++) {
        uint8_t bytes[2048];
        char reply[4096];
        size_t len_bytes = (size_t)check_random_between(&state, 1, sizeof(bytes));

        for (size_t j = 0; j < len_bytes; j++) {
            bytes[j] = (uint8_t)test_random(&state);
        }
        if (i % 2 == 0 && len_bytes > 32) {
            memcpy(bytes, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24); /* then frames of noise */
        }
        (void)http_raw_exchange(node.port, bytes, len_bytes, reply, sizeof(reply));
    }
    assert_unharmed();
    node_finish(&node);
}

/* Cut anywhere, a request is no request: what was not sent whole must have no effect. */
Test(http_limits, a_request_cut_anywhere_has_no_effect)
{
    static const char request[] =
        "PUT /cut HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789";

    node_start(&node, NULL);
    for (size_t cut = 1; cut < sizeof(request) - 1; cut++) {
        int fd = http_raw_connect(node.port);

        cr_assert(http_raw_send(fd, request, cut));
        (void)close(fd);
    }
    assert_unharmed();
    ASSERT_STATUS(http_get(client, "/cut", &answer), 404);
    cr_assert_eq(exchange(request), 204);
    ASSERT_STATUS(http_get(client, "/cut", &answer), 200);
    node_finish(&node);
}

Test(http_limits, header_bombs_are_refused)
{
    enum {
        BOMB = 1024 * 1024
    };
    static char bomb[BOMB + 256];
    char reply[4096];
    size_t at;
    int status;

    node_start(&node, NULL);

    /* One huge header. */
    at = (size_t)sprintf(bomb, "GET /k HTTP/1.1\r\nHost: h\r\nX-Bomb: ");
    memset(bomb + at, 'b', BOMB - at);
    (void)strcpy(bomb + BOMB, "\r\n\r\n");
    status = http_raw_exchange(node.port, bomb, BOMB + 4, reply, sizeof(reply));
    cr_assert(status == 0 || status == 400 || status == 413 || status == 431, "%d", status);

    /* Very many small ones. */
    at = (size_t)sprintf(bomb, "GET /k HTTP/1.1\r\nHost: h\r\n");
    while (at < BOMB - 16) {
        at += (size_t)sprintf(bomb + at, "a: b\r\n");
    }
    at += (size_t)sprintf(bomb + at, "\r\n");
    status = http_raw_exchange(node.port, bomb, at, reply, sizeof(reply));
    cr_assert(status == 0 || status == 400 || status == 413 || status == 431, "%d", status);

    /* A path without end. */
    at = (size_t)sprintf(bomb, "GET /");
    memset(bomb + at, 'p', BOMB - at);
    (void)strcpy(bomb + BOMB, " HTTP/1.1\r\nHost: h\r\n\r\n");
    status = http_raw_exchange(node.port, bomb, strlen(bomb), reply, sizeof(reply));
    cr_assert(status == 0 || status == 400 || status == 413 || status == 414 || status == 431, "%d",
              status);
    assert_unharmed();
    node_finish(&node);
}

Test(http_limits, a_body_that_is_announced_too_large_is_refused_at_once)
{
    node_start(&node, "--max-request-bytes", "1000", NULL);
    cr_assert_eq(
        exchange_open("PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\nx"), 413);
    assert_unharmed();
    node_finish(&node);
}

Test(http_limits, a_chunked_body_that_grows_too_large_is_refused)
{
    static char request[8192];
    size_t at;

    node_start(&node, "--max-request-bytes", "1000", NULL);
    at = (size_t)sprintf(request,
                         "PUT /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 20; i++) {
        at += (size_t)sprintf(request + at, "64\r\n%0100d\r\n", i);
    }
    (void)sprintf(request + at, "0\r\n\r\n");
    cr_assert_eq(exchange(request), 413);
    ASSERT_STATUS(http_get(client, "/k", &answer), 404);
    cr_assert_eq(exchange("PUT /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                          "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
                 204);
    ASSERT_STATUS(http_get(client, "/k", &answer), 200);
    assert_body("abcde");
    node_finish(&node);
}

Test(http_limits, pipelined_requests_are_answered_in_order)
{
    static char requests[32768];
    static char reply[65536];
    size_t at = 0;
    int fd;
    bool closed;
    const char *from;

    node_start(&node, NULL);
    for (int i = 0; i < 100; i++) {
        at += (size_t)sprintf(requests + at,
                              "PUT /pipe HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n%03d"
                              "GET /pipe HTTP/1.1\r\nHost: h\r\n%s\r\n",
                              i, i == 99 ? "Connection: close\r\n" : "");
    }
    fd = http_raw_connect(node.port);
    cr_assert(http_raw_send(fd, requests, at));
    (void)http_raw_read(fd, reply, sizeof(reply), 20000, &closed);
    (void)close(fd);
    cr_assert(closed);
    from = reply;
    for (int i = 0; i < 100; i++) {
        char value[16];
        const char *put = strstr(from, "HTTP/1.1 204");
        const char *get = put != NULL ? strstr(put, "HTTP/1.1 200") : NULL;
        const char *body = get != NULL ? strstr(get, "\r\n\r\n") : NULL;

        (void)snprintf(value, sizeof(value), "%03d", i);
        cr_assert_not_null(body, "answer %d is missing", i);
        cr_assert_eq(strncmp(body + 4, value, 3), 0, "answer %d is \"%.3s\"", i, body + 4);
        from = body + 4;
    }
    node_finish(&node);
}

/*
 * Clients that send a byte now and then cost a connection for a bounded time, and nothing to
 * others. The bound under test is the server's header timeout, so this test takes as long.
 */
Test(http_limits, slow_clients_are_cut_off_and_hinder_nobody)
{
    enum {
        SLOW = 100,
        LIMIT_MS = 40000
    };
    struct ms_instant began;
    struct pollfd waits[SLOW];
    int open_count = SLOW;

    node_start(&node, NULL);
    for (int i = 0; i < SLOW; i++) {
        waits[i] = (struct pollfd){.fd = http_raw_connect(node.port), .events = POLLIN};
        cr_assert(http_raw_send(waits[i].fd, "GET /k HT", 9));
    }
    began = ms_clock_now();
    while (open_count > 0) {
        cr_assert_lt(ms_clock_elapsed_ms(began, ms_clock_now()), LIMIT_MS,
                     "%d slow connections are still open", open_count);
        /* Everybody else is served meanwhile; the slow ones go on dripping. */
        ASSERT_STATUS(http_put(client, "/fast", "x", &answer), 204);
        (void)poll(waits, SLOW, 500);
        for (int i = 0; i < SLOW; i++) {
            char reply[512];

            if (waits[i].fd < 0) {
                continue;
            }
            if (waits[i].revents == 0) {
                (void)http_raw_send(waits[i].fd, "T", 1);
            } else if (read(waits[i].fd, reply, sizeof(reply)) <= 0) {
                (void)close(waits[i].fd);
                waits[i].fd = -1;
                open_count--;
            }
        }
    }
    assert_unharmed();
    node_finish(&node);
}

Test(http_limits, many_connections_at_once_are_served)
{
    enum {
        MANY = 800
    };
    static const char request[] = "GET /k HTTP/1.1\r\nHost: h\r\n\r\n";
    int fds[MANY];

    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    for (int i = 0; i < MANY; i++) {
        fds[i] = http_raw_connect(node.port);
    }
    for (int i = 0; i < MANY; i++) {
        cr_assert(http_raw_send(fds[i], request, sizeof(request) - 1));
    }
    for (int i = 0; i < MANY; i++) {
        char reply[1024];
        struct pollfd wait = {.fd = fds[i], .events = POLLIN};
        ssize_t got;

        cr_assert_eq(poll(&wait, 1, 20000), 1, "connection %d", i);
        got = read(fds[i], reply, sizeof(reply) - 1);
        cr_assert_gt(got, 12);
        cr_assert_eq(strncmp(reply, "HTTP/1.1 200", 12), 0);
        (void)close(fds[i]);
    }
    assert_unharmed();
    node_finish(&node);
}

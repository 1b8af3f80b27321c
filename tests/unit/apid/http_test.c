/*
 * http: what goes over the wire: headers, keep-alive, pipelining, errors that h2o makes itself.
 */
#include "apid/http.h"

#include "tests/unit/apid/api_fixture.h"

static void expect_start(const char *response, const char *start)
{
    cr_assert_eq(strncmp(response, start, strlen(start)), 0, "%s", response);
}

static void expect_part(const char *response, const char *part)
{
    cr_assert_not_null(strcasestr(response, part), "no %s in: %s", part, response);
}

Test(http, pages_and_keep_alive)
{
    const char *response;
    int fd;

    fixture_start(1000);
    fixture_status(1, 0);
    fd = fixture_connect(fixture.port);
    response = fixture_ask(fd, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_start(response, "HTTP/1.1 200 OK\r\n");
    expect_part(response, "content-type: application/json\r\n");
    expect_part(response, "\r\nServer: metastore\r\n");
    expect_part(response, "{\"metastore\":\"" MS_VERSION "\"");
    response = fixture_ask(fd, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_start(response, "HTTP/1.1 200 OK\r\n");
    expect_part(response, "\r\n\r\n{\"health\":\"true\"}");
    response = fixture_ask(fd, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_part(response, "\r\n\r\nok\n");
    response = fixture_ask(fd, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_start(response, "HTTP/1.1 503 Service Unavailable\r\n");
    expect_part(response, "retry-after: 1\r\n");
    response = fixture_ask(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_part(response, "content-type: text/plain; version=0.0.4");
    expect_part(response, "metastore_http_requests_total{route=\"health\",code=\"503\"} 1\n");
    (void)close(fd);
}

Test(http, head_tells_the_length_and_sends_no_body)
{
    const char *response;
    int fd;

    fixture_start(1000);
    fd = fixture_connect(fixture.port);
    response = fixture_ask(fd, "HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_part(response, "content-length: 3\r\n");
    cr_assert_str_eq(strstr(response, "\r\n\r\n"), "\r\n\r\n");
    response = fixture_ask(fd, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_start(response, "HTTP/1.1 200");
    (void)close(fd);
}

Test(http, pipelined_requests_are_answered_in_order)
{
    static char request[4096];
    unsigned answers = 0;
    int fd;

    fixture_start(1000);
    for (int i = 0; i < 20; i++) {
        strcat(request, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    strcat(request, "GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    fd = fixture_connect(fixture.port);
    fixture_send(fd, request);
    for (struct ms_instant start = ms_clock_now();
         ms_clock_elapsed_ms(start, ms_clock_now()) < FIXTURE_PATIENCE_MS;) {
        static char text[FIXTURE_RESPONSE_MAX];
        static size_t len_bytes;
        ssize_t got = recv(fd, text + len_bytes, sizeof(text) - 1 - len_bytes, 0);

        if (got == 0) {
            for (const char *at = text; (at = strstr(at, "HTTP/1.1 200")) != NULL; at++) {
                answers++;
            }
            cr_assert_not_null(strstr(text, "\"metastore\""));
            break;
        }
        if (got > 0) {
            len_bytes += (size_t)got;
        } else {
            fixture_turn();
        }
    }
    cr_assert_eq(answers, 21);
    (void)close(fd);
}

Test(http, errors_are_json)
{
    const char *response;
    int fd;

    fixture_start(1000);
    fd = fixture_connect(fixture.port);
    response = fixture_ask(fd, "GET /a%zz HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_start(response, "HTTP/1.1 400 Bad Request\r\n");
    expect_part(response, "content-type: application/json\r\n");
    expect_part(response, "\"code\":400}");
    response = fixture_ask(fd, "PATCH /a HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_start(response, "HTTP/1.1 405 Method Not Allowed\r\n");
    expect_part(response, "allow: GET, HEAD, PUT, DELETE\r\n");
    response = fixture_ask(fd, "GET /v3/kv/range HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_start(response, "HTTP/1.1 404 Not Found\r\n");
    (void)close(fd);
}

Test(http, long_keys_get_414)
{
    char *request = malloc(70000);
    const char *response;
    int fd;

    fixture_start(1000);
    fd = fixture_connect(fixture.port);
    strcpy(request, "PUT /");
    memset(request + 5, 'k', 60000);
    strcpy(request + 60005, " HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nv");
    response = fixture_ask(fd, request);
    expect_start(response, "HTTP/1.1 414 URI Too Long\r\n");
    expect_part(response, "\"code\":414}");
    free(request);
    (void)close(fd);
}

Test(http, large_bodies_get_413_that_arrives)
{
    const size_t body_bytes = 8 << 20; /* past what is read to its end */
    char *request = malloc(body_bytes + 256);
    const char *response;
    int head_bytes;
    int fd;

    fixture_start(1000);
    fd = fixture_connect(fixture.port);
    head_bytes =
        sprintf(request, "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", body_bytes);
    memset(request + head_bytes, 'v', body_bytes);
    request[(size_t)head_bytes + body_bytes] = '\0';
    fixture_send(fd, request); /* all of it is taken, although nobody wants it */
    response = fixture_receive(fd, false);
    expect_start(response, "HTTP/1.1 413 Content Too Large\r\n");
    expect_part(response, "content-type: application/json\r\n");
    expect_part(response, "connection: close\r\n");
    expect_part(response, "\"code\":413}");
    (void)shutdown(fd, SHUT_WR);
    cr_assert(fixture_is_closed(fd));
    (void)close(fd);
    free(request);
}

Test(http, body_limit_is_exact)
{
    char request[FIXTURE_BODY_MAX + 256];
    const char *response;
    int fd;

    fixture_start(1000);
    fd = fixture_connect(fixture.port);
    for (size_t body_bytes = FIXTURE_BODY_MAX; body_bytes <= FIXTURE_BODY_MAX + 1; body_bytes++) {
        int head_bytes =
            sprintf(request, "PUT /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n",
                    body_bytes == FIXTURE_BODY_MAX ? "v3/x" : "a", body_bytes);

        memset(request + head_bytes, 'v', body_bytes);
        request[(size_t)head_bytes + body_bytes] = '\0';
        response = fixture_ask(fd, request);
        expect_start(response, body_bytes == FIXTURE_BODY_MAX ? "HTTP/1.1 404" : "HTTP/1.1 413");
    }
    (void)close(fd);
}

Test(http, broken_chunks_get_400)
{
    const char *response;
    int fd;

    fixture_start(1000);
    fd = fixture_connect(fixture.port);
    response = fixture_ask(fd, "PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                               "zz\r\n");
    expect_start(response, "HTTP/1.1 400 Bad Request\r\n");
    expect_part(response, "\"code\":400}");
    (void)close(fd);
}

/* The bytes behind such a request may be its body or another request: nobody may act on them. */
Test(http, doubtful_framing_gets_400_and_the_connection_ends)
{
    static const char *const requests[] = {
        "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\nHost: x\r\n\r\n"
        "3\r\nabc\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"
        "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /livez HTTP/1.1\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "PUT /a HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\n\r\n",
    };

    fixture_start(1000);
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        int fd = fixture_connect(fixture.port);
        const char *response = fixture_ask(fd, requests[i]);

        expect_start(response, "HTTP/1.1 400 Bad Request\r\n");
        expect_part(response, "connection: close\r\n");
        expect_part(response, "\"code\":400}");
        cr_assert_null(strstr(response + 1, "HTTP/1.1"), "another answer: %s", response);
        (void)shutdown(fd, SHUT_WR);
        cr_assert(fixture_is_closed(fd), "request %zu", i);
        (void)close(fd);
    }
}

/* What is checked on a connection's first request is checked on those behind it. */
Test(http, framing_is_looked_at_in_each_request)
{
    int fd;

    fixture_start(1000);
    fd = fixture_connect(fixture.port);
    expect_start(fixture_ask(fd, "\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200");
    expect_start(fixture_ask(fd, "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
                                 "Host: y\r\n"),
                 "HTTP/1.1 200");
    expect_start(fixture_ask(fd, "PATCH /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                                 "\r\n3\r\nabc\r\n0\r\n\r\n"),
                 "HTTP/1.1 405");
    expect_start(fixture_ask(fd, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200");
    expect_start(fixture_ask(fd, "GET /livez HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
                 "HTTP/1.1 400");
    (void)close(fd);
}

Test(http, garbage_costs_one_connection_and_nothing_else)
{
    static const char *const garbage[] = {"\x16\x03\x01\x02", "GET\r\n\r\n", "\r\n\r\n\r\n\r\n\r\n",
                                          "GET / HTTP/9.9\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nxx"};
    int fd;

    fixture_start(1000);
    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
        fd = fixture_connect(fixture.port);
        fixture_send(fd, garbage[i]);
        (void)shutdown(fd, SHUT_WR);
        cr_assert(fixture_is_closed(fd), "garbage %zu", i);
        (void)close(fd);
    }
    fd = fixture_connect(fixture.port);
    expect_start(fixture_ask(fd, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200");
    (void)close(fd);
}

Test(http, connections_over_the_limit_wait_in_the_backlog)
{
    int fds[65];

    fixture_start(1000);
    for (size_t i = 0; i < 65; i++) {
        fds[i] = fixture_connect(fixture.port);
    }
    expect_start(fixture_ask(fds[63], "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200");
    fixture_send(fds[64], "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    for (int i = 0; i < 20; i++) {
        fixture_turn();
    }
    cr_assert_eq(http_connections(fixture.apid.http), 64);
    (void)close(fds[0]);
    expect_start(fixture_receive(fds[64], false), "HTTP/1.1 200");
    for (size_t i = 1; i < 65; i++) {
        (void)close(fds[i]);
    }
}

Test(http, draining_ends_idle_connections_and_refuses_new_ones)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const char *response;
    int idle;
    int busy;
    int late;

    fixture_start(1000);
    idle = fixture_connect(fixture.port);
    busy = fixture_connect(fixture.port);
    (void)fixture_ask(idle, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    (void)fixture_ask(busy, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    http_drain(fixture.apid.http);
    response = fixture_ask(busy, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_part(response, "connection: close\r\n");
    cr_assert(fixture_is_closed(busy));
    http_close_idle(fixture.apid.http);
    cr_assert(fixture_is_closed(idle));
    cr_assert_eq(http_connections(fixture.apid.http), 0);
    address.sin_port = htons(fixture.port);
    late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_neq(connect(late, (struct sockaddr *)&address, sizeof(address)), 0);
    (void)close(late);
    (void)close(idle);
    (void)close(busy);
}

/*
 * api_fixture: the whole of apid but its process, on a loopback port, with raftd and storaged
 * played by the test at the far ends of real links. One thread: the test turns the loop while it
 * waits.
 */
#ifndef METASTORE_TESTS_UNIT_APID_API_FIXTURE_H
#define METASTORE_TESTS_UNIT_APID_API_FIXTURE_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "apid/apid.h"
#include "common/clock.h"
#include "common/command.h"

#define FIXTURE_ORIGIN       77
#define FIXTURE_BODY_MAX     4096
#define FIXTURE_RING_BYTES   16384
#define FIXTURE_PATIENCE_MS  5000
#define FIXTURE_RESPONSE_MAX 65536

struct api_fixture {
    struct apid apid;
    struct ms_status_page *status_page;
    struct ms_metrics_page *metrics_page;
    struct ms_link raftd; /* the far ends */
    struct ms_link storaged;
    uint64_t generation;
    uint16_t port;
};

/* Static: h2o's server outlives the test, and a leak checker shall find it. */
static struct api_fixture fixture;

static inline int fixture_listener(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len_bytes = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_geq(fd, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(listen(fd, 64), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len_bytes), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static inline int fixture_connect(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* Makes a link, gives one end to apid and keeps the other. */
static inline void fixture_link(enum ms_link_kind kind, enum ms_role role, struct ms_link *far)
{
    struct ms_link_info info = {
        .kind = kind, .peer_role = role, .generation = ++fixture.generation};
    struct ms_link near;
    struct ms_err err;
    int left[MS_LINK_FD_COUNT];
    int right[MS_LINK_FD_COUNT];

    cr_assert_eq(ms_link_create(&info, FIXTURE_RING_BYTES, left, right, &err), MS_OK, "%s",
                 err.text);
    cr_assert_eq(ms_link_take(&near, &info, MS_ROLE_APID, left, &err), MS_OK, "%s", err.text);
    info.peer_role = MS_ROLE_APID;
    ms_link_fini(far);
    cr_assert_eq(ms_link_take(far, &info, role, right, &err), MS_OK, "%s", err.text);
    links_on_link(&fixture.apid, &near);
}

static inline void fixture_link_raftd(void)
{
    fixture_link(MS_LINK_API_RAFT, MS_ROLE_RAFTD, &fixture.raftd);
}

static inline void fixture_link_storaged(void)
{
    fixture_link(MS_LINK_API_STORE, MS_ROLE_STORAGED, &fixture.storaged);
}

static inline void fixture_status_of(enum ms_raft_role role, node_id leader, raft_index commit)
{
    static struct ms_raft_status status;

    status.self = 1;
    status.role = role;
    status.leader = leader;
    status.commit = commit;
    ms_status_page_write(fixture.status_page, &status, true);
}

static inline void fixture_status(node_id leader, raft_index commit)
{
    fixture_status_of(MS_RAFT_NONE, leader, commit);
}

/* tls may be NULL. */
static inline void fixture_start_tls(uint64_t timeout_ms, const struct tls_files *tls)
{
    struct apid *apid = &fixture.apid;
    struct http_options options = {.body_max = FIXTURE_BODY_MAX,
                                   .connections_max = 64,
                                   .use_tls = tls != NULL,
                                   .on_request = api_on_request,
                                   .ctx = apid};
    struct ms_err err;
    int fd;

    if (tls != NULL) {
        options.tls = *tls;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* as ms_worker_create does */
    cr_assert_eq(ms_status_page_create(&fd, &err), MS_OK, "%s", err.text);
    cr_assert_eq(ms_status_page_map(fd, true, &fixture.status_page, &err), MS_OK);
    (void)close(fd);
    cr_assert_eq(ms_metrics_page_create(&fd, &err), MS_OK, "%s", err.text);
    cr_assert_eq(ms_metrics_page_map(fd, &fixture.metrics_page, &err), MS_OK);
    (void)close(fd);
    apid->metrics = ms_metrics_slot(fixture.metrics_page, MS_ROLE_APID, 0);
    apid->status_page = fixture.status_page;
    apid->origin = FIXTURE_ORIGIN;
    apid->timeout_ms = timeout_ms;
    apid->election_timeout_ms = 1000;
    apid->away_limit_ms = 1000;
    apid->body_max = FIXTURE_BODY_MAX;
    ms_link_init_closed(&fixture.raftd);
    ms_link_init_closed(&fixture.storaged);
    links_init(apid);
    cr_assert_eq(api_init(apid, MS_READ_SAFE), MS_OK);
    cr_assert_eq(http_create(&options, &apid->http, &err), MS_OK, "%s", err.text);
    cr_assert_eq(http_listen(apid->http, fixture_listener(&fixture.port)), MS_OK);
    fixture_link_raftd();
    fixture_link_storaged();
}

static inline void fixture_start(uint64_t timeout_ms)
{
    fixture_start_tls(timeout_ms, NULL);
}

/* One turn, as main.c does it. */
static inline void fixture_turn(void)
{
    struct apid *apid = &fixture.apid;

    links_receive(apid);
    http_run(apid->http, apid->has_answered ? 0 : 1);
    apid->has_answered = false;
    api_pump(apid, ms_clock_now());
    links_flush(apid);
}

static inline void fixture_send(int fd, const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t sent = send(fd, text, left, MSG_NOSIGNAL);

        if (sent < 0) {
            cr_assert_eq(errno, EAGAIN, "send: %s", strerror(errno));
            fixture_turn();
            continue;
        }
        text += sent;
        left -= (size_t)sent;
    }
}

/* True when text holds a whole response: a head, and the body that Content-Length tells. */
static inline bool fixture_is_whole(const char *text, size_t len_bytes, bool is_head)
{
    const char *end = strstr(text, "\r\n\r\n");
    const char *length = strcasestr(text, "content-length: ");
    size_t body_bytes = 0;

    if (end == NULL) {
        return false;
    }
    if (length != NULL && length < end && !is_head) {
        body_bytes = strtoul(length + strlen("content-length: "), NULL, 10);
    }
    return len_bytes >= (size_t)(end + 4 - text) + body_bytes;
}

/* The next response on fd; turns the loop until it is there. The text is the fixture's. */
static inline const char *fixture_receive(int fd, bool is_head)
{
    static char text[FIXTURE_RESPONSE_MAX];
    struct ms_instant start = ms_clock_now();
    size_t len_bytes = 0;

    text[0] = '\0';
    while (!fixture_is_whole(text, len_bytes, is_head)) {
        ssize_t got = recv(fd, text + len_bytes, sizeof(text) - 1 - len_bytes, 0);

        cr_assert_lt(ms_clock_elapsed_ms(start, ms_clock_now()), FIXTURE_PATIENCE_MS,
                     "no response: %s", text);
        if (got > 0) {
            len_bytes += (size_t)got;
            text[len_bytes] = '\0';
        } else {
            cr_assert(got < 0 && errno == EAGAIN, "connection ended behind: %s", text);
            fixture_turn();
        }
    }
    return text;
}

/* True if the server ended the connection, within the patience. */
static inline bool fixture_is_closed(int fd)
{
    struct ms_instant start = ms_clock_now();
    char byte;

    while (ms_clock_elapsed_ms(start, ms_clock_now()) < FIXTURE_PATIENCE_MS) {
        ssize_t got = recv(fd, &byte, 1, 0);

        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            return true;
        }
        fixture_turn();
    }
    return false;
}

static inline const char *fixture_ask(int fd, const char *request)
{
    fixture_send(fd, request);
    return fixture_receive(fd, strncmp(request, "HEAD", 4) == 0);
}

/* The next message that apid sent on a far end; turns the loop until it is there. */
static inline struct ms_ipc_message fixture_message(struct ms_link *far, enum ms_ipc_type type)
{
    struct ms_instant start = ms_clock_now();
    struct ms_ipc_message message;
    int rc;

    while ((rc = ms_link_receive(far, &message)) == MS_EAGAIN) {
        cr_assert_lt(ms_clock_elapsed_ms(start, ms_clock_now()), FIXTURE_PATIENCE_MS, "no %s",
                     ms_ipc_name(type));
        fixture_turn();
    }
    cr_assert_eq(rc, MS_OK);
    cr_assert_eq(message.type, type, "%s instead of %s", ms_ipc_name(message.type),
                 ms_ipc_name(type));
    return message;
}

/* Turns the loop until apid holds count waiting requests. */
static inline void fixture_wait_for(size_t count)
{
    struct ms_instant start = ms_clock_now();

    while (fixture.apid.waiting_count != count) {
        cr_assert_lt(ms_clock_elapsed_ms(start, ms_clock_now()), FIXTURE_PATIENCE_MS,
                     "%zu requests wait", fixture.apid.waiting_count);
        fixture_turn();
    }
}

static inline void fixture_expect_start(const char *response, const char *start)
{
    cr_assert_eq(strncmp(response, start, strlen(start)), 0, "%s", response);
}

static inline void fixture_expect_part(const char *response, const char *part)
{
    cr_assert_not_null(strcasestr(response, part), "no %s in: %s", part, response);
}

static inline void fixture_start_put(int fd, const char *key, const char *value)
{
    char request[1024];

    (void)snprintf(request, sizeof(request),
                   "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s", key,
                   strlen(value), value);
    fixture_send(fd, request);
}

/* Takes the next proposal off the link and checks its key. */
static inline struct ms_op_id fixture_expect_proposal(const char *key, struct ms_command *out)
{
    struct ms_ipc_message message = fixture_message(&fixture.raftd, MS_IPC_PROPOSE);
    struct ms_propose propose;

    memcpy(&propose, message.body, sizeof(propose));
    cr_assert_eq(ms_command_decode(message.tail, message.tail_bytes, out), MS_OK);
    cr_assert_eq(out->key_bytes, strlen(key), "%.*s", (int)out->key_bytes, (const char *)out->key);
    cr_assert_arr_eq(out->key, key, strlen(key));
    cr_assert_eq(out->id.seq, propose.id.seq);
    cr_assert_eq(propose.id.origin, FIXTURE_ORIGIN);
    cr_assert_gt(propose.deadline_ns, ms_clock_now().ns);
    ms_link_release(&fixture.raftd);
    return propose.id;
}

static inline void fixture_apply(struct ms_op_id id, enum ms_result_code code, uint64_t revision)
{
    struct ms_apply_result result = {.id = id, .revision = revision, .code = code};

    cr_assert_eq(ms_link_send(&fixture.storaged, MS_IPC_APPLY_RESULT, &result), MS_OK);
    ms_link_flush(&fixture.storaged);
}

static inline void fixture_refuse(struct ms_op_id id, enum ms_refusal reason)
{
    struct ms_propose_refused refused = {.id = id, .reason = reason};

    cr_assert_eq(ms_link_send(&fixture.raftd, MS_IPC_PROPOSE_REFUSED, &refused), MS_OK);
    ms_link_flush(&fixture.raftd);
}

#endif

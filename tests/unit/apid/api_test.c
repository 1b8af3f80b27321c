/*
 * api: writes and reads between clients and neighbours, and what becomes of them when a neighbour
 * dies, is full, is slow, or says no.
 */
#include "apid/apid.h"

#include "common/command.h"
#include "tests/unit/apid/api_fixture.h"
#include "tests/unit/apid/store_fixture.h"

Test(api, put_is_proposed_and_answered_when_applied)
{
    struct ms_command command;
    struct ms_op_id id;
    const char *response;
    int fd;

    fixture_start(1000);
    fd = fixture_connect(fixture.port);
    fixture_start_put(fd, "/a", "value");
    id = fixture_expect_proposal("/a", &command);
    cr_assert_eq(command.kind, MS_COMMAND_PUT);
    cr_assert_eq(command.value_bytes, 5);
    cr_assert_arr_eq(command.value, "value", 5);
    cr_assert_eq(command.ack_seq, id.seq);
    fixture_apply(id, MS_RESULT_OK, 42);
    response = fixture_receive(fd, false);
    fixture_expect_start(response, "HTTP/1.1 204 No Content\r\n");
    fixture_expect_part(response, "etag: \"42\"\r\n");
    cr_assert_null(strcasestr(response, "content-length"));
    cr_assert_eq(fixture.apid.waiting_count, 0);
    fixture_start_put(fd, "/b", "");
    id = fixture_expect_proposal("/b", &command);
    cr_assert_eq(command.ack_seq, 2, "the first is answered");
    (void)close(fd);
}

Test(api, results_become_status_codes)
{
    struct ms_command command;
    int fd;

    fixture_start(1000);
    fd = fixture_connect(fixture.port);
    fixture_send(fd, "DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n");
    fixture_apply(fixture_expect_proposal("/a", &command), MS_RESULT_OK, 3);
    cr_assert_eq(command.kind, MS_COMMAND_DELETE);
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 204");
    fixture_send(fd, "DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n");
    fixture_apply(fixture_expect_proposal("/a", &command), MS_RESULT_NOT_FOUND, 3);
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 404");
    fixture_send(fd, "DELETE /a HTTP/1.1\r\nHost: x\r\nIf-Match: \"9\"\r\n\r\n");
    fixture_apply(fixture_expect_proposal("/a", &command), MS_RESULT_CONDITION_FAILED, 3);
    cr_assert_eq(command.condition, MS_CONDITION_MOD_REVISION);
    cr_assert_eq(command.revision, 9);
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 412");
    fixture_send(fd, "DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n");
    fixture_apply(fixture_expect_proposal("/a", &command), MS_RESULT_FORGOTTEN, 3);
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 500");
    (void)close(fd);
}

Test(api, refusals_become_status_codes)
{
    static const struct {
        enum ms_refusal reason;
        const char *start;
    } rows[] = {{MS_REFUSED_NO_LEADER, "HTTP/1.1 503"},
                {MS_REFUSED_NO_SPACE, "HTTP/1.1 507"},
                {MS_REFUSED_BUSY, "HTTP/1.1 503"},
                {MS_REFUSED_TOO_LARGE, "HTTP/1.1 413"}};
    struct ms_command command;
    const char *response;
    int fd;

    fixture_start(1000);
    fd = fixture_connect(fixture.port);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        fixture_start_put(fd, "/a", "v");
        fixture_refuse(fixture_expect_proposal("/a", &command), rows[i].reason);
        response = fixture_receive(fd, false);
        fixture_expect_start(response, rows[i].start);
        if (rows[i].reason == MS_REFUSED_NO_LEADER) {
            fixture_expect_part(response, "retry-after: 1\r\n");
        }
    }
    (void)close(fd);
}

Test(api, what_a_dead_neighbour_had_published_counts)
{
    const struct ms_control_peer_down down = {.role = MS_ROLE_STORAGED, .end = MS_END_KILLED};
    struct ms_command command;
    int fd;

    fixture_start(2000);
    fd = fixture_connect(fixture.port);
    fixture_start_put(fd, "/a", "v");
    fixture_apply(fixture_expect_proposal("/a", &command), MS_RESULT_OK, 2);
    links_on_peer_down(&fixture.apid, &down);
    cr_assert_not(ms_link_is_open(&fixture.apid.storaged.link));
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 204");
    (void)close(fd);
}

Test(api, requests_wait_while_raftd_is_away)
{
    const struct ms_control_peer_down down = {.role = MS_ROLE_RAFTD, .end = MS_END_KILLED};
    struct ms_command command;
    int fd;

    fixture_start(2000);
    links_on_peer_down(&fixture.apid, &down);
    fd = fixture_connect(fixture.port);
    fixture_start_put(fd, "/a", "v");
    fixture_wait_for(1);
    fixture_link_raftd();
    fixture_apply(fixture_expect_proposal("/a", &command), MS_RESULT_OK, 2);
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 204");
    cr_assert_eq(ms_metrics_get(fixture.apid.metrics, MS_METRIC_API_RESENT), 0);
    (void)close(fd);
}

Test(api, proposals_larger_than_the_link_takes_are_too_large)
{
    static char value[FIXTURE_BODY_MAX + 1];
    char *request = malloc(3 * MS_KEY_BYTES_MAX + sizeof(value) + 256);
    int at;
    int fd;

    fixture_start(1000);
    at = sprintf(request, "PUT /");
    memset(request + at, 'k', MS_KEY_BYTES_MAX - 2);
    at += MS_KEY_BYTES_MAX - 2;
    memset(value, 'v', FIXTURE_BODY_MAX);
    (void)sprintf(request + at, " HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s",
                  FIXTURE_BODY_MAX, value);
    fd = fixture_connect(fixture.port);
    fixture_expect_start(fixture_ask(fd, request), "HTTP/1.1 413");
    cr_assert_eq(fixture.apid.waiting_count, 0);
    free(request);
    (void)close(fd);
}

Test(api, full_memory_refuses_puts_and_takes_deletes)
{
    struct ms_store_space space = {.memory_full = 1};
    struct ms_command command;
    int fd;

    fixture_start(1000);
    cr_assert_eq(ms_link_send(&fixture.storaged, MS_IPC_STORE_SPACE, &space), MS_OK);
    ms_link_flush(&fixture.storaged);
    fixture_turn();
    fd = fixture_connect(fixture.port);
    fixture_start_put(fd, "/a", "v");
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 507 Insufficient Storage\r\n");
    fixture_send(fd, "DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n");
    fixture_apply(fixture_expect_proposal("/a", &command), MS_RESULT_OK, 3);
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 204");
    (void)close(fd);
}

Test(api, reads_without_a_store_wait_until_their_deadline)
{
    const char *response;
    int fd;

    fixture_start(50);
    fd = fixture_connect(fixture.port);
    response = fixture_ask(fd, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    fixture_expect_start(response, "HTTP/1.1 504");
    fixture_expect_part(response, "nothing was read");
    cr_assert_eq(fixture.apid.waiting_count, 0);
    (void)close(fd);
}

/* storaged says that the store can be read. */
static void open_store(uint64_t epoch, raft_index floor)
{
    struct ms_store_opened *opened;
    void *body;
    void *tail;

    cr_assert_eq(ms_link_begin(&fixture.storaged, MS_IPC_STORE_OPENED, strlen(store.directory),
                               &body, &tail),
                 MS_OK);
    opened = body;
    opened->epoch = epoch;
    opened->read_floor = floor;
    memcpy(tail, store.directory, strlen(store.directory));
    ms_link_commit(&fixture.storaged);
    ms_link_flush(&fixture.storaged);
    fixture_turn();
}

static void answer_index(raft_index index)
{
    struct ms_ipc_message message = fixture_message(&fixture.raftd, MS_IPC_READ_INDEX);
    struct ms_read_ready ready = {.index = index};

    memcpy(&ready.request, message.body, sizeof(ready.request));
    ms_link_release(&fixture.raftd);
    cr_assert_eq(ms_link_send(&fixture.raftd, MS_IPC_READ_READY, &ready), MS_OK);
    ms_link_flush(&fixture.raftd);
}

Test(api, linearizable_read_asks_for_an_index)
{
    const char *response;
    int fd;

    store_create();
    (void)store_put("/a", "value", 5);
    store_seal();
    fixture_start(2000);
    fixture_status(2, STORE_APPLIED); /* another node leads */
    open_store(1, 0);
    fd = fixture_connect(fixture.port);
    response = fixture_ask(fd, "GET /a?consistency=serializable HTTP/1.1\r\nHost: x\r\n\r\n");
    fixture_expect_start(response, "HTTP/1.1 200");
    fixture_expect_part(response, "\r\netag: \"2\"\r\n");
    fixture_expect_part(response, "\r\n\r\nvalue");
    fixture_send(fd, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    answer_index(STORE_APPLIED);
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 200");
    fixture_send(fd, "HEAD /b HTTP/1.1\r\nHost: x\r\n\r\n");
    answer_index(STORE_APPLIED);
    fixture_expect_start(fixture_receive(fd, true), "HTTP/1.1 404");
    view_close(&fixture.apid.view);
    store_remove();
    (void)close(fd);
}

Test(api, read_waits_for_the_store_to_catch_up)
{
    struct ms_ipc_message message;
    struct ms_wait_applied wait;
    struct ms_wait_done done = {.applied = STORE_APPLIED + 1};
    int fd;

    store_create();
    (void)store_put("/a", "value", 5);
    store_seal();
    fixture_start(2000);
    fixture_status(2, STORE_APPLIED);
    open_store(1, 0);
    fd = fixture_connect(fixture.port);
    fixture_send(fd, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    answer_index(STORE_APPLIED + 1);
    message = fixture_message(&fixture.storaged, MS_IPC_WAIT_APPLIED);
    memcpy(&wait, message.body, sizeof(wait));
    ms_link_release(&fixture.storaged);
    cr_assert_eq(wait.index, STORE_APPLIED + 1);
    done.request = wait.request;
    cr_assert_eq(ms_link_send(&fixture.storaged, MS_IPC_WAIT_DONE, &done), MS_OK);
    ms_link_flush(&fixture.storaged);
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 200");
    view_close(&fixture.apid.view);
    store_remove();
    (void)close(fd);
}

Test(api, reads_go_on_without_storaged_unless_it_died_of_its_own_fault)
{
    static const char request[] = "GET /a?consistency=serializable HTTP/1.1\r\nHost: x\r\n\r\n";
    struct ms_control_peer_down down = {.role = MS_ROLE_STORAGED, .end = MS_END_KILLED};
    int fd;

    store_create();
    (void)store_put("/a", "value", 5);
    store_seal();
    fixture_start(2000);
    open_store(1, 0);
    fd = fixture_connect(fixture.port);
    links_on_peer_down(&fixture.apid, &down);
    fixture_expect_start(fixture_ask(fd, request), "HTTP/1.1 200");
    fixture_link_storaged();
    down.end = MS_END_OWN_FAULT;
    links_on_peer_down(&fixture.apid, &down);
    fixture_send(fd, request);
    fixture_wait_for(1);
    fixture_link_storaged();
    open_store(2, 0);
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 200");
    view_close(&fixture.apid.view);
    store_remove();
    (void)close(fd);
}

/* A follower that was brought back by a snapshot reads from another file. */
Test(api, reads_move_over_when_the_store_becomes_another_one)
{
    static const char request[] = "GET /a?consistency=serializable HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd;

    store_create();
    (void)store_put("/a", "value", 5);
    store_seal();
    fixture_start(2000);
    fixture_status_of(MS_RAFT_FOLLOWER, 2, STORE_APPLIED);
    open_store(1, 0);
    fd = fixture_connect(fixture.port);
    fixture_expect_start(fixture_ask(fd, request), "HTTP/1.1 200");
    fixture_send(fd, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    fixture_wait_for(1);
    open_store(2, 0); /* while a read waits for its index */
    answer_index(STORE_APPLIED);
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 200");
    cr_assert_eq(fixture.apid.view.epoch, 2);
    fixture_expect_start(fixture_ask(fd, request), "HTTP/1.1 200");
    view_close(&fixture.apid.view);
    store_remove();
    (void)close(fd);
}

/* HTTP/2 frames, RFC 9113 4.1 and RFC 7541: PUT /a on stream 1, then its cancellation. */
Test(api, client_that_resets_its_stream_is_forgotten)
{
    static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const uint8_t settings[] = {0, 0, 0, 4, 0, 0, 0, 0, 0};
    static const uint8_t headers[] = {0, 0, 10,  1,   5,   0,    0, 0, 1, /* the head */
                                      2, 3, 'P', 'U', 'T', 0x86, 4, 2, '/', 'a'};
    static const uint8_t reset[] = {0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8};
    struct ms_command command;
    struct ms_op_id id;
    int fd;

    fixture_start(2000);
    fd = fixture_connect(fixture.port);
    cr_assert_eq(send(fd, preface, sizeof(preface) - 1, 0), (ssize_t)sizeof(preface) - 1);
    cr_assert_eq(send(fd, settings, sizeof(settings), 0), (ssize_t)sizeof(settings));
    cr_assert_eq(send(fd, headers, sizeof(headers), 0), (ssize_t)sizeof(headers));
    id = fixture_expect_proposal("/a", &command);
    cr_assert_eq(http_open_exchanges(fixture.apid.http), 1);
    cr_assert_eq(send(fd, reset, sizeof(reset), 0), (ssize_t)sizeof(reset));
    fixture_wait_for(0);
    cr_assert_eq(http_open_exchanges(fixture.apid.http), 0);
    fixture_apply(id, MS_RESULT_OK, 2);
    fixture_turn();
    (void)close(fd);
}

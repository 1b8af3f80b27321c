/*
 * members: changes of the membership between a client and raftd, and what the client is told when
 * raftd refuses, dies or is silent.
 */
#include "apid/members.h"

#include "tests/unit/apid/api_fixture.h"

static void start_add(int fd, const char *id, const char *url)
{
    char request[512];

    (void)snprintf(request, sizeof(request),
                   "POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s", id, strlen(url),
                   url);
    fixture_send(fd, request);
}

static void start_remove(int fd, const char *id)
{
    char request[128];

    (void)snprintf(request, sizeof(request), "DELETE /%s HTTP/1.1\r\nHost: x\r\n\r\n", id);
    fixture_send(fd, request);
}

/* Takes the next request off the link; url gets the tail. */
static struct ms_member_request take_request(char *url, size_t url_bytes)
{
    struct ms_ipc_message message = fixture_message(&fixture.raftd, MS_IPC_MEMBER_REQUEST);
    struct ms_member_request request;

    memcpy(&request, message.body, sizeof(request));
    cr_assert_lt(message.tail_bytes, url_bytes);
    memcpy(url, message.tail, message.tail_bytes);
    url[message.tail_bytes] = '\0';
    ms_link_release(&fixture.raftd);
    cr_assert_gt(request.deadline_ns, ms_clock_now().ns);
    return request;
}

static void answer(uint64_t request, uint32_t code, const char *text)
{
    struct ms_member_answer *body;
    void *fixed;
    void *tail;

    cr_assert_eq(ms_link_begin(&fixture.raftd, MS_IPC_MEMBER_ANSWER, strlen(text), &fixed, &tail),
                 MS_OK);
    body = fixed;
    body->request = request;
    body->code = code;
    memcpy(tail, text, strlen(text));
    ms_link_commit(&fixture.raftd);
    ms_link_flush(&fixture.raftd);
}

Test(members, go_to_raftd_and_are_answered_when_done)
{
    struct ms_member_request request;
    char url[256];
    int fd;

    fixture_start(1000);
    fd = fixture_connect(fixture.port);
    start_add(fd, "4", "http://127.0.0.1:42379\n");
    request = take_request(url, sizeof(url));
    cr_assert_eq(request.operation, MS_MEMBER_ADD_VOTER);
    cr_assert_eq(request.id, 4);
    cr_assert_str_eq(url, "http://127.0.0.1:42379");
    answer(request.request, MS_MEMBER_OK, "");
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 204");

    start_remove(fd, "4");
    request = take_request(url, sizeof(url));
    cr_assert_eq(request.operation, MS_MEMBER_REMOVE);
    cr_assert_eq(request.id, 4);
    cr_assert_str_eq(url, "");
    answer(request.request, MS_MEMBER_OK, "");
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 204");
    cr_assert_eq(fixture.apid.waiting_count, 0);
    cr_assert_eq(fixture.apid.members.count, 0);
    (void)close(fd);
}

Test(members, refusals_become_status_codes_with_the_reason)
{
    static const struct {
        uint32_t code;
        const char *start;
    } rows[] = {
        {MS_MEMBER_INVALID, "HTTP/1.1 400"},   {MS_MEMBER_NOT_FOUND, "HTTP/1.1 404"},
        {MS_MEMBER_CONFLICT, "HTTP/1.1 409"},  {MS_MEMBER_NOT_READY, "HTTP/1.1 409"},
        {MS_MEMBER_NO_LEADER, "HTTP/1.1 503"}, {MS_MEMBER_BUSY, "HTTP/1.1 503"},
        {MS_MEMBER_UNKNOWN, "HTTP/1.1 504"},   {12345, "HTTP/1.1 500"},
    };
    char url[256];
    int fd;

    fixture_start(1000);
    fd = fixture_connect(fixture.port);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *response;

        start_remove(fd, "7");
        answer(take_request(url, sizeof(url)).request, rows[i].code, "because of \"this\"");
        response = fixture_receive(fd, false);
        fixture_expect_start(response, rows[i].start);
        cr_assert_not_null(strstr(response, "{\"error\":\"because of \\\"this\\\"\",\"code\":"),
                           "%s", response);
        cr_assert_eq(strcasestr(response, "retry-after: 1") != NULL,
                     strstr(response, "503") != NULL);
    }
    (void)close(fd);
}

Test(members, nobody_is_asked_what_cannot_be_meant)
{
    struct ms_ipc_message message;
    int fd;

    fixture_start(1000);
    fd = fixture_connect(fixture.port);
    start_add(fd, "4", "127.0.0.1:42379");
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 400");
    start_remove(fd, "0");
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 400");
    cr_assert_eq(ms_link_receive(&fixture.raftd, &message), MS_EAGAIN);
    (void)close(fd);
}

/* Whether the dead raftd had passed it on, nobody knows; a second copy might do it twice. */
Test(members, a_raftd_that_dies_leaves_the_outcome_unknown)
{
    const struct ms_control_peer_down down = {.role = MS_ROLE_RAFTD, .end = MS_END_KILLED};
    struct ms_ipc_message message;
    const char *response;
    char url[256];
    int fd;

    fixture_start(2000);
    fd = fixture_connect(fixture.port);
    start_remove(fd, "3");
    (void)take_request(url, sizeof(url));
    links_on_peer_down(&fixture.apid, &down);
    response = fixture_receive(fd, false);
    fixture_expect_start(response, "HTTP/1.1 504");
    cr_assert_not_null(strstr(response, "the outcome is unknown"), "%s", response);
    fixture_link_raftd();
    fixture_turn();
    cr_assert_eq(ms_link_receive(&fixture.raftd, &message), MS_EAGAIN, "it is not sent again");
    (void)close(fd);
}

Test(members, what_was_not_sent_waits_for_the_next_raftd)
{
    const struct ms_control_peer_down down = {.role = MS_ROLE_RAFTD, .end = MS_END_KILLED};
    char url[256];
    int fd;

    fixture_start(2000);
    links_on_peer_down(&fixture.apid, &down);
    fd = fixture_connect(fixture.port);
    start_remove(fd, "3");
    fixture_wait_for(1);
    fixture_link_raftd();
    answer(take_request(url, sizeof(url)).request, MS_MEMBER_OK, "");
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 204");
    (void)close(fd);
}

Test(members, a_deadline_leaves_the_outcome_unknown)
{
    struct ms_member_request request;
    const char *response;
    char url[256];
    int fd;

    fixture_start(100);
    fd = fixture_connect(fixture.port);
    start_add(fd, "4", "http://h:1");
    request = take_request(url, sizeof(url));
    response = fixture_receive(fd, false);
    fixture_expect_start(response, "HTTP/1.1 504");
    cr_assert_not_null(strstr(response, "the outcome is unknown"), "%s", response);
    answer(request.request, MS_MEMBER_OK, ""); /* too late: nobody waits */
    answer(0, MS_MEMBER_OK, "");
    fixture_turn();
    cr_assert_eq(fixture.apid.members.count, 0);
    (void)close(fd);
}

Test(members, only_so_many_wait_at_a_time)
{
    char url[256];
    int fds[MEMBERS_MAX];
    int fd;

    fixture_start(2000);
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        fds[i] = fixture_connect(fixture.port);
        start_remove(fds[i], "3");
        fixture_wait_for(i + 1);
    }
    fd = fixture_connect(fixture.port);
    start_remove(fd, "3");
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 503");
    answer(take_request(url, sizeof(url)).request, MS_MEMBER_NOT_FOUND, "");
    fixture_expect_start(fixture_receive(fds[0], false), "HTTP/1.1 404");
    start_remove(fd, "3");
    fixture_wait_for(MEMBERS_MAX);
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        (void)close(fds[i]);
    }
    (void)close(fd);
}

/*
 * writes: proposals that are lost, repeated, refused, or have to wait for room.
 */
#include "apid/apid.h"

#include "tests/unit/apid/api_fixture.h"

Test(writes, unanswered_is_proposed_again_with_the_same_id)
{
    struct ms_command command;
    struct ms_op_id first;
    struct ms_op_id again;
    int fd;

    fixture_start(2000);
    fd = fixture_connect(fixture.port);
    fixture_start_put(fd, "/a", "v");
    first = fixture_expect_proposal("/a", &command);
    fixture_link_raftd();
    again = fixture_expect_proposal("/a", &command);
    cr_assert_eq(again.seq, first.seq);
    fixture_link_storaged();
    again = fixture_expect_proposal("/a", &command);
    cr_assert_eq(again.seq, first.seq);
    cr_assert_eq(ms_metrics_get(fixture.apid.metrics, MS_METRIC_API_RESENT), 2);
    fixture_apply(again, MS_RESULT_OK, 2);
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 204");
    fixture_apply(again, MS_RESULT_OK, 2); /* the answer to the other copy */
    fixture_turn();
    (void)close(fd);
}

/* The first copy went to a raftd that died: it may be in the log. */
Test(writes, refusal_of_a_second_copy_is_no_refusal)
{
    struct ms_command command;
    const char *response;
    int fd;

    fixture_start(300);
    fd = fixture_connect(fixture.port);
    fixture_start_put(fd, "/a", "v");
    (void)fixture_expect_proposal("/a", &command);
    fixture_link_raftd();
    fixture_refuse(fixture_expect_proposal("/a", &command), MS_REFUSED_NO_LEADER);
    fixture_turn();
    cr_assert_eq(fixture.apid.waiting_count, 1);
    response = fixture_receive(fd, false);
    fixture_expect_start(response, "HTTP/1.1 504");
    fixture_expect_part(response, "unknown");
    (void)close(fd);
}

static void lose_proposals(void)
{
    static const struct ms_proposals_lost lost = {.term = 3};

    cr_assert_eq(ms_link_send(&fixture.raftd, MS_IPC_PROPOSALS_LOST, &lost), MS_OK);
    ms_link_flush(&fixture.raftd);
}

Test(writes, the_answer_may_still_come_after_the_refusal_of_a_second_copy)
{
    struct ms_command command;
    struct ms_op_id id;
    int fd;

    fixture_start(2000);
    fd = fixture_connect(fixture.port);
    fixture_start_put(fd, "/a", "v");
    (void)fixture_expect_proposal("/a", &command);
    fixture_link_raftd();
    id = fixture_expect_proposal("/a", &command);
    fixture_refuse(id, MS_REFUSED_NO_LEADER);
    lose_proposals(); /* a leader is known again */
    (void)fixture_expect_proposal("/a", &command);
    fixture_apply(id, MS_RESULT_OK, 5);
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 204");
    (void)close(fd);
}

Test(writes, when_all_copies_are_refused_nothing_was_done)
{
    struct ms_command command;
    struct ms_op_id id;
    int fd;

    fixture_start(2000);
    fd = fixture_connect(fixture.port);
    fixture_start_put(fd, "/a", "v");
    (void)fixture_expect_proposal("/a", &command);
    lose_proposals();
    id = fixture_expect_proposal("/a", &command);
    fixture_refuse(id, MS_REFUSED_NO_LEADER);
    fixture_refuse(id, MS_REFUSED_NO_LEADER);
    fixture_expect_start(fixture_receive(fd, false), "HTTP/1.1 503");
    fixture_refuse(id, MS_REFUSED_NO_LEADER);
    fixture_turn();
    (void)close(fd);
}

Test(writes, lost_proposals_are_proposed_again)
{
    struct ms_command command;
    struct ms_op_id first;
    struct ms_op_id again;
    int fds[2];

    fixture_start(2000);
    fds[0] = fixture_connect(fixture.port);
    fds[1] = fixture_connect(fixture.port);
    fixture_start_put(fds[0], "/a", "v");
    first = fixture_expect_proposal("/a", &command);
    fixture_start_put(fds[1], "/b", "v");
    fixture_apply(fixture_expect_proposal("/b", &command), MS_RESULT_OK, 2);
    fixture_expect_start(fixture_receive(fds[1], false), "HTTP/1.1 204");
    lose_proposals();
    again = fixture_expect_proposal("/a", &command);
    cr_assert_eq(again.seq, first.seq);
    fixture_apply(again, MS_RESULT_OK, 3);
    fixture_expect_start(fixture_receive(fds[0], false), "HTTP/1.1 204");
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* Turns the loop for a while; returns how many proposals came. */
static unsigned count_proposals(uint64_t duration_ms)
{
    struct ms_instant start = ms_clock_now();
    struct ms_ipc_message message;
    unsigned count = 0;

    while (ms_clock_elapsed_ms(start, ms_clock_now()) < duration_ms) {
        fixture_turn();
        while (ms_link_receive(&fixture.raftd, &message) == MS_OK) {
            count += message.type == MS_IPC_PROPOSE;
            ms_link_release(&fixture.raftd);
        }
    }
    return count;
}

/* A follower passes proposals on, and they may be lost without anybody noticing. */
Test(writes, a_follower_repeats_what_is_unanswered_for_long)
{
    unsigned count;
    int fd;

    fixture_start(4000);
    fixture.apid.election_timeout_ms = 100;
    fixture_status_of(MS_RAFT_FOLLOWER, 2, 1);
    fd = fixture_connect(fixture.port);
    fixture_start_put(fd, "/a", "v");
    count = count_proposals(550);
    cr_assert(count >= 3 && count <= 6, "%u proposals in 5.5 election timeouts", count);
    cr_assert_leq(api_next_due_ms(&fixture.apid, ms_clock_now()), 100);
    (void)close(fd);
}

Test(writes, nothing_is_repeated_on_the_leader_or_without_one)
{
    int fd;

    fixture_start(4000);
    fixture.apid.election_timeout_ms = 50;
    fixture_status_of(MS_RAFT_LEADER, 1, 1);
    fd = fixture_connect(fixture.port);
    fixture_start_put(fd, "/a", "v");
    cr_assert_eq(count_proposals(200), 1);
    fixture_status_of(MS_RAFT_CANDIDATE, 0, 1);
    cr_assert_eq(count_proposals(200), 0);
    cr_assert_eq(ms_metrics_get(fixture.apid.metrics, MS_METRIC_API_RESENT), 0);
    (void)close(fd);
}

Test(writes, deadline_says_that_the_outcome_is_unknown)
{
    struct ms_command command;
    struct ms_op_id id;
    const char *response;
    int fd;

    fixture_start(50);
    fd = fixture_connect(fixture.port);
    fixture_start_put(fd, "/a", "v");
    id = fixture_expect_proposal("/a", &command);
    response = fixture_receive(fd, false);
    fixture_expect_start(response, "HTTP/1.1 504 Gateway Timeout\r\n");
    fixture_expect_part(response, "the outcome is unknown");
    fixture_apply(id, MS_RESULT_OK, 2); /* too late: nobody waits */
    fixture_turn();
    fixture_start_put(fd, "/b", "v");
    (void)fixture_expect_proposal("/b", &command);
    cr_assert_eq(command.ack_seq, 2, "given up is acknowledged");
    (void)close(fd);
}

Test(writes, full_ring_keeps_everything_in_order)
{
    enum {
        CLIENTS = 60
    };
    struct ms_command command;
    char value[513];
    char key[16];
    int fds[CLIENTS];

    fixture_start(4000);
    memset(value, 'v', 512);
    value[512] = '\0';
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = fixture_connect(fixture.port);
        (void)snprintf(key, sizeof(key), "/k%d", i);
        fixture_start_put(fds[i], key, value);
        fixture_wait_for((size_t)i + 1);
    }
    cr_assert_not_null(inflight_next_unsent(&fixture.apid.writes), "the ring holds them all");
    for (int i = 0; i < CLIENTS; i++) {
        struct ms_op_id id;

        (void)snprintf(key, sizeof(key), "/k%d", i);
        id = fixture_expect_proposal(key, &command);
        cr_assert_eq(id.seq, (uint64_t)i + 1);
        fixture_apply(id, MS_RESULT_OK, id.seq + 1);
        fixture_expect_start(fixture_receive(fds[i], false), "HTTP/1.1 204");
    }
    for (int i = 0; i < CLIENTS; i++) {
        (void)close(fds[i]);
    }
}

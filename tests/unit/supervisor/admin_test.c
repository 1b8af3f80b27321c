/*
 * admin_command, admin_execute, admin_status: what clients can say, and what they are told.
 */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/admin_command.h"
#include "supervisor/admin_execute.h"

/* ---- lines ----------------------------------------------------------------------------------- */

static void feed(struct admin_input *input, const char *bytes, size_t len)
{
    size_t room;
    char *space = admin_input_space(input, &room);

    cr_assert_leq(len, room);
    memcpy(space, bytes, len);
    admin_input_added(input, len);
}

Test(admin_input, lines_come_out_one_by_one_however_they_arrive)
{
    static const char text[] = "status\nworkers --json\r\n\nhelp\n";
    static const char *const expected[] = {"status", "workers --json", "", "help"};

    for (size_t step = 1; step < sizeof(text); step++) {
        struct admin_input input = {0};
        size_t lines = 0;

        for (size_t at = 0; at < sizeof(text) - 1; at += step) {
            size_t left = sizeof(text) - 1 - at;
            size_t len;
            char *line;

            feed(&input, text + at, left < step ? left : step);
            while (admin_input_line(&input, &line, &len) == MS_OK) {
                cr_assert_lt(lines, 4);
                cr_assert_str_eq(line, expected[lines]);
                cr_assert_eq(len, strlen(expected[lines]));
                lines++;
            }
        }
        cr_assert_eq(lines, 4, "step %zu", step);
    }
}

Test(admin_input, a_line_that_is_too_long_is_refused)
{
    struct admin_input input = {0};
    size_t room;
    size_t len;
    char *line;

    memset(admin_input_space(&input, &room), 'x', ADMIN_LINE_BYTES_MAX);
    cr_assert_eq(room, ADMIN_LINE_BYTES_MAX);
    admin_input_added(&input, ADMIN_LINE_BYTES_MAX);
    cr_assert_eq(admin_input_line(&input, &line, &len), MS_ERANGE);
    (void)admin_input_space(&input, &room);
    cr_assert_eq(room, 0);
}

Test(admin_input, the_longest_line_fits)
{
    struct admin_input input = {0};
    size_t room;
    size_t len;
    char *line;
    char *space = admin_input_space(&input, &room);

    memset(space, 'x', ADMIN_LINE_BYTES_MAX - 1);
    space[ADMIN_LINE_BYTES_MAX - 1] = '\n';
    admin_input_added(&input, ADMIN_LINE_BYTES_MAX);
    cr_assert_eq(admin_input_line(&input, &line, &len), MS_OK);
    cr_assert_eq(len, ADMIN_LINE_BYTES_MAX - 1);
    cr_assert_eq(admin_input_line(&input, &line, &len), MS_EAGAIN);
}

Test(admin_input, what_is_left_at_the_end_is_a_line)
{
    struct admin_input input = {0};
    size_t len;
    char *line;

    cr_assert_eq(admin_input_rest(&input, &line, &len), MS_EAGAIN);
    feed(&input, "status", 6);
    cr_assert_eq(admin_input_line(&input, &line, &len), MS_EAGAIN);
    cr_assert_eq(admin_input_rest(&input, &line, &len), MS_OK);
    cr_assert_str_eq(line, "status");
    cr_assert_eq(admin_input_rest(&input, &line, &len), MS_EAGAIN);
}

/* ---- commands -------------------------------------------------------------------------------- */

static struct admin_snapshot shown;
static char calls[256];

static void fake_snapshot(void *ctx, struct admin_snapshot *out)
{
    (void)ctx;
    *out = shown;
}

static int fake_restart(void *ctx, const char *worker, struct ms_err *err)
{
    (void)ctx;
    if (strcmp(worker, "raftd") != 0) {
        return ms_err_set(err, MS_ENOENT, 0, "no worker \"%.64s\"", worker);
    }
    (void)strcat(calls, "restart ");
    return MS_OK;
}

static void fake_set_log_level(void *ctx, enum ms_log_level level)
{
    (void)ctx;
    (void)strcat(calls, ms_log_level_name(level));
}

static void fake_stop(void *ctx)
{
    (void)ctx;
    (void)strcat(calls, "stop");
}

static const struct admin_actions actions = {
    .snapshot = fake_snapshot,
    .restart = fake_restart,
    .set_log_level = fake_set_log_level,
    .stop = fake_stop,
};

static char *last;

static void expect_form(void)
{
    cr_assert_not_null(last);
    cr_assert(strlen(last) >= 2 && strcmp(last + strlen(last) - 2, "\n\n") == 0,
              "no empty line at the end of \"%s\"", last);
    cr_assert_eq(strstr(last, "\n\n"), last + strlen(last) - 2, "an empty line inside");
}

static int execute(const char *text, struct admin_wish *wish)
{
    char line[ADMIN_LINE_BYTES_MAX + 1];

    free(last);
    last = NULL;
    (void)snprintf(line, sizeof(line), "%s", text);
    return admin_execute(line, strlen(line), &actions, NULL, &last, wish);
}

static char *run(const char *text)
{
    struct admin_wish wish;

    cr_assert_eq(execute(text, &wish), MS_OK, "%s", text);
    expect_form();
    return last;
}

static void expect_error(const char *text, const char *part)
{
    char *answer = run(text);

    cr_assert_eq(strncmp(answer, "error: ", 7), 0, "%s: %s", text, answer);
    cr_assert_not_null(strstr(answer, part), "%s: %s", text, answer);
    cr_assert_eq(strchr(answer, '\n'), answer + strlen(answer) - 2, "more than one line");
}

Test(admin_execute, wrong_commands_get_one_line_of_error)
{
    expect_error("", "no command");
    expect_error("   \t ", "no command");
    expect_error("--json", "no command");
    expect_error("frobnicate", "unknown command \"frobnicate\"");
    expect_error("STATUS", "unknown command");
    expect_error("status now", "usage: status");
    expect_error("restart", "usage: restart WORKER");
    expect_error("restart raftd storaged", "usage: restart WORKER");
    expect_error("restart nobody", "no worker \"nobody\"");
    expect_error("log-level loud", "levels are");
    expect_error("reload now", "usage: reload");
    expect_error("status\x01", "printable");
    expect_error("st\xc3\xa4tus", "printable");
    expect_error("GET / HTTP/1.1", "unknown command \"GET\"");
    expect_error("a b c d e f g h i j k l m n o p q", "more than 16 words");
    cr_assert_str_eq(calls, "", "none of them did anything");
}

Test(admin_execute, a_long_unknown_word_is_cut)
{
    char line[ADMIN_LINE_BYTES_MAX];

    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 1] = '\0';
    cr_assert_lt(strlen(run(line)), 200);
}

Test(admin_execute, commands_do_what_they_say)
{
    cr_assert_str_eq(run("restart raftd"), "restarting\n\n");
    cr_assert_str_eq(run("--json log-level debug"), "{\"ok\":true}\n\n");
    cr_assert_str_eq(run(" stop "), "stopping\n\n");
    cr_assert_str_eq(calls, "restart debugstop");
}

Test(admin_execute, help_lists_the_commands)
{
    static const char *const names[] = {"status",
                                        "workers",
                                        "restart WORKER",
                                        "log-level LEVEL",
                                        "reload",
                                        "member list",
                                        "member add ID URL [--learner]",
                                        "member promote ID",
                                        "member update ID URL",
                                        "member remove ID",
                                        "leader",
                                        "leader transfer [ID]",
                                        "stop",
                                        "help"};
    json_t *parsed;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        cr_assert_not_null(strstr(run("help"), names[i]));
    }
    parsed = json_loads(run("help --json"), 0, NULL);
    cr_assert_eq(json_array_size(json_object_get(parsed, "commands")),
                 sizeof(names) / sizeof(names[0]));
    json_decref(parsed);
}

/* ---- members --------------------------------------------------------------------------------- */

Test(admin_member, words_become_requests)
{
    static const struct {
        const char *line;
        uint32_t operation;
        node_id id;
        const char *url;
    } rows[] = {
        {"member add 4 http://127.0.0.1:1", MS_MEMBER_ADD_VOTER, 4, "http://127.0.0.1:1"},
        {"member add 4 http://127.0.0.1:1/", MS_MEMBER_ADD_VOTER, 4, "http://127.0.0.1:1"},
        {"member add 4 http://h:1 --learner", MS_MEMBER_ADD_LEARNER, 4, "http://h:1"},
        {"member add --learner 4 http://h:1", MS_MEMBER_ADD_LEARNER, 4, "http://h:1"},
        {"member promote 9223372036854775807", MS_MEMBER_PROMOTE, INT64_MAX, ""},
        {"member remove 1", MS_MEMBER_REMOVE, 1, ""},
        {"member update 2 http://[::1]:7", MS_MEMBER_UPDATE_URL, 2, "http://[::1]:7"},
        {"leader transfer 3", MS_MEMBER_TRANSFER, 3, ""},
        {"leader transfer", MS_MEMBER_TRANSFER, 0, ""},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct admin_wish wish;

        cr_assert_eq(execute(rows[i].line, &wish), MS_EAGAIN, "%s", rows[i].line);
        cr_assert_not(wish.json);
        cr_assert_eq(wish.request.head.operation, rows[i].operation, "%s", rows[i].line);
        cr_assert_eq(wish.request.head.id, rows[i].id, "%s", rows[i].line);
        cr_assert_str_eq(wish.request.peer_url, rows[i].url);
    }
    cr_assert_str_eq(calls, "", "nothing happens before raftd was asked");
}

Test(admin_member, other_words_are_refused)
{
    expect_error("member", "usage: member list | member add ID URL [--learner] | member promote");
    expect_error("member join", "usage: member list");
    expect_error("member list 1", "usage: member list");
    expect_error("member add 4", "usage: ");
    expect_error("member add 4 --learner", "URL is missing");
    expect_error("member add http://h:1 4", "\"http://h:1\" is no member id");
    expect_error("member add 0 http://h:1", "\"0\" is no member id");
    expect_error("member add 9223372036854775808 http://h:1", "is no member id");
    expect_error("member add -1 http://h:1", "is no member id");
    expect_error("member add 4 https://h:1", "\"https://h:1\" is no peer URL");
    expect_error("member add 4 http://h:1 voter", "\"voter\" is one word too many");
    expect_error("member promote --learner", "\"--learner\" is no member id");
    expect_error("member remove", "usage: ");
    expect_error("member remove 1 2", "usage: ");
    expect_error("leader transfer one", "\"one\" is no member id");
    expect_error("leader 1", "usage: leader | leader transfer [ID]");
}

static const char *answer_to(const char *line, enum ms_member_code code, const char *text)
{
    struct admin_wish wish;

    cr_assert_eq(execute(line, &wish), MS_EAGAIN);
    last = admin_member_answer(&wish, code, text);
    expect_form();
    return last;
}

Test(admin_member, answers_become_text)
{
    static const char add[] = "member add 4 http://h:1";

    cr_assert_str_eq(answer_to(add, MS_MEMBER_OK, ""), "added\n\n");
    cr_assert_str_eq(answer_to(add, MS_MEMBER_OK, "it is one already"), "it is one already\n\n");
    cr_assert_str_eq(answer_to("--json member remove 4", MS_MEMBER_OK, "x"), "{\"ok\":true}\n\n");
    cr_assert_str_eq(answer_to("leader transfer", MS_MEMBER_OK, ""), "leadership transferred\n\n");
    cr_assert_str_eq(answer_to(add, MS_MEMBER_CONFLICT, "member 4 is http://h:2"),
                     "error: member 4 is http://h:2\n\n");
    cr_assert_str_eq(answer_to(add, MS_MEMBER_NO_LEADER, ""),
                     "error: no leader; nothing was done\n\n");
    cr_assert_str_eq(answer_to(add, MS_MEMBER_UNKNOWN, ""), "error: the outcome is unknown\n\n");
    cr_assert_str_eq(answer_to(add, (enum ms_member_code)99, ""),
                     "error: the outcome is unknown\n\n");
    cr_assert_str_eq(answer_to(add, MS_MEMBER_INVALID, "two\n\nlines\x80"),
                     "error: two??lines?\n\n");
}

/* ---- reload ---------------------------------------------------------------------------------- */

Test(admin_reload, is_begun_elsewhere_and_told_when_it_is_over)
{
    struct admin_wish wish;

    cr_assert_eq(execute("--json reload", &wish), MS_EAGAIN);
    cr_assert_eq(wish.kind, ADMIN_WISH_RELOAD);
    cr_assert(wish.json);
    last = admin_execute_reloaded(true, NULL, "port waits");
    cr_assert_str_eq(last, "{\"ok\":true}\n\n");
    free(last);
    last = admin_execute_reloaded(false, NULL, "");
    cr_assert_str_eq(last, "reloaded\n\n");
    free(last);
    last = admin_execute_reloaded(false, NULL, "port waits");
    cr_assert_str_eq(last, "reloaded; port waits\n\n");
    free(last);
    last = admin_execute_reloaded(true, "apid:\n\nno", "port waits");
    cr_assert_str_eq(last, "error: apid:??no; port waits\n\n");
    expect_form();
}

/* ---- status ---------------------------------------------------------------------------------- */

static void show_a_leader(void)
{
    shown = (struct admin_snapshot){
        .id = 1,
        .storage = "memory",
        .status =
            {.self = 1,
             .leader = 1,
             .term = 2,
             .commit = 9,
             .role = MS_RAFT_LEADER,
             .member_count = 1,
             .members = {{.id = 1, .role = MS_MEMBER_VOTER, .peer_url = "http://127.0.0.1:9021"}}},
        .first_index = 1,
        .last_index = 9,
        .applied = 9,
        .snapshot_index = 0,
        .revision = 7,
        .worker_count = 2,
        .workers =
            {{.name = "raftd", .state = "running", .pid = 4242, .restarts = 0, .uptime_ms = 1200},
             {.name = "apid", .state = "waiting", .restarts = 3}},
    };
}

Test(admin_status, json_has_exactly_the_documented_shape, .init = show_a_leader)
{
    cr_assert_str_eq(
        run("status --json"),
        "{\"node\":{\"id\":1,\"state\":\"leader\",\"leader\":1,\"term\":2,\"first_index\":1,"
        "\"last_index\":9,\"commit\":9,\"applied\":9,\"snapshot_index\":0,\"revision\":7,"
        "\"storage\":\"memory\"},\"workers\":[{\"name\":\"raftd\",\"pid\":4242,"
        "\"state\":\"running\",\"restarts\":0,\"uptime_ms\":1200},{\"name\":\"apid\",\"pid\":0,"
        "\"state\":\"waiting\",\"restarts\":3,\"uptime_ms\":0}],\"members\":[{\"id\":1,"
        "\"peer_url\":\"http://127.0.0.1:9021\",\"role\":\"voter\"}]}\n\n");
    cr_assert_str_eq(run("--json workers"),
                     "[{\"name\":\"raftd\",\"pid\":4242,\"state\":\"running\",\"restarts\":0,"
                     "\"uptime_ms\":1200},{\"name\":\"apid\",\"pid\":0,\"state\":\"waiting\","
                     "\"restarts\":3,\"uptime_ms\":0}]\n\n");
}

Test(admin_status, text_is_aligned, .init = show_a_leader)
{
    cr_assert_str_eq(run("workers"), "WORKER            PID  STATE      RESTARTS    UPTIME\n"
                                     "raftd            4242  running           0      1.2s\n"
                                     "apid                -  waiting           3         -\n\n");
    cr_assert_not_null(strstr(run("status"), "state        leader\n"));
    cr_assert_not_null(strstr(run("status"), "log          1 to 9\n"));
    cr_assert_not_null(strstr(run("status"), "1               voter  http://127.0.0.1:9021\n"));
}

Test(admin_status, members_and_leader_can_be_had_alone, .init = show_a_leader)
{
    shown.status.members[1] =
        (struct ms_status_member){.id = 3, .role = MS_MEMBER_LEARNER, .peer_url = "http://h:1"};
    shown.status.member_count = 2;
    cr_assert_str_eq(run("member list"), "MEMBER           ROLE  PEER URL\n"
                                         "1               voter  http://127.0.0.1:9021\n"
                                         "3             learner  http://h:1\n\n");
    cr_assert_str_eq(run("--json member list"),
                     "[{\"id\":1,\"peer_url\":\"http://127.0.0.1:9021\",\"role\":\"voter\"},"
                     "{\"id\":3,\"peer_url\":\"http://h:1\",\"role\":\"learner\"}]\n\n");
    cr_assert_str_eq(run("leader"), "leader       1\nterm         2\n\n");
    cr_assert_str_eq(run("leader --json"), "{\"leader\":1,\"term\":2}\n\n");
    shown.status.leader = 0;
    cr_assert_str_eq(run("leader"), "leader       none\nterm         2\n\n");
    cr_assert_str_eq(run("leader --json"), "{\"leader\":0,\"term\":2}\n\n");
}

Test(admin_status, states_have_their_names)
{
    static const struct {
        uint32_t role;
        const char *json;
    } cases[] = {{MS_RAFT_NONE, "\"state\":\"starting\""},
                 {MS_RAFT_FOLLOWER, "\"state\":\"follower\""},
                 {MS_RAFT_PRE_CANDIDATE, "\"state\":\"pre-candidate\""},
                 {MS_RAFT_CANDIDATE, "\"state\":\"candidate\""},
                 {77, "\"state\":\"unknown\""}};

    show_a_leader();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        shown.status.role = cases[i].role;
        cr_assert_not_null(strstr(run("--json status"), cases[i].json));
    }
}

/* The page is raftd's; a corrupt raftd must cost us at most a wrong answer. */
Test(admin_status, a_page_full_of_garbage_is_survived)
{
    static const int fillings[] = {0xff, 'x', '\n', '"', 0x80};

    show_a_leader();
    for (size_t i = 0; i < sizeof(fillings) / sizeof(fillings[0]); i++) {
        json_t *parsed;

        memset(&shown.status, fillings[i], sizeof(shown.status));
        (void)run("status");
        parsed = json_loads(run("--json status"), 0, NULL);
        cr_assert_eq(json_array_size(json_object_get(parsed, "members")), MS_STATUS_MEMBERS_MAX);
        json_decref(parsed);
    }
}

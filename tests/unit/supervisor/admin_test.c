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

static int fake_reload(void *ctx, char note[ADMIN_NOTE_BYTES], struct ms_err *err)
{
    (void)ctx;
    (void)note;
    return ms_err_set(err, MS_EUSAGE, 0, "no such file");
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
    .reload = fake_reload,
    .stop = fake_stop,
};

static char *run(const char *text)
{
    static char *last;
    char line[ADMIN_LINE_BYTES_MAX + 1];

    free(last);
    (void)snprintf(line, sizeof(line), "%s", text);
    last = admin_execute(line, strlen(line), &actions, NULL);
    cr_assert_not_null(last);
    cr_assert(strlen(last) >= 2 && strcmp(last + strlen(last) - 2, "\n\n") == 0,
              "no empty line at the end of \"%s\"", last);
    cr_assert_eq(strstr(last, "\n\n"), last + strlen(last) - 2, "an empty line inside");
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
    expect_error("member list", "unknown command \"member\"");
    expect_error("STATUS", "unknown command");
    expect_error("status now", "usage: status");
    expect_error("restart", "usage: restart WORKER");
    expect_error("restart raftd storaged", "usage: restart WORKER");
    expect_error("restart nobody", "no worker \"nobody\"");
    expect_error("log-level loud", "levels are");
    expect_error("reload", "no such file");
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
    static const char *const names[] = {
        "status", "workers", "restart WORKER", "log-level LEVEL", "reload", "stop", "help"};
    json_t *parsed;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        cr_assert_not_null(strstr(run("help"), names[i]));
    }
    parsed = json_loads(run("help --json"), 0, NULL);
    cr_assert_eq(json_array_size(json_object_get(parsed, "commands")), 7);
    json_decref(parsed);
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

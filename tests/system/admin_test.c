/*
 * The admin socket and metastorectl.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/seed.h"
#include "tests/system/fixture.h"

SYSTEM_SUITE(admin);

enum {
    OUT_BYTES = 16384
};
static char out[OUT_BYTES];

/* metastorectl with these words; the exit status. */
static int ctl(const char *first, const char *second, const char *third)
{
    const char *const argv[] = {node_ctl(), "-S", node.admin_path, first, second, third, NULL};

    return node_command(argv, out, sizeof(out));
}

/* metastorectl with the words of one line, separated by single blanks. */
static int ctl_line(const char *line)
{
    const char *argv[12] = {node_ctl(), "-S", node.admin_path};
    char words[256];
    char *rest = words;
    size_t count = 3;

    (void)snprintf(words, sizeof(words), "%s", line);
    while (rest != NULL && count < 11) {
        argv[count++] = strsep(&rest, " ");
    }
    return node_command(argv, out, sizeof(out));
}

Test(admin, status_has_the_shape_that_scripts_rely_on)
{
    static const char *const numbers[] = {"id",          "leader",         "term",
                                          "first_index", "last_index",     "commit",
                                          "applied",     "snapshot_index", "revision"};
    json_t *status;
    json_t *part;

    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    status = admin_status(&node);
    part = json_object_get(status, "node");
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        cr_assert(json_is_integer(json_object_get(part, numbers[i])), "%s", numbers[i]);
    }
    cr_assert_str_eq(json_string_value(json_object_get(part, "state")), "leader");
    cr_assert_str_eq(json_string_value(json_object_get(part, "storage")), "memory");
    cr_assert_eq(json_integer_value(json_object_get(part, "leader")), 1);
    cr_assert_eq(json_integer_value(json_object_get(part, "revision")), 2);
    cr_assert_eq(json_array_size(json_object_get(status, "workers")), 3);
    part = json_array_get(json_object_get(status, "members"), 0);
    cr_assert_eq(json_integer_value(json_object_get(part, "id")), 1);
    cr_assert_str_eq(json_string_value(json_object_get(part, "peer_url")), "http://127.0.0.1:9021");
    cr_assert_str_eq(json_string_value(json_object_get(part, "role")), "voter");
    json_decref(status);
    node_finish(&node);
}

Test(admin, the_socket_belongs_to_the_owner_alone)
{
    struct stat st;

    node_start(&node, NULL);
    cr_assert_eq(stat(node.admin_path, &st), 0);
    cr_assert(S_ISSOCK(st.st_mode));
    cr_assert_eq(st.st_mode & 0777, 0600);
    cr_assert_eq(stat(node.node_dir, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0700);
    node_finish(&node);
}

Test(admin, several_commands_on_one_connection)
{
    int fd;

    node_start(&node, NULL);
    fd = admin_connect(&node);
    cr_assert_gt(admin_exchange(fd, "workers\n", out, sizeof(out)), 0);
    cr_assert_not_null(strstr(out, "storaged"));
    cr_assert_gt(admin_exchange(fd, "help\n", out, sizeof(out)), 0);
    cr_assert_not_null(strstr(out, "log-level"));
    cr_assert_gt(admin_exchange(fd, "what\n", out, sizeof(out)), 0);
    cr_assert_eq(strncmp(out, "error: ", 7), 0, "%s", out);
    cr_assert_gt(admin_exchange(fd, "status\r\n", out, sizeof(out)), 0);
    cr_assert_neq(strncmp(out, "error: ", 7), 0, "%s", out);
    (void)close(fd);
    node_finish(&node);
}

Test(admin, wrong_commands_are_errors)
{
    static const char *const commands[] = {
        "restart",        "restart nobody", "restart raftd apid", "log-level",
        "log-level loud", "STATUS",         "status now",         "--json",
        "--json what",    "--yaml status",  "\x01\x02",           "stop now",
    };

    node_start(&node, NULL);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        admin_command(&node, commands[i], out, sizeof(out));
        cr_assert_eq(strncmp(out, "error: ", 7), 0, "\"%s\": %s", commands[i], out);
    }
    node_finish(&node);
}

Test(admin, garbage_does_no_harm)
{
    uint64_t state = test_seed("admin");

    node_start(&node, NULL);
    for (int i = 0; i < 100; i++) {
        uint8_t bytes[8192];
        size_t len_bytes = (size_t)check_random_between(&state, 1, sizeof(bytes));
        int fd = admin_connect(&node);

        for (size_t j = 0; j < len_bytes; j++) {
            bytes[j] = (uint8_t)test_random(&state);
        }
        (void)http_raw_send(fd, bytes, len_bytes);
        (void)close(fd);
    }
    cr_assert_eq(ctl("status", NULL, NULL), 0, "%s", out);
    node_finish(&node);
}

Test(admin, a_line_without_end_is_cut_off)
{
    static char line[200000];
    bool closed;
    int fd;

    memset(line, 'x', sizeof(line));
    node_start(&node, NULL);
    fd = admin_connect(&node);
    (void)http_raw_send(fd, line, sizeof(line));
    (void)http_raw_read(fd, out, sizeof(out), 20000, &closed);
    cr_assert(closed || strncmp(out, "error: ", 7) == 0);
    (void)close(fd);
    cr_assert_eq(ctl("status", NULL, NULL), 0, "%s", out);
    node_finish(&node);
}

Test(admin, more_clients_than_allowed_are_turned_away_not_waited_for)
{
    enum {
        MANY = 40
    };
    int fds[MANY];

    node_start(&node, NULL);
    for (int i = 0; i < MANY; i++) {
        fds[i] = admin_connect(&node);
    }
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    for (int i = 0; i < MANY; i++) {
        (void)close(fds[i]);
    }
    cr_assert_eq(ctl("status", NULL, NULL), 0, "%s", out);
    node_finish(&node);
}

Test(admin, the_tool_reports_by_exit_status)
{
    const char *const no_command[] = {node_ctl(), NULL};
    const char *const no_node[] = {node_ctl(), "-S", "/nowhere/admin.sock", "status", NULL};
    const char *const bad_option[] = {node_ctl(), "--frobnicate", "status", NULL};
    json_t *json;

    cr_assert_eq(node_command(no_command, out, sizeof(out)), 2, "%s", out);
    cr_assert_eq(node_command(bad_option, out, sizeof(out)), 2, "%s", out);
    cr_assert_not_null(strstr(out, "--frobnicate"));
    cr_assert_eq(node_command(no_node, out, sizeof(out)), 1, "%s", out);
    cr_assert_eq(strncmp(out, "error: ", 7), 0, "%s", out);
    cr_assert_not_null(strstr(out, "/nowhere/admin.sock"));
    node_start(&node, NULL);
    cr_assert_eq(ctl("status", NULL, NULL), 0, "%s", out);
    cr_assert_not_null(strstr(out, "leader"));
    cr_assert_eq(ctl("--json", "status", NULL), 0, "%s", out);
    json = json_loads(out, 0, NULL);
    cr_assert_not_null(json, "%s", out);
    json_decref(json);
    cr_assert_eq(ctl("nonsense", NULL, NULL), 1, "%s", out);
    cr_assert_eq(strncmp(out, "error: ", 7), 0, "%s", out);
    cr_assert_eq(ctl("log-level", "debug", NULL), 0, "%s", out);
    cr_assert_eq(ctl("log-level", "loud", NULL), 1, "%s", out);
    cr_assert_eq(ctl("help", NULL, NULL), 0, "%s", out);
    node_finish(&node);
}

Test(admin, restart_replaces_one_worker)
{
    static const char *const names[] = {"raftd", "storaged", "apid"};

    node_start(&node, NULL);
    for (size_t i = 0; i < 3; i++) {
        pid_t old_pid = admin_worker(&node, names[i]).pid;

        cr_assert_eq(ctl("restart", names[i], NULL), 0, "%s", out);
        (void)admin_wait_replaced(&node, names[i], old_pid);
        cr_assert_eq(admin_worker(&node, names[i]).restarts, 1);
    }
    http_client_destroy(client);
    client = http_client_create(node.url);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    node_finish(&node);
}

Test(admin, log_level_takes_effect_everywhere)
{
    node_start(&node, "--log-level", "error", NULL);
    cr_assert_eq(files_size(node.log_path), 0, "something was logged at error");
    cr_assert_eq(ctl("log-level", "debug", NULL), 0, "%s", out);
    (void)admin_wait_replaced(&node, "raftd", admin_kill_worker(&node, "raftd", SIGKILL));
    cr_assert_gt(files_size(node.log_path), 0);
    node_finish(&node);
}

Test(admin, stop_is_an_orderly_stop)
{
    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    cr_assert_eq(ctl("stop", NULL, NULL), 0, "%s", out);
    cr_assert_eq(node_wait_exit(&node, NODE_DEADLINE_MS), 0);
    cr_assert(!files_exist(node.admin_path), "the socket is left behind");
    node_finish(&node);
}

Test(admin, another_path_can_be_chosen_and_a_stale_socket_is_replaced)
{
    char path[FILES_PATH_BYTES];

    files_path(path, sizeof(path), "%s/other.sock", node.dir);
    files_path(node.admin_path, sizeof(node.admin_path), "%s", path);
    node_start(&node, "--admin-socket", path, NULL);
    cr_assert_eq(ctl("status", NULL, NULL), 0, "%s", out);
    node_kill_all(&node);
    cr_assert(files_exist(path), "a killed node leaves its socket");
    node_start(&node, "--admin-socket", path, NULL);
    cr_assert_eq(ctl("status", NULL, NULL), 0, "%s", out);
    node_finish(&node);
}

Test(admin, one_node_is_its_own_cluster)
{
    json_t *json;

    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204); /* so it has elected itself */
    cr_assert_eq(ctl_line("member list"), 0, "%s", out);
    cr_assert_not_null(strstr(out, "1               voter  http://127.0.0.1:9021\n"), "%s", out);
    cr_assert_eq(ctl_line("member list --json"), 0, "%s", out);
    json = json_loads(out, 0, NULL);
    cr_assert_eq(json_array_size(json), 1, "%s", out);
    json_decref(json);
    cr_assert_eq(ctl_line("leader"), 0, "%s", out);
    cr_assert_not_null(strstr(out, "leader       1\n"), "%s", out);
    cr_assert_eq(ctl_line("--json leader"), 0, "%s", out);
    json = json_loads(out, 0, NULL);
    cr_assert_eq(json_integer_value(json_object_get(json, "leader")), 1, "%s", out);
    json_decref(json);
    node_finish(&node);
}

Test(admin, changes_of_the_membership_that_cannot_be_are_refused_and_change_nothing)
{
    static const char *const lines[] = {
        "member remove 1",                           /* the last voter */
        "member remove 7",                           /* unknown */
        "member promote 7",                          /* unknown */
        "member update 7 http://127.0.0.1:7",        /* unknown */
        "member add 1 http://127.0.0.1:7",           /* the id is taken */
        "member add 2 http://127.0.0.1:9021",        /* the URL is taken */
        "member add 2 http://127.0.0.1:0",           /* no port */
        "member add 2 http://192.0.2.1:7 --learner", /* elsewhere, and there is no cluster key */
        "member add 0 http://127.0.0.1:7",           /* no id */
        "member add http://127.0.0.1:7 2",           /* the wrong way round */
        "leader transfer 7",                         /* unknown */
        "member",
        "member add 2",
        "leader transfer 1 2",
    };

    node_start(&node, NULL);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        cr_assert_eq(ctl_line(lines[i]), 1, "%s: %s", lines[i], out);
        cr_assert_eq(strncmp(out, "error: ", 7), 0, "%s: %s", lines[i], out);
    }
    cr_assert_eq(ctl_line("member list"), 0, "%s", out);
    cr_assert_not_null(strstr(out, "1               voter  http://127.0.0.1:9021\n"), "%s", out);
    cr_assert_eq(strchr(strchr(out, '\n') + 1, '\n')[1], '\0', "more than one member: %s", out);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    node_finish(&node);
}

/* A learner counts for no quorum: it can be added before it runs, and taken away again. */
Test(admin, a_learner_comes_and_goes)
{
    node_start(&node, NULL);
    cr_assert_eq(ctl_line("member add 2 http://127.0.0.1:7 --learner"), 0, "%s", out);
    cr_assert_eq(ctl_line("member list"), 0, "%s", out);
    cr_assert_not_null(strstr(out, "2             learner  http://127.0.0.1:7\n"), "%s", out);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    cr_assert_eq(ctl_line("member promote 2"), 1, "it was never there: %s", out);
    cr_assert_eq(ctl_line("member update 2 http://127.0.0.1:8"), 0, "%s", out);
    cr_assert_eq(ctl_line("member list"), 0, "%s", out);
    cr_assert_not_null(strstr(out, "http://127.0.0.1:8\n"), "%s", out);
    (void)admin_wait_replaced(&node, "raftd", admin_kill_worker(&node, "raftd", SIGKILL));
    cr_assert_eq(ctl_line("member remove 2 --json"), 0, "%s", out);
    cr_assert_str_eq(out, "{\"ok\":true}\n");
    cr_assert_eq(ctl_line("member list"), 0, "%s", out);
    cr_assert_null(strstr(out, "learner"), "%s", out);
    node_finish(&node);
}

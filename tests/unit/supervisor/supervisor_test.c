/*
 * supervisor: a whole supervisor over fake workers: start, death, restart, stop, admin socket.
 */
#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/exit_codes.h"
#include "supervisor/admin.h"
#include "tests/seed.h"
#include "tests/unit/supervisor/fake_node.h"

static struct fake_node node;

static void set_up(void)
{
    fake_node_set_up(&node);
}

static void clean_up(void)
{
    fake_node_clean_up(&node);
}

static void start(const char *const *arguments, const char *const *environment)
{
    cr_assert(fake_node_start(&node, arguments, environment, false));
}

static void start_ready(const char *const *arguments, const char *const *environment)
{
    start(arguments, environment);
    fake_node_wait_ready(&node);
}

static void stop(void)
{
    fake_node_signal(&node, SIGTERM);
    cr_assert_eq(fake_node_wait_exit(&node), MS_EXIT_OK, "%s", fake_node_log(&node));
}

static void kill_worker(const char *worker, int signo)
{
    int64_t pid = fake_node_worker(&node, worker, "pid");

    cr_assert_gt(pid, 0, "%s has no process", worker);
    cr_assert_eq(kill((pid_t)pid, signo), 0);
}

#define ARGUMENTS(...) ((const char *const[]){__VA_ARGS__, NULL})

TestSuite(supervisor, .init = set_up, .fini = clean_up, .timeout = 120);

Test(supervisor, stops_workers_in_order_and_exits_0)
{
    const char *api;
    const char *raft;
    const char *store;
    struct stat found;

    start_ready(NULL, NULL);
    cr_assert_eq(stat(node.admin_path, &found), 0);
    cr_assert_eq(found.st_mode & 0777, 0600);
    stop();
    fake_node_wait_notify(&node, "STOPPING=1");
    api = strstr(fake_node_log(&node), "msg=\"worker stopped\" worker=apid");
    raft = strstr(fake_node_log(&node), "msg=\"worker stopped\" worker=raftd");
    store = strstr(fake_node_log(&node), "msg=\"worker stopped\" worker=storaged");
    cr_assert(api != NULL && raft != NULL && store != NULL, "%s", fake_node_log(&node));
    cr_assert(api < raft && raft < store, "%s", fake_node_log(&node));
    cr_assert_neq(stat(node.admin_path, &found), 0, "the admin socket is left");
}

Test(supervisor, a_killed_worker_is_back_at_once_with_new_links)
{
    static const char *const workers[] = {"raftd", "storaged", "apid"};

    start_ready(NULL, NULL);
    for (size_t i = 0; i < 3; i++) {
        kill_worker(workers[i], i == 1 ? SIGTERM : SIGKILL);
        /* An apid that runs has spoken with both of its neighbours. */
        fake_node_wait_restarts(&node, workers[i], 1);
    }
    cr_assert(fake_node_log_has(&node, "peer=storaged end=2"), "%s", fake_node_log(&node));
    cr_assert_not(fake_node_log_has(&node, "worker restarts later"), "%s", fake_node_log(&node));
    stop();
}

Test(supervisor, kills_from_outside_are_never_too_many)
{
    static const char *const workers[] = {"raftd", "storaged", "apid"};
    uint64_t random = test_seed("kills_from_outside_are_never_too_many");
    bool killed[3] = {false};

    start_ready(ARGUMENTS("--restart-intensity", "1"), NULL);
    for (int i = 0; i < 60; i++) {
        size_t victim = test_random_below(&random, 3);

        int64_t pid = fake_node_worker(&node, workers[victim], "pid");

        if (pid > 0) { /* perhaps not ready yet */
            (void)kill((pid_t)pid, SIGKILL);
            killed[victim] = true;
        }
    }
    for (size_t i = 0; i < 3; i++) {
        if (killed[i]) {
            fake_node_wait_restarts(&node, workers[i], 1);
        }
    }
    stop();
}

Test(supervisor, a_worker_that_keeps_failing_ends_the_node_with_3)
{
    struct ms_instant began = ms_clock_now();

    start(ARGUMENTS("--restart-intensity", "3"), ARGUMENTS("FAKE_RAFTD=exit:70"));
    cr_assert_eq(fake_node_wait_exit(&node), MS_EXIT_GAVE_UP, "%s", fake_node_log(&node));
    cr_assert_geq(ms_clock_elapsed_ms(began, ms_clock_now()), 10 + 20 + 40, "without back-off");
    cr_assert(fake_node_log_has(&node, "giving up"), "%s", fake_node_log(&node));
    cr_assert(fake_node_log_has(&node, "cause=\"exit status 70\""), "%s", fake_node_log(&node));
}

Test(supervisor, crash_signals_count)
{
    /* SIGABRT stands for all of them: it is the one that sanitizers leave to the process. */
    start_ready(ARGUMENTS("--restart-intensity", "2"), NULL);
    for (int64_t i = 1; i <= 2; i++) {
        kill_worker("storaged", SIGABRT);
        fake_node_wait_restarts(&node, "storaged", i);
    }
    cr_assert(fake_node_log_has(&node, "peer=storaged end=3"), "%s", fake_node_log(&node));
    kill_worker("storaged", SIGABRT);
    cr_assert_eq(fake_node_wait_exit(&node), MS_EXIT_GAVE_UP, "%s", fake_node_log(&node));
}

Test(supervisor, a_worker_that_cannot_run_ends_the_node_with_1)
{
    start(NULL, ARGUMENTS("FAKE_STORAGED=exit:1"));
    cr_assert_eq(fake_node_wait_exit(&node), MS_EXIT_CANNOT_RUN, "%s", fake_node_log(&node));
    cr_assert(fake_node_log_has(&node, "worker cannot run"), "%s", fake_node_log(&node));
    cr_assert_not(fake_node_log_has(&node, "worker restarts later"), "%s", fake_node_log(&node));
}

/* A file of somebody else's that is bad for a while must not take the store down. */
Test(supervisor, an_apid_that_cannot_run_any_more_is_tried_again)
{
    char variable[128];
    char file[96];

    (void)snprintf(file, sizeof(file), "%s/certificate", node.base);
    (void)snprintf(variable, sizeof(variable), "FAKE_APID=needs:%s", file);
    cr_assert_geq(mkdir(file, 0700), 0);
    start_ready(ARGUMENTS("--restart-intensity", "0"), ARGUMENTS(variable));
    cr_assert_eq(rmdir(file), 0);
    kill_worker("apid", SIGKILL);
    while (strstr(fake_node_admin(&node, "workers"), "failing") == NULL) {
        fake_node_wait_notify(&node, "workers running");
    }
    cr_assert_not_null(strstr(fake_node_admin(&node, "reload"), "apid is failing"));
    cr_assert_str_eq(fake_node_admin(&node, "restart apid"), "restarting");
    fake_node_wait_notify(&node, "2 of 3 workers running");
    cr_assert(fake_node_log_has(&node, "worker cannot run until"), "%s", fake_node_log(&node));
    cr_assert_eq(mkdir(file, 0700), 0);
    fake_node_wait_notify(&node, "3 of 3 workers running"); /* by itself */
    cr_assert_null(strstr(fake_node_admin(&node, "workers"), "failing"));
    stop();
}

/* Stopped by job control is nothing a worker does itself: replaced, but not counted. */
Test(supervisor, a_frozen_worker_is_replaced_and_not_blamed)
{
    start_ready(ARGUMENTS("--liveness-deadline", "300", "--restart-intensity", "0"), NULL);
    kill_worker("raftd", SIGSTOP);
    fake_node_wait_restarts(&node, "raftd", 1);
    cr_assert(fake_node_log_has(&node, "cause=\"was stopped, killed\""), "%s",
              fake_node_log(&node));
    stop();
}

/* Long before the deadline for starts, which leaves room for reading back a large log. */
Test(supervisor, a_worker_frozen_while_it_starts_is_replaced_and_not_blamed)
{
    start_ready(ARGUMENTS("--liveness-deadline", "300", "--restart-intensity", "0"),
                ARGUMENTS("FAKE_STORAGED=freeze"));
    cr_assert(fake_node_log_has(&node, "worker was stopped while it started"), "%s",
              fake_node_log(&node));
    cr_assert(fake_node_log_has(&node, "cause=\"was stopped, killed\""), "%s",
              fake_node_log(&node));
    stop();
}

Test(supervisor, a_worker_that_does_not_answer_is_aborted_and_blamed)
{
    start(ARGUMENTS("--liveness-deadline", "300", "--restart-intensity", "1"),
          ARGUMENTS("FAKE_APID=mute"));
    cr_assert_eq(fake_node_wait_exit(&node), MS_EXIT_GAVE_UP, "%s", fake_node_log(&node));
    cr_assert(fake_node_log_has(&node, "cause=\"did not answer, signal 6\""), "%s",
              fake_node_log(&node));
}

Test(supervisor, a_worker_accused_by_its_neighbour_is_replaced)
{
    start_ready(NULL, ARGUMENTS("FAKE_APID=accuse"));
    fake_node_wait_restarts(&node, "storaged", 1);
    cr_assert(fake_node_log_has(&node, "a message of 7 bytes"), "%s", fake_node_log(&node));
    cr_assert(fake_node_log_has(&node, "cause=\"broke the protocol, signal 6\""), "%s",
              fake_node_log(&node));
    stop();
}

Test(supervisor, a_worker_that_breaks_the_control_protocol_is_blamed)
{
    start(ARGUMENTS("--restart-intensity", "1"), ARGUMENTS("FAKE_RAFTD=liar"));
    cr_assert_eq(fake_node_wait_exit(&node), MS_EXIT_GAVE_UP, "%s", fake_node_log(&node));
    cr_assert(fake_node_log_has(&node, "READY twice"), "%s", fake_node_log(&node));
}

Test(supervisor, no_worker_outlives_the_supervisor)
{
    static const char *const workers[] = {"raftd", "storaged", "apid", "apid-1"};
    int pidfds[4];

    start_ready(ARGUMENTS("--api-workers", "2"), NULL);
    for (size_t i = 0; i < 4; i++) {
        pidfds[i] = pidfd_open((pid_t)fake_node_worker(&node, workers[i], "pid"), 0);
        cr_assert_geq(pidfds[i], 0);
    }
    fake_node_signal(&node, SIGKILL);
    cr_assert_eq(fake_node_wait_exit(&node), 128 + SIGKILL);
    for (size_t i = 0; i < 4; i++) {
        struct pollfd wait = {.fd = pidfds[i], .events = POLLIN};

        cr_assert_eq(poll(&wait, 1, 1000), 1, "%s lives", workers[i]);
        (void)close(pidfds[i]);
    }
    /* The next start finds a free lock and an abandoned admin socket. */
    start_ready(NULL, NULL);
    cr_assert_eq(fake_node_worker(&node, "raftd", "restarts"), 0);
    stop();
}

Test(supervisor, asked_twice_it_does_not_wait)
{
    struct ms_instant began;

    start_ready(NULL, ARGUMENTS("FAKE_STORAGED=stubborn"));
    fake_node_signal(&node, SIGTERM);
    fake_node_wait_notify(&node, "STOPPING=1");
    began = ms_clock_now();
    fake_node_signal(&node, SIGINT);
    cr_assert_eq(fake_node_wait_exit(&node), MS_EXIT_OK, "%s", fake_node_log(&node));
    cr_assert_lt(ms_clock_elapsed_ms(began, ms_clock_now()), 5000, "waited for the deadline");
}

Test(supervisor, a_worker_that_does_not_drain_meets_its_deadline)
{
    start_ready(ARGUMENTS("--request-timeout", "100"), ARGUMENTS("FAKE_APID=stubborn"));
    stop();
    cr_assert(fake_node_log_has(&node, "worker did not stop in time"), "%s", fake_node_log(&node));
}

Test(supervisor, reloads_on_sighup)
{
    start_ready(NULL, NULL);
    fake_node_signal(&node, SIGHUP);
    fake_node_wait_notify(&node, "RELOADING=1\nMONOTONIC_USEC=");
    fake_node_wait_notify(&node, "READY=1");
    stop();
    cr_assert(fake_node_log_has(&node, "storaged msg=\"reloaded\""), "%s", fake_node_log(&node));
}

Test(supervisor, a_reload_tells_who_refused_it)
{
    char config[128];
    FILE *file;

    (void)snprintf(config, sizeof(config), "%s/config.ini", node.base);
    file = fopen(config, "w");
    cr_assert_not_null(file);
    (void)fclose(file);
    start_ready(ARGUMENTS("--config", config), ARGUMENTS("FAKE_APID=picky"));
    cr_assert_str_eq(fake_node_admin(&node, "reload"),
                     "error: apid goes on with what it had: not to my??taste");
    fake_node_wait_notify(&node, "RELOADING=1");
    fake_node_wait_notify(&node, "READY=1");
    file = fopen(config, "w");
    cr_assert_not_null(file);
    (void)fputs("id = 1\nrequest-timeout = 17\nhistory = 4\nmax-request-bytes = 1000\n", file);
    (void)fclose(file);
    cr_assert_not_null(strstr(fake_node_admin(&node, "reload"),
                              "taste; what changes with the next start only: request-timeout, "
                              "max-request-bytes"),
                       "%s", fake_node_admin(&node, "reload"));
    stop();
    cr_assert(fake_node_log_has(&node, "storaged msg=\"reloaded\" history=4"), "%s",
              fake_node_log(&node));
}

Test(supervisor, a_worker_that_dies_over_a_reload_is_told)
{
    start_ready(NULL, ARGUMENTS("FAKE_RAFTD=dies-of-reload"));
    cr_assert_str_eq(fake_node_admin(&node, "reload"), "error: raftd died before it answered");
    fake_node_wait_restarts(&node, "raftd", 1);
    stop();
}

/* From the very first instruction on that is ours. */
Test(supervisor, a_signal_that_comes_early_stops_it_in_order)
{
    start(NULL, ARGUMENTS("FAKE_NODE=early-sigterm"));
    cr_assert_eq(fake_node_wait_exit(&node), MS_EXIT_OK, "%s", fake_node_log(&node));
    cr_assert(fake_node_log_has(&node, "reason=SIGTERM"), "%s", fake_node_log(&node));
}

/* It has no more to say then, but a whole deadline for writing out is not for the dead. */
Test(supervisor, a_worker_frozen_while_it_is_to_leave_is_not_waited_for)
{
    struct ms_instant began;

    start_ready(ARGUMENTS("--liveness-deadline", "500"), NULL);
    kill_worker("storaged", SIGSTOP);
    began = ms_clock_now();
    stop();
    cr_assert_lt(ms_clock_elapsed_ms(began, ms_clock_now()), 5000, "waited for the deadline");
    cr_assert(fake_node_log_has(&node, "worker was stopped while it was to leave"), "%s",
              fake_node_log(&node));
}

Test(supervisor, pets_the_watchdog_while_all_answer)
{
    start_ready(NULL, ARGUMENTS("WATCHDOG_USEC=100000"));
    for (int i = 0; i < 3; i++) {
        fake_node_wait_notify(&node, "WATCHDOG=1");
    }
    stop();
}

Test(supervisor, a_second_start_is_refused_by_the_lock)
{
    struct fake_node second;
    char part[64];

    start_ready(NULL, NULL);
    second = node; /* the same directory */
    cr_assert(fake_node_start(&second, NULL, NULL, false));
    cr_assert_eq(fake_node_wait_exit(&second), MS_EXIT_CANNOT_RUN);
    (void)snprintf(part, sizeof(part), "is locked by pid %d", (int)node.pid);
    cr_assert(fake_node_log_has(&node, part), "%s", fake_node_log(&node));
    stop();
}

Test(supervisor, engines_that_are_not_built_in_are_refused)
{
    start(ARGUMENTS("--storage", "rocksdb"), NULL);
    cr_assert_eq(fake_node_wait_exit(&node), MS_EXIT_CANNOT_RUN);
    start(ARGUMENTS("--raft-log", "rocksdb"), NULL);
    cr_assert_eq(fake_node_wait_exit(&node), MS_EXIT_CANNOT_RUN);
    cr_assert(fake_node_log_has(&node, "this build has no RocksDB"), "%s", fake_node_log(&node));
}

/* ---- admin socket ---------------------------------------------------------------------------- */

Test(supervisor, admin_restarts_and_stops)
{
    start_ready(NULL, NULL);
    cr_assert_str_eq(fake_node_admin(&node, "restart raftd"), "restarting");
    fake_node_wait_restarts(&node, "raftd", 1);
    cr_assert_str_eq(fake_node_admin(&node, "restart nobody"),
                     "error: no worker \"nobody\"; try workers");
    cr_assert_str_eq(fake_node_admin(&node, "log-level debug"), "set");
    cr_assert_str_eq(fake_node_admin(&node, "--json stop"), "{\"ok\":true}");
    cr_assert_eq(fake_node_wait_exit(&node), MS_EXIT_OK, "%s", fake_node_log(&node));
}

Test(supervisor, admin_survives_garbage_and_floods)
{
    static char flood[1 << 20];
    char answer[256] = "";
    int fds[ADMIN_CLIENTS_MAX];
    ssize_t len;
    int fd;

    start_ready(NULL, NULL);
    fd = fake_node_admin_connect(&node);
    memset(flood, 'x', sizeof(flood));
    (void)send(fd, flood, sizeof(flood), MSG_NOSIGNAL | MSG_DONTWAIT);
    len = read(fd, answer, sizeof(answer) - 1);
    cr_assert_gt(len, 0);
    cr_assert_str_eq(answer, "error: the line is too long\n\n");
    (void)close(fd);

    /* Commands without end whose answers nobody reads. */
    fd = fake_node_admin_connect(&node);
    for (size_t i = 0; i + 7 <= sizeof(flood); i += 7) {
        memcpy(flood + i, "status\n", 7);
    }
    while (send(fd, flood, sizeof(flood), MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
    }
    cr_assert_neq(strstr(fake_node_admin(&node, "workers"), "raftd"), NULL);
    (void)close(fd);

    for (size_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        fds[i] = fake_node_admin_connect(&node);
    }
    /* Served in order, so the node has accepted the others when this one is answered. */
    fd = fake_node_admin_connect(&node);
    memset(answer, 0, sizeof(answer));
    len = read(fd, answer, sizeof(answer) - 1);
    cr_assert_gt(len, 0);
    cr_assert_str_eq(answer, "error: too many admin clients\n\n");
    (void)close(fd);
    for (size_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        (void)close(fds[i]);
    }
    stop();
}

Test(supervisor, admin_answers_a_last_line_without_an_end)
{
    char answer[4096];
    int fd;

    start_ready(NULL, NULL);
    fd = fake_node_admin_connect(&node);
    cr_assert_eq(write(fd, "workers\nhelp", 12), 12);
    cr_assert_eq(shutdown(fd, SHUT_WR), 0);
    cr_assert_gt(recv(fd, answer, sizeof(answer) - 1, MSG_WAITALL), 0);
    (void)close(fd);
    stop();
}

/* ---- PID 1 ----------------------------------------------------------------------------------- */

Test(supervisor, as_pid_1_it_reaps_orphans)
{
    if (!fake_node_start(&node, ARGUMENTS("--log-level", "debug"), ARGUMENTS("FAKE_RAFTD=orphan"),
                         true)) {
        cr_skip("no permission for a PID namespace");
    }
    fake_node_wait_ready(&node);
    for (int64_t i = 1; i <= 3; i++) {
        cr_assert_str_eq(fake_node_admin(&node, "restart raftd"), "restarting");
        fake_node_wait_restarts(&node, "raftd", i);
    }
    stop();
    cr_assert(fake_node_log_has(&node, "orphan reaped"), "%s", fake_node_log(&node));
}

int main(int argc, char *argv[])
{
    struct criterion_test_set *tests;
    int result = fake_node_main(argc, argv);

    if (result >= 0) {
        return result;
    }
    tests = criterion_initialize();
    if (criterion_handle_args(argc, argv, true)) {
        result = !criterion_run_all_tests(tests);
    } else {
        result = 0;
    }
    criterion_finalize(tests);
    return result;
}

/* ---- membership ------------------------------------------------------------------------------ */

static void expect_answer(const char *line, const char *expected)
{
    const char *answer = fake_node_admin(&node, line);

    cr_assert_str_eq(answer, expected, "%s", line);
}

Test(supervisor, requests_for_the_membership_go_to_raftd)
{
    start_ready(NULL, NULL);
    expect_answer("member add 4 http://127.0.0.1:7", "added");
    cr_assert(fake_node_log_has(&node, "member request\" operation=1 id=4 url=http://127.0.0.1:7"),
              "%s", fake_node_log(&node));
    expect_answer("member remove 404", "error: there is no?member 404");
    stop();
}

Test(supervisor, an_answer_that_does_not_come_is_unknown_and_delays_nobody_else)
{
    struct pollfd wait = {.events = POLLIN};
    char text[1024] = "";
    size_t used = 0;
    ssize_t len;
    int fd;

    start_ready(ARGUMENTS("--request-timeout", "1000"), NULL);
    fd = fake_node_admin_connect(&node);
    cr_assert_eq(send(fd, "member promote 408\nworkers\n", 27, 0), 27);
    expect_answer("member promote 5", "promoted");
    wait.fd = fd;
    cr_assert_eq(poll(&wait, 1, 500), 0, "nothing is said before it is known");
    while (strstr(text, "\n\nWORKER ") == NULL) { /* the next command is carried out then */
        len = recv(fd, text + used, sizeof(text) - 1 - used, 0);
        cr_assert_gt(len, 0, "behind: %s", text);
        used += (size_t)len;
        text[used] = '\0';
    }
    cr_assert_not_null(strstr(text, "error: deadline passed; the outcome is unknown\n\n"), "%s",
                       text);
    (void)close(fd);
    stop();
}

Test(supervisor, a_raftd_that_dies_over_a_request_leaves_it_unknown)
{
    start_ready(NULL, NULL);
    expect_answer("member promote 410", "error: raftd was lost; the outcome is unknown");
    fake_node_wait_restarts(&node, "raftd", 1);
    expect_answer("member promote 5", "promoted");
    stop();
}

Test(supervisor, a_removed_node_stops_in_order_with_status_0)
{
    start_ready(NULL, NULL);
    expect_answer("member remove 499", "removed");
    cr_assert_eq(fake_node_wait_exit(&node), MS_EXIT_OK, "%s", fake_node_log(&node));
    cr_assert(fake_node_log_has(&node, "this node was removed from the cluster"), "%s",
              fake_node_log(&node));
    cr_assert(fake_node_log_has(&node, "worker stopped\" worker=storaged"), "%s",
              fake_node_log(&node));
}

Test(supervisor, the_cluster_key_goes_to_raftd_alone)
{
    static const char key[] = "01234567890123456789012345678901";
    char path[128];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/key", node.base);
    file = fopen(path, "w");
    cr_assert_not_null(file);
    (void)fputs(key, file);
    (void)fclose(file);
    cr_assert_eq(chmod(path, 0600), 0);
    start_ready(ARGUMENTS("--cluster-key-file", path), NULL);
    cr_assert(
        fake_node_log_has(&node, "raftd msg=\"has a key\" key=01234567890123456789012345678901"),
        "%s", fake_node_log(&node));
    cr_assert(fake_node_log_has(&node, "storaged msg=\"has no key\" key=\"\""), "%s",
              fake_node_log(&node));
    cr_assert(fake_node_log_has(&node, "apid msg=\"has no key\" key=\"\""), "%s",
              fake_node_log(&node));
    stop();
}

Test(supervisor, a_key_file_that_others_can_read_is_refused)
{
    char path[128];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/key", node.base);
    file = fopen(path, "w");
    cr_assert_not_null(file);
    (void)fclose(file);
    cr_assert_eq(chmod(path, 0644), 0);
    start(ARGUMENTS("--cluster-key-file", path), NULL);
    cr_assert_eq(fake_node_wait_exit(&node), MS_EXIT_CANNOT_RUN);
    cr_assert(fake_node_log_has(&node, path), "%s", fake_node_log(&node));
}

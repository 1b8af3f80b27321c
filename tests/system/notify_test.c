/*
 * What systemd sees: notifications, the watchdog, socket activation. Played without systemd.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/system/fixture.h"

SYSTEM_SUITE(notify);

Test(notify, ready_comes_when_requests_are_served_and_stopping_before_the_end)
{
    char text[1024];

    node_spawn(&node, &(struct node_launch){0});
    cr_assert(node_wait_notify(&node, "READY=1", NODE_DEADLINE_MS, NULL, 0));
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    cr_assert_eq(kill(node.pid, SIGTERM), 0);
    cr_assert(node_wait_notify(&node, "STOPPING=1", NODE_DEADLINE_MS, text, sizeof(text)));
    cr_assert_eq(node_wait_exit(&node, NODE_DEADLINE_MS), 0);
    node_finish(&node);
}

Test(notify, a_status_line_tells_a_human_what_goes_on)
{
    char text[1024];
    const char *status;

    node_spawn(&node, &(struct node_launch){0});
    cr_assert(node_wait_notify(&node, "STATUS=", NODE_DEADLINE_MS, text, sizeof(text)));
    status = strstr(text, "STATUS=");
    cr_assert_not_null(status);
    cr_assert_gt(strcspn(status + 7, "\n"), 5, "%s", text);
    node_finish(&node);
}

Test(notify, reloading_carries_the_time_and_ends_in_ready)
{
    char text[1024];

    node_start(&node, NULL);
    cr_assert_eq(kill(node.pid, SIGHUP), 0);
    cr_assert(node_wait_notify(&node, "RELOADING=1", NODE_DEADLINE_MS, text, sizeof(text)));
    cr_assert_not_null(strstr(text, "MONOTONIC_USEC="), "%s", text);
    node_wait_ready(&node);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    node_finish(&node);
}

Test(notify, a_reload_takes_effect)
{
    char path[FILES_PATH_BYTES];
    const char *arguments[] = {"--config", path, NULL};

    files_path(path, sizeof(path), "%s/metastore.ini", node.dir);
    files_write(path, "log-level = error\n", 18);
    node_spawn(&node, &(struct node_launch){.arguments = arguments});
    node_wait_ready(&node);
    cr_assert_eq(files_size(node.log_path), 0);
    files_write(path, "log-level = debug\n", 18);
    cr_assert_eq(kill(node.pid, SIGHUP), 0);
    cr_assert(node_wait_notify(&node, "RELOADING=1", NODE_DEADLINE_MS, NULL, 0));
    node_wait_ready(&node);
    (void)admin_wait_replaced(&node, "raftd", admin_kill_worker(&node, "raftd", SIGKILL));
    cr_assert_gt(files_size(node.log_path), 0);

    /* A mistake in the file changes nothing, and is said. */
    files_write(path, "log-level = loud\n", 17);
    cr_assert_eq(kill(node.pid, SIGHUP), 0);
    cr_assert(node_wait_notify(&node, "RELOADING=1", NODE_DEADLINE_MS, NULL, 0));
    node_wait_ready(&node);
    cr_assert(node_log_has(&node, "metastore.ini:1"));
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    node_finish(&node);
}

Test(notify, the_watchdog_is_fed_while_all_workers_answer)
{
    const char *environment[] = {"WATCHDOG_USEC=200000", NULL};
    struct ms_instant began;
    pid_t pid;
    int fed = 0;

    node_spawn(&node, &(struct node_launch){
                          .environment = environment,
                          .arguments = (const char *const[]){"--liveness-deadline", "400", NULL}});
    node_wait_ready(&node);
    began = ms_clock_now();
    for (int i = 0; i < 5; i++) {
        cr_assert(node_wait_notify(&node, "WATCHDOG=1", 2000, NULL, 0), "after %d", i);
    }
    cr_assert_lt(ms_clock_elapsed_ms(began, ms_clock_now()), 2000);

    /* With a worker that does not answer it pauses, and goes on after the replacement. */
    pid = admin_kill_worker(&node, "raftd", SIGSTOP);
    while (!node_wait_gone(pid, 0)) {
        fed += node_wait_notify(&node, "WATCHDOG=1", 50, NULL, 0);
    }
    cr_assert_leq(fed, 5, "fed %d times while a worker hung", fed);
    cr_assert(node_wait_notify(&node, "WATCHDOG=1", NODE_DEADLINE_MS, NULL, 0));
    node_finish(&node);
}

Test(notify, a_passed_socket_is_the_api)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    struct node_launch launch = {.keep_port_closed = true};
    struct http_client *passed;
    char url[64];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(listen(fd, 128), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    launch.listen_fd = fd;
    node_spawn(&node, &launch);
    node_wait_ready(&node);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", ntohs(address.sin_port));
    passed = http_client_create(url);
    ASSERT_STATUS(http_put(passed, "/k", "v", &answer), 204);

    /* It outlives apid, as any listening socket here does. */
    (void)admin_wait_replaced(&node, "apid", admin_kill_worker(&node, "apid", SIGKILL));
    http_client_destroy(passed);
    passed = http_client_create(url);
    ASSERT_STATUS(http_get(passed, "/k", &answer), 200);
    http_client_destroy(passed);
    (void)close(fd);
    node_finish(&node);
}

/* Copies a unit to the node's directory with the program's place filled in, as an installation
 * does. */
static void install_unit(const char *name, char *path, size_t path_bytes)
{
    static const char placeholder[] = "@BINDIR@";
    char source[FILES_PATH_BYTES];
    char bin_dir[FILES_PATH_BYTES];
    char *text;
    char *rest;
    FILE *file;

    files_path(source, sizeof(source), "deploy/%s", name);
    files_path(path, path_bytes, "%s/%s", node.dir, name);
    files_path(bin_dir, sizeof(bin_dir), "%s", node_binary());
    *strrchr(bin_dir, '/') = '\0';
    text = files_read(source, NULL);
    file = fopen(path, "w");
    cr_assert_not_null(file);
    rest = text;
    for (char *at; (at = strstr(rest, placeholder)) != NULL; rest = at + strlen(placeholder)) {
        *at = '\0';
        (void)fprintf(file, "%s%s", rest, bin_dir);
    }
    (void)fputs(rest, file);
    cr_assert_eq(fclose(file), 0);
    free(text);
}

Test(notify, the_units_are_what_systemd_understands)
{
    const char *const probe[] = {"systemd-analyze", "--version", NULL};
    char service[FILES_PATH_BYTES];
    char socket_unit[FILES_PATH_BYTES];
    char out[4096];
    const char *const verify[] = {"systemd-analyze", "verify",    "--man=no",
                                  service,           socket_unit, NULL};

    if (node_command(probe, out, sizeof(out)) != 0 || !files_exist("deploy")) {
        cr_skip("needs systemd-analyze, and the source tree as working directory");
    }
    install_unit("metastore.service", service, sizeof(service));
    install_unit("metastore.socket", socket_unit, sizeof(socket_unit));
    cr_assert_eq(node_command(verify, out, sizeof(out)), 0, "%s", out);
    cr_assert_str_eq(out, "", "%s", out);
    node_finish(&node);
}

/* A connection made before the node runs waits in the backlog and is served. */
Test(notify, a_client_that_came_before_the_start_is_served)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    struct node_launch launch = {.keep_port_closed = true};
    static const char request[] = "GET /early HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    char reply[1024];
    bool closed;
    int early;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(listen(fd, 128), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    early = http_raw_connect(ntohs(address.sin_port));
    cr_assert(http_raw_send(early, request, sizeof(request) - 1));
    launch.listen_fd = fd;
    node_spawn(&node, &launch);
    (void)http_raw_read(early, reply, sizeof(reply), NODE_DEADLINE_MS, &closed);
    cr_assert_eq(strncmp(reply, "HTTP/1.1 404", 12), 0, "%s", reply);
    (void)close(early);
    (void)close(fd);
    node_wait_ready(&node);
    node_finish(&node);
}

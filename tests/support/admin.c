/*
 * admin: the admin socket's protocol from a test's side.
 */
#include "tests/support/admin.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/support/check.h"
#include "tests/support/files.h"

enum {
    ANSWER_BYTES = 65536,
    POLL_PAUSE_MS = 2
};

int admin_connect(const struct node *node)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    files_path(address.sun_path, sizeof(address.sun_path), "%s", node->admin_path);
    check_that(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0,
               "connect to %s: %s", node->admin_path, strerror(errno));
    return fd;
}

ssize_t admin_exchange(int fd, const char *line, char *out, size_t out_bytes)
{
    size_t have = 0;

    out[0] = '\0';
    if (send(fd, line, strlen(line), MSG_NOSIGNAL) != (ssize_t)strlen(line)) {
        return -1;
    }
    while (have + 1 < out_bytes) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        ssize_t got;

        check_that(poll(&wait, 1, NODE_DEADLINE_MS) == 1, "no answer to admin command %s", line);
        got = recv(fd, out + have, out_bytes - 1 - have, 0);
        if (got <= 0) {
            return -1;
        }
        have += (size_t)got;
        out[have] = '\0';
        if (strcmp(out, "\n") == 0) {
            out[0] = '\0';
            return 0;
        }
        if (have >= 2 && strcmp(out + have - 2, "\n\n") == 0) {
            out[have - 1] = '\0';
            return (ssize_t)(have - 1);
        }
    }
    check_fail("the answer to admin command %s is too long", line);
}

void admin_command(const struct node *node, const char *line, char *out, size_t out_bytes)
{
    char with_end[512];
    int fd = admin_connect(node);

    files_path(with_end, sizeof(with_end), "%s\n", line);
    check_that(admin_exchange(fd, with_end, out, out_bytes) >= 0,
               "the connection was closed instead of an answer to %s", line);
    (void)close(fd);
}

static json_t *json_answer(const struct node *node, const char *line)
{
    static char text[ANSWER_BYTES];
    json_error_t error;
    json_t *json;

    admin_command(node, line, text, sizeof(text));
    json = json_loads(text, 0, &error);
    check_that(json != NULL, "answer to %s is not JSON: %s: %s", line, error.text, text);
    return json;
}

json_t *admin_status(const struct node *node)
{
    return json_answer(node, "--json status");
}

uint64_t admin_status_number(const struct node *node, const char *name)
{
    json_t *status = admin_status(node);
    json_t *number = json_object_get(json_object_get(status, "node"), name);
    uint64_t value;

    check_that(json_is_integer(number), "status has no number %s", name);
    value = (uint64_t)json_integer_value(number);
    json_decref(status);
    return value;
}

size_t admin_workers(const struct node *node, struct admin_worker *out, size_t max)
{
    json_t *workers = json_answer(node, "--json workers");
    size_t count = json_array_size(workers);

    check_that(json_is_array(workers) && count > 0 && count <= max, "no list of workers");
    for (size_t i = 0; i < count; i++) {
        json_t *worker = json_array_get(workers, i);
        const char *name = json_string_value(json_object_get(worker, "name"));
        const char *state = json_string_value(json_object_get(worker, "state"));

        check_that(name != NULL && state != NULL && json_is_integer(json_object_get(worker, "pid")),
                   "worker %zu lacks name, state or pid", i);
        (void)snprintf(out[i].name, sizeof(out[i].name), "%s", name);
        (void)snprintf(out[i].state, sizeof(out[i].state), "%s", state);
        out[i].pid = (pid_t)json_integer_value(json_object_get(worker, "pid"));
        out[i].restarts = (uint64_t)json_integer_value(json_object_get(worker, "restarts"));
    }
    json_decref(workers);
    return count;
}

struct admin_worker admin_worker(const struct node *node, const char *name)
{
    struct admin_worker workers[ADMIN_WORKERS_MAX];
    size_t count = admin_workers(node, workers, ADMIN_WORKERS_MAX);

    for (size_t i = 0; i < count; i++) {
        if (strcmp(workers[i].name, name) == 0) {
            return workers[i];
        }
    }
    check_fail("there is no worker %s", name);
}

pid_t admin_kill_worker(const struct node *node, const char *name, int signal_number)
{
    pid_t pid = admin_worker(node, name).pid;

    check_that(pid > 0, "%s does not run", name);
    check_that(kill(pid, signal_number) == 0, "kill %s (pid %d): %s", name, pid, strerror(errno));
    if (signal_number != SIGSTOP && signal_number != SIGCONT) {
        check_that(node_wait_gone(pid, NODE_DEADLINE_MS), "%s (pid %d) does not die", name, pid);
    }
    return pid;
}

pid_t admin_wait_replaced(const struct node *node, const char *name, pid_t old_pid)
{
    const struct ms_instant began = ms_clock_now();

    /* The admin socket tells states but announces none: asking again is all there is. */
    while (ms_clock_elapsed_ms(began, ms_clock_now()) < NODE_DEADLINE_MS) {
        struct admin_worker worker = admin_worker(node, name);

        if (worker.pid > 0 && worker.pid != old_pid && strcmp(worker.state, "running") == 0) {
            return worker.pid;
        }
        (void)poll(NULL, 0, POLL_PAUSE_MS);
    }
    check_fail("%s (pid %d) was not replaced", name, old_pid);
}

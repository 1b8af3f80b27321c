/*
 * fake_node: see fake_node.h.
 */
#include "tests/unit/supervisor/fake_node.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/config.h"
#include "common/log.h"
#include "supervisor/process.h"
#include "supervisor/supervisor.h"
#include "tests/unit/supervisor/fake_worker.h"

#define NODE_MARK     "--fake-node"
#define ARGUMENTS_MAX 32

extern char **environ;

/* ---- the node's side ------------------------------------------------------------------------- */

static int run_node(int argc, char *argv[])
{
    static struct supervisor_options options;
    enum ms_config_action action;
    struct ms_err err = {0};

    supervisor_hold_signals();
    if (getenv("FAKE_NODE") != NULL) {
        (void)raise(SIGTERM);
    }
    options.argc = argc;
    options.argv = argv;
    options.environment = environ;
    if (ms_config_load(argc, argv, environ, &options.config, &action, &err) != MS_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return MS_EXIT_USAGE;
    }
    ms_log_init("metastore", (enum ms_log_format)options.config.log_format,
                (enum ms_log_level)options.config.log_level);
    return (int)supervisor_run(&options);
}

int fake_node_main(int argc, char *argv[])
{
    if (argc == 2 && strcmp(argv[1], PROCESS_WORKER_MARK) == 0) {
        return fake_worker_main(argv[0]);
    }
    if (argc > 1 && strcmp(argv[1], NODE_MARK) == 0) {
        return run_node(argc - 1, argv + 1);
    }
    return -1;
}

/* ---- the test's side ------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *found, int type, struct FTW *walk)
{
    (void)found;
    (void)type;
    (void)walk;
    return remove(path);
}

static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    (void)close(fd);
    return ntohs(address.sin_port);
}

void fake_node_set_up(struct fake_node *node)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memset(node, 0, sizeof(*node));
    node->pidfd = -1;
    (void)snprintf(node->base, sizeof(node->base), "/tmp/supervisor_test.XXXXXX");
    cr_assert_not_null(mkdtemp(node->base));
    (void)snprintf(node->admin_path, sizeof(node->admin_path), "%s/1/admin.sock", node->base);
    (void)snprintf(node->log_path, sizeof(node->log_path), "%s/log", node->base);
    node->port = free_port();
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", node->base);
    node->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(node->notify_fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

void fake_node_clean_up(struct fake_node *node)
{
    if (node->pid != 0) { /* its workers go with it */
        (void)kill(node->pid, SIGKILL);
        (void)fake_node_wait_exit(node);
    }
    (void)close(node->notify_fd);
    (void)nftw(node->base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* In the child: never returns. */
static void exec_node(struct fake_node *node, const char *const *arguments,
                      const char *const *environment)
{
    char notify[96];
    char asan_options[1024];
    char port[8];
    const char *argv[ARGUMENTS_MAX] = {"metastore", NODE_MARK, "--data-dir", node->base,
                                       "--port",    port,      "--listen",   "127.0.0.1"};
    size_t count = 8;
    int log_fd = open(node->log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);

    (void)snprintf(port, sizeof(port), "%u", node->port);
    (void)snprintf(notify, sizeof(notify), "%s/notify", node->base);
    (void)dup2(log_fd, STDERR_FILENO);
    (void)close(log_fd);
    /* Criterion's own: it would take our process for one of its tests. */
    (void)unsetenv("BXFI_MAP");
    (void)setenv("NOTIFY_SOCKET", notify, 1);
    if (getpid() == 1) {
        /* /proc still shows the outer numbers there, and the leak detector stumbles over it. */
        const char *options = getenv("ASAN_OPTIONS");

        (void)snprintf(asan_options, sizeof(asan_options), "%s:detect_leaks=0",
                       options != NULL ? options : "");
        (void)setenv("ASAN_OPTIONS", asan_options, 1);
    }
    for (; arguments != NULL && *arguments != NULL && count < ARGUMENTS_MAX - 1; arguments++) {
        argv[count++] = *arguments;
    }
    for (; environment != NULL && *environment != NULL; environment++) {
        (void)putenv((char *)(uintptr_t)*environment);
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)execv("/proc/self/exe", (char *const *)(uintptr_t)argv); /* only reads them */
    _exit(127);
}

bool fake_node_start(struct fake_node *node, const char *const *arguments,
                     const char *const *environment, bool new_pids)
{
    unsigned long flags = SIGCHLD | (new_pids ? CLONE_NEWPID : 0);

    /* As fork(), but for the flag. */
    node->pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
    if (node->pid < 0) {
        node->pid = 0;
        return false;
    }
    if (node->pid == 0) {
        exec_node(node, arguments, environment);
    }
    node->pidfd = pidfd_open(node->pid, 0);
    cr_assert_geq(node->pidfd, 0);
    return true;
}

void fake_node_wait_notify(struct fake_node *node, const char *part)
{
    struct pollfd waits[2] = {{.fd = node->notify_fd, .events = POLLIN},
                              {.fd = node->pidfd, .events = POLLIN}};
    struct ms_instant began = ms_clock_now();
    char text[1024];

    for (;;) {
        uint64_t passed_ms = ms_clock_elapsed_ms(began, ms_clock_now());
        ssize_t len;

        cr_assert_lt(passed_ms, FAKE_NODE_DEADLINE_MS, "nobody said \"%s\":\n%s", part,
                     fake_node_log(node));
        (void)poll(waits, 2, (int)(FAKE_NODE_DEADLINE_MS - passed_ms));
        len = recv(node->notify_fd, text, sizeof(text) - 1, MSG_DONTWAIT);
        if (len >= 0) {
            text[len] = '\0';
            if (strstr(text, part) != NULL) {
                return;
            }
        } else {
            cr_assert_eq(waits[1].revents, 0, "ended without \"%s\":\n%s", part,
                         fake_node_log(node));
        }
    }
}

void fake_node_wait_ready(struct fake_node *node)
{
    fake_node_wait_notify(node, "READY=1");
}

void fake_node_signal(struct fake_node *node, int signo)
{
    cr_assert_eq(pidfd_send_signal(node->pidfd, signo, NULL, 0), 0);
}

int fake_node_wait_exit(struct fake_node *node)
{
    struct pollfd wait = {.fd = node->pidfd, .events = POLLIN};
    int status = 0;

    cr_assert_eq(poll(&wait, 1, FAKE_NODE_DEADLINE_MS), 1, "still runs:\n%s", fake_node_log(node));
    cr_assert_eq(waitpid(node->pid, &status, 0), node->pid);
    (void)close(node->pidfd);
    node->pid = 0;
    node->pidfd = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int fake_node_admin_connect(struct fake_node *node)
{
    const struct timeval timeout = {.tv_sec = FAKE_NODE_DEADLINE_MS / 1000};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", node->admin_path);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0, "%s: %s",
                 node->admin_path, strerror(errno));
    return fd;
}

const char *fake_node_admin(struct fake_node *node, const char *line)
{
    static char answer[65536];
    size_t used = 0;
    int fd = fake_node_admin_connect(node);

    cr_assert_eq(dprintf(fd, "%s\n", line), (int)strlen(line) + 1);
    for (;;) {
        ssize_t len = read(fd, answer + used, sizeof(answer) - 1 - used);

        cr_assert_gt(len, 0, "\"%s\" has no answer", line);
        used += (size_t)len;
        answer[used] = '\0';
        if (used >= 2 && strcmp(answer + used - 2, "\n\n") == 0) {
            answer[used - 2] = '\0';
            (void)close(fd);
            return answer;
        }
    }
}

int64_t fake_node_worker(struct fake_node *node, const char *worker, const char *field)
{
    json_t *workers = json_loads(fake_node_admin(node, "workers --json"), 0, NULL);
    int64_t value = -1;
    json_t *row;
    size_t i;

    json_array_foreach(workers, i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "name")), worker) == 0) {
            value = json_integer_value(json_object_get(row, field));
        }
    }
    json_decref(workers);
    cr_assert_geq(value, 0, "no %s of %s", field, worker);
    return value;
}

static bool all_run(struct fake_node *node)
{
    json_t *workers = json_loads(fake_node_admin(node, "workers --json"), 0, NULL);
    bool all = true;
    json_t *row;
    size_t i;

    json_array_foreach(workers, i, row)
    {
        all = all && strcmp(json_string_value(json_object_get(row, "state")), "running") == 0;
    }
    json_decref(workers);
    return all;
}

void fake_node_wait_restarts(struct fake_node *node, const char *worker, int64_t restarts)
{
    while (fake_node_worker(node, worker, "restarts") < restarts || !all_run(node)) {
        fake_node_wait_notify(node, "workers running"); /* each change is told */
    }
}

const char *fake_node_log(struct fake_node *node)
{
    static char text[1 << 20];
    FILE *file = fopen(node->log_path, "r");
    size_t len = 0;

    if (file != NULL) {
        len = fread(text, 1, sizeof(text) - 1, file);
        (void)fclose(file);
    }
    text[len] = '\0';
    return text;
}

bool fake_node_log_has(struct fake_node *node, const char *part)
{
    return strstr(fake_node_log(node), part) != NULL;
}

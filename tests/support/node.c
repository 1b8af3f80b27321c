/*
 * node: running the real program from tests.
 */
#include "tests/support/node.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/support/admin.h"
#include "tests/support/check.h"

enum {
    ARGUMENTS_MAX = 48,
    ENVIRONMENT_MAX = 256,
    LISTEN_FD = 3,         /* systemd's first passed descriptor */
    LOG_TAIL_BYTES = 16384 /* shown of a failed test's node */
};

extern char **environ;

const char *node_binary(void)
{
    const char *path = getenv("MS_BINARY");

    return path != NULL ? path : "build/metastore";
}

const char *node_ctl(void)
{
    const char *path = getenv("MS_CTL");

    return path != NULL ? path : "build/metastorectl";
}

uint16_t node_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    check_that(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0 &&
                   getsockname(fd, (struct sockaddr *)&address, &len) == 0,
               "find a free port: %s", strerror(errno));
    (void)close(fd);
    return ntohs(address.sin_port);
}

/* ---- caretaker ----------------------------------------------------------------------------- */

static void print_log_tail(const struct node *node)
{
    char *log;
    const char *from;
    size_t len_bytes;

    if (!files_exist(node->log_path)) {
        return;
    }
    log = files_read(node->log_path, &len_bytes);
    from = len_bytes > LOG_TAIL_BYTES ? log + len_bytes - LOG_TAIL_BYTES : log;
    (void)fprintf(stderr, "---- log of the node (port %u) ----\n%s----\n", node->port, from);
    (void)fflush(stderr);
    free(log);
}

/*
 * Sleeps until the test's end of the pipe is closed, and removes the directories: here, because a
 * test may have left for a mount namespace of its own. One byte in the pipe means that the test
 * said goodbye; nothing means that it died, and that its supervisor did by the parent-death signal.
 */
static void run_caretaker(const struct node *node, int pipe_fd)
{
    char byte;

    (void)setsid();
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    if (read(pipe_fd, &byte, 1) != 1) {
        print_log_tail(node);
    }
    (void)files_remove_tree(node->dir);
    (void)files_remove_tree(node->memory_dir);
    _exit(0);
}

static void start_caretaker(struct node *node)
{
    int fds[2];

    check_that(pipe2(fds, O_CLOEXEC) == 0, "pipe: %s", strerror(errno));
    node->caretaker = fork();
    check_that(node->caretaker >= 0, "fork: %s", strerror(errno));
    if (node->caretaker == 0) {
        (void)close(fds[1]);
        run_caretaker(node, fds[0]);
    }
    (void)close(fds[0]);
    node->caretaker_fd = fds[1];
}

/* ---- start --------------------------------------------------------------------------------- */

static int notify_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    files_path(address.sun_path, sizeof(address.sun_path), "%s", path);
    check_that(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0,
               "bind %s: %s", path, strerror(errno));
    return fd;
}

void node_init(struct node *node)
{
    memset(node, 0, sizeof(*node));
    node->pid_fd = -1;
    node->port = node_free_port();
    files_path(node->url, sizeof(node->url), "http://127.0.0.1:%u", node->port);
    files_temp_dir(NULL, node->dir, sizeof(node->dir));
    files_temp_dir("/dev/shm", node->memory_dir, sizeof(node->memory_dir));
    files_path(node->data_dir, sizeof(node->data_dir), "%s/data", node->dir);
    files_path(node->node_dir, sizeof(node->node_dir), "%s/1", node->data_dir);
    files_path(node->log_path, sizeof(node->log_path), "%s/log", node->dir);
    files_path(node->admin_path, sizeof(node->admin_path), "%s/admin.sock", node->node_dir);
    files_path(node->ready_path, sizeof(node->ready_path), "%s/notify", node->dir);
    node->ready_fd = notify_socket(node->ready_path);
    start_caretaker(node);
}

struct command_line {
    const char *argv[ARGUMENTS_MAX];
    const char *environment[ENVIRONMENT_MAX];
    char port[8];
    char notify[256];
    char listen_pid[32];
};

static void add_words(const char **dst, size_t *count, size_t max, const char *const *words)
{
    for (size_t i = 0; words != NULL && words[i] != NULL; i++) {
        check_that(*count + 1 < max, "too many words");
        dst[(*count)++] = words[i];
    }
}

static void build_command_line(const struct node *node, const struct node_launch *launch,
                               struct command_line *line)
{
    const char *const usual[] = {"--port",       line->port,       "--data-dir", node->data_dir,
                                 "--memory-dir", node->memory_dir, NULL};
    size_t count = 0;

    (void)snprintf(line->port, sizeof(line->port), "%u", node->port);
    (void)snprintf(line->notify, sizeof(line->notify), "NOTIFY_SOCKET=%s", node->ready_path);
    memset(line->argv, 0, sizeof(line->argv));
    line->argv[count++] = "metastore";
    add_words(line->argv, &count, ARGUMENTS_MAX, launch->bare ? NULL : usual);
    add_words(line->argv, &count, ARGUMENTS_MAX, launch->arguments);

    count = 0;
    memset(line->environment, 0, sizeof(line->environment));
    for (char **entry = environ; *entry != NULL; entry++) {
        /* Settings of whoever runs the tests must not decide what is tested. */
        if (strncmp(*entry, "METASTORE_", 10) != 0 && strncmp(*entry, "NOTIFY_", 7) != 0 &&
            strncmp(*entry, "LISTEN_", 7) != 0 && count + 16 < ENVIRONMENT_MAX) {
            line->environment[count++] = *entry;
        }
    }
    line->environment[count++] = line->notify;
    add_words(line->environment, &count, ENVIRONMENT_MAX, launch->environment);
    if (launch->keep_port_closed) {
        line->environment[count++] = "LISTEN_FDS=1";
        line->environment[count++] = line->listen_pid;
    }
}

/* In the child, up to exec. */
static void become_node(const struct node *node, const struct node_launch *launch,
                        struct command_line *line)
{
    int log_fd = open(node->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)setpgid(0, 0);
    if (log_fd < 0 || dup2(log_fd, STDERR_FILENO) < 0 || dup2(log_fd, STDOUT_FILENO) < 0) {
        _exit(126);
    }
    if (launch->file_bytes_max != 0) {
        const struct rlimit limit = {launch->file_bytes_max, launch->file_bytes_max};

        (void)setrlimit(RLIMIT_FSIZE, &limit);
    }
    if (launch->keep_port_closed) {
        if (launch->listen_fd == LISTEN_FD) {
            (void)fcntl(LISTEN_FD, F_SETFD, 0);
        } else if (dup2(launch->listen_fd, LISTEN_FD) < 0) {
            _exit(126);
        }
        (void)snprintf(line->listen_pid, sizeof(line->listen_pid), "LISTEN_PID=%d", getpid());
    }
    (void)execve(node_binary(), (char **)line->argv, (char **)line->environment);
    _exit(127);
}

void node_spawn(struct node *node, const struct node_launch *launch)
{
    struct command_line line;

    check_that(node->pid == 0, "the node runs already");
    build_command_line(node, launch, &line);
    node->pid = fork();
    check_that(node->pid >= 0, "fork: %s", strerror(errno));
    if (node->pid == 0) {
        become_node(node, launch, &line);
    }
    (void)setpgid(node->pid, node->pid); /* whoever of the two comes first */
    node->pid_fd = pidfd_open(node->pid, 0);
    check_that(node->pid_fd >= 0, "pidfd_open: %s", strerror(errno));
}

bool node_wait_notify(struct node *node, const char *line, int timeout_ms, char *out,
                      size_t out_bytes)
{
    const struct ms_instant began = ms_clock_now();
    size_t line_bytes = strlen(line);

    for (;;) {
        struct pollfd wait[2] = {{.fd = node->ready_fd, .events = POLLIN},
                                 {.fd = node->pid_fd, .events = POLLIN}};
        int left_ms = timeout_ms - (int)ms_clock_elapsed_ms(began, ms_clock_now());
        char text[1024];
        ssize_t got;

        if (left_ms < 0 || poll(wait, 2, left_ms) <= 0) {
            return false;
        }
        if ((wait[0].revents & POLLIN) == 0) {
            return false; /* the node ended, and has nothing more to say */
        }
        got = recv(node->ready_fd, text, sizeof(text) - 1, MSG_DONTWAIT);
        if (got < 0) {
            continue;
        }
        text[got] = '\0';
        for (const char *at = text; at != NULL; at = strchr(at, '\n')) {
            at += *at == '\n';
            if (strncmp(at, line, line_bytes) == 0) {
                if (out != NULL) {
                    (void)snprintf(out, out_bytes, "%s", text);
                }
                return true;
            }
        }
    }
}

void node_wait_ready(struct node *node)
{
    if (!node_wait_notify(node, "READY=1", NODE_DEADLINE_MS, NULL, 0)) {
        check_fail("the node did not get ready");
    }
}

void node_start(struct node *node, ...)
{
    const char *arguments[ARGUMENTS_MAX] = {NULL};
    const struct node_launch launch = {.arguments = arguments};
    const char *argument;
    size_t count = 0;
    va_list args;

    va_start(args, node);
    while ((argument = va_arg(args, const char *)) != NULL) {
        check_that(count + 1 < ARGUMENTS_MAX, "too many arguments");
        arguments[count++] = argument;
    }
    va_end(args);
    node_spawn(node, &launch);
    node_wait_ready(node);
}

/* ---- end ----------------------------------------------------------------------------------- */

static int exit_status(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int node_wait_exit(struct node *node, int timeout_ms)
{
    struct pollfd wait = {.fd = node->pid_fd, .events = POLLIN};
    int status = 0;

    check_that(node->pid != 0, "the node does not run");
    check_that(poll(&wait, 1, timeout_ms) == 1, "the node did not end within %d ms", timeout_ms);
    check_that(waitpid(node->pid, &status, 0) == node->pid, "waitpid: %s", strerror(errno));
    (void)close(node->pid_fd);
    node->pid_fd = -1;
    node->pid = 0;
    return exit_status(status);
}

int node_run(struct node *node, const struct node_launch *launch)
{
    node_spawn(node, launch);
    return node_wait_exit(node, NODE_DEADLINE_MS);
}

void node_stop(struct node *node)
{
    int status;

    check_that(node->pid != 0, "the node does not run");
    (void)kill(node->pid, SIGTERM);
    status = node_wait_exit(node, NODE_DEADLINE_MS);
    check_that(status == 0, "the node stopped with status %d", status);
}

bool node_wait_gone(pid_t pid, int timeout_ms)
{
    int fd = pidfd_open(pid, 0);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    bool gone;

    if (fd < 0) {
        return errno == ESRCH;
    }
    gone = poll(&wait, 1, timeout_ms) == 1;
    (void)close(fd);
    return gone;
}

void node_kill_all(struct node *node)
{
    struct admin_worker workers[ADMIN_WORKERS_MAX];
    size_t count = admin_workers(node, workers, ADMIN_WORKERS_MAX);

    (void)kill(-node->pid, SIGKILL);
    (void)kill(node->pid, SIGKILL);
    (void)node_wait_exit(node, NODE_DEADLINE_MS);
    for (size_t i = 0; i < count; i++) {
        check_that(workers[i].pid <= 0 || node_wait_gone(workers[i].pid, NODE_DEADLINE_MS),
                   "%s (pid %d) outlived its supervisor", workers[i].name, workers[i].pid);
    }
}

void node_forget_memory(const struct node *node)
{
    char names[64][256];
    size_t count = files_list(node->memory_dir, "", names, 64);

    for (size_t i = 0; i < count; i++) {
        char path[FILES_PATH_BYTES];

        files_path(path, sizeof(path), "%s/%s", node->memory_dir, names[i]);
        check_that(files_remove_tree(path), "remove %s", path);
    }
}

void node_power_cut(struct node *node)
{
    node_kill_all(node);
    node_forget_memory(node);
}

void node_finish(struct node *node)
{
    if (node->pid != 0) {
        node_stop(node);
    }
    node->passed = true;
}

void node_fini(struct node *node)
{
    if (node->dir[0] == '\0') {
        return;
    }
    if (node->pid != 0) {
        (void)kill(-node->pid, SIGKILL);
        (void)kill(node->pid, SIGKILL);
        (void)waitpid(node->pid, NULL, 0);
        (void)close(node->pid_fd);
    }
    if (!node->passed) {
        print_log_tail(node);
    }
    (void)close(node->ready_fd);
    (void)!write(node->caretaker_fd, "x", 1);
    (void)close(node->caretaker_fd);
    (void)waitpid(node->caretaker, NULL, 0);
    memset(node, 0, sizeof(*node));
}

char *node_log(const struct node *node)
{
    return files_read(node->log_path, NULL);
}

bool node_log_has(const struct node *node, const char *text)
{
    char *log = node_log(node);
    bool has = strstr(log, text) != NULL;

    free(log);
    return has;
}

int node_command(const char *const argv[], char *out, size_t out_bytes)
{
    int fds[2];
    size_t have = 0;
    int status = 0;
    pid_t child;

    check_that(pipe2(fds, O_CLOEXEC) == 0, "pipe: %s", strerror(errno));
    child = fork();
    check_that(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        (void)dup2(fds[1], STDOUT_FILENO);
        (void)dup2(fds[1], STDERR_FILENO);
        (void)execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    (void)close(fds[1]);
    for (;;) {
        char rest[512];
        bool full = have + 1 >= out_bytes;
        ssize_t got =
            read(fds[0], full ? rest : out + have, full ? sizeof(rest) : out_bytes - 1 - have);

        if (got <= 0) {
            break;
        }
        have += full ? 0 : (size_t)got;
    }
    out[have] = '\0';
    (void)close(fds[0]);
    check_that(waitpid(child, &status, 0) == child, "waitpid: %s", strerror(errno));
    return exit_status(status);
}

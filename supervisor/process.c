/*
 * process: see process.h.
 */
#include "supervisor/process.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "common/exit_codes.h"
#include "common/fds.h"

/* Above every fixed descriptor, so that placing those cannot overwrite it. */
#define FIXED_FDS_END 16

#define ENVIRONMENT_MAX 1024

/* Variables with these names speak to the process that systemd started, not to its children. */
static const char *const private_variables[] = {
    "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=",
    "LISTEN_FDS=",    "LISTEN_PID=",    "LISTEN_FDNAMES=",
};

extern char **environ;

int process_open_self(int *out_fd, struct ms_err *err)
{
    int fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    int high_fd;

    if (fd < 0) {
        return ms_err_set(err, MS_EIO, errno, "open /proc/self/exe");
    }
    high_fd = fcntl(fd, F_DUPFD_CLOEXEC, FIXED_FDS_END);
    (void)close(fd);
    if (high_fd < 0) {
        return ms_err_set(err, MS_EIO, errno, "duplicate the descriptor of the executable");
    }
    *out_fd = high_fd;
    return MS_OK;
}

int process_ensure_standard_fds(struct ms_err *err)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
        if (fd < 0) {
            return ms_err_set(err, MS_EIO, errno, "open /dev/null");
        }
    } while (fd <= STDERR_FILENO);
    (void)close(fd);
    return MS_OK;
}

static bool is_private_variable(const char *variable)
{
    for (size_t i = 0; i < sizeof(private_variables) / sizeof(private_variables[0]); i++) {
        if (strncmp(variable, private_variables[i], strlen(private_variables[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* What the child inherits; more variables than fit are left out, workers need none of them. */
static void make_environment(char *out[static ENVIRONMENT_MAX + 1])
{
    size_t count = 0;

    for (char **variable = environ; *variable != NULL && count < ENVIRONMENT_MAX; variable++) {
        if (!is_private_variable(*variable)) {
            out[count++] = *variable;
        }
    }
    out[count] = NULL;
}

/* Between fork and exec: only system calls. */
_Noreturn static void become_worker(const struct process_fds *fds, const char *name,
                                    char *const envp[])
{
    char *const argv[] = {(char *)(uintptr_t)name, (char *)(uintptr_t)PROCESS_WORKER_MARK, NULL};
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;
    int control_fd;
    int lock_fd;

    /* Handlers go away with exec, but what is ignored would stay ignored. */
    for (int signo = 1; signo < NSIG; signo++) {
        (void)sigaction(signo, &action, NULL); /* refused for SIGKILL, SIGSTOP and libc's own */
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);

    /* First out of the way of the fixed numbers, which are then free to be taken. */
    control_fd = fcntl(fds->control, F_DUPFD_CLOEXEC, FIXED_FDS_END);
    lock_fd = fds->lock < 0 ? -1 : fcntl(fds->lock, F_DUPFD_CLOEXEC, FIXED_FDS_END);
    if (control_fd < 0 || dup2(control_fd, MS_FD_CONTROL) < 0 ||
        (fds->lock >= 0 && (lock_fd < 0 || dup2(lock_fd, MS_FD_LOCK) < 0))) {
        _exit(MS_EXIT_INTERNAL);
    }
    /* Ours are O_CLOEXEC one by one; this is for descriptors that our own parent left open. */
    if (close_range(fds->lock < 0 ? MS_FD_LOCK : MS_FD_LOCK + 1, ~0U, CLOSE_RANGE_CLOEXEC) != 0) {
        _exit(MS_EXIT_INTERNAL);
    }
    (void)execveat(fds->program, "", argv, envp, AT_EMPTY_PATH);
    _exit(MS_EXIT_INTERNAL);
}

int process_spawn(const struct process_fds *fds, const char *name, pid_t *out_pid, int *out_pidfd,
                  struct ms_err *err)
{
    char *envp[ENVIRONMENT_MAX + 1];
    pid_t pid;
    int pidfd;
    int saved;

    make_environment(envp);
    pid = fork();
    if (pid < 0) {
        return ms_err_set(err, MS_EIO, errno, "fork %s", name);
    }
    if (pid == 0) {
        become_worker(fds, name, envp);
    }
    /* Nobody but us reaps the child, so the number cannot mean another process yet. */
    pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) {
        saved = errno;
        (void)kill(pid, SIGKILL); /* the caller's loop reaps it like any orphan */
        return ms_err_set(err, MS_EIO, saved, "pidfd of %s, pid %d", name, (int)pid);
    }
    *out_pid = pid;
    *out_pidfd = pidfd;
    return MS_OK;
}

int process_signal(int pidfd, int signo, struct ms_err *err)
{
    if (pidfd_send_signal(pidfd, signo, NULL, 0) != 0 && errno != ESRCH) {
        return ms_err_set(err, MS_EIO, errno, "send signal %d", signo);
    }
    return MS_OK;
}

bool process_is_frozen(pid_t pid)
{
    char path[32];
    char text[512];
    const char *after_name;
    ssize_t len;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    len = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    if (len <= 0) {
        return false;
    }
    text[len] = '\0';
    /* "PID (name) STATE ...": the name may hold anything, also parentheses. */
    after_name = strrchr(text, ')');
    if (after_name == NULL || strlen(after_name) < 3) {
        return false;
    }
    return after_name[2] == 'T' || after_name[2] == 't';
}

bool process_ends_within(pid_t pid, int timeout_ms)
{
    struct pollfd ended = {.fd = pidfd_open(pid, 0), .events = POLLIN};
    bool is_gone;

    if (ended.fd < 0) {
        return errno == ESRCH;
    }
    is_gone = poll(&ended, 1, timeout_ms) > 0;
    (void)close(ended.fd);
    return is_gone;
}

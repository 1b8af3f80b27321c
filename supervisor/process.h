/*
 * process: one worker process: making it, signalling it, asking how it is.
 *
 * Knows nothing of roles beyond a name. A worker is this executable started again: a new address
 * space with its own randomisation, and one file to deploy.
 */
#ifndef METASTORE_SUPERVISOR_PROCESS_H
#define METASTORE_SUPERVISOR_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/err.h"

/* The argument behind argv[0] that tells main() to become the worker that argv[0] names. */
#define PROCESS_WORKER_MARK "--worker"

/*
 * Opens the running executable, so that workers can be made of it even after the file on disk was
 * replaced or removed. The descriptor is O_CLOEXEC and out of the way of the fixed ones; the caller
 * owns it.
 */
int process_open_self(int *out_fd, struct ms_err *err);

/* Makes descriptors 0, 1 and 2 exist, so that no file of ours is ever mistaken for one of them. */
int process_ensure_standard_fds(struct ms_err *err);

/* What the child gets; borrowed. */
struct process_fds {
    int program;
    int control; /* becomes MS_FD_CONTROL */
    int lock;    /* becomes MS_FD_LOCK; -1: none */
};

/*
 * Forks and executes fds->program under argv[0] = name. The child gets the descriptors of fds,
 * standard input, output and error, default signal handling and nothing else; its
 * environment is ours without what systemd meant for the supervisor alone.
 *
 * *out_pidfd (O_CLOEXEC) is owned by the caller. MS_EIO: the kernel refused. A failing exec shows
 * as a child that exits with MS_EXIT_INTERNAL.
 */
int process_spawn(const struct process_fds *fds, const char *name, pid_t *out_pid, int *out_pidfd,
                  struct ms_err *err);

/* Sends a signal; one that is dead already but not reaped is no error. */
int process_signal(int pidfd, int signo, struct ms_err *err);

/* True if /proc says that the process is stopped by job control or a debugger. */
bool process_is_frozen(pid_t pid);

/*
 * True if no process of that number runs, at the latest after timeout_ms; one that ended and was
 * not waited for by its parent does not.
 */
bool process_ends_within(pid_t pid, int timeout_ms);

#endif

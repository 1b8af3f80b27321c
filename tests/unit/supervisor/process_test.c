/*
 * process: what can be seen without a worker; spawning is seen in supervisor_test.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/exit_codes.h"
#include "supervisor/process.h"

/* A child that waits to be killed. */
static pid_t start_child(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        /* Parentheses and a state in the name: a careless reader of /proc would see "T". */
        (void)prctl(PR_SET_NAME, ") T (x");
        for (;;) {
            (void)pause();
        }
    }
    cr_assert_gt(pid, 0);
    return pid;
}

Test(process, frozen_means_stopped)
{
    pid_t pid = start_child();
    int pidfd = pidfd_open(pid, 0);
    struct ms_err err = {0};
    int status;

    cr_assert_not(process_is_frozen(pid));
    cr_assert_eq(process_signal(pidfd, SIGSTOP, &err), MS_OK, "%s", err.text);
    cr_assert_eq(waitpid(pid, &status, WUNTRACED), pid);
    cr_assert(process_is_frozen(pid));
    cr_assert_eq(process_signal(pidfd, SIGKILL, &err), MS_OK, "%s", err.text);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_not(process_is_frozen(pid), "it is gone");
    cr_assert_eq(process_signal(pidfd, SIGKILL, &err), MS_OK, "a late signal is no error");
    (void)close(pidfd);
}

Test(process, the_program_is_out_of_the_way_of_fixed_descriptors)
{
    struct ms_err err = {0};
    struct stat mine;
    struct stat opened;
    int fd = -1;

    cr_assert_eq(process_open_self(&fd, &err), MS_OK, "%s", err.text);
    cr_assert_gt(fd, 10);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    cr_assert_eq(fstat(fd, &opened), 0);
    cr_assert_eq(stat("/proc/self/exe", &mine), 0);
    cr_assert_eq(opened.st_ino, mine.st_ino);
    (void)close(fd);
}

Test(process, missing_standard_descriptors_are_filled)
{
    int saved_in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 20);
    struct ms_err err = {0};

    (void)close(STDIN_FILENO);
    cr_assert_eq(process_ensure_standard_fds(&err), MS_OK, "%s", err.text);
    cr_assert_geq(fcntl(STDIN_FILENO, F_GETFD), 0);
    (void)dup2(saved_in, STDIN_FILENO);
    (void)close(saved_in);
}

/* A program that cannot be executed shows as a child that exits, not as one that hangs. */
Test(process, a_failing_exec_is_an_exit)
{
    struct ms_err err = {0};
    pid_t pid = 0;
    int pidfd = -1;
    int status = 0;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const struct process_fds fds = {.program = fd, .control = fd, .lock = -1};

    cr_assert_eq(process_spawn(&fds, "raftd", &pid, &pidfd, &err), MS_OK, "%s", err.text);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status));
    cr_assert_eq(WEXITSTATUS(status), MS_EXIT_INTERNAL);
    (void)close(pidfd);
    (void)close(fd);
}

Test(process, a_child_that_was_not_waited_for_is_gone)
{
    siginfo_t info;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(0);
    }
    cr_assert_not(process_ends_within(getpid(), 10));
    cr_assert_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    cr_assert(process_ends_within(pid, 10000), "a zombie");
    cr_assert_eq(waitpid(pid, NULL, 0), pid);
    cr_assert(process_ends_within(pid, 0));
}

/*
 * fatal: signal handlers that mark a death of the process's own fault.
 *
 * A handler has no context pointer: what it needs has to be a variable of the program, set once
 * before the handlers are there.
 */
#include "storaged/fatal.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define SIGNAL_COUNT    5
#define ALT_STACK_BYTES 65536

static const int signals[SIGNAL_COUNT] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};

static volatile sig_atomic_t marker = -1;
static struct sigaction before[SIGNAL_COUNT];
static uint8_t alt_stack[ALT_STACK_BYTES];

static void on_fatal(int number)
{
    ssize_t written = write(marker, "x", 1);

    (void)written; /* nothing could be done about it */
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        if (signals[i] == number) {
            (void)sigaction(number, &before[i], NULL);
        }
    }
    /* Blocked until the handler returns, then what it would have done without us. */
    (void)raise(number);
}

int fatal_arm(int marker_fd, struct ms_err *err)
{
    const stack_t stack = {.ss_sp = alt_stack, .ss_size = sizeof(alt_stack)};
    struct sigaction action;

    if (sigaltstack(&stack, NULL) != 0) {
        return ms_err_set(err, MS_EIO, errno, "sigaltstack");
    }
    marker = marker_fd;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_fatal;
    action.sa_flags = SA_ONSTACK;
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        if (sigaction(signals[i], &action, &before[i]) != 0) {
            return ms_err_set(err, MS_EIO, errno, "sigaction of signal %d", signals[i]);
        }
    }
    return MS_OK;
}

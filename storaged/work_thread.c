/*
 * work_thread: priority and signals.
 */
#include "storaged/work_thread.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREAD_NICE 10

struct start {
    void *(*run)(void *ctx);
    void *ctx;
};

static void *begin(void *ctx)
{
    struct start start = *(struct start *)ctx;

    free(ctx);
    /* Linux gives each thread a priority of its own; without it, this is only less polite. */
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), THREAD_NICE);
    return start.run(start.ctx);
}

int work_thread_start(pthread_t *out, void *(*run)(void *ctx), void *ctx)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};
    struct start *start = malloc(sizeof(*start));
    sigset_t mask;
    sigset_t before;
    int code;

    if (start == NULL) {
        return ENOMEM;
    }
    *start = (struct start){.run = run, .ctx = ctx};
    (void)sigfillset(&mask);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        (void)sigdelset(&mask, faults[i]);
    }
    (void)pthread_sigmask(SIG_BLOCK, &mask, &before);
    code = pthread_create(out, NULL, begin, start);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) {
        free(start);
    }
    return code;
}

void work_thread_join(pthread_t thread)
{
    int code = pthread_join(thread, NULL);

    assert(code == 0);
    (void)code;
}

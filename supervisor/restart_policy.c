/*
 * restart_policy: see restart_policy.h.
 */
#include "supervisor/restart_policy.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "common/clock.h"
#include "common/exit_codes.h"

/* A life this long after READY shows that the last fault is behind it. */
#define STABLE_MS RESTART_DELAY_MAX_MS

/* Signals that the kernel raises in a process for what it did itself. */
static bool is_crash_signal(int signo)
{
    switch (signo) {
    case SIGSEGV:
    case SIGBUS:
    case SIGABRT:
    case SIGILL:
    case SIGFPE:
    case SIGTRAP:
    case SIGSYS:
        return true;
    default:
        return false;
    }
}

static void classify_exit(const struct death_facts *facts, struct death *out)
{
    int status = WEXITSTATUS(facts->wait_status);

    (void)snprintf(out->cause, sizeof(out->cause), "exit status %d", status);
    out->class = DEATH_OWN_FAULT;
    out->end = MS_END_OWN_FAULT;
    switch (status) {
    case MS_EXIT_OK:
        if (facts->asked_to_stop) {
            out->class = DEATH_ASKED;
            out->end = MS_END_STOPPED;
        }
        break;
    case MS_EXIT_CANNOT_RUN:
        out->class = DEATH_CANNOT_RUN;
        break;
    case MS_EXIT_DISK:
        /*
         * It left on purpose because the disk refused a write or a sync. That counts against the
         * restart intensity, but its memory was sound, so the engine in shared memory may be
         * trusted: only the log has to be read back.
         */
        out->end = MS_END_KILLED;
        break;
    default:
        break;
    }
}

static void classify_signal(const struct death_facts *facts, struct death *out)
{
    int signo = WTERMSIG(facts->wait_status);

    (void)snprintf(out->cause, sizeof(out->cause), "signal %d", signo);
    out->class = DEATH_OUTSIDE;
    out->end = MS_END_KILLED;
    switch (facts->kill_reason) {
    case KILL_NONE:
    case KILL_ADMIN:
        if (is_crash_signal(signo)) {
            out->class = DEATH_OWN_FAULT;
            out->end = MS_END_OWN_FAULT;
        }
        break;
    case KILL_FROZEN:
        (void)snprintf(out->cause, sizeof(out->cause), "was stopped, killed");
        break;
    case KILL_HUNG:
        (void)snprintf(out->cause, sizeof(out->cause), "did not answer, signal %d", signo);
        out->class = DEATH_OWN_FAULT;
        out->end = MS_END_OWN_FAULT;
        break;
    case KILL_PROTOCOL:
        (void)snprintf(out->cause, sizeof(out->cause), "broke the protocol, signal %d", signo);
        out->class = DEATH_OWN_FAULT;
        out->end = MS_END_OWN_FAULT;
        break;
    case KILL_UNCONNECTED:
        /* Counted, so that it is tried again later and not for ever; but it had not begun to work.
         */
        (void)snprintf(out->cause, sizeof(out->cause), "not connected, signal %d", signo);
        out->class = DEATH_OWN_FAULT;
        break;
    case KILL_STOP_DEADLINE:
        (void)snprintf(out->cause, sizeof(out->cause), "stop deadline, signal %d", signo);
        break;
    }
}

void restart_policy_classify(const struct death_facts *facts, struct death *out)
{
    memset(out, 0, sizeof(*out));
    if (WIFEXITED(facts->wait_status)) {
        classify_exit(facts, out);
    } else {
        assert(WIFSIGNALED(facts->wait_status));
        classify_signal(facts, out);
    }
}

void restart_window_init(struct restart_window *window, uint64_t intensity, uint64_t period_ms)
{
    memset(window, 0, sizeof(*window));
    window->intensity = intensity < RESTART_INTENSITY_MAX ? intensity : RESTART_INTENSITY_MAX;
    window->period_ms = period_ms;
}

/* Notes a death; true if there were more than the intensity within the period. */
static bool window_exceeded(struct restart_window *window, struct ms_instant now)
{
    uint32_t slots = (uint32_t)window->intensity + 1;
    struct ms_instant oldest;

    window->died_at[window->next] = now;
    window->next = (window->next + 1) % slots;
    if (window->count < slots) {
        window->count++;
    }
    if (window->count < slots) {
        return false;
    }
    oldest = window->died_at[window->next];
    return ms_clock_elapsed_ms(oldest, now) < window->period_ms;
}

/* 10 ms, 20 ms, ... up to the longest delay. nth counts from 1. */
static uint64_t delay_ms(uint32_t nth)
{
    uint64_t delay = RESTART_DELAY_FIRST_MS;

    for (uint32_t i = 1; i < nth && delay < RESTART_DELAY_MAX_MS; i++) {
        delay *= 2;
    }
    return delay < RESTART_DELAY_MAX_MS ? delay : RESTART_DELAY_MAX_MS;
}

struct restart_decision restart_policy_decide(struct restart_window *window,
                                              struct restart_backoff *backoff,
                                              const struct death *death,
                                              const struct restart_facts *facts)
{
    struct restart_decision decision = {.action = RESTART_NOW};

    if (facts->was_ready) {
        backoff->early_kills = 0;
        if (facts->ready_for_ms >= STABLE_MS) {
            backoff->faults = 0;
        }
    }
    switch (death->class) {
    case DEATH_CANNOT_RUN:
        decision.action = facts->may_recover ? RESTART_UNABLE : RESTART_CANNOT_RUN;
        decision.delay_ms = facts->may_recover ? RESTART_DELAY_MAX_MS : 0;
        break;
    case DEATH_ASKED:
        break;
    case DEATH_OUTSIDE:
        if (!facts->was_ready) {
            backoff->early_kills++;
            decision.action = RESTART_DELAYED;
            decision.delay_ms = delay_ms(backoff->early_kills);
        }
        break;
    case DEATH_OWN_FAULT:
        backoff->faults++;
        decision.action = RESTART_DELAYED;
        decision.delay_ms = delay_ms(backoff->faults);
        if (window_exceeded(window, facts->now)) {
            decision.action = RESTART_GIVE_UP;
        }
        break;
    }
    return decision;
}

/*
 * restart_policy: what a death means, how long the next start waits, when the node gives up.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "common/exit_codes.h"
#include "supervisor/restart_policy.h"

#define MS UINT64_C(1000000)

static struct death classify(int wait_status, bool was_ready, bool asked, enum kill_reason reason)
{
    const struct death_facts facts = {.wait_status = wait_status,
                                      .was_ready = was_ready,
                                      .asked_to_stop = asked,
                                      .kill_reason = reason};
    struct death death;

    restart_policy_classify(&facts, &death);
    return death;
}

static int exited(int status)
{
    return W_EXITCODE(status, 0);
}

static int signalled(int signo)
{
    return W_EXITCODE(0, signo);
}

Test(restart_policy, signals_from_outside_are_no_fault)
{
    static const int outside[] = {SIGKILL, SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGPIPE, SIGALRM};

    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        struct death death = classify(signalled(outside[i]), true, false, KILL_NONE);

        cr_assert_eq(death.class, DEATH_OUTSIDE, "signal %d", outside[i]);
        cr_assert_eq(death.end, MS_END_KILLED);
    }
    cr_assert_str_eq(classify(signalled(9), true, false, KILL_NONE).cause, "signal 9");
}

Test(restart_policy, crash_signals_are_own_fault)
{
    static const int crash[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGTRAP, SIGSYS};

    for (size_t i = 0; i < sizeof(crash) / sizeof(crash[0]); i++) {
        struct death death = classify(signalled(crash[i]), true, false, KILL_NONE);

        cr_assert_eq(death.class, DEATH_OWN_FAULT, "signal %d", crash[i]);
        cr_assert_eq(death.end, MS_END_OWN_FAULT);
    }
    /* With a core dump the status has one more bit. */
    cr_assert_eq(classify(SIGSEGV | WCOREFLAG, true, false, KILL_NONE).class, DEATH_OWN_FAULT);
}

Test(restart_policy, exits_nobody_asked_for_are_own_fault)
{
    cr_assert_eq(classify(exited(MS_EXIT_INTERNAL), true, false, KILL_NONE).class, DEATH_OWN_FAULT);
    cr_assert_eq(classify(exited(0), true, false, KILL_NONE).class, DEATH_OWN_FAULT);
    cr_assert_eq(classify(exited(0), true, false, KILL_NONE).end, MS_END_OWN_FAULT);
    cr_assert_str_eq(classify(exited(70), true, false, KILL_NONE).cause, "exit status 70");
}

Test(restart_policy, leaving_when_asked_is_no_death)
{
    struct death death = classify(exited(0), true, true, KILL_NONE);

    cr_assert_eq(death.class, DEATH_ASKED);
    cr_assert_eq(death.end, MS_END_STOPPED);
}

Test(restart_policy, a_worker_that_says_it_cannot_run_is_believed)
{
    cr_assert_eq(classify(exited(MS_EXIT_CANNOT_RUN), false, false, KILL_NONE).class,
                 DEATH_CANNOT_RUN);
}

/* The disk failed, not the memory: the engine need not be rebuilt. */
Test(restart_policy, a_disk_failure_counts_but_leaves_memory_trusted)
{
    struct death death = classify(exited(MS_EXIT_DISK), true, false, KILL_NONE);

    cr_assert_eq(death.class, DEATH_OWN_FAULT);
    cr_assert_eq(death.end, MS_END_KILLED);
}

Test(restart_policy, what_the_supervisor_did_itself_decides)
{
    cr_assert_eq(classify(signalled(SIGKILL), true, false, KILL_FROZEN).class, DEATH_OUTSIDE);
    cr_assert_eq(classify(signalled(SIGTERM), true, false, KILL_ADMIN).class, DEATH_OUTSIDE);
    cr_assert_eq(classify(signalled(SIGABRT), true, false, KILL_HUNG).class, DEATH_OWN_FAULT);
    cr_assert_eq(classify(signalled(SIGKILL), true, false, KILL_HUNG).class, DEATH_OWN_FAULT);
    cr_assert_eq(classify(signalled(SIGKILL), true, false, KILL_HUNG).end, MS_END_OWN_FAULT);
    cr_assert_eq(classify(signalled(SIGABRT), true, false, KILL_PROTOCOL).class, DEATH_OWN_FAULT);
    cr_assert_eq(classify(signalled(SIGKILL), false, false, KILL_UNCONNECTED).class,
                 DEATH_OWN_FAULT);
    cr_assert_eq(classify(signalled(SIGKILL), false, false, KILL_UNCONNECTED).end, MS_END_KILLED);
    cr_assert_eq(classify(signalled(SIGKILL), true, true, KILL_STOP_DEADLINE).end, MS_END_KILLED);
}

struct policy_fixture {
    struct restart_window window;
    struct restart_backoff backoff;
    struct ms_instant now;
};

static void policy_init(struct policy_fixture *f, uint64_t intensity)
{
    memset(f, 0, sizeof(*f));
    restart_window_init(&f->window, intensity, 60000);
    f->now.ns = 1000 * MS;
}

static struct restart_decision after(struct policy_fixture *f, enum death_class class,
                                     bool was_ready, uint64_t ready_for_ms)
{
    const struct death death = {.class = class};

    return restart_policy_decide(&f->window, &f->backoff, &death,
                                 &(struct restart_facts){.was_ready = was_ready,
                                                         .ready_for_ms = ready_for_ms,
                                                         .now = f->now});
}

Test(restart_policy, killed_when_ready_restarts_at_once_however_often)
{
    struct policy_fixture f;

    policy_init(&f, 3);
    for (int i = 0; i < 1000; i++) {
        cr_assert_eq(after(&f, DEATH_OUTSIDE, true, 1).action, RESTART_NOW);
    }
}

Test(restart_policy, killed_before_ready_waits_longer_each_time_and_is_not_counted)
{
    static const uint64_t expected[] = {10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000};
    struct policy_fixture f;

    policy_init(&f, 0);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        struct restart_decision decision = after(&f, DEATH_OUTSIDE, false, 0);

        cr_assert_eq(decision.action, RESTART_DELAYED);
        cr_assert_eq(decision.delay_ms, expected[i], "death %zu: %ju", i,
                     (uintmax_t)decision.delay_ms);
    }
    /* One READY ends that run of bad luck. */
    cr_assert_eq(after(&f, DEATH_OUTSIDE, true, 1).action, RESTART_NOW);
    cr_assert_eq(after(&f, DEATH_OUTSIDE, false, 0).delay_ms, 10);
}

Test(restart_policy, own_faults_wait_longer_until_a_life_was_stable)
{
    struct policy_fixture f;

    policy_init(&f, 100);
    cr_assert_eq(after(&f, DEATH_OWN_FAULT, true, 100).delay_ms, 10);
    cr_assert_eq(after(&f, DEATH_OWN_FAULT, true, 100).delay_ms, 20);
    cr_assert_eq(after(&f, DEATH_OWN_FAULT, false, 0).delay_ms, 40);
    cr_assert_eq(after(&f, DEATH_OWN_FAULT, true, RESTART_DELAY_MAX_MS).delay_ms, 10);
}

Test(restart_policy, gives_up_past_the_intensity)
{
    struct policy_fixture f;

    policy_init(&f, 10);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(after(&f, DEATH_OWN_FAULT, true, 1).action, RESTART_DELAYED, "death %d", i);
        f.now.ns += 1000 * MS;
    }
    cr_assert_eq(after(&f, DEATH_OWN_FAULT, true, 1).action, RESTART_GIVE_UP);
}

Test(restart_policy, does_not_give_up_when_faults_are_far_apart)
{
    struct policy_fixture f;

    policy_init(&f, 10);
    for (int i = 0; i < 100; i++) { /* ten in 60 s and no more */
        cr_assert_eq(after(&f, DEATH_OWN_FAULT, true, 1).action, RESTART_DELAYED, "death %d", i);
        f.now.ns += 6000 * MS;
    }
}

Test(restart_policy, intensity_zero_gives_up_at_the_first_fault)
{
    struct policy_fixture f;

    policy_init(&f, 0);
    cr_assert_eq(after(&f, DEATH_OWN_FAULT, true, 1).action, RESTART_GIVE_UP);
}

Test(restart_policy, an_enormous_intensity_is_bounded)
{
    struct policy_fixture f;
    int tolerated = 0;

    policy_init(&f, UINT64_MAX);
    while (after(&f, DEATH_OWN_FAULT, true, 1).action == RESTART_DELAYED) {
        tolerated++;
    }
    cr_assert_eq(tolerated, RESTART_INTENSITY_MAX);
}

Test(restart_policy, cannot_run_ends_the_node)
{
    struct policy_fixture f;

    policy_init(&f, 10);
    cr_assert_eq(after(&f, DEATH_CANNOT_RUN, false, 0).action, RESTART_CANNOT_RUN);
}

/* Somebody mends the file that it lacks, sooner or later: that is no fault to be counted. */
Test(restart_policy, cannot_run_is_tried_again_where_it_may_recover)
{
    const struct death death = {.class = DEATH_CANNOT_RUN};
    struct policy_fixture f;

    policy_init(&f, 0);
    for (int i = 0; i < 100; i++) {
        struct restart_decision decision =
            restart_policy_decide(&f.window, &f.backoff, &death,
                                  &(struct restart_facts){.may_recover = true, .now = f.now});

        cr_assert_eq(decision.action, RESTART_UNABLE);
        cr_assert_eq(decision.delay_ms, RESTART_DELAY_MAX_MS);
    }
    cr_assert_eq(after(&f, DEATH_OUTSIDE, true, 1).action, RESTART_NOW);
}

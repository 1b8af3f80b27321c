/*
 * report: see report.h.
 */
#include "tests/sim/report.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EVENTS_KEPT 80

struct note {
    uint64_t at;
    uint64_t step;
    node_id node;
    const char *what;
    const char *detail;
    const char *names;
    uint64_t values[4];
};

/* One run at a time in a process; a failure has to be told from anywhere, also a crash. */
static struct {
    uint64_t seed;
    const uint64_t *now;
    const uint64_t *step;
    bool follow;
    const char *command;
    struct note notes[EVENTS_KEPT];
    size_t noted;
} run;

void report_begin(uint64_t seed, const uint64_t *now, const uint64_t *step)
{
    run.seed = seed;
    run.now = now;
    run.step = step;
    run.noted = 0;
}

void report_follow(bool follow)
{
    run.follow = follow;
}

bool report_follows(void)
{
    return run.follow;
}

void report_set_command(const char *command)
{
    run.command = command;
}

static void print_note(const struct note *note)
{
    const char *name = note->names;

    (void)printf("%10" PRIu64 " us %6" PRIu64 "  ", note->at, note->step);
    if (note->node != 0) {
        (void)printf("node %-2" PRIu64 " ", note->node);
    } else {
        (void)printf("        ");
    }
    (void)printf("%s%s%s", note->what, note->detail[0] != '\0' ? " " : "", note->detail);
    for (size_t i = 0; i < 4 && *name != '\0'; i++) {
        size_t len = strcspn(name, " ");

        (void)printf(" %.*s=%" PRIu64, (int)len, name, note->values[i]);
        name += len;
        name += *name == ' ';
    }
    (void)printf("\n");
}

void report_event(node_id node, const char *what, const char *detail, const char *names,
                  const uint64_t values[4])
{
    struct note *note = &run.notes[run.noted % EVENTS_KEPT];

    *note = (struct note){.at = *run.now,
                          .step = *run.step,
                          .node = node,
                          .what = what,
                          .detail = detail,
                          .names = names};
    memcpy(note->values, values, sizeof(note->values));
    run.noted++;
    if (run.follow) {
        print_note(note);
    }
}

void report_core_line(node_id node, const char *line)
{
    if (run.follow) {
        (void)printf("%28snode %-2" PRIu64 "     %s\n", "", node, line);
    }
}

static void print_events(void)
{
    size_t first = run.noted > EVENTS_KEPT ? run.noted - EVENTS_KEPT : 0;

    if (run.follow) {
        return; /* they were printed */
    }
    (void)printf("the last events:\n");
    for (size_t i = first; i < run.noted; i++) {
        print_note(&run.notes[i % EVENTS_KEPT]);
    }
}

static void print_end(const char *invariant)
{
    (void)printf("step %" PRIu64 ", virtual time %" PRIu64 " us\n", *run.step, *run.now);
    (void)printf("replay: %s --seed %" PRIu64 " --trace\n", run.command, run.seed);
    (void)printf("invariant=%s seed=%" PRIu64 "\n", invariant, run.seed);
    (void)fflush(stdout);
}

void report_fail(const char *invariant, const char *format, ...)
{
    va_list arguments;

    print_events();
    va_start(arguments, format);
    (void)printf("%s: ", invariant);
    (void)vprintf(format, arguments);
    (void)printf("\n");
    va_end(arguments);
    print_end(invariant);
    _exit(1); /* what is not freed is of no interest now */
}

/* Not safe in general; but the signal comes from the core's own code, which never holds stdio. */
static void crashed(int number)
{
    (void)signal(number, SIG_DFL);
    print_events();
    print_end(number == SIGABRT ? "core-assertion" : "core-crash");
    _exit(1);
}

void report_catch_crashes(void)
{
    static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct sigaction action = {.sa_handler = crashed};

        (void)sigaction(numbers[i], &action, NULL);
    }
}

void *report_realloc(void *memory, size_t len_bytes)
{
    void *grown = realloc(memory, len_bytes);

    if (grown == NULL) {
        (void)fprintf(stderr, "sim: out of memory\n");
        _exit(2);
    }
    return grown;
}

void *report_calloc(size_t count, size_t size_bytes)
{
    void *memory = calloc(count, size_bytes);

    if (memory == NULL) {
        (void)fprintf(stderr, "sim: out of memory\n");
        _exit(2);
    }
    return memory;
}

/*
 * report: what a run tells: its last events, and how it failed.
 *
 * Events are noted as they are and become text only when somebody wants to read them.
 */
#ifndef METASTORE_TESTS_SIM_REPORT_H
#define METASTORE_TESTS_SIM_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/types.h"

/* Starts the notes of a run. The clock is read whenever something is noted. */
void report_begin(uint64_t seed, const uint64_t *now, const uint64_t *step);
/* Prints events as they happen, and the core's own log. */
void report_follow(bool follow);
bool report_follows(void);
/* The program that replays a seed, for the report of a failure. */
void report_set_command(const char *command);

/*
 * Notes an event: two constant texts, and up to four numbers with their names in one constant text,
 * separated by blanks ("from term").
 */
void report_event(node_id node, const char *what, const char *detail, const char *names,
                  const uint64_t values[4]);
#define REPORT(node, what, detail, names, ...) \
    report_event((node), (what), (detail), (names), (const uint64_t[4]){__VA_ARGS__})

/* One line of the core's log, printed if somebody follows. */
void report_core_line(node_id node, const char *line);

/* An invariant is broken: prints all there is to know, and ends the program with status 1. */
void report_fail(const char *invariant, const char *format, ...)
    __attribute__((noreturn, format(printf, 2, 3)));
/* Makes a crash of the core (an assertion of its own) a failure like the others. */
void report_catch_crashes(void);

/* Memory that is there, or the program ends. */
void *report_realloc(void *memory, size_t len_bytes);
void *report_calloc(size_t count, size_t size_bytes);

#endif

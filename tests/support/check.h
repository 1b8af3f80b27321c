/*
 * check: how support code fails, and the random numbers it draws.
 *
 * Support code is linked into Criterion tests and into programs with a main of their own; a failure
 * goes to whoever runs it.
 */
#ifndef METASTORE_TESTS_SUPPORT_CHECK_H
#define METASTORE_TESTS_SUPPORT_CHECK_H

#include <stdint.h>

/* Takes over failures; must not return. Without one the text is printed and the process aborts. */
void check_set_handler(void (*handler)(const char *text));

/* Ends the test with this text. */
__attribute__((format(printf, 1, 2), noreturn)) void check_fail(const char *format, ...);

/* Fails unless the condition holds; the rest is printf's. */
#define check_that(condition, ...) ((condition) ? (void)0 : check_fail(__VA_ARGS__))

/* The number in MS_SEED, else one from the kernel; printed, so that a run can be repeated. */
uint64_t check_seed(void);

/* splitmix64: small, and the same everywhere. */
uint64_t check_random(uint64_t *state);

/* Uniform enough for tests: low .. high, both included. */
uint64_t check_random_between(uint64_t *state, uint64_t low, uint64_t high);

#endif

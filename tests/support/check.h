/*
 * check: how support code fails.
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

/* The next number of the sequence (tests/seed.h), low .. high, both included. */
uint64_t check_random_between(uint64_t *state, uint64_t low, uint64_t high);

#endif

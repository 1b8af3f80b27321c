/*
 * check: failures of the test programs.
 */
#include "tests/support/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/seed.h"

static void (*failure_handler)(const char *text);

void check_set_handler(void (*handler)(const char *text))
{
    failure_handler = handler;
}

void check_fail(const char *format, ...)
{
    char text[4096];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (failure_handler != NULL) {
        failure_handler(text);
    }
    (void)fprintf(stderr, "FAILED: %s\n", text);
    abort();
}

uint64_t check_random_between(uint64_t *state, uint64_t low, uint64_t high)
{
    return low + test_random_below(state, high - low + 1);
}

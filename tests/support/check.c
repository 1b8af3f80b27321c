/*
 * check: failures and random numbers of the test programs.
 */
#include "tests/support/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

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

uint64_t check_seed(void)
{
    const char *text = getenv("MS_SEED");
    uint64_t seed = 0;

    if (text != NULL) {
        seed = strtoull(text, NULL, 0);
    } else {
        check_that(getrandom(&seed, sizeof(seed), 0) == sizeof(seed), "getrandom");
    }
    (void)printf("MS_SEED=%" PRIu64 "\n", seed);
    (void)fflush(stdout);
    return seed;
}

uint64_t check_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t check_random_between(uint64_t *state, uint64_t low, uint64_t high)
{
    return low + check_random(state) % (high - low + 1);
}

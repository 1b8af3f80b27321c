/*
 * seed: random numbers that can be had again. A test prints its seed first; MS_SEED replays it.
 */
#ifndef METASTORE_TESTS_SEED_H
#define METASTORE_TESTS_SEED_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

/* The seed of this run: MS_SEED if set, else a new one. Printed under name on standard output. */
static inline uint64_t test_seed(const char *name)
{
    const char *given = getenv("MS_SEED");
    uint64_t seed;

    if (given != NULL) {
        seed = strtoull(given, NULL, 0);
    } else if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
        abort();
    }
    (void)printf("%s: MS_SEED=%" PRIu64 "\n", name, seed);
    (void)fflush(stdout);
    return seed;
}

/* splitmix64: the next number of the sequence that *state stands in. */
static inline uint64_t test_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Evenly enough in [0, bound). */
static inline uint64_t test_random_below(uint64_t *state, uint64_t bound)
{
    return test_random(state) % bound;
}

#endif

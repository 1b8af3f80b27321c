/*
 * The simulation as a program: runs seeds until one breaks an invariant.
 *
 *   sim [--seeds N] [--shard I/N] [--seconds T] [--steps N] [--seed S [--trace]]
 *
 * The first line is the seed that all others follow from (MS_SEED chooses it); after it the seeds
 * that once failed are run first. --seed runs one seed and nothing else.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/sim.h"

#define SEEDS_DEFAULT 2000

/*
 * Runs that found what few others find, each with the core broken as told; they go first. A change
 * of what the simulation draws makes other runs of them: `make mutations` tells whether others do
 * it.
 */
static const uint64_t regressions[] = {
    1,    /* led before its own vote was on disk, and then twice in one term */
    5,    /* went back to an older snapshot */
    120,  /* answered reads without a round */
    143,  /* helped to elect another while a lease ran */
    283,  /* took entries for written that had replaced those that were */
    1326, /* took an old answer as confirmation of a later read */
};

struct arguments {
    uint64_t seeds;
    uint64_t shard;
    uint64_t shards;
    uint64_t seconds; /* 0: no limit */
    uint64_t steps;   /* 0: what the seed draws */
    uint64_t seed;
    bool one;
    bool trace;
};

static int usage(const char *name)
{
    (void)fprintf(stderr,
                  "usage: %s [--seeds N] [--shard I/N] [--seconds T] [--steps N] "
                  "[--seed S [--trace]]\n",
                  name);
    return 2;
}

static bool parse_number(const char *text, uint64_t *out)
{
    char *end = NULL;

    errno = 0;
    *out = strtoull(text, &end, 0);
    return errno == 0 && end != text && *end == '\0' && text[0] != '-';
}

/* "2/4": the second of four parts. */
static bool parse_shard(const char *text, struct arguments *out)
{
    char *end = NULL;

    errno = 0;
    out->shard = strtoull(text, &end, 10);
    return errno == 0 && *end == '/' && parse_number(end + 1, &out->shards) && out->shard >= 1 &&
           out->shard <= out->shards;
}

static bool parse(int argc, char **argv, struct arguments *out)
{
    static const struct option options[] = {
        {"seeds", required_argument, NULL, 'n'},
        {"seed", required_argument, NULL, 's'},
        {"seconds", required_argument, NULL, 't'},
        {"steps", required_argument, NULL, 'e'},
        {"shard", required_argument, NULL, 'h'},
        {"trace", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    bool good = true;
    int option;

    while (good && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'n':
            good = parse_number(optarg, &out->seeds);
            break;
        case 's':
            good = parse_number(optarg, &out->seed);
            out->one = true;
            break;
        case 't':
            good = parse_number(optarg, &out->seconds);
            out->seeds = UINT64_MAX;
            break;
        case 'e':
            good = parse_number(optarg, &out->steps);
            break;
        case 'h':
            good = parse_shard(optarg, out);
            break;
        case 'v':
            out->trace = true;
            break;
        default:
            good = false;
            break;
        }
    }
    return good && optind == argc;
}

static void show_progress(uint64_t done, bool end)
{
    if (isatty(STDOUT_FILENO) && (done % 50 == 0 || end)) {
        (void)printf("\r%" PRIu64 " seeds%s", done, end ? "\r" : "");
        (void)fflush(stdout);
    }
}

static void show_totals(uint64_t seeds, const struct sim_totals *totals)
{
    (void)printf("%" PRIu64 " events: %" PRIu64 " entries committed, %" PRIu64 " leaders, %" PRIu64
                 " changes of members, %" PRIu64 " snapshots received, %" PRIu64
                 " processes killed, %" PRIu64 " operations of clients, %" PRIu64
                 " reads by index, %" PRIu64 " by lease; %" PRIu64 " histories undecided\n",
                 totals->events, totals->entries, totals->leaders, totals->changes,
                 totals->snapshots, totals->deaths, totals->operations, totals->index_reads,
                 totals->lease_reads, totals->undecided);
    (void)printf("%" PRIu64 " seeds, no invariant broken\n", seeds);
}

static uint64_t run_many(const struct arguments *arguments, uint64_t first,
                         struct sim_totals *totals)
{
    time_t began = time(NULL);
    uint64_t done = 0;

    for (size_t i = 0; i < sizeof(regressions) / sizeof(regressions[0]); i++) {
        sim_run(regressions[i], arguments->steps, totals);
    }
    for (uint64_t i = arguments->shard - 1; i < arguments->seeds; i += arguments->shards) {
        if (arguments->seconds > 0 && (uint64_t)(time(NULL) - began) >= arguments->seconds) {
            break;
        }
        sim_run(first + i, arguments->steps, totals);
        done++;
        show_progress(done, false);
    }
    show_progress(done, true);
    return done;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.seeds = SEEDS_DEFAULT, .shard = 1, .shards = 1};
    struct sim_totals totals = {0};
    uint64_t done = 1;

    if (!parse(argc, argv, &arguments)) {
        return usage(argv[0]);
    }
    report_set_command(argv[0]);
    report_follow(arguments.trace);
    report_catch_crashes();
    if (arguments.one) {
        (void)printf("sim: MS_SEED=%" PRIu64 "\n", arguments.seed);
        sim_run(arguments.seed, arguments.steps, &totals);
    } else {
        done = run_many(&arguments, test_seed("sim"), &totals);
    }
    show_totals(done, &totals);
    return 0;
}

/*
 * cluster_fixture: three nodes with a writer at each of them, for each test of a file.
 *
 * A test calls cluster_begin with the nodes' options, does its harm, and ends with cluster_end,
 * which mends nothing but waits until everybody serves again and looks for what got lost.
 */
#ifndef METASTORE_TESTS_SYSTEM_CLUSTER_FIXTURE_H
#define METASTORE_TESTS_SYSTEM_CLUSTER_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/clock.h"
#include "tests/support/check.h"
#include "tests/support/cluster.h"
#include "tests/support/cluster_state.h"
#include "tests/support/traffic.h"

enum {
    NODES = 3,
    ELECTION_TIMEOUT_MS = 1000, /* the default */
    PATIENCE_MS = 30000
};

static struct cluster cluster;
static struct traffic writers[NODES];

static inline void cluster_fixture_fail(const char *text)
{
    cr_assert_fail("%s", text);
}

static inline void cluster_fixture_init(void)
{
    check_set_handler(cluster_fixture_fail);
}

#define CLUSTER_SUITE(name) TestSuite(name, .init = cluster_fixture_init, .timeout = 300)

/* The next node in a circle. */
static inline size_t next_of(size_t position)
{
    return (position + 1) % NODES;
}

/* Starts what cluster_init prepared, and the writers; returns the position of the leader. */
static inline size_t cluster_start(void)
{
    const struct ms_instant since = ms_clock_now();

    for (size_t i = 0; i < NODES; i++) {
        cluster_spawn(&cluster, i);
    }
    for (size_t i = 0; i < NODES; i++) {
        char name[TRAFFIC_NAME_BYTES];

        cluster_wait_ready(&cluster, i);
        (void)snprintf(name, sizeof(name), "at-%zu", i + 1);
        traffic_start_writer(&writers[i], cluster.nodes[i].node.url, name);
    }
    for (size_t i = 0; i < NODES; i++) {
        cr_assert_geq(traffic_wait_done(&writers[i], since, PATIENCE_MS), 0, "no write at node %zu",
                      i + 1);
    }
    return cluster_state_wait_leader(&cluster);
}

static inline size_t cluster_begin(const char *const *arguments)
{
    cluster_init(&cluster, NODES, NODES, arguments);
    return cluster_start();
}

/* The shortest time after since in which a write sent later was acknowledged, by whom ever. */
static inline int wait_done_by_others(size_t but, struct ms_instant since)
{
    int shortest_ms = -1;

    for (size_t i = 0; i < NODES; i++) {
        int after_ms;

        if (i == but) {
            continue;
        }
        after_ms = traffic_wait_done(&writers[i], since, PATIENCE_MS);
        cr_assert_geq(after_ms, 0, "no write at node %zu", i + 1);
        if (shortest_ms < 0 || after_ms < shortest_ms) {
            shortest_ms = after_ms;
        }
    }
    return shortest_ms;
}

/* Waits until a write that is sent from now on is acknowledged by every node. */
static inline void wait_all_serve(void)
{
    const struct ms_instant since = ms_clock_now();

    (void)wait_done_by_others(NODES, since);
}

/* Reads at a node what is written at another, so that answers of a leader that was are stale. */
static inline void start_reader(struct traffic *reader, size_t at)
{
    const struct ms_instant since = ms_clock_now();

    traffic_start_reader(reader, cluster.nodes[at].node.url, &writers[next_of(at)]);
    cr_assert_geq(traffic_wait_done(reader, since, PATIENCE_MS), 0);
}

/* Once the node reads again; all that it read must have been fresh. */
static inline void finish_reader(struct traffic *reader)
{
    cr_assert_geq(traffic_wait_done(reader, ms_clock_now(), PATIENCE_MS), 0);
    traffic_stop(reader);
    cr_assert_eq(traffic_count_stale(reader), 0, "stale reads");
    traffic_fini(reader);
}

/* Lets time pass in which something lasts: there is no event that ends it. */
static inline void wait_until(struct ms_instant until)
{
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};

    while (ms_clock_now().ns < until.ns) {
        cluster_hear(&cluster);
        (void)nanosleep(&pause, NULL);
    }
}

/* Everybody serves, nothing acknowledged is lost, all nodes hold the same. */
static inline void cluster_end(void)
{
    char *state;

    wait_all_serve();
    for (size_t i = 0; i < NODES; i++) {
        traffic_stop(&writers[i]);
    }
    state = cluster_state_wait_equal(&cluster, "/traffic/");
    for (size_t i = 0; i < NODES; i++) {
        cr_assert_eq(traffic_count_lost(&writers[i], state), 0,
                     "writes that node %zu acknowledged are lost", i + 1);
        traffic_fini(&writers[i]);
    }
    free(state);
    for (size_t i = 0; i < NODES; i++) {
        node_stop(&cluster.nodes[i].node);
    }
    cluster_fini(&cluster, true);
}

/* ---- times ----------------------------------------------------------------------------------- */

static inline int compare_numbers(const void *a, const void *b)
{
    const int *left = a;
    const int *right = b;

    return (*left > *right) - (*left < *right);
}

/* Sorts and prints them; returns the median. */
static inline int print_times(const char *what, int *times_ms, size_t count)
{
    int median;

    qsort(times_ms, count, sizeof(*times_ms), compare_numbers);
    median = times_ms[count / 2];
    (void)printf("%s: median %d ms of", what, median);
    for (size_t i = 0; i < count; i++) {
        (void)printf(" %d", times_ms[i]);
    }
    (void)printf("\n");
    (void)fflush(stdout);
    return median;
}

#endif

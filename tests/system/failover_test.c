/*
 * How long clients wait when the leader, or a part of it, is gone.
 *
 * The times are printed. What is asserted leaves room for a machine that does much else.
 */
#include <signal.h>

#include "tests/support/admin.h"
#include "tests/system/cluster_fixture.h"

enum {
    WORKER_ROUNDS = 10,
    NODE_ROUNDS = 5,
    STOP_ROUNDS = 3
};

CLUSTER_SUITE(failover);

/* Kills a worker of the leader; returns after how many milliseconds the leader acknowledges. */
static int kill_worker(size_t leader, const char *name)
{
    const struct ms_instant since = ms_clock_now();
    int after_ms;

    cr_assert(cluster_signal_worker(&cluster, leader, name, SIGKILL), "no %s to kill", name);
    after_ms = traffic_wait_done(&writers[leader], since, PATIENCE_MS);
    cr_assert_geq(after_ms, 0, "node %zu acknowledges nothing without its %s", leader + 1, name);
    wait_all_serve();
    return after_ms;
}

static size_t count_refused(struct ms_instant since)
{
    size_t refused = 0;

    for (size_t i = 0; i < NODES; i++) {
        refused += traffic_count_refused(&writers[i], since, ms_clock_now());
    }
    return refused;
}

Test(failover, leader_without_raftd_is_missed_for_a_moment)
{
    int times_ms[WORKER_ROUNDS];
    struct ms_instant since;
    unsigned kept = 0;

    (void)cluster_begin(NULL);
    since = ms_clock_now();
    for (size_t i = 0; i < WORKER_ROUNDS; i++) {
        const size_t leader = cluster_state_wait_leader(&cluster);

        times_ms[i] = kill_worker(leader, "raftd");
        kept += cluster_state_wait_leader(&cluster) == leader;
    }
    (void)printf("the node led again %u times of %d\n", kept, WORKER_ROUNDS);
    cr_assert_lt(
        print_times("PUT at the leader after kill -9 of its raftd", times_ms, WORKER_ROUNDS),
        ELECTION_TIMEOUT_MS);
    cr_assert_eq(count_refused(since), 0, "no client's request may fail");
    cluster_end();
}

Test(failover, leader_without_storaged_goes_on_leading)
{
    int times_ms[WORKER_ROUNDS];
    struct ms_instant since;
    const size_t leader = cluster_begin(NULL);
    const uint64_t term = admin_status_number(&cluster.nodes[leader].node, "term");

    since = ms_clock_now();
    for (size_t i = 0; i < WORKER_ROUNDS; i++) {
        times_ms[i] = kill_worker(leader, "storaged");
    }
    for (size_t i = 0; i < NODES; i++) {
        cr_assert_eq(cluster_state_leader(&cluster, i), leader);
        cr_assert_eq(admin_status_number(&cluster.nodes[i].node, "term"), term);
    }
    cr_assert_lt(
        print_times("PUT at the leader after kill -9 of its storaged", times_ms, WORKER_ROUNDS),
        ELECTION_TIMEOUT_MS);
    cr_assert_eq(count_refused(since), 0, "no client's request may fail");
    cluster_end();
}

Test(failover, others_take_over_from_a_killed_leader)
{
    int times_ms[NODE_ROUNDS];

    (void)cluster_begin(NULL);
    for (size_t i = 0; i < NODE_ROUNDS; i++) {
        const size_t leader = cluster_state_wait_leader(&cluster);
        const struct ms_instant since = ms_clock_now();

        cluster_kill(&cluster, leader, false);
        times_ms[i] = wait_done_by_others(leader, since);
        cluster_spawn(&cluster, leader);
        cluster_wait_ready(&cluster, leader);
        wait_all_serve();
    }
    cr_assert_lt(print_times("PUT at another node after kill -9 of the leader's node", times_ms,
                             NODE_ROUNDS),
                 2 * ELECTION_TIMEOUT_MS);
    cluster_end();
}

Test(failover, leader_that_is_stopped_hands_over_first)
{
    int times_ms[STOP_ROUNDS];

    (void)cluster_begin(NULL);
    for (size_t i = 0; i < STOP_ROUNDS; i++) {
        const size_t leader = cluster_state_wait_leader(&cluster);
        const struct ms_instant since = ms_clock_now();
        struct ms_instant until;
        uint64_t longest_ms = 0;

        node_stop(&cluster.nodes[leader].node);
        (void)wait_done_by_others(leader, ms_clock_now());
        until = ms_clock_now();
        for (size_t at = 0; at < NODES; at++) {
            uint64_t gap_ms;

            if (at == leader) {
                continue;
            }
            gap_ms = traffic_longest_gap_ms(&writers[at], since, until);
            longest_ms = gap_ms > longest_ms ? gap_ms : longest_ms;
            cr_assert_eq(traffic_count_refused(&writers[at], since, until), 0,
                         "no request at a node that stays may fail");
        }
        times_ms[i] = (int)longest_ms;
        cluster_spawn(&cluster, leader);
        cluster_wait_ready(&cluster, leader);
        wait_all_serve();
    }
    cr_assert_lt(
        print_times("longest gap at the other nodes while the leader stops", times_ms, STOP_ROUNDS),
        ELECTION_TIMEOUT_MS);
    cluster_end();
}

/*
 * A leader that loses the others, in both directions or in one, must give up, acknowledge nothing
 * and answer no read that might be stale; local reads go on. One that was away as a whole must not
 * go on where it was when it comes back.
 */
#include <signal.h>

#include "tests/support/http.h"
#include "tests/system/cluster_fixture.h"

enum {
    CUT_MS = 5000,
    SLEEPS = 3,
    SLEEP_MS = 2500, /* longer than an election, and than the supervisor's patience */
    /* It looks once per election timeout whom it has heard: the second look finds nobody. */
    STEP_DOWN_MS = 3 * ELECTION_TIMEOUT_MS
};

CLUSTER_SUITE(partition);

enum direction {
    BOTH_WAYS,
    TO_THE_LEADER,  /* it is deaf: its heartbeats still hold the others */
    FROM_THE_LEADER /* it is mute */
};

static void cut(size_t leader, enum direction direction, bool cut_now)
{
    if (direction == BOTH_WAYS) {
        cluster_cut(&cluster, leader, cut_now);
        return;
    }
    for (size_t i = 0; i < NODES; i++) {
        if (i != leader && direction == TO_THE_LEADER) {
            cluster_network_cut_way(&cluster.network, i, leader, cut_now);
        } else if (i != leader) {
            cluster_network_cut_way(&cluster.network, leader, i, cut_now);
        }
    }
}

static int ask(size_t at, const char *path)
{
    struct http_client *client = http_client_create(cluster.nodes[at].node.url);
    struct http_response answer = {0};
    const int status = http_get(client, path, &answer);

    http_response_fini(&answer);
    http_client_destroy(client);
    return status;
}

/* What the old leader may still say, and what not. */
static void assert_alone(size_t leader, struct traffic *reader, struct ms_instant since)
{
    const struct ms_instant until = ms_clock_now();

    cr_assert_eq(traffic_count_done(&writers[leader], since, until), 0,
                 "acknowledged without the others");
    cr_assert_eq(traffic_count_done(reader, since, until), 0, "read without the others");
    cr_assert_eq(ask(leader, "/traffic/at-1/00000001?consistency=serializable"), 200);
    cr_assert_eq(ask(leader, "/health"), 503);
    cr_assert_eq(ask(leader, "/livez"), 200);
}

static void run(enum direction direction)
{
    struct traffic reader;
    struct ms_instant since;
    size_t leader;
    size_t heir;

    cluster_init(&cluster, NODES, NODES, NULL);
    if (!cluster_can_cut(&cluster)) {
        cluster_fini(&cluster, true);
        cr_skip_test("networks cannot be cut here");
    }
    leader = cluster_start();
    start_reader(&reader, leader);
    cut(leader, direction, true);
    since = ms_clock_now();
    cluster_state_wait_follower(&cluster, leader, PATIENCE_MS);
    (void)printf("the old leader gave up after %llu ms\n",
                 (unsigned long long)ms_clock_elapsed_ms(since, ms_clock_now()));
    cr_assert_leq(ms_clock_elapsed_ms(since, ms_clock_now()), STEP_DOWN_MS);
    heir = cluster_state_wait_other_leader(&cluster, next_of(leader), leader, PATIENCE_MS);
    (void)printf("node %zu leads after %llu ms\n", heir + 1,
                 (unsigned long long)ms_clock_elapsed_ms(since, ms_clock_now()));
    (void)printf("writes at the others after %d ms\n", wait_done_by_others(leader, since));
    (void)fflush(stdout);
    wait_until(ms_clock_add_ms(since, CUT_MS));
    assert_alone(leader, &reader, since);

    cut(leader, direction, false);
    wait_all_serve();
    finish_reader(&reader);
    cluster_end();
}

Test(partition, leader_that_is_cut_off_gives_up)
{
    run(BOTH_WAYS);
}

Test(partition, leader_that_hears_nobody_gives_up)
{
    run(TO_THE_LEADER);
}

Test(partition, leader_that_nobody_hears_gives_up)
{
    run(FROM_THE_LEADER);
}

static const char *const with_lease[] = {"--read-mode", "lease", NULL};

/* As a virtual machine that is not scheduled: it wakes up in the belief that it leads. */
static void let_leader_sleep(const char *const *arguments)
{
    (void)cluster_begin(arguments);
    for (int i = 0; i < SLEEPS; i++) {
        const size_t leader = cluster_state_wait_leader(&cluster);
        struct traffic reader;
        struct ms_instant since;

        start_reader(&reader, leader);
        since = ms_clock_now();
        cluster_signal_all(&cluster, leader, SIGSTOP);
        (void)wait_done_by_others(leader, since);
        wait_until(ms_clock_add_ms(since, SLEEP_MS));
        cluster_signal_all(&cluster, leader, SIGCONT);
        wait_all_serve();
        finish_reader(&reader);
    }
    cluster_end();
}

Test(partition, leader_that_sleeps_wakes_up_without_saying_anything_stale)
{
    let_leader_sleep(NULL);
}

Test(partition, leader_that_sleeps_wakes_up_without_a_lease)
{
    let_leader_sleep(with_lease);
}

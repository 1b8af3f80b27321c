/*
 * A leader whose disk, storage or consensus process does not get on must not stay leader, and must
 * not say what it cannot know any more.
 *
 * MS_LONG in the environment makes the stalls last a minute.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/admin.h"
#include "tests/support/disk.h"
#include "tests/support/http.h"
#include "tests/system/cluster_fixture.h"

enum {
    STALL_MS = 6000,
    LONG_STALL_MS = 60000,
    TAKE_OVER_MS = 2 * ELECTION_TIMEOUT_MS
};

CLUSTER_SUITE(stall);

/* Workers that do not answer are left alone. */
static const char *const patient[] = {"--liveness-deadline", "600000", NULL};
static const char *const with_lease[] = {"--read-mode", "lease", NULL};
static const char *const patient_with_lease[] = {"--liveness-deadline", "600000", "--read-mode",
                                                 "lease", NULL};

static uint64_t stall_ms(void)
{
    return getenv("MS_LONG") != NULL ? LONG_STALL_MS : STALL_MS;
}

/* Since the old leader stalled another one has to lead in time; returns who it is. */
static size_t expect_take_over(size_t old_leader, struct ms_instant since)
{
    const size_t leader =
        cluster_state_wait_other_leader(&cluster, next_of(old_leader), old_leader, PATIENCE_MS);
    const uint64_t after_ms = ms_clock_elapsed_ms(since, ms_clock_now());

    (void)printf("another leader after %llu ms\n", (unsigned long long)after_ms);
    (void)fflush(stdout);
    cr_assert_leq(after_ms, TAKE_OVER_MS);
    return leader;
}

Test(stall, leader_whose_storage_stands_still_is_replaced_and_acknowledges_nothing)
{
    const size_t old_leader = cluster_begin(patient);
    struct ms_instant since;
    struct ms_instant until;

    cr_assert(cluster_signal_worker(&cluster, old_leader, "storaged", SIGSTOP));
    since = ms_clock_now();
    (void)expect_take_over(old_leader, since);
    (void)wait_done_by_others(old_leader, ms_clock_now());
    wait_until(ms_clock_add_ms(since, stall_ms()));
    cr_assert_neq(cluster_state_leader(&cluster, old_leader), old_leader);
    until = ms_clock_now();
    cr_assert(cluster_signal_worker(&cluster, old_leader, "storaged", SIGCONT));
    cr_assert_eq(traffic_count_done(&writers[old_leader], since, until), 0,
                 "acknowledged by a node that can store nothing");
    cr_assert_gt(traffic_count_done(&writers[next_of(old_leader)], since, until), 0);
    cluster_end();
}

/* Makes the first node lead: it is the one with the disk. */
static void make_lead(size_t position)
{
    char words[64];
    char text[512];

    (void)snprintf(words, sizeof(words), "leader transfer %zu", position + 1);
    while (cluster_state_wait_leader(&cluster) != position) {
        admin_command(&cluster.nodes[position].node, words, text, sizeof(text));
    }
}

/*
 * Waits until the supervisor has noted that the data dir of a new node is in use. It is the last
 * thing that it writes, and it does nothing else until that is stored.
 */
static void wait_noted(const struct node *node)
{
    const struct ms_instant since = ms_clock_now();
    char path[FILES_PATH_BYTES];
    bool noted = false;

    files_path(path, sizeof(path), "%s/identity", node->node_dir);
    while (!noted) {
        char *identity = files_read(path, NULL);

        noted = strstr(identity, "used = yes") != NULL;
        free(identity);
        cr_assert_lt(ms_clock_elapsed_ms(since, ms_clock_now()), PATIENCE_MS);
        wait_until(ms_clock_add_ms(ms_clock_now(), 1));
    }
}

/* The supervisor sees nothing of it: the storage answers, only its writes do not return. */
Test(stall, leader_whose_disk_stands_still_is_replaced_and_acknowledges_nothing)
{
    const size_t old_leader = 0;
    struct node *node = &cluster.nodes[old_leader].node;
    char image_path[FILES_PATH_BYTES];
    const char *reason = "";
    struct disk disk;
    struct ms_instant since;
    struct ms_instant until;

    cluster_init(&cluster, NODES, NODES, NULL);
    files_path(image_path, sizeof(image_path), "%s/image", node->dir);
    if (!disk_create(&disk, image_path, node->data_dir, &reason)) {
        cluster_fini(&cluster, true);
        cr_skip_test("disks cannot be frozen here (%s)", reason);
    }
    (void)cluster_start();
    make_lead(old_leader);
    wait_noted(node);
    disk_freeze(&disk);
    since = ms_clock_now();
    (void)expect_take_over(old_leader, since);
    (void)wait_done_by_others(old_leader, ms_clock_now());
    wait_until(ms_clock_add_ms(since, stall_ms()));
    cr_assert_neq(cluster_state_leader(&cluster, old_leader), old_leader);
    until = ms_clock_now();
    disk_thaw(&disk);
    cr_assert_eq(traffic_count_done(&writers[old_leader], since, until), 0,
                 "acknowledged by a node that can store nothing");
    cr_assert_gt(traffic_count_done(&writers[next_of(old_leader)], since, until), 0);
    cluster_end();
    disk_destroy(&disk);
}

/* How often apid asked raftd from where on it may read. */
static double rounds_at(size_t at)
{
    static const char name[] = "\nmetastore_raft_read_index_total ";
    struct http_client *client = http_client_create(cluster.nodes[at].node.url);
    struct http_response answer = {0};
    const char *line;
    double rounds;

    cr_assert_eq(http_get(client, "/metrics", &answer), 200);
    line = strstr(answer.body, name);
    cr_assert_not_null(line, "no such metric: %s", answer.body);
    rounds = strtod(line + sizeof(name) - 1, NULL);
    http_response_fini(&answer);
    http_client_destroy(client);
    return rounds;
}

/*
 * Waits until reads have needed no question for a while: a new leader's lease begins when the
 * others have confirmed that it leads, and every change of the membership, as they are made when a
 * cluster is founded, ends it for a moment.
 */
static void wait_lease(struct traffic *reader, size_t leader)
{
    const struct ms_instant began = ms_clock_now();
    struct ms_instant since;
    double rounds;
    size_t reads;

    do {
        since = ms_clock_now();
        cr_assert_lt(ms_clock_elapsed_ms(began, since), PATIENCE_MS, "no lease");
        rounds = rounds_at(leader);
        wait_until(ms_clock_add_ms(since, ELECTION_TIMEOUT_MS / 2));
        reads = traffic_count_done(reader, since, ms_clock_now());
    } while (rounds_at(leader) > rounds || reads == 0);
}

Test(stall, leader_whose_storage_is_replaced_in_the_end_gives_no_stale_answer)
{
    const size_t old_leader = cluster_begin(with_lease);
    struct traffic reader;

    start_reader(&reader, old_leader);
    wait_lease(&reader, old_leader);
    cr_assert(cluster_signal_worker(&cluster, old_leader, "storaged", SIGSTOP));
    (void)expect_take_over(old_leader, ms_clock_now());
    wait_all_serve();
    finish_reader(&reader);
    cluster_end();
}

Test(stall, lease_spares_reads_the_question_to_the_others)
{
    const size_t leader = cluster_begin(with_lease);
    struct traffic reader;

    start_reader(&reader, leader);
    wait_lease(&reader, leader);
    finish_reader(&reader);
    cluster_end();
}

Test(stall, lease_ends_with_the_consensus_process_that_stands_still)
{
    const size_t old_leader = cluster_begin(patient_with_lease);
    struct ms_instant stopped;
    struct ms_instant until;
    struct traffic reader;

    start_reader(&reader, old_leader);
    wait_lease(&reader, old_leader);
    stopped = ms_clock_now();
    cr_assert(cluster_signal_worker(&cluster, old_leader, "raftd", SIGSTOP));
    (void)wait_done_by_others(old_leader, ms_clock_now());
    wait_until(ms_clock_add_ms(stopped, STALL_MS));
    until = ms_clock_now();
    cr_assert(cluster_signal_worker(&cluster, old_leader, "raftd", SIGCONT));
    (void)printf("%zu reads by lease after the stop\n",
                 traffic_count_done(&reader, stopped, until));
    finish_reader(&reader);
    cluster_end();
}

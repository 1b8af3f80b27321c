/*
 * cluster_test: clients, real nodes, and everything that can go wrong with them at once.
 *
 * Clients ask all members concurrently for reads, writes, removals and conditional writes while
 * nodes and single workers are killed, stopped and cut off, and members come and go. Then
 * everything is mended. One store must have been able to give all those answers, which includes
 * that nothing acknowledged is lost, and all nodes must hold the same keys at the same revisions.
 */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/crash/cluster_client.h"
#include "tests/crash/cluster_faults.h"
#include "tests/crash/history.h"
#include "tests/seed.h"
#include "tests/support/check.h"
#include "tests/support/cluster.h"

enum {
    CLIENTS_PER_NODE = 2,
    CLIENTS_MAX = CLIENTS_PER_NODE * CLUSTER_NODES_MAX,
    SPARE_NODES = 6, /* may join */
    AGREE_DEADLINE_MS = 60000,
    PAUSE_NS = 50 * 1000 * 1000,
    PAGE_KEYS = 500,
    JUDGE_CLIENT = 1000 /* who reads everything at the end, in explanations */
};

static const char *const arguments[] = {"--request-timeout",
                                        "2000",
                                        "--liveness-deadline",
                                        "1500",
                                        "--snapshot-count",
                                        "2000",
                                        "--snapshot-catch-up-entries",
                                        "500",
                                        "--log-level",
                                        "info",
                                        NULL};

static struct cluster cluster;
static struct cluster_clients clients;
static struct faults faults;

static void pause_a_little(void)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};

    cluster_hear(&cluster);
    (void)nanosleep(&pause, NULL);
}

/* ---- reading at the end ---------------------------------------------------------------------- */

/* Reads one key through one node until it is answered. */
static void read_key(struct history *history, size_t position, uint64_t key)
{
    const struct ms_instant end = ms_clock_add_ms(ms_clock_now(), AGREE_DEADLINE_MS);
    const struct history_request request = {
        .kind = LIN_GET, .key = key, .client = JUDGE_CLIENT, .node = position + 1};
    struct connection connection;
    struct reply reply;
    char path[64];
    int status = 0;

    cluster_client_path(key, path, sizeof(path));
    connection_init_at(&connection, &cluster.nodes[position].api, CLUSTER_CLIENT_DEADLINE_MS);
    while (status != 200 && status != 404) {
        check_that(ms_clock_now().ns < end.ns, "node %zu does not answer reads: status %d",
                   position + 1, status);
        status = history_ask(history, &connection, path, &request, &reply);
        if (status != 200 && status != 404) {
            pause_a_little();
        }
    }
    connection_fini(&connection);
}

/* Every key, each through another member. */
static void read_all(struct history *history)
{
    uint64_t keys = (atomic_load(&clients.generation) + 1) * CLUSTER_CLIENT_KEYS;
    size_t position = 0;

    for (uint64_t key = 0; key < keys; key++) {
        do {
            position = (position + 1) % cluster.node_count;
        } while (!faults.nodes[position].member);
        read_key(history, position, key);
    }
}

/* All pages of a node's own state as one text; NULL if it does not serve now. free() it. */
static char *list_node(size_t position)
{
    struct connection connection;
    char after[80] = "";
    char *all = NULL;
    size_t all_bytes = 0;
    FILE *stream = open_memstream(&all, &all_bytes);
    bool more = true;
    bool good = true;

    check_that(stream != NULL, "no memory for a listing");
    connection_init_at(&connection, &cluster.nodes[position].api, CLUSTER_CLIENT_DEADLINE_MS);
    while (more && good) {
        char path[192];
        struct reply reply;
        json_t *page;
        size_t rows;

        (void)snprintf(path, sizeof(path),
                       "/lin/?prefix=true&consistency=serializable&limit=%d%s%s", PAGE_KEYS,
                       after[0] != '\0' ? "&after=" : "", after);
        connection_send(&connection, "GET", path, "", "", &reply);
        page = reply.status == 200 ? json_loads(reply.body, 0, NULL) : NULL;
        good = json_is_array(page);
        rows = json_array_size(page);
        more = good && reply.more && rows > 0;
        if (good) {
            (void)fputs(reply.body, stream);
        }
        if (more) {
            const json_t *last = json_object_get(json_array_get(page, rows - 1), "key");

            (void)snprintf(after, sizeof(after), "%s", json_string_value(last));
        }
        json_decref(page);
    }
    connection_fini(&connection);
    (void)fclose(stream);
    if (!good) {
        free(all);
        return NULL;
    }
    return all;
}

/* Whether all members hold the same now. *count is how many answered. */
static bool states_agree(size_t *members)
{
    char *first = NULL;
    bool agree = true;

    *members = 0;
    for (size_t i = 0; i < cluster.node_count && agree; i++) {
        char *state;

        if (!faults.nodes[i].member) {
            continue;
        }
        state = list_node(i);
        agree = state != NULL && (first == NULL || strcmp(first, state) == 0);
        (*members)++;
        if (first == NULL) {
            first = state;
        } else {
            free(state);
        }
    }
    free(first);
    return agree;
}

static void wait_until_states_agree(void)
{
    const struct ms_instant end = ms_clock_add_ms(ms_clock_now(), AGREE_DEADLINE_MS);
    size_t members = 0;

    while (!states_agree(&members)) {
        check_that(ms_clock_now().ns < end.ns, "the members do not come to hold the same state");
        pause_a_little();
    }
    (void)printf("all %zu members hold the same keys, values and revisions\n", members);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void start_founders(void)
{
    for (size_t i = 0; i < cluster.founders; i++) {
        cluster_spawn(&cluster, i);
    }
    for (size_t i = 0; i < cluster.founders; i++) {
        cluster_wait_ready(&cluster, i);
        atomic_store(&clients.serves[i], true);
    }
}

static bool run(size_t founders, unsigned seconds, uint64_t seed)
{
    static struct cluster_client crowd[CLIENTS_MAX];
    struct history history;
    size_t count = founders * CLIENTS_PER_NODE;
    bool good;

    cluster_init(&cluster, founders, founders + SPARE_NODES, arguments);
    clients.cluster = &cluster;
    start_founders();
    faults_init(&faults, &cluster, &clients, seed);
    for (unsigned i = 0; i < count; i++) {
        cluster_client_start(&crowd[i], &clients, i, seed + 1 + i);
    }
    faults_run(&faults, (uint64_t)seconds * 1000);
    faults_heal(&faults);
    atomic_store(&clients.stopping, true);
    history_init(&history);
    for (size_t i = 0; i < count; i++) {
        cluster_client_join(&crowd[i]);
        history_append(&history, &crowd[i].history);
        history_fini(&crowd[i].history);
    }
    faults_print(&faults);
    (void)printf("%zu clients: %" PRIu64 " writes answered, %" PRIu64
                 " requests refused or without an answer\n",
                 count, atomic_load(&clients.answered), atomic_load(&clients.unanswered));
    read_all(&history);
    good = history_judge(&history);
    wait_until_states_agree();
    history_fini(&history);
    cluster_fini(&cluster, good);
    return good;
}

static unsigned number_argument(const char *text, unsigned low, unsigned high)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);

    if (*text == '\0' || *end != '\0' || number < low || number > high) {
        (void)fprintf(stderr, "cluster-test: %s is not a number from %u to %u\n", text, low, high);
        exit(2);
    }
    return (unsigned)number;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"nodes", required_argument, NULL, 'n'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"seed", required_argument, NULL, 'r'},
                                            {NULL, 0, NULL, 0}};
    unsigned nodes = 3;
    unsigned seconds = 20;
    uint64_t seed;
    int option;
    bool good;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'n':
            nodes = number_argument(optarg, 1, CLUSTER_NODES_MAX - SPARE_NODES);
            break;
        case 's':
            seconds = number_argument(optarg, 1, 86400);
            break;
        case 'r':
            (void)setenv("MS_SEED", optarg, 1);
            break;
        default:
            (void)fprintf(stderr, "usage: cluster-test [--nodes N] [--seconds N] [--seed N]\n");
            return 2;
        }
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    seed = test_seed("cluster test");
    good = run(nodes, seconds, seed);
    (void)printf("cluster test of %u nodes: %s\n", nodes, good ? "passed" : "FAILED");
    return good ? 0 : 1;
}

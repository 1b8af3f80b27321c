/*
 * cluster_state: asks the admin sockets who leads, and the API for keys. There is nothing to wait
 * for in either: asking again is all there is.
 */
#include "tests/support/cluster_state.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "tests/support/admin.h"
#include "tests/support/check.h"
#include "tests/support/http.h"

enum {
    PATIENCE_MS = 30000,
    PAGE_KEYS = 1000,
    PAGE_TIMEOUT_MS = 5000,
    KEY_BYTES_MAX = 128
};

#define PAUSE_NS (5 * 1000 * 1000)

static void pause_briefly(const struct cluster *cluster)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};

    cluster_hear(cluster);
    (void)nanosleep(&pause, NULL);
}

static bool runs(const struct cluster *cluster, size_t at)
{
    return cluster->nodes[at].node.pid != 0;
}

/* ---- leaders --------------------------------------------------------------------------------- */

size_t cluster_state_leader(const struct cluster *cluster, size_t at)
{
    const uint64_t id = admin_status_number(&cluster->nodes[at].node, "leader");

    for (size_t i = 0; i < cluster->node_count; i++) {
        if (cluster->nodes[i].id == id) {
            return i;
        }
    }
    return CLUSTER_NODES_MAX;
}

/* The leader that all running nodes know, or CLUSTER_NODES_MAX. */
static size_t common_leader(const struct cluster *cluster)
{
    size_t leader = CLUSTER_NODES_MAX;

    for (size_t i = 0; i < cluster->node_count; i++) {
        size_t known;

        if (!runs(cluster, i)) {
            continue;
        }
        known = cluster_state_leader(cluster, i);
        if (known == CLUSTER_NODES_MAX || (leader != CLUSTER_NODES_MAX && known != leader)) {
            return CLUSTER_NODES_MAX;
        }
        leader = known;
    }
    return leader;
}

size_t cluster_state_wait_leader(const struct cluster *cluster)
{
    const struct ms_instant since = ms_clock_now();
    size_t leader;

    while ((leader = common_leader(cluster)) == CLUSTER_NODES_MAX) {
        check_that(ms_clock_elapsed_ms(since, ms_clock_now()) < PATIENCE_MS,
                   "the nodes do not come to know one leader");
        pause_briefly(cluster);
    }
    return leader;
}

void cluster_state_wait_follower(const struct cluster *cluster, size_t at, unsigned timeout_ms)
{
    const struct ms_instant since = ms_clock_now();

    while (cluster_state_leader(cluster, at) == at) {
        check_that(ms_clock_elapsed_ms(since, ms_clock_now()) < timeout_ms,
                   "node %zu still leads after %u ms", at + 1, timeout_ms);
        pause_briefly(cluster);
    }
}

size_t cluster_state_wait_other_leader(const struct cluster *cluster, size_t at, size_t old_leader,
                                       unsigned timeout_ms)
{
    const struct ms_instant since = ms_clock_now();

    for (;;) {
        const size_t leader = cluster_state_leader(cluster, at);

        if (leader != old_leader && leader != CLUSTER_NODES_MAX) {
            return leader;
        }
        check_that(ms_clock_elapsed_ms(since, ms_clock_now()) < timeout_ms,
                   "node %zu knows no leader but node %zu within %u ms", at + 1, old_leader + 1,
                   timeout_ms);
        pause_briefly(cluster);
    }
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* One page behind the key in after, which becomes the page's last; false if it is not answered. */
static bool add_page(struct http_client *client, const char *prefix, char after[KEY_BYTES_MAX],
                     FILE *dst, bool *more)
{
    struct http_response answer = {0};
    char path[512];
    const struct http_request request = {.path = path, .timeout_ms = PAGE_TIMEOUT_MS};
    json_t *page = NULL;
    size_t rows;

    (void)snprintf(path, sizeof(path), "%s?prefix=true&consistency=serializable&limit=%d%s%s",
                   prefix, PAGE_KEYS, after[0] != '\0' ? "&after=" : "", after);
    if (http_send(client, &request, &answer) == 200) {
        page = json_loads(answer.body, 0, NULL);
    }
    rows = json_array_size(page);
    *more = rows > 0 && http_header(&answer, "x-metastore-more") != NULL;
    if (rows > 0) {
        const json_t *last = json_object_get(json_array_get(page, rows - 1), "key");

        (void)snprintf(after, KEY_BYTES_MAX, "%s", json_string_value(last));
    }
    if (page != NULL) {
        (void)fputs(answer.body, dst);
    }
    http_response_fini(&answer);
    json_decref(page);
    return page != NULL;
}

char *cluster_state_read(const struct cluster *cluster, size_t at, const char *prefix)
{
    struct http_client *client = http_client_create(cluster->nodes[at].node.url);
    const struct ms_instant since = ms_clock_now();
    char after[KEY_BYTES_MAX] = "";
    char *state = NULL;
    size_t state_bytes = 0;
    FILE *stream = open_memstream(&state, &state_bytes);
    bool more = true;

    check_that(stream != NULL, "no memory for the keys of a node");
    while (more) {
        if (!add_page(client, prefix, after, stream, &more)) {
            check_that(ms_clock_elapsed_ms(since, ms_clock_now()) < PATIENCE_MS,
                       "node %zu does not list its keys", at + 1);
            pause_briefly(cluster);
            more = true;
        }
    }
    (void)fclose(stream);
    http_client_destroy(client);
    return state;
}

/* The state that all running nodes hold, or NULL. */
static char *common_state(const struct cluster *cluster, const char *prefix)
{
    char *first = NULL;

    for (size_t i = 0; i < cluster->node_count; i++) {
        char *state;
        bool same;

        if (!runs(cluster, i)) {
            continue;
        }
        state = cluster_state_read(cluster, i, prefix);
        same = first == NULL || strcmp(first, state) == 0;
        if (first == NULL) {
            first = state;
        } else {
            free(state);
        }
        if (!same) {
            free(first);
            return NULL;
        }
    }
    return first;
}

char *cluster_state_wait_equal(const struct cluster *cluster, const char *prefix)
{
    const struct ms_instant since = ms_clock_now();
    char *state;

    while ((state = common_state(cluster, prefix)) == NULL) {
        check_that(ms_clock_elapsed_ms(since, ms_clock_now()) < PATIENCE_MS,
                   "the nodes do not come to hold the same");
        pause_briefly(cluster);
    }
    return state;
}

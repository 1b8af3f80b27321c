/*
 * cluster_members: POST and DELETE of members.
 */
#include "tests/crash/cluster_members.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "tests/crash/connection.h"
#include "tests/support/check.h"

enum {
    PATIENCE_MS = 30000,
    PAUSE_NS = 100 * 1000 * 1000 /* a change that is under way makes the next one wait */
};

/* One request to one node. Returns the status. */
static int ask(const struct cluster_clients *clients, size_t at, const char *method,
               const char *path, const char *body, char *text, size_t text_bytes)
{
    struct connection connection;
    struct reply reply;

    connection_init_at(&connection, &clients->cluster->nodes[at].api, CLUSTER_CLIENT_DEADLINE_MS);
    connection_send(&connection, method, path, "", body, &reply);
    (void)snprintf(text, text_bytes, "%.200s", reply.body != NULL ? reply.body : "no answer");
    connection_fini(&connection);
    return reply.status;
}

/*
 * Asks one after the other until it is done. After an answer that did not come it may have been
 * done before: then the next one refuses with this status and these words.
 */
static void change(const struct cluster_clients *clients, size_t position, const char *method,
                   const char *body, int refusal_status, const char *refusal_words)
{
    const struct cluster *cluster = clients->cluster;
    const struct ms_instant end = ms_clock_add_ms(ms_clock_now(), PATIENCE_MS);
    char path[32];
    char text[256] = "nobody was asked";
    int status = 0;

    (void)snprintf(path, sizeof(path), "/%" PRIu64, cluster->nodes[position].id);
    while (ms_clock_now().ns < end.ns) {
        const struct timespec pause = {.tv_nsec = PAUSE_NS};

        cluster_hear(cluster);
        for (size_t at = 0; at < cluster->node_count; at++) {
            if (at == position || !atomic_load(&clients->serves[at])) {
                continue;
            }
            status = ask(clients, at, method, path, body, text, sizeof(text));
            if (status == 204 ||
                (status == refusal_status && strstr(text, refusal_words) != NULL)) {
                return;
            }
        }
        (void)nanosleep(&pause, NULL);
    }
    check_fail("%s %s: status %d: %s", method, path, status, text);
}

void cluster_members_add(const struct cluster_clients *clients, size_t position)
{
    change(clients, position, "POST", clients->cluster->nodes[position].peer_url, 409,
           "exists already");
}

void cluster_members_remove(const struct cluster_clients *clients, size_t position)
{
    change(clients, position, "DELETE", "", 404, "there is no member");
}

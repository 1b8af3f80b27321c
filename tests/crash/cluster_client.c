/*
 * cluster_client: a thread that asks and keeps what it is told.
 */
#include "tests/crash/cluster_client.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/seed.h"
#include "tests/support/check.h"

enum {
    PATIENCE_NS = 5 * 1000 * 1000, /* before the next try when a node took no request at all */
    WANDER_PERCENT = 1,
    VALUE_SHIFT = 40 /* values are a client's number above its count: each is written once */
};

/* What a thread knows beside its history. */
struct session {
    struct cluster_client *client;
    struct connection connection;
    size_t position;
    uint64_t generation;
    uint64_t revisions[CLUSTER_CLIENT_KEYS]; /* last seen, of this generation; 0: none */
    uint64_t writes;
};

void cluster_client_path(uint64_t key, char *dst, size_t dst_bytes)
{
    (void)snprintf(dst, dst_bytes, "/lin/%" PRIu64, key);
}

static void go_to(struct session *session, size_t position)
{
    const struct cluster *cluster = session->client->shared->cluster;

    connection_fini(&session->connection);
    session->position = position;
    connection_init_at(&session->connection, &cluster->nodes[position].api,
                       CLUSTER_CLIENT_DEADLINE_MS);
}

/* Any node that serves; the same again if there is no other. */
static void go_elsewhere(struct session *session)
{
    struct cluster_client *client = session->client;
    size_t nodes = client->shared->cluster->node_count;
    size_t first = (size_t)test_random_below(&client->random, nodes);

    for (size_t i = 0; i < nodes; i++) {
        size_t position = (first + i) % nodes;

        if (atomic_load(&client->shared->serves[position])) {
            go_to(session, position);
            return;
        }
    }
}

static struct history_request draw_request(struct session *session)
{
    uint64_t *random = &session->client->random;
    uint64_t dice = test_random_below(random, 100);
    uint64_t which = test_random_below(random, CLUSTER_CLIENT_KEYS);
    struct history_request request = {
        .kind = LIN_PUT,
        .key = session->generation * CLUSTER_CLIENT_KEYS + which,
        .client = session->client->number,
        .node = session->position + 1,
    };

    if (dice < 45) {
        request.kind = LIN_GET;
    } else if (dice < 52) {
        request.kind = LIN_DELETE;
    }
    if (request.kind != LIN_GET && dice % 3 == 0) {
        request.condition = LIN_IF_REVISION;
        request.expected = session->revisions[which];
        if (request.expected == 0) {
            request.condition = dice % 2 == 0 ? LIN_IF_ABSENT : LIN_IF_PRESENT;
        }
    }
    if (request.kind == LIN_PUT) {
        request.value = (uint64_t)(session->client->number + 1) << VALUE_SHIFT | ++session->writes;
    }
    return request;
}

static void note_answer(struct session *session, const struct history_request *request,
                        const struct reply *reply)
{
    struct cluster_clients *shared = session->client->shared;
    uint64_t which = request->key % CLUSTER_CLIENT_KEYS;
    bool understood = reply->status == 200 || reply->status == 204 || reply->status == 404 ||
                      reply->status == 412;

    if (understood) {
        if (request->kind != LIN_GET) {
            atomic_fetch_add(&shared->answered, 1);
        }
        session->revisions[which] = reply->revision;
        return;
    }
    atomic_fetch_add(&shared->unanswered, 1);
    if (reply->sent_ns == 0) {
        const struct timespec patience = {.tv_nsec = PATIENCE_NS};

        (void)nanosleep(&patience, NULL);
    }
    go_elsewhere(session);
}

static void *run(void *ctx)
{
    struct cluster_client *client = ctx;
    struct cluster_clients *shared = client->shared;
    struct session session = {.client = client};

    connection_init_at(&session.connection, &shared->cluster->nodes[0].api,
                       CLUSTER_CLIENT_DEADLINE_MS);
    go_elsewhere(&session);
    while (!atomic_load(&shared->stopping)) {
        uint64_t generation = atomic_load(&shared->generation);
        struct history_request request;
        struct reply reply;
        char path[64];

        if (session.generation != generation) {
            session.generation = generation;
            memset(session.revisions, 0, sizeof(session.revisions));
        }
        request = draw_request(&session);
        cluster_client_path(request.key, path, sizeof(path));
        (void)history_ask(&client->history, &session.connection, path, &request, &reply);
        note_answer(&session, &request, &reply);
        if (test_random_below(&client->random, 100) < WANDER_PERCENT) {
            go_elsewhere(&session);
        }
    }
    connection_fini(&session.connection);
    return NULL;
}

void cluster_client_start(struct cluster_client *client, struct cluster_clients *shared,
                          unsigned number, uint64_t seed)
{
    client->shared = shared;
    client->number = number;
    client->random = seed;
    history_init(&client->history);
    check_that(pthread_create(&client->thread, NULL, run, client) == 0, "start a client");
}

void cluster_client_join(struct cluster_client *client)
{
    (void)pthread_join(client->thread, NULL);
}

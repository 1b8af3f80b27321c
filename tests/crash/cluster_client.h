/*
 * cluster_client: one client of the cluster test, in a thread of its own.
 *
 * It asks one thing after the other, of one node until it gets no answer there or feels like
 * another one. Keys are few, so that clients meet, and are replaced after a while, so that their
 * histories stay short.
 */
#ifndef METASTORE_TESTS_CRASH_CLUSTER_CLIENT_H
#define METASTORE_TESTS_CRASH_CLUSTER_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/crash/history.h"
#include "tests/support/cluster.h"

enum {
    CLUSTER_CLIENT_KEYS = 12,         /* at a time */
    CLUSTER_CLIENT_DEADLINE_MS = 4000 /* longer than a request's own deadline */
};

/* What all clients share with whoever runs them. */
struct cluster_clients {
    const struct cluster *cluster;
    _Atomic bool stopping;
    _Atomic uint64_t generation;            /* of the keys in use */
    _Atomic bool serves[CLUSTER_NODES_MAX]; /* worth asking */
    _Atomic uint64_t answered;              /* writes, by all */
    _Atomic uint64_t unanswered;
};

struct cluster_client {
    pthread_t thread;
    struct cluster_clients *shared;
    unsigned number;
    uint64_t random;
    struct history history;
};

/* The path of a key; keys are counted through all generations. */
void cluster_client_path(uint64_t key, char *dst, size_t dst_bytes);

void cluster_client_start(struct cluster_client *client, struct cluster_clients *shared,
                          unsigned number, uint64_t seed);
/* After stopping is set; the history stays. */
void cluster_client_join(struct cluster_client *client);

#endif

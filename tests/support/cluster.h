/*
 * cluster: several real nodes as one cluster, on networks that can be cut if the machine allows.
 *
 * Nodes have positions from 0 on; the id of a node is its position plus one and is never used again
 * for another. All functions fail the test when something does not happen that must.
 */
#ifndef METASTORE_TESTS_SUPPORT_CLUSTER_H
#define METASTORE_TESTS_SUPPORT_CLUSTER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/support/cluster_network.h"
#include "tests/support/node.h"

enum {
    CLUSTER_NODES_MAX = CLUSTER_NETWORK_MAX,
    CLUSTER_WORKERS_MAX = 8,
    CLUSTER_URL_BYTES = 64
};

struct cluster_node {
    struct node node; /* pid 0: it does not run */
    uint64_t id;
    struct sockaddr_in api;
    char api_host[CLUSTER_ADDRESS_BYTES];
    char peer_url[CLUSTER_URL_BYTES];
    bool prepared; /* node_init was called */
    bool founder;  /* in --cluster from the start; others are started with --join */
    bool cut;      /* from its peers */
    bool parted;   /* from others that are */
};

struct cluster {
    size_t node_count; /* positions that may be used */
    size_t founders;
    struct cluster_node nodes[CLUSTER_NODES_MAX];
    struct cluster_network network; /* home_fd -1: all on 127.0.0.1, and nothing can be cut */
    char key_path[192];
    const char *const *arguments; /* for every node, NULL-terminated; the caller's */
};

/*
 * Prepares founders and room for others; starts nothing. Says on standard output if there are no
 * networks to cut, and why.
 */
void cluster_init(struct cluster *cluster, size_t founders, size_t node_count,
                  const char *const *arguments);

/* Ends and removes everything. Logs of all nodes are printed unless passed. */
void cluster_fini(struct cluster *cluster, bool passed);

bool cluster_can_cut(const struct cluster *cluster);

/* Starts a node that does not run; it is ready when cluster_wait_ready returns. */
void cluster_spawn(struct cluster *cluster, size_t position);
void cluster_wait_ready(struct cluster *cluster, size_t position);

/*
 * Takes what all nodes have told their service manager out of their sockets. To be called now and
 * then while nobody waits for it: a node whose words are not heard waits for a moment each time.
 */
void cluster_hear(const struct cluster *cluster);

/* kill -9 of everything a running node consists of; with power_cut its memory is lost, too. */
void cluster_kill(struct cluster *cluster, size_t position, bool power_cut);

/* The pid of a running node's worker ("raftd" ...); 0 while there is none. */
pid_t cluster_worker(const struct cluster *cluster, size_t position, const char *name);

/* Sends a signal to a worker; false if there is none now. */
bool cluster_signal_worker(const struct cluster *cluster, size_t position, const char *name,
                           int signal_number);
/* Sends a signal to all processes of a node. */
void cluster_signal_all(const struct cluster *cluster, size_t position, int signal_number);

void cluster_cut(struct cluster *cluster, size_t position, bool cut);
void cluster_part(struct cluster *cluster, size_t position, bool parted);

#endif

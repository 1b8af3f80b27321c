/*
 * cluster_network: a network of its own for each node of a test's cluster, that can be cut.
 *
 * Every node lives in a network namespace with two links: one to a bridge that all nodes are at,
 * for peers, and one to the test, for clients. So a node can lose its peers while clients still
 * reach it, which is where a stale answer would come from. Needs root and the ip command; who has
 * not got them has to do without.
 */
#ifndef METASTORE_TESTS_SUPPORT_CLUSTER_NETWORK_H
#define METASTORE_TESTS_SUPPORT_CLUSTER_NETWORK_H

#include <stdbool.h>
#include <stddef.h>

enum {
    CLUSTER_NETWORK_MAX = 12,
    CLUSTER_ADDRESS_BYTES = 16
};

struct cluster_network {
    size_t count;
    int home_fd;                      /* the namespace of the test, or -1: there is no network */
    int node_fd[CLUSTER_NETWORK_MAX]; /* by position */
};

/*
 * Moves the calling thread (the only one so far) into a namespace of its own and builds one for
 * each node. False, with nothing changed but that move, and *reason set, if this machine does not
 * let us.
 */
bool cluster_network_create(struct cluster_network *network, size_t count, const char **reason);
void cluster_network_destroy(struct cluster_network *network);

/* Where peers and clients find the node at a position. */
void cluster_network_peer_address(size_t position, char dst[CLUSTER_ADDRESS_BYTES]);
void cluster_network_client_address(size_t position, char dst[CLUSTER_ADDRESS_BYTES]);

/* What the calling thread starts from now on lives in the node's network; leave ends that. */
void cluster_network_enter(const struct cluster_network *network, size_t position);
void cluster_network_leave(const struct cluster_network *network);

/* Takes a node's link to its peers away, or gives it back. Packets vanish; nobody is told. */
void cluster_network_cut(const struct cluster_network *network, size_t position, bool cut);

/* The same in one direction: what from sends to to vanishes, while to is still heard by from. */
void cluster_network_cut_way(const struct cluster_network *network, size_t from, size_t to,
                             bool cut);

/* Among the nodes that are parted nobody hears the other; everybody else is heard by all. */
void cluster_network_part(const struct cluster_network *network, size_t position, bool parted);

#endif

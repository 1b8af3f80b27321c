/*
 * cluster_state: what the nodes of a cluster say about themselves and hold.
 */
#ifndef METASTORE_TESTS_SUPPORT_CLUSTER_STATE_H
#define METASTORE_TESTS_SUPPORT_CLUSTER_STATE_H

#include <stddef.h>

#include "tests/support/cluster.h"

/* The position of the leader as a running node knows it, or CLUSTER_NODES_MAX if it knows none. */
size_t cluster_state_leader(const struct cluster *cluster, size_t at);

/* Waits until all running nodes know the same leader; returns its position. */
size_t cluster_state_wait_leader(const struct cluster *cluster);

/* Waits until a node does not think any more that it leads. Fails the test at the deadline. */
void cluster_state_wait_follower(const struct cluster *cluster, size_t at, unsigned timeout_ms);

/*
 * Waits until a node knows another leader than this one; returns who it is. Fails the test at the
 * deadline.
 */
size_t cluster_state_wait_other_leader(const struct cluster *cluster, size_t at, size_t old_leader,
                                       unsigned timeout_ms);

/* All keys below a prefix with values and revisions as this node holds them now, as one text. */
char *cluster_state_read(const struct cluster *cluster, size_t at, const char *prefix);

/* Waits until all running nodes hold the same; returns it. free() it. */
char *cluster_state_wait_equal(const struct cluster *cluster, const char *prefix);

#endif

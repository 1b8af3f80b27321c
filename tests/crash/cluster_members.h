/*
 * cluster_members: adding members to a running cluster and taking them out, through the API.
 */
#ifndef METASTORE_TESTS_CRASH_CLUSTER_MEMBERS_H
#define METASTORE_TESTS_CRASH_CLUSTER_MEMBERS_H

#include <stddef.h>

#include "tests/crash/cluster_client.h"
#include "tests/support/cluster.h"

/*
 * Asks one serving node after the other until one says that the change is made, or was made before.
 * Fails the test if none does within a while.
 */
void cluster_members_add(const struct cluster_clients *clients, size_t position);
void cluster_members_remove(const struct cluster_clients *clients, size_t position);

#endif

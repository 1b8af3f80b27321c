/*
 * cluster_faults: what goes wrong in the cluster test, and when.
 *
 * Faults come at random instants. Those that take a node out of action last a while, and never so
 * many of them at once that the rest is no majority, so that there is always something to be
 * answered. A worker's death takes nobody out of action and may come on top.
 */
#ifndef METASTORE_TESTS_CRASH_CLUSTER_FAULTS_H
#define METASTORE_TESTS_CRASH_CLUSTER_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"
#include "tests/crash/cluster_client.h"
#include "tests/support/cluster.h"

enum fault_kind {
    FAULT_NONE,
    FAULT_KILL_RAFTD, /* these pass by themselves */
    FAULT_KILL_STORAGED,
    FAULT_KILL_APID,
    FAULT_KILL_NODE, /* these are ended */
    FAULT_CUT_POWER,
    FAULT_STOP_NODE,
    FAULT_STOP_RAFTD,
    FAULT_STOP_STORAGED,
    FAULT_CUT_LINK,
    FAULT_PART_PAIR,
    FAULT_KINDS,
};

struct node_state {
    bool member;
    bool leaving;           /* its removal was asked for */
    enum fault_kind fault;  /* that it suffers from */
    struct ms_instant ends; /* with a fault */
};

struct faults {
    struct cluster *cluster;
    struct cluster_clients *clients;
    uint64_t random;
    struct node_state nodes[CLUSTER_NODES_MAX];
    uint64_t counts[FAULT_KINDS];
    uint64_t blackouts; /* power cuts of all nodes */
    uint64_t added;
    uint64_t removed;
};

/* All founders run already. */
void faults_init(struct faults *faults, struct cluster *cluster, struct cluster_clients *clients,
                 uint64_t seed);

/*
 * Lets things go wrong for so long. Adds and removes members in between, and once takes the power
 * from all.
 */
void faults_run(struct faults *faults, uint64_t duration_ms);

/* Ends whatever is wrong; all members run when it returns, though they may not serve yet. */
void faults_heal(struct faults *faults);

void faults_print(const struct faults *faults);

#endif

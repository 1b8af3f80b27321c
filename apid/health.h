/*
 * health: what the pages for load balancers and orchestrators say. Pure: state in, answer out.
 */
#ifndef METASTORE_APID_HEALTH_H
#define METASTORE_APID_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "apid/answer.h"
#include "common/types.h"

/* Applied may trail commit by this much on a node that calls itself caught up. */
#define HEALTH_LAG_MAX 1000

struct health_state {
    bool has_leader;
    bool log_full;
    bool memory_full;
    bool store_open;
    bool draining;
    raft_index commit;
    raft_index applied;        /* meaningful while store_open */
    uint64_t raftd_gone_ms;    /* for how long raftd has not been there; 0: it is */
    uint64_t storaged_gone_ms; /* the same of storaged */
    uint64_t gone_limit_ms;    /* longer than this is no longer a restart */
};

/* /health, in etcd's form: 503 without a leader, or while something is full. */
struct answer health_answer(const struct health_state *state);

/* /livez: do the node's processes make progress? Leaderless or full is still alive. */
struct answer livez_answer(const struct health_state *state);

/* /readyz: can the node commit, and is it caught up? */
struct answer readyz_answer(const struct health_state *state);

#endif

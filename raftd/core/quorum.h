/*
 * quorum: what a majority, or two of them, have agreed on (Raft 5.3, thesis 4.3).
 */
#ifndef METASTORE_RAFTD_CORE_QUORUM_H
#define METASTORE_RAFTD_CORE_QUORUM_H

#include "raftd/core/raft.h"

enum quorum_vote {
    QUORUM_VOTE_NONE,
    QUORUM_VOTE_YES,
    QUORUM_VOTE_NO,
};

enum quorum_result {
    QUORUM_PENDING,
    QUORUM_WON,
    QUORUM_LOST,
};

/* What one voter has acknowledged; 0 if nothing is known. */
typedef raft_index (*quorum_acked_fn)(const void *ctx, node_id id);
typedef enum quorum_vote (*quorum_vote_fn)(const void *ctx, node_id id);

/* The largest index acknowledged by a majority; UINT64_MAX for no voters at all. */
raft_index quorum_committed(const struct raft_ids *voters, quorum_acked_fn acked, const void *ctx);
/* The same for both halves of a joint configuration; an empty half does not count. */
raft_index quorum_joint_committed(const struct raft_ids *incoming, const struct raft_ids *outgoing,
                                  quorum_acked_fn acked, const void *ctx);

/* The state of an election; one without voters is won. */
enum quorum_result quorum_tally(const struct raft_ids *voters, quorum_vote_fn vote,
                                const void *ctx);
enum quorum_result quorum_joint_tally(const struct raft_ids *incoming,
                                      const struct raft_ids *outgoing, quorum_vote_fn vote,
                                      const void *ctx);

#endif

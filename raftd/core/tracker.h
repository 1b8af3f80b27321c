/*
 * tracker: the members of the configuration and the progress of each.
 */
#ifndef METASTORE_RAFTD_CORE_TRACKER_H
#define METASTORE_RAFTD_CORE_TRACKER_H

#include "raftd/core/progress.h"
#include "raftd/core/quorum.h"
#include "raftd/core/raft.h"

/*
 * Invariants: peers are ascending by id and exactly the union of voters, voters_outgoing and
 * learners; the lists of conf are ascending. No pointer to a peer survives a change of
 * configuration.
 */
struct tracker {
    struct raft_conf_state conf;
    size_t count;
    struct progress peers[RAFT_MEMBERS_MAX];
    size_t max_inflight_messages;
    uint64_t max_inflight_bytes;
};

bool core_ids_contain(const struct raft_ids *ids, node_id id);
/* Keeps the list ascending; MS_EFULL beyond RAFT_MEMBERS_MAX; adding twice does nothing. */
int core_ids_add(struct raft_ids *ids, node_id id);
void core_ids_remove(struct raft_ids *ids, node_id id);
/* The union of both, ascending; MS_EFULL if that is too many. */
int core_ids_union(const struct raft_ids *a, const struct raft_ids *b, struct raft_ids *out);

/* NULL if it is no member. */
struct progress *tracker_find(struct tracker *tracker, node_id id);
const struct progress *tracker_get(const struct tracker *tracker, node_id id);

/* Voters of both halves, ascending. */
void tracker_voters(const struct tracker *tracker, struct raft_ids *out);
bool tracker_is_voter(const struct tracker *tracker, node_id id);
/* Whether the configuration is this one voter alone. */
bool tracker_singleton(const struct tracker *tracker);
/* The largest index that a quorum has matched; UINT64_MAX without voters. */
raft_index tracker_committed(const struct tracker *tracker);
/* The largest read round that a quorum has confirmed. */
uint64_t tracker_reads_confirmed(const struct tracker *tracker);
bool tracker_quorum_active(const struct tracker *tracker);

void tracker_reset_votes(struct tracker *tracker);
/* The first answer of a voter counts. */
void tracker_record_vote(struct tracker *tracker, node_id id, bool granted);
enum quorum_result tracker_tally(const struct tracker *tracker, size_t *granted, size_t *rejected);

/* Gives back the windows of all peers. */
void tracker_fini(const struct raft_alloc *alloc, struct tracker *tracker);

#endif

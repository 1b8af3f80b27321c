/*
 * status: a node as seen from outside.
 */
#include <string.h>

#include "raftd/core/core.h"

const char *raft_state_name(enum raft_state state)
{
    switch (state) {
    case RAFT_STATE_FOLLOWER:
        return "StateFollower";
    case RAFT_STATE_CANDIDATE:
        return "StateCandidate";
    case RAFT_STATE_LEADER:
        return "StateLeader";
    case RAFT_STATE_PRE_CANDIDATE:
        return "StatePreCandidate";
    }
    return "unknown";
}

void raft_basic_status(const struct raft *raft, struct raft_basic_status *out)
{
    *out = (struct raft_basic_status){
        .id = raft->id,
        .state = raft->state,
        .lead = raft->lead,
        .lead_transferee = raft->lead_transferee,
        .term = raft->term,
        .vote = raft->vote,
        .commit = raft->log.committed,
        .applied = raft->log.applied,
        .last_index = raftlog_last_index(&raft->log),
        .pending_conf_index = raft->pending_conf_index,
        .is_voter = tracker_is_voter(&raft->tracker, raft->id),
        .is_learner = raft->is_learner,
    };
    out->sole_voter = out->is_voter && tracker_singleton(&raft->tracker);
    out->term_committed = raft->state == RAFT_STATE_LEADER &&
                          raftlog_term_or_zero(&raft->log, raft->log.committed) == raft->term;
}

void raft_status(const struct raft *raft, struct raft_status *out)
{
    memset(out, 0, sizeof(*out));
    raft_basic_status(raft, &out->basic);
    out->conf = raft->tracker.conf;
    if (raft->state != RAFT_STATE_LEADER) {
        return;
    }
    for (size_t i = 0; i < raft->tracker.count; i++) {
        const struct progress *progress = &raft->tracker.peers[i];

        out->progress[out->progress_count++] = (struct raft_progress_status){
            .id = progress->id,
            .state = progress->state,
            .match = progress->match,
            .next = progress->next,
            .pending_snapshot = progress->pending_snapshot,
            .inflight_messages = progress->inflights.count,
            .inflight_full = inflights_full(&progress->inflights),
            .is_learner = progress->is_learner,
            .paused = progress_paused(progress),
            .recent_active = progress->recent_active,
        };
    }
}

uint32_t raft_election_timeout(const struct raft *raft)
{
    return raft->election_timeout;
}

void raft_set_election_timeout(struct raft *raft, uint32_t ticks)
{
    raft->election_timeout = ticks;
}

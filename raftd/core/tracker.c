/*
 * tracker: see tracker.h.
 */
#include "raftd/core/tracker.h"

#include <string.h>

/* ---- sets of ids ---- */

/* Where id is, or where it would have to be inserted. */
static size_t ids_position(const struct raft_ids *ids, node_id id)
{
    size_t at = 0;

    while (at < ids->count && ids->ids[at] < id) {
        at++;
    }
    return at;
}

bool core_ids_contain(const struct raft_ids *ids, node_id id)
{
    /* Not by position: lists from outside come in any order. */
    for (size_t i = 0; i < ids->count; i++) {
        if (ids->ids[i] == id) {
            return true;
        }
    }
    return false;
}

int core_ids_add(struct raft_ids *ids, node_id id)
{
    size_t at = ids_position(ids, id);

    if (at < ids->count && ids->ids[at] == id) {
        return MS_OK;
    }
    if (ids->count == RAFT_MEMBERS_MAX) {
        return MS_EFULL;
    }
    memmove(&ids->ids[at + 1], &ids->ids[at], (ids->count - at) * sizeof(ids->ids[0]));
    ids->ids[at] = id;
    ids->count++;
    return MS_OK;
}

void core_ids_remove(struct raft_ids *ids, node_id id)
{
    size_t at = ids_position(ids, id);

    if (at < ids->count && ids->ids[at] == id) {
        memmove(&ids->ids[at], &ids->ids[at + 1], (ids->count - at - 1) * sizeof(ids->ids[0]));
        ids->count--;
    }
}

int core_ids_union(const struct raft_ids *a, const struct raft_ids *b, struct raft_ids *out)
{
    struct raft_ids all = *a;

    for (size_t i = 0; i < b->count; i++) {
        int rc = core_ids_add(&all, b->ids[i]);

        if (rc != MS_OK) {
            return rc;
        }
    }
    *out = all;
    return MS_OK;
}

/* ---- members ---- */

const struct progress *tracker_get(const struct tracker *tracker, node_id id)
{
    for (size_t i = 0; i < tracker->count; i++) {
        if (tracker->peers[i].id == id) {
            return &tracker->peers[i];
        }
    }
    return NULL;
}

struct progress *tracker_find(struct tracker *tracker, node_id id)
{
    const struct progress *found = tracker_get(tracker, id);

    return found == NULL ? NULL : &tracker->peers[found - tracker->peers];
}

void tracker_voters(const struct tracker *tracker, struct raft_ids *out)
{
    /* Cannot overflow: both halves are members, and those are bounded. */
    (void)core_ids_union(&tracker->conf.voters, &tracker->conf.voters_outgoing, out);
}

bool tracker_is_voter(const struct tracker *tracker, node_id id)
{
    return core_ids_contain(&tracker->conf.voters, id) ||
           core_ids_contain(&tracker->conf.voters_outgoing, id);
}

bool tracker_singleton(const struct tracker *tracker)
{
    return tracker->conf.voters.count == 1 && tracker->conf.voters_outgoing.count == 0;
}

static raft_index match_of(const void *ctx, node_id id)
{
    const struct progress *progress = tracker_get(ctx, id);

    return progress == NULL ? 0 : progress->match;
}

raft_index tracker_committed(const struct tracker *tracker)
{
    return quorum_joint_committed(&tracker->conf.voters, &tracker->conf.voters_outgoing, match_of,
                                  tracker);
}

static uint64_t read_acked_of(const void *ctx, node_id id)
{
    const struct progress *progress = tracker_get(ctx, id);

    return progress == NULL ? 0 : progress->read_acked;
}

uint64_t tracker_reads_confirmed(const struct tracker *tracker)
{
    return quorum_joint_committed(&tracker->conf.voters, &tracker->conf.voters_outgoing,
                                  read_acked_of, tracker);
}

static enum quorum_vote active_of(const void *ctx, node_id id)
{
    const struct progress *progress = tracker_get(ctx, id);

    if (progress == NULL || progress->is_learner) {
        return QUORUM_VOTE_NONE;
    }
    return progress->recent_active ? QUORUM_VOTE_YES : QUORUM_VOTE_NO;
}

bool tracker_quorum_active(const struct tracker *tracker)
{
    return quorum_joint_tally(&tracker->conf.voters, &tracker->conf.voters_outgoing, active_of,
                              tracker) == QUORUM_WON;
}

/* ---- votes ---- */

void tracker_reset_votes(struct tracker *tracker)
{
    for (size_t i = 0; i < tracker->count; i++) {
        tracker->peers[i].vote = QUORUM_VOTE_NONE;
    }
}

void tracker_record_vote(struct tracker *tracker, node_id id, bool granted)
{
    struct progress *progress = tracker_find(tracker, id);

    if (progress != NULL && progress->vote == QUORUM_VOTE_NONE) {
        progress->vote = granted ? QUORUM_VOTE_YES : QUORUM_VOTE_NO;
    }
}

static enum quorum_vote vote_of(const void *ctx, node_id id)
{
    const struct progress *progress = tracker_get(ctx, id);

    return progress == NULL ? QUORUM_VOTE_NONE : progress->vote;
}

enum quorum_result tracker_tally(const struct tracker *tracker, size_t *granted, size_t *rejected)
{
    *granted = 0;
    *rejected = 0;
    for (size_t i = 0; i < tracker->count; i++) {
        const struct progress *progress = &tracker->peers[i];

        if (!progress->is_learner) {
            *granted += progress->vote == QUORUM_VOTE_YES;
            *rejected += progress->vote == QUORUM_VOTE_NO;
        }
    }
    return quorum_joint_tally(&tracker->conf.voters, &tracker->conf.voters_outgoing, vote_of,
                              tracker);
}

void tracker_fini(const struct raft_alloc *alloc, struct tracker *tracker)
{
    for (size_t i = 0; i < tracker->count; i++) {
        inflights_fini(alloc, &tracker->peers[i].inflights);
    }
    tracker->count = 0;
}

/*
 * progress: how far one member's log is known to agree with the leader's, and how much may be
 * sent to it now (thesis 10.2.1).
 */
#ifndef METASTORE_RAFTD_CORE_PROGRESS_H
#define METASTORE_RAFTD_CORE_PROGRESS_H

#include "raftd/core/quorum.h"
#include "raftd/core/raft.h"
#include "raftd/core/text.h"

#define PROGRESS_TEXT_MAX 192 /* bytes that progress_text() may need */

/* One MsgApp that was sent and not yet acknowledged. */
struct inflight {
    raft_index index; /* of its last entry */
    uint64_t bytes;   /* of its payload */
};

/* The window of such messages, oldest first, in a ring that grows on demand. */
struct inflights {
    struct inflight *ring; /* NULL while capacity is 0 */
    size_t capacity;
    size_t start;
    size_t count;
    uint64_t bytes;
    size_t max_count;
    uint64_t max_bytes; /* 0: no limit; the message that reaches it still goes */
};

/* Room for extra more messages, as far as max_count allows. MS_ENOMEM if refused. */
int inflights_reserve(const struct raft_alloc *alloc, struct inflights *inflights, size_t extra);
void inflights_fini(const struct raft_alloc *alloc, struct inflights *inflights);
bool inflights_full(const struct inflights *inflights);
/* There must be room, and the window must not be full. */
void inflights_add(struct inflights *inflights, raft_index index, uint64_t bytes);
/* Forgets the messages whose last entry is at or before index. */
void inflights_free_to(struct inflights *inflights, raft_index index);
void inflights_reset(struct inflights *inflights);

/* Invariants: match < next; in SNAPSHOT next == pending_snapshot + 1. */
struct progress {
    node_id id;
    raft_index match;            /* logs agree up to here */
    raft_index next;             /* next entry to send; those before are matched or in flight */
    raft_index sent_commit;      /* highest commit index it was told, or might have missed */
    raft_index pending_snapshot; /* SNAPSHOT: the index it was sent */
    enum raft_progress_state state;
    bool recent_active; /* heard of since the last quorum check */
    bool flow_paused;   /* until it is heard of again */
    bool is_learner;
    bool fetch_wait; /* entries for it are not in memory; sent when they are */
    enum quorum_vote vote;
    uint64_t read_acked; /* highest read round it has confirmed in this term */
    struct inflights inflights;
};

void progress_become_probe(struct progress *progress);
void progress_become_replicate(struct progress *progress);
void progress_become_snapshot(struct progress *progress, raft_index index);
/* Forgets everything but who it is; next is where to start probing. */
void progress_reset(struct progress *progress, raft_index match, raft_index next);

/* A MsgApp with count entries (payload bytes) from next on was sent. Not in SNAPSHOT. */
void progress_sent(struct progress *progress, size_t count, uint64_t bytes);
/* Whether telling it commit could move its commit index further than what it was told. */
bool progress_can_bump_commit(const struct progress *progress, raft_index commit);
/* It acknowledged index; false if that is old news. */
bool progress_update(struct progress *progress, raft_index index);
/* It rejected a MsgApp at index rejected; false if that is old news. */
bool progress_decrease(struct progress *progress, raft_index rejected, raft_index hint);
bool progress_paused(const struct progress *progress);

/* "StateProbe match=0 next=1 paused inactive" and so on. */
void progress_text(struct text *text, const struct progress *progress);

#endif

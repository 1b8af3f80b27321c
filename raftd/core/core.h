/*
 * core: struct raft and what its parts call of each other. Private to this folder.
 *
 * Reserve, then change: every public function that takes an event first calls core_reserve()
 * for the most that the event can need, so that a refusal leaves everything as it was; what
 * runs after it cannot fail for want of memory. Two things are tried without a reservation,
 * because doing less is as good: joining stable and unstable entries of one message (it gets
 * shorter), and reading entries from storage (the peer is served later).
 */
#ifndef METASTORE_RAFTD_CORE_CORE_H
#define METASTORE_RAFTD_CORE_CORE_H

#include "raftd/core/memory.h"
#include "raftd/core/raft.h"
#include "raftd/core/raftlog.h"
#include "raftd/core/text.h"
#include "raftd/core/tracker.h"

/* A read that waits, at the leader. */
struct read_request {
    struct raft_read_id id;
    node_id from;     /* who asked */
    raft_index index; /* commit index when it was taken; 0: before the term's first commit */
};

/*
 * Reads in the order they came, items[start .. start + count - 1]. Those with an index were
 * given a round: the first waits for round confirmed + 1, and so on. Those without come last.
 */
struct reads {
    struct read_request *items;
    size_t capacity;
    size_t start;
    size_t count;
    size_t pending;     /* without an index */
    uint64_t confirmed; /* rounds that a quorum has confirmed in this term */
};

struct raft {
    struct raft_options options;
    struct logger logger;
    node_id id;

    raft_term term;
    node_id vote;
    node_id lead;
    enum raft_state state;
    bool is_learner;

    struct raftlog log;
    struct tracker tracker;
    struct reads reads;

    node_id lead_transferee;
    raft_index pending_conf_index; /* no change may be proposed until this is applied */
    uint64_t uncommitted_bytes;    /* leader: payload proposed in this term and not yet applied */

    bool lease_broken; /* leader: another may be elected although this one is heard of */

    uint32_t election_elapsed;  /* ticks; for followers since the leader was heard of */
    uint32_t heartbeat_elapsed; /* ticks; leader only */
    uint32_t election_timeout;  /* ticks, drawn */

    struct message_list messages;     /* may be sent at once */
    struct message_list after_append; /* promise what is not stable yet; also to itself */
    struct raft_read_state *read_states;
    size_t read_state_count;
    size_t read_state_capacity;

    struct raft_soft_state last_soft; /* as last handed out */
    struct raft_hard_state last_hard;
    struct message_list on_advance; /* without async storage: steps that raft_advance() takes */
    size_t advanced;                /* how many of them it has taken */

    const char *conf_reason;
};

#define core_log(raft, level, ...) core_logger_write(&(raft)->logger, RAFT_LOG_##level, __VA_ARGS__)

/* ---- node.c ---- */

/* See above; entries is how many may be appended, replacing whether they may replace some. */
int core_reserve(struct raft *raft, size_t entries, bool replacing);
/* True for a node that may become leader. */
bool core_promotable(const struct raft *raft);

/* ---- outbox.c ---- */

/* A message in the queue where its type belongs; sender and term filled in, the rest 0. */
struct raft_message *core_outbox_push(struct raft *raft, enum raft_message_type type, node_id to);
/* Passes a message from elsewhere on to another node, its sender unchanged. */
void core_outbox_forward(struct raft *raft, const struct raft_message *message, node_id to,
                         const struct raft_slice *entries);

/* ---- role.c ---- */

void core_role_become_follower(struct raft *raft, raft_term term, node_id lead);
void core_role_become_leader(struct raft *raft);

enum campaign_kind {
    CAMPAIGN_PRE_VOTE,
    CAMPAIGN_VOTE,
    CAMPAIGN_TRANSFER, /* ordered by the leader: no pre-vote, and it overrides the lease */
};

/* Starts an election unless the node leads already or may not. */
void core_role_hup(struct raft *raft, enum campaign_kind kind);
/* Counts a vote on this node's candidacy and acts on the result. */
void core_role_count_vote(struct raft *raft, const struct raft_message *message);
/* Answers MsgVote and MsgPreVote of this term, or a pre-vote of a later one (Raft 5.4.1). */
void core_role_answer_vote(struct raft *raft, const struct raft_message *message);
/* Takes over what the sender of a request or rejection of a vote knows to be committed. */
void core_role_learn_commit(struct raft *raft, const struct raft_message *message);

/* ---- replicate.c ---- */

/* Sends what the peer needs next, if its flow control allows; empty messages only if asked. */
bool core_replicate_send(struct raft *raft, struct progress *progress, bool send_if_empty);
/* Sends without empty messages until nothing goes out, RAFT_APPEND_BURST times at most. */
void core_replicate_send_all(struct raft *raft, struct progress *progress);
void core_replicate_broadcast(struct raft *raft);
void core_replicate_heartbeat(struct raft *raft);
/* Moves the commit index to what a quorum has, if that is of this term (Raft 5.4.2). */
bool core_replicate_commit(struct raft *raft);
/*
 * Appends to the own log as leader, with this term and the next indexes; false if that exceeds
 * the uncommitted limit.
 */
bool core_replicate_append(struct raft *raft, const struct raft_entry *entries, size_t count);
/* Orders the peer to campaign at once (thesis 3.10). */
void core_replicate_timeout_now(struct raft *raft, node_id to);
/* "StateProbe match=0 ..." in dst (PROGRESS_TEXT_MAX bytes), if debug lines are wanted. */
const char *core_replicate_describe(const struct raft *raft, const struct progress *progress,
                                    char *dst);

/* ---- reads.c ---- */

int core_reads_reserve(struct raft *raft, size_t extra);
void core_reads_fini(struct raft *raft);
/* Forgets all reads, as a change of leader does. */
void core_reads_reset(struct raft *raft);
/* The leader takes a read; from is who asked. */
void core_reads_request(struct raft *raft, struct raft_read_id id, node_id from);
/* The round that confirms all reads so far; 0 if there are none. */
uint64_t core_reads_round(const struct raft *raft);
/* A peer has confirmed a round. MS_ECORRUPT if there was no such round. */
int core_reads_acknowledge(struct raft *raft, struct progress *progress, uint64_t round);
/* Answers what a quorum has confirmed. */
void core_reads_advance(struct raft *raft);
/* The first entry of this term is committed: reads that waited for it go on. */
void core_reads_release(struct raft *raft);
/* An answer to a read of this node's own is there. */
void core_reads_answer_self(struct raft *raft, struct raft_read_id id, raft_index index);

/* ---- member.c ---- */

/* Makes the tracker's copy the configuration; windows of peers that are gone are freed. */
void core_member_switch(struct raft *raft, const struct tracker *next);

/* ---- step.c, leader.c, follower.c ---- */

/* Takes any event, without the checks that messages from outside need; memory is reserved. */
int core_step_event(struct raft *raft, const struct raft_message *message);
int core_leader_step(struct raft *raft, const struct raft_message *message);
int core_leader_propose(struct raft *raft, const struct raft_entry *entries, size_t count);
int core_follower_step(struct raft *raft, const struct raft_message *message);
int core_candidate_step(struct raft *raft, const struct raft_message *message);
/* The state machine has applied up to index; bytes of it as entries. */
void core_step_applied(struct raft *raft, raft_index index, uint64_t bytes);

#endif

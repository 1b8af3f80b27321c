/*
 * raft: the consensus state machine of one node, as a library without side effects.
 *
 * Events go in as calls (a tick, a message, a proposal); what has to be written, sent and
 * applied comes out of raft_ready(). The core does no I/O, reads no clock, draws no random
 * number and allocates only through the allocator in its options. One thread at a time may
 * use a struct raft and the reference counted objects that came from it.
 *
 * The algorithm is Raft (ATC 2014) with the extensions of the thesis: membership changes
 * (chapter 4, joint consensus), leadership transfer (3.10), pre-vote (9.6), check-quorum and
 * read-only queries (6.4), pipelining with flow control (10.2).
 *
 * The loop around it, with asynchronous storage (README.md says more):
 *
 *     raft_tick / raft_step / raft_propose ...       any number of events
 *     while (raft_has_ready(raft)) {
 *         raft_ready(raft, &ready);
 *         for each ready.messages[i]:
 *             RAFT_MSG_STORAGE_APPEND   write it; once durable raft_step() or send its responses
 *             RAFT_MSG_STORAGE_APPLY    apply its entries; then raft_step() its response
 *             any other                 send it to messages[i].to
 *         raft_ready_release(raft, &ready);
 *     }
 *
 * A status other than MS_OK from a function that takes an event means: MS_ENOMEM (allocator
 * refused) and MS_EFULL (a limit below was reached) left the state as it was, and the same
 * event may be given again; MS_EDROPPED refused a proposal or read; MS_ECORRUPT says that the
 * event contradicts what Raft guarantees (a log was lost somewhere).
 */
#ifndef METASTORE_RAFTD_CORE_RAFT_H
#define METASTORE_RAFTD_CORE_RAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/types.h"

#define RAFT_NONE          ((node_id)0)
#define RAFT_APPEND_THREAD ((node_id)UINT64_MAX)       /* stands for whoever writes the log */
#define RAFT_APPLY_THREAD  ((node_id)(UINT64_MAX - 1)) /* stands for the state machine */
#define RAFT_NO_LIMIT      UINT64_MAX

#define RAFT_MEMBERS_MAX  64         /* voters of both halves and learners together */
#define RAFT_CHANGES_MAX  64         /* single changes in one configuration change */
#define RAFT_OUTBOX_MAX   (1u << 16) /* messages waiting for raft_ready(); then MS_EFULL */
#define RAFT_READS_MAX    (1u << 14) /* reads waiting for a quorum; then MS_EFULL */
#define RAFT_UNSTABLE_MAX (1u << 22) /* entries not yet stable; then MS_EFULL */
#define RAFT_APPEND_BURST 16         /* MsgApps one event may cause to one peer */
#define RAFT_LOG_LINE_MAX 6144       /* bytes of one log line, terminating 0 included */

/*
 * Where all memory of the core comes from. alloc returns NULL to refuse. Copied; ctx must
 * outlive everything that was allocated through it.
 */
struct raft_alloc {
    void *(*alloc)(void *ctx, size_t len_bytes);
    void (*free)(void *ctx, void *memory);
    void *ctx;
};

/*
 * Reference count in front of immutable bytes. Entries point into such bytes, so that one
 * received frame or one drained batch is shared by all its entries and never copied. The
 * caller may embed this in a structure of its own; destroy runs when the last reference goes.
 */
struct raft_buffer {
    size_t refs;
    void (*destroy)(struct raft_buffer *buffer);
};

/*
 * A buffer of len_bytes from the allocator, one reference, contents undefined; *bytes is where
 * to write them before the first entry is made from it. MS_ENOMEM if refused.
 */
int raft_buffer_create(const struct raft_alloc *alloc, size_t len_bytes,
                       struct raft_buffer **buffer, uint8_t **bytes);
/* Both take NULL, too. */
void raft_buffer_ref(struct raft_buffer *buffer);
void raft_buffer_release(struct raft_buffer *buffer);

enum raft_entry_type {
    RAFT_ENTRY_NORMAL = 0,
    RAFT_ENTRY_CONF_CHANGE = 1,    /* data: one change, raft_conf_change_decode() */
    RAFT_ENTRY_CONF_CHANGE_V2 = 2, /* data: a list of changes and a transition; none: leave */
};

struct raft_entry {
    raft_term term;
    raft_index index;
    const void *data;          /* NULL: no data at all, which differs from empty data */
    size_t len_bytes;          /* of data */
    struct raft_buffer *owner; /* keeps data alive; NULL if data outlives the struct raft */
    enum raft_entry_type type;
    bool stands_in; /* took the place of a refused change; counts in sizes only, not stored */
};

struct raft_block; /* reference counted array of entries */

/*
 * Consecutive entries. With a block the slice holds one reference to it; without one the
 * entries are borrowed from the caller for the duration of a call.
 */
struct raft_slice {
    struct raft_block *block;
    const struct raft_entry *entries;
    size_t count;
};

/*
 * Makes a slice of its own from count entries: copies the descriptors, takes a reference to
 * each owner. MS_ENOMEM if refused; *out is untouched then.
 */
int raft_slice_create(const struct raft_alloc *alloc, const struct raft_entry *entries,
                      size_t count, struct raft_slice *out);
/* Another reference to the same entries; slice must have a block or be empty. */
struct raft_slice raft_slice_ref(const struct raft_slice *slice);
/* Gives the reference back and empties the slice. */
void raft_slice_release(struct raft_slice *slice);

/* Bytes of an entry as the protocol's limits count them (the wire size in protobuf). */
uint64_t raft_entry_encoded_bytes(const struct raft_entry *entry);
/* How many of the entries fit into max_bytes, at least one if there is any. */
size_t raft_entries_fit(const struct raft_entry *entries, size_t count, uint64_t max_bytes);

struct raft_hard_state {
    raft_term term;
    node_id vote;
    raft_index commit;
};

/* Ids in the order given; ascending where the core made the list. */
struct raft_ids {
    size_t count;
    node_id ids[RAFT_MEMBERS_MAX];
};

struct raft_conf_state {
    struct raft_ids voters;
    struct raft_ids voters_outgoing; /* not empty: the configuration is joint */
    struct raft_ids learners;
    struct raft_ids learners_next; /* outgoing voters that become learners on leaving */
    bool auto_leave;
};

/*
 * What is known about a snapshot, shared by reference. The bytes of the state machine are the
 * caller's business: data may name or hold them, the core only passes it on.
 */
struct raft_snapshot {
    size_t refs;
    struct raft_alloc alloc;
    raft_index index;
    raft_term term;
    struct raft_conf_state conf;
    struct raft_buffer *data; /* one reference, or NULL */
};

/* data (may be NULL) gets another reference. MS_ENOMEM if refused. */
int raft_snapshot_create(const struct raft_alloc *alloc, raft_index index, raft_term term,
                         const struct raft_conf_state *conf, struct raft_buffer *data,
                         struct raft_snapshot **out);
struct raft_snapshot *raft_snapshot_ref(struct raft_snapshot *snapshot);
void raft_snapshot_release(struct raft_snapshot *snapshot);

/* X(enumerator, number, name). Numbers travel between nodes. */
#define RAFT_MESSAGE_LIST(X)                                    \
    X(RAFT_MSG_HUP, 0, "MsgHup")                                \
    X(RAFT_MSG_BEAT, 1, "MsgBeat")                              \
    X(RAFT_MSG_PROP, 2, "MsgProp")                              \
    X(RAFT_MSG_APP, 3, "MsgApp")                                \
    X(RAFT_MSG_APP_RESP, 4, "MsgAppResp")                       \
    X(RAFT_MSG_VOTE, 5, "MsgVote")                              \
    X(RAFT_MSG_VOTE_RESP, 6, "MsgVoteResp")                     \
    X(RAFT_MSG_SNAP, 7, "MsgSnap")                              \
    X(RAFT_MSG_HEARTBEAT, 8, "MsgHeartbeat")                    \
    X(RAFT_MSG_HEARTBEAT_RESP, 9, "MsgHeartbeatResp")           \
    X(RAFT_MSG_UNREACHABLE, 10, "MsgUnreachable")               \
    X(RAFT_MSG_SNAP_STATUS, 11, "MsgSnapStatus")                \
    X(RAFT_MSG_CHECK_QUORUM, 12, "MsgCheckQuorum")              \
    X(RAFT_MSG_TRANSFER_LEADER, 13, "MsgTransferLeader")        \
    X(RAFT_MSG_TIMEOUT_NOW, 14, "MsgTimeoutNow")                \
    X(RAFT_MSG_READ_INDEX, 15, "MsgReadIndex")                  \
    X(RAFT_MSG_READ_INDEX_RESP, 16, "MsgReadIndexResp")         \
    X(RAFT_MSG_PRE_VOTE, 17, "MsgPreVote")                      \
    X(RAFT_MSG_PRE_VOTE_RESP, 18, "MsgPreVoteResp")             \
    X(RAFT_MSG_STORAGE_APPEND, 19, "MsgStorageAppend")          \
    X(RAFT_MSG_STORAGE_APPEND_RESP, 20, "MsgStorageAppendResp") \
    X(RAFT_MSG_STORAGE_APPLY, 21, "MsgStorageApply")            \
    X(RAFT_MSG_STORAGE_APPLY_RESP, 22, "MsgStorageApplyResp")   \
    X(RAFT_MSG_FORGET_LEADER, 23, "MsgForgetLeader")

enum raft_message_type {
#define RAFT_MESSAGE_ENUM(enumerator, number, name) enumerator = (number),
    RAFT_MESSAGE_LIST(RAFT_MESSAGE_ENUM)
#undef RAFT_MESSAGE_ENUM
};

/* The name of a message type; "unknown" for a number outside the list. */
const char *raft_message_name(enum raft_message_type type);

/* Names one read request; unique among all that its asker ever makes, also across restarts. */
struct raft_read_id {
    uint64_t origin; /* drawn at random by each incarnation of the asker */
    uint64_t seq;
};

/*
 * One message, between nodes or between the core and storage. Which fields count, besides
 * type, to, from and term (all others are 0):
 *
 *   MsgProp               entries (term and index of each are assigned by the leader)
 *   MsgApp                index, log_term (of the entry before), entries, commit
 *   MsgAppResp            index; if rejected: reject, reject_hint, log_term (of the hint)
 *   Msg(Pre)Vote          index, log_term (last entry), by_transfer, commit, commit_term
 *   Msg(Pre)VoteResp      reject; if rejected: commit, commit_term
 *   MsgSnap               snapshot
 *   MsgHeartbeat(Resp)    commit (request only), read_round
 *   MsgReadIndex(Resp)    read_id, index (response only)
 *   MsgTransferLeader     from is the target
 *   MsgTimeoutNow         none
 *   MsgStorageAppend      entries; snapshot; hard state in term, vote, commit (all 0: none);
 *                         responses
 *   MsgStorageAppendResp  index, log_term (last entry written, index 0: none); snapshot
 *   MsgStorageApply       entries, responses
 *   MsgStorageApplyResp   entries
 */
struct raft_message {
    enum raft_message_type type;
    bool reject;
    bool by_transfer; /* the election was ordered by the leader: ignore the leader's lease */
    node_id to;
    node_id from;
    raft_term term;
    raft_term log_term;
    raft_index index;
    raft_index commit;
    raft_term commit_term; /* votes: the term of entry commit; 0: nothing is known of it */
    node_id vote;
    raft_index reject_hint;
    uint64_t read_round; /* 0: none */
    struct raft_read_id read_id;
    struct raft_slice entries;
    struct raft_snapshot *snapshot; /* one reference, or NULL */
    struct raft_message *responses; /* owned array, or NULL */
    size_t response_count;
};

/* Gives back all that the message holds (entries, snapshot, responses) and zeroes it. */
void raft_message_release(const struct raft_alloc *alloc, struct raft_message *message);

enum raft_transition {
    RAFT_TRANSITION_AUTO = 0,     /* simple if one change suffices, else joint and left by itself */
    RAFT_TRANSITION_IMPLICIT = 1, /* joint, left by itself */
    RAFT_TRANSITION_EXPLICIT = 2, /* joint until a change without content is proposed */
};

enum raft_change_type {
    RAFT_ADD_VOTER = 0,
    RAFT_REMOVE_MEMBER = 1,
    RAFT_UPDATE_MEMBER = 2, /* changes nothing in the core */
    RAFT_ADD_LEARNER = 3,
};

struct raft_change {
    enum raft_change_type type;
    node_id id; /* 0: this change has no effect */
};

struct raft_conf_change {
    bool v1; /* an EntryConfChange: exactly one change, transition auto */
    enum raft_transition transition;
    size_t count;
    struct raft_change changes[RAFT_CHANGES_MAX];
    const void *context; /* the caller's own, travels with the entry; NULL: none */
    size_t context_bytes;
};

/* True for the change that leaves a joint configuration. */
bool raft_conf_change_leaves(const struct raft_conf_change *change);

/*
 * The data of an entry of type CONF_CHANGE (change->v1) or CONF_CHANGE_V2, in protobuf.
 * *len_bytes is what it needs. MS_ERANGE if dst_bytes are too few (dst may be NULL then);
 * MS_EINVAL for a v1 change that is not exactly one, or too many changes.
 */
int raft_conf_change_encode(const struct raft_conf_change *change, uint8_t *dst, size_t dst_bytes,
                            size_t *len_bytes);
/*
 * Reads a change from an entry; context points into the entry's data. MS_EINVAL if it is not a
 * configuration change; MS_ECORRUPT if the data is malformed or beyond RAFT_CHANGES_MAX.
 */
int raft_conf_change_decode(const struct raft_entry *entry, struct raft_conf_change *out);

/*
 * The stable log as the core sees it: what was handed out and reported durable. Calls come
 * only from within calls into the core and must not call back into it.
 */
struct raft_storage {
    /* The state to start from; called once by raft_create(). */
    int (*initial_state)(void *ctx, struct raft_hard_state *hard, struct raft_conf_state *conf);
    /*
     * Entries first .. end - 1, or as many of the first of them as fit into max_bytes (at
     * least one), as a new reference. MS_ECOMPACTED if first is gone; MS_EAGAIN if they have
     * to be fetched: the caller then starts that and calls raft_entries_available() once they
     * are there. MS_ENOMEM: tried again on the next occasion. Others count as MS_EAGAIN.
     */
    int (*entries)(void *ctx, raft_index first, raft_index end, uint64_t max_bytes,
                   struct raft_slice *out);
    /*
     * The term of an entry from first_index() - 1 to last_index(); always answered at once.
     * MS_ECOMPACTED below, MS_EUNAVAILABLE above.
     */
    int (*term)(void *ctx, raft_index index, raft_term *term);
    raft_index (*first_index)(void *ctx); /* of the first entry that is or would be there */
    raft_index (*last_index)(void *ctx);
    /*
     * The newest snapshot, as a new reference. MS_EAGAIN if there is none to send right now;
     * it is asked for again when the peer is heard of again.
     */
    int (*snapshot)(void *ctx, struct raft_snapshot **out);
    void *ctx;
};

enum raft_log_level {
    RAFT_LOG_DEBUG,
    RAFT_LOG_INFO,
    RAFT_LOG_WARN,
    RAFT_LOG_ERROR,
};

enum raft_read_mode {
    RAFT_READ_SAFE,  /* each read is confirmed by a round to a quorum (thesis 6.4) */
    RAFT_READ_LEASE, /* answered by the leader alone; needs check_quorum and bounded clock drift */
};

struct raft_options {
    node_id id;
    uint32_t election_ticks;  /* without a leader for so long: campaign; > heartbeat_ticks */
    uint32_t heartbeat_ticks; /* between heartbeats; > 0 */

    raft_index applied; /* what the state machine has applied already; 0 on first start */

    uint64_t max_message_bytes;     /* entries of one MsgApp; 0: one entry per message */
    uint64_t max_committed_bytes;   /* handed out for applying at a time; 0: max_message_bytes */
    uint64_t max_uncommitted_bytes; /* payload of the leader's uncommitted entries; 0: no limit */
    uint32_t max_inflight_messages; /* unacknowledged MsgApps per peer; > 0 */
    uint64_t max_inflight_bytes;    /* of their payload; 0: no limit, else >= max_message_bytes */
    uint64_t max_unstable_bytes;    /* payload waiting for the disk; 0: no limit; then MS_EFULL */

    bool async_storage; /* storage as messages; else raft_advance() after each ready */
    bool pre_vote;
    bool check_quorum;
    bool step_down_on_removal;
    bool disable_conf_change_validation;
    bool disable_proposal_forwarding;
    /*
     * A vote request from the very node that is believed to lead is not held against that
     * leader's lease, so that a leader which was restarted can come back at once. It must have
     * given up its read lease before it campaigns.
     */
    bool leader_may_recampaign;
    enum raft_read_mode read_mode;

    struct raft_alloc alloc;
    struct raft_storage storage;

    /* A number below n (> 0), as good as random; the only chance there is: election timeouts. */
    uint32_t (*draw)(void *ctx, uint32_t n);
    void *draw_ctx;

    /* One line without newline, valid during the call. NULL: no log. */
    void (*log)(void *ctx, enum raft_log_level level, const char *line);
    void *log_ctx;
    enum raft_log_level log_level; /* lines below are not even formatted */
};

struct raft;

/*
 * Makes a node from its storage: a follower of the stored term. To get a leader quickly after
 * a restart call raft_campaign() next. On MS_OK the caller owns *out.
 *
 *   MS_EINVAL    options that contradict themselves, or a configuration that does
 *   MS_ECORRUPT  hard state or applied index outside the stored log
 *   MS_ENOMEM    allocator refused
 *   other        what storage.initial_state returned
 */
int raft_create(const struct raft_options *options, struct raft **out);
/* Takes NULL, too. Readies and taken messages may outlive it as long as the allocator does. */
void raft_destroy(struct raft *raft);

/* Time passes: one tick. MS_ENOMEM, MS_EFULL: it did not pass. */
int raft_tick(struct raft *raft);
/* Starts an election as if the timeout had come; nothing happens if the node may not. */
int raft_campaign(struct raft *raft);

/*
 * Takes a message from a peer, or a response that a storage message carried. It is borrowed;
 * the core takes the references it needs.
 *
 *   MS_EPERM     a message that only the node itself may cause
 *   MS_ENOENT    a response from a node that is no member (this one, too, once removed)
 *   MS_EDROPPED  a proposal that was not taken
 *   MS_EINVAL    malformed; nothing happened
 *   MS_ECORRUPT  a commit index beyond the log, or a conflict with committed entries
 *   MS_ENOMEM, MS_EFULL  nothing happened
 */
int raft_step(struct raft *raft, const struct raft_message *message);

/*
 * Proposes count (> 0) entries at once; type and data of each count, term and index are
 * assigned. A follower passes them on to the leader. MS_EDROPPED: no leader, a transfer under
 * way, or the uncommitted limit reached.
 */
int raft_propose(struct raft *raft, const struct raft_entry *entries, size_t count);
/* Proposes a change; one at a time may be pending, others become empty entries. */
int raft_propose_conf_change(struct raft *raft, const struct raft_conf_change *change);
/*
 * To be called for each committed change entry when it is applied, in order; *conf (may be
 * NULL) gets the configuration from now on. MS_EINVAL: the change is not possible here or leads
 * beyond RAFT_MEMBERS_MAX; nothing changed, and the same holds on every node. MS_ENOMEM,
 * MS_EFULL: nothing changed; try again, the node must not go on without it.
 */
int raft_apply_conf_change(struct raft *raft, const struct raft_conf_change *change,
                           struct raft_conf_state *conf);
/* Why the last raft_apply_conf_change() returned MS_EINVAL; static text. */
const char *raft_conf_change_reason(const struct raft *raft);

/*
 * Asks for an index such that a state machine that has applied it answers a read linearizably
 * (thesis 6.4). The answer is a read state in a later ready. MS_EDROPPED: no leader is known.
 * Answers get lost when the leader changes: ask again when the soft state says so, or after a
 * while. A read that a quorum confirms proves leadership at the time it was asked.
 */
int raft_read_index(struct raft *raft, struct raft_read_id id);

/* Asks the leader, through this node, to hand over to target. */
int raft_transfer_leader(struct raft *raft, node_id target);
/* A follower forgets its leader, so that it may vote although the lease still runs. */
int raft_forget_leader(struct raft *raft);
/*
 * A leader becomes a follower of the same term that knows no leader; nothing happens on others.
 * For a node that cannot do its part any more, such as writing its log.
 */
void raft_step_down(struct raft *raft);
/* The last message to this peer could not be sent. */
int raft_report_unreachable(struct raft *raft, node_id peer);
/* A MsgSnap to this peer, with its data, has arrived (or failed). */
int raft_report_snapshot(struct raft *raft, node_id peer, bool failed);
/* Entries for which storage.entries said MS_EAGAIN can be read now. */
int raft_entries_available(struct raft *raft);

enum raft_state {
    RAFT_STATE_FOLLOWER,
    RAFT_STATE_CANDIDATE,
    RAFT_STATE_LEADER,
    RAFT_STATE_PRE_CANDIDATE,
};

/* "StateFollower" and so on. */
const char *raft_state_name(enum raft_state state);

struct raft_soft_state {
    node_id lead;
    enum raft_state state;
};

struct raft_read_state {
    struct raft_read_id id;
    raft_index index;
};

/* What is to be done now. All of it belongs to the ready until raft_ready_release(). */
struct raft_ready {
    bool has_soft_state;
    bool has_hard_state;
    bool must_sync; /* entries, term or vote: must be durable before the messages are sent */
    struct raft_soft_state soft_state;
    struct raft_hard_state hard_state;
    struct raft_slice entries;      /* to append, after cutting what is there from them on */
    struct raft_snapshot *snapshot; /* to apply first, or NULL */
    struct raft_slice committed;    /* to apply to the state machine */
    struct raft_message *messages;  /* to send, in order */
    size_t message_count;
    struct raft_read_state *read_states;
    size_t read_state_count;
};

/* Whether raft_ready() would return anything. */
bool raft_has_ready(const struct raft *raft);
/*
 * Everything that is to be done, marked as handed out. With async_storage the caller uses only
 * messages, read states and the soft state: hard state, entries, snapshot and committed are in
 * the storage messages, too. Without, it writes hard state, then snapshot or entries, sends the
 * messages, applies committed, and calls raft_advance(). MS_ENOMEM: nothing was handed out.
 */
int raft_ready(struct raft *raft, struct raft_ready *out);
/* Moves a message out of a ready (or out of a taken message's responses); src becomes empty. */
void raft_message_take(struct raft_message *dst, struct raft_message *src);
/* Gives back what was not taken. */
void raft_ready_release(struct raft *raft, struct raft_ready *ready);
/*
 * Only without async_storage: the last ready has been dealt with. On MS_ENOMEM or MS_EFULL it
 * stopped half-way and goes on where it stopped when called again.
 */
int raft_advance(struct raft *raft);

/* Small enough to ask for after every event. */
struct raft_basic_status {
    node_id id;
    enum raft_state state;
    node_id lead;
    node_id lead_transferee; /* leader: a transfer is under way; else 0 */
    raft_term term;
    node_id vote;
    raft_index commit;
    raft_index applied; /* last MsgStorageApplyResp stepped */
    raft_index last_index;
    raft_index pending_conf_index; /* leader: no change is taken until this is applied */
    bool is_voter;
    bool is_learner;
    bool sole_voter;     /* every commit and read needs nobody else */
    bool term_committed; /* leader: an entry of its own term is committed, reads are answered */
};

void raft_basic_status(const struct raft *raft, struct raft_basic_status *out);

enum raft_progress_state {
    RAFT_PROGRESS_PROBE,     /* where its log ends is not known; one message at a time */
    RAFT_PROGRESS_REPLICATE, /* streaming */
    RAFT_PROGRESS_SNAPSHOT,  /* needs a snapshot; nothing is sent until it answers */
};

struct raft_progress_status {
    node_id id;
    enum raft_progress_state state;
    raft_index match;
    raft_index next;
    raft_index pending_snapshot; /* 0: none */
    size_t inflight_messages;
    bool inflight_full;
    bool is_learner;
    bool paused;
    bool recent_active;
};

/* The leader's view of its members; on others progress_count is 0. */
struct raft_status {
    struct raft_basic_status basic;
    struct raft_conf_state conf;
    size_t progress_count;
    struct raft_progress_status progress[RAFT_MEMBERS_MAX]; /* ascending ids */
};

void raft_status(const struct raft *raft, struct raft_status *out);

/* The election timeout in ticks that was drawn last, and a way to replace it until the next. */
uint32_t raft_election_timeout(const struct raft *raft);
void raft_set_election_timeout(struct raft *raft, uint32_t ticks);

#endif

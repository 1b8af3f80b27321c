/*
 * ipc_catalogue: every message that crosses a ring between two workers, once.
 *
 * A row gives number, name, link, sender, receiver, the fixed part, and whether bytes may follow
 * it (the tail). From it come the enum, the names and the checks each receiver makes first: known
 * type, permitted sender, exact length. Numbers are never reused. Host byte order: messages never
 * leave the machine. Padding is explicit and zero.
 */
#ifndef METASTORE_COMMON_IPC_CATALOGUE_H
#define METASTORE_COMMON_IPC_CATALOGUE_H

#include <stdint.h>

#include "common/member_request.h"
#include "common/types.h"

enum ms_role {
    MS_ROLE_SUPERVISOR = 0,
    MS_ROLE_RAFTD = 1,
    MS_ROLE_STORAGED = 2,
    MS_ROLE_APID = 3,
};
#define MS_ROLE_COUNT 4

/* "metastore", "raftd", "storaged", "apid": also the process names. */
const char *ms_role_name(enum ms_role role);

/* A link is a pair of rings between two workers. The first-named end is the "left" one. */
enum ms_link_kind {
    MS_LINK_API_RAFT = 1,   /* apid     <-> raftd:    proposals, read barriers */
    MS_LINK_API_STORE = 2,  /* apid     <-> storaged: results, waits */
    MS_LINK_RAFT_LOG = 3,   /* raftd    <-> storaged: append, sync (storaged's log thread) */
    MS_LINK_RAFT_APPLY = 4, /* raftd    <-> storaged: apply, log reads (storaged's main thread) */
};
#define MS_LINK_KIND_COUNT 5

#define MS_TAIL_NONE  0
#define MS_TAIL_BYTES 1

/* A table reads better in columns. */
/* clang-format off */
#define MS_IPC_CATALOGUE(X)                                                                      \
    /* id    name             link        from      to        fixed part               tail   */ \
    X(0x0101, PROPOSE,        API_RAFT,   APID,     RAFTD,    struct ms_propose,         BYTES)  \
    X(0x0102, PROPOSE_REFUSED, API_RAFT,  RAFTD,    APID,     struct ms_propose_refused, NONE)   \
    X(0x0103, READ_INDEX,     API_RAFT,   APID,     RAFTD,    struct ms_read_index,      NONE)   \
    X(0x0104, READ_READY,     API_RAFT,   RAFTD,    APID,     struct ms_read_ready,      NONE)   \
    X(0x0105, MEMBER_REQUEST, API_RAFT,   APID,     RAFTD,    struct ms_member_request,  BYTES)  \
    X(0x0106, MEMBER_ANSWER,  API_RAFT,   RAFTD,    APID,     struct ms_member_answer,   BYTES)  \
    X(0x0107, PROPOSALS_LOST, API_RAFT,   RAFTD,    APID,     struct ms_proposals_lost,  NONE)   \
    X(0x0201, LOG_STATE,      RAFT_LOG,   STORAGED, RAFTD,    struct ms_log_state,       BYTES)  \
    X(0x0202, LOG_APPEND,     RAFT_LOG,   RAFTD,    STORAGED, struct ms_log_append,      BYTES)  \
    X(0x0203, LOG_DURABLE,    RAFT_LOG,   STORAGED, RAFTD,    struct ms_log_durable,     NONE)   \
    X(0x0204, LOG_SPACE,      RAFT_LOG,   STORAGED, RAFTD,    struct ms_log_space,       NONE)   \
    X(0x0205, LOG_CONF,       RAFT_LOG,   RAFTD,    STORAGED, struct ms_log_conf,        BYTES)  \
    X(0x0206, LOG_SNAPSHOT,   RAFT_LOG,   RAFTD,    STORAGED, struct ms_log_snapshot,    BYTES)  \
    X(0x0301, APPLY_STATE,    RAFT_APPLY, STORAGED, RAFTD,    struct ms_apply_state,     NONE)   \
    X(0x0302, APPLY_ENTRIES,  RAFT_APPLY, RAFTD,    STORAGED, struct ms_apply_entries,   BYTES)  \
    X(0x0303, APPLY_DONE,     RAFT_APPLY, STORAGED, RAFTD,    struct ms_apply_done,      NONE)   \
    X(0x0304, LOG_READ,       RAFT_APPLY, RAFTD,    STORAGED, struct ms_log_read,        NONE)   \
    X(0x0305, LOG_ENTRIES,    RAFT_APPLY, STORAGED, RAFTD,    struct ms_log_entries,     BYTES)  \
    X(0x0306, LOG_COMPACTED,  RAFT_APPLY, STORAGED, RAFTD,    struct ms_log_compacted,   NONE)   \
    X(0x0307, SUGGEST,        RAFT_APPLY, STORAGED, RAFTD,    struct ms_suggest,         BYTES)  \
    X(0x0308, APPLY_CONF,     RAFT_APPLY, RAFTD,    STORAGED, struct ms_apply_conf,      BYTES)  \
    X(0x0309, SNAP_OPEN,      RAFT_APPLY, RAFTD,    STORAGED, struct ms_snap_open,       NONE)   \
    X(0x030a, SNAP_OPENED,    RAFT_APPLY, STORAGED, RAFTD,    struct ms_snap_opened,     BYTES)  \
    X(0x030b, SNAP_READ,      RAFT_APPLY, RAFTD,    STORAGED, struct ms_snap_read,       NONE)   \
    X(0x030c, SNAP_DATA,      RAFT_APPLY, STORAGED, RAFTD,    struct ms_snap_data,       BYTES)  \
    X(0x030d, SNAP_CLOSE,     RAFT_APPLY, RAFTD,    STORAGED, struct ms_snap_close,      NONE)   \
    X(0x030e, SNAP_RECEIVE,   RAFT_APPLY, RAFTD,    STORAGED, struct ms_snap_receive,    NONE)   \
    X(0x030f, SNAP_WRITE,     RAFT_APPLY, RAFTD,    STORAGED, struct ms_snap_write,      BYTES)  \
    X(0x0310, SNAP_PROGRESS,  RAFT_APPLY, STORAGED, RAFTD,    struct ms_snap_progress,   NONE)   \
    X(0x0311, SNAP_ABANDON,   RAFT_APPLY, RAFTD,    STORAGED, struct ms_snap_abandon,    NONE)   \
    X(0x0312, APPLY_SNAPSHOT, RAFT_APPLY, RAFTD,    STORAGED, struct ms_apply_snapshot,  NONE)   \
    X(0x0313, LOG_TERMS_READ, RAFT_APPLY, RAFTD,    STORAGED, struct ms_log_terms_read,  NONE)   \
    X(0x0314, LOG_TERMS,      RAFT_APPLY, STORAGED, RAFTD,    struct ms_log_terms,       BYTES)  \
    X(0x0401, STORE_OPENED,   API_STORE,  STORAGED, APID,     struct ms_store_opened,    BYTES)  \
    X(0x0402, APPLY_RESULT,   API_STORE,  STORAGED, APID,     struct ms_apply_result,    NONE)   \
    X(0x0403, WAIT_APPLIED,   API_STORE,  APID,     STORAGED, struct ms_wait_applied,    NONE)   \
    X(0x0404, WAIT_DONE,      API_STORE,  STORAGED, APID,     struct ms_wait_done,       NONE)   \
    X(0x0405, STORE_SPACE,    API_STORE,  STORAGED, APID,     struct ms_store_space,     NONE)
/* clang-format on */

enum ms_ipc_type {
#define MS_IPC_ENUM(id, name, link, from, to, body, tail) MS_IPC_##name = (id),
    MS_IPC_CATALOGUE(MS_IPC_ENUM)
#undef MS_IPC_ENUM
};

/* The largest fixed part; receivers copy it out of the ring before they look at it. */
#define MS_IPC_BODY_MAX 96

/* ---- apid <-> raftd ------------------------------------------------------------------------ */

/*
 * PROPOSE: replicate the command in the tail (common/command.h). Sent again with the same id after
 * either neighbour died; the state machine knows an id it has applied. Answered once: by
 * APPLY_RESULT from storaged, or by PROPOSE_REFUSED if it certainly did not enter the log.
 */
struct ms_propose {
    struct ms_op_id id;
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; past it raftd may refuse: it waited for a leader */
};

enum ms_refusal {
    MS_REFUSED_NO_LEADER = 1,
    MS_REFUSED_NO_SPACE = 2, /* the log's disk is full */
    MS_REFUSED_BUSY = 3,     /* too much is uncommitted */
    MS_REFUSED_TOO_LARGE = 4,
};

struct ms_propose_refused {
    struct ms_op_id id;
    uint32_t reason; /* enum ms_refusal */
    uint32_t pad;
};

/* READ_INDEX: from which index on is it safe to read? One message serves all reads that wait. */
struct ms_read_index {
    uint64_t request; /* unique within one apid incarnation */
    uint64_t deadline_ns;
};

/* READ_READY: read once applied >= index. reason is 0, or an enum ms_refusal (index is then 0). */
struct ms_read_ready {
    uint64_t request;
    raft_index index;
    uint32_t reason;
    uint32_t pad;
};

/*
 * MEMBER_REQUEST, MEMBER_ANSWER: see common/member_request.h. The tail of the request is the peer
 * URL, that of the answer the reason of a refusal in words.
 */

/*
 * PROPOSALS_LOST: what this apid proposed before and has no answer for may have got lost on its way
 * to a leader (a new one was elected, a connection broke): propose it again, with the same ids.
 */
struct ms_proposals_lost {
    raft_term term; /* the present one; for the log */
};

/* ---- raftd <-> storaged, log --------------------------------------------------------------- */

/*
 * One entry in the tail of LOG_APPEND, APPLY_ENTRIES and LOG_ENTRIES: this header, len_bytes of
 * data, zeros up to the next multiple of 8.
 */
struct ms_ipc_entry {
    raft_term term;
    raft_index index;
    uint32_t type; /* enum ms_entry_type */
    uint32_t len_bytes;
};

enum ms_entry_type {
    MS_ENTRY_NORMAL = 0,
    MS_ENTRY_CONF_CHANGE = 1,
    MS_ENTRY_CONF_CHANGE_V2 = 2,
};

/* What has to survive besides the entries (Raft figure 2, and the commit index as a hint). */
struct ms_hard_state {
    raft_term term;
    node_id vote;
    raft_index commit;
};

/*
 * LOG_STATE: the first message on every new log link: what is durable. The tail is the encoded
 * configuration (common/conf_state.h) as of the applied index that APPLY_STATE tells.
 */
struct ms_log_state {
    struct ms_hard_state hard_state;
    raft_index first_index;
    raft_index last_index; /* first_index - 1 when the log is empty */
    raft_term last_term;
    raft_index snapshot_index;
    raft_term snapshot_term;
};

/*
 * LOG_APPEND: make the hard state (if has_hard_state) and the entries durable, discarding what the
 * log holds from first_index on (Raft 5.3); entries at or below the snapshot index are skipped.
 * count may be 0. The log thread answers after one sync for everything it found waiting.
 */
struct ms_log_append {
    uint64_t seq; /* counts from 1 in one generation of the link, no gaps */
    struct ms_hard_state hard_state;
    raft_index first_index;
    uint32_t count;
    uint32_t has_hard_state;
};

/* LOG_DURABLE: everything up to and including seq is on disk. */
struct ms_log_durable {
    uint64_t seq;
    raft_index last_index;
    raft_term last_term;
};

/*
 * LOG_CONF: make durable which configuration (the tail, common/conf_state.h) holds once the entry
 * at index is applied. Counted and answered like LOG_APPEND; raftd sends the entry to be applied
 * only after that, so a state machine that is rebuilt from the log finds every configuration it
 * needs. Forgotten when a later LOG_APPEND replaces the entry at index. Every committed change has
 * one, even if it is without effect, and no other: the newest says how far the log is committed at
 * least, and that the configuration of a change behind it is yet to come.
 */
struct ms_log_conf {
    uint64_t seq;
    raft_index index;
};

/*
 * LOG_SNAPSHOT: the log starts anew behind the snapshot of index and term, which storaged has
 * received completely (SNAP_PROGRESS said so); the tail is the configuration as of index. Counted
 * and answered like LOG_APPEND; all of it becomes durable at once, with the hard state. Sent again
 * although it is durable, it discards nothing: where the log holds that entry with that term, or
 * starts right behind it, the entries that follow stay (Raft 7).
 */
struct ms_log_snapshot {
    uint64_t seq;
    struct ms_hard_state hard_state;
    raft_index index;
    raft_term term;
};

/* LOG_SPACE: sent when it changes. While full, raftd refuses proposals with NO_SPACE. */
struct ms_log_space {
    uint32_t full;
    uint32_t pad;
};

/* ---- raftd <-> storaged, apply ------------------------------------------------------------- */

/* APPLY_STATE: the first message on every new apply link. */
struct ms_apply_state {
    raft_index applied;
    raft_term applied_term;
    uint64_t revision;
};

/*
 * APPLY_ENTRIES: committed and locally durable entries, in order. Those at or below the applied
 * index are skipped, a gap is a violation. Conf changes are applied by raftd's core; their effect
 * comes in APPLY_CONF.
 */
struct ms_apply_entries {
    raft_index first_index;
    uint32_t count;
    uint32_t pad;
};

/*
 * APPLY_CONF: the configuration (the tail) that the entry at index, which follows in the next
 * APPLY_ENTRIES, leads to. Committed in the engine together with that entry.
 */
struct ms_apply_conf {
    raft_index index;
};

/* APPLY_DONE: the state machine stands at applied. */
struct ms_apply_done {
    raft_index applied;
    uint64_t revision;
};

/* LOG_READ: entries [low, high), cut to max_bytes but at least one. Answered by LOG_ENTRIES. */
struct ms_log_read {
    uint64_t request;
    raft_index low;
    raft_index high;
    uint64_t max_bytes;
};

struct ms_log_entries {
    uint64_t request;
    raft_index first_index;
    uint32_t count;
    int32_t status; /* MS_OK, MS_ECOMPACTED, MS_EUNAVAILABLE */
};

/*
 * LOG_TERMS_READ: where do terms begin in the durable log? The tail of LOG_TERMS is count runs,
 * ascending: the first begins at first_index - 1 (what a compacted log still knows), each reaches
 * to the index before the next, the last to last_index. Of very many runs only the newest come,
 * and first_index is higher accordingly.
 */
struct ms_log_terms_read {
    uint64_t request;
};

struct ms_log_terms {
    uint64_t request;
    raft_index first_index;
    raft_index last_index;
    uint32_t count;
    uint32_t pad;
};

struct ms_log_term_run {
    raft_index index;
    raft_term term;
};

/* LOG_COMPACTED: the log now starts at first_index; a snapshot at snapshot_index is durable. */
struct ms_log_compacted {
    raft_index first_index;
    raft_index snapshot_index;
    raft_term snapshot_term;
};

/* SUGGEST: a command without an id (history compaction) that the leader should propose; may be
 * lost. */
struct ms_suggest {
    uint64_t reserved;
};

/*
 * Snapshots to a follower. SNAP_OPEN asks for the newest one; SNAP_OPENED says which it is (the
 * tail is its configuration) and keeps its content readable until SNAP_CLOSE or the end of the
 * link; the log is kept from there on meanwhile, while there is room. Sessions are named by raftd,
 * several may be open. If there is none, or the newest does not reach min_index, one is made first:
 * a member that was added after a snapshot cannot begin with it. status is MS_OK, MS_ENOENT (there
 * is none that reaches so far, and none can be made now: ask again later), or MS_EFULL (too many
 * sessions are open).
 */
struct ms_snap_open {
    uint64_t session;
    raft_index min_index; /* applied already; 0: any will do */
};

struct ms_snap_opened {
    uint64_t session;
    raft_index index;
    raft_term term;
    uint64_t size_bytes;
    int32_t status;
    uint32_t pad;
};

/* SNAP_READ: bytes of the file from offset on. Answered by one SNAP_DATA; the tail may be shorter
 * than asked for only at the end of the file. */
struct ms_snap_read {
    uint64_t session;
    uint64_t offset;
    uint32_t len_bytes; /* 1 .. MS_SNAP_PIECE_BYTES */
    uint32_t pad;
};

struct ms_snap_data {
    uint64_t session;
    uint64_t offset;
    int32_t status; /* MS_OK, MS_EIO, MS_ENOENT (no such session), MS_ERANGE */
    uint32_t pad;
};

struct ms_snap_close {
    uint64_t session;
};

#define MS_SNAP_PIECE_BYTES (128u * 1024u)

/*
 * A snapshot from the leader. SNAP_RECEIVE begins it, or goes on with one of the same index, term
 * and size whose beginning is there already: the first SNAP_PROGRESS says from which offset.
 * SNAP_WRITE brings the next bytes, without gaps, not before that and never more than
 * MS_SNAP_WINDOW_BYTES beyond the last SNAP_PROGRESS, which answers all that came before it. One
 * transfer at a time: a new SNAP_RECEIVE ends the one before, of which nothing is said any more.
 */
#define MS_SNAP_WINDOW_BYTES (1024u * 1024u)

struct ms_snap_receive {
    uint64_t transfer; /* named by raftd */
    raft_index index;
    raft_term term;
    uint64_t size_bytes;
};

struct ms_snap_write {
    uint64_t transfer;
    uint64_t offset;
};

/*
 * SNAP_PROGRESS: offset bytes are taken. With complete set all of it is there, verified and
 * durable under its name, ready for LOG_SNAPSHOT. status other than MS_OK ends the transfer:
 * MS_ECORRUPT (the content contradicts its checksums or itself; nothing of it is kept),
 * MS_ENOSPC, MS_EIO, MS_ENOMEM, MS_EINVAL (a gap, beyond the size or beyond the window).
 */
struct ms_snap_progress {
    uint64_t transfer;
    uint64_t offset;
    int32_t status;
    uint32_t complete;
};

/* SNAP_ABANDON: the sender is gone for now; what is there stays for a later SNAP_RECEIVE. */
struct ms_snap_abandon {
    uint64_t transfer;
};

/*
 * APPLY_SNAPSHOT: replace the state machine by the snapshot of index, after LOG_SNAPSHOT is
 * durable. Answered by APPLY_DONE with applied = index; not before apids know the new file
 * (STORE_OPENED). Nothing else on the link is handled meanwhile. If raftd or storaged dies in
 * between, storaged finishes it by itself: no APPLY_STATE tells an applied index from which the log
 * does not lead on.
 */
struct ms_apply_snapshot {
    raft_index index;
    raft_term term;
};

/* ---- apid <-> storaged --------------------------------------------------------------------- */

/*
 * STORE_OPENED: the first message on every new link, and again whenever the engine's file changes.
 * The tail is the directory of the memory engine. Reads that skip the read index must wait until
 * applied >= read_floor.
 */
struct ms_store_opened {
    uint64_t epoch; /* differs whenever the file is another one */
    raft_index read_floor;
};

enum ms_result_code {
    MS_RESULT_OK = 0,
    MS_RESULT_NOT_FOUND = 1,
    MS_RESULT_CONDITION_FAILED = 2,
    MS_RESULT_INVALID = 3, /* the command could not be decoded; nothing was done */
    MS_RESULT_FORGOTTEN =
        4, /* below the acknowledged watermark: the answer is gone, nothing was done now */
};

/* APPLY_RESULT: the one answer to a proposal, after its effect is committed in the engine. */
struct ms_apply_result {
    struct ms_op_id id;
    uint64_t revision; /* of the store after the operation; the key's mod revision for a PUT */
    uint32_t code;     /* enum ms_result_code */
    uint32_t pad;
};

/* WAIT_APPLIED: say WAIT_DONE with the same request once applied >= index. */
struct ms_wait_applied {
    uint64_t request;
    raft_index index;
};

struct ms_wait_done {
    uint64_t request;
    raft_index applied;
};

/* STORE_SPACE: sent when it changes. While memory_full, PUTs are refused with 507. */
struct ms_store_space {
    uint32_t memory_full;
    uint32_t pad;
};

#define MS_IPC_SIZE_CHECK(id, name, link, from, to, body, tail) \
    _Static_assert(sizeof(body) <= MS_IPC_BODY_MAX && sizeof(body) % 8 == 0, #name " layout");
MS_IPC_CATALOGUE(MS_IPC_SIZE_CHECK)
#undef MS_IPC_SIZE_CHECK

#endif

/*
 * snapshot_private: struct snapshot_exchange, and what its files call of each other.
 *
 * snapshot_send.c has the outgoing half, snapshot_receive.c the incoming one, snapshot_exchange.c
 * what both share.
 */
#ifndef METASTORE_RAFTD_SNAPSHOT_PRIVATE_H
#define METASTORE_RAFTD_SNAPSHOT_PRIVATE_H

#include <sys/queue.h>

#include "raftd/snapshot_exchange.h"

/* ---- outgoing ---- */

enum session_state {
    SESSION_UNUSED = 0,
    SESSION_OPENING, /* SNAP_OPEN is to be sent, or is not answered yet */
    SESSION_OPEN,
    SESSION_CLOSING, /* SNAP_CLOSE is to be sent */
};

/*
 * A snapshot that storaged keeps for us. While OPENING the snapshot is NULL, or what it was before
 * storaged was replaced.
 */
struct snapshot_session {
    enum session_state state;
    bool asked;           /* OPENING: SNAP_OPEN was sent on the present link */
    uint64_t number;      /* on the link; a new one for each SNAP_OPEN */
    raft_index min_index; /* an older one would be of no use */
    struct raft_snapshot *snapshot;
    uint64_t size_bytes;
    bool idle; /* at the last tick nobody used it */
    struct ms_instant idle_since;
};

/*
 * One peer that gets a snapshot, or got one and has not gone on from it yet. The buffer holds
 * [buffer_offset, buffer_offset + buffered) of the file; its room is for two pieces, of which one
 * may be on its way.
 */
struct snapshot_outgoing {
    node_id peer; /* 0: unused */
    struct snapshot_session *session;
    bool delivered; /* no transfer any more: the peer has all of it */
    struct ms_instant since;
    peers_transfer transfer;
    bool wanted; /* the peer takes up to want_bytes from want_offset on */
    uint64_t want_offset;
    size_t want_bytes;
    bool started; /* the peer has said where to start */
    bool reading; /* SNAP_READ from read_offset on is not answered yet */
    uint64_t read_offset;
    uint8_t *buffer;
    uint64_t buffer_offset;
    size_t buffered;
};

struct snapshot_sender {
    uint64_t sessions_opened;
    struct snapshot_session sessions[SNAPSHOT_SESSIONS_MAX];
    struct snapshot_outgoing outgoing[RAFT_MEMBERS_MAX];
};

/* ---- incoming ---- */

struct snapshot_chunk;
STAILQ_HEAD(snapshot_chunk_list, snapshot_chunk);

/*
 * The snapshot that is being received. acked <= sent <= next <= size_bytes: storaged has taken what
 * is before acked, chunks hold the rest up to next.
 */
struct snapshot_receiver {
    bool active;
    peers_transfer transfer;
    struct raft_message message; /* the MsgSnap, with a reference to its snapshot */
    uint64_t size_bytes;
    uint64_t number; /* of the last SNAP_RECEIVE */
    bool asked;      /* SNAP_RECEIVE was sent on the present link */
    bool placed;     /* and answered: storaged has said where to go on */
    bool accepted;   /* the peer was told to start */
    bool ended;      /* the peer has sent all */
    bool complete;   /* storaged has all */
    uint64_t acked;
    uint64_t sent;
    uint64_t next;
    struct snapshot_chunk_list chunks;
    uint64_t abandon; /* the number of a SNAP_RECEIVE to be given up; 0: none */
};

struct snapshot_exchange {
    struct raft_alloc alloc;
    struct snapshot_exchange_calls calls;
    struct snapshot_sender sender;
    struct snapshot_receiver receiver;
};

/* ---- snapshot_send.c ---- */

void snapshot_sender_fini(struct snapshot_exchange *exchange);
void snapshot_sender_link_down(struct snapshot_exchange *exchange);
int snapshot_sender_opened(struct snapshot_exchange *exchange,
                           const struct ms_ipc_message *message);
int snapshot_sender_data(struct snapshot_exchange *exchange, const struct ms_ipc_message *message);
/* As snapshot_exchange_pump, but MS_EAGAIN when the ring is full. */
int snapshot_sender_pump(struct snapshot_exchange *exchange);

/* ---- snapshot_receive.c ---- */

void snapshot_receiver_init(struct snapshot_receiver *receiver);
void snapshot_receiver_fini(struct snapshot_exchange *exchange);
void snapshot_receiver_link_down(struct snapshot_exchange *exchange);
int snapshot_receiver_progress(struct snapshot_exchange *exchange,
                               const struct ms_ipc_message *message);
/* As snapshot_exchange_pump, but MS_EAGAIN when the ring is full. */
int snapshot_receiver_pump(struct snapshot_exchange *exchange);

#endif

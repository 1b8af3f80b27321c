/*
 * peers: the connections to the other members.
 *
 * Moves messages of the core, small notes, and snapshots. Each node dials every other member once
 * for messages (what it sends goes out there; what it receives comes in on connections that the
 * others dialled) and once more for the time of a snapshot. Connections are authenticated and
 * encrypted where there is a cluster key; without one only loopback addresses are dialled or
 * admitted. Nothing is sent again here: Raft does that. All queues are bounded; what does not fit
 * is refused to the sender.
 *
 * Single-threaded, on the loop of its owner. No call here calls an event handler before it returns,
 * so handlers may call anything but peers_close.
 */
#ifndef METASTORE_RAFTD_PEERS_H
#define METASTORE_RAFTD_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "common/control.h"
#include "common/err.h"
#include "common/status_page.h"
#include "raftd/core/raft.h"

struct peers;

/* What one side says of itself before anything else; authenticated by the cluster key. */
struct peers_hello {
    uint64_t cluster_id; /* 0: joining, and does not know it yet */
    node_id from;
    node_id to;            /* whom it believes to talk to */
    uint64_t data_id;      /* names its data dir */
    raft_index conf_index; /* of the newest change of the membership that it has applied */
    bool founding;         /* its log holds nothing but the first entries of a new cluster */
};

/* Numbers travel. */
enum peers_refusal {
    PEERS_ADMITTED = 0,
    PEERS_REFUSED_VERSION = 1,  /* another protocol version */
    PEERS_REFUSED_CLUSTER = 2,  /* another cluster id */
    PEERS_REFUSED_IDENTITY = 3, /* hello.to is not this node, or hello.from is */
    PEERS_REFUSED_STRANGER = 4, /* hello.from is no member as far as this node knows */
    PEERS_REFUSED_REMOVED = 5,  /* it was one until a change that it does not know of */
    PEERS_REFUSED_DATA = 6,     /* the member of this id votes with another data dir */
};

/* Notes: short messages of the node's own, beside Raft. Numbers travel. */
enum peers_note {
    PEERS_NOTE_MEMBER_REQUEST = 1,
    PEERS_NOTE_MEMBER_ANSWER = 2,
    PEERS_NOTE_PROPOSALS_LOST = 3, /* proposals that were passed on to us were dropped */
    PEERS_NOTE_ADDRESS = 4,        /* the sender's peer URL, for who does not know it yet */
};
#define PEERS_NOTE_BYTES_MAX 1024u

/* Names a snapshot transfer of either direction; never 0, never reused by one struct peers. */
typedef uint64_t peers_transfer;

/* Borrowed pointers are valid during the call. */
struct peers_events {
    /* Fills in everything but to. */
    void (*say_hello)(void *ctx, struct peers_hello *out);
    /*
     * May the far side, which dialled us or which we dialled, be talked to? text (text_bytes long)
     * may get the reason in words for the other side's log.
     */
    enum peers_refusal (*judge)(void *ctx, const struct peers_hello *theirs, char *text,
                                size_t text_bytes);
    /* The far side refuses us; theirs is what it said of itself. */
    void (*refused)(void *ctx, const struct peers_hello *theirs, enum peers_refusal reason,
                    const char *text);
    /* The connection for messages to this peer stands (again), or is gone: what was queued is lost.
     */
    void (*connected)(void *ctx, node_id peer);
    void (*disconnected)(void *ctx, node_id peer);
    /*
     * This peer was dialled, and its host says that nobody listens there: the node is down, not
     * only its raftd, for its supervisor holds the listening socket.
     */
    void (*absent)(void *ctx, node_id peer);
    /*
     * A message of the core, as the far side sent it; from is authenticated, and so is to (but what
     * is passed on to the leader, MsgProp, MsgReadIndex and MsgTransferLeader, may name another
     * node in from). The handler takes what it wants to keep by reference (raft_step does).
     */
    void (*message)(void *ctx, const struct raft_message *message);
    void (*note)(void *ctx, node_id from, enum peers_note kind, const uint8_t *data,
                 size_t len_bytes);

    /*
     * Incoming snapshots. begin: message is the MsgSnap, complete but for the bytes (its snapshot's
     * data, raftd/snapshot_conf.h, has come along); the handler
     * answers by peers_snapshot_accept or _refuse, now or later. data: the next bytes, to be
     * answered by peers_snapshot_consumed once they are stored; no more than
     * PEERS_SNAPSHOT_WINDOW_BYTES come before that. end: all bytes were sent; to be answered by
     * peers_snapshot_finish. lost: the connection broke; the transfer is over.
     */
    void (*snapshot_begin)(void *ctx, peers_transfer transfer, const struct raft_message *message,
                           uint64_t size_bytes);
    void (*snapshot_data)(void *ctx, peers_transfer transfer, uint64_t offset, const uint8_t *data,
                          size_t len_bytes);
    void (*snapshot_end)(void *ctx, peers_transfer transfer);
    void (*snapshot_lost)(void *ctx, peers_transfer transfer);

    /*
     * Outgoing snapshots. want: there is room (and, by the rate limit, leave) for up to len_bytes
     * from offset on; answered by one peers_snapshot_write, now or later. done: the far side has
     * all of it (MS_OK), or why not; the transfer is over.
     */
    void (*snapshot_want)(void *ctx, peers_transfer transfer, uint64_t offset, size_t len_bytes);
    void (*snapshot_done)(void *ctx, peers_transfer transfer, node_id peer, int status);
    void *ctx;
};

#define PEERS_SNAPSHOT_WINDOW_BYTES (1024u * 1024u)

/* The longest message: one entry of the longest request, after a full batch of others. */
#define PEERS_MESSAGE_BYTES_MAX (72u * 1024u * 1024u)
/* With so much waiting for a peer nothing more is taken; the last message may exceed it. */
#define PEERS_QUEUE_BYTES_MAX (32u * 1024u * 1024u)

struct peers_options {
    uv_loop_t *loop; /* borrowed */
    struct raft_alloc alloc;
    node_id self;
    bool has_key;
    uint8_t key[MS_CLUSTER_KEY_BYTES];
    uint32_t heartbeat_ms;              /* connect and idle time-outs derive from it */
    uint64_t snapshot_bytes_per_second; /* of all outgoing snapshots together; 0: no limit */
    struct peers_events events;
};

struct peers_member {
    node_id id;
    char url[MS_PEER_URL_BYTES]; /* http://HOST:PORT */
};

/* options is copied. MS_EIO, MS_ENOMEM. */
int peers_create(const struct peers_options *options, struct peers **out, struct ms_err *err);

/*
 * Closes everything, then calls closed and frees itself. The loop must go on running for that.
 * No event comes after this call.
 */
void peers_close(struct peers *peers, void (*closed)(void *ctx), void *ctx);

/* Starts to accept on fd (listening, non-blocking), which is taken also on failure. */
int peers_take_listener(struct peers *peers, int fd, struct ms_err *err);

/*
 * Whom to talk to from now on, this node excluded. A member with another URL than before is dialled
 * anew; one that is missing gets what is queued for it (within a few seconds), then its connections
 * are closed. MS_EINVAL: an URL that cannot be used (err names it; the others are in effect): one
 * that is malformed, or without a cluster key an address that is not loopback. A name is looked up
 * when it is dialled.
 */
int peers_set_members(struct peers *peers, const struct peers_member *members, size_t count,
                      struct ms_err *err);

/* What is said and judged in hellos has changed: both happens again on every connection, soon. */
void peers_judge_again(struct peers *peers);

/*
 * Queues a message of the core for message->to (not MsgSnap); it is taken (empty afterwards) if the
 * answer is MS_OK, else it stays as it was: MS_EPEER: not connected, MS_EFULL: the queue is full,
 * MS_ERANGE: longer than PEERS_MESSAGE_BYTES_MAX, MS_ENOMEM.
 */
int peers_send(struct peers *peers, struct raft_message *message);
/* As peers_send. At most PEERS_NOTE_BYTES_MAX. */
int peers_send_note(struct peers *peers, node_id to, enum peers_note kind, const uint8_t *data,
                    size_t len_bytes);
/* Writes what was queued: one system call per peer. Called once per round of the node. */
void peers_flush(struct peers *peers);

/* Whether the connection for messages to this peer stands. */
bool peers_is_connected(const struct peers *peers, node_id peer);

/*
 * Starts sending a snapshot: opens a connection of its own, sends message (a MsgSnap; borrowed for
 * the call) with the configuration that is its snapshot's data (raftd/snapshot_conf.h), and asks
 * for the bytes by snapshot_want. MS_EBUSY: one is on its way to this peer.
 */
int peers_snapshot_send(struct peers *peers, const struct raft_message *message,
                        uint64_t size_bytes, peers_transfer *out);
/* The bytes that snapshot_want asked for; copied. */
void peers_snapshot_write(struct peers *peers, peers_transfer transfer, const uint8_t *data,
                          size_t len_bytes);
/* Either side gives up; the far side sees the transfer as lost or failed. No more events for it. */
void peers_snapshot_abort(struct peers *peers, peers_transfer transfer);

/* Receiver: go on from offset (what is before it is there already, from an earlier transfer). */
void peers_snapshot_accept(struct peers *peers, peers_transfer transfer, uint64_t offset);
void peers_snapshot_refuse(struct peers *peers, peers_transfer transfer);
void peers_snapshot_consumed(struct peers *peers, peers_transfer transfer, size_t len_bytes);
void peers_snapshot_finish(struct peers *peers, peers_transfer transfer, int status);

struct peers_stats {
    uint64_t messages_sent, messages_received;
    uint64_t bytes_sent, bytes_received;
    uint64_t messages_refused; /* by peers_send: MS_EFULL */
    uint64_t strangers;        /* connections that were not admitted */
    uint64_t garbage;          /* connections ended for what came in on them */
};

void peers_stats(const struct peers *peers, struct peers_stats *out);

#endif

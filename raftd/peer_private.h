/*
 * peer_private: struct peers, and what its files call of each other.
 *
 * peers.c has the interface and the end of connections, peer_members.c whom to dial when,
 * peer_incoming.c the listeners, peer_connection.c one connection from its first byte to its last,
 * peer_hello.c its handshake, peer_snapshot.c what runs on connections for snapshots. Below them,
 * each by itself: peer_dial, peer_stream, peer_frame, peer_seal, peer_handshake, peer_codec,
 * peer_queue.
 *
 * Connections never end in the middle of anything: who finds one broken takes note of it and wakes
 * peers_work, which alone closes them and tells the owner.
 */
#ifndef METASTORE_RAFTD_PEER_PRIVATE_H
#define METASTORE_RAFTD_PEER_PRIVATE_H

#include "common/log.h"
#include "raftd/peer_dial.h"
#include "raftd/peer_handshake.h"
#include "raftd/peer_stream.h"
#include "raftd/peers.h"

/* Incoming connections: of all kinds, and of those that have not been admitted (yet). */
#define PEERS_INCOMING_MAX   256u
#define PEERS_UNADMITTED_MAX 32u
#define PEERS_LISTENERS_MAX  4u

/* What the accepting side has to say is little; more means that the far side does not read. */
#define PEERS_REPLIES_BYTES_MAX (64u * 1024u)

#define PEERS_NOTE_KIND_BYTES 4u /* in front of a note's own bytes */

#define PEERS_SNAPSHOT_PIECE_BYTES (128u * 1024u)

/* A higher rate limit is none. */
#define PEERS_RATE_MAX (UINT64_C(1) << 40)

struct peer_transfer;

enum peer_connection_state {
    PEER_CONNECTION_DIALLING,  /* until there is a TCP connection */
    PEER_CONNECTION_SHAKING,   /* until the far side is known and both have admitted each other */
    PEER_CONNECTION_ADMITTED,  /* in use */
    PEER_CONNECTION_FINISHING, /* the last frames are on their way out */
    PEER_CONNECTION_BROKEN,    /* to be closed by peers_work */
    PEER_CONNECTION_CLOSING,   /* until the loop lets go of it */
};

struct peer_connection {
    struct peer_stream stream; /* must be first: its handle names the connection */
    struct peers *peers;       /* borrowed */
    struct peer_connection *next;
    enum peer_connection_state state;
    enum peer_channel channel;
    bool dialled;
    bool refused; /* by either side */
    bool tcp_closed;
    int status;                     /* BROKEN: why */
    enum peer_connection_state was; /* BROKEN: when it broke */
    node_id peer; /* whom we dialled, or who dialled us and was admitted; else 0 */
    struct peers_hello theirs;
    struct peers_hello ours; /* as last told */
    struct peer_opening opening;
    struct peer_dial dial;
    struct peer_transfer *transfer; /* snapshot channel; NULL: none (any more) */
    bool announced;                 /* the owner was told that it stands */
    uint64_t deadline_ms;           /* until ADMITTED, and when FINISHING */
    uint64_t admitted_ms;
    uint64_t expires_ms;  /* ADMITTED: to be closed then; 0: never */
    uint64_t heard_ms;    /* when the far side last showed life */
    uint64_t heard_bytes; /* received by then */
    uint64_t taken_bytes; /* by the far side, when last looked at */
    uint64_t ping_ms;     /* dialled: when the next ping is due */
    char address[PEER_ADDRESS_TEXT_BYTES];
};

/* One other member. */
struct peer_member {
    node_id id;
    char url[MS_PEER_URL_BYTES];
    struct peer_target target;
    struct peer_connection *out; /* borrowed; NULL: waiting for redial_ms */
    uint64_t redial_ms;
    uint32_t backoff_ms;
    unsigned attempts;
    bool complained; /* that it cannot be reached, since it last was */
};

enum peer_complaint {
    PEER_COMPLAINT_GARBAGE,
    PEER_COMPLAINT_STRANGER,
    PEER_COMPLAINT_REFUSED,
    PEER_COMPLAINT_ADDRESS,
    PEER_COMPLAINT_COUNT,
};

struct peers {
    struct peers_options options;
    uv_timer_t clock;
    uv_idle_t work;
    uv_tcp_t listeners[PEERS_LISTENERS_MAX];
    size_t listener_count;
    size_t open_handles; /* connections included; at 0 a closing struct peers is gone */

    struct peer_member *members[RAFT_MEMBERS_MAX];
    size_t member_count;
    struct peer_connection *connections;
    struct peer_transfer *transfers;
    peers_transfer last_transfer;
    int64_t rate_bytes;  /* that may be sent of snapshots now; negative: too much was */
    uint64_t rate_at_ns; /* when it was reckoned */

    bool judge_again;
    bool accept_again; /* a connection waits that there was no memory for */
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;

    uint32_t ping_interval_ms;
    uint32_t silence_ms; /* without a byte for so long a connection counts as dead */
    uint32_t handshake_ms;
    uint32_t backoff_max_ms;
    uint64_t clock_due_ms;
    uint64_t complained_ms[PEER_COMPLAINT_COUNT]; /* 0: never */
    uint64_t complaints_held[PEER_COMPLAINT_COUNT];

    struct peers_stats stats; /* but for the bytes of open connections */
    struct peer_scratch scratch;
};

/* ---- peers.c ---- */

/* Lets peers_work run soon: something is broken, due, or to be told. */
void peers_wake(struct peers *peers);
uint64_t peers_now_ms(const struct peers *peers);
static inline uint64_t peers_earlier(uint64_t a_ms, uint64_t b_ms)
{
    return a_ms < b_ms ? a_ms : b_ms;
}
/* One of open_handles is gone. */
void peers_handle_closed(struct peers *peers);
/* Logs a line of this kind now and then only, with how many were left out. */
void peers_complain(struct peers *peers, enum peer_complaint kind, const char *msg,
                    const char *address, const char *detail);
/* A connection changed: it was admitted, or is over (its state is BROKEN, its status says why). */
void peers_admitted(struct peers *peers, struct peer_connection *connection);
void peers_connection_over(struct peers *peers, struct peer_connection *connection);

/* ---- peer_members.c ---- */

/* NULL: no such member. */
struct peer_member *peer_members_find(const struct peers *peers, node_id id);
/* Takes NULL, too. */
bool peer_members_is_up(const struct peer_member *member);
/* Dials whom it is time to dial; returns when the next one is due. */
uint64_t peer_members_dial_due(struct peers *peers, uint64_t now_ms);
/* Whoever waits (RAFT_NONE), or one of them, is dialled at the next occasion. */
void peer_members_hurry(struct peers *peers, node_id id);
/* The connection for messages to a member stands; false: it is not wanted any more. */
bool peer_members_connected(struct peers *peers, struct peer_connection *connection);
/* The connection for messages to a member is over. */
void peer_members_lost(struct peers *peers, const struct peer_connection *connection);
void peer_members_free(struct peers *peers);

/* ---- peer_incoming.c ---- */

/* Takes what could not be taken before. */
void peer_incoming_retry(struct peers *peers);
/* An admitted connection replaces what this peer had for the same channel. */
void peer_incoming_replace(struct peers *peers, const struct peer_connection *newest);
/* A member that is none any more keeps its connections until then; 0: it is one again. */
void peer_incoming_expire(struct peers *peers, node_id peer, uint64_t at_ms);

/* Closes the listeners. */
void peer_incoming_close(struct peers *peers);

/* ---- peer_connection.c ---- */

/* Makes one in the list, without a socket. MS_ENOMEM, MS_EIO. */
int peer_connection_create(struct peers *peers, enum peer_channel channel, bool dialled,
                           struct peer_connection **out);
/* Begins to dial. What fails is reported as for any connection. */
void peer_connection_dial(struct peer_connection *connection, const struct peer_member *member);
/* tcp was accepted. */
void peer_connection_accepted(struct peer_connection *connection);
/* Queues a frame of the protocol's own and writes it. */
void peer_connection_put(struct peer_connection *connection, enum peer_frame_type type,
                         const void *payload, size_t len_bytes);
/* Writes what is queued, then ends: at most so late. */
void peer_connection_finish(struct peer_connection *connection, uint64_t deadline_ms);
/* Ends at once. */
void peer_connection_break(struct peer_connection *connection, int status);
/* Does what is due, and returns when to look again. */
uint64_t peer_connection_tick(struct peer_connection *connection, uint64_t now_ms);
/* Why it broke, in words. */
const char *peer_connection_why(const struct peer_connection *connection);
/* Closes its handle; it is freed when that is done. */
void peer_connection_close(struct peer_connection *connection);

/* ---- peer_hello.c ---- */

/* tcp is connected to whom we dialled: begins. */
void peer_hello_begin(struct peer_connection *connection);
/* The far side's opening. MS_OK, or why the connection cannot go on. */
int peer_hello_opening(struct peer_connection *connection, const uint8_t *bytes);
/* A HELLO, WELCOME or REFUSAL. MS_OK, MS_EPROTO. */
int peer_hello_frame(struct peer_connection *connection, const struct peer_frame *frame);
/* Judges an admitted far side once more and tells it what has changed here. */
void peer_hello_judge_again(struct peer_connection *connection);

/* ---- peer_snapshot.c ---- */

/* A frame of the snapshot channel. MS_OK, MS_EPROTO, MS_ENOMEM. */
int peer_snapshot_frame(struct peer_connection *connection, const struct peer_frame *frame);
/* Whether it may come now. */
bool peer_snapshot_permits(const struct peer_connection *connection, uint8_t type,
                           size_t len_bytes);
/* A connection for a transfer was admitted: the sender begins. */
void peer_snapshot_admitted(struct peer_connection *connection);
/* The connection of a transfer is over. */
void peer_snapshot_over(struct peer_connection *connection, int status);
/* Asks for the next bytes where there is room for them; returns when to look again. */
uint64_t peer_snapshot_pump(struct peers *peers, uint64_t now_ms);
/* Frees what is left. */
void peer_snapshot_drop_all(struct peers *peers);

#endif

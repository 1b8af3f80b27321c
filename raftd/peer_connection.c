/*
 * peer_connection: one connection to a peer, from its first byte to its last: how it comes about,
 * which frames may come when, whether the far side is still alive.
 */
#include "raftd/peer_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/le.h"
#include "raftd/peer_codec.h"

/* With so much under way the far side is busy taking it in. */
#define BUSY_BYTES_MIN (64u * 1024u)

/* ---- beginning and end ---- */

static int on_limit(void *ctx, uint8_t type, size_t len_bytes);
static int on_frame(void *ctx, const struct peer_frame *frame);

static int on_opening(void *ctx, const uint8_t *bytes)
{
    return peer_hello_opening(ctx, bytes);
}

static void on_failed(void *ctx, int status)
{
    struct peer_connection *connection = ctx;

    if (connection->state != PEER_CONNECTION_CLOSING) {
        connection->was = connection->state;
        connection->state = PEER_CONNECTION_BROKEN;
        connection->status = status;
        peers_wake(connection->peers);
    }
}

int peer_connection_create(struct peers *peers, enum peer_channel channel, bool dialled,
                           struct peer_connection **out)
{
    struct peer_connection *connection = calloc(1, sizeof(*connection));
    const struct peer_stream_handlers handlers = {
        .opening = on_opening,
        .frames = {.limit = on_limit, .frame = on_frame, .ctx = connection},
        .failed = on_failed,
        .ctx = connection,
    };

    if (connection == NULL) {
        return MS_ENOMEM;
    }
    if (peer_stream_init(&connection->stream, &peers->options.alloc, &peers->scratch, &handlers) !=
        MS_OK) {
        free(connection);
        return MS_ENOMEM;
    }
    if (uv_tcp_init(peers->options.loop, &connection->stream.tcp) != 0) {
        peer_stream_fini(&connection->stream);
        free(connection);
        return MS_EIO;
    }
    connection->peers = peers;
    connection->channel = channel;
    connection->dialled = dialled;
    connection->state = dialled ? PEER_CONNECTION_DIALLING : PEER_CONNECTION_SHAKING;
    connection->deadline_ms = peers_now_ms(peers) + peers->handshake_ms;
    connection->next = peers->connections;
    peers->connections = connection;
    peers->open_handles++;
    peers_wake(peers); /* the clock has to know of the deadline */
    *out = connection;
    return MS_OK;
}

/* Frees a connection that neither libuv nor a look-up knows of any more. */
static void release(struct peer_connection *connection)
{
    struct peers *peers = connection->peers;
    struct peer_connection **link = &peers->connections;

    if (!connection->tcp_closed || connection->dial.looking_up) {
        return;
    }
    while (*link != connection) {
        link = &(*link)->next;
    }
    *link = connection->next;
    peers->stats.bytes_sent += connection->stream.bytes_sent;
    peers->stats.bytes_received += connection->stream.bytes_received;
    peer_stream_fini(&connection->stream);
    free(connection);
    peers_handle_closed(peers);
}

static void on_closed(uv_handle_t *handle)
{
    struct peer_connection *connection = (struct peer_connection *)handle;

    connection->tcp_closed = true;
    release(connection);
}

void peer_connection_close(struct peer_connection *connection)
{
    if (connection->state != PEER_CONNECTION_CLOSING) {
        connection->state = PEER_CONNECTION_CLOSING;
        sodium_memzero(&connection->opening, sizeof(connection->opening));
        peer_dial_give_up(&connection->dial);
        uv_close((uv_handle_t *)&connection->stream.tcp, on_closed);
    }
}

void peer_connection_break(struct peer_connection *connection, int status)
{
    peer_stream_fail(&connection->stream, status);
}

void peer_connection_finish(struct peer_connection *connection, uint64_t deadline_ms)
{
    if (connection->state < PEER_CONNECTION_FINISHING) {
        connection->state = PEER_CONNECTION_FINISHING;
        connection->deadline_ms = deadline_ms;
        peers_wake(connection->peers);
        peer_stream_finish(&connection->stream);
    }
}

/* ---- sending ---- */

void peer_connection_put(struct peer_connection *connection, enum peer_frame_type type,
                         const void *payload, size_t len_bytes)
{
    if (connection->state != PEER_CONNECTION_SHAKING &&
        connection->state != PEER_CONNECTION_ADMITTED) {
        return;
    }
    if (!connection->dialled &&
        peer_stream_waiting(&connection->stream) > PEERS_REPLIES_BYTES_MAX) {
        peer_connection_break(connection, MS_EFULL);
        return;
    }
    if (peer_frame_put(&connection->stream.queue, type, payload, len_bytes) != MS_OK) {
        peer_connection_break(connection, MS_ENOMEM);
        return;
    }
    peer_stream_flush(&connection->stream);
}

/* ---- becoming connected ---- */

static void fail_dial(struct peer_connection *connection, int status)
{
    if (connection->state == PEER_CONNECTION_DIALLING) {
        peer_connection_break(connection, status);
    }
}

static void on_dialled(struct peer_dial *dial, int status)
{
    struct peer_connection *connection =
        (struct peer_connection *)((char *)dial - offsetof(struct peer_connection, dial));

    memcpy(connection->address, dial->address, sizeof(connection->address));
    if (dial->given_up) {
        release(connection);
        return;
    }
    if (status != MS_OK || connection->state != PEER_CONNECTION_DIALLING) {
        fail_dial(connection, status);
        return;
    }
    connection->state = PEER_CONNECTION_SHAKING;
    (void)uv_tcp_nodelay(&connection->stream.tcp, 1); /* slower without, but right */
    peer_stream_listen(&connection->stream);
    peer_hello_begin(connection);
}

void peer_connection_dial(struct peer_connection *connection, const struct peer_member *member)
{
    int rc;

    connection->peer = member->id;
    connection->dial.tcp = &connection->stream.tcp;
    connection->dial.loopback_only = !connection->peers->options.has_key;
    connection->dial.attempt = member->attempts;
    connection->dial.done = on_dialled;
    rc = peer_dial_start(&connection->dial, connection->peers->options.loop, &member->target);
    memcpy(connection->address, connection->dial.address, sizeof(connection->address));
    if (rc != MS_OK) {
        fail_dial(connection, rc);
    }
}

void peer_connection_accepted(struct peer_connection *connection)
{
    struct sockaddr_storage address = {0};
    int len_bytes = sizeof(address);

    if (uv_tcp_getpeername(&connection->stream.tcp, (struct sockaddr *)&address, &len_bytes) != 0) {
        peer_connection_break(connection, MS_EPEER); /* gone already */
        return;
    }
    peer_address_text((const struct sockaddr *)&address, connection->address);
    if (!connection->peers->options.has_key &&
        !peer_address_is_loopback((const struct sockaddr *)&address)) {
        peer_connection_break(connection, MS_EPERM);
        return;
    }
    (void)uv_tcp_nodelay(&connection->stream.tcp, 1); /* slower without, but right */
    peer_stream_listen(&connection->stream);
}

/* ---- frames ---- */

static int take_message(struct peer_connection *connection, const struct peer_frame *frame)
{
    struct peers *peers = connection->peers;
    const struct peers_options *options = &peers->options;
    struct raft_message message;
    int rc = peer_codec_get_message(&options->alloc, frame->payload, frame->len_bytes, frame->owner,
                                    connection->peer, options->self, &message);

    if (rc == MS_OK) {
        peers->stats.messages_received++;
        options->events.message(options->events.ctx, &message);
        raft_message_release(&options->alloc, &message);
    }
    return rc;
}

static int take_note(struct peer_connection *connection, const struct peer_frame *frame)
{
    const struct peers_events *events = &connection->peers->options.events;
    uint32_t kind = ms_le_get_u32(frame->payload);

    switch ((enum peers_note)kind) {
    case PEERS_NOTE_MEMBER_REQUEST:
    case PEERS_NOTE_MEMBER_ANSWER:
    case PEERS_NOTE_PROPOSALS_LOST:
    case PEERS_NOTE_ADDRESS:
        events->note(events->ctx, connection->peer, (enum peers_note)kind,
                     frame->payload + PEERS_NOTE_KIND_BYTES,
                     frame->len_bytes - PEERS_NOTE_KIND_BYTES);
        return MS_OK;
    }
    return MS_EPROTO;
}

/* The frames of a channel for messages once both sides are admitted. */
static bool messages_permit(const struct peer_connection *connection, uint8_t type,
                            size_t len_bytes)
{
    if (connection->dialled) {
        return false;
    }
    if (type == PEER_FRAME_MESSAGE) {
        return len_bytes <= PEERS_MESSAGE_BYTES_MAX;
    }
    return type == PEER_FRAME_NOTE && len_bytes >= PEERS_NOTE_KIND_BYTES &&
           len_bytes <= PEERS_NOTE_KIND_BYTES + PEERS_NOTE_BYTES_MAX;
}

/* Lengths are bounded before anything is allocated for them; exact ones are checked when read. */
static int on_limit(void *ctx, uint8_t type, size_t len_bytes)
{
    const struct peer_connection *connection = ctx;
    bool permitted;

    if (type == PEER_FRAME_HELLO) {
        permitted = !connection->dialled && len_bytes == PEER_HANDSHAKE_HELLO_BYTES;
    } else if (type == PEER_FRAME_WELCOME) {
        permitted = connection->dialled && len_bytes <= PEER_HANDSHAKE_WELCOME_MAX;
    } else if (connection->state != PEER_CONNECTION_ADMITTED) {
        permitted = false;
    } else if (type == PEER_FRAME_REFUSAL) {
        permitted = len_bytes <= PEER_HANDSHAKE_VERDICT_MAX;
    } else if (type == PEER_FRAME_PING || type == PEER_FRAME_PONG) {
        permitted = connection->dialled == (type == PEER_FRAME_PONG) && len_bytes == 0;
    } else if (connection->channel == PEER_CHANNEL_MESSAGES) {
        permitted = messages_permit(connection, type, len_bytes);
    } else {
        permitted = peer_snapshot_permits(connection, type, len_bytes);
    }
    return permitted ? MS_OK : MS_EPROTO;
}

static int take_frame(struct peer_connection *connection, const struct peer_frame *frame)
{
    switch ((enum peer_frame_type)frame->type) {
    case PEER_FRAME_HELLO:
    case PEER_FRAME_WELCOME:
    case PEER_FRAME_REFUSAL:
        return peer_hello_frame(connection, frame);
    case PEER_FRAME_PING:
        peer_connection_put(connection, PEER_FRAME_PONG, NULL, 0);
        return MS_OK;
    case PEER_FRAME_PONG:
        return MS_OK; /* that it came is all it says */
    case PEER_FRAME_MESSAGE:
        return take_message(connection, frame);
    case PEER_FRAME_NOTE:
        return take_note(connection, frame);
    case PEER_FRAME_OFFER:
    case PEER_FRAME_ACCEPT:
    case PEER_FRAME_DATA:
    case PEER_FRAME_CONSUMED:
    case PEER_FRAME_END:
    case PEER_FRAME_FINISH:
        return peer_snapshot_frame(connection, frame);
    }
    return MS_EPROTO;
}

static int on_frame(void *ctx, const struct peer_frame *frame)
{
    struct peer_connection *connection = ctx;
    int rc = take_frame(connection, frame);

    /* Whatever the frame has led to: nothing more is taken from a connection that is over. */
    if (rc == MS_OK && connection->state >= PEER_CONNECTION_FINISHING) {
        rc = MS_EPEER;
    }
    return rc;
}

/* ---- time ---- */

/*
 * Whether the far side shows life: bytes come from it, or it takes in what is under way to it, be
 * it slowly, so that its answer has to wait. A few bytes prove nothing: a kernel takes them in for
 * a process that is stopped.
 */
static void listen_for_life(struct peer_connection *connection, uint64_t now_ms)
{
    const struct peer_stream *stream = &connection->stream;
    uint64_t left_bytes;
    uint64_t taken_bytes = peer_stream_acknowledged(stream, &left_bytes);

    if (stream->bytes_received != connection->heard_bytes ||
        (taken_bytes != connection->taken_bytes && left_bytes >= BUSY_BYTES_MIN)) {
        connection->heard_ms = now_ms;
        connection->heard_bytes = stream->bytes_received;
    }
    connection->taken_bytes = taken_bytes;
}

static uint64_t tick_admitted(struct peer_connection *connection, uint64_t now_ms)
{
    const struct peers *peers = connection->peers;
    uint64_t due_ms = now_ms + peers->silence_ms / 4;

    listen_for_life(connection, now_ms);
    if (now_ms >= connection->heard_ms + peers->silence_ms) {
        peer_connection_break(connection, MS_ETIMEDOUT);
        return now_ms;
    }
    if (connection->expires_ms != 0 && now_ms >= connection->expires_ms) {
        peer_connection_break(connection, MS_OK);
        return now_ms;
    }
    if (connection->expires_ms != 0) {
        due_ms = peers_earlier(due_ms, connection->expires_ms);
    }
    if (connection->dialled && now_ms >= connection->ping_ms) {
        connection->ping_ms = now_ms + peers->ping_interval_ms;
        peer_connection_put(connection, PEER_FRAME_PING, NULL, 0);
    }
    return connection->dialled ? peers_earlier(due_ms, connection->ping_ms) : due_ms;
}

uint64_t peer_connection_tick(struct peer_connection *connection, uint64_t now_ms)
{
    switch (connection->state) {
    case PEER_CONNECTION_ADMITTED:
        return tick_admitted(connection, now_ms);
    case PEER_CONNECTION_DIALLING:
    case PEER_CONNECTION_SHAKING:
        if (now_ms >= connection->deadline_ms) {
            peer_connection_break(connection, MS_ETIMEDOUT);
        }
        return connection->deadline_ms;
    case PEER_CONNECTION_FINISHING:
        if (now_ms >= connection->deadline_ms) {
            peer_connection_break(connection, MS_OK);
        }
        return connection->deadline_ms;
    case PEER_CONNECTION_BROKEN:
    case PEER_CONNECTION_CLOSING:
        break;
    }
    return UINT64_MAX;
}

/* ---- the end ---- */

const char *peer_connection_why(const struct peer_connection *connection)
{
    switch (connection->status) {
    case MS_EPEER:
        return connection->was == PEER_CONNECTION_SHAKING
                   ? "closed by the other side before it said who it is; the same cluster key?"
                   : "closed by the other side";
    case MS_EUNAVAILABLE:
        return "nobody listens there";
    case MS_EPERM:
        return connection->was == PEER_CONNECTION_DIALLING
                   ? "not a loopback address, and there is no cluster key"
                   : "another cluster key";
    case MS_EPROTO:
        return "sent what is no valid frame";
    default:
        return ms_status_text(connection->status);
    }
}

/*
 * peers: the members, what is sent to them, and the one place where connections end. See peers.h.
 */
#include "raftd/peers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/le.h"
#include "raftd/peer_codec.h"
#include "raftd/peer_private.h"

/* Time-outs follow the heartbeat, between bounds that hold for any. */
#define PING_HEARTBEATS      5u
#define SILENCE_HEARTBEATS   30u
#define SILENCE_MS_MIN       2000u
#define SILENCE_MS_MAX       30000u
#define HANDSHAKE_HEARTBEATS 20u
#define HANDSHAKE_MS_MIN     1000u
#define HANDSHAKE_MS_MAX     10000u
#define BACKOFF_HEARTBEATS   10u
#define BACKOFF_MS_MAX_LEAST 200u
#define BACKOFF_MS_MAX_MOST  5000u

/* At most one line of a kind in this time. */
#define COMPLAINT_INTERVAL_MS 10000u

#define ACCEPT_AGAIN_MS 100u

static void look_after(struct peers *peers);

/* ---- beginning and end ---- */

uint64_t peers_now_ms(const struct peers *peers)
{
    return uv_now(peers->options.loop);
}

static uint32_t between(uint32_t value, uint32_t least, uint32_t most)
{
    if (value < least) {
        return least;
    }
    return value > most ? most : value;
}

static void on_work(uv_idle_t *handle)
{
    (void)uv_idle_stop(handle); /* never fails */
    look_after(handle->data);
}

void peers_wake(struct peers *peers)
{
    if (!peers->closing) {
        (void)uv_idle_start(&peers->work, on_work); /* fails only without a callback */
    }
}

static void on_clock(uv_timer_t *handle)
{
    struct peers *peers = handle->data;
    uint64_t now_ms = peers_now_ms(peers);

    /* Who was stopped itself has heard nothing from anybody; that says nothing about them. */
    if (now_ms > peers->clock_due_ms + peers->silence_ms / 4) {
        for (struct peer_connection *at = peers->connections; at != NULL; at = at->next) {
            at->heard_ms = now_ms;
        }
    }
    look_after(peers);
}

int peers_create(const struct peers_options *options, struct peers **out, struct ms_err *err)
{
    struct peers *peers;
    uint32_t beat_ms = options->heartbeat_ms;
    int rc;

    if (sodium_init() < 0) {
        return ms_err_set(err, MS_EIO, 0, "libsodium finds no source of random numbers");
    }
    peers = calloc(1, sizeof(*peers));
    if (peers == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "connections to peers");
    }
    peers->options = *options;
    if (peers->options.snapshot_bytes_per_second > PEERS_RATE_MAX) {
        peers->options.snapshot_bytes_per_second = 0;
    }
    peers->silence_ms = between(SILENCE_HEARTBEATS * beat_ms, SILENCE_MS_MIN, SILENCE_MS_MAX);
    peers->ping_interval_ms = between(PING_HEARTBEATS * beat_ms, 1, peers->silence_ms / 4);
    peers->handshake_ms =
        between(HANDSHAKE_HEARTBEATS * beat_ms, HANDSHAKE_MS_MIN, HANDSHAKE_MS_MAX);
    peers->backoff_max_ms =
        between(BACKOFF_HEARTBEATS * beat_ms, BACKOFF_MS_MAX_LEAST, BACKOFF_MS_MAX_MOST);
    peers->clock_due_ms = UINT64_MAX;
    peers->rate_at_ns = uv_hrtime();
    rc = uv_timer_init(options->loop, &peers->clock);
    if (rc == 0) {
        rc = uv_idle_init(options->loop, &peers->work);
    }
    if (rc != 0) { /* neither ever fails, by libuv's documentation */
        free(peers);
        return ms_err_set(err, MS_EIO, -rc, "create timers for peers");
    }
    peers->clock.data = peers;
    peers->work.data = peers;
    peers->open_handles = 2;
    *out = peers;
    return MS_OK;
}

void peers_handle_closed(struct peers *peers)
{
    assert(peers->open_handles > 0);
    peers->open_handles--;
    if (peers->open_handles == 0) {
        void (*closed)(void *ctx) = peers->closed;
        void *ctx = peers->closed_ctx;

        sodium_memzero(peers->options.key, sizeof(peers->options.key));
        free(peers);
        closed(ctx);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    peers_handle_closed(handle->data);
}

void peers_close(struct peers *peers, void (*closed)(void *ctx), void *ctx)
{
    assert(!peers->closing);
    peers->closing = true;
    peers->closed = closed;
    peers->closed_ctx = ctx;
    peer_snapshot_drop_all(peers);
    peer_members_free(peers);
    for (struct peer_connection *at = peers->connections; at != NULL; at = at->next) {
        peer_connection_close(at);
    }
    peer_incoming_close(peers);
    uv_close((uv_handle_t *)&peers->clock, on_handle_closed);
    uv_close((uv_handle_t *)&peers->work, on_handle_closed);
}

/* ---- log ---- */

void peers_complain(struct peers *peers, enum peer_complaint kind, const char *msg,
                    const char *address, const char *detail)
{
    uint64_t now_ms = peers_now_ms(peers);

    if (peers->complained_ms[kind] != 0 &&
        now_ms < peers->complained_ms[kind] + COMPLAINT_INTERVAL_MS) {
        peers->complaints_held[kind]++;
        return;
    }
    peers->complained_ms[kind] = now_ms > 0 ? now_ms : 1;
    ms_log(MS_LOG_WARN, msg, MS_F_STR("address", address), MS_F_STR("detail", detail),
           MS_F_U64("unsaid", peers->complaints_held[kind]));
    peers->complaints_held[kind] = 0;
}

/* ---- judging ---- */

void peers_judge_again(struct peers *peers)
{
    peers->judge_again = true;
    peers_wake(peers);
}

/* ---- sending ---- */

/* Whether so much may be queued for this peer, and to which connection. */
static int outgoing(const struct peers *peers, node_id to, struct peer_connection **out)
{
    const struct peer_member *member = peer_members_find(peers, to);

    if (!peer_members_is_up(member)) {
        return MS_EPEER;
    }
    if (peer_stream_waiting(&member->out->stream) >= PEERS_QUEUE_BYTES_MAX) {
        return MS_EFULL;
    }
    *out = member->out;
    return MS_OK;
}

int peers_send(struct peers *peers, struct raft_message *message)
{
    struct peer_connection *connection;
    struct peer_queue *queue;
    struct peer_queue_mark mark;
    size_t len_bytes = peer_codec_message_bytes(message);
    int rc = outgoing(peers, message->to, &connection);

    if (rc == MS_EFULL) {
        peers->stats.messages_refused++;
    }
    if (rc == MS_OK && len_bytes > PEERS_MESSAGE_BYTES_MAX) {
        rc = MS_ERANGE;
    }
    if (rc != MS_OK) {
        return rc;
    }
    queue = &connection->stream.queue;
    mark = peer_queue_mark(queue);
    rc = peer_frame_put_head(queue, PEER_FRAME_MESSAGE, len_bytes);
    if (rc == MS_OK) {
        rc = peer_codec_put_message(queue, message);
    }
    if (rc != MS_OK) {
        peer_queue_rollback(queue, &mark);
        return rc;
    }
    peers->stats.messages_sent++;
    raft_message_release(&peers->options.alloc, message);
    return MS_OK;
}

int peers_send_note(struct peers *peers, node_id to, enum peers_note kind, const uint8_t *data,
                    size_t len_bytes)
{
    uint8_t payload[PEERS_NOTE_KIND_BYTES + PEERS_NOTE_BYTES_MAX];
    struct peer_connection *connection;
    int rc = outgoing(peers, to, &connection);

    assert(len_bytes <= PEERS_NOTE_BYTES_MAX);
    if (rc != MS_OK) {
        return rc;
    }
    ms_le_put_u32(payload, (uint32_t)kind);
    if (len_bytes > 0) {
        memcpy(payload + PEERS_NOTE_KIND_BYTES, data, len_bytes);
    }
    return peer_frame_put(&connection->stream.queue, PEER_FRAME_NOTE, payload,
                          PEERS_NOTE_KIND_BYTES + len_bytes);
}

void peers_flush(struct peers *peers)
{
    for (size_t i = 0; i < peers->member_count; i++) {
        if (peer_members_is_up(peers->members[i])) {
            peer_stream_flush(&peers->members[i]->out->stream);
        }
    }
}

/* ---- what happens to connections ---- */

void peers_admitted(struct peers *peers, struct peer_connection *connection)
{
    const struct peers_events *events = &peers->options.events;

    if (!connection->dialled) {
        peer_incoming_replace(peers, connection);
        peer_members_hurry(peers, connection->peer); /* it is alive: no need to wait */
        peers_wake(peers);
    } else if (connection->channel == PEER_CHANNEL_SNAPSHOT) {
        peer_snapshot_admitted(connection);
    } else if (peer_members_connected(peers, connection)) {
        connection->announced = true;
        events->connected(events->ctx, connection->peer);
    }
}

/* Someone who dialled us is gone, or is sent away. */
static void count_incoming(struct peers *peers, const struct peer_connection *connection)
{
    bool shaking = connection->was == PEER_CONNECTION_SHAKING;

    if (connection->status == MS_EPROTO || connection->status == MS_EFULL) {
        peers->stats.garbage++;
        peers_complain(peers, PEER_COMPLAINT_GARBAGE, "closed a connection from a peer",
                       connection->address, peer_connection_why(connection));
    } else if (shaking && (connection->status == MS_EPERM || connection->status == MS_ETIMEDOUT)) {
        peers->stats.strangers++;
        peers_complain(peers, PEER_COMPLAINT_STRANGER, "refused a peer", connection->address,
                       peer_connection_why(connection));
    }
}

void peers_connection_over(struct peers *peers, struct peer_connection *connection)
{
    if (connection->transfer != NULL) {
        peer_snapshot_over(connection, connection->status);
    }
    if (!connection->dialled) {
        count_incoming(peers, connection);
        return;
    }
    if (connection->status == MS_EPROTO) {
        peers->stats.garbage++;
    }
    if (connection->channel == PEER_CHANNEL_MESSAGES) {
        const struct peers_events *events = &peers->options.events;

        peer_members_lost(peers, connection);
        if (connection->status == MS_EUNAVAILABLE) {
            events->absent(events->ctx, connection->peer);
        }
    }
}

/* Tells of connections that do not stand any more, and closes those that are over. */
static void bury(struct peers *peers)
{
    const struct peers_events *events = &peers->options.events;

    for (struct peer_connection *at = peers->connections; at != NULL; at = at->next) {
        if (at->announced && at->state != PEER_CONNECTION_ADMITTED) {
            at->announced = false;
            events->disconnected(events->ctx, at->peer);
        }
        if (at->state == PEER_CONNECTION_BROKEN) {
            peers_connection_over(peers, at);
            peer_connection_close(at);
        }
    }
}

static void judge_all(struct peers *peers)
{
    peers->judge_again = false;
    for (struct peer_connection *at = peers->connections; at != NULL; at = at->next) {
        if (at->state == PEER_CONNECTION_ADMITTED) {
            peer_hello_judge_again(at);
        }
    }
    /* Who was refused before may be welcome now, and so may we. */
    peer_members_hurry(peers, RAFT_NONE);
}

/* Does all that is due, and sets the clock for what comes next. */
static void look_after(struct peers *peers)
{
    uint64_t now_ms = peers_now_ms(peers);
    uint64_t due_ms;

    if (peers->closing) {
        return;
    }
    bury(peers);
    if (peers->judge_again) {
        judge_all(peers);
    }
    due_ms = peer_members_dial_due(peers, now_ms);
    if (peers->accept_again) {
        peer_incoming_retry(peers);
        due_ms = peers->accept_again ? peers_earlier(due_ms, now_ms + ACCEPT_AGAIN_MS) : due_ms;
    }
    due_ms = peers_earlier(due_ms, peer_snapshot_pump(peers, now_ms));
    for (struct peer_connection *at = peers->connections; at != NULL; at = at->next) {
        due_ms = peers_earlier(due_ms, peer_connection_tick(at, now_ms));
    }
    peers->clock_due_ms = due_ms;
    if (due_ms == UINT64_MAX) {
        (void)uv_timer_stop(&peers->clock); /* never fails */
    } else {
        /* Fails only while it is being closed. */
        (void)uv_timer_start(&peers->clock, on_clock, due_ms > now_ms ? due_ms - now_ms : 0, 0);
    }
}

void peers_stats(const struct peers *peers, struct peers_stats *out)
{
    *out = peers->stats;
    for (const struct peer_connection *at = peers->connections; at != NULL; at = at->next) {
        out->bytes_sent += at->stream.bytes_sent;
        out->bytes_received += at->stream.bytes_received;
    }
}

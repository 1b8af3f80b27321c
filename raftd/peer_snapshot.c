/*
 * peer_snapshot: snapshots on their way, each on a connection of its own, in pieces.
 *
 * The sender offers, the receiver says where to go on; then pieces flow as long as no more than
 * PEERS_SNAPSHOT_WINDOW_BYTES are not stored yet and the rate limit permits. What arrived before a
 * connection broke need not be sent again: the receiver keeps it and accepts the next offer from
 * there on. Who stores, and where, is the owner's business; that it keeps to what was asked of it
 * is checked, because it passes on what another process says.
 */
#include <stdlib.h>
#include <string.h>

#include "common/le.h"
#include "raftd/peer_codec.h"
#include "raftd/peer_private.h"

#define OFFSET_BYTES 8u
#define STATUS_BYTES 4u

/* What the rate limit lets through at once after a pause: this part of a second's worth. */
#define RATE_BURST_DIVISOR 20

#define NS_PER_US     1000u
#define US_PER_SECOND 1000000u

enum peer_transfer_state {
    PEER_TRANSFER_OFFERING, /* until the receiver has answered the offer */
    PEER_TRANSFER_FLOWING,  /* pieces are on their way */
    PEER_TRANSFER_ENDED,    /* all are sent; until the receiver has said what became of it */
};

struct peer_transfer {
    struct peer_transfer *next;
    peers_transfer id;
    struct peer_connection *connection; /* borrowed */
    bool sending;
    enum peer_transfer_state state;
    uint64_t size_bytes;
    uint64_t offset;     /* sender: sent up to here; receiver: received */
    uint64_t consumed;   /* stored by the receiver up to here */
    size_t wanted_bytes; /* sender: asked of the owner and not yet written; 0: nothing */
    size_t offer_bytes;  /* sender: the encoded offer */
    uint8_t offer[];
};

/* ---- the list ---- */

static struct peer_transfer *find(const struct peers *peers, peers_transfer id, bool sending)
{
    for (struct peer_transfer *at = peers->transfers; at != NULL; at = at->next) {
        if (at->id == id && at->sending == sending) {
            return at;
        }
    }
    return NULL;
}

static struct peer_transfer *add(struct peers *peers, struct peer_connection *connection,
                                 bool sending, size_t offer_bytes)
{
    struct peer_transfer *transfer = calloc(1, sizeof(*transfer) + offer_bytes);

    if (transfer != NULL) {
        transfer->id = ++peers->last_transfer;
        transfer->connection = connection;
        transfer->sending = sending;
        transfer->offer_bytes = offer_bytes;
        transfer->next = peers->transfers;
        peers->transfers = transfer;
        connection->transfer = transfer;
    }
    return transfer;
}

static void drop(struct peers *peers, struct peer_transfer *transfer)
{
    struct peer_transfer **link = &peers->transfers;

    while (*link != transfer) {
        link = &(*link)->next;
    }
    *link = transfer->next;
    transfer->connection->transfer = NULL;
    free(transfer);
}

void peer_snapshot_drop_all(struct peers *peers)
{
    while (peers->transfers != NULL) {
        drop(peers, peers->transfers);
    }
}

void peers_snapshot_abort(struct peers *peers, peers_transfer id)
{
    struct peer_transfer *transfer = find(peers, id, true);
    struct peer_connection *connection;

    if (transfer == NULL) {
        transfer = find(peers, id, false);
    }
    if (transfer != NULL) {
        connection = transfer->connection;
        drop(peers, transfer);
        peer_connection_break(connection, MS_OK);
    }
}

/* ---- sending ---- */

int peers_snapshot_send(struct peers *peers, const struct raft_message *message,
                        uint64_t size_bytes, peers_transfer *out)
{
    const struct peer_member *member = peer_members_find(peers, message->to);
    uint8_t offer[PEER_CODEC_OFFER_BYTES_MAX];
    struct peer_connection *connection;
    struct peer_transfer *transfer;
    size_t offer_bytes;

    if (member == NULL) {
        return MS_EPEER;
    }
    for (const struct peer_transfer *at = peers->transfers; at != NULL; at = at->next) {
        if (at->sending && at->connection->peer == message->to) {
            return MS_EBUSY;
        }
    }
    offer_bytes = peer_codec_put_offer(message, size_bytes, offer);
    if (peer_connection_create(peers, PEER_CHANNEL_SNAPSHOT, true, &connection) != MS_OK) {
        return MS_ENOMEM;
    }
    transfer = add(peers, connection, true, offer_bytes);
    if (transfer == NULL) {
        peer_connection_break(connection, MS_ENOMEM);
        return MS_ENOMEM;
    }
    transfer->size_bytes = size_bytes;
    memcpy(transfer->offer, offer, offer_bytes);
    *out = transfer->id;
    peer_connection_dial(connection, member);
    return MS_OK;
}

void peer_snapshot_admitted(struct peer_connection *connection)
{
    const struct peer_transfer *transfer = connection->transfer;

    if (transfer != NULL) {
        peer_connection_put(connection, PEER_FRAME_OFFER, transfer->offer, transfer->offer_bytes);
    }
}

/* Adds what the time since then permits. */
static void refill_rate(struct peers *peers)
{
    uint64_t rate = peers->options.snapshot_bytes_per_second;
    uint64_t now_ns = uv_hrtime();
    uint64_t elapsed_us = (now_ns - peers->rate_at_ns) / NS_PER_US;
    int64_t most = (int64_t)(rate / RATE_BURST_DIVISOR) + 1;
    int64_t more;

    if (elapsed_us > US_PER_SECOND) {
        elapsed_us = US_PER_SECOND;
    }
    more = (int64_t)(rate * elapsed_us / US_PER_SECOND); /* rate <= PEERS_RATE_MAX: fits */
    if (more == 0) {
        return; /* time goes on adding up */
    }
    peers->rate_at_ns = now_ns;
    peers->rate_bytes += more;
    if (peers->rate_bytes > most) {
        peers->rate_bytes = most;
    }
}

/* Whether the rate limit permits a piece now; else *due_ms is brought forward to when it will. */
static bool rate_permits(struct peers *peers, uint64_t now_ms, uint64_t *due_ms)
{
    uint64_t rate = peers->options.snapshot_bytes_per_second;
    uint64_t wait_ms;

    if (rate == 0) {
        return true;
    }
    refill_rate(peers);
    if (peers->rate_bytes > 0) {
        return true;
    }
    wait_ms = (uint64_t)(-peers->rate_bytes) * 1000 / rate + 1;
    *due_ms = peers_earlier(*due_ms, now_ms + wait_ms);
    return false;
}

/* How many bytes may be asked for next; 0: none. */
static size_t room(const struct peer_transfer *transfer)
{
    uint64_t rest = transfer->size_bytes - transfer->offset;
    uint64_t window = PEERS_SNAPSHOT_WINDOW_BYTES - (transfer->offset - transfer->consumed);
    uint64_t bytes = PEERS_SNAPSHOT_PIECE_BYTES;

    if (!transfer->sending || transfer->state != PEER_TRANSFER_FLOWING ||
        transfer->wanted_bytes > 0 || transfer->connection->state != PEER_CONNECTION_ADMITTED) {
        return 0;
    }
    bytes = bytes < rest ? bytes : rest;
    /* A small window is not worth a piece unless it is the last. */
    return window >= bytes ? (size_t)bytes : 0;
}

static struct peer_transfer *next_with_room(struct peers *peers)
{
    for (struct peer_transfer *at = peers->transfers; at != NULL; at = at->next) {
        if (room(at) > 0) {
            return at;
        }
    }
    return NULL;
}

/* The transfer goes to the end of the list, so that all get their share. */
static void requeue(struct peers *peers, struct peer_transfer *transfer)
{
    struct peer_transfer **link = &peers->transfers;

    while (*link != transfer) {
        link = &(*link)->next;
    }
    *link = transfer->next;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = transfer;
    transfer->next = NULL;
}

uint64_t peer_snapshot_pump(struct peers *peers, uint64_t now_ms)
{
    const struct peers_events *events = &peers->options.events;
    uint64_t due_ms = UINT64_MAX;
    struct peer_transfer *transfer;

    /* Bounded: each round opens a window further or waits for an answer. */
    while ((transfer = next_with_room(peers)) != NULL && rate_permits(peers, now_ms, &due_ms)) {
        transfer->wanted_bytes = room(transfer);
        requeue(peers, transfer);
        events->snapshot_want(events->ctx, transfer->id, transfer->offset, transfer->wanted_bytes);
    }
    return due_ms;
}

/* Everything was sent. */
static void end(struct peer_transfer *transfer)
{
    transfer->state = PEER_TRANSFER_ENDED;
    peer_connection_put(transfer->connection, PEER_FRAME_END, NULL, 0);
}

void peers_snapshot_write(struct peers *peers, peers_transfer id, const uint8_t *data,
                          size_t len_bytes)
{
    struct peer_transfer *transfer = find(peers, id, true);
    struct peer_connection *connection;
    struct peer_queue_mark mark;
    uint8_t offset[OFFSET_BYTES];
    int rc;

    if (transfer == NULL || transfer->connection->state != PEER_CONNECTION_ADMITTED) {
        return; /* it has ended meanwhile; the owner is about to hear of it */
    }
    connection = transfer->connection;
    if (len_bytes == 0 || len_bytes > transfer->wanted_bytes) {
        peer_connection_break(connection, MS_EPROTO); /* not what was asked for */
        return;
    }
    mark = peer_queue_mark(&connection->stream.queue);
    ms_le_put_u64(offset, transfer->offset);
    rc = peer_frame_put_head(&connection->stream.queue, PEER_FRAME_DATA, OFFSET_BYTES + len_bytes);
    if (rc == MS_OK) {
        rc = peer_queue_copy(&connection->stream.queue, offset, sizeof(offset));
    }
    if (rc == MS_OK) {
        rc = peer_queue_copy(&connection->stream.queue, data, len_bytes);
    }
    if (rc != MS_OK) {
        peer_queue_rollback(&connection->stream.queue, &mark);
        peer_connection_break(connection, rc);
        return;
    }
    transfer->wanted_bytes = 0;
    transfer->offset += len_bytes;
    if (peers->options.snapshot_bytes_per_second != 0) {
        peers->rate_bytes -= (int64_t)len_bytes;
    }
    if (transfer->offset == transfer->size_bytes) {
        end(transfer);
    } else {
        peer_stream_flush(&connection->stream);
        peers_wake(peers);
    }
}

/* The transfer is over for the sender: it hangs up. */
static void done(struct peer_transfer *transfer, int status)
{
    struct peer_connection *connection = transfer->connection;
    struct peers *peers = connection->peers;
    const struct peers_events *events = &peers->options.events;
    peers_transfer id = transfer->id;

    drop(peers, transfer);
    peer_connection_break(connection, MS_OK);
    events->snapshot_done(events->ctx, id, connection->peer, status);
}

static int take_accept(struct peer_transfer *transfer, const struct peer_frame *frame)
{
    uint64_t offset = ms_le_get_u64(frame->payload);

    if (transfer->state != PEER_TRANSFER_OFFERING || offset > transfer->size_bytes) {
        return MS_EPROTO;
    }
    transfer->state = PEER_TRANSFER_FLOWING;
    transfer->offset = offset;
    transfer->consumed = offset;
    if (offset == transfer->size_bytes) {
        end(transfer);
    } else {
        peers_wake(transfer->connection->peers);
    }
    return MS_OK;
}

static int take_consumed(struct peer_transfer *transfer, const struct peer_frame *frame)
{
    uint64_t consumed = ms_le_get_u64(frame->payload);

    if (consumed < transfer->consumed || consumed > transfer->offset) {
        return MS_EPROTO;
    }
    transfer->consumed = consumed;
    peers_wake(transfer->connection->peers);
    return MS_OK;
}

static int take_finish(struct peer_transfer *transfer, const struct peer_frame *frame)
{
    int32_t status = (int32_t)ms_le_get_u32(frame->payload);

    if (status > 0 || (status == MS_OK && transfer->state != PEER_TRANSFER_ENDED)) {
        return MS_EPROTO;
    }
    done(transfer, status);
    return MS_OK;
}

/* ---- receiving ---- */

static int take_offer(struct peer_connection *connection, const struct peer_frame *frame)
{
    struct peers *peers = connection->peers;
    const struct peers_options *options = &peers->options;
    struct peer_transfer *transfer;
    struct raft_message message;
    uint64_t size_bytes;
    int rc = peer_codec_get_offer(&options->alloc, frame->payload, frame->len_bytes,
                                  connection->peer, options->self, &message, &size_bytes);

    if (rc != MS_OK) {
        return rc;
    }
    transfer = add(peers, connection, false, 0);
    if (transfer == NULL) {
        rc = MS_ENOMEM;
    } else {
        transfer->size_bytes = size_bytes;
        options->events.snapshot_begin(options->events.ctx, transfer->id, &message, size_bytes);
    }
    raft_message_release(&options->alloc, &message);
    return rc;
}

static int take_data(struct peer_transfer *transfer, const struct peer_frame *frame)
{
    const struct peers_events *events = &transfer->connection->peers->options.events;
    size_t len_bytes = frame->len_bytes - OFFSET_BYTES;
    uint64_t offset = ms_le_get_u64(frame->payload);

    if (transfer->state != PEER_TRANSFER_FLOWING || offset != transfer->offset ||
        len_bytes > transfer->size_bytes - offset ||
        offset + len_bytes - transfer->consumed > PEERS_SNAPSHOT_WINDOW_BYTES) {
        return MS_EPROTO;
    }
    transfer->offset += len_bytes;
    events->snapshot_data(events->ctx, transfer->id, offset, frame->payload + OFFSET_BYTES,
                          len_bytes);
    return MS_OK;
}

static int take_end(struct peer_transfer *transfer)
{
    const struct peers_events *events = &transfer->connection->peers->options.events;

    if (transfer->state != PEER_TRANSFER_FLOWING || transfer->offset != transfer->size_bytes) {
        return MS_EPROTO;
    }
    transfer->state = PEER_TRANSFER_ENDED;
    events->snapshot_end(events->ctx, transfer->id);
    return MS_OK;
}

void peers_snapshot_accept(struct peers *peers, peers_transfer id, uint64_t offset)
{
    struct peer_transfer *transfer = find(peers, id, false);
    uint8_t bytes[OFFSET_BYTES];

    if (transfer == NULL) {
        return; /* lost meanwhile */
    }
    if (transfer->state != PEER_TRANSFER_OFFERING || offset > transfer->size_bytes) {
        peer_connection_break(transfer->connection, MS_EPROTO);
        return;
    }
    transfer->state = PEER_TRANSFER_FLOWING;
    transfer->offset = offset;
    transfer->consumed = offset;
    ms_le_put_u64(bytes, offset);
    peer_connection_put(transfer->connection, PEER_FRAME_ACCEPT, bytes, sizeof(bytes));
}

void peers_snapshot_consumed(struct peers *peers, peers_transfer id, size_t len_bytes)
{
    struct peer_transfer *transfer = find(peers, id, false);
    uint8_t bytes[OFFSET_BYTES];

    if (transfer == NULL) {
        return; /* lost meanwhile */
    }
    if (len_bytes > transfer->offset - transfer->consumed) {
        peer_connection_break(transfer->connection, MS_EPROTO);
        return;
    }
    transfer->consumed += len_bytes;
    ms_le_put_u64(bytes, transfer->consumed);
    peer_connection_put(transfer->connection, PEER_FRAME_CONSUMED, bytes, sizeof(bytes));
}

void peers_snapshot_finish(struct peers *peers, peers_transfer id, int status)
{
    struct peer_transfer *transfer = find(peers, id, false);
    struct peer_connection *connection;
    uint8_t bytes[STATUS_BYTES];

    if (transfer == NULL) {
        return; /* lost meanwhile */
    }
    connection = transfer->connection;
    ms_le_put_u32(bytes, (uint32_t)(int32_t)status);
    peer_connection_put(connection, PEER_FRAME_FINISH, bytes, sizeof(bytes));
    drop(peers, transfer);
    /* The sender hangs up when it has read this. */
    peer_connection_finish(connection, peers_now_ms(peers) + peers->silence_ms);
}

void peers_snapshot_refuse(struct peers *peers, peers_transfer id)
{
    peers_snapshot_finish(peers, id, MS_EUNAVAILABLE);
}

/* ---- frames and ends ---- */

static bool sender_may(const struct peer_transfer *transfer, uint8_t type, size_t len_bytes)
{
    if (type == PEER_FRAME_OFFER) {
        return transfer == NULL && len_bytes <= PEER_CODEC_OFFER_BYTES_MAX;
    }
    if (transfer == NULL || transfer->sending) {
        return false;
    }
    if (type == PEER_FRAME_DATA) {
        return len_bytes > OFFSET_BYTES && len_bytes <= OFFSET_BYTES + PEERS_SNAPSHOT_PIECE_BYTES;
    }
    return type == PEER_FRAME_END && len_bytes == 0;
}

static bool receiver_may(const struct peer_transfer *transfer, uint8_t type, size_t len_bytes)
{
    if (transfer == NULL || !transfer->sending) {
        return false;
    }
    if (type == PEER_FRAME_ACCEPT || type == PEER_FRAME_CONSUMED) {
        return len_bytes == OFFSET_BYTES;
    }
    return type == PEER_FRAME_FINISH && len_bytes == STATUS_BYTES;
}

bool peer_snapshot_permits(const struct peer_connection *connection, uint8_t type, size_t len_bytes)
{
    return connection->dialled ? receiver_may(connection->transfer, type, len_bytes)
                               : sender_may(connection->transfer, type, len_bytes);
}

int peer_snapshot_frame(struct peer_connection *connection, const struct peer_frame *frame)
{
    struct peer_transfer *transfer = connection->transfer;

    /* Which of them may come is settled by peer_snapshot_permits. */
    if (frame->type == PEER_FRAME_OFFER) {
        return take_offer(connection, frame);
    }
    if (transfer == NULL) {
        return MS_EPROTO;
    }
    switch (frame->type) {
    case PEER_FRAME_ACCEPT:
        return take_accept(transfer, frame);
    case PEER_FRAME_DATA:
        return take_data(transfer, frame);
    case PEER_FRAME_CONSUMED:
        return take_consumed(transfer, frame);
    case PEER_FRAME_END:
        return take_end(transfer);
    case PEER_FRAME_FINISH:
        return take_finish(transfer, frame);
    default: /* a byte from outside, not one of an enum's values */
        return MS_EPROTO;
    }
}

void peer_snapshot_over(struct peer_connection *connection, int status)
{
    struct peer_transfer *transfer = connection->transfer;
    const struct peers_events *events = &connection->peers->options.events;
    peers_transfer id = transfer->id;

    if (transfer->sending) {
        done(transfer, status != MS_OK ? status : MS_EPEER);
        return;
    }
    drop(connection->peers, transfer);
    events->snapshot_lost(events->ctx, id);
}

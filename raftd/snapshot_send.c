/*
 * snapshot_send: the outgoing half of the exchange.
 *
 * A session is opened when the core first asks for a snapshot, and used by all peers that the core
 * then sends that snapshot to. After a transfer the peer still has to install it and to go on from
 * the log behind it; until then the session stays open.
 */
#include <assert.h>
#include <string.h>

#include "common/clock.h"
#include "raftd/membership.h"
#include "raftd/snapshot_conf.h"
#include "raftd/snapshot_private.h"

/* A session that nobody uses is kept for a peer that comes back and goes on where it stopped. */
#define IDLE_MS_MAX 5000u
/* So long a peer may take to install what it got; then it would need a newer one anyway. */
#define INSTALL_MS_MAX 120000u

/* ---- sessions ---- */

static bool is_used(const struct snapshot_sender *sender, const struct snapshot_session *session)
{
    for (size_t i = 0; i < RAFT_MEMBERS_MAX; i++) {
        if (sender->outgoing[i].peer != 0 && sender->outgoing[i].session == session) {
            return true;
        }
    }
    return false;
}

static void free_session(struct snapshot_session *session)
{
    raft_snapshot_release(session->snapshot);
    *session = (struct snapshot_session){0};
}

static struct snapshot_session *find_session(struct snapshot_sender *sender, uint64_t number)
{
    for (size_t i = 0; i < SNAPSHOT_SESSIONS_MAX; i++) {
        struct snapshot_session *session = &sender->sessions[i];

        if (session->state != SESSION_UNUSED && session->number == number) {
            return session;
        }
    }
    return NULL;
}

/* ---- transfers ---- */

static struct snapshot_outgoing *find_transfer(struct snapshot_sender *sender,
                                               peers_transfer transfer)
{
    for (size_t i = 0; i < RAFT_MEMBERS_MAX; i++) {
        struct snapshot_outgoing *outgoing = &sender->outgoing[i];

        if (outgoing->peer != 0 && !outgoing->delivered && outgoing->transfer == transfer) {
            return outgoing;
        }
    }
    return NULL;
}

static void free_buffer(struct snapshot_exchange *exchange, struct snapshot_outgoing *outgoing)
{
    if (outgoing->buffer != NULL) {
        exchange->alloc.free(exchange->alloc.ctx, outgoing->buffer);
        outgoing->buffer = NULL;
    }
}

static void free_outgoing(struct snapshot_exchange *exchange, struct snapshot_outgoing *outgoing)
{
    free_buffer(exchange, outgoing);
    *outgoing = (struct snapshot_outgoing){0};
}

/* Gives a transfer up for a reason on this side. */
static void fail(struct snapshot_exchange *exchange, struct snapshot_outgoing *outgoing)
{
    const struct snapshot_outgoing failed = *outgoing;

    free_outgoing(exchange, outgoing);
    if (!failed.delivered) {
        exchange->calls.peer_abort(exchange->calls.ctx, failed.transfer);
        exchange->calls.report(exchange->calls.ctx, failed.peer, true);
    }
}

static void fail_all_of(struct snapshot_exchange *exchange, const struct snapshot_session *session)
{
    for (size_t i = 0; i < RAFT_MEMBERS_MAX; i++) {
        struct snapshot_outgoing *outgoing = &exchange->sender.outgoing[i];

        if (outgoing->peer != 0 && outgoing->session == session) {
            fail(exchange, outgoing);
        }
    }
}

void snapshot_sender_fini(struct snapshot_exchange *exchange)
{
    for (size_t i = 0; i < RAFT_MEMBERS_MAX; i++) {
        free_outgoing(exchange, &exchange->sender.outgoing[i]);
    }
    for (size_t i = 0; i < SNAPSHOT_SESSIONS_MAX; i++) {
        free_session(&exchange->sender.sessions[i]);
    }
}

/* ---- for the core ---- */

int snapshot_exchange_newest(struct snapshot_exchange *exchange, raft_index log_first_index,
                             struct raft_snapshot **out)
{
    struct snapshot_sender *sender = &exchange->sender;
    struct snapshot_session *best = NULL;
    struct snapshot_session *unused = NULL;
    struct snapshot_session *stale = NULL;
    bool opening = false;

    for (size_t i = 0; i < SNAPSHOT_SESSIONS_MAX; i++) {
        struct snapshot_session *session = &sender->sessions[i];

        if (session->state == SESSION_UNUSED) {
            unused = unused == NULL ? session : unused;
        } else if (session->state == SESSION_OPENING) {
            opening = true;
        } else if (session->state == SESSION_OPEN &&
                   session->snapshot->index + 1 < log_first_index) {
            stale = is_used(sender, session) ? stale : session;
        } else if (session->state == SESSION_OPEN &&
                   (best == NULL || session->snapshot->index > best->snapshot->index)) {
            best = session;
        }
    }
    if (best != NULL) {
        *out = raft_snapshot_ref(best->snapshot);
        return MS_OK;
    }
    if (stale != NULL) {
        stale->state = SESSION_CLOSING;
    }
    if (!opening && unused != NULL) {
        unused->state = SESSION_OPENING;
        unused->min_index = log_first_index - 1;
    }
    return MS_EAGAIN;
}

/* The slot of a peer, or an unused one, or NULL. */
static struct snapshot_outgoing *slot_of(struct snapshot_sender *sender, node_id peer)
{
    struct snapshot_outgoing *unused = NULL;

    for (size_t i = 0; i < RAFT_MEMBERS_MAX; i++) {
        if (sender->outgoing[i].peer == peer) {
            return &sender->outgoing[i];
        }
        if (sender->outgoing[i].peer == 0) {
            unused = &sender->outgoing[i];
        }
    }
    return unused;
}

static struct snapshot_session *session_of(struct snapshot_sender *sender,
                                           const struct raft_snapshot *snapshot)
{
    for (size_t i = 0; i < SNAPSHOT_SESSIONS_MAX; i++) {
        struct snapshot_session *session = &sender->sessions[i];

        if (session->state != SESSION_UNUSED && session->state != SESSION_CLOSING &&
            session->snapshot != NULL && session->snapshot->index == snapshot->index &&
            session->snapshot->term == snapshot->term) {
            return session;
        }
    }
    return NULL;
}

void snapshot_exchange_send(struct snapshot_exchange *exchange, const struct raft_message *message,
                            struct ms_instant now)
{
    const struct snapshot_exchange_calls *calls = &exchange->calls;
    struct snapshot_outgoing *outgoing = slot_of(&exchange->sender, message->to);
    struct snapshot_session *session = session_of(&exchange->sender, message->snapshot);
    uint8_t *buffer;
    peers_transfer transfer = 0;

    if (outgoing == NULL || session == NULL) {
        calls->report(calls->ctx, message->to, true);
        return;
    }
    /* The core sends a second one only after it gave up the first. */
    if (outgoing->peer != 0 && !outgoing->delivered) {
        calls->peer_abort(calls->ctx, outgoing->transfer);
    }
    free_outgoing(exchange, outgoing);
    buffer = exchange->alloc.alloc(exchange->alloc.ctx, 2 * (size_t)MS_SNAP_PIECE_BYTES);
    if (buffer == NULL ||
        calls->peer_send(calls->ctx, message, session->size_bytes, &transfer) != MS_OK) {
        if (buffer != NULL) {
            exchange->alloc.free(exchange->alloc.ctx, buffer);
        }
        calls->report(calls->ctx, message->to, true);
        return;
    }
    *outgoing = (struct snapshot_outgoing){.peer = message->to,
                                           .session = session,
                                           .since = now,
                                           .transfer = transfer,
                                           .buffer = buffer};
}

/* ---- pieces ---- */

/* Gives the peer what it wants, if it is here. */
static void serve(struct snapshot_exchange *exchange, struct snapshot_outgoing *outgoing)
{
    size_t len_bytes = outgoing->buffered;

    if (!outgoing->wanted || len_bytes == 0) {
        return;
    }
    assert(outgoing->want_offset == outgoing->buffer_offset);
    if (len_bytes > outgoing->want_bytes) {
        len_bytes = outgoing->want_bytes;
    }
    outgoing->wanted = false;
    exchange->calls.peer_write(exchange->calls.ctx, outgoing->transfer, outgoing->buffer,
                               len_bytes);
    outgoing->buffer_offset += len_bytes;
    outgoing->buffered -= len_bytes;
    memmove(outgoing->buffer, outgoing->buffer + len_bytes, outgoing->buffered);
}

void snapshot_exchange_on_want(void *ctx, peers_transfer transfer, uint64_t offset,
                               size_t len_bytes)
{
    struct snapshot_exchange *exchange = ctx;
    struct snapshot_outgoing *outgoing = find_transfer(&exchange->sender, transfer);

    if (outgoing == NULL) {
        return;
    }
    if (!outgoing->started || offset != outgoing->buffer_offset) {
        /* An answer that is still on its way is for another offset, and dropped. */
        outgoing->started = true;
        outgoing->reading = false;
        outgoing->buffer_offset = offset;
        outgoing->buffered = 0;
    }
    outgoing->wanted = len_bytes > 0;
    outgoing->want_offset = offset;
    outgoing->want_bytes = len_bytes;
    serve(exchange, outgoing);
}

void snapshot_exchange_on_done(void *ctx, peers_transfer transfer, node_id peer, int status)
{
    struct snapshot_exchange *exchange = ctx;
    struct snapshot_outgoing *outgoing = find_transfer(&exchange->sender, transfer);

    if (outgoing == NULL) {
        return;
    }
    assert(outgoing->peer == peer);
    if (status == MS_OK) {
        outgoing->delivered = true;
        free_buffer(exchange, outgoing);
    } else {
        free_outgoing(exchange, outgoing);
    }
    exchange->calls.report(exchange->calls.ctx, peer, status != MS_OK);
}

/* ---- storaged's answers ---- */

/* The configuration of a snapshot as storaged tells it becomes the core's kind of snapshot. */
static int make_snapshot(const struct raft_alloc *alloc, const struct ms_snap_opened *body,
                         const struct ms_ipc_message *message, struct raft_snapshot **out)
{
    struct raft_buffer *data = NULL;
    struct membership membership;
    struct raft_conf_state conf;
    int rc = snapshot_conf_create(alloc, message->tail, message->tail_bytes, &data);

    if (rc != MS_OK) {
        return rc == MS_ERANGE ? MS_EPROTO : rc;
    }
    /* From the copy: the ring is shared. */
    rc = membership_decode(&membership, body->index, ((struct snapshot_conf *)data)->bytes,
                           message->tail_bytes);
    if (rc == MS_OK && membership.conf.member_count > 0) {
        membership_to_core(&membership, &conf);
        rc = raft_snapshot_create(alloc, body->index, body->term, &conf, data, out);
    } else {
        rc = MS_EPROTO;
    }
    raft_buffer_release(data);
    return rc;
}

int snapshot_sender_opened(struct snapshot_exchange *exchange, const struct ms_ipc_message *message)
{
    struct ms_snap_opened body;
    struct snapshot_session *session;
    struct raft_snapshot *snapshot = NULL;
    int rc;

    memcpy(&body, message->body, sizeof(body));
    session = find_session(&exchange->sender, body.session);
    if (session == NULL || session->state != SESSION_OPENING || !session->asked) {
        return MS_EPROTO;
    }
    if (body.status != MS_OK) {
        fail_all_of(exchange, session);
        free_session(session);
        return MS_OK;
    }
    if (body.index == 0 || body.size_bytes == 0) {
        return MS_EPROTO;
    }
    rc = make_snapshot(&exchange->alloc, &body, message, &snapshot);
    if (rc != MS_OK) {
        return rc;
    }
    if (session->snapshot != NULL &&
        (session->snapshot->index != body.index || session->snapshot->term != body.term ||
         session->size_bytes != body.size_bytes)) {
        /* The one before storaged was replaced is gone, and half of this one fits no half of it. */
        fail_all_of(exchange, session);
    }
    raft_snapshot_release(session->snapshot);
    session->snapshot = snapshot;
    session->size_bytes = body.size_bytes;
    session->state = SESSION_OPEN;
    session->idle = false;
    return MS_OK;
}

static size_t read_bytes(const struct snapshot_outgoing *outgoing)
{
    uint64_t left = outgoing->session->size_bytes - outgoing->read_offset;

    return left < MS_SNAP_PIECE_BYTES ? (size_t)left : MS_SNAP_PIECE_BYTES;
}

int snapshot_sender_data(struct snapshot_exchange *exchange, const struct ms_ipc_message *message)
{
    struct ms_snap_data body;
    struct snapshot_session *session;

    memcpy(&body, message->body, sizeof(body));
    session = find_session(&exchange->sender, body.session);
    for (size_t i = 0; session != NULL && i < RAFT_MEMBERS_MAX; i++) {
        struct snapshot_outgoing *outgoing = &exchange->sender.outgoing[i];

        if (outgoing->peer == 0 || outgoing->session != session || !outgoing->reading ||
            outgoing->read_offset != body.offset) {
            continue;
        }
        if (body.status != MS_OK) {
            fail(exchange, outgoing);
            return MS_OK;
        }
        if (message->tail_bytes != read_bytes(outgoing)) {
            return MS_EPROTO;
        }
        outgoing->reading = false;
        memcpy(outgoing->buffer + outgoing->buffered, message->tail, message->tail_bytes);
        outgoing->buffered += message->tail_bytes;
        serve(exchange, outgoing);
        return MS_OK;
    }
    return MS_OK; /* for a transfer that is over */
}

/* ---- the link ---- */

void snapshot_sender_link_down(struct snapshot_exchange *exchange)
{
    struct snapshot_sender *sender = &exchange->sender;

    for (size_t i = 0; i < RAFT_MEMBERS_MAX; i++) {
        sender->outgoing[i].reading = false;
    }
    for (size_t i = 0; i < SNAPSHOT_SESSIONS_MAX; i++) {
        struct snapshot_session *session = &sender->sessions[i];

        if (session->state == SESSION_UNUSED) {
            continue;
        }
        if (is_used(sender, session)) {
            session->state = SESSION_OPENING;
            session->asked = false;
        } else {
            free_session(session);
        }
    }
}

static int pump_session(struct snapshot_exchange *exchange, struct snapshot_session *session)
{
    const struct snapshot_exchange_calls *calls = &exchange->calls;
    int rc = MS_OK;

    if (session->state == SESSION_OPENING && !session->asked) {
        const struct ms_snap_open body = {.session = exchange->sender.sessions_opened + 1,
                                          .min_index = session->min_index};

        rc = calls->send(calls->ctx, MS_IPC_SNAP_OPEN, &body, sizeof(body), NULL, 0);
        if (rc == MS_OK) {
            exchange->sender.sessions_opened++;
            session->number = body.session;
            session->asked = true;
        }
    } else if (session->state == SESSION_CLOSING) {
        const struct ms_snap_close body = {.session = session->number};

        rc = calls->send(calls->ctx, MS_IPC_SNAP_CLOSE, &body, sizeof(body), NULL, 0);
        if (rc == MS_OK) {
            free_session(session);
        }
    }
    return rc;
}

/* Reads on while at most one piece waits for the peer. */
static int pump_outgoing(struct snapshot_exchange *exchange, struct snapshot_outgoing *outgoing)
{
    const struct snapshot_exchange_calls *calls = &exchange->calls;
    struct ms_snap_read body = {0};
    int rc;

    if (outgoing->peer == 0 || outgoing->delivered || !outgoing->started || outgoing->reading ||
        outgoing->session->state != SESSION_OPEN || outgoing->buffered > MS_SNAP_PIECE_BYTES ||
        outgoing->buffer_offset + outgoing->buffered >= outgoing->session->size_bytes) {
        return MS_OK;
    }
    outgoing->read_offset = outgoing->buffer_offset + outgoing->buffered;
    body.session = outgoing->session->number;
    body.offset = outgoing->read_offset;
    body.len_bytes = (uint32_t)read_bytes(outgoing);
    rc = calls->send(calls->ctx, MS_IPC_SNAP_READ, &body, sizeof(body), NULL, 0);
    outgoing->reading = rc == MS_OK;
    return rc;
}

int snapshot_sender_pump(struct snapshot_exchange *exchange)
{
    int rc = MS_OK;

    for (size_t i = 0; rc == MS_OK && i < SNAPSHOT_SESSIONS_MAX; i++) {
        rc = pump_session(exchange, &exchange->sender.sessions[i]);
    }
    for (size_t i = 0; rc == MS_OK && i < RAFT_MEMBERS_MAX; i++) {
        rc = pump_outgoing(exchange, &exchange->sender.outgoing[i]);
    }
    return rc;
}

/* ---- time ---- */

void snapshot_exchange_tick(struct snapshot_exchange *exchange, struct ms_instant now)
{
    const struct snapshot_exchange_calls *calls = &exchange->calls;
    struct snapshot_sender *sender = &exchange->sender;

    for (size_t i = 0; i < RAFT_MEMBERS_MAX; i++) {
        struct snapshot_outgoing *outgoing = &sender->outgoing[i];

        if (outgoing->peer != 0 && outgoing->delivered &&
            (calls->has_gone_on(calls->ctx, outgoing->peer, outgoing->session->snapshot->index) ||
             ms_clock_elapsed_ms(outgoing->since, now) >= INSTALL_MS_MAX)) {
            free_outgoing(exchange, outgoing);
        }
    }
    for (size_t i = 0; i < SNAPSHOT_SESSIONS_MAX; i++) {
        struct snapshot_session *session = &sender->sessions[i];

        if (session->state != SESSION_OPEN || is_used(sender, session)) {
            session->idle = false;
        } else if (!session->idle) {
            session->idle = true;
            session->idle_since = now;
        } else if (ms_clock_elapsed_ms(session->idle_since, now) >= IDLE_MS_MAX) {
            session->state = SESSION_CLOSING;
        }
    }
}

/*
 * snapshot_receive: the incoming half of the exchange.
 *
 * What storaged has not acknowledged stays here, so that a storaged that was replaced gets it
 * again. If it lost more than that, the transfer is given up, and the next one goes on where its
 * file ends.
 */
#include <assert.h>
#include <string.h>

#include "common/log.h"
#include "raftd/membership.h"
#include "raftd/snapshot_conf.h"
#include "raftd/snapshot_private.h"

struct snapshot_chunk {
    STAILQ_ENTRY(snapshot_chunk) next;
    uint64_t offset;
    size_t len_bytes;
    uint8_t bytes[];
};

void snapshot_receiver_init(struct snapshot_receiver *receiver)
{
    STAILQ_INIT(&receiver->chunks);
}

static void pop_chunk(struct snapshot_exchange *exchange)
{
    struct snapshot_chunk *chunk = STAILQ_FIRST(&exchange->receiver.chunks);

    STAILQ_REMOVE_HEAD(&exchange->receiver.chunks, next);
    exchange->alloc.free(exchange->alloc.ctx, chunk);
}

/* Forgets the transfer; storaged is told to forget it, too, unless it knows already. */
static void forget(struct snapshot_exchange *exchange, bool abandon)
{
    struct snapshot_receiver *receiver = &exchange->receiver;
    uint64_t number = receiver->number;
    bool asked = receiver->asked;

    while (!STAILQ_EMPTY(&receiver->chunks)) {
        pop_chunk(exchange);
    }
    raft_message_release(&exchange->alloc, &receiver->message);
    *receiver = (struct snapshot_receiver){.number = number};
    snapshot_receiver_init(receiver);
    receiver->abandon = abandon && asked ? number : 0;
}

void snapshot_receiver_fini(struct snapshot_exchange *exchange)
{
    forget(exchange, false);
}

/* Gives the transfer up for a reason on this side. */
static void give_up(struct snapshot_exchange *exchange)
{
    const struct snapshot_receiver *receiver = &exchange->receiver;

    if (receiver->accepted) {
        exchange->calls.peer_abort(exchange->calls.ctx, receiver->transfer);
    } else {
        exchange->calls.peer_refuse(exchange->calls.ctx, receiver->transfer);
    }
    forget(exchange, true);
}

/* Everything is there: the core may have it. */
static void finish(struct snapshot_exchange *exchange)
{
    const struct snapshot_receiver *receiver = &exchange->receiver;
    int rc;

    if (!receiver->active || !receiver->ended || !receiver->complete) {
        return;
    }
    rc = exchange->calls.step(exchange->calls.ctx, &receiver->message);
    if (rc == MS_ENOMEM || rc == MS_EFULL) {
        return; /* nothing happened; the next pump tries again */
    }
    exchange->calls.peer_finish(exchange->calls.ctx, receiver->transfer, rc);
    forget(exchange, false);
}

/* ---- from the peer ---- */

static bool same_ids(const struct raft_ids *a, const struct raft_ids *b)
{
    return a->count == b->count && memcmp(a->ids, b->ids, a->count * sizeof(a->ids[0])) == 0;
}

/* Whether the configuration for the log and the one for the core say the same. */
static bool is_consistent(const struct raft_snapshot *snapshot)
{
    const struct snapshot_conf *stored = snapshot_conf_of(snapshot);
    struct membership membership;
    struct raft_conf_state conf;

    if (stored == NULL ||
        membership_decode(&membership, snapshot->index, stored->bytes, stored->len_bytes) !=
            MS_OK ||
        membership.conf.member_count == 0) {
        return false;
    }
    membership_to_core(&membership, &conf);
    return same_ids(&conf.voters, &snapshot->conf.voters) &&
           same_ids(&conf.voters_outgoing, &snapshot->conf.voters_outgoing) &&
           same_ids(&conf.learners, &snapshot->conf.learners) &&
           same_ids(&conf.learners_next, &snapshot->conf.learners_next) &&
           conf.auto_leave == snapshot->conf.auto_leave;
}

/* Whether a new transfer takes the place of the one under way. */
static bool replaces(const struct snapshot_receiver *receiver, const struct raft_message *message)
{
    return message->term > receiver->message.term ||
           (message->term == receiver->message.term && message->from == receiver->message.from);
}

void snapshot_exchange_on_begin(void *ctx, peers_transfer transfer,
                                const struct raft_message *message, uint64_t size_bytes)
{
    struct snapshot_exchange *exchange = ctx;
    const struct snapshot_exchange_calls *calls = &exchange->calls;
    struct snapshot_receiver *receiver = &exchange->receiver;
    struct raft_basic_status basic;

    calls->basic_status(calls->ctx, &basic);
    if (message->snapshot == NULL || size_bytes == 0 || message->term < basic.term ||
        (receiver->active && !replaces(receiver, message))) {
        calls->peer_refuse(calls->ctx, transfer);
        return;
    }
    if (!is_consistent(message->snapshot)) {
        ms_log(MS_LOG_WARN, "a snapshot without a valid configuration was offered",
               MS_F_U64("peer", message->from), MS_F_U64("index", message->snapshot->index));
        calls->peer_refuse(calls->ctx, transfer);
        return;
    }
    if (message->snapshot->index <= basic.commit) {
        /* Nothing of it is needed; the core tells the leader from where to go on. */
        (void)calls->step(calls->ctx, message);
        calls->peer_refuse(calls->ctx, transfer);
        return;
    }
    if (receiver->active) {
        give_up(exchange);
    }
    receiver->active = true;
    receiver->abandon = 0; /* the SNAP_RECEIVE to come says as much */
    receiver->transfer = transfer;
    receiver->size_bytes = size_bytes;
    receiver->message = (struct raft_message){.type = message->type,
                                              .to = message->to,
                                              .from = message->from,
                                              .term = message->term,
                                              .snapshot = raft_snapshot_ref(message->snapshot)};
}

/* Whether a piece is what has to come next. */
static bool fits(const struct snapshot_receiver *receiver, uint64_t offset, size_t len_bytes)
{
    return receiver->accepted && !receiver->ended && offset == receiver->next && len_bytes > 0 &&
           len_bytes <= receiver->size_bytes - offset &&
           receiver->next + len_bytes - receiver->acked <= PEERS_SNAPSHOT_WINDOW_BYTES;
}

void snapshot_exchange_on_data(void *ctx, peers_transfer transfer, uint64_t offset,
                               const uint8_t *data, size_t len_bytes)
{
    struct snapshot_exchange *exchange = ctx;
    struct snapshot_receiver *receiver = &exchange->receiver;
    struct snapshot_chunk *chunk = NULL;

    if (!receiver->active || receiver->transfer != transfer) {
        return;
    }
    if (fits(receiver, offset, len_bytes)) {
        chunk = exchange->alloc.alloc(exchange->alloc.ctx, sizeof(*chunk) + len_bytes);
    }
    if (chunk == NULL) {
        give_up(exchange);
        return;
    }
    chunk->offset = offset;
    chunk->len_bytes = len_bytes;
    memcpy(chunk->bytes, data, len_bytes);
    STAILQ_INSERT_TAIL(&receiver->chunks, chunk, next);
    receiver->next += len_bytes;
}

void snapshot_exchange_on_end(void *ctx, peers_transfer transfer)
{
    struct snapshot_exchange *exchange = ctx;
    struct snapshot_receiver *receiver = &exchange->receiver;

    if (!receiver->active || receiver->transfer != transfer) {
        return;
    }
    if (!receiver->accepted || receiver->next != receiver->size_bytes) {
        give_up(exchange);
        return;
    }
    receiver->ended = true;
    finish(exchange);
}

void snapshot_exchange_on_lost(void *ctx, peers_transfer transfer)
{
    struct snapshot_exchange *exchange = ctx;

    if (exchange->receiver.active && exchange->receiver.transfer == transfer) {
        forget(exchange, true);
    }
}

/* ---- from storaged ---- */

/* Storaged has all before offset: those bytes need not be kept. */
static void acknowledge(struct snapshot_exchange *exchange, uint64_t offset)
{
    struct snapshot_receiver *receiver = &exchange->receiver;
    const struct snapshot_chunk *chunk;
    uint64_t len_bytes = offset - receiver->acked;

    while ((chunk = STAILQ_FIRST(&receiver->chunks)) != NULL &&
           chunk->offset + chunk->len_bytes <= offset) {
        pop_chunk(exchange);
    }
    receiver->acked = offset;
    if (len_bytes > 0) {
        exchange->calls.peer_consumed(exchange->calls.ctx, receiver->transfer, (size_t)len_bytes);
    }
}

/* The first answer to SNAP_RECEIVE: from where to go on. */
static int place(struct snapshot_exchange *exchange, const struct ms_snap_progress *progress)
{
    struct snapshot_receiver *receiver = &exchange->receiver;

    if (progress->offset > receiver->size_bytes) {
        return MS_EPROTO;
    }
    receiver->placed = true;
    if (!receiver->accepted) {
        receiver->accepted = true;
        receiver->acked = progress->offset;
        receiver->sent = progress->offset;
        receiver->next = progress->offset;
        exchange->calls.peer_accept(exchange->calls.ctx, receiver->transfer, progress->offset);
        return MS_OK;
    }
    if (progress->offset < receiver->acked || progress->offset > receiver->next) {
        give_up(exchange); /* it lost what it had taken, or has more than this peer has sent */
        return MS_OK;
    }
    acknowledge(exchange, progress->offset);
    receiver->sent = progress->offset;
    return MS_OK;
}

int snapshot_receiver_progress(struct snapshot_exchange *exchange,
                               const struct ms_ipc_message *message)
{
    struct snapshot_receiver *receiver = &exchange->receiver;
    struct ms_snap_progress progress;
    int rc = MS_OK;

    memcpy(&progress, message->body, sizeof(progress));
    if (!receiver->active || !receiver->asked || progress.transfer != receiver->number) {
        return MS_OK; /* of one that was given up */
    }
    if (progress.status != MS_OK) {
        ms_log(MS_LOG_ERROR, "a snapshot could not be received",
               MS_F_U64("index", receiver->message.snapshot->index),
               MS_F_STR("error", ms_status_text(progress.status)));
        if (receiver->accepted) {
            exchange->calls.peer_finish(exchange->calls.ctx, receiver->transfer, progress.status);
        } else {
            exchange->calls.peer_refuse(exchange->calls.ctx, receiver->transfer);
        }
        forget(exchange, false);
        return MS_OK;
    }
    if (progress.complete > 1 ||
        (progress.complete == 1 && progress.offset != receiver->size_bytes)) {
        return MS_EPROTO;
    }
    if (!receiver->placed) {
        rc = place(exchange, &progress);
        if (rc != MS_OK || !receiver->active) {
            return rc;
        }
    } else if (progress.offset < receiver->acked || progress.offset > receiver->sent) {
        return MS_EPROTO;
    } else {
        acknowledge(exchange, progress.offset);
    }
    receiver->complete = progress.complete == 1;
    finish(exchange);
    return MS_OK;
}

void snapshot_receiver_link_down(struct snapshot_exchange *exchange)
{
    struct snapshot_receiver *receiver = &exchange->receiver;

    receiver->abandon = 0;
    receiver->asked = false;
    receiver->placed = false;
    receiver->complete = false;
}

/* ---- to storaged ---- */

static int send_receive(struct snapshot_exchange *exchange)
{
    struct snapshot_receiver *receiver = &exchange->receiver;
    const struct ms_snap_receive body = {.transfer = receiver->number + 1,
                                         .index = receiver->message.snapshot->index,
                                         .term = receiver->message.snapshot->term,
                                         .size_bytes = receiver->size_bytes};
    int rc = exchange->calls.send(exchange->calls.ctx, MS_IPC_SNAP_RECEIVE, &body, sizeof(body),
                                  NULL, 0);

    if (rc == MS_OK) {
        receiver->number++;
        receiver->asked = true;
    }
    return rc;
}

/* Sends one chunk, or what is left of it, in pieces that storaged takes. */
static int send_chunk(struct snapshot_exchange *exchange, const struct snapshot_chunk *chunk)
{
    struct snapshot_receiver *receiver = &exchange->receiver;
    const uint64_t end = chunk->offset + chunk->len_bytes;

    while (receiver->sent < end) {
        const struct ms_snap_write body = {.transfer = receiver->number, .offset = receiver->sent};
        uint64_t left = end - receiver->sent;
        size_t len_bytes = left < MS_SNAP_PIECE_BYTES ? (size_t)left : MS_SNAP_PIECE_BYTES;
        int rc = exchange->calls.send(exchange->calls.ctx, MS_IPC_SNAP_WRITE, &body, sizeof(body),
                                      chunk->bytes + (receiver->sent - chunk->offset), len_bytes);

        if (rc != MS_OK) {
            return rc;
        }
        receiver->sent += len_bytes;
    }
    return MS_OK;
}

int snapshot_receiver_pump(struct snapshot_exchange *exchange)
{
    struct snapshot_receiver *receiver = &exchange->receiver;
    const struct snapshot_chunk *chunk;
    int rc = MS_OK;

    if (receiver->abandon != 0) {
        const struct ms_snap_abandon body = {.transfer = receiver->abandon};

        rc = exchange->calls.send(exchange->calls.ctx, MS_IPC_SNAP_ABANDON, &body, sizeof(body),
                                  NULL, 0);
        if (rc != MS_OK) {
            return rc;
        }
        receiver->abandon = 0;
    }
    if (!receiver->active) {
        return MS_OK;
    }
    if (!receiver->asked) {
        return send_receive(exchange);
    }
    finish(exchange);
    if (!receiver->active || !receiver->placed) {
        return MS_OK;
    }
    STAILQ_FOREACH(chunk, &receiver->chunks, next)
    {
        rc = send_chunk(exchange, chunk);
        if (rc != MS_OK) {
            return rc;
        }
    }
    return MS_OK;
}

/*
 * snapshot_exchange: see snapshot_exchange.h.
 */
#include "raftd/snapshot_exchange.h"

#include <string.h>

#include "raftd/snapshot_private.h"

int snapshot_exchange_create(const struct raft_alloc *alloc,
                             const struct snapshot_exchange_calls *calls,
                             struct snapshot_exchange **out)
{
    struct snapshot_exchange *exchange = alloc->alloc(alloc->ctx, sizeof(*exchange));

    if (exchange == NULL) {
        return MS_ENOMEM;
    }
    memset(exchange, 0, sizeof(*exchange));
    exchange->alloc = *alloc;
    exchange->calls = *calls;
    snapshot_receiver_init(&exchange->receiver);
    *out = exchange;
    return MS_OK;
}

void snapshot_exchange_destroy(struct snapshot_exchange *exchange)
{
    struct raft_alloc alloc;

    if (exchange == NULL) {
        return;
    }
    snapshot_sender_fini(exchange);
    snapshot_receiver_fini(exchange);
    alloc = exchange->alloc;
    alloc.free(alloc.ctx, exchange);
}

void snapshot_exchange_link_down(struct snapshot_exchange *exchange)
{
    snapshot_sender_link_down(exchange);
    snapshot_receiver_link_down(exchange);
}

int snapshot_exchange_handle(struct snapshot_exchange *exchange,
                             const struct ms_ipc_message *message)
{
    if (message->type == MS_IPC_SNAP_OPENED) {
        return snapshot_sender_opened(exchange, message);
    }
    if (message->type == MS_IPC_SNAP_DATA) {
        return snapshot_sender_data(exchange, message);
    }
    if (message->type == MS_IPC_SNAP_PROGRESS) {
        return snapshot_receiver_progress(exchange, message);
    }
    return MS_EPROTO;
}

int snapshot_exchange_pump(struct snapshot_exchange *exchange)
{
    /* The incoming one first: this node serves nobody before it has it. */
    int rc = snapshot_receiver_pump(exchange);

    if (rc == MS_OK) {
        rc = snapshot_sender_pump(exchange);
    }
    return rc == MS_EAGAIN ? MS_OK : rc;
}

size_t snapshot_exchange_sending(const struct snapshot_exchange *exchange)
{
    size_t count = 0;

    for (size_t i = 0; i < RAFT_MEMBERS_MAX; i++) {
        const struct snapshot_outgoing *outgoing = &exchange->sender.outgoing[i];

        count += outgoing->peer != 0 && !outgoing->delivered ? 1 : 0;
    }
    return count;
}

bool snapshot_exchange_is_receiving(const struct snapshot_exchange *exchange)
{
    return exchange->receiver.active;
}

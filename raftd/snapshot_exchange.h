/*
 * snapshot_exchange: snapshots between peers and storaged.
 *
 * Outgoing: storaged keeps the newest snapshot open for us (a session) and we read it piece by
 * piece as the peer takes it; peers that need the same snapshot share the session. It stays open
 * until each of them has gone on from it, for as long storaged keeps the log behind it. Incoming:
 * one at a time; what the peer sends goes to storaged, whose progress lets the peer go on. When all
 * of it is stored, the core gets the MsgSnap.
 *
 * A storaged that dies costs time, not the transfer: sessions are opened again, and the incoming
 * one goes on where storaged says. What does not fit into the ring waits here, bounded by what
 * was asked for. No file and no socket is touched.
 */
#ifndef METASTORE_RAFTD_SNAPSHOT_EXCHANGE_H
#define METASTORE_RAFTD_SNAPSHOT_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ipc_catalogue.h"
#include "common/link.h"
#include "common/types.h"
#include "raftd/core/raft.h"
#include "raftd/peers.h"

/* Snapshots open at a time; a further one has to wait. */
#define SNAPSHOT_SESSIONS_MAX 8

/* What the exchange needs of others. */
struct snapshot_exchange_calls {
    /* peers_snapshot_*; see raftd/peers.h. */
    int (*peer_send)(void *ctx, const struct raft_message *message, uint64_t size_bytes,
                     peers_transfer *out);
    void (*peer_write)(void *ctx, peers_transfer transfer, const uint8_t *data, size_t len_bytes);
    void (*peer_abort)(void *ctx, peers_transfer transfer);
    void (*peer_accept)(void *ctx, peers_transfer transfer, uint64_t offset);
    void (*peer_refuse)(void *ctx, peers_transfer transfer);
    void (*peer_consumed)(void *ctx, peers_transfer transfer, size_t len_bytes);
    void (*peer_finish)(void *ctx, peers_transfer transfer, int status);

    /*
     * Puts a message with a tail (tail_bytes may be 0) on the apply link. As ms_link_send;
     * MS_EAGAIN also while the link is not open or its APPLY_STATE has not come.
     */
    int (*send)(void *ctx, enum ms_ipc_type type, const void *body, size_t body_bytes,
                const void *tail, size_t tail_bytes);

    /* raft_report_snapshot, raft_step, raft_basic_status. */
    void (*report)(void *ctx, node_id peer, bool failed);
    int (*step)(void *ctx, const struct raft_message *message);
    void (*basic_status)(void *ctx, struct raft_basic_status *out);
    /*
     * Whether the peer needs no snapshot any more to go on behind index: this node does not lead,
     * or the peer's progress is in REPLICATE with a match of at least index, or it is no member.
     */
    bool (*has_gone_on)(void *ctx, node_id peer, raft_index index);
    void *ctx;
};

struct snapshot_exchange;

/* MS_ENOMEM. On MS_OK the caller owns *out; alloc (copied) must outlive it. */
int snapshot_exchange_create(const struct raft_alloc *alloc,
                             const struct snapshot_exchange_calls *calls,
                             struct snapshot_exchange **out);
/* Takes NULL, too. Calls nobody. */
void snapshot_exchange_destroy(struct snapshot_exchange *exchange);

/* ---- for the core ---- */

/*
 * raft_storage.snapshot: one that the log continues (index + 1 >= log_first_index > 0), as a new
 * reference. MS_EAGAIN: it is being opened; the core asks again.
 */
int snapshot_exchange_newest(struct snapshot_exchange *exchange, raft_index log_first_index,
                             struct raft_snapshot **out);

/* A MsgSnap that came out of the core; borrowed. Every outcome is reported to the core. */
void snapshot_exchange_send(struct snapshot_exchange *exchange, const struct raft_message *message,
                            struct ms_instant now);

/* ---- from peers: the handlers of struct peers_events with the exchange as ctx ---- */

void snapshot_exchange_on_begin(void *ctx, peers_transfer transfer,
                                const struct raft_message *message, uint64_t size_bytes);
void snapshot_exchange_on_data(void *ctx, peers_transfer transfer, uint64_t offset,
                               const uint8_t *data, size_t len_bytes);
void snapshot_exchange_on_end(void *ctx, peers_transfer transfer);
void snapshot_exchange_on_lost(void *ctx, peers_transfer transfer);
void snapshot_exchange_on_want(void *ctx, peers_transfer transfer, uint64_t offset,
                               size_t len_bytes);
void snapshot_exchange_on_done(void *ctx, peers_transfer transfer, node_id peer, int status);

/* ---- the apply link ---- */

/* The link is gone: everything that was open on it is, too. */
void snapshot_exchange_link_down(struct snapshot_exchange *exchange);

/*
 * SNAP_OPENED, SNAP_DATA or SNAP_PROGRESS. MS_EPROTO: it contradicts what was asked for, or a
 * message of another type; the peer is to be reported. MS_ENOMEM.
 */
int snapshot_exchange_handle(struct snapshot_exchange *exchange,
                             const struct ms_ipc_message *message);

/*
 * Sends what may be sent and has room; called once per round. MS_OK also when the rest has to
 * wait; others as send returned them.
 */
int snapshot_exchange_pump(struct snapshot_exchange *exchange);

/* ---- time ---- */

/* Once per heartbeat interval: closes sessions that nobody needs any more. */
void snapshot_exchange_tick(struct snapshot_exchange *exchange, struct ms_instant now);

/* Transfers under way in either direction; for metrics and tests. */
size_t snapshot_exchange_sending(const struct snapshot_exchange *exchange);
bool snapshot_exchange_is_receiving(const struct snapshot_exchange *exchange);

#endif

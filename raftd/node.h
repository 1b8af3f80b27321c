/*
 * node: one Raft node among its neighbours: the core, the links to storaged and to the apid
 * processes, the other members of the cluster, and what waits between them.
 *
 * It knows nothing of event loops and sockets: whoever drives it hands over links, ticks and what
 * peers say, watches one descriptor, and calls raftd_node_run when that is readable. No file is
 * touched and no other process is waited for.
 *
 *     WAITING    for LOG_STATE and APPLY_STATE: where log and state machine stand
 *       |  log is empty: FOUNDING, until the first entries are durable (with --join: no entries)
 *       |  log goes beyond what is applied: LOADING, until these entries are here
 *     RUNNING    the core is there; a storaged that dies now changes nothing of that
 *
 * Before RUNNING a new link to storaged leads back to WAITING, and peers are not listened to.
 */
#ifndef METASTORE_RAFTD_NODE_H
#define METASTORE_RAFTD_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/control.h"
#include "common/err.h"
#include "common/link.h"
#include "common/metrics.h"
#include "common/status_page.h"
#include "common/types.h"
#include "raftd/peers.h"

struct raftd_node;

/* The way to the other members: peers_* of raftd/peers.h, or what a test puts in their place. */
struct raftd_network {
    int (*send)(void *ctx, struct raft_message *message);
    int (*send_note)(void *ctx, node_id to, enum peers_note kind, const uint8_t *data,
                     size_t len_bytes);
    void (*flush)(void *ctx);
    bool (*is_connected)(void *ctx, node_id peer);
    int (*set_members)(void *ctx, const struct peers_member *members, size_t count,
                       struct ms_err *err);
    void (*judge_again)(void *ctx);
    int (*snapshot_send)(void *ctx, const struct raft_message *message, uint64_t size_bytes,
                         peers_transfer *out);
    void (*snapshot_write)(void *ctx, peers_transfer transfer, const uint8_t *data,
                           size_t len_bytes);
    void (*snapshot_abort)(void *ctx, peers_transfer transfer);
    void (*snapshot_accept)(void *ctx, peers_transfer transfer, uint64_t offset);
    void (*snapshot_refuse)(void *ctx, peers_transfer transfer);
    void (*snapshot_consumed)(void *ctx, peers_transfer transfer, size_t len_bytes);
    void (*snapshot_finish)(void *ctx, peers_transfer transfer, int status);
    void *ctx;
};

struct raftd_node_options {
    const struct ms_config *config; /* borrowed for the call of create */
    uint64_t origin;                /* random name of this incarnation */
    uint64_t data_id;               /* names the data dir */
    bool has_cluster_key;
    struct ms_instant now;
    struct ms_status_page *page; /* borrowed, writable */
    struct ms_metrics *metrics;  /* borrowed; may be NULL */
    struct raftd_network network;
    /* A neighbour broke the protocol; its link is dropped already. */
    void (*report_peer)(void *ctx, const struct ms_link_info *peer, const char *text);
    /* The core is there: peers may be listened to now. Called once, before on_ready. */
    void (*on_running)(void *ctx);
    /* The node serves, or will as soon as others let it; called once. */
    void (*on_ready)(void *ctx);
    /* The cluster has removed this node and needs nothing more of it; called once. */
    void (*on_removed)(void *ctx);
    /* Answers an administrator's request (raftd_node_ask_member). */
    void (*answer_admin)(void *ctx, const struct ms_control_member_answer *answer);
    /*
     * The first raftd of this start of the node: a sole voter is not ready before it leads (whoever
     * waits for it wants to write), and a data dir whose node was removed is refused. A raftd that
     * replaces another is ready with its core.
     */
    bool first_start;
    /* A number below n, for election timeouts; NULL: the kernel's random numbers. */
    uint32_t (*draw)(void *ctx, uint32_t n);
    void *ctx;
};

/*
 * MS_ENOMEM, MS_EINVAL for an unusable --cluster, or MS_EIO when the kernel refuses a descriptor.
 * On MS_OK the caller owns *out.
 */
int raftd_node_create(const struct raftd_node_options *options, struct raftd_node **out,
                      struct ms_err *err);
/* Takes NULL, too. Calls nothing of the options. */
void raftd_node_destroy(struct raftd_node *node);

/*
 * Others can connect to this node. To be said before it runs; a node that hears of other members
 * without it fails, for it would vote and never be heard of.
 */
void raftd_node_set_listening(struct raftd_node *node);

/* Readable when raftd_node_run should be called. Owned by the node. */
int raftd_node_fd(const struct raftd_node *node);

/*
 * A new link from the supervisor, whose content is the node's from now on, also on failure. What
 * the link before it still holds is handled first. MS_EPROTO: a link that raftd has no end of;
 * others as raftd_node_run.
 */
int raftd_node_take_link(struct raftd_node *node, const struct ms_link *link, struct ms_instant now,
                         struct ms_err *err);

/* A neighbour is gone: handles what it had published and closes its links. As raftd_node_run. */
int raftd_node_peer_down(struct raftd_node *node, enum ms_role role, uint32_t instance,
                         struct ms_instant now, struct ms_err *err);

/*
 * The handlers for what comes from other members, with node as their ctx. They only take note:
 * when raftd_node_has_news says so, raftd_node_run is to be called, once for many of them.
 */
void raftd_node_peers_events(struct raftd_node *node, struct peers_events *out);
bool raftd_node_has_news(const struct raftd_node *node);

/* One heartbeat interval has passed. As raftd_node_run, which must be called afterwards. */
int raftd_node_tick(struct raftd_node *node, struct ms_instant now, struct ms_err *err);

/*
 * Does all that can be done now.
 *
 *   MS_OK       nothing is left; the next event will make raftd_node_fd readable
 *   MS_EAGAIN   there is more to do: call again soon, without waiting
 *   MS_EINVAL   this node cannot run as it is configured; a retry is pointless
 *   MS_ECORRUPT log or state machine contradict each other or Raft; a retry is pointless
 *   MS_ENOMEM   out of memory, MS_EIO the kernel refused: a new start recovers
 */
int raftd_node_run(struct raftd_node *node, struct ms_instant now, struct ms_err *err);

/* An administrator's wish; answered by answer_admin, now or later. */
void raftd_node_ask_member(struct raftd_node *node, const struct ms_control_member_request *request,
                           struct ms_instant now);

/* Takes no more proposals and reads. */
void raftd_node_drain(struct raftd_node *node);
/* Whether everything that was taken is durable and applied. */
bool raftd_node_is_idle(const struct raftd_node *node);

/*
 * The process is going to end: a leader hands over to another member first. raftd_node_may_leave
 * tells, after any raftd_node_run, when that is done or there is nobody to hand over to.
 */
void raftd_node_leave(struct raftd_node *node, struct ms_instant now);
bool raftd_node_may_leave(const struct raftd_node *node);

#endif

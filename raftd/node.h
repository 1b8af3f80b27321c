/*
 * node: one Raft node among its neighbours: the core, the links to storaged and to the apid
 * processes, and what waits between them.
 *
 * It knows nothing of event loops: whoever drives it hands over links and ticks, watches one
 * descriptor, and calls raftd_node_run when that is readable. No file is touched and no other
 * process is waited for.
 *
 *     WAITING    for LOG_STATE and APPLY_STATE: where log and state machine stand
 *       |  log is empty: FOUNDING, until the first entries are durable
 *       |  log goes beyond what is applied: LOADING, until these entries are here
 *     RUNNING    the core is there; a storaged that dies now changes nothing of that
 *
 * Before RUNNING a new link to storaged leads back to WAITING.
 */
#ifndef METASTORE_RAFTD_NODE_H
#define METASTORE_RAFTD_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/err.h"
#include "common/link.h"
#include "common/metrics.h"
#include "common/status_page.h"
#include "common/types.h"

struct raftd_node;

struct raftd_node_options {
    const struct ms_config *config; /* borrowed for the call of create */
    uint64_t origin;                /* random name of this incarnation */
    struct ms_status_page *page;    /* borrowed, writable */
    struct ms_metrics *metrics;     /* borrowed; may be NULL */
    /* A neighbour broke the protocol; its link is dropped already. */
    void (*report_peer)(void *ctx, const struct ms_link_info *peer, const char *text);
    /* The node serves, or will as soon as others let it; called once. */
    void (*on_ready)(void *ctx);
    /*
     * A sole voter is not ready before it leads. For the first start: whoever waits for it wants to
     * write. A raftd that replaces another is ready with its core.
     */
    bool ready_when_leading;
    void *ctx;
};

/* MS_ENOMEM, or MS_EIO when the kernel refuses a descriptor. On MS_OK the caller owns *out. */
int raftd_node_create(const struct raftd_node_options *options, struct raftd_node **out,
                      struct ms_err *err);
/* Takes NULL, too. */
void raftd_node_destroy(struct raftd_node *node);

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

/* Takes no more proposals and reads. */
void raftd_node_drain(struct raftd_node *node);
/* Whether everything that was taken is durable and applied. */
bool raftd_node_is_idle(const struct raftd_node *node);

#endif

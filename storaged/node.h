/*
 * node: storaged without its event loop: log, engine, links, and what goes on between them.
 *
 * Everything here runs on the owner thread and never blocks for long; each call does a bounded
 * amount of work. The owner calls run whenever the descriptor is readable, tick about every second.
 */
#ifndef METASTORE_STORAGED_NODE_H
#define METASTORE_STORAGED_NODE_H

#include "common/clock.h"
#include "common/config.h"
#include "common/control.h"
#include "common/err.h"
#include "common/exit_codes.h"
#include "common/link.h"
#include "common/metrics.h"
#include "common/status_page.h"

struct store_node;

struct store_node_options {
    const struct ms_config *config; /* borrowed, like all below; may change at run time */
    enum ms_worker_end previous_end;
    bool data_was_used; /* see recovery.h */
    const struct ms_status_page *page;
    struct ms_metrics *metrics; /* may be NULL */
    /* A neighbour broke the protocol; its link is closed. */
    void (*report_peer)(void *ctx, const struct ms_link_info *peer, const char *text);
    void *ctx;
};

/* Work of physical compaction between two batches, in the engine's measure. */
#define STORE_NODE_COMPACT_BUDGET 256

/* How often store_node_tick wants to be called. */
#define STORE_NODE_TICK_MS 500

/* Recovers. Errors as recovery_open. */
int store_node_create(const struct store_node_options *options, struct store_node **out,
                      struct ms_err *err);

/* Closes everything as it is: what another storaged needs to continue stays. NULL is allowed. */
void store_node_destroy(struct store_node *node);

/*
 * The orderly end: makes durable and applies what the rings hold, then closes everything and
 * removes the memory engine's file. Frees the node.
 */
void store_node_stop(struct store_node *node);

/* Readable when run has something to do; borrowed. */
int store_node_fd(const struct store_node *node);

/*
 * MS_OK: nothing to do until the descriptor is readable; MS_EAGAIN: call again soon. Anything else
 * ends the process with store_node_exit.
 */
int store_node_run(struct store_node *node, struct ms_instant now, struct ms_err *err);
int store_node_tick(struct store_node *node, struct ms_instant now, struct ms_err *err);

/* What the process should exit with after one of these failed. */
enum ms_exit store_node_exit(const struct store_node *node);

/* Takes over a link, also on failure. */
int store_node_take_link(struct store_node *node, const struct ms_link *link, struct ms_err *err);
void store_node_peer_down(struct store_node *node, const struct ms_control_peer_down *down);

#endif

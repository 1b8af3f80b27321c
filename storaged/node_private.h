/*
 * node_private: what the parts of node share.
 */
#ifndef METASTORE_STORAGED_NODE_PRIVATE_H
#define METASTORE_STORAGED_NODE_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "storaged/api_links.h"
#include "storaged/applier.h"
#include "storaged/installer.h"
#include "storaged/keeper.h"
#include "storaged/log_thread.h"
#include "storaged/node.h"
#include "storaged/recovery.h"
#include "storaged/snapshot_in.h"
#include "storaged/snapshot_out.h"

/* What a descriptor in the set stands for. Doorbells need no telling apart. */
enum node_event {
    NODE_EVENT_DOORBELL = 0,
    NODE_EVENT_LOG = 1,
    NODE_EVENT_SNAPSHOT = 2,
    NODE_EVENT_RECEIVED = 3,
    NODE_EVENT_INSTALLED = 4,
};

/*
 * raftd comes with two links at once. Both wait until what the raftd before it had published is
 * applied: only then is it certain what LOG_STATE and APPLY_STATE must say.
 */
struct store_node {
    struct store_node_options options;
    struct recovered parts;
    int epoll_fd;
    struct api_links api;
    struct applier *applier;
    struct log_thread *log;
    struct keeper *keeper;
    struct snapshot_out *out;
    struct snapshot_in *in;
    struct installer *installer;
    struct ms_link next_log;   /* closed: none waits */
    struct ms_link next_apply; /* the same */
    enum ms_exit exit_status;
    bool memory_full;
    bool compacting;      /* the last step left more to be removed */
    bool log_draining;    /* the log thread still works for a raftd that is gone ... */
    uint64_t log_dropped; /* ... until it says this number */
    bool has_built;       /* a new state waits to be switched to */
    struct installer_outcome built;
};

/* Remembers what the process should exit with; returns rc. */
int node_fail(struct store_node *node, enum ms_exit exit_status, int rc);

/* What apids have to know of the engine as it is now. */
struct api_links_news node_news(const struct store_node *node);

/* raftd is gone, or its links are of no more use. */
void node_drop_log_link(struct store_node *node);

/* ---- node_install ---- */

/* Whether the state is being replaced, or has to be before a new raftd may come. */
bool node_install_is_due(const struct store_node *node);

/* Begins what is due, and switches to what is built. *more: something has changed. */
int node_install_run(struct store_node *node, bool *more, struct ms_err *err);

/* The installer has something to say. */
int node_install_collect(struct store_node *node, struct ms_err *err);

/* Gives up what is under way. */
void node_install_end(struct store_node *node);

#endif

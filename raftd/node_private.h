/*
 * node_private: struct raftd_node, and what the files of the node call of each other.
 *
 * node.c has the loop, node_links.c the links, node_start.c the way from nothing to a running core,
 * node_core.c what goes into and comes out of the core.
 */
#ifndef METASTORE_RAFTD_NODE_PRIVATE_H
#define METASTORE_RAFTD_NODE_PRIVATE_H

#include "raftd/api_client.h"
#include "raftd/apply_client.h"
#include "raftd/core/raft.h"
#include "raftd/entry_codec.h"
#include "raftd/entry_store.h"
#include "raftd/log_client.h"
#include "raftd/membership.h"
#include "raftd/node.h"
#include "raftd/proposals.h"
#include "raftd/publisher.h"
#include "raftd/read_queue.h"

/*
 * With so much proposed and not yet applied nothing more is taken; the rest waits in the rings.
 * The core's own limits lie a batch above it, so they are never met.
 */
#define NODE_UNAPPLIED_BYTES_MAX (16u * 1024u * 1024u)

/* Applied entries that stay in memory for followers that lag a little. */
#define NODE_RECENT_BYTES_MAX (1024u * 1024u)

enum raftd_node_phase {
    NODE_WAITING,
    NODE_FOUNDING,
    NODE_LOADING,
    NODE_RUNNING,
};

struct raftd_node {
    struct raftd_node_options options; /* config is not kept in it */
    struct ms_config config;
    struct raft_alloc alloc;
    int epoll_fd;
    enum raftd_node_phase phase;
    struct ms_instant now;
    bool draining;
    bool said_ready;
    struct ms_err failure; /* status other than MS_OK: the node cannot go on */

    struct raft *raft; /* NULL before RUNNING */
    struct raft_basic_status basic;
    struct raft_hard_state initial_hard;
    struct ms_instant leaderless_since;

    struct entry_store store;
    struct log_client log;
    struct apply_client apply;
    struct api_clients api;
    struct proposals proposals;
    struct read_queue reads;
    struct membership membership;
    struct publisher publisher;
    raft_index log_first_index; /* of storaged's log */

    /* LOADING */
    uint64_t load_request; /* the number of the LOG_READ under way; 0: it has to be sent yet */
    uint64_t load_requests;

    uint32_t next_slot;     /* the apid whose turn it is first */
    uint64_t unsendable;    /* messages to other nodes that had no way to go */
    size_t entry_bytes_max; /* the longest command that fits into the rings to storaged */
};

/* Remembers the first failure. Returns its status. */
int raftd_node_fail(struct raftd_node *node, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What a public function returns that worked: MS_OK, or the failure in *err. */
int raftd_node_outcome(const struct raftd_node *node, struct ms_err *err);
/* Hands to the core what was taken from the apids. */
void raftd_node_submit(struct raftd_node *node);

/* ---- node_links.c ---- */

/* Handles what storaged sent, a burst of it. Tells whether there may be more. */
bool raftd_node_receive(struct raftd_node *node);
/* Takes what the apids have, a batch of it, each of them first in turn. */
void raftd_node_receive_work(struct raftd_node *node);
/* Whether an apid may have more that could be taken now. */
bool raftd_node_work_waits(const struct raftd_node *node);
/* Sends what is due, as far as there is room, and wakes who sleeps. */
void raftd_node_send(struct raftd_node *node);
void raftd_node_clear_doorbells(struct raftd_node *node);
/* False if something has come in meanwhile. Links that are not listened to now ring no bell. */
bool raftd_node_prepare_sleep(struct raftd_node *node);

/* ---- node_start.c ---- */

/* Goes from WAITING as far as what is known allows. Failures are remembered in the node. */
void raftd_node_start(struct raftd_node *node);
/* A new link to storaged has come before the core was there. */
void raftd_node_restart(struct raftd_node *node);
/* FOUNDING: the first entries are durable. */
void raftd_node_founded(struct raftd_node *node);
/* LOADING: sends the next LOG_READ if one is due. As ms_link_send, but never MS_EAGAIN. */
int raftd_node_load(struct raftd_node *node);
/* LOADING: an answer to it. MS_EPROTO: not what was asked for. */
int raftd_node_loaded(struct raftd_node *node, const struct ms_ipc_message *message);

/* ---- node_core.c ---- */

/* Creates the core from what is in store, membership and initial_hard. */
void raftd_node_create_core(struct raftd_node *node);
/* Does what the core wants done, until it wants nothing more. */
void raftd_node_do_ready(struct raftd_node *node);
/* Storage has done what message asked for: its responses go where they belong. */
void raftd_node_deliver(struct raftd_node *node, const struct raft_message *message);
/* A committed change has come up; see struct apply_client_events. */
int raftd_node_change_conf(struct raftd_node *node, const struct raft_entry *entry,
                           struct conf_record *out);
/* Publishes status page and metrics. */
void raftd_node_publish(struct raftd_node *node);

#endif

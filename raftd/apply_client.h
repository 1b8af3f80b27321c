/*
 * apply_client: raftd's end of the apply link to storaged.
 *
 * Takes what the core wants applied (MsgStorageApply), sends it in order and says when the state
 * machine has it. What storaged has not reported applied stays here for a storaged that comes
 * back: its APPLY_STATE says where to go on.
 *
 * An entry that changes the configuration stops the stream: first the owner applies the change to
 * the core, then the new configuration must be durable in the log, then APPLY_CONF and the entry
 * go out. So a state machine that is rebuilt from the log finds every configuration it needs.
 *
 * A snapshot takes the place of everything before it, also of what waits here: such entries are not
 * sent any more, and count as applied once the snapshot is.
 */
#ifndef METASTORE_RAFTD_APPLY_CLIENT_H
#define METASTORE_RAFTD_APPLY_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/ipc_catalogue.h"
#include "common/link.h"
#include "raftd/core/raft.h"
#include "raftd/membership.h"

struct apply_item;
STAILQ_HEAD(apply_item_list, apply_item);
struct apply_conf;
STAILQ_HEAD(apply_conf_list, apply_conf);

struct apply_client_events {
    /*
     * The stream has come to a committed change; called once per such entry, in order. Applies it
     * to the core, starts to make the outcome durable, and lays the record (one reference) in
     * *out; out->buffer stays NULL if there is nothing to record. MS_ENOMEM.
     */
    int (*on_conf_change)(void *ctx, const struct raft_entry *entry, struct conf_record *out);
    /* All entries of message, or its snapshot, are applied; borrowed for the call. */
    void (*on_applied)(void *ctx, const struct raft_message *message);
    void *ctx;
};

/*
 * applied <= sent_index. Items before unsent are sent completely, or replaced; confs are those of
 * changes above applied that the stream has come to.
 */
struct apply_client {
    const struct raft_alloc *alloc;
    struct apply_client_events events;
    struct ms_link link;
    bool adopted;    /* the owner builds on what APPLY_STATE said */
    bool have_state; /* the present link's APPLY_STATE has come */
    raft_index applied;
    raft_term applied_term; /* as APPLY_STATE said */
    raft_index sent_index;
    raft_index conf_seen;   /* the last change that on_conf_change was called for */
    raft_index conf_sent;   /* the last for which APPLY_CONF went out on this link */
    raft_index replaced_to; /* entries up to this one are part of a snapshot to be applied */
    struct apply_item_list items;
    struct apply_item *unsent;
    struct apply_conf_list confs;
};

void apply_client_init(struct apply_client *client, const struct raft_alloc *alloc,
                       const struct apply_client_events *events);
void apply_client_fini(struct apply_client *client);

/* A new link (its content is the client's now); the old one must be closed. */
void apply_client_take_link(struct apply_client *client, const struct ms_link *link);
void apply_client_close(struct apply_client *client);

/*
 * From now on the state machine must not be found behind what it reported. Before that each
 * APPLY_STATE simply replaces the one before.
 */
void apply_client_adopt(struct apply_client *client);

/*
 * Takes a MsgStorageApply, or a MsgStorageAppend whose snapshot is durable now (empty afterwards).
 * MS_ENOMEM: message stays as it was.
 */
int apply_client_apply(struct apply_client *client, struct raft_message *message);

/* Entries up to index need not be applied one by one: a snapshot of index will be. */
void apply_client_replace(struct apply_client *client, raft_index index);

/* The configuration that the change at index led to is durable. */
void apply_client_conf_durable(struct apply_client *client, raft_index index);

/* Whether all that was taken is applied. */
bool apply_client_is_idle(const struct apply_client *client);

/*
 * Sends what may be sent and has room, and reports what is applied. MS_OK also when the rest has
 * to wait. MS_ECORRUPT: the ring is broken; MS_ERANGE: an entry does not fit into the ring;
 * MS_ENOMEM.
 */
int apply_client_pump(struct apply_client *client);

/*
 * APPLY_STATE or APPLY_DONE; committed is the core's commit index. MS_EPROTO: it contradicts what
 * was said before, or a message of another type; the peer is to be reported.
 */
int apply_client_handle(struct apply_client *client, const struct ms_ipc_message *message,
                        raft_index committed);

#endif

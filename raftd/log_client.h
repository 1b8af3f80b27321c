/*
 * log_client: raftd's end of the log link to storaged.
 *
 * Takes what the core wants on disk, in order, and says when it is there. Whatever storaged has
 * not answered stays here, so that a storaged that died gets it again: a new link begins with
 * LOG_STATE, from which follows where to go on. Who calls log_client_append need not know about
 * links at all; what cannot be sent now is sent by a later log_client_pump.
 *
 * A snapshot that replaces the log goes the same way, as LOG_SNAPSHOT, before the entries behind
 * it.
 *
 * A commit index that moves alone is no reason for a sync: it is a hint that spares work after a
 * power cut, so it waits for the next record that has to be written anyway.
 */
#ifndef METASTORE_RAFTD_LOG_CLIENT_H
#define METASTORE_RAFTD_LOG_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/conf_state.h"
#include "common/ipc_catalogue.h"
#include "common/link.h"
#include "raftd/core/raft.h"
#include "raftd/membership.h"

/* Past so many unanswered items the node takes no more proposals. */
#define LOG_CLIENT_BACKLOG_MAX 16384u

struct log_item;
STAILQ_HEAD(log_item_list, log_item);

struct log_client_events {
    /*
     * All of message, and everything before it, is durable. message is borrowed for the call, but
     * the handler may take what is in it.
     */
    void (*on_written)(void *ctx, struct raft_message *message);
    /* The configuration of the entry at index is durable. */
    void (*on_conf_durable)(void *ctx, raft_index index);
    void *ctx;
};

struct log_position {
    raft_index index;
    raft_term term;
};

/*
 * Items wait in three groups, in order: sent, being sent (unsent points to it), not yet begun.
 * durable_seq <= sent_seq; both count the records of the present link.
 */
struct log_client {
    const struct raft_alloc *alloc;
    struct log_client_events events;
    struct ms_link link;
    bool adopted;              /* the owner builds on what LOG_STATE said */
    bool have_state;           /* the present link's LOG_STATE has come */
    bool full;                 /* the disk is: take no more proposals */
    struct ms_log_state state; /* as of the newest LOG_STATE */
    size_t conf_bytes;         /* of conf */
    uint64_t sent_seq;
    uint64_t durable_seq;
    struct log_position acked_last;   /* where the log ends after all answered items */
    raft_index last_index;            /* where it will end after all items */
    raft_index kept_index;            /* no unanswered item replaces anything up to here */
    size_t replacing;                 /* unanswered items that replace something */
    raft_index sent_last_index;       /* where it will end after all sent records */
    struct ms_hard_state acked_hard;  /* after all answered items, hints included */
    struct ms_hard_state latest_hard; /* after all items up to unsent */
    struct ms_hard_state sent_hard;   /* as the sent records leave it */
    struct log_item_list items;
    struct log_item *unsent;
    size_t backlog;                        /* number of items */
    uint8_t conf[MS_CONF_STATE_BYTES_MAX]; /* the tail of the newest LOG_STATE */
};

void log_client_init(struct log_client *client, const struct raft_alloc *alloc,
                     const struct log_client_events *events);
void log_client_fini(struct log_client *client);

/* A new link (its content is the client's now); the old one must be closed. */
void log_client_take_link(struct log_client *client, const struct ms_link *link);
/* storaged is gone; what is unanswered waits for the next link. */
void log_client_close(struct log_client *client);

/*
 * From now on the log must not be found behind what it reported durable. Before that each
 * LOG_STATE simply replaces the one before. Nothing may be taken before this.
 */
void log_client_adopt(struct log_client *client);

/*
 * Takes a MsgStorageAppend (snapshot, entries, hard state, responses; empty afterwards) in the
 * order the core made them. MS_ENOMEM: message stays as it was.
 */
int log_client_append(struct log_client *client, struct raft_message *message,
                      struct ms_instant now);
/* Makes a configuration durable; takes a reference to its bytes. MS_ENOMEM. */
int log_client_write_conf(struct log_client *client, const struct conf_record *record,
                          struct ms_instant now);

/*
 * Up to where the log on disk certainly is what it is going to be: it may be longer, but then with
 * entries that are about to be replaced.
 */
raft_index log_client_certain_index(const struct log_client *client);

/* For how long the oldest item has waited for its answer; 0 if there is none. */
uint64_t log_client_waits_ms(const struct log_client *client, struct ms_instant now);

/*
 * Sends what the link has room for and reports what became durable. MS_OK also when the rest has
 * to wait. MS_ECORRUPT: the ring is broken; MS_ERANGE: an entry does not fit into the ring.
 */
int log_client_pump(struct log_client *client);

/*
 * Handles a message from the link. MS_EPROTO: it contradicts what was said before; the peer is to
 * be reported.
 */
int log_client_handle(struct log_client *client, const struct ms_ipc_message *message);

#endif

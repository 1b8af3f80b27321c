/*
 * node_private: struct raftd_node, and what the files of the node call of each other.
 *
 * node.c has the loop, node_links.c the links, node_peers.c the other members, node_start.c the way
 * from nothing to a running core, node_core.c what goes into and comes out of the core,
 * node_members.c the membership, node_time.c what happens because time passes, node_services.c what
 * the modules beside the node need of it.
 */
#ifndef METASTORE_RAFTD_NODE_PRIVATE_H
#define METASTORE_RAFTD_NODE_PRIVATE_H

#include "raftd/admission.h"
#include "raftd/api_client.h"
#include "raftd/apply_client.h"
#include "raftd/core/raft.h"
#include "raftd/entry_codec.h"
#include "raftd/entry_store.h"
#include "raftd/lease.h"
#include "raftd/log_client.h"
#include "raftd/log_reader.h"
#include "raftd/member_service.h"
#include "raftd/membership.h"
#include "raftd/node.h"
#include "raftd/proposals.h"
#include "raftd/publisher.h"
#include "raftd/read_queue.h"
#include "raftd/snapshot_exchange.h"

/*
 * With so much proposed and not yet applied nothing more is taken; the rest waits in the rings.
 * The core's own limits lie a batch above it, so they are never met.
 */
#define NODE_UNAPPLIED_BYTES_MAX (16u * 1024u * 1024u)

/*
 * With so much not yet applied a follower lets the leader's entries go by, as if they were lost;
 * the leader sends them again.
 */
#define NODE_FOLLOWER_BYTES_MAX (4u * NODE_UNAPPLIED_BYTES_MAX)

/* Applied entries that stay in memory: for a sole voter, and where followers may lag a little. */
#define NODE_RECENT_BYTES_ALONE   (1024u * 1024u)
#define NODE_RECENT_BYTES_CLUSTER (16u * 1024u * 1024u)

enum raftd_node_phase {
    NODE_WAITING,
    NODE_FOUNDING,
    NODE_LOADING,
    NODE_RUNNING,
};

/* A member's URL as it said itself, for when this node's membership lags behind. */
struct node_address {
    node_id id; /* 0: free */
    raft_index conf_index;
    char url[MS_PEER_URL_BYTES];
};

/* Why this node gives leadership away. */
enum node_hand_over {
    NODE_KEEPS = 0,
    NODE_LEAVES,     /* the process is going to end */
    NODE_IS_REMOVED, /* it is no voter any more */
    NODE_DISK_STUCK, /* storaged has not answered for an election timeout */
    NODE_DISK_FULL,  /* it can append nothing, and others may */
};

struct node_heard {
    node_id id; /* 0: nobody yet */
    struct ms_instant at;
};

struct raftd_node {
    struct raftd_node_options options; /* config is not kept in it */
    struct ms_config config;
    struct raft_alloc alloc;
    int epoll_fd;
    enum raftd_node_phase phase;
    struct ms_instant now;
    bool listening; /* see raftd_node_set_listening */
    bool has_news;  /* something came in that raftd_node_run has not looked at */
    bool draining;
    bool said_ready;
    struct ms_err failure; /* status other than MS_OK: the node cannot go on */

    struct raft *raft; /* NULL before RUNNING */
    struct raft_basic_status basic;
    struct raft_hard_state initial_hard;
    uint64_t election_ticks;

    struct entry_store store;
    struct log_reader reader;
    struct log_client log;
    struct apply_client apply;
    struct api_clients api;
    struct proposals proposals;
    struct read_queue reads;
    struct lease lease;
    struct membership membership;
    struct publisher publisher;
    struct admission admission;
    struct member_service *members;
    struct snapshot_exchange *snapshots;

    raft_index log_first_index; /* of storaged's log */
    raft_index snapshot_floor;  /* an older snapshot lacks a member that needs one */
    bool terms_asked;           /* on the present apply link */
    bool terms_known;

    size_t installing; /* snapshots that the log has and the state machine does not, core's */
    struct raft_message held_response; /* of the last write behind them; index 0: none */

    /* Leaders. */
    struct ms_instant leaderless_since;
    node_id known_lead; /* the last leader known, and its term */
    raft_term known_term;
    struct ms_instant early_from;   /* may campaign before its election timeout has passed, from */
    struct ms_instant early_until;  /* then until then */
    bool early_due;                 /* something has changed since it tried that last */
    bool proposals_at_risk;         /* some were handed to the core under known_lead */
    struct ms_instant repropose_at; /* 0: no reason to; else tell the apids then */
    struct ms_instant votes_from;   /* lease reads: earlier another may still rely on it */
    enum node_hand_over hand_over;
    struct ms_instant hand_over_since;
    struct ms_instant full_since; /* when it last began to hand over for a full disk; 0: never */
    node_id hand_over_to;         /* 0: nobody was asked yet */
    raft_term resigned_in;        /* see raftd_node_resigns_first */

    /* Members. */
    bool was_member;
    bool said_removed;
    struct ms_instant removed_at;                   /* 0: it was not */
    struct node_heard heard[MS_STATUS_MEMBERS_MAX]; /* from whom messages came, and when last */
    struct node_address addresses[MS_STATUS_MEMBERS_MAX];

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
/* LOADING: takes what has come of the log, asks for more. MS_EPROTO: storaged contradicts itself.
 */
int raftd_node_load(struct raftd_node *node);

/* ---- node_core.c ---- */

/* Creates the core from what is in store, membership and initial_hard. */
void raftd_node_create_core(struct raftd_node *node);
/* Does what the core wants done, until it wants nothing more. */
void raftd_node_do_ready(struct raftd_node *node);
/* The log has all of message: its responses go where they belong, its snapshot to be applied. */
void raftd_node_written(struct raftd_node *node, struct raft_message *message);
/* The state machine has all of message. */
void raftd_node_applied(struct raftd_node *node, const struct raft_message *message);
/* Publishes status page and metrics. */
void raftd_node_publish(struct raftd_node *node);
/* The core's answer to raft_step in words and numbers of the node: MS_OK, or it cannot go on. */
int raftd_node_check_step(struct raftd_node *node, const struct raft_message *message, int rc);

/* ---- node_peers.c ---- */

/* Sends a message of the core to another member; it is empty afterwards. */
void raftd_node_send_message(struct raftd_node *node, struct raft_message *message);
/* Tells peers whom to talk to, after anything that this depends on has changed. */
void raftd_node_set_contacts(struct raftd_node *node);
/* Acts on what the others have decided about this node. */
void raftd_node_check_fate(struct raftd_node *node);

/* ---- node_services.c ---- */

/* Creates snapshots and members. MS_ENOMEM. */
int raftd_node_create_services(struct raftd_node *node);

/* ---- node_members.c ---- */

/* A committed change has come up; see struct apply_client_events. */
int raftd_node_change_conf(struct raftd_node *node, const struct raft_entry *entry,
                           struct conf_record *out);
/* A snapshot has replaced the membership. */
void raftd_node_restore_conf(struct raftd_node *node, const struct raft_snapshot *snapshot);
/* The membership is another one, or known for the first time: tells who has to know. */
void raftd_node_membership_changed(struct raftd_node *node);
/* Whether this node is in the applied membership. */
bool raftd_node_is_member(const struct raftd_node *node);

/* ---- node_time.c ---- */

/* What every tick brings, before the core's own. */
void raftd_node_pass_time(struct raftd_node *node);
/* The core has another leader or term. */
void raftd_node_note_leader(struct raftd_node *node);
/* The core has just been created: settles what depends on how this node ended last. */
void raftd_node_begin_time(struct raftd_node *node);
/* Campaigns at once where waiting for the election timeout would serve nobody. */
void raftd_node_campaign(struct raftd_node *node);
/* Nobody listens where this member should be. */
void raftd_node_is_absent(struct raftd_node *node, node_id peer);

/* Whether this peer is connected and has said something within an election timeout. */
bool raftd_node_is_there(const struct raftd_node *node, node_id peer);
/* Proposals that were passed on got lost: the apids are told after a short pause. */
void raftd_node_proposals_lost(struct raftd_node *node);
/*
 * The leader is about to remove itself. True: it has begun to hand over, and whoever leads next can
 * do it without a pause; false: there is nobody who could, so it has to be done by itself.
 */
bool raftd_node_resigns_first(struct raftd_node *node);
/* This node may not take part in elections now, though it may answer everything else. */
bool raftd_node_is_barred(const struct raftd_node *node);

#endif

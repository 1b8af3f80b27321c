/*
 * admission: who may talk to whom, and what it means for this node when others refuse it.
 *
 * Judges the hellos of peers by the applied membership, keeps a new cluster from being founded
 * twice, lets a joining node find its cluster, and recognises a data dir that was lost or replaced.
 * Pure logic over what it is told: no sockets, no clock, no log storage.
 *
 * A node is one of these:
 *     member     the applied membership has it
 *     founding   a member whose log holds nothing but the first entries of a new cluster
 *     joining    started with --join and not in the applied membership (yet); says cluster id 0
 *     removed    was a member and is in the applied membership no more
 */
#ifndef METASTORE_RAFTD_ADMISSION_H
#define METASTORE_RAFTD_ADMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf_state.h"
#include "common/config.h"
#include "common/err.h"
#include "common/types.h"
#include "raftd/peers.h"

/* Conflicts remembered at a time; each is a node that was started with another --cluster. */
#define ADMISSION_CONFLICTS_MAX MS_STATUS_MEMBERS_MAX
#define ADMISSION_CONTACTS_MAX  (2 * MS_STATUS_MEMBERS_MAX)
/* Members that have just left; with more at a time the oldest get no farewell. */
#define ADMISSION_DEPARTED_MAX 8

/* What has become of this node by what the others say. */
enum admission_fate {
    ADMISSION_GOES_ON = 0,
    ADMISSION_REMOVED,   /* the cluster has removed it: stop the node, status MS_EXIT_OK */
    ADMISSION_DATA_LOST, /* its id votes with another data dir: MS_EXIT_CANNOT_RUN */
};

struct admission_pin {
    node_id id;
    uint64_t data_id;
};

struct admission_conflict {
    node_id id;
    uint64_t cluster_id;
    struct ms_instant heard;
};

struct admission_departed {
    node_id id; /* 0: none */
    bool judged;
    struct ms_instant judged_at;
};

/* The content is the module's own; the struct is here so that the node can hold it. */
struct admission {
    node_id self;
    uint64_t data_id;
    bool join; /* --join */
    uint64_t election_timeout_ms;
    struct ms_instant started;

    /* The list of --cluster; ids are positions, counted from 1. */
    size_t listed_count;
    char listed[MS_STATUS_MEMBERS_MAX][MS_PEER_URL_BYTES];
    char own_url[MS_PEER_URL_BYTES]; /* the one of the list that is this node's */
    uint64_t listed_cluster_id;
    bool tried[MS_STATUS_MEMBERS_MAX];             /* connected, refused, or down */
    uint64_t their_cluster[MS_STATUS_MEMBERS_MAX]; /* joining: as they said */

    struct ms_conf_state conf; /* applied; before the first entries are, what they will lead to */
    raft_index conf_index;
    bool founding;
    uint64_t adopted_cluster_id; /* joining: of the first member that admitted us; 0: none yet */

    /* Data ids of members that have none in the membership yet, as they said first. */
    size_t pin_count;
    struct admission_pin pins[MS_STATUS_MEMBERS_MAX];
    size_t conflict_count;
    struct admission_conflict conflicts[ADMISSION_CONFLICTS_MAX];

    size_t departed_next; /* circular */
    struct admission_departed departed[ADMISSION_DEPARTED_MAX];

    size_t connected_count;
    node_id connected[ADMISSION_CONTACTS_MAX];
    bool data_refused; /* somebody says that our data dir is another one; nobody has admitted us
                          since */
    struct ms_instant data_refused_at;
    enum admission_fate fate;

    bool logged[PEERS_REFUSED_DATA + 1]; /* per reason */
    struct ms_instant logged_at[PEERS_REFUSED_DATA + 1];
};

/*
 * config (borrowed for the call) gives id, --cluster and --join; data_id names the data dir.
 * MS_EINVAL: --cluster has a malformed URL.
 */
int admission_init(struct admission *admission, const struct ms_config *config, uint64_t data_id,
                   struct ms_instant now, struct ms_err *err);

/* The id of the cluster that --cluster founds: the same on all nodes with the same list; never 0.
 */
uint64_t admission_founding_cluster_id(const struct admission *admission);

/*
 * The membership that is applied now (copied), and the index of the entry or snapshot that led to
 * it. Called when the core starts and after every change; then tell peers (peers_set_members with
 * admission_contacts, peers_judge_again).
 */
void admission_set_membership(struct admission *admission, const struct ms_conf_state *conf,
                              raft_index conf_index);

/* Whether the log holds nothing but the first entries. False for ever once it was. */
void admission_set_founding(struct admission *admission, bool founding);

/* Whether this node waits to become a member: --join, and not in the applied membership. */
bool admission_is_joining(const struct admission *admission);

/*
 * Whom to dial: the applied membership without this node; where that does not know this node (yet),
 * the list of --cluster as well. out has room for ADMISSION_CONTACTS_MAX. Returns the count.
 */
size_t admission_contacts(const struct admission *admission, struct peers_member *out);

/* For peers_events.say_hello. */
void admission_hello(const struct admission *admission, struct peers_hello *out);

/* For peers_events.judge. text gets the reason in words if it is not PEERS_ADMITTED. */
enum peers_refusal admission_judge(struct admission *admission, const struct peers_hello *theirs,
                                   struct ms_instant now, char *text, size_t text_bytes);

/* For peers_events.refused: logs what a human should know, at most once per interval. */
void admission_refused(struct admission *admission, const struct peers_hello *theirs,
                       enum peers_refusal reason, const char *text, struct ms_instant now);

/* For peers_events.connected and disconnected. */
void admission_connected(struct admission *admission, node_id peer);
void admission_disconnected(struct admission *admission, node_id peer);
/* For peers_events.absent: a node that is down cannot contradict. */
void admission_absent(struct admission *admission, node_id peer);

/* Once per heartbeat interval, and after admission_refused. What it says does not change back. */
enum admission_fate admission_fate(struct admission *admission, struct ms_instant now);

/*
 * Whether this node must neither campaign nor vote now: it is founding, and has not tried all
 * listed members yet or knows of one that belongs to another cluster.
 */
bool admission_is_barred(const struct admission *admission, struct ms_instant now);

/*
 * The data id that a member said of itself at its last hello and that is not registered yet; 0 if
 * unknown. Of this node its own.
 */
uint64_t admission_data_id(const struct admission *admission, node_id id);

#endif

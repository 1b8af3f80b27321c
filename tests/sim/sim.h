/*
 * sim: one simulated cluster of real Raft cores, and everything around them that is not real.
 *
 * Time is virtual and goes from event to event; every choice comes from one generator, so a seed is
 * a run. Each node has what a machine has: a raftd (the core and what it keeps in memory), a
 * storaged (log writer and state machine) that may die by itself, and a disk that outlives both.
 * The first broken invariant ends the program with a report: see report.h.
 */
#ifndef METASTORE_TESTS_SIM_SIM_H
#define METASTORE_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raftd/core/raft.h"
#include "tests/seed.h"
#include "tests/sim/disk.h"
#include "tests/sim/journal.h"
#include "tests/sim/linearizability.h"
#include "tests/sim/machine.h"
#include "tests/sim/report.h"
#include "tests/sim/schedule.h"

#define SIM_NODES_MAX   12   /* machines that ever belong to one cluster; ids are 1 and up */
#define SIM_TERMS_MAX   2048 /* no run comes near */
#define SIM_INDEXES_MAX 8192 /* likewise */

#define SIM_MS UINT64_C(1000) /* virtual time is in microseconds */

/* What a seed draws at its start: how the nodes are configured and how bad their world is. */
struct sim_profile {
    size_t nodes;
    size_t clients;
    size_t keys;
    uint64_t steps; /* events until the faults end */
    uint32_t election_ticks;
    uint64_t tick_us;
    uint64_t max_message_bytes;
    uint64_t max_inflight_bytes;
    uint64_t max_uncommitted_bytes;
    uint64_t max_committed_bytes;
    uint32_t max_inflight_messages;
    bool lease;      /* leaders answer reads while a lease runs that a quorum has confirmed */
    bool core_lease; /* the core's own lease mode, in a world where its assumption holds */
    bool changes_members;
    bool in_order;           /* links keep the order, as TCP does */
    uint32_t skew_permille;  /* how far clocks run apart */
    uint32_t loss_permille;  /* of messages */
    uint32_t twice_permille; /* messages that come twice */
    uint64_t delay_us;       /* of a message, mostly */
    uint64_t delay_tail_us;  /* of a few */
    uint64_t disk_us;        /* of one write */
    uint64_t fault_gap_us;
    uint64_t member_gap_us;
    uint64_t think_us; /* a client's pause */
    uint32_t fault_weights[16];
    uint64_t snapshot_entries; /* applied entries between two snapshots */
};

/* A committed change of configuration on its way to disk and state machine. */
struct pending_conf {
    raft_index index;
    struct raft_conf_state conf;
    bool durable;
};

#define SIM_PENDING_CONFS_MAX 64

/* A MsgStorageApply under way. */
struct apply_item {
    STAILQ_ENTRY(apply_item) next;
    struct raft_message message; /* owned */
    size_t done;                 /* of its entries */
};

STAILQ_HEAD(apply_queue, apply_item);

struct sim;

struct sim_node {
    struct sim *sim;
    node_id id;
    bool exists;
    double rate; /* of its clock; 1.0 is true time */

    /* raftd: gone when it dies. */
    struct raft *raft; /* NULL while it is down */
    uint64_t raft_life;
    struct raft_hard_state initial_hard;
    struct entry_log store; /* entries handed out, durable or not */
    struct journal journal; /* writes under way */
    struct apply_queue applying;
    struct pending_conf confs[SIM_PENDING_CONFS_MAX];
    size_t conf_count;
    raft_index conf_seen;  /* changes up to here were given to the core */
    raft_index cold_index; /* entries up to here have to be fetched first */
    bool fetching;
    bool work_scheduled;
    bool apply_scheduled;
    bool apply_blocked;             /* until the disk has done more */
    raft_index snapshot_seen;       /* the core has taken over a snapshot of that index */
    struct raft_basic_status basic; /* as of the last call into the core */
    raft_index checked_commit;      /* compared with what others have committed */
    raft_term led_term;             /* last term in which it was seen leading */
    uint64_t read_origin;
    uint64_t read_seq;
    uint64_t silent_until; /* lease mode: no votes so soon after a start */
    uint64_t renew_seq;    /* the read that will renew the lease; 0: none */
    uint64_t renew_asked_at;
    raft_term renew_term;
    uint64_t lease_until;
    raft_term no_lease_term; /* a transfer was ordered in it */

    /* Both processes. */
    uint64_t paused_until;

    /* storaged; the state machine survives its death, but not a power cut. */
    bool storage_up;
    uint64_t storage_life;
    struct record_list records; /* received and not yet durable */
    size_t batch;               /* how many of them are being written; 0: idle */
    uint64_t batches;           /* started so far */
    uint64_t disk_slow_until;
    struct machine machine;
    bool snapshot_scheduled;

    /* The status page: survives raftd, but not a power cut. */
    raft_index page_commit;
    bool page_leader;

    struct disk disk;
};

/* An entry that was committed somewhere. */
struct committed_entry {
    raft_term term;
    raft_term committed_in; /* term of the leader that committed it */
    uint64_t digest;
    uint64_t state_hash; /* of the state machine after it; 0: nobody has applied it yet */
    uint64_t conf_digest;
};

/* What all runs together have seen: a simulation in which nothing happens finds nothing. */
struct sim_totals {
    uint64_t events;
    uint64_t entries;     /* committed */
    uint64_t leaders;     /* elected */
    uint64_t operations;  /* of clients, in judged histories */
    uint64_t undecided;   /* histories too long to judge */
    uint64_t index_reads; /* answered with a read index */
    uint64_t lease_reads; /* answered by a leader alone */
    uint64_t snapshots;   /* taken over from a leader */
    uint64_t changes;     /* of membership, applied somewhere */
    uint64_t deaths;      /* of a raftd or storaged */
};

struct entry_oracle;    /* which entries there are: invariants.c */
struct cluster_clients; /* clients.c */

struct sim {
    uint64_t seed;
    uint64_t random;
    uint64_t now;
    uint64_t step;
    bool healing; /* no faults any more */
    struct sim_profile profile;
    struct schedule schedule;
    struct sim_node nodes[SIM_NODES_MAX];

    uint64_t loss_permille;
    bool cut[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1];         /* from, to */
    uint64_t last_at[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1]; /* arrival, for links in order */
    node_id leaders[SIM_TERMS_MAX];                         /* at most one in a term */
    node_id votes[SIM_NODES_MAX + 1][SIM_TERMS_MAX];        /* whom a node voted for */
    struct committed_entry committed[SIM_INDEXES_MAX];
    raft_index commit; /* the highest index known to be committed anywhere */
    struct entry_oracle *oracle;
    struct cluster_clients *clients;
    struct sim_totals *totals;
    size_t member_changes;
    uint64_t probe_seq;
};

/* ---- sim.c: one run ---- */

/*
 * Runs a seed; steps_max 0 takes what the seed draws. Adds to *totals. Returns only if nothing was
 * broken.
 */
void sim_run(uint64_t seed, uint64_t steps_max, struct sim_totals *totals);

/* A number below n (> 0), and a decision that is true permille times in 1000. */
uint64_t sim_below(struct sim *sim, uint64_t n);
bool sim_chance(struct sim *sim, uint32_t permille);
/* Somewhere in [low, high]. */
uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high);

struct sim_node *sim_node(struct sim *sim, node_id id); /* NULL for ids that are none */
/* A random node that exists, up or not. */
struct sim_node *sim_any_node(struct sim *sim);
void sim_schedule(struct sim *sim, uint64_t delay_us, enum event_kind kind, node_id node,
                  uint64_t life, void *payload);

/* ---- profile.c ---- */

void profile_draw(struct sim *sim);

/* ---- node.c: a node's life ---- */

/* Founding members lay the first entries into the log; others (voters 0) start empty. */
void node_create(struct sim *sim, node_id id, size_t voters);
void node_destroy(struct sim_node *node);
/* Starts raftd from what storaged reports. Nothing happens while storaged is down. */
void node_start(struct sim *sim, struct sim_node *node);
void node_kill_raftd(struct sim *sim, struct sim_node *node);
void node_kill_storage(struct sim *sim, struct sim_node *node);
void node_start_storage(struct sim *sim, struct sim_node *node);
/* Power fails: both processes and the state machine in memory are gone. */
void node_cut_power(struct sim *sim, struct sim_node *node);
/* The node's own clock. */
uint64_t node_clock(const struct sim *sim, const struct sim_node *node);

/* ---- node_work.c: between the core and the rest ---- */

void node_tick(struct sim *sim, struct sim_node *node);
void node_receive(struct sim *sim, struct sim_node *node, const struct raft_message *message);
/* Does what the core wants done, now or a little later (as in a loop that takes batches). */
void node_touch(struct sim *sim, struct sim_node *node);
void node_work(struct sim *sim, struct sim_node *node);
/* After every call into the core. */
void node_note(struct sim *sim, struct sim_node *node);
/* What waits for the disk goes there, unless it is busy. */
void node_write_more(struct sim *sim, struct sim_node *node);
/* A batch is durable. */
void node_written(struct sim *sim, struct sim_node *node);
/* A storage message is done: what it promised is true now. */
void node_deliver(struct sim *sim, struct sim_node *node, const struct raft_message *message);
/* The core's storage; ctx is the node. */
extern const struct raft_storage node_storage;

/* ---- node_apply.c: the state machine's side ---- */

void node_apply_more(struct sim *sim, struct sim_node *node);
void node_apply(struct sim *sim, struct sim_node *node); /* EVENT_APPLY */
/* raftd has died: some of what it had sent to be applied still is. */
void node_apply_leftovers(struct sim *sim, struct sim_node *node);
/* The configuration of the entry at index is on disk. */
void node_conf_durable(struct sim_node *node, raft_index index);
/* A snapshot will be taken soon. */
void node_want_snapshot(struct sim *sim, struct sim_node *node);
void node_take_snapshot(struct sim *sim, struct sim_node *node);

/* ---- network.c ---- */

/* Sends a copy; the message stays the caller's. */
void network_send(struct sim *sim, struct sim_node *from, const struct raft_message *message);
void network_deliver(struct sim *sim, const struct event *event);
void network_drop(struct raft_message *packet);
/* Cuts some links, or mends all. */
void network_partition(struct sim *sim);
void network_heal(struct sim *sim);

/* ---- clients.c ---- */

void clients_create(struct sim *sim);
void clients_destroy(struct sim *sim);
void clients_wake(struct sim *sim, const struct event *event);
/* The node has applied a command, or more of the log. */
void clients_applied(struct sim *sim, struct sim_node *node, const struct machine_command *command,
                     const struct machine_answer *answer);
void clients_reads_ready(struct sim *sim, struct sim_node *node,
                         const struct raft_read_state *state);
/* Asks for reads that the current leader's lease is to be renewed with. */
void clients_renew_lease(struct sim *sim, struct sim_node *node);
/* The history is over: is it linearizable? */
void clients_judge(struct sim *sim);

/* ---- members.c ---- */

void members_change(struct sim *sim);
/* Ends a joint configuration that nothing else would end. */
void members_leave_joint(struct sim *sim);

/* ---- faults.c ---- */

void faults_inject(struct sim *sim);
/* Ends everything that is broken and starts everything that is down. */
void faults_heal(struct sim *sim);

/* ---- invariants.c ---- */

void check_create(struct sim *sim);
void check_destroy(struct sim *sim);
/* The node appended these to its log, handed out or received: log matching (Raft 5.3). */
void check_entries(struct sim *sim, const struct sim_node *node, const struct raft_slice *entries);
/* The core said something new: terms, commit index, leadership. Call after each event. */
void check_basic(struct sim *sim, struct sim_node *node, const struct raft_basic_status *before);
/* The node has nothing to hand out any more: its log shows all that it has committed. */
void check_log(struct sim *sim, struct sim_node *node);
/* A member has answered: if the log goes on from where it stands, it gets entries again. */
void check_streaming(const struct sim_node *node, node_id member);
/* The message leaves: what it promises must be on the node's disk. */
void check_promise(struct sim *sim, const struct sim_node *node,
                   const struct raft_message *message);
/* The state machine was made again from the disk. */
void check_rebuilt(struct sim *sim, const struct sim_node *node);
/* The core takes a snapshot over. */
void check_snapshot(struct sim *sim, const struct sim_node *node,
                    const struct raft_snapshot *snapshot);
void check_applied(struct sim *sim, const struct sim_node *node, const struct raft_entry *entry);
/* A read may be served from index. */
void check_read(const struct sim_node *node, raft_index index, raft_index floor, bool lease);
/* Whether there is a change of members among the node's entries after applied, up to index. */
bool check_change_between(const struct sim_node *node, raft_index applied, raft_index index);
uint64_t check_digest(const void *bytes, size_t len_bytes);
uint64_t check_conf_digest(const struct raft_conf_state *conf);

#endif

/*
 * machine: the replicated state machine of the simulation, a small map with metastore's semantics.
 *
 * Like storaged's: one revision for the whole store, conditions on a key, and operation ids, so
 * that a command that comes twice has its effect once and the same answer each time.
 */
#ifndef METASTORE_TESTS_SIM_MACHINE_H
#define METASTORE_TESTS_SIM_MACHINE_H

#include "raftd/core/raft.h"
#include "tests/sim/linearizability.h"

#define MACHINE_KEYS_MAX    6
#define MACHINE_ORIGINS_MAX 10

/* What the data of an entry is. */
struct machine_command {
    uint64_t origin; /* below MACHINE_ORIGINS_MAX */
    uint64_t seq;    /* 1 and up */
    uint64_t ack;    /* the origin knows the answers to all before this one */
    uint64_t key;
    uint64_t value;
    uint64_t expected;
    uint32_t kind;      /* enum lin_kind */
    uint32_t condition; /* enum lin_condition */
};

struct machine_answer {
    uint64_t seq; /* 0: there is none */
    uint64_t revision;
    enum lin_outcome outcome;
};

struct machine_cell {
    uint64_t value;
    uint64_t revision; /* 0: the key does not exist */
};

/* Plain bytes: a snapshot is a copy. */
struct machine {
    raft_index applied;
    raft_term applied_term;
    uint64_t revision;
    struct machine_cell cells[MACHINE_KEYS_MAX];
    struct {
        uint64_t ack;
        struct machine_answer answer; /* an origin waits for one at a time */
    } origins[MACHINE_ORIGINS_MAX];
    struct raft_conf_state conf; /* as of applied */
};

/*
 * Applies a normal entry (the next one). *command and *answer say what was done; command->seq is 0
 * for an entry without data, answer->seq for an operation whose answer nobody may want any more.
 */
void machine_apply(struct machine *machine, const struct raft_entry *entry,
                   struct machine_command *command, struct machine_answer *answer);
/* The same for equal contents, whatever way led there. Never 0. */
uint64_t machine_hash(const struct machine *machine);

/* The state as a snapshot at its applied index, with a copy of it as data. */
struct raft_snapshot *machine_to_snapshot(const struct machine *machine,
                                          const struct raft_conf_state *conf);
/* Borrowed from the snapshot. */
const struct machine *machine_of_snapshot(const struct raft_snapshot *snapshot);

#endif

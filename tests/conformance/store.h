/*
 * store: the in-memory storage of one node in a script, and the history of its state machine.
 */
#ifndef METASTORE_TESTS_CONFORMANCE_STORE_H
#define METASTORE_TESTS_CONFORMANCE_STORE_H

#include "raftd/core/raft.h"

/* malloc, for everything the core and the driver share. */
extern const struct raft_alloc store_alloc;

/* entries[i] has index dummy_index + 1 + i; the dummy is what was compacted or restored last. */
struct store {
    raft_index dummy_index;
    raft_term dummy_term;
    struct raft_entry *entries;
    size_t count;
    size_t capacity;
    raft_index snapshot_index;   /* of the last snapshot applied here */
    struct raft_conf_state conf; /* to start from */
    struct raft_snapshot **history;
    size_t history_count;
    size_t history_capacity;
};

/* Starts from a snapshot of which index 0 means an empty store; history begins with it. */
void store_init(struct store *store, raft_index index, raft_term term,
                const struct raft_conf_state *conf);
void store_fini(struct store *store);
/* The interface for the core; store must stay where it is. */
struct raft_storage store_interface(struct store *store);

raft_index store_first_index(const struct store *store);
raft_index store_last_index(const struct store *store);
/* Overwrites from the first given index on. MS_ERANGE if that leaves a gap. */
int store_append(struct store *store, const struct raft_entry *entries, size_t count);
/* MS_EEXIST if it is not newer than the last one. */
int store_apply_snapshot(struct store *store, const struct raft_snapshot *snapshot);
/* MS_ECOMPACTED if that was done already, MS_ERANGE beyond the last entry. */
int store_compact(struct store *store, raft_index index);

/* The newest snapshot of the state machine (borrowed). */
struct raft_snapshot *store_newest(const struct store *store);
/* The state machine has applied an entry; conf is NULL unless the entry changed it. */
void store_applied(struct store *store, const struct raft_entry *entry,
                   const struct raft_conf_state *conf);

#endif

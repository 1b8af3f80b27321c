/*
 * memory: the arrays behind slices and message queues.
 *
 * A block is an array of entries that only grows at its end. Slices of it hold a reference, so
 * handing the same entries to the disk, three peers and the state machine copies nothing; what
 * is appended later lies beyond the slices that exist already.
 */
#ifndef METASTORE_RAFTD_CORE_MEMORY_H
#define METASTORE_RAFTD_CORE_MEMORY_H

#include "raftd/core/raft.h"

/* Invariant: released <= used <= capacity; entries[released .. used - 1] hold a reference. */
struct raft_block {
    struct raft_alloc alloc;
    size_t refs;
    size_t capacity;
    size_t used;
    size_t released; /* leading entries whose bytes were given back early */
    struct raft_entry entries[];
};

/* An empty block with one reference, or NULL. */
struct raft_block *core_block_create(const struct raft_alloc *alloc, size_t capacity);
void core_block_release(struct raft_block *block); /* takes NULL, too */
/* Appends copies of the entries and references to their owners; there must be room. */
void core_block_append(struct raft_block *block, const struct raft_entry *entries, size_t count);
/* Cuts the block down to used entries; nobody else may have a reference. */
void core_block_truncate(struct raft_block *block, size_t used);
/* Gives back the bytes of the leading entries up to end, if nobody else can see them. */
void core_block_forget(struct raft_block *block, size_t end);
/* A slice of it with a reference of its own; empty (and without one) if count is 0. */
struct raft_slice core_block_slice(struct raft_block *block, size_t start, size_t count);

/* A queue of messages whose array can be handed over as a whole. */
struct message_list {
    struct raft_message *items; /* NULL or from core_list_reserve() */
    size_t count;
};

/* Room for extra more messages. MS_ENOMEM if refused. */
int core_list_reserve(const struct raft_alloc *alloc, struct message_list *list, size_t extra);
/* A zeroed message at the end; there must be room. */
struct raft_message *core_list_push(struct message_list *list);
/* Releases the messages and the array. */
void core_list_clear(const struct raft_alloc *alloc, struct message_list *list);

#endif

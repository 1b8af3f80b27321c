/*
 * unstable: the end of the log that storage has not confirmed yet, and a snapshot likewise.
 *
 * Entries stay here while they are being written, so that the log can always be read; writing
 * may still be under way for entries that were replaced since.
 */
#ifndef METASTORE_RAFTD_CORE_UNSTABLE_H
#define METASTORE_RAFTD_CORE_UNSTABLE_H

#include "raftd/core/memory.h"
#include "raftd/core/raft.h"
#include "raftd/core/text.h"

/*
 * Invariants: the entries offset .. offset + count - 1 are block->entries[start ..];
 * offset <= offset_in_progress <= offset + count, those before it are being written.
 * offset may be below storage's last index: the next write then cuts the log first.
 */
struct unstable {
    struct raft_alloc alloc;
    const struct logger *logger;
    struct raft_block *block; /* NULL until first needed */
    struct raft_block *spare; /* reserved for the next replacement of entries */
    size_t start;
    size_t count;
    uint64_t bytes; /* payload of the entries */
    raft_index offset;
    raft_index offset_in_progress;
    struct raft_snapshot *snapshot; /* NULL: none */
    bool snapshot_in_progress;
};

void unstable_init(struct unstable *unstable, const struct raft_alloc *alloc,
                   const struct logger *logger, raft_index offset);
void unstable_fini(struct unstable *unstable);

/*
 * Makes room for count more entries; replacing: also for the case that they replace some.
 * After it one unstable_append() of so many cannot fail. MS_ENOMEM: nothing changed.
 */
int unstable_reserve(struct unstable *unstable, size_t count, bool replacing);
/*
 * Copies entries to where unstable_append() will put them if they continue the log (room
 * reserved), without appending them; there they may be changed first.
 */
struct raft_entry *unstable_stage(struct unstable *unstable, const struct raft_entry *entries,
                                  size_t count);
/* Appends entries (count > 0), replacing all that is there from the first one's index on. */
void unstable_append(struct unstable *unstable, const struct raft_entry *entries, size_t count);
/* Replaces everything by a snapshot (gets a reference). */
void unstable_restore(struct unstable *unstable, struct raft_snapshot *snapshot);

/* The entry of that index, or NULL. */
const struct raft_entry *unstable_entry(const struct unstable *unstable, raft_index index);
bool unstable_term(const struct unstable *unstable, raft_index index, raft_term *term);
/* False if there are neither entries nor a snapshot. */
bool unstable_last_index(const struct unstable *unstable, raft_index *index);
/* Entries [first, end), which must be here, as a new reference. */
struct raft_slice unstable_slice(const struct unstable *unstable, raft_index first, raft_index end);

/* What was not handed out yet. */
bool unstable_has_next(const struct unstable *unstable);
struct raft_slice unstable_next(const struct unstable *unstable);
/* Marks all of it as handed out. */
void unstable_accept(struct unstable *unstable);
/* Entries up to index are stable, provided that this one still has that term. */
void unstable_stable_to(struct unstable *unstable, raft_index index, raft_term term);
void unstable_snapshot_stable(struct unstable *unstable, raft_index index);

#endif

/*
 * entry_store: the entries that raftd keeps in memory, and the core's view of the stable log.
 *
 * Everything that was handed to storaged and is not yet applied is here: to be sent again should
 * storaged die, and to be read by the core when it is committed. Of what is applied the newest
 * part stays, bounded by recent_bytes_max, for followers that lag a little. Older entries are in
 * storaged's log only; of those the terms are kept here, so the core sees a log that begins where
 * storaged's does (as far as it has told), and fetches what it needs of it.
 *
 * Invariant: entries are consecutive, from base_index + 1 on, and terms never fall.
 */
#ifndef METASTORE_RAFTD_ENTRY_STORE_H
#define METASTORE_RAFTD_ENTRY_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/types.h"
#include "raftd/core/raft.h"
#include "raftd/term_runs.h"

struct entry_store {
    const struct raft_alloc *alloc; /* borrowed */
    struct raft_entry *items;       /* live ones at [start, start + count); one reference each */
    size_t start;
    size_t count;
    size_t capacity;
    struct term_runs terms; /* up to the entry before the first kept */
    raft_index applied;
    uint64_t kept_bytes;      /* of all kept, descriptors included */
    uint64_t unapplied_bytes; /* of those above applied */
    uint64_t recent_bytes_max;
};

/* An empty store that begins after base. alloc is borrowed and must outlive the store. */
void entry_store_init(struct entry_store *store, const struct raft_alloc *alloc,
                      uint64_t recent_bytes_max);
void entry_store_fini(struct entry_store *store);

/* Forgets everything; the next entry is the one after base_index, which is applied already. */
void entry_store_reset(struct entry_store *store, raft_index base_index, raft_term base_term);

/*
 * Adds count entries, taking references to their data, after discarding what the store has from
 * the first of them on (Raft 5.3). They must neither leave a gap nor reach below what is applied
 * (assert). MS_ENOMEM: nothing changed.
 */
int entry_store_append(struct entry_store *store, const struct raft_entry *entries, size_t count);

/* The state machine stands at index (within the store); older entries may go. */
void entry_store_applied(struct entry_store *store, raft_index index);

/*
 * What LOG_TERMS said of the durable log: the terms of entries older than those kept. MS_EPROTO:
 * it contradicts what is known.
 */
int entry_store_learn_terms(struct entry_store *store, const struct ms_log_term_run *runs,
                            size_t count, raft_index last_index);
/* storaged's log begins with first_index now. */
void entry_store_compacted(struct entry_store *store, raft_index first_index);

/* The entry before the first one kept. */
raft_index entry_store_base_index(const struct entry_store *store);

/* As struct raft_storage defines them; callable any time. Entries that are not kept: MS_EAGAIN. */
int entry_store_entries(const struct entry_store *store, raft_index first, raft_index end,
                        uint64_t max_bytes, struct raft_slice *out);
int entry_store_term(const struct entry_store *store, raft_index index, raft_term *term);
raft_index entry_store_first_index(const struct entry_store *store);
raft_index entry_store_last_index(const struct entry_store *store);

/* Whether an entry in (after, up_to] changes the configuration. Both within the store. */
bool entry_store_has_conf_change(const struct entry_store *store, raft_index after,
                                 raft_index up_to);

/* What memory the entries above the applied index hold: the measure of back-pressure. */
uint64_t entry_store_unapplied_bytes(const struct entry_store *store);

#endif

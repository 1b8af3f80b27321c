/*
 * raftlog: the whole log, stable and unstable, and the three marks on it.
 */
#ifndef METASTORE_RAFTD_CORE_RAFTLOG_H
#define METASTORE_RAFTD_CORE_RAFTLOG_H

#include "raftd/core/raft.h"
#include "raftd/core/unstable.h"

/* Names one entry: no two entries in the cluster share it unless they are equal (Raft 5.3). */
struct entry_id {
    raft_term term;
    raft_index index;
};

/*
 * Invariant: applied <= applying <= committed <= last index. Entries up to applying were
 * handed out, up to applied they were reported as applied.
 */
struct raftlog {
    struct raft_storage storage;
    const struct logger *logger;
    struct unstable unstable;
    raft_index committed;
    raft_index applying;
    raft_index applied;
    uint64_t max_applying_bytes; /* handed out and not applied */
    uint64_t applying_bytes;
    bool applying_paused; /* until more is applied */
    bool applying_fetch;  /* until storage has fetched the next committed entries */
};

void raftlog_init(struct raftlog *log, const struct raft_options *options,
                  const struct logger *logger);
void raftlog_fini(struct raftlog *log);

raft_index raftlog_first_index(const struct raftlog *log);
raft_index raftlog_last_index(const struct raftlog *log);
/* MS_ECOMPACTED, MS_EUNAVAILABLE (beyond the end). */
int raftlog_term(const struct raftlog *log, raft_index index, raft_term *term);
/* 0 where the term is not known. */
raft_term raftlog_term_or_zero(const struct raftlog *log, raft_index index);
struct entry_id raftlog_last_id(const struct raftlog *log);
bool raftlog_match(const struct raftlog *log, struct entry_id id);
/* Whether a log that ends in id is at least as new as this one (Raft 5.4.1). */
bool raftlog_up_to_date(const struct raftlog *log, struct entry_id id);

/*
 * Entries [first, end), as many as fit into max_bytes and at least one, as a new reference;
 * fewer if memory to join the stable and the unstable part is refused. first < end <= last + 1.
 * MS_ECOMPACTED; MS_EAGAIN if storage has to fetch them; MS_ENOMEM.
 */
int raftlog_slice(const struct raftlog *log, raft_index first, raft_index end, uint64_t max_bytes,
                  struct raft_slice *out);

/*
 * The first of count consecutive entries that this log does not hold yet, or holds with
 * another term: its index; 0 if it has them all. Logs a conflict.
 */
raft_index raftlog_find_conflict(const struct raftlog *log, const struct raft_entry *entries,
                                 size_t count);
/*
 * The largest index <= index whose term is <= term or not known; its term, or 0 if not known.
 */
struct entry_id raftlog_find_by_term(const struct raftlog *log, raft_index index, raft_term term);

/* Appends (room reserved); cuts off whatever is there from the first one's index on. */
void raftlog_append(struct raftlog *log, const struct raft_entry *entries, size_t count);
/* Moves the commit index up, never down; index must be in the log. */
void raftlog_commit_to(struct raftlog *log, raft_index index);
/* Restarts the log from a snapshot. */
void raftlog_restore(struct raftlog *log, struct raft_snapshot *snapshot);

/* Whether there are committed entries to hand out; unstable ones only if allowed. */
bool raftlog_has_committed(const struct raftlog *log, bool allow_unstable);
/* They, as a new reference; empty if there are none (for now). MS_ENOMEM if refused. */
int raftlog_next_committed(struct raftlog *log, bool allow_unstable, struct raft_slice *out);
/* Marks them as handed out. */
void raftlog_accept_applying(struct raftlog *log, const struct raft_slice *slice,
                             bool allow_unstable);
/* Everything up to index is applied; bytes of it were handed out as entries. */
void raftlog_applied_to(struct raftlog *log, raft_index index, uint64_t bytes);

/* The bytes of entries as max_applying_bytes counts them. */
uint64_t core_entries_encoded_bytes(const struct raft_entry *entries, size_t count);
/* The bytes of their data alone. */
uint64_t core_entries_payload_bytes(const struct raft_entry *entries, size_t count);

#endif

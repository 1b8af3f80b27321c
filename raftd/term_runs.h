/*
 * term_runs: which terms the entries have that raftd no longer keeps.
 *
 * The core asks for the term of any entry of its log and wants the answer at once, while the
 * entries themselves can be fetched from storaged later. Terms change only with elections, so it
 * is enough to know where each begins.
 *
 * Invariant: runs ascend in index and term; the first begins at the oldest index known, each
 * reaches to the index before the next one's, the last to last_index.
 */
#ifndef METASTORE_RAFTD_TERM_RUNS_H
#define METASTORE_RAFTD_TERM_RUNS_H

#include <stddef.h>
#include <stdint.h>

#include "common/ipc_catalogue.h"
#include "common/types.h"

/* With more changes of term than this in the log, the oldest are forgotten. */
#define TERM_RUNS_MAX 2048u

struct term_runs {
    struct ms_log_term_run runs[TERM_RUNS_MAX];
    size_t count; /* > 0 */
    raft_index last_index;
};

/* Only the entry at index, of term, is known (index 0 with term 0 begins every log). */
void term_runs_reset(struct term_runs *terms, raft_index index, raft_term term);

/* The entry after last_index is of term, which is no smaller than the one before (assert). */
void term_runs_add(struct term_runs *terms, raft_term term);

raft_index term_runs_first_index(const struct term_runs *terms);

/* The term of the entry at index, which must be known (assert). */
raft_term term_runs_at(const struct term_runs *terms, raft_index index);

/* What is before index is of no more interest; index is at most last_index (assert). */
void term_runs_forget(struct term_runs *terms, raft_index index);

/*
 * Learns what is older: older (count of them, in the form of LOG_TERMS) reaches at least to the
 * first index known, or else says nothing new. As many are taken as there is room for, the newest.
 * MS_EPROTO: they do not ascend, or contradict what is known.
 */
int term_runs_learn(struct term_runs *terms, const struct ms_log_term_run *older, size_t count,
                    raft_index older_last_index);

#endif

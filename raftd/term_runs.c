/*
 * term_runs: see term_runs.h.
 */
#include "raftd/term_runs.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "common/err.h"

void term_runs_reset(struct term_runs *terms, raft_index index, raft_term term)
{
    terms->runs[0] = (struct ms_log_term_run){.index = index, .term = term};
    terms->count = 1;
    terms->last_index = index;
}

static void drop_oldest(struct term_runs *terms, size_t count)
{
    memmove(terms->runs, terms->runs + count, (terms->count - count) * sizeof(terms->runs[0]));
    terms->count -= count;
}

void term_runs_add(struct term_runs *terms, raft_term term)
{
    assert(term >= terms->runs[terms->count - 1].term);
    terms->last_index++;
    if (term == terms->runs[terms->count - 1].term) {
        return;
    }
    if (terms->count == TERM_RUNS_MAX) {
        drop_oldest(terms, 1);
    }
    terms->runs[terms->count++] =
        (struct ms_log_term_run){.index = terms->last_index, .term = term};
}

raft_index term_runs_first_index(const struct term_runs *terms)
{
    return terms->runs[0].index;
}

/* The run that index lies in; it must not be before the first. */
static size_t find(const struct ms_log_term_run *runs, size_t count, raft_index index)
{
    size_t low = 0;
    size_t high = count; /* runs[low] begins at or before index, runs[high] behind it */

    assert(index >= runs[0].index);
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (runs[middle].index <= index) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

raft_term term_runs_at(const struct term_runs *terms, raft_index index)
{
    assert(index <= terms->last_index);
    return terms->runs[find(terms->runs, terms->count, index)].term;
}

void term_runs_forget(struct term_runs *terms, raft_index index)
{
    assert(index <= terms->last_index);
    if (index <= terms->runs[0].index) {
        return;
    }
    drop_oldest(terms, find(terms->runs, terms->count, index));
    terms->runs[0].index = index;
}

static bool ascend(const struct ms_log_term_run *runs, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (runs[i].index <= runs[i - 1].index || runs[i].term <= runs[i - 1].term) {
            return false;
        }
    }
    return true;
}

int term_runs_learn(struct term_runs *terms, const struct ms_log_term_run *older, size_t count,
                    raft_index older_last_index)
{
    const struct ms_log_term_run first = terms->runs[0];
    size_t meeting;
    size_t taken;

    if (count == 0) {
        return MS_OK;
    }
    if (!ascend(older, count) || older[count - 1].index > older_last_index) {
        return MS_EPROTO;
    }
    if (older[0].index >= first.index || older_last_index < first.index) {
        return MS_OK;
    }
    meeting = find(older, count, first.index);
    if (older[meeting].term != first.term) {
        return MS_EPROTO;
    }
    /* The run they meet in goes on with ours; what is before it comes in front. */
    taken = meeting < TERM_RUNS_MAX - terms->count ? meeting : TERM_RUNS_MAX - terms->count;
    memmove(terms->runs + taken, terms->runs, terms->count * sizeof(terms->runs[0]));
    memcpy(terms->runs, older + (meeting - taken), taken * sizeof(terms->runs[0]));
    terms->runs[taken].index = older[meeting].index;
    terms->count += taken;
    return MS_OK;
}

/*
 * log_reads: answers from the log.
 */
#include "storaged/log_reads.h"

#include <stdlib.h>
#include <string.h>

#include "storaged/ipc_entries.h"

void log_reads_init(struct log_reads *reads, struct log_store *store)
{
    *reads = (struct log_reads){.store = store};
}

void log_reads_fini(struct log_reads *reads)
{
    free(reads->data);
    reads->data = NULL;
}

/* Whether the log has lost entries at its end since the state was taken. */
static bool was_cut(struct log_store *store, const struct log_state *before)
{
    struct log_state now;

    log_store_state(store, &now);
    return now.cuts != before->cuts;
}

/* ---- entries ------------------------------------------------------------------------------- */

struct walk {
    struct log_reads *reads;
    size_t used;
    uint32_t count;
};

static bool visit(void *ctx, const struct log_entry *entry)
{
    struct walk *walk = ctx;

    if (ipc_entry_bytes(entry->data_bytes) > walk->reads->room - walk->used) {
        return false;
    }
    walk->used += ipc_entry_put(walk->reads->data + walk->used, entry);
    walk->count++;
    return true;
}

int log_reads_entries(struct log_reads *reads, const struct ms_log_read *message,
                      struct ms_link *link, struct ms_err *err)
{
    const struct log_store_range range = {
        .low = message->low,
        .high = message->high,
        .max_bytes = message->max_bytes < LOG_READS_BYTES ? message->max_bytes : LOG_READS_BYTES};
    struct ms_log_entries answer = {.request = message->request, .first_index = message->low};
    size_t tail_max = ms_link_tail_max(link, MS_IPC_LOG_ENTRIES);
    struct log_state state;
    struct walk walk;
    void *body;
    void *tail;
    int rc;

    if (reads->room < tail_max) {
        free(reads->data);
        reads->data = malloc(tail_max);
        reads->room = reads->data == NULL ? 0 : tail_max;
        if (reads->data == NULL) {
            return ms_err_set(err, MS_ENOMEM, 0, "memory to read the log");
        }
    }
    do {
        log_store_state(reads->store, &state);
        walk = (struct walk){.reads = reads};
        answer.status = log_store_entries(reads->store, &range, visit, &walk, err);
    } while (was_cut(reads->store, &state));
    if (answer.status != MS_OK && answer.status != MS_ECOMPACTED &&
        answer.status != MS_EUNAVAILABLE) {
        return answer.status;
    }
    answer.count = answer.status == MS_OK ? walk.count : 0;
    if (answer.count == 0) {
        walk.used = 0;
    }
    rc = ms_link_begin(link, MS_IPC_LOG_ENTRIES, walk.used, &body, &tail);
    if (rc == MS_OK) {
        memcpy(body, &answer, sizeof(answer));
        if (walk.used > 0) {
            memcpy(tail, reads->data, walk.used);
        }
        ms_link_commit(link);
    }
    return rc;
}

/* ---- terms --------------------------------------------------------------------------------- */

/* The lowest index from low on whose entry has the term that the one at high has. */
static int find_begin(struct log_store *store, raft_index low, raft_index high, raft_term term,
                      raft_index *out, struct ms_err *err)
{
    while (low < high) {
        raft_index middle = low + (high - low) / 2;
        raft_term found = 0;
        int rc = log_store_term(store, middle, &found, err);

        if (rc != MS_OK) {
            return rc;
        }
        if (found == term) {
            high = middle;
        } else {
            low = middle + 1; /* terms never fall along a log */
        }
    }
    *out = high;
    return MS_OK;
}

/* From the end backwards into the end of runs; *count of them. */
static int find_runs(struct log_store *store, const struct log_state *state,
                     struct ms_log_term_run *runs, uint32_t *count, struct ms_err *err)
{
    raft_index lowest = state->first_index - 1;
    raft_index at = state->last_index;
    uint32_t next = LOG_READS_RUNS_MAX;
    int rc = MS_OK;

    while (rc == MS_OK && next > 0) {
        struct ms_log_term_run run = {0};

        rc = log_store_term(store, at, &run.term, err);
        if (rc == MS_OK) {
            rc = find_begin(store, lowest, at, run.term, &run.index, err);
        }
        if (rc == MS_OK) {
            runs[--next] = run;
            if (run.index == lowest) {
                break;
            }
            at = run.index - 1;
        }
    }
    *count = LOG_READS_RUNS_MAX - next;
    return rc;
}

int log_reads_find_terms(struct log_store *store, struct ms_log_term_run *runs, uint32_t *count,
                         struct log_state *state, struct ms_err *err)
{
    int rc;

    do {
        log_store_state(store, state);
        rc = find_runs(store, state, runs, count, err);
        /* Compacted or cut while it was searched: it is another log now. */
    } while (rc == MS_ECOMPACTED || rc == MS_EUNAVAILABLE || was_cut(store, state));
    if (rc == MS_OK) {
        memmove(runs, runs + LOG_READS_RUNS_MAX - *count, *count * sizeof(*runs));
    }
    return rc;
}

int log_reads_terms(struct log_reads *reads, const struct ms_log_terms_read *message,
                    struct ms_link *link, struct ms_err *err)
{
    struct ms_log_term_run runs[LOG_READS_RUNS_MAX];
    struct ms_log_terms answer = {.request = message->request};
    struct log_state state;
    void *body;
    void *tail;
    int rc = log_reads_find_terms(reads->store, runs, &answer.count, &state, err);

    if (rc != MS_OK) {
        return rc;
    }
    answer.first_index = runs[0].index + 1;
    answer.last_index = state.last_index;
    rc = ms_link_begin(link, MS_IPC_LOG_TERMS, answer.count * sizeof(runs[0]), &body, &tail);
    if (rc == MS_OK) {
        memcpy(body, &answer, sizeof(answer));
        memcpy(tail, runs, answer.count * sizeof(runs[0]));
        ms_link_commit(link);
    }
    return rc;
}

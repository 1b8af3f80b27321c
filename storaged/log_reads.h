/*
 * log_reads: what raftd wants to know of the durable log: entries for followers that lag, and where
 * terms begin.
 *
 * Read by the thread that answers, while the log thread goes on writing. An answer is of the log as
 * it was at one moment.
 */
#ifndef METASTORE_STORAGED_LOG_READS_H
#define METASTORE_STORAGED_LOG_READS_H

#include <stddef.h>
#include <stdint.h>

#include "common/ipc_catalogue.h"
#include "common/link.h"
#include "storaged/log_store.h"

/* Answers to one LOG_READ are cut to this. */
#define LOG_READS_BYTES (1u << 20)

/* Most runs in LOG_TERMS: each is searched for in the log. */
#define LOG_READS_RUNS_MAX 128u

struct log_reads {
    struct log_store *store; /* borrowed; reading side */
    uint8_t *data;           /* the tail of an answer to LOG_READ */
    size_t room;
};

void log_reads_init(struct log_reads *reads, struct log_store *store);
void log_reads_fini(struct log_reads *reads);

/*
 * Answers LOG_READ. MS_EAGAIN: no room in the ring; MS_ENOMEM; MS_ECORRUPT, MS_EIO: the log cannot
 * be read; others as ms_link_begin.
 */
int log_reads_entries(struct log_reads *reads, const struct ms_log_read *message,
                      struct ms_link *link, struct ms_err *err);

/* Answers LOG_TERMS_READ; likewise. */
int log_reads_terms(struct log_reads *reads, const struct ms_log_terms_read *message,
                    struct ms_link *link, struct ms_err *err);

/*
 * Finds where terms begin: runs (room for LOG_READS_RUNS_MAX) in the form of LOG_TERMS; if there
 * are more, the newest. *state is the log that they are of.
 */
int log_reads_find_terms(struct log_store *store, struct ms_log_term_run *runs, uint32_t *count,
                         struct log_state *state, struct ms_err *err);

#endif

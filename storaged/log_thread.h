/*
 * log_thread: the thread that makes the log durable.
 *
 * Owns the log link to raftd and the writing side of the log store. It takes all that waits in the
 * link, writes it in one go, syncs once and answers once. Applying and reading go on elsewhere
 * meanwhile. Orders from the owner thread and news for it go through a box each; a newer order or
 * piece of news of one kind replaces an older one, so neither can fill up.
 */
#ifndef METASTORE_STORAGED_LOG_THREAD_H
#define METASTORE_STORAGED_LOG_THREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf_state.h"
#include "common/err.h"
#include "common/link.h"
#include "common/metrics.h"
#include "storaged/log_intake.h"
#include "storaged/log_store.h"

struct log_thread;

/* A sync is due when so much has been staged, even if more waits. */
#define LOG_THREAD_BATCH_BYTES (1u << 20)

struct log_thread_options {
    struct log_store *store;    /* borrowed; the writing side is the thread's until it is stopped */
    struct ms_metrics *metrics; /* borrowed; may be NULL */
    log_intake_claim *claim;    /* called on the thread, with ctx */
    void *ctx;
};

/* What LOG_STATE says besides what the store knows. */
struct log_thread_link {
    struct ms_link link;
    size_t conf_bytes;
    uint8_t conf[MS_CONF_STATE_BYTES_MAX];
};

/*
 * A snapshot became durable: record it and compact up to an index. One that the log has left behind
 * meanwhile is not recorded.
 */
struct log_thread_mark {
    raft_index snapshot_index;
    raft_term snapshot_term;
    raft_index compact_index; /* 0: leave the log as it is */
};

/* News for the owner. Fields hold what was said last; those whose flag is false are zero. */
struct log_thread_news {
    bool failed; /* the thread has ended: the process must, too */
    struct ms_err failure;
    bool peer_corrupt; /* raftd broke the protocol; its link was dropped */
    struct ms_link_info peer;
    const char *peer_fault; /* constant */
    bool space_changed;
    bool full;
    struct ms_err full_why;
    bool marked;      /* an order to mark was carried out */
    uint64_t dropped; /* log_thread_drop_link was carried out, up to the one with this number */
};

int log_thread_start(const struct log_thread_options *options, struct log_thread **out,
                     struct ms_err *err);

/*
 * Owner: a new link (its content is taken over, also on failure). What waits in the old one is made
 * durable first; then LOG_STATE is the first message on the new one. MS_ENOMEM.
 */
int log_thread_take_link(struct log_thread *thread, const struct log_thread_link *link);

/*
 * Owner: the far end is dead. What it had published is made durable, then the link is dropped. The
 * news will say so with the number that is returned.
 */
uint64_t log_thread_drop_link(struct log_thread *thread);

void log_thread_mark(struct log_thread *thread, const struct log_thread_mark *mark);

/* Readable when there is news; borrowed. */
int log_thread_fd(const struct log_thread *thread);

/* Takes the news and resets the descriptor. */
void log_thread_collect(struct log_thread *thread, struct log_thread_news *out);

/*
 * Makes durable what waits in the link (unless the disk is full), ends the thread and frees it.
 * NULL is allowed.
 */
void log_thread_stop(struct log_thread *thread);

#endif

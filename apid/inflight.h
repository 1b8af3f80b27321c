/*
 * inflight: the operations that were taken from clients and have no answer yet.
 *
 * Gives each its sequence number, knows which of them still have to be sent (again), finds them by
 * number when the answer comes, and knows the acknowledged watermark: the lowest number that is
 * still open. It neither sends nor answers.
 *
 * One operation may be sent several times, always with the same number. Each copy goes its own way
 * through raftd, perhaps to another node's, and may get lost there. So a refusal, which says that
 * one copy certainly did not enter the log, says it of the operation only when no other copy is
 * about.
 */
#ifndef METASTORE_APID_INFLIGHT_H
#define METASTORE_APID_INFLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "apid/queue.h"
#include "common/err.h"
#include "common/types.h"

/* Part of whatever waits; owned by its embedder, who removes it before the memory goes. */
struct inflight_op {
    uint64_t seq; /* 0 while not in a table */
    struct queue_node order;
    struct queue_node turn; /* in unsent or in sent */
    struct inflight_op *chain;
    struct ms_instant sent_at; /* the newest copy */
    uint32_t copies;           /* sent, and not refused: each may be in the log, or get there */
    bool sent;
};

struct inflight {
    struct inflight_op **buckets;
    size_t bucket_mask;
    size_t count;
    size_t limit;
    uint64_t next_seq;
    struct queue order;  /* all, by seq */
    struct queue unsent; /* to be sent, in this order */
    struct queue sent;   /* in the order of sending */
};

/* At most limit operations at a time. MS_ENOMEM. The table must not move afterwards. */
int inflight_init(struct inflight *table, size_t limit);

/* Forgets all operations; their memory is their owners'. */
void inflight_fini(struct inflight *table);

/* Takes op in, unsent, with the next number. MS_EFULL: the limit is reached, op is untouched. */
int inflight_add(struct inflight *table, struct inflight_op *op);

/* Takes op out: it was answered, or nobody waits for its answer any more. */
void inflight_remove(struct inflight *table, struct inflight_op *op);

/* NULL: answered already, given up, or never ours. */
struct inflight_op *inflight_find(const struct inflight *table, uint64_t seq);

/* Every number below it has been answered or given up. */
uint64_t inflight_ack(const struct inflight *table);

/* The next to be sent; NULL: none. */
struct inflight_op *inflight_next_unsent(const struct inflight *table);

/* The one that inflight_next_unsent gave is on its way. */
void inflight_mark_sent(struct inflight *table, struct inflight_op *op, struct ms_instant now);

/* All have to be sent again, before those that never were. Returns how many had been sent. */
size_t inflight_resend_all(struct inflight *table);

/* The same for those that were sent at limit or before, behind all that wait to be sent. */
size_t inflight_resend_older(struct inflight *table, struct ms_instant limit);

/* When the one that has waited longest since it was sent was sent. False: none is sent. */
bool inflight_oldest_sent(const struct inflight *table, struct ms_instant *out);

/*
 * One copy of op certainly did not enter the log. True: nor did, or will, any other; what is to be
 * done is the caller's to say. False: nothing is known.
 */
bool inflight_refused(struct inflight_op *op);

#endif

/*
 * inflight: the operations that were taken from clients and have no answer yet.
 *
 * Gives each its sequence number, knows which of them still have to be sent (again), finds them by
 * number when the answer comes, and knows the acknowledged watermark: the lowest number that is
 * still open. It neither sends nor answers.
 */
#ifndef METASTORE_APID_INFLIGHT_H
#define METASTORE_APID_INFLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "apid/queue.h"
#include "common/err.h"

/* Part of whatever waits; owned by its embedder, who removes it before the memory goes. */
struct inflight_op {
    uint64_t seq; /* 0 while not in a table */
    struct queue_node order;
    struct inflight_op *chain;
    bool sent;       /* on the current link */
    bool was_resent; /* an earlier copy may have had its effect */
};

struct inflight {
    struct inflight_op **buckets;
    size_t bucket_mask;
    size_t count;
    size_t limit;
    uint64_t next_seq;
    struct queue order;         /* by seq; every unsent one stands behind every sent one */
    struct inflight_op *unsent; /* the first to be sent; NULL: all are */
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

/* The next to be sent, in order; NULL: none. */
struct inflight_op *inflight_next_unsent(const struct inflight *table);

/* The one that inflight_next_unsent gave is on its way. */
void inflight_mark_sent(struct inflight *table, struct inflight_op *op);

/* All have to be sent again, from the oldest on. Returns how many of them had been sent. */
size_t inflight_resend_all(struct inflight *table);

#endif

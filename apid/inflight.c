/*
 * inflight: see inflight.h. A hash of chains by number, and queues.
 */
#include "apid/inflight.h"

#include <assert.h>
#include <stdlib.h>

static struct inflight_op *op_of_order(struct queue_node *node)
{
    return node == NULL ? NULL : QUEUE_OWNER(node, struct inflight_op, order);
}

static struct inflight_op *op_of_turn(struct queue_node *node)
{
    return node == NULL ? NULL : QUEUE_OWNER(node, struct inflight_op, turn);
}

static struct inflight_op **bucket_of(const struct inflight *table, uint64_t seq)
{
    return &table->buckets[seq & table->bucket_mask];
}

int inflight_init(struct inflight *table, size_t limit)
{
    size_t buckets = 1;

    assert(limit > 0);
    while (buckets < limit) {
        buckets *= 2;
    }
    *table = (struct inflight){.bucket_mask = buckets - 1, .limit = limit, .next_seq = 1};
    queue_init(&table->order);
    queue_init(&table->unsent);
    queue_init(&table->sent);
    table->buckets = calloc(buckets, sizeof(struct inflight_op *));
    return table->buckets != NULL ? MS_OK : MS_ENOMEM;
}

void inflight_fini(struct inflight *table)
{
    free(table->buckets);
    table->buckets = NULL;
    table->count = 0;
}

int inflight_add(struct inflight *table, struct inflight_op *op)
{
    struct inflight_op **bucket;

    if (table->count == table->limit) {
        return MS_EFULL;
    }
    *op = (struct inflight_op){.seq = table->next_seq++};
    bucket = bucket_of(table, op->seq);
    op->chain = *bucket;
    *bucket = op;
    queue_append(&table->order, &op->order);
    queue_append(&table->unsent, &op->turn);
    table->count++;
    return MS_OK;
}

void inflight_remove(struct inflight *table, struct inflight_op *op)
{
    struct inflight_op **link = bucket_of(table, op->seq);

    while (*link != op) {
        assert(*link != NULL);
        link = &(*link)->chain;
    }
    *link = op->chain;
    queue_remove(&op->turn);
    queue_remove(&op->order);
    table->count--;
    op->seq = 0;
}

struct inflight_op *inflight_find(const struct inflight *table, uint64_t seq)
{
    struct inflight_op *op = *bucket_of(table, seq);

    while (op != NULL && op->seq != seq) {
        op = op->chain;
    }
    return op;
}

uint64_t inflight_ack(const struct inflight *table)
{
    const struct inflight_op *oldest = op_of_order(queue_first(&table->order));

    return oldest != NULL ? oldest->seq : table->next_seq;
}

struct inflight_op *inflight_next_unsent(const struct inflight *table)
{
    return op_of_turn(queue_first(&table->unsent));
}

void inflight_mark_sent(struct inflight *table, struct inflight_op *op, struct ms_instant now)
{
    assert(op == inflight_next_unsent(table));
    queue_remove(&op->turn);
    queue_append(&table->sent, &op->turn);
    op->sent = true;
    op->sent_at = now;
    op->copies++;
}

/* Moves those sent at limit or before to queue. */
static size_t take_sent(struct inflight *table, struct ms_instant limit, struct queue *queue)
{
    size_t count = 0;
    struct inflight_op *op;

    while ((op = op_of_turn(queue_first(&table->sent))) != NULL && op->sent_at.ns <= limit.ns) {
        queue_remove(&op->turn);
        queue_append(queue, &op->turn);
        op->sent = false;
        count++;
    }
    return count;
}

size_t inflight_resend_all(struct inflight *table)
{
    struct queue all;
    size_t count;

    queue_init(&all);
    count = take_sent(table, (struct ms_instant){.ns = UINT64_MAX}, &all);
    queue_append_all(&all, &table->unsent);
    queue_append_all(&table->unsent, &all);
    return count;
}

size_t inflight_resend_older(struct inflight *table, struct ms_instant limit)
{
    return take_sent(table, limit, &table->unsent);
}

bool inflight_oldest_sent(const struct inflight *table, struct ms_instant *out)
{
    const struct inflight_op *oldest = op_of_turn(queue_first(&table->sent));

    if (oldest != NULL) {
        *out = oldest->sent_at;
    }
    return oldest != NULL;
}

bool inflight_refused(struct inflight_op *op)
{
    if (op->copies > 0) { /* else the refusal is of none of ours */
        op->copies--;
        return op->copies == 0;
    }
    return false;
}

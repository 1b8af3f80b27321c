/*
 * inflight: see inflight.h. A hash of chains by number, and a queue in the order of numbers.
 */
#include "apid/inflight.h"

#include <assert.h>
#include <stdlib.h>

static struct inflight_op *op_of(struct queue_node *node)
{
    return node == NULL ? NULL : QUEUE_OWNER(node, struct inflight_op, order);
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
    table->count++;
    if (table->unsent == NULL) {
        table->unsent = op;
    }
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
    if (table->unsent == op) {
        table->unsent = op_of(queue_next(&table->order, &op->order));
    }
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
    const struct inflight_op *oldest = op_of(queue_first(&table->order));

    return oldest != NULL ? oldest->seq : table->next_seq;
}

struct inflight_op *inflight_next_unsent(const struct inflight *table)
{
    return table->unsent;
}

void inflight_mark_sent(struct inflight *table, struct inflight_op *op)
{
    assert(op == table->unsent);
    op->sent = true;
    table->unsent = op_of(queue_next(&table->order, &op->order));
}

size_t inflight_resend_all(struct inflight *table)
{
    size_t count = 0;

    table->unsent = op_of(queue_first(&table->order));
    for (struct queue_node *node = queue_first(&table->order); node != NULL;
         node = queue_next(&table->order, node)) {
        struct inflight_op *op = op_of(node);

        if (op->sent) {
            op->sent = false;
            op->was_resent = true;
            count++;
        }
    }
    return count;
}

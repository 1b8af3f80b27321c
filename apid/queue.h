/*
 * queue: an intrusive doubly linked list, for things that wait in the order they came.
 *
 * A node is part of the thing that waits, so adding and removing allocate nothing and cannot fail.
 * A node that is in no queue is all zero.
 */
#ifndef METASTORE_APID_QUEUE_H
#define METASTORE_APID_QUEUE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

struct queue_node {
    struct queue_node *next;
    struct queue_node *prev;
};

/* head.next is the oldest. Must be initialised, and must not move while nodes are in it. */
struct queue {
    struct queue_node head;
};

/* The struct that contains the node as its given member. */
#define QUEUE_OWNER(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void queue_init(struct queue *queue)
{
    queue->head.next = &queue->head;
    queue->head.prev = &queue->head;
}

static inline bool queue_holds(const struct queue_node *node)
{
    return node->next != NULL;
}

static inline bool queue_is_empty(const struct queue *queue)
{
    return queue->head.next == &queue->head;
}

static inline void queue_append(struct queue *queue, struct queue_node *node)
{
    assert(!queue_holds(node));
    node->next = &queue->head;
    node->prev = queue->head.prev;
    queue->head.prev->next = node;
    queue->head.prev = node;
}

static inline void queue_remove(struct queue_node *node)
{
    assert(queue_holds(node));
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = NULL;
    node->prev = NULL;
}

/* The oldest, or NULL. */
static inline struct queue_node *queue_first(const struct queue *queue)
{
    return queue_is_empty(queue) ? NULL : queue->head.next;
}

/* The one behind node, or NULL. */
static inline struct queue_node *queue_next(const struct queue *queue,
                                            const struct queue_node *node)
{
    return node->next == &queue->head ? NULL : node->next;
}

/* Appends all of from to queue, in order; from is empty afterwards. */
static inline void queue_append_all(struct queue *queue, struct queue *from)
{
    if (queue_is_empty(from)) {
        return;
    }
    from->head.next->prev = queue->head.prev;
    queue->head.prev->next = from->head.next;
    from->head.prev->next = &queue->head;
    queue->head.prev = from->head.prev;
    queue_init(from);
}

#endif

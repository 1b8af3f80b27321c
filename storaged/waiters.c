/*
 * waiters: a binary heap.
 */
#include "storaged/waiters.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int waiters_add(struct waiters *waiters, const struct waiter *waiter)
{
    size_t at = waiters->count;

    if (waiters->count == WAITERS_MAX) {
        return MS_EFULL;
    }
    if (waiters->count == waiters->room) {
        size_t room = waiters->room == 0 ? 64 : waiters->room * 2;
        struct waiter *grown = reallocarray(waiters->items, room, sizeof(*grown));

        if (grown == NULL) {
            return MS_ENOMEM;
        }
        waiters->items = grown;
        waiters->room = room;
    }
    waiters->count++;
    while (at > 0 && waiters->items[(at - 1) / 2].index > waiter->index) {
        waiters->items[at] = waiters->items[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    waiters->items[at] = *waiter;
    return MS_OK;
}

int waiters_first(const struct waiters *waiters, struct waiter *out)
{
    if (waiters->count == 0) {
        return MS_ENOENT;
    }
    *out = waiters->items[0];
    return MS_OK;
}

void waiters_pop(struct waiters *waiters)
{
    struct waiter last;
    size_t at = 0;

    assert(waiters->count > 0);
    last = waiters->items[--waiters->count];
    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= waiters->count) {
            break;
        }
        if (child + 1 < waiters->count &&
            waiters->items[child + 1].index < waiters->items[child].index) {
            child++;
        }
        if (waiters->items[child].index >= last.index) {
            break;
        }
        waiters->items[at] = waiters->items[child];
        at = child;
    }
    if (waiters->count > 0) {
        waiters->items[at] = last;
    }
}

void waiters_fini(struct waiters *waiters)
{
    free(waiters->items);
    memset(waiters, 0, sizeof(*waiters));
}

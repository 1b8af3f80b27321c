/*
 * waiters: requests that wait until the applied index has come far enough, lowest index first.
 */
#ifndef METASTORE_STORAGED_WAITERS_H
#define METASTORE_STORAGED_WAITERS_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/types.h"

/* More do not wait in one place: the asker's ring fills up then. */
#define WAITERS_MAX 4096u

struct waiter {
    raft_index index;
    uint64_t request;
};

/* A heap: no item is below its parent. All zero is empty. */
struct waiters {
    struct waiter *items; /* owned */
    size_t count;
    size_t room;
};

/* MS_EFULL: WAITERS_MAX wait already; MS_ENOMEM. */
int waiters_add(struct waiters *waiters, const struct waiter *waiter);

/* The one with the lowest index, without removing it. MS_ENOENT: none waits. */
int waiters_first(const struct waiters *waiters, struct waiter *out);

/* Removes what waiters_first told. */
void waiters_pop(struct waiters *waiters);

void waiters_fini(struct waiters *waiters);

#endif

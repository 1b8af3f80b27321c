/*
 * schedule: events by virtual time; those of one instant in the order they were made.
 */
#ifndef METASTORE_TESTS_SIM_SCHEDULE_H
#define METASTORE_TESTS_SIM_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/types.h"

enum event_kind {
    EVENT_TICK,          /* of a node's clock */
    EVENT_PACKET,        /* a message arrives: payload, owned */
    EVENT_WORK,          /* a raftd gets to its ready work */
    EVENT_DISK,          /* a batch is durable; life: of storaged */
    EVENT_APPLY,         /* storaged applies; life: of storaged */
    EVENT_FETCH,         /* old entries can be read; life: of raftd */
    EVENT_SNAPSHOT,      /* storaged writes one; life: of storaged */
    EVENT_SENT_SNAPSHOT, /* one has arrived; life: of the sending raftd; payload: at whom */
    EVENT_LOST_SNAPSHOT, /* it has not */
    EVENT_START_RAFTD,
    EVENT_START_STORAGE,
    EVENT_CLIENT, /* node: the client's number; life: which of its waits ends */
    EVENT_MEMBERS,
    EVENT_FAULT,
    EVENT_HEAL_NETWORK,
};

struct event {
    uint64_t at;
    uint64_t order;
    enum event_kind kind;
    node_id node;
    uint64_t life;
    void *payload;
};

/* A heap, the earliest first. */
struct schedule {
    struct event *items;
    size_t count;
    size_t capacity;
    uint64_t order;
};

void schedule_add(struct schedule *schedule, const struct event *event);
/* False if there is none. */
bool schedule_next(struct schedule *schedule, struct event *out);
/* Frees the heap; payloads are the caller's to take out first. */
void schedule_fini(struct schedule *schedule);

#endif

/*
 * publisher: what the status page and the metrics say of Raft.
 *
 * Writes the page only when something changed, and always before anybody else can learn of it from
 * a message: the node publishes first and sends afterwards.
 */
#ifndef METASTORE_RAFTD_PUBLISHER_H
#define METASTORE_RAFTD_PUBLISHER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/metrics.h"
#include "common/status_page.h"
#include "common/types.h"
#include "raftd/core/raft.h"
#include "raftd/membership.h"

struct publisher {
    struct ms_status_page *page;  /* borrowed */
    struct ms_metrics *metrics;   /* borrowed; may be NULL */
    struct ms_raft_status status; /* as last written */
    bool written;
    bool members_changed;
};

/* What the core does not know. */
struct publisher_facts {
    raft_index log_first_index; /* of storaged's log */
    raft_index durable_index;   /* up to here nothing in it will be replaced */
    bool conf_applied; /* the state machine has applied all that led to the present members */
    bool log_full;
    struct ms_instant leaderless_since; /* counts only while no leader is known */
    struct ms_instant lease_end;        /* 0: no lease */
};

void publisher_init(struct publisher *publisher, struct ms_status_page *page,
                    struct ms_metrics *metrics);

/* The members are others now; written with the next publisher_update. */
void publisher_set_members(struct publisher *publisher, const struct membership *membership);

/* Writes what changed since the last time. */
void publisher_update(struct publisher *publisher, const struct raft_basic_status *basic,
                      const struct publisher_facts *facts);

/* Counts; metrics of this worker only. */
void publisher_count(struct publisher *publisher, enum ms_metric metric, uint64_t delta);

/* Sets a gauge; metrics of this worker only. */
void publisher_gauge(struct publisher *publisher, enum ms_metric metric, uint64_t value);

#endif

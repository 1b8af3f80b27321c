/*
 * worker_table: which workers a node has, how they are connected, and how each one stands.
 *
 * Spawning, reaping, connecting and stopping all read this table; nothing else in the supervisor
 * knows a role by name. The table holds facts and has no behaviour: it starts and ends nothing.
 */
#ifndef METASTORE_SUPERVISOR_WORKER_TABLE_H
#define METASTORE_SUPERVISOR_WORKER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "common/config.h"
#include "common/control.h"
#include "common/err.h"
#include "common/metrics.h"
#include "common/types.h"
#include "supervisor/liveness.h"
#include "supervisor/restart_policy.h"

#define WORKERS_MAX       (2 + MS_API_WORKERS_MAX)
#define WORKER_NAME_BYTES 16

/*
 * Life of a worker. The process exists in STARTING, RUNNING, DRAINING and STOPPING.
 *
 *   WAITING    not started yet, or the restart policy's delay runs
 *                -> STARTING (timer), STOPPED (the node stops)
 *   STARTING   forked, has not said READY
 *                -> RUNNING (READY), WAITING (died), STOPPING or DRAINING (the node stops)
 *   RUNNING    serves, is pinged
 *                -> STARTING (killed from outside: at once), WAITING (died of its own fault),
 *                   DRAINING or STOPPING (the node stops)
 *   DRAINING   finishes what it took -> STOPPING (DRAINED), STOPPED (died, or deadline and SIGKILL)
 *   STOPPING   was told to leave     -> STOPPED (died, or deadline and SIGKILL)
 *   STOPPED    will not come back in the life of this supervisor
 */
enum worker_state {
    WORKER_WAITING,
    WORKER_STARTING,
    WORKER_RUNNING,
    WORKER_DRAINING,
    WORKER_STOPPING,
    WORKER_STOPPED,
};

/* What holds for all workers of one role. */
struct worker_role {
    enum ms_role role;
    unsigned stop_order;            /* lower ones stop first */
    bool drains;                    /* DRAIN and DRAINED come before STOP */
    bool needs_foreign_files;       /* "cannot run" may be about a file that somebody mends */
    uint32_t listener;              /* enum ms_listener_kind it gets; 0 for none */
    enum ms_metric restarts_metric; /* in the supervisor's slot */
};

/* A pair of rings between every worker of the one role and every worker of the other. */
struct worker_link {
    enum ms_link_kind kind;
    enum ms_role left;
    enum ms_role right;
    uint64_t capacity_min_bytes;
    bool carries_requests; /* must hold two of the largest requests */
};

struct worker_watch; /* the event loop's view of one incarnation, private to lifecycle.c */

/* One worker, across its incarnations. */
struct worker {
    const struct worker_role *role;
    uint32_t instance;
    char name[WORKER_NAME_BYTES]; /* "apid", and "apid-1" and so on for further instances */
    enum worker_state state;

    /* The current incarnation; pid is 0 and the descriptors are -1 while there is none. */
    pid_t pid;
    int pidfd;
    int control_fd;
    uint64_t generation; /* of the newest incarnation: 1, 2, ... */
    uint64_t origin;
    struct ms_instant started_at;
    struct ms_instant ready_at; /* ns is 0 until READY */
    enum kill_reason kill_reason;
    bool ending; /* we sent a signal; SIGKILL follows when the timer fires */
    bool unable; /* the incarnation before said that it cannot run, and none has been ready since */
    bool reloading; /* it has not answered the newest RELOAD */
    struct worker_watch *watch;

    uv_timer_t timer; /* what it means follows from state and aborting */
    struct liveness liveness;
    struct ms_instant frozen_since; /* while not pinged: seen stopped since then; 0: it is not */
    struct restart_backoff backoff;
    enum ms_worker_end previous_end;
    uint64_t restarts;
    void *owner; /* for callbacks: the supervisor */
};

struct worker_table {
    size_t count;
    struct worker workers[WORKERS_MAX];
};

/* Fills the table for a configuration: storaged, raftd, api_workers times apid, all WAITING. */
void worker_table_init(struct worker_table *table, const struct ms_config *config);

/* The worker with that process, role and instance, or name; NULL if there is none. */
struct worker *worker_table_by_pid(struct worker_table *table, pid_t pid);
struct worker *worker_table_by_role(struct worker_table *table, uint32_t role, uint32_t instance);
struct worker *worker_table_by_name(struct worker_table *table, const char *name);

/* All kinds of links; *count is their number. */
const struct worker_link *worker_table_links(size_t *count);

/* True if a link joins these two roles. */
bool worker_table_linked(enum ms_role a, enum ms_role b);

/* The number of stop orders: they run from 0 to this - 1. */
unsigned worker_table_stop_orders(void);

/* True while the worker has a process. */
bool worker_is_alive(const struct worker *worker);

/*
 * "waiting", "starting", ...: the words that the admin socket uses; "failing" for one that waits to
 * be tried again because it said that it cannot run.
 */
const char *worker_state_name(const struct worker *worker);

#endif

/*
 * supervisor_private: the state that supervisor.c (the node), lifecycle.c (its workers),
 * conversation.c (what they say), reload.c and stop.c (their end) work on. Nobody else includes
 * this.
 */
#ifndef METASTORE_SUPERVISOR_SUPERVISOR_PRIVATE_H
#define METASTORE_SUPERVISOR_SUPERVISOR_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "common/exit_codes.h"
#include "common/metrics.h"
#include "common/status_page.h"
#include "supervisor/admin.h"
#include "supervisor/datadir.h"
#include "supervisor/links.h"
#include "supervisor/listeners.h"
#include "supervisor/reload.h"
#include "supervisor/restart_policy.h"
#include "supervisor/supervisor.h"
#include "supervisor/worker_table.h"

/*
 * The node.
 *
 *   NODE_STARTING  workers were started, not all have been ready at once yet
 *                    -> NODE_SERVING (all RUNNING), NODE_STOPPING
 *   NODE_SERVING   announced to the service manager; workers come and go
 *                    -> NODE_STOPPING (signal, admin `stop`, removed from the cluster, a worker
 *                       that cannot run or kept dying)
 *   NODE_STOPPING  workers stop, one stop order after the other
 *                    -> NODE_STOPPED (no process left)
 *   NODE_STOPPED   the loop ends
 */
enum node_state {
    NODE_STARTING,
    NODE_SERVING,
    NODE_STOPPING,
    NODE_STOPPED,
};

struct supervisor {
    const struct supervisor_options *options;
    struct ms_config config;
    enum node_state state;
    enum ms_exit exit_status;

    uv_loop_t loop;
    uv_signal_t on_term;
    uv_signal_t on_int;
    uv_signal_t on_hup;
    uv_signal_t on_chld;
    uv_timer_t liveness_timer;
    uv_timer_t watchdog_timer;

    int program_fd;
    struct datadir datadir;
    bool has_cluster_key;
    uint8_t cluster_key[MS_CLUSTER_KEY_BYTES]; /* goes to raftd alone */
    struct listeners listeners;
    int status_fd;
    int metrics_fd;
    struct ms_status_page *status_page;
    struct ms_raft_status last_status; /* last consistent copy of the status page */
    struct ms_metrics_page *metrics_page;
    struct ms_metrics *metrics;
    struct admin *admin;

    struct worker_table workers;
    struct links links;
    struct restart_window window;
    struct reload reload;
    struct ms_instant last_tick; /* of the liveness timer */
    bool status_untold;          /* the service manager had no room for the last status */
    bool use_not_noted;          /* writing down that the data dir is in use failed */

    /* NODE_STOPPING */
    unsigned stop_order; /* the one that is stopping */
    bool stop_failed;    /* something is broken: no worker is restarted to help the others drain */
    bool stop_hurried;   /* all deadlines are now */
};

/* ---- lifecycle.c ----------------------------------------------------------------------------- */

/* Prepares the timers of all workers; once, before anything else here. */
void lifecycle_init(struct supervisor *s);

/* Starts a WAITING worker; a failure counts like a death and is tried again. */
void lifecycle_start(struct supervisor *s, struct worker *worker);

/* Collects every child that has ended, worker or orphan, and acts on it. */
void lifecycle_reap(struct supervisor *s);

/* Ends a worker that is to be replaced: SIGTERM for KILL_ADMIN, else SIGABRT and soon SIGKILL. */
void lifecycle_replace(struct supervisor *s, struct worker *worker, enum kill_reason reason);

/* Ends a worker at once. */
void lifecycle_kill(struct worker *worker, enum kill_reason reason);

/* Sends a control message; a worker that does not take it is replaced. */
void lifecycle_send(struct supervisor *s, struct worker *worker, enum ms_control_type type,
                    const void *payload, const int *fds);

/* Nothing more can come over the worker's control socket. */
void lifecycle_stop_listening(struct worker *worker);

/*
 * (Re)starts the worker's timer; what it does then follows from the worker's state. A deadline by
 * which a worker that is being ended gets SIGKILL is not put off.
 */
void lifecycle_set_deadline(struct worker *worker, uint64_t delay_ms);

/* ---- conversation.c -------------------------------------------------------------------------- */

/* Takes what the worker has said, a bounded number of messages, and acts on it. */
void conversation_listen(struct supervisor *s, struct worker *worker);

/* Pings, and replaces workers that have been silent for too long. Called by the liveness timer. */
void conversation_check_liveness(struct supervisor *s);

/* True if no running worker has been silent for longer than its deadline. */
bool conversation_all_answer(const struct supervisor *s);

/* ---- stop.c ---------------------------------------------------------------------------------- */

/* Begins to stop the node. Later calls change the exit status only from "on request" to a failure.
 */
void stop_begin(struct supervisor *s, enum ms_exit exit_status, const char *reason);

/* Makes all deadlines of a stop that is under way be now. */
void stop_hurry(struct supervisor *s);

/* True if a worker that died now should come back. */
bool stop_permits_restart(const struct supervisor *s, const struct worker *worker);

/* A worker is STOPPED: goes on to the next stop order, or ends the loop. */
void stop_advance(struct supervisor *s);

/* The worker said DRAINED. */
void stop_drained(struct supervisor *s, struct worker *worker);

/* ---- supervisor.c ---------------------------------------------------------------------------- */

/* The cluster has removed this node and raftd has nothing left to do: stops it, with status 0. */
void supervisor_removed(struct supervisor *s);

/* A worker became ready or was lost: tells the service manager when the node as a whole changed. */
void supervisor_workers_changed(struct supervisor *s);

#endif

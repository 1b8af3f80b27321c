/*
 * stop: the orderly end of a node.
 *
 * Workers stop in the order of the worker table: those that take requests first, the storage last,
 * each with a deadline, after which it is killed. While requests drain, the workers behind them are
 * still replaced when they die: what was accepted shall be answered.
 */
#include <assert.h>

#include "common/log.h"
#include "supervisor/notify.h"
#include "supervisor/supervisor_private.h"

#define STOP_QUICK_MS        2000  /* a worker that has only memory to leave */
#define STOP_STORAGE_MS      10000 /* one that has to flush */
#define DRAIN_AFTER_FAULT_MS 1000  /* most answers cannot come any more */

static uint64_t stop_deadline_ms(const struct supervisor *s, const struct worker *worker)
{
    if (s->stop_hurried) {
        return 0;
    }
    switch (worker->role->role) {
    case MS_ROLE_STORAGED:
        return STOP_STORAGE_MS;
    case MS_ROLE_RAFTD: /* a leader hands over first, for which it takes an election timeout at most
                         */
        return STOP_QUICK_MS + s->config.election_timeout_ms;
    case MS_ROLE_APID:
    case MS_ROLE_SUPERVISOR:
        break;
    }
    return STOP_QUICK_MS;
}

static uint64_t drain_deadline_ms(const struct supervisor *s)
{
    uint64_t deadline = s->config.request_timeout_ms;

    if (s->stop_hurried) {
        return 0;
    }
    return s->stop_failed && deadline > DRAIN_AFTER_FAULT_MS ? DRAIN_AFTER_FAULT_MS : deadline;
}

static const struct ms_control_empty empty;

static void order_stop(struct supervisor *s, struct worker *worker)
{
    worker->state = WORKER_STOPPING;
    worker->frozen_since = (struct ms_instant){0};
    lifecycle_set_deadline(worker, stop_deadline_ms(s, worker));
    lifecycle_send(s, worker, MS_CONTROL_STOP, &empty, NULL);
}

static void order_drain(struct supervisor *s, struct worker *worker)
{
    worker->state = WORKER_DRAINING;
    lifecycle_set_deadline(worker, drain_deadline_ms(s));
    lifecycle_send(s, worker, MS_CONTROL_DRAIN, &empty, NULL);
}

static void stop_worker(struct supervisor *s, struct worker *worker)
{
    switch (worker->state) {
    case WORKER_WAITING:
        (void)uv_timer_stop(&worker->timer);
        worker->state = WORKER_STOPPED;
        break;
    case WORKER_STARTING: /* has taken nothing that could be drained */
        order_stop(s, worker);
        break;
    case WORKER_RUNNING:
        if (worker->role->drains) {
            order_drain(s, worker);
        } else {
            order_stop(s, worker);
        }
        break;
    case WORKER_DRAINING:
    case WORKER_STOPPING:
    case WORKER_STOPPED:
        break;
    }
}

static void enter_stop_order(struct supervisor *s)
{
    for (size_t i = 0; i < s->workers.count; i++) {
        if (s->workers.workers[i].role->stop_order == s->stop_order) {
            stop_worker(s, &s->workers.workers[i]);
        }
    }
}

/* Nobody helps a node whose parts are broken: workers that wait for a restart stay away. */
static void cancel_restarts(struct supervisor *s)
{
    for (size_t i = 0; i < s->workers.count; i++) {
        if (s->workers.workers[i].state == WORKER_WAITING) {
            stop_worker(s, &s->workers.workers[i]);
        }
    }
}

void stop_begin(struct supervisor *s, enum ms_exit exit_status, const char *reason)
{
    struct ms_err err = {0};

    if (exit_status != MS_EXIT_OK && !s->stop_failed) {
        s->stop_failed = true;
        s->exit_status = exit_status;
        cancel_restarts(s);
    }
    if (s->state >= NODE_STOPPING) {
        if (s->state == NODE_STOPPING && s->stop_failed) {
            stop_advance(s);
        }
        return;
    }
    s->state = NODE_STOPPING;
    ms_log(MS_LOG_INFO, "stopping", MS_F_STR("reason", reason));
    if (notify_stopping(&err) != MS_OK || notify_status(&err, "stopping: %s", reason) != MS_OK) {
        ms_log_err(MS_LOG_WARN, "service manager not told", &err);
    }
    s->stop_order = 0;
    enter_stop_order(s);
    stop_advance(s);
}

void stop_hurry(struct supervisor *s)
{
    if (s->state != NODE_STOPPING || s->stop_hurried) {
        return;
    }
    ms_log_plain(MS_LOG_WARN, "asked again to stop: not waiting any longer");
    s->stop_hurried = true;
    for (size_t i = 0; i < s->workers.count; i++) {
        struct worker *worker = &s->workers.workers[i];

        if (worker->state == WORKER_DRAINING || worker->state == WORKER_STOPPING) {
            lifecycle_set_deadline(worker, 0);
        }
    }
}

bool stop_permits_restart(const struct supervisor *s, const struct worker *worker)
{
    if (s->state < NODE_STOPPING) {
        return true;
    }
    return s->state == NODE_STOPPING && !s->stop_failed && !s->stop_hurried &&
           worker->role->stop_order > s->stop_order;
}

static bool order_is_finished(const struct supervisor *s)
{
    for (size_t i = 0; i < s->workers.count; i++) {
        const struct worker *worker = &s->workers.workers[i];

        if (worker->role->stop_order == s->stop_order && worker->state != WORKER_STOPPED) {
            return false;
        }
    }
    return true;
}

void stop_advance(struct supervisor *s)
{
    assert(s->state >= NODE_STOPPING);
    while (s->state == NODE_STOPPING && order_is_finished(s)) {
        s->stop_order++;
        if (s->stop_order == worker_table_stop_orders()) {
            s->state = NODE_STOPPED;
            uv_stop(&s->loop);
        } else {
            enter_stop_order(s);
        }
    }
}

void stop_drained(struct supervisor *s, struct worker *worker)
{
    if (worker->state == WORKER_DRAINING) {
        order_stop(s, worker);
    }
}

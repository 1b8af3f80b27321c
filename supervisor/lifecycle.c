/*
 * lifecycle: the incarnations of a worker, from fork to reaping, and what follows.
 *
 * Everything a new process needs is put into its control socket before it has even begun to run
 * (WELCOME, pages, listener, links, GO), so that a restart costs one exec and no round trip.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/control.h"
#include "common/log.h"
#include "supervisor/process.h"
#include "supervisor/supervisor_private.h"

#define START_DEADLINE_MS 120000 /* a rebuild from snapshot and log may take its time */
#define ENDING_MS         300    /* from the polite signal to SIGKILL */

/*
 * The event loop's handles for one incarnation. On the heap, because closing a handle takes until
 * the loop's next round, while the next incarnation starts at once.
 */
struct worker_watch {
    struct worker *worker;
    uv_poll_t control;
    uv_poll_t death;
    unsigned open_handles;
};

/* ---- signals and messages -------------------------------------------------------------------- */

static void send_signal(struct worker *worker, int signo)
{
    struct ms_err err = {0};

    if (process_signal(worker->pidfd, signo, &err) != MS_OK) {
        ms_log_err(MS_LOG_ERROR, "worker not signalled", &err);
    }
}

void lifecycle_kill(struct worker *worker, enum kill_reason reason)
{
    if (worker->kill_reason == KILL_NONE) {
        worker->kill_reason = reason;
    }
    send_signal(worker, SIGKILL);
}

void lifecycle_replace(struct supervisor *s, struct worker *worker, enum kill_reason reason)
{
    (void)s;
    if (!worker_is_alive(worker) || worker->ending) {
        return;
    }
    worker->ending = true;
    if (process_is_frozen(worker->pid)) {
        /* No other signal would reach it, and being stopped is nothing it did itself. */
        lifecycle_kill(worker, reason == KILL_HUNG ? KILL_FROZEN : reason);
        return;
    }
    worker->kill_reason = reason;
    send_signal(worker, reason == KILL_ADMIN ? SIGTERM : SIGABRT);
    lifecycle_set_deadline(worker, ENDING_MS);
}

void lifecycle_send(struct supervisor *s, struct worker *worker, enum ms_control_type type,
                    const void *payload, const int *fds)
{
    struct ms_err err = {0};
    int rc;

    rc = ms_control_send(worker->control_fd, type, payload, fds, &err);
    if (rc == MS_OK || rc == MS_EPEER) { /* it is about to be reaped */
        return;
    }
    ms_log(MS_LOG_WARN, "worker does not take messages", MS_F_STR("worker", worker->name),
           MS_F_STR("message", ms_control_name(type)), MS_F_STR("error", err.text));
    lifecycle_replace(s, worker, KILL_HUNG);
}

static void neighbour_failed(void *ctx, struct worker *neighbour, const struct ms_err *err)
{
    struct supervisor *s = ctx;

    ms_log(MS_LOG_WARN, "worker does not take its link", MS_F_STR("worker", neighbour->name),
           MS_F_STR("error", err->text));
    lifecycle_replace(s, neighbour, KILL_HUNG);
}

/* ---- one incarnation ------------------------------------------------------------------------- */

static void on_watch_closed(uv_handle_t *handle)
{
    struct worker_watch *watch = handle->data;

    if (--watch->open_handles == 0) {
        free(watch);
    }
}

static void on_control(uv_poll_t *poll, int status, int events)
{
    struct worker_watch *watch = poll->data;

    (void)status; /* a broken socket shows when it is read */
    (void)events;
    conversation_listen(watch->worker->owner, watch->worker);
}

static void on_death(uv_poll_t *poll, int status, int events)
{
    struct worker_watch *watch = poll->data;

    (void)status;
    (void)events;
    lifecycle_reap(watch->worker->owner);
}

static int watch_start(struct supervisor *s, struct worker *worker, struct ms_err *err)
{
    struct worker_watch *watch = calloc(1, sizeof(*watch));
    int rc;

    if (watch == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "watch %s", worker->name);
    }
    watch->worker = worker;
    watch->control.data = watch;
    watch->death.data = watch;
    rc = uv_poll_init(&s->loop, &watch->control, worker->control_fd);
    if (rc != 0) {
        free(watch);
        return ms_err_set(err, MS_EIO, -rc, "watch %s", worker->name);
    }
    watch->open_handles++;
    worker->watch = watch;
    rc = uv_poll_init(&s->loop, &watch->death, worker->pidfd);
    if (rc == 0) {
        watch->open_handles++;
        rc = uv_poll_start(&watch->death, UV_READABLE, on_death);
    }
    if (rc == 0) {
        rc = uv_poll_start(&watch->control, UV_READABLE, on_control);
    }
    return rc == 0 ? MS_OK : ms_err_set(err, MS_EIO, -rc, "watch %s", worker->name);
}

void lifecycle_stop_listening(struct worker *worker)
{
    if (worker->watch != NULL) {
        (void)uv_poll_stop(&worker->watch->control);
    }
}

static void watch_stop(struct worker *worker)
{
    struct worker_watch *watch = worker->watch;

    worker->watch = NULL;
    if (watch == NULL) {
        return;
    }
    if (watch->open_handles > 1) {
        uv_close((uv_handle_t *)&watch->death, on_watch_closed);
    }
    uv_close((uv_handle_t *)&watch->control, on_watch_closed);
}

static int draw_origin(uint64_t *out, struct ms_err *err)
{
    do {
        if (getrandom(out, sizeof(*out), 0) != (ssize_t)sizeof(*out)) {
            return ms_err_set(err, MS_EIO, errno, "random number");
        }
    } while (*out == 0);
    return MS_OK;
}

static int spawn(struct supervisor *s, struct worker *worker, struct ms_err *err)
{
    int pair[2] = {-1, -1};
    struct process_fds fds;
    int rc;

    rc = draw_origin(&worker->origin, err);
    if (rc != MS_OK) {
        return rc;
    }
    rc = ms_control_pair(pair, err);
    if (rc != MS_OK) {
        return rc;
    }
    fds = (struct process_fds){
        .program = s->program_fd, .control = pair[1], .lock = s->datadir.lock_fd};
    rc = process_spawn(&fds, ms_role_name(worker->role->role), &worker->pid, &worker->pidfd, err);
    (void)close(pair[1]);
    if (rc != MS_OK) {
        (void)close(pair[0]);
        return rc;
    }
    worker->control_fd = pair[0];
    return MS_OK;
}

static int send_listener(struct supervisor *s, struct worker *worker, struct ms_err *err)
{
    struct ms_control_listener listener = {.kind = worker->role->listener};
    int fd = -1;

    switch (listener.kind) {
    case MS_LISTENER_API:
        fd = s->listeners.api_fd;
        break;
    case MS_LISTENER_PEER:
        fd = s->listeners.peer_fd;
        break;
    default:
        break;
    }
    return fd < 0 ? MS_OK
                  : ms_control_send(worker->control_fd, MS_CONTROL_LISTENER, &listener, &fd, err);
}

/* Everything a worker needs to begin, in the order that worker.h describes. */
static int hand_over(struct supervisor *s, struct worker *worker, struct ms_err *err)
{
    static const struct ms_control_empty empty;
    struct ms_control_welcome welcome = {
        .protocol = MS_CONTROL_PROTOCOL,
        .role = (uint32_t)worker->role->role,
        .instance = worker->instance,
        .previous_end = worker->previous_end,
        .generation = worker->generation,
        .origin = worker->origin,
        .data_id = s->datadir.data_id,
        .data_was_used = s->datadir.was_used,
        .config = s->config,
    };
    int rc;

    if (worker->role->role == MS_ROLE_RAFTD && s->has_cluster_key) {
        welcome.has_cluster_key = 1;
        memcpy(welcome.cluster_key, s->cluster_key, sizeof(welcome.cluster_key));
    }
    rc = ms_control_send(worker->control_fd, MS_CONTROL_WELCOME, &welcome, NULL, err);
    explicit_bzero(welcome.cluster_key, sizeof(welcome.cluster_key));
    if (rc == MS_OK) {
        rc =
            ms_control_send(worker->control_fd, MS_CONTROL_STATUS_PAGE, &empty, &s->status_fd, err);
    }
    if (rc == MS_OK) {
        rc = ms_control_send(worker->control_fd, MS_CONTROL_METRICS_PAGE, &empty, &s->metrics_fd,
                             err);
    }
    if (rc == MS_OK) {
        rc = send_listener(s, worker, err);
    }
    if (rc == MS_OK) {
        rc = links_connect(&s->links, &s->workers, worker, s->config.max_request_bytes,
                           neighbour_failed, s, err);
    }
    if (rc == MS_OK) {
        rc = ms_control_send(worker->control_fd, MS_CONTROL_GO, &empty, NULL, err);
    }
    return rc;
}

/* Forgets the process, which is reaped. */
static void forget(struct worker *worker)
{
    (void)uv_timer_stop(&worker->timer);
    watch_stop(worker);
    (void)close(worker->control_fd);
    (void)close(worker->pidfd);
    worker->control_fd = -1;
    worker->pidfd = -1;
    worker->pid = 0;
    worker->ready_at = (struct ms_instant){0};
    worker->kill_reason = KILL_NONE;
    worker->ending = false;
}

/* ---- restart --------------------------------------------------------------------------------- */

/* Acts on a death; the worker has no process and is WAITING. */
static void decide(struct supervisor *s, struct worker *worker, const struct death *death,
                   bool was_ready, uint64_t ready_for_ms)
{
    const struct restart_facts facts = {
        .was_ready = was_ready,
        /* On the first start whoever made the mistake still looks on. */
        .may_recover = worker->role->needs_foreign_files && s->state >= NODE_SERVING,
        .ready_for_ms = ready_for_ms,
        .now = ms_clock_now(),
    };
    struct restart_decision decision;

    if (!stop_permits_restart(s, worker)) {
        worker->state = WORKER_STOPPED;
        stop_advance(s);
        return;
    }
    decision = restart_policy_decide(&s->window, &worker->backoff, death, &facts);
    switch (decision.action) {
    case RESTART_NOW:
        lifecycle_start(s, worker);
        break;
    case RESTART_DELAYED:
        ms_log(MS_LOG_INFO, "worker restarts later", MS_F_STR("worker", worker->name),
               MS_F_U64("delay_ms", decision.delay_ms));
        lifecycle_set_deadline(worker, decision.delay_ms);
        break;
    case RESTART_UNABLE:
        worker->unable = true;
        ms_log(MS_LOG_ERROR, "worker cannot run until what it complains about is mended",
               MS_F_STR("worker", worker->name), MS_F_U64("retry_ms", decision.delay_ms));
        lifecycle_set_deadline(worker, decision.delay_ms);
        break;
    case RESTART_GIVE_UP:
        worker->state = WORKER_STOPPED;
        ms_log(MS_LOG_ERROR, "workers kept dying of their own fault, giving up",
               MS_F_STR("worker", worker->name), MS_F_STR("cause", death->cause),
               MS_F_U64("tolerated", s->config.restart_intensity),
               MS_F_U64("period_ms", s->config.restart_period_ms));
        stop_begin(s, MS_EXIT_GAVE_UP, "a worker kept dying");
        break;
    case RESTART_CANNOT_RUN:
        worker->state = WORKER_STOPPED;
        ms_log(MS_LOG_ERROR, "worker cannot run, stopping the node",
               MS_F_STR("worker", worker->name));
        stop_begin(s, MS_EXIT_CANNOT_RUN, "a worker cannot run");
        break;
    }
}

void lifecycle_start(struct supervisor *s, struct worker *worker)
{
    struct ms_err err = {0};
    int rc;

    assert(worker->state == WORKER_WAITING && !worker_is_alive(worker));
    rc = spawn(s, worker, &err);
    if (rc != MS_OK) {
        struct death death = {
            .class = DEATH_OWN_FAULT, .end = worker->previous_end, .cause = "not started"};

        ms_log(MS_LOG_ERROR, "worker not started", MS_F_STR("worker", worker->name),
               MS_F_STR("error", err.text));
        decide(s, worker, &death, false, 0);
        return;
    }
    worker->state = WORKER_STARTING;
    worker->started_at = ms_clock_now();
    worker->generation++;
    liveness_reset(&worker->liveness);
    worker->frozen_since = (struct ms_instant){0};
    if (worker->generation > 1) {
        worker->restarts++;
        ms_metrics_add(s->metrics, worker->role->restarts_metric, 1);
    }
    lifecycle_set_deadline(worker, START_DEADLINE_MS);
    ms_log(MS_LOG_DEBUG, "worker started", MS_F_STR("worker", worker->name),
           MS_F_I64("pid", worker->pid), MS_F_U64("generation", worker->generation));

    rc = watch_start(s, worker, &err);
    if (rc == MS_OK) {
        rc = hand_over(s, worker, &err);
    }
    if (rc != MS_OK && rc != MS_EPEER) {
        ms_log(MS_LOG_ERROR, "worker not connected", MS_F_STR("worker", worker->name),
               MS_F_STR("error", err.text));
        lifecycle_kill(worker, KILL_UNCONNECTED);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct worker *worker = timer->data;
    struct supervisor *s = worker->owner;

    if (worker->ending) {
        lifecycle_kill(worker, KILL_HUNG);
        return;
    }
    switch (worker->state) {
    case WORKER_WAITING:
        lifecycle_start(s, worker);
        break;
    case WORKER_STARTING:
        ms_log(MS_LOG_ERROR, "worker did not become ready", MS_F_STR("worker", worker->name),
               MS_F_U64("deadline_ms", START_DEADLINE_MS));
        lifecycle_replace(s, worker, KILL_HUNG);
        break;
    case WORKER_DRAINING:
    case WORKER_STOPPING:
        ms_log(MS_LOG_WARN, "worker did not stop in time", MS_F_STR("worker", worker->name));
        lifecycle_kill(worker, KILL_STOP_DEADLINE);
        break;
    case WORKER_RUNNING:
    case WORKER_STOPPED:
        break; /* no deadline holds there */
    }
}

void lifecycle_set_deadline(struct worker *worker, uint64_t delay_ms)
{
    if (worker->ending && uv_is_active((uv_handle_t *)&worker->timer) &&
        uv_timer_get_due_in(&worker->timer) < delay_ms) {
        return;
    }
    (void)uv_timer_start(&worker->timer, on_timer, delay_ms, 0);
}

void lifecycle_init(struct supervisor *s)
{
    for (size_t i = 0; i < s->workers.count; i++) {
        struct worker *worker = &s->workers.workers[i];

        (void)uv_timer_init(&s->loop, &worker->timer); /* cannot fail */
        worker->timer.data = worker;
        worker->owner = s;
    }
}

/* ---- death ----------------------------------------------------------------------------------- */

static void tell_neighbours(struct supervisor *s, const struct worker *dead, enum ms_worker_end end)
{
    struct ms_control_peer_down down = {
        .role = (uint32_t)dead->role->role, .instance = dead->instance, .end = end};

    for (size_t i = 0; i < s->workers.count; i++) {
        struct worker *worker = &s->workers.workers[i];

        if (worker_is_alive(worker) && worker_table_linked(worker->role->role, dead->role->role)) {
            lifecycle_send(s, worker, MS_CONTROL_PEER_DOWN, &down, NULL);
        }
    }
}

static void died(struct supervisor *s, struct worker *worker, int wait_status)
{
    struct death_facts facts = {.wait_status = wait_status};
    struct ms_instant now = ms_clock_now();
    struct death death;
    uint64_t ready_for_ms = 0;
    enum ms_log_level level;
    pid_t pid = worker->pid;

    /* What it said last counts: that it was ready, or that a neighbour broke the protocol. */
    conversation_listen(s, worker);
    facts.was_ready = worker->ready_at.ns != 0;
    facts.asked_to_stop = worker->state == WORKER_STOPPING || worker->state == WORKER_DRAINING;
    facts.kill_reason = worker->kill_reason;
    restart_policy_classify(&facts, &death);
    if (facts.was_ready) {
        ready_for_ms = ms_clock_elapsed_ms(worker->ready_at, now);
    }

    forget(worker);
    worker->previous_end = death.end;
    worker->state = WORKER_WAITING;
    tell_neighbours(s, worker, death.end);
    reload_worker_lost(s, worker);
    if (worker->role->role == MS_ROLE_RAFTD) {
        admin_on_raftd_lost(s->admin);
    }
    level = death.class == DEATH_ASKED ? MS_LOG_INFO : MS_LOG_WARN;
    ms_log(level, death.class == DEATH_ASKED ? "worker stopped" : "worker died",
           MS_F_STR("worker", worker->name), MS_F_I64("pid", pid), MS_F_STR("cause", death.cause),
           MS_F_U64("ready_ms", ready_for_ms));
    decide(s, worker, &death, facts.was_ready, ready_for_ms);
    supervisor_workers_changed(s);
}

/*
 * The one place that reaps. A pidfd and SIGCHLD may both announce the same death; whoever comes
 * second finds nothing. As PID 1, orphans of others are collected as well.
 */
void lifecycle_reap(struct supervisor *s)
{
    int wait_status;
    pid_t pid;

    while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
        struct worker *worker = worker_table_by_pid(&s->workers, pid);

        if (worker != NULL) {
            died(s, worker, wait_status);
        } else {
            ms_log(MS_LOG_DEBUG, "orphan reaped", MS_F_I64("pid", pid));
        }
    }
}

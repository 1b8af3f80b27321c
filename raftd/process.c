/*
 * process: see process.h.
 */
#include "raftd/process.h"

#include <unistd.h>
#include <uv.h>

#include "common/clock.h"
#include "common/exit_codes.h"
#include "common/log.h"
#include "raftd/node.h"

struct process {
    struct ms_worker *worker; /* borrowed */
    struct raftd_node *node;
    uv_loop_t loop;
    uv_poll_t control;  /* the supervisor has sent something */
    uv_poll_t doorbell; /* the node has something to do */
    uv_timer_t tick;
    uv_idle_t busy;    /* active while the node has more to do: the loop does not wait then */
    int exit_status;   /* enum ms_exit */
    bool leaving;      /* exit_status is final */
    bool drain_wanted; /* asked for and not yet reported */
};

static void leave(struct process *process, int exit_status)
{
    if (!process->leaving) {
        process->exit_status = exit_status;
        process->leaving = true;
    }
    uv_stop(&process->loop);
}

/* Ends the process after a failure, by what a new start would make of it. */
static void fail(struct process *process, const struct ms_err *err)
{
    bool hopeless = err->status == MS_EINVAL || err->status == MS_ECORRUPT;

    ms_log_err(MS_LOG_ERROR, "cannot run", err);
    leave(process, hopeless ? MS_EXIT_CANNOT_RUN : MS_EXIT_INTERNAL);
}

static void fail_uv(struct process *process, const char *what, int uv_status)
{
    struct ms_err err;

    (void)ms_err_set(&err, MS_EIO, -uv_status, "%s", what);
    fail(process, &err);
}

/* ---- events ---- */

static void on_busy(uv_idle_t *handle);

/* Lets the node work, after any event. */
static void run_node(struct process *process)
{
    struct ms_err err;
    int rc;

    if (process->leaving) {
        return;
    }
    rc = raftd_node_run(process->node, ms_clock_now(), &err);
    if (rc != MS_OK && rc != MS_EAGAIN) {
        fail(process, &err);
        return;
    }
    if (rc == MS_EAGAIN) {
        (void)uv_idle_start(&process->busy, on_busy); /* fails only without a callback */
    } else {
        (void)uv_idle_stop(&process->busy); /* never fails */
    }
    if (process->drain_wanted && raftd_node_is_idle(process->node)) {
        process->drain_wanted = false;
        ms_worker_drained(process->worker);
    }
}

static void on_busy(uv_idle_t *handle)
{
    run_node(handle->data);
}

static void on_doorbell(uv_poll_t *handle, int status, int events)
{
    (void)events;
    if (status < 0) {
        fail_uv(handle->data, "watch the doorbells", status);
        return;
    }
    run_node(handle->data);
}

static void on_control(uv_poll_t *handle, int status, int events)
{
    struct process *process = handle->data;

    (void)events;
    if (status < 0) {
        fail_uv(process, "watch the control channel", status);
        return;
    }
    ms_worker_dispatch(process->worker);
    run_node(process);
}

static void on_tick(uv_timer_t *handle)
{
    struct process *process = handle->data;
    struct ms_err err;

    if (raftd_node_tick(process->node, ms_clock_now(), &err) != MS_OK) {
        fail(process, &err);
        return;
    }
    run_node(process);
}

/* ---- from the supervisor ---- */

static void on_link(void *ctx, struct ms_link *link)
{
    struct process *process = ctx;
    struct ms_err err;

    if (raftd_node_take_link(process->node, link, ms_clock_now(), &err) != MS_OK) {
        fail(process, &err);
    }
}

static void on_peer_down(void *ctx, const struct ms_control_peer_down *down)
{
    struct process *process = ctx;
    struct ms_err err;

    if (raftd_node_peer_down(process->node, (enum ms_role)down->role, down->instance,
                             ms_clock_now(), &err) != MS_OK) {
        fail(process, &err);
    }
}

static void on_drain(void *ctx)
{
    struct process *process = ctx;

    raftd_node_drain(process->node);
    process->drain_wanted = true;
}

/* Nothing has to be written: what counts is in storaged's log. */
static void on_stop(void *ctx)
{
    leave(ctx, MS_EXIT_OK);
}

/* ---- from the node ---- */

static void on_bad_peer(void *ctx, const struct ms_link_info *peer, const char *text)
{
    struct process *process = ctx;

    ms_log(MS_LOG_ERROR, "neighbour broke the protocol", MS_F_STR("detail", text));
    ms_worker_report_peer(process->worker, peer, text);
}

static void on_ready(void *ctx)
{
    struct process *process = ctx;

    ms_worker_ready(process->worker);
}

/* ---- beginning and end ---- */

static int create_node(struct process *process, struct ms_err *err)
{
    const struct raftd_node_options options = {
        .config = ms_worker_config(process->worker),
        .origin = ms_worker_identity(process->worker)->origin,
        .page = ms_worker_status_page(process->worker),
        .metrics = ms_worker_metrics(process->worker),
        .report_peer = on_bad_peer,
        .on_ready = on_ready,
        .ready_when_leading = ms_worker_identity(process->worker)->generation == 1,
        .ctx = process,
    };

    return raftd_node_create(&options, &process->node, err);
}

/* Starts to watch everything; returns a status of libuv. */
static int watch(struct process *process)
{
    uint64_t interval_ms = ms_worker_config(process->worker)->heartbeat_interval_ms;
    int rc = uv_poll_init(&process->loop, &process->control, ms_worker_fd(process->worker));

    if (rc == 0) {
        rc = uv_poll_init(&process->loop, &process->doorbell, raftd_node_fd(process->node));
    }
    if (rc == 0) {
        rc = uv_timer_init(&process->loop, &process->tick);
    }
    if (rc == 0) {
        rc = uv_idle_init(&process->loop, &process->busy);
    }
    if (rc != 0) {
        return rc;
    }
    process->control.data = process;
    process->doorbell.data = process;
    process->tick.data = process;
    process->busy.data = process;
    rc = uv_poll_start(&process->control, UV_READABLE, on_control);
    if (rc == 0) {
        rc = uv_poll_start(&process->doorbell, UV_READABLE, on_doorbell);
    }
    if (rc == 0) {
        rc = uv_timer_start(&process->tick, on_tick, interval_ms, interval_ms);
    }
    return rc;
}

static void close_handle(uv_handle_t *handle, void *ctx)
{
    (void)ctx;
    uv_close(handle, NULL);
}

int raftd_process_run(struct ms_worker *worker)
{
    const struct ms_worker_handlers handlers = {
        .on_link = on_link, .on_peer_down = on_peer_down, .on_drain = on_drain, .on_stop = on_stop};
    struct process process = {.worker = worker, .exit_status = MS_EXIT_OK};
    struct ms_err err;
    int rc = uv_loop_init(&process.loop);

    if (rc != 0) {
        (void)ms_err_set(&err, MS_EIO, -rc, "create the event loop");
        ms_log_err(MS_LOG_ERROR, "cannot run", &err);
        return MS_EXIT_INTERNAL;
    }
    if (create_node(&process, &err) != MS_OK) {
        fail(&process, &err);
        goto out;
    }
    rc = watch(&process);
    if (rc != 0) {
        fail_uv(&process, "watch descriptors", rc);
        goto out;
    }
    ms_worker_set_handlers(worker, &handlers, &process);
    /* What came before GO waits there, not in the channel. */
    ms_worker_dispatch(worker);
    run_node(&process);
    if (!process.leaving) {
        (void)uv_run(&process.loop, UV_RUN_DEFAULT);
    }

out:
    uv_walk(&process.loop, close_handle, NULL);
    do { /* until all are closed; the first run may only find that it was told to stop */
        (void)uv_run(&process.loop, UV_RUN_DEFAULT);
    } while (uv_loop_alive(&process.loop) != 0);
    (void)uv_loop_close(&process.loop);
    raftd_node_destroy(process.node);
    return process.exit_status;
}

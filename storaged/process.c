/*
 * process: libuv around a node.
 */
#include "storaged/process.h"

#include <uv.h>

#include "common/clock.h"
#include "common/exit_codes.h"
#include "common/log.h"
#include "storaged/node.h"

struct process {
    struct ms_worker *worker; /* borrowed */
    struct store_node *node;
    uv_loop_t loop;
    uv_poll_t control; /* the supervisor has sent something */
    uv_poll_t wake;    /* the node has something to do */
    uv_timer_t tick;
    uv_idle_t busy; /* active while the node has more to do: the loop does not wait then */
    int exit_status;
    bool leaving;  /* exit_status is final */
    bool stopping; /* in the orderly way */
};

static void leave(struct process *process, int exit_status)
{
    if (!process->leaving) {
        process->exit_status = exit_status;
        process->leaving = true;
    }
    uv_stop(&process->loop);
}

static void fail(struct process *process, int exit_status, const struct ms_err *err)
{
    ms_log_err(MS_LOG_ERROR, "cannot go on", err);
    leave(process, exit_status);
}

static void on_busy(uv_idle_t *handle);

/* Goes by what run or tick of the node returned. */
static void after_run(struct process *process, int rc, const struct ms_err *err)
{
    if (rc == MS_OK) {
        (void)uv_idle_stop(&process->busy);
    } else if (rc == MS_EAGAIN) {
        (void)uv_idle_start(&process->busy, on_busy); /* fails only without a callback */
    } else {
        fail(process, (int)store_node_exit(process->node), err);
    }
}

static void run_node(struct process *process)
{
    struct ms_err err = {.status = MS_OK};

    if (!process->leaving) {
        after_run(process, store_node_run(process->node, ms_clock_now(), &err), &err);
    }
}

/* ---- events --------------------------------------------------------------------------------- */

static void on_busy(uv_idle_t *handle)
{
    run_node(handle->data);
}

static void on_wake(uv_poll_t *handle, int status, int events)
{
    (void)status; /* an error on these descriptors shows when they are used */
    (void)events;
    run_node(handle->data);
}

static void on_control(uv_poll_t *handle, int status, int events)
{
    struct process *process = handle->data;

    (void)status; /* a channel that failed is seen by dispatch, which then ends the process */
    (void)events;
    ms_worker_dispatch(process->worker);
    run_node(process);
}

static void on_tick(uv_timer_t *handle)
{
    struct process *process = handle->data;
    struct ms_err err = {.status = MS_OK};

    if (!process->leaving) {
        after_run(process, store_node_tick(process->node, ms_clock_now(), &err), &err);
    }
}

/* ---- from the supervisor -------------------------------------------------------------------- */

static void on_link(void *ctx, struct ms_link *link)
{
    struct process *process = ctx;
    struct ms_err err = {.status = MS_OK};

    if (store_node_take_link(process->node, link, &err) != MS_OK) {
        fail(process, (int)store_node_exit(process->node), &err);
    }
}

static void on_peer_down(void *ctx, const struct ms_control_peer_down *down)
{
    store_node_peer_down(((struct process *)ctx)->node, down);
}

/* storaged takes no work but what its neighbours have accepted, so there is nothing to refuse. */
static void on_drain(void *ctx)
{
    ms_worker_drained(((struct process *)ctx)->worker);
}

static void on_stop(void *ctx)
{
    struct process *process = ctx;

    process->stopping = !process->leaving;
    leave(process, MS_EXIT_OK);
}

static void on_bad_peer(void *ctx, const struct ms_link_info *peer, const char *text)
{
    struct process *process = ctx;

    ms_log(MS_LOG_ERROR, "neighbour broke the protocol",
           MS_F_STR("peer", ms_role_name((enum ms_role)peer->peer_role)), MS_F_STR("detail", text));
    ms_worker_report_peer(process->worker, peer, text);
}

/* ---- beginning and end ---------------------------------------------------------------------- */

/*
 * What a start that failed should make of the process. A disk that refuses the very first start of
 * a node is for its operator; one that failed under a running node may be read again.
 */
static int exit_of_start(int rc, enum ms_worker_end previous_end)
{
    switch (rc) {
    case MS_ECORRUPT:
    case MS_EINVAL:
    case MS_ENOENT:
    case MS_ENOSPC:
    case MS_EPERM:
        return MS_EXIT_CANNOT_RUN;
    case MS_EIO:
        return previous_end == MS_END_NONE ? MS_EXIT_CANNOT_RUN : MS_EXIT_DISK;
    default: /* any other status: another try may do */
        return MS_EXIT_INTERNAL;
    }
}

static int create_node(struct process *process, struct ms_err *err)
{
    const struct store_node_options options = {
        .config = ms_worker_config(process->worker),
        .previous_end = ms_worker_identity(process->worker)->previous_end,
        .data_was_used = ms_worker_identity(process->worker)->data_was_used,
        .page = ms_worker_status_page(process->worker),
        .metrics = ms_worker_metrics(process->worker),
        .report_peer = on_bad_peer,
        .ctx = process,
    };

    return store_node_create(&options, &process->node, err);
}

/* Starts to watch everything; returns a status of libuv. */
static int watch(struct process *process)
{
    int rc = uv_poll_init(&process->loop, &process->control, ms_worker_fd(process->worker));

    if (rc == 0) {
        rc = uv_poll_init(&process->loop, &process->wake, store_node_fd(process->node));
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
    process->wake.data = process;
    process->tick.data = process;
    process->busy.data = process;
    rc = uv_poll_start(&process->control, UV_READABLE, on_control);
    if (rc == 0) {
        rc = uv_poll_start(&process->wake, UV_READABLE, on_wake);
    }
    if (rc == 0) {
        rc = uv_timer_start(&process->tick, on_tick, STORE_NODE_TICK_MS, STORE_NODE_TICK_MS);
    }
    return rc;
}

static void close_handle(uv_handle_t *handle, void *ctx)
{
    (void)ctx;
    uv_close(handle, NULL);
}

/* The loop, from the first message to the last. */
static void run(struct process *process)
{
    const struct ms_worker_handlers handlers = {
        .on_link = on_link, .on_peer_down = on_peer_down, .on_drain = on_drain, .on_stop = on_stop};
    int rc = watch(process);

    if (rc != 0) {
        struct ms_err err;

        (void)ms_err_set(&err, MS_EIO, -rc, "watch descriptors");
        fail(process, MS_EXIT_INTERNAL, &err);
        return;
    }
    ms_worker_set_handlers(process->worker, &handlers, process);
    /* What came before GO waits there, not in the channel. */
    ms_worker_dispatch(process->worker);
    ms_worker_ready(process->worker);
    run_node(process);
    if (!process->leaving) {
        (void)uv_run(&process->loop, UV_RUN_DEFAULT);
    }
}

int storaged_process_run(struct ms_worker *worker)
{
    struct process process = {.worker = worker, .exit_status = MS_EXIT_OK};
    struct ms_err err = {.status = MS_OK};
    int rc = uv_loop_init(&process.loop);

    if (rc != 0) {
        (void)ms_err_set(&err, MS_EIO, -rc, "create the event loop");
        ms_log_err(MS_LOG_ERROR, "cannot start", &err);
        return MS_EXIT_INTERNAL;
    }
    rc = create_node(&process, &err);
    if (rc == MS_OK) {
        run(&process);
    } else {
        ms_log_err(MS_LOG_ERROR, "cannot start", &err);
        process.exit_status = exit_of_start(rc, ms_worker_identity(worker)->previous_end);
    }
    uv_walk(&process.loop, close_handle, NULL);
    do { /* until all are closed; the first run may only find that it was told to stop */
        (void)uv_run(&process.loop, UV_RUN_DEFAULT);
    } while (uv_loop_alive(&process.loop) != 0);
    (void)uv_loop_close(&process.loop);
    if (process.node != NULL && process.stopping) {
        store_node_stop(process.node);
    } else {
        store_node_destroy(process.node);
    }
    return process.exit_status;
}

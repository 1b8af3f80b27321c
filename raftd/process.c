/*
 * process: see process.h.
 */
#include "raftd/process.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "common/clock.h"
#include "common/exit_codes.h"
#include "common/log.h"
#include "raftd/node.h"
#include "raftd/peers.h"

struct process {
    struct ms_worker *worker; /* borrowed */
    struct raftd_node *node;
    struct peers *peers;
    uv_loop_t loop;
    uv_poll_t control;  /* the supervisor has sent something */
    uv_poll_t doorbell; /* the node has something to do */
    uv_check_t polled;  /* after the loop has waited: all that has come in is handled at once */
    uv_timer_t tick;
    uv_idle_t busy;    /* active while the node has more to do: the loop does not wait then */
    int listener_fd;   /* for peers, until they may be listened to; -1: none */
    int exit_status;   /* enum ms_exit */
    bool leaving;      /* exit_status is final */
    bool stopping;     /* leave once the node has handed over */
    bool running;      /* peers may be listened to */
    bool rung;         /* the node has something to do */
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
    if (process->stopping && raftd_node_may_leave(process->node)) {
        leave(process, MS_EXIT_OK);
    }
}

static void on_busy(uv_idle_t *handle)
{
    run_node(handle->data);
}

static void on_doorbell(uv_poll_t *handle, int status, int events)
{
    struct process *process = handle->data;

    (void)events;
    if (status < 0) {
        fail_uv(process, "watch the doorbells", status);
        return;
    }
    process->rung = true;
}

static void on_polled(uv_check_t *handle)
{
    struct process *process = handle->data;

    if (process->rung || raftd_node_has_news(process->node)) {
        process->rung = false;
        run_node(process);
    }
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

/*
 * Nothing has to be written: what counts is in storaged's log. But others would have to wait for
 * an election timeout for a new leader, so one hands over.
 */
static void on_stop(void *ctx)
{
    struct process *process = ctx;

    process->stopping = true;
    raftd_node_leave(process->node, ms_clock_now());
}

static void listen_to_peers(struct process *process)
{
    int fd = process->listener_fd;
    struct ms_err err;

    if (fd < 0 || !process->running) {
        return;
    }
    process->listener_fd = -1;
    if (peers_take_listener(process->peers, fd, &err) != MS_OK) {
        fail(process, &err);
    }
}

static void on_listener(void *ctx, enum ms_listener_kind kind, int fd)
{
    struct process *process = ctx;

    if (kind != MS_LISTENER_PEER || process->listener_fd >= 0) {
        ms_log_plain(MS_LOG_ERROR, "unexpected listening socket");
        (void)close(fd);
        return;
    }
    process->listener_fd = fd;
    raftd_node_set_listening(process->node);
    listen_to_peers(process);
}

static void on_member_request(void *ctx, const struct ms_control_member_request *request)
{
    struct process *process = ctx;

    raftd_node_ask_member(process->node, request, ms_clock_now());
}

/* ---- from the node ---- */

static void on_bad_peer(void *ctx, const struct ms_link_info *peer, const char *text)
{
    struct process *process = ctx;

    ms_log(MS_LOG_ERROR, "neighbour broke the protocol", MS_F_STR("detail", text));
    ms_worker_report_peer(process->worker, peer, text);
}

static void on_running(void *ctx)
{
    struct process *process = ctx;

    process->running = true;
    listen_to_peers(process);
}

static void on_ready(void *ctx)
{
    struct process *process = ctx;

    ms_worker_ready(process->worker);
}

static void on_removed(void *ctx)
{
    struct process *process = ctx;

    ms_worker_removed(process->worker);
}

static void on_answer_admin(void *ctx, const struct ms_control_member_answer *answer)
{
    struct process *process = ctx;

    ms_worker_answer_member(process->worker, answer);
}

/* ---- the node's way to the peers; it has none before they are created ---- */

static int network_send(void *ctx, struct raft_message *message)
{
    const struct process *process = ctx;

    return peers_send(process->peers, message);
}

static int network_send_note(void *ctx, node_id to, enum peers_note kind, const uint8_t *data,
                             size_t len_bytes)
{
    const struct process *process = ctx;

    return peers_send_note(process->peers, to, kind, data, len_bytes);
}

static void network_flush(void *ctx)
{
    const struct process *process = ctx;

    peers_flush(process->peers);
}

static bool network_is_connected(void *ctx, node_id peer)
{
    const struct process *process = ctx;

    return peers_is_connected(process->peers, peer);
}

static int network_set_members(void *ctx, const struct peers_member *members, size_t count,
                               struct ms_err *err)
{
    const struct process *process = ctx;

    return peers_set_members(process->peers, members, count, err);
}

static void network_judge_again(void *ctx)
{
    const struct process *process = ctx;

    peers_judge_again(process->peers);
}

static int network_snapshot_send(void *ctx, const struct raft_message *message, uint64_t size_bytes,
                                 peers_transfer *out)
{
    const struct process *process = ctx;

    return peers_snapshot_send(process->peers, message, size_bytes, out);
}

static void network_snapshot_write(void *ctx, peers_transfer transfer, const uint8_t *data,
                                   size_t len_bytes)
{
    const struct process *process = ctx;

    peers_snapshot_write(process->peers, transfer, data, len_bytes);
}

static void network_snapshot_abort(void *ctx, peers_transfer transfer)
{
    const struct process *process = ctx;

    peers_snapshot_abort(process->peers, transfer);
}

static void network_snapshot_accept(void *ctx, peers_transfer transfer, uint64_t offset)
{
    const struct process *process = ctx;

    peers_snapshot_accept(process->peers, transfer, offset);
}

static void network_snapshot_refuse(void *ctx, peers_transfer transfer)
{
    const struct process *process = ctx;

    peers_snapshot_refuse(process->peers, transfer);
}

static void network_snapshot_consumed(void *ctx, peers_transfer transfer, size_t len_bytes)
{
    const struct process *process = ctx;

    peers_snapshot_consumed(process->peers, transfer, len_bytes);
}

static void network_snapshot_finish(void *ctx, peers_transfer transfer, int status)
{
    const struct process *process = ctx;

    peers_snapshot_finish(process->peers, transfer, status);
}

/* ---- beginning and end ---- */

/*
 * Snapshots to followers must leave the leader's disk and network to its clients; a limit for all
 * of them together.
 */
#define SNAPSHOT_BYTES_PER_SECOND (UINT64_C(64) << 20)

static void *allocate(void *ctx, size_t len_bytes)
{
    (void)ctx;
    return malloc(len_bytes);
}

static void release(void *ctx, void *memory)
{
    (void)ctx;
    free(memory);
}

static int create_node(struct process *process, struct ms_err *err)
{
    const struct ms_worker_identity *identity = ms_worker_identity(process->worker);
    const struct raftd_node_options options = {
        .config = ms_worker_config(process->worker),
        .origin = identity->origin,
        .data_id = identity->data_id,
        .has_cluster_key = identity->has_cluster_key,
        .now = ms_clock_now(),
        .page = ms_worker_status_page(process->worker),
        .metrics = ms_worker_metrics(process->worker),
        .network = {.send = network_send,
                    .send_note = network_send_note,
                    .flush = network_flush,
                    .is_connected = network_is_connected,
                    .set_members = network_set_members,
                    .judge_again = network_judge_again,
                    .snapshot_send = network_snapshot_send,
                    .snapshot_write = network_snapshot_write,
                    .snapshot_abort = network_snapshot_abort,
                    .snapshot_accept = network_snapshot_accept,
                    .snapshot_refuse = network_snapshot_refuse,
                    .snapshot_consumed = network_snapshot_consumed,
                    .snapshot_finish = network_snapshot_finish,
                    .ctx = process},
        .report_peer = on_bad_peer,
        .on_running = on_running,
        .on_ready = on_ready,
        .on_removed = on_removed,
        .answer_admin = on_answer_admin,
        .first_start = identity->generation == 1,
        .ctx = process,
    };

    return raftd_node_create(&options, &process->node, err);
}

static int create_peers(struct process *process, struct ms_err *err)
{
    const struct ms_worker_identity *identity = ms_worker_identity(process->worker);
    const struct ms_config *config = ms_worker_config(process->worker);
    struct peers_options options = {
        .loop = &process->loop,
        .alloc = {.alloc = allocate, .free = release},
        .self = config->id,
        .has_key = identity->has_cluster_key,
        .heartbeat_ms = (uint32_t)config->heartbeat_interval_ms,
        .snapshot_bytes_per_second = SNAPSHOT_BYTES_PER_SECOND,
    };

    memcpy(options.key, identity->cluster_key, sizeof(options.key));
    raftd_node_peers_events(process->node, &options.events);
    return peers_create(&options, &process->peers, err);
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
    if (rc == 0) {
        rc = uv_check_init(&process->loop, &process->polled);
    }
    if (rc != 0) {
        return rc;
    }
    process->polled.data = process;
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
    if (rc == 0) {
        rc = uv_check_start(&process->polled, on_polled);
    }
    return rc;
}

static void close_handle(uv_handle_t *handle)
{
    if (handle->loop != NULL) { /* it was not reached when something failed before */
        uv_close(handle, NULL);
    }
}

static void close_handles(struct process *process)
{
    close_handle((uv_handle_t *)&process->control);
    close_handle((uv_handle_t *)&process->doorbell);
    close_handle((uv_handle_t *)&process->polled);
    close_handle((uv_handle_t *)&process->tick);
    close_handle((uv_handle_t *)&process->busy);
}

static void on_peers_closed(void *ctx)
{
    struct process *process = ctx;

    process->peers = NULL;
}

int raftd_process_run(struct ms_worker *worker)
{
    const struct ms_worker_handlers handlers = {.on_link = on_link,
                                                .on_listener = on_listener,
                                                .on_peer_down = on_peer_down,
                                                .on_drain = on_drain,
                                                .on_member_request = on_member_request,
                                                .on_stop = on_stop};
    struct process process = {.worker = worker, .exit_status = MS_EXIT_OK, .listener_fd = -1};
    struct ms_err err;
    int rc = uv_loop_init(&process.loop);

    if (rc != 0) {
        (void)ms_err_set(&err, MS_EIO, -rc, "create the event loop");
        ms_log_err(MS_LOG_ERROR, "cannot run", &err);
        return MS_EXIT_INTERNAL;
    }
    if (create_node(&process, &err) != MS_OK || create_peers(&process, &err) != MS_OK) {
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
    close_handles(&process);
    if (process.peers != NULL) {
        peers_close(process.peers, on_peers_closed, &process);
    }
    do { /* until all are closed; the first run may only find that it was told to stop */
        (void)uv_run(&process.loop, UV_RUN_DEFAULT);
    } while (uv_loop_alive(&process.loop) != 0);
    (void)uv_loop_close(&process.loop);
    if (process.listener_fd >= 0) {
        (void)close(process.listener_fd);
    }
    raftd_node_destroy(process.node);
    return process.exit_status;
}

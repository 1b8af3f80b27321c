/*
 * supervisor: see supervisor.h. This file sets a node up, runs its loop, and answers to signals and
 * the admin socket.
 */
#include "supervisor/supervisor.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "supervisor/cluster_key.h"
#include "supervisor/notify.h"
#include "supervisor/process.h"
#include "supervisor/supervisor_private.h"

#define LIVENESS_TICKS 4 /* pings per liveness deadline */

/* ---- telling the service manager ------------------------------------------------------------- */

static void warn_unless_told(int rc, const struct ms_err *err)
{
    if (rc != MS_OK) {
        ms_log_err(MS_LOG_WARN, "service manager not told", err);
    }
}

static size_t count_running(const struct supervisor *s)
{
    size_t running = 0;

    for (size_t i = 0; i < s->workers.count; i++) {
        running += s->workers.workers[i].state == WORKER_RUNNING;
    }
    return running;
}

/* A status that the service manager had no room for is told later, by then as it stands. */
static void tell_status(struct supervisor *s)
{
    struct ms_err err = {0};
    int rc;

    if (s->state != NODE_SERVING) {
        return;
    }
    rc = notify_status(&err, "serving on %s port %ju, %zu of %zu workers running", s->config.listen,
                       (uintmax_t)s->config.port, count_running(s), s->workers.count);
    s->status_untold = rc == MS_EAGAIN;
    if (!s->status_untold) {
        warn_unless_told(rc, &err);
    }
}

void supervisor_workers_changed(struct supervisor *s)
{
    size_t running = count_running(s);
    struct ms_err err = {0};

    if (s->state == NODE_STARTING && running == s->workers.count) {
        s->state = NODE_SERVING;
        ms_log(MS_LOG_INFO, "serving", MS_F_STR("listen", s->config.listen),
               MS_F_U64("port", s->config.port), MS_F_U64("workers", running));
        warn_unless_told(notify_ready(&err), &err);
    }
    tell_status(s);
}

static void on_watchdog(uv_timer_t *timer)
{
    struct supervisor *s = timer->data;
    struct ms_err err = {0};

    /* A node with a worker that hangs, and cannot even be killed, is for the service manager. */
    if (conversation_all_answer(s)) {
        warn_unless_told(notify_watchdog(&err), &err);
    }
}

/* ---- run-time changes ------------------------------------------------------------------------ */

static void tell_all(struct supervisor *s, enum ms_control_type type, const void *payload)
{
    for (size_t i = 0; i < s->workers.count; i++) {
        if (worker_is_alive(&s->workers.workers[i])) {
            lifecycle_send(s, &s->workers.workers[i], type, payload, NULL);
        }
    }
}

static int do_reload(void *ctx, struct ms_err *err)
{
    return reload_begin(ctx, err);
}

static void do_set_log_level(void *ctx, enum ms_log_level level)
{
    struct supervisor *s = ctx;
    struct ms_control_log_level message = {.level = (uint32_t)level};

    s->config.log_level = (uint32_t)level; /* for workers that start later */
    ms_log_set_level(level);
    tell_all(s, MS_CONTROL_LOG_LEVEL, &message);
}

static int do_restart(void *ctx, const char *name, struct ms_err *err)
{
    struct supervisor *s = ctx;
    struct worker *worker = worker_table_by_name(&s->workers, name);

    if (worker == NULL) {
        return ms_err_set(err, MS_ENOENT, 0, "no worker \"%.64s\"; try workers", name);
    }
    if (s->state >= NODE_STOPPING) {
        return ms_err_set(err, MS_EBUSY, 0, "the node is stopping");
    }
    ms_log(MS_LOG_INFO, "worker restarts on request", MS_F_STR("worker", worker->name));
    if (worker_is_alive(worker)) {
        lifecycle_replace(s, worker, KILL_ADMIN);
    } else {
        (void)uv_timer_stop(&worker->timer); /* not waiting any longer */
        lifecycle_start(s, worker);
    }
    return MS_OK;
}

static void do_stop(void *ctx)
{
    stop_begin(ctx, MS_EXIT_OK, "admin socket");
}

static void do_snapshot(void *ctx, struct admin_snapshot *out)
{
    struct supervisor *s = ctx;
    struct ms_metrics *store = ms_metrics_slot(s->metrics_page, MS_ROLE_STORAGED, 0);
    struct ms_instant now = ms_clock_now();

    /* A writer that was killed while it wrote leaves the page unreadable until its successor. */
    (void)ms_status_page_read(s->status_page, true, &s->last_status);

    memset(out, 0, sizeof(*out));
    out->id = s->config.id;
    out->storage = s->config.storage == MS_STORAGE_ROCKSDB ? "rocksdb" : "memory";
    out->status = s->last_status;
    out->first_index = ms_metrics_get(store, MS_METRIC_LOG_FIRST_INDEX);
    out->last_index = ms_metrics_get(store, MS_METRIC_LOG_LAST_INDEX);
    out->applied = ms_metrics_get(store, MS_METRIC_STORE_APPLIED);
    out->snapshot_index = ms_metrics_get(store, MS_METRIC_SNAPSHOT_INDEX);
    out->revision = ms_metrics_get(store, MS_METRIC_STORE_REVISION);
    out->worker_count = s->workers.count;
    for (size_t i = 0; i < s->workers.count; i++) {
        const struct worker *worker = &s->workers.workers[i];
        struct admin_worker *row = &out->workers[i];

        memcpy(row->name, worker->name, sizeof(row->name));
        row->state = worker_state_name(worker);
        row->pid = worker->pid;
        row->restarts = worker->restarts;
        row->uptime_ms = worker_is_alive(worker) ? ms_clock_elapsed_ms(worker->started_at, now) : 0;
    }
}

/* Passes a request for the membership on to raftd, which may just be starting and finds it then. */
static int do_ask_member(void *ctx, struct ms_control_member_request *request, struct ms_err *err)
{
    struct supervisor *s = ctx;
    struct worker *raftd = worker_table_by_role(&s->workers, MS_ROLE_RAFTD, 0);

    if (s->state >= NODE_STOPPING) {
        return ms_err_set(err, MS_EBUSY, 0, "the node is stopping");
    }
    if (raftd == NULL || !worker_is_alive(raftd) || raftd->ending) {
        return ms_err_set(err, MS_EUNAVAILABLE, 0, "raftd is being replaced; nothing was done");
    }
    request->head.deadline_ns = ms_clock_add_ms(ms_clock_now(), s->config.request_timeout_ms).ns;
    lifecycle_send(s, raftd, MS_CONTROL_MEMBER_REQUEST, request, NULL);
    return MS_OK;
}

void supervisor_removed(struct supervisor *s)
{
    if (s->state >= NODE_STOPPING) {
        return;
    }
    ms_log(MS_LOG_WARN, "this node was removed from the cluster", MS_F_U64("id", s->config.id));
    stop_begin(s, MS_EXIT_OK, "removed from the cluster");
}

/*
 * Once entries were applied there is something to lose, and an empty log would be a loss. Until
 * then it may be empty for long: a node that joins gets its first entry from a leader.
 */
static void note_use(struct supervisor *s)
{
    struct ms_metrics *store = ms_metrics_slot(s->metrics_page, MS_ROLE_STORAGED, 0);
    struct ms_err err = {0};
    bool failed;

    if (s->datadir.was_used || ms_metrics_get(store, MS_METRIC_STORE_APPLIED) == 0) {
        return;
    }
    failed = datadir_mark_used(&s->datadir, &s->config, &err) != MS_OK;
    if (failed && !s->use_not_noted) { /* it is tried again, and complained about once */
        ms_log_err(MS_LOG_ERROR, "data dir not marked as used", &err);
    }
    s->use_not_noted = failed;
}

/* ---- signals --------------------------------------------------------------------------------- */

static void on_stop_signal(uv_signal_t *handle, int signo)
{
    struct supervisor *s = handle->data;

    if (s->state < NODE_STOPPING) {
        stop_begin(s, MS_EXIT_OK, signo == SIGINT ? "SIGINT" : "SIGTERM");
    } else {
        stop_hurry(s);
    }
}

static void on_reload_signal(uv_signal_t *handle, int signo)
{
    struct ms_err err = {0};

    (void)signo;
    (void)reload_begin(handle->data, &err); /* has logged what went wrong */
}

static void on_child_signal(uv_signal_t *handle, int signo)
{
    (void)signo;
    lifecycle_reap(handle->data);
}

static void on_liveness(uv_timer_t *timer)
{
    struct supervisor *s = timer->data;

    conversation_check_liveness(s);
    note_use(s);
    if (s->status_untold) {
        tell_status(s);
    }
}

/* ---- set-up ---------------------------------------------------------------------------------- */

/* As many descriptors as we may have: apid inherits the limit, and clients are descriptors there.
 */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        ms_log(MS_LOG_WARN, "limit of open files not raised", MS_F_STR("error", strerror(errno)));
    }
}

static int check_build(const struct ms_config *config, struct ms_err *err)
{
    if (config->storage == MS_STORAGE_ROCKSDB) {
        return ms_err_set(err, MS_EUNAVAILABLE, 0, "--storage rocksdb: this build has no RocksDB");
    }
    if (config->raft_log == MS_RAFT_LOG_ROCKSDB) {
        return ms_err_set(err, MS_EUNAVAILABLE, 0, "--raft-log rocksdb: this build has no RocksDB");
    }
    return MS_OK;
}

static int make_pages(struct supervisor *s, struct ms_err *err)
{
    int rc;

    rc = ms_status_page_create(&s->status_fd, err);
    if (rc != MS_OK) {
        return rc;
    }
    rc = ms_status_page_map(s->status_fd, false, &s->status_page, err);
    if (rc != MS_OK) {
        return rc;
    }
    rc = ms_metrics_page_create(&s->metrics_fd, err);
    if (rc != MS_OK) {
        return rc;
    }
    rc = ms_metrics_page_map(s->metrics_fd, &s->metrics_page, err);
    if (rc != MS_OK) {
        return rc;
    }
    s->metrics = ms_metrics_slot(s->metrics_page, MS_ROLE_SUPERVISOR, 0);
    return MS_OK;
}

static sigset_t held_signals(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    return set;
}

void supervisor_hold_signals(void)
{
    const sigset_t held = held_signals();

    (void)sigprocmask(SIG_BLOCK, &held, NULL); /* fails only for another first argument */
}

static int start_signal(struct supervisor *s, uv_signal_t *handle, uv_signal_cb callback, int signo,
                        struct ms_err *err)
{
    int rc = uv_signal_init(&s->loop, handle);

    handle->data = s;
    if (rc == 0) {
        rc = uv_signal_start(handle, callback, signo);
    }
    return rc == 0 ? MS_OK : ms_err_set(err, MS_EIO, -rc, "handle signal %d", signo);
}

static void start_timer(struct supervisor *s, uv_timer_t *timer, uv_timer_cb callback,
                        uint64_t interval_ms)
{
    (void)uv_timer_init(&s->loop, timer); /* neither can fail */
    timer->data = s;
    if (interval_ms > 0) {
        (void)uv_timer_start(timer, callback, interval_ms, interval_ms);
    }
}

/* All handles are on the loop afterwards, also on failure, so that tear_down finds them. */
static int start_handles(struct supervisor *s, struct ms_err *err)
{
    static const struct admin_actions actions = {.snapshot = do_snapshot,
                                                 .restart = do_restart,
                                                 .set_log_level = do_set_log_level,
                                                 .reload = do_reload,
                                                 .stop = do_stop,
                                                 .ask_member = do_ask_member};
    const sigset_t held = held_signals();
    int rc;

    lifecycle_init(s);
    reload_init(s);
    start_timer(s, &s->liveness_timer, on_liveness,
                s->config.liveness_deadline_ms / LIVENESS_TICKS);
    start_timer(s, &s->watchdog_timer, on_watchdog, notify_watchdog_interval_ms());
    rc = start_signal(s, &s->on_term, on_stop_signal, SIGTERM, err);
    if (rc == MS_OK) {
        rc = start_signal(s, &s->on_int, on_stop_signal, SIGINT, err);
    }
    if (rc == MS_OK) {
        rc = start_signal(s, &s->on_hup, on_reload_signal, SIGHUP, err);
    }
    if (rc == MS_OK) {
        rc = start_signal(s, &s->on_chld, on_child_signal, SIGCHLD, err);
    }
    if (rc == MS_OK) { /* what was held comes now, and is handled as soon as the loop runs */
        (void)sigprocmask(SIG_UNBLOCK, &held, NULL);
    }
    if (rc == MS_OK) {
        rc = admin_create(&s->loop, s->config.admin_socket, &actions, s, &s->admin, err);
    }
    return rc;
}

static int set_up(struct supervisor *s, struct ms_err *err)
{
    int rc;

    rc = check_build(&s->config, err);
    if (rc != MS_OK) {
        return rc;
    }
    if (s->config.cluster_key_file[0] != '\0') {
        rc = cluster_key_read(s->config.cluster_key_file, s->cluster_key, err);
        if (rc != MS_OK) {
            return rc;
        }
        s->has_cluster_key = true;
    }
    rc = process_open_self(&s->program_fd, err);
    if (rc != MS_OK) {
        return rc;
    }
    rc = datadir_open(&s->config, &s->datadir, err);
    if (rc != MS_OK) {
        return rc;
    }
    rc = listeners_open(&s->config, &s->listeners, err);
    if (rc != MS_OK) {
        return rc;
    }
    rc = make_pages(s, err);
    if (rc != MS_OK) {
        return rc;
    }
    return start_handles(s, err);
}

/* ---- tear-down ------------------------------------------------------------------------------- */

static void close_handle(uv_handle_t *handle, void *ctx)
{
    (void)ctx;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}

static void tear_down(struct supervisor *s)
{
    int rc;

    admin_destroy(s->admin); /* closes its own handles, with callbacks of its own */
    uv_walk(&s->loop, close_handle, NULL);
    (void)uv_run(&s->loop, UV_RUN_DEFAULT);
    rc = uv_loop_close(&s->loop);
    assert(rc == 0);
    (void)rc;
    if (s->metrics_page != NULL) {
        ms_metrics_page_unmap(s->metrics_page);
    }
    if (s->status_page != NULL) {
        ms_status_page_unmap(s->status_page);
    }
    close_fd(s->metrics_fd);
    close_fd(s->status_fd);
    listeners_close(&s->listeners);
    datadir_close(&s->datadir);
    close_fd(s->program_fd);
    explicit_bzero(s->cluster_key, sizeof(s->cluster_key));
}

static void run_loop(struct supervisor *s)
{
    s->last_tick = ms_clock_now();
    for (size_t i = 0; i < s->workers.count; i++) {
        /* A worker that cannot run may have ended the start already. */
        if (s->workers.workers[i].state == WORKER_WAITING) {
            lifecycle_start(s, &s->workers.workers[i]);
        }
    }
    lifecycle_reap(s); /* as PID 1: what others left behind before SIGCHLD was ours */
    while (s->state != NODE_STOPPED) {
        (void)uv_run(&s->loop, UV_RUN_DEFAULT);
    }
    note_use(s); /* a life that was too short for the timer */
}

enum ms_exit supervisor_run(const struct supervisor_options *options)
{
    struct supervisor *s;
    struct ms_err err = {0};
    enum ms_exit exit_status;
    int rc;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file size limit is a status like a full disk */
    s = calloc(1, sizeof(*s));
    if (s == NULL) {
        ms_log_plain(MS_LOG_ERROR, "cannot run: out of memory");
        return MS_EXIT_CANNOT_RUN;
    }
    s->options = options;
    s->config = options->config;
    s->program_fd = -1;
    s->status_fd = -1;
    s->metrics_fd = -1;
    s->datadir = (struct datadir){.dir_fd = -1, .lock_fd = -1};
    s->listeners = (struct listeners){.api_fd = -1, .peer_fd = -1};
    worker_table_init(&s->workers, &s->config);
    restart_window_init(&s->window, s->config.restart_intensity, s->config.restart_period_ms);
    rc = uv_loop_init(&s->loop);
    if (rc != 0) {
        ms_log(MS_LOG_ERROR, "cannot run", MS_F_STR("error", uv_strerror(rc)));
        free(s);
        return MS_EXIT_CANNOT_RUN;
    }

    raise_descriptor_limit();
    rc = set_up(s, &err);
    if (rc == MS_OK) {
        ms_log(MS_LOG_INFO, "starting", MS_F_STR("version", MS_VERSION),
               MS_F_U64("id", s->config.id), MS_F_STR("data_dir", s->config.node_dir),
               MS_F_I64("pid", getpid()));
        run_loop(s);
        ms_log(MS_LOG_INFO, "stopped", MS_F_U64("status", s->exit_status));
    } else {
        ms_log_err(MS_LOG_ERROR, "cannot run", &err);
        s->exit_status = MS_EXIT_CANNOT_RUN;
    }
    exit_status = s->exit_status;
    tear_down(s);
    free(s);
    return exit_status;
}

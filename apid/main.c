/*
 * main: the API worker as a process.
 */
#include <sys/resource.h>

#include "apid/apid.h"
#include "common/clock.h"
#include "common/exit_codes.h"
#include "common/log.h"
#include "common/roles.h"

/* Descriptors for everything but client connections. */
#define OTHER_DESCRIPTORS 512
#define CONNECTIONS_MAX   65536
#define CONNECTIONS_MIN   16

static struct apid self;

static void on_listener(void *ctx, enum ms_listener_kind kind, int fd)
{
    struct apid *apid = ctx;

    (void)kind; /* only API listeners come here */
    if (http_listen(apid->http, fd) != MS_OK) {
        ms_log_plain(MS_LOG_ERROR, "too many listeners");
    }
}

static struct tls_files tls_files_of(const struct ms_config *config)
{
    return (struct tls_files){
        .cert = config->tls_cert, .key = config->tls_key, .client_ca = config->tls_client_ca};
}

static int on_reload(void *ctx, const struct ms_config *config, struct ms_err *err)
{
    struct apid *apid = ctx;
    struct tls_files files = tls_files_of(config);
    int rc;

    if (config->tls_cert[0] == '\0') {
        return MS_OK;
    }
    rc = http_reload_tls(apid->http, &files, err);
    if (rc == MS_OK) {
        ms_log_plain(MS_LOG_INFO, "TLS certificate reloaded");
    } else {
        ms_log_err(MS_LOG_ERROR, "TLS certificate not reloaded, the old one stays", err);
    }
    return rc;
}

static void on_drain(void *ctx)
{
    struct apid *apid = ctx;

    apid->draining = true;
    http_drain(apid->http);
}

static void on_stop(void *ctx)
{
    struct apid *apid = ctx;

    apid->stopping = true;
}

static void on_control(void *ctx)
{
    struct apid *apid = ctx;

    ms_worker_dispatch(apid->worker);
}

/* As many as the descriptors that we may have allow. */
static size_t connections_max(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return CONNECTIONS_MIN;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        rlim_t soft = limit.rlim_cur;

        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
            limit.rlim_cur = soft;
        }
    }
    if (limit.rlim_cur < OTHER_DESCRIPTORS + CONNECTIONS_MIN) {
        return CONNECTIONS_MIN;
    }
    return limit.rlim_cur - OTHER_DESCRIPTORS < CONNECTIONS_MAX ? limit.rlim_cur - OTHER_DESCRIPTORS
                                                                : CONNECTIONS_MAX;
}

static int start(struct apid *apid, struct ms_err *err)
{
    static const struct ms_worker_handlers handlers = {
        .on_link = links_on_link,
        .on_listener = on_listener,
        .on_peer_down = links_on_peer_down,
        .on_reload = on_reload,
        .on_drain = on_drain,
        .on_stop = on_stop,
    };
    const struct ms_config *config = ms_worker_config(apid->worker);
    const struct http_options options = {
        .body_max = config->max_request_bytes,
        .connections_max = connections_max(),
        .use_tls = config->tls_cert[0] != '\0',
        .tls = tls_files_of(config),
        .on_request = api_on_request,
        .ctx = apid,
    };
    int rc;

    apid->metrics = ms_worker_metrics(apid->worker);
    apid->status_page = ms_worker_status_page(apid->worker);
    apid->origin = ms_worker_identity(apid->worker)->origin;
    apid->timeout_ms = config->request_timeout_ms;
    apid->election_timeout_ms = config->election_timeout_ms;
    apid->away_limit_ms = config->liveness_deadline_ms;
    apid->body_max = config->max_request_bytes;
    apid->storage = config->storage;
    links_init(apid);
    rc = api_init(apid, config->read_mode);
    if (rc != MS_OK) {
        return ms_err_set(err, rc, 0, "table of operations");
    }
    rc = http_create(&options, &apid->http, err);
    if (rc != MS_OK) {
        return rc;
    }
    ms_worker_set_handlers(apid->worker, &handlers, apid);
    apid->control =
        http_watch_create(apid->http, ms_worker_fd(apid->worker), on_control, apid, err);
    if (apid->control == NULL) {
        return MS_EIO;
    }
    /* Links and listeners that came before GO are delivered here. */
    ms_worker_dispatch(apid->worker);
    return MS_OK;
}

/* While draining: connections that are idle are ended, and the supervisor hears when all are. */
static void go_on_draining(struct apid *apid)
{
    if (!apid->idle_closed && http_open_exchanges(apid->http) == 0) {
        apid->idle_closed = true;
        http_close_idle(apid->http);
    }
    if (!apid->drained && http_connections(apid->http) == 0) {
        apid->drained = true;
        ms_worker_drained(apid->worker);
    }
}

/*
 * One turn: sleep until something comes, handle all of it, then send what came of it in one go.
 * What is answered outside http_run is finished by the next http_run, which therefore must not
 * sleep.
 */
static void turn(struct apid *apid)
{
    bool may_sleep = !apid->has_answered;

    if (!links_prepare_sleep(apid)) {
        links_receive(apid);
        may_sleep = false;
    }
    http_run(apid->http, may_sleep ? api_next_due_ms(apid, ms_clock_now()) : 0);
    apid->has_answered = false;

    api_pump(apid, ms_clock_now());
    links_flush(apid);
    ms_metrics_set(apid->metrics, MS_METRIC_API_CONNECTIONS, http_connections(apid->http));
    ms_metrics_set(apid->metrics, MS_METRIC_API_INFLIGHT, apid->waiting_count);
    ms_metrics_set(apid->metrics, MS_METRIC_RING_PROPOSE, ms_link_backlog_bytes(&apid->raftd.link));
    if (apid->draining) {
        go_on_draining(apid);
    }
}

int apid_main(void)
{
    struct apid *apid = &self;
    struct ms_err err;
    int rc;

    rc = ms_worker_create(MS_ROLE_APID, &apid->worker, &err);
    if (rc != MS_OK) {
        ms_log_err(MS_LOG_ERROR, "cannot start", &err);
        return MS_EXIT_INTERNAL;
    }
    rc = start(apid, &err);
    if (rc != MS_OK) {
        ms_log_err(MS_LOG_ERROR, "cannot start", &err);
        return rc == MS_EINVAL ? MS_EXIT_CANNOT_RUN : MS_EXIT_INTERNAL;
    }
    ms_worker_ready(apid->worker);
    while (!apid->stopping) {
        turn(apid);
    }
    /* The rest, h2o's connections above all, ends with the process. */
    http_watch_destroy(apid->control);
    view_close(&apid->view);
    ms_worker_destroy(apid->worker);
    return MS_EXIT_OK;
}

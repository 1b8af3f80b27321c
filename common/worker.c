/*
 * worker: the control channel as a worker sees it.
 *
 * Two stages. Before GO messages are taken in ms_worker_create, which has no handlers yet: what is
 * meant for them waits in a short queue. After it every message is handled as it comes. The
 * supervisor is trusted with what it says, not with the order in which it says it: anything
 * unexpected is a protocol violation, and then a fresh start of this worker is the safest answer.
 */
#include "common/worker.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/exit_codes.h"
#include "common/fds.h"
#include "common/log.h"

/* How long the supervisor may take from HELLO to GO; it has everything at hand by then. */
#define START_DEADLINE_MS 10000

/* A link of each kind to every apid, a few to the others, listeners and orders. */
#define EARLY_EVENTS_MAX (4 * MS_API_WORKERS_MAX)

/* Something for a handler. */
struct event {
    enum ms_control_type type;
    union {
        struct ms_link link;
        struct {
            enum ms_listener_kind kind;
            int fd;
        } listener;
        struct ms_control_peer_down down;
        struct ms_control_member_request member;
        uint64_t reload_number;
    } of;
};

struct ms_worker {
    int fd;
    bool welcomed;
    bool gone_live;  /* GO has come */
    bool dispatched; /* handlers are called at once from now on */
    bool said_ready;
    struct ms_worker_identity identity;
    struct ms_config config;
    struct ms_status_page *status_page;
    struct ms_metrics_page *metrics_page;
    struct ms_worker_handlers handlers;
    void *ctx;
    size_t early_count;
    struct event early[EARLY_EVENTS_MAX];
};

/* Ends the process: without its supervisor, or at odds with it, a worker is of no use. */
static _Noreturn void leave(int rc, const struct ms_err *err)
{
    if (rc == MS_EPEER) {
        ms_log_err(MS_LOG_WARN, "supervisor is gone", err);
        _exit(MS_EXIT_ORPHANED);
    }
    ms_log_err(MS_LOG_ERROR, "control channel failed", err);
    _exit(MS_EXIT_INTERNAL);
}

/*
 * A worker says one thing per ping and a handful of others, so a channel that is full means that
 * the supervisor has stopped reading for good: an error, not a reason to wait.
 */
static int say(struct ms_worker *worker, enum ms_control_type type, const void *payload,
               struct ms_err *err)
{
    int rc = ms_control_send(worker->fd, type, payload, NULL, err);

    if (rc == MS_EAGAIN) {
        return ms_err_set(err, MS_EFULL, 0, "%s: the supervisor does not read",
                          ms_control_name(type));
    }
    return rc;
}

static void say_or_leave(struct ms_worker *worker, enum ms_control_type type, const void *payload)
{
    struct ms_err err;
    int rc = say(worker, type, payload, &err);

    if (rc != MS_OK) {
        leave(rc, &err);
    }
}

static void drop_event(struct event *event)
{
    if (event->type == MS_CONTROL_LINK) {
        ms_link_fini(&event->of.link);
    } else if (event->type == MS_CONTROL_LISTENER) {
        (void)close(event->of.listener.fd);
    }
}

static void deliver_reload(struct ms_worker *worker, uint64_t number)
{
    struct ms_control_reloaded answer = {.number = number};
    struct ms_err err = {0};

    if (worker->handlers.on_reload != NULL &&
        worker->handlers.on_reload(worker->ctx, &worker->config, &err) != MS_OK) {
        answer.refused = 1;
        (void)snprintf(answer.text, sizeof(answer.text), "%s", err.text);
    }
    say_or_leave(worker, MS_CONTROL_RELOADED, &answer);
}

/* Calls the handler. What no handler takes over is closed. */
static void deliver(struct ms_worker *worker, struct event *event)
{
    const struct ms_worker_handlers *on = &worker->handlers;

    if (event->type == MS_CONTROL_LINK && on->on_link != NULL) {
        on->on_link(worker->ctx, &event->of.link);
    } else if (event->type == MS_CONTROL_LISTENER && on->on_listener != NULL) {
        on->on_listener(worker->ctx, event->of.listener.kind, event->of.listener.fd);
    } else if (event->type == MS_CONTROL_PEER_DOWN && on->on_peer_down != NULL) {
        on->on_peer_down(worker->ctx, &event->of.down);
    } else if (event->type == MS_CONTROL_RELOAD) {
        deliver_reload(worker, event->of.reload_number);
    } else if (event->type == MS_CONTROL_DRAIN && on->on_drain != NULL) {
        on->on_drain(worker->ctx);
    } else if (event->type == MS_CONTROL_MEMBER_REQUEST && on->on_member_request != NULL) {
        on->on_member_request(worker->ctx, &event->of.member);
    } else if (event->type == MS_CONTROL_STOP && on->on_stop != NULL) {
        on->on_stop(worker->ctx);
    } else {
        drop_event(event);
    }
}

static int deliver_or_keep(struct ms_worker *worker, struct event *event, struct ms_err *err)
{
    if (worker->dispatched) {
        deliver(worker, event);
        return MS_OK;
    }
    if (worker->early_count == EARLY_EVENTS_MAX) {
        drop_event(event);
        return ms_err_set(err, MS_EPROTO, 0, "more than %d messages before the start",
                          EARLY_EVENTS_MAX);
    }
    worker->early[worker->early_count] = *event;
    worker->early_count++;
    return MS_OK;
}

static int take_welcome(struct ms_worker *worker, const struct ms_control_welcome *welcome,
                        struct ms_err *err)
{
    if (worker->welcomed) {
        return ms_err_set(err, MS_EPROTO, 0, "a second WELCOME");
    }
    if (welcome->protocol != MS_CONTROL_PROTOCOL) {
        return ms_err_set(err, MS_EPROTO, 0, "protocol %" PRIu32 " instead of %d",
                          welcome->protocol, MS_CONTROL_PROTOCOL);
    }
    if (welcome->role != (uint32_t)worker->identity.role) {
        return ms_err_set(err, MS_EPROTO, 0, "WELCOME for role %" PRIu32, welcome->role);
    }
    if (welcome->previous_end > MS_END_OWN_FAULT || welcome->origin == 0 || welcome->data_id == 0 ||
        welcome->has_cluster_key > 1 || welcome->data_was_used > 1) {
        return ms_err_set(err, MS_EPROTO, 0, "impossible WELCOME");
    }
    worker->welcomed = true;
    worker->identity.instance = welcome->instance;
    worker->identity.previous_end = (enum ms_worker_end)welcome->previous_end;
    worker->identity.generation = welcome->generation;
    worker->identity.origin = welcome->origin;
    worker->identity.data_id = welcome->data_id;
    worker->identity.data_was_used = welcome->data_was_used != 0;
    worker->identity.has_cluster_key = welcome->has_cluster_key != 0;
    memcpy(worker->identity.cluster_key, welcome->cluster_key,
           sizeof(worker->identity.cluster_key));
    worker->config = welcome->config;
    ms_log_init(ms_role_name(worker->identity.role), (enum ms_log_format)worker->config.log_format,
                (enum ms_log_level)worker->config.log_level);
    return MS_OK;
}

/* Takes fd. Only raftd may write the status page: the others cannot even by mistake. */
static int take_status_page(struct ms_worker *worker, int fd, struct ms_err *err)
{
    bool writable = worker->identity.role == MS_ROLE_RAFTD;
    int rc;

    if (worker->status_page != NULL) {
        rc = ms_err_set(err, MS_EPROTO, 0, "a second STATUS_PAGE");
    } else {
        rc = ms_status_page_map(fd, writable, &worker->status_page, err);
    }
    (void)close(fd);
    return rc;
}

static int take_metrics_page(struct ms_worker *worker, int fd, struct ms_err *err)
{
    int rc;

    if (worker->metrics_page != NULL) {
        rc = ms_err_set(err, MS_EPROTO, 0, "a second METRICS_PAGE");
    } else {
        rc = ms_metrics_page_map(fd, &worker->metrics_page, err);
    }
    (void)close(fd);
    return rc;
}

static int take_listener(struct ms_worker *worker, const struct ms_control_listener *listener,
                         int fd, struct ms_err *err)
{
    struct event event = {.type = MS_CONTROL_LISTENER};

    if (listener->kind != MS_LISTENER_API && listener->kind != MS_LISTENER_PEER) {
        (void)close(fd);
        return ms_err_set(err, MS_EPROTO, 0, "listener of unknown kind %" PRIu32, listener->kind);
    }
    event.of.listener.kind = (enum ms_listener_kind)listener->kind;
    event.of.listener.fd = fd;
    return deliver_or_keep(worker, &event, err);
}

static int take_link(struct ms_worker *worker, const struct ms_link_info *info, int *fds,
                     struct ms_err *err)
{
    struct event event = {.type = MS_CONTROL_LINK};
    int rc;

    rc = ms_link_take(&event.of.link, info, worker->identity.role, fds, err);
    if (rc != MS_OK) {
        return rc;
    }
    return deliver_or_keep(worker, &event, err);
}

static int take_log_level(const struct ms_control_log_level *order, struct ms_err *err)
{
    if (order->level > MS_LOG_ERROR) {
        return ms_err_set(err, MS_EPROTO, 0, "unknown log level %" PRIu32, order->level);
    }
    ms_log_set_level((enum ms_log_level)order->level);
    return MS_OK;
}

static int take_go(struct ms_worker *worker, struct ms_err *err)
{
    if (worker->gone_live || !worker->welcomed || worker->status_page == NULL ||
        worker->metrics_page == NULL) {
        return ms_err_set(err, MS_EPROTO, 0, "GO out of order");
    }
    worker->gone_live = true;
    return MS_OK;
}

/* Handles one message whose form is checked. Its descriptors are ours. */
static int take_message(struct ms_worker *worker, struct ms_control_message *message,
                        struct ms_err *err)
{
    struct event event = {.type = message->type};
    const void *payload = message->payload;

    switch (message->type) {
    case MS_CONTROL_WELCOME:
        return take_welcome(worker, payload, err);
    case MS_CONTROL_STATUS_PAGE:
        return take_status_page(worker, message->fds[0], err);
    case MS_CONTROL_METRICS_PAGE:
        return take_metrics_page(worker, message->fds[0], err);
    case MS_CONTROL_LISTENER:
        return take_listener(worker, payload, message->fds[0], err);
    case MS_CONTROL_LINK:
        return take_link(worker, payload, message->fds, err);
    case MS_CONTROL_GO:
        return take_go(worker, err);
    case MS_CONTROL_PEER_DOWN:
        memcpy(&event.of.down, payload, sizeof(event.of.down));
        return deliver_or_keep(worker, &event, err);
    case MS_CONTROL_PING:
        return say(worker, MS_CONTROL_PONG, payload, err);
    case MS_CONTROL_LOG_LEVEL:
        return take_log_level(payload, err);
    case MS_CONTROL_RELOAD:
        worker->config = ((const struct ms_control_reload *)payload)->config;
        event.of.reload_number = ((const struct ms_control_reload *)payload)->number;
        ms_log_set_level((enum ms_log_level)worker->config.log_level);
        return deliver_or_keep(worker, &event, err);
    case MS_CONTROL_MEMBER_REQUEST:
        memcpy(&event.of.member, payload, sizeof(event.of.member));
        return deliver_or_keep(worker, &event, err);
    case MS_CONTROL_DRAIN:
    case MS_CONTROL_STOP:
        return deliver_or_keep(worker, &event, err);
    case MS_CONTROL_HELLO:
    case MS_CONTROL_READY:
    case MS_CONTROL_PONG:
    case MS_CONTROL_DRAINED:
    case MS_CONTROL_PEER_CORRUPT:
    case MS_CONTROL_MEMBER_ANSWER:
    case MS_CONTROL_REMOVED:
    case MS_CONTROL_RELOADED:
        break; /* ours to send: ms_control_receive refuses them */
    }
    return ms_err_set(err, MS_EPROTO, 0, "unexpected %s", ms_control_name(message->type));
}

/* Handles one message that waits; MS_EAGAIN if there is none. */
static int take_next(struct ms_worker *worker, struct ms_err *err)
{
    struct ms_control_message message;
    int rc;

    rc = ms_control_receive(worker->fd, true, &message, err);
    if (rc != MS_OK) {
        return rc;
    }
    return take_message(worker, &message, err);
}

/* MS_OK once the channel is readable, which includes its end. */
static int wait_until(int fd, struct ms_instant deadline, struct ms_err *err)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    for (;;) {
        uint64_t left_ms = ms_clock_elapsed_ms(ms_clock_now(), deadline);
        int count = poll(&wait, 1, (int)left_ms);

        if (count > 0) {
            return MS_OK;
        }
        if (count < 0 && errno != EINTR) {
            return ms_err_set(err, MS_EIO, errno, "wait for the supervisor");
        }
        if (left_ms == 0) {
            return ms_err_set(err, MS_ETIMEDOUT, 0, "no start from the supervisor within %d ms",
                              START_DEADLINE_MS);
        }
    }
}

static int wait_for_go(struct ms_worker *worker, struct ms_err *err)
{
    struct ms_instant deadline = ms_clock_add_ms(ms_clock_now(), START_DEADLINE_MS);
    int rc;

    while (!worker->gone_live) {
        rc = take_next(worker, err);
        if (rc == MS_EAGAIN) {
            rc = wait_until(worker->fd, deadline, err);
        }
        if (rc != MS_OK) {
            return rc;
        }
    }
    return MS_OK;
}

/*
 * A parent that died before the signal was armed needs no check of its own: its end of the channel
 * is closed then, so the hello or the wait after it fails.
 */
static int name_process(enum ms_role role, struct ms_err *err)
{
    static const int ignored[] = {SIGPIPE, SIGXFSZ, SIGINT, SIGHUP, SIGTSTP, SIGTTIN, SIGTTOU};

    if (prctl(PR_SET_NAME, ms_role_name(role)) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        return ms_err_set(err, MS_EIO, errno, "set up process %s", ms_role_name(role));
    }
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
        if (signal(ignored[i], SIG_IGN) == SIG_ERR) {
            return ms_err_set(err, MS_EIO, errno, "ignore signal %d", ignored[i]);
        }
    }
    return MS_OK;
}

int ms_worker_create(enum ms_role role, struct ms_worker **out, struct ms_err *err)
{
    const struct ms_control_hello hello = {
        .protocol = MS_CONTROL_PROTOCOL,
        .role = role,
        .pid = (uint64_t)getpid(),
    };
    struct ms_worker *worker;
    int rc;

    ms_log_init(ms_role_name(role), MS_LOG_TEXT, MS_LOG_INFO); /* until WELCOME tells better */
    worker = calloc(1, sizeof(*worker));
    if (worker == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "worker: %zu bytes", sizeof(*worker));
    }
    worker->fd = MS_FD_CONTROL;
    worker->identity.role = role;
    rc = name_process(role, err);
    if (rc != MS_OK) {
        goto out;
    }
    rc = say(worker, MS_CONTROL_HELLO, &hello, err);
    if (rc != MS_OK) {
        goto out;
    }
    rc = wait_for_go(worker, err);
    if (rc != MS_OK) {
        goto out;
    }
    *out = worker;
    worker = NULL;

out:
    ms_worker_destroy(worker);
    return rc;
}

void ms_worker_destroy(struct ms_worker *worker)
{
    if (worker == NULL) {
        return;
    }
    for (size_t i = 0; i < worker->early_count; i++) {
        drop_event(&worker->early[i]);
    }
    ms_metrics_page_unmap(worker->metrics_page);
    ms_status_page_unmap(worker->status_page);
    (void)close(worker->fd);
    free(worker);
}

void ms_worker_set_handlers(struct ms_worker *worker, const struct ms_worker_handlers *handlers,
                            void *ctx)
{
    assert(!worker->dispatched);

    worker->handlers = *handlers;
    worker->ctx = ctx;
}

int ms_worker_fd(const struct ms_worker *worker)
{
    return worker->fd;
}

const struct ms_worker_identity *ms_worker_identity(const struct ms_worker *worker)
{
    return &worker->identity;
}

const struct ms_config *ms_worker_config(const struct ms_worker *worker)
{
    return &worker->config;
}

struct ms_status_page *ms_worker_status_page(struct ms_worker *worker)
{
    return worker->status_page;
}

struct ms_metrics *ms_worker_metrics(struct ms_worker *worker)
{
    return ms_metrics_slot(worker->metrics_page, worker->identity.role, worker->identity.instance);
}

void ms_worker_dispatch(struct ms_worker *worker)
{
    struct ms_err err;
    int rc;

    if (!worker->dispatched) {
        worker->dispatched = true;
        for (size_t i = 0; i < worker->early_count; i++) {
            deliver(worker, &worker->early[i]);
        }
        worker->early_count = 0;
    }
    do {
        rc = take_next(worker, &err);
    } while (rc == MS_OK);
    if (rc != MS_EAGAIN) {
        leave(rc, &err);
    }
}

void ms_worker_ready(struct ms_worker *worker)
{
    const struct ms_control_empty nothing = {0};

    assert(!worker->said_ready);
    worker->said_ready = true;
    say_or_leave(worker, MS_CONTROL_READY, &nothing);
}

void ms_worker_drained(struct ms_worker *worker)
{
    const struct ms_control_empty nothing = {0};

    say_or_leave(worker, MS_CONTROL_DRAINED, &nothing);
}

void ms_worker_report_peer(struct ms_worker *worker, const struct ms_link_info *peer,
                           const char *text)
{
    struct ms_control_peer_corrupt report = {
        .role = peer->peer_role,
        .instance = peer->peer_instance,
    };

    (void)snprintf(report.text, sizeof(report.text), "%s", text);
    say_or_leave(worker, MS_CONTROL_PEER_CORRUPT, &report);
}

void ms_worker_answer_member(struct ms_worker *worker,
                             const struct ms_control_member_answer *answer)
{
    say_or_leave(worker, MS_CONTROL_MEMBER_ANSWER, answer);
}

void ms_worker_removed(struct ms_worker *worker)
{
    const struct ms_control_empty nothing = {0};

    say_or_leave(worker, MS_CONTROL_REMOVED, &nothing);
}

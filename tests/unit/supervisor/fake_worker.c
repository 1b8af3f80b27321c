/*
 * fake_worker: see fake_worker.h.
 */
#include "tests/unit/supervisor/fake_worker.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/exit_codes.h"
#include "common/log.h"
#include "common/worker.h"

#define LINKS_MAX (2 * MS_API_WORKERS_MAX + 2)

struct fake {
    struct ms_worker *worker;
    enum ms_role role;
    const char *mode;
    struct ms_link links[LINKS_MAX];
    size_t link_count;
    bool raft_answered;  /* apid: READ_READY came */
    bool store_answered; /* apid: STORE_OPENED came */
    bool said_ready;
    bool stopping;
};

static bool is_mode(const struct fake *f, const char *mode)
{
    return strcmp(f->mode, mode) == 0;
}

static void fail(const char *what, int rc)
{
    ms_log(MS_LOG_ERROR, "fake worker failed", MS_F_STR("what", what), MS_F_I64("status", rc));
    _exit(MS_EXIT_INTERNAL);
}

static void send_or_fail(struct ms_link *link, enum ms_ipc_type type, const void *body)
{
    int rc = ms_link_send(link, type, body);

    if (rc != MS_OK) {
        fail(ms_ipc_name(type), rc);
    }
    ms_link_flush(link);
}

/* A new link takes the place of the old one of its kind and instance. */
static void on_link(void *ctx, struct ms_link *link)
{
    static const struct ms_read_index question = {.request = 1};
    static const struct ms_store_opened opened;
    struct fake *f = ctx;
    size_t at = 0;
    void *body;
    void *tail;

    while (at < f->link_count && (f->links[at].info.kind != link->info.kind ||
                                  f->links[at].info.peer_instance != link->info.peer_instance)) {
        at++;
    }
    if (at < f->link_count) {
        ms_link_fini(&f->links[at]);
    } else if (at == LINKS_MAX) {
        fail("too many links", MS_EFULL);
    } else {
        f->link_count++;
    }
    f->links[at] = *link;
    link = &f->links[at];
    if (f->role == MS_ROLE_APID && link->info.kind == MS_LINK_API_RAFT) {
        send_or_fail(link, MS_IPC_READ_INDEX, &question);
    } else if (f->role == MS_ROLE_STORAGED && link->info.kind == MS_LINK_API_STORE) {
        if (ms_link_begin(link, MS_IPC_STORE_OPENED, 0, &body, &tail) != MS_OK) {
            fail("STORE_OPENED", MS_EAGAIN);
        }
        memcpy(body, &opened, sizeof(opened));
        ms_link_commit(link);
        ms_link_flush(link);
    }
}

static void on_listener(void *ctx, enum ms_listener_kind kind, int fd)
{
    (void)ctx;
    ms_log(MS_LOG_INFO, "listener", MS_F_U64("kind", kind));
    (void)close(fd);
}

static void on_peer_down(void *ctx, const struct ms_control_peer_down *down)
{
    (void)ctx;
    ms_log(MS_LOG_INFO, "peer down", MS_F_STR("peer", ms_role_name((enum ms_role)down->role)),
           MS_F_U64("end", down->end));
}

static int on_reload(void *ctx, const struct ms_config *config, struct ms_err *err)
{
    struct fake *f = ctx;

    ms_log(MS_LOG_INFO, "reloaded", MS_F_U64("history", config->history));
    if (is_mode(f, "dies-of-reload")) {
        (void)raise(SIGKILL);
    }
    return is_mode(f, "picky") ? ms_err_set(err, MS_EINVAL, 0, "not to my\n\ntaste") : MS_OK;
}

static void on_member_request(void *ctx, const struct ms_control_member_request *request)
{
    struct fake *f = ctx;
    struct ms_control_member_answer said = {.head = {.request = request->head.request}};

    ms_log(MS_LOG_INFO, "member request", MS_F_U64("operation", request->head.operation),
           MS_F_U64("id", request->head.id), MS_F_STR("url", request->peer_url));
    switch (request->head.id) {
    case FAKE_MEMBER_SILENT:
        return;
    case FAKE_MEMBER_DEADLY:
        (void)raise(SIGKILL);
        return;
    case FAKE_MEMBER_UNKNOWN:
        said.head.code = MS_MEMBER_NOT_FOUND;
        (void)snprintf(said.text, sizeof(said.text), "there is no\nmember %d", FAKE_MEMBER_UNKNOWN);
        break;
    default:
        break;
    }
    ms_worker_answer_member(f->worker, &said);
    if (request->head.id == FAKE_MEMBER_SELF) {
        ms_worker_removed(f->worker);
    }
}

static void log_key(const struct ms_worker_identity *identity)
{
    char text[MS_CLUSTER_KEY_BYTES + 1] = "";

    memcpy(text, identity->cluster_key, MS_CLUSTER_KEY_BYTES);
    ms_log(MS_LOG_INFO, identity->has_cluster_key ? "has a key" : "has no key",
           MS_F_STR("key", text), MS_F_U64("data_id", identity->data_id),
           MS_F_U64("used", identity->data_was_used));
}

static void on_drain(void *ctx)
{
    struct fake *f = ctx;

    if (!is_mode(f, "stubborn")) {
        ms_worker_drained(f->worker);
    }
}

static void on_stop(void *ctx)
{
    struct fake *f = ctx;

    f->stopping = !is_mode(f, "stubborn");
}

static void answer(struct fake *f, struct ms_link *link)
{
    static const struct ms_read_ready ready = {.request = 1};
    struct ms_ipc_message message;
    int rc;

    ms_link_clear_doorbell(link);
    do {
        while ((rc = ms_link_receive(link, &message)) == MS_OK) {
            ms_link_release(link);
            if (message.type == MS_IPC_READ_INDEX) {
                send_or_fail(link, MS_IPC_READ_READY, &ready);
            }
            f->raft_answered |= message.type == MS_IPC_READ_READY;
            f->store_answered |= message.type == MS_IPC_STORE_OPENED;
        }
        if (rc != MS_EAGAIN) {
            fail("receive", rc);
        }
    } while (!ms_link_prepare_sleep(link));
}

static void accuse(struct fake *f)
{
    struct ms_link_info accused = {.kind = MS_LINK_API_STORE, .peer_role = MS_ROLE_STORAGED};

    if (ms_worker_identity(f->worker)->generation == 1) {
        ms_worker_report_peer(f->worker, &accused, "a message of 7 bytes");
    }
}

static void leave_orphan(void)
{
    pid_t child = fork();

    if (child == 0) {
        (void)!fork(); /* whoever ends first: the grandchild ends up with PID 1 */
        _exit(0);
    }
    (void)waitpid(child, NULL, 0);
}

static void be_mute(void)
{
    for (int signo = 1; signo < NSIG; signo++) {
        if (signo != SIGABRT) {
            (void)signal(signo, SIG_IGN);
        }
    }
    for (;;) {
        (void)pause();
    }
}

static void become_ready(struct fake *f)
{
    if (f->said_ready || (f->role == MS_ROLE_APID && !(f->raft_answered && f->store_answered))) {
        return;
    }
    if (is_mode(f, "freeze") && ms_worker_identity(f->worker)->generation == 1) {
        (void)raise(SIGSTOP);
    }
    f->said_ready = true;
    ms_worker_ready(f->worker);
    if (is_mode(f, "mute")) {
        be_mute();
    } else if (is_mode(f, "accuse")) {
        accuse(f);
    } else if (is_mode(f, "liar")) {
        static const struct ms_control_empty empty;

        (void)ms_control_send(ms_worker_fd(f->worker), MS_CONTROL_READY, &empty, NULL, NULL);
    } else if (is_mode(f, "orphan")) {
        leave_orphan();
    }
}

static void serve(struct fake *f)
{
    ms_worker_dispatch(f->worker); /* what came before GO */
    while (!f->stopping) {
        struct pollfd waits[LINKS_MAX + 1] = {{.fd = ms_worker_fd(f->worker), .events = POLLIN}};
        size_t count = f->link_count;

        for (size_t i = 0; i < count; i++) {
            answer(f, &f->links[i]);
            waits[i + 1] = (struct pollfd){.fd = f->links[i].doorbell_fd, .events = POLLIN};
        }
        become_ready(f);
        (void)poll(waits, (nfds_t)count + 1, -1);
        if (waits[0].revents != 0) {
            ms_worker_dispatch(f->worker);
        }
    }
}

int fake_worker_main(const char *name)
{
    static const enum ms_role roles[] = {MS_ROLE_RAFTD, MS_ROLE_STORAGED, MS_ROLE_APID};
    static const char *const variables[] = {"FAKE_RAFTD", "FAKE_STORAGED", "FAKE_APID"};
    static struct fake f;
    static const struct ms_worker_handlers handlers = {.on_link = on_link,
                                                       .on_listener = on_listener,
                                                       .on_peer_down = on_peer_down,
                                                       .on_reload = on_reload,
                                                       .on_drain = on_drain,
                                                       .on_member_request = on_member_request,
                                                       .on_stop = on_stop};
    struct ms_err err = {0};

    f.mode = "";
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        if (strcmp(name, ms_role_name(roles[i])) == 0) {
            f.role = roles[i];
            f.mode = getenv(variables[i]) != NULL ? getenv(variables[i]) : "";
        }
    }
    if (ms_worker_create(f.role, &f.worker, &err) != MS_OK) {
        ms_log_err(MS_LOG_ERROR, "fake worker failed", &err);
        return MS_EXIT_INTERNAL;
    }
    if (strncmp(f.mode, "exit:", 5) == 0) {
        _exit((int)strtol(f.mode + 5, NULL, 10));
    }
    if (strncmp(f.mode, "needs:", 6) == 0 && access(f.mode + 6, F_OK) != 0) {
        _exit(MS_EXIT_CANNOT_RUN);
    }
    log_key(ms_worker_identity(f.worker));
    ms_worker_set_handlers(f.worker, &handlers, &f);
    serve(&f);
    for (size_t i = 0; i < f.link_count; i++) {
        ms_link_fini(&f.links[i]);
    }
    ms_worker_destroy(f.worker);
    return MS_EXIT_OK;
}

/*
 * worker: a forked process plays the worker, the test is its supervisor.
 */
#include "common/worker.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/exit_codes.h"
#include "common/fds.h"
#include "common/log.h"

#define CAPACITY    4096u
#define PATIENCE_MS 20000

/* What a worker of these tests exits with when something was not as it should be. */
#define EXIT_WRONG 99

struct worker_fixture {
    int fd; /* the supervisor's end */
    pid_t pid;
};

/* What the handlers saw. */
struct seen {
    struct ms_worker *worker;
    struct ms_link link;
    int links;
    int listeners;
    int peers_down;
    int reloads;
    bool stopped;
};

/* ---- the worker's side --------------------------------------------------------------------- */

static void expect(bool fact)
{
    if (!fact) {
        _exit(EXIT_WRONG);
    }
}

static void on_link(void *ctx, struct ms_link *link)
{
    struct seen *seen = ctx;

    expect(ms_link_is_open(link));
    ms_link_fini(&seen->link);
    seen->link = *link;
    seen->links++;
}

static void on_listener(void *ctx, enum ms_listener_kind kind, int fd)
{
    struct seen *seen = ctx;

    expect(kind == MS_LISTENER_PEER);
    expect(close(fd) == 0);
    seen->listeners++;
}

static void on_peer_down(void *ctx, const struct ms_control_peer_down *down)
{
    struct seen *seen = ctx;

    expect(down->role == MS_ROLE_STORAGED && down->end == MS_END_KILLED);
    seen->peers_down++;
}

/* Takes over the first and refuses the second. */
static int on_reload(void *ctx, const struct ms_config *config, struct ms_err *err)
{
    struct seen *seen = ctx;

    expect(config->request_timeout_ms == 4321);
    expect(ms_worker_config(seen->worker) == config);
    expect(ms_log_get_level() == MS_LOG_ERROR);
    seen->reloads++;
    return seen->reloads == 1 ? MS_OK : ms_err_set(err, MS_EINVAL, 0, "of no use");
}

static void on_drain(void *ctx)
{
    struct seen *seen = ctx;

    ms_worker_drained(seen->worker);
}

static void on_stop(void *ctx)
{
    struct seen *seen = ctx;

    seen->stopped = true;
}

static const struct ms_worker_handlers all_handlers = {
    .on_link = on_link,
    .on_listener = on_listener,
    .on_peer_down = on_peer_down,
    .on_reload = on_reload,
    .on_drain = on_drain,
    .on_stop = on_stop,
};

static void wait_readable(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    expect(poll(&wait, 1, PATIENCE_MS) == 1);
}

/* Dispatches until told to stop. */
static void run_until_stopped(struct seen *seen)
{
    ms_worker_dispatch(seen->worker);
    while (!seen->stopped) {
        wait_readable(ms_worker_fd(seen->worker));
        ms_worker_dispatch(seen->worker);
    }
    ms_link_fini(&seen->link);
    ms_worker_destroy(seen->worker);
}

static void create_worker(struct seen *seen)
{
    struct ms_err err;

    memset(seen, 0, sizeof(*seen));
    ms_link_init_closed(&seen->link);
    expect(ms_worker_create(MS_ROLE_RAFTD, &seen->worker, &err) == MS_OK);
    ms_worker_set_handlers(seen->worker, &all_handlers, seen);
}

/* A worker that does all that is asked of it and counts nothing. */
static void obedient_worker(void)
{
    struct seen seen;

    create_worker(&seen);
    ms_worker_ready(seen.worker);
    run_until_stopped(&seen);
}

/* ---- the supervisor's side ----------------------------------------------------------------- */

static void fork_worker(struct worker_fixture *f, void (*body)(void))
{
    struct ms_err err;
    int fds[2];

    cr_assert_eq(ms_control_pair(fds, &err), MS_OK, "%s", err.text);
    f->pid = fork();
    cr_assert_geq(f->pid, 0);
    if (f->pid == 0) {
        /* Out of the way first: the fixed number may be the other end's. */
        int own = fcntl(fds[1], F_DUPFD_CLOEXEC, MS_FD_CONTROL + 1);

        (void)close(fds[0]);
        (void)close(fds[1]);
        expect(dup2(own, MS_FD_CONTROL) == MS_FD_CONTROL);
        expect(close(own) == 0);
        body();
        _exit(MS_EXIT_OK);
    }
    (void)close(fds[1]);
    f->fd = fds[0];
}

static void send_message(struct worker_fixture *f, enum ms_control_type type, const void *payload,
                         const int *fds)
{
    struct ms_err err;

    cr_assert_eq(ms_control_send(f->fd, type, payload, fds, &err), MS_OK, "%s", err.text);
}

static void send_plain(struct worker_fixture *f, enum ms_control_type type)
{
    const struct ms_control_empty nothing = {0};

    send_message(f, type, &nothing, NULL);
}

/* The next message, which must be of this type. */
static const void *await(struct worker_fixture *f, enum ms_control_type type)
{
    static struct ms_control_message message;
    struct pollfd wait = {.fd = f->fd, .events = POLLIN};
    struct ms_err err;

    cr_assert_eq(poll(&wait, 1, PATIENCE_MS), 1, "no %s", ms_control_name(type));
    cr_assert_eq(ms_control_receive(f->fd, false, &message, &err), MS_OK, "%s", err.text);
    cr_assert_eq(message.type, type, "%s instead of %s", ms_control_name(message.type),
                 ms_control_name(type));
    return message.payload;
}

static void assert_exits(struct worker_fixture *f, int exit_status)
{
    int status;

    cr_assert_eq(waitpid(f->pid, &status, 0), f->pid);
    cr_assert(WIFEXITED(status), "wait status %x", (unsigned)status);
    cr_assert_eq(WEXITSTATUS(status), exit_status, "exit status %d", WEXITSTATUS(status));
    (void)close(f->fd);
}

static void send_welcome(struct worker_fixture *f)
{
    static struct ms_control_welcome welcome = {
        .protocol = MS_CONTROL_PROTOCOL,
        .role = MS_ROLE_RAFTD,
        .previous_end = MS_END_KILLED,
        .generation = 8,
        .origin = 0x1234,
        .data_id = 0xda7a,
        .data_was_used = 1,
        .config = {.log_level = MS_LOG_WARN, .request_timeout_ms = 1234},
    };

    send_message(f, MS_CONTROL_WELCOME, &welcome, NULL);
}

static void send_pages(struct worker_fixture *f)
{
    const struct ms_control_empty nothing = {0};
    int fd;

    cr_assert_eq(ms_status_page_create(&fd, NULL), MS_OK);
    send_message(f, MS_CONTROL_STATUS_PAGE, &nothing, &fd);
    (void)close(fd);
    cr_assert_eq(ms_metrics_page_create(&fd, NULL), MS_OK);
    send_message(f, MS_CONTROL_METRICS_PAGE, &nothing, &fd);
    (void)close(fd);
}

static void send_link(struct worker_fixture *f)
{
    const struct ms_link_info info = {
        .kind = MS_LINK_RAFT_LOG, .peer_role = MS_ROLE_STORAGED, .generation = 5};
    int left[MS_LINK_FD_COUNT];
    int right[MS_LINK_FD_COUNT];

    cr_assert_eq(ms_link_create(&info, CAPACITY, left, right, NULL), MS_OK);
    send_message(f, MS_CONTROL_LINK, &info, left);
    for (size_t i = 0; i < MS_LINK_FD_COUNT; i++) {
        (void)close(left[i]);
        (void)close(right[i]);
    }
}

static void send_listener(struct worker_fixture *f)
{
    const struct ms_control_listener listener = {.kind = MS_LISTENER_PEER};
    int fd = dup(STDERR_FILENO); /* any descriptor will do */

    send_message(f, MS_CONTROL_LISTENER, &listener, &fd);
    (void)close(fd);
}

static void send_start(struct worker_fixture *f)
{
    (void)await(f, MS_CONTROL_HELLO);
    send_welcome(f);
    send_pages(f);
    send_plain(f, MS_CONTROL_GO);
}

/* ---- starting ------------------------------------------------------------------------------ */

static void check_identity(void)
{
    struct seen seen;
    const struct ms_worker_identity *identity;
    struct ms_raft_status status = {.commit = 3};
    char name[16];
    int signal_number;

    create_worker(&seen);
    identity = ms_worker_identity(seen.worker);
    expect(identity->role == MS_ROLE_RAFTD && identity->instance == 0);
    expect(identity->generation == 8 && identity->origin == 0x1234);
    expect(identity->previous_end == MS_END_KILLED && identity->data_was_used);
    expect(ms_worker_config(seen.worker)->request_timeout_ms == 1234);
    expect(ms_log_get_level() == MS_LOG_WARN);
    expect(prctl(PR_GET_NAME, name) == 0 && strcmp(name, "raftd") == 0);
    expect(prctl(PR_GET_PDEATHSIG, &signal_number) == 0 && signal_number == SIGKILL);
    expect(raise(SIGINT) == 0 && raise(SIGPIPE) == 0 && raise(SIGHUP) == 0 && raise(SIGTSTP) == 0);
    ms_status_page_write(ms_worker_status_page(seen.worker), &status, false);
    ms_metrics_set(ms_worker_metrics(seen.worker), MS_METRIC_RAFT_TERM, 2);
    expect(ms_metrics_get(ms_worker_metrics(seen.worker), MS_METRIC_RAFT_TERM) == 2);
    ms_worker_ready(seen.worker);
    run_until_stopped(&seen);
}

Test(worker, start_gives_name_identity_configuration_and_pages)
{
    struct worker_fixture f;
    const struct ms_control_hello *hello;

    fork_worker(&f, check_identity);
    hello = await(&f, MS_CONTROL_HELLO);
    cr_assert_eq(hello->protocol, MS_CONTROL_PROTOCOL);
    cr_assert_eq(hello->role, MS_ROLE_RAFTD);
    cr_assert_eq(hello->pid, (uint64_t)f.pid);
    send_welcome(&f);
    send_pages(&f);
    send_plain(&f, MS_CONTROL_GO);
    (void)await(&f, MS_CONTROL_READY);
    send_plain(&f, MS_CONTROL_STOP);
    assert_exits(&f, MS_EXIT_OK);
}

static void check_early(void)
{
    struct seen seen;

    create_worker(&seen);
    expect(seen.links == 0 && seen.listeners == 0);
    ms_worker_dispatch(seen.worker);
    expect(seen.links == 2 && seen.listeners == 1 && seen.peers_down == 1);
    expect(seen.stopped);
    run_until_stopped(&seen);
}

Test(worker, what_came_before_go_is_delivered_by_the_first_dispatch)
{
    const struct ms_control_peer_down down = {.role = MS_ROLE_STORAGED, .end = MS_END_KILLED};
    struct worker_fixture f;

    fork_worker(&f, check_early);
    (void)await(&f, MS_CONTROL_HELLO);
    send_link(&f);
    send_welcome(&f);
    send_listener(&f);
    send_pages(&f);
    send_message(&f, MS_CONTROL_PEER_DOWN, &down, NULL);
    send_link(&f);
    send_plain(&f, MS_CONTROL_STOP);
    send_plain(&f, MS_CONTROL_GO);
    assert_exits(&f, MS_EXIT_OK);
}

static void expect_create(int status)
{
    struct ms_worker *worker = NULL;
    struct ms_err err;

    expect(ms_worker_create(MS_ROLE_RAFTD, &worker, &err) == status);
    expect(err.status == status && worker == NULL);
}

static void expect_no_supervisor(void)
{
    expect_create(MS_EPEER);
}

static void expect_violation(void)
{
    expect_create(MS_EPROTO);
}

Test(worker, create_fails_when_the_supervisor_is_gone)
{
    struct worker_fixture f;

    fork_worker(&f, expect_no_supervisor);
    (void)await(&f, MS_CONTROL_HELLO);
    send_welcome(&f);
    (void)shutdown(f.fd, SHUT_RDWR);
    assert_exits(&f, MS_EXIT_OK);
}

Test(worker, create_refuses_go_before_the_rest)
{
    struct worker_fixture f;

    fork_worker(&f, expect_violation);
    send_welcome(&f);
    send_plain(&f, MS_CONTROL_GO);
    assert_exits(&f, MS_EXIT_OK);
}

Test(worker, create_refuses_a_wrong_or_second_welcome)
{
    struct ms_control_welcome welcome = {
        .protocol = MS_CONTROL_PROTOCOL + 1, .role = MS_ROLE_RAFTD, .origin = 1, .data_id = 2};
    struct worker_fixture f;

    fork_worker(&f, expect_violation);
    send_message(&f, MS_CONTROL_WELCOME, &welcome, NULL);
    assert_exits(&f, MS_EXIT_OK);

    welcome.protocol = MS_CONTROL_PROTOCOL;
    welcome.role = MS_ROLE_APID;
    fork_worker(&f, expect_violation);
    send_message(&f, MS_CONTROL_WELCOME, &welcome, NULL);
    assert_exits(&f, MS_EXIT_OK);

    welcome.role = MS_ROLE_RAFTD;
    welcome.data_id = 0;
    fork_worker(&f, expect_violation);
    send_message(&f, MS_CONTROL_WELCOME, &welcome, NULL);
    assert_exits(&f, MS_EXIT_OK);

    fork_worker(&f, expect_violation);
    send_welcome(&f);
    send_welcome(&f);
    assert_exits(&f, MS_EXIT_OK);
}

Test(worker, create_refuses_more_than_it_can_keep)
{
    const struct ms_control_peer_down down = {.role = MS_ROLE_STORAGED, .end = MS_END_KILLED};
    struct worker_fixture f;
    int rc = MS_OK;

    fork_worker(&f, expect_violation);
    /* Until it has left: it may do so while we still send. */
    while (rc == MS_OK || rc == MS_EAGAIN) {
        rc = ms_control_send(f.fd, MS_CONTROL_PEER_DOWN, &down, NULL, NULL);
    }
    cr_assert_eq(rc, MS_EPEER);
    assert_exits(&f, MS_EXIT_OK);
}

/* ---- serving ------------------------------------------------------------------------------- */

Test(worker, every_ping_is_answered)
{
    struct worker_fixture f;

    fork_worker(&f, obedient_worker);
    send_start(&f);
    (void)await(&f, MS_CONTROL_READY);
    for (uint64_t seq = 1; seq <= 3; seq++) {
        const struct ms_control_ping ping = {.seq = seq};
        const struct ms_control_ping *pong;

        send_message(&f, MS_CONTROL_PING, &ping, NULL);
        pong = await(&f, MS_CONTROL_PONG);
        cr_assert_eq(pong->seq, seq);
    }
    send_plain(&f, MS_CONTROL_STOP);
    assert_exits(&f, MS_EXIT_OK);
}

static void check_orders(void)
{
    struct seen seen;

    create_worker(&seen);
    ms_worker_ready(seen.worker);
    run_until_stopped(&seen);
    expect(seen.links == 2 && seen.listeners == 1 && seen.peers_down == 1 && seen.reloads == 2);
    expect(ms_log_get_level() == MS_LOG_DEBUG);
}

Test(worker, every_order_reaches_its_handler)
{
    struct ms_control_reload reload = {
        .number = 1, .config = {.request_timeout_ms = 4321, .log_level = MS_LOG_ERROR}};
    const struct ms_control_peer_down down = {.role = MS_ROLE_STORAGED, .end = MS_END_KILLED};
    const struct ms_control_log_level level = {.level = MS_LOG_DEBUG};
    const struct ms_control_reloaded *reloaded;
    struct worker_fixture f;

    fork_worker(&f, check_orders);
    send_start(&f);
    (void)await(&f, MS_CONTROL_READY);
    send_link(&f);
    send_listener(&f);
    send_message(&f, MS_CONTROL_PEER_DOWN, &down, NULL);
    send_link(&f);
    send_message(&f, MS_CONTROL_RELOAD, &reload, NULL);
    reloaded = await(&f, MS_CONTROL_RELOADED);
    cr_assert(reloaded->number == 1 && reloaded->refused == 0);
    reload.number = 2;
    send_message(&f, MS_CONTROL_RELOAD, &reload, NULL);
    reloaded = await(&f, MS_CONTROL_RELOADED);
    cr_assert(reloaded->number == 2 && reloaded->refused == 1);
    cr_assert_str_eq(reloaded->text, "of no use");
    send_message(&f, MS_CONTROL_LOG_LEVEL, &level, NULL);
    send_plain(&f, MS_CONTROL_DRAIN);
    (void)await(&f, MS_CONTROL_DRAINED);
    send_plain(&f, MS_CONTROL_STOP);
    assert_exits(&f, MS_EXIT_OK);
}

static void check_without_handlers(void)
{
    const struct ms_worker_handlers few = {.on_stop = on_stop};
    struct seen seen;
    int first_free;

    create_worker(&seen);
    ms_worker_set_handlers(seen.worker, &few, &seen);
    first_free = dup(STDERR_FILENO);
    (void)close(first_free);
    ms_worker_ready(seen.worker);
    ms_worker_dispatch(seen.worker);
    while (!seen.stopped) {
        wait_readable(ms_worker_fd(seen.worker));
        ms_worker_dispatch(seen.worker);
    }
    expect(dup(STDERR_FILENO) == first_free); /* what nobody took was closed */
}

Test(worker, what_has_no_handler_is_closed)
{
    struct worker_fixture f;

    fork_worker(&f, check_without_handlers);
    send_start(&f);
    (void)await(&f, MS_CONTROL_READY);
    send_link(&f);
    send_listener(&f);
    send_plain(&f, MS_CONTROL_STOP);
    assert_exits(&f, MS_EXIT_OK);
}

static void report_and_run(void)
{
    const struct ms_link_info peer = {.peer_role = MS_ROLE_APID, .peer_instance = 2};
    struct seen seen;
    char text[1000];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    create_worker(&seen);
    ms_worker_report_peer(seen.worker, &peer, text);
    run_until_stopped(&seen);
}

Test(worker, corrupt_peer_is_reported)
{
    const struct ms_control_peer_corrupt *report;
    struct worker_fixture f;

    fork_worker(&f, report_and_run);
    send_start(&f);
    report = await(&f, MS_CONTROL_PEER_CORRUPT);
    cr_assert_eq(report->role, MS_ROLE_APID);
    cr_assert_eq(report->instance, 2);
    cr_assert_eq(strlen(report->text), sizeof(report->text) - 1);
    send_plain(&f, MS_CONTROL_STOP);
    assert_exits(&f, MS_EXIT_OK);
}

/* ---- ends ---------------------------------------------------------------------------------- */

Test(worker, end_of_the_channel_ends_the_process)
{
    struct worker_fixture f;

    fork_worker(&f, obedient_worker);
    send_start(&f);
    (void)await(&f, MS_CONTROL_READY);
    (void)shutdown(f.fd, SHUT_RDWR);
    assert_exits(&f, MS_EXIT_ORPHANED);
}

Test(worker, violation_by_the_supervisor_ends_the_process)
{
    const struct ms_control_log_level level = {.level = 99};
    struct worker_fixture f;

    fork_worker(&f, obedient_worker);
    send_start(&f);
    (void)await(&f, MS_CONTROL_READY);
    send_plain(&f, MS_CONTROL_GO);
    assert_exits(&f, MS_EXIT_INTERNAL);

    fork_worker(&f, obedient_worker);
    send_start(&f);
    (void)await(&f, MS_CONTROL_READY);
    send_message(&f, MS_CONTROL_LOG_LEVEL, &level, NULL);
    assert_exits(&f, MS_EXIT_INTERNAL);

    fork_worker(&f, obedient_worker);
    send_start(&f);
    (void)await(&f, MS_CONTROL_READY);
    cr_assert_eq(send(f.fd, "garbage", 7, 0), 7);
    assert_exits(&f, MS_EXIT_INTERNAL);
}

/*
 * A supervisor that is killed leaves no worker behind, not even one that does not dispatch. The
 * write end of a pipe stays open as long as one of the two lives.
 */
Test(worker, killed_supervisor_takes_its_worker_along)
{
    struct pollfd wait = {.events = POLLIN};
    int ends[2];
    pid_t supervisor;
    char byte;

    cr_assert_eq(pipe(ends), 0);
    supervisor = fork();
    cr_assert_geq(supervisor, 0);
    if (supervisor == 0) {
        struct worker_fixture f;

        (void)close(ends[0]);
        fork_worker(&f, obedient_worker);
        send_start(&f);
        (void)await(&f, MS_CONTROL_READY);
        expect(kill(f.pid, SIGSTOP) == 0);
        expect(write(ends[1], "r", 1) == 1);
        (void)pause();
        _exit(EXIT_WRONG);
    }
    (void)close(ends[1]);
    wait.fd = ends[0];
    cr_assert_eq(poll(&wait, 1, PATIENCE_MS), 1);
    cr_assert_eq(read(ends[0], &byte, 1), 1, "the supervisor must come up");
    cr_assert_eq(kill(supervisor, SIGKILL), 0);
    cr_assert_eq(waitpid(supervisor, NULL, 0), supervisor);
    cr_assert_eq(poll(&wait, 1, PATIENCE_MS), 1, "the worker lives on");
    cr_assert_eq(read(ends[0], &byte, 1), 0);
    (void)close(ends[0]);
}

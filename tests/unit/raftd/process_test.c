/*
 * process: raftd as its own process, with this test as supervisor, storaged and apid.
 */
#include "raftd/process.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/control.h"
#include "common/exit_codes.h"
#include "common/fds.h"
#include "common/log.h"

#define DEADLINE_MS 10000

struct fixture {
    pid_t pid;
    int control;
    struct ms_control_welcome welcome;
    struct ms_link log;
    struct ms_link apply;
    struct ms_link api;
};

static _Noreturn void be_raftd(int control)
{
    struct ms_worker *worker = NULL;
    struct ms_err err;

    if (control == MS_FD_CONTROL || dup2(control, MS_FD_CONTROL) == MS_FD_CONTROL) {
        if (ms_worker_create(MS_ROLE_RAFTD, &worker, &err) == MS_OK) {
            ms_log_set_level(MS_LOG_ERROR);
            int status = raftd_process_run(worker);

            ms_worker_destroy(worker);
            _exit(status);
        }
    }
    _exit(MS_EXIT_INTERNAL);
}

static void send_control(struct fixture *f, enum ms_control_type type, const void *payload,
                         const int *fds)
{
    struct ms_err err;

    cr_assert_eq(ms_control_send(f->control, type, payload, fds, &err), MS_OK, "%s", err.text);
}

static void order(struct fixture *f, enum ms_control_type type)
{
    const struct ms_control_empty empty = {0};

    send_control(f, type, &empty, NULL);
}

/* Waits for the next message of the type; answers nothing. */
static void expect_control(struct fixture *f, enum ms_control_type type)
{
    struct ms_control_message message;
    struct pollfd wait = {.fd = f->control, .events = POLLIN};
    int rc;

    do {
        cr_assert_eq(poll(&wait, 1, DEADLINE_MS), 1, "no %s", ms_control_name(type));
        rc = ms_control_receive(f->control, false, &message, NULL);
    } while (rc == MS_EAGAIN);
    cr_assert_eq(rc, MS_OK);
    cr_assert_eq(message.type, type, "%s", ms_control_name(message.type));
}

/* Makes one link and hands over raftd's end. */
static void make_link(struct fixture *f, enum ms_link_kind kind, enum ms_role role,
                      struct ms_link *own)
{
    const bool raftd_is_left = kind != MS_LINK_API_RAFT;
    struct ms_link_info info = {
        .kind = (uint32_t)kind, .peer_role = (uint32_t)role, .generation = 1, .peer_origin = 5};
    struct ms_link_info own_info = info;
    int left[MS_LINK_FD_COUNT];
    int right[MS_LINK_FD_COUNT];
    int *theirs = raftd_is_left ? left : right;

    own_info.peer_role = MS_ROLE_RAFTD;
    cr_assert_eq(ms_link_create(&info, 1u << 20, left, right, NULL), MS_OK);
    cr_assert_eq(ms_link_take(own, &own_info, role, raftd_is_left ? right : left, NULL), MS_OK);
    send_control(f, MS_CONTROL_LINK, &info, theirs);
    for (size_t i = 0; i < MS_LINK_FD_COUNT; i++) {
        close(theirs[i]);
    }
}

static void start(struct fixture *f, const char *cluster)
{
    int pair[2];
    int page = -1;
    int metrics = -1;

    memset(f, 0, sizeof(*f));
    f->welcome = (struct ms_control_welcome){.protocol = MS_CONTROL_PROTOCOL,
                                             .role = MS_ROLE_RAFTD,
                                             .previous_end = MS_END_NONE,
                                             .generation = 1,
                                             .origin = 7,
                                             .data_id = 0xda7a};
    f->welcome.config.id = 1;
    f->welcome.config.heartbeat_interval_ms = 20;
    f->welcome.config.election_timeout_ms = 200;
    f->welcome.config.log_level = MS_LOG_ERROR;
    (void)snprintf(f->welcome.config.cluster, sizeof(f->welcome.config.cluster), "%s", cluster);

    cr_assert_eq(ms_control_pair(pair, NULL), MS_OK);
    f->pid = fork();
    cr_assert(f->pid >= 0);
    if (f->pid == 0) {
        close(pair[0]);
        be_raftd(pair[1]);
    }
    close(pair[1]);
    f->control = pair[0];
    expect_control(f, MS_CONTROL_HELLO);
    cr_assert_eq(ms_status_page_create(&page, NULL), MS_OK);
    cr_assert_eq(ms_metrics_page_create(&metrics, NULL), MS_OK);
    send_control(f, MS_CONTROL_WELCOME, &f->welcome, NULL);
    send_control(f, MS_CONTROL_STATUS_PAGE, &(struct ms_control_empty){0}, &page);
    send_control(f, MS_CONTROL_METRICS_PAGE, &(struct ms_control_empty){0}, &metrics);
    make_link(f, MS_LINK_RAFT_LOG, MS_ROLE_STORAGED, &f->log);
    make_link(f, MS_LINK_RAFT_APPLY, MS_ROLE_STORAGED, &f->apply);
    make_link(f, MS_LINK_API_RAFT, MS_ROLE_APID, &f->api);
    order(f, MS_CONTROL_GO);
    close(page);
    close(metrics);
}

static int finish(struct fixture *f)
{
    int status = -1;

    cr_assert_eq(waitpid(f->pid, &status, 0), f->pid);
    cr_assert(WIFEXITED(status), "killed by signal %d", WTERMSIG(status));
    close(f->control);
    ms_link_fini(&f->log);
    ms_link_fini(&f->apply);
    ms_link_fini(&f->api);
    return WEXITSTATUS(status);
}

/* Waits for the next message on a link, which must be of the type. It has to be released. */
static struct ms_ipc_message expect(struct ms_link *link, enum ms_ipc_type type)
{
    struct pollfd wait = {.fd = link->doorbell_fd, .events = POLLIN};
    struct ms_ipc_message message;
    int rc = ms_link_receive(link, &message);

    while (rc == MS_EAGAIN) {
        ms_link_flush(link);
        if (ms_link_prepare_sleep(link)) {
            cr_assert_eq(poll(&wait, 1, DEADLINE_MS), 1, "no %s", ms_ipc_name(type));
            ms_link_clear_doorbell(link);
        }
        rc = ms_link_receive(link, &message);
    }
    cr_assert_eq(rc, MS_OK);
    cr_assert_eq(message.type, type, "%s instead of %s", ms_ipc_name(message.type),
                 ms_ipc_name(type));
    return message;
}

static void skip(struct ms_link *link, enum ms_ipc_type type)
{
    (void)expect(link, type);
    ms_link_release(link);
}

static void say(struct ms_link *link, enum ms_ipc_type type, const void *body)
{
    cr_assert_eq(ms_link_send(link, type, body), MS_OK);
    ms_link_flush(link);
}

/* The part of storaged in the first start, up to the leader's first entry. */
static void serve_first_start(struct fixture *f)
{
    say(&f->log, MS_IPC_LOG_STATE, &(struct ms_log_state){.first_index = 1});
    say(&f->apply, MS_IPC_APPLY_STATE, &(struct ms_apply_state){0});
    skip(&f->log, MS_IPC_LOG_APPEND); /* the founding entry */
    say(&f->log, MS_IPC_LOG_DURABLE, &(struct ms_log_durable){.seq = 1});
    expect_control(f, MS_CONTROL_READY);
    skip(&f->log, MS_IPC_LOG_CONF);
    say(&f->log, MS_IPC_LOG_DURABLE, &(struct ms_log_durable){.seq = 2});
    skip(&f->apply, MS_IPC_APPLY_CONF);
    skip(&f->apply, MS_IPC_APPLY_ENTRIES);
    say(&f->apply, MS_IPC_APPLY_DONE, &(struct ms_apply_done){.applied = 1});
    skip(&f->log, MS_IPC_LOG_APPEND); /* its vote */
    say(&f->log, MS_IPC_LOG_DURABLE, &(struct ms_log_durable){.seq = 3});
    skip(&f->log, MS_IPC_LOG_APPEND); /* the first entry of its term */
    say(&f->log, MS_IPC_LOG_DURABLE, &(struct ms_log_durable){.seq = 4});
    skip(&f->apply, MS_IPC_APPLY_ENTRIES);
    say(&f->apply, MS_IPC_APPLY_DONE, &(struct ms_apply_done){.applied = 2});
}

static void propose(struct fixture *f)
{
    const struct ms_propose body = {.id = {.origin = 5, .seq = 1}, .deadline_ns = UINT64_MAX};
    void *dst_body = NULL;
    void *dst_tail = NULL;

    cr_assert_eq(ms_link_begin(&f->api, MS_IPC_PROPOSE, 64, &dst_body, &dst_tail), MS_OK);
    memcpy(dst_body, &body, sizeof(body));
    memset(dst_tail, 1, 64);
    ms_link_commit(&f->api);
    ms_link_flush(&f->api);
}

Test(process, serves_a_proposal_and_stops_when_told)
{
    struct fixture f;
    struct ms_ipc_message message;
    struct ms_log_append body;

    start(&f, "http://127.0.0.1:9021");
    serve_first_start(&f);
    propose(&f);
    message = expect(&f.log, MS_IPC_LOG_APPEND);
    memcpy(&body, message.body, sizeof(body));
    cr_assert_eq(body.count, 1);
    cr_assert_eq(body.first_index, 3);
    ms_link_release(&f.log);
    order(&f, MS_CONTROL_STOP);
    cr_assert_eq(finish(&f), MS_EXIT_OK);
}

Test(process, drained_is_said_when_the_last_entry_is_applied)
{
    struct fixture f;
    struct ms_control_message message;

    start(&f, "http://127.0.0.1:9021");
    serve_first_start(&f);
    propose(&f);
    skip(&f.log, MS_IPC_LOG_APPEND);
    order(&f, MS_CONTROL_DRAIN);
    say(&f.log, MS_IPC_LOG_DURABLE, &(struct ms_log_durable){.seq = 5});
    skip(&f.apply, MS_IPC_APPLY_ENTRIES);
    cr_assert_eq(ms_control_receive(f.control, false, &message, NULL), MS_EAGAIN);
    say(&f.apply, MS_IPC_APPLY_DONE, &(struct ms_apply_done){.applied = 3});
    expect_control(&f, MS_CONTROL_DRAINED);
    order(&f, MS_CONTROL_STOP);
    cr_assert_eq(finish(&f), MS_EXIT_OK);
}

Test(process, neighbour_that_breaks_the_protocol_is_reported)
{
    struct fixture f;

    start(&f, "http://127.0.0.1:9021");
    serve_first_start(&f);
    say(&f.log, MS_IPC_LOG_DURABLE, &(struct ms_log_durable){.seq = 1000});
    expect_control(&f, MS_CONTROL_PEER_CORRUPT);
    order(&f, MS_CONTROL_STOP);
    cr_assert_eq(finish(&f), MS_EXIT_OK);
}

Test(process, contradiction_in_storage_cannot_run)
{
    struct fixture f;

    start(&f, "http://127.0.0.1:9021");
    say(&f.log, MS_IPC_LOG_STATE, &(struct ms_log_state){.first_index = 1});
    say(&f.apply, MS_IPC_APPLY_STATE, &(struct ms_apply_state){.applied = 9, .applied_term = 1});
    cr_assert_eq(finish(&f), MS_EXIT_CANNOT_RUN);
}

Test(process, leaves_when_the_supervisor_is_gone)
{
    struct fixture f;

    start(&f, "http://127.0.0.1:9021");
    close(f.control);
    f.control = -1;
    cr_assert_eq(finish(&f), MS_EXIT_ORPHANED);
}

/*
 * conversation: what workers say over their control sockets, and whether they still say anything.
 *
 * Nothing a worker says is trusted: a message that does not fit its state, or lies about others,
 * gets it replaced.
 */
#include <string.h>

#include "common/clock.h"
#include "common/control.h"
#include "common/log.h"
#include "supervisor/process.h"
#include "supervisor/supervisor_private.h"

#define CONTROL_BATCH 64 /* messages taken from one worker at a time */

/* ---- what workers say ------------------------------------------------------------------------ */

static void break_protocol(struct supervisor *s, struct worker *worker, const char *what)
{
    ms_log(MS_LOG_ERROR, "worker broke the control protocol", MS_F_STR("worker", worker->name),
           MS_F_STR("error", what));
    lifecycle_replace(s, worker, KILL_PROTOCOL);
}

static void on_hello(struct supervisor *s, struct worker *worker, const void *payload)
{
    struct ms_control_hello hello;

    memcpy(&hello, payload, sizeof(hello));
    if (hello.protocol != MS_CONTROL_PROTOCOL || hello.role != (uint32_t)worker->role->role ||
        hello.pid != (uint64_t)worker->pid) {
        break_protocol(s, worker, "HELLO of somebody else");
    }
}

static void on_ready(struct supervisor *s, struct worker *worker)
{
    switch (worker->state) {
    case WORKER_STARTING:
        break;
    case WORKER_STOPPING: /* was told to stop meanwhile */
        return;
    case WORKER_WAITING:
    case WORKER_RUNNING:
    case WORKER_DRAINING:
    case WORKER_STOPPED:
        break_protocol(s, worker, "READY twice");
        return;
    }
    worker->state = WORKER_RUNNING;
    worker->unable = false;
    worker->ready_at = ms_clock_now();
    if (!worker->ending) {
        (void)uv_timer_stop(&worker->timer);
    }
    ms_log(MS_LOG_INFO, "worker ready", MS_F_STR("worker", worker->name),
           MS_F_I64("pid", worker->pid),
           MS_F_U64("start_ms", ms_clock_elapsed_ms(worker->started_at, worker->ready_at)));
    supervisor_workers_changed(s);
}

static void on_peer_corrupt(struct supervisor *s, struct worker *reporter, const void *payload)
{
    struct ms_control_peer_corrupt report;
    struct worker *accused;

    memcpy(&report, payload, sizeof(report));
    report.text[sizeof(report.text) - 1] = '\0';
    accused = worker_table_by_role(&s->workers, report.role, report.instance);
    if (accused == NULL || !worker_table_linked(accused->role->role, reporter->role->role)) {
        break_protocol(s, reporter, "PEER_CORRUPT about no neighbour");
        return;
    }
    ms_log(MS_LOG_ERROR, "worker broke the protocol of a link", MS_F_STR("worker", accused->name),
           MS_F_STR("reporter", reporter->name), MS_F_STR("error", report.text));
    lifecycle_replace(s, accused, KILL_PROTOCOL);
}

static void on_member_answer(struct supervisor *s, struct worker *worker, const void *payload)
{
    struct ms_control_member_answer answer;

    if (worker->role->role != MS_ROLE_RAFTD) {
        break_protocol(s, worker, "MEMBER_ANSWER of another than raftd");
        return;
    }
    memcpy(&answer, payload, sizeof(answer));
    answer.text[sizeof(answer.text) - 1] = '\0';
    admin_on_member_answer(s->admin, &answer);
}

static void on_removed(struct supervisor *s, struct worker *worker)
{
    if (worker->role->role != MS_ROLE_RAFTD) {
        break_protocol(s, worker, "REMOVED of another than raftd");
        return;
    }
    supervisor_removed(s);
}

static void on_reloaded(struct supervisor *s, struct worker *worker, const void *payload)
{
    struct ms_control_reloaded answer;

    memcpy(&answer, payload, sizeof(answer));
    answer.text[sizeof(answer.text) - 1] = '\0';
    reload_answered(s, worker, &answer);
}

static void on_message(struct supervisor *s, struct worker *worker,
                       const struct ms_control_message *message)
{
    struct ms_control_ping pong;

    switch (message->type) {
    case MS_CONTROL_HELLO:
        on_hello(s, worker, message->payload);
        break;
    case MS_CONTROL_READY:
        on_ready(s, worker);
        break;
    case MS_CONTROL_PONG:
        memcpy(&pong, message->payload, sizeof(pong));
        liveness_answered(&worker->liveness, pong.seq);
        break;
    case MS_CONTROL_DRAINED:
        stop_drained(s, worker);
        break;
    case MS_CONTROL_PEER_CORRUPT:
        on_peer_corrupt(s, worker, message->payload);
        break;
    case MS_CONTROL_MEMBER_ANSWER:
        on_member_answer(s, worker, message->payload);
        break;
    case MS_CONTROL_REMOVED:
        on_removed(s, worker);
        break;
    case MS_CONTROL_RELOADED:
        on_reloaded(s, worker, message->payload);
        break;
    case MS_CONTROL_WELCOME:
    case MS_CONTROL_STATUS_PAGE:
    case MS_CONTROL_METRICS_PAGE:
    case MS_CONTROL_LISTENER:
    case MS_CONTROL_LINK:
    case MS_CONTROL_GO:
    case MS_CONTROL_PEER_DOWN:
    case MS_CONTROL_PING:
    case MS_CONTROL_LOG_LEVEL:
    case MS_CONTROL_RELOAD:
    case MS_CONTROL_DRAIN:
    case MS_CONTROL_STOP:
    case MS_CONTROL_MEMBER_REQUEST:
        break; /* ours; ms_control_receive does not let them through */
    }
}

void conversation_listen(struct supervisor *s, struct worker *worker)
{
    struct ms_control_message message;
    struct ms_err err = {0};
    bool reset_seen = false;

    for (int i = 0; i < CONTROL_BATCH; i++) {
        int rc = ms_control_receive(worker->control_fd, false, &message, &err);

        if (rc == MS_OK) {
            on_message(s, worker, &message);
            continue;
        }
        if (rc == MS_EAGAIN) {
            return;
        }
        if (rc == MS_EPEER && !reset_seen) {
            /*
             * A worker that died without reading all of its messages resets the connection, which
             * is told once and before what it had said: that may still lie there.
             */
            reset_seen = true;
            continue;
        }
        /*
         * End of file or worse: nothing more can come, so stop looking, or the loop would spin. A
         * process that only closed its socket is silent from now on and ends by that.
         */
        lifecycle_stop_listening(worker);
        if (rc != MS_EPEER) {
            break_protocol(s, worker, err.text);
        }
        return;
    }
}

/* ---- liveness -------------------------------------------------------------------------------- */

static bool is_pinged(const struct worker *worker)
{
    return worker->state == WORKER_RUNNING || worker->state == WORKER_DRAINING;
}

/*
 * A worker that starts or leaves is not pinged: reading back or writing out may take long. But one
 * that was stopped by job control meanwhile would keep everybody waiting until the deadline for
 * that, and that can be seen.
 */
static void check_frozen(struct supervisor *s, struct worker *worker, struct ms_instant now)
{
    uint64_t frozen_ms;

    if (!process_is_frozen(worker->pid)) {
        worker->frozen_since = (struct ms_instant){0};
        return;
    }
    if (worker->frozen_since.ns == 0) {
        worker->frozen_since = now;
    }
    frozen_ms = ms_clock_elapsed_ms(worker->frozen_since, now);
    if (frozen_ms >= s->config.liveness_deadline_ms) {
        ms_log(MS_LOG_ERROR,
               worker->state == WORKER_STARTING ? "worker was stopped while it started"
                                                : "worker was stopped while it was to leave",
               MS_F_STR("worker", worker->name), MS_F_I64("pid", worker->pid),
               MS_F_U64("stopped_ms", frozen_ms));
        lifecycle_replace(s, worker, KILL_HUNG);
    }
}

void conversation_check_liveness(struct supervisor *s)
{
    struct ms_instant now = ms_clock_now();
    uint64_t deadline_ms = s->config.liveness_deadline_ms;
    bool slept = ms_clock_elapsed_ms(s->last_tick, now) >= deadline_ms / 2;

    s->last_tick = now;
    for (size_t i = 0; i < s->workers.count; i++) {
        struct worker *worker = &s->workers.workers[i];
        struct ms_control_ping ping;
        uint64_t silence_ms;

        if (worker->ending) {
            continue;
        }
        if (worker->state == WORKER_STARTING || worker->state == WORKER_STOPPING) {
            check_frozen(s, worker, now);
            continue;
        }
        if (!is_pinged(worker)) {
            continue;
        }
        /* Timers run before sockets: an answer may lie there unread. */
        conversation_listen(s, worker);
        if (slept) {
            liveness_forgive(&worker->liveness, now);
        }
        silence_ms = liveness_silence_ms(&worker->liveness, now);
        if (silence_ms >= deadline_ms) {
            ms_log(MS_LOG_ERROR, "worker does not answer", MS_F_STR("worker", worker->name),
                   MS_F_I64("pid", worker->pid), MS_F_U64("silence_ms", silence_ms));
            lifecycle_replace(s, worker, KILL_HUNG);
        } else if (is_pinged(worker) && liveness_wants_ping(&worker->liveness)) {
            ping.seq = liveness_sent(&worker->liveness, now);
            lifecycle_send(s, worker, MS_CONTROL_PING, &ping, NULL);
        }
    }
}

bool conversation_all_answer(const struct supervisor *s)
{
    struct ms_instant now = ms_clock_now();

    for (size_t i = 0; i < s->workers.count; i++) {
        const struct worker *worker = &s->workers.workers[i];

        if (is_pinged(worker) &&
            liveness_silence_ms(&worker->liveness, now) >= s->config.liveness_deadline_ms) {
            return false;
        }
    }
    return true;
}

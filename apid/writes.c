/*
 * writes: proposals, from a client's PUT or DELETE to the answer.
 *
 * A proposal may get lost after raftd took it: with raftd, or on its way to a leader that is
 * another node. So it is proposed again, with the same id: when a neighbour was replaced, when
 * raftd says so (PROPOSALS_LOST), and, on a follower, when an election timeout has passed without
 * an answer. The state machine does it once, however many copies arrive.
 */
#include "apid/operation.h"
#include "common/clock.h"
#include "common/command.h"

void writes_start(struct apid *apid, struct http_exchange exchange,
                  const struct api_request *request, struct ms_instant started)
{
    struct operation *op;

    if (apid->memory_full && request->kind == API_PUT) {
        operation_fail_now(apid, exchange, request->kind, started, API_ERROR_MEMORY_FULL);
        return;
    }
    op = operation_create(apid, exchange, request, started);
    if (op == NULL) {
        return;
    }
    if (inflight_add(&apid->writes, &op->write) != MS_OK) {
        operation_fail(op, API_ERROR_BUSY);
        return;
    }
    writes_propose(apid);
}

/* Puts one proposal into the link, the command encoded in place. */
static int propose(struct apid *apid, const struct operation *op)
{
    const struct ms_command command = {
        .id = {.origin = apid->origin, .seq = op->write.seq},
        .ack_seq = inflight_ack(&apid->writes),
        .revision = op->request.revision,
        .kind = op->request.kind == API_PUT ? MS_COMMAND_PUT : MS_COMMAND_DELETE,
        .condition = op->request.condition,
        .key = op->request.key,
        .key_bytes = op->request.key_bytes,
        .value = op->request.value,
        .value_bytes = op->request.value_bytes,
    };
    struct ms_propose *body;
    void *fixed;
    void *tail;
    int rc = ms_link_begin(&apid->raftd.link, MS_IPC_PROPOSE, ms_command_encoded_bytes(&command),
                           &fixed, &tail);

    if (rc != MS_OK) {
        return rc;
    }
    body = fixed;
    body->id = command.id;
    body->deadline_ns = op->deadline.ns;
    ms_command_encode(&command, tail);
    ms_link_commit(&apid->raftd.link);
    return MS_OK;
}

void writes_propose(struct apid *apid)
{
    struct inflight_op *write;

    while ((write = inflight_next_unsent(&apid->writes)) != NULL) {
        struct operation *op = QUEUE_OWNER(write, struct operation, write);
        int rc = propose(apid, op);

        if (rc == MS_OK) {
            inflight_mark_sent(&apid->writes, write, ms_clock_now());
        } else if (rc == MS_ERANGE) {
            operation_fail(op, API_ERROR_TOO_LARGE);
        } else {
            if (rc != MS_EAGAIN && rc != MS_EPEER) {
                links_break(&apid->raftd, ms_status_text(rc));
            }
            return; /* full or away: the doorbell or the next link goes on with it */
        }
    }
}

/* Counts what is about to be proposed again, and begins with it. */
static void propose_counted(struct apid *apid, size_t count)
{
    if (count > 0) {
        ms_metrics_add(apid->metrics, MS_METRIC_API_RESENT, count);
        writes_propose(apid);
    }
}

void writes_propose_again(struct apid *apid)
{
    propose_counted(apid, inflight_resend_all(&apid->writes));
}

/*
 * A follower passes proposals on, and cannot tell when one gets lost on the way. A leader can; and
 * where no leader is known they wait, or are refused.
 */
static bool may_get_lost_unnoticed(const struct apid *apid)
{
    struct ms_raft_status status;

    return ms_status_page_read(apid->status_page, false, &status) == MS_OK && status.leader != 0 &&
           status.role != MS_RAFT_LEADER;
}

bool writes_next_repeat(const struct apid *apid, struct ms_instant *out)
{
    struct ms_instant oldest;

    if (!inflight_oldest_sent(&apid->writes, &oldest)) {
        return false;
    }
    if (oldest.ns < apid->repeated_at.ns) {
        oldest = apid->repeated_at;
    }
    *out = ms_clock_add_ms(oldest, apid->election_timeout_ms);
    return true;
}

void writes_repeat(struct apid *apid, struct ms_instant now)
{
    struct ms_instant due;

    if (!writes_next_repeat(apid, &due) || now.ns < due.ns) {
        return;
    }
    apid->repeated_at = now;
    if (may_get_lost_unnoticed(apid)) {
        const struct ms_instant limit = {.ns = now.ns -
                                               apid->election_timeout_ms * MS_CLOCK_NS_PER_MS};

        propose_counted(apid, inflight_resend_older(&apid->writes, limit));
    }
}

static struct operation *operation_of_id(struct apid *apid, const struct ms_op_id *id)
{
    struct inflight_op *write =
        id->origin == apid->origin ? inflight_find(&apid->writes, id->seq) : NULL;

    return write != NULL ? QUEUE_OWNER(write, struct operation, write) : NULL;
}

static struct answer answer_of_result(const struct ms_apply_result *result, enum api_kind kind)
{
    switch (result->code) {
    case MS_RESULT_OK:
        return (struct answer){.status = 204,
                               .type = ANSWER_EMPTY,
                               .revision = kind == API_PUT ? result->revision : 0};
    case MS_RESULT_NOT_FOUND:
        return answer_error(API_ERROR_NO_KEY);
    case MS_RESULT_CONDITION_FAILED:
        return answer_error(API_ERROR_CONDITION_FAILED);
    default: /* the command was not understood, or acknowledged before it was answered: our fault */
        return answer_error(API_ERROR_INTERNAL);
    }
}

void writes_on_applied(struct apid *apid, const struct ms_apply_result *result)
{
    struct operation *op = operation_of_id(apid, &result->id);

    if (op != NULL) {
        const struct answer answer = answer_of_result(result, op->request.kind);

        operation_finish(op, &answer);
    }
}

void writes_on_refused(struct apid *apid, const struct ms_propose_refused *refused)
{
    struct operation *op = operation_of_id(apid, &refused->id);

    /* While another copy may be in the log, only its answer, or the deadline, ends the wait. */
    if (op != NULL && inflight_refused(&op->write)) {
        operation_fail(op, operation_error_of_refusal(refused->reason));
    }
}

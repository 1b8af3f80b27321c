/*
 * api: requests, from translation to answer.
 *
 * A read that may happen now is answered on the spot. Everything else becomes an operation: memory
 * attached to the request, linked into what it waits for and into the queue of deadlines, until one
 * of a neighbour's message, the deadline, or the client's leaving ends it.
 */
#include <assert.h>
#include <string.h>

#include "apid/apid.h"
#include "common/clock.h"
#include "common/command.h"
#include "common/log.h"

#define NS_PER_MS 1000000

/* A request that waits. Exactly one of write and read is linked somewhere. */
struct operation {
    struct apid *apid;
    struct http_exchange exchange;
    struct api_request request;
    struct ms_instant started;
    struct ms_instant deadline;
    struct queue_node timer;
    struct inflight_op write; /* PUT, DELETE */
    struct read_op read;      /* GET, LIST */
};

static bool is_write(const struct api_request *request)
{
    return request->kind == API_PUT || request->kind == API_DELETE;
}

/* ---- answering ------------------------------------------------------------------------------- */

static enum ms_route route_of(enum api_kind kind)
{
    switch (kind) {
    case API_GET:
        return MS_ROUTE_GET;
    case API_PUT:
        return MS_ROUTE_PUT;
    case API_DELETE:
        return MS_ROUTE_DELETE;
    case API_LIST:
        return MS_ROUTE_LIST;
    case API_HEALTH:
    case API_LIVEZ:
    case API_READYZ:
        return MS_ROUTE_HEALTH;
    case API_METRICS:
        return MS_ROUTE_METRICS;
    case API_VERSION:
        break;
    }
    return MS_ROUTE_OTHER;
}

static enum ms_histogram histogram_of(enum ms_route route)
{
    switch (route) {
    case MS_ROUTE_GET:
        return MS_HISTOGRAM_HTTP_GET;
    case MS_ROUTE_PUT:
        return MS_HISTOGRAM_HTTP_PUT;
    case MS_ROUTE_DELETE:
        return MS_HISTOGRAM_HTTP_DELETE;
    case MS_ROUTE_LIST:
        return MS_HISTOGRAM_HTTP_LIST;
    case MS_ROUTE_HEALTH:
    case MS_ROUTE_METRICS:
    case MS_ROUTE_OTHER:
    case MS_ROUTE_COUNT:
        break;
    }
    return MS_HISTOGRAM_HTTP_OTHER;
}

/* Answers and counts. */
static void answer_now(struct apid *apid, struct http_exchange exchange, enum ms_route route,
                       struct ms_instant started, const struct answer *answer)
{
    ms_metrics_count_request(apid->metrics, route, answer->status);
    ms_metrics_observe(apid->metrics, histogram_of(route),
                       ms_clock_elapsed_ns(started, ms_clock_now()));
    http_answer(exchange, answer);
    apid->has_answered = true;
}

/* Takes the operation out of everything it waits in. */
static void operation_unlink(struct operation *op)
{
    struct apid *apid = op->apid;

    if (op->write.seq != 0) {
        inflight_remove(&apid->writes, &op->write);
    }
    if (queue_holds(&op->read.node)) {
        reads_remove(&op->read);
    }
    queue_remove(&op->timer);
    apid->waiting_count--;
    apid->waiting_bytes -= op->request.value_bytes;
}

static void operation_finish(struct operation *op, const struct answer *answer)
{
    operation_unlink(op);
    answer_now(op->apid, op->exchange, route_of(op->request.kind), op->started, answer);
}

static void operation_fail(struct operation *op, enum api_error error)
{
    const struct answer answer = answer_error(error);

    operation_finish(op, &answer);
}

/* The client is gone; what it asked for may still happen, and nobody will know. */
static void on_operation_gone(void *memory)
{
    operation_unlink(memory);
}

/* NULL: too much waits already. */
static struct operation *operation_create(struct apid *apid, struct http_exchange exchange,
                                          const struct api_request *request,
                                          struct ms_instant started)
{
    struct operation *op;

    if (apid->waiting_count == APID_WAITING_MAX ||
        request->value_bytes > APID_WAITING_BYTES_MAX - apid->waiting_bytes) {
        return NULL;
    }
    op = http_attach(&exchange, sizeof(*op), on_operation_gone);
    op->apid = apid;
    op->exchange = exchange;
    op->request = *request;
    op->started = started;
    op->deadline = ms_clock_add_ms(started, apid->timeout_ms);
    queue_append(&apid->deadlines, &op->timer);
    apid->waiting_count++;
    apid->waiting_bytes += request->value_bytes;
    return op;
}

/* ---- reads ----------------------------------------------------------------------------------- */

struct delivery {
    struct apid *apid;
    struct http_exchange exchange;
    const struct api_request *request;
    struct ms_instant started;
};

static void deliver(void *ctx, const struct answer *found)
{
    const struct delivery *delivery = ctx;
    struct answer answer = *found;

    answer.without_body = delivery->request->head;
    answer_now(delivery->apid, delivery->exchange, route_of(delivery->request->kind),
               delivery->started, &answer);
}

/* The engine's file is not what it should be: nothing more is read from it. */
static void view_is_damaged(struct apid *apid)
{
    ms_log_plain(MS_LOG_ERROR, "memory engine is damaged");
    view_close(&apid->view);
    reads_on_store_closed(&apid->reads);
    links_break(&apid->storaged, "memory engine is damaged");
}

static void read_now(struct apid *apid, struct http_exchange exchange,
                     const struct api_request *request, struct ms_instant started)
{
    struct delivery delivery = {
        .apid = apid, .exchange = exchange, .request = request, .started = started};
    enum api_error error = API_ERROR_INTERNAL;
    struct answer answer;
    int rc = view_serve(&apid->view, request, deliver, &delivery);

    if (rc == MS_OK) {
        return;
    }
    if (rc == MS_EUNAVAILABLE) {
        error = API_ERROR_NO_STORE;
    } else if (rc == MS_EBUSY) {
        error = API_ERROR_BUSY;
    } else {
        ms_log(MS_LOG_ERROR, "read failed", MS_F_STR("error", ms_status_text(rc)));
    }
    answer = answer_error(error);
    answer_now(apid, exchange, route_of(request->kind), started, &answer);
    if (rc == MS_ECORRUPT) {
        view_is_damaged(apid);
    }
}

static void start_read(struct apid *apid, struct http_exchange exchange,
                       const struct api_request *request, struct ms_instant started)
{
    raft_index index = 0;
    enum reads_gate gate = reads_gate(&apid->reads, request->serializable, &index);
    struct operation *op;
    struct answer answer;

    if (gate == READS_NOW) {
        read_now(apid, exchange, request, started);
        return;
    }
    op = operation_create(apid, exchange, request, started);
    if (op == NULL) {
        answer = answer_error(API_ERROR_BUSY);
        answer_now(apid, exchange, route_of(request->kind), started, &answer);
        return;
    }
    op->read.serializable = request->serializable;
    reads_add(&apid->reads, &op->read, gate, index);
}

static bool port_status(void *ctx, struct ms_raft_status *out)
{
    const struct apid *apid = ctx;

    return ms_status_page_read(apid->status_page, false, out) == MS_OK;
}

static struct ms_instant port_now(void *ctx)
{
    (void)ctx;
    return ms_clock_now();
}

static bool port_applied(void *ctx, raft_index *out)
{
    struct apid *apid = ctx;

    return view_applied(&apid->view, out) == MS_OK;
}

static bool port_ask_index(void *ctx, uint64_t request)
{
    struct apid *apid = ctx;
    const struct ms_read_index body = {
        .request = request,
        .deadline_ns = ms_clock_add_ms(ms_clock_now(), apid->timeout_ms).ns,
    };

    return ms_link_send(&apid->raftd.link, MS_IPC_READ_INDEX, &body) == MS_OK;
}

static bool port_wait_applied(void *ctx, uint64_t request, raft_index index)
{
    struct apid *apid = ctx;
    const struct ms_wait_applied body = {.request = request, .index = index};

    return ms_link_send(&apid->storaged.link, MS_IPC_WAIT_APPLIED, &body) == MS_OK;
}

static void port_serve(void *ctx, struct read_op *read)
{
    struct operation *op = QUEUE_OWNER(read, struct operation, read);

    (void)ctx;
    operation_unlink(op);
    read_now(op->apid, op->exchange, &op->request, op->started);
}

/* What a refusal by raftd means to the client. */
static enum api_error error_of_refusal(uint32_t reason)
{
    switch (reason) {
    case MS_REFUSED_NO_LEADER:
        return API_ERROR_NO_LEADER;
    case MS_REFUSED_NO_SPACE:
        return API_ERROR_LOG_FULL;
    case MS_REFUSED_TOO_LARGE:
        return API_ERROR_TOO_LARGE;
    default:
        return API_ERROR_BUSY;
    }
}

static void port_refuse(void *ctx, struct read_op *read, uint32_t reason)
{
    (void)ctx;
    operation_fail(QUEUE_OWNER(read, struct operation, read), error_of_refusal(reason));
}

/* ---- writes ---------------------------------------------------------------------------------- */

static void start_write(struct apid *apid, struct http_exchange exchange,
                        const struct api_request *request, struct ms_instant started)
{
    const enum ms_route route = route_of(request->kind);
    struct operation *op = NULL;
    struct answer answer;

    if (apid->memory_full && request->kind == API_PUT) {
        answer = answer_error(API_ERROR_MEMORY_FULL);
        answer_now(apid, exchange, route, started, &answer);
        return;
    }
    op = operation_create(apid, exchange, request, started);
    if (op == NULL) {
        answer = answer_error(API_ERROR_BUSY);
        answer_now(apid, exchange, route, started, &answer);
        return;
    }
    if (inflight_add(&apid->writes, &op->write) != MS_OK) {
        operation_fail(op, API_ERROR_BUSY);
        return;
    }
    api_propose(apid);
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

void api_propose(struct apid *apid)
{
    struct inflight_op *write;

    while ((write = inflight_next_unsent(&apid->writes)) != NULL) {
        struct operation *op = QUEUE_OWNER(write, struct operation, write);
        int rc = propose(apid, op);

        if (rc == MS_OK) {
            inflight_mark_sent(&apid->writes, write);
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

void api_propose_again(struct apid *apid)
{
    size_t count = inflight_resend_all(&apid->writes);

    if (count > 0) {
        ms_metrics_add(apid->metrics, MS_METRIC_API_RESENT, count);
    }
    api_propose(apid);
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

void api_on_applied(struct apid *apid, const struct ms_apply_result *result)
{
    struct operation *op = operation_of_id(apid, &result->id);

    if (op != NULL) {
        const struct answer answer = answer_of_result(result, op->request.kind);

        operation_finish(op, &answer);
    }
}

void api_on_refused(struct apid *apid, const struct ms_propose_refused *refused)
{
    struct operation *op = operation_of_id(apid, &refused->id);

    if (op != NULL) {
        /* The refusal is about this copy: an earlier one may be in the log. */
        operation_fail(op, op->write.was_resent ? API_ERROR_WRITE_TIMEOUT
                                                : error_of_refusal(refused->reason));
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

void api_on_request(void *ctx, struct http_exchange exchange, const struct request_input *input)
{
    struct apid *apid = ctx;
    struct ms_instant now = ms_clock_now();
    size_t scratch_bytes = request_scratch_bytes(input);
    uint8_t *scratch = scratch_bytes > 0 ? http_alloc(exchange, scratch_bytes) : NULL;
    struct api_request request;
    enum api_error error;
    struct answer answer;

    if (request_translate(input, apid->body_max, scratch, &request, &error) != MS_OK) {
        answer = answer_error(error);
        answer_now(apid, exchange, MS_ROUTE_OTHER, now, &answer);
        return;
    }
    if (is_write(&request)) {
        start_write(apid, exchange, &request, now);
    } else if (request.kind == API_GET || request.kind == API_LIST) {
        start_read(apid, exchange, &request, now);
    } else {
        answer = pages_answer(apid, exchange, request.kind, now);
        answer.without_body = request.head;
        answer_now(apid, exchange, route_of(request.kind), now, &answer);
    }
}

static struct operation *next_to_expire(const struct apid *apid)
{
    struct queue_node *node = queue_first(&apid->deadlines);

    return node != NULL ? QUEUE_OWNER(node, struct operation, timer) : NULL;
}

void api_expire(struct apid *apid, struct ms_instant now)
{
    struct operation *op;

    while ((op = next_to_expire(apid)) != NULL && op->deadline.ns <= now.ns) {
        operation_fail(op,
                       is_write(&op->request) ? API_ERROR_WRITE_TIMEOUT : API_ERROR_READ_TIMEOUT);
    }
}

int api_next_deadline_ms(const struct apid *apid, struct ms_instant now)
{
    const struct operation *op = next_to_expire(apid);

    if (op == NULL) {
        return -1;
    }
    /* Rounded up: waking a moment early would only turn the loop in vain. */
    return (int)((ms_clock_elapsed_ns(now, op->deadline) + NS_PER_MS - 1) / NS_PER_MS);
}

int api_init(struct apid *apid, enum ms_read_mode mode)
{
    const struct reads_port port = {
        .ctx = apid,
        .status = port_status,
        .now = port_now,
        .applied = port_applied,
        .ask_index = port_ask_index,
        .wait_applied = port_wait_applied,
        .serve = port_serve,
        .refuse = port_refuse,
    };

    queue_init(&apid->deadlines);
    reads_init(&apid->reads, &port, mode);
    return inflight_init(&apid->writes, APID_WAITING_MAX);
}

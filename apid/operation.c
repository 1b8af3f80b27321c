/*
 * operation: see operation.h.
 */
#include "apid/operation.h"

#include "common/clock.h"

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
    case API_MEMBER_ADD:
    case API_MEMBER_REMOVE:
    case API_UNKNOWN:
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

void operation_answer_now(struct apid *apid, struct http_exchange exchange, enum api_kind kind,
                          struct ms_instant started, const struct answer *answer)
{
    const enum ms_route route = route_of(kind);

    ms_metrics_count_request(apid->metrics, route, answer->status);
    ms_metrics_observe(apid->metrics, histogram_of(route),
                       ms_clock_elapsed_ns(started, ms_clock_now()));
    http_answer(exchange, answer);
    apid->has_answered = true;
}

void operation_fail_now(struct apid *apid, struct http_exchange exchange, enum api_kind kind,
                        struct ms_instant started, enum api_error error)
{
    const struct answer answer = answer_error(error);

    operation_answer_now(apid, exchange, kind, started, &answer);
}

void operation_unlink(struct operation *op)
{
    struct apid *apid = op->apid;

    if (op->write.seq != 0) {
        inflight_remove(&apid->writes, &op->write);
    }
    if (queue_holds(&op->read.node)) {
        reads_remove(&op->read);
    }
    if (queue_holds(&op->member.node)) {
        members_remove(apid, &op->member);
    }
    queue_remove(&op->timer);
    apid->waiting_count--;
    apid->waiting_bytes -= op->request.value_bytes;
}

void operation_finish(struct operation *op, const struct answer *answer)
{
    operation_unlink(op);
    operation_answer_now(op->apid, op->exchange, op->request.kind, op->started, answer);
}

void operation_fail(struct operation *op, enum api_error error)
{
    const struct answer answer = answer_error(error);

    operation_finish(op, &answer);
}

/* The client is gone; what it asked for may still happen, and nobody will know. */
static void on_operation_gone(void *memory)
{
    operation_unlink(memory);
}

struct operation *operation_create(struct apid *apid, struct http_exchange exchange,
                                   const struct api_request *request, struct ms_instant started)
{
    struct operation *op;

    if (apid->waiting_count == APID_WAITING_MAX ||
        request->value_bytes > APID_WAITING_BYTES_MAX - apid->waiting_bytes) {
        operation_fail_now(apid, exchange, request->kind, started, API_ERROR_BUSY);
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

static struct operation *next_to_expire(const struct apid *apid)
{
    struct queue_node *node = queue_first(&apid->deadlines);

    return node != NULL ? QUEUE_OWNER(node, struct operation, timer) : NULL;
}

/* What a client is told whose time is up. */
static enum api_error timeout_of(enum api_kind kind)
{
    bool changes = kind == API_PUT || kind == API_DELETE || kind == API_MEMBER_ADD ||
                   kind == API_MEMBER_REMOVE;

    return changes ? API_ERROR_WRITE_TIMEOUT : API_ERROR_READ_TIMEOUT;
}

void operation_expire(struct apid *apid, struct ms_instant now)
{
    struct operation *op;

    while ((op = next_to_expire(apid)) != NULL && op->deadline.ns <= now.ns) {
        operation_fail(op, timeout_of(op->request.kind));
    }
}

bool operation_next_deadline(const struct apid *apid, struct ms_instant *out)
{
    const struct operation *op = next_to_expire(apid);

    if (op != NULL) {
        *out = op->deadline;
    }
    return op != NULL;
}

enum api_error operation_error_of_refusal(uint32_t reason)
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

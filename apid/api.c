/*
 * api: requests, from translation to whoever carries them out.
 *
 * A read that may happen now is answered on the spot. Everything else becomes an operation.
 */
#include <assert.h>

#include "apid/operation.h"
#include "common/clock.h"
#include "common/log.h"

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
    operation_answer_now(delivery->apid, delivery->exchange, delivery->request->kind,
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
    operation_fail_now(apid, exchange, request->kind, started, error);
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

    if (gate == READS_NOW) {
        read_now(apid, exchange, request, started);
        return;
    }
    op = operation_create(apid, exchange, request, started);
    if (op != NULL) {
        op->read.serializable = request->serializable;
        reads_add(&apid->reads, &op->read, gate, index);
    }
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

static void port_refuse(void *ctx, struct read_op *read, uint32_t reason)
{
    (void)ctx;
    operation_fail(QUEUE_OWNER(read, struct operation, read), operation_error_of_refusal(reason));
}

/* ---- requests -------------------------------------------------------------------------------- */

static void show_page(struct apid *apid, struct http_exchange exchange,
                      const struct api_request *request, struct ms_instant started)
{
    struct answer answer = pages_answer(apid, exchange, request->kind, started);

    answer.without_body = request->head;
    operation_answer_now(apid, exchange, request->kind, started, &answer);
}

void api_on_request(void *ctx, struct http_exchange exchange, const struct request_input *input)
{
    struct apid *apid = ctx;
    struct ms_instant now = ms_clock_now();
    size_t scratch_bytes = request_scratch_bytes(input);
    uint8_t *scratch = scratch_bytes > 0 ? http_alloc(exchange, scratch_bytes) : NULL;
    struct api_request request;
    enum api_error error;

    if (request_translate(input, apid->body_max, scratch, &request, &error) != MS_OK) {
        operation_fail_now(apid, exchange, API_UNKNOWN, now, error);
        return;
    }
    switch (request.kind) {
    case API_PUT:
    case API_DELETE:
        writes_start(apid, exchange, &request, now);
        break;
    case API_GET:
    case API_LIST:
        start_read(apid, exchange, &request, now);
        break;
    case API_MEMBER_ADD:
    case API_MEMBER_REMOVE:
        members_start(apid, exchange, &request, now);
        break;
    case API_HEALTH:
    case API_LIVEZ:
    case API_READYZ:
    case API_METRICS:
    case API_VERSION:
    case API_UNKNOWN:
        show_page(apid, exchange, &request, now);
        break;
    }
}

void api_pump(struct apid *apid, struct ms_instant now)
{
    operation_expire(apid, now);
    writes_repeat(apid, now);
    writes_propose(apid);
    members_send(apid);
    reads_pump(&apid->reads);
}

int api_next_due_ms(const struct apid *apid, struct ms_instant now)
{
    struct ms_instant due;
    struct ms_instant repeat;

    if (!operation_next_deadline(apid, &due)) {
        return -1;
    }
    if (writes_next_repeat(apid, &repeat) && repeat.ns < due.ns) {
        due = repeat;
    }
    /* Rounded up: waking a moment early would only turn the loop in vain. */
    return (int)((ms_clock_elapsed_ns(now, due) + MS_CLOCK_NS_PER_MS - 1) / MS_CLOCK_NS_PER_MS);
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
    members_init(&apid->members);
    reads_init(&apid->reads, &port, mode);
    return inflight_init(&apid->writes, APID_WAITING_MAX);
}

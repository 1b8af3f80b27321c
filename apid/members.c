/*
 * members: see members.h.
 */
#include "apid/members.h"

#include <string.h>

#include "apid/operation.h"
#include "common/clock.h"

static struct operation *operation_of(struct queue_node *node)
{
    return node == NULL ? NULL : QUEUE_OWNER(node, struct operation, member.node);
}

void members_init(struct members *members)
{
    *members = (struct members){.count = 0};
    queue_init(&members->unsent);
    queue_init(&members->sent);
}

void members_start(struct apid *apid, struct http_exchange exchange,
                   const struct api_request *request, struct ms_instant started)
{
    struct operation *op;

    if (apid->members.count == MEMBERS_MAX) {
        operation_fail_now(apid, exchange, request->kind, started, API_ERROR_BUSY);
        return;
    }
    op = operation_create(apid, exchange, request, started);
    if (op == NULL) {
        return;
    }
    queue_append(&apid->members.unsent, &op->member.node);
    apid->members.count++;
    members_send(apid);
}

void members_remove(struct apid *apid, struct member_op *op)
{
    queue_remove(&op->node);
    apid->members.count--;
}

static int send_one(struct apid *apid, struct operation *op)
{
    struct ms_member_request *body;
    void *fixed;
    void *tail;
    int rc = ms_link_begin(&apid->raftd.link, MS_IPC_MEMBER_REQUEST, op->request.peer_url_bytes,
                           &fixed, &tail);

    if (rc != MS_OK) {
        return rc;
    }
    op->member.request = ++apid->members.last_request;
    body = fixed;
    body->request = op->member.request;
    body->deadline_ns = op->deadline.ns;
    body->id = op->request.member;
    body->operation = op->request.kind == API_MEMBER_ADD ? MS_MEMBER_ADD_VOTER : MS_MEMBER_REMOVE;
    if (op->request.peer_url_bytes > 0) {
        memcpy(tail, op->request.peer_url, op->request.peer_url_bytes);
    }
    ms_link_commit(&apid->raftd.link);
    return MS_OK;
}

void members_send(struct apid *apid)
{
    struct operation *op;

    while ((op = operation_of(queue_first(&apid->members.unsent))) != NULL) {
        int rc = send_one(apid, op);

        if (rc != MS_OK) {
            if (rc != MS_EAGAIN && rc != MS_EPEER) {
                links_break(&apid->raftd, ms_status_text(rc));
            }
            return; /* full or away: the doorbell or the next link goes on with it */
        }
        queue_remove(&op->member.node);
        queue_append(&apid->members.sent, &op->member.node);
    }
}

/* The HTTP status that stands for a code; 500 for what is none. */
static int status_of(uint32_t code)
{
    static const struct {
        uint32_t code;
        int status;
    } rows[] = {
#define STATUS_ROW(name, number, http) {(name), (http)},
        MS_MEMBER_CODE_LIST(STATUS_ROW)
#undef STATUS_ROW
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].code == code) {
            return rows[i].status;
        }
    }
    return 500;
}

static struct operation *find_sent(const struct apid *apid, uint64_t request)
{
    const struct queue *sent = &apid->members.sent;

    for (struct queue_node *node = queue_first(sent); node != NULL; node = queue_next(sent, node)) {
        if (operation_of(node)->member.request == request) {
            return operation_of(node);
        }
    }
    return NULL;
}

void members_on_answer(struct apid *apid, const struct ms_member_answer *answer,
                       const uint8_t *text, size_t text_bytes)
{
    struct operation *op = find_sent(apid, answer->request);
    struct answer said;

    if (op == NULL) {
        return; /* given up */
    }
    if (answer->code == MS_MEMBER_OK) {
        said = (struct answer){.status = 204, .type = ANSWER_EMPTY};
    } else {
        size_t room_bytes = ANSWER_WORDS_BYTES(text_bytes);

        said = answer_in_words(status_of(answer->code), text, text_bytes,
                               http_alloc(op->exchange, room_bytes), room_bytes);
    }
    operation_finish(op, &said);
}

void members_on_raft_lost(struct apid *apid)
{
    struct operation *op;

    while ((op = operation_of(queue_first(&apid->members.sent))) != NULL) {
        operation_fail(op, API_ERROR_MEMBER_UNKNOWN);
    }
}

/*
 * operation: a request that waits for a neighbour, until one of its message, the deadline, or the
 * client's leaving ends it.
 *
 * It is memory attached to the request, linked into what it waits for and into the queue of
 * deadlines. For the files that share the work on requests (api.c, writes.c, members.c) alone.
 */
#ifndef METASTORE_APID_OPERATION_H
#define METASTORE_APID_OPERATION_H

#include "apid/apid.h"

/* Exactly one of write, read and member is linked somewhere. */
struct operation {
    struct apid *apid;
    struct http_exchange exchange;
    struct api_request request;
    struct ms_instant started;
    struct ms_instant deadline;
    struct queue_node timer;
    struct inflight_op write; /* PUT, DELETE */
    struct read_op read;      /* GET, LIST */
    struct member_op member;  /* MEMBER_ADD, MEMBER_REMOVE */
};

/* Answers a request that does not wait, and counts it. */
void operation_answer_now(struct apid *apid, struct http_exchange exchange, enum api_kind kind,
                          struct ms_instant started, const struct answer *answer);
void operation_fail_now(struct apid *apid, struct http_exchange exchange, enum api_kind kind,
                        struct ms_instant started, enum api_error error);

/*
 * Makes the request wait until its deadline; the caller links it into what it waits for. NULL: too
 * much waits already, and the client was told so.
 */
struct operation *operation_create(struct apid *apid, struct http_exchange exchange,
                                   const struct api_request *request, struct ms_instant started);

/* Takes the operation out of everything it waits in; its exchange still has to be answered. */
void operation_unlink(struct operation *op);

/* Ends the operation with an answer. */
void operation_finish(struct operation *op, const struct answer *answer);
void operation_fail(struct operation *op, enum api_error error);

/* Ends every operation whose deadline has come. */
void operation_expire(struct apid *apid, struct ms_instant now);

/* The nearest deadline. False: nothing waits. */
bool operation_next_deadline(const struct apid *apid, struct ms_instant *out);

/* What a refusal by raftd (enum ms_refusal) means to the client. */
enum api_error operation_error_of_refusal(uint32_t reason);

#endif

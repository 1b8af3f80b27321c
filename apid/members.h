/*
 * members: wishes to change the membership, on their way to raftd and until it answers.
 *
 * Each is sent once: whether a raftd that died had passed it on nobody knows, and a second copy
 * could undo what somebody else did in between. So the client is told that the outcome is unknown.
 */
#ifndef METASTORE_APID_MEMBERS_H
#define METASTORE_APID_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "apid/http.h"
#include "apid/queue.h"
#include "apid/request.h"
#include "common/ipc_catalogue.h"
#include "common/types.h"

/* More at a time get 503. */
#define MEMBERS_MAX 32

struct apid;

/* Part of the operation that waits. */
struct member_op {
    struct queue_node node;
    uint64_t request; /* its number; 0 until it was sent */
};

struct members {
    struct queue unsent;
    struct queue sent;
    size_t count; /* of both */
    uint64_t last_request;
};

void members_init(struct members *members);

/* Takes a MEMBER_ADD or MEMBER_REMOVE from a client. */
void members_start(struct apid *apid, struct http_exchange exchange,
                   const struct api_request *request, struct ms_instant started);

/* Sends what waits for that, as far as there is room. */
void members_send(struct apid *apid);

/* Takes an operation that waits out; its answer will find nobody. */
void members_remove(struct apid *apid, struct member_op *op);

/* raftd's answer; text is the reason of a refusal, in the ring. */
void members_on_answer(struct apid *apid, const struct ms_member_answer *answer,
                       const uint8_t *text, size_t text_bytes);

/* raftd is gone, and what it said before was handled. */
void members_on_raft_lost(struct apid *apid);

#endif

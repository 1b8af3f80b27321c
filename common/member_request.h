/*
 * member_request: a wish to change the membership or the leader, and its answer.
 *
 * Comes from a client (apid) or an administrator (supervisor) to the node's raftd, which passes it
 * on to the leader if that is another node. The leader alone decides, so all reasons for a refusal
 * are found in one place. The peer URL and the text of an answer travel behind these structs.
 */
#ifndef METASTORE_COMMON_MEMBER_REQUEST_H
#define METASTORE_COMMON_MEMBER_REQUEST_H

#include <stdint.h>

#include "common/types.h"

/* Numbers travel between nodes. */
enum ms_member_operation {
    MS_MEMBER_ADD_VOTER = 1, /* id, URL */
    MS_MEMBER_ADD_LEARNER = 2,
    MS_MEMBER_PROMOTE = 3,    /* a learner that has caught up becomes a voter */
    MS_MEMBER_REMOVE = 4,     /* voter or learner */
    MS_MEMBER_UPDATE_URL = 5, /* id, its new URL */
    MS_MEMBER_TRANSFER = 6,   /* leadership goes to id; 0: to whoever is up to date */
};

struct ms_member_request {
    uint64_t request;     /* named by the asker, unique within its incarnation */
    uint64_t deadline_ns; /* CLOCK_MONOTONIC */
    node_id id;
    uint32_t operation; /* enum ms_member_operation */
    uint32_t pad;
};

/* X(name, number, HTTP status). A table reads better in columns. */
/* clang-format off */
#define MS_MEMBER_CODE_LIST(X)                                                             \
    X(MS_MEMBER_OK, 0, 204)        /* committed and applied on the answering node */       \
    X(MS_MEMBER_INVALID, 1, 400)   /* no such operation, no usable URL or id */            \
    X(MS_MEMBER_NOT_FOUND, 2, 404) /* no member of this id */                              \
    X(MS_MEMBER_CONFLICT, 3, 409)  /* the id or the URL belongs to a member already */     \
    X(MS_MEMBER_NOT_READY, 4, 409) /* it lags, is unreachable, or is the last voter */      \
    X(MS_MEMBER_NO_LEADER, 5, 503) /* nothing was proposed */                              \
    X(MS_MEMBER_BUSY, 6, 503)      /* another change is under way; nothing was proposed */ \
    X(MS_MEMBER_UNKNOWN, 7, 504)   /* proposed, but what became of it is not known */
/* clang-format on */

enum ms_member_code {
#define MS_MEMBER_CODE_ENUM(name, number, http) name = (number),
    MS_MEMBER_CODE_LIST(MS_MEMBER_CODE_ENUM)
#undef MS_MEMBER_CODE_ENUM
};

struct ms_member_answer {
    uint64_t request;
    uint32_t code; /* enum ms_member_code */
    uint32_t pad;
};

#define MS_MEMBER_TEXT_BYTES 240 /* longest text of an answer, terminating 0 included */

#endif

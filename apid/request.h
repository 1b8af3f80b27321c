/*
 * request: what a client asks for, from the words of HTTP to an operation on keys.
 *
 * A pure translation: no h2o, no state, nothing is kept. All of its input comes from outside.
 */
#ifndef METASTORE_APID_REQUEST_H
#define METASTORE_APID_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "apid/answer.h"
#include "apid/framing.h"
#include "common/command.h"
#include "common/err.h"
#include "common/types.h"

#define REQUEST_LIST_LIMIT_DEFAULT 1000
#define REQUEST_LIST_LIMIT_MAX     10000

/* A part of the request as it came; data is NULL when the part is absent. */
struct request_text {
    const char *data;
    size_t len_bytes;
};

struct request_input {
    struct request_text method;
    struct request_text target; /* as in the request line, undecoded */
    struct request_text if_match;
    struct request_text if_none_match;
    bool if_match_repeated; /* more than one such header line: a list, of which one is kept */
    bool if_none_match_repeated;
    enum framing_defect framing;
    struct request_text body;
};

enum api_kind {
    API_GET,
    API_PUT,
    API_DELETE,
    API_LIST,
    API_HEALTH,
    API_LIVEZ,
    API_READYZ,
    API_METRICS,
    API_VERSION,
    API_MEMBER_ADD,
    API_MEMBER_REMOVE,
    API_UNKNOWN, /* what could not be translated */
};

/* Pointers are into the input or into the scratch. */
struct api_request {
    enum api_kind kind;
    bool head;          /* answer without the body */
    bool serializable;  /* GET, LIST: a local read is enough */
    const uint8_t *key; /* LIST: the prefix */
    size_t key_bytes;
    const uint8_t *value; /* PUT */
    size_t value_bytes;
    enum ms_command_condition condition; /* GET: MOD_REVISION or PRESENT, from If-Match */
    uint64_t revision;                   /* of the condition */
    bool unless_any;                     /* GET with If-None-Match: * */
    uint64_t unless_revision;            /* GET with If-None-Match: "revision"; 0: none */
    const uint8_t *after;                /* LIST: start behind this key; NULL: from the start */
    size_t after_bytes;
    uint32_t limit;       /* LIST: 1 .. REQUEST_LIST_LIMIT_MAX */
    node_id member;       /* MEMBER_ADD, MEMBER_REMOVE */
    const char *peer_url; /* MEMBER_ADD */
    size_t peer_url_bytes;
};

/* Bytes of scratch that request_translate needs for this input: 0 when nothing is escaped. */
size_t request_scratch_bytes(const struct request_input *input);

/*
 * Translates; body_max is the longest body accepted. MS_OK: *out is valid as long as the input and
 * the scratch are. MS_EINVAL: *error says what to answer, *out is untouched.
 */
int request_translate(const struct request_input *input, size_t body_max, uint8_t *scratch,
                      struct api_request *out, enum api_error *error);

#endif

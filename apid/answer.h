/*
 * answer: what is said to a client, before it becomes HTTP.
 *
 * Errors are rows of one table; each body is a constant, so answering one formats and allocates
 * nothing.
 */
#ifndef METASTORE_APID_ANSWER_H
#define METASTORE_APID_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, HTTP status, text). The text goes into JSON as it is: no quotes, no backslashes. */
#define API_ERROR_LIST(X)                                                              \
    X(BAD_PATH, 400, "the path must start with a slash")                               \
    X(BAD_PERCENT, 400, "the URL has a malformed percent escape")                      \
    X(EMPTY_KEY, 400, "the key is empty")                                              \
    X(BAD_CONSISTENCY, 400, "consistency must be linearizable or serializable")        \
    X(BAD_PREFIX, 400, "prefix must be true or false")                                 \
    X(BAD_LIMIT, 400, "limit must be a whole number above 0")                          \
    X(BAD_IF_MATCH, 400, "If-Match must be * or one revision in double quotes")        \
    X(BAD_IF_NONE_MATCH, 400, "If-None-Match must be * on a write")                    \
    X(TWO_CONDITIONS, 400, "If-Match and If-None-Match exclude each other on a write") \
    X(BAD_MEMBER_ID, 400, "a member's id is a number from 1 to 9223372036854775807")   \
    X(BAD_MEMBER_URL, 400, "the body must be a peer URL like http://HOST:PORT")        \
    X(BAD_FRAMING, 400, "the length of the body is told more than once")               \
    X(BAD_HOST, 400, "there must be exactly one Host header")                          \
    X(BAD_REQUEST, 400, "the request is malformed")                                    \
    X(NO_KEY, 404, "key not found")                                                    \
    X(RESERVED, 404, "this name is reserved and nothing is served there")              \
    X(NOT_FOUND, 404, "not found")                                                     \
    X(KEY_METHOD, 405, "keys take GET, HEAD, PUT and DELETE")                          \
    X(PAGE_METHOD, 405, "this name takes GET and HEAD")                                \
    X(CONDITION_FAILED, 412, "the condition does not hold")                            \
    X(TOO_LARGE, 413, "the request is larger than this node accepts")                  \
    X(KEY_TOO_LONG, 414, "the key is longer than 8192 bytes")                          \
    X(EXPECTATION, 417, "the expectation cannot be met")                               \
    X(HEADERS_TOO_LARGE, 431, "the request head is too large")                         \
    X(INTERNAL, 500, "internal error")                                                 \
    X(NO_LEADER, 503, "no leader; nothing was done")                                   \
    X(BUSY, 503, "too many requests are in progress; nothing was done")                \
    X(NO_STORE, 503, "the store is not available")                                     \
    X(WRITE_TIMEOUT, 504, "deadline passed; the outcome is unknown")                   \
    X(MEMBER_UNKNOWN, 504, "raftd was replaced; the outcome is unknown")               \
    X(READ_TIMEOUT, 504, "deadline passed; nothing was read")                          \
    X(LOG_FULL, 507, "the disk is full; nothing was done")                             \
    X(MEMORY_FULL, 507, "the memory limit is reached; nothing was done")

enum api_error {
#define API_ERROR_ENUM(name, status, text) API_ERROR_##name,
    API_ERROR_LIST(API_ERROR_ENUM)
#undef API_ERROR_ENUM
};

enum answer_type {
    ANSWER_EMPTY, /* no body and no content type */
    ANSWER_OCTETS,
    ANSWER_JSON,
    ANSWER_TEXT,
    ANSWER_PROMETHEUS,
};

struct answer {
    int status;
    enum answer_type type;
    const void *body; /* borrowed until http_answer returns, unless body_stays */
    size_t body_bytes;
    bool body_stays;   /* constant, or from http_alloc: need not be copied */
    bool without_body; /* HEAD: the length of body is told, its bytes are not sent */
    bool retry_after;  /* worth another try in a second */
    bool more;         /* a listing that was cut */
    const char *allow; /* constant; NULL: no Allow */
    uint64_t revision; /* shown as ETag; 0: none */
};

/* The whole answer for an error: status, JSON body, and the headers that belong to that status. */
struct answer answer_error(enum api_error error);

/* Enough room for answer_in_words: each byte may have to be escaped. */
#define ANSWER_WORDS_BYTES(text_bytes) (2 * (text_bytes) + 64)

/*
 * An error whose text was made elsewhere and may hold anything: what is not printable ASCII becomes
 * a question mark, no text the status in words. The body is written to room (room_bytes long, at
 * least ANSWER_WORDS_BYTES), which must live until the answer is sent.
 */
struct answer answer_in_words(int status, const void *text, size_t text_bytes, char *room,
                              size_t room_bytes);

/* The error that stands for a status that somebody else chose; API_ERROR_INTERNAL for others. */
enum api_error answer_error_of_status(int status);

/* "Not Found" for 404; "Unknown" for what we never send. */
const char *answer_reason(int status);

#endif

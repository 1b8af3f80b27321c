/*
 * answer: the constant parts of answers. See answer.h.
 */
#include "apid/answer.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

struct error_row {
    int status;
    const char *body;
    size_t body_bytes;
};

#define BODY_START                 "{\"error\":\""
#define ERROR_BODY(status_, text_) BODY_START text_ "\",\"code\":" #status_ "}\n"

static const struct error_row error_rows[] = {
#define ERROR_ROW(name, status_, text_)                       \
    [API_ERROR_##name] = {.status = (status_),                \
                          .body = ERROR_BODY(status_, text_), \
                          .body_bytes = sizeof(ERROR_BODY(status_, text_)) - 1},
    API_ERROR_LIST(ERROR_ROW)
#undef ERROR_ROW
};

struct answer answer_error(enum api_error error)
{
    const struct error_row *row = &error_rows[error];
    struct answer answer = {
        .status = row->status,
        .type = ANSWER_JSON,
        .body = row->body,
        .body_bytes = row->body_bytes,
        .body_stays = true,
        .retry_after = row->status == 503,
    };

    if (error == API_ERROR_KEY_METHOD) {
        answer.allow = "GET, HEAD, PUT, DELETE";
    } else if (error == API_ERROR_PAGE_METHOD) {
        answer.allow = "GET, HEAD";
    }
    return answer;
}

struct answer answer_in_words(int status, const void *text, size_t text_bytes, char *room,
                              size_t room_bytes)
{
    const char *words = text_bytes > 0 ? text : answer_reason(status);
    size_t words_bytes = text_bytes > 0 ? text_bytes : strlen(words);
    size_t at = strlen(BODY_START);

    assert(room_bytes >= ANSWER_WORDS_BYTES(text_bytes));
    memcpy(room, BODY_START, at);
    for (size_t i = 0; i < words_bytes; i++) {
        if (words[i] == '"' || words[i] == '\\') {
            room[at++] = '\\';
        }
        room[at++] = words[i] >= ' ' && words[i] <= '~' ? words[i] : '?';
    }
    at += (size_t)snprintf(room + at, room_bytes - at, "\",\"code\":%d}\n", status);
    return (struct answer){.status = status,
                           .type = ANSWER_JSON,
                           .body = room,
                           .body_bytes = at,
                           .body_stays = true,
                           .retry_after = status == 503};
}

enum api_error answer_error_of_status(int status)
{
    switch (status) {
    case 400:
        return API_ERROR_BAD_REQUEST;
    case 404:
        return API_ERROR_NOT_FOUND;
    case 413:
        return API_ERROR_TOO_LARGE;
    case 417:
        return API_ERROR_EXPECTATION;
    case 431:
        return API_ERROR_HEADERS_TOO_LARGE;
    case 503:
        return API_ERROR_BUSY;
    default:
        return API_ERROR_INTERNAL;
    }
}

const char *answer_reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 204:
        return "No Content";
    case 304:
        return "Not Modified";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 412:
        return "Precondition Failed";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 417:
        return "Expectation Failed";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    case 507:
        return "Insufficient Storage";
    default:
        return "Unknown";
    }
}

/*
 * answer: the constant parts of answers. See answer.h.
 */
#include "apid/answer.h"

struct error_row {
    int status;
    const char *body;
    size_t body_bytes;
};

#define ERROR_BODY(status_, text_) "{\"error\":\"" text_ "\",\"code\":" #status_ "}\n"

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
    case 501:
        return "Not Implemented";
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

/*
 * http_exchange: one request and its answer, between h2o and the rest of apid.
 *
 * On the path of a plain GET nothing is allocated but from the request's pool, and nothing is
 * formatted with printf.
 */
#include <assert.h>
#include <string.h>

#include "apid/http_private.h"

#define ETAG_BYTES_MAX 22 /* 20 digits in quotes */

/* Marks the answers that are ours: h2o's own ones carry another generator. */
static h2o_generator_t own_generator;

struct exchange_handler {
    h2o_handler_t super;
    struct http_server *server;
};

/* Memory that http_attach gave out. */
struct attachment {
    struct http_server *server;
    void (*on_gone)(void *memory);
    bool answered;
    _Alignas(16) uint8_t memory[];
};

/* An output stream that puts our error body in place of h2o's. */
struct replaced_body {
    h2o_ostream_t super;
    h2o_iovec_t body;
};

static struct request_text text_of(h2o_iovec_t bytes)
{
    return (struct request_text){.data = bytes.base, .len_bytes = bytes.len};
}

/*
 * h2o keeps the bytes of a request at the front of its socket's buffer until the request is
 * answered. (HTTP/2 frames its requests itself.)
 */
static enum framing_defect framing_of(h2o_req_t *request)
{
    const h2o_socket_t *socket;

    if (request->version >= 0x200) {
        return FRAMING_SOUND;
    }
    socket = request->conn->callbacks->get_socket(request->conn);
    return framing_check(socket->input->bytes, socket->input->size, request->version >= 0x101);
}

static int on_request(h2o_handler_t *self, h2o_req_t *request)
{
    struct http_server *server = ((struct exchange_handler *)self)->server;
    struct request_input input = {
        .method = text_of(request->method),
        .target = text_of(request->path),
        .framing = framing_of(request),
        .body = text_of(request->entity),
    };

    for (size_t i = 0; i < request->headers.size; i++) {
        const h2o_header_t *header = &request->headers.entries[i];

        if (header->name == &H2O_TOKEN_IF_MATCH->buf) {
            input.if_match_repeated = input.if_match.data != NULL;
            input.if_match = text_of(header->value);
        } else if (header->name == &H2O_TOKEN_IF_NONE_MATCH->buf) {
            input.if_none_match_repeated = input.if_none_match.data != NULL;
            input.if_none_match = text_of(header->value);
        }
    }
    if (input.framing != FRAMING_SOUND) {
        /* Where the next request begins is anybody's guess. */
        request->http1_is_persistent = 0;
        http_linger_after(http_connection_of(request));
    }
    server->open_exchanges++;
    server->options.on_request(
        server->options.ctx, (struct http_exchange){.server = server, .request = request}, &input);
    return 0;
}

static h2o_req_t *request_of(struct http_exchange exchange)
{
    return exchange.request;
}

void *http_alloc(struct http_exchange exchange, size_t size_bytes)
{
    return h2o_mem_alloc_pool(&request_of(exchange)->pool, size_bytes);
}

static void on_request_ends(void *memory)
{
    struct attachment *attachment = memory;

    if (!attachment->answered) {
        attachment->server->open_exchanges--;
        attachment->on_gone(attachment->memory);
    }
}

void *http_attach(struct http_exchange *exchange, size_t size_bytes, void (*on_gone)(void *memory))
{
    struct attachment *attachment;

    assert(exchange->attachment == NULL);
    attachment = h2o_mem_alloc_shared(&request_of(*exchange)->pool,
                                      sizeof(struct attachment) + size_bytes, on_request_ends);
    memset(attachment, 0, sizeof(struct attachment) + size_bytes);
    attachment->server = exchange->server;
    attachment->on_gone = on_gone;
    exchange->attachment = attachment;
    return attachment->memory;
}

static h2o_iovec_t content_type_of(enum answer_type type)
{
    switch (type) {
    case ANSWER_OCTETS:
        return h2o_iovec_init(H2O_STRLIT("application/octet-stream"));
    case ANSWER_JSON:
        return h2o_iovec_init(H2O_STRLIT("application/json"));
    case ANSWER_TEXT:
        return h2o_iovec_init(H2O_STRLIT("text/plain; charset=utf-8"));
    case ANSWER_PROMETHEUS:
        return h2o_iovec_init(H2O_STRLIT("text/plain; version=0.0.4; charset=utf-8"));
    case ANSWER_EMPTY:
        break;
    }
    return h2o_iovec_init(NULL, 0);
}

static h2o_iovec_t etag_of(h2o_mem_pool_t *pool, uint64_t revision)
{
    char *text = h2o_mem_alloc_pool(pool, ETAG_BYTES_MAX);
    char *end = text + ETAG_BYTES_MAX;
    char *at = end;

    *--at = '"';
    do {
        *--at = (char)('0' + revision % 10);
        revision /= 10;
    } while (revision > 0);
    *--at = '"';
    return h2o_iovec_init(at, (size_t)(end - at));
}

static void add_headers(h2o_req_t *request, const struct answer *answer)
{
    h2o_headers_t *headers = &request->res.headers;
    h2o_iovec_t text = content_type_of(answer->type);

    if (text.len > 0) {
        h2o_add_header(&request->pool, headers, H2O_TOKEN_CONTENT_TYPE, NULL, text.base, text.len);
    }
    if (answer->revision != 0) {
        text = etag_of(&request->pool, answer->revision);
        h2o_add_header(&request->pool, headers, H2O_TOKEN_ETAG, NULL, text.base, text.len);
    }
    if (answer->allow != NULL) {
        h2o_add_header(&request->pool, headers, H2O_TOKEN_ALLOW, NULL, answer->allow,
                       strlen(answer->allow));
    }
    if (answer->retry_after) {
        h2o_add_header(&request->pool, headers, H2O_TOKEN_RETRY_AFTER, NULL, H2O_STRLIT("1"));
    }
    if (answer->more) {
        h2o_add_header_by_str(&request->pool, headers, H2O_STRLIT("x-metastore-more"), 0, NULL,
                              H2O_STRLIT("true"));
    }
}

void http_answer(struct http_exchange exchange, const struct answer *answer)
{
    h2o_req_t *request = request_of(exchange);
    h2o_iovec_t body = h2o_iovec_init(answer->body, answer->body_bytes);
    size_t body_count = 0;

    assert(exchange.server->open_exchanges > 0);
    exchange.server->open_exchanges--;
    if (exchange.attachment != NULL) {
        ((struct attachment *)exchange.attachment)->answered = true;
    }

    request->res.status = answer->status;
    request->res.reason = answer_reason(answer->status);
    add_headers(request, answer);
    if (answer->type != ANSWER_EMPTY) {
        request->res.content_length = answer->body_bytes;
        if (body.len > 0 && !answer->without_body) {
            if (!answer->body_stays) {
                body.base = h2o_mem_alloc_pool(&request->pool, body.len);
                memcpy(body.base, answer->body, body.len);
            }
            body_count = 1;
        }
    }
    h2o_start_response(request, &own_generator);
    h2o_send(request, &body, body_count, H2O_SEND_STATE_FINAL);
}

static void send_replaced(h2o_ostream_t *self, h2o_req_t *request, h2o_iovec_t *buffers,
                          size_t buffer_count, h2o_send_state_t state)
{
    struct replaced_body *replaced = (struct replaced_body *)self;

    /* No buffers: a HEAD. h2o sends its errors in one piece. */
    (void)buffers;
    h2o_ostream_send_next(self, request, &replaced->body, buffer_count > 0 ? 1 : 0, state);
}

/* h2o answers some requests itself, before we see them (413, 400, 417): in JSON, as all errors. */
static void on_setup_ostream(h2o_filter_t *self, h2o_req_t *request, h2o_ostream_t **slot)
{
    struct replaced_body *replaced;
    struct answer answer;

    (void)self;
    if (request->_generator != &own_generator) {
        answer = answer_error(answer_error_of_status(request->res.status));
        request->res.reason = answer_reason(request->res.status);
        request->res.headers = (h2o_headers_t){NULL};
        add_headers(request, &answer);
        request->res.content_length = answer.body_bytes;
        replaced = (void *)h2o_add_ostream(request, sizeof(*replaced), slot);
        replaced->super.do_send = send_replaced;
        replaced->body = h2o_iovec_init(answer.body, answer.body_bytes);
        slot = &replaced->super.next;
        if (request->version < 0x200 && !request->http1_is_persistent) {
            http_linger_after(http_connection_of(request));
        }
    }
    h2o_setup_next_ostream(request, slot);
}

void http_exchange_setup(struct http_server *server, h2o_hostconf_t *host)
{
    struct exchange_handler *handler;

    /* No paths are registered: keys are ours to read, h2o's normalised paths would lose bytes. */
    handler = (void *)h2o_create_handler(&host->fallback_path, sizeof(*handler));
    handler->super.on_req = on_request;
    handler->server = server;
    h2o_create_filter(&host->fallback_path, sizeof(h2o_filter_t))->on_setup_ostream =
        on_setup_ostream;
}

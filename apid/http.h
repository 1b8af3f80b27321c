/*
 * http: connections, requests and answers, on libh2o and its event loop.
 *
 * The only room that knows h2o (apid/http*.c). Everything else of apid sees requests as
 * struct request_input, answers as struct answer, and the loop as http_run and http_watch.
 */
#ifndef METASTORE_APID_HTTP_H
#define METASTORE_APID_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "apid/answer.h"
#include "apid/request.h"
#include "apid/tls.h"
#include "common/err.h"

struct http_server;
struct http_watch;

/* One request that has no answer yet. A value: copy it freely until it is answered or gone. */
struct http_exchange {
    struct http_server *server;
    void *request;
    void *attachment; /* NULL until http_attach */
};

struct http_options {
    size_t body_max;        /* longer request bodies get 413 */
    size_t connections_max; /* at this many, no more are accepted until one ends */
    bool use_tls;
    struct tls_files tls; /* borrowed during http_create only */
    /* A complete request. input is valid until the exchange is answered or gone. */
    void (*on_request)(void *ctx, struct http_exchange exchange, const struct request_input *input);
    void *ctx;
};

/*
 * Makes the server; it lives as long as the process, for h2o cannot end connections from outside.
 * MS_EINVAL: a file of the TLS options is of no use; MS_ENOMEM.
 */
int http_create(const struct http_options *options, struct http_server **out, struct ms_err *err);

/* Accepts on fd (owned from now on, also on failure). MS_EFULL: too many listeners. */
int http_listen(struct http_server *server, int fd);

/* New connections use these certificates. On failure the old ones stay. */
int http_reload_tls(struct http_server *server, const struct tls_files *files, struct ms_err *err);

/* One turn of the event loop: waits up to wait_ms (below 0: for ever) and serves what came. */
void http_run(struct http_server *server, int wait_ms);

/* Calls on_readable(ctx) in the loop whenever fd (borrowed) is readable; level-triggered. */
struct http_watch *http_watch_create(struct http_server *server, int fd,
                                     void (*on_readable)(void *ctx), void *ctx, struct ms_err *err);
void http_watch_destroy(struct http_watch *watch); /* may be called from within on_readable */

/* Memory that lives until the exchange is answered. */
void *http_alloc(struct http_exchange exchange, size_t size_bytes);

/*
 * Zeroed memory for a request that is not answered at once; once per exchange, copies of *exchange
 * made before are stale. It lives until the request ends. on_gone(memory) is called if the request
 * ends without an answer: the client reset it.
 */
void *http_attach(struct http_exchange *exchange, size_t size_bytes, void (*on_gone)(void *memory));

/* Sends the answer. The exchange is over. */
void http_answer(struct http_exchange exchange, const struct answer *answer);

/* Stops listening, asks clients to go elsewhere, goes on serving what is there. */
void http_drain(struct http_server *server);

/* After http_drain: connections end as soon as they have nothing in progress. */
void http_close_idle(struct http_server *server);

size_t http_connections(const struct http_server *server);
size_t http_open_exchanges(const struct http_server *server);

#endif

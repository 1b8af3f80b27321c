/*
 * http_private: what http.c and http_exchange.c share.
 */
#ifndef METASTORE_APID_HTTP_PRIVATE_H
#define METASTORE_APID_HTTP_PRIVATE_H

#define H2O_USE_LIBUV 0
#include <h2o.h>

#include "apid/http.h"
#include "apid/queue.h"

#define HTTP_LISTENERS_MAX 8

/* One client connection, from accept to close. */
struct http_connection {
    struct queue_node node;
    struct http_server *server;
    h2o_socket_t *socket;
    SSL_CTX *tls;  /* our reference: h2o uses the context as late as the first handshake byte */
    int linger_fd; /* -1, or a duplicate of the socket: see http_linger_after */
};

struct http_server {
    h2o_globalconf_t config;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    h2o_loop_t *loop;
    struct http_options options;
    SSL_CTX *tls; /* NULL: plain HTTP */

    h2o_socket_t *listeners[HTTP_LISTENERS_MAX];
    size_t listener_count;
    bool paused;         /* listeners are not polled: at the limit, or out of descriptors */
    h2o_timeout_t retry; /* after which accepting is tried again */
    h2o_timeout_entry_t retry_entry;

    struct queue connections;
    size_t connection_count;
    size_t open_exchanges;

    h2o_timeout_t linger; /* how long a lingering socket may take */
    struct queue lingering;
    size_t lingering_count;
};

/* Makes our handler and filter the only ones of the host. */
void http_exchange_setup(struct http_server *server, h2o_hostconf_t *host);

/* The connection that a request came on. */
struct http_connection *http_connection_of(h2o_req_t *request);

/*
 * The connection will be closed by h2o behind an answer to a request that was not read to its end.
 * Closed at once, unread bytes would make the kernel reset the connection, and the client might
 * never see the answer: so the socket is kept until the client closes, for a bounded time
 * (RFC 9112 9.6).
 */
void http_linger_after(struct http_connection *connection);

#endif

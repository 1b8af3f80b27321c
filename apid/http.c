/*
 * http: the server around libh2o: its configuration, listeners, connections and event loop.
 *
 * Requests and answers are in http_exchange.c. What a slow or hostile client can hold is bounded:
 * connections by a count, the head and body of a request by h2o's limits and REQUEST_TIMEOUT_MS,
 * a handshake by HANDSHAKE_TIMEOUT_MS, an answer that is not read by TCP_USER_TIMEOUT.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "apid/http_private.h"
#include "common/log.h"

#define REQUEST_TIMEOUT_MS   10000 /* for head and body together, and between two requests */
#define HANDSHAKE_TIMEOUT_MS 10000
#define SEND_TIMEOUT_MS      30000 /* an answer makes no progress */
#define HTTP2_IDLE_MS        60000
#define ACCEPT_RETRY_MS      100 /* after accept found no descriptor or memory */
#define ACCEPT_BATCH         16  /* connections per wake-up: others get their turn */
#define LINGER_MS            2000
#define LINGERING_MAX        256

/*
 * Bodies that are too large by no more than this are read to their end, and refused in all
 * protocols alike. Past it h2o has the word: 413 and the end of the connection in HTTP/1,
 * REFUSED_STREAM in HTTP/2.
 */
#define BODY_SLACK_BYTES ((size_t)4 << 20)

struct http_watch {
    h2o_socket_t *socket;
    void (*on_readable)(void *ctx);
    void *ctx;
};

/* A socket whose answer is out, kept until the client has read it. */
struct lingering {
    struct queue_node node;
    struct http_server *server;
    h2o_socket_t *socket;
    h2o_timeout_entry_t timeout;
};

static void on_listener_ready(h2o_socket_t *listener, const char *error);

/* ---- watches --------------------------------------------------------------------------------- */

static void on_watch_readable(h2o_socket_t *socket, const char *error)
{
    struct http_watch *watch = socket->data;

    (void)error; /* h2o does not read here, so it has no error to tell */
    watch->on_readable(watch->ctx);
}

struct http_watch *http_watch_create(struct http_server *server, int fd,
                                     void (*on_readable)(void *ctx), void *ctx, struct ms_err *err)
{
    struct http_watch *watch = calloc(1, sizeof(*watch));
    int own_fd;

    if (watch == NULL) {
        (void)ms_err_set(err, MS_ENOMEM, 0, "watch descriptor %d", fd);
        return NULL;
    }
    own_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* h2o closes what it watches */
    if (own_fd < 0) {
        (void)ms_err_set(err, MS_EIO, errno, "watch descriptor %d", fd);
        free(watch);
        return NULL;
    }
    watch->on_readable = on_readable;
    watch->ctx = ctx;
    watch->socket = h2o_evloop_socket_create(server->loop, own_fd, H2O_SOCKET_FLAG_DONT_READ);
    watch->socket->data = watch;
    h2o_socket_read_start(watch->socket, on_watch_readable);
    return watch;
}

void http_watch_destroy(struct http_watch *watch)
{
    if (watch != NULL) {
        h2o_socket_close(watch->socket);
        free(watch);
    }
}

/* ---- lingering ------------------------------------------------------------------------------- */

static void lingering_end(struct lingering *lingering)
{
    h2o_timeout_unlink(&lingering->timeout);
    h2o_socket_close(lingering->socket);
    queue_remove(&lingering->node);
    lingering->server->lingering_count--;
    free(lingering);
}

static void on_lingering_read(h2o_socket_t *socket, const char *error)
{
    if (error != NULL) {
        lingering_end(socket->data);
        return;
    }
    h2o_buffer_consume(&socket->input, socket->input->size);
}

static void on_lingering_timeout(h2o_timeout_entry_t *entry)
{
    lingering_end(H2O_STRUCT_FROM_MEMBER(struct lingering, timeout, entry));
}

/* Takes fd. */
static void lingering_start(struct http_server *server, int fd)
{
    struct lingering *lingering = NULL;

    if (server->lingering_count < LINGERING_MAX && shutdown(fd, SHUT_WR) == 0) {
        lingering = calloc(1, sizeof(*lingering));
    }
    if (lingering == NULL) {
        (void)close(fd); /* best effort: too many linger, or the client is gone already */
        return;
    }
    lingering->server = server;
    lingering->socket = h2o_evloop_socket_create(server->loop, fd, 0);
    lingering->socket->data = lingering;
    lingering->timeout.cb = on_lingering_timeout;
    h2o_timeout_link(server->loop, &server->linger, &lingering->timeout);
    queue_append(&server->lingering, &lingering->node);
    server->lingering_count++;
    h2o_socket_read_start(lingering->socket, on_lingering_read);
}

void http_linger_after(struct http_connection *connection)
{
    if (connection->linger_fd < 0) {
        connection->linger_fd = fcntl(h2o_socket_get_fd(connection->socket), F_DUPFD_CLOEXEC, 0);
    }
}

/* ---- connections ----------------------------------------------------------------------------- */

struct http_connection *http_connection_of(h2o_req_t *request)
{
    return request->conn->callbacks->get_socket(request->conn)->on_close.data;
}

static void listeners_pause(struct http_server *server)
{
    server->paused = true;
    for (size_t i = 0; i < server->listener_count; i++) {
        h2o_socket_read_stop(server->listeners[i]);
    }
}

static void listeners_resume(struct http_server *server)
{
    server->paused = false;
    for (size_t i = 0; i < server->listener_count; i++) {
        h2o_socket_read_start(server->listeners[i], on_listener_ready);
    }
}

static void on_retry(h2o_timeout_entry_t *entry)
{
    struct http_server *server = H2O_STRUCT_FROM_MEMBER(struct http_server, retry_entry, entry);

    if (server->connection_count < server->options.connections_max) {
        listeners_resume(server);
    }
}

static void on_connection_closed(void *data)
{
    struct http_connection *connection = data;
    struct http_server *server = connection->server;

    queue_remove(&connection->node);
    server->connection_count--;
    SSL_CTX_free(connection->tls);
    if (connection->linger_fd >= 0) {
        lingering_start(server, connection->linger_fd);
    }
    free(connection);
    if (server->paused && !h2o_timeout_is_linked(&server->retry_entry)) {
        listeners_resume(server);
    }
}

static void connection_start(struct http_server *server, h2o_socket_t *socket)
{
    struct http_connection *connection = calloc(1, sizeof(*connection));

    if (connection == NULL) {
        h2o_socket_close(socket);
        return;
    }
    connection->server = server;
    connection->socket = socket;
    connection->linger_fd = -1;
    if (server->tls != NULL) {
        SSL_CTX_up_ref(server->tls);
        connection->tls = server->tls;
    }
    socket->on_close.cb = on_connection_closed;
    socket->on_close.data = connection;
    queue_append(&server->connections, &connection->node);
    server->connection_count++;
    server->accept.ssl_ctx = server->tls;
    h2o_accept(&server->accept, socket);
}

static void on_listener_ready(h2o_socket_t *listener, const char *error)
{
    struct http_server *server = listener->data;

    (void)error; /* h2o does not read here, so it has no error to tell */
    for (unsigned i = 0; i < ACCEPT_BATCH; i++) {
        h2o_socket_t *socket;

        if (server->connection_count >= server->options.connections_max) {
            ms_log(MS_LOG_WARN, "connection limit reached",
                   MS_F_U64("connections", server->connection_count));
            listeners_pause(server);
            return;
        }
        socket = h2o_evloop_socket_accept(listener);
        if (socket == NULL) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                ms_log(MS_LOG_WARN, "cannot accept a connection",
                       MS_F_STR("error", strerror(errno)));
                listeners_pause(server);
                h2o_timeout_link(server->loop, &server->retry, &server->retry_entry);
                return;
            }
            if (errno == EAGAIN) {
                return;
            }
            continue; /* that connection failed before it was ours (accept(2), "Error handling") */
        }
        connection_start(server, socket);
    }
}

int http_listen(struct http_server *server, int fd)
{
    const int on = 1;
    const unsigned send_timeout_ms = SEND_TIMEOUT_MS;
    h2o_socket_t *listener;

    if (server->listener_count == HTTP_LISTENERS_MAX) {
        (void)close(fd);
        return MS_EFULL;
    }
    /* Connections inherit these. On a Unix-domain socket they fail, and are not needed. */
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &send_timeout_ms, sizeof(send_timeout_ms));
    listener = h2o_evloop_socket_create(server->loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    listener->data = server;
    server->listeners[server->listener_count++] = listener;
    if (!server->paused) {
        h2o_socket_read_start(listener, on_listener_ready);
    }
    return MS_OK;
}

static void listeners_close(struct http_server *server)
{
    for (size_t i = 0; i < server->listener_count; i++) {
        h2o_socket_close(server->listeners[i]);
    }
    server->listener_count = 0;
    h2o_timeout_unlink(&server->retry_entry);
}

/* ---- the server ------------------------------------------------------------------------------ */

int http_reload_tls(struct http_server *server, const struct tls_files *files, struct ms_err *err)
{
    SSL_CTX *tls;
    int rc = tls_context_create(files, &tls, err);

    if (rc == MS_OK) {
        h2o_ssl_register_alpn_protocols(tls, h2o_alpn_protocols);
        SSL_CTX_free(server->tls);
        server->tls = tls;
    }
    return rc;
}

static void configure(struct http_server *server)
{
    h2o_globalconf_t *config = &server->config;
    h2o_hostconf_t *host;

    h2o_config_init(config);
    config->server_name = h2o_iovec_init(H2O_STRLIT("metastore"));
    config->max_request_entity_size = server->options.body_max + BODY_SLACK_BYTES;
    config->handshake_timeout = HANDSHAKE_TIMEOUT_MS;
    config->http1.req_timeout = REQUEST_TIMEOUT_MS;
    config->http2.idle_timeout = HTTP2_IDLE_MS;
    host = h2o_config_register_host(config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    http_exchange_setup(server, host);
}

int http_create(const struct http_options *options, struct http_server **out, struct ms_err *err)
{
    struct http_server *server = calloc(1, sizeof(*server));
    int rc;

    if (server == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "HTTP server");
    }
    server->options = *options;
    if (options->use_tls) {
        rc = http_reload_tls(server, &options->tls, err);
        if (rc != MS_OK) {
            free(server);
            return rc;
        }
    }
    server->options.tls = (struct tls_files){NULL, NULL, NULL};
    queue_init(&server->connections);
    queue_init(&server->lingering);
    configure(server);
    server->loop = h2o_evloop_create();
    h2o_context_init(&server->context, server->loop, &server->config);
    h2o_timeout_init(server->loop, &server->retry, ACCEPT_RETRY_MS);
    h2o_timeout_init(server->loop, &server->linger, LINGER_MS);
    server->retry_entry.cb = on_retry;
    server->accept.ctx = &server->context;
    server->accept.hosts = server->config.hosts;
    *out = server;
    return MS_OK;
}

void http_run(struct http_server *server, int wait_ms)
{
    /* Only epoll_wait's EINTR makes it fail; the next turn does what this one did not. */
    (void)h2o_evloop_run(server->loop, wait_ms);
}

void http_drain(struct http_server *server)
{
    listeners_close(server);
    h2o_context_request_shutdown(&server->context);
}

void http_close_idle(struct http_server *server)
{
    for (struct queue_node *node = queue_first(&server->connections); node != NULL;
         node = queue_next(&server->connections, node)) {
        struct http_connection *connection = QUEUE_OWNER(node, struct http_connection, node);

        /* h2o then finds the end of input where it would wait for the next request. */
        (void)shutdown(h2o_socket_get_fd(connection->socket), SHUT_RD);
    }
}

size_t http_connections(const struct http_server *server)
{
    return server->connection_count;
}

size_t http_open_exchanges(const struct http_server *server)
{
    return server->open_exchanges;
}

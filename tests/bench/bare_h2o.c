/*
 * bare_h2o: the yardstick for reads: libh2o's event loop answering 128 constant bytes on every
 * path, with the headers that a GET of a key has, and nothing behind it.
 *
 * Usage: bare_h2o PORT (on 127.0.0.1); runs until killed.
 */
#define H2O_USE_LIBUV 0
#include <arpa/inet.h>
#include <h2o.h>
#include <h2o/http1.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODY_BYTES   128
#define ACCEPT_BATCH 16
#define BACKLOG      1024

struct bare {
    h2o_globalconf_t config;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
};

static int on_request(h2o_handler_t *self, h2o_req_t *request)
{
    static h2o_generator_t generator;
    h2o_iovec_t body;

    (void)self;
    body.base = h2o_mem_alloc_pool(&request->pool, BODY_BYTES);
    body.len = BODY_BYTES;
    memset(body.base, 'v', BODY_BYTES);
    request->res.status = 200;
    request->res.content_length = BODY_BYTES;
    h2o_add_header(&request->pool, &request->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("application/octet-stream"));
    h2o_add_header(&request->pool, &request->res.headers, H2O_TOKEN_ETAG, NULL,
                   H2O_STRLIT("\"1234567\""));
    h2o_start_response(request, &generator);
    h2o_send(request, &body, 1, H2O_SEND_STATE_FINAL);
    return 0;
}

static void on_accept(h2o_socket_t *listener, const char *error)
{
    struct bare *bare = listener->data;

    (void)error;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        h2o_socket_t *socket = h2o_evloop_socket_accept(listener);

        if (socket == NULL) {
            return;
        }
        h2o_accept(&bare->accept, socket);
    }
}

static int listen_on(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, BACKLOG) != 0) {
        perror("bare_h2o: listen");
        exit(1);
    }
    return fd;
}

int main(int argc, char *argv[])
{
    static struct bare bare;
    h2o_hostconf_t *host;
    h2o_socket_t *listener;
    h2o_loop_t *loop;

    if (argc != 2) {
        (void)fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 2;
    }
    h2o_config_init(&bare.config);
    bare.config.server_name = h2o_iovec_init(H2O_STRLIT("metastore"));
    host = h2o_config_register_host(&bare.config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_create_handler(&host->fallback_path, sizeof(h2o_handler_t))->on_req = on_request;
    loop = h2o_evloop_create();
    h2o_context_init(&bare.context, loop, &bare.config);
    bare.accept.ctx = &bare.context;
    bare.accept.hosts = bare.config.hosts;
    listener = h2o_evloop_socket_create(loop, listen_on(argv[1]), H2O_SOCKET_FLAG_DONT_READ);
    listener->data = &bare;
    h2o_socket_read_start(listener, on_accept);
    for (;;) {
        (void)h2o_evloop_run(loop, INT32_MAX);
    }
}

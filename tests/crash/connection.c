/*
 * connection: one keep-alive HTTP/1.1 connection over a blocking socket.
 */
#include "tests/crash/connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/support/check.h"

enum {
    ANSWER_DEADLINE_MS = 30000,
    REQUEST_BYTES = 4096
};

void connection_init(struct connection *connection, uint16_t port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    connection_init_at(connection, &address, ANSWER_DEADLINE_MS);
}

void connection_init_at(struct connection *connection, const struct sockaddr_in *address,
                        unsigned deadline_ms)
{
    connection->address = *address;
    connection->deadline_ms = deadline_ms;
    connection->fd = -1;
    connection->buffer = malloc(CONNECTION_BUFFER_BYTES);
    check_that(connection->buffer != NULL, "no memory for a connection");
}

static void disconnect(struct connection *connection)
{
    if (connection->fd >= 0) {
        (void)close(connection->fd);
        connection->fd = -1;
    }
}

void connection_fini(struct connection *connection)
{
    disconnect(connection);
    free(connection->buffer);
    connection->buffer = NULL;
}

static int ensure_connected(struct connection *connection)
{
    const struct timeval deadline = {.tv_sec = connection->deadline_ms / 1000,
                                     .tv_usec = connection->deadline_ms % 1000 * 1000};
    const int on = 1;

    if (connection->fd >= 0) {
        return 0;
    }
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check_that(connection->fd >= 0, "socket: %s", strerror(errno));
    (void)setsockopt(connection->fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
    (void)setsockopt(connection->fd, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof(deadline));
    (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(connection->fd, (const struct sockaddr *)&connection->address,
                sizeof(connection->address)) != 0) {
        int failure = errno;

        disconnect(connection);
        return failure;
    }
    return 0;
}

/* The value of a header in the zero-terminated head, or NULL. */
static const char *header_value(const char *head, const char *name)
{
    const char *at = strcasestr(head, name);

    return at != NULL ? at + strlen(name) + strspn(at + strlen(name), " ") : NULL;
}

/* Reads one answer; 0, or the errno of what went wrong (0-length read: ECONNRESET). */
static int read_answer(struct connection *connection, struct reply *reply)
{
    char *buffer = connection->buffer;
    size_t have = 0;
    size_t head_bytes = 0;
    size_t body_bytes = 0;

    for (;;) {
        ssize_t got;

        if (head_bytes == 0) {
            char *end;

            buffer[have] = '\0';
            end = strstr(buffer, "\r\n\r\n");
            if (end != NULL) {
                const char *value;

                end[2] = '\0';
                head_bytes = (size_t)(end - buffer) + 4;
                value = header_value(buffer, "\r\ncontent-length:");
                body_bytes = value != NULL ? strtoull(value, NULL, 10) : 0;
                check_that(value == NULL || head_bytes + body_bytes < CONNECTION_BUFFER_BYTES,
                           "an answer of %zu bytes", body_bytes);
                check_that(header_value(buffer, "\r\ntransfer-encoding:") == NULL,
                           "an answer without a length");
            }
        }
        if (head_bytes != 0 && have >= head_bytes + body_bytes) {
            break;
        }
        got = recv(connection->fd, buffer + have, CONNECTION_BUFFER_BYTES - 1 - have, 0);
        if (got <= 0) {
            return got == 0 ? ECONNRESET : errno;
        }
        have += (size_t)got;
    }

    reply->answered_ns = ms_clock_now().ns;
    check_that(sscanf(buffer, "HTTP/1.1 %d", &reply->status) == 1, "no HTTP answer: %.40s", buffer);
    reply->body = buffer + head_bytes;
    reply->body_bytes = body_bytes;
    buffer[head_bytes + body_bytes] = '\0';
    {
        const char *etag = header_value(buffer, "\r\netag:");
        const char *close_it = header_value(buffer, "\r\nconnection: close");

        reply->revision = etag != NULL && *etag == '"' ? strtoull(etag + 1, NULL, 10) : 0;
        reply->more = header_value(buffer, "\r\nx-metastore-more:") != NULL;
        if (close_it != NULL) {
            disconnect(connection);
        }
    }
    return 0;
}

void connection_send(struct connection *connection, const char *method, const char *path,
                     const char *headers, const char *body, struct reply *reply)
{
    char request[REQUEST_BYTES];
    int len_bytes;
    int failure;

    memset(reply, 0, sizeof(*reply));
    len_bytes = snprintf(request, sizeof(request),
                         "%s %s HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n%s\r\n%s", method,
                         path, strlen(body), headers, body);
    check_that(len_bytes > 0 && (size_t)len_bytes < sizeof(request), "request too long");
    failure = ensure_connected(connection);
    if (failure == 0) {
        reply->sent_ns = ms_clock_now().ns;
        if (send(connection->fd, request, (size_t)len_bytes, MSG_NOSIGNAL) != len_bytes) {
            failure = errno;
        }
    }
    if (failure == 0) {
        failure = read_answer(connection, reply);
    }
    if (failure != 0) {
        disconnect(connection);
        reply->status = 0;
        reply->errno_of_fail = failure;
    }
}

/*
 * connection: a plain HTTP/1.1 client that never sends a request twice.
 *
 * libcurl repeats a request by itself when a kept-alive connection turns out to be dead, which
 * would hide exactly what the crash test looks for.
 */
#ifndef METASTORE_TESTS_CRASH_CONNECTION_H
#define METASTORE_TESTS_CRASH_CONNECTION_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CONNECTION_BUFFER_BYTES = 4 * 1024 * 1024
};

struct connection {
    struct sockaddr_in address;
    unsigned deadline_ms; /* of each step of a request: connecting, sending, a part of the answer */
    int fd;               /* -1: not connected */
    char *buffer;
};

struct reply {
    int status;        /* 0: no answer; what became of the request is unknown */
    int errno_of_fail; /* with status 0 */
    uint64_t revision; /* of the ETag; 0: none */
    int more;          /* X-Metastore-More was there */
    const char *body;  /* zero-terminated, in the connection's buffer until the next request */
    size_t body_bytes;
    uint64_t sent_ns;     /* when the request had been sent */
    uint64_t answered_ns; /* when the answer was complete */
};

/* To a port of this machine, with a deadline that nothing healthy comes near. */
void connection_init(struct connection *connection, uint16_t port);
/* To any address, with a deadline. */
void connection_init_at(struct connection *connection, const struct sockaddr_in *address,
                        unsigned deadline_ms);
void connection_fini(struct connection *connection);

/*
 * Sends one request (headers: further lines, each ending in CR LF, or "") and reads its answer.
 * Connects first if need be. After an answer that did not come the connection is closed.
 */
void connection_send(struct connection *connection, const char *method, const char *path,
                     const char *headers, const char *body, struct reply *reply);

#endif

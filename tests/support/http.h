/*
 * http: requests to a node as a client makes them (libcurl), and raw connections for what no decent
 * client would send.
 */
#ifndef METASTORE_TESTS_SUPPORT_HTTP_H
#define METASTORE_TESTS_SUPPORT_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP_HEADER_BYTES = 256,
    HTTP_HEADERS_MAX = 32
};

struct http_client; /* one kept-alive connection */

struct http_response {
    int status; /* 0: no answer; error says why */
    char *body; /* body_bytes bytes and a zero; never NULL after a request */
    size_t body_bytes;
    size_t header_count;
    char headers[HTTP_HEADERS_MAX][HTTP_HEADER_BYTES]; /* "name: value", name in lower case */
    char error[256];
    int version; /* 11 or 20 */
};

struct http_request {
    const char *method; /* NULL: GET */
    const char *path;   /* with the query, sent as it is */
    const void *body;   /* NULL: none */
    size_t body_bytes;
    const char *headers[8]; /* "Name: value", NULL-terminated */
    long timeout_ms;        /* 0: 30 s */
};

/* base is "http://127.0.0.1:PORT". */
struct http_client *http_client_create(const char *base);
void http_client_destroy(struct http_client *client);

/* For https: trusts ca_file; shows cert_file and key_file unless they are NULL. */
void http_client_set_tls(struct http_client *client, const char *ca_file, const char *cert_file,
                         const char *key_file);
/* Offers HTTP/2 (over TLS by ALPN). */
void http_client_set_http2(struct http_client *client);

/*
 * Sends one request and waits for its answer. response is filled anew (it must be zeroed before its
 * first use; http_response_fini when done). Returns the status, 0 without an answer.
 */
int http_send(struct http_client *client, const struct http_request *request,
              struct http_response *response);
void http_response_fini(struct http_response *response);

/* The value of a header (name in lower case), or NULL. */
const char *http_header(const struct http_response *response, const char *name);

/* The revision in the ETag header; fails the test if there is none. */
uint64_t http_revision(const struct http_response *response);

/* Shorthands that return the status. value may be NULL (no body for PUT: an empty value). */
int http_put(struct http_client *client, const char *path, const char *value,
             struct http_response *response);
int http_get(struct http_client *client, const char *path, struct http_response *response);
int http_delete(struct http_client *client, const char *path, struct http_response *response);

/* A TCP connection to 127.0.0.1:port; fails the test if it is refused. */
int http_raw_connect(uint16_t port);
/* Sends as much as the far side takes; false if it closed first. */
bool http_raw_send(int fd, const void *data, size_t len_bytes);
/*
 * Reads until the far side closes, dst is full, or nothing came for idle_ms. Returns the number of
 * bytes (dst is zero-terminated); *closed tells whether it closed.
 */
size_t http_raw_read(int fd, char *dst, size_t dst_bytes, int idle_ms, bool *closed);
/* Sends text on a new connection, returns the status of the first answer (0: none) and closes. */
int http_raw_exchange(uint16_t port, const void *data, size_t len_bytes, char *dst,
                      size_t dst_bytes);

#endif

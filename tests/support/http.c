/*
 * http: libcurl and raw sockets as clients of a node.
 */
#include "tests/support/http.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/check.h"

enum {
    TIMEOUT_MS = 30000,
    RAW_TIMEOUT_MS = 20000
};

struct http_client {
    CURL *curl;
    char base[128];
};

struct http_client *http_client_create(const char *base)
{
    struct http_client *client = calloc(1, sizeof(*client));

    check_that(client != NULL, "no memory for a client");
    client->curl = curl_easy_init();
    check_that(client->curl != NULL, "curl_easy_init");
    (void)snprintf(client->base, sizeof(client->base), "%s", base);
    (void)curl_easy_setopt(client->curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(client->curl, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(client->curl, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(client->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    return client;
}

void http_client_destroy(struct http_client *client)
{
    if (client != NULL) {
        curl_easy_cleanup(client->curl);
        free(client);
    }
}

void http_client_set_tls(struct http_client *client, const char *ca_file, const char *cert_file,
                         const char *key_file)
{
    (void)curl_easy_setopt(client->curl, CURLOPT_CAINFO, ca_file);
    (void)curl_easy_setopt(client->curl, CURLOPT_SSLCERT, cert_file);
    (void)curl_easy_setopt(client->curl, CURLOPT_SSLKEY, key_file);
}

void http_client_set_http2(struct http_client *client)
{
    (void)curl_easy_setopt(client->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct http_response *response = ctx;
    size_t len_bytes = size * count;
    char *grown = realloc(response->body, response->body_bytes + len_bytes + 1);

    if (grown == NULL) {
        return 0;
    }
    memcpy(grown + response->body_bytes, data, len_bytes);
    response->body = grown;
    response->body_bytes += len_bytes;
    grown[response->body_bytes] = '\0';
    return len_bytes;
}

static size_t on_header(char *data, size_t size, size_t count, void *ctx)
{
    struct http_response *response = ctx;
    size_t len_bytes = size * count;
    size_t name_bytes = strcspn(data, ":\r\n");
    char *header;

    if (len_bytes > 5 && strncmp(data, "HTTP/", 5) == 0) {
        response->header_count = 0; /* the answer proper follows a 100 (Continue) */
        return len_bytes;
    }
    if (name_bytes >= len_bytes || data[name_bytes] != ':' ||
        response->header_count == HTTP_HEADERS_MAX) {
        return len_bytes;
    }
    header = response->headers[response->header_count++];
    (void)snprintf(header, HTTP_HEADER_BYTES, "%.*s", (int)len_bytes, data);
    header[strcspn(header, "\r\n")] = '\0';
    for (size_t i = 0; header[i] != '\0' && header[i] != ':'; i++) {
        header[i] = (char)tolower((unsigned char)header[i]);
    }
    return len_bytes;
}

/* What one request set and the next must not inherit. */
static void reset_request(CURL *curl)
{
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, NULL); /* makes it a POST: before HTTPGET */
    (void)curl_easy_setopt(curl, CURLOPT_NOBODY, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, NULL);
}

int http_send(struct http_client *client, const struct http_request *request,
              struct http_response *response)
{
    CURL *curl = client->curl;
    const char *method = request->method != NULL ? request->method : "GET";
    struct curl_slist *headers = NULL;
    char url[32768];
    char error[CURL_ERROR_SIZE] = "";
    long status = 0;
    long version = 0;
    CURLcode code;

    http_response_fini(response);
    response->body = calloc(1, 1);
    check_that(response->body != NULL, "no memory for an answer");
    check_that((size_t)snprintf(url, sizeof(url), "%s%s", client->base, request->path) <
                   sizeof(url),
               "URL too long");

    reset_request(curl);
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    if (strcmp(method, "HEAD") == 0) {
        (void)curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else if (request->body != NULL || strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_bytes);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
                               request->body != NULL ? request->body : "");
        headers = curl_slist_append(headers, "Content-Type:");
        headers = curl_slist_append(headers, "Expect:");
    }
    (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    for (size_t i = 0; i < 8 && request->headers[i] != NULL; i++) {
        headers = curl_slist_append(headers, request->headers[i]);
    }
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, response);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, response);
    (void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS,
                           request->timeout_ms != 0 ? request->timeout_ms : (long)TIMEOUT_MS);

    code = curl_easy_perform(curl);
    if (code == CURLE_OK) {
        (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        (void)curl_easy_getinfo(curl, CURLINFO_HTTP_VERSION, &version);
    } else {
        (void)snprintf(response->error, sizeof(response->error), "%s%s%s", curl_easy_strerror(code),
                       error[0] != '\0' ? ": " : "", error);
    }
    response->status = (int)status;
    response->version = version == CURL_HTTP_VERSION_2_0 ? 20 : 11;
    (void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, NULL);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    return response->status;
}

void http_response_fini(struct http_response *response)
{
    free(response->body);
    memset(response, 0, sizeof(*response));
}

const char *http_header(const struct http_response *response, const char *name)
{
    size_t name_bytes = strlen(name);

    for (size_t i = 0; i < response->header_count; i++) {
        const char *header = response->headers[i];

        if (strncmp(header, name, name_bytes) == 0 && header[name_bytes] == ':') {
            return header + name_bytes + 1 + strspn(header + name_bytes + 1, " ");
        }
    }
    return NULL;
}

uint64_t http_revision(const struct http_response *response)
{
    const char *etag = http_header(response, "etag");
    unsigned long long revision = 0;
    char end = '\0';

    check_that(etag != NULL && sscanf(etag, "\"%llu%c", &revision, &end) == 2 && end == '"',
               "no revision in ETag: %s (status %d)", etag != NULL ? etag : "none",
               response->status);
    return revision;
}

int http_put(struct http_client *client, const char *path, const char *value,
             struct http_response *response)
{
    const struct http_request request = {
        .method = "PUT",
        .path = path,
        .body = value != NULL ? value : "",
        .body_bytes = value != NULL ? strlen(value) : 0,
    };

    return http_send(client, &request, response);
}

int http_get(struct http_client *client, const char *path, struct http_response *response)
{
    return http_send(client, &(struct http_request){.path = path}, response);
}

int http_delete(struct http_client *client, const char *path, struct http_response *response)
{
    return http_send(client, &(struct http_request){.method = "DELETE", .path = path}, response);
}

/* ---- raw ----------------------------------------------------------------------------------- */

int http_raw_connect(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    check_that(fd >= 0, "socket: %s", strerror(errno));
    check_that(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0,
               "connect to port %u: %s", port, strerror(errno));
    return fd;
}

bool http_raw_send(int fd, const void *data, size_t len_bytes)
{
    const uint8_t *from = data;

    while (len_bytes > 0) {
        ssize_t sent = send(fd, from, len_bytes, MSG_NOSIGNAL);

        if (sent <= 0) {
            return false;
        }
        from += sent;
        len_bytes -= (size_t)sent;
    }
    return true;
}

size_t http_raw_read(int fd, char *dst, size_t dst_bytes, int idle_ms, bool *closed)
{
    size_t have = 0;

    *closed = false;
    while (have + 1 < dst_bytes) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        ssize_t got;

        if (poll(&wait, 1, idle_ms) <= 0) {
            break;
        }
        got = recv(fd, dst + have, dst_bytes - 1 - have, 0);
        if (got <= 0) {
            *closed = true;
            break;
        }
        have += (size_t)got;
    }
    dst[have] = '\0';
    return have;
}

int http_raw_exchange(uint16_t port, const void *data, size_t len_bytes, char *dst,
                      size_t dst_bytes)
{
    int fd = http_raw_connect(port);
    bool closed;
    int status = 0;

    /* A server may refuse before it has read all: what it said can still be read. */
    (void)http_raw_send(fd, data, len_bytes);
    (void)shutdown(fd, SHUT_WR);
    (void)http_raw_read(fd, dst, dst_bytes, RAW_TIMEOUT_MS, &closed);
    check_that(closed, "the server neither answered nor closed within %d ms", RAW_TIMEOUT_MS);
    (void)close(fd);
    (void)sscanf(dst, "HTTP/1.%*d %d", &status);
    return status;
}

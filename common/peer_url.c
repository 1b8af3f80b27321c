/*
 * peer_url: see peer_url.h.
 */
#include "common/peer_url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

#include "common/decimal.h"

#define SCHEME          "http://"
#define PORT_DIGITS_MAX 5
#define PORT_MAX        65535

/* The bytes of the host at text, brackets included; 0: none that could be one. */
static size_t host_bytes_of(const char *text)
{
    size_t len = 0;

    if (text[0] == '[') {
        len = 1 + strspn(text + 1, "0123456789abcdefABCDEF:.%");
        return len > 1 && text[len] == ']' ? len + 1 : 0;
    }
    while (isalnum((unsigned char)text[len]) || text[len] == '.' || text[len] == '-' ||
           text[len] == '_') {
        len++;
    }
    return len;
}

/* The port at text, which must end behind it. 0: none. */
static uint16_t port_of(const char *text)
{
    size_t len_bytes = strlen(text);
    uint64_t port;

    if (len_bytes > PORT_DIGITS_MAX || !ms_decimal_parse(text, len_bytes, &port) ||
        port > PORT_MAX) {
        return 0;
    }
    return (uint16_t)port;
}

int ms_peer_url_parse(const char *url, size_t url_bytes, struct ms_peer_url *out)
{
    struct ms_peer_url parsed = {.port = 0};
    const char *host;
    size_t host_bytes;
    bool in_brackets;

    if (url_bytes > 0 && url[url_bytes - 1] == '/') {
        url_bytes--;
    }
    if (url_bytes >= sizeof(parsed.text) || memchr(url, '\0', url_bytes) != NULL) {
        return MS_EINVAL;
    }
    memcpy(parsed.text, url, url_bytes);
    if (strncmp(parsed.text, SCHEME, strlen(SCHEME)) != 0) {
        return MS_EINVAL;
    }
    host = parsed.text + strlen(SCHEME);
    host_bytes = host_bytes_of(host);
    if (host_bytes == 0 || host[host_bytes] != ':') {
        return MS_EINVAL;
    }
    parsed.port = port_of(host + host_bytes + 1);
    if (parsed.port == 0) {
        return MS_EINVAL;
    }
    in_brackets = host[0] == '[';
    memcpy(parsed.host, host + in_brackets, host_bytes - 2 * (size_t)in_brackets);
    *out = parsed;
    return MS_OK;
}

bool ms_peer_url_is_loopback(const struct ms_peer_url *url)
{
    struct in6_addr v6;
    struct in_addr v4;

    if (inet_pton(AF_INET, url->host, &v4) == 1) {
        return ntohl(v4.s_addr) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
    }
    if (inet_pton(AF_INET6, url->host, &v6) == 1) {
        return IN6_IS_ADDR_LOOPBACK(&v6);
    }
    return strcasecmp(url->host, "localhost") == 0;
}

/*
 * peer_dial: see peer_dial.h.
 */
#include "raftd/peer_dial.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define PORT_TEXT_BYTES 8

/* ---- URLs and addresses ---- */

int peer_target_parse(const char *url, struct peer_target *out)
{
    struct peer_target target = {.is_literal = true};
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (ms_peer_url_parse(url, strlen(url), &target.url) != MS_OK) {
        return MS_EINVAL;
    }
    if (uv_ip4_addr(target.url.host, target.url.port, &v4) == 0) {
        memcpy(&target.address, &v4, sizeof(v4));
    } else if (uv_ip6_addr(target.url.host, target.url.port, &v6) == 0) {
        memcpy(&target.address, &v6, sizeof(v6));
    } else if (strchr(url, '[') != NULL) {
        return MS_EINVAL; /* brackets are for addresses only */
    } else {
        target.is_literal = false;
    }
    *out = target;
    return MS_OK;
}

bool peer_address_is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;

        return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;

        return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) ||
               (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) &&
                v6->sin6_addr.s6_addr[12] == IN_LOOPBACKNET);
    }
    return false;
}

void peer_address_text(const struct sockaddr *address, char text[PEER_ADDRESS_TEXT_BYTES])
{
    char host[INET6_ADDRSTRLEN] = "";

    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;

        (void)inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
        (void)snprintf(text, PEER_ADDRESS_TEXT_BYTES, "%s:%u", host, ntohs(v4->sin_port));
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;

        (void)inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
        (void)snprintf(text, PEER_ADDRESS_TEXT_BYTES, "[%s]:%u", host, ntohs(v6->sin6_port));
    } else {
        (void)snprintf(text, PEER_ADDRESS_TEXT_BYTES, "?");
    }
}

/* ---- dialling ---- */

static void on_connected(uv_connect_t *request, int status)
{
    struct peer_dial *dial = request->data;

    if (status != UV_ECANCELED) { /* else tcp is being closed */
        dial->done(dial, status == 0                 ? MS_OK
                         : status == UV_ECONNREFUSED ? MS_EUNAVAILABLE
                                                     : MS_EPEER);
    }
}

static int connect_to(struct peer_dial *dial, const struct sockaddr *address)
{
    peer_address_text(address, dial->address);
    if (dial->loopback_only && !peer_address_is_loopback(address)) {
        return MS_EPERM;
    }
    dial->connect.data = dial;
    return uv_tcp_connect(&dial->connect, dial->tcp, address, on_connected) == 0 ? MS_OK : MS_EPEER;
}

/* The address whose turn it is; where only loopback counts, the others are passed over. */
static const struct sockaddr *choose(const struct peer_dial *dial, const struct addrinfo *found)
{
    unsigned usable = 0;

    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        usable += !dial->loopback_only || peer_address_is_loopback(at->ai_addr);
    }
    if (usable == 0) {
        return found->ai_addr;
    }
    usable = dial->attempt % usable;
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        if (!dial->loopback_only || peer_address_is_loopback(at->ai_addr)) {
            if (usable == 0) {
                return at->ai_addr;
            }
            usable--;
        }
    }
    return found->ai_addr;
}

static void on_looked_up(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct peer_dial *dial = request->data;
    int rc;

    dial->looking_up = false;
    if (dial->given_up) {
        rc = MS_EAGAIN;
    } else if (status != 0) {
        rc = MS_ENOENT;
    } else {
        rc = connect_to(dial, choose(dial, found));
    }
    uv_freeaddrinfo(found); /* takes NULL, too */
    if (rc != MS_OK) {
        dial->done(dial, rc);
    }
}

int peer_dial_start(struct peer_dial *dial, uv_loop_t *loop, const struct peer_target *target)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    char port[PORT_TEXT_BYTES];

    if (target->is_literal) {
        return connect_to(dial, (const struct sockaddr *)&target->address);
    }
    (void)snprintf(port, sizeof(port), "%u", target->url.port);
    dial->lookup.data = dial;
    if (uv_getaddrinfo(loop, &dial->lookup, on_looked_up, target->url.host, port, &hints) != 0) {
        return MS_ENOMEM;
    }
    dial->looking_up = true;
    return MS_OK;
}

void peer_dial_give_up(struct peer_dial *dial)
{
    if (dial->looking_up) {
        dial->given_up = true;
        (void)uv_cancel((uv_req_t *)&dial->lookup); /* if it runs, its answer is awaited */
    }
}

/*
 * peer_dial: from a member's URL to a TCP connection.
 *
 * Names are looked up anew for each connection, so an address may move.
 */
#ifndef METASTORE_RAFTD_PEER_DIAL_H
#define METASTORE_RAFTD_PEER_DIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

#include "common/err.h"
#include "common/peer_url.h"

#define PEER_ADDRESS_TEXT_BYTES 64u

/* Where a URL leads. */
struct peer_target {
    struct ms_peer_url url;
    bool is_literal; /* address is known without looking up */
    struct sockaddr_storage address;
};

/* MS_EINVAL: not a peer URL. */
int peer_target_parse(const char *url, struct peer_target *out);

bool peer_address_is_loopback(const struct sockaddr *address);
/* ADDRESS:PORT; "?" if it is neither IPv4 nor IPv6. */
void peer_address_text(const struct sockaddr *address, char text[PEER_ADDRESS_TEXT_BYTES]);

/* One attempt. */
struct peer_dial {
    uv_getaddrinfo_t lookup;
    uv_connect_t connect;
    uv_tcp_t *tcp; /* borrowed, initialised and not connected */
    bool loopback_only;
    unsigned attempt; /* 0, 1, ...: a name with several addresses is tried at each in turn */
    bool looking_up;  /* lookup is under way; the struct must stay until it was answered */
    bool given_up;
    char address[PEER_ADDRESS_TEXT_BYTES]; /* that was dialled; empty before */
    /*
     * MS_OK: tcp is connected. MS_EUNAVAILABLE: the host says that nobody listens there; MS_EPEER:
     * it cannot be reached or does not answer; MS_ENOENT: no such host; MS_EPERM: not a
     * loopback address. MS_EAGAIN: given up; only now may the struct go. Never called by
     * peer_dial_start.
     */
    void (*done)(struct peer_dial *dial, int status);
};

/*
 * Starts; the other members are set, tcp included. MS_OK: done will be called, unless tcp is closed
 * before and nothing is looked up. Else as done's status, MS_ENOMEM.
 */
int peer_dial_start(struct peer_dial *dial, uv_loop_t *loop, const struct peer_target *target);

/* Gives up a look-up that is under way: done will say MS_EAGAIN. */
void peer_dial_give_up(struct peer_dial *dial);

#endif

/*
 * listeners: the listening sockets. They belong to the supervisor, so that connections queue in the
 * backlog while a worker is being replaced.
 */
#ifndef METASTORE_SUPERVISOR_LISTENERS_H
#define METASTORE_SUPERVISOR_LISTENERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/err.h"

struct listen_address {
    char host[MS_CONFIG_ADDR_BYTES]; /* name or number, without brackets */
    uint16_t port;
};

struct listeners {
    int api_fd;     /* owned */
    int peer_fd;    /* owned; -1 for a node that nobody can join, see listeners_open */
    bool activated; /* the API socket came from systemd */
};

/* Takes the brackets off an IPv6 address in brackets. MS_EINVAL: empty, too long or unbalanced. */
int listeners_parse_host(const char *text, char *host, size_t host_bytes, struct ms_err *err);

/*
 * A bound and listening TCP socket, non-blocking and O_CLOEXEC; the caller owns it. "::" takes IPv4
 * as well. MS_EBUSY: the port is in use; MS_EIO: any other refusal; MS_ENOENT: the name is unknown.
 */
int listeners_bind(const struct listen_address *address, int *out_fd, struct ms_err *err);

/*
 * The sockets of a configuration. Sockets passed by systemd (LISTEN_FDS) come first: one named
 * "peer" is the peers', another one the API's. Whatever is missing is bound here, the peers' at the
 * node's own URL. A node that is alone in --cluster may never meet a peer: if its port for them is
 * in use, that is logged, and the node runs without.
 */
int listeners_open(const struct ms_config *config, struct listeners *out, struct ms_err *err);
void listeners_close(struct listeners *listeners);

#endif

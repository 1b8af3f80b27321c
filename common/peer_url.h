/*
 * peer_url: the address of a member, "http://HOST:PORT", taken apart.
 *
 * HOST is a name, an IPv4 address, or an IPv6 address in brackets. One slash behind the port is
 * taken and not kept, so that two spellings of one URL are the same text afterwards. Nothing is
 * looked up here.
 */
#ifndef METASTORE_COMMON_PEER_URL_H
#define METASTORE_COMMON_PEER_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/status_page.h"

struct ms_peer_url {
    char text[MS_PEER_URL_BYTES]; /* the whole, without a slash at its end */
    char host[MS_PEER_URL_BYTES]; /* without brackets */
    uint16_t port;
};

/* url need not end in a zero. MS_EINVAL: not such a URL; *out is untouched. */
int ms_peer_url_parse(const char *url, size_t url_bytes, struct ms_peer_url *out);

/*
 * True if the host can only be this machine: 127.0.0.0/8, ::1 or "localhost". Other names may be
 * anything, whatever they stand for today.
 */
bool ms_peer_url_is_loopback(const struct ms_peer_url *url);

#endif

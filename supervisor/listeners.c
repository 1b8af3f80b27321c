/*
 * listeners: see listeners.h.
 */
#include "supervisor/listeners.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/log.h"
#include "common/peer_url.h"

#define BACKLOG       4096
#define PORT_TEXT_MAX 5

int listeners_parse_host(const char *text, char *host, size_t host_bytes, struct ms_err *err)
{
    size_t len = strlen(text);

    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (len == 0 || len >= host_bytes || memchr(text, '[', len) != NULL ||
        memchr(text, ']', len) != NULL) {
        return ms_err_set(err, MS_EINVAL, 0, "\"%s\" is not a host or address", text);
    }
    memmove(host, text, len);
    host[len] = '\0';
    return MS_OK;
}

static int bind_one(const struct addrinfo *found, const struct listen_address *address, int *out_fd,
                    struct ms_err *err)
{
    const int yes = 1;
    const int no = 0;
    int rc = MS_OK;
    int fd;

    fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                found->ai_protocol);
    if (fd < 0) {
        return ms_err_set(err, MS_EIO, errno, "socket for %s port %u", address->host,
                          address->port);
    }
    /* Connections of the last run may linger; another listener is refused all the same. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
        (found->ai_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no)) != 0)) {
        rc = ms_err_set(err, MS_EIO, errno, "options for %s port %u", address->host, address->port);
        goto out;
    }
    if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        rc = ms_err_set(err, errno == EADDRINUSE ? MS_EBUSY : MS_EIO, errno,
                        "cannot listen on %s port %u", address->host, address->port);
        goto out;
    }
    *out_fd = fd;
    fd = -1;

out:
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

int listeners_bind(const struct listen_address *address, int *out_fd, struct ms_err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char port[PORT_TEXT_MAX + 1];
    int rc;

    (void)snprintf(port, sizeof(port), "%u", address->port);
    rc = getaddrinfo(address->host, port, &hints, &found);
    if (rc != 0) {
        return ms_err_set(err, MS_ENOENT, 0, "address %s: %s", address->host, gai_strerror(rc));
    }
    rc = bind_one(found, address, out_fd, err);
    freeaddrinfo(found);
    return rc;
}

/* Checks one socket that systemd passed and files it under its name. */
static int adopt(int fd, const char *name, struct listeners *out, struct ms_err *err)
{
    bool for_peers = name != NULL && strcmp(name, "peer") == 0;
    int *slot = for_peers ? &out->peer_fd : &out->api_fd;
    int flags;

    if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0) {
        return ms_err_set(err, MS_EINVAL, 0,
                          "descriptor %d (\"%s\") from socket activation is no listening stream "
                          "socket",
                          fd, name != NULL ? name : "");
    }
    if (*slot >= 0) {
        return ms_err_set(err, MS_EINVAL, 0, "socket activation passed more than one %s socket",
                          for_peers ? "peer" : "API");
    }
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        return ms_err_set(err, MS_EIO, errno, "prepare descriptor %d from socket activation", fd);
    }
    *slot = fd;
    return MS_OK;
}

static int adopt_all(struct listeners *out, struct ms_err *err)
{
    char **names = NULL;
    int rc = MS_OK;
    int count;

    count = sd_listen_fds_with_names(1, &names);
    if (count < 0) {
        return ms_err_set(err, MS_EINVAL, -count, "socket activation");
    }
    for (int i = 0; i < count; i++) {
        if (rc == MS_OK) {
            rc = adopt(SD_LISTEN_FDS_START + i, names != NULL ? names[i] : NULL, out, err);
        }
        if (names != NULL) {
            free(names[i]);
        }
    }
    free(names);
    return rc;
}

static int open_api(const struct ms_config *config, struct listeners *out, struct ms_err *err)
{
    struct listen_address address;
    int rc;

    rc = listeners_parse_host(config->listen, address.host, sizeof(address.host), err);
    if (rc != MS_OK) {
        return rc;
    }
    if (config->port > UINT16_MAX) {
        return ms_err_set(err, MS_EINVAL, 0, "port %ju", (uintmax_t)config->port);
    }
    address.port = (uint16_t)config->port;
    return listeners_bind(&address, &out->api_fd, err);
}

static int open_peer(const struct ms_config *config, struct listeners *out, struct ms_err *err)
{
    struct listen_address address;
    struct ms_peer_url url;
    char text[MS_PEER_URL_BYTES];
    int rc;

    rc = ms_config_own_url(config, text, sizeof(text));
    if (rc == MS_OK) {
        rc = ms_peer_url_parse(text, strlen(text), &url);
    }
    if (rc != MS_OK) {
        return ms_err_set(err, rc, 0, "member %ju has no URL in --cluster", (uintmax_t)config->id);
    }
    _Static_assert(sizeof(address.host) >= sizeof(url.host), "room for every host");
    memcpy(address.host, url.host, sizeof(url.host));
    address.port = url.port;
    rc = listeners_bind(&address, &out->peer_fd, err);
    if (rc == MS_EBUSY && ms_config_cluster_size(config) == 1 && !config->join) {
        ms_log_err(MS_LOG_WARN, "no port for peers: members cannot be added", err);
        return MS_OK;
    }
    return rc;
}

int listeners_open(const struct ms_config *config, struct listeners *out, struct ms_err *err)
{
    struct listeners opened = {.api_fd = -1, .peer_fd = -1};
    int rc;

    rc = adopt_all(&opened, err);
    if (rc != MS_OK) {
        goto out;
    }
    opened.activated = opened.api_fd >= 0;
    if (!opened.activated) {
        rc = open_api(config, &opened, err);
        if (rc != MS_OK) {
            goto out;
        }
    }
    if (opened.peer_fd < 0) {
        rc = open_peer(config, &opened, err);
        if (rc != MS_OK) {
            goto out;
        }
    }
    *out = opened;
    return MS_OK;

out:
    listeners_close(&opened);
    return rc;
}

void listeners_close(struct listeners *listeners)
{
    if (listeners->api_fd >= 0) {
        (void)close(listeners->api_fd);
    }
    if (listeners->peer_fd >= 0) {
        (void)close(listeners->peer_fd);
    }
    listeners->api_fd = -1;
    listeners->peer_fd = -1;
}

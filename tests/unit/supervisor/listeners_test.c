/*
 * listeners: addresses, and sockets bound to them.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "supervisor/listeners.h"

static uint16_t port_of(int fd)
{
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);

    cr_assert_eq(getsockname(fd, (struct sockaddr *)&bound, &len), 0);
    return ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                             : ((struct sockaddr_in *)&bound)->sin_port);
}

Test(listeners, a_bound_port_is_refused_to_the_next)
{
    struct listen_address address = {.host = "127.0.0.1"};
    struct ms_err err = {0};
    int first = -1;
    int second = -1;

    cr_assert_eq(listeners_bind(&address, &first, &err), MS_OK, "%s", err.text);
    cr_assert(fcntl(first, F_GETFL) & O_NONBLOCK);
    cr_assert(fcntl(first, F_GETFD) & FD_CLOEXEC);
    address.port = port_of(first);
    cr_assert_eq(listeners_bind(&address, &second, &err), MS_EBUSY);
    cr_assert_not_null(strstr(err.text, "127.0.0.1"), "%s", err.text);
    cr_assert_eq(second, -1);
    cr_assert_eq(close(first), 0);
    cr_assert_eq(listeners_bind(&address, &second, &err), MS_OK, "free again: %s", err.text);
    (void)close(second);
}

Test(listeners, ipv6_any_takes_ipv4_as_well)
{
    struct listen_address address = {.host = "::"};
    struct sockaddr_in target = {.sin_family = AF_INET};
    struct ms_err err = {0};
    int listener = -1;
    int client;

    if (listeners_bind(&address, &listener, &err) != MS_OK) {
        cr_skip("no IPv6 here: %s", err.text);
    }
    target.sin_port = htons(port_of(listener));
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(client, (struct sockaddr *)&target, sizeof(target)), 0);
    (void)close(client);
    (void)close(listener);
}

Test(listeners, an_address_that_is_not_ours_is_refused)
{
    struct listen_address address = {.host = "192.0.2.1"};
    struct ms_err err = {0};
    int fd = -1;

    cr_assert_eq(listeners_bind(&address, &fd, &err), MS_EIO);
    cr_assert_not_null(strstr(err.text, "192.0.2.1"), "%s", err.text);
}

static void set_cluster(struct ms_config *config, const char *cluster)
{
    (void)snprintf(config->cluster, sizeof(config->cluster), "%s", cluster);
}

Test(listeners, peers_are_awaited_at_the_own_url)
{
    static struct ms_config config = {.id = 2, .port = 0, .listen = "127.0.0.1"};
    struct listen_address any = {.host = "127.0.0.1"};
    struct listeners listeners;
    struct ms_err err = {0};
    uint16_t port;
    char cluster[128];
    int fd = -1;

    cr_assert_eq(listeners_bind(&any, &fd, &err), MS_OK, "%s", err.text);
    port = port_of(fd);
    (void)close(fd);
    (void)snprintf(cluster, sizeof(cluster), "http://127.0.0.1:1,http://127.0.0.1:%u", port);
    set_cluster(&config, cluster);
    cr_assert_eq(listeners_open(&config, &listeners, &err), MS_OK, "%s", err.text);
    cr_assert_eq(port_of(listeners.peer_fd), port);
    listeners_close(&listeners);

    config.id = 77; /* joins: the last one is its own */
    config.join = 1;
    cr_assert_eq(listeners_open(&config, &listeners, &err), MS_OK, "%s", err.text);
    cr_assert_eq(port_of(listeners.peer_fd), port);
    listeners_close(&listeners);
}

/* Somebody who tries out two nodes that have nothing to do with each other meets no error. */
Test(listeners, a_node_that_is_alone_does_without_its_port_for_peers)
{
    static struct ms_config config = {.id = 1, .port = 0, .listen = "127.0.0.1"};
    struct listen_address any = {.host = "127.0.0.1"};
    struct listeners listeners;
    struct ms_err err = {0};
    char cluster[128];
    int fd = -1;

    cr_assert_eq(listeners_bind(&any, &fd, &err), MS_OK, "%s", err.text);
    (void)snprintf(cluster, sizeof(cluster), "http://127.0.0.1:%u", port_of(fd));
    set_cluster(&config, cluster);
    cr_assert_eq(listeners_open(&config, &listeners, &err), MS_OK, "%s", err.text);
    cr_assert_eq(listeners.peer_fd, -1);
    listeners_close(&listeners);

    config.join = 1;
    cr_assert_eq(listeners_open(&config, &listeners, &err), MS_EBUSY);
    config.join = 0;
    (void)strcat(cluster, ",http://127.0.0.1:1");
    set_cluster(&config, cluster);
    cr_assert_eq(listeners_open(&config, &listeners, &err), MS_EBUSY);
    (void)close(fd);
}

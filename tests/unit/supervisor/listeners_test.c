/*
 * listeners: addresses, and sockets bound to them.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "supervisor/listeners.h"

static void expect_url(const char *url, const char *host, uint16_t port)
{
    struct listen_address address;
    struct ms_err err = {0};

    cr_assert_eq(listeners_parse_url(url, &address, &err), MS_OK, "%s: %s", url, err.text);
    cr_assert_str_eq(address.host, host);
    cr_assert_eq(address.port, port);
}

Test(listeners, urls_give_host_and_port)
{
    expect_url("http://127.0.0.1:9021", "127.0.0.1", 9021);
    expect_url("https://db-1.example:1", "db-1.example", 1);
    expect_url("http://[::1]:65535", "::1", 65535);
    expect_url("http://[fe80::1%eth0]:12379", "fe80::1%eth0", 12379);
}

Test(listeners, malformed_urls_are_refused)
{
    static const char *const urls[] = {
        "",
        "127.0.0.1:9021",
        "ftp://127.0.0.1:9021",
        "http://",
        "http://:9021",
        "http://127.0.0.1",
        "http://127.0.0.1:",
        "http://127.0.0.1:0",
        "http://127.0.0.1:65536",
        "http://127.0.0.1:999999999999",
        "http://127.0.0.1:-1",
        "http://127.0.0.1:+1",
        "http://127.0.0.1:90 ",
        "http://127.0.0.1:90/path",
        "http://::1:9021",
        "http://[::1]",
        "http://[::1:9021",
        "http://::1]:9021",
        "http://[]:9021",
    };

    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct listen_address address = {.port = 7};
        struct ms_err err = {0};

        cr_assert_eq(listeners_parse_url(urls[i], &address, &err), MS_EINVAL, "%s", urls[i]);
        cr_assert_eq(address.port, 7, "%s changed the result", urls[i]);
        cr_assert_neq(err.text[0], '\0');
    }
}

Test(listeners, a_host_that_is_too_long_is_refused)
{
    char url[MS_CONFIG_ADDR_BYTES * 2] = "http://";
    struct listen_address address;

    memset(url + 7, 'a', sizeof(url) - 8);
    memcpy(url + sizeof(url) - 6, ":9021", 6);
    cr_assert_eq(listeners_parse_url(url, &address, NULL), MS_EINVAL);
}

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

/*
 * peer_url: what is an address of a member, and which of them are this machine.
 */
#include "common/peer_url.h"

#include <criterion/criterion.h>
#include <string.h>

static int parse(const char *url, struct ms_peer_url *out)
{
    return ms_peer_url_parse(url, strlen(url), out);
}

Test(peer_url, is_taken_apart)
{
    static const struct {
        const char *url;
        const char *host;
        uint16_t port;
    } rows[] = {
        {"http://127.0.0.1:9021", "127.0.0.1", 9021},
        {"http://[::1]:1", "::1", 1},
        {"http://[fe80::1%2]:65535", "fe80::1%2", 65535},
        {"http://node-1.example_x.org:080", "node-1.example_x.org", 80},
    };
    struct ms_peer_url url;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cr_assert_eq(parse(rows[i].url, &url), MS_OK, "%s", rows[i].url);
        cr_assert_str_eq(url.text, rows[i].url);
        cr_assert_str_eq(url.host, rows[i].host);
        cr_assert_eq(url.port, rows[i].port);
    }
}

Test(peer_url, a_slash_at_the_end_is_not_kept)
{
    struct ms_peer_url url;

    cr_assert_eq(parse("http://a:1/", &url), MS_OK);
    cr_assert_str_eq(url.text, "http://a:1");
    cr_assert_eq(parse("http://a:1//", &url), MS_EINVAL);
}

Test(peer_url, anything_else_is_refused_and_changes_nothing)
{
    static const char *const bad[] = {
        "",
        "/",
        "http://",
        "a:1",
        "https://a:1",
        "HTTP://a:1",
        "http://a",
        "http://a:",
        "http://:1",
        "http://a:0",
        "http://a:65536",
        "http://a:000001",
        "http://a:-1",
        "http://a:1/path",
        "http://a:1 ",
        " http://a:1",
        "http://a b:1",
        "http://user@a:1",
        "http://::1:1",
        "http://[]:1",
        "http://[::1:1",
        "http://[::1]1",
        "http://a:1,http://b:1",
    };
    struct ms_peer_url url = {.port = 7};
    char long_url[MS_PEER_URL_BYTES + 16];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(parse(bad[i], &url), MS_EINVAL, "%s", bad[i]);
    }
    memset(long_url, 'a', sizeof(long_url));
    memcpy(long_url, "http://", 7);
    memcpy(long_url + MS_PEER_URL_BYTES - 2, ":1", 2);
    cr_assert_eq(ms_peer_url_parse(long_url, MS_PEER_URL_BYTES, &url), MS_EINVAL);
    cr_assert_eq(ms_peer_url_parse("http://a:1\0x", 12, &url), MS_EINVAL);
    cr_assert_eq(url.port, 7);
    memcpy(long_url + MS_PEER_URL_BYTES - 3, ":1", 2);
    cr_assert_eq(ms_peer_url_parse(long_url, MS_PEER_URL_BYTES - 1, &url), MS_OK);
}

Test(peer_url, loopback_is_what_can_be_nothing_else)
{
    static const struct {
        const char *url;
        bool loopback;
    } rows[] = {
        {"http://127.0.0.1:1", true},    {"http://127.255.3.4:1", true},
        {"http://[::1]:1", true},        {"http://localhost:1", true},
        {"http://LocalHost:1", true},    {"http://128.0.0.1:1", false},
        {"http://0.0.0.0:1", false},     {"http://[::]:1", false},
        {"http://10.0.0.1:1", false},    {"http://localhost.example.org:1", false},
        {"http://127.0.0.1.x:1", false}, {"http://[fe80::1]:1", false},
    };
    struct ms_peer_url url;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cr_assert_eq(parse(rows[i].url, &url), MS_OK, "%s", rows[i].url);
        cr_assert_eq(ms_peer_url_is_loopback(&url), rows[i].loopback, "%s", rows[i].url);
    }
}

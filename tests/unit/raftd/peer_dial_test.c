/*
 * From URLs to addresses.
 */
#include "raftd/peer_dial.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>

static struct peer_target parse(const char *url)
{
    struct peer_target target;

    cr_assert_eq(peer_target_parse(url, &target), MS_OK, "%s", url);
    return target;
}

Test(peer_dial, addresses_and_names_are_understood)
{
    struct peer_target target = parse("http://127.0.0.1:9021");
    char text[PEER_ADDRESS_TEXT_BYTES];

    cr_assert(target.is_literal);
    peer_address_text((const struct sockaddr *)&target.address, text);
    cr_assert_str_eq(text, "127.0.0.1:9021");

    target = parse("http://[::1]:1/");
    cr_assert(target.is_literal);
    peer_address_text((const struct sockaddr *)&target.address, text);
    cr_assert_str_eq(text, "[::1]:1");

    target = parse("http://node-1.example:65535/");
    cr_assert_not(target.is_literal);
    cr_assert_str_eq(target.url.host, "node-1.example");
    cr_assert_eq(target.url.port, 65535);
}

Test(peer_dial, everything_else_is_refused)
{
    static const char *const urls[] = {
        "",
        "https://127.0.0.1:9021",
        "http://127.0.0.1",
        "http://127.0.0.1:0",
        "http://[::1:9021",
        "http://[1.2]:9021",
        "http://[::1%]x:9021",
        "http://::1:9021",
    };

    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct peer_target target = {.is_literal = true, .url.port = 7};

        cr_assert_eq(peer_target_parse(urls[i], &target), MS_EINVAL, "%s", urls[i]);
        cr_assert_eq(target.url.port, 7, "an error must leave *out alone");
    }
}

Test(peer_dial, loopback_is_told_from_the_rest)
{
    static const char *const inside[] = {"http://127.0.0.1:1", "http://127.8.9.10:1",
                                         "http://[::1]:1", "http://[::ffff:127.0.0.1]:1"};
    static const char *const outside[] = {"http://0.0.0.0:1",   "http://10.0.0.1:1",
                                          "http://128.0.0.1:1", "http://[::]:1",
                                          "http://[fe80::1]:1", "http://[::ffff:10.0.0.1]:1"};

    for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
        struct peer_target target = parse(inside[i]);

        cr_assert(peer_address_is_loopback((const struct sockaddr *)&target.address), "%s",
                  inside[i]);
    }
    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        struct peer_target target = parse(outside[i]);

        cr_assert_not(peer_address_is_loopback((const struct sockaddr *)&target.address), "%s",
                      outside[i]);
    }
}

struct attempt {
    struct peer_dial dial; /* must be first */
    unsigned answers;
    int status;
};

static void on_done(struct peer_dial *dial, int status)
{
    struct attempt *attempt = (struct attempt *)dial;

    attempt->answers++;
    attempt->status = status;
}

static int dial(struct attempt *attempt, const char *url, bool give_up)
{
    struct peer_target target = parse(url);
    uv_loop_t loop;
    uv_tcp_t tcp;
    int rc;

    *attempt = (struct attempt){.dial = {.tcp = &tcp, .loopback_only = true, .done = on_done}};
    cr_assert_eq(uv_loop_init(&loop), 0);
    cr_assert_eq(uv_tcp_init(&loop, &tcp), 0);
    rc = peer_dial_start(&attempt->dial, &loop, &target);
    if (give_up) {
        peer_dial_give_up(&attempt->dial);
    }
    while (rc == MS_OK && attempt->answers == 0) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&tcp, NULL);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(&loop), 0);
    return rc != MS_OK ? rc : attempt->status;
}

Test(peer_dial, says_what_came_of_it)
{
    struct attempt attempt;

    cr_assert_eq(dial(&attempt, "http://127.0.0.1:1", false), MS_EUNAVAILABLE);
    cr_assert_eq(dial(&attempt, "http://192.0.2.1:1", false), MS_EPERM);
    cr_assert_eq(attempt.answers, 0, "never from within the call");
    cr_assert_eq(dial(&attempt, "http://localhost:1", false), MS_EUNAVAILABLE);
    cr_assert_eq(dial(&attempt, "http://localhost:1", true), MS_EAGAIN);
}

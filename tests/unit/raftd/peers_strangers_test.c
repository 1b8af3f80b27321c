/*
 * Whatever comes in on the peer port from whom it should not: it costs its sender the connection,
 * and nobody anything else.
 */
#include "tests/unit/raftd/peers_fixture.h"

#include <errno.h>
#include <fcntl.h>

#include "common/le.h"
#include "raftd/peer_frame.h"
#include "raftd/peer_handshake.h"
#include "tests/seed.h"

/* ---- a stranger: a bare socket ---- */

static int stranger_connect(uint16_t port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void stranger_send(int fd, const void *data, size_t len_bytes)
{
    cr_assert_eq(send(fd, data, len_bytes, MSG_NOSIGNAL), (ssize_t)len_bytes);
}

/* Whether the node has closed the connection; what it said is dropped. */
static bool stranger_is_cut(int fd)
{
    uint8_t bytes[4096];
    ssize_t got;

    do {
        got = recv(fd, bytes, sizeof(bytes), 0);
    } while (got > 0);
    return got == 0 || errno != EAGAIN;
}

static void stranger_send_opening(int fd)
{
    struct peer_opening opening;

    peer_handshake_open(false, &opening);
    stranger_send(fd, opening.bytes, sizeof(opening.bytes));
}

static void stranger_send_head(int fd, uint8_t type, uint32_t len_bytes)
{
    uint8_t head[PEER_FRAME_HEAD_BYTES] = {0};

    ms_le_put_u32(head, len_bytes);
    head[4] = type;
    stranger_send(fd, head, sizeof(head));
}

/* Introduces itself as member id, on a node without a key. */
static void stranger_pose_as(int fd, node_id id, enum peer_channel channel)
{
    const struct peers_hello hello = {
        .cluster_id = 7, .from = id, .to = 1, .data_id = 100 + id, .conf_index = 1};
    uint8_t bytes[PEER_HANDSHAKE_HELLO_BYTES];

    stranger_send_opening(fd);
    peer_handshake_put_hello(&hello, channel, bytes);
    stranger_send_head(fd, PEER_FRAME_HELLO, sizeof(bytes));
    stranger_send(fd, bytes, sizeof(bytes));
}

static struct peers_stats stats_of(struct network *network, node_id id)
{
    struct peers_stats stats;

    peers_stats(network_node(network, id)->peers, &stats);
    return stats;
}

/* The connection between the two nodes has seen nothing of it. */
static void check_unharmed(struct network *network)
{
    size_t before = network_node(network, 1)->message_count;

    cr_assert_eq(network_node(network, 1)->disconnected[2], 0);
    cr_assert_eq(network_node(network, 2)->disconnected[1], 0);
    cr_assert_eq(network_send_beat(network, 2, 1, 1), MS_OK);
    peers_flush(network_node(network, 2)->peers);
    network_until(network, network_node(network, 1)->message_count == before + 1);
}

/* ---- garbage ---- */

static void check_garbage(bool has_key, const void *data, size_t len_bytes)
{
    struct network *network = network_create(has_key, 2);
    int fd = stranger_connect(network_node(network, 1)->port);

    stranger_send(fd, data, len_bytes);
    network_until(network, stranger_is_cut(fd));
    cr_assert_eq(stats_of(network, 1).garbage, 1);
    check_unharmed(network);
    (void)close(fd);
    network_destroy(network);
}

static const char http[] = "GET / HTTP/1.1\r\nHost: somebody\r\nAccept: everything\r\n\r\n";

Test(peers_strangers, another_protocol_is_cut)
{
    check_garbage(false, http, sizeof(http));
}

Test(peers_strangers, another_protocol_is_cut_with_a_key)
{
    check_garbage(true, http, sizeof(http));
}

Test(peers_strangers, random_bytes_are_cut)
{
    uint64_t random = test_seed("peers_strangers");
    struct network *network = network_create(true, 2);

    for (unsigned round = 0; round < 50; round++) {
        int fd = stranger_connect(network_node(network, 1)->port);
        uint8_t bytes[200];

        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)test_random(&random);
        }
        /* Some begin well. */
        if (round % 2 == 0) {
            struct peer_opening opening;

            peer_handshake_open(true, &opening);
            memcpy(bytes, opening.bytes, sizeof(opening.bytes));
        }
        stranger_send(fd, bytes, sizeof(bytes));
        network_until(network, stranger_is_cut(fd));
        (void)close(fd);
    }
    cr_assert_eq(stats_of(network, 1).garbage + stats_of(network, 1).strangers, 50);
    check_unharmed(network);
    network_destroy(network);
}

Test(peers_strangers, a_frame_out_of_turn_is_cut)
{
    static const uint8_t types[] = {
        0, PEER_FRAME_WELCOME, PEER_FRAME_PING, PEER_FRAME_MESSAGE, PEER_FRAME_OFFER, 14, 255};

    for (size_t i = 0; i < sizeof(types); i++) {
        struct network *network = network_create(false, 2);
        int fd = stranger_connect(network_node(network, 1)->port);

        stranger_send_opening(fd);
        stranger_send_head(fd, types[i], 0);
        network_until(network, stranger_is_cut(fd));
        cr_assert_eq(stats_of(network, 1).garbage, 1);
        check_unharmed(network);
        (void)close(fd);
        network_destroy(network);
    }
}

/* The length is refused before anything is allocated or read. */
static void check_oversized(enum peer_channel channel, uint8_t type, uint32_t len_bytes)
{
    struct network *network = network_create_idle(false);
    struct fixture_node *one = network_node(network, 1);
    int fd;

    network_start(network, 1);
    fd = stranger_connect(one->port);
    stranger_pose_as(fd, 2, channel);
    stranger_send_head(fd, type, len_bytes);
    network_until(network, stranger_is_cut(fd));
    cr_assert_eq(one->judged[2], 1);
    cr_assert_eq(stats_of(network, 1).garbage, 1);
    (void)close(fd);
    network_destroy(network);
}

Test(peers_strangers, an_oversized_message_is_cut)
{
    check_oversized(PEER_CHANNEL_MESSAGES, PEER_FRAME_MESSAGE, PEERS_MESSAGE_BYTES_MAX + 1);
}

Test(peers_strangers, an_oversized_note_is_cut)
{
    check_oversized(PEER_CHANNEL_MESSAGES, PEER_FRAME_NOTE, 4 + PEERS_NOTE_BYTES_MAX + 1);
}

Test(peers_strangers, an_oversized_offer_is_cut)
{
    check_oversized(PEER_CHANNEL_SNAPSHOT, PEER_FRAME_OFFER, 1000000);
}

Test(peers_strangers, data_without_an_offer_is_cut)
{
    check_oversized(PEER_CHANNEL_SNAPSHOT, PEER_FRAME_DATA, 9);
}

Test(peers_strangers, a_message_in_anothers_name_is_cut)
{
    struct network *network = network_create_idle(false);
    struct fixture_node *one = network_node(network, 1);
    uint8_t message[88] = {RAFT_MSG_HEARTBEAT};
    int fd;

    network_start(network, 1);
    fd = stranger_connect(one->port);
    stranger_pose_as(fd, 2, PEER_CHANNEL_MESSAGES);
    message[8] = 2;
    stranger_send_head(fd, PEER_FRAME_MESSAGE, sizeof(message));
    stranger_send(fd, message, sizeof(message));
    network_until(network, one->message_count == 1);
    message[8] = 3;
    stranger_send_head(fd, PEER_FRAME_MESSAGE, sizeof(message));
    stranger_send(fd, message, sizeof(message));
    network_until(network, stranger_is_cut(fd));
    cr_assert_eq(one->message_count, 1);
    cr_assert_eq(stats_of(network, 1).garbage, 1);
    (void)close(fd);
    network_destroy(network);
}

Test(peers_strangers, a_truncated_message_is_dropped)
{
    struct network *network = network_create_idle(false);
    struct fixture_node *one = network_node(network, 1);
    uint8_t message[88] = {RAFT_MSG_HEARTBEAT};
    int fd;

    network_start(network, 1);
    fd = stranger_connect(one->port);
    stranger_pose_as(fd, 2, PEER_CHANNEL_MESSAGES);
    message[8] = 2;
    stranger_send_head(fd, PEER_FRAME_MESSAGE, sizeof(message));
    stranger_send(fd, message, sizeof(message) - 1);
    network_run_ms(network, 20);
    (void)close(fd);
    network_run_ms(network, 20);
    cr_assert_eq(one->message_count, 0);
    network_destroy(network);
}

/* ---- who keeps connections for nothing ---- */

Test(peers_strangers, who_says_nothing_is_cut)
{
    struct network *network = network_create(true, 2);
    int fd = stranger_connect(network_node(network, 1)->port);

    network_until(network, stranger_is_cut(fd));
    cr_assert_eq(stats_of(network, 1).strangers, 1);
    check_unharmed(network);
    (void)close(fd);
    network_destroy(network);
}

Test(peers_strangers, who_stops_talking_is_cut)
{
    struct network *network = network_create_idle(false);
    struct fixture_node *one = network_node(network, 1);
    int fd;

    network_start(network, 1);
    fd = stranger_connect(one->port);
    stranger_pose_as(fd, 2, PEER_CHANNEL_MESSAGES);
    network_until(network, one->judged[2] == 1);
    network_until(network, stranger_is_cut(fd));
    (void)close(fd);
    network_destroy(network);
}

Test(peers_strangers, who_asks_without_listening_is_cut)
{
    struct network *network = network_create_idle(false);
    struct fixture_node *one = network_node(network, 1);
    uint8_t pings[8 * 1024] = {0};
    const int small = 4096;
    size_t rounds = 0;
    int fd;

    network_start(network, 1);
    fd = stranger_connect(one->port);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    stranger_pose_as(fd, 2, PEER_CHANNEL_MESSAGES);
    for (size_t i = 0; i < sizeof(pings); i += PEER_FRAME_HEAD_BYTES) {
        pings[i + 4] = PEER_FRAME_PING;
    }
    while (stats_of(network, 1).garbage == 0) {
        (void)send(fd, pings, sizeof(pings), MSG_NOSIGNAL); /* whole pings or nothing, mostly */
        (void)uv_run(&network->loop, UV_RUN_NOWAIT);
        cr_assert_lt(++rounds, 100000);
    }
    (void)close(fd);
    network_destroy(network);
}

Test(peers_strangers, a_crowd_of_strangers_keeps_no_member_out)
{
    enum {
        CROWD = 200
    };
    struct network *network = network_create_idle(true);
    int fds[CROWD];

    network_start(network, 1);
    network_start(network, 2);
    for (size_t i = 0; i < CROWD; i++) {
        fds[i] = stranger_connect(network_node(network, 1)->port);
        (void)uv_run(&network->loop, UV_RUN_NOWAIT);
    }
    cr_assert_geq(stats_of(network, 1).strangers, CROWD / 2, "only so many may wait");
    network_introduce(network, 1, 2);
    network_introduce(network, 2, 2);
    network_until(network, network_linked(network, 1, 2));
    for (size_t i = 0; i < CROWD; i++) {
        (void)close(fds[i]);
    }
    network_destroy(network);
}

/* The newest connection of a peer counts: the other may be a ghost of its former life. */
Test(peers_strangers, a_second_connection_of_a_peer_replaces_the_first)
{
    struct network *network = network_create_idle(false);
    struct fixture_node *one = network_node(network, 1);
    int first;
    int second;

    network_start(network, 1);
    first = stranger_connect(one->port);
    stranger_pose_as(first, 2, PEER_CHANNEL_MESSAGES);
    network_until(network, one->judged[2] == 1);
    second = stranger_connect(one->port);
    stranger_pose_as(second, 2, PEER_CHANNEL_MESSAGES);
    network_until(network, one->judged[2] == 2);
    network_until(network, stranger_is_cut(first));
    cr_assert_not(stranger_is_cut(second));
    (void)close(first);
    (void)close(second);
    network_destroy(network);
}

/* ---- who sits in between ---- */

#define WIRE_BYTES_MAX 65536

/* Passes on what node 1 and node 2 say to each other, keeps it, and may change it. */
struct wiretap {
    uv_poll_t listener;
    uv_poll_t sides[2]; /* 0: who dialled, 1: node 2 */
    int listen_fd;
    int fds[2];
    uint16_t port;
    uint16_t target_port;
    uint8_t heard[WIRE_BYTES_MAX]; /* from who dialled */
    size_t heard_bytes;
    uint64_t pause_ms; /* between two pieces from who dialled; 0: none */
    uv_timer_t pause;
    size_t flip_at; /* this byte arrives changed; SIZE_MAX: none */
    bool open;
};

static void wiretap_cut(struct wiretap *tap)
{
    for (size_t i = 0; tap->open && i < 2; i++) {
        (void)uv_poll_stop(&tap->sides[i]);
        uv_close((uv_handle_t *)&tap->sides[i], NULL);
        (void)close(tap->fds[i]);
    }
    tap->open = false;
}

static void wiretap_on_bytes(uv_poll_t *handle, int status, int events);

static void wiretap_on_pause(uv_timer_t *timer)
{
    struct wiretap *tap = timer->data;

    if (tap->open) {
        (void)uv_poll_start(&tap->sides[0], UV_READABLE, wiretap_on_bytes);
    }
}

static void wiretap_on_bytes(uv_poll_t *handle, int status, int events)
{
    struct wiretap *tap = handle->data;
    size_t side = handle == &tap->sides[0] ? 0 : 1;
    uint8_t bytes[4096];
    ssize_t got = recv(tap->fds[side], bytes, sizeof(bytes), 0);

    (void)status;
    (void)events;
    if (got < 0 && errno == EAGAIN) {
        return;
    }
    if (got <= 0) {
        wiretap_cut(tap);
        return;
    }
    if (side == 0 && tap->pause_ms > 0) {
        (void)uv_poll_stop(handle);
        (void)uv_timer_start(&tap->pause, wiretap_on_pause, tap->pause_ms, 0);
    } else if (side == 0) {
        cr_assert_leq(tap->heard_bytes + (size_t)got, (size_t)WIRE_BYTES_MAX);
        memcpy(tap->heard + tap->heard_bytes, bytes, (size_t)got);
        if (tap->flip_at >= tap->heard_bytes && tap->flip_at < tap->heard_bytes + (size_t)got) {
            bytes[tap->flip_at - tap->heard_bytes] ^= 1;
        }
        tap->heard_bytes += (size_t)got;
    }
    if (send(tap->fds[1 - side], bytes, (size_t)got, MSG_NOSIGNAL) != got) {
        wiretap_cut(tap);
    }
}

static void wiretap_on_call(uv_poll_t *handle, int status, int events)
{
    struct wiretap *tap = handle->data;
    int fd = accept4(tap->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    (void)status;
    (void)events;
    if (fd < 0 || tap->open || tap->target_port == 0) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return;
    }
    tap->open = true;
    tap->heard_bytes = 0;
    tap->fds[0] = fd;
    tap->fds[1] = stranger_connect(tap->target_port);
    for (size_t i = 0; i < 2; i++) {
        cr_assert_eq(uv_poll_init(handle->loop, &tap->sides[i], tap->fds[i]), 0);
        tap->sides[i].data = tap;
        cr_assert_eq(uv_poll_start(&tap->sides[i], UV_READABLE, wiretap_on_bytes), 0);
    }
}

/* Two nodes with a key; node 1 reaches node 2 only through the tap. */
static struct network *wiretap_create(struct wiretap *tap)
{
    struct network *network = network_create_idle(true);

    *tap = (struct wiretap){.flip_at = SIZE_MAX};
    tap->listen_fd = fixture_listen(&tap->port);
    cr_assert_eq(uv_poll_init(&network->loop, &tap->listener, tap->listen_fd), 0);
    tap->listener.data = tap;
    cr_assert_eq(uv_poll_start(&tap->listener, UV_READABLE, wiretap_on_call), 0);
    cr_assert_eq(uv_timer_init(&network->loop, &tap->pause), 0);
    tap->pause.data = tap;
    network_start(network, 1);
    network_start(network, 2);
    tap->target_port = network_node(network, 2)->port;
    return network;
}

static void wiretap_begin(struct wiretap *tap, struct network *network)
{
    struct peers_member member = {.id = 2};
    struct ms_err err;

    (void)snprintf(member.url, sizeof(member.url), "http://127.0.0.1:%u", tap->port);
    cr_assert_eq(peers_set_members(network_node(network, 1)->peers, &member, 1, &err), MS_OK);
}

static void wiretap_destroy(struct wiretap *tap, struct network *network)
{
    wiretap_cut(tap);
    uv_close((uv_handle_t *)&tap->listener, NULL);
    uv_close((uv_handle_t *)&tap->pause, NULL);
    (void)close(tap->listen_fd);
    network_destroy(network);
}

Test(peers_strangers, a_recorded_connection_cannot_be_played_again)
{
    struct wiretap tap;
    struct network *network = wiretap_create(&tap);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *two = network_node(network, 2);
    int fd;

    wiretap_begin(&tap, network);
    network_until(network, peers_is_connected(one->peers, 2));
    cr_assert_eq(network_send_beat(network, 1, 2, 1), MS_OK);
    peers_flush(one->peers);
    network_until(network, two->message_count == 1);

    fd = stranger_connect(two->port);
    stranger_send(fd, tap.heard, tap.heard_bytes);
    network_until(network, stranger_is_cut(fd));
    cr_assert_eq(stats_of(network, 2).strangers, 1);
    cr_assert_eq(two->judged[1], 1);
    cr_assert_eq(two->message_count, 1);
    cr_assert(peers_is_connected(one->peers, 2));
    (void)close(fd);
    wiretap_destroy(&tap, network);
}

/* Every single bit counts, wherever it is. */
Test(peers_strangers, a_changed_byte_ends_the_connection)
{
    size_t length = 0;
    size_t flips = 0;

    for (size_t at = 0; at == 0 || at < length; at += 1 + at / 40) {
        struct wiretap tap;
        struct network *network = wiretap_create(&tap);
        struct fixture_node *one = network_node(network, 1);
        struct fixture_node *two = network_node(network, 2);
        bool first = length == 0;

        tap.flip_at = first ? SIZE_MAX : at;
        wiretap_begin(&tap, network);
        network_until(network, one->connected[2] == 1 || (tap.heard_bytes > 0 && !tap.open));
        if (one->connected[2] == 1) {
            (void)network_send_beat(network, 1, 2, 1);
            peers_flush(one->peers);
            network_until(network, two->message_count == 1 || !tap.open);
        }
        if (first) {
            cr_assert_eq(two->message_count, 1, "unchanged, it must arrive");
            length = tap.heard_bytes;
            at = 0;
        } else {
            cr_assert_eq(two->message_count, 0, "byte %zu was changed", at);
            cr_assert_eq(stats_of(network, 2).strangers + stats_of(network, 2).garbage, 1);
            flips++;
        }
        wiretap_destroy(&tap, network);
    }
    cr_assert_gt(flips, 20);
}

Test(peers_strangers, nothing_readable_is_on_the_wire)
{
    struct wiretap tap;
    struct network *network = wiretap_create(&tap);
    struct fixture_node *one = network_node(network, 1);

    wiretap_begin(&tap, network);
    network_until(network, peers_is_connected(one->peers, 2));
    cr_assert_eq(network_send_entry(network, 1, 2, 5000, 'x'), MS_OK);
    peers_flush(one->peers);
    network_until(network, network_node(network, 2)->message_count == 1);
    cr_assert_gt(tap.heard_bytes, 5000);
    cr_assert_null(memmem(tap.heard, tap.heard_bytes, "xxxxxxxx", 8));
    wiretap_destroy(&tap, network);
}

/* The tap stops passing anything on, and keeps the connections open. */
Test(peers_strangers, a_connection_through_which_nothing_comes_is_given_up)
{
    struct wiretap tap;
    struct network *network = wiretap_create(&tap);
    struct fixture_node *one = network_node(network, 1);

    wiretap_begin(&tap, network);
    network_until(network, peers_is_connected(one->peers, 2));
    (void)uv_poll_stop(&tap.sides[0]);
    (void)uv_poll_stop(&tap.sides[1]);
    network_until(network, one->disconnected[2] == 1);
    wiretap_cut(&tap);
    network_until(network, one->connected[2] == 2);
    wiretap_destroy(&tap, network);
}

/* For seconds nothing comes back, because the answer stands behind all that is under way. */
Test(peers_strangers, a_slow_connection_is_not_given_up)
{
    struct wiretap tap;
    struct network *network = wiretap_create(&tap);
    struct fixture_node *one = network_node(network, 1);
    const int small = 8192;

    cr_assert_eq(setsockopt(tap.listen_fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    wiretap_begin(&tap, network);
    network_until(network, peers_is_connected(one->peers, 2));
    tap.pause_ms = 4;
    cr_assert_eq(network_send_entry(network, 1, 2, 4 * 1024 * 1024, 'x'), MS_OK);
    peers_flush(one->peers);
    network_until(network, network_node(network, 2)->message_count == 1);
    cr_assert_eq(one->disconnected[2], 0);
    wiretap_destroy(&tap, network);
}

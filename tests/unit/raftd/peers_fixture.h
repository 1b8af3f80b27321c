/*
 * peers_fixture: several nodes' connections on one loop, over loopback, each recording what it is
 * told. A test says what shall come true and the loop runs until it has.
 */
#ifndef METASTORE_TESTS_UNIT_RAFTD_PEERS_FIXTURE_H
#define METASTORE_TESTS_UNIT_RAFTD_PEERS_FIXTURE_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/log.h"
#include "raftd/peers.h"
#include "tests/unit/raftd/heap_fixture.h"

#define FIXTURE_NODES        3
#define FIXTURE_IDS          (FIXTURE_NODES + 2)
#define FIXTURE_MESSAGES_MAX 4096
#define FIXTURE_HEARTBEAT_MS 20
#define FIXTURE_PATIENCE_MS  15000

struct network;

/* What a node was told of one snapshot, and what it does with it. */
struct fixture_snapshot {
    peers_transfer id; /* 0: none */
    raft_index index;
    uint64_t size_bytes;
    uint8_t *bytes; /* sender: the state; receiver: what has come */
    uint64_t have_bytes;
    uint64_t begins, ends, lost, dones;
    int status;            /* of the last done */
    uint64_t accept_from;  /* receiver: where to go on */
    bool refuse;           /* receiver: says no */
    bool hold;             /* receiver: stores nothing; sender: writes nothing */
    uint64_t held_bytes;   /* receiver: not yet stored; sender: asked for */
    uint64_t first_offset; /* receiver: of the first piece */
};

struct fixture_node {
    struct network *network;
    struct peers *peers; /* NULL: down */
    node_id id;
    uint16_t port;
    uint64_t data_id;
    uint64_t cluster_id;
    raft_index conf_index;
    struct peers_options options;
    enum peers_refusal verdict[FIXTURE_IDS]; /* on each id */
    /* what it was told */
    unsigned connected[FIXTURE_IDS];
    unsigned disconnected[FIXTURE_IDS];
    unsigned absent[FIXTURE_IDS];
    unsigned judged[FIXTURE_IDS];
    struct peers_hello theirs[FIXTURE_IDS];
    unsigned refusals;
    enum peers_refusal refusal;
    struct peers_hello refuser;
    char refusal_text[256];
    struct raft_message messages[FIXTURE_MESSAGES_MAX];
    size_t message_count;
    unsigned notes;
    node_id note_from;
    enum peers_note note_kind;
    uint8_t note[PEERS_NOTE_BYTES_MAX];
    size_t note_bytes;
    struct fixture_snapshot out;
    struct fixture_snapshot in;
};

struct network {
    uv_loop_t loop;
    uv_timer_t patience;
    bool out_of_patience;
    bool has_key;
    struct fixture_node nodes[FIXTURE_NODES]; /* node id - 1 */
};

/* ---- events ---- */

static inline void fixture_say_hello(void *ctx, struct peers_hello *out)
{
    struct fixture_node *node = ctx;

    out->cluster_id = node->cluster_id;
    out->from = node->id;
    out->data_id = node->data_id;
    out->conf_index = node->conf_index;
}

static inline enum peers_refusal fixture_judge(void *ctx, const struct peers_hello *theirs,
                                               char *text, size_t text_bytes)
{
    struct fixture_node *node = ctx;

    cr_assert_lt(theirs->from, FIXTURE_IDS);
    node->judged[theirs->from]++;
    node->theirs[theirs->from] = *theirs;
    (void)snprintf(text, text_bytes, "verdict of node %d", (int)node->id);
    if (theirs->to != node->id) {
        return PEERS_REFUSED_IDENTITY;
    }
    if (theirs->cluster_id != node->cluster_id) {
        return PEERS_REFUSED_CLUSTER;
    }
    return node->verdict[theirs->from];
}

static inline void fixture_refused(void *ctx, const struct peers_hello *theirs,
                                   enum peers_refusal reason, const char *text)
{
    struct fixture_node *node = ctx;

    node->refusals++;
    node->refusal = reason;
    node->refuser = *theirs;
    (void)snprintf(node->refusal_text, sizeof(node->refusal_text), "%s", text);
}

static inline void fixture_connected(void *ctx, node_id peer)
{
    struct fixture_node *node = ctx;

    cr_assert(peers_is_connected(node->peers, peer));
    node->connected[peer]++;
}

static inline void fixture_disconnected(void *ctx, node_id peer)
{
    struct fixture_node *node = ctx;

    cr_assert_not(peers_is_connected(node->peers, peer));
    node->disconnected[peer]++;
}

static inline void fixture_absent(void *ctx, node_id peer)
{
    struct fixture_node *node = ctx;

    cr_assert_not(peers_is_connected(node->peers, peer));
    node->absent[peer]++;
}

/* Keeps the message, by reference to its entries. */
static inline void fixture_message(void *ctx, const struct raft_message *message)
{
    struct fixture_node *node = ctx;
    struct raft_message *kept = &node->messages[node->message_count];

    cr_assert_lt(node->message_count, (size_t)FIXTURE_MESSAGES_MAX);
    *kept = *message;
    kept->entries = raft_slice_ref(&message->entries);
    node->message_count++;
}

static inline void fixture_note(void *ctx, node_id from, enum peers_note kind, const uint8_t *data,
                                size_t len_bytes)
{
    struct fixture_node *node = ctx;

    node->notes++;
    node->note_from = from;
    node->note_kind = kind;
    node->note_bytes = len_bytes;
    memcpy(node->note, data, len_bytes);
}

static inline void fixture_snapshot_begin(void *ctx, peers_transfer transfer,
                                          const struct raft_message *message, uint64_t size_bytes)
{
    struct fixture_node *node = ctx;
    struct fixture_snapshot *in = &node->in;

    cr_assert_eq(message->type, RAFT_MSG_SNAP);
    in->begins++;
    in->id = transfer;
    in->index = message->snapshot->index;
    in->size_bytes = size_bytes;
    in->have_bytes = in->accept_from;
    in->held_bytes = 0;
    in->first_offset = UINT64_MAX;
    if (in->bytes == NULL) {
        in->bytes = calloc(1, size_bytes);
    }
    if (in->refuse) {
        peers_snapshot_refuse(node->peers, transfer);
    } else {
        peers_snapshot_accept(node->peers, transfer, in->accept_from);
    }
}

static inline void fixture_snapshot_data(void *ctx, peers_transfer transfer, uint64_t offset,
                                         const uint8_t *data, size_t len_bytes)
{
    struct fixture_node *node = ctx;
    struct fixture_snapshot *in = &node->in;

    cr_assert_eq(transfer, in->id);
    cr_assert_eq(offset, in->have_bytes);
    cr_assert_leq(offset + len_bytes, in->size_bytes);
    if (in->first_offset == UINT64_MAX) {
        in->first_offset = offset;
    }
    memcpy(in->bytes + offset, data, len_bytes);
    in->have_bytes += len_bytes;
    in->held_bytes += len_bytes;
    cr_assert_leq(in->held_bytes, PEERS_SNAPSHOT_WINDOW_BYTES);
    if (!in->hold) {
        peers_snapshot_consumed(node->peers, transfer, (size_t)in->held_bytes);
        in->held_bytes = 0;
    }
}

static inline void fixture_snapshot_end(void *ctx, peers_transfer transfer)
{
    struct fixture_node *node = ctx;

    cr_assert_eq(transfer, node->in.id);
    cr_assert_eq(node->in.have_bytes, node->in.size_bytes);
    node->in.ends++;
    if (!node->in.hold) {
        peers_snapshot_finish(node->peers, transfer, MS_OK);
        node->in.id = 0;
    }
}

static inline void fixture_snapshot_lost(void *ctx, peers_transfer transfer)
{
    struct fixture_node *node = ctx;

    cr_assert_eq(transfer, node->in.id);
    node->in.lost++;
    node->in.id = 0;
}

static inline void fixture_snapshot_want(void *ctx, peers_transfer transfer, uint64_t offset,
                                         size_t len_bytes)
{
    struct fixture_node *node = ctx;
    struct fixture_snapshot *out = &node->out;

    cr_assert_eq(transfer, out->id);
    cr_assert_leq(offset + len_bytes, out->size_bytes);
    out->have_bytes = offset;
    out->held_bytes = len_bytes;
    if (!out->hold) {
        peers_snapshot_write(node->peers, transfer, out->bytes + offset, len_bytes);
    }
}

static inline void fixture_snapshot_done(void *ctx, peers_transfer transfer, node_id peer,
                                         int status)
{
    struct fixture_node *node = ctx;

    cr_assert_eq(transfer, node->out.id);
    cr_assert_neq(peer, RAFT_NONE);
    node->out.dones++;
    node->out.status = status;
    node->out.id = 0;
}

/* ---- time ---- */

static inline void fixture_on_patience(uv_timer_t *timer)
{
    struct network *network = timer->data;

    network->out_of_patience = true;
}

/* Lets the loop run for so long. */
static inline void network_run_ms(struct network *network, uint64_t ms)
{
    network->out_of_patience = false;
    (void)uv_timer_start(&network->patience, fixture_on_patience, ms, 0);
    while (!network->out_of_patience) {
        (void)uv_run(&network->loop, UV_RUN_ONCE);
    }
}

/* Runs the loop until the condition holds; fails the test if it does not come true. */
#define network_until(network, condition)                                                        \
    do {                                                                                         \
        (network)->out_of_patience = false;                                                      \
        (void)uv_timer_start(&(network)->patience, fixture_on_patience, FIXTURE_PATIENCE_MS, 0); \
        while (!(condition)) {                                                                   \
            cr_assert_not((network)->out_of_patience, "did not come true: %s", #condition);      \
            (void)uv_run(&(network)->loop, UV_RUN_ONCE);                                         \
        }                                                                                        \
        (void)uv_timer_stop(&(network)->patience);                                               \
    } while (0)

/* ---- nodes ---- */

static inline struct fixture_node *network_node(struct network *network, node_id id)
{
    return &network->nodes[id - 1];
}

/* A socket on a free loopback port, or on *port if that is not 0. */
static inline int fixture_listen(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t len_bytes = sizeof(address);
    const int yes = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_geq(fd, 0);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)), 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(listen(fd, 64), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len_bytes), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* Starts a node, or starts it again; it listens but knows nobody. */
static inline void network_start(struct network *network, node_id id)
{
    struct fixture_node *node = network_node(network, id);
    struct ms_err err = {0};

    cr_assert_null(node->peers);
    cr_assert_eq(peers_create(&node->options, &node->peers, &err), MS_OK, "%s", err.text);
    cr_assert_eq(peers_take_listener(node->peers, fixture_listen(&node->port), &err), MS_OK, "%s",
                 err.text);
}

static inline void fixture_closed(void *ctx)
{
    struct fixture_node *node = ctx;

    node->peers = NULL;
}

static inline void network_stop(struct network *network, node_id id)
{
    struct fixture_node *node = network_node(network, id);

    peers_close(node->peers, fixture_closed, node);
    network_until(network, node->peers == NULL);
}

static inline struct peers_member network_member(struct network *network, node_id id)
{
    struct peers_member member = {.id = id};

    (void)snprintf(member.url, sizeof(member.url), "http://127.0.0.1:%u",
                   network_node(network, id)->port);
    return member;
}

/* Tells a node of the nodes 1 .. count, itself included. */
static inline void network_introduce(struct network *network, node_id id, size_t count)
{
    struct peers_member members[FIXTURE_NODES];
    struct ms_err err = {0};

    for (size_t i = 0; i < count; i++) {
        members[i] = network_member(network, i + 1);
    }
    cr_assert_eq(peers_set_members(network_node(network, id)->peers, members, count, &err), MS_OK,
                 "%s", err.text);
}

static inline bool network_linked(struct network *network, node_id a, node_id b)
{
    return peers_is_connected(network_node(network, a)->peers, b) &&
           peers_is_connected(network_node(network, b)->peers, a);
}

/* All nodes prepared, none started. */
static inline struct network *network_create_idle(bool has_key)
{
    struct network *network = calloc(1, sizeof(*network));

    cr_assert_not_null(network);
    (void)signal(SIGPIPE, SIG_IGN);
    ms_log_init("raftd", MS_LOG_TEXT, getenv("MS_TEST_LOG") != NULL ? MS_LOG_DEBUG : MS_LOG_ERROR);
    cr_assert_eq(uv_loop_init(&network->loop), 0);
    cr_assert_eq(uv_timer_init(&network->loop, &network->patience), 0);
    network->patience.data = network;
    network->has_key = has_key;
    for (node_id id = 1; id <= FIXTURE_NODES; id++) {
        struct fixture_node *node = network_node(network, id);

        node->network = network;
        node->id = id;
        node->data_id = 100 + id;
        node->cluster_id = 7;
        node->options = (struct peers_options){
            .loop = &network->loop,
            .alloc = heap,
            .self = id,
            .has_key = has_key,
            .key = {1, 2, 3},
            .heartbeat_ms = FIXTURE_HEARTBEAT_MS,
            .events =
                {
                    .say_hello = fixture_say_hello,
                    .judge = fixture_judge,
                    .refused = fixture_refused,
                    .connected = fixture_connected,
                    .disconnected = fixture_disconnected,
                    .absent = fixture_absent,
                    .message = fixture_message,
                    .note = fixture_note,
                    .snapshot_begin = fixture_snapshot_begin,
                    .snapshot_data = fixture_snapshot_data,
                    .snapshot_end = fixture_snapshot_end,
                    .snapshot_lost = fixture_snapshot_lost,
                    .snapshot_want = fixture_snapshot_want,
                    .snapshot_done = fixture_snapshot_done,
                    .ctx = node,
                },
        };
    }
    return network;
}

/* The first count nodes, connected to each other. */
static inline struct network *network_create(bool has_key, size_t count)
{
    struct network *network = network_create_idle(has_key);

    for (node_id id = 1; id <= count; id++) {
        network_start(network, id);
    }
    for (node_id id = 1; id <= count; id++) {
        network_introduce(network, id, count);
    }
    for (node_id a = 1; a <= count; a++) {
        for (node_id b = 1; b < a; b++) {
            network_until(network, network_linked(network, a, b));
        }
    }
    return network;
}

static inline void network_forget_messages(struct fixture_node *node)
{
    for (size_t i = 0; i < node->message_count; i++) {
        raft_message_release(&heap, &node->messages[i]);
    }
    node->message_count = 0;
}

static inline void network_destroy(struct network *network)
{
    for (node_id id = 1; id <= FIXTURE_NODES; id++) {
        struct fixture_node *node = network_node(network, id);

        if (node->peers != NULL) {
            network_stop(network, id);
        }
        network_forget_messages(node);
        free(node->in.bytes);
        free(node->out.bytes);
    }
    uv_close((uv_handle_t *)&network->patience, NULL);
    (void)uv_run(&network->loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(&network->loop), 0, "something was left in the loop");
    free(network);
}

/* ---- what is sent ---- */

/* A heartbeat that says its number. */
static inline int network_send_beat(struct network *network, node_id from, node_id to,
                                    uint64_t number)
{
    struct raft_message message = {
        .type = RAFT_MSG_HEARTBEAT, .from = from, .to = to, .term = 1, .commit = number};

    return peers_send(network_node(network, from)->peers, &message);
}

/* A MsgApp of one entry of len_bytes, all of them fill. */
static inline int network_send_entry(struct network *network, node_id from, node_id to,
                                     size_t len_bytes, uint8_t fill)
{
    struct raft_message message = {
        .type = RAFT_MSG_APP, .from = from, .to = to, .term = 1, .commit = fill};
    struct raft_entry entry = {.term = 1, .index = 1, .len_bytes = len_bytes};
    uint8_t *bytes;
    int rc;

    cr_assert_eq(raft_buffer_create(&heap, len_bytes, &entry.owner, &bytes), MS_OK);
    memset(bytes, fill, len_bytes);
    entry.data = bytes;
    cr_assert_eq(raft_slice_create(&heap, &entry, 1, &message.entries), MS_OK);
    raft_buffer_release(entry.owner);
    rc = peers_send(network_node(network, from)->peers, &message);
    if (rc != MS_OK) {
        cr_assert_eq(message.entries.count, 1, "a refused message must stay as it was");
        raft_message_release(&heap, &message);
    }
    return rc;
}

#endif

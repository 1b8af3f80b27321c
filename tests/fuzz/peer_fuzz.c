/*
 * Whatever comes in on the peer port. The first byte chooses how deep the rest goes: straight into
 * one of the decoders, or through a real connection of a running node, on which it has been
 * introduced as a member.
 *
 * Decoders take exactly what the encoders make: what is accepted must encode to the same bytes.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/le.h"
#include "common/log.h"
#include "raftd/peer_codec.h"
#include "raftd/peer_frame.h"
#include "raftd/peer_handshake.h"
#include "raftd/peers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SELF ((node_id)1)
#define PEER ((node_id)2)

/* How often the loop gets a turn for one input. */
#define TURNS 50

enum depth {
    DEPTH_MESSAGE,
    DEPTH_OFFER,
    DEPTH_HELLO,
    DEPTH_VERDICT,
    DEPTH_FRAMES,
    DEPTH_RECORD,
    DEPTH_MESSAGES_CHANNEL,
    DEPTH_SNAPSHOT_CHANNEL,
    DEPTH_NEW_CONNECTION,
    DEPTH_COUNT,
};

static void *heap_take(void *ctx, size_t len_bytes)
{
    (void)ctx;
    return malloc(len_bytes);
}

static void heap_give(void *ctx, void *memory)
{
    (void)ctx;
    free(memory);
}

static const struct raft_alloc heap = {.alloc = heap_take, .free = heap_give};

static void require(int holds)
{
    if (!holds) {
        abort();
    }
}

/* Reads every byte, so that a sanitizer sees one that is not there. */
static void touch(const void *data, size_t len_bytes)
{
    static volatile uint8_t sink;

    for (size_t i = 0; i < len_bytes; i++) {
        sink = ((const uint8_t *)data)[i];
    }
    (void)sink;
}

/* ---- decoders ---- */

static void check_message(const uint8_t *data, size_t size)
{
    struct raft_message message;
    struct peer_queue queue;
    uint8_t *again;

    if (peer_codec_get_message(&heap, data, size, NULL, PEER, SELF, &message) != MS_OK) {
        return;
    }
    for (size_t i = 0; i < message.entries.count; i++) {
        touch(message.entries.entries[i].data, message.entries.entries[i].len_bytes);
    }
    peer_queue_init(&queue, &heap);
    again = malloc(size);
    require(again != NULL);
    require(peer_codec_message_bytes(&message) == size);
    require(peer_codec_put_message(&queue, &message) == MS_OK);
    require(peer_queue_take(&queue, again, size) == size && queue.bytes == 0);
    require(memcmp(again, data, size) == 0);
    free(again);
    peer_queue_fini(&queue);
    raft_message_release(&heap, &message);
}

static void check_offer(const uint8_t *data, size_t size)
{
    uint8_t again[PEER_CODEC_OFFER_BYTES_MAX];
    struct raft_message message;
    uint64_t size_bytes;

    if (peer_codec_get_offer(&heap, data, size, PEER, SELF, &message, &size_bytes) == MS_OK) {
        require(peer_codec_put_offer(&message, size_bytes, again) == size);
        require(memcmp(again, data, size) == 0);
        raft_message_release(&heap, &message);
    }
}

static void check_hello(const uint8_t *data, size_t size)
{
    uint8_t again[PEER_HANDSHAKE_HELLO_BYTES];
    struct peers_hello hello;
    enum peer_channel channel;

    if (peer_handshake_get_hello(data, size, &hello, &channel) == MS_OK) {
        peer_handshake_put_hello(&hello, channel, again);
        require(memcmp(again, data, size) == 0);
    }
}

static void check_verdict(const uint8_t *data, size_t size)
{
    struct peer_verdict verdict;

    if (peer_handshake_get_verdict(data, size, &verdict) == MS_OK) {
        require(strlen(verdict.text) <= PEER_HANDSHAKE_TEXT_MAX);
    }
}

static int on_limit(void *ctx, uint8_t type, size_t len_bytes)
{
    (void)ctx;
    (void)type;
    return len_bytes <= 4096 ? MS_OK : MS_EPROTO;
}

static int on_frame(void *ctx, const struct peer_frame *frame)
{
    (void)ctx;
    touch(frame->payload, frame->len_bytes);
    return MS_OK;
}

/* The first byte is how the rest is cut into pieces. */
static void check_frames(const uint8_t *data, size_t size)
{
    const struct peer_frame_handlers handlers = {.limit = on_limit, .frame = on_frame};
    struct peer_frame_reader reader;
    size_t piece;

    if (size == 0) {
        return;
    }
    piece = (size_t)data[0] + 1;
    peer_frame_reader_init(&reader, &heap, &handlers);
    for (size_t at = 1; at < size; at += piece) {
        if (peer_frame_feed(&reader, data + at, size - at < piece ? size - at : piece) != MS_OK) {
            break;
        }
    }
    peer_frame_reader_fini(&reader);
}

static void check_record(const uint8_t *data, size_t size)
{
    static uint8_t opened[PEER_SEAL_PLAIN_MAX];
    static const struct peer_seal_keys keys = {.tx = {1}, .rx = {2}};
    uint8_t header[PEER_SEAL_HEADER_BYTES];
    struct peer_seal seal;
    size_t record_bytes;
    size_t len_bytes;

    if (size < PEER_SEAL_HEADER_BYTES + PEER_SEAL_HEAD_BYTES) {
        return;
    }
    peer_seal_init(&seal, &keys, header);
    require(peer_seal_take_header(&seal, data) == MS_OK);
    data += PEER_SEAL_HEADER_BYTES;
    size -= PEER_SEAL_HEADER_BYTES;
    if (peer_seal_record_bytes(data, &record_bytes) == MS_OK && record_bytes <= size) {
        require(peer_seal_open(&seal, data, record_bytes, opened, &len_bytes) == MS_EPROTO);
    }
    peer_seal_fini(&seal);
}

/* ---- a node ---- */

static struct {
    uv_loop_t loop;
    struct peers *peers;
    struct sockaddr_in address;
    peers_transfer transfer;
    uint64_t offset;
    uint64_t size_bytes;
} node;

static void say_hello(void *ctx, struct peers_hello *out)
{
    (void)ctx;
    *out = (struct peers_hello){.cluster_id = 7, .from = SELF, .data_id = 11};
}

static enum peers_refusal judge(void *ctx, const struct peers_hello *theirs, char *text,
                                size_t text_bytes)
{
    (void)ctx;
    text[text_bytes - 1] = '\0';
    return theirs->cluster_id == 7 ? PEERS_ADMITTED : PEERS_REFUSED_CLUSTER;
}

static void on_refused(void *ctx, const struct peers_hello *theirs, enum peers_refusal reason,
                       const char *text)
{
    (void)ctx;
    (void)theirs;
    require(reason != PEERS_ADMITTED);
    touch(text, strlen(text));
}

static void on_connection(void *ctx, node_id peer)
{
    (void)ctx;
    (void)peer;
    abort(); /* this node dials nobody */
}

static void on_message(void *ctx, const struct raft_message *message)
{
    (void)ctx;
    require(message->to == SELF && peer_codec_travels(message->type));
    for (size_t i = 0; i < message->entries.count; i++) {
        touch(message->entries.entries[i].data, message->entries.entries[i].len_bytes);
    }
}

static void on_note(void *ctx, node_id from, enum peers_note kind, const uint8_t *data,
                    size_t len_bytes)
{
    (void)ctx;
    (void)kind;
    require(from != RAFT_NONE && len_bytes <= PEERS_NOTE_BYTES_MAX);
    touch(data, len_bytes);
}

static void on_snapshot_begin(void *ctx, peers_transfer transfer,
                              const struct raft_message *message, uint64_t size_bytes)
{
    (void)ctx;
    require(message->snapshot != NULL);
    node.transfer = transfer;
    node.offset = size_bytes / 2;
    node.size_bytes = size_bytes;
    peers_snapshot_accept(node.peers, transfer, node.offset);
}

static void on_snapshot_data(void *ctx, peers_transfer transfer, uint64_t offset,
                             const uint8_t *data, size_t len_bytes)
{
    (void)ctx;
    require(transfer == node.transfer && offset == node.offset);
    require(len_bytes <= node.size_bytes - offset);
    node.offset += len_bytes;
    touch(data, len_bytes);
    peers_snapshot_consumed(node.peers, transfer, len_bytes);
}

static void on_snapshot_end(void *ctx, peers_transfer transfer)
{
    (void)ctx;
    require(transfer == node.transfer && node.offset == node.size_bytes);
    peers_snapshot_finish(node.peers, transfer, MS_OK);
}

static void on_snapshot_lost(void *ctx, peers_transfer transfer)
{
    (void)ctx;
    require(transfer == node.transfer);
}

static void start_node(void)
{
    const struct peers_options options = {
        .loop = &node.loop,
        .alloc = heap,
        .self = SELF,
        .heartbeat_ms = 100,
        .events = {.say_hello = say_hello,
                   .judge = judge,
                   .refused = on_refused,
                   .connected = on_connection,
                   .disconnected = on_connection,
                   .message = on_message,
                   .note = on_note,
                   .snapshot_begin = on_snapshot_begin,
                   .snapshot_data = on_snapshot_data,
                   .snapshot_end = on_snapshot_end,
                   .snapshot_lost = on_snapshot_lost},
    };
    socklen_t len_bytes = sizeof(node.address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    (void)signal(SIGPIPE, SIG_IGN);
    ms_log_init("raftd", MS_LOG_TEXT, MS_LOG_ERROR);
    node.address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    require(uv_loop_init(&node.loop) == 0);
    require(peers_create(&options, &node.peers, NULL) == MS_OK);
    require(bind(fd, (struct sockaddr *)&node.address, sizeof(node.address)) == 0);
    require(listen(fd, 16) == 0);
    require(getsockname(fd, (struct sockaddr *)&node.address, &len_bytes) == 0);
    require(peers_take_listener(node.peers, fd, NULL) == MS_OK);
}

static void put(uint8_t **at, const void *data, size_t len_bytes)
{
    memcpy(*at, data, len_bytes);
    *at += len_bytes;
}

/* Opening and hello of a member. */
static size_t introduce(enum peer_channel channel, uint8_t *dst)
{
    const struct peers_hello hello = {.cluster_id = 7, .from = PEER, .to = SELF, .data_id = 12};
    const uint8_t head[PEER_FRAME_HEAD_BYTES] = {PEER_HANDSHAKE_HELLO_BYTES, 0, 0, 0,
                                                 PEER_FRAME_HELLO};
    uint8_t *at = dst;
    struct peer_opening opening;
    uint8_t bytes[PEER_HANDSHAKE_HELLO_BYTES];

    peer_handshake_open(false, &opening);
    peer_handshake_put_hello(&hello, channel, bytes);
    put(&at, opening.bytes, sizeof(opening.bytes));
    put(&at, head, sizeof(head));
    put(&at, bytes, sizeof(bytes));
    return (size_t)(at - dst);
}

static void check_connection(enum peer_channel channel, const uint8_t *data, size_t size)
{
    /* Closing resets, or the kernel would soon run out of ports. */
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    uint8_t intro[256];
    size_t intro_bytes = channel != PEER_CHANNEL_NONE ? introduce(channel, intro) : 0;
    uint8_t answer[1024];
    ssize_t got = -1;
    int fd;

    if (node.peers == NULL) {
        start_node();
    }
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    require(fd >= 0);
    require(connect(fd, (struct sockaddr *)&node.address, sizeof(node.address)) == 0);
    require(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    (void)send(fd, intro, intro_bytes, MSG_NOSIGNAL);
    (void)send(fd, data, size, MSG_NOSIGNAL);
    /* Half closed: the node sees the end of it once it has read all. */
    (void)shutdown(fd, SHUT_WR);
    for (unsigned turn = 0; turn < TURNS && got != 0; turn++) {
        (void)uv_run(&node.loop, UV_RUN_NOWAIT);
        do {
            got = recv(fd, answer, sizeof(answer), 0);
        } while (got > 0);
    }
    (void)close(fd);
    (void)uv_run(&node.loop, UV_RUN_NOWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum depth depth;

    require(sodium_init() >= 0);
    if (size == 0) {
        return 0;
    }
    depth = (enum depth)(data[0] % DEPTH_COUNT);
    data++;
    size--;
    switch (depth) {
    case DEPTH_MESSAGE:
        check_message(data, size);
        break;
    case DEPTH_OFFER:
        check_offer(data, size);
        break;
    case DEPTH_HELLO:
        check_hello(data, size);
        break;
    case DEPTH_VERDICT:
        check_verdict(data, size);
        break;
    case DEPTH_FRAMES:
        check_frames(data, size);
        break;
    case DEPTH_RECORD:
        check_record(data, size);
        break;
    case DEPTH_MESSAGES_CHANNEL:
        check_connection(PEER_CHANNEL_MESSAGES, data, size);
        break;
    case DEPTH_SNAPSHOT_CHANNEL:
        check_connection(PEER_CHANNEL_SNAPSHOT, data, size);
        break;
    case DEPTH_NEW_CONNECTION:
        check_connection(PEER_CHANNEL_NONE, data, size);
        break;
    case DEPTH_COUNT:
        break;
    }
    return 0;
}

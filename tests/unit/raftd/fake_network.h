/*
 * fake_network: what a node sends to others, kept for whoever plays them.
 *
 * Fills the place of struct raftd_network. Nothing is delivered by itself; a peer is there if the
 * test says that it is connected.
 */
#ifndef METASTORE_TESTS_UNIT_RAFTD_FAKE_NETWORK_H
#define METASTORE_TESTS_UNIT_RAFTD_FAKE_NETWORK_H

#include <criterion/criterion.h>
#include <string.h>

#include "raftd/node.h"
#include "tests/unit/raftd/heap_fixture.h"

#define FIXTURE_MESSAGES_MAX 4096
#define FIXTURE_MEMBERS_MAX  8

struct fake_note {
    node_id to;
    enum peers_note kind;
    size_t len_bytes;
    uint8_t data[PEERS_NOTE_BYTES_MAX];
};

/* What the node does about a snapshot transfer, in order. */
enum fake_transfer_step {
    TRANSFER_SEND,
    TRANSFER_WRITE,
    TRANSFER_ABORT,
    TRANSFER_ACCEPT,
    TRANSFER_REFUSE,
    TRANSFER_CONSUMED,
    TRANSFER_FINISH,
};

struct fake_transfer {
    enum fake_transfer_step step;
    peers_transfer transfer;
    struct raft_message message; /* TRANSFER_SEND; one reference to its snapshot */
    uint64_t number;             /* size, offset or length in bytes */
    uint8_t fill;                /* TRANSFER_WRITE: all of its bytes */
    int status;                  /* TRANSFER_FINISH */
};

/* Keeps what the node sends, for whoever plays the others. */
struct fake_network {
    node_id self;
    struct raft_message messages[FIXTURE_MESSAGES_MAX];
    size_t message_count;
    struct fake_note notes[64];
    size_t note_count;
    struct fake_transfer transfers[64];
    size_t transfer_count;
    peers_transfer last_transfer;
    bool connected[FIXTURE_MEMBERS_MAX]; /* [id] */
    size_t member_count;
    struct peers_member members[FIXTURE_MEMBERS_MAX];
};

static inline int network_send(void *ctx, struct raft_message *message)
{
    struct fake_network *network = ctx;

    cr_assert(message->to < FIXTURE_MEMBERS_MAX);
    if (!network->connected[message->to]) {
        return MS_EPEER;
    }
    cr_assert(network->message_count < FIXTURE_MESSAGES_MAX);
    raft_message_take(&network->messages[network->message_count++], message);
    return MS_OK;
}

static inline int network_send_note(void *ctx, node_id to, enum peers_note kind,
                                    const uint8_t *data, size_t len_bytes)
{
    struct fake_network *network = ctx;
    struct fake_note *note = &network->notes[network->note_count];

    cr_assert(to < FIXTURE_MEMBERS_MAX);
    if (!network->connected[to]) {
        return MS_EPEER;
    }
    cr_assert(network->note_count < sizeof(network->notes) / sizeof(network->notes[0]));
    network->note_count++;
    *note = (struct fake_note){.to = to, .kind = kind, .len_bytes = len_bytes};
    if (len_bytes > 0) {
        memcpy(note->data, data, len_bytes);
    }
    return MS_OK;
}

static inline void network_flush(void *ctx)
{
    (void)ctx;
}

static inline bool network_is_connected(void *ctx, node_id peer)
{
    const struct fake_network *network = ctx;

    return peer < FIXTURE_MEMBERS_MAX && network->connected[peer];
}

static inline int network_set_members(void *ctx, const struct peers_member *members, size_t count,
                                      struct ms_err *err)
{
    struct fake_network *network = ctx;

    (void)err;
    cr_assert(count <= FIXTURE_MEMBERS_MAX);
    network->member_count = count;
    memcpy(network->members, members, count * sizeof(members[0]));
    return MS_OK;
}

static inline void network_judge_again(void *ctx)
{
    (void)ctx;
}

static inline struct fake_transfer *network_transfer(struct fake_network *network,
                                                     enum fake_transfer_step step,
                                                     peers_transfer transfer)
{
    struct fake_transfer *one = &network->transfers[network->transfer_count];

    cr_assert(network->transfer_count < sizeof(network->transfers) / sizeof(network->transfers[0]));
    network->transfer_count++;
    *one = (struct fake_transfer){.step = step, .transfer = transfer};
    return one;
}

static inline int network_snapshot_send(void *ctx, const struct raft_message *message,
                                        uint64_t size_bytes, peers_transfer *out)
{
    struct fake_network *network = ctx;
    struct fake_transfer *one;

    if (!network->connected[message->to]) {
        return MS_EPEER;
    }
    *out = network->self * 1000 + ++network->last_transfer;
    one = network_transfer(network, TRANSFER_SEND, *out);
    one->message = *message;
    one->message.snapshot = raft_snapshot_ref(message->snapshot);
    one->number = size_bytes;
    return MS_OK;
}

static inline void network_snapshot_write(void *ctx, peers_transfer transfer, const uint8_t *data,
                                          size_t len_bytes)
{
    struct fake_transfer *one = network_transfer(ctx, TRANSFER_WRITE, transfer);

    one->number = len_bytes;
    one->fill = data[0];
}

static inline void network_snapshot_abort(void *ctx, peers_transfer transfer)
{
    (void)network_transfer(ctx, TRANSFER_ABORT, transfer);
}

static inline void network_snapshot_accept(void *ctx, peers_transfer transfer, uint64_t offset)
{
    network_transfer(ctx, TRANSFER_ACCEPT, transfer)->number = offset;
}

static inline void network_snapshot_refuse(void *ctx, peers_transfer transfer)
{
    (void)network_transfer(ctx, TRANSFER_REFUSE, transfer);
}

static inline void network_snapshot_consumed(void *ctx, peers_transfer transfer, size_t len_bytes)
{
    network_transfer(ctx, TRANSFER_CONSUMED, transfer)->number = len_bytes;
}

static inline void network_snapshot_finish(void *ctx, peers_transfer transfer, int status)
{
    network_transfer(ctx, TRANSFER_FINISH, transfer)->status = status;
}

static inline void network_clear(struct fake_network *network)
{
    for (size_t i = 0; i < network->transfer_count; i++) {
        raft_snapshot_release(network->transfers[i].message.snapshot);
    }
    network->transfer_count = 0;
    for (size_t i = 0; i < network->message_count; i++) {
        raft_message_release(&heap, &network->messages[i]);
    }
    network->message_count = 0;
    network->note_count = 0;
}

static inline struct raftd_network network_calls(struct fake_network *network)
{
    return (struct raftd_network){.send = network_send,
                                  .send_note = network_send_note,
                                  .flush = network_flush,
                                  .is_connected = network_is_connected,
                                  .set_members = network_set_members,
                                  .judge_again = network_judge_again,
                                  .snapshot_send = network_snapshot_send,
                                  .snapshot_write = network_snapshot_write,
                                  .snapshot_abort = network_snapshot_abort,
                                  .snapshot_accept = network_snapshot_accept,
                                  .snapshot_refuse = network_snapshot_refuse,
                                  .snapshot_consumed = network_snapshot_consumed,
                                  .snapshot_finish = network_snapshot_finish,
                                  .ctx = network};
}

#endif

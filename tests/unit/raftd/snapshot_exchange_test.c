/*
 * snapshot_exchange: snapshots through this node, between a storaged and peers that the test plays.
 */
#include "raftd/snapshot_exchange.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/conf_state.h"
#include "raftd/membership.h"
#include "raftd/snapshot_conf.h"
#include "tests/seed.h"
#include "tests/unit/raftd/heap_fixture.h"

#define FILE_BYTES (3 * MS_SNAP_PIECE_BYTES + 777)
#define SENT_MAX   64
#define PEERS      4

/* One message to storaged. */
struct sent {
    enum ms_ipc_type type;
    union {
        struct ms_snap_open open;
        struct ms_snap_read read;
        struct ms_snap_close close;
        struct ms_snap_receive receive;
        struct ms_snap_write write;
        struct ms_snap_abandon abandon;
    } body;
    size_t tail_bytes;
};

/* What peers were told about one transfer; its number is the index. */
struct transfer {
    node_id peer;
    bool aborted;
    bool refused;
    bool accepted;
    bool finished;
    int status;
    uint64_t offset; /* accepted from */
    size_t consumed;
    size_t written;
    uint8_t bytes[FILE_BYTES];
};

struct world {
    struct snapshot_exchange *exchange;
    bool link_up;
    size_t room; /* messages that the ring takes; counts down */
    size_t sent_count;
    struct sent sent[SENT_MAX];
    uint8_t stored[FILE_BYTES]; /* what SNAP_WRITE brought */
    size_t transfer_count;
    struct transfer transfers[16];
    int send_status;
    size_t reports[PEERS + 1][2]; /* to the core: worked, failed */
    int step_status;
    size_t stepped;
    raft_index stepped_index;
    struct raft_basic_status basic;
    bool gone_on;
    struct ms_instant now;
};

static uint8_t file[FILE_BYTES];

/* ---- what the exchange calls ---- */

static int peer_send(void *ctx, const struct raft_message *message, uint64_t size_bytes,
                     peers_transfer *out)
{
    struct world *world = ctx;

    cr_assert_eq(message->type, RAFT_MSG_SNAP);
    cr_assert_eq(size_bytes, FILE_BYTES);
    cr_assert_not_null(snapshot_conf_of(message->snapshot));
    if (world->send_status != MS_OK) {
        return world->send_status;
    }
    *out = ++world->transfer_count;
    world->transfers[*out].peer = message->to;
    return MS_OK;
}

static void peer_write(void *ctx, peers_transfer transfer, const uint8_t *data, size_t len_bytes)
{
    struct world *world = ctx;
    struct transfer *one = &world->transfers[transfer];

    cr_assert_leq(one->written + len_bytes, FILE_BYTES);
    memcpy(one->bytes + one->written, data, len_bytes);
    one->written += len_bytes;
}

static void peer_abort(void *ctx, peers_transfer transfer)
{
    struct world *world = ctx;

    world->transfers[transfer].aborted = true;
}

static void peer_accept(void *ctx, peers_transfer transfer, uint64_t offset)
{
    struct world *world = ctx;

    cr_assert(!world->transfers[transfer].accepted);
    world->transfers[transfer].accepted = true;
    world->transfers[transfer].offset = offset;
}

static void peer_refuse(void *ctx, peers_transfer transfer)
{
    struct world *world = ctx;

    cr_assert(!world->transfers[transfer].accepted);
    world->transfers[transfer].refused = true;
}

static void peer_consumed(void *ctx, peers_transfer transfer, size_t len_bytes)
{
    struct world *world = ctx;

    world->transfers[transfer].consumed += len_bytes;
}

static void peer_finish(void *ctx, peers_transfer transfer, int status)
{
    struct world *world = ctx;

    world->transfers[transfer].finished = true;
    world->transfers[transfer].status = status;
}

static int to_storaged(void *ctx, enum ms_ipc_type type, const void *body, size_t body_bytes,
                       const void *tail, size_t tail_bytes)
{
    struct world *world = ctx;
    struct sent *sent = &world->sent[world->sent_count];

    if (!world->link_up || world->room == 0) {
        return MS_EAGAIN;
    }
    world->room--;
    cr_assert_lt(world->sent_count, SENT_MAX);
    cr_assert_leq(body_bytes, sizeof(sent->body));
    *sent = (struct sent){.type = type, .tail_bytes = tail_bytes};
    memcpy(&sent->body, body, body_bytes);
    if (type == MS_IPC_SNAP_WRITE) {
        cr_assert_leq(tail_bytes, MS_SNAP_PIECE_BYTES);
        cr_assert_leq(sent->body.write.offset + tail_bytes, FILE_BYTES);
        memcpy(world->stored + sent->body.write.offset, tail, tail_bytes);
    }
    world->sent_count++;
    return MS_OK;
}

static void report(void *ctx, node_id peer, bool failed)
{
    struct world *world = ctx;

    world->reports[peer][failed]++;
}

static int step(void *ctx, const struct raft_message *message)
{
    struct world *world = ctx;

    if (world->step_status == MS_OK) {
        world->stepped++;
        world->stepped_index = message->snapshot->index;
    }
    return world->step_status;
}

static void basic_status(void *ctx, struct raft_basic_status *out)
{
    const struct world *world = ctx;

    *out = world->basic;
}

static bool has_gone_on(void *ctx, node_id peer, raft_index index)
{
    const struct world *world = ctx;

    (void)peer;
    (void)index;
    return world->gone_on;
}

/* ---- the world ---- */

static void init(struct world *world)
{
    const struct snapshot_exchange_calls calls = {.peer_send = peer_send,
                                                  .peer_write = peer_write,
                                                  .peer_abort = peer_abort,
                                                  .peer_accept = peer_accept,
                                                  .peer_refuse = peer_refuse,
                                                  .peer_consumed = peer_consumed,
                                                  .peer_finish = peer_finish,
                                                  .send = to_storaged,
                                                  .report = report,
                                                  .step = step,
                                                  .basic_status = basic_status,
                                                  .has_gone_on = has_gone_on,
                                                  .ctx = world};

    memset(world, 0, sizeof(*world));
    world->link_up = true;
    world->room = SIZE_MAX;
    world->basic = (struct raft_basic_status){.id = 1, .term = 3, .commit = 10};
    world->now.ns = UINT64_C(1000000000);
    for (size_t i = 0; i < FILE_BYTES; i++) {
        file[i] = (uint8_t)(i * 31 + i / 251);
    }
    cr_assert_eq(snapshot_exchange_create(&heap, &calls, &world->exchange), MS_OK);
}

static void pump(struct world *world)
{
    cr_assert_eq(snapshot_exchange_pump(world->exchange), MS_OK);
}

/* The oldest message that storaged has not looked at. */
static struct sent take(struct world *world, enum ms_ipc_type type)
{
    struct sent sent;

    cr_assert_gt(world->sent_count, 0, "%s was to be sent", ms_ipc_name(type));
    sent = world->sent[0];
    world->sent_count--;
    memmove(world->sent, world->sent + 1, world->sent_count * sizeof(sent));
    cr_assert_eq(sent.type, type, "%s instead of %s", ms_ipc_name(sent.type), ms_ipc_name(type));
    return sent;
}

static int from_storaged(struct world *world, enum ms_ipc_type type, const void *body,
                         size_t body_bytes, const void *tail, size_t tail_bytes)
{
    struct ms_ipc_message message = {
        .type = type, .tail = tail, .tail_bytes = (uint32_t)tail_bytes};
    int rc;

    memcpy(message.body, body, body_bytes);
    rc = snapshot_exchange_handle(world->exchange, &message);
    if (rc == MS_OK) {
        pump(world);
    }
    return rc;
}

static size_t encode_conf(uint8_t *dst)
{
    const struct ms_conf_state conf = {
        .cluster_id = 7,
        .member_count = 2,
        .members = {
            {.id = 1, .data_id = 11, .flags = MS_CONF_VOTER, .peer_url = "http://127.0.0.1:9021"},
            {.id = 2, .flags = MS_CONF_LEARNER, .peer_url = "http://127.0.0.1:9022"}}};

    ms_conf_state_encode(&conf, dst);
    return ms_conf_state_encoded_bytes(&conf);
}

static int opened(struct world *world, uint64_t session, raft_index index, int status)
{
    uint8_t conf[MS_CONF_STATE_BYTES_MAX];
    size_t len = encode_conf(conf);
    const struct ms_snap_opened body = {
        .session = session, .index = index, .term = 2, .size_bytes = FILE_BYTES, .status = status};

    return from_storaged(world, MS_IPC_SNAP_OPENED, &body, sizeof(body), conf, len);
}

/* Opens the snapshot of index for the core. */
static struct raft_snapshot *open_snapshot(struct world *world, raft_index index)
{
    struct raft_snapshot *snapshot = NULL;

    cr_assert_eq(snapshot_exchange_newest(world->exchange, 1, &snapshot), MS_EAGAIN);
    pump(world);
    cr_assert_eq(opened(world, take(world, MS_IPC_SNAP_OPEN).body.open.session, index, MS_OK),
                 MS_OK);
    cr_assert_eq(snapshot_exchange_newest(world->exchange, 1, &snapshot), MS_OK);
    cr_assert_eq(snapshot->index, index);
    return snapshot;
}

static peers_transfer send_to(struct world *world, node_id peer, struct raft_snapshot *snapshot)
{
    const struct raft_message message = {
        .type = RAFT_MSG_SNAP, .to = peer, .from = 1, .term = 3, .snapshot = snapshot};

    snapshot_exchange_send(world->exchange, &message, world->now);
    return world->transfer_count;
}

/* The peer wants so much; storaged's answers come at once. */
static void want(struct world *world, peers_transfer transfer, uint64_t offset, size_t len_bytes)
{
    snapshot_exchange_on_want(world->exchange, transfer, offset, len_bytes);
    pump(world);
}

static int answer_read(struct world *world, const struct sent *sent)
{
    const struct ms_snap_data body = {.session = sent->body.read.session,
                                      .offset = sent->body.read.offset};

    cr_assert_leq(body.offset + sent->body.read.len_bytes, FILE_BYTES);
    return from_storaged(world, MS_IPC_SNAP_DATA, &body, sizeof(body), file + body.offset,
                         sent->body.read.len_bytes);
}

static void answer_reads(struct world *world)
{
    while (world->sent_count > 0) {
        struct sent sent = take(world, MS_IPC_SNAP_READ);

        cr_assert_eq(answer_read(world, &sent), MS_OK);
    }
}

/* Sends all that is left to the peer, which takes pieces of len_bytes. */
static void send_rest(struct world *world, peers_transfer transfer, size_t len_bytes)
{
    struct transfer *one = &world->transfers[transfer];

    while (one->written < FILE_BYTES) {
        size_t before = one->written;

        want(world, transfer, one->written, len_bytes);
        answer_reads(world);
        cr_assert_gt(one->written, before);
        cr_assert_leq(one->written - before, len_bytes);
    }
    cr_assert_arr_eq(one->bytes, file, FILE_BYTES);
}

static void tick_ms(struct world *world, uint64_t ms)
{
    world->now = ms_clock_add_ms(world->now, ms);
    snapshot_exchange_tick(world->exchange, world->now);
    pump(world);
}

static void fini(struct world *world)
{
    snapshot_exchange_destroy(world->exchange);
}

static void replace_storaged(struct world *world)
{
    snapshot_exchange_link_down(world->exchange);
    world->sent_count = 0;
    pump(world);
}

/* ---- outgoing ---- */

static struct world world;

Test(snapshot_exchange, snapshot_is_opened_sent_and_closed)
{
    struct raft_snapshot *snapshot;
    peers_transfer transfer;

    init(&world);
    snapshot = open_snapshot(&world, 20);
    cr_assert_eq(snapshot->conf.voters.count, 1);
    cr_assert_eq(snapshot->conf.learners.ids[0], 2);
    transfer = send_to(&world, 2, snapshot);
    cr_assert_eq(snapshot_exchange_sending(world.exchange), 1);
    send_rest(&world, transfer, MS_SNAP_PIECE_BYTES);
    snapshot_exchange_on_done(world.exchange, transfer, 2, MS_OK);
    cr_assert_eq(world.reports[2][0], 1);
    cr_assert_eq(world.reports[2][1], 0);
    cr_assert_eq(snapshot_exchange_sending(world.exchange), 0);

    /* The peer installs it; meanwhile the log behind it must stay. */
    tick_ms(&world, 10000);
    cr_assert_eq(world.sent_count, 0);
    world.gone_on = true;
    tick_ms(&world, 100);
    tick_ms(&world, 6000);
    cr_assert_eq(take(&world, MS_IPC_SNAP_CLOSE).body.close.session, 1);
    raft_snapshot_release(snapshot);
    fini(&world);
}

Test(snapshot_exchange, peer_takes_pieces_of_any_size)
{
    uint64_t seed = test_seed("pieces_of_any_size");

    init(&world);
    for (int round = 0; round < 20; round++) {
        struct raft_snapshot *snapshot = NULL;
        peers_transfer transfer;

        if (snapshot_exchange_newest(world.exchange, 1, &snapshot) != MS_OK) {
            snapshot = open_snapshot(&world, 20);
        }
        world.transfer_count = 0;
        memset(world.transfers, 0, sizeof(world.transfers));
        transfer = send_to(&world, 2, snapshot);
        while (world.transfers[transfer].written < FILE_BYTES) {
            want(&world, transfer, world.transfers[transfer].written,
                 1 + test_random_below(&seed, 200000));
            answer_reads(&world);
        }
        cr_assert_arr_eq(world.transfers[transfer].bytes, file, FILE_BYTES);
        snapshot_exchange_on_done(world.exchange, transfer, 2, MS_OK);
        raft_snapshot_release(snapshot);
    }
    fini(&world);
}

Test(snapshot_exchange, reads_one_piece_ahead_and_no_more)
{
    struct raft_snapshot *snapshot;
    peers_transfer transfer;
    struct sent sent;

    init(&world);
    snapshot = open_snapshot(&world, 20);
    transfer = send_to(&world, 2, snapshot);
    pump(&world);
    cr_assert_eq(world.sent_count, 0, "nobody has said where to start");
    want(&world, transfer, 0, 1000);
    sent = take(&world, MS_IPC_SNAP_READ);
    cr_assert_eq(world.sent_count, 0);
    cr_assert_eq(answer_read(&world, &sent), MS_OK);
    cr_assert_eq(world.transfers[transfer].written, 1000);
    sent = take(&world, MS_IPC_SNAP_READ);
    cr_assert_eq(sent.body.read.offset, MS_SNAP_PIECE_BYTES);
    cr_assert_eq(answer_read(&world, &sent), MS_OK);
    cr_assert_eq(world.sent_count, 0, "the peer takes nothing");
    raft_snapshot_release(snapshot);
    fini(&world);
}

Test(snapshot_exchange, peer_that_has_a_part_gets_the_rest)
{
    struct raft_snapshot *snapshot;
    peers_transfer transfer;

    init(&world);
    snapshot = open_snapshot(&world, 20);
    transfer = send_to(&world, 2, snapshot);
    memcpy(world.transfers[transfer].bytes, file, 1234);
    world.transfers[transfer].written = 1234;
    send_rest(&world, transfer, MS_SNAP_PIECE_BYTES);
    raft_snapshot_release(snapshot);
    fini(&world);
}

Test(snapshot_exchange, peers_share_a_session)
{
    struct raft_snapshot *snapshot;
    peers_transfer to_2;
    peers_transfer to_3;

    init(&world);
    snapshot = open_snapshot(&world, 20);
    to_2 = send_to(&world, 2, snapshot);
    to_3 = send_to(&world, 3, snapshot);
    want(&world, to_2, 0, 500);
    want(&world, to_3, 0, 700);
    answer_reads(&world);
    cr_assert_eq(world.transfers[to_2].written, 500);
    cr_assert_eq(world.transfers[to_3].written, 700);
    send_rest(&world, to_2, 50000);
    send_rest(&world, to_3, 60000);
    snapshot_exchange_on_done(world.exchange, to_2, 2, MS_OK);
    world.gone_on = true;
    tick_ms(&world, 100);
    tick_ms(&world, 6000);
    cr_assert_eq(world.sent_count, 0, "member 3 still uses it");
    raft_snapshot_release(snapshot);
    fini(&world);
}

Test(snapshot_exchange, snapshot_that_the_log_does_not_continue_is_no_use)
{
    struct raft_snapshot *snapshot;
    struct raft_snapshot *newer = NULL;
    struct sent sent;

    init(&world);
    snapshot = open_snapshot(&world, 20);
    cr_assert_eq(snapshot_exchange_newest(world.exchange, 21, &newer), MS_OK);
    raft_snapshot_release(newer);
    (void)send_to(&world, 2, snapshot);
    cr_assert_eq(snapshot_exchange_newest(world.exchange, 22, &newer), MS_EAGAIN);
    pump(&world);
    sent = take(&world, MS_IPC_SNAP_OPEN);
    cr_assert_eq(sent.body.open.min_index, 21);
    cr_assert_eq(opened(&world, sent.body.open.session, 40, MS_OK), MS_OK);
    cr_assert_eq(snapshot_exchange_newest(world.exchange, 22, &newer), MS_OK);
    cr_assert_eq(newer->index, 40);
    raft_snapshot_release(newer);
    raft_snapshot_release(snapshot);
    fini(&world);
}

Test(snapshot_exchange, stale_session_that_nobody_uses_is_closed_for_a_newer_one)
{
    struct raft_snapshot *snapshot;

    init(&world);
    snapshot = open_snapshot(&world, 20);
    raft_snapshot_release(snapshot);
    cr_assert_eq(snapshot_exchange_newest(world.exchange, 30, &snapshot), MS_EAGAIN);
    pump(&world);
    (void)take(&world, MS_IPC_SNAP_CLOSE);
    cr_assert_eq(take(&world, MS_IPC_SNAP_OPEN).body.open.session, 2);
    fini(&world);
}

Test(snapshot_exchange, no_snapshot_yet_is_asked_for_again)
{
    struct raft_snapshot *snapshot = NULL;

    init(&world);
    cr_assert_eq(snapshot_exchange_newest(world.exchange, 1, &snapshot), MS_EAGAIN);
    cr_assert_eq(snapshot_exchange_newest(world.exchange, 1, &snapshot), MS_EAGAIN);
    pump(&world);
    cr_assert_eq(world.sent_count, 1, "asked once");
    cr_assert_eq(opened(&world, take(&world, MS_IPC_SNAP_OPEN).body.open.session, 0, MS_ENOENT),
                 MS_OK);
    cr_assert_eq(snapshot_exchange_newest(world.exchange, 1, &snapshot), MS_EAGAIN);
    pump(&world);
    cr_assert_eq(take(&world, MS_IPC_SNAP_OPEN).body.open.session, 2);
    fini(&world);
}

Test(snapshot_exchange, full_ring_loses_nothing)
{
    struct raft_snapshot *snapshot;
    peers_transfer transfer;

    init(&world);
    snapshot = open_snapshot(&world, 20);
    transfer = send_to(&world, 2, snapshot);
    world.room = 0;
    want(&world, transfer, 0, 1000);
    cr_assert_eq(world.sent_count, 0);
    world.room = SIZE_MAX;
    pump(&world);
    answer_reads(&world);
    cr_assert_eq(world.transfers[transfer].written, 1000);
    raft_snapshot_release(snapshot);
    fini(&world);
}

Test(snapshot_exchange, peer_that_fails_is_reported_and_may_come_again)
{
    struct raft_snapshot *snapshot;
    peers_transfer transfer;

    init(&world);
    snapshot = open_snapshot(&world, 20);
    transfer = send_to(&world, 2, snapshot);
    want(&world, transfer, 0, 1000);
    answer_reads(&world);
    snapshot_exchange_on_done(world.exchange, transfer, 2, MS_EPEER);
    cr_assert_eq(world.reports[2][1], 1);
    tick_ms(&world, 100);
    tick_ms(&world, 1000);
    cr_assert_eq(world.sent_count, 0, "the session waits for it");
    transfer = send_to(&world, 2, snapshot);
    send_rest(&world, transfer, MS_SNAP_PIECE_BYTES);

    world.send_status = MS_EBUSY;
    (void)send_to(&world, 3, snapshot);
    cr_assert_eq(world.reports[3][1], 1);
    raft_snapshot_release(snapshot);
    fini(&world);
}

Test(snapshot_exchange, second_send_replaces_the_first)
{
    struct raft_snapshot *snapshot;
    peers_transfer first;
    peers_transfer second;

    init(&world);
    snapshot = open_snapshot(&world, 20);
    first = send_to(&world, 2, snapshot);
    want(&world, first, 0, 1000);
    second = send_to(&world, 2, snapshot);
    cr_assert(world.transfers[first].aborted);
    answer_reads(&world);
    cr_assert_eq(world.transfers[first].written, 0);
    send_rest(&world, second, 100000);
    raft_snapshot_release(snapshot);
    fini(&world);
}

Test(snapshot_exchange, read_error_fails_the_transfer)
{
    struct raft_snapshot *snapshot;
    peers_transfer transfer;
    struct ms_snap_data body = {.status = MS_EIO};
    struct sent sent;

    init(&world);
    snapshot = open_snapshot(&world, 20);
    transfer = send_to(&world, 2, snapshot);
    want(&world, transfer, 0, 1000);
    sent = take(&world, MS_IPC_SNAP_READ);
    body.session = sent.body.read.session;
    cr_assert_eq(from_storaged(&world, MS_IPC_SNAP_DATA, &body, sizeof(body), NULL, 0), MS_OK);
    cr_assert(world.transfers[transfer].aborted);
    cr_assert_eq(world.reports[2][1], 1);
    raft_snapshot_release(snapshot);
    fini(&world);
}

Test(snapshot_exchange, storaged_that_is_replaced_goes_on_with_the_same_snapshot)
{
    struct raft_snapshot *snapshot;
    peers_transfer transfer;

    init(&world);
    snapshot = open_snapshot(&world, 20);
    transfer = send_to(&world, 2, snapshot);
    want(&world, transfer, 0, 1000);
    answer_reads(&world);
    want(&world, transfer, 1000, MS_SNAP_PIECE_BYTES);
    replace_storaged(&world);
    cr_assert_eq(opened(&world, take(&world, MS_IPC_SNAP_OPEN).body.open.session, 20, MS_OK),
                 MS_OK);
    answer_reads(&world);
    send_rest(&world, transfer, MS_SNAP_PIECE_BYTES);
    cr_assert(!world.transfers[transfer].aborted);
    raft_snapshot_release(snapshot);
    fini(&world);
}

Test(snapshot_exchange, transfer_of_a_snapshot_that_is_gone_fails)
{
    struct raft_snapshot *snapshot;
    peers_transfer transfer;

    init(&world);
    snapshot = open_snapshot(&world, 20);
    transfer = send_to(&world, 2, snapshot);
    want(&world, transfer, 0, 1000);
    replace_storaged(&world);
    cr_assert_eq(opened(&world, take(&world, MS_IPC_SNAP_OPEN).body.open.session, 30, MS_OK),
                 MS_OK);
    cr_assert(world.transfers[transfer].aborted);
    cr_assert_eq(world.reports[2][1], 1);
    raft_snapshot_release(snapshot);
    cr_assert_eq(snapshot_exchange_newest(world.exchange, 1, &snapshot), MS_OK);
    cr_assert_eq(snapshot->index, 30);
    transfer = send_to(&world, 2, snapshot);
    replace_storaged(&world);
    cr_assert_eq(opened(&world, take(&world, MS_IPC_SNAP_OPEN).body.open.session, 0, MS_ENOENT),
                 MS_OK);
    cr_assert(world.transfers[transfer].aborted);
    raft_snapshot_release(snapshot);
    fini(&world);
}

Test(snapshot_exchange, storaged_that_makes_things_up_is_reported)
{
    struct raft_snapshot *snapshot;
    struct ms_snap_opened bad = {.session = 2, .index = 20, .term = 2, .size_bytes = FILE_BYTES};
    struct ms_snap_data data = {.session = 1};
    peers_transfer transfer;

    init(&world);
    cr_assert_eq(opened(&world, 1, 20, MS_OK), MS_EPROTO, "nothing was asked for");
    snapshot = open_snapshot(&world, 20);
    cr_assert_eq(opened(&world, 1, 20, MS_OK), MS_EPROTO, "twice");
    transfer = send_to(&world, 2, snapshot);
    want(&world, transfer, 0, 1000);
    cr_assert_eq(from_storaged(&world, MS_IPC_SNAP_DATA, &data, sizeof(data), file, 5), MS_EPROTO,
                 "shorter than asked for");
    raft_snapshot_release(snapshot);
    cr_assert_eq(snapshot_exchange_newest(world.exchange, 50, &snapshot), MS_EAGAIN);
    pump(&world);
    cr_assert_eq(from_storaged(&world, MS_IPC_SNAP_OPENED, &bad, sizeof(bad), file, 100), MS_EPROTO,
                 "no configuration");
    fini(&world);
}

/* ---- incoming ---- */

static struct raft_snapshot *incoming_snapshot(raft_index index)
{
    uint8_t conf[MS_CONF_STATE_BYTES_MAX];
    size_t len = encode_conf(conf);
    struct membership membership;
    struct raft_conf_state core;
    struct raft_buffer *data = NULL;
    struct raft_snapshot *snapshot = NULL;

    cr_assert_eq(membership_decode(&membership, index, conf, len), MS_OK);
    membership_to_core(&membership, &core);
    cr_assert_eq(snapshot_conf_create(&heap, conf, len, &data), MS_OK);
    cr_assert_eq(raft_snapshot_create(&heap, index, 2, &core, data, &snapshot), MS_OK);
    raft_buffer_release(data);
    return snapshot;
}

/* A leader of term offers the snapshot of index. */
static peers_transfer offer(node_id from, raft_term term, raft_index index)
{
    struct raft_snapshot *snapshot = incoming_snapshot(index);
    const struct raft_message message = {
        .type = RAFT_MSG_SNAP, .to = 1, .from = from, .term = term, .snapshot = snapshot};
    peers_transfer transfer = ++world.transfer_count;

    world.transfers[transfer].peer = from;
    snapshot_exchange_on_begin(world.exchange, transfer, &message, FILE_BYTES);
    raft_snapshot_release(snapshot);
    pump(&world);
    return transfer;
}

static int progress(uint64_t number, uint64_t offset, bool complete)
{
    const struct ms_snap_progress body = {
        .transfer = number, .offset = offset, .complete = complete ? 1 : 0};

    return from_storaged(&world, MS_IPC_SNAP_PROGRESS, &body, sizeof(body), NULL, 0);
}

static void bring(peers_transfer transfer, uint64_t offset, size_t len_bytes)
{
    snapshot_exchange_on_data(world.exchange, transfer, offset, file + offset, len_bytes);
    pump(&world);
}

/* Acknowledges every SNAP_WRITE that was sent. */
static void acknowledge_writes(uint64_t number)
{
    while (world.sent_count > 0) {
        struct sent sent = take(&world, MS_IPC_SNAP_WRITE);
        uint64_t end = sent.body.write.offset + sent.tail_bytes;

        cr_assert_eq(sent.body.write.transfer, number);
        cr_assert_eq(progress(number, end, end == FILE_BYTES), MS_OK);
    }
}

static void bring_rest(peers_transfer transfer, uint64_t number, uint64_t offset)
{
    while (offset < FILE_BYTES) {
        size_t len = FILE_BYTES - offset < 100000 ? (size_t)(FILE_BYTES - offset) : (size_t)100000;

        bring(transfer, offset, len);
        acknowledge_writes(number);
        offset += len;
    }
    snapshot_exchange_on_end(world.exchange, transfer);
}

Test(snapshot_exchange, incoming_snapshot_is_stored_and_stepped)
{
    peers_transfer transfer;
    struct sent sent;

    init(&world);
    transfer = offer(2, 3, 50);
    sent = take(&world, MS_IPC_SNAP_RECEIVE);
    cr_assert_eq(sent.body.receive.index, 50);
    cr_assert_eq(sent.body.receive.size_bytes, FILE_BYTES);
    cr_assert(!world.transfers[transfer].accepted);
    cr_assert_eq(progress(sent.body.receive.transfer, 0, false), MS_OK);
    cr_assert(world.transfers[transfer].accepted);
    bring_rest(transfer, sent.body.receive.transfer, 0);
    cr_assert_eq(world.stepped, 1);
    cr_assert_eq(world.stepped_index, 50);
    cr_assert(world.transfers[transfer].finished);
    cr_assert_eq(world.transfers[transfer].status, MS_OK);
    cr_assert_eq(world.transfers[transfer].consumed, FILE_BYTES);
    cr_assert_arr_eq(world.stored, file, FILE_BYTES);
    cr_assert(!snapshot_exchange_is_receiving(world.exchange));
    cr_assert_eq(world.sent_count, 0);
    fini(&world);
}

Test(snapshot_exchange, transfer_goes_on_where_the_file_ends)
{
    peers_transfer transfer;
    struct sent sent;

    init(&world);
    transfer = offer(2, 3, 50);
    sent = take(&world, MS_IPC_SNAP_RECEIVE);
    cr_assert_eq(progress(sent.body.receive.transfer, 4096, false), MS_OK);
    cr_assert_eq(world.transfers[transfer].offset, 4096);
    bring_rest(transfer, sent.body.receive.transfer, 4096);
    cr_assert_eq(world.stepped, 1);

    transfer = offer(2, 3, 60);
    sent = take(&world, MS_IPC_SNAP_RECEIVE);
    cr_assert_eq(progress(sent.body.receive.transfer, FILE_BYTES, true), MS_OK);
    cr_assert_eq(world.transfers[transfer].offset, FILE_BYTES, "all of it is there");
    snapshot_exchange_on_end(world.exchange, transfer);
    cr_assert_eq(world.stepped, 2);
    fini(&world);
}

Test(snapshot_exchange, what_does_not_fit_into_the_ring_waits)
{
    peers_transfer transfer;
    struct sent sent;

    init(&world);
    transfer = offer(2, 3, 50);
    sent = take(&world, MS_IPC_SNAP_RECEIVE);
    cr_assert_eq(progress(sent.body.receive.transfer, 0, false), MS_OK);
    world.room = 1;
    bring(transfer, 0, 1000);
    bring(transfer, 1000, 1000);
    cr_assert_eq(world.sent_count, 1);
    cr_assert_eq(world.transfers[transfer].consumed, 0);
    world.room = SIZE_MAX;
    acknowledge_writes(sent.body.receive.transfer);
    cr_assert_eq(world.transfers[transfer].consumed, 2000);
    fini(&world);
}

Test(snapshot_exchange, sender_beyond_the_window_is_cut_off)
{
    peers_transfer transfer;
    uint64_t offset = 0;
    const size_t len = 100000;

    init(&world);
    transfer = offer(2, 3, 50);
    cr_assert_eq(progress(take(&world, MS_IPC_SNAP_RECEIVE).body.receive.transfer, 0, false),
                 MS_OK);
    bring(transfer, 5, 10);
    cr_assert(world.transfers[transfer].aborted, "a gap");
    (void)take(&world, MS_IPC_SNAP_ABANDON);

    transfer = offer(2, 3, 50);
    cr_assert_eq(progress(take(&world, MS_IPC_SNAP_RECEIVE).body.receive.transfer, 0, false),
                 MS_OK);
    while (offset + len <= FILE_BYTES) {
        bring(transfer, offset, len);
        offset += len;
    }
    bring(transfer, offset, FILE_BYTES - offset);
    cr_assert(!world.transfers[transfer].aborted, "within the size and the window");
    bring(transfer, FILE_BYTES, 1);
    cr_assert(world.transfers[transfer].aborted, "beyond the size");
    fini(&world);
}

Test(snapshot_exchange, lost_peer_abandons_the_transfer)
{
    peers_transfer transfer;
    uint64_t number;

    init(&world);
    transfer = offer(2, 3, 50);
    number = take(&world, MS_IPC_SNAP_RECEIVE).body.receive.transfer;
    cr_assert_eq(progress(number, 0, false), MS_OK);
    bring(transfer, 0, 1000);
    (void)take(&world, MS_IPC_SNAP_WRITE);
    snapshot_exchange_on_lost(world.exchange, transfer);
    pump(&world);
    cr_assert_eq(take(&world, MS_IPC_SNAP_ABANDON).body.abandon.transfer, number);
    cr_assert_eq(progress(number, 1000, false), MS_OK, "late, of no more use");
    cr_assert(!snapshot_exchange_is_receiving(world.exchange));
    fini(&world);
}

Test(snapshot_exchange, newer_leader_replaces_and_older_is_refused)
{
    peers_transfer first;
    peers_transfer second;
    peers_transfer third;

    init(&world);
    first = offer(2, 3, 50);
    second = offer(3, 4, 55);
    cr_assert(world.transfers[first].refused);
    cr_assert(!world.transfers[second].refused);
    third = offer(2, 3, 50);
    cr_assert(world.transfers[third].refused);
    third = offer(4, 2, 50);
    cr_assert(world.transfers[third].refused, "of an earlier term");
    fini(&world);
}

Test(snapshot_exchange, snapshot_that_is_not_needed_is_stepped_without_its_bytes)
{
    peers_transfer transfer;

    init(&world);
    transfer = offer(2, 3, 10);
    cr_assert(world.transfers[transfer].refused);
    cr_assert_eq(world.stepped, 1, "the core tells where it stands");
    cr_assert_eq(world.sent_count, 0);
    fini(&world);
}

Test(snapshot_exchange, snapshot_without_a_true_configuration_is_refused)
{
    struct raft_snapshot *snapshot;
    struct raft_message message = {.type = RAFT_MSG_SNAP, .to = 1, .from = 2, .term = 3};
    const struct raft_conf_state other = {.voters = {.count = 2, .ids = {1, 2}}};

    init(&world);
    snapshot = incoming_snapshot(50);
    snapshot->conf = other;
    message.snapshot = snapshot;
    snapshot_exchange_on_begin(world.exchange, 1, &message, FILE_BYTES);
    cr_assert(world.transfers[1].refused);
    raft_buffer_release(snapshot->data);
    snapshot->data = NULL;
    snapshot_exchange_on_begin(world.exchange, 2, &message, FILE_BYTES);
    cr_assert(world.transfers[2].refused);
    raft_snapshot_release(snapshot);
    fini(&world);
}

Test(snapshot_exchange, storaged_that_refuses_ends_the_transfer)
{
    struct ms_snap_progress body = {.status = MS_ENOSPC};
    peers_transfer transfer;

    init(&world);
    transfer = offer(2, 3, 50);
    body.transfer = take(&world, MS_IPC_SNAP_RECEIVE).body.receive.transfer;
    cr_assert_eq(from_storaged(&world, MS_IPC_SNAP_PROGRESS, &body, sizeof(body), NULL, 0), MS_OK);
    cr_assert(world.transfers[transfer].refused);
    transfer = offer(2, 3, 50);
    body.transfer = take(&world, MS_IPC_SNAP_RECEIVE).body.receive.transfer;
    cr_assert_eq(progress(body.transfer, 0, false), MS_OK);
    body.status = MS_ECORRUPT;
    cr_assert_eq(from_storaged(&world, MS_IPC_SNAP_PROGRESS, &body, sizeof(body), NULL, 0), MS_OK);
    cr_assert(world.transfers[transfer].finished);
    cr_assert_eq(world.transfers[transfer].status, MS_ECORRUPT);
    cr_assert(!snapshot_exchange_is_receiving(world.exchange));
    fini(&world);
}

Test(snapshot_exchange, storaged_that_is_replaced_gets_what_it_has_not_acknowledged)
{
    peers_transfer transfer;
    uint64_t number;

    init(&world);
    transfer = offer(2, 3, 50);
    number = take(&world, MS_IPC_SNAP_RECEIVE).body.receive.transfer;
    cr_assert_eq(progress(number, 0, false), MS_OK);
    bring(transfer, 0, 1000);
    acknowledge_writes(number);
    bring(transfer, 1000, 1000);
    bring(transfer, 2000, 1000);
    memset(world.stored + 1000, 0, 2000);
    replace_storaged(&world);
    number = take(&world, MS_IPC_SNAP_RECEIVE).body.receive.transfer;
    bring(transfer, 3000, 1000);
    cr_assert_eq(world.sent_count, 0, "where to go on is not known yet");
    cr_assert_eq(progress(number, 1500, false), MS_OK);
    cr_assert_eq(world.transfers[transfer].consumed, 1500);
    acknowledge_writes(number);
    cr_assert_eq(world.transfers[transfer].consumed, 4000);
    bring_rest(transfer, number, 4000);
    cr_assert_eq(world.stepped, 1);
    cr_assert_arr_eq(world.stored + 1500, file + 1500, FILE_BYTES - 1500);
    fini(&world);
}

Test(snapshot_exchange, storaged_that_lost_more_makes_the_sender_start_again)
{
    peers_transfer transfer;
    uint64_t number;

    init(&world);
    transfer = offer(2, 3, 50);
    number = take(&world, MS_IPC_SNAP_RECEIVE).body.receive.transfer;
    cr_assert_eq(progress(number, 0, false), MS_OK);
    bring(transfer, 0, 1000);
    acknowledge_writes(number);
    replace_storaged(&world);
    number = take(&world, MS_IPC_SNAP_RECEIVE).body.receive.transfer;
    cr_assert_eq(progress(number, 10, false), MS_OK);
    cr_assert(world.transfers[transfer].aborted);
    fini(&world);
}

Test(snapshot_exchange, core_without_memory_is_asked_again)
{
    peers_transfer transfer;
    uint64_t number;

    init(&world);
    world.step_status = MS_ENOMEM;
    transfer = offer(2, 3, 50);
    number = take(&world, MS_IPC_SNAP_RECEIVE).body.receive.transfer;
    cr_assert_eq(progress(number, 0, false), MS_OK);
    bring_rest(transfer, number, 0);
    cr_assert(!world.transfers[transfer].finished);
    world.step_status = MS_OK;
    pump(&world);
    cr_assert(world.transfers[transfer].finished);
    cr_assert_eq(world.stepped, 1);
    fini(&world);
}

Test(snapshot_exchange, progress_beyond_what_was_sent_is_reported)
{
    peers_transfer transfer;
    uint64_t number;

    init(&world);
    transfer = offer(2, 3, 50);
    number = take(&world, MS_IPC_SNAP_RECEIVE).body.receive.transfer;
    cr_assert_eq(progress(number, FILE_BYTES + 1, false), MS_EPROTO);
    cr_assert_eq(progress(number, 0, true), MS_EPROTO);
    cr_assert_eq(progress(number, 0, false), MS_OK);
    bring(transfer, 0, 1000);
    cr_assert_eq(progress(number, 1001, false), MS_EPROTO);
    cr_assert_eq(progress(number, 1000, false), MS_OK);
    cr_assert_eq(progress(number, 999, false), MS_EPROTO);
    fini(&world);
}

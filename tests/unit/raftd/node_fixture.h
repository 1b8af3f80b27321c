/*
 * node_fixture: a raftd node between a fake storaged and fake apids, over real links.
 *
 * Both ends of every link are in this process and nothing runs by itself: a test moves each side a
 * step at a time. See fake_store.h for what storaged does and checks.
 */
#ifndef METASTORE_TESTS_UNIT_RAFTD_NODE_FIXTURE_H
#define METASTORE_TESTS_UNIT_RAFTD_NODE_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/command.h"
#include "common/conf_state.h"
#include "common/link.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/status_page.h"
#include "raftd/node.h"
#include "tests/seed.h"
#include "tests/unit/raftd/fake_network.h"
#include "tests/unit/raftd/fake_store.h"

#define FIXTURE_APIS          2
#define FIXTURE_COMMAND_BYTES 64

struct world {
    struct raftd_node *node;
    struct ms_config config;
    struct ms_status_page *page;
    struct ms_metrics_page *metrics_page;
    struct ms_instant now;
    uint64_t generation;
    uint64_t ring_bytes;
    struct fake_store store;
    struct ms_link api[FIXTURE_APIS]; /* the apids' ends */
    uint64_t next_op;                 /* seq of the next command made */
    struct fake_network network;
    bool first_start;
    uint64_t data_dirs_lost; /* of this id, before this one */
    uint64_t random;         /* of election timeouts */
    unsigned running_calls;
    unsigned ready_calls;
    unsigned removed_calls;
    unsigned admin_answers;
    struct ms_control_member_answer admin_answer; /* the last one */
    unsigned reports;
    struct ms_link_info reported;
    struct ms_err err;
};

static inline void world_on_report(void *ctx, const struct ms_link_info *peer, const char *text)
{
    struct world *world = ctx;

    cr_assert_not_null(text);
    world->reports++;
    world->reported = *peer;
}

static inline void world_on_ready(void *ctx)
{
    struct world *world = ctx;

    world->ready_calls++;
}

static inline void world_on_running(void *ctx)
{
    struct world *world = ctx;

    world->running_calls++;
}

static inline void world_on_removed(void *ctx)
{
    struct world *world = ctx;

    world->removed_calls++;
}

static inline void world_on_admin_answer(void *ctx, const struct ms_control_member_answer *answer)
{
    struct world *world = ctx;

    world->admin_answers++;
    world->admin_answer = *answer;
}

static inline uint32_t world_draw(void *ctx, uint32_t n)
{
    struct world *world = ctx;

    return (uint32_t)test_random_below(&world->random, n);
}

/* ---- node ---- */

static inline int world_try_create_node(struct world *world)
{
    const struct raftd_node_options options = {
        .config = &world->config,
        .origin = 77 + world->generation,
        .data_id = 0xda7a0000 + world->config.id + world->data_dirs_lost * 0x100,
        .now = world->now,
        .page = world->page,
        .metrics = ms_metrics_slot(world->metrics_page, MS_ROLE_RAFTD, 0),
        .network = network_calls(&world->network),
        .report_peer = world_on_report,
        .on_running = world_on_running,
        .on_ready = world_on_ready,
        .on_removed = world_on_removed,
        .answer_admin = world_on_admin_answer,
        .first_start = world->first_start,
        .draw = world_draw,
        .ctx = world,
    };

    world->network.self = world->config.id;
    return raftd_node_create(&options, &world->node, &world->err);
}

static inline void world_create_node(struct world *world)
{
    cr_assert_eq(world_try_create_node(world), MS_OK, "%s", world->err.text);
    raftd_node_set_listening(world->node);
}

static inline struct world *world_create(void)
{
    struct world *world = calloc(1, sizeof(*world));
    int fd = -1;

    cr_assert_not_null(world);
    ms_log_init("raftd", MS_LOG_TEXT, MS_LOG_ERROR);
    world->ring_bytes = FIXTURE_RING_BYTES;
    world->now.ns = 1000000000;
    world->next_op = 1;
    world->config.id = 1;
    world->config.heartbeat_interval_ms = 100;
    world->config.election_timeout_ms = 1000;
    (void)snprintf(world->config.cluster, sizeof(world->config.cluster), "http://127.0.0.1:9021");
    cr_assert_eq(ms_status_page_create(&fd, &world->err), MS_OK);
    cr_assert_eq(ms_status_page_map(fd, true, &world->page, &world->err), MS_OK);
    world->store.page = world->page;
    close(fd);
    cr_assert_eq(ms_metrics_page_create(&fd, &world->err), MS_OK);
    cr_assert_eq(ms_metrics_page_map(fd, &world->metrics_page, &world->err), MS_OK);
    close(fd);
    ms_link_init_closed(&world->store.log);
    ms_link_init_closed(&world->store.apply);
    for (size_t i = 0; i < FIXTURE_APIS; i++) {
        ms_link_init_closed(&world->api[i]);
    }
    return world;
}

static inline void world_destroy(struct world *world)
{
    network_clear(&world->network);
    raftd_node_destroy(world->node);
    ms_link_fini(&world->store.log);
    ms_link_fini(&world->store.apply);
    for (size_t i = 0; i < FIXTURE_APIS; i++) {
        ms_link_fini(&world->api[i]);
    }
    for (size_t i = 0; i < FIXTURE_ENTRIES_MAX; i++) {
        free(world->store.entries[i].data);
    }
    ms_status_page_unmap(world->page);
    ms_metrics_page_unmap(world->metrics_page);
    free(world);
}

/* Runs the node until it has nothing left to do; returns what the last call did. */
static inline int world_run(struct world *world)
{
    int rc;
    unsigned calls = 0;

    do {
        rc = raftd_node_run(world->node, world->now, &world->err);
        cr_assert(++calls < 10000, "the node never comes to rest");
    } while (rc == MS_EAGAIN);
    return rc;
}

static inline void world_run_ok(struct world *world)
{
    cr_assert_eq(world_run(world), MS_OK, "%s", world->err.text);
}

static inline void world_tick(struct world *world, uint64_t ms)
{
    world->now.ns += ms * 1000000;
    cr_assert_eq(raftd_node_tick(world->node, world->now, &world->err), MS_OK, "%s",
                 world->err.text);
    world_run_ok(world);
}

static inline struct ms_raft_status world_status(const struct world *world)
{
    struct ms_raft_status status;

    cr_assert_eq(ms_status_page_read(world->page, true, &status), MS_OK);
    return status;
}

static inline uint64_t world_metric(const struct world *world, enum ms_metric metric)
{
    return ms_metrics_get(ms_metrics_slot(world->metrics_page, MS_ROLE_RAFTD, 0), metric);
}

/* ---- links ---- */

/* Makes a link and gives raftd its end; *other gets the far one. */
static inline void world_link(struct world *world, enum ms_link_kind kind, enum ms_role role,
                              uint32_t instance, uint64_t ring_bytes, struct ms_link *other)
{
    const bool raftd_is_left = kind != MS_LINK_API_RAFT;
    struct ms_link_info info = {.kind = (uint32_t)kind,
                                .peer_role = (uint32_t)role,
                                .peer_instance = instance,
                                .generation = ++world->generation,
                                .peer_origin = 1000 + world->generation};
    struct ms_link_info far_info = info;
    struct ms_link link;
    int left[MS_LINK_FD_COUNT];
    int right[MS_LINK_FD_COUNT];

    cr_assert_eq(ms_link_create(&info, ring_bytes, left, right, &world->err), MS_OK, "%s",
                 world->err.text);
    cr_assert_eq(
        ms_link_take(&link, &info, MS_ROLE_RAFTD, raftd_is_left ? left : right, &world->err), MS_OK,
        "%s", world->err.text);
    far_info.peer_role = MS_ROLE_RAFTD;
    far_info.peer_instance = 0;
    ms_link_fini(other);
    cr_assert_eq(ms_link_take(other, &far_info, role, raftd_is_left ? right : left, &world->err),
                 MS_OK, "%s", world->err.text);
    cr_assert_eq(raftd_node_take_link(world->node, &link, world->now, &world->err), MS_OK, "%s",
                 world->err.text);
}

static inline void world_link_api(struct world *world, uint32_t instance)
{
    world_link(world, MS_LINK_API_RAFT, MS_ROLE_APID, instance, world->ring_bytes,
               &world->api[instance]);
}

/* New links to storaged, without their first messages. */
static inline void world_link_store(struct world *world)
{
    world_link(world, MS_LINK_RAFT_LOG, MS_ROLE_STORAGED, 0, world->ring_bytes, &world->store.log);
    world_link(world, MS_LINK_RAFT_APPLY, MS_ROLE_STORAGED, 0, world->ring_bytes,
               &world->store.apply);
    world->store.received_seq = 0;
    world->store.announced.index = 0;
}

static inline void world_start_store(struct world *world)
{
    world_link_store(world);
    store_recover(&world->store);
    store_say_log_state(&world->store);
    store_say_apply_state(&world->store);
}

/* storaged dies; its disk and its state machine stay. */
static inline void world_kill_store(struct world *world)
{
    cr_assert_eq(raftd_node_peer_down(world->node, MS_ROLE_STORAGED, 0, world->now, &world->err),
                 MS_OK);
}

static inline void world_settle(struct world *world)
{
    unsigned written;
    unsigned applied;

    do {
        world_run_ok(world);
        written = ms_link_is_open(&world->store.log) ? store_write(&world->store, 1000) : 0;
        if (written > 0) {
            store_say_durable(&world->store);
        }
        applied = ms_link_is_open(&world->store.apply) ? store_apply(&world->store, 1000) : 0;
        if (applied > 0) {
            store_say_done(&world->store);
        }
        ms_link_flush(&world->store.log);
        ms_link_flush(&world->store.apply);
    } while (written > 0 || applied > 0);
    world_run_ok(world);
}

/* A world whose node leads, with one apid, and everything at rest. */
static inline struct world *world_create_leader(void)
{
    struct world *world = world_create();

    world_create_node(world);
    world_start_store(world);
    world_link_api(world, 0);
    world_settle(world);
    cr_assert_eq(world_status(world).role, MS_RAFT_LEADER);
    cr_assert_eq(world_status(world).sole_voter, 1);
    return world;
}

/* ---- apids ---- */

/* Puts one command of len_bytes on the ring; false if it is full. Its number is in its data. */
static inline bool api_propose_sized(struct world *world, uint32_t instance, size_t len_bytes)
{
    struct ms_propose body = {
        .id = {.origin = 9 + instance, .seq = world->next_op},
        .deadline_ns = world->now.ns + 5000000000,
    };
    void *dst_body = NULL;
    void *dst_tail = NULL;

    if (ms_link_begin(&world->api[instance], MS_IPC_PROPOSE, len_bytes, &dst_body, &dst_tail) !=
        MS_OK) {
        return false;
    }
    memcpy(dst_body, &body, sizeof(body));
    memset(dst_tail, (int)(world->next_op & 0xff), len_bytes);
    memcpy(dst_tail, &world->next_op, sizeof(world->next_op));
    if (len_bytes >= sizeof(world->next_op) + sizeof(instance)) {
        memcpy((uint8_t *)dst_tail + sizeof(world->next_op), &instance, sizeof(instance));
    }
    ms_link_commit(&world->api[instance]);
    world->next_op++;
    return true;
}

static inline void api_propose(struct world *world, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        cr_assert(api_propose_sized(world, 0, FIXTURE_COMMAND_BYTES));
    }
}

static inline void api_read(struct world *world, uint32_t instance, uint64_t request)
{
    struct ms_read_index body = {.request = request, .deadline_ns = world->now.ns + 5000000000};

    cr_assert_eq(ms_link_send(&world->api[instance], MS_IPC_READ_INDEX, &body), MS_OK);
}

/* The next answer that an apid got; false if there is none. */
static inline bool api_answer(struct world *world, uint32_t instance, struct ms_ipc_message *out)
{
    int rc = ms_link_receive(&world->api[instance], out);

    if (rc == MS_EAGAIN) {
        return false;
    }
    cr_assert_eq(rc, MS_OK);
    ms_link_release(&world->api[instance]);
    return true;
}

static inline void api_expect_refusal(struct world *world, uint32_t instance, uint64_t seq,
                                      enum ms_refusal reason)
{
    struct ms_ipc_message message;
    struct ms_propose_refused body;

    cr_assert(api_answer(world, instance, &message), "no answer");
    cr_assert_eq(message.type, MS_IPC_PROPOSE_REFUSED);
    memcpy(&body, message.body, sizeof(body));
    cr_assert_eq(body.id.seq, seq);
    cr_assert_eq(body.reason, (uint32_t)reason);
}

static inline struct ms_read_ready api_expect_read(struct world *world, uint32_t instance,
                                                   uint64_t request)
{
    struct ms_ipc_message message;
    struct ms_read_ready body;

    cr_assert(api_answer(world, instance, &message), "no answer");
    cr_assert_eq(message.type, MS_IPC_READ_READY);
    memcpy(&body, message.body, sizeof(body));
    cr_assert_eq(body.request, request);
    return body;
}

#endif

/*
 * node_fixture: a raftd node between a fake storaged and fake apids, over real links.
 *
 * Both ends of every link are in this process and nothing runs by itself: a test moves each side a
 * step at a time. The fake storaged keeps a log and a state machine as the real one would, so it
 * can be killed and come back, and it checks what a storaged may rely on: records without gaps,
 * nothing to apply that is not durable, not published as committed, or whose configuration is not
 * recorded.
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
#include "raftd/entry_codec.h"
#include "raftd/node.h"

#define FIXTURE_ENTRIES_MAX   65536
#define FIXTURE_APIS          2
#define FIXTURE_RING_BYTES    (256u * 1024u)
#define FIXTURE_COMMAND_BYTES 64

struct fake_entry {
    struct ms_ipc_entry header;
    uint8_t *data;
};

struct fake_conf {
    raft_index index; /* 0: none */
    size_t len_bytes;
    uint8_t bytes[1024];
};

struct fake_store {
    struct ms_link log;
    struct ms_link apply;
    /* the disk */
    struct ms_hard_state hard;
    struct fake_entry entries[FIXTURE_ENTRIES_MAX]; /* [index] */
    raft_index last;
    struct fake_conf recorded; /* the newest LOG_CONF */
    /* the state machine */
    raft_index applied;
    struct fake_conf conf; /* as of applied */
    struct fake_conf announced;
    /* of the present links */
    uint64_t received_seq;
    uint64_t appends; /* LOG_APPENDs received */
};

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
    unsigned ready_calls;
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

/* ---- node ---- */

static inline int world_try_create_node(struct world *world)
{
    const struct raftd_node_options options = {
        .config = &world->config,
        .origin = 77 + world->generation,
        .page = world->page,
        .metrics = ms_metrics_slot(world->metrics_page, MS_ROLE_RAFTD, 0),
        .report_peer = world_on_report,
        .on_ready = world_on_ready,
        .ctx = world,
    };

    return raftd_node_create(&options, &world->node, &world->err);
}

static inline void world_create_node(struct world *world)
{
    cr_assert_eq(world_try_create_node(world), MS_OK, "%s", world->err.text);
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

/* ---- storaged ---- */

static inline raft_term store_term(const struct fake_store *store, raft_index index)
{
    return index == 0 ? 0 : store->entries[index].header.term;
}

static inline void store_say_log_state(struct fake_store *store)
{
    struct ms_log_state state = {.hard_state = store->hard,
                                 .first_index = 1,
                                 .last_index = store->last,
                                 .last_term = store_term(store, store->last)};
    void *body = NULL;
    void *tail = NULL;

    cr_assert_eq(ms_link_begin(&store->log, MS_IPC_LOG_STATE, store->conf.len_bytes, &body, &tail),
                 MS_OK);
    memcpy(body, &state, sizeof(state));
    memcpy(tail, store->conf.bytes, store->conf.len_bytes);
    ms_link_commit(&store->log);
}

static inline void store_say_apply_state(struct fake_store *store)
{
    struct ms_apply_state state = {.applied = store->applied,
                                   .applied_term = store_term(store, store->applied)};

    cr_assert_eq(ms_link_send(&store->apply, MS_IPC_APPLY_STATE, &state), MS_OK);
}

/* storaged comes (back) with what it has. */
static inline void world_start_store(struct world *world)
{
    world_link_store(world);
    store_say_log_state(&world->store);
    store_say_apply_state(&world->store);
}

/* storaged dies; its disk and its state machine stay. */
static inline void world_kill_store(struct world *world)
{
    cr_assert_eq(raftd_node_peer_down(world->node, MS_ROLE_STORAGED, 0, world->now, &world->err),
                 MS_OK);
}

static inline void store_put_entry(struct fake_store *store, const struct ms_ipc_entry *header,
                                   const uint8_t *data)
{
    struct fake_entry *entry = &store->entries[header->index];

    cr_assert(header->index < FIXTURE_ENTRIES_MAX);
    cr_assert(header->index <= store->last + 1, "entry %ju leaves a gap after %ju",
              (uintmax_t)header->index, (uintmax_t)store->last);
    cr_assert(header->index > store->applied || header->term == entry->header.term,
              "an applied entry is replaced");
    free(entry->data);
    entry->header = *header;
    entry->data = malloc(header->len_bytes + 1);
    cr_assert_not_null(entry->data);
    memcpy(entry->data, data, header->len_bytes);
    store->last = header->index;
}

static inline void store_take_append(struct fake_store *store, const struct ms_ipc_message *message)
{
    struct ms_log_append body;
    size_t offset = 0;

    memcpy(&body, message->body, sizeof(body));
    cr_assert_eq(body.seq, ++store->received_seq);
    for (uint32_t i = 0; i < body.count; i++) {
        struct ms_ipc_entry header;

        memcpy(&header, message->tail + offset, sizeof(header));
        cr_assert_eq(header.index, body.first_index + i);
        store_put_entry(store, &header, message->tail + offset + sizeof(header));
        offset += entry_codec_bytes(header.len_bytes);
    }
    cr_assert_eq(offset, message->tail_bytes);
    if (body.has_hard_state != 0) {
        cr_assert(body.hard_state.term >= store->hard.term);
        cr_assert(body.hard_state.commit >= store->hard.commit);
        cr_assert(body.hard_state.commit <= store->last, "commit beyond the log's end");
        store->hard = body.hard_state;
    }
    store->appends++;
}

/* Writes up to limit records to the disk, without saying so. Returns how many there were. */
static inline unsigned store_write(struct fake_store *store, unsigned limit)
{
    struct ms_ipc_message message;
    unsigned count = 0;

    while (count < limit && ms_link_receive(&store->log, &message) == MS_OK) {
        if (message.type == MS_IPC_LOG_APPEND) {
            store_take_append(store, &message);
        } else {
            struct ms_log_conf body;

            cr_assert_eq(message.type, MS_IPC_LOG_CONF);
            memcpy(&body, message.body, sizeof(body));
            cr_assert_eq(body.seq, ++store->received_seq);
            cr_assert(message.tail_bytes <= sizeof(store->recorded.bytes));
            store->recorded.index = body.index;
            store->recorded.len_bytes = message.tail_bytes;
            memcpy(store->recorded.bytes, message.tail, message.tail_bytes);
        }
        ms_link_release(&store->log);
        count++;
    }
    return count;
}

static inline void store_say_durable(struct fake_store *store)
{
    struct ms_log_durable body = {.seq = store->received_seq,
                                  .last_index = store->last,
                                  .last_term = store_term(store, store->last)};

    cr_assert_eq(ms_link_send(&store->log, MS_IPC_LOG_DURABLE, &body), MS_OK);
}

static inline void store_take_entries(const struct world *world, struct fake_store *store,
                                      const struct ms_ipc_message *message)
{
    struct ms_apply_entries body;
    size_t offset = 0;

    memcpy(&body, message->body, sizeof(body));
    cr_assert(body.count > 0);
    for (uint32_t i = 0; i < body.count; i++) {
        struct ms_ipc_entry header;

        memcpy(&header, message->tail + offset, sizeof(header));
        offset += entry_codec_bytes(header.len_bytes);
        cr_assert_eq(header.index, body.first_index + i);
        cr_assert_eq(header.index, store->applied + 1, "entry %ju after %ju was applied",
                     (uintmax_t)header.index, (uintmax_t)store->applied);
        cr_assert(header.index <= store->last, "not durable, but to be applied");
        cr_assert_eq(header.term, store_term(store, header.index));
        cr_assert(header.index <= ms_status_page_commit(world->page), "not published");
        if (header.type != MS_ENTRY_NORMAL && store->announced.index == header.index) {
            cr_assert_eq(store->recorded.index, header.index);
            cr_assert_arr_eq(store->recorded.bytes, store->announced.bytes,
                             store->recorded.len_bytes);
            store->conf = store->announced;
        }
        store->applied = header.index;
    }
    cr_assert_eq(offset, message->tail_bytes);
}

static inline void store_answer_read(struct fake_store *store, const struct ms_ipc_message *message)
{
    struct ms_log_read read;
    struct ms_log_entries body = {.status = MS_OK};
    uint8_t *tail = malloc(FIXTURE_RING_BYTES);
    size_t used = 0;
    void *dst_body = NULL;
    void *dst_tail = NULL;

    cr_assert_not_null(tail);
    memcpy(&read, message->body, sizeof(read));
    cr_assert(read.low < read.high && read.high <= store->last + 1);
    body.request = read.request;
    body.first_index = read.low;
    for (raft_index i = read.low; i < read.high; i++) {
        const struct fake_entry *entry = &store->entries[i];
        size_t bytes = entry_codec_bytes(entry->header.len_bytes);

        /* A small limit of its own, so that loading needs several rounds. */
        if (used + bytes > FIXTURE_RING_BYTES || used + bytes > read.max_bytes || body.count == 7) {
            break;
        }
        memset(tail + used, 0, bytes);
        memcpy(tail + used, &entry->header, sizeof(entry->header));
        memcpy(tail + used + sizeof(entry->header), entry->data, entry->header.len_bytes);
        used += bytes;
        body.count++;
    }
    cr_assert_eq(ms_link_begin(&store->apply, MS_IPC_LOG_ENTRIES, used, &dst_body, &dst_tail),
                 MS_OK);
    memcpy(dst_body, &body, sizeof(body));
    memcpy(dst_tail, tail, used);
    ms_link_commit(&store->apply);
    free(tail);
}

/* Applies up to limit messages, without saying so. Returns how many there were. */
static inline unsigned store_apply(struct world *world, unsigned limit)
{
    struct fake_store *store = &world->store;
    struct ms_ipc_message message;
    unsigned count = 0;

    while (count < limit && ms_link_receive(&store->apply, &message) == MS_OK) {
        if (message.type == MS_IPC_APPLY_ENTRIES) {
            store_take_entries(world, store, &message);
        } else if (message.type == MS_IPC_LOG_READ) {
            store_answer_read(store, &message);
        } else {
            struct ms_apply_conf body;

            cr_assert_eq(message.type, MS_IPC_APPLY_CONF);
            memcpy(&body, message.body, sizeof(body));
            store->announced.index = body.index;
            store->announced.len_bytes = message.tail_bytes;
            cr_assert(message.tail_bytes <= sizeof(store->announced.bytes));
            memcpy(store->announced.bytes, message.tail, message.tail_bytes);
        }
        ms_link_release(&store->apply);
        count++;
    }
    return count;
}

static inline void store_say_done(struct fake_store *store)
{
    struct ms_apply_done body = {.applied = store->applied};

    cr_assert_eq(ms_link_send(&store->apply, MS_IPC_APPLY_DONE, &body), MS_OK);
}

/* Node and storaged work until neither has anything left. */
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
        applied = ms_link_is_open(&world->store.apply) ? store_apply(world, 1000) : 0;
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

/* The number that the command in the log at index carries; 0 for an entry without a command. */
static inline uint64_t store_op(const struct fake_store *store, raft_index index)
{
    const struct fake_entry *entry = &store->entries[index];
    uint64_t op = 0;

    if (entry->header.type == MS_ENTRY_NORMAL && entry->header.len_bytes > 0) {
        memcpy(&op, entry->data, sizeof(op));
    }
    return op;
}

/* Which apid it came from. */
static inline uint32_t store_instance(const struct fake_store *store, raft_index index)
{
    uint32_t instance = 0;

    memcpy(&instance, store->entries[index].data + sizeof(uint64_t), sizeof(instance));
    return instance;
}

#endif

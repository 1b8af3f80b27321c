/*
 * cluster_fixture: several nodes of node_fixture.h that talk to each other.
 *
 * Messages go from one to the other when the test lets them, unless the way between them is cut or
 * one of them is down. Time passes only by cluster_tick. Every node has a fake storaged of its own
 * and an apid; what they promise each other is checked there.
 */
#ifndef METASTORE_TESTS_UNIT_RAFTD_CLUSTER_FIXTURE_H
#define METASTORE_TESTS_UNIT_RAFTD_CLUSTER_FIXTURE_H

#include "tests/unit/raftd/node_fixture.h"

#define CLUSTER_NODES_MAX     5
#define CLUSTER_TRANSFERS_MAX 8

#define CLUSTER_TICK_MS 100

/* A snapshot on its way. */
struct cluster_transfer {
    peers_transfer transfer; /* 0: free; both ends know it by the same name */
    node_id from;
    node_id to;
    uint64_t size_bytes;
    uint64_t offset;
};

struct cluster {
    size_t size;
    struct world *worlds[CLUSTER_NODES_MAX + 1]; /* [id]; NULL: down */
    struct peers_events events[CLUSTER_NODES_MAX + 1];
    struct ms_config config; /* of every node, but for id and list */
    /*
     * After this many more messages that the node's storaged handles, on_accident is called (once);
     * 0: never.
     */
    unsigned fuse[CLUSTER_NODES_MAX + 1];
    void (*on_accident)(struct cluster *cluster, node_id id);
    bool stalled[CLUSTER_NODES_MAX + 1];                    /* storaged does nothing */
    bool cut[CLUSTER_NODES_MAX + 1][CLUSTER_NODES_MAX + 1]; /* [from][to] */
    bool connected[CLUSTER_NODES_MAX + 1][CLUSTER_NODES_MAX + 1];
    struct cluster_transfer transfers[CLUSTER_TRANSFERS_MAX];
    uint64_t lost_notes; /* PROPOSALS_LOST that nodes sent each other */
    uint64_t snapshots;  /* transfers that were finished */
};

/* ---- creation ---- */

static inline void cluster_start_node(struct cluster *cluster, node_id id)
{
    struct world *world = cluster->worlds[id];

    world_create_node(world);
    raftd_node_peers_events(world->node, &cluster->events[id]);
    world_start_store(world);
    world_link_api(world, 0);
}

static inline struct world *cluster_add_world(struct cluster *cluster, node_id id)
{
    struct world *world = world_create();
    size_t used = 0;

    world->config = cluster->config;
    world->config.id = id;
    world->ring_bytes = 4u << 20;
    world->random = id;
    world->first_start = true;
    for (size_t i = 1; i <= cluster->size; i++) {
        used += (size_t)snprintf(world->config.cluster + used, sizeof(world->config.cluster) - used,
                                 "%shttp://127.0.0.1:%zu", i > 1 ? "," : "", 9020 + i);
    }
    cluster->worlds[id] = world;
    return world;
}

/* Nothing is started. */
static inline struct cluster *cluster_allocate(size_t size)
{
    struct cluster *cluster = calloc(1, sizeof(*cluster));

    cr_assert_not_null(cluster);
    cluster->size = size;
    cluster->config.heartbeat_interval_ms = CLUSTER_TICK_MS;
    cluster->config.election_timeout_ms = 10 * CLUSTER_TICK_MS;
    return cluster;
}

static inline struct cluster *cluster_create(size_t size)
{
    struct cluster *cluster = cluster_allocate(size);

    for (node_id id = 1; id <= size; id++) {
        (void)cluster_add_world(cluster, id);
        cluster_start_node(cluster, id);
    }
    return cluster;
}

static inline void cluster_destroy(struct cluster *cluster)
{
    for (node_id id = 1; id <= CLUSTER_NODES_MAX; id++) {
        if (cluster->worlds[id] != NULL) {
            world_destroy(cluster->worlds[id]);
        }
    }
    free(cluster);
}

/* Whether raftd runs on the node. */
static inline bool cluster_is_up(const struct cluster *cluster, node_id id)
{
    return id <= CLUSTER_NODES_MAX && cluster->worlds[id] != NULL &&
           cluster->worlds[id]->node != NULL;
}

/* ---- transfers ---- */

static inline struct cluster_transfer *cluster_find_transfer(struct cluster *cluster,
                                                             peers_transfer transfer)
{
    for (size_t i = 0; i < CLUSTER_TRANSFERS_MAX; i++) {
        if (cluster->transfers[i].transfer == transfer) {
            return &cluster->transfers[i];
        }
    }
    return NULL;
}

static inline void cluster_want(struct cluster *cluster, const struct cluster_transfer *way)
{
    const struct peers_events *sender = &cluster->events[way->from];
    const uint64_t left = way->size_bytes - way->offset;

    sender->snapshot_want(sender->ctx, way->transfer, way->offset,
                          left < MS_SNAP_PIECE_BYTES ? (size_t)left : MS_SNAP_PIECE_BYTES);
}

/* The connection of a transfer breaks: whichever end is there hears of it. */
static inline void cluster_break(struct cluster *cluster, struct cluster_transfer *way)
{
    const struct cluster_transfer broken = *way;

    way->transfer = 0;
    if (cluster_is_up(cluster, broken.to)) {
        const struct peers_events *receiver = &cluster->events[broken.to];

        receiver->snapshot_lost(receiver->ctx, broken.transfer);
    }
    if (cluster_is_up(cluster, broken.from)) {
        const struct peers_events *sender = &cluster->events[broken.from];

        sender->snapshot_done(sender->ctx, broken.transfer, broken.to, MS_EPEER);
    }
}

static inline void cluster_do_transfer(struct cluster *cluster, node_id id,
                                       const struct fake_transfer *one)
{
    struct cluster_transfer *way = cluster_find_transfer(cluster, one->transfer);
    static uint8_t piece[MS_SNAP_PIECE_BYTES];
    const struct peers_events *events;

    if (one->step == TRANSFER_SEND) {
        way = cluster_find_transfer(cluster, 0);
        cr_assert_not_null(way);
        *way = (struct cluster_transfer){.transfer = one->transfer,
                                         .from = id,
                                         .to = one->message.to,
                                         .size_bytes = one->number};
        if (cluster->cut[id][way->to] || !cluster_is_up(cluster, way->to)) {
            cluster_break(cluster, way);
            return;
        }
        events = &cluster->events[way->to];
        events->snapshot_begin(events->ctx, one->transfer, &one->message, one->number);
        return;
    }
    if (way == NULL) {
        return; /* broken meanwhile */
    }
    events = &cluster->events[id == way->from ? way->to : way->from];
    switch (one->step) {
    case TRANSFER_SEND:
        break;
    case TRANSFER_WRITE:
        memset(piece, one->fill, (size_t)one->number);
        events->snapshot_data(events->ctx, one->transfer, way->offset, piece, (size_t)one->number);
        way->offset += one->number;
        break;
    case TRANSFER_ABORT:
    case TRANSFER_REFUSE:
        if (id == way->from) {
            events->snapshot_lost(events->ctx, one->transfer);
        } else {
            events->snapshot_done(events->ctx, one->transfer, way->to, MS_EPEER);
        }
        way->transfer = 0;
        break;
    case TRANSFER_ACCEPT:
    case TRANSFER_CONSUMED:
        if (one->step == TRANSFER_ACCEPT) {
            way->offset = one->number;
        }
        if (way->offset < way->size_bytes) {
            cluster_want(cluster, way);
        } else {
            const struct peers_events *receiver = &cluster->events[way->to];

            receiver->snapshot_end(receiver->ctx, one->transfer);
        }
        break;
    case TRANSFER_FINISH:
        cluster->snapshots++;
        events->snapshot_done(events->ctx, one->transfer, way->to, one->status);
        way->transfer = 0;
        break;
    }
}

/* ---- the network ---- */

static inline bool cluster_is_open(const struct cluster *cluster, node_id from, node_id to)
{
    return cluster_is_up(cluster, from) && cluster_is_up(cluster, to) && !cluster->cut[from][to] &&
           cluster->worlds[from]->running_calls > 0 && cluster->worlds[to]->running_calls > 0;
}

/* What each says of itself, and whether the other wants to talk to it. */
static inline bool cluster_admits(struct cluster *cluster, node_id from, node_id to)
{
    const struct peers_events *caller = &cluster->events[from];
    const struct peers_events *called = &cluster->events[to];
    struct peers_hello hello;
    struct peers_hello answer;
    enum peers_refusal refusal;
    char text[128] = "";

    caller->say_hello(caller->ctx, &hello);
    called->say_hello(called->ctx, &answer);
    hello.to = to;
    answer.to = from;
    refusal = called->judge(called->ctx, &hello, text, sizeof(text));
    if (refusal != PEERS_ADMITTED) {
        caller->refused(caller->ctx, &answer, refusal, text);
        return false;
    }
    return caller->judge(caller->ctx, &answer, text, sizeof(text)) == PEERS_ADMITTED;
}

/* Brings every connection to what it should be, and tells who has to know. */
static inline void cluster_connect(struct cluster *cluster)
{
    for (node_id from = 1; from <= CLUSTER_NODES_MAX; from++) {
        for (node_id to = 1; to <= CLUSTER_NODES_MAX; to++) {
            bool open = from != to && cluster_is_open(cluster, from, to);
            bool known = false;

            if (!cluster_is_up(cluster, from)) {
                cluster->connected[from][to] = false;
                continue;
            }
            for (size_t i = 0; i < cluster->worlds[from]->network.member_count; i++) {
                known = known || cluster->worlds[from]->network.members[i].id == to;
            }
            open = open && known && cluster_admits(cluster, from, to);
            if (open == cluster->connected[from][to]) {
                continue;
            }
            cluster->connected[from][to] = open;
            cluster->worlds[from]->network.connected[to] = open;
            if (open) {
                cluster->events[from].connected(cluster->events[from].ctx, to);
            } else {
                cluster->events[from].disconnected(cluster->events[from].ctx, to);
            }
        }
    }
    for (size_t i = 0; i < CLUSTER_TRANSFERS_MAX; i++) {
        struct cluster_transfer *way = &cluster->transfers[i];

        if (way->transfer != 0 && (!cluster_is_open(cluster, way->from, way->to))) {
            cluster_break(cluster, way);
        }
    }
}

/* Delivers everything that a node has sent. Tells whether there was anything. */
static inline bool cluster_deliver_from(struct cluster *cluster, node_id from)
{
    struct fake_network sent = cluster->worlds[from]->network;
    struct fake_network *network = &cluster->worlds[from]->network;

    network->message_count = 0;
    network->note_count = 0;
    network->transfer_count = 0;
    for (size_t i = 0; i < sent.note_count; i++) {
        const struct fake_note *note = &sent.notes[i];
        const struct peers_events *events = &cluster->events[note->to];

        if (cluster_is_open(cluster, from, note->to)) {
            cluster->lost_notes += note->kind == PEERS_NOTE_PROPOSALS_LOST ? 1 : 0;
            events->note(events->ctx, from, note->kind, note->data, note->len_bytes);
        }
    }
    for (size_t i = 0; i < sent.message_count; i++) {
        struct raft_message *message = &sent.messages[i];
        const struct peers_events *events = &cluster->events[message->to];

        if (cluster_is_open(cluster, from, message->to)) {
            events->message(events->ctx, message);
        }
        raft_message_release(&heap, message);
    }
    for (size_t i = 0; i < sent.transfer_count; i++) {
        cluster_do_transfer(cluster, from, &sent.transfers[i]);
        raft_snapshot_release(sent.transfers[i].message.snapshot);
    }
    return sent.message_count + sent.note_count + sent.transfer_count > 0;
}

/* ---- time ---- */

/* How many messages storaged may handle before the accident. */
static inline unsigned cluster_limit(const struct cluster *cluster, node_id id)
{
    return cluster->fuse[id] > 0 ? cluster->fuse[id] : 1000;
}

/* Tells whether the accident happened. */
static inline bool cluster_burn(struct cluster *cluster, node_id id, unsigned count)
{
    if (cluster->fuse[id] == 0 || count == 0) {
        return false;
    }
    cluster->fuse[id] -= count;
    if (cluster->fuse[id] > 0) {
        return false;
    }
    cluster->on_accident(cluster, id);
    return true;
}

/* A node and its storaged do what they can. Tells whether storaged had anything to do. */
static inline bool cluster_work(struct cluster *cluster, node_id id)
{
    struct world *world = cluster->worlds[id];
    unsigned written = 0;
    unsigned applied = 0;

    world_run_ok(world);
    if (cluster->stalled[id]) {
        return false;
    }
    written = ms_link_is_open(&world->store.log)
                  ? store_write(&world->store, cluster_limit(cluster, id))
                  : 0;
    if (cluster_burn(cluster, id, written)) {
        return true;
    }
    if (written > 0) {
        store_say_durable(&world->store);
    }
    applied = ms_link_is_open(&world->store.apply)
                  ? store_apply(&world->store, cluster_limit(cluster, id))
                  : 0;
    if (cluster_burn(cluster, id, applied)) {
        return true;
    }
    if (applied > 0) {
        store_say_done(&world->store);
    }
    ms_link_flush(&world->store.log);
    ms_link_flush(&world->store.apply);
    return written + applied > 0;
}

/* Everybody works and talks until nobody has anything left to do. */
static inline void cluster_settle(struct cluster *cluster)
{
    unsigned rounds = 0;
    bool busy;

    do {
        busy = false;
        cluster_connect(cluster);
        for (node_id id = 1; id <= CLUSTER_NODES_MAX; id++) {
            if (cluster_is_up(cluster, id)) {
                busy = cluster_work(cluster, id) || busy;
            }
        }
        for (node_id id = 1; id <= CLUSTER_NODES_MAX; id++) {
            if (cluster_is_up(cluster, id)) {
                busy = cluster_deliver_from(cluster, id) || busy;
            }
        }
        cr_assert(++rounds < 10000, "the cluster never comes to rest");
    } while (busy);
}

static inline void cluster_tick(struct cluster *cluster, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        for (node_id id = 1; id <= CLUSTER_NODES_MAX; id++) {
            if (cluster_is_up(cluster, id)) {
                world_tick(cluster->worlds[id], CLUSTER_TICK_MS);
            } else if (cluster->worlds[id] != NULL) {
                cluster->worlds[id]->now.ns += CLUSTER_TICK_MS * UINT64_C(1000000);
            }
        }
        cluster_settle(cluster);
    }
}

/* ---- members ---- */

/* An administrator asks a node; the answer comes later. */
static inline void cluster_ask(struct cluster *cluster, node_id at,
                               enum ms_member_operation operation, node_id id)
{
    struct world *world = cluster->worlds[at];
    struct ms_control_member_request request = {
        .head = {.request = ++world->next_op,
                 .deadline_ns = world->now.ns + UINT64_C(10000000000),
                 .id = id,
                 .operation = (uint32_t)operation}};

    (void)snprintf(request.peer_url, sizeof(request.peer_url), "http://127.0.0.1:%ju",
                   (uintmax_t)(9020 + id));
    raftd_node_ask_member(world->node, &request, world->now);
}

/* The same, and waits for the answer. */
static inline enum ms_member_code cluster_change(struct cluster *cluster, node_id at,
                                                 enum ms_member_operation operation, node_id id)
{
    struct world *world = cluster->worlds[at];
    unsigned before = world->admin_answers;

    cluster_ask(cluster, at, operation, id);
    for (unsigned i = 0; i < 100 && world->admin_answers == before; i++) {
        cluster_tick(cluster, 1);
    }
    cr_assert_eq(world->admin_answers, before + 1, "no answer");
    if (world->admin_answer.head.code != MS_MEMBER_OK) {
        fprintf(stderr, "answer: %s\n", world->admin_answer.text);
    }
    return (enum ms_member_code)world->admin_answer.head.code;
}

/* A node that was added comes up with an empty data dir; it knows the members in its list. */
static inline void cluster_join(struct cluster *cluster, node_id id)
{
    struct world *world;

    cluster->size = id;
    world = cluster_add_world(cluster, id);
    world->config.join = 1;
    world->data_dirs_lost = 1; /* whoever had this id before has lost his */
    for (node_id other = 1; other < id; other++) {
        if (cluster->worlds[other] != NULL) {
            world->now = cluster->worlds[other]->now;
        }
    }
    cluster_start_node(cluster, id);
}

/* ---- accidents ---- */

/* Both ways between a node and all others. */
static inline void cluster_cut_off(struct cluster *cluster, node_id id, bool cut)
{
    for (node_id other = 1; other <= CLUSTER_NODES_MAX; other++) {
        cluster->cut[id][other] = cut;
        cluster->cut[other][id] = cut;
    }
}

/* storaged dies; its disk and its state machine stay. */
static inline void cluster_kill_store(struct cluster *cluster, node_id id)
{
    struct world *world = cluster->worlds[id];

    if (cluster_is_up(cluster, id)) {
        world_kill_store(world);
    }
    ms_link_fini(&world->store.log);
    ms_link_fini(&world->store.apply);
}

/* raftd dies; storaged and its apid live on. */
static inline void cluster_kill_raftd(struct cluster *cluster, node_id id)
{
    struct world *world = cluster->worlds[id];

    network_clear(&world->network);
    raftd_node_destroy(world->node);
    world->node = NULL;
    world->running_calls = 0;
    memset(world->network.connected, 0, sizeof(world->network.connected));
    memset(cluster->connected[id], 0, sizeof(cluster->connected[id]));
    cluster_connect(cluster);
}

static inline void cluster_restart_raftd(struct cluster *cluster, node_id id)
{
    cluster->worlds[id]->first_start = false;
    cluster_start_node(cluster, id);
}

/* ---- questions ---- */

static inline struct ms_raft_status cluster_status(const struct cluster *cluster, node_id id)
{
    return world_status(cluster->worlds[id]);
}

/* The one that leads in the newest term; 0: nobody. */
static inline node_id cluster_leader(const struct cluster *cluster)
{
    node_id leader = 0;
    raft_term term = 0;

    for (node_id id = 1; id <= CLUSTER_NODES_MAX; id++) {
        if (cluster_is_up(cluster, id)) {
            struct ms_raft_status status = cluster_status(cluster, id);

            if (status.role == MS_RAFT_LEADER && status.term > term) {
                leader = id;
                term = status.term;
            }
        }
    }
    return leader;
}

/* Ticks until there is a leader that has committed something in its term. */
static inline node_id cluster_await_leader(struct cluster *cluster)
{
    for (unsigned i = 0; i < 100; i++) {
        node_id leader = cluster_leader(cluster);

        if (leader != 0) {
            const struct fake_store *store = &cluster->worlds[leader]->store;
            const struct ms_raft_status status = cluster_status(cluster, leader);

            if (status.commit > 0 && store_term(store, status.commit) == status.term) {
                return leader;
            }
        }
        cluster_tick(cluster, 1);
    }
    cr_assert_fail("no leader");
    return 0;
}

/* Every node that is up has applied the same, and all of it. */
static inline void cluster_assert_equal(const struct cluster *cluster)
{
    const struct fake_store *first = NULL;

    for (node_id id = 1; id <= CLUSTER_NODES_MAX; id++) {
        const struct fake_store *store;

        if (!cluster_is_up(cluster, id)) {
            continue;
        }
        store = &cluster->worlds[id]->store;
        first = first == NULL ? store : first;
        cr_assert_eq(store->applied, first->applied, "node %ju stands at %ju, another at %ju",
                     (uintmax_t)id, (uintmax_t)store->applied, (uintmax_t)first->applied);
        for (raft_index i = 1; i <= store->applied; i++) {
            if (i > store->compacted && i > first->compacted) {
                cr_assert_eq(store_term(store, i), store_term(first, i));
                cr_assert_eq(store_op(store, i), store_op(first, i));
            }
        }
    }
}

/* How often the command is in a node's log, up to what is applied. */
static inline unsigned cluster_count_op(const struct cluster *cluster, node_id id, uint64_t op)
{
    const struct fake_store *store = &cluster->worlds[id]->store;
    unsigned count = 0;

    for (raft_index i = store->compacted + 1; i <= store->applied; i++) {
        count += store_op(store, i) == op ? 1 : 0;
    }
    return count;
}

/* Proposes one command at the node's apid and returns its number. */
static inline uint64_t cluster_propose(struct cluster *cluster, node_id id)
{
    struct world *world = cluster->worlds[id];

    world->next_op += 1000 * id; /* different on all nodes */
    cr_assert(api_propose_sized(world, 0, FIXTURE_COMMAND_BYTES));
    return world->next_op - 1;
}

#endif

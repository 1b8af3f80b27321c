/*
 * node among others: three nodes whose parts work a little at a time, die, and are cut off from
 * each other at random instants, while snapshots are made and logs forget.
 *
 * Throughout, the fake storaged checks what it is told (see node_fixture.h), and here it is checked
 * that no two nodes ever apply different entries at the same index. In the end everything works
 * again, all nodes come to the same state, and what was applied anywhere is still there.
 */
#include "tests/seed.h"
#include "tests/unit/raftd/cluster_fixture.h"

#define STEPS       20000
#define APPLIED_MAX 65536

struct chaos {
    struct cluster *cluster;
    uint64_t random;
    raft_index checked[CLUSTER_NODES_MAX + 1];
    struct { /* what was applied first at each index */
        raft_term term;
        uint64_t op;
    } applied[APPLIED_MAX];
};

static uint64_t choose(struct chaos *chaos, uint64_t n)
{
    return test_random_below(&chaos->random, n);
}

/* State machine safety (Raft figure 3). */
static void check_applied(struct chaos *chaos, node_id id)
{
    const struct fake_store *store = &chaos->cluster->worlds[id]->store;

    for (raft_index i = chaos->checked[id] + 1; i <= store->applied; i++) {
        if (i <= store->compacted) {
            continue; /* it came with a snapshot */
        }
        cr_assert(i < APPLIED_MAX);
        if (chaos->applied[i].term == 0) {
            chaos->applied[i].term = store_term(store, i);
            chaos->applied[i].op = store_op(store, i);
        }
        cr_assert_eq(chaos->applied[i].term, store_term(store, i), "index %ju", (uintmax_t)i);
        cr_assert_eq(chaos->applied[i].op, store_op(store, i), "index %ju", (uintmax_t)i);
    }
    if (store->applied > chaos->checked[id]) {
        chaos->checked[id] = store->applied;
    }
}

static bool store_lives(const struct world *world)
{
    return ms_link_is_open(&world->store.log);
}

static void store_works(struct chaos *chaos, node_id id)
{
    struct world *world = chaos->cluster->worlds[id];

    if (!store_lives(world)) {
        return;
    }
    (void)store_write(&world->store, 1 + (unsigned)choose(chaos, 4));
    if (choose(chaos, 4) > 0) {
        store_say_durable(&world->store);
    }
    if (cluster_is_up(chaos->cluster, id)) {
        (void)store_apply(&world->store, 1 + (unsigned)choose(chaos, 8));
        check_applied(chaos, id);
        if (choose(chaos, 4) > 0) {
            store_say_done(&world->store);
        }
    }
    ms_link_flush(&world->store.log);
    ms_link_flush(&world->store.apply);
}

static void say_all(struct world *world)
{
    if (store_lives(world)) {
        store_say_durable(&world->store);
        store_say_done(&world->store);
    }
}

static void one_accident(struct chaos *chaos, node_id id)
{
    struct cluster *cluster = chaos->cluster;
    struct world *world = cluster->worlds[id];

    switch (choose(chaos, 5)) {
    case 0: /* the whole node */
        if (cluster_is_up(cluster, id)) {
            cluster_kill_raftd(cluster, id);
            cluster_kill_store(cluster, id);
            check_applied(chaos, id);
        }
        break;
    case 1: /* raftd alone */
        if (cluster_is_up(cluster, id) && store_lives(world)) {
            cluster_kill_raftd(cluster, id);
            cluster_restart_raftd(cluster, id);
        }
        break;
    case 2: /* storaged alone */
        if (cluster_is_up(cluster, id)) {
            cluster_kill_store(cluster, id);
            check_applied(chaos, id);
            if (choose(chaos, 2) == 0) {
                world_start_store(world);
            }
        }
        break;
    case 3:
        cluster_cut_off(cluster, id, true);
        break;
    default: /* one direction only */
        cluster->cut[id][1 + choose(chaos, cluster->size)] = true;
        break;
    }
}

/* What died comes back, what was cut off is connected again. */
static void one_repair(struct chaos *chaos, node_id id)
{
    struct cluster *cluster = chaos->cluster;

    if (choose(chaos, 2) == 0) {
        memset(cluster->cut, 0, sizeof(cluster->cut));
    } else if (!cluster_is_up(cluster, id)) {
        cluster_restart_raftd(cluster, id);
    } else if (!store_lives(cluster->worlds[id])) {
        world_start_store(cluster->worlds[id]);
    }
}

static void one_step(struct chaos *chaos)
{
    struct cluster *cluster = chaos->cluster;
    const node_id id = 1 + choose(chaos, cluster->size);
    struct world *world = cluster->worlds[id];
    const uint64_t what = choose(chaos, 1000);

    if (what < 4) {
        one_accident(chaos, id);
    } else if (what < 14) {
        one_repair(chaos, id);
    } else if (what < 17 && store_lives(world) &&
               world->store.applied > world->store.snapshot.index && cluster_is_up(cluster, id)) {
        store_make_snapshot(&world->store, choose(chaos, 10));
    } else if (what < 60) {
        if (cluster_is_up(cluster, id)) {
            (void)cluster_propose(cluster, id);
        }
    } else if (what < 360) {
        store_works(chaos, id);
    } else if (what < 640) {
        if (cluster_is_up(cluster, id)) {
            (void)cluster_deliver_from(cluster, id);
        }
    } else if (what < 670) {
        if (cluster_is_up(cluster, id)) {
            world_tick(world, CLUSTER_TICK_MS);
        } else {
            world->now.ns += CLUSTER_TICK_MS * UINT64_C(1000000);
        }
    } else if (cluster_is_up(cluster, id)) {
        world_run_ok(world);
        while (world->network.transfer_count > 40 || world->network.note_count > 40 ||
               world->network.message_count > 2000) {
            (void)cluster_deliver_from(cluster, id);
        }
    }
    cluster_connect(cluster);
}

/* Everybody is well again. */
static void heal(struct chaos *chaos)
{
    struct cluster *cluster = chaos->cluster;

    memset(cluster->cut, 0, sizeof(cluster->cut));
    for (node_id id = 1; id <= cluster->size; id++) {
        if (!cluster_is_up(cluster, id)) {
            cluster_restart_raftd(cluster, id);
        } else if (!store_lives(cluster->worlds[id])) {
            world_start_store(cluster->worlds[id]);
        }
        say_all(cluster->worlds[id]);
    }
    cluster_tick(cluster, 60);
}

static void run(uint64_t seed)
{
    struct chaos *chaos = calloc(1, sizeof(*chaos));
    raft_index furthest = 0;
    uint64_t op;

    cr_assert_not_null(chaos);
    chaos->random = seed;
    chaos->cluster = cluster_create(3);
    for (node_id id = 1; id <= 3; id++) {
        chaos->cluster->worlds[id]->random = seed + id;
    }
    for (unsigned i = 0; i < STEPS; i++) {
        one_step(chaos);
    }
    heal(chaos);
    op = cluster_propose(chaos->cluster, 1 + choose(chaos, 3));
    cluster_tick(chaos->cluster, 3);
    for (node_id id = 1; id <= 3; id++) {
        cr_assert_eq(cluster_count_op(chaos->cluster, id, op), 1, "node %ju lost the last command",
                     (uintmax_t)id);
        furthest = chaos->checked[id] > furthest ? chaos->checked[id] : furthest;
        check_applied(chaos, id);
    }
    cr_assert_geq(chaos->cluster->worlds[1]->store.applied, furthest);
    cluster_assert_equal(chaos->cluster);
    printf("  applied %ju, term %ju, snapshots %ju\n",
           (uintmax_t)chaos->cluster->worlds[1]->store.applied,
           (uintmax_t)cluster_status(chaos->cluster, 1).term, (uintmax_t)chaos->cluster->snapshots);
    cluster_destroy(chaos->cluster);
    free(chaos);
}

Test(node_cluster_chaos, nothing_is_applied_twice_lost_or_different)
{
    uint64_t seed = test_seed("node_cluster_chaos");

    for (unsigned i = 0; i < 8; i++) {
        printf("round %u: seed %ju\n", i, (uintmax_t)(seed + i));
        fflush(stdout);
        run(seed + i);
    }
}

/*
 * node: neighbours that work and die at random instants.
 *
 * Commands come in from two apids, storaged writes and applies a little at a time, dies with and
 * without having said what it did, and raftd itself is thrown away and made anew. Throughout the
 * fake storaged checks what it is told (see node_fixture.h). In the end all is applied, each apid's
 * commands are in the log in order and once, and none is missing unless raftd died with it.
 */
#include <time.h>

#include "tests/unit/raftd/node_fixture.h"

#define STEPS 4000

static uint64_t state;

/* xorshift64*: good enough to choose, and the same everywhere. */
static uint64_t choose(uint64_t n)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (state * UINT64_C(0x2545F4914F6CDD1D)) % n;
}

static uint64_t seed(void)
{
    const char *given = getenv("MS_SEED");
    uint64_t value = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);

    printf("MS_SEED=%ju\n", (uintmax_t)value);
    return value | 1;
}

static bool store_lives(const struct world *world)
{
    return ms_link_is_open(&world->store.log);
}

static void kill_store(struct world *world)
{
    if (!store_lives(world)) {
        return;
    }
    world_kill_store(world);
    ms_link_fini(&world->store.log);
    ms_link_fini(&world->store.apply);
    /* Rebuilt from the log, it may stand anywhere up to what is durable and known committed. */
    if (choose(3) == 0) {
        raft_index commit = ms_status_page_commit(world->page);
        raft_index end = commit < world->store.last ? commit : world->store.last;

        if (end > world->store.applied && world->store.applied > 0) {
            world->store.applied += choose(end - world->store.applied + 1);
        }
    }
}

static void restart_raftd(struct world *world)
{
    raftd_node_destroy(world->node);
    world_create_node(world);
    world_link_api(world, 0);
    world_link_api(world, 1);
    /* storaged survives: it writes and applies what the dead raftd had published. */
    if (store_lives(world)) {
        (void)store_write(&world->store, UINT32_MAX);
        (void)store_apply(&world->store, UINT32_MAX);
        world_start_store(world);
    }
}

static void step(struct world *world, bool raftd_dies)
{
    struct fake_store *store = &world->store;

    switch (choose(12)) {
    case 0:
    case 1:
    case 2:
        for (uint64_t i = choose(20); i > 0; i--) {
            (void)api_propose_sized(world, (uint32_t)choose(2), 48 + choose(6000));
        }
        break;
    case 3:
    case 4:
        if (store_lives(world)) {
            (void)store_write(store, 1 + (uint32_t)choose(4));
        }
        break;
    case 5:
        if (store_lives(world) && store->received_seq > 0) {
            store_say_durable(store);
        }
        break;
    case 6:
    case 7:
        if (store_lives(world)) {
            (void)store_apply(&world->store, 1 + (uint32_t)choose(4));
        }
        break;
    case 8:
        if (store_lives(world)) {
            store_say_done(store);
        }
        break;
    case 9:
        world_tick(world, 100);
        break;
    case 10:
        if (choose(10) == 0) {
            kill_store(world);
        }
        if (!store_lives(world) && choose(2) == 0) {
            world_start_store(world);
        }
        break;
    default:
        if (choose(20) == 0 && raftd_dies) {
            restart_raftd(world);
        }
        break;
    }
    if (choose(4) != 0) {
        world_run_ok(world);
    }
}

/* Lets everybody finish, and checks what has to hold then. Returns the number of commands. */
static uint64_t finish(struct world *world)
{
    struct fake_store *store = &world->store;
    uint64_t last_op[FIXTURE_APIS] = {0};
    uint64_t commands = 0;

    if (!store_lives(world)) {
        world_start_store(world);
    }
    if (store->received_seq > 0) {
        store_say_durable(store);
    }
    store_say_done(store);
    world_settle(world);
    cr_assert_eq(world->reports, 0);
    cr_assert_eq(world_status(world).role, MS_RAFT_LEADER);
    cr_assert_eq(world_status(world).commit, store->last);
    cr_assert_eq(store->applied, store->last);
    for (raft_index i = 1; i <= store->last; i++) {
        uint64_t op = store_op(store, i);

        cr_assert(store_term(store, i) >= store_term(store, i - 1));
        if (op != 0) {
            uint32_t instance = store_instance(store, i);

            cr_assert(op > last_op[instance], "command %ju of apid %u is out of order",
                      (uintmax_t)op, instance);
            last_op[instance] = op;
            commands++;
        }
    }
    return commands;
}

static void run(uint64_t from, bool raftd_dies)
{
    struct world *world = world_create();
    uint64_t commands;

    state = from;
    world_create_node(world);
    world_start_store(world);
    world_link_api(world, 0);
    world_link_api(world, 1);
    for (unsigned i = 0; i < STEPS; i++) {
        step(world, raftd_dies);
    }
    commands = finish(world);
    cr_assert(commands > 0);
    if (!raftd_dies) {
        cr_assert_eq(commands, world->next_op - 1);
    }
    world_destroy(world);
}

Test(node_chaos, deaths_at_random_instants_break_no_promise)
{
    uint64_t first = seed();

    for (uint64_t i = 0; i < 6; i++) {
        run(first + 2 * i, true);
    }
}

Test(node_chaos, deaths_of_storaged_lose_and_double_nothing)
{
    uint64_t first = seed();

    for (uint64_t i = 0; i < 6; i++) {
        run(first + 2 * i, false);
    }
}

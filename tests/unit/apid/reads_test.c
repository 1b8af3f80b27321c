/*
 * reads: what a read waits for, who releases it, and what the death of a neighbour changes.
 */
#include "apid/reads.h"

#include <criterion/criterion.h>

#include "common/ipc_catalogue.h"

#define READS_MAX 8

/* The neighbours and the store, played by the test. */
struct world {
    struct reads reads;
    struct ms_raft_status status;
    bool has_status;
    bool has_room;
    uint64_t now_ns;
    raft_index applied;
    uint64_t asked;  /* the last READ_INDEX */
    uint64_t waited; /* the last WAIT_APPLIED, and its index */
    raft_index waited_index;
    unsigned ask_count;
    unsigned wait_count;
    struct read_op ops[READS_MAX];
    bool served[READS_MAX];
    uint32_t refused[READS_MAX];
};

static bool world_status(void *ctx, struct ms_raft_status *out)
{
    struct world *world = ctx;

    *out = world->status;
    return world->has_status;
}

static struct ms_instant world_now(void *ctx)
{
    return (struct ms_instant){((struct world *)ctx)->now_ns};
}

static bool world_applied(void *ctx, raft_index *out)
{
    struct world *world = ctx;

    *out = world->applied;
    return world->reads.store_open;
}

static bool world_ask(void *ctx, uint64_t request)
{
    struct world *world = ctx;

    if (world->has_room) {
        world->asked = request;
        world->ask_count++;
    }
    return world->has_room;
}

static bool world_wait(void *ctx, uint64_t request, raft_index index)
{
    struct world *world = ctx;

    if (world->has_room) {
        world->waited = request;
        world->waited_index = index;
        world->wait_count++;
    }
    return world->has_room;
}

static void world_serve(void *ctx, struct read_op *op)
{
    struct world *world = ctx;

    cr_assert_not(queue_holds(&op->node));
    cr_assert_not(world->served[op - world->ops], "served twice");
    world->served[op - world->ops] = true;
}

static void world_refuse(void *ctx, struct read_op *op, uint32_t reason)
{
    struct world *world = ctx;

    cr_assert_not(queue_holds(&op->node));
    world->refused[op - world->ops] = reason;
}

static struct world world;

static void world_start(enum ms_read_mode mode)
{
    const struct reads_port port = {.ctx = &world,
                                    .status = world_status,
                                    .now = world_now,
                                    .applied = world_applied,
                                    .ask_index = world_ask,
                                    .wait_applied = world_wait,
                                    .serve = world_serve,
                                    .refuse = world_refuse};

    world = (struct world){.has_status = true, .has_room = true, .applied = 10};
    world.status = (struct ms_raft_status){.self = 1, .leader = 2, .role = MS_RAFT_FOLLOWER};
    reads_init(&world.reads, &port, mode);
}

/* A read arrives: served at once, or queued. */
static void arrive(size_t i, bool serializable)
{
    raft_index index = 0;
    enum reads_gate gate = reads_gate(&world.reads, serializable, &index);

    world.ops[i].serializable = serializable;
    if (gate == READS_NOW) {
        world.served[i] = true;
    } else {
        reads_add(&world.reads, &world.ops[i], gate, index);
    }
}

Test(reads, wait_until_a_store_is_open)
{
    world_start(MS_READ_SAFE);
    arrive(0, true);
    arrive(1, false);
    reads_pump(&world.reads);
    cr_assert_eq(world.ask_count, 0);
    reads_on_store_opened(&world.reads, 0, true);
    cr_assert(world.served[0], "serializable: any state is good");
    cr_assert_not(world.served[1]);
    reads_pump(&world.reads);
    cr_assert_eq(world.ask_count, 1);
}

Test(reads, sole_voter_reads_at_once)
{
    world_start(MS_READ_SAFE);
    world.status.leader = 1;
    world.status.sole_voter = 1;
    reads_on_store_opened(&world.reads, 0, true);
    arrive(0, false);
    cr_assert(world.served[0]);
}

Test(reads, sole_voter_waits_for_the_floor_once_per_store)
{
    world_start(MS_READ_SAFE);
    world.status.leader = 1;
    world.status.sole_voter = 1;
    reads_on_store_opened(&world.reads, 12, true);
    arrive(0, false);
    cr_assert_not(world.served[0]);
    reads_pump(&world.reads);
    cr_assert_eq(world.waited_index, 12);
    world.applied = 12;
    reads_on_wait_done(&world.reads, world.waited, 12);
    cr_assert(world.served[0]);
    arrive(1, false);
    cr_assert(world.served[1]);
    world.applied = 11; /* cannot happen; but the floor is not looked at again */
    reads_on_store_opened(&world.reads, 12, false);
    arrive(2, false);
    cr_assert(world.served[2]);
    reads_on_store_opened(&world.reads, 12, true);
    arrive(3, false);
    cr_assert_not(world.served[3], "another store: the floor counts again");
}

/* A learner answers its clients, too, maybe before the leader has applied what they wrote. */
Test(reads, sole_voter_with_a_learner_waits_for_what_is_committed)
{
    world_start(MS_READ_SAFE);
    world.status.leader = 1;
    world.status.sole_voter = 1;
    world.status.member_count = 2;
    world.status.commit = 11;
    reads_on_store_opened(&world.reads, 0, true);
    arrive(0, false);
    cr_assert_not(world.served[0]);
    reads_pump(&world.reads);
    cr_assert_eq(world.ask_count, 0, "nobody has to be asked");
    cr_assert_eq(world.waited_index, 11);
    world.applied = 11;
    reads_on_wait_done(&world.reads, world.waited, 11);
    cr_assert(world.served[0]);
    arrive(1, false);
    cr_assert(world.served[1]);
    world.status.member_count = 1;
    world.status.commit = 12; /* its own clients have their answers when it is applied */
    arrive(2, false);
    cr_assert(world.served[2]);
}

Test(reads, sole_voter_that_is_not_leader_asks)
{
    world_start(MS_READ_SAFE);
    world.status.leader = 0;
    world.status.sole_voter = 1;
    reads_on_store_opened(&world.reads, 0, true);
    arrive(0, false);
    cr_assert_not(world.served[0]);
}

Test(reads, lease_serves_what_is_applied_up_to_commit)
{
    world_start(MS_READ_LEASE);
    world.status.role = MS_RAFT_LEADER;
    world.status.lease_end_ns = 100;
    world.status.commit = 10;
    world.now_ns = 99;
    reads_on_store_opened(&world.reads, 0, true);
    arrive(0, false);
    cr_assert(world.served[0]);
    world.status.commit = 11;
    arrive(1, false);
    cr_assert_not(world.served[1]);
    reads_pump(&world.reads);
    cr_assert_eq(world.waited_index, 11);
    cr_assert_eq(world.ask_count, 0);
    world.now_ns = 100;
    arrive(2, false);
    reads_pump(&world.reads);
    cr_assert_eq(world.ask_count, 1, "the lease is over");
}

Test(reads, lease_is_not_used_in_safe_mode)
{
    world_start(MS_READ_SAFE);
    world.status.role = MS_RAFT_LEADER;
    world.status.lease_end_ns = 100;
    reads_on_store_opened(&world.reads, 0, true);
    arrive(0, false);
    cr_assert_not(world.served[0]);
}

Test(reads, one_question_serves_all_that_waited_when_it_was_asked)
{
    world_start(MS_READ_SAFE);
    reads_on_store_opened(&world.reads, 0, true);
    arrive(0, false);
    arrive(1, false);
    reads_pump(&world.reads);
    arrive(2, false); /* after the question: its answer may be too old for it */
    reads_pump(&world.reads);
    cr_assert_eq(world.ask_count, 1);
    reads_on_ready(&world.reads, world.asked, 10, 0);
    cr_assert(world.served[0] && world.served[1]);
    cr_assert_not(world.served[2]);
    reads_pump(&world.reads);
    cr_assert_eq(world.ask_count, 2);
    reads_on_ready(&world.reads, world.asked, 10, 0);
    cr_assert(world.served[2]);
}

Test(reads, refusal_reaches_those_that_asked)
{
    world_start(MS_READ_SAFE);
    reads_on_store_opened(&world.reads, 0, true);
    arrive(0, false);
    reads_pump(&world.reads);
    arrive(1, false);
    reads_on_ready(&world.reads, world.asked, 0, MS_REFUSED_NO_LEADER);
    cr_assert_eq(world.refused[0], MS_REFUSED_NO_LEADER);
    cr_assert_eq(world.refused[1], 0);
}

Test(reads, wait_for_the_store_to_reach_the_index)
{
    world_start(MS_READ_SAFE);
    reads_on_store_opened(&world.reads, 0, true);
    arrive(0, false);
    reads_pump(&world.reads);
    reads_on_ready(&world.reads, world.asked, 15, 0);
    arrive(1, false);
    reads_pump(&world.reads);
    reads_on_ready(&world.reads, world.asked, 20, 0);
    reads_pump(&world.reads);
    cr_assert_eq(world.wait_count, 1);
    cr_assert_eq(world.waited_index, 15);
    reads_on_wait_done(&world.reads, world.waited, 17);
    cr_assert(world.served[0]);
    cr_assert_not(world.served[1]);
    reads_pump(&world.reads);
    cr_assert_eq(world.waited_index, 20);
    reads_on_wait_done(&world.reads, world.waited, 20);
    cr_assert(world.served[1]);
}

Test(reads, stale_answers_are_ignored)
{
    world_start(MS_READ_SAFE);
    reads_on_store_opened(&world.reads, 0, true);
    arrive(0, false);
    reads_pump(&world.reads);
    reads_on_ready(&world.reads, world.asked + 1, 0, 0);
    reads_on_wait_done(&world.reads, 77, 1000);
    cr_assert_not(world.served[0]);
}

Test(reads, new_raftd_is_asked_again_for_all)
{
    uint64_t old;

    world_start(MS_READ_SAFE);
    reads_on_store_opened(&world.reads, 0, true);
    arrive(0, false);
    reads_pump(&world.reads);
    old = world.asked;
    arrive(1, false);
    reads_on_raft_replaced(&world.reads);
    reads_pump(&world.reads);
    cr_assert_neq(world.asked, old);
    reads_on_ready(&world.reads, old, 0, 0);
    cr_assert_not(world.served[0], "the old question is void");
    reads_on_ready(&world.reads, world.asked, 10, 0);
    cr_assert(world.served[0] && world.served[1]);
}

Test(reads, new_storaged_is_asked_again)
{
    world_start(MS_READ_SAFE);
    reads_on_store_opened(&world.reads, 0, true);
    arrive(0, false);
    reads_pump(&world.reads);
    reads_on_ready(&world.reads, world.asked, 15, 0);
    reads_pump(&world.reads);
    cr_assert_eq(world.wait_count, 1);
    reads_on_store_replaced(&world.reads);
    world.applied = 15; /* it got there before it died */
    reads_on_store_opened(&world.reads, 0, false);
    cr_assert(world.served[0]);
}

Test(reads, lost_store_sends_them_back_to_the_start)
{
    world_start(MS_READ_SAFE);
    reads_on_store_opened(&world.reads, 0, true);
    arrive(0, false);
    arrive(1, false);
    reads_pump(&world.reads);
    reads_on_ready(&world.reads, world.asked, 15, 0);
    arrive(2, false);
    reads_pump(&world.reads);
    reads_on_store_closed(&world.reads);
    reads_on_ready(&world.reads, world.asked, 15, 0);
    for (size_t i = 0; i < 3; i++) {
        cr_assert_not(world.served[i]);
    }
    world.applied = 20;
    reads_on_store_opened(&world.reads, 16, true);
    reads_pump(&world.reads);
    reads_on_ready(&world.reads, world.asked, 18, 0);
    for (size_t i = 0; i < 3; i++) {
        cr_assert(world.served[i]);
    }
}

Test(reads, full_links_are_tried_again)
{
    world_start(MS_READ_SAFE);
    reads_on_store_opened(&world.reads, 0, true);
    world.has_room = false;
    arrive(0, false);
    reads_pump(&world.reads);
    cr_assert_eq(world.ask_count, 0);
    world.has_room = true;
    reads_pump(&world.reads);
    cr_assert_eq(world.ask_count, 1);
}

Test(reads, no_status_means_asking)
{
    world_start(MS_READ_SAFE);
    world.status.leader = 1;
    world.status.sole_voter = 1;
    world.has_status = false;
    reads_on_store_opened(&world.reads, 0, true);
    arrive(0, false);
    cr_assert_not(world.served[0]);
    reads_remove(&world.ops[0]); /* its deadline passed */
    reads_pump(&world.reads);
    cr_assert_eq(world.ask_count, 0);
}

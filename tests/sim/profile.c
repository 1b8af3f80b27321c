/*
 * profile: what kind of run a seed is.
 *
 * Not every run has every fault: what is rare when everything goes wrong at once is common where
 * only little does.
 */
#include "tests/sim/sim.h"

static uint64_t one_of(struct sim *sim, const uint64_t *choices, size_t count)
{
    return choices[sim_below(sim, count)];
}

#define ONE_OF(sim, ...)                           \
    one_of((sim), (const uint64_t[]){__VA_ARGS__}, \
           sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static void draw_limits(struct sim *sim)
{
    struct sim_profile *profile = &sim->profile;

    profile->max_message_bytes = ONE_OF(sim, RAFT_NO_LIMIT, 1024, 200, 0);
    profile->max_inflight_messages = (uint32_t)ONE_OF(sim, 256, 16, 2, 1);
    profile->max_inflight_bytes =
        profile->max_message_bytes == RAFT_NO_LIMIT ? 0 : ONE_OF(sim, 0, 1024, 4096);
    if (profile->max_inflight_bytes < profile->max_message_bytes) {
        profile->max_inflight_bytes = 0;
    }
    profile->max_uncommitted_bytes = ONE_OF(sim, 0, 0, 2048);
    profile->max_committed_bytes = ONE_OF(sim, 0, 300, 65536);
}

static void draw_world(struct sim *sim)
{
    struct sim_profile *profile = &sim->profile;

    profile->in_order = sim_chance(sim, 400);
    profile->skew_permille =
        (uint32_t)(profile->lease ? ONE_OF(sim, 0, 20, 50) : ONE_OF(sim, 0, 50, 300));
    profile->loss_permille = (uint32_t)ONE_OF(sim, 0, 0, 10, 50, 150);
    profile->twice_permille = (uint32_t)ONE_OF(sim, 0, 20, 100);
    profile->delay_us = ONE_OF(sim, 200, 1000, 5000);
    profile->delay_tail_us = ONE_OF(sim, 5 * SIM_MS, 50 * SIM_MS, 400 * SIM_MS);
    profile->disk_us = ONE_OF(sim, 100, 1000, 8000);
    profile->fault_gap_us = ONE_OF(sim, 10 * SIM_MS, 30 * SIM_MS, 100 * SIM_MS);
    profile->member_gap_us = ONE_OF(sim, 50 * SIM_MS, 150 * SIM_MS, 500 * SIM_MS);
    profile->think_us = ONE_OF(sim, 2 * SIM_MS, 10 * SIM_MS, 40 * SIM_MS);
    profile->snapshot_entries = ONE_OF(sim, 5, 20, 60, 100000);
    for (size_t i = 0; i < sizeof(profile->fault_weights) / sizeof(uint32_t); i++) {
        profile->fault_weights[i] = sim_chance(sim, 450) ? 1 + (uint32_t)sim_below(sim, 4) : 0;
    }
}

/*
 * The core's lease mode trusts that a leader which is heard of is not replaced, and finds out late
 * when it is not heard of: between two checks of its quorum. So here all hear of each other, and
 * only orders (transfers, removals) change the leader.
 */
static void draw_core_lease(struct sim *sim)
{
    struct sim_profile *profile = &sim->profile;

    profile->core_lease = true;
    profile->skew_permille = 0;
    profile->loss_permille = 0;
    profile->delay_us = 1000;
    profile->delay_tail_us = 5 * SIM_MS;
    profile->election_ticks = 20;
    profile->member_gap_us = 50 * SIM_MS;
    for (size_t i = 0; i < sizeof(profile->fault_weights) / sizeof(uint32_t); i++) {
        profile->fault_weights[i] = 0;
    }
}

void profile_draw(struct sim *sim)
{
    struct sim_profile *profile = &sim->profile;

    profile->nodes = (size_t)ONE_OF(sim, 1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 7);
    profile->clients = 2 + (size_t)sim_below(sim, 5);
    profile->keys = 1 + (size_t)sim_below(sim, 4);
    profile->steps = sim_between(sim, 6000, 40000);
    profile->election_ticks = (uint32_t)ONE_OF(sim, 5, 10, 10, 20);
    profile->tick_us = ONE_OF(sim, 5 * SIM_MS, 10 * SIM_MS);
    profile->lease = sim_chance(sim, 350);
    if (profile->lease && profile->election_ticks < 10) {
        profile->election_ticks = 10; /* with fewer a tick more or less is beyond the margin */
    }
    profile->changes_members = sim_chance(sim, 600);
    draw_limits(sim);
    draw_world(sim);
    if (!profile->lease && sim_chance(sim, 80)) {
        draw_core_lease(sim);
    }
}

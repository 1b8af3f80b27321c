/*
 * faults: what goes wrong, at random, by the weights that the seed has drawn.
 */
#include "tests/sim/sim.h"

enum fault {
    FAULT_KILL_RAFTD,
    FAULT_KILL_STORAGE,
    FAULT_KILL_BOTH,
    FAULT_POWER,
    FAULT_PAUSE,
    FAULT_PARTITION,
    FAULT_LOSS,
    FAULT_SLOW_DISK,
    FAULT_SNAPSHOT,
    FAULT_COLD_LOG,
    FAULT_CAMPAIGN,
    FAULT_UNREACHABLE,
    FAULT_KINDS,
};

_Static_assert(FAULT_KINDS <= sizeof(((struct sim_profile *)0)->fault_weights) / sizeof(uint32_t),
               "a weight for each fault");

/* Mostly as soon as a supervisor can, sometimes after longer than an election. */
static uint64_t restart_delay(struct sim *sim)
{
    uint64_t election_us = sim->profile.election_ticks * sim->profile.tick_us;

    return sim_chance(sim, 600) ? sim_between(sim, SIM_MS, 10 * SIM_MS)
                                : sim_below(sim, 4 * election_us);
}

static void kill_raftd(struct sim *sim, struct sim_node *node)
{
    node_kill_raftd(sim, node);
    sim_schedule(sim, restart_delay(sim), EVENT_START_RAFTD, node->id, 0, NULL);
}

static void kill_storage(struct sim *sim, struct sim_node *node)
{
    node_kill_storage(sim, node);
    sim_schedule(sim, restart_delay(sim), EVENT_START_STORAGE, node->id, 0, NULL);
}

static void cut_power(struct sim *sim, struct sim_node *node)
{
    uint64_t delay_us = restart_delay(sim);

    node_cut_power(sim, node);
    sim_schedule(sim, delay_us, EVENT_START_STORAGE, node->id, 0, NULL);
    sim_schedule(sim, delay_us + SIM_MS, EVENT_START_RAFTD, node->id, 0, NULL);
}

static enum fault draw_fault(struct sim *sim)
{
    uint64_t sum = 0;
    uint64_t at;

    for (size_t i = 0; i < FAULT_KINDS; i++) {
        sum += sim->profile.fault_weights[i];
    }
    if (sum == 0) {
        return FAULT_SNAPSHOT;
    }
    at = sim_below(sim, sum);
    for (size_t i = 0; i < FAULT_KINDS; i++) {
        if (at < sim->profile.fault_weights[i]) {
            return (enum fault)i;
        }
        at -= sim->profile.fault_weights[i];
    }
    return FAULT_SNAPSHOT;
}

static void campaign(struct sim *sim, struct sim_node *node)
{
    /* Nobody asks for that in lease mode: it would not wait for the leader's lease to end. */
    if (node->raft == NULL || sim->profile.lease) {
        return;
    }
    REPORT(node->id, "is told to campaign", "", "");
    (void)raft_campaign(node->raft); /* without memory limits it cannot fail */
    node_note(sim, node);
    node_touch(sim, node);
}

static void power_for_all(struct sim *sim)
{
    for (size_t i = 0; i < SIM_NODES_MAX; i++) {
        if (sim->nodes[i].exists) {
            cut_power(sim, &sim->nodes[i]);
        }
    }
}

void faults_inject(struct sim *sim)
{
    struct sim_node *node = sim_any_node(sim);
    uint64_t election_us = sim->profile.election_ticks * sim->profile.tick_us;

    switch (draw_fault(sim)) {
    case FAULT_KILL_RAFTD:
        kill_raftd(sim, node);
        break;
    case FAULT_KILL_STORAGE:
        kill_storage(sim, node);
        break;
    case FAULT_KILL_BOTH:
        kill_raftd(sim, node);
        kill_storage(sim, node);
        break;
    case FAULT_POWER:
        if (sim_chance(sim, 50)) {
            power_for_all(sim);
        } else {
            cut_power(sim, node);
        }
        break;
    case FAULT_PAUSE:
        node->paused_until = sim->now + sim_below(sim, 3 * election_us);
        REPORT(node->id, "is paused", "", "until", node->paused_until);
        break;
    case FAULT_PARTITION:
        network_partition(sim);
        sim_schedule(sim, sim_below(sim, 6 * election_us), EVENT_HEAL_NETWORK, 0, 0, NULL);
        break;
    case FAULT_LOSS:
        sim->loss_permille =
            sim_chance(sim, 500) ? sim->profile.loss_permille : sim_below(sim, 400);
        break;
    case FAULT_SLOW_DISK:
        node->disk_slow_until = sim->now + sim_below(sim, 4 * election_us);
        REPORT(node->id, "has a slow disk", "", "until", node->disk_slow_until);
        break;
    case FAULT_SNAPSHOT:
        if (node->storage_up) {
            node_take_snapshot(sim, node);
        }
        break;
    case FAULT_COLD_LOG:
        node->cold_index = node->raft != NULL ? node->basic.applied : 0;
        break;
    case FAULT_CAMPAIGN:
        campaign(sim, node);
        break;
    case FAULT_UNREACHABLE:
        if (node->raft != NULL) {
            (void)raft_report_unreachable(node->raft, sim_any_node(sim)->id); /* a hint */
            node_note(sim, node);
            node_touch(sim, node);
        }
        break;
    case FAULT_KINDS:
        break;
    }
}

/* Snapshots whose answers were lost: the member is asked where it stands. */
static void tell_of_snapshots(struct sim *sim, struct sim_node *node)
{
    for (node_id id = 1; id <= SIM_NODES_MAX; id++) {
        (void)raft_report_snapshot(node->raft, id, true); /* without memory limits it cannot fail */
    }
    node_note(sim, node);
    node_touch(sim, node);
}

void faults_heal(struct sim *sim)
{
    sim->healing = true;
    sim->loss_permille = 0;
    network_heal(sim);
    REPORT(0, "everything is mended", "", "commit", sim->commit);
    for (size_t i = 0; i < SIM_NODES_MAX; i++) {
        struct sim_node *node = &sim->nodes[i];

        if (!node->exists) {
            continue;
        }
        node->paused_until = 0;
        node->disk_slow_until = 0;
        node_start_storage(sim, node);
        if (sim_chance(sim, 300)) {
            node_kill_raftd(sim, node);
        }
        node_start(sim, node);
        tell_of_snapshots(sim, node);
    }
}

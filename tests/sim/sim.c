/*
 * sim: one run: events until the faults end, then the proof that the cluster recovers.
 */
#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/wire.h"

/* Election timeouts after the end of all faults within which everybody must have everything. */
#define RECOVERY_ELECTIONS 60
/* And at least so much time, whatever the timeouts: disks have their pace. */
#define RECOVERY_US (5000 * SIM_MS)

uint64_t sim_below(struct sim *sim, uint64_t n)
{
    return test_random_below(&sim->random, n);
}

bool sim_chance(struct sim *sim, uint32_t permille)
{
    return sim_below(sim, 1000) < permille;
}

uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high)
{
    return low + sim_below(sim, high - low + 1);
}

struct sim_node *sim_node(struct sim *sim, node_id id)
{
    return id == 0 || id > SIM_NODES_MAX ? NULL : &sim->nodes[id - 1];
}

struct sim_node *sim_any_node(struct sim *sim)
{
    size_t count = 0;
    uint64_t chosen;

    for (size_t i = 0; i < SIM_NODES_MAX; i++) {
        count += sim->nodes[i].exists;
    }
    chosen = sim_below(sim, count);
    for (size_t i = 0;; i++) {
        if (sim->nodes[i].exists && chosen-- == 0) {
            return &sim->nodes[i];
        }
    }
}

void sim_schedule(struct sim *sim, uint64_t delay_us, enum event_kind kind, node_id node,
                  uint64_t life, void *payload)
{
    const struct event event = {
        .at = sim->now + delay_us, .kind = kind, .node = node, .life = life, .payload = payload};

    schedule_add(&sim->schedule, &event);
}

/* ---- events ---- */

/* A stopped process gets what happened when it goes on, in order; its clock does not tick. */
static bool postpone(struct sim *sim, const struct event *event)
{
    struct sim_node *node = sim_node(sim, event->node);
    struct event later = *event;

    switch (event->kind) {
    case EVENT_PACKET:
    case EVENT_WORK:
    case EVENT_DISK:
    case EVENT_APPLY:
    case EVENT_FETCH:
    case EVENT_SNAPSHOT:
    case EVENT_SENT_SNAPSHOT:
    case EVENT_LOST_SNAPSHOT:
        if (node->paused_until <= sim->now) {
            return false;
        }
        later.at = node->paused_until;
        schedule_add(&sim->schedule, &later);
        return true;
    case EVENT_TICK:
    case EVENT_START_RAFTD:
    case EVENT_START_STORAGE:
    case EVENT_CLIENT:
    case EVENT_MEMBERS:
    case EVENT_FAULT:
    case EVENT_HEAL_NETWORK:
        return false;
    }
    return false;
}

static void tick(struct sim *sim, struct sim_node *node)
{
    sim_schedule(sim, (uint64_t)((double)sim->profile.tick_us / node->rate), EVENT_TICK, node->id,
                 0, NULL);
    if (node->paused_until <= sim->now) {
        node_tick(sim, node);
    }
}

static void report_snapshot(struct sim *sim, struct sim_node *node, const struct event *event)
{
    const struct sim_node *to = event->payload;

    if (node->raft == NULL || node->raft_life != event->life) {
        return;
    }
    (void)raft_report_snapshot(node->raft, to->id, event->kind == EVENT_LOST_SNAPSHOT);
    node_note(sim, node);
    node_touch(sim, node);
}

static void start_raftd(struct sim *sim, struct sim_node *node)
{
    if (!node->storage_up) {
        sim_schedule(sim, 2 * SIM_MS, EVENT_START_RAFTD, node->id, 0, NULL);
        return;
    }
    node_start(sim, node);
}

static void fetched(struct sim *sim, struct sim_node *node, const struct event *event)
{
    if (node->raft == NULL || node->raft_life != event->life) {
        return;
    }
    node->fetching = false;
    node->cold_index = 0;
    (void)raft_entries_available(node->raft); /* without memory limits it cannot fail */
    node_note(sim, node);
    node_touch(sim, node);
}

/* The next fault or change comes by itself; none does once the faults are over. */
static void repeat(struct sim *sim, const struct event *event, uint64_t gap_us)
{
    if (!sim->healing) {
        sim_schedule(sim, sim_below(sim, 2 * gap_us) + 1, event->kind, 0, 0, NULL);
    }
}

static void handle(struct sim *sim, const struct event *event)
{
    struct sim_node *node = event->kind == EVENT_CLIENT ? NULL : sim_node(sim, event->node);

    if (node != NULL && postpone(sim, event)) {
        return;
    }
    switch (event->kind) {
    case EVENT_TICK:
        tick(sim, node);
        break;
    case EVENT_PACKET:
        network_deliver(sim, event);
        break;
    case EVENT_WORK:
        if (node->raft_life == event->life) {
            node->work_scheduled = false;
            node_work(sim, node);
        }
        break;
    case EVENT_DISK:
        if (node->batch > 0 && node->batches == event->life) {
            node_written(sim, node);
        }
        break;
    case EVENT_APPLY:
        if (node->storage_life == event->life && node->raft != NULL) {
            node_apply(sim, node);
        }
        break;
    case EVENT_FETCH:
        fetched(sim, node, event);
        break;
    case EVENT_SNAPSHOT:
        if (node->storage_life == event->life && node->storage_up) {
            node_take_snapshot(sim, node);
        }
        break;
    case EVENT_SENT_SNAPSHOT:
    case EVENT_LOST_SNAPSHOT:
        report_snapshot(sim, node, event);
        break;
    case EVENT_START_RAFTD:
        start_raftd(sim, node);
        break;
    case EVENT_START_STORAGE:
        node_start_storage(sim, node);
        break;
    case EVENT_CLIENT:
        clients_wake(sim, event);
        break;
    case EVENT_MEMBERS:
        if (!sim->healing) {
            members_change(sim);
        }
        repeat(sim, event, sim->profile.member_gap_us);
        break;
    case EVENT_FAULT:
        if (!sim->healing) {
            faults_inject(sim);
        }
        repeat(sim, event, sim->profile.fault_gap_us);
        break;
    case EVENT_HEAL_NETWORK:
        network_heal(sim);
        break;
    }
}

static void next_event(struct sim *sim)
{
    struct event event;

    if (!schedule_next(&sim->schedule, &event)) {
        report_fail("simulator", "nothing happens any more");
    }
    sim->now = event.at;
    sim->step++;
    handle(sim, &event);
}

/* ---- recovery ---- */

static struct sim_node *leader(struct sim *sim)
{
    struct sim_node *newest = NULL;

    for (size_t i = 0; i < SIM_NODES_MAX; i++) {
        struct sim_node *node = &sim->nodes[i];

        if (node->raft != NULL && node->basic.state == RAFT_STATE_LEADER &&
            (newest == NULL || node->basic.term > newest->basic.term)) {
            newest = node;
        }
    }
    return newest;
}

/* Whether each of them has applied up to index. */
static bool all_applied(struct sim *sim, const struct raft_ids *ids, raft_index index)
{
    for (size_t i = 0; i < ids->count; i++) {
        const struct sim_node *node = sim_node(sim, ids->ids[i]);

        if (!node->exists || node->machine.applied < index) {
            return false;
        }
    }
    return true;
}

/* A command of an origin that no client has; everybody is up by now. */
static void probe(struct sim *sim, struct sim_node *node)
{
    struct machine_command command = {.origin = MACHINE_ORIGINS_MAX - 1,
                                      .seq = ++sim->probe_seq,
                                      .ack = sim->probe_seq,
                                      .kind = LIN_PUT,
                                      .condition = LIN_IF_REVISION}; /* refused: changes nothing */
    struct raft_entry entry = {.data = &command, .len_bytes = sizeof(command)};
    struct raft_slice copy = wire_copy_entries(&entry, 1);

    (void)raft_propose(node->raft, copy.entries, 1); /* refused while there is no leader */
    raft_slice_release(&copy);
    node_note(sim, node);
    node_touch(sim, node);
}

/* Everybody who is a member has applied a command that was proposed after the faults. */
static bool recovered(struct sim *sim, raft_index after)
{
    struct sim_node *node = leader(sim);
    struct raft_status status;

    if (node == NULL || node->machine.applied <= after ||
        node->machine.origins[MACHINE_ORIGINS_MAX - 1].answer.seq == 0) {
        return false;
    }
    raft_status(node->raft, &status);
    return status.conf.voters_outgoing.count == 0 &&
           all_applied(sim, &status.conf.voters, node->basic.commit) &&
           all_applied(sim, &status.conf.learners, node->basic.commit);
}

static void recover(struct sim *sim)
{
    uint64_t election_us = sim->profile.election_ticks * sim->profile.tick_us;
    raft_index after = sim->commit;
    uint64_t deadline;
    uint64_t next_probe;

    faults_heal(sim);
    deadline = sim->now + RECOVERY_US + RECOVERY_ELECTIONS * election_us;
    next_probe = sim->now + 2 * election_us;
    while (!recovered(sim, after)) {
        next_event(sim);
        if (sim->now >= next_probe) {
            /* Members know where the leader is; who was removed need not. */
            struct sim_node *node = leader(sim);

            next_probe = sim->now + 3 * election_us;
            probe(sim, node != NULL && sim_chance(sim, 500) ? node : sim_any_node(sim));
            members_leave_joint(sim);
        }
        if (sim->now > deadline) {
            const struct sim_node *node = leader(sim);

            report_fail("no-progress", "leader %lu, committed %lu, before the end of faults %lu",
                        node == NULL ? 0 : node->id, sim->commit, after);
        }
    }
}

/* ---- a run ---- */

static void begin(struct sim *sim)
{
    profile_draw(sim);
    sim->loss_permille = sim->profile.loss_permille;
    check_create(sim);
    clients_create(sim);
    for (node_id id = 1; id <= sim->profile.nodes; id++) {
        node_create(sim, id, sim->profile.nodes);
    }
    for (node_id id = 1; id <= sim->profile.nodes; id++) {
        node_start(sim, sim_node(sim, id));
    }
    sim_schedule(sim, sim->profile.fault_gap_us, EVENT_FAULT, 0, 0, NULL);
    sim_schedule(sim, sim->profile.member_gap_us, EVENT_MEMBERS, 0, 0, NULL);
}

static void end(struct sim *sim)
{
    struct event event;

    while (schedule_next(&sim->schedule, &event)) {
        if (event.kind == EVENT_PACKET) {
            network_drop(event.payload);
        }
    }
    schedule_fini(&sim->schedule);
    for (size_t i = 0; i < SIM_NODES_MAX; i++) {
        node_destroy(&sim->nodes[i]);
    }
    check_destroy(sim);
    clients_destroy(sim);
    if (wire_live() != 0) {
        report_fail("leak", "%ld pieces of memory were not given back", wire_live());
    }
}

static void count(struct sim *sim)
{
    sim->totals->events += sim->step;
    sim->totals->entries += sim->commit;
    for (size_t i = 0; i < SIM_TERMS_MAX; i++) {
        sim->totals->leaders += sim->leaders[i] != 0;
    }
}

void sim_run(uint64_t seed, uint64_t steps_max, struct sim_totals *totals)
{
    struct sim *sim = report_calloc(1, sizeof(*sim));
    uint64_t steps;

    sim->seed = seed;
    sim->random = seed;
    sim->totals = totals;
    report_begin(seed, &sim->now, &sim->step);
    begin(sim);
    steps = steps_max > 0 ? steps_max : sim->profile.steps;
    while (sim->step < steps) {
        next_event(sim);
    }
    recover(sim);
    clients_judge(sim);
    count(sim);
    end(sim);
    free(sim);
}

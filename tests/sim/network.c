/*
 * network: messages between nodes: late, twice, out of order, or not at all.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"
#include "tests/sim/wire.h"

void network_drop(struct raft_message *packet)
{
    raft_message_release(&wire_alloc, packet);
    free(packet);
}

static uint64_t delay(struct sim *sim, node_id from, node_id to)
{
    const struct sim_profile *profile = &sim->profile;
    uint64_t delay_us = profile->delay_us / 2 + sim_below(sim, profile->delay_us + 1);

    if (!sim->healing && sim_chance(sim, 30)) {
        delay_us += sim_below(sim, profile->delay_tail_us + 1);
    }
    if (profile->in_order && sim->now + delay_us <= sim->last_at[from][to]) {
        delay_us = sim->last_at[from][to] + 1 - sim->now;
    }
    sim->last_at[from][to] = sim->now + delay_us;
    return delay_us;
}

static void send_copy(struct sim *sim, const struct raft_message *message, uint64_t delay_us)
{
    struct raft_message *packet = report_calloc(1, sizeof(*packet));

    wire_copy_message(message, packet);
    sim_schedule(sim, delay_us, EVENT_PACKET, message->to, 0, packet);
}

/* Whoever sent a snapshot wants to know what became of it. */
static void tell_sender(struct sim *sim, struct sim_node *from, node_id to, enum event_kind kind,
                        uint64_t delay_us)
{
    sim_schedule(sim, delay_us, kind, from->id, from->raft_life, sim_node(sim, to));
}

void network_send(struct sim *sim, struct sim_node *from, const struct raft_message *message)
{
    struct sim_node *to = sim_node(sim, message->to);
    bool lost;
    uint64_t delay_us;

    /* A forwarded request keeps its first sender's name. */
    check_promise(sim, from, message);
    if (to == NULL) {
        return;
    }
    lost =
        !to->exists || sim->cut[from->id][to->id] || sim_chance(sim, (uint32_t)sim->loss_permille);
    REPORT(from->id, lost ? "loses" : "sends", raft_message_name(message->type),
           "to term index commit", message->to, message->term,
           message->index + message->entries.count, message->commit);
    delay_us = delay(sim, from->id, to->id);
    if (message->type == RAFT_MSG_SNAP) {
        delay_us += sim_below(sim, 20 * SIM_MS);
        tell_sender(sim, from, to->id, lost ? EVENT_LOST_SNAPSHOT : EVENT_SENT_SNAPSHOT,
                    delay_us + sim_below(sim, 5 * SIM_MS));
    } else if (lost && sim_chance(sim, 100) && from->raft != NULL) {
        (void)raft_report_unreachable(from->raft, to->id); /* a hint that may come or not */
        node_note(sim, from);
    }
    if (lost) {
        return;
    }
    send_copy(sim, message, delay_us);
    if (!sim->healing && sim_chance(sim, sim->profile.twice_permille)) {
        send_copy(sim, message, delay_us + sim_below(sim, sim->profile.delay_tail_us));
    }
}

void network_deliver(struct sim *sim, const struct event *event)
{
    struct raft_message *packet = event->payload;
    struct sim_node *to = sim_node(sim, event->node);

    if (to->exists) {
        node_receive(sim, to, packet);
    }
    network_drop(packet);
}

/* ---- partitions ---- */

static void cut(struct sim *sim, node_id from, node_id to)
{
    if (from != to) {
        sim->cut[from][to] = true;
    }
}

/* Two sides that do not hear of each other, or only one of the other. */
static void split(struct sim *sim, bool one_way)
{
    uint64_t side = test_random(&sim->random);

    for (node_id a = 1; a <= SIM_NODES_MAX; a++) {
        for (node_id b = 1; b <= SIM_NODES_MAX; b++) {
            bool a_left = (side >> a & 1) != 0;
            bool b_left = (side >> b & 1) != 0;

            if (a_left && !b_left) {
                cut(sim, a, b);
            } else if (!a_left && b_left && !one_way) {
                cut(sim, a, b);
            }
        }
    }
}

/* One node hears nothing, is not heard, or both. */
static void isolate(struct sim *sim, node_id id, uint64_t ways)
{
    for (node_id other = 1; other <= SIM_NODES_MAX; other++) {
        if (ways != 0) {
            cut(sim, id, other);
        }
        if (ways != 1) {
            cut(sim, other, id);
        }
    }
}

/* The leader, if there is one: cutting that one off is what hurts. */
static node_id victim(struct sim *sim)
{
    for (node_id id = 1; id <= SIM_NODES_MAX; id++) {
        const struct sim_node *node = &sim->nodes[id - 1];

        if (node->raft != NULL && node->basic.state == RAFT_STATE_LEADER && sim_chance(sim, 600)) {
            return id;
        }
    }
    return sim_any_node(sim)->id;
}

void network_partition(struct sim *sim)
{
    if (sim_chance(sim, 500)) {
        network_heal(sim);
    }
    switch (sim_below(sim, 5)) {
    case 0:
        split(sim, false);
        break;
    case 1:
        split(sim, true);
        break;
    case 2:
    case 3:
        isolate(sim, victim(sim), sim_below(sim, 3));
        break;
    default:
        for (size_t i = 0; i < 4; i++) {
            cut(sim, sim_any_node(sim)->id, sim_any_node(sim)->id);
        }
        break;
    }
    REPORT(0, "the network is cut", "", "");
}

void network_heal(struct sim *sim)
{
    memset(sim->cut, 0, sizeof(sim->cut));
}

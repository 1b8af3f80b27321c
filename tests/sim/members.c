/*
 * members: changes of membership and of leadership, as an operator or a program would ask for them.
 *
 * Most are sensible, some are refused; each is proposed at some node that is up.
 */
#include <stdlib.h>

#include "tests/sim/sim.h"

#define CHANGES_MAX 40 /* in one run */

/* A node that is up, the leader more often than not; NULL if none is. */
static struct sim_node *proposer(struct sim *sim)
{
    for (size_t i = 0; i < SIM_NODES_MAX; i++) {
        struct sim_node *node = &sim->nodes[i];

        if (node->raft != NULL && node->basic.state == RAFT_STATE_LEADER && sim_chance(sim, 700)) {
            return node;
        }
    }
    for (size_t i = 0; i < 4; i++) {
        struct sim_node *node = sim_any_node(sim);

        if (node->raft != NULL) {
            return node;
        }
    }
    return NULL;
}

static bool contains(const struct raft_ids *ids, node_id id)
{
    for (size_t i = 0; i < ids->count; i++) {
        if (ids->ids[i] == id) {
            return true;
        }
    }
    return false;
}

static node_id pick(struct sim *sim, const struct raft_ids *ids)
{
    return ids->count == 0 ? 0 : ids->ids[sim_below(sim, ids->count)];
}

/* Somebody who is no member: a new machine under a new id, or one that was removed. */
static node_id outsider(struct sim *sim, const struct raft_conf_state *conf)
{
    for (size_t i = 0; i < 8; i++) {
        node_id id = 1 + sim_below(sim, SIM_NODES_MAX);

        if (!contains(&conf->voters, id) && !contains(&conf->voters_outgoing, id) &&
            !contains(&conf->learners, id)) {
            return id;
        }
    }
    return 0;
}

static struct raft_change one_change(struct sim *sim, const struct sim_node *node,
                                     const struct raft_conf_state *conf)
{
    size_t members = conf->voters.count + conf->learners.count;

    switch (sim_below(sim, 8)) {
    case 0:
    case 1:
        if (members < 7) {
            return (struct raft_change){RAFT_ADD_VOTER, outsider(sim, conf)};
        }
        break;
    case 2:
        if (members < 7) {
            return (struct raft_change){RAFT_ADD_LEARNER, outsider(sim, conf)};
        }
        break;
    case 3:
    case 4:
        return (struct raft_change){RAFT_ADD_VOTER, pick(sim, &conf->learners)};
    case 5:
        return (struct raft_change){RAFT_ADD_LEARNER, pick(sim, &conf->voters)};
    case 6:
        return (struct raft_change){RAFT_REMOVE_MEMBER, node->basic.lead};
    default:
        break;
    }
    return (struct raft_change){RAFT_REMOVE_MEMBER, sim_chance(sim, 700)
                                                        ? pick(sim, &conf->voters)
                                                        : pick(sim, &conf->learners)};
}

static void propose(struct sim *sim, struct sim_node *node, const struct raft_conf_change *change)
{
    int rc = raft_propose_conf_change(node->raft, change);

    REPORT(node->id, rc == MS_OK ? "proposes members" : "refuses members", "",
           "changes transition type id", change->count, (uint64_t)change->transition,
           (uint64_t)change->changes[0].type, change->changes[0].id);
    node_note(sim, node);
    node_touch(sim, node);
}

static void propose_change(struct sim *sim, struct sim_node *node)
{
    struct raft_conf_change change = {.count = 1};
    struct raft_status status;

    raft_status(node->raft, &status);
    if (sim->member_changes >= CHANGES_MAX) {
        return;
    }
    if (status.conf.voters_outgoing.count > 0) {
        if (!status.conf.auto_leave || sim_chance(sim, 300)) {
            change.count = 0; /* leaves the joint configuration */
            propose(sim, node, &change);
        }
        return;
    }
    if (sim_chance(sim, 400)) {
        change.count = 1 + (size_t)sim_below(sim, 3);
        change.transition = (enum raft_transition)sim_below(sim, 3);
    }
    for (size_t i = 0; i < change.count; i++) {
        change.changes[i] = one_change(sim, node, &status.conf);
        if (change.changes[i].type != RAFT_REMOVE_MEMBER && change.changes[i].id != 0 &&
            !sim->nodes[change.changes[i].id - 1].exists) {
            node_create(sim, change.changes[i].id, 0);
            node_start(sim, sim_node(sim, change.changes[i].id));
        }
    }
    change.v1 =
        change.count == 1 && change.transition == RAFT_TRANSITION_AUTO && sim_chance(sim, 300);
    sim->member_changes++;
    propose(sim, node, &change);
}

static void transfer(struct sim *sim, struct sim_node *node)
{
    node_id target = sim_any_node(sim)->id;

    REPORT(node->id, "is asked to transfer leadership", "", "target", target);
    (void)raft_transfer_leader(node->raft, target); /* without memory limits it cannot fail */
    node_note(sim, node);
    node_touch(sim, node);
}

void members_change(struct sim *sim)
{
    struct sim_node *node = proposer(sim);

    if (node == NULL || node->paused_until > sim->now) {
        return;
    }
    if (sim_chance(sim, 250)) {
        transfer(sim, node);
    } else if (sim_chance(sim, 60) && !sim->profile.lease && !sim->profile.core_lease) {
        REPORT(node->id, "forgets its leader", "", "");
        (void)raft_forget_leader(node->raft); /* likewise */
        node_note(sim, node);
        node_touch(sim, node);
    } else if (sim_chance(sim, 100)) {
        REPORT(node->id, "is to lead no more", "", "term", node->basic.term);
        raft_step_down(node->raft);
        node_note(sim, node);
        node_touch(sim, node);
    } else if (sim->profile.changes_members) {
        propose_change(sim, node);
        if (sim_chance(sim, 200)) {
            propose_change(sim, node); /* before the first can have taken effect */
        }
    }
}

void members_leave_joint(struct sim *sim)
{
    static const struct raft_conf_change leave = {0};

    for (size_t i = 0; i < SIM_NODES_MAX; i++) {
        struct sim_node *node = &sim->nodes[i];
        struct raft_status status;

        if (node->raft == NULL || node->basic.state != RAFT_STATE_LEADER) {
            continue;
        }
        raft_status(node->raft, &status);
        if (status.conf.voters_outgoing.count > 0 && !status.conf.auto_leave) {
            propose(sim, node, &leave);
        }
    }
}

/*
 * node_apply: committed entries on their way to the state machine.
 *
 * A change of configuration is given to the core first, what it leads to is written to the log,
 * and only when that is durable the state machine gets the entry: so it can be rebuilt with the
 * right configuration.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"
#include "tests/sim/wire.h"

static struct pending_conf *find_conf(struct sim_node *node, raft_index index)
{
    for (size_t i = 0; i < node->conf_count; i++) {
        if (node->confs[i].index == index) {
            return &node->confs[i];
        }
    }
    return NULL;
}

void node_conf_durable(struct sim_node *node, raft_index index)
{
    struct pending_conf *conf = find_conf(node, index);

    if (conf != NULL) {
        conf->durable = true;
        node->apply_blocked = false;
    }
}

static void drop_confs(struct sim_node *node)
{
    size_t gone = 0;

    while (gone < node->conf_count && node->confs[gone].index <= node->machine.applied) {
        gone++;
    }
    node->conf_count -= gone;
    memmove(node->confs, node->confs + gone, node->conf_count * sizeof(node->confs[0]));
}

/* The stream has come to a change. */
static void meet_change(struct sim *sim, struct sim_node *node, const struct raft_entry *entry)
{
    struct raft_conf_change change;
    struct pending_conf *conf;
    int rc;

    if (entry->index <= node->conf_seen) {
        return;
    }
    node->conf_seen = entry->index;
    drop_confs(node);
    if (node->conf_count == SIM_PENDING_CONFS_MAX) {
        report_fail("simulator", "too many configurations wait");
    }
    conf = &node->confs[node->conf_count];
    rc = raft_conf_change_decode(entry, &change);
    if (rc != MS_OK) {
        report_fail("entry-data", "entry %lu is no configuration change", entry->index);
    }
    *conf = (struct pending_conf){.index = entry->index};
    rc = raft_apply_conf_change(node->raft, &change, &conf->conf);
    node_note(sim, node);
    REPORT(node->id, rc == MS_OK ? "changes members" : "cannot change members", "",
           "index voters outgoing learners", entry->index, conf->conf.voters.count,
           conf->conf.voters_outgoing.count, conf->conf.learners.count);
    if (rc == MS_OK) {
        sim->totals->changes++;
        node->conf_count++;
        journal_write_conf(&node->journal, entry->index, &conf->conf);
        node_write_more(sim, node);
    } else if (rc != MS_EINVAL) {
        report_fail("change", "node %lu: %s", node->id, ms_status_text(rc));
    }
}

void node_want_snapshot(struct sim *sim, struct sim_node *node)
{
    if (!node->snapshot_scheduled) {
        node->snapshot_scheduled = true;
        sim_schedule(sim, sim_between(sim, SIM_MS, 20 * SIM_MS), EVENT_SNAPSHOT, node->id,
                     node->storage_life, NULL);
    }
}

static void apply_one(struct sim *sim, struct sim_node *node, const struct raft_entry *entry)
{
    struct machine *machine = &node->machine;
    struct machine_command command = {0};
    struct machine_answer answer = {0};

    if (entry->index != machine->applied + 1) {
        report_fail("apply-order", "node %lu gets entry %lu after %lu", node->id, entry->index,
                    machine->applied);
    }
    if (entry->type == RAFT_ENTRY_NORMAL) {
        machine_apply(machine, entry, &command, &answer);
    } else {
        const struct pending_conf *conf = find_conf(node, entry->index);

        machine->applied = entry->index;
        machine->applied_term = entry->term;
        if (conf != NULL) {
            machine->conf = conf->conf;
        }
    }
    check_applied(sim, node, entry);
    clients_applied(sim, node, &command, &answer);
    if (machine->applied - node->disk.snapshot.applied >= sim->profile.snapshot_entries) {
        node_want_snapshot(sim, node);
    }
}

/* Whether the entry may be applied now; if not, the disk will say when. */
static bool may_apply(struct sim_node *node, const struct raft_entry *entry)
{
    const struct pending_conf *conf;

    if (entry->type == RAFT_ENTRY_NORMAL || entry->index <= node->machine.applied) {
        return true;
    }
    conf = find_conf(node, entry->index);
    if (conf == NULL) {
        /* A change that the core must not get any more: a snapshot is on its way to the disk. */
        return entry->index > node->snapshot_seen;
    }
    return conf->durable;
}

/* Applies up to budget entries of the oldest item; true if it is done. */
static bool apply_some(struct sim *sim, struct sim_node *node, struct apply_item *item,
                       size_t budget)
{
    const struct raft_slice *entries = &item->message.entries;

    while (item->done < entries->count) {
        const struct raft_entry *entry = &entries->entries[item->done];

        if (entry->type != RAFT_ENTRY_NORMAL) {
            meet_change(sim, node, entry);
        }
        if (!may_apply(node, entry)) {
            node->apply_blocked = true;
            return false;
        }
        if (budget == 0) {
            return false;
        }
        if (entry->index >
            node->machine.applied) { /* else a snapshot or a dead raftd's came first */
            apply_one(sim, node, entry);
            budget--;
        }
        item->done++;
    }
    return true;
}

void node_apply_more(struct sim *sim, struct sim_node *node)
{
    if (node->raft == NULL || !node->storage_up || node->apply_scheduled || node->apply_blocked ||
        STAILQ_EMPTY(&node->applying)) {
        return;
    }
    node->apply_scheduled = true;
    sim_schedule(sim, sim_between(sim, 10, 300), EVENT_APPLY, node->id, node->storage_life, NULL);
}

void node_apply(struct sim *sim, struct sim_node *node)
{
    struct apply_item *item = STAILQ_FIRST(&node->applying);

    node->apply_scheduled = false;
    if (item == NULL || !apply_some(sim, node, item, 1 + (size_t)sim_below(sim, 8))) {
        node_touch(sim, node);
        return;
    }
    STAILQ_REMOVE_HEAD(&node->applying, next);
    node_deliver(sim, node, &item->message);
    raft_message_release(&wire_alloc, &item->message);
    free(item);
    node_touch(sim, node);
}

void node_apply_leftovers(struct sim *sim, struct sim_node *node)
{
    struct apply_item *item = STAILQ_FIRST(&node->applying);
    uint64_t budget = sim_below(sim, 6);

    /* Only what comes before the next change: behind one nothing had been sent yet. */
    while (node->storage_up && item != NULL && item->done < item->message.entries.count &&
           budget > 0) {
        const struct raft_entry *entry = &item->message.entries.entries[item->done];

        if (entry->type != RAFT_ENTRY_NORMAL) {
            return;
        }
        if (entry->index > node->machine.applied) {
            apply_one(sim, node, entry);
        }
        item->done++;
        budget--;
    }
}

void node_take_snapshot(struct sim *sim, struct sim_node *node)
{
    raft_index keep_after = node->machine.applied;
    uint64_t kept = sim_below(sim, sim->profile.snapshot_entries + 1);

    node->snapshot_scheduled = false;
    keep_after -= kept < keep_after ? kept : keep_after;
    if (keep_after < node->disk.log.base_index) {
        keep_after = node->disk.log.base_index;
    }
    disk_snapshot(&node->disk, &node->machine, keep_after);
    REPORT(node->id, "snapshot", "", "index first", node->machine.applied,
           node->disk.log.base_index + 1);
    if (node->raft != NULL) {
        entry_log_compact(&node->store,
                          keep_after < node->basic.applied ? keep_after : node->basic.applied);
    }
}

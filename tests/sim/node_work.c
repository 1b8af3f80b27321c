/*
 * node_work: the loop of a raftd: events into the core, and what it wants done out of it.
 */
#include <stdlib.h>

#include "tests/sim/sim.h"
#include "tests/sim/wire.h"

#define READIES_MAX 10000 /* a core that never comes to rest is broken */

/* ---- what the core asks for ---- */

static int initial_state(void *ctx, struct raft_hard_state *hard, struct raft_conf_state *conf)
{
    const struct sim_node *node = ctx;

    *hard = node->initial_hard;
    *conf = node->machine.conf; /* as of applied; later changes are applied again */
    return MS_OK;
}

static int stored_entries(void *ctx, raft_index first, raft_index end, uint64_t max_bytes,
                          struct raft_slice *out)
{
    struct sim_node *node = ctx;
    const struct raft_entry *entries;

    if (first <= node->store.base_index) {
        return MS_ECOMPACTED;
    }
    if (first <= node->cold_index) {
        if (!node->fetching) {
            node->fetching = true;
            sim_schedule(node->sim, sim_between(node->sim, 50, 2 * SIM_MS), EVENT_FETCH, node->id,
                         node->raft_life, NULL);
        }
        return MS_EAGAIN;
    }
    if (end <= first || end > entry_log_last(&node->store) + 1) {
        return MS_EUNAVAILABLE;
    }
    entries = entry_log_at(&node->store, first);
    return raft_slice_create(&wire_alloc, entries,
                             raft_entries_fit(entries, (size_t)(end - first), max_bytes), out);
}

static int stored_term(void *ctx, raft_index index, raft_term *term)
{
    const struct sim_node *node = ctx;

    if (index < node->store.base_index) {
        return MS_ECOMPACTED;
    }
    return entry_log_term(&node->store, index, term) ? MS_OK : MS_EUNAVAILABLE;
}

static raft_index stored_first_index(void *ctx)
{
    return ((const struct sim_node *)ctx)->store.base_index + 1;
}

static raft_index stored_last_index(void *ctx)
{
    return entry_log_last(&((const struct sim_node *)ctx)->store);
}

static int stored_snapshot(void *ctx, struct raft_snapshot **out)
{
    struct sim_node *node = ctx;

    if (!node->storage_up || sim_chance(node->sim, 50)) {
        return MS_EAGAIN;
    }
    if (check_conf_digest(&node->disk.snapshot.conf) != check_conf_digest(&node->machine.conf)) {
        /* Who was added since would refuse it: it is not in its configuration. */
        node_want_snapshot(node->sim, node);
        return MS_EAGAIN;
    }
    *out = machine_to_snapshot(&node->disk.snapshot, &node->disk.snapshot.conf);
    return MS_OK;
}

const struct raft_storage node_storage = {
    .initial_state = initial_state,
    .entries = stored_entries,
    .term = stored_term,
    .first_index = stored_first_index,
    .last_index = stored_last_index,
    .snapshot = stored_snapshot,
};

/* ---- the disk ---- */

static uint64_t disk_delay(struct sim *sim, const struct sim_node *node)
{
    if (node->disk_slow_until > sim->now && !sim->healing) {
        return sim_between(sim, 10 * SIM_MS, 200 * SIM_MS);
    }
    return sim->profile.disk_us / 2 + sim_below(sim, sim->profile.disk_us + 1);
}

void node_write_more(struct sim *sim, struct sim_node *node)
{
    struct record *record;
    size_t waiting = 0;

    if (!node->storage_up) {
        return;
    }
    STAILQ_FOREACH(record, &node->records, next)
    {
        waiting++;
    }
    /* The ring is short and a record small now and then, so that a write can be cut anywhere. */
    if (node->raft != NULL && waiting < 16) {
        waiting += journal_send(&node->journal, &node->records, 16 - waiting,
                                sim_chance(sim, 300) ? 2 : 64);
    }
    if (node->batch == 0 && waiting > 0) {
        node->batch = waiting;
        node->batches++;
        sim_schedule(sim, disk_delay(sim, node), EVENT_DISK, node->id, node->batches, NULL);
    }
}

/* Writes that are done: what they promise is true now. */
static void complete_writes(struct sim *sim, struct sim_node *node)
{
    struct write *write;

    while ((write = journal_done(&node->journal)) != NULL) {
        if (write->conf_index != 0) {
            node_conf_durable(node, write->conf_index);
        } else {
            node_deliver(sim, node, &write->message);
        }
        journal_destroy_write(write);
    }
}

/* ---- out of the core ---- */

static void route(struct sim *sim, struct sim_node *node, struct raft_message *message)
{
    if (message->type == RAFT_MSG_STORAGE_APPEND) {
        if (message->snapshot != NULL) {
            REPORT(node->id, "snapshot taken over", "", "index", message->snapshot->index);
            check_snapshot(sim, node, message->snapshot);
            sim->totals->snapshots++;
            entry_log_reset(&node->store, message->snapshot->index, message->snapshot->term);
            /* Changes before it are in its configuration; the core must not get them again. */
            node->conf_seen = message->snapshot->index;
            node->snapshot_seen = message->snapshot->index;
            node->cold_index = 0;
        }
        entry_log_append(&node->store, &message->entries);
        check_entries(sim, node, &message->entries);
        journal_append(&node->journal, message);
    } else if (message->type == RAFT_MSG_STORAGE_APPLY) {
        struct apply_item *item = report_calloc(1, sizeof(*item));

        raft_message_take(&item->message, message);
        STAILQ_INSERT_TAIL(&node->applying, item, next);
    } else {
        network_send(sim, node, message);
    }
}

/*
 * The commit index that outlives raftd. A leader never replaces entries; what a follower has on
 * disk may still be replaced by what it knows to be committed.
 */
static void publish(struct sim_node *node)
{
    raft_index commit = node->basic.commit;

    if (node->basic.state != RAFT_STATE_LEADER && commit > journal_settled(&node->journal)) {
        commit = journal_settled(&node->journal);
    }
    if (commit > node->page_commit) {
        node->page_commit = commit;
    }
    node->page_leader = node->basic.state == RAFT_STATE_LEADER;
}

static void do_ready(struct sim *sim, struct sim_node *node)
{
    struct raft_ready ready;
    int rc = raft_ready(node->raft, &ready);

    if (rc != MS_OK) {
        report_fail("ready", "node %lu: %s", node->id, ms_status_text(rc));
    }
    node_note(sim, node);
    if (ready.has_soft_state) {
        REPORT(node->id, "is", raft_state_name(ready.soft_state.state), "term leader commit last",
               node->basic.term, ready.soft_state.lead, node->basic.commit, node->basic.last_index);
    }
    for (size_t i = 0; i < ready.message_count; i++) {
        route(sim, node, &ready.messages[i]);
    }
    publish(node); /* before anything leaves the process, but knowing what is to be replaced */
    for (size_t i = 0; i < ready.read_state_count; i++) {
        clients_reads_ready(sim, node, &ready.read_states[i]);
    }
    raft_ready_release(node->raft, &ready);
}

/* A sole voter needs nobody's consent; but in lease mode a leader may still count on its silence.
 */
static void campaign_if_sole(struct sim *sim, struct sim_node *node)
{
    if (!node->basic.sole_voter || !node->basic.is_voter ||
        node->basic.state != RAFT_STATE_FOLLOWER || node->basic.lead != 0 ||
        check_change_between(node, node->basic.applied, node->basic.commit) ||
        (sim->profile.lease && node_clock(sim, node) < node->silent_until)) {
        return;
    }
    (void)raft_campaign(node->raft); /* without memory limits it cannot fail */
    node_note(sim, node);
}

void node_work(struct sim *sim, struct sim_node *node)
{
    if (node->raft == NULL) {
        return;
    }
    complete_writes(sim, node);
    campaign_if_sole(sim, node);
    for (size_t i = 0; raft_has_ready(node->raft); i++) {
        if (i == READIES_MAX) {
            report_fail("endless-ready", "node %lu always has more to do", node->id);
        }
        do_ready(sim, node);
        /* Some writes need no disk at all, so their responses are due at once. */
        node_write_more(sim, node);
        complete_writes(sim, node);
    }
    check_log(sim, node);
    node_write_more(sim, node);
    node_apply_more(sim, node);
}

void node_touch(struct sim *sim, struct sim_node *node)
{
    if (node->raft == NULL) {
        node_write_more(sim, node); /* for what a dead raftd had sent */
    } else if (sim_chance(sim, 500)) {
        node_work(sim, node);
    } else if (!node->work_scheduled) {
        node->work_scheduled = true;
        sim_schedule(sim, sim_below(sim, 200), EVENT_WORK, node->id, node->raft_life, NULL);
    }
}

/* ---- into the core ---- */

void node_note(struct sim *sim, struct sim_node *node)
{
    struct raft_basic_status before = node->basic;

    raft_basic_status(node->raft, &node->basic);
    if (node->basic.lead_transferee != 0) {
        node->no_lease_term = node->basic.term;
    }
    if (node->basic.state != RAFT_STATE_LEADER || node->no_lease_term == node->basic.term) {
        node->lease_until = 0;
        node->renew_seq = 0;
    }
    check_basic(sim, node, &before);
}

void node_tick(struct sim *sim, struct sim_node *node)
{
    if (node->raft == NULL) {
        return;
    }
    (void)raft_tick(node->raft); /* without memory limits it cannot fail */
    node_note(sim, node);
    clients_renew_lease(sim, node);
    node_touch(sim, node);
}

/* Refusals that may happen to messages in a world like this. */
static bool tolerable(int rc)
{
    return rc == MS_OK || rc == MS_ENOENT || rc == MS_EDROPPED || rc == MS_EFULL;
}

static void step(struct sim *sim, struct sim_node *node, const struct raft_message *message)
{
    int rc = raft_step(node->raft, message);

    if (!tolerable(rc)) {
        report_fail("step", "node %lu says about %s of %lu, term %lu: %s", node->id,
                    raft_message_name(message->type), message->from, message->term,
                    ms_status_text(rc));
    }
    node_note(sim, node);
}

void node_receive(struct sim *sim, struct sim_node *node, const struct raft_message *message)
{
    if (node->raft == NULL) {
        return;
    }
    if (sim->profile.lease && node_clock(sim, node) < node->silent_until &&
        (message->type == RAFT_MSG_VOTE || message->type == RAFT_MSG_PRE_VOTE)) {
        /* It does not remember whose lease it has promised to respect before it died. */
        REPORT(node->id, "keeps silent", "", "to term", message->from, message->term);
        return;
    }
    REPORT(node->id, "receives", raft_message_name(message->type), "from term index commit",
           message->from, message->term,
           message->snapshot != NULL ? message->snapshot->index
                                     : message->index + message->entries.count,
           message->commit);
    step(sim, node, message);
    if (message->type == RAFT_MSG_APP_RESP && sim->healing) {
        check_streaming(node, message->from);
    }
    if (message->type == RAFT_MSG_SNAP) {
        node_work(sim, node); /* the core has the new configuration already */
    } else {
        node_touch(sim, node);
    }
}

void node_deliver(struct sim *sim, struct sim_node *node, const struct raft_message *message)
{
    for (size_t i = 0; i < message->response_count; i++) {
        const struct raft_message *response = &message->responses[i];

        if (response->to != node->id) {
            network_send(sim, node, response);
            continue;
        }
        check_promise(sim, node, response);
        step(sim, node, response);
    }
}

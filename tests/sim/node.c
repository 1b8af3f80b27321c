/*
 * node: a node's life: what each of its processes finds when it starts, and what is left of it
 * when it dies.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"
#include "tests/sim/wire.h"

uint64_t node_clock(const struct sim *sim, const struct sim_node *node)
{
    return (uint64_t)((double)sim->now * node->rate);
}

/* ---- a machine ---- */

/* All founding members lay the same entries, so these are committed from the start. */
static void found(struct sim_node *node, size_t voters)
{
    for (size_t i = 1; i <= voters; i++) {
        struct raft_conf_change change = {.v1 = true, .count = 1};
        struct raft_entry entry = {.term = 1, .index = i, .type = RAFT_ENTRY_CONF_CHANGE};
        struct raft_slice slice;
        uint8_t bytes[64];
        size_t len_bytes = 0;

        change.changes[0] = (struct raft_change){.type = RAFT_ADD_VOTER, .id = i};
        if (raft_conf_change_encode(&change, bytes, sizeof(bytes), &len_bytes) != MS_OK) {
            report_fail("simulator", "founding entry %zu", i);
        }
        entry.data = bytes;
        entry.len_bytes = len_bytes;
        slice = wire_copy_entries(&entry, 1);
        entry_log_append(&node->disk.log, &slice);
        raft_slice_release(&slice);
    }
    node->disk.hard = (struct raft_hard_state){.term = 1, .commit = voters};
}

void node_create(struct sim *sim, node_id id, size_t voters)
{
    struct sim_node *node = &sim->nodes[id - 1];
    uint32_t skew = sim->profile.skew_permille;

    node->sim = sim;
    node->id = id;
    node->exists = true;
    node->storage_up = true;
    node->rate = 1.0 + ((double)sim_below(sim, 2 * skew + 1) - (double)skew) / 1000.0;
    STAILQ_INIT(&node->applying);
    STAILQ_INIT(&node->records);
    STAILQ_INIT(&node->journal.writes);
    if (voters > 0) {
        found(node, voters);
    }
    REPORT(id, "created", "", "founders", voters);
    sim_schedule(sim, sim_below(sim, sim->profile.tick_us) + 1, EVENT_TICK, id, 0, NULL);
}

static void forget_raftd(struct sim_node *node)
{
    struct apply_item *item;

    raft_destroy(node->raft);
    node->raft = NULL;
    node->raft_life++;
    journal_fini(&node->journal);
    while ((item = STAILQ_FIRST(&node->applying)) != NULL) {
        STAILQ_REMOVE_HEAD(&node->applying, next);
        raft_message_release(&wire_alloc, &item->message);
        free(item);
    }
    entry_log_fini(&node->store);
    node->conf_count = 0;
    node->work_scheduled = false;
    node->apply_scheduled = false;
    node->apply_blocked = false;
    node->snapshot_seen = 0;
    node->fetching = false;
    node->lease_until = 0;
    node->renew_seq = 0;
}

void node_destroy(struct sim_node *node)
{
    if (!node->exists) {
        return;
    }
    forget_raftd(node);
    disk_lose(&node->records);
    disk_fini(&node->disk);
    node->exists = false;
}

/* ---- raftd ---- */

static uint32_t draw(void *ctx, uint32_t n)
{
    return (uint32_t)sim_below(ctx, n);
}

static void log_line(void *ctx, enum raft_log_level level, const char *line)
{
    (void)level;
    report_core_line(((const struct sim_node *)ctx)->id, line);
}

static struct raft_options options_of(struct sim *sim, struct sim_node *node)
{
    const struct sim_profile *profile = &sim->profile;
    struct raft_options options = {
        .id = node->id,
        .election_ticks = profile->election_ticks,
        .heartbeat_ticks = 1,
        .applied = node->machine.applied,
        .max_message_bytes = profile->max_message_bytes,
        .max_committed_bytes = profile->max_committed_bytes,
        .max_uncommitted_bytes = profile->max_uncommitted_bytes,
        .max_inflight_messages = profile->max_inflight_messages,
        .max_inflight_bytes = profile->max_inflight_bytes,
        .async_storage = true,
        .pre_vote = true,
        .check_quorum = true,
        .step_down_on_removal = true,
        .leader_may_recampaign = true,
        .read_mode = profile->core_lease ? RAFT_READ_LEASE : RAFT_READ_SAFE,
        .alloc = wire_alloc,
        .storage = node_storage,
        .draw = draw,
        .draw_ctx = sim,
        .log_level = RAFT_LOG_INFO,
    };

    options.storage.ctx = node;
    if (report_follows()) {
        options.log = log_line;
        options.log_ctx = node;
    }
    return options;
}

/* What is known to be committed: said on disk, published by an earlier raftd, or applied. */
static raft_index known_commit(const struct sim_node *node)
{
    raft_index last = entry_log_last(&node->disk.log);
    raft_index commit = node->disk.hard.commit;

    if (node->page_commit > commit) {
        commit = node->page_commit < last ? node->page_commit : last;
    }
    return node->machine.applied > commit ? node->machine.applied : commit;
}

static void write_batch(struct sim_node *node, size_t count)
{
    for (size_t i = 0; i < count && !STAILQ_EMPTY(&node->records); i++) {
        const struct record *record = STAILQ_FIRST(&node->records);

        if (record->snapshot != NULL && record->snapshot->index > node->machine.applied) {
            node->machine = *machine_of_snapshot(record->snapshot);
        }
        disk_write(&node->disk, &node->records);
    }
}

void node_written(struct sim *sim, struct sim_node *node)
{
    size_t count = node->batch;

    node->batch = 0;
    node->apply_blocked = false;
    if (node->raft != NULL && count > 0) {
        uint64_t seq = 0;
        struct record *record = STAILQ_FIRST(&node->records);

        for (size_t i = 0; i < count; i++, record = STAILQ_NEXT(record, next)) {
            seq = record->seq;
        }
        node->journal.durable_seq = seq;
    }
    write_batch(node, count);
    REPORT(node->id, "durable", "", "records last term", count, entry_log_last(&node->disk.log),
           node->disk.hard.term);
    node_touch(sim, node);
}

void node_start(struct sim *sim, struct sim_node *node)
{
    struct raft_options options;
    struct raft_hard_state hard;
    raft_term last_term = 0;
    struct raft_slice entries;
    int rc;

    if (node->raft != NULL || !node->storage_up) {
        return;
    }
    /* storaged answers a new raftd when it is through with what the dead one had sent. */
    write_batch(node, SIZE_MAX);
    node->batch = 0;

    hard = node->disk.hard;
    hard.commit = known_commit(node);
    (void)entry_log_term(&node->disk.log, entry_log_last(&node->disk.log), &last_term);
    if (hard.term < last_term) {
        hard.term = last_term;
        hard.vote = 0;
    }
    node->initial_hard = hard;
    entry_log_reset(&node->store, node->disk.log.base_index, node->disk.log.base_term);
    entries = wire_copy_entries(node->disk.log.items, node->disk.log.count);
    entry_log_append(&node->store, &entries);
    raft_slice_release(&entries);
    journal_begin(&node->journal, &node->disk);
    node->conf_seen = node->machine.applied;
    node->cold_index = sim_chance(sim, 200) ? node->machine.applied : 0;
    node->read_origin = test_random(&sim->random);
    node->read_seq = 0;
    node->no_lease_term = 0;
    node->led_term = 0;
    node->checked_commit = node->store.base_index;
    node->silent_until = node_clock(sim, node) + sim->profile.election_ticks * sim->profile.tick_us;

    options = options_of(sim, node);
    rc = raft_create(&options, &node->raft);
    if (rc != MS_OK) {
        report_fail("start", "node %lu: %s (applied %lu, commit %lu, log %lu to %lu)", node->id,
                    ms_status_text(rc), node->machine.applied, hard.commit,
                    node->store.base_index + 1, entry_log_last(&node->store));
    }
    raft_basic_status(node->raft, &node->basic);
    REPORT(node->id, "raftd started", "", "term commit applied last", hard.term, hard.commit,
           node->machine.applied, entry_log_last(&node->store));
    if (node->page_leader && sim_chance(sim, 800)) {
        (void)raft_campaign(node->raft); /* without memory limits it cannot fail */
        node_note(sim, node);
    }
    node->page_leader = false;
    node_touch(sim, node);
}

void node_kill_raftd(struct sim *sim, struct sim_node *node)
{
    if (node->raft == NULL) {
        return;
    }
    REPORT(node->id, "raftd killed", "", "term", node->basic.term);
    sim->totals->deaths++;
    node_apply_leftovers(sim, node);
    forget_raftd(node);
}

/* ---- storaged ---- */

void node_kill_storage(struct sim *sim, struct sim_node *node)
{
    size_t written;

    if (!node->storage_up) {
        return;
    }
    sim->totals->deaths++;
    written = node->batch > 0 ? (size_t)sim_below(sim, node->batch + 1) : 0;
    REPORT(node->id, "storaged killed", "", "batch written", node->batch, written);
    write_batch(node, written);
    disk_lose(&node->records);
    node->batch = 0;
    node->batches++;
    node->storage_up = false;
    node->storage_life++;
    node->apply_scheduled = false;
    node->snapshot_scheduled = false;
}

void node_start_storage(struct sim *sim, struct sim_node *node)
{
    if (node->storage_up) {
        return;
    }
    node->storage_up = true;
    REPORT(node->id, "storaged started", "", "applied last", node->machine.applied,
           entry_log_last(&node->disk.log));
    node->apply_blocked = false;
    if (node->raft != NULL) {
        journal_resume(&node->journal, &node->disk);
        node_touch(sim, node);
    }
}

void node_cut_power(struct sim *sim, struct sim_node *node)
{
    REPORT(node->id, "power cut", "", "");
    if (node->raft != NULL) {
        sim->totals->deaths++;
        forget_raftd(node);
    }
    node_kill_storage(sim, node);
    node->page_commit = 0;
    node->page_leader = false;
    disk_rebuild(&node->disk, &node->machine);
    check_rebuilt(sim, node);
}

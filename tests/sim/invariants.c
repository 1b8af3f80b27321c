/*
 * invariants: what Raft guarantees (figure 3 of the paper), checked after each event.
 *
 * The checks know the whole cluster, so they hold what a node says against what is on everybody's
 * disk. Where a node compacted its log, the entries before are committed and were compared then.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

/* ---- the entries there are ---- */

/* An entry is named by index and term; so is the whole log up to it (log matching). */
struct known_entry {
    raft_index index; /* 0: the slot is free */
    raft_term term;
    raft_term term_before;
    uint64_t digest;
};

/* Open addressing; at most half full. */
struct entry_oracle {
    struct known_entry *slots;
    size_t capacity;
    size_t count;
};

static size_t slot_of(const struct entry_oracle *oracle, raft_index index, raft_term term)
{
    uint64_t hash = (index * UINT64_C(0x9e3779b97f4a7c15)) ^ (term * UINT64_C(0xc2b2ae3d27d4eb4f));
    size_t slot = (size_t)(hash >> 20) & (oracle->capacity - 1);

    while (oracle->slots[slot].index != 0 &&
           (oracle->slots[slot].index != index || oracle->slots[slot].term != term)) {
        slot = (slot + 1) & (oracle->capacity - 1);
    }
    return slot;
}

static void grow(struct entry_oracle *oracle)
{
    struct entry_oracle old = *oracle;

    oracle->capacity *= 2;
    oracle->slots = report_calloc(oracle->capacity, sizeof(*oracle->slots));
    for (size_t i = 0; i < old.capacity; i++) {
        if (old.slots[i].index != 0) {
            oracle->slots[slot_of(oracle, old.slots[i].index, old.slots[i].term)] = old.slots[i];
        }
    }
    free(old.slots);
}

void check_create(struct sim *sim)
{
    sim->oracle = report_calloc(1, sizeof(*sim->oracle));
    sim->oracle->capacity = 1024;
    sim->oracle->slots = report_calloc(sim->oracle->capacity, sizeof(*sim->oracle->slots));
}

void check_destroy(struct sim *sim)
{
    free(sim->oracle->slots);
    free(sim->oracle);
    sim->oracle = NULL;
}

uint64_t check_digest(const void *bytes, size_t len_bytes)
{
    const uint8_t *at = bytes;
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ len_bytes;

    for (size_t i = 0; i < len_bytes; i++) {
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static uint64_t digest_ids(const struct raft_ids *ids, uint64_t salt)
{
    uint64_t sum = salt;

    for (size_t i = 0; i < ids->count; i++) {
        uint64_t salted[2] = {ids->ids[i], salt};

        sum += check_digest(salted, sizeof(salted)); /* in any order */
    }
    return sum;
}

uint64_t check_conf_digest(const struct raft_conf_state *conf)
{
    return digest_ids(&conf->voters, 1) + digest_ids(&conf->voters_outgoing, 2) +
           digest_ids(&conf->learners, 3) + digest_ids(&conf->learners_next, 4) +
           (conf->auto_leave ? 5 : 0);
}

static uint64_t digest_of(const struct raft_entry *entry)
{
    return check_digest(entry->data, entry->len_bytes) + (uint64_t)entry->type;
}

bool check_change_between(const struct sim_node *node, raft_index applied, raft_index index)
{
    raft_index last = entry_log_last(&node->store);

    for (raft_index at = applied + 1; at <= index && at <= last; at++) {
        if (at > node->store.base_index &&
            entry_log_at(&node->store, at)->type != RAFT_ENTRY_NORMAL) {
            return true;
        }
    }
    return false;
}

/* A leader makes one change after the other: majorities of the two need not overlap otherwise. */
static void check_change(const struct sim_node *node, const struct raft_entry *entry)
{
    if (entry->type != RAFT_ENTRY_NORMAL && node->basic.state == RAFT_STATE_LEADER &&
        entry->term == node->basic.term &&
        check_change_between(node, node->basic.applied, entry->index - 1)) {
        report_fail("two-changes", "leader %lu proposes change %lu, has applied %lu", node->id,
                    entry->index, node->basic.applied);
    }
}

void check_entries(struct sim *sim, const struct sim_node *node, const struct raft_slice *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        const struct raft_entry *entry = &entries->entries[i];
        struct known_entry *known;
        raft_term before = 0;

        if (entry->index <= node->store.base_index) {
            continue;
        }
        if (entry->index >= SIM_INDEXES_MAX || entry->term >= SIM_TERMS_MAX) {
            report_fail("simulator", "entry %lu of term %lu is beyond what is foreseen",
                        entry->index, entry->term);
        }
        check_change(node, entry);
        (void)entry_log_term(&node->store, entry->index - 1, &before);
        if (before > entry->term) {
            report_fail("log-matching", "node %lu: entry %lu of term %lu after one of term %lu",
                        node->id, entry->index, entry->term, before);
        }
        known = &sim->oracle->slots[slot_of(sim->oracle, entry->index, entry->term)];
        if (known->index == 0) {
            *known = (struct known_entry){.index = entry->index,
                                          .term = entry->term,
                                          .term_before = before,
                                          .digest = digest_of(entry)};
            sim->oracle->count++;
            if (2 * sim->oracle->count > sim->oracle->capacity) {
                grow(sim->oracle);
            }
        } else if (known->term_before != before || known->digest != digest_of(entry)) {
            report_fail("log-matching",
                        "node %lu: entry %lu of term %lu differs from another node's, or the one "
                        "before it (term %lu) does",
                        node->id, entry->index, entry->term, before);
        }
    }
}

/* ---- leaders, terms and commits ---- */

static bool on_disk(struct sim *sim, node_id id, raft_index index, raft_term term)
{
    const struct sim_node *node = sim_node(sim, id);
    raft_term own = 0;

    if (node == NULL || !node->exists) {
        return false;
    }
    if (index <= node->disk.snapshot.applied || index < node->disk.log.base_index) {
        return true; /* committed there already, compared when it was applied */
    }
    return entry_log_term(&node->disk.log, index, &own) && own == term;
}

static bool majority_has(struct sim *sim, const struct raft_ids *voters, raft_index index,
                         raft_term term)
{
    size_t have = 0;

    for (size_t i = 0; i < voters->count; i++) {
        have += on_disk(sim, voters->ids[i], index, term);
    }
    return voters->count == 0 || have > voters->count / 2;
}

static bool majority_voted(struct sim *sim, const struct raft_ids *voters, node_id candidate,
                           raft_term term)
{
    size_t votes = 0;

    for (size_t i = 0; i < voters->count; i++) {
        votes += voters->ids[i] <= SIM_NODES_MAX && sim->votes[voters->ids[i]][term] == candidate;
    }
    return voters->count == 0 || votes > voters->count / 2;
}

/*
 * Who leads was elected by a majority, of both halves in a joint configuration, and will remember
 * its term: else the same votes could make it lead in that term again.
 */
static void check_election(struct sim *sim, const struct sim_node *node)
{
    struct raft_status status;

    raft_status(node->raft, &status);
    if (node->disk.hard.term < node->basic.term) {
        report_fail("term-not-durable", "node %lu leads in term %lu, its disk has term %lu",
                    node->id, node->basic.term, node->disk.hard.term);
    }
    if (!majority_voted(sim, &status.conf.voters, node->id, node->basic.term) ||
        !majority_voted(sim, &status.conf.voters_outgoing, node->id, node->basic.term)) {
        report_fail("election-quorum", "node %lu leads in term %lu, no majority voted for it",
                    node->id, node->basic.term);
    }
}

/* While a lease runs, no later leader commits: a read at its holder would miss that. */
static void check_leases(struct sim *sim, const struct sim_node *node)
{
    for (size_t i = 0; i < SIM_NODES_MAX; i++) {
        const struct sim_node *other = &sim->nodes[i];

        if (other->raft != NULL && other->basic.term < node->basic.term &&
            other->lease_until > node_clock(sim, other)) {
            report_fail("lease-overlap", "leader %lu commits in term %lu, node %lu has a lease",
                        node->id, node->basic.term, other->id);
        }
    }
}

/* A leader has moved its commit index: a majority (both, in a joint configuration) has it on disk.
 */
static void check_quorum(struct sim *sim, const struct sim_node *node)
{
    struct raft_status status;

    raft_status(node->raft, &status);
    if (!majority_has(sim, &status.conf.voters, node->basic.commit, node->basic.term) ||
        !majority_has(sim, &status.conf.voters_outgoing, node->basic.commit, node->basic.term)) {
        report_fail("commit-quorum",
                    "leader %lu committed %lu in term %lu, but no majority has it on disk",
                    node->id, node->basic.commit, node->basic.term);
    }
}

void check_basic(struct sim *sim, struct sim_node *node, const struct raft_basic_status *before)
{
    const struct raft_basic_status *now = &node->basic;

    if (now->term >= SIM_TERMS_MAX) {
        report_fail("simulator", "term %lu is beyond what is foreseen", now->term);
    }
    if (now->term < before->term || now->commit < before->commit ||
        now->applied < before->applied) {
        report_fail("monotonic", "node %lu: term %lu, commit %lu, applied %lu after %lu, %lu, %lu",
                    node->id, now->term, now->commit, now->applied, before->term, before->commit,
                    before->applied);
    }
    if (now->term == before->term && before->vote != 0 && now->vote != before->vote) {
        report_fail("vote-changed", "node %lu votes for %lu in term %lu, before for %lu", node->id,
                    now->vote, now->term, before->vote);
    }
    if (now->applied > now->commit || now->commit > now->last_index) {
        report_fail("bounds", "node %lu: applied %lu, commit %lu, last %lu", node->id, now->applied,
                    now->commit, now->last_index);
    }
    if (before->state == RAFT_STATE_FOLLOWER && now->state != RAFT_STATE_FOLLOWER &&
        check_change_between(node, now->applied, now->commit)) {
        report_fail("campaign-by-old-members",
                    "node %lu campaigns at %lu although a change up to %lu is committed", node->id,
                    now->applied, now->commit);
    }
    if (now->state != RAFT_STATE_LEADER) {
        return;
    }
    if (sim->leaders[now->term] != 0 && sim->leaders[now->term] != node->id) {
        report_fail("election-safety", "nodes %lu and %lu lead in term %lu",
                    sim->leaders[now->term], node->id, now->term);
    }
    sim->leaders[now->term] = node->id;
    if (before->state != RAFT_STATE_LEADER) {
        check_election(sim, node);
    }
    if (before->state == RAFT_STATE_LEADER && now->last_index < before->last_index) {
        report_fail("leader-append-only", "leader %lu shortens its log from %lu to %lu", node->id,
                    before->last_index, now->last_index);
    }
    if (now->commit > before->commit && before->state == RAFT_STATE_LEADER) {
        check_quorum(sim, node);
        check_leases(sim, node);
    }
}

/* The entry at index, as the node has it; false if it was compacted. */
static const struct raft_entry *own_entry(const struct sim_node *node, raft_index index)
{
    return index > node->store.base_index && index <= entry_log_last(&node->store)
               ? entry_log_at(&node->store, index)
               : NULL;
}

/* Whatever was committed in an earlier term is in a new leader's log. */
static void check_completeness(struct sim *sim, struct sim_node *node)
{
    for (raft_index index = sim->commit; index > node->store.base_index; index--) {
        const struct committed_entry *committed = &sim->committed[index];
        const struct raft_entry *entry = own_entry(node, index);

        if (committed->committed_in < node->basic.term &&
            (entry == NULL || entry->term != committed->term)) {
            report_fail("leader-completeness",
                        "node %lu leads in term %lu without entry %lu of term %lu, committed in "
                        "term %lu",
                        node->id, node->basic.term, index, committed->term,
                        committed->committed_in);
        }
    }
}

static void check_committed(struct sim *sim, struct sim_node *node, raft_index index)
{
    const struct raft_entry *entry = own_entry(node, index);
    struct committed_entry *committed;

    if (entry == NULL) {
        report_fail("commit-without-entry", "node %lu commits %lu and does not have it", node->id,
                    index);
    }
    committed = &sim->committed[index];
    if (index > sim->commit) {
        *committed = (struct committed_entry){
            .term = entry->term, .committed_in = node->basic.term, .digest = digest_of(entry)};
        sim->commit = index;
    } else if (committed->term != entry->term || committed->digest != digest_of(entry)) {
        report_fail("committed-differs",
                    "node %lu commits %lu as of term %lu, it was committed as of term %lu",
                    node->id, index, entry->term, committed->term);
    }
}

void check_log(struct sim *sim, struct sim_node *node)
{
    if (node->checked_commit < node->store.base_index) {
        node->checked_commit =
            node->store.base_index; /* a snapshot: compared when it is in place */
    }
    while (node->checked_commit < node->basic.commit) {
        node->checked_commit++;
        check_committed(sim, node, node->checked_commit);
    }
    if (node->basic.state == RAFT_STATE_LEADER && node->led_term != node->basic.term) {
        node->led_term = node->basic.term;
        check_completeness(sim, node);
    }
}

void check_streaming(const struct sim_node *node, node_id member)
{
    struct raft_status status;

    raft_status(node->raft, &status);
    for (size_t i = 0; i < status.progress_count; i++) {
        const struct raft_progress_status *progress = &status.progress[i];

        if (progress->id == member && progress->state == RAFT_PROGRESS_SNAPSHOT &&
            progress->match >= node->store.base_index) {
            report_fail("no-streaming", "leader %lu sends nothing to %lu, which stands at %lu",
                        node->id, member, progress->match);
        }
    }
}

/* ---- promises ---- */

static void check_vote(struct sim *sim, const struct sim_node *node,
                       const struct raft_message *message)
{
    node_id *vote = &sim->votes[node->id][message->term];

    if (node->disk.hard.term < message->term ||
        (node->disk.hard.term == message->term && node->disk.hard.vote != message->to)) {
        report_fail("vote-not-durable",
                    "node %lu votes for %lu in term %lu, on its disk is %lu in term %lu", node->id,
                    message->to, message->term, node->disk.hard.vote, node->disk.hard.term);
    }
    if (*vote != 0 && *vote != message->to) {
        report_fail("two-votes", "node %lu votes for %lu in term %lu, before for %lu", node->id,
                    message->to, message->term, *vote);
    }
    *vote = message->to;
}

static void check_acknowledgement(const struct sim_node *node, const struct raft_message *message)
{
    raft_term on_disk_term = 0;
    raft_term own_term = 0;

    /* In a later term, written in the same batch, it may have been replaced again. */
    if (message->index <= node->disk.log.base_index || node->disk.hard.term > message->term) {
        return;
    }
    if (!entry_log_term(&node->disk.log, message->index, &on_disk_term) ||
        node->disk.hard.term < message->term) {
        report_fail("ack-not-durable",
                    "node %lu acknowledges entry %lu in term %lu, its disk has %lu and term %lu",
                    node->id, message->index, message->term, entry_log_last(&node->disk.log),
                    node->disk.hard.term);
    }
    if (node->basic.term == message->term && message->index > node->store.base_index &&
        entry_log_term(&node->store, message->index, &own_term) && own_term != on_disk_term) {
        report_fail("ack-not-durable",
                    "node %lu acknowledges entry %lu of term %lu, on its disk is term %lu",
                    node->id, message->index, own_term, on_disk_term);
    }
}

void check_promise(struct sim *sim, const struct sim_node *node, const struct raft_message *message)
{
    if (message->from != node->id || message->reject) {
        return;
    }
    if (message->type == RAFT_MSG_VOTE_RESP) {
        check_vote(sim, node, message);
    } else if (message->type == RAFT_MSG_APP_RESP && message->index > 0) {
        check_acknowledgement(node, message);
    }
}

/* ---- the state machine ---- */

/* After an entry every node has the same state and the same members. */
static void compare_state(struct sim *sim, node_id id, const struct machine *machine,
                          const struct raft_conf_state *conf)
{
    struct committed_entry *committed = &sim->committed[machine->applied];
    uint64_t hash = machine_hash(machine);
    uint64_t conf_digest = check_conf_digest(conf);

    if (machine->applied > sim->commit || committed->term != machine->applied_term) {
        report_fail("state-machine-safety",
                    "node %lu applies entry %lu of term %lu, committed is term %lu", id,
                    machine->applied, machine->applied_term,
                    machine->applied > sim->commit ? 0 : committed->term);
    }
    if (committed->state_hash == 0) {
        committed->state_hash = hash;
        committed->conf_digest = conf_digest;
    } else if (committed->state_hash != hash || committed->conf_digest != conf_digest) {
        report_fail("state-differs", "node %lu has another %s after entry %lu", id,
                    committed->state_hash != hash ? "state" : "configuration", machine->applied);
    }
}

void check_applied(struct sim *sim, const struct sim_node *node, const struct raft_entry *entry)
{
    raft_term on_disk_term = 0;

    compare_state(sim, node->id, &node->machine, &node->machine.conf);
    if (sim->committed[entry->index].digest != digest_of(entry)) {
        report_fail("state-machine-safety", "node %lu applies another entry %lu", node->id,
                    entry->index);
    }
    if (entry->index > node->disk.log.base_index &&
        (!entry_log_term(&node->disk.log, entry->index, &on_disk_term) ||
         on_disk_term != entry->term)) {
        report_fail("applied-not-durable", "node %lu applies entry %lu, its disk ends at %lu",
                    node->id, entry->index, entry_log_last(&node->disk.log));
    }
}

void check_rebuilt(struct sim *sim, const struct sim_node *node)
{
    if (node->machine.applied > 0) {
        compare_state(sim, node->id, &node->machine, &node->machine.conf);
    }
}

void check_snapshot(struct sim *sim, const struct sim_node *node,
                    const struct raft_snapshot *snapshot)
{
    if (snapshot->index <= node->checked_commit) {
        report_fail("snapshot-older", "node %lu goes back to snapshot %lu from commit %lu",
                    node->id, snapshot->index, node->checked_commit);
    }
    compare_state(sim, node->id, machine_of_snapshot(snapshot), &snapshot->conf);
}

void check_read(const struct sim_node *node, raft_index index, raft_index floor, bool lease)
{
    if (index < floor) {
        report_fail(lease ? "lease-read-stale" : "read-index-stale",
                    "node %lu reads at %lu, when it was asked %lu was committed", node->id, index,
                    floor);
    }
}

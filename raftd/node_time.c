/*
 * node_time: who leads, for how long, and what happens because time passes.
 *
 * Four things make a leader hand over: its process ends in order, the cluster has removed it, its
 * disk is full, or its disk has been stuck for an election timeout, so that it could acknowledge
 * nothing although its heartbeats keep everybody else from leading. It asks the member that is most
 * up to date to campaign at once; if it still leads half an election timeout later, it simply stops
 * to (but for a full disk: there it goes on, for reads).
 *
 * While the disk is stuck the core's time stands still: it neither campaigns nor renews anything.
 */
#include "common/clock.h"
#include "common/log.h"
#include "raftd/node_private.h"

/* A follower that was removed stays so many heartbeat intervals, for what it owes to others. */
#define REMOVED_TICKS 3u

/* A node with a full disk tries to hand over so rarely, in election timeouts. */
#define FULL_PAUSE_TIMEOUTS 10u

/* ---- proposals ---- */

void raftd_node_proposals_lost(struct raftd_node *node)
{
    if (node->proposals_at_risk && node->repropose_at.ns == 0) {
        node->repropose_at = ms_clock_add_ms(node->now, node->config.heartbeat_interval_ms);
    }
}

static void tell_proposals_lost(struct raftd_node *node)
{
    node->proposals_at_risk = false;
    node->repropose_at.ns = 0;
    api_clients_proposals_lost(&node->api, node->basic.term);
}

void raftd_node_note_leader(struct raftd_node *node)
{
    const struct raft_basic_status *basic = &node->basic;

    if (basic->lead == node->known_lead && basic->term == node->known_term) {
        return;
    }
    read_queue_ask_again(&node->reads);
    if (basic->lead == 0) {
        if (node->known_lead != 0) {
            node->leaderless_since = node->now;
        }
        node->known_lead = 0;
        return;
    }
    node->known_lead = basic->lead;
    node->known_term = basic->term;
    node->early_until.ns = 0;
    if (node->proposals_at_risk) {
        tell_proposals_lost(node);
    }
}

/* ---- campaigning ---- */

bool raftd_node_is_barred(const struct raftd_node *node)
{
    return admission_is_barred(&node->admission, node->now);
}

/*
 * A leader whose raftd died leads again as soon as possible: nobody else will try before the
 * election timeout has passed. The page tells what the last incarnation was.
 */
static bool led_before(const struct raftd_node *node)
{
    struct ms_raft_status status;

    return ms_status_page_read(node->options.page, false, &status) == MS_OK &&
           status.role == MS_RAFT_LEADER && status.self == node->config.id &&
           status.term == node->initial_hard.term;
}

/* Whether this node has laid its first entries just now: it has not heard of anybody yet. */
static bool is_new(const struct raftd_node *node)
{
    return node->admission.founding && node->log.state.last_index == 0;
}

void raftd_node_begin_time(struct raftd_node *node)
{
    const bool led = led_before(node);

    node->leaderless_since = node->now;
    node->votes_from = node->now;
    /*
     * What this node promised to a leader before it was started is forgotten; it is kept all the
     * same. A leader has promised nothing: what it promised to the one before was over when it
     * was elected.
     */
    if (node->config.read_mode == MS_READ_LEASE && !led && !is_new(node)) {
        node->votes_from = ms_clock_add_ms(node->now, node->config.election_timeout_ms);
    }
    if (led || (node->admission.founding && node->config.id == 1)) {
        node->early_until = ms_clock_add_ms(node->now, 2 * node->config.election_timeout_ms);
        node->early_due = true;
    }
}

/*
 * Who led until its raftd died, and the first of a new cluster's founders. They ask again with
 * every connection and tick, for the others may not be there yet; a question whether an election
 * would be won disturbs nobody (thesis 9.6).
 */
static bool may_campaign_early(const struct raftd_node *node)
{
    return node->early_due && node->now.ns >= node->early_from.ns &&
           node->now.ns < node->early_until.ns && node->basic.state != RAFT_STATE_CANDIDATE;
}

/* How many voters are asked to try before this one when peer is gone. */
static uint64_t turn_without(const struct raftd_node *node, node_id peer)
{
    const struct ms_conf_state *conf = &node->membership.conf;
    uint64_t turn = 0;

    for (uint32_t i = 0; i < conf->member_count; i++) {
        const struct ms_conf_member *member = &conf->members[i];

        if (member->id != peer && member->id < node->config.id &&
            (member->flags & MS_CONF_VOTER) != 0) {
            turn++;
        }
    }
    return turn;
}

/*
 * There is no need to wait an election timeout for a leader whose host says that it is not there.
 * The voters try in turn, so that they do not take each other's votes. If it was not true
 * (something between the hosts refused the connection), the others still follow the leader, and no
 * election comes of it. Lease reads rest on that very wait: there it stays.
 */
void raftd_node_is_absent(struct raftd_node *node, node_id peer)
{
    const struct raft_basic_status *basic = &node->basic;
    int rc;

    if (node->phase != NODE_RUNNING || node->failure.status != MS_OK) {
        return;
    }
    node->early_due = true;
    if (basic->lead != peer || basic->state != RAFT_STATE_FOLLOWER || !basic->is_voter ||
        node->config.read_mode == MS_READ_LEASE || raftd_node_is_barred(node)) {
        return;
    }
    rc = raft_forget_leader(node->raft);
    if (rc != MS_OK) {
        (void)raftd_node_fail(node, rc, "forget the leader: %s", ms_status_text(rc));
        return;
    }
    ms_log(MS_LOG_INFO, "the leader is gone", MS_F_U64("leader", peer),
           MS_F_U64("term", basic->term));
    node->early_from =
        ms_clock_add_ms(node->now, turn_without(node, peer) * node->config.heartbeat_interval_ms);
    node->early_until = ms_clock_add_ms(node->now, 2 * node->config.election_timeout_ms);
    raft_basic_status(node->raft, &node->basic);
}

/*
 * Who needs nobody's consent does not wait for the election timeout either, but for the lease of
 * one who may have been a voter until a moment ago. The core refuses while a change of
 * configuration is committed and not yet applied.
 */
void raftd_node_campaign(struct raftd_node *node)
{
    const struct raft_basic_status *basic = &node->basic;
    const bool alone = basic->sole_voter && basic->state == RAFT_STATE_FOLLOWER;
    int rc;

    if (!(alone || may_campaign_early(node)) || !basic->is_voter || basic->lead != 0 ||
        node->now.ns < node->votes_from.ns || raftd_node_is_barred(node) ||
        entry_store_has_conf_change(&node->store, basic->applied, basic->commit)) {
        return;
    }
    node->early_due = false;
    rc = raft_campaign(node->raft);
    if (rc != MS_OK) {
        (void)raftd_node_fail(node, rc, "campaign: %s", ms_status_text(rc));
    }
}

/* ---- handing over ---- */

/* Who is to lead next: a voter that can be reached, with the longest log. 0: nobody. */
static node_id find_successor(const struct raftd_node *node)
{
    const struct raftd_network *network = &node->options.network;
    const struct raft_progress_status *best = NULL;
    struct raft_status status;

    raft_status(node->raft, &status);
    for (size_t i = 0; i < status.progress_count; i++) {
        const struct raft_progress_status *one = &status.progress[i];

        if (one->id == node->config.id || one->is_learner ||
            !network->is_connected(network->ctx, one->id)) {
            continue;
        }
        if (best == NULL || one->match > best->match ||
            (one->match == best->match && one->recent_active && !best->recent_active)) {
            best = one;
        }
    }
    return best != NULL ? best->id : 0;
}

static const char *reason_text(enum node_hand_over reason)
{
    switch (reason) {
    case NODE_KEEPS:
        break;
    case NODE_LEAVES:
        return "this node stops";
    case NODE_IS_REMOVED:
        return "this node is no voter any more";
    case NODE_DISK_STUCK:
        return "its disk has not answered for an election timeout";
    case NODE_DISK_FULL:
        return "its disk is full";
    }
    return "none";
}

static void begin_hand_over(struct raftd_node *node, enum node_hand_over reason)
{
    if (node->hand_over != NODE_KEEPS) {
        return;
    }
    node->hand_over = reason;
    node->hand_over_since = node->now;
    node->hand_over_to = 0;
}

static void end_hand_over(struct raftd_node *node)
{
    node->hand_over = NODE_KEEPS;
    node->hand_over_to = 0;
}

static bool has_someone_to_hand_over_to(const struct raftd_node *node)
{
    return node->phase == NODE_RUNNING && node->failure.status == MS_OK &&
           node->basic.state == RAFT_STATE_LEADER && !node->basic.sole_voter;
}

/* Asks the best successor that there is now. */
static void ask_successor(struct raftd_node *node)
{
    const node_id to = find_successor(node);

    if (to == 0 || raft_transfer_leader(node->raft, to) != MS_OK) {
        return;
    }
    node->hand_over_to = to;
    ms_log(node->hand_over == NODE_DISK_STUCK ? MS_LOG_WARN : MS_LOG_INFO,
           "handing over leadership", MS_F_U64("to", to), MS_F_U64("term", node->basic.term),
           MS_F_STR("reason", reason_text(node->hand_over)));
}

static void hand_over(struct raftd_node *node)
{
    const uint64_t patience_ms = node->config.election_timeout_ms / 2;

    if (!has_someone_to_hand_over_to(node)) {
        return;
    }
    if (ms_clock_elapsed_ms(node->hand_over_since, node->now) >= patience_ms) {
        if (node->hand_over == NODE_DISK_FULL) {
            end_hand_over(node); /* nobody else: it can still serve reads */
            return;
        }
        ms_log(MS_LOG_WARN, "giving up leadership", MS_F_U64("term", node->basic.term),
               MS_F_STR("reason", reason_text(node->hand_over)));
        raft_step_down(node->raft);
    } else if (node->hand_over_to == 0) {
        ask_successor(node);
    }
}

bool raftd_node_resigns_first(struct raftd_node *node)
{
    raft_basic_status(node->raft, &node->basic);
    if (node->resigned_in == node->basic.term) {
        return node->basic.lead_transferee != 0; /* tried once: it may be nobody can take over */
    }
    node->resigned_in = node->basic.term;
    begin_hand_over(node, NODE_IS_REMOVED);
    hand_over(node);
    return node->hand_over_to != 0;
}

void raftd_node_leave(struct raftd_node *node, struct ms_instant now)
{
    node->now = now;
    end_hand_over(node);
    begin_hand_over(node, NODE_LEAVES);
    hand_over(node);
}

bool raftd_node_may_leave(const struct raftd_node *node)
{
    return node->hand_over == NODE_LEAVES && !has_someone_to_hand_over_to(node);
}

/* ---- ticks ---- */

static bool disk_is_stuck(const struct raftd_node *node)
{
    return !node->basic.sole_voter &&
           log_client_waits_ms(&node->log, node->now) > node->config.election_timeout_ms;
}

/*
 * Whoever leads with a full disk keeps everybody from writing. Where all are full, leadership must
 * not go round and round: so not often.
 */
static bool hands_over_when_full(struct raftd_node *node)
{
    const uint64_t pause_ms = FULL_PAUSE_TIMEOUTS * node->config.election_timeout_ms;

    if (!node->log.full) {
        return false;
    }
    if (node->hand_over == NODE_DISK_FULL) {
        return true;
    }
    if (node->full_since.ns != 0 && ms_clock_elapsed_ms(node->full_since, node->now) < pause_ms) {
        return false;
    }
    node->full_since = node->now;
    return true;
}

/* Whether leadership is to be given away now, or no more. */
static void review_hand_over(struct raftd_node *node, bool stuck)
{
    const bool leads = node->basic.state == RAFT_STATE_LEADER;

    if (leads && !node->basic.is_voter) {
        begin_hand_over(node, NODE_IS_REMOVED);
    } else if (leads && stuck) {
        begin_hand_over(node, NODE_DISK_STUCK);
    } else if (leads && hands_over_when_full(node)) {
        begin_hand_over(node, NODE_DISK_FULL);
    } else if (node->hand_over != NODE_LEAVES) {
        end_hand_over(node);
    }
    if (node->hand_over != NODE_KEEPS) {
        hand_over(node);
    }
}

/* Ends the node once the cluster has removed it and it owes nothing to the others. */
static void review_removal(struct raftd_node *node)
{
    uint64_t stay_ms = REMOVED_TICKS * node->config.heartbeat_interval_ms;

    if (node->removed_at.ns == 0 || node->said_removed || node->basic.state == RAFT_STATE_LEADER) {
        return;
    }
    /* Its vote may be the one they need; its disk has to know, so that it is not started again. */
    if (node->basic.lead == 0 || node->apply.applied < node->membership.index) {
        stay_ms = 2 * node->config.election_timeout_ms;
    }
    if (ms_clock_elapsed_ms(node->removed_at, node->now) >= stay_ms) {
        node->said_removed = true;
        node->options.on_removed(node->options.ctx);
    }
}

void raftd_node_pass_time(struct raftd_node *node)
{
    const bool stuck = disk_is_stuck(node);
    int rc = MS_OK;

    raft_basic_status(node->raft, &node->basic);
    node->early_due = true;
    if (stuck) {
        lease_revoke(&node->lease);
    } else if (!raftd_node_is_barred(node)) {
        rc = raft_tick(node->raft);
        if (rc == MS_OK && node->config.read_mode == MS_READ_LEASE) {
            rc = lease_ask(&node->lease, node->raft, &node->basic, node->now);
        }
    }
    if (rc != MS_OK) {
        (void)raftd_node_fail(node, rc, "tick: %s", ms_status_text(rc));
        return;
    }
    review_hand_over(node, stuck);
    review_removal(node);
    read_queue_ask_again_after(&node->reads, node->now, node->config.election_timeout_ms);
    if (node->repropose_at.ns != 0 && node->now.ns >= node->repropose_at.ns) {
        tell_proposals_lost(node);
    }
    snapshot_exchange_tick(node->snapshots, node->now);
}

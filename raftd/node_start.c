/*
 * node_start: from LOG_STATE and APPLY_STATE to a running core; see the states in node.h.
 *
 * Nothing is decided here that storaged did not report: the log and the state machine are the
 * truth, this process remembers nothing.
 */
#include <assert.h>
#include <inttypes.h>

#include "common/log.h"
#include "raftd/node_private.h"

static bool log_is_empty(const struct raftd_node *node)
{
    return node->log.state.last_index == 0 && node->apply.applied == 0 &&
           node->membership.conf.member_count == 0;
}

/* Lays the first entries of a new cluster into the log (all founders lay the same). */
static void found(struct raftd_node *node)
{
    const struct membership_founding founding = {
        .cluster_id = admission_founding_cluster_id(&node->admission),
        .data_id = node->options.data_id};
    struct raft_message message = {.type = RAFT_MSG_STORAGE_APPEND};
    struct ms_err err;
    int rc;

    rc = membership_bootstrap(&node->config, &founding, &node->alloc, &message.entries, &err);
    if (rc != MS_OK) {
        (void)raftd_node_fail(node, rc, "%s", err.text);
        return;
    }
    /* Every founder knows them, so they are committed from the start. */
    message.term = MEMBERSHIP_FOUNDING_TERM;
    message.commit = message.entries.count;
    node->initial_hard = (struct raft_hard_state){.term = message.term, .commit = message.commit};
    entry_store_reset(&node->store, 0, 0);
    log_client_adopt(&node->log);
    rc = entry_store_append(&node->store, message.entries.entries, message.entries.count);
    if (rc == MS_OK) {
        rc = log_client_append(&node->log, &message, node->now);
    }
    if (rc != MS_OK) {
        (void)raftd_node_fail(node, rc, "first entries");
        raft_message_release(&node->alloc, &message);
        return;
    }
    node->phase = NODE_FOUNDING;
}

/* Waits for a leader to send the log. The term may have moved on in earlier attempts. */
static void join(struct raftd_node *node)
{
    const struct ms_hard_state *hard = &node->log.state.hard_state;

    node->initial_hard = (struct raft_hard_state){.term = hard->term, .vote = hard->vote};
    entry_store_reset(&node->store, 0, 0);
    ms_log_plain(MS_LOG_INFO, "waiting for a member of the cluster to send the log");
    raftd_node_create_core(node);
}

/* What to do with an empty log. */
static void begin(struct raftd_node *node)
{
    const struct ms_hard_state *hard = &node->log.state.hard_state;

    if (node->config.join != 0) {
        join(node);
    } else if (hard->term == 0 && hard->commit == 0) {
        found(node);
    } else {
        (void)raftd_node_fail(node, MS_EINVAL,
                              "this node was started with --join and has not joined yet: start it "
                              "with --join again");
    }
}

void raftd_node_founded(struct raftd_node *node)
{
    admission_set_founding(&node->admission, true);
    raftd_node_create_core(node);
}

/* What has to hold between log and state machine. */
static int check(struct raftd_node *node)
{
    const struct ms_log_state *state = &node->log.state;
    raft_index applied = node->apply.applied;

    /* A snapshot that the log begins with is installed before storaged says anything. */
    if (applied > state->last_index || applied + 1 < state->first_index) {
        return raftd_node_fail(
            node, MS_ECORRUPT, "the state machine stands at %ju, the log has %ju to %ju",
            (uintmax_t)applied, (uintmax_t)state->first_index, (uintmax_t)state->last_index);
    }
    if (applied == state->last_index && node->apply.applied_term != state->last_term) {
        return raftd_node_fail(
            node, MS_ECORRUPT, "entry %ju is of term %ju in the log, %ju in the state machine",
            (uintmax_t)applied, (uintmax_t)state->last_term, (uintmax_t)node->apply.applied_term);
    }
    if (state->hard_state.commit > state->last_index) {
        return raftd_node_fail(node, MS_ECORRUPT, "%ju is committed, but the log ends at %ju",
                               (uintmax_t)state->hard_state.commit, (uintmax_t)state->last_index);
    }
    return MS_OK;
}

/*
 * The commit index is not synced by itself, so the log knows it only roughly. What is applied is
 * committed, and so is what an earlier incarnation has published.
 */
static raft_index known_commit(const struct raftd_node *node)
{
    const struct ms_log_state *state = &node->log.state;
    raft_index published = ms_status_page_commit(node->options.page);
    raft_index commit = state->hard_state.commit;

    if (published > state->last_index) {
        published = state->last_index;
    }
    commit = published > commit ? published : commit;
    return node->apply.applied > commit ? node->apply.applied : commit;
}

/*
 * Whether this data dir may be used: the membership in it has this node, unless it is still on its
 * way to become a member. A raftd that replaces another goes on to end the node in order.
 */
static bool may_run(struct raftd_node *node)
{
    if (raftd_node_is_member(node) || node->config.join != 0 ||
        node->membership.conf.member_count == 0) {
        return true;
    }
    if (!node->options.first_start) {
        node->was_member = true;
        return true;
    }
    (void)raftd_node_fail(node, MS_EINVAL,
                          "member %ju was removed from the cluster: to add it again, use another "
                          "data dir and --join",
                          (uintmax_t)node->config.id);
    return false;
}

/* Whether the log holds nothing but the first entries, laid by this node itself. */
static bool is_founding(const struct raftd_node *node)
{
    const struct ms_log_state *state = &node->log.state;

    return node->config.join == 0 && state->snapshot_index == 0 &&
           state->last_term == MEMBERSHIP_FOUNDING_TERM;
}

static void resume(struct raftd_node *node)
{
    const struct ms_log_state *state = &node->log.state;

    node->initial_hard = (struct raft_hard_state){.term = state->hard_state.term,
                                                  .vote = state->hard_state.vote,
                                                  .commit = known_commit(node)};
    if (node->initial_hard.term < state->last_term) {
        /*
         * Power failed between a leader's entries and the hard state behind them. No vote was given
         * in that term, or it would have been written before.
         */
        node->initial_hard.term = state->last_term;
        node->initial_hard.vote = 0;
    }
    admission_set_founding(&node->admission, is_founding(node));
    entry_store_reset(&node->store, node->apply.applied, node->apply.applied_term);
    log_reader_reset(&node->reader);
    if (state->last_index == node->apply.applied) {
        raftd_node_create_core(node);
        return;
    }
    node->phase = NODE_LOADING;
}

void raftd_node_start(struct raftd_node *node)
{
    const struct ms_log_state *state = &node->log.state;
    int rc;

    if (node->phase != NODE_WAITING || !node->log.have_state || !node->apply.have_state) {
        return;
    }
    node->log_first_index = state->first_index;
    rc = membership_decode(&node->membership, node->apply.applied, node->log.conf,
                           node->log.conf_bytes);
    if (rc != MS_OK) {
        (void)raftd_node_fail(node, MS_ECORRUPT, "the stored membership cannot be read");
        return;
    }
    if (log_is_empty(node)) {
        begin(node);
    } else if (may_run(node) && check(node) == MS_OK) {
        resume(node);
    }
}

void raftd_node_restart(struct raftd_node *node)
{
    if (node->phase == NODE_LOADING) {
        node->phase = NODE_WAITING;
    }
}

/* ---- loading ---- */

/* Whether the entries can follow what is loaded already. */
static bool continues(const struct raftd_node *node, const struct raft_slice *entries)
{
    const struct raft_entry *first = &entries->entries[0];
    const struct raft_entry *last = &entries->entries[entries->count - 1];
    raft_term term_before = 0;
    int rc = entry_store_term(&node->store, first->index - 1, &term_before);

    assert(rc == MS_OK);
    (void)rc;
    return first->term >= term_before &&
           (last->index != node->log.state.last_index || last->term == node->log.state.last_term);
}

int raftd_node_load(struct raftd_node *node)
{
    const raft_index end = node->log.state.last_index + 1;

    while (node->phase == NODE_LOADING) {
        const raft_index next = entry_store_last_index(&node->store) + 1;
        struct raft_slice entries = {0};
        int rc = MS_OK;

        if (next == end) {
            raftd_node_create_core(node);
            break;
        }
        rc = log_reader_entries(&node->reader, next, end, RAFT_NO_LIMIT, &entries);
        if (rc == MS_OK) {
            rc = continues(node, &entries)
                     ? entry_store_append(&node->store, entries.entries, entries.count)
                     : MS_EPROTO;
            raft_slice_release(&entries);
        }
        if (rc != MS_OK) {
            return rc == MS_EAGAIN ? MS_OK : rc;
        }
    }
    return MS_OK;
}

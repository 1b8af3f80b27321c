/*
 * node_start: from LOG_STATE and APPLY_STATE to a running core; see the states in node.h.
 *
 * Nothing is decided here that storaged did not report: the log and the state machine are the
 * truth, this process remembers nothing.
 */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "raftd/entry_codec.h"
#include "raftd/node_private.h"

/* Much of the log at once, but storaged's main thread has other things to do in between. */
#define LOAD_BYTES_MAX ENTRY_CODEC_PIECE_BYTES

static bool is_new(const struct raftd_node *node)
{
    const struct ms_log_state *state = &node->log.state;

    return state->last_index == 0 && state->hard_state.term == 0 && state->hard_state.commit == 0 &&
           node->apply.applied == 0 && node->membership.conf.member_count == 0;
}

/* Lays the first entries of a new cluster into the log (all members lay the same). */
static void found(struct raftd_node *node)
{
    struct raft_message message = {.type = RAFT_MSG_STORAGE_APPEND};
    struct ms_err err;
    int rc;

    rc = membership_bootstrap(&node->config, &node->alloc, &message.entries, &err);
    if (rc != MS_OK) {
        (void)raftd_node_fail(node, rc, "%s", err.text);
        return;
    }
    /* Every member knows them, so they are committed from the start. */
    message.term = 1;
    message.commit = message.entries.count;
    node->initial_hard = (struct raft_hard_state){.term = message.term, .commit = message.commit};
    entry_store_reset(&node->store, 0, 0);
    log_client_adopt(&node->log);
    rc = entry_store_append(&node->store, message.entries.entries, message.entries.count);
    if (rc == MS_OK) {
        rc = log_client_append(&node->log, &message);
    }
    if (rc != MS_OK) {
        (void)raftd_node_fail(node, rc, "first entries");
        raft_message_release(&node->alloc, &message);
        return;
    }
    node->phase = NODE_FOUNDING;
}

void raftd_node_founded(struct raftd_node *node)
{
    raftd_node_create_core(node);
}

/* What has to hold between log and state machine. */
static int check(struct raftd_node *node)
{
    const struct ms_log_state *state = &node->log.state;
    raft_index applied = node->apply.applied;

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

void raftd_node_start(struct raftd_node *node)
{
    const struct ms_log_state *state = &node->log.state;
    int rc;

    if (node->phase != NODE_WAITING || !node->log.have_state || !node->apply.have_state) {
        return;
    }
    rc = membership_decode(&node->membership, node->log.conf, node->log.conf_bytes);
    if (rc != MS_OK) {
        (void)raftd_node_fail(node, MS_ECORRUPT, "the stored membership cannot be read");
        return;
    }
    for (uint32_t i = 0; i < node->membership.conf.member_count; i++) {
        if (node->membership.conf.members[i].id != node->config.id) {
            (void)raftd_node_fail(node, MS_EINVAL,
                                  "member %ju is in the log's membership: clusters of more than "
                                  "one member need the peer transport, which this version does "
                                  "not have yet",
                                  (uintmax_t)node->membership.conf.members[i].id);
            return;
        }
    }
    node->log_first_index = state->first_index;
    if (is_new(node)) {
        found(node);
        return;
    }
    if (check(node) != MS_OK) {
        return;
    }
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
    entry_store_reset(&node->store, node->apply.applied, node->apply.applied_term);
    if (state->last_index == node->apply.applied) {
        raftd_node_create_core(node);
        return;
    }
    node->phase = NODE_LOADING;
    node->load_request = 0;
}

void raftd_node_restart(struct raftd_node *node)
{
    if (node->phase == NODE_LOADING) {
        node->phase = NODE_WAITING;
    }
}

/* ---- loading ---- */

int raftd_node_load(struct raftd_node *node)
{
    struct ms_log_read body;
    int rc;

    if (node->phase != NODE_LOADING || node->load_request != 0) {
        return MS_OK;
    }
    body = (struct ms_log_read){.request = node->load_requests + 1,
                                .low = entry_store_last_index(&node->store) + 1,
                                .high = node->log.state.last_index + 1,
                                .max_bytes = LOAD_BYTES_MAX};
    rc = ms_link_send(&node->apply.link, MS_IPC_LOG_READ, &body);
    if (rc == MS_OK) {
        node->load_requests++;
        node->load_request = node->load_requests;
    }
    return rc == MS_EAGAIN ? MS_OK : rc;
}

int raftd_node_loaded(struct raftd_node *node, const struct ms_ipc_message *message)
{
    const raft_index next = entry_store_last_index(&node->store) + 1;
    const raft_index last = node->log.state.last_index;
    struct ms_log_entries body;
    struct raft_slice slice = {0};
    raft_term term_before = 0;
    int rc;

    memcpy(&body, message->body, sizeof(body));
    if (body.request == 0 || body.request > node->load_requests) {
        return MS_EPROTO;
    }
    if (node->phase != NODE_LOADING || body.request != node->load_request) {
        return MS_OK; /* asked for before storaged was replaced, and asked again since */
    }
    if (body.status != MS_OK || body.first_index != next || body.count == 0 ||
        body.count > last + 1 - next) {
        return MS_EPROTO;
    }
    rc = entry_codec_unpack(&node->alloc, message->tail, message->tail_bytes, next, body.count,
                            &slice);
    if (rc != MS_OK) {
        return rc;
    }
    rc = entry_store_term(&node->store, next - 1, &term_before);
    assert(rc == MS_OK);
    if (slice.entries[0].term < term_before ||
        (next + body.count - 1 == last &&
         slice.entries[body.count - 1].term != node->log.state.last_term)) {
        rc = MS_EPROTO;
    } else {
        rc = entry_store_append(&node->store, slice.entries, slice.count);
    }
    raft_slice_release(&slice);
    if (rc != MS_OK) {
        return rc;
    }
    node->load_request = 0;
    if (entry_store_last_index(&node->store) == last) {
        raftd_node_create_core(node);
    }
    return MS_OK;
}

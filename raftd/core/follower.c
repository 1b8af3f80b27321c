/*
 * follower: what followers and candidates do with messages of their term.
 */
#include <assert.h>

#include "raftd/core/confchange.h"
#include "raftd/core/core.h"

/* ---- entries ---- */

static void reject_append(struct raft *raft, const struct raft_message *message)
{
    raft_index last = raftlog_last_index(&raft->log);
    struct raft_message *response;
    struct entry_id hint;

    core_log(raft, DEBUG,
             "%lx [logterm: %lu, index: %lu] rejected MsgApp [logterm: %lu, index: %lu] from %lx",
             raft->id, raftlog_term_or_zero(&raft->log, message->index), message->index,
             message->log_term, message->index, message->from);
    /* What this log has of larger terms than the leader's at that place cannot match. */
    hint = raftlog_find_by_term(&raft->log, message->index < last ? message->index : last,
                                message->log_term);
    response = core_outbox_push(raft, RAFT_MSG_APP_RESP, message->from);
    response->index = message->index;
    response->reject = true;
    response->reject_hint = hint.index;
    response->log_term = hint.term;
}

static int handle_append(struct raft *raft, const struct raft_message *message)
{
    const struct raft_slice *entries = &message->entries;
    struct entry_id previous = {.term = message->log_term, .index = message->index};
    raft_index last_new = message->index + entries->count;
    raft_index conflict;

    if (previous.index < raft->log.committed) {
        core_outbox_push(raft, RAFT_MSG_APP_RESP, message->from)->index = raft->log.committed;
        return MS_OK;
    }
    if (!raftlog_match(&raft->log, previous)) {
        reject_append(raft, message);
        return MS_OK;
    }
    conflict = raftlog_find_conflict(&raft->log, entries->entries, entries->count);
    if (conflict != 0) {
        size_t known = (size_t)(conflict - previous.index - 1);

        if (conflict <= raft->log.committed) {
            return MS_ECORRUPT;
        }
        raftlog_append(&raft->log, &entries->entries[known], entries->count - known);
    }
    raftlog_commit_to(&raft->log, message->commit < last_new ? message->commit : last_new);
    core_outbox_push(raft, RAFT_MSG_APP_RESP, message->from)->index = last_new;
    return MS_OK;
}

static int handle_heartbeat(struct raft *raft, const struct raft_message *message)
{
    if (message->commit > raftlog_last_index(&raft->log)) {
        return MS_ECORRUPT; /* this node has acknowledged entries that it does not have */
    }
    raftlog_commit_to(&raft->log, message->commit);
    core_outbox_push(raft, RAFT_MSG_HEARTBEAT_RESP, message->from)->read_round =
        message->read_round;
    return MS_OK;
}

/* ---- snapshots ---- */

static bool is_member(const struct raft_conf_state *conf, node_id id)
{
    return core_ids_contain(&conf->voters, id) || core_ids_contain(&conf->voters_outgoing, id) ||
           core_ids_contain(&conf->learners, id);
}

/* True if the log was replaced by the snapshot. */
static bool restore(struct raft *raft, struct raft_snapshot *snapshot)
{
    struct entry_id id = {.term = snapshot->term, .index = snapshot->index};
    struct entry_id last = raftlog_last_id(&raft->log);
    const char *reason = "";
    struct tracker next = {.max_inflight_messages = raft->tracker.max_inflight_messages,
                           .max_inflight_bytes = raft->tracker.max_inflight_bytes};

    if (id.index <= raft->log.committed) {
        return false;
    }
    if (!is_member(&snapshot->conf, raft->id)) {
        core_log(raft, WARN,
                 "%lx refused a snapshot whose configuration it is not in [index: %lu, term: %lu]",
                 raft->id, id.index, id.term);
        return false;
    }
    if (raftlog_match(&raft->log, id)) {
        core_log(raft, INFO,
                 "%lx [commit: %lu, lastindex: %lu, lastterm: %lu] fast-forwarded commit to "
                 "snapshot [index: %lu, term: %lu]",
                 raft->id, raft->log.committed, last.index, last.term, id.index, id.term);
        raftlog_commit_to(&raft->log, id.index);
        return false;
    }
    if (confchange_restore(&next, id.index, &snapshot->conf, &reason) != MS_OK) {
        core_log(raft, WARN, "%lx refused a snapshot with an invalid configuration: %s", raft->id,
                 reason);
        return false;
    }
    raftlog_restore(&raft->log, snapshot);
    core_member_switch(raft, &next);
    core_log(raft, INFO,
             "%lx [commit: %lu, lastindex: %lu, lastterm: %lu] restored snapshot [index: %lu, "
             "term: %lu]",
             raft->id, raft->log.committed, id.index, id.term, id.index, id.term);
    return true;
}

static void handle_snapshot(struct raft *raft, const struct raft_message *message)
{
    struct raft_snapshot *snapshot = message->snapshot;
    bool restored = restore(raft, snapshot);

    core_log(raft, INFO,
             restored ? "%lx [commit: %lu] restored snapshot [index: %lu, term: %lu]"
                      : "%lx [commit: %lu] ignored snapshot [index: %lu, term: %lu]",
             raft->id, raft->log.committed, snapshot->index, snapshot->term);
    core_outbox_push(raft, RAFT_MSG_APP_RESP, message->from)->index = raft->log.committed;
}

/* ---- requests for the leader ---- */

static int forward_proposal(struct raft *raft, const struct raft_message *message)
{
    struct raft_slice entries;

    if (raft->lead == RAFT_NONE) {
        core_log(raft, INFO, "%lx no leader at term %lu; dropping proposal", raft->id, raft->term);
        return MS_EDROPPED;
    }
    if (raft->options.disable_proposal_forwarding) {
        core_log(raft, INFO, "%lx not forwarding to leader %lx at term %lu; dropping proposal",
                 raft->id, raft->lead, raft->term);
        return MS_EDROPPED;
    }
    if (message->entries.block != NULL) {
        entries = raft_slice_ref(&message->entries);
    } else {
        int rc = raft_slice_create(&raft->options.alloc, message->entries.entries,
                                   message->entries.count, &entries);

        if (rc != MS_OK) {
            return rc;
        }
    }
    core_outbox_forward(raft, message, raft->lead, &entries);
    return MS_OK;
}

static int forward_request(struct raft *raft, const struct raft_message *message, const char *what)
{
    static const struct raft_slice nothing;

    if (raft->lead == RAFT_NONE) {
        core_log(raft, INFO, "%lx no leader at term %lu; dropping %s msg", raft->id, raft->term,
                 what);
        return MS_EDROPPED;
    }
    core_outbox_forward(raft, message, raft->lead, &nothing);
    return MS_OK;
}

static void forget_leader(struct raft *raft)
{
    if (raft->options.read_mode == RAFT_READ_LEASE) {
        /* The leader counts on this node's promise not to elect another. */
        core_log(raft, ERROR, "ignoring MsgForgetLeader due to ReadOnlyLeaseBased");
        return;
    }
    if (raft->lead != RAFT_NONE) {
        core_log(raft, INFO, "%lx forgetting leader %lx at term %lu", raft->id, raft->lead,
                 raft->term);
        raft->lead = RAFT_NONE;
    }
}

/* ---- dispatch ---- */

/* MsgApp, MsgHeartbeat, MsgSnap: from the leader of this term, as it now is known. */
static int step_from_leader(struct raft *raft, const struct raft_message *message)
{
    raft->election_elapsed = 0;
    raft->lead = message->from;
    if (message->type == RAFT_MSG_APP) {
        return handle_append(raft, message);
    }
    if (message->type == RAFT_MSG_HEARTBEAT) {
        return handle_heartbeat(raft, message);
    }
    handle_snapshot(raft, message);
    return MS_OK;
}

static bool is_from_leader(enum raft_message_type type)
{
    return type == RAFT_MSG_APP || type == RAFT_MSG_HEARTBEAT || type == RAFT_MSG_SNAP;
}

int core_follower_step(struct raft *raft, const struct raft_message *message)
{
    if (is_from_leader(message->type)) {
        return step_from_leader(raft, message);
    }
    if (message->type == RAFT_MSG_PROP) {
        return forward_proposal(raft, message);
    }
    if (message->type == RAFT_MSG_READ_INDEX) {
        return forward_request(raft, message, "index reading");
    }
    if (message->type == RAFT_MSG_TRANSFER_LEADER) {
        /* Nobody to tell; the one who asked sees that nothing happens. */
        (void)forward_request(raft, message, "leader transfer");
    } else if (message->type == RAFT_MSG_READ_INDEX_RESP) {
        core_reads_answer_self(raft, message->read_id, message->index);
    } else if (message->type == RAFT_MSG_FORGET_LEADER) {
        forget_leader(raft);
    } else if (message->type == RAFT_MSG_TIMEOUT_NOW) {
        core_log(raft, INFO,
                 "%lx [term %lu] received MsgTimeoutNow from %lx and starts an election to get "
                 "leadership.",
                 raft->id, raft->term, message->from);
        core_role_hup(raft, CAMPAIGN_TRANSFER);
    }
    return MS_OK;
}

int core_candidate_step(struct raft *raft, const struct raft_message *message)
{
    enum raft_message_type vote =
        raft->state == RAFT_STATE_PRE_CANDIDATE ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP;

    if (is_from_leader(message->type)) {
        /* Somebody else won (Raft 5.2). */
        if (message->term != raft->term) {
            return MS_EINVAL;
        }
        core_role_become_follower(raft, message->term, message->from);
        return step_from_leader(raft, message);
    }
    if (message->type == RAFT_MSG_PROP) {
        core_log(raft, INFO, "%lx no leader at term %lu; dropping proposal", raft->id, raft->term);
        return MS_EDROPPED;
    }
    if (message->type == RAFT_MSG_READ_INDEX) {
        return MS_EDROPPED;
    }
    if (message->type == vote) {
        core_role_count_vote(raft, message);
    } else if (message->type == RAFT_MSG_TIMEOUT_NOW) {
        core_log(raft, DEBUG, "%lx [term %lu state %s] ignored MsgTimeoutNow from %lx", raft->id,
                 raft->term, raft_state_name(raft->state), message->from);
    }
    return MS_OK;
}

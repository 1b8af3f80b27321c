/*
 * leader: what a leader does with messages of its term.
 */
#include <assert.h>

#include "raftd/core/core.h"

/* ---- proposals ---- */

/* "transition:... changes:{...}" as log lines describe a change. */
static void describe_change(struct text *text, const struct raft_conf_change *change)
{
    static const char *const transitions[] = {
        [RAFT_TRANSITION_AUTO] = "ConfChangeTransitionAuto",
        [RAFT_TRANSITION_IMPLICIT] = "ConfChangeTransitionJointImplicit",
        [RAFT_TRANSITION_EXPLICIT] = "ConfChangeTransitionJointExplicit",
    };
    static const char *const types[] = {
        [RAFT_ADD_VOTER] = "ConfChangeAddNode",
        [RAFT_REMOVE_MEMBER] = "ConfChangeRemoveNode",
        [RAFT_UPDATE_MEMBER] = "ConfChangeUpdateNode",
        [RAFT_ADD_LEARNER] = "ConfChangeAddLearnerNode",
    };

    core_text_str(text, "transition:");
    core_text_str(text, transitions[change->transition]);
    for (size_t i = 0; i < change->count; i++) {
        core_text_str(text, " changes:{type:");
        core_text_str(text, types[change->changes[i].type]);
        core_text_str(text, " node_id:");
        core_text_dec(text, change->changes[i].id);
        core_text_str(text, "}");
    }
}

/* Why a change may not be proposed now; false if it may. */
static bool find_objection(const struct raft *raft, const struct raft_conf_change *change,
                           struct text *reason)
{
    bool joint = raft->tracker.conf.voters_outgoing.count > 0;
    bool leaves = change->count == 0;

    if (raft->pending_conf_index > raft->log.applied) {
        core_text_str(reason, "possible unapplied conf change at index ");
        core_text_dec(reason, raft->pending_conf_index);
        core_text_str(reason, " (applied to ");
        core_text_dec(reason, raft->log.applied);
        core_text_str(reason, ")");
    } else if (joint && !leaves) {
        core_text_str(reason, "must transition out of joint config first");
    } else if (!joint && leaves) {
        core_text_str(reason, "not in joint state; refusing empty conf change");
    } else {
        return false;
    }
    return !raft->options.disable_conf_change_validation;
}

static void log_objection(struct raft *raft, const struct raft_conf_change *change,
                          const char *reason)
{
    char change_buffer[RAFT_LOG_LINE_MAX / 2];
    char conf_buffer[RAFT_LOG_LINE_MAX / 2];
    struct text text;

    if (!core_logger_on(&raft->logger, RAFT_LOG_INFO)) {
        return;
    }
    core_text_init(&text, change_buffer, sizeof(change_buffer));
    describe_change(&text, change);
    core_text_init(&text, conf_buffer, sizeof(conf_buffer));
    core_text_conf(&text, &raft->tracker.conf);
    core_log(raft, INFO, "%lx ignoring conf change %s at config %s: %s", raft->id, change_buffer,
             conf_buffer, reason);
}

/* Replaces a change that may not be made now by an empty entry: its place must be filled. */
static void screen_change(struct raft *raft, struct raft_entry *entry, raft_index index)
{
    struct raft_conf_change change;
    char buffer[128];
    struct text reason;
    int rc = raft_conf_change_decode(entry, &change);

    assert(rc == MS_OK); /* whoever took the proposal has checked */
    (void)rc;
    core_text_init(&reason, buffer, sizeof(buffer));
    if (find_objection(raft, &change, &reason)) {
        log_objection(raft, &change, buffer);
        *entry = (struct raft_entry){.type = RAFT_ENTRY_NORMAL, .stands_in = true};
    } else {
        raft->pending_conf_index = index;
    }
}

int core_leader_propose(struct raft *raft, const struct raft_entry *entries, size_t count)
{
    raft_index last = raftlog_last_index(&raft->log);
    raft_index pending_before = raft->pending_conf_index;
    struct raft_entry *staged;

    /* Removed from the configuration, it leads only until the others have noticed. */
    if (tracker_get(&raft->tracker, raft->id) == NULL) {
        return MS_EDROPPED;
    }
    if (raft->lead_transferee != RAFT_NONE) {
        core_log(raft, DEBUG,
                 "%lx [term %lu] transfer leadership to %lx is in progress; dropping proposal",
                 raft->id, raft->term, raft->lead_transferee);
        return MS_EDROPPED;
    }
    staged = unstable_stage(&raft->log.unstable, entries, count);
    for (size_t i = 0; i < count; i++) {
        if (staged[i].type != RAFT_ENTRY_NORMAL) {
            screen_change(raft, &staged[i], last + 1 + i);
        }
    }
    if (!core_replicate_append(raft, staged, count)) {
        raft->pending_conf_index = pending_before;
        return MS_EDROPPED;
    }
    core_replicate_broadcast(raft);
    return MS_OK;
}

/* ---- responses to appends ---- */

static void append_rejected(struct raft *raft, struct progress *progress,
                            const struct raft_message *message)
{
    raft_index hint = message->reject_hint;

    core_log(raft, DEBUG,
             "%lx received MsgAppResp(rejected, hint: (index %lu, term %lu)) from %lx for index "
             "%lu",
             raft->id, message->reject_hint, message->log_term, message->from, message->index);
    if (message->log_term > 0) {
        /*
         * At the hint the peer has log_term. Where this log has a larger term at or before the
         * hint, the peer's cannot agree: its terms only fall towards the start. So at most one
         * probe per term is needed (Raft 5.3).
         */
        hint = raftlog_find_by_term(&raft->log, hint, message->log_term).index;
    }
    if (progress_decrease(progress, message->index, hint)) {
        char buffer[PROGRESS_TEXT_MAX];

        core_log(raft, DEBUG, "%lx decreased progress of %lx to [%s]", raft->id, message->from,
                 core_replicate_describe(raft, progress, buffer));
        if (progress->state == RAFT_PROGRESS_REPLICATE) {
            progress_become_probe(progress);
        }
        (void)core_replicate_send(raft, progress, true);
    }
}

static void advance_progress(struct raft *raft, struct progress *progress, raft_index index)
{
    switch (progress->state) {
    case RAFT_PROGRESS_PROBE:
        progress_become_replicate(progress);
        break;
    case RAFT_PROGRESS_REPLICATE:
        inflights_free_to(&progress->inflights, index);
        break;
    case RAFT_PROGRESS_SNAPSHOT:
        /* Whichever snapshot it was: the log goes on from where the peer is now. */
        if (progress->match + 1 >= raftlog_first_index(&raft->log)) {
            char buffer[PROGRESS_TEXT_MAX];

            core_log(raft, DEBUG,
                     "%lx recovered from needing snapshot, resumed sending replication messages "
                     "to %lx [%s]",
                     raft->id, progress->id, core_replicate_describe(raft, progress, buffer));
            progress_become_probe(progress);
            progress_become_replicate(progress);
        }
        break;
    }
}

static void append_accepted(struct raft *raft, struct progress *progress, raft_index index)
{
    bool own = progress->id == raft->id;

    /* The second case: a peer that was probed although nothing was missing. */
    if (!progress_update(progress, index) &&
        !(progress->match == index && progress->state == RAFT_PROGRESS_PROBE)) {
        return;
    }
    advance_progress(raft, progress, index);
    if (core_replicate_commit(raft)) {
        core_reads_release(raft);
        core_replicate_broadcast(raft);
    } else if (!own && progress_can_bump_commit(progress, raft->log.committed)) {
        (void)core_replicate_send(raft, progress, true);
    }
    if (own) {
        return;
    }
    core_replicate_send_all(raft, progress);
    if (progress->id == raft->lead_transferee &&
        progress->match == raftlog_last_index(&raft->log)) {
        core_log(raft, INFO, "%lx sent MsgTimeoutNow to %lx after received MsgAppResp", raft->id,
                 progress->id);
        core_replicate_timeout_now(raft, progress->id);
    }
}

static int append_response(struct raft *raft, struct progress *progress,
                           const struct raft_message *message)
{
    if (!message->reject && message->index > raftlog_last_index(&raft->log)) {
        return MS_ECORRUPT; /* it has entries of this term that this leader never had */
    }
    progress->recent_active = true;
    if (message->reject) {
        append_rejected(raft, progress, message);
    } else {
        append_accepted(raft, progress, message->index);
    }
    return MS_OK;
}

/* ---- other messages about a member ---- */

static int heartbeat_response(struct raft *raft, struct progress *progress,
                              const struct raft_message *message)
{
    progress->recent_active = true;
    progress->flow_paused = false;
    /* Also when nothing is missing: a probed peer has to answer to be streamed to again. */
    if (progress->match < raftlog_last_index(&raft->log) ||
        progress->state == RAFT_PROGRESS_PROBE) {
        (void)core_replicate_send(raft, progress, true);
    }
    return core_reads_acknowledge(raft, progress, message->read_round);
}

static void snapshot_status(struct raft *raft, struct progress *progress, bool failed)
{
    char buffer[PROGRESS_TEXT_MAX];

    if (progress->state != RAFT_PROGRESS_SNAPSHOT) {
        return;
    }
    if (failed) {
        progress->pending_snapshot = 0; /* probing starts from what it had before */
    }
    progress_become_probe(progress);
    core_log(raft, DEBUG,
             failed ? "%lx snapshot failed, resumed sending replication messages to %lx [%s]"
                    : "%lx snapshot succeeded, resumed sending replication messages to %lx [%s]",
             raft->id, progress->id, core_replicate_describe(raft, progress, buffer));
    /* Its answer, or else the next heartbeat's, says when to go on. */
    progress->flow_paused = true;
}

static void transfer_leader(struct raft *raft, struct progress *progress)
{
    node_id target = progress->id;

    if (progress->is_learner) {
        core_log(raft, DEBUG, "%lx is learner. Ignored transferring leadership", raft->id);
        return;
    }
    if (raft->lead_transferee != RAFT_NONE) {
        node_id before = raft->lead_transferee;

        if (before == target) {
            core_log(raft, INFO,
                     "%lx [term %lu] transfer leadership to %lx is in progress, ignores request "
                     "to same node %lx",
                     raft->id, raft->term, target, target);
            return;
        }
        raft->lead_transferee = RAFT_NONE;
        core_log(raft, INFO, "%lx [term %lu] abort previous transferring leadership to %lx",
                 raft->id, raft->term, before);
    }
    if (target == raft->id) {
        core_log(raft, DEBUG, "%lx is already leader. Ignored transferring leadership to self",
                 raft->id);
        return;
    }
    core_log(raft, INFO, "%lx [term %lu] starts to transfer leadership to %lx", raft->id,
             raft->term, target);
    /* It has one election timeout, then proposals are taken again (thesis 3.10). */
    raft->election_elapsed = 0;
    raft->lead_transferee = target;
    if (progress->match == raftlog_last_index(&raft->log)) {
        core_replicate_timeout_now(raft, target);
        core_log(raft, INFO,
                 "%lx sends MsgTimeoutNow to %lx immediately as %lx already has up-to-date log",
                 raft->id, target, target);
    } else {
        (void)core_replicate_send(raft, progress, true);
    }
}

static void unreachable(struct raft *raft, struct progress *progress)
{
    char buffer[PROGRESS_TEXT_MAX];

    /* What was streamed optimistically is probably lost. */
    if (progress->state == RAFT_PROGRESS_REPLICATE) {
        progress_become_probe(progress);
    }
    core_log(raft, DEBUG, "%lx failed to send message to %lx because it is unreachable [%s]",
             raft->id, progress->id, core_replicate_describe(raft, progress, buffer));
}

static void check_quorum(struct raft *raft)
{
    if (!tracker_quorum_active(&raft->tracker)) {
        core_log(raft, WARN, "%lx stepped down to follower since quorum is not active", raft->id);
        core_role_become_follower(raft, raft->term, RAFT_NONE);
    }
    for (size_t i = 0; i < raft->tracker.count; i++) {
        struct progress *progress = &raft->tracker.peers[i];

        if (progress->id != raft->id) {
            progress->recent_active = false;
        }
    }
}

/* ---- dispatch ---- */

static int step_about_member(struct raft *raft, const struct raft_message *message)
{
    struct progress *progress = tracker_find(&raft->tracker, message->from);

    if (progress == NULL) {
        core_log(raft, DEBUG, "%lx no progress available for %lx", raft->id, message->from);
        return MS_OK;
    }
    if (message->type == RAFT_MSG_APP_RESP) {
        return append_response(raft, progress, message);
    }
    if (message->type == RAFT_MSG_HEARTBEAT_RESP) {
        return heartbeat_response(raft, progress, message);
    }
    if (message->type == RAFT_MSG_SNAP_STATUS) {
        snapshot_status(raft, progress, message->reject);
    } else if (message->type == RAFT_MSG_UNREACHABLE) {
        unreachable(raft, progress);
    } else if (message->type == RAFT_MSG_TRANSFER_LEADER) {
        transfer_leader(raft, progress);
    }
    return MS_OK; /* another leader's messages in this term are impossible; votes are late */
}

int core_leader_step(struct raft *raft, const struct raft_message *message)
{
    if (message->type == RAFT_MSG_BEAT) {
        core_replicate_heartbeat(raft);
        return MS_OK;
    }
    if (message->type == RAFT_MSG_CHECK_QUORUM) {
        check_quorum(raft);
        return MS_OK;
    }
    if (message->type == RAFT_MSG_PROP) {
        return core_leader_propose(raft, message->entries.entries, message->entries.count);
    }
    if (message->type == RAFT_MSG_READ_INDEX) {
        core_reads_request(raft, message->read_id, message->from);
        return MS_OK;
    }
    if (message->type == RAFT_MSG_FORGET_LEADER) {
        return MS_OK;
    }
    return step_about_member(raft, message);
}

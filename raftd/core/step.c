/*
 * step: what every message goes through first: is it well formed, and what does its term mean
 * (Raft 5.1).
 */
#include "raftd/core/core.h"

const char *raft_message_name(enum raft_message_type type)
{
    switch (type) {
#define MESSAGE_NAME(enumerator, number, name) \
    case enumerator:                           \
        return name;
        RAFT_MESSAGE_LIST(MESSAGE_NAME)
#undef MESSAGE_NAME
    }
    return "unknown";
}

/* ---- checks on messages from outside ---- */

/* Messages that only the node itself may cause. */
static bool is_local(enum raft_message_type type)
{
    return type == RAFT_MSG_HUP || type == RAFT_MSG_BEAT || type == RAFT_MSG_UNREACHABLE ||
           type == RAFT_MSG_SNAP_STATUS || type == RAFT_MSG_CHECK_QUORUM ||
           type == RAFT_MSG_STORAGE_APPEND || type == RAFT_MSG_STORAGE_APPEND_RESP ||
           type == RAFT_MSG_STORAGE_APPLY || type == RAFT_MSG_STORAGE_APPLY_RESP ||
           type == RAFT_MSG_FORGET_LEADER;
}

static bool is_response(enum raft_message_type type)
{
    return type == RAFT_MSG_APP_RESP || type == RAFT_MSG_VOTE_RESP ||
           type == RAFT_MSG_HEARTBEAT_RESP || type == RAFT_MSG_READ_INDEX_RESP ||
           type == RAFT_MSG_PRE_VOTE_RESP;
}

static bool from_storage(const struct raft_message *message)
{
    return (message->from == RAFT_APPEND_THREAD && message->type == RAFT_MSG_STORAGE_APPEND_RESP) ||
           (message->from == RAFT_APPLY_THREAD && message->type == RAFT_MSG_STORAGE_APPLY_RESP);
}

static bool types_known(const struct raft_slice *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        if ((unsigned)entries->entries[i].type > RAFT_ENTRY_CONF_CHANGE_V2) {
            return false;
        }
    }
    return true;
}

/* Entries follow on the message's index without a gap, and terms never fall. */
static bool append_well_formed(const struct raft_message *message)
{
    raft_term term = message->log_term;

    if (message->index > UINT64_MAX - 1 - message->entries.count) {
        return false;
    }
    for (size_t i = 0; i < message->entries.count; i++) {
        const struct raft_entry *entry = &message->entries.entries[i];

        if (entry->index != message->index + 1 + i || entry->term < term) {
            return false;
        }
        term = entry->term;
    }
    return message->entries.count == 0 || term <= message->term;
}

static bool proposals_well_formed(const struct raft_slice *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        struct raft_conf_change change;

        if (entries->entries[i].type != RAFT_ENTRY_NORMAL &&
            raft_conf_change_decode(&entries->entries[i], &change) != MS_OK) {
            return false;
        }
    }
    return entries->count > 0;
}

static bool is_thread(node_id id)
{
    return id == RAFT_APPEND_THREAD || id == RAFT_APPLY_THREAD;
}

static bool well_formed(const struct raft *raft, const struct raft_message *message)
{
    bool from_other = message->from != RAFT_NONE && message->from != raft->id;

    if ((unsigned)message->type > RAFT_MSG_FORGET_LEADER || message->to != raft->id ||
        (is_thread(message->from) && !from_storage(message)) || !types_known(&message->entries)) {
        return false;
    }
    switch (message->type) {
    case RAFT_MSG_APP:
        return from_other && append_well_formed(message);
    case RAFT_MSG_SNAP:
        return from_other && message->snapshot != NULL;
    case RAFT_MSG_HEARTBEAT:
        return from_other;
    case RAFT_MSG_PROP:
        return proposals_well_formed(&message->entries);
    case RAFT_MSG_VOTE:
    case RAFT_MSG_PRE_VOTE:
        return from_other && message->term > 0;
    case RAFT_MSG_STORAGE_APPEND_RESP:
        return message->snapshot == NULL || message->snapshot->index <= raft->log.committed;
    case RAFT_MSG_HUP:
    case RAFT_MSG_BEAT:
    case RAFT_MSG_APP_RESP:
    case RAFT_MSG_VOTE_RESP:
    case RAFT_MSG_HEARTBEAT_RESP:
    case RAFT_MSG_UNREACHABLE:
    case RAFT_MSG_SNAP_STATUS:
    case RAFT_MSG_CHECK_QUORUM:
    case RAFT_MSG_TRANSFER_LEADER:
    case RAFT_MSG_TIMEOUT_NOW:
    case RAFT_MSG_READ_INDEX:
    case RAFT_MSG_READ_INDEX_RESP:
    case RAFT_MSG_PRE_VOTE_RESP:
    case RAFT_MSG_STORAGE_APPEND:
    case RAFT_MSG_STORAGE_APPLY:
    case RAFT_MSG_STORAGE_APPLY_RESP:
    case RAFT_MSG_FORGET_LEADER:
        return true;
    }
    return false;
}

/* Whether taking these entries would leave too much waiting for the disk. */
static bool exceeds_unstable_limit(const struct raft *raft, const struct raft_slice *entries)
{
    uint64_t limit = raft->options.max_unstable_bytes;
    uint64_t waiting = raft->log.unstable.bytes;
    uint64_t bytes;

    if (limit == 0 || waiting == 0) {
        return false; /* something must always get through */
    }
    bytes = core_entries_payload_bytes(entries->entries, entries->count);
    return bytes > 0 && (waiting >= limit || bytes > limit - waiting);
}

int raft_step(struct raft *raft, const struct raft_message *message)
{
    bool appends = message->type == RAFT_MSG_APP || message->type == RAFT_MSG_PROP;
    int rc;

    if (is_local(message->type) && !from_storage(message)) {
        return MS_EPERM;
    }
    if (!well_formed(raft, message)) {
        return MS_EINVAL;
    }
    if (is_response(message->type) && tracker_get(&raft->tracker, message->from) == NULL) {
        return MS_ENOENT;
    }
    if (appends && exceeds_unstable_limit(raft, &message->entries)) {
        return MS_EFULL;
    }
    rc = core_reserve(raft, appends ? message->entries.count : 0,
                      message->type == RAFT_MSG_APP &&
                          message->index < raftlog_last_index(&raft->log));
    return rc != MS_OK ? rc : core_step_event(raft, message);
}

/* ---- terms ---- */

/*
 * A leader that was heard of recently is not to be disturbed by a member that has not heard of
 * it (thesis 6.2.3), unless it has ordered the election itself, or is the one who asks.
 */
static bool leader_protected(const struct raft *raft, const struct raft_message *message)
{
    if (message->by_transfer ||
        (raft->options.leader_may_recampaign && raft->lead == message->from)) {
        return false;
    }
    return raft->options.check_quorum && raft->lead != RAFT_NONE &&
           raft->election_elapsed < raft->options.election_ticks;
}

/* True if the message goes on to be handled. */
static bool step_higher_term(struct raft *raft, const struct raft_message *message)
{
    bool from_leader = message->type == RAFT_MSG_APP || message->type == RAFT_MSG_HEARTBEAT ||
                       message->type == RAFT_MSG_SNAP;

    if ((message->type == RAFT_MSG_VOTE || message->type == RAFT_MSG_PRE_VOTE) &&
        leader_protected(raft, message)) {
        struct entry_id last = raftlog_last_id(&raft->log);

        core_log(raft, INFO,
                 "%lx [logterm: %lu, index: %lu, vote: %lx] ignored %s from %lx [logterm: %lu, "
                 "index: %lu] at term %lu: lease is not expired (remaining ticks: %lu)",
                 raft->id, last.term, last.index, raft->vote, raft_message_name(message->type),
                 message->from, message->log_term, message->index, raft->term,
                 (uint64_t)(raft->options.election_ticks - raft->election_elapsed));
        return false;
    }
    /* The term of a pre-vote, and of its granting, is one that may never begin. */
    if (message->type == RAFT_MSG_PRE_VOTE ||
        (message->type == RAFT_MSG_PRE_VOTE_RESP && !message->reject)) {
        return true;
    }
    core_log(raft, INFO,
             "%lx [term: %lu] received a %s message with higher term from %lx [term: %lu]",
             raft->id, raft->term, raft_message_name(message->type), message->from, message->term);
    core_role_become_follower(raft, message->term, from_leader ? message->from : RAFT_NONE);
    return true;
}

static void snapshot_applied(struct raft *raft, const struct raft_snapshot *snapshot)
{
    raft_index index = snapshot->index;

    unstable_snapshot_stable(&raft->log.unstable, index);
    core_step_applied(raft, index, 0);
}

static void step_lower_term(struct raft *raft, const struct raft_message *message)
{
    bool from_leader = message->type == RAFT_MSG_HEARTBEAT || message->type == RAFT_MSG_APP;
    /* A campaign of this node would tell the leader of the later term. */
    bool campaign_heard =
        core_promotable(raft) && !raft->options.check_quorum && !raft->options.pre_vote;

    if (from_leader && !campaign_heard) {
        /*
         * The leader's messages are of a term that is over here, for this node once campaigned
         * in vain or was asked by one who did; and it cannot get back by a campaign, which
         * would be ignored or is not its to start. The answer makes the leader step down and an
         * election follow (Raft 5.1).
         */
        (void)core_outbox_push(raft, RAFT_MSG_APP_RESP, message->from);
    } else if (message->type == RAFT_MSG_PRE_VOTE) {
        /* Silence could leave a candidate of a lower term waiting for ever. */
        struct entry_id last = raftlog_last_id(&raft->log);

        core_log(raft, INFO,
                 "%lx [logterm: %lu, index: %lu, vote: %lx] rejected %s from %lx [logterm: %lu, "
                 "index: %lu] at term %lu",
                 raft->id, last.term, last.index, raft->vote, raft_message_name(message->type),
                 message->from, message->log_term, message->index, raft->term);
        core_outbox_push(raft, RAFT_MSG_PRE_VOTE_RESP, message->from)->reject = true;
    } else if (message->type == RAFT_MSG_STORAGE_APPEND_RESP) {
        /*
         * Entries with the same index and term may have been cut, replaced and come back since,
         * with a write of the ones between still under way; only a response of this term says
         * what the disk holds. A snapshot is committed state, in whatever term.
         */
        if (message->index != 0) {
            core_log(raft, INFO,
                     "%lx [term: %lu] ignored entry appends from a %s message with lower term "
                     "[term: %lu]",
                     raft->id, raft->term, raft_message_name(message->type), message->term);
        }
        if (message->snapshot != NULL) {
            snapshot_applied(raft, message->snapshot);
        }
    } else {
        core_log(
            raft, INFO, "%lx [term: %lu] ignored a %s message with lower term from %lx [term: %lu]",
            raft->id, raft->term, raft_message_name(message->type), message->from, message->term);
    }
}

/* ---- events ---- */

void core_step_applied(struct raft *raft, raft_index index, uint64_t bytes)
{
    static const struct raft_entry leave = {.type = RAFT_ENTRY_CONF_CHANGE_V2};
    char buffer[RAFT_LOG_LINE_MAX];
    struct text text;
    int rc;

    raftlog_applied_to(&raft->log, index > raft->log.applied ? index : raft->log.applied, bytes);
    if (!raft->tracker.conf.auto_leave || raft->log.applied < raft->pending_conf_index ||
        raft->state != RAFT_STATE_LEADER) {
        return;
    }
    /* Refused during a transfer; then whoever leads afterwards proposes it again. */
    rc = core_leader_propose(raft, &leave, 1);
    core_text_init(&text, buffer, sizeof(buffer));
    core_text_conf(&text, &raft->tracker.conf);
    if (rc == MS_OK) {
        core_log(raft, INFO, "initiating automatic transition out of joint configuration %s",
                 buffer);
    } else {
        core_log(raft, DEBUG,
                 "not initiating automatic transition out of joint configuration %s: raft "
                 "proposal dropped",
                 buffer);
    }
}

static int entries_applied(struct raft *raft, const struct raft_slice *entries)
{
    uint64_t payload = core_entries_payload_bytes(entries->entries, entries->count);
    raft_index last;

    if (entries->count == 0) {
        return MS_OK;
    }
    last = entries->entries[entries->count - 1].index;
    if (last > raft->log.committed) {
        return MS_ECORRUPT;
    }
    core_step_applied(raft, last, core_entries_encoded_bytes(entries->entries, entries->count));
    raft->uncommitted_bytes -=
        payload < raft->uncommitted_bytes ? payload : raft->uncommitted_bytes;
    return MS_OK;
}

static int step_role(struct raft *raft, const struct raft_message *message)
{
    switch (raft->state) {
    case RAFT_STATE_FOLLOWER:
        return core_follower_step(raft, message);
    case RAFT_STATE_CANDIDATE:
    case RAFT_STATE_PRE_CANDIDATE:
        return core_candidate_step(raft, message);
    case RAFT_STATE_LEADER:
        return core_leader_step(raft, message);
    }
    return MS_EINVAL;
}

int core_step_event(struct raft *raft, const struct raft_message *message)
{
    int rc;

    /* Term 0 is of no term: from this node itself, or meant for whoever leads. */
    if (message->term > raft->term) {
        if (!step_higher_term(raft, message)) {
            return MS_OK;
        }
    } else if (message->term != 0 && message->term < raft->term) {
        step_lower_term(raft, message);
        return MS_OK;
    }
    if (message->type == RAFT_MSG_HUP) {
        core_role_hup(raft, raft->options.pre_vote ? CAMPAIGN_PRE_VOTE : CAMPAIGN_VOTE);
        return MS_OK;
    }
    if (message->type == RAFT_MSG_STORAGE_APPEND_RESP) {
        if (message->index != 0) {
            unstable_stable_to(&raft->log.unstable, message->index, message->log_term);
        }
        if (message->snapshot != NULL) {
            snapshot_applied(raft, message->snapshot);
        }
        return MS_OK;
    }
    if (message->type == RAFT_MSG_STORAGE_APPLY_RESP) {
        return entries_applied(raft, &message->entries);
    }
    if (message->type == RAFT_MSG_VOTE || message->type == RAFT_MSG_PRE_VOTE) {
        core_role_answer_vote(raft, message);
        core_role_learn_commit(raft, message);
        return MS_OK;
    }
    rc = step_role(raft, message);
    if (message->type == RAFT_MSG_VOTE_RESP || message->type == RAFT_MSG_PRE_VOTE_RESP) {
        core_role_learn_commit(raft, message);
    }
    return rc;
}

/*
 * node: a node's beginning and end, and the events that come from its own machine.
 */
#include <string.h>

#include "raftd/core/confchange.h"
#include "raftd/core/core.h"

/* Messages of one event besides those counted per peer and per read. */
#define RESERVE_MESSAGES (RAFT_APPEND_BURST + 8)
/* Per peer: a round of appends, and a heartbeat or another append. */
#define RESERVE_PER_PEER 3
/* Votes and acknowledgements of one event. */
#define RESERVE_AFTER_APPEND 4

int core_reserve(struct raft *raft, size_t entries, bool replacing)
{
    const struct raft_alloc *alloc = &raft->options.alloc;
    size_t messages = RESERVE_PER_PEER * raft->tracker.count + RESERVE_MESSAGES + raft->reads.count;
    int rc;

    /* What has to go out or to disk first; raft_ready() itself always finds room. */
    if (raft->messages.count >= RAFT_OUTBOX_MAX || raft->after_append.count >= RAFT_OUTBOX_MAX ||
        (entries > 0 && entries + raft->log.unstable.count > RAFT_UNSTABLE_MAX)) {
        return MS_EFULL;
    }
    rc = core_list_reserve(alloc, &raft->messages, messages);
    if (rc == MS_OK) {
        rc = core_list_reserve(alloc, &raft->after_append, RESERVE_AFTER_APPEND);
    }
    if (rc == MS_OK) {
        rc = core_reads_reserve(raft, 1);
    }
    /* One more than the event brings: a new leader's first entry, or leaving a joint change. */
    if (rc == MS_OK) {
        rc = unstable_reserve(&raft->log.unstable, entries + 1, replacing);
    }
    /* Only leaders send entries, and followers do not become leaders in one event. */
    for (size_t i = 0; i < raft->tracker.count && rc == MS_OK && raft->state != RAFT_STATE_FOLLOWER;
         i++) {
        rc = inflights_reserve(alloc, &raft->tracker.peers[i].inflights, RAFT_APPEND_BURST + 2);
    }
    return rc;
}

bool core_promotable(const struct raft *raft)
{
    const struct progress *own = tracker_get(&raft->tracker, raft->id);

    return own != NULL && !own->is_learner && raft->log.unstable.snapshot == NULL;
}

/* ---- creation ---- */

static bool options_valid(const struct raft_options *options)
{
    if (options->id == RAFT_NONE || options->id == RAFT_APPEND_THREAD ||
        options->id == RAFT_APPLY_THREAD) {
        return false;
    }
    if (options->heartbeat_ticks == 0 || options->election_ticks <= options->heartbeat_ticks ||
        options->election_ticks > UINT32_MAX / 2) {
        return false;
    }
    if (options->max_inflight_messages == 0 ||
        (options->max_inflight_bytes != 0 &&
         options->max_inflight_bytes < options->max_message_bytes)) {
        return false;
    }
    if (options->read_mode == RAFT_READ_LEASE && !options->check_quorum) {
        return false; /* nothing would ever end the lease */
    }
    return options->alloc.alloc != NULL && options->alloc.free != NULL && options->draw != NULL &&
           options->storage.initial_state != NULL && options->storage.entries != NULL &&
           options->storage.term != NULL && options->storage.first_index != NULL &&
           options->storage.last_index != NULL && options->storage.snapshot != NULL;
}

static void apply_defaults(struct raft_options *options)
{
    if (options->max_uncommitted_bytes == 0) {
        options->max_uncommitted_bytes = RAFT_NO_LIMIT;
    }
    if (options->max_committed_bytes == 0) {
        options->max_committed_bytes = options->max_message_bytes;
    }
    if (options->max_committed_bytes == 0) {
        options->max_committed_bytes = 1; /* one entry at a time */
    }
}

static int load_state(struct raft *raft, const struct raft_hard_state *hard)
{
    struct raftlog *log = &raft->log;

    if (hard->term != 0 || hard->vote != 0 || hard->commit != 0) {
        if (hard->commit < log->committed || hard->commit > raftlog_last_index(log)) {
            return MS_ECORRUPT;
        }
        log->committed = hard->commit;
        raft->term = hard->term;
        raft->vote = hard->vote;
    }
    if (raft->options.applied > 0) {
        if (raft->options.applied < log->applied || raft->options.applied > log->committed) {
            return MS_ECORRUPT;
        }
        raftlog_applied_to(log, raft->options.applied, 0);
    }
    return MS_OK;
}

static void log_start(struct raft *raft)
{
    struct entry_id last = raftlog_last_id(&raft->log);
    char buffer[RAFT_LOG_LINE_MAX / 2];
    struct raft_ids voters;
    struct text text;

    tracker_voters(&raft->tracker, &voters);
    core_text_init(&text, buffer, sizeof(buffer));
    for (size_t i = 0; i < voters.count; i++) {
        core_text_str(&text, i > 0 ? "," : "");
        core_text_hex(&text, voters.ids[i]);
    }
    core_log(raft, INFO,
             "newRaft %lx [peers: [%s], term: %lu, commit: %lu, applied: %lu, lastindex: %lu, "
             "lastterm: %lu]",
             raft->id, buffer, raft->term, raft->log.committed, raft->log.applied, last.index,
             last.term);
}

static int restore_members(struct raft *raft, const struct raft_conf_state *conf)
{
    const char *reason = "";
    struct tracker next = {.max_inflight_messages = raft->options.max_inflight_messages,
                           .max_inflight_bytes = raft->options.max_inflight_bytes};
    int rc = confchange_restore(&next, raftlog_last_index(&raft->log), conf, &reason);

    if (rc != MS_OK) {
        core_log(raft, ERROR, "%lx %s", raft->id, reason);
        return rc;
    }
    core_member_switch(raft, &next);
    return MS_OK;
}

int raft_create(const struct raft_options *options, struct raft **out)
{
    const struct raft_alloc *alloc = &options->alloc;
    struct raft_hard_state hard = {0};
    struct raft_conf_state conf;
    struct raft *raft;
    int rc;

    if (!options_valid(options)) {
        return MS_EINVAL;
    }
    raft = alloc->alloc(alloc->ctx, sizeof(*raft));
    if (raft == NULL) {
        return MS_ENOMEM;
    }
    memset(raft, 0, sizeof(*raft));
    memset(&conf, 0, sizeof(conf));
    raft->options = *options;
    apply_defaults(&raft->options);
    raft->logger = (struct logger){
        .write = options->log, .ctx = options->log_ctx, .level = options->log_level};
    raft->id = options->id;
    raft->conf_reason = "";
    raftlog_init(&raft->log, &raft->options, &raft->logger);

    rc = options->storage.initial_state(options->storage.ctx, &hard, &conf);
    if (rc == MS_OK) {
        rc = restore_members(raft, &conf);
    }
    if (rc == MS_OK) {
        rc = load_state(raft, &hard);
    }
    if (rc != MS_OK) {
        raft_destroy(raft);
        return rc;
    }
    core_role_become_follower(raft, raft->term, RAFT_NONE);
    log_start(raft);
    raft->last_soft = (struct raft_soft_state){.lead = raft->lead, .state = raft->state};
    raft->last_hard = (struct raft_hard_state){
        .term = raft->term, .vote = raft->vote, .commit = raft->log.committed};
    *out = raft;
    return MS_OK;
}

void raft_destroy(struct raft *raft)
{
    struct raft_alloc alloc;

    if (raft == NULL) {
        return;
    }
    alloc = raft->options.alloc;
    core_list_clear(&alloc, &raft->messages);
    core_list_clear(&alloc, &raft->after_append);
    core_list_clear(&alloc, &raft->on_advance);
    core_reads_fini(raft);
    tracker_fini(&alloc, &raft->tracker);
    raftlog_fini(&raft->log);
    alloc.free(alloc.ctx, raft);
}

/* ---- time ---- */

static void tick_follower(struct raft *raft)
{
    static const struct raft_message hup = {.type = RAFT_MSG_HUP};

    raft->election_elapsed++;
    if (core_promotable(raft) && raft->election_elapsed >= raft->election_timeout) {
        raft->election_elapsed = 0;
        (void)core_step_event(raft, &hup); /* MsgHup cannot fail */
    }
}

static void tick_leader(struct raft *raft)
{
    static const struct raft_message check = {.type = RAFT_MSG_CHECK_QUORUM};
    static const struct raft_message beat = {.type = RAFT_MSG_BEAT};

    raft->heartbeat_elapsed++;
    raft->election_elapsed++;
    if (raft->election_elapsed >= raft->options.election_ticks) {
        raft->election_elapsed = 0;
        if (raft->options.check_quorum) {
            (void)core_step_event(raft, &check); /* cannot fail */
        }
        /* A transfer that takes longer has failed: take proposals again (thesis 3.10). */
        raft->lead_transferee = RAFT_NONE;
    }
    if (raft->state == RAFT_STATE_LEADER &&
        raft->heartbeat_elapsed >= raft->options.heartbeat_ticks) {
        raft->heartbeat_elapsed = 0;
        (void)core_step_event(raft, &beat); /* cannot fail */
    }
}

int raft_tick(struct raft *raft)
{
    int rc = core_reserve(raft, 0, false);

    if (rc != MS_OK) {
        return rc;
    }
    if (raft->state == RAFT_STATE_LEADER) {
        tick_leader(raft);
    } else {
        tick_follower(raft);
    }
    return MS_OK;
}

/* ---- requests ---- */

/* An event of this node's own, without entries. */
static int step_own(struct raft *raft, const struct raft_message *message)
{
    int rc = core_reserve(raft, 0, false);

    return rc != MS_OK ? rc : core_step_event(raft, message);
}

int raft_campaign(struct raft *raft)
{
    struct raft_message message = {.type = RAFT_MSG_HUP};

    return step_own(raft, &message);
}

int raft_propose(struct raft *raft, const struct raft_entry *entries, size_t count)
{
    struct raft_message message = {.type = RAFT_MSG_PROP,
                                   .to = raft->id,
                                   .from = raft->id,
                                   .entries = {.entries = entries, .count = count}};

    return raft_step(raft, &message);
}

int raft_propose_conf_change(struct raft *raft, const struct raft_conf_change *change)
{
    struct raft_buffer *buffer = NULL;
    struct raft_entry entry = {.type =
                                   change->v1 ? RAFT_ENTRY_CONF_CHANGE : RAFT_ENTRY_CONF_CHANGE_V2};
    uint8_t *bytes;
    int rc = raft_conf_change_encode(change, NULL, 0, &entry.len_bytes);

    if (rc != MS_ERANGE) {
        return rc;
    }
    rc = raft_buffer_create(&raft->options.alloc, entry.len_bytes, &buffer, &bytes);
    if (rc != MS_OK) {
        return rc;
    }
    rc = raft_conf_change_encode(change, bytes, entry.len_bytes, &entry.len_bytes);
    if (rc == MS_OK) {
        entry.data = bytes;
        entry.owner = buffer;
        rc = raft_propose(raft, &entry, 1);
    }
    raft_buffer_release(buffer);
    return rc;
}

int raft_read_index(struct raft *raft, struct raft_read_id id)
{
    struct raft_message message = {.type = RAFT_MSG_READ_INDEX, .from = raft->id, .read_id = id};

    return step_own(raft, &message);
}

int raft_transfer_leader(struct raft *raft, node_id target)
{
    struct raft_message message = {.type = RAFT_MSG_TRANSFER_LEADER, .from = target};

    return step_own(raft, &message);
}

int raft_forget_leader(struct raft *raft)
{
    struct raft_message message = {.type = RAFT_MSG_FORGET_LEADER};

    return step_own(raft, &message);
}

void raft_step_down(struct raft *raft)
{
    if (raft->state == RAFT_STATE_LEADER) {
        core_role_become_follower(raft, raft->term, RAFT_NONE);
    }
}

int raft_report_unreachable(struct raft *raft, node_id peer)
{
    struct raft_message message = {.type = RAFT_MSG_UNREACHABLE, .from = peer};

    return step_own(raft, &message);
}

int raft_report_snapshot(struct raft *raft, node_id peer, bool failed)
{
    struct raft_message message = {.type = RAFT_MSG_SNAP_STATUS, .from = peer, .reject = failed};

    return step_own(raft, &message);
}

int raft_entries_available(struct raft *raft)
{
    int rc = MS_OK;

    raft->log.applying_fetch = false;
    for (size_t i = 0; i < raft->tracker.count && raft->state == RAFT_STATE_LEADER; i++) {
        struct progress *progress = &raft->tracker.peers[i];

        if (!progress->fetch_wait) {
            continue;
        }
        rc = core_reserve(raft, 0, false);
        if (rc != MS_OK) {
            break;
        }
        progress->fetch_wait = false;
        core_replicate_send_all(raft, progress);
    }
    return rc;
}

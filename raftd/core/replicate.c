/*
 * replicate: the leader's appends, heartbeats and commits (Raft 5.3, 5.4.2).
 */
#include "raftd/core/core.h"

const char *core_replicate_describe(const struct raft *raft, const struct progress *progress,
                                    char *dst)
{
    struct text text;

    core_text_init(&text, dst, PROGRESS_TEXT_MAX);
    if (core_logger_on(&raft->logger, RAFT_LOG_DEBUG)) {
        progress_text(&text, progress);
    }
    return dst;
}

/* ---- sending ---- */

/* The newest snapshot there is to send, as a new reference, or NULL. */
static struct raft_snapshot *newest_snapshot(struct raft *raft)
{
    const struct raftlog *log = &raft->log;
    struct raft_snapshot *snapshot = NULL;

    if (log->unstable.snapshot != NULL) {
        return raft_snapshot_ref(log->unstable.snapshot);
    }
    if (log->storage.snapshot(log->storage.ctx, &snapshot) != MS_OK) {
        return NULL;
    }
    if (snapshot->index == 0) { /* of nothing */
        raft_snapshot_release(snapshot);
        return NULL;
    }
    return snapshot;
}

static bool send_snapshot(struct raft *raft, struct progress *progress)
{
    char buffer[PROGRESS_TEXT_MAX];
    struct raft_snapshot *snapshot;

    /* A snapshot is too much to send to a member that may not be there. */
    if (!progress->recent_active) {
        core_log(raft, DEBUG, "ignore sending snapshot to %lx since it is not recently active",
                 progress->id);
        return false;
    }
    snapshot = newest_snapshot(raft);
    if (snapshot == NULL) {
        core_log(raft, DEBUG,
                 "%lx failed to send snapshot to %lx because snapshot is temporarily unavailable",
                 raft->id, progress->id);
        return false;
    }
    core_log(raft, DEBUG,
             "%lx [firstindex: %lu, commit: %lu] sent snapshot[index: %lu, term: %lu] to %lx [%s]",
             raft->id, raftlog_first_index(&raft->log), raft->log.committed, snapshot->index,
             snapshot->term, progress->id, core_replicate_describe(raft, progress, buffer));
    progress_become_snapshot(progress, snapshot->index);
    core_log(raft, DEBUG, "%lx paused sending replication messages to %lx [%s]", raft->id,
             progress->id, core_replicate_describe(raft, progress, buffer));
    core_outbox_push(raft, RAFT_MSG_SNAP, progress->id)->snapshot = snapshot;
    return true;
}

bool core_replicate_send(struct raft *raft, struct progress *progress, bool send_if_empty)
{
    struct raft_slice entries = {0};
    raft_index last = raftlog_last_index(&raft->log);
    struct raft_message *message;
    raft_term previous;

    if (progress_paused(progress)) {
        return false;
    }
    if (raftlog_term(&raft->log, progress->next - 1, &previous) != MS_OK) {
        return send_snapshot(raft, progress);
    }
    /*
     * A full window stops entries, not messages: if all that is in flight was lost, only an
     * empty message that gets answered sets things going again.
     */
    if (progress->next <= last &&
        (progress->state != RAFT_PROGRESS_REPLICATE || !inflights_full(&progress->inflights))) {
        int rc = raftlog_slice(&raft->log, progress->next, last + 1,
                               raft->options.max_message_bytes, &entries);

        if (rc == MS_ECOMPACTED) {
            return send_snapshot(raft, progress);
        }
        progress->fetch_wait = rc == MS_EAGAIN; /* else its next answer tries again */
        if (rc != MS_OK) {
            return false;
        }
    }
    if (entries.count == 0 && !send_if_empty) {
        return false;
    }
    message = core_outbox_push(raft, RAFT_MSG_APP, progress->id);
    message->index = progress->next - 1;
    message->log_term = previous;
    message->commit = raft->log.committed;
    message->entries = entries;
    progress_sent(progress, entries.count,
                  core_entries_payload_bytes(entries.entries, entries.count));
    progress->sent_commit = raft->log.committed;
    return true;
}

void core_replicate_send_all(struct raft *raft, struct progress *progress)
{
    /* If more is left, the next acknowledgement goes on with it. */
    for (size_t i = 0; i < RAFT_APPEND_BURST; i++) {
        if (!core_replicate_send(raft, progress, false)) {
            return;
        }
    }
}

void core_replicate_broadcast(struct raft *raft)
{
    for (size_t i = 0; i < raft->tracker.count; i++) {
        if (raft->tracker.peers[i].id != raft->id) {
            (void)core_replicate_send(raft, &raft->tracker.peers[i], true);
        }
    }
}

void core_replicate_heartbeat(struct raft *raft)
{
    uint64_t round = core_reads_round(raft);

    for (size_t i = 0; i < raft->tracker.count; i++) {
        struct progress *progress = &raft->tracker.peers[i];
        raft_index commit =
            progress->match < raft->log.committed ? progress->match : raft->log.committed;
        struct raft_message *message;

        if (progress->id == raft->id) {
            continue;
        }
        /* Nothing beyond match: the peer need not have it, or have something else there. */
        message = core_outbox_push(raft, RAFT_MSG_HEARTBEAT, progress->id);
        message->commit = commit;
        message->read_round = round;
        progress->sent_commit = commit;
    }
}

void core_replicate_timeout_now(struct raft *raft, node_id to)
{
    /* Its election does not wait for this leader's lease to end. */
    raft->lease_broken = true;
    (void)core_outbox_push(raft, RAFT_MSG_TIMEOUT_NOW, to);
}

/* ---- the leader's own log ---- */

bool core_replicate_commit(struct raft *raft)
{
    struct entry_id id = {.term = raft->term, .index = tracker_committed(&raft->tracker)};

    if (id.index <= raft->log.committed || !raftlog_match(&raft->log, id)) {
        return false;
    }
    raftlog_commit_to(&raft->log, id.index);
    return true;
}

/* An empty log tail takes a proposal of any size, and entries without data are never refused. */
static bool exceeds_uncommitted_limit(const struct raft *raft, uint64_t bytes)
{
    uint64_t limit = raft->options.max_uncommitted_bytes;

    return raft->uncommitted_bytes > 0 && bytes > 0 &&
           (raft->uncommitted_bytes >= limit || bytes > limit - raft->uncommitted_bytes);
}

bool core_replicate_append(struct raft *raft, const struct raft_entry *entries, size_t count)
{
    raft_index last = raftlog_last_index(&raft->log);
    uint64_t bytes = core_entries_payload_bytes(entries, count);
    struct raft_entry *staged;

    if (exceeds_uncommitted_limit(raft, bytes)) {
        core_log(raft, WARN,
                 "%lx appending new entries to log would exceed uncommitted entry size limit; "
                 "dropping proposal",
                 raft->id);
        return false;
    }
    raft->uncommitted_bytes += bytes;
    staged = unstable_stage(&raft->log.unstable, entries, count);
    for (size_t i = 0; i < count; i++) {
        staged[i].term = raft->term;
        staged[i].index = last + 1 + i;
    }
    raftlog_append(&raft->log, staged, count);
    /* Its own acknowledgement, like that of any member, waits for the disk. */
    core_outbox_push(raft, RAFT_MSG_APP_RESP, raft->id)->index = last + count;
    return true;
}

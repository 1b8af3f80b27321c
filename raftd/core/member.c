/*
 * member: configuration changes as they are applied (thesis chapter 4).
 */
#include <assert.h>

#include "raftd/core/confchange.h"
#include "raftd/core/core.h"

/* Frees the windows of peers that next does not carry on. */
static void free_lost_windows(struct raft *raft, const struct tracker *next)
{
    for (size_t i = 0; i < raft->tracker.count; i++) {
        struct progress *old = &raft->tracker.peers[i];
        const struct progress *kept = tracker_get(next, old->id);

        /* A member that was removed and added again starts with a window of its own. */
        if (kept == NULL || kept->inflights.ring != old->inflights.ring) {
            inflights_fini(&raft->options.alloc, &old->inflights);
        }
    }
}

static void log_conf(struct raft *raft)
{
    if (core_logger_on(&raft->logger, RAFT_LOG_INFO)) {
        char buffer[RAFT_LOG_LINE_MAX];
        struct text text;

        core_text_init(&text, buffer, sizeof(buffer));
        core_text_conf(&text, &raft->tracker.conf);
        core_log(raft, INFO, "%lx switched to configuration %s", raft->id, buffer);
    }
}

void core_member_switch(struct raft *raft, const struct tracker *next)
{
    const struct progress *own;

    free_lost_windows(raft, next);
    raft->tracker = *next;
    log_conf(raft);

    own = tracker_get(&raft->tracker, raft->id);
    raft->is_learner = own != NULL && own->is_learner;
    if (raft->state != RAFT_STATE_LEADER) {
        return;
    }
    if (own == NULL || own->is_learner) {
        if (raft->options.step_down_on_removal) {
            core_role_become_follower(raft, raft->term, RAFT_NONE);
        }
        return;
    }
    if (core_replicate_commit(raft)) {
        /* A smaller quorum has what the larger one was waiting for. */
        core_reads_release(raft);
        core_replicate_broadcast(raft);
    } else {
        for (size_t i = 0; i < raft->tracker.count; i++) {
            if (raft->tracker.peers[i].id != raft->id) {
                (void)core_replicate_send(raft, &raft->tracker.peers[i], false);
            }
        }
    }
    core_reads_advance(raft);
    if (!tracker_is_voter(&raft->tracker, raft->lead_transferee)) {
        raft->lead_transferee = RAFT_NONE;
    }
}

/* Gives every member that next adds a window to send into. */
static int reserve_windows(struct raft *raft, struct tracker *next)
{
    const struct raft_alloc *alloc = &raft->options.alloc;
    int rc = MS_OK;

    for (size_t i = 0; i < next->count && rc == MS_OK; i++) {
        if (next->peers[i].inflights.ring == NULL) {
            rc = inflights_reserve(alloc, &next->peers[i].inflights, 1);
        }
    }
    if (rc == MS_OK) {
        return MS_OK;
    }
    /* Only what was made here: the other windows are still the current configuration's. */
    for (size_t i = 0; i < next->count; i++) {
        struct progress *progress = &next->peers[i];
        const struct progress *current = tracker_get(&raft->tracker, progress->id);

        if (current == NULL || current->inflights.ring != progress->inflights.ring) {
            inflights_fini(alloc, &progress->inflights);
        }
    }
    return rc;
}

int raft_apply_conf_change(struct raft *raft, const struct raft_conf_change *change,
                           struct raft_conf_state *conf)
{
    const char *reason = "";
    struct tracker next;
    int rc = core_reserve(raft, 0, false);

    if (rc != MS_OK) {
        return rc;
    }
    next = raft->tracker;
    rc = confchange_apply(&next, raftlog_last_index(&raft->log), change, &reason);
    if (rc != MS_OK) {
        raft->conf_reason = reason;
        return rc;
    }
    /* core_reserve() counted the members of the current configuration. */
    rc = core_list_reserve(&raft->options.alloc, &raft->messages,
                           3 * next.count + raft->reads.count);
    if (rc == MS_OK) {
        rc = reserve_windows(raft, &next);
    }
    if (rc != MS_OK) {
        return rc;
    }
    core_member_switch(raft, &next);
    if (conf != NULL) {
        *conf = raft->tracker.conf;
    }
    return MS_OK;
}

const char *raft_conf_change_reason(const struct raft *raft)
{
    return raft->conf_reason;
}

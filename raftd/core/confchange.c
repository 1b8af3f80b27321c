/*
 * confchange: see confchange.h.
 */
#include "raftd/core/confchange.h"

#include <assert.h>
#include <string.h>

static bool is_joint(const struct tracker *tracker)
{
    return tracker->conf.voters_outgoing.count > 0;
}

/* ---- peers ---- */

static int add_peer(struct tracker *tracker, node_id id, raft_index last_index, bool is_learner)
{
    size_t at = 0;

    if (tracker->count == RAFT_MEMBERS_MAX) {
        return MS_EFULL;
    }
    while (at < tracker->count && tracker->peers[at].id < id) {
        at++;
    }
    memmove(&tracker->peers[at + 1], &tracker->peers[at],
            (tracker->count - at) * sizeof(tracker->peers[0]));
    tracker->count++;
    tracker->peers[at] = (struct progress){
        .id = id,
        .next = last_index > 0 ? last_index : 1,
        .state = RAFT_PROGRESS_PROBE,
        .is_learner = is_learner,
        /* It had no chance to be heard of yet; that must not count against the leader. */
        .recent_active = true,
        .inflights = {.max_count = tracker->max_inflight_messages,
                      .max_bytes = tracker->max_inflight_bytes},
    };
    return MS_OK;
}

static void remove_peer(struct tracker *tracker, node_id id)
{
    struct progress *progress = tracker_find(tracker, id);
    size_t at;

    if (progress == NULL) {
        return;
    }
    at = (size_t)(progress - tracker->peers);
    tracker->count--;
    memmove(progress, progress + 1, (tracker->count - at) * sizeof(*progress));
}

/* ---- single changes, always to the incoming half ---- */

static int make_voter(struct tracker *tracker, node_id id, raft_index last_index)
{
    struct progress *progress = tracker_find(tracker, id);

    if (progress == NULL) {
        int rc = add_peer(tracker, id, last_index, false);

        return rc != MS_OK ? rc : core_ids_add(&tracker->conf.voters, id);
    }
    progress->is_learner = false;
    core_ids_remove(&tracker->conf.learners, id);
    core_ids_remove(&tracker->conf.learners_next, id);
    return core_ids_add(&tracker->conf.voters, id);
}

static void drop_from_incoming(struct tracker *tracker, node_id id)
{
    core_ids_remove(&tracker->conf.voters, id);
    core_ids_remove(&tracker->conf.learners, id);
    core_ids_remove(&tracker->conf.learners_next, id);
}

static int make_learner(struct tracker *tracker, node_id id, raft_index last_index)
{
    struct progress *progress = tracker_find(tracker, id);

    if (progress == NULL) {
        int rc = add_peer(tracker, id, last_index, true);

        return rc != MS_OK ? rc : core_ids_add(&tracker->conf.learners, id);
    }
    if (progress->is_learner) {
        return MS_OK;
    }
    drop_from_incoming(tracker, id);
    /* A member is never voter and learner at once, so a voter of the outgoing half waits. */
    if (core_ids_contain(&tracker->conf.voters_outgoing, id)) {
        return core_ids_add(&tracker->conf.learners_next, id);
    }
    progress->is_learner = true;
    return core_ids_add(&tracker->conf.learners, id);
}

static void remove_member(struct tracker *tracker, node_id id)
{
    drop_from_incoming(tracker, id);
    if (!core_ids_contain(&tracker->conf.voters_outgoing, id)) {
        remove_peer(tracker, id);
    }
}

static int apply_changes(struct tracker *tracker, raft_index last_index,
                         const struct raft_change *changes, size_t count, const char **reason)
{
    for (size_t i = 0; i < count; i++) {
        node_id id = changes[i].id;
        int rc = MS_OK;

        if (id == RAFT_NONE) {
            continue;
        }
        switch (changes[i].type) {
        case RAFT_ADD_VOTER:
            rc = make_voter(tracker, id, last_index);
            break;
        case RAFT_ADD_LEARNER:
            rc = make_learner(tracker, id, last_index);
            break;
        case RAFT_REMOVE_MEMBER:
            remove_member(tracker, id);
            break;
        case RAFT_UPDATE_MEMBER:
            break;
        }
        if (rc != MS_OK) {
            *reason = "too many members";
            return MS_EINVAL;
        }
    }
    if (tracker->conf.voters.count == 0) {
        *reason = "removed all voters";
        return MS_EINVAL;
    }
    return MS_OK;
}

/* ---- whole changes ---- */

/* How many ids are in exactly one of both. */
static size_t difference(const struct raft_ids *a, const struct raft_ids *b)
{
    size_t count = 0;

    for (size_t i = 0; i < a->count; i++) {
        count += !core_ids_contain(b, a->ids[i]);
    }
    for (size_t i = 0; i < b->count; i++) {
        count += !core_ids_contain(a, b->ids[i]);
    }
    return count;
}

int confchange_simple(struct tracker *tracker, raft_index last_index,
                      const struct raft_change *changes, size_t count, const char **reason)
{
    struct raft_ids before = tracker->conf.voters;
    int rc;

    if (is_joint(tracker)) {
        *reason = "can't apply simple config change in joint config";
        return MS_EINVAL;
    }
    rc = apply_changes(tracker, last_index, changes, count, reason);
    if (rc != MS_OK) {
        return rc;
    }
    /* Majorities of sets that differ by one overlap; by more, they need not (thesis 4.1). */
    if (difference(&before, &tracker->conf.voters) > 1) {
        *reason = "more than one voter changed without entering joint config";
        return MS_EINVAL;
    }
    return MS_OK;
}

int confchange_enter_joint(struct tracker *tracker, raft_index last_index, bool auto_leave,
                           const struct raft_change *changes, size_t count, const char **reason)
{
    int rc;

    if (is_joint(tracker)) {
        *reason = "config is already joint";
        return MS_EINVAL;
    }
    if (tracker->conf.voters.count == 0) {
        *reason = "can't make a zero-voter config joint";
        return MS_EINVAL;
    }
    tracker->conf.voters_outgoing = tracker->conf.voters;
    rc = apply_changes(tracker, last_index, changes, count, reason);
    if (rc != MS_OK) {
        return rc;
    }
    tracker->conf.auto_leave = auto_leave;
    return MS_OK;
}

int confchange_leave_joint(struct tracker *tracker, const char **reason)
{
    struct raft_conf_state *conf = &tracker->conf;
    struct raft_ids outgoing = conf->voters_outgoing;

    if (!is_joint(tracker)) {
        *reason = "can't leave a non-joint config";
        return MS_EINVAL;
    }
    for (size_t i = 0; i < conf->learners_next.count; i++) {
        node_id id = conf->learners_next.ids[i];
        struct progress *progress = tracker_find(tracker, id);

        assert(progress != NULL);
        progress->is_learner = true;
        (void)core_ids_add(&conf->learners, id); /* fits: learners are members */
    }
    conf->learners_next.count = 0;
    conf->voters_outgoing.count = 0;
    conf->auto_leave = false;
    for (size_t i = 0; i < outgoing.count; i++) {
        node_id id = outgoing.ids[i];

        if (!core_ids_contain(&conf->voters, id) && !core_ids_contain(&conf->learners, id)) {
            remove_peer(tracker, id);
        }
    }
    return MS_OK;
}

bool raft_conf_change_leaves(const struct raft_conf_change *change)
{
    return change->transition == RAFT_TRANSITION_AUTO && change->count == 0;
}

int confchange_apply(struct tracker *tracker, raft_index last_index,
                     const struct raft_conf_change *change, const char **reason)
{
    if (change->count > RAFT_CHANGES_MAX) {
        *reason = "too many changes";
        return MS_EINVAL;
    }
    if (raft_conf_change_leaves(change)) {
        return confchange_leave_joint(tracker, reason);
    }
    if (change->transition != RAFT_TRANSITION_AUTO || change->count > 1) {
        bool auto_leave = change->transition != RAFT_TRANSITION_EXPLICIT;

        return confchange_enter_joint(tracker, last_index, auto_leave, change->changes,
                                      change->count, reason);
    }
    return confchange_simple(tracker, last_index, change->changes, change->count, reason);
}

/* ---- from a stored configuration ---- */

static bool same_members(const struct raft_ids *given, const struct raft_ids *built)
{
    if (given->count != built->count) {
        return false;
    }
    for (size_t i = 0; i < given->count; i++) {
        if (!core_ids_contain(built, given->ids[i])) {
            return false;
        }
    }
    return true;
}

static bool ids_valid(const struct raft_ids *ids)
{
    return ids->count <= RAFT_MEMBERS_MAX && !core_ids_contain(ids, RAFT_NONE);
}

static int apply_each(struct tracker *tracker, raft_index last_index, enum raft_change_type type,
                      const struct raft_ids *ids, const char **reason)
{
    for (size_t i = 0; i < ids->count; i++) {
        struct raft_change change = {.type = type, .id = ids->ids[i]};
        int rc = confchange_simple(tracker, last_index, &change, 1, reason);

        if (rc != MS_OK) {
            return rc;
        }
    }
    return MS_OK;
}

/* In place of the outgoing voters come the incoming ones; then the learners of both kinds. */
static int enter_incoming(struct tracker *tracker, raft_index last_index,
                          const struct raft_conf_state *conf, const char **reason)
{
    const struct raft_ids *lists[] = {&conf->voters_outgoing, &conf->voters, &conf->learners,
                                      &conf->learners_next};
    static const enum raft_change_type types[] = {RAFT_REMOVE_MEMBER, RAFT_ADD_VOTER,
                                                  RAFT_ADD_LEARNER, RAFT_ADD_LEARNER};
    struct raft_change changes[4 * RAFT_MEMBERS_MAX];
    size_t count = 0;

    for (size_t l = 0; l < 4; l++) {
        for (size_t i = 0; i < lists[l]->count; i++) {
            changes[count++] = (struct raft_change){.type = types[l], .id = lists[l]->ids[i]};
        }
    }
    return confchange_enter_joint(tracker, last_index, conf->auto_leave, changes, count, reason);
}

int confchange_restore(struct tracker *tracker, raft_index last_index,
                       const struct raft_conf_state *conf, const char **reason)
{
    int rc;

    assert(tracker->count == 0);
    if (!ids_valid(&conf->voters) || !ids_valid(&conf->voters_outgoing) ||
        !ids_valid(&conf->learners) || !ids_valid(&conf->learners_next)) {
        *reason = "stored configuration has invalid members";
        return MS_EINVAL;
    }
    memset(&tracker->conf, 0, sizeof(tracker->conf));
    if (conf->voters_outgoing.count > 0) {
        rc = apply_each(tracker, last_index, RAFT_ADD_VOTER, &conf->voters_outgoing, reason);
        if (rc == MS_OK) {
            rc = enter_incoming(tracker, last_index, conf, reason);
        }
    } else {
        rc = apply_each(tracker, last_index, RAFT_ADD_VOTER, &conf->voters, reason);
        if (rc == MS_OK) {
            rc = apply_each(tracker, last_index, RAFT_ADD_LEARNER, &conf->learners, reason);
        }
    }
    if (rc != MS_OK) {
        return rc;
    }
    if (!same_members(&conf->voters, &tracker->conf.voters) ||
        !same_members(&conf->voters_outgoing, &tracker->conf.voters_outgoing) ||
        !same_members(&conf->learners, &tracker->conf.learners) ||
        !same_members(&conf->learners_next, &tracker->conf.learners_next) ||
        conf->auto_leave != tracker->conf.auto_leave) {
        *reason = "stored configuration contradicts itself";
        return MS_EINVAL;
    }
    return MS_OK;
}

/*
 * publisher: see publisher.h.
 */
#include "raftd/publisher.h"

#include <string.h>

void publisher_init(struct publisher *publisher, struct ms_status_page *page,
                    struct ms_metrics *metrics)
{
    memset(publisher, 0, sizeof(*publisher));
    publisher->page = page;
    publisher->metrics = metrics;
}

void publisher_set_members(struct publisher *publisher, const struct membership *membership)
{
    membership_to_status(membership, &publisher->status);
    publisher->members_changed = true;
}

static enum ms_raft_role role_of(enum raft_state state)
{
    switch (state) {
    case RAFT_STATE_FOLLOWER:
        return MS_RAFT_FOLLOWER;
    case RAFT_STATE_PRE_CANDIDATE:
        return MS_RAFT_PRE_CANDIDATE;
    case RAFT_STATE_CANDIDATE:
        return MS_RAFT_CANDIDATE;
    case RAFT_STATE_LEADER:
        return MS_RAFT_LEADER;
    }
    return MS_RAFT_NONE;
}

/*
 * The commit index that outlives this process. After both raftd and storaged died, it is held
 * against the log on disk: a follower's log may still end in entries of an older term that the
 * leader has replaced, so there only what is durable here counts. A leader never replaces entries.
 */
static raft_index commit_to_publish(const struct raft_basic_status *basic,
                                    const struct publisher_facts *facts, raft_index published)
{
    if (basic->state == RAFT_STATE_LEADER || basic->commit <= facts->durable_index) {
        return basic->commit;
    }
    /* A snapshot replaces everything, but what was committed stays so. */
    return facts->durable_index > published ? facts->durable_index : published;
}

static void update_metrics(struct publisher *publisher, const struct raft_basic_status *basic)
{
    if (publisher->metrics == NULL) {
        return;
    }
    ms_metrics_set(publisher->metrics, MS_METRIC_RAFT_TERM, basic->term);
    ms_metrics_set(publisher->metrics, MS_METRIC_RAFT_COMMIT, basic->commit);
    ms_metrics_set(publisher->metrics, MS_METRIC_RAFT_IS_LEADER,
                   basic->state == RAFT_STATE_LEADER ? 1 : 0);
    ms_metrics_set(publisher->metrics, MS_METRIC_RAFT_HAS_LEADER, basic->lead != 0 ? 1 : 0);
}

/* Takes the new value; tells whether it differs. */
#define REPLACE(field, value, changed) \
    do {                               \
        if ((field) != (value)) {      \
            (field) = (value);         \
            (changed) = true;          \
        }                              \
    } while (0)

void publisher_update(struct publisher *publisher, const struct raft_basic_status *basic,
                      const struct publisher_facts *facts)
{
    struct ms_raft_status *status = &publisher->status;
    bool changed = publisher->members_changed || !publisher->written;
    raft_index commit = commit_to_publish(basic, facts, status->commit);
    uint32_t role = (uint32_t)role_of(basic->state);
    uint64_t leaderless_since_ns = basic->lead != 0 ? 0 : facts->leaderless_since.ns;
    /*
     * The only voter answers reads without asking anybody, but not before an entry of its own term
     * is committed: until then what it acknowledged in an earlier life may lie above its commit.
     * Nor before the state machine knows that it is alone: whoever was a member until then may have
     * answered writes that are not applied here yet.
     */
    bool sole_voter = basic->sole_voter && basic->state == RAFT_STATE_LEADER &&
                      basic->term_committed && facts->conf_applied;

    REPLACE(status->self, basic->id, changed);
    REPLACE(status->leader, basic->lead, changed);
    REPLACE(status->term, basic->term, changed);
    REPLACE(status->commit, commit, changed);
    REPLACE(status->first_index, facts->log_first_index, changed);
    REPLACE(status->last_index, basic->last_index, changed);
    REPLACE(status->lease_end_ns, facts->lease_end.ns, changed);
    REPLACE(status->leaderless_since_ns, leaderless_since_ns, changed);
    REPLACE(status->role, role, changed);
    REPLACE(status->sole_voter, sole_voter ? 1u : 0u, changed);
    REPLACE(status->log_full, facts->log_full ? 1u : 0u, changed);
    if (!changed) {
        return;
    }
    ms_status_page_write(publisher->page, status, publisher->members_changed);
    publisher->members_changed = false;
    publisher->written = true;
    update_metrics(publisher, basic);
}

void publisher_count(struct publisher *publisher, enum ms_metric metric, uint64_t delta)
{
    if (publisher->metrics != NULL) {
        ms_metrics_add(publisher->metrics, metric, delta);
    }
}

void publisher_gauge(struct publisher *publisher, enum ms_metric metric, uint64_t value)
{
    if (publisher->metrics != NULL) {
        ms_metrics_set(publisher->metrics, metric, value);
    }
}

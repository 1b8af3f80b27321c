/*
 * role: becoming follower, candidate or leader, and elections (Raft 5.2, thesis 9.6).
 */
#include <assert.h>
#include <string.h>

#include "raftd/core/core.h"

/* ---- roles ---- */

static void reset(struct raft *raft, raft_term term)
{
    raft_index last = raftlog_last_index(&raft->log);

    if (raft->term != term) {
        raft->term = term;
        raft->vote = RAFT_NONE;
    }
    raft->lead = RAFT_NONE;
    raft->lead_transferee = RAFT_NONE;
    raft->election_elapsed = 0;
    raft->heartbeat_elapsed = 0;
    raft->election_timeout =
        raft->options.election_ticks +
        raft->options.draw(raft->options.draw_ctx, raft->options.election_ticks);
    for (size_t i = 0; i < raft->tracker.count; i++) {
        struct progress *progress = &raft->tracker.peers[i];

        progress_reset(progress, progress->id == raft->id ? last : 0, last + 1);
    }
    raft->pending_conf_index = 0;
    raft->uncommitted_bytes = 0;
    raft->lease_broken = false;
    core_reads_reset(raft);
}

void core_role_become_follower(struct raft *raft, raft_term term, node_id lead)
{
    reset(raft, term);
    raft->lead = lead;
    raft->state = RAFT_STATE_FOLLOWER;
    core_log(raft, INFO, "%lx became follower at term %lu", raft->id, raft->term);
}

static void become_candidate(struct raft *raft)
{
    assert(raft->state != RAFT_STATE_LEADER);
    reset(raft, raft->term + 1);
    raft->vote = raft->id;
    raft->state = RAFT_STATE_CANDIDATE;
    core_log(raft, INFO, "%lx became candidate at term %lu", raft->id, raft->term);
}

static void become_pre_candidate(struct raft *raft)
{
    assert(raft->state != RAFT_STATE_LEADER);
    /* A question, not a candidacy: neither term nor vote change. */
    tracker_reset_votes(&raft->tracker);
    raft->lead = RAFT_NONE;
    raft->state = RAFT_STATE_PRE_CANDIDATE;
    core_log(raft, INFO, "%lx became pre-candidate at term %lu", raft->id, raft->term);
}

void core_role_become_leader(struct raft *raft)
{
    struct raft_entry empty = {.type = RAFT_ENTRY_NORMAL};
    struct progress *own;
    bool appended;

    assert(raft->state == RAFT_STATE_CANDIDATE);
    reset(raft, raft->term);
    raft->lead = raft->id;
    raft->state = RAFT_STATE_LEADER;
    own = tracker_find(&raft->tracker, raft->id);
    assert(own != NULL);
    progress_become_replicate(own);
    own->recent_active = true;
    /* There may be an unapplied change in what was inherited; waiting is cheaper than looking. */
    raft->pending_conf_index = raftlog_last_index(&raft->log);
    /* Only an entry of its own term lets a leader commit anything (Raft 5.4.2). */
    appended = core_replicate_append(raft, &empty, 1);
    assert(appended);
    (void)appended;
    core_log(raft, INFO, "%lx became leader at term %lu", raft->id, raft->term);
}

/* ---- campaigning ---- */

/* See core_role_learn_commit(). */
static void attach_commit(const struct raft *raft, struct raft_message *message)
{
    message->commit = raft->log.committed;
    message->commit_term = raftlog_term_or_zero(&raft->log, raft->log.committed);
}

static void send_vote_requests(struct raft *raft, enum campaign_kind kind, raft_term term)
{
    bool pre = kind == CAMPAIGN_PRE_VOTE;
    enum raft_message_type request = pre ? RAFT_MSG_PRE_VOTE : RAFT_MSG_VOTE;
    enum raft_message_type response = pre ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP;
    struct entry_id last = raftlog_last_id(&raft->log);
    struct raft_ids voters;

    tracker_voters(&raft->tracker, &voters);
    for (size_t i = 0; i < voters.count; i++) {
        node_id id = voters.ids[i];
        struct raft_message *message;

        if (id == raft->id) {
            /* The own vote, too, counts only once it is on disk. */
            core_outbox_push(raft, response, id)->term = term;
            continue;
        }
        core_log(raft, INFO, "%lx [logterm: %lu, index: %lu] sent %s request to %lx at term %lu",
                 raft->id, last.term, last.index, raft_message_name(request), id, raft->term);
        message = core_outbox_push(raft, request, id);
        message->term = term;
        message->index = last.index;
        message->log_term = last.term;
        message->by_transfer = kind == CAMPAIGN_TRANSFER;
        attach_commit(raft, message);
    }
}

static void campaign(struct raft *raft, enum campaign_kind kind)
{
    if (kind == CAMPAIGN_PRE_VOTE) {
        become_pre_candidate(raft);
        send_vote_requests(raft, kind, raft->term + 1);
    } else {
        become_candidate(raft);
        send_vote_requests(raft, kind, raft->term);
    }
}

enum pending_change {
    PENDING_NO,
    PENDING_YES,
    PENDING_UNKNOWN, /* the entries are not in memory */
};

/* Looks for a committed change that is not applied, in pages of bounded size. */
static enum pending_change find_pending_change(const struct raft *raft)
{
    const struct raftlog *log = &raft->log;
    raft_index at = log->applied + 1;

    while (at <= log->committed) {
        struct raft_slice page = {0};
        bool found = false;

        if (raftlog_slice(log, at, log->committed + 1, log->max_applying_bytes, &page) != MS_OK) {
            return PENDING_UNKNOWN;
        }
        for (size_t i = 0; i < page.count && !found; i++) {
            found = page.entries[i].type != RAFT_ENTRY_NORMAL;
        }
        at += page.count;
        raft_slice_release(&page);
        if (found) {
            return PENDING_YES;
        }
    }
    return PENDING_NO;
}

void core_role_hup(struct raft *raft, enum campaign_kind kind)
{
    if (raft->state == RAFT_STATE_LEADER) {
        core_log(raft, DEBUG, "%lx ignoring MsgHup because already leader", raft->id);
        return;
    }
    if (!core_promotable(raft)) {
        core_log(raft, WARN, "%lx is unpromotable and can not campaign", raft->id);
        return;
    }
    /* Who elects is decided by the configuration, so it has to be known first. */
    switch (find_pending_change(raft)) {
    case PENDING_NO:
        break;
    case PENDING_YES:
        core_log(raft, WARN,
                 "%lx cannot campaign at term %lu since there are still pending configuration "
                 "changes to apply",
                 raft->id, raft->term);
        return;
    case PENDING_UNKNOWN:
        core_log(raft, WARN,
                 "%lx cannot campaign at term %lu since committed entries are still to be read",
                 raft->id, raft->term);
        return;
    }
    core_log(raft, INFO, "%lx is starting a new election at term %lu", raft->id, raft->term);
    campaign(raft, kind);
}

/*
 * Others may have elected a candidate before its own term and vote are on disk. If it led already,
 * and then lost them with what it had sent, it could be elected by the same votes a second time and
 * propose other entries under the same indexes and term (Raft 5.2: one leader in a term).
 */
static bool own_vote_durable(const struct raft *raft)
{
    const struct progress *own = tracker_get(&raft->tracker, raft->id);

    return own != NULL && own->vote == QUORUM_VOTE_YES;
}

void core_role_count_vote(struct raft *raft, const struct raft_message *message)
{
    const char *name = raft_message_name(message->type);
    size_t granted;
    size_t rejected;
    enum quorum_result result;

    core_log(raft, INFO,
             message->reject ? "%lx received %s rejection from %lx at term %lu"
                             : "%lx received %s from %lx at term %lu",
             raft->id, name, message->from, raft->term);
    tracker_record_vote(&raft->tracker, message->from, !message->reject);
    result = tracker_tally(&raft->tracker, &granted, &rejected);
    core_log(raft, INFO, "%lx has received %lu %s votes and %lu vote rejections", raft->id,
             (uint64_t)granted, name, (uint64_t)rejected);
    switch (result) {
    case QUORUM_PENDING:
        break;
    case QUORUM_WON:
        if (raft->state == RAFT_STATE_PRE_CANDIDATE) {
            campaign(raft, CAMPAIGN_VOTE);
        } else if (own_vote_durable(raft)) {
            core_role_become_leader(raft);
            core_replicate_broadcast(raft);
        }
        break;
    case QUORUM_LOST:
        core_role_become_follower(raft, raft->term, RAFT_NONE);
        break;
    }
}

/* ---- voting ---- */

void core_role_answer_vote(struct raft *raft, const struct raft_message *message)
{
    bool pre = message->type == RAFT_MSG_PRE_VOTE;
    struct entry_id last = raftlog_last_id(&raft->log);
    struct entry_id theirs = {.term = message->log_term, .index = message->index};
    bool free_to_vote = raft->vote == message->from ||
                        (raft->vote == RAFT_NONE && raft->lead == RAFT_NONE) ||
                        (pre && message->term > raft->term);
    bool granted = free_to_vote && raftlog_up_to_date(&raft->log, theirs);
    struct raft_message *response;

    /*
     * Learners answer, too: this one may have been made a voter by a change it does not know of
     * yet, and its vote be the one that is needed.
     */
    core_log(raft, INFO,
             granted ? "%lx [logterm: %lu, index: %lu, vote: %lx] cast %s for %lx [logterm: %lu, "
                       "index: %lu] at term %lu"
                     : "%lx [logterm: %lu, index: %lu, vote: %lx] rejected %s from %lx [logterm: "
                       "%lu, index: %lu] at term %lu",
             raft->id, last.term, last.index, raft->vote, raft_message_name(message->type),
             message->from, theirs.term, theirs.index, raft->term);
    response =
        core_outbox_push(raft, pre ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP, message->from);
    if (!granted) {
        response->reject = true;
        attach_commit(raft, response);
        return;
    }
    /* A pre-vote is granted for the term asked for, which is not this node's. */
    response->term = message->term;
    if (!pre) {
        raft->election_elapsed = 0;
        raft->vote = message->from;
    }
}

/*
 * A change counts for a member once it knows that the change is committed, so for a while
 * members differ about who elects. That may last for ever: a leader that has removed or demoted
 * itself, and is the only one who knows, may not campaign any more, while those who still need
 * its vote do not get it because its log is longer than theirs. Likewise the longest log may be
 * that of a new voter who does not know yet that it is one. So votes tell what is committed;
 * it is so in every term, and equal terms at an index mean equal logs up to it (Raft 5.3).
 */
void core_role_learn_commit(struct raft *raft, const struct raft_message *message)
{
    struct entry_id id = {.term = message->commit_term, .index = message->commit};

    /* A leader finds out by itself, and its reads depend on when. */
    if (id.term == 0 || id.index <= raft->log.committed || raft->state == RAFT_STATE_LEADER ||
        !raftlog_match(&raft->log, id)) {
        return;
    }
    raftlog_commit_to(&raft->log, id.index);
    core_log(raft, INFO, "%lx [term %lu] learned from %s of %lx that index %lu is committed",
             raft->id, raft->term, raft_message_name(message->type), message->from, id.index);
    /* Votes are counted by one configuration: with a new one the election starts again. */
    if (raft->state != RAFT_STATE_FOLLOWER && find_pending_change(raft) != PENDING_NO) {
        core_role_become_follower(raft, raft->term, RAFT_NONE);
    }
}

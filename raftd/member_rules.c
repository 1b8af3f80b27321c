/*
 * member_rules: see member_rules.h.
 */
#include "raftd/member_rules.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/peer_url.h"

/* A learner has caught up when it has so many tenths of what is committed. */
#define READY_TENTHS 9u

static enum ms_member_code refuse(char *text, enum ms_member_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum ms_member_code refuse(char *text, enum ms_member_code code, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, MS_MEMBER_TEXT_BYTES, format, arguments);
    va_end(arguments);
    return code;
}

/* ---- the wish alone ---- */

static bool needs_url(enum ms_member_operation operation)
{
    return operation == MS_MEMBER_ADD_VOTER || operation == MS_MEMBER_ADD_LEARNER ||
           operation == MS_MEMBER_UPDATE_URL;
}

enum ms_member_code member_rules_check(struct member_wish *wish, bool has_key, char *text)
{
    struct ms_peer_url url;

    if (wish->operation < MS_MEMBER_ADD_VOTER || wish->operation > MS_MEMBER_TRANSFER) {
        return refuse(text, MS_MEMBER_INVALID, "there is no such operation on members");
    }
    if ((wish->id == 0 && wish->operation != MS_MEMBER_TRANSFER) || wish->id > INT64_MAX) {
        return refuse(text, MS_MEMBER_INVALID,
                      "a member's id is a number from 1 to %" PRId64 ", not %" PRIu64, INT64_MAX,
                      wish->id);
    }
    if (!needs_url(wish->operation)) {
        wish->peer_url[0] = '\0';
        return MS_MEMBER_OK;
    }
    if (ms_peer_url_parse(wish->peer_url, strlen(wish->peer_url), &url) != MS_OK) {
        return refuse(text, MS_MEMBER_INVALID, "the peer URL is not like http://HOST:PORT: %.120s",
                      wish->peer_url);
    }
    memcpy(wish->peer_url, url.text, sizeof(wish->peer_url));
    if (!has_key && !ms_peer_url_is_loopback(&url)) {
        return refuse(text, MS_MEMBER_INVALID,
                      "%.120s is not on this machine, which needs a cluster key "
                      "(--cluster-key-file)",
                      wish->peer_url);
    }
    return MS_MEMBER_OK;
}

/* ---- members and quorums ---- */

static const struct ms_conf_member *find(const struct ms_conf_state *conf, node_id id)
{
    for (uint32_t i = 0; i < conf->member_count; i++) {
        if (conf->members[i].id == id) {
            return &conf->members[i];
        }
    }
    return NULL;
}

static bool is_voter(const struct ms_conf_member *member)
{
    return (member->flags & MS_CONF_VOTER) != 0;
}

static bool is_there(const struct member_facts *facts, node_id id)
{
    return id == facts->status->basic.id || facts->is_connected(facts->ctx, id);
}

/* Voters, and how many of them can be reached, but for one id (0: none). */
struct votes {
    size_t voters;
    size_t there;
};

static struct votes count_votes(const struct member_facts *facts, node_id but)
{
    struct votes votes = {0};

    for (uint32_t i = 0; i < facts->conf->member_count; i++) {
        const struct ms_conf_member *member = &facts->conf->members[i];

        if (is_voter(member) && member->id != but) {
            votes.voters++;
            votes.there += is_there(facts, member->id) ? 1 : 0;
        }
    }
    return votes;
}

static size_t quorum(size_t voters)
{
    return voters / 2 + 1;
}

/* ---- decisions ---- */

static enum ms_member_code decide_url(const struct member_facts *facts,
                                      const struct member_wish *wish, char *text)
{
    for (uint32_t i = 0; i < facts->conf->member_count; i++) {
        const struct ms_conf_member *member = &facts->conf->members[i];

        if (member->id != wish->id && strcmp(member->peer_url, wish->peer_url) == 0) {
            return refuse(text, MS_MEMBER_CONFLICT, "member %" PRIu64 " has the URL %.120s already",
                          member->id, wish->peer_url);
        }
    }
    return MS_MEMBER_OK;
}

/* One more voter, that may not be there yet: would there still be a quorum of those who are? */
static enum ms_member_code decide_growth(const struct member_facts *facts, bool newcomer_is_there,
                                         char *text)
{
    struct votes votes = count_votes(facts, 0);
    size_t there = votes.there + (newcomer_is_there ? 1 : 0);

    if (votes.there < votes.voters && there < quorum(votes.voters + 1)) {
        return refuse(text, MS_MEMBER_NOT_READY,
                      "only %zu of %zu voters can be reached: another one would cost the quorum",
                      votes.there, votes.voters);
    }
    return MS_MEMBER_OK;
}

static enum ms_member_code decide_add(const struct member_facts *facts,
                                      const struct member_wish *wish, struct member_decision *out)
{
    const struct ms_conf_member *known = find(facts->conf, wish->id);
    bool voter = wish->operation == MS_MEMBER_ADD_VOTER;
    enum ms_member_code code;

    if (known != NULL) {
        return refuse(out->text, MS_MEMBER_CONFLICT,
                      "member %" PRIu64 " exists already, a %s with the URL %.120s", wish->id,
                      is_voter(known) ? "voter" : "learner", known->peer_url);
    }
    code = decide_url(facts, wish, out->text);
    if (code == MS_MEMBER_OK && facts->conf->member_count >= MS_STATUS_MEMBERS_MAX) {
        code = refuse(out->text, MS_MEMBER_NOT_READY,
                      "the cluster has %d members, which is all "
                      "it may have",
                      MS_STATUS_MEMBERS_MAX);
    }
    if (code == MS_MEMBER_OK && voter) {
        code = decide_growth(facts, false, out->text);
    }
    out->action = MEMBER_PROPOSE;
    out->change =
        (struct raft_change){.type = voter ? RAFT_ADD_VOTER : RAFT_ADD_LEARNER, .id = wish->id};
    return code;
}

static const struct raft_progress_status *find_progress(const struct raft_status *status,
                                                        node_id id)
{
    for (size_t i = 0; i < status->progress_count; i++) {
        if (status->progress[i].id == id) {
            return &status->progress[i];
        }
    }
    return NULL;
}

static enum ms_member_code decide_promotion(const struct member_facts *facts,
                                            const struct ms_conf_member *member,
                                            struct member_decision *out)
{
    const struct raft_progress_status *progress = find_progress(facts->status, member->id);
    raft_index commit = facts->status->basic.commit;

    if (is_voter(member)) {
        return refuse(out->text, MS_MEMBER_CONFLICT, "member %" PRIu64 " is a voter already",
                      member->id);
    }
    if (!is_there(facts, member->id)) {
        return refuse(out->text, MS_MEMBER_NOT_READY, "learner %" PRIu64 " cannot be reached",
                      member->id);
    }
    if (progress == NULL || progress->match < commit - commit / 10 * (10 - READY_TENTHS)) {
        return refuse(out->text, MS_MEMBER_NOT_READY,
                      "learner %" PRIu64 " has not caught up: it has the log up to entry %" PRIu64
                      " of %" PRIu64,
                      member->id, progress != NULL ? progress->match : 0, commit);
    }
    out->action = MEMBER_PROPOSE;
    out->change = (struct raft_change){.type = RAFT_ADD_VOTER, .id = member->id};
    return decide_growth(facts, true, out->text);
}

static enum ms_member_code decide_removal(const struct member_facts *facts,
                                          const struct ms_conf_member *member,
                                          struct member_decision *out)
{
    struct votes votes = count_votes(facts, member->id);

    out->action = MEMBER_PROPOSE;
    out->change = (struct raft_change){.type = RAFT_REMOVE_MEMBER, .id = member->id};
    if (!is_voter(member)) {
        return MS_MEMBER_OK;
    }
    if (votes.voters == 0) {
        return refuse(out->text, MS_MEMBER_NOT_READY, "member %" PRIu64 " is the last voter",
                      member->id);
    }
    if (votes.there < quorum(votes.voters)) {
        return refuse(out->text, MS_MEMBER_NOT_READY,
                      "without member %" PRIu64 " only %zu of %zu voters can be reached, which is "
                      "no quorum",
                      member->id, votes.there, votes.voters);
    }
    return MS_MEMBER_OK;
}

static enum ms_member_code decide_update(const struct member_facts *facts,
                                         const struct ms_conf_member *member,
                                         const struct member_wish *wish,
                                         struct member_decision *out)
{
    bool same = strcmp(member->peer_url, wish->peer_url) == 0;

    out->action = same ? MEMBER_NOTHING : MEMBER_PROPOSE;
    out->change = (struct raft_change){.type = RAFT_UPDATE_MEMBER, .id = member->id};
    return decide_url(facts, wish, out->text);
}

/* The voter that can be reached and has most of the log; 0 if there is none. */
static node_id best_successor(const struct member_facts *facts)
{
    const struct raft_status *status = facts->status;
    const struct raft_progress_status *best = NULL;

    for (size_t i = 0; i < status->progress_count; i++) {
        const struct raft_progress_status *progress = &status->progress[i];

        if (progress->id != status->basic.id && !progress->is_learner &&
            is_there(facts, progress->id) && (best == NULL || progress->match > best->match)) {
            best = progress;
        }
    }
    return best != NULL ? best->id : 0;
}

static enum ms_member_code decide_transfer(const struct member_facts *facts,
                                           const struct ms_conf_member *member,
                                           struct member_decision *out)
{
    out->action = MEMBER_TRANSFER;
    if (member == NULL) {
        out->target = best_successor(facts);
        return out->target != 0 ? MS_MEMBER_OK
                                : refuse(out->text, MS_MEMBER_NOT_READY,
                                         "there is no other voter that can be reached");
    }
    out->target = member->id;
    if (!is_voter(member)) {
        return refuse(out->text, MS_MEMBER_NOT_READY,
                      "member %" PRIu64 " is a learner and cannot lead", member->id);
    }
    if (!is_there(facts, member->id)) {
        return refuse(out->text, MS_MEMBER_NOT_READY, "member %" PRIu64 " cannot be reached",
                      member->id);
    }
    if (member->id == facts->status->basic.id) {
        out->action = MEMBER_NOTHING;
    }
    return MS_MEMBER_OK;
}

enum ms_member_code member_rules_decide(const struct member_facts *facts, struct member_wish *wish,
                                        struct member_decision *out)
{
    const struct raft_basic_status *basic = &facts->status->basic;
    const struct ms_conf_member *member = find(facts->conf, wish->id);
    enum ms_member_code code;

    *out = (struct member_decision){.action = MEMBER_NOTHING};
    code = member_rules_check(wish, facts->has_key, out->text);
    if (code != MS_MEMBER_OK) {
        return code;
    }
    if (basic->lead_transferee != 0) {
        return refuse(out->text, MS_MEMBER_BUSY,
                      "leadership is being transferred to member %" PRIu64, basic->lead_transferee);
    }
    /* Until then what is applied here is not what the change would meet, nor may others campaign.
     */
    if (basic->pending_conf_index > basic->applied ||
        facts->status->conf.voters_outgoing.count > 0) {
        return refuse(out->text, MS_MEMBER_BUSY, "another change of the membership is under way");
    }
    if (wish->operation == MS_MEMBER_ADD_VOTER || wish->operation == MS_MEMBER_ADD_LEARNER) {
        return decide_add(facts, wish, out);
    }
    if (member == NULL && wish->id != 0) {
        return refuse(out->text, MS_MEMBER_NOT_FOUND, "there is no member %" PRIu64, wish->id);
    }
    if (wish->operation == MS_MEMBER_TRANSFER) {
        return decide_transfer(facts, member, out);
    }
    if (wish->operation == MS_MEMBER_PROMOTE) {
        return decide_promotion(facts, member, out);
    }
    if (wish->operation == MS_MEMBER_REMOVE) {
        return decide_removal(facts, member, out);
    }
    return decide_update(facts, member, wish, out);
}

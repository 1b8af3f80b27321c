/*
 * member_leader: see member_leader.h.
 */
#include "raftd/member_leader.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "raftd/member_rules.h"

void member_leader_init(struct member_leader *leader, const struct member_service_options *options)
{
    memset(leader, 0, sizeof(*leader));
    leader->options = options;
}

void member_leader_look(struct member_leader *leader)
{
    leader->options->calls.status(leader->options->calls.ctx, &leader->status);
}

void member_outcome_set(struct member_outcome *outcome, enum ms_member_code code,
                        const char *format, ...)
{
    va_list arguments;

    *outcome = (struct member_outcome){.code = code};
    va_start(arguments, format);
    (void)vsnprintf(outcome->text, sizeof(outcome->text), format, arguments);
    va_end(arguments);
}

static bool is_leader(const struct member_leader *leader)
{
    return leader->status.basic.state == RAFT_STATE_LEADER;
}

static bool same_id(const struct member_request_id *a, const struct member_request_id *b)
{
    return a->origin == b->origin && a->seq == b->seq;
}

/* Proposes one change. Other than MS_OK: it is certainly not in the log. */
static int propose(struct member_leader *leader, const struct raft_change *change,
                   const struct member_context *context)
{
    uint8_t bytes[MEMBER_CONTEXT_BYTES_MAX];
    struct raft_conf_change whole = {.v1 = true, .count = 1, .changes = {*change}};

    whole.context = bytes;
    whole.context_bytes = member_context_encode(context, bytes);
    return leader->options->calls.propose(leader->options->calls.ctx, &whole);
}

/* ---- requests ---- */

static void propose_wish(struct member_leader *leader, const struct member_ask *ask,
                         const struct raft_change *change, struct member_outcome *out)
{
    struct member_context context = {.request = ask->id};
    const struct raft_basic_status *basic = &leader->status.basic;
    int rc;

    memcpy(context.peer_url, ask->wish.peer_url, sizeof(context.peer_url));
    rc = propose(leader, change, &context);
    if (rc == MS_EPERM) {
        member_outcome_set(out, MS_MEMBER_NOT_READY,
                           "this node has no peer port: its peer URL's was in use when it started");
        return;
    }
    if (rc != MS_OK) {
        member_outcome_set(out, MS_MEMBER_BUSY, "the leader takes no proposal now: %s",
                           ms_status_text(rc));
        return;
    }
    leader->proposed = ask->id;
    leader->proposed_index = basic->last_index + 1;
    leader->proposed_term = basic->term;
}

static void begin_transfer(struct member_leader *leader, node_id from, const struct member_ask *ask,
                           node_id target, struct member_outcome *out)
{
    int rc = leader->options->calls.transfer(leader->options->calls.ctx, target);

    if (rc != MS_OK) {
        member_outcome_set(out, MS_MEMBER_BUSY, "leadership cannot be transferred now: %s",
                           ms_status_text(rc));
        return;
    }
    leader->transfer = (struct member_transfer){.under_way = true,
                                                .asker = from,
                                                .id = ask->id,
                                                .attempt = ask->attempt,
                                                .target = target,
                                                .term = leader->status.basic.term};
}

/* A request that came before: true if nothing new is to be done for it. */
static bool was_seen(struct member_leader *leader, node_id from, const struct member_ask *ask,
                     struct member_outcome *out)
{
    struct member_transfer *transfer = &leader->transfer;

    for (size_t i = 0; i < MEMBER_SERVICE_RECENT_MAX; i++) {
        const struct member_recent *recent = &leader->recents[i];

        if (recent->index != 0 && same_id(&recent->id, &ask->id)) {
            if (!recent->effective) {
                member_outcome_set(out, MS_MEMBER_CONFLICT, "the change had no effect");
            }
            out->index = recent->index;
            return true;
        }
    }
    if (same_id(&leader->proposed, &ask->id) &&
        leader->proposed_term == leader->status.basic.term &&
        leader->proposed_index > leader->status.basic.applied) {
        return true;
    }
    if (transfer->under_way && same_id(&transfer->id, &ask->id) && transfer->asker == from) {
        transfer->attempt = ask->attempt;
        return true;
    }
    return false;
}

void member_leader_decide(struct member_leader *leader, node_id from, struct member_ask *ask,
                          raft_index applied, struct member_outcome *out)
{
    const struct member_service_calls *calls = &leader->options->calls;
    const struct member_facts facts = {.status = &leader->status,
                                       .conf = calls->membership(calls->ctx),
                                       .has_key = leader->options->has_key,
                                       .is_connected = calls->is_connected,
                                       .ctx = calls->ctx};
    struct member_decision decision;
    enum ms_member_code code;

    *out = (struct member_outcome){.code = MS_MEMBER_OK};
    if (!is_leader(leader) || leader->status.basic.term != ask->term) {
        member_outcome_set(out, MS_MEMBER_NO_LEADER,
                           "member %" PRIu64 " does not lead in term %" PRIu64,
                           leader->options->self, ask->term);
        return;
    }
    if (was_seen(leader, from, ask, out)) {
        return;
    }
    code = member_rules_decide(&facts, &ask->wish, &decision);
    if (code != MS_MEMBER_OK) {
        member_outcome_set(out, code, "%s", decision.text);
        return;
    }
    switch (decision.action) {
    case MEMBER_PROPOSE:
        propose_wish(leader, ask, &decision.change, out);
        break;
    case MEMBER_TRANSFER:
        begin_transfer(leader, from, ask, decision.target, out);
        break;
    case MEMBER_NOTHING:
        out->index = applied > 0 ? applied : 1;
        break;
    }
}

bool member_leader_gave_up(struct member_leader *leader, struct member_transfer *out)
{
    struct member_transfer *transfer = &leader->transfer;
    const struct raft_basic_status *basic = &leader->status.basic;

    if (!transfer->under_way) {
        return false;
    }
    if (!is_leader(leader) || basic->term != transfer->term) {
        transfer->under_way = false;
        return false;
    }
    if (basic->lead_transferee == transfer->target) {
        return false;
    }
    *out = *transfer;
    transfer->under_way = false;
    return true;
}

void member_leader_changed(struct member_leader *leader, const struct member_request_id *id,
                           raft_index index, bool effective)
{
    leader->recents[leader->recent_next] =
        (struct member_recent){.id = *id, .index = index, .effective = effective};
    leader->recent_next = (leader->recent_next + 1) % MEMBER_SERVICE_RECENT_MAX;
}

/* ---- registration ---- */

/* The member whose data dir is to be made known next, or NULL. */
static const struct ms_conf_member *unregistered(const struct member_leader *leader)
{
    const struct member_service_calls *calls = &leader->options->calls;
    const struct ms_conf_state *conf = calls->membership(calls->ctx);
    const struct ms_conf_member *found = NULL;

    for (uint32_t i = 0; i < conf->member_count; i++) {
        const struct ms_conf_member *member = &conf->members[i];
        bool self = member->id == leader->options->self;

        if (member->data_id != 0 || calls->data_id(calls->ctx, member->id) == 0) {
            continue;
        }
        if (self) {
            return member;
        }
        if (found == NULL && calls->is_connected(calls->ctx, member->id)) {
            found = member;
        }
    }
    return found;
}

void member_leader_register(struct member_leader *leader)
{
    const struct member_service_calls *calls = &leader->options->calls;
    const struct raft_basic_status *basic = &leader->status.basic;
    struct raft_change change = {.type = RAFT_UPDATE_MEMBER};
    struct member_context context = {0};
    const struct ms_conf_member *member;

    if (!is_leader(leader) || basic->lead_transferee != 0 ||
        basic->pending_conf_index > basic->applied ||
        leader->status.conf.voters_outgoing.count > 0) {
        return;
    }
    member = unregistered(leader);
    if (member == NULL) {
        return;
    }
    change.id = member->id;
    context.data_id = calls->data_id(calls->ctx, member->id);
    (void)propose(leader, &change, &context); /* if it is not taken, the next look tries again */
}

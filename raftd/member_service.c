/*
 * member_service: see member_service.h.
 */
#include "raftd/member_service.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "raftd/member_leader.h"
#include "raftd/member_note.h"
#include "raftd/member_rules.h"

/* Pauses before a refusal that may pass is tried again, and between looks at who is registered. */
#define PAUSES_PER_TIMEOUT 10u

/*
 * A request of this node. asked_term != 0: the leader asked of that term may have proposed it, and
 * what became of that is not known yet. done_index != 0: it is in effect once that is applied.
 */
struct request {
    bool used;
    struct member_asker asker;
    uint64_t number; /* the asker's own */
    struct member_request_id id;
    struct member_wish wish;
    struct ms_instant deadline;
    uint32_t attempt;
    node_id asked;
    raft_term asked_term;
    struct ms_instant asked_at;
    raft_index done_index;
    struct ms_instant retry_at;
    enum ms_member_code code; /* of the last refusal that may pass */
    char text[MS_MEMBER_TEXT_BYTES];
};

struct member_service {
    struct member_service_options options;
    uint64_t own_requests; /* numbers of the supervisor's requests */
    size_t count;
    struct request requests[MEMBER_SERVICE_REQUESTS_MAX];
    struct member_leader leader;
    raft_index applied;
    raft_term applied_term;
    bool leaderless;
    struct ms_instant leaderless_since;
    struct ms_instant register_at;
};

/* ---- creation ---- */

int member_service_create(const struct member_service_options *options, struct member_service **out)
{
    struct member_service *service = calloc(1, sizeof(*service));

    if (service == NULL) {
        return MS_ENOMEM;
    }
    service->options = *options;
    member_leader_init(&service->leader, &service->options);
    *out = service;
    return MS_OK;
}

void member_service_destroy(struct member_service *service)
{
    free(service);
}

static uint64_t pause_ms(const struct member_service *service)
{
    uint64_t ms = service->options.election_timeout_ms / PAUSES_PER_TIMEOUT;

    return ms > 0 ? ms : 1;
}

/* The core's status, as of the last look. */
static const struct raft_basic_status *basic_of(const struct member_service *service)
{
    return &service->leader.status.basic;
}

static bool same_id(const struct member_request_id *a, const struct member_request_id *b)
{
    return a->origin == b->origin && a->seq == b->seq;
}

static struct request *find_request(struct member_service *service,
                                    const struct member_request_id *id)
{
    for (size_t i = 0; i < MEMBER_SERVICE_REQUESTS_MAX; i++) {
        if (service->requests[i].used && same_id(&service->requests[i].id, id)) {
            return &service->requests[i];
        }
    }
    return NULL;
}

/* ---- answers to those who asked at this node ---- */

static void say(struct member_service *service, const struct member_asker *asker, uint64_t number,
                enum ms_member_code code, const char *text)
{
    const struct ms_member_answer answer = {.request = number, .code = (uint32_t)code};

    service->options.calls.answer(service->options.calls.ctx, asker, &answer, text);
}

static void answer(struct member_service *service, struct request *request,
                   enum ms_member_code code, const char *text)
{
    const struct request done = *request;
    char copy[MS_MEMBER_TEXT_BYTES];

    (void)snprintf(copy, sizeof(copy), "%s", text); /* it may lie in the request */
    *request = (struct request){0};
    service->count--;
    say(service, &done.asker, done.number, code, copy);
}

/* It was refused for now. */
static void postpone(struct member_service *service, struct request *request,
                     enum ms_member_code code, const char *text, struct ms_instant now)
{
    request->asked_term = 0;
    request->retry_at = ms_clock_add_ms(now, pause_ms(service));
    request->code = code;
    (void)snprintf(request->text, sizeof(request->text), "%s", text);
}

/* What the asked leader, this node or another one, says to the last attempt. */
static void take_outcome(struct member_service *service, struct request *request,
                         const struct member_outcome *outcome, struct ms_instant now)
{
    if (outcome->code == MS_MEMBER_BUSY || outcome->code == MS_MEMBER_NO_LEADER) {
        postpone(service, request, outcome->code, outcome->text, now);
    } else if (outcome->code != MS_MEMBER_OK) {
        answer(service, request, outcome->code, outcome->text);
    } else if (outcome->index != 0) {
        if (outcome->index <= service->applied) {
            answer(service, request, MS_MEMBER_OK, "");
        } else {
            request->done_index = outcome->index;
        }
    }
}

/* ---- the leader's part ---- */

static void send_reply(struct member_service *service, node_id to,
                       const struct member_request_id *id, uint32_t attempt,
                       const struct member_outcome *outcome)
{
    struct member_reply reply = {
        .id = *id, .attempt = attempt, .code = outcome->code, .index = outcome->index};
    uint8_t bytes[MEMBER_NOTE_BYTES_MAX];

    (void)snprintf(reply.text, sizeof(reply.text), "%s", outcome->text);
    /* If it gets lost, the request is repeated. */
    (void)service->options.calls.send_note(service->options.calls.ctx, to, PEERS_NOTE_MEMBER_ANSWER,
                                           bytes, member_note_put_reply(&reply, bytes));
}

/* A transfer that failed is answered by who was to give the leadership away. */
static void watch_transfer(struct member_service *service, struct ms_instant now)
{
    struct member_transfer transfer;
    struct member_outcome outcome;
    struct request *request;

    if (!member_leader_gave_up(&service->leader, &transfer)) {
        return;
    }
    member_outcome_set(&outcome, MS_MEMBER_NOT_READY,
                       "member %" PRIu64 " did not take over within an election timeout",
                       transfer.target);
    if (transfer.asker != service->options.self) {
        send_reply(service, transfer.asker, &transfer.id, transfer.attempt, &outcome);
        return;
    }
    request = find_request(service, &transfer.id);
    if (request != NULL) {
        take_outcome(service, request, &outcome, now);
    }
}

/* ---- the asker's part ---- */

void member_service_ask(struct member_service *service, const struct member_asker *asker,
                        uint64_t origin, const struct ms_member_request *request, const char *url,
                        size_t url_bytes, struct ms_instant now)
{
    struct request taken = {
        .used = true,
        .asker = *asker,
        .number = request->request,
        .wish = {.operation = (enum ms_member_operation)request->operation, .id = request->id},
        .deadline = {.ns = request->deadline_ns},
        .retry_at = now,
        .code = MS_MEMBER_NO_LEADER,
        .text = "no leader is known"};
    char text[MS_MEMBER_TEXT_BYTES];

    if (url_bytes >= sizeof(taken.wish.peer_url) ||
        !member_note_is_text((const uint8_t *)url, url_bytes, false)) {
        say(service, asker, request->request, MS_MEMBER_INVALID,
            "the peer URL is too long or has bytes that no URL has");
        return;
    }
    memcpy(taken.wish.peer_url, url, url_bytes);
    if (member_rules_check(&taken.wish, service->options.has_key, text) != MS_MEMBER_OK) {
        say(service, asker, request->request, MS_MEMBER_INVALID, text);
        return;
    }
    taken.id = (struct member_request_id){.origin = origin, .seq = request->request};
    if (origin == 0) {
        taken.id.origin = service->options.origin;
        taken.id.seq = ++service->own_requests;
    }
    if (find_request(service, &taken.id) != NULL) {
        return; /* sent again on a new link; answered once it is known */
    }
    for (size_t i = 0; i < MEMBER_SERVICE_REQUESTS_MAX; i++) {
        if (!service->requests[i].used) {
            service->requests[i] = taken;
            service->count++;
            return;
        }
    }
    say(service, asker, request->request, MS_MEMBER_BUSY,
        "too many requests about the membership wait already");
}

static void ask_leader(struct member_service *service, struct request *request,
                       struct ms_instant now)
{
    const struct raft_basic_status *basic = basic_of(service);
    struct member_ask ask;
    uint8_t bytes[MEMBER_NOTE_BYTES_MAX];
    char text[MS_MEMBER_TEXT_BYTES];
    bool repeated = request->asked_term != 0;

    request->attempt++;
    request->asked = basic->lead;
    request->asked_term = basic->term;
    request->asked_at = now;
    ask = (struct member_ask){
        .id = request->id, .attempt = request->attempt, .term = basic->term, .wish = request->wish};
    if (basic->lead == service->options.self) {
        struct member_outcome outcome;

        member_leader_decide(&service->leader, service->options.self, &ask, service->applied,
                             &outcome);
        take_outcome(service, request, &outcome, now);
        member_leader_look(&service->leader);
        return;
    }
    if (service->options.calls.send_note(service->options.calls.ctx, basic->lead,
                                         PEERS_NOTE_MEMBER_REQUEST, bytes,
                                         member_note_put_ask(&ask, bytes)) != MS_OK &&
        !repeated) {
        (void)snprintf(text, sizeof(text), "the leader, member %" PRIu64 ", cannot be reached",
                       basic->lead);
        postpone(service, request, MS_MEMBER_NO_LEADER, text, now);
    }
}

/* The term in which a transfer was asked for is over: who leads now? */
static void watch_leader(struct member_service *service, struct request *request)
{
    const struct raft_basic_status *basic = basic_of(service);
    char text[MS_MEMBER_TEXT_BYTES];

    if (basic->lead == 0) {
        return; /* not yet known */
    }
    if (basic->lead == request->wish.id ||
        (request->wish.id == 0 && basic->lead != request->asked)) {
        answer(service, request, MS_MEMBER_OK, "");
        return;
    }
    (void)snprintf(text, sizeof(text), "member %" PRIu64 " leads now", basic->lead);
    answer(service, request, MS_MEMBER_NOT_READY, text);
}

static void expire(struct member_service *service, struct request *request)
{
    if (request->asked_term != 0) {
        answer(service, request, MS_MEMBER_UNKNOWN,
               "the deadline passed: the change may or may not take effect");
    } else {
        answer(service, request, request->code, request->text);
    }
}

/* What is due for one request. */
static void advance(struct member_service *service, struct request *request, struct ms_instant now)
{
    const struct raft_basic_status *basic = basic_of(service);
    uint64_t timeout_ms = service->options.election_timeout_ms;

    if (request->deadline.ns <= now.ns) {
        expire(service, request);
        return;
    }
    if (request->done_index != 0) {
        return;
    }
    if (request->asked_term != 0 && request->wish.operation == MS_MEMBER_TRANSFER &&
        basic->term > request->asked_term) {
        watch_leader(service, request);
        return;
    }
    if (request->asked_term != 0 && service->applied_term > request->asked_term) {
        request->asked_term = 0; /* what that leader proposed and is not here is lost */
        request->retry_at = now;
    }
    if (request->asked_term != 0) {
        if (basic->lead == request->asked && basic->term == request->asked_term &&
            ms_clock_elapsed_ms(request->asked_at, now) >= timeout_ms) {
            ask_leader(service, request, now); /* the note or its answer may be lost */
        }
        return;
    }
    if (basic->lead != 0) {
        if (request->retry_at.ns <= now.ns) {
            ask_leader(service, request, now);
        }
    } else if (ms_clock_elapsed_ms(service->leaderless_since, now) >= timeout_ms) {
        answer(service, request, MS_MEMBER_NO_LEADER, "the cluster has no leader");
    }
}

void member_service_run(struct member_service *service, struct ms_instant now)
{
    bool register_now = service->register_at.ns <= now.ns;

    if (service->count == 0 && !service->leader.transfer.under_way && !register_now) {
        return;
    }
    member_leader_look(&service->leader);
    if (basic_of(service)->lead != 0) {
        service->leaderless = false;
    } else if (!service->leaderless) {
        service->leaderless = true;
        service->leaderless_since = now;
    }
    watch_transfer(service, now);
    for (size_t i = 0; i < MEMBER_SERVICE_REQUESTS_MAX; i++) {
        if (service->requests[i].used) {
            advance(service, &service->requests[i], now);
        }
    }
    if (register_now) {
        service->register_at = ms_clock_add_ms(now, pause_ms(service));
        member_leader_register(&service->leader);
    }
}

/* ---- notes ---- */

int member_service_note(struct member_service *service, node_id from, enum peers_note kind,
                        const uint8_t *data, size_t len_bytes, struct ms_instant now)
{
    struct member_ask ask;
    struct member_reply reply;
    struct member_outcome outcome;
    struct request *request;
    int rc;

    if (kind == PEERS_NOTE_MEMBER_REQUEST) {
        rc = member_note_get_ask(data, len_bytes, &ask);
        if (rc != MS_OK) {
            return rc;
        }
        member_leader_look(&service->leader);
        member_leader_decide(&service->leader, from, &ask, service->applied, &outcome);
        if (outcome.code != MS_MEMBER_OK || outcome.index != 0) {
            send_reply(service, from, &ask.id, ask.attempt, &outcome);
        }
        return MS_OK;
    }
    rc = member_note_get_reply(data, len_bytes, &reply);
    if (rc != MS_OK) {
        return rc;
    }
    request = find_request(service, &reply.id);
    if (request == NULL || request->asked != from || request->attempt != reply.attempt ||
        request->asked_term == 0 || request->done_index != 0) {
        return MS_OK; /* settled, or said of an earlier attempt */
    }
    outcome.code = reply.code;
    outcome.index = reply.index;
    memcpy(outcome.text, reply.text, sizeof(outcome.text));
    take_outcome(service, request, &outcome, now);
    return MS_OK;
}

/* ---- what is applied ---- */

void member_service_changed(struct member_service *service, raft_index index,
                            const struct member_context *context, const char *objection)
{
    struct request *request;

    service->register_at = (struct ms_instant){0};
    if (context->request.origin == 0) {
        return;
    }
    member_leader_changed(&service->leader, &context->request, index, objection == NULL);
    request = find_request(service, &context->request);
    if (request == NULL) {
        return;
    }
    if (objection != NULL) {
        answer(service, request, MS_MEMBER_CONFLICT, objection);
    } else {
        request->done_index = index;
    }
}

void member_service_applied(struct member_service *service, raft_index index, raft_term term)
{
    service->applied = index;
    service->applied_term = term;
    for (size_t i = 0; service->count > 0 && i < MEMBER_SERVICE_REQUESTS_MAX; i++) {
        struct request *request = &service->requests[i];

        if (request->used && request->done_index != 0 && request->done_index <= index) {
            answer(service, request, MS_MEMBER_OK, "");
        }
    }
}

/* Whether the membership is as wished. */
static bool is_fulfilled(const struct ms_conf_state *conf, const struct member_wish *wish)
{
    const struct ms_conf_member *member = NULL;
    bool voter;
    bool url;

    for (uint32_t i = 0; i < conf->member_count; i++) {
        if (conf->members[i].id == wish->id) {
            member = &conf->members[i];
        }
    }
    if (wish->operation == MS_MEMBER_REMOVE) {
        return member == NULL;
    }
    voter = member != NULL && (member->flags & MS_CONF_VOTER) != 0;
    url = member != NULL && strcmp(member->peer_url, wish->peer_url) == 0;
    switch (wish->operation) {
    case MS_MEMBER_ADD_VOTER:
        return voter && url;
    case MS_MEMBER_ADD_LEARNER:
    case MS_MEMBER_UPDATE_URL:
        return url;
    case MS_MEMBER_PROMOTE:
        return voter;
    case MS_MEMBER_REMOVE:
    case MS_MEMBER_TRANSFER:
        break;
    }
    return false;
}

void member_service_restored(struct member_service *service, raft_index index, raft_term term)
{
    const struct member_service_calls *calls = &service->options.calls;
    const struct ms_conf_state *conf = calls->membership(calls->ctx);

    service->register_at = (struct ms_instant){0};
    for (size_t i = 0; i < MEMBER_SERVICE_REQUESTS_MAX; i++) {
        struct request *request = &service->requests[i];

        if (!request->used || request->asked_term == 0 || request->done_index != 0 ||
            request->wish.operation == MS_MEMBER_TRANSFER) {
            continue;
        }
        if (is_fulfilled(conf, &request->wish)) {
            request->done_index = index;
        } else {
            answer(service, request, MS_MEMBER_UNKNOWN,
                   "this node lagged behind: look at the membership");
        }
    }
    member_service_applied(service, index, term);
}

void member_service_removed(struct member_service *service)
{
    for (size_t i = 0; i < MEMBER_SERVICE_REQUESTS_MAX; i++) {
        struct request *request = &service->requests[i];

        if (!request->used) {
            continue;
        }
        if (request->wish.operation == MS_MEMBER_REMOVE &&
            request->wish.id == service->options.self) {
            answer(service, request, MS_MEMBER_OK, "");
        } else {
            answer(service, request,
                   request->asked_term != 0 ? MS_MEMBER_UNKNOWN : MS_MEMBER_NO_LEADER,
                   "this node was removed from the cluster");
        }
    }
}

bool member_service_is_idle(const struct member_service *service)
{
    return service->count == 0;
}

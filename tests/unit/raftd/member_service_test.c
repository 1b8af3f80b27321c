/*
 * member_service: requests from asking to answer, over nodes whose log and network the test moves.
 */
#include "raftd/member_service.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"

#define NODES       3
#define LOG_MAX     64
#define NOTES_MAX   64
#define ELECTION_MS 1000u
#define DEADLINE_MS 5000u

struct entry {
    raft_term term;
    struct raft_change change;
    struct member_context context;
    const char *objection; /* set by the test: the change will have no effect */
};

struct note {
    node_id from;
    node_id to;
    enum peers_note kind;
    size_t len_bytes;
    uint8_t bytes[PEERS_NOTE_BYTES_MAX];
};

struct world;

struct node {
    struct world *world;
    node_id id;
    struct member_service *service;
    struct ms_conf_state conf;
    raft_index applied;
    size_t answers;
    struct ms_member_answer answer; /* the last one */
    char text[MS_MEMBER_TEXT_BYTES];
};

/* One leader (0: none) that all know, one log that all apply when the test says so. */
struct world {
    struct node nodes[NODES];
    node_id leader;
    raft_term term;
    node_id transferee;
    size_t log_count;
    struct entry log[LOG_MAX];
    size_t note_count;
    struct note notes[NOTES_MAX];
    bool unreachable[NODES + 1];
    uint64_t now_ms;
};

static struct ms_instant now_of(const struct world *world)
{
    return ms_clock_add_ms((struct ms_instant){.ns = UINT64_C(1000000000)}, world->now_ms);
}

/* ---- what the services call ---- */

static void status(void *ctx, struct raft_status *out)
{
    const struct node *node = ctx;
    const struct world *world = node->world;
    bool leads = node->id == world->leader;

    memset(out, 0, sizeof(*out));
    out->basic =
        (struct raft_basic_status){.id = node->id,
                                   .state = leads ? RAFT_STATE_LEADER : RAFT_STATE_FOLLOWER,
                                   .lead = world->leader,
                                   .lead_transferee = leads ? world->transferee : 0,
                                   .term = world->term,
                                   .commit = world->log_count,
                                   .applied = node->applied,
                                   .last_index = world->log_count,
                                   .pending_conf_index = leads ? world->log_count : 0};
    for (uint32_t i = 0; leads && i < node->conf.member_count; i++) {
        out->progress[out->progress_count++] = (struct raft_progress_status){
            .id = node->conf.members[i].id, .match = world->log_count};
    }
}

static const struct ms_conf_state *membership(void *ctx)
{
    const struct node *node = ctx;

    return &node->conf;
}

static bool is_connected(void *ctx, node_id peer)
{
    const struct node *node = ctx;

    return peer > NODES || !node->world->unreachable[peer];
}

static uint64_t data_id(void *ctx, node_id peer)
{
    (void)ctx;
    return peer <= NODES ? 0xd000 + peer : 0;
}

static int propose(void *ctx, const struct raft_conf_change *change)
{
    struct node *node = ctx;
    struct world *world = node->world;
    struct entry *entry = &world->log[world->log_count];

    cr_assert_eq(node->id, world->leader, "only the leader proposes");
    cr_assert_eq(change->count, 1);
    cr_assert_lt(world->log_count, LOG_MAX);
    entry->term = world->term;
    entry->change = change->changes[0];
    cr_assert_eq(member_context_decode(change->context, change->context_bytes, &entry->context),
                 MS_OK);
    world->log_count++;
    return MS_OK;
}

static int transfer(void *ctx, node_id target)
{
    struct node *node = ctx;

    cr_assert_eq(node->id, node->world->leader);
    node->world->transferee = target;
    return MS_OK;
}

static int send_note(void *ctx, node_id to, enum peers_note kind, const uint8_t *data,
                     size_t len_bytes)
{
    struct node *node = ctx;
    struct world *world = node->world;
    struct note *note = &world->notes[world->note_count];

    if (world->unreachable[to]) {
        return MS_EPEER;
    }
    cr_assert_lt(world->note_count, NOTES_MAX);
    *note = (struct note){.from = node->id, .to = to, .kind = kind, .len_bytes = len_bytes};
    memcpy(note->bytes, data, len_bytes);
    world->note_count++;
    return MS_OK;
}

static void answer(void *ctx, const struct member_asker *asker,
                   const struct ms_member_answer *given, const char *text)
{
    struct node *node = ctx;

    cr_assert_eq(asker->instance, 3);
    cr_assert_eq(asker->generation, 4);
    node->answers++;
    node->answer = *given;
    (void)snprintf(node->text, sizeof(node->text), "%s", text);
}

/* ---- the world ---- */

static struct node *node_of(struct world *world, node_id id)
{
    return &world->nodes[id - 1];
}

static void init(struct world *world, bool registered)
{
    memset(world, 0, sizeof(*world));
    world->leader = 1;
    world->term = 2;
    for (node_id id = 1; id <= NODES; id++) {
        struct node *node = node_of(world, id);
        const struct member_service_options options = {.self = id,
                                                       .origin = 0xa000 + id,
                                                       .election_timeout_ms = ELECTION_MS,
                                                       .calls = {.status = status,
                                                                 .membership = membership,
                                                                 .is_connected = is_connected,
                                                                 .data_id = data_id,
                                                                 .propose = propose,
                                                                 .transfer = transfer,
                                                                 .send_note = send_note,
                                                                 .answer = answer,
                                                                 .ctx = node}};

        node->world = world;
        node->id = id;
        node->conf.member_count = NODES;
        for (node_id member = 1; member <= NODES; member++) {
            struct ms_conf_member *to = &node->conf.members[member - 1];

            *to = (struct ms_conf_member){
                .id = member, .flags = MS_CONF_VOTER, .data_id = registered ? 0xd000 + member : 0};
            (void)snprintf(to->peer_url, sizeof(to->peer_url), "http://127.0.0.1:%d",
                           9020 + (int)member);
        }
        cr_assert_eq(member_service_create(&options, &node->service), MS_OK);
    }
}

static void fini(struct world *world)
{
    for (size_t i = 0; i < NODES; i++) {
        member_service_destroy(world->nodes[i].service);
    }
}

static void change_conf(struct ms_conf_state *conf, const struct entry *entry)
{
    struct ms_conf_member *member = NULL;

    for (uint32_t i = 0; i < conf->member_count; i++) {
        if (conf->members[i].id == entry->change.id) {
            member = &conf->members[i];
        }
    }
    if (entry->change.type == RAFT_REMOVE_MEMBER) {
        if (member != NULL) {
            *member = conf->members[--conf->member_count];
        }
        return;
    }
    if (member == NULL) {
        member = &conf->members[conf->member_count++];
        *member = (struct ms_conf_member){.id = entry->change.id};
    }
    if (entry->change.type != RAFT_UPDATE_MEMBER) {
        member->flags = entry->change.type == RAFT_ADD_VOTER ? MS_CONF_VOTER : MS_CONF_LEARNER;
    }
    if (entry->context.peer_url[0] != '\0') {
        memcpy(member->peer_url, entry->context.peer_url, sizeof(member->peer_url));
    }
    if (entry->context.data_id != 0) {
        member->data_id = entry->context.data_id;
    }
}

/* The node applies the log to its end. */
static void apply(struct world *world, node_id id)
{
    struct node *node = node_of(world, id);

    while (node->applied < world->log_count) {
        const struct entry *entry = &world->log[node->applied];

        if (entry->change.id != 0) {
            if (entry->objection == NULL) {
                change_conf(&node->conf, entry);
            }
            member_service_changed(node->service, node->applied + 1, &entry->context,
                                   entry->objection);
        }
        node->applied++;
        member_service_applied(node->service, node->applied, entry->term);
    }
}

static void apply_all(struct world *world)
{
    for (node_id id = 1; id <= NODES; id++) {
        apply(world, id);
    }
}

static void run_all(struct world *world)
{
    for (node_id id = 1; id <= NODES; id++) {
        member_service_run(node_of(world, id)->service, now_of(world));
    }
}

/* Delivers the notes that wait now. */
static void deliver(struct world *world)
{
    struct note notes[NOTES_MAX];
    size_t count = world->note_count;

    memcpy(notes, world->notes, sizeof(notes));
    world->note_count = 0;
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(member_service_note(node_of(world, notes[i].to)->service, notes[i].from,
                                         notes[i].kind, notes[i].bytes, notes[i].len_bytes,
                                         now_of(world)),
                     MS_OK);
    }
}

/* Runs until nothing happens any more. */
static void settle(struct world *world)
{
    for (int i = 0; i < 10; i++) {
        run_all(world);
        deliver(world);
        apply_all(world);
    }
}

static void pass_ms(struct world *world, uint64_t ms)
{
    world->now_ms += ms;
    run_all(world);
}

/* The new leader's first entry, which changes nothing. */
static void elect(struct world *world, node_id leader)
{
    world->leader = leader;
    world->term++;
    world->transferee = 0;
    world->log[world->log_count++] = (struct entry){.term = world->term};
}

static void ask(struct world *world, node_id at, enum ms_member_operation operation, node_id id,
                const char *url)
{
    static uint64_t requests = 100;
    const struct member_asker asker = {.instance = 3, .generation = 4};
    const struct ms_member_request request = {.request = ++requests,
                                              .deadline_ns =
                                                  ms_clock_add_ms(now_of(world), DEADLINE_MS).ns,
                                              .id = id,
                                              .operation = operation};

    member_service_ask(node_of(world, at)->service, &asker, 0xbeef, &request, url, strlen(url),
                       now_of(world));
}

static void expect(struct world *world, node_id at, enum ms_member_code code)
{
    struct node *node = node_of(world, at);

    cr_assert_eq(node->answers, 1, "%zu answers at node %ju", node->answers, (uintmax_t)at);
    cr_assert_eq(node->answer.code, code, "code %u: %s", node->answer.code, node->text);
    node->answers = 0;
    cr_assert(member_service_is_idle(node->service));
}

static void expect_none(struct world *world, node_id at)
{
    cr_assert_eq(node_of(world, at)->answers, 0, "%s", node_of(world, at)->text);
}

static size_t entries_about(const struct world *world, node_id id)
{
    size_t count = 0;

    for (size_t i = 0; i < world->log_count; i++) {
        count += world->log[i].change.id == id ? 1 : 0;
    }
    return count;
}

/* ---- the straight way ---- */

Test(member_service, leader_adds_a_member_and_answers_when_it_is_applied)
{
    struct world world;

    init(&world, true);
    ask(&world, 1, MS_MEMBER_ADD_VOTER, 4, "http://127.0.0.1:9024");
    run_all(&world);
    expect_none(&world, 1);
    cr_assert_eq(world.log_count, 1);
    cr_assert_eq(world.log[0].change.type, RAFT_ADD_VOTER);
    cr_assert_str_eq(world.log[0].context.peer_url, "http://127.0.0.1:9024");
    apply(&world, 1);
    expect(&world, 1, MS_MEMBER_OK);
    fini(&world);
}

Test(member_service, follower_answers_when_it_has_applied_the_change_itself)
{
    struct world world;

    init(&world, true);
    ask(&world, 2, MS_MEMBER_REMOVE, 3, "");
    run_all(&world);
    deliver(&world);
    cr_assert_eq(world.log_count, 1);
    apply(&world, 1);
    expect_none(&world, 2);
    apply(&world, 2);
    expect(&world, 2, MS_MEMBER_OK);
    fini(&world);
}

Test(member_service, refusal_comes_back_to_who_asked)
{
    struct world world;

    init(&world, true);
    ask(&world, 2, MS_MEMBER_ADD_VOTER, 3, "http://127.0.0.1:9033");
    settle(&world);
    expect(&world, 2, MS_MEMBER_CONFLICT);
    cr_assert_not_null(strstr(world.nodes[1].text, "member 3 exists already"));
    cr_assert_eq(world.log_count, 0, "nothing changes");
    fini(&world);
}

Test(member_service, nonsense_is_refused_where_it_is_asked)
{
    struct world world;

    init(&world, true);
    ask(&world, 2, MS_MEMBER_ADD_VOTER, 4, "nonsense");
    expect(&world, 2, MS_MEMBER_INVALID);
    ask(&world, 2, MS_MEMBER_ADD_VOTER, 4, "http://127.0.0.1:90\n24");
    expect(&world, 2, MS_MEMBER_INVALID);
    ask(&world, 2, (enum ms_member_operation)77, 4, "");
    expect(&world, 2, MS_MEMBER_INVALID);
    cr_assert_eq(world.note_count, 0);
    fini(&world);
}

Test(member_service, what_is_so_already_is_answered_at_once)
{
    struct world world;

    init(&world, true);
    elect(&world, 1);
    apply_all(&world);
    ask(&world, 2, MS_MEMBER_UPDATE_URL, 3, "http://127.0.0.1:9023");
    settle(&world);
    expect(&world, 2, MS_MEMBER_OK);
    cr_assert_eq(entries_about(&world, 3), 0);
    fini(&world);
}

Test(member_service, change_without_effect_is_refused_with_the_reason)
{
    struct world world;

    init(&world, true);
    ask(&world, 2, MS_MEMBER_REMOVE, 3, "");
    run_all(&world);
    deliver(&world);
    world.log[0].objection = "removed all voters";
    apply_all(&world);
    expect(&world, 2, MS_MEMBER_CONFLICT);
    cr_assert_str_eq(world.nodes[1].text, "removed all voters");
    fini(&world);
}

/* ---- several ---- */

Test(member_service, second_change_waits_for_the_first)
{
    struct world world;

    init(&world, true);
    ask(&world, 2, MS_MEMBER_ADD_LEARNER, 4, "http://127.0.0.1:9024");
    ask(&world, 3, MS_MEMBER_ADD_LEARNER, 5, "http://127.0.0.1:9025");
    run_all(&world);
    deliver(&world);
    deliver(&world);
    cr_assert_eq(world.log_count, 1, "one is BUSY");
    apply_all(&world);
    for (int i = 0; i < 5; i++) {
        pass_ms(&world, 100);
        deliver(&world);
        apply_all(&world);
    }
    expect(&world, 2, MS_MEMBER_OK);
    expect(&world, 3, MS_MEMBER_OK);
    cr_assert_eq(world.log_count, 2);
    fini(&world);
}

Test(member_service, change_that_stays_busy_is_refused_at_the_deadline)
{
    struct world world;

    init(&world, true);
    world.log_count = 1; /* pending for ever */
    ask(&world, 2, MS_MEMBER_REMOVE, 3, "");
    for (uint64_t ms = 0; ms <= DEADLINE_MS; ms += 100) {
        pass_ms(&world, 100);
        deliver(&world);
        deliver(&world);
    }
    expect(&world, 2, MS_MEMBER_BUSY);
    fini(&world);
}

Test(member_service, table_is_bounded)
{
    struct world world;

    init(&world, true);
    world.leader = 0;
    for (size_t i = 0; i < MEMBER_SERVICE_REQUESTS_MAX; i++) {
        ask(&world, 2, MS_MEMBER_REMOVE, 3, "");
    }
    expect_none(&world, 2);
    ask(&world, 2, MS_MEMBER_REMOVE, 3, "");
    cr_assert_eq(world.nodes[1].answers, 1);
    cr_assert_eq(world.nodes[1].answer.code, MS_MEMBER_BUSY);
    fini(&world);
}

/* ---- what gets lost ---- */

Test(member_service, lost_request_and_lost_answer_are_repeated_and_done_once)
{
    struct world world;

    init(&world, true);
    ask(&world, 2, MS_MEMBER_ADD_LEARNER, 4, "http://127.0.0.1:9024");
    run_all(&world);
    world.note_count = 0; /* the request */
    pass_ms(&world, ELECTION_MS);
    cr_assert_eq(world.note_count, 1);
    deliver(&world);
    cr_assert_eq(entries_about(&world, 4), 1);
    pass_ms(&world, ELECTION_MS); /* again, while it is pending */
    deliver(&world);
    cr_assert_eq(entries_about(&world, 4), 1);
    apply(&world, 1);
    pass_ms(&world, ELECTION_MS); /* again, when it is applied there */
    deliver(&world);
    cr_assert_eq(entries_about(&world, 4), 1);
    deliver(&world);
    expect_none(&world, 2); /* it has not applied it itself */
    apply(&world, 2);
    expect(&world, 2, MS_MEMBER_OK);
    fini(&world);
}

Test(member_service, answer_to_an_earlier_attempt_counts_no_more)
{
    struct world world;
    struct note late;

    init(&world, true);
    world.log_count = 1; /* busy */
    ask(&world, 2, MS_MEMBER_REMOVE, 3, "");
    run_all(&world);
    deliver(&world);
    late = world.notes[0];
    world.note_count = 0;
    apply_all(&world);
    pass_ms(&world, ELECTION_MS);
    deliver(&world);
    cr_assert_eq(entries_about(&world, 3), 1);
    world.notes[world.note_count++] = late;
    deliver(&world);
    apply(&world, 2);
    expect(&world, 2, MS_MEMBER_OK);
    fini(&world);
}

Test(member_service, new_leader_is_asked_again_only_when_the_old_proposal_is_lost_for_sure)
{
    struct world world;

    init(&world, true);
    ask(&world, 2, MS_MEMBER_REMOVE, 3, "");
    run_all(&world);
    deliver(&world);
    cr_assert_eq(entries_about(&world, 3), 1);
    world.log_count = 0; /* only the dead leader had it */
    memset(&world.log, 0, sizeof(world.log));
    elect(&world, 3);
    pass_ms(&world, 100);
    cr_assert_eq(world.note_count, 0, "it might still come with the new leader's log");
    apply_all(&world);
    settle(&world);
    expect(&world, 2, MS_MEMBER_OK);
    cr_assert_eq(entries_about(&world, 3), 1);
    fini(&world);
}

Test(member_service, change_that_survived_the_leader_is_not_made_twice)
{
    struct world world;

    init(&world, true);
    ask(&world, 2, MS_MEMBER_REMOVE, 3, "");
    run_all(&world);
    deliver(&world);
    elect(&world, 2);
    settle(&world);
    expect(&world, 2, MS_MEMBER_OK);
    cr_assert_eq(entries_about(&world, 3), 1);
    fini(&world);
}

Test(member_service, outcome_is_unknown_if_the_leader_is_lost_and_none_comes)
{
    struct world world;

    init(&world, true);
    ask(&world, 2, MS_MEMBER_REMOVE, 3, "");
    run_all(&world);
    deliver(&world);
    world.leader = 0;
    pass_ms(&world, 2 * ELECTION_MS);
    expect_none(&world, 2);
    pass_ms(&world, DEADLINE_MS);
    expect(&world, 2, MS_MEMBER_UNKNOWN);
    fini(&world);
}

Test(member_service, without_a_leader_it_waits_an_election_timeout)
{
    struct world world;

    init(&world, true);
    world.leader = 0;
    ask(&world, 2, MS_MEMBER_REMOVE, 3, "");
    run_all(&world);
    pass_ms(&world, ELECTION_MS - 1);
    expect_none(&world, 2);
    pass_ms(&world, 1);
    expect(&world, 2, MS_MEMBER_NO_LEADER);

    elect(&world, 3);
    pass_ms(&world, ELECTION_MS);
    world.leader = 0;
    ask(&world, 2, MS_MEMBER_REMOVE, 3, "");
    pass_ms(&world, ELECTION_MS / 2);
    elect(&world, 1);
    apply_all(&world);
    settle(&world);
    expect(&world, 2, MS_MEMBER_OK);
    fini(&world);
}

Test(member_service, leader_out_of_reach_is_no_leader)
{
    struct world world;

    init(&world, true);
    world.unreachable[1] = true;
    ask(&world, 2, MS_MEMBER_REMOVE, 3, "");
    for (uint64_t ms = 0; ms <= DEADLINE_MS; ms += 100) {
        pass_ms(&world, 100);
    }
    expect(&world, 2, MS_MEMBER_NO_LEADER);
    cr_assert_not_null(strstr(world.nodes[1].text, "member 1, cannot be reached"));
    fini(&world);
}

Test(member_service, node_that_asks_one_that_leads_no_more_asks_again)
{
    struct world world;

    init(&world, true);
    ask(&world, 2, MS_MEMBER_REMOVE, 2, "");
    run_all(&world);
    elect(&world, 3); /* while the note is on its way */
    apply_all(&world);
    deliver(&world);
    settle(&world);
    pass_ms(&world, 200);
    settle(&world);
    expect(&world, 2, MS_MEMBER_OK);
    fini(&world);
}

Test(member_service, repeated_request_of_an_apid_is_one_request)
{
    struct world world;
    const struct member_asker asker = {.instance = 3, .generation = 4};
    const struct ms_member_request request = {
        .request = 1, .deadline_ns = UINT64_MAX, .id = 3, .operation = MS_MEMBER_REMOVE};

    init(&world, true);
    member_service_ask(world.nodes[0].service, &asker, 0xbeef, &request, "", 0, now_of(&world));
    member_service_ask(world.nodes[0].service, &asker, 0xbeef, &request, "", 0, now_of(&world));
    settle(&world);
    expect(&world, 1, MS_MEMBER_OK);
    fini(&world);
}

/* ---- snapshots and removal ---- */

Test(member_service, snapshot_in_between_tells_by_the_membership)
{
    struct world world;

    init(&world, true);
    ask(&world, 2, MS_MEMBER_REMOVE, 3, "");
    run_all(&world);
    deliver(&world);
    apply(&world, 1);
    world.nodes[1].conf = world.nodes[0].conf;
    world.nodes[1].applied = 1;
    member_service_restored(world.nodes[1].service, 1, world.term);
    expect(&world, 2, MS_MEMBER_OK);

    ask(&world, 2, MS_MEMBER_ADD_LEARNER, 4, "http://127.0.0.1:9024");
    run_all(&world);
    deliver(&world);
    member_service_restored(world.nodes[1].service, 9, world.term);
    expect(&world, 2, MS_MEMBER_UNKNOWN);
    fini(&world);
}

Test(member_service, node_that_is_told_of_its_removal_knows_that_it_worked)
{
    struct world world;

    init(&world, true);
    ask(&world, 3, MS_MEMBER_REMOVE, 3, "");
    run_all(&world);
    member_service_removed(world.nodes[2].service);
    expect(&world, 3, MS_MEMBER_OK);
    ask(&world, 3, MS_MEMBER_REMOVE, 2, "");
    member_service_removed(world.nodes[2].service);
    expect(&world, 3, MS_MEMBER_NO_LEADER);
    fini(&world);
}

/* ---- leadership ---- */

Test(member_service, transfer_is_answered_when_the_lead_has_changed)
{
    struct world world;

    init(&world, true);
    ask(&world, 1, MS_MEMBER_TRANSFER, 2, "");
    ask(&world, 3, MS_MEMBER_TRANSFER, 2, "");
    run_all(&world);
    cr_assert_eq(world.transferee, 2);
    elect(&world, 2);
    apply_all(&world);
    settle(&world);
    expect(&world, 1, MS_MEMBER_OK);
    settle(&world);
    pass_ms(&world, 200);
    settle(&world);
    expect(&world, 3, MS_MEMBER_OK);
    fini(&world);
}

Test(member_service, transfer_to_whoever_is_up_to_date)
{
    struct world world;

    init(&world, true);
    ask(&world, 3, MS_MEMBER_TRANSFER, 0, "");
    run_all(&world);
    deliver(&world);
    cr_assert_neq(world.transferee, 0);
    elect(&world, world.transferee);
    settle(&world);
    expect(&world, 3, MS_MEMBER_OK);
    fini(&world);
}

Test(member_service, transfer_that_fails_is_refused)
{
    struct world world;

    init(&world, true);
    ask(&world, 1, MS_MEMBER_TRANSFER, 2, "");
    run_all(&world);
    expect_none(&world, 1);
    world.transferee = 0; /* the core gives up after an election timeout */
    pass_ms(&world, ELECTION_MS);
    expect(&world, 1, MS_MEMBER_NOT_READY);

    ask(&world, 3, MS_MEMBER_TRANSFER, 2, "");
    run_all(&world);
    deliver(&world);
    cr_assert_eq(world.transferee, 2);
    world.transferee = 0;
    run_all(&world);
    deliver(&world);
    expect(&world, 3, MS_MEMBER_NOT_READY);
    fini(&world);
}

Test(member_service, lead_that_goes_elsewhere_is_no_success)
{
    struct world world;

    init(&world, true);
    ask(&world, 1, MS_MEMBER_TRANSFER, 2, "");
    run_all(&world);
    elect(&world, 3);
    settle(&world);
    expect(&world, 1, MS_MEMBER_NOT_READY);
    cr_assert_not_null(strstr(world.nodes[0].text, "member 3 leads"));
    fini(&world);
}

/* ---- registration ---- */

Test(member_service, leader_registers_data_dirs_one_by_one_itself_first)
{
    struct world world;

    init(&world, false);
    world.unreachable[3] = true;
    run_all(&world);
    cr_assert_eq(world.log_count, 1);
    cr_assert_eq(world.log[0].change.type, RAFT_UPDATE_MEMBER);
    cr_assert_eq(world.log[0].change.id, 1);
    cr_assert_eq(world.log[0].context.data_id, 0xd001);
    cr_assert_eq(world.log[0].context.request.origin, 0);
    pass_ms(&world, ELECTION_MS);
    cr_assert_eq(world.log_count, 1, "one at a time");
    settle(&world);
    cr_assert_eq(world.log_count, 2);
    cr_assert_eq(world.log[1].change.id, 2);
    pass_ms(&world, ELECTION_MS);
    settle(&world);
    cr_assert_eq(world.log_count, 2, "member 3 was not here yet");
    world.unreachable[3] = false;
    pass_ms(&world, ELECTION_MS);
    settle(&world);
    cr_assert_eq(world.log_count, 3);
    cr_assert_eq(world.nodes[2].conf.members[2].data_id, 0xd003);
    pass_ms(&world, ELECTION_MS);
    cr_assert_eq(world.log_count, 3);
    fini(&world);
}

/* ---- notes ---- */

Test(member_service, malformed_notes_are_refused)
{
    struct world world;
    static const uint8_t bytes[64] = {9};

    init(&world, true);
    for (size_t len = 0; len < sizeof(bytes); len++) {
        cr_assert_eq(member_service_note(world.nodes[0].service, 2, PEERS_NOTE_MEMBER_REQUEST,
                                         bytes, len, now_of(&world)),
                     MS_EPROTO);
        cr_assert_eq(member_service_note(world.nodes[0].service, 2, PEERS_NOTE_MEMBER_ANSWER, bytes,
                                         len, now_of(&world)),
                     MS_EPROTO);
    }
    fini(&world);
}

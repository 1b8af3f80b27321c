/*
 * member_rules: which changes a leader makes, and how it explains those that it does not make.
 */
#include "raftd/member_rules.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define MEMBERS_MAX 8

/* A cluster of voters 1 .. n as its leader, member 1, sees it. */
struct world {
    struct ms_conf_state conf;
    struct raft_status status;
    bool down[MEMBERS_MAX + 1];
    struct member_decision decision;
};

static bool is_connected(void *ctx, node_id peer)
{
    const struct world *world = ctx;

    return peer <= MEMBERS_MAX && !world->down[peer];
}

static void add_member(struct world *world, node_id id, bool voter)
{
    struct ms_conf_member *member = &world->conf.members[world->conf.member_count++];
    struct raft_progress_status *progress = &world->status.progress[world->status.progress_count++];

    *member = (struct ms_conf_member){.id = id, .flags = voter ? MS_CONF_VOTER : MS_CONF_LEARNER};
    (void)snprintf(member->peer_url, sizeof(member->peer_url), "http://127.0.0.1:%d",
                   9020 + (int)id);
    *progress = (struct raft_progress_status){.id = id, .match = 100, .is_learner = !voter};
}

static void init(struct world *world, node_id voters)
{
    memset(world, 0, sizeof(*world));
    world->status.basic = (struct raft_basic_status){.id = 1,
                                                     .state = RAFT_STATE_LEADER,
                                                     .lead = 1,
                                                     .term = 2,
                                                     .commit = 100,
                                                     .applied = 100,
                                                     .last_index = 100};
    for (node_id id = 1; id <= voters; id++) {
        add_member(world, id, true);
    }
}

static enum ms_member_code wish(struct world *world, enum ms_member_operation operation, node_id id,
                                const char *url)
{
    const struct member_facts facts = {
        .status = &world->status, .conf = &world->conf, .is_connected = is_connected, .ctx = world};
    struct member_wish wanted = {.operation = operation, .id = id};
    enum ms_member_code code;

    (void)snprintf(wanted.peer_url, sizeof(wanted.peer_url), "%s", url);
    code = member_rules_decide(&facts, &wanted, &world->decision);
    cr_assert_eq(code == MS_MEMBER_OK, world->decision.text[0] == '\0',
                 "a refusal has a reason: %s", world->decision.text);
    return code;
}

static void expect_text(const struct world *world, const char *part)
{
    cr_assert_not_null(strstr(world->decision.text, part), "%s is not in: %s", part,
                       world->decision.text);
}

/* ---- adding ---- */

Test(member_rules, new_member_is_proposed)
{
    struct world world;

    init(&world, 3);
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_VOTER, 4, "http://127.0.0.1:9024/"), MS_MEMBER_OK);
    cr_assert_eq(world.decision.action, MEMBER_PROPOSE);
    cr_assert_eq(world.decision.change.type, RAFT_ADD_VOTER);
    cr_assert_eq(world.decision.change.id, 4);
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_LEARNER, 4, "http://127.0.0.1:9024"), MS_MEMBER_OK);
    cr_assert_eq(world.decision.change.type, RAFT_ADD_LEARNER);
}

Test(member_rules, existing_id_and_existing_url_are_refused)
{
    struct world world;

    init(&world, 3);
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_VOTER, 3, "http://127.0.0.1:9023"), MS_MEMBER_CONFLICT);
    expect_text(&world, "member 3 exists already");
    expect_text(&world, "http://127.0.0.1:9023");
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_LEARNER, 4, "http://127.0.0.1:9022/"),
                 MS_MEMBER_CONFLICT);
    expect_text(&world, "member 2 has the URL");
}

Test(member_rules, unusable_ids_and_urls_are_refused)
{
    struct world world;

    init(&world, 1);
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_VOTER, 0, "http://127.0.0.1:9024"), MS_MEMBER_INVALID);
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_VOTER, UINT64_MAX, "http://127.0.0.1:9024"),
                 MS_MEMBER_INVALID);
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_VOTER, 2, "http://127.0.0.1:0"), MS_MEMBER_INVALID);
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_VOTER, 2, "nonsense"), MS_MEMBER_INVALID);
    expect_text(&world, "http://HOST:PORT");
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_VOTER, 2, ""), MS_MEMBER_INVALID);
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_VOTER, 2, "http://a:1,http://b:2"), MS_MEMBER_INVALID);
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_VOTER, 2, "http://10.0.0.7:9021"), MS_MEMBER_INVALID);
    expect_text(&world, "cluster key");
    cr_assert_eq(wish(&world, (enum ms_member_operation)0, 2, ""), MS_MEMBER_INVALID);
    cr_assert_eq(wish(&world, (enum ms_member_operation)7, 2, ""), MS_MEMBER_INVALID);
}

Test(member_rules, with_a_key_members_may_be_anywhere)
{
    struct member_wish wanted = {
        .operation = MS_MEMBER_ADD_VOTER, .id = 2, .peer_url = "http://10.0.0.7:9021/"};
    char text[MS_MEMBER_TEXT_BYTES] = "";

    cr_assert_eq(member_rules_check(&wanted, true, text), MS_MEMBER_OK);
    cr_assert_str_eq(wanted.peer_url, "http://10.0.0.7:9021");
}

/* One may grow to two although the second is not there yet; so may every healthy cluster. */
Test(member_rules, healthy_cluster_may_grow)
{
    for (node_id voters = 1; voters <= 5; voters++) {
        struct world world;

        init(&world, voters);
        cr_assert_eq(wish(&world, MS_MEMBER_ADD_VOTER, 8, "http://127.0.0.1:9028"), MS_MEMBER_OK);
    }
}

Test(member_rules, voter_that_would_cost_the_quorum_is_not_added)
{
    struct world world;

    init(&world, 3);
    world.down[3] = true;
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_VOTER, 4, "http://127.0.0.1:9024"), MS_MEMBER_NOT_READY,
                 "two of four are no quorum");
    expect_text(&world, "only 2 of 3 voters");
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_LEARNER, 4, "http://127.0.0.1:9024"), MS_MEMBER_OK);
    init(&world, 4);
    world.down[3] = true;
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_VOTER, 5, "http://127.0.0.1:9025"), MS_MEMBER_OK,
                 "three of five are one");
}

Test(member_rules, cluster_has_a_largest_size)
{
    struct world world;

    init(&world, 1);
    for (node_id id = 2; id <= MS_STATUS_MEMBERS_MAX; id++) {
        add_member(&world, id, false);
    }
    cr_assert_eq(wish(&world, MS_MEMBER_ADD_LEARNER, 99, "http://127.0.0.1:9999"),
                 MS_MEMBER_NOT_READY);
}

/* ---- promoting ---- */

Test(member_rules, learner_that_caught_up_is_promoted)
{
    struct world world;

    init(&world, 3);
    add_member(&world, 4, false);
    cr_assert_eq(wish(&world, MS_MEMBER_PROMOTE, 4, ""), MS_MEMBER_OK);
    cr_assert_eq(world.decision.change.type, RAFT_ADD_VOTER);
    world.status.progress[3].match = 90;
    cr_assert_eq(wish(&world, MS_MEMBER_PROMOTE, 4, ""), MS_MEMBER_OK);
    world.status.progress[3].match = 89;
    cr_assert_eq(wish(&world, MS_MEMBER_PROMOTE, 4, ""), MS_MEMBER_NOT_READY);
    expect_text(&world, "up to entry 89 of 100");
}

Test(member_rules, learner_out_of_reach_voter_and_stranger_are_not_promoted)
{
    struct world world;

    init(&world, 3);
    add_member(&world, 4, false);
    world.down[4] = true;
    cr_assert_eq(wish(&world, MS_MEMBER_PROMOTE, 4, ""), MS_MEMBER_NOT_READY);
    cr_assert_eq(wish(&world, MS_MEMBER_PROMOTE, 3, ""), MS_MEMBER_CONFLICT);
    cr_assert_eq(wish(&world, MS_MEMBER_PROMOTE, 7, ""), MS_MEMBER_NOT_FOUND);
    expect_text(&world, "there is no member 7");
}

/* ---- removing ---- */

Test(member_rules, members_can_be_removed_and_so_can_the_leader)
{
    struct world world;

    init(&world, 3);
    add_member(&world, 4, false);
    cr_assert_eq(wish(&world, MS_MEMBER_REMOVE, 1, ""), MS_MEMBER_OK);
    cr_assert_eq(wish(&world, MS_MEMBER_REMOVE, 2, ""), MS_MEMBER_OK);
    cr_assert_eq(wish(&world, MS_MEMBER_REMOVE, 4, ""), MS_MEMBER_OK);
    cr_assert_eq(world.decision.change.type, RAFT_REMOVE_MEMBER);
    cr_assert_eq(wish(&world, MS_MEMBER_REMOVE, 5, ""), MS_MEMBER_NOT_FOUND);
}

Test(member_rules, last_voter_stays)
{
    struct world world;

    init(&world, 1);
    add_member(&world, 2, false);
    cr_assert_eq(wish(&world, MS_MEMBER_REMOVE, 1, ""), MS_MEMBER_NOT_READY);
    expect_text(&world, "last voter");
}

Test(member_rules, removal_leaves_a_quorum_that_can_be_reached)
{
    struct world world;

    init(&world, 3);
    world.down[3] = true;
    cr_assert_eq(wish(&world, MS_MEMBER_REMOVE, 3, ""), MS_MEMBER_OK, "the dead one may go");
    cr_assert_eq(wish(&world, MS_MEMBER_REMOVE, 2, ""), MS_MEMBER_NOT_READY);
    expect_text(&world, "no quorum");
}

/* ---- URLs ---- */

Test(member_rules, url_changes_to_one_that_is_free)
{
    struct world world;

    init(&world, 3);
    cr_assert_eq(wish(&world, MS_MEMBER_UPDATE_URL, 3, "http://127.0.0.1:9033"), MS_MEMBER_OK);
    cr_assert_eq(world.decision.change.type, RAFT_UPDATE_MEMBER);
    cr_assert_eq(wish(&world, MS_MEMBER_UPDATE_URL, 3, "http://127.0.0.1:9022"),
                 MS_MEMBER_CONFLICT);
    cr_assert_eq(wish(&world, MS_MEMBER_UPDATE_URL, 3, "http://127.0.0.1:9023"), MS_MEMBER_OK);
    cr_assert_eq(world.decision.action, MEMBER_NOTHING);
    cr_assert_eq(wish(&world, MS_MEMBER_UPDATE_URL, 9, "http://127.0.0.1:9033"),
                 MS_MEMBER_NOT_FOUND);
}

/* ---- leadership ---- */

Test(member_rules, leadership_goes_to_a_voter_that_can_be_reached)
{
    struct world world;

    init(&world, 3);
    add_member(&world, 4, false);
    cr_assert_eq(wish(&world, MS_MEMBER_TRANSFER, 2, ""), MS_MEMBER_OK);
    cr_assert_eq(world.decision.action, MEMBER_TRANSFER);
    cr_assert_eq(world.decision.target, 2);
    cr_assert_eq(wish(&world, MS_MEMBER_TRANSFER, 1, ""), MS_MEMBER_OK);
    cr_assert_eq(world.decision.action, MEMBER_NOTHING);
    cr_assert_eq(wish(&world, MS_MEMBER_TRANSFER, 4, ""), MS_MEMBER_NOT_READY);
    cr_assert_eq(wish(&world, MS_MEMBER_TRANSFER, 5, ""), MS_MEMBER_NOT_FOUND);
    world.down[2] = true;
    cr_assert_eq(wish(&world, MS_MEMBER_TRANSFER, 2, ""), MS_MEMBER_NOT_READY);
}

Test(member_rules, without_a_target_the_most_up_to_date_is_chosen)
{
    struct world world;

    init(&world, 4);
    add_member(&world, 5, false);
    world.status.progress[1].match = 80;
    world.status.progress[2].match = 95;
    world.status.progress[3].match = 99;
    world.down[4] = true;
    cr_assert_eq(wish(&world, MS_MEMBER_TRANSFER, 0, ""), MS_MEMBER_OK);
    cr_assert_eq(world.decision.target, 3);
    init(&world, 1);
    add_member(&world, 5, false);
    cr_assert_eq(wish(&world, MS_MEMBER_TRANSFER, 0, ""), MS_MEMBER_NOT_READY);
}

/* ---- one at a time ---- */

Test(member_rules, change_or_transfer_under_way_makes_others_wait)
{
    struct world world;

    init(&world, 3);
    world.status.basic.pending_conf_index = 101;
    cr_assert_eq(wish(&world, MS_MEMBER_REMOVE, 3, ""), MS_MEMBER_BUSY);
    cr_assert_eq(wish(&world, MS_MEMBER_TRANSFER, 3, ""), MS_MEMBER_BUSY);
    world.status.basic.pending_conf_index = 100;
    cr_assert_eq(wish(&world, MS_MEMBER_REMOVE, 3, ""), MS_MEMBER_OK);
    world.status.conf.voters_outgoing.count = 1;
    cr_assert_eq(wish(&world, MS_MEMBER_REMOVE, 3, ""), MS_MEMBER_BUSY);
    init(&world, 3);
    world.status.basic.lead_transferee = 2;
    cr_assert_eq(wish(&world, MS_MEMBER_TRANSFER, 3, ""), MS_MEMBER_BUSY);
    cr_assert_eq(wish(&world, MS_MEMBER_REMOVE, 3, ""), MS_MEMBER_BUSY);
}

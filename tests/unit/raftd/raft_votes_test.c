/*
 * Elections among members who do not know the same: about what is committed, and so about who
 * elects, or about the term. What they tell each other must let them agree in the end.
 */
#include "tests/unit/raftd/raft_fixture.h"

#define CHANGE_AT 2 /* index of the entry that changes the configuration */

static struct fixture f;
static uint8_t change_bytes[64];

/* Puts a log of count entries of term 1 onto a node; commit of them are committed and applied. */
static void store(node_id id, const struct raft_conf_change *change, size_t count,
                  raft_index commit, const struct raft_conf_state *conf)
{
    struct fixture_node *node = fixture_node(&f, id);

    for (size_t i = 1; i <= count; i++) {
        struct raft_entry entry = {.term = 1, .index = i, .data = "x", .len_bytes = 1};

        if (i == CHANGE_AT) {
            entry.type = RAFT_ENTRY_CONF_CHANGE_V2;
            entry.data = change_bytes;
            cr_assert_eq(raft_conf_change_encode(change, change_bytes, sizeof(change_bytes),
                                                 &entry.len_bytes),
                         MS_OK);
        }
        node->entries[node->count++] = entry;
    }
    node->hard = (struct raft_hard_state){.term = 1, .commit = commit};
    node->applied = commit;
    node->conf = *conf;
    fixture_start(node);
}

static void campaign(node_id id)
{
    cr_assert_eq(raft_campaign(fixture_node(&f, id)->raft), MS_OK);
    fixture_run(&f);
}

/* Of two, node 1 has removed itself. It has the longer log, and node 2 does not know. */
static void prepare_removed_leader(bool pre_vote)
{
    static const struct raft_conf_change remove = {.count = 1,
                                                   .changes = {{RAFT_REMOVE_MEMBER, 1}}};
    static const struct raft_conf_state before = {.voters = {.count = 2, .ids = {1, 2}}};
    static const struct raft_conf_state after = {.voters = {.count = 1, .ids = {2}}};

    fixture_prepare(&f, 2);
    f.nodes[0].options.pre_vote = pre_vote;
    f.nodes[1].options.pre_vote = pre_vote;
    store(1, &remove, CHANGE_AT + 1, CHANGE_AT, &after);
    store(2, &remove, CHANGE_AT, CHANGE_AT - 1, &before);
}

static void check_successor(bool pre_vote)
{
    prepare_removed_leader(pre_vote);

    campaign(2);
    /* Not elected by a configuration that is over, but it knows the new one now. */
    cr_assert_eq(fixture_status(&f, 2).state, RAFT_STATE_FOLLOWER);
    cr_assert_eq(fixture_status(&f, 2).commit, CHANGE_AT);
    cr_assert(fixture_status(&f, 2).sole_voter);

    fixture_elect(&f, 2);
    cr_assert(fixture_status(&f, 2).term_committed);
    fixture_fini(&f);
}

Test(raft_votes, thesis_4_2_2_a_removed_leader_tells_its_successor_what_is_committed)
{
    check_successor(false);
}

Test(raft_votes, thesis_9_6_rejected_pre_votes_tell_it_too)
{
    check_successor(true);
}

/* The longest log is that of a voter who does not know that it is one; who asks it does. */
Test(raft_votes, thesis_4_2_1_a_new_voter_learns_from_a_request_that_it_may_lead)
{
    static const struct raft_conf_change promote = {.count = 1, .changes = {{RAFT_ADD_VOTER, 3}}};
    static const struct raft_conf_state before = {.voters = {.count = 2, .ids = {1, 2}},
                                                  .learners = {.count = 1, .ids = {3}}};
    static const struct raft_conf_state after = {.voters = {.count = 3, .ids = {1, 2, 3}}};

    fixture_prepare(&f, 3);
    store(2, &promote, CHANGE_AT, CHANGE_AT, &after);
    store(3, &promote, CHANGE_AT + 1, CHANGE_AT - 1, &before);

    campaign(3);
    cr_assert_eq(fixture_status(&f, 3).term, 1, "a learner must not campaign");
    campaign(2);
    cr_assert_eq(fixture_status(&f, 2).state, RAFT_STATE_CANDIDATE, "node 1 is down");
    cr_assert(fixture_status(&f, 3).is_voter);

    fixture_elect(&f, 3);
    cr_assert(fixture_status(&f, 3).term_committed);
    fixture_fini(&f);
}

/* The commit index is a claim about one entry, so it takes the very same entry to believe it. */
Test(raft_votes, 5_3_commits_of_entries_that_this_log_does_not_have_are_ignored)
{
    static const struct raft_conf_change update = {.count = 1,
                                                   .changes = {{RAFT_UPDATE_MEMBER, 1}}};
    static const struct raft_conf_state conf = {.voters = {.count = 3, .ids = {1, 2, 3}}};
    static const struct {
        raft_index index;
        raft_term term;
    } claims[] = {{3, 2}, {4, 1}, {UINT64_MAX, 1}, {3, 0}, {1, 1}, {0, 0}};

    fixture_prepare(&f, 3);
    store(1, &update, 3, CHANGE_AT, &conf);
    for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
        struct raft_message request = {.type = RAFT_MSG_VOTE,
                                       .to = 1,
                                       .from = 2,
                                       .term = 2 + i,
                                       .index = 3,
                                       .log_term = 2,
                                       .commit = claims[i].index,
                                       .commit_term = claims[i].term};

        cr_assert_eq(raft_step(fixture_node(&f, 1)->raft, &request), MS_OK);
        cr_assert_eq(fixture_status(&f, 1).commit, CHANGE_AT, "claim %zu was believed", i);
    }
    fixture_fini(&f);
}

/* Its own quorum tells a leader; by then an old rejection may still arrive. */
Test(raft_votes, 5_4_2_a_leader_does_not_take_commits_from_votes)
{
    struct raft_message late = {.type = RAFT_MSG_VOTE_RESP,
                                .to = 1,
                                .from = 3,
                                .term = 1,
                                .reject = true,
                                .commit = 1,
                                .commit_term = 1};

    fixture_prepare(&f, 3);
    fixture_start_all(&f);
    cr_assert_eq(raft_campaign(fixture_node(&f, 1)->raft), MS_OK);
    fixture_flush(&f, 1);
    while (fixture_status(&f, 1).state != RAFT_STATE_LEADER) {
        cr_assert_eq(fixture_deliver(&f, 0), MS_OK);
        fixture_flush(&f, 2);
    }
    cr_assert_eq(raft_step(fixture_node(&f, 1)->raft, &late), MS_OK);
    cr_assert_eq(fixture_status(&f, 1).commit, 0);
    fixture_fini(&f);
}

/* A learner was asked for its vote by somebody who has been removed meanwhile. */
Test(raft_votes, 5_1_who_may_not_campaign_tells_the_leader_of_a_later_term)
{
    static const struct raft_conf_state conf = {.voters = {.count = 2, .ids = {1, 2}},
                                                .learners = {.count = 1, .ids = {3}}};
    struct raft_message request = {.type = RAFT_MSG_VOTE, .to = 3, .from = 4, .term = 20};

    fixture_prepare(&f, 3);
    for (size_t i = 0; i < f.count; i++) {
        f.nodes[i].conf = conf;
    }
    fixture_start_all(&f);
    fixture_elect(&f, 1);
    cr_assert_eq(raft_step(fixture_node(&f, 3)->raft, &request), MS_OK);
    cr_assert_eq(fixture_propose(&f, 1, "everywhere"), MS_OK);
    fixture_run(&f);
    cr_assert_eq(fixture_status(&f, 1).state, RAFT_STATE_FOLLOWER);

    fixture_elect(&f, 1);
    cr_assert_eq(fixture_status(&f, 3).lead, 1);
    fixture_tick(&f, 1, 1);
    fixture_run(&f);
    cr_assert_eq(fixture_status(&f, 3).commit, fixture_status(&f, 1).commit);
    fixture_fini(&f);
}

/*
 * Elected by the others while its disk is slow, a candidate that led at once, crashed and came back
 * with nothing of it could be elected in the same term again.
 */
Test(raft_votes, 5_2_a_candidate_leads_only_with_its_own_vote_on_disk)
{
    fixture_prepare(&f, 3);
    for (size_t i = 0; i < 3; i++) {
        f.nodes[i].options.async_storage = true;
        fixture_start(&f.nodes[i]);
    }
    f.hold_storage = true;
    cr_assert_eq(raft_campaign(fixture_node(&f, 1)->raft), MS_OK);
    for (size_t round = 0; round < 4; round++) {
        fixture_run(&f);
        while (fixture_work(&f, fixture_node(&f, 2)) || fixture_work(&f, fixture_node(&f, 3))) {
        }
    }
    cr_assert_eq(fixture_status(&f, 2).vote, 1);
    cr_assert_eq(fixture_status(&f, 3).vote, 1);
    cr_assert_eq(fixture_status(&f, 1).state, RAFT_STATE_CANDIDATE, "its own vote is not written");
    f.hold_storage = false;
    fixture_run(&f);
    cr_assert_eq(fixture_status(&f, 1).state, RAFT_STATE_LEADER);
    fixture_fini(&f);
}

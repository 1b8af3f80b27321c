/*
 * Starting and starting again: what is stored decides (Raft figure 2, "persistent state").
 */
#include "tests/unit/raftd/raft_fixture.h"

static struct fixture f;

static int try_create(struct fixture_node *node)
{
    struct raft *raft = NULL;
    int rc = raft_create(&node->options, &raft);

    raft_destroy(raft);
    return rc;
}

Test(raft_restart, figure_2_term_vote_commit_and_log_survive)
{
    fixture_prepare(&f, 3);
    fixture_start_all(&f);
    fixture_elect(&f, 1);
    cr_assert_eq(fixture_propose(&f, 1, "kept"), MS_OK);
    fixture_run(&f);
    for (node_id id = 1; id <= 3; id++) {
        fixture_crash(&f, id);
        fixture_start(fixture_node(&f, id));
        cr_assert_eq(fixture_status(&f, id).term, 1);
        cr_assert_eq(fixture_status(&f, id).vote, 1);
        cr_assert_eq(fixture_status(&f, id).commit, 2);
        cr_assert_eq(fixture_status(&f, id).applied, 2);
        cr_assert_eq(fixture_status(&f, id).last_index, 2);
        cr_assert_not(raft_has_ready(fixture_node(&f, id)->raft));
    }
    fixture_elect(&f, 3);
    cr_assert_eq(fixture_status(&f, 3).term, 2);
    cr_assert_eq(fixture_status(&f, 3).commit, 3);
    fixture_fini(&f);
}

Test(raft_restart, figure_2_committed_entries_are_applied_again_from_applied_on)
{
    fixture_prepare(&f, 1);
    fixture_start_all(&f);
    fixture_elect(&f, 1);
    cr_assert_eq(fixture_propose(&f, 1, "a"), MS_OK);
    cr_assert_eq(fixture_propose(&f, 1, "b"), MS_OK);
    fixture_run(&f);
    fixture_crash(&f, 1);
    f.nodes[0].applied = 2; /* the state machine lost the last one */
    fixture_start(&f.nodes[0]);
    cr_assert(raft_has_ready(f.nodes[0].raft));
    fixture_run(&f);
    cr_assert_eq(f.nodes[0].applied, 3);
    fixture_fini(&f);
}

Test(raft_restart, 5_2_a_vote_is_not_cast_twice)
{
    struct raft_message request = {
        .type = RAFT_MSG_VOTE, .to = 1, .from = 2, .term = 5, .index = 0};

    fixture_prepare(&f, 3);
    fixture_start_all(&f);
    cr_assert_eq(raft_step(f.nodes[0].raft, &request), MS_OK);
    fixture_flush(&f, 1);
    cr_assert_not(f.queue[0].reject);
    fixture_crash(&f, 1);
    fixture_start(&f.nodes[0]);
    request.from = 3;
    f.queued = 0;
    cr_assert_eq(raft_step(f.nodes[0].raft, &request), MS_OK);
    fixture_flush(&f, 1);
    cr_assert_eq(f.queue[0].to, 3);
    cr_assert(f.queue[0].reject);
    fixture_fini(&f);
}

Test(raft_restart, sole_voter_leads_again_at_once)
{
    fixture_prepare(&f, 1);
    f.nodes[0].options.async_storage = true;
    f.nodes[0].options.pre_vote = true;
    f.nodes[0].options.check_quorum = true;
    fixture_start_all(&f);
    for (raft_term term = 1; term <= 3; term++) {
        fixture_elect(&f, 1);
        cr_assert_eq(fixture_status(&f, 1).term, term);
        cr_assert(fixture_status(&f, 1).sole_voter);
        cr_assert_eq(fixture_status(&f, 1).applied, term);
        fixture_crash(&f, 1);
        fixture_start(&f.nodes[0]);
    }
    fixture_fini(&f);
}

/* The others still believe in the leader that was restarted, and protect it from itself. */
static void restart_leader(bool may_recampaign)
{
    fixture_prepare(&f, 3);
    for (size_t i = 0; i < 3; i++) {
        f.nodes[i].options.pre_vote = true;
        f.nodes[i].options.check_quorum = true;
        f.nodes[i].options.leader_may_recampaign = may_recampaign;
    }
    fixture_start_all(&f);
    fixture_elect(&f, 1);
    fixture_crash(&f, 1);
    fixture_start(&f.nodes[0]);
    cr_assert_eq(raft_campaign(f.nodes[0].raft), MS_OK);
    fixture_run(&f);
}

Test(raft_restart, thesis_6_2_3_lease_holds_against_the_leader_itself)
{
    restart_leader(false);
    cr_assert_neq(fixture_status(&f, 1).state, RAFT_STATE_LEADER);
    fixture_fini(&f);
}

Test(raft_restart, restarted_leader_may_come_back_if_allowed)
{
    restart_leader(true);
    cr_assert_eq(fixture_status(&f, 1).state, RAFT_STATE_LEADER);
    cr_assert_eq(fixture_status(&f, 1).term, 2);
    /* Another member is still refused. */
    cr_assert_eq(raft_campaign(fixture_node(&f, 2)->raft), MS_OK);
    fixture_run(&f);
    cr_assert_eq(fixture_status(&f, 1).state, RAFT_STATE_LEADER);
    cr_assert_eq(fixture_status(&f, 1).term, 2);
    fixture_fini(&f);
}

Test(raft_restart, 4_1_pending_change_forbids_to_campaign)
{
    struct raft_conf_change change = {.count = 1, .changes = {{RAFT_ADD_LEARNER, 9}}};

    fixture_prepare(&f, 1);
    fixture_start_all(&f);
    fixture_elect(&f, 1);
    cr_assert_eq(raft_propose_conf_change(f.nodes[0].raft, &change), MS_OK);
    fixture_run(&f);
    fixture_crash(&f, 1);
    f.nodes[0].applied = 1;
    f.nodes[0].conf.learners.count = 0;
    fixture_start(&f.nodes[0]);
    cr_assert_eq(raft_campaign(f.nodes[0].raft), MS_OK);
    cr_assert_eq(fixture_status(&f, 1).state, RAFT_STATE_FOLLOWER);
    fixture_run(&f);
    cr_assert_eq(f.nodes[0].conf.learners.count, 1);
    fixture_elect(&f, 1);
    fixture_fini(&f);
}

Test(raft_restart, contradictions_are_refused)
{
    struct fixture_node *node = &f.nodes[0];

    fixture_prepare(&f, 1);
    node->hard = (struct raft_hard_state){.term = 1, .commit = 7};
    cr_assert_eq(try_create(node), MS_ECORRUPT, "a commit index beyond the log");
    node->hard = (struct raft_hard_state){.term = 1};
    node->options.applied = 3;
    cr_assert_eq(try_create(node), MS_ECORRUPT, "more applied than committed");
    node->options.applied = 0;
    node->conf.learners = node->conf.voters;
    cr_assert_eq(try_create(node), MS_EINVAL, "voter and learner at once");
    node->conf.learners.count = 0;
    node->conf.learners_next.ids[node->conf.learners_next.count++] = 1;
    cr_assert_eq(try_create(node), MS_EINVAL, "staged although not joint");
    node->conf.learners_next.count = 0;
    cr_assert_eq(try_create(node), MS_OK);
    cr_assert_eq(node->memory.live, 0);
}

Test(raft_restart, options_are_checked)
{
    struct raft_options good;
    struct fixture_node *node = &f.nodes[0];

    fixture_prepare(&f, 1);
    good = node->options;
    node->options.id = RAFT_NONE;
    cr_assert_eq(try_create(node), MS_EINVAL);
    node->options.id = RAFT_APPLY_THREAD;
    cr_assert_eq(try_create(node), MS_EINVAL);
    node->options = good;
    node->options.election_ticks = node->options.heartbeat_ticks;
    cr_assert_eq(try_create(node), MS_EINVAL);
    node->options = good;
    node->options.heartbeat_ticks = 0;
    cr_assert_eq(try_create(node), MS_EINVAL);
    node->options = good;
    node->options.max_inflight_messages = 0;
    cr_assert_eq(try_create(node), MS_EINVAL);
    node->options = good;
    node->options.max_inflight_bytes = 10;
    cr_assert_eq(try_create(node), MS_EINVAL, "less than one message");
}

Test(raft_restart, joint_configuration_survives)
{
    struct raft_status status;
    struct raft_conf_state conf = {.voters = {3, {4, 5, 1}},
                                   .voters_outgoing = {3, {1, 2, 3}},
                                   .learners = {1, {6}},
                                   .learners_next = {1, {3}},
                                   .auto_leave = true};

    fixture_prepare(&f, 1);
    f.nodes[0].conf = conf;
    fixture_start_all(&f);
    raft_status(f.nodes[0].raft, &status);
    cr_assert_eq(status.conf.voters.count, 3);
    cr_assert_eq(status.conf.voters.ids[0], 1);
    cr_assert_eq(status.conf.voters_outgoing.count, 3);
    cr_assert_eq(status.conf.learners.ids[0], 6);
    cr_assert_eq(status.conf.learners_next.ids[0], 3);
    cr_assert(status.conf.auto_leave);
    fixture_fini(&f);
}

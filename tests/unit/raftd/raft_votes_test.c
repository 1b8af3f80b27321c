/*
 * What votes tell about commits: whoever knows of a committed change passes it on to those who
 * have the entry and do not know, so that members cannot differ for ever about who elects.
 */
#include "tests/unit/raftd/raft_fixture.h"

static struct fixture f;

static void start(size_t count, bool pre_vote)
{
    fixture_prepare(&f, count);
    for (size_t i = 0; i < count; i++) {
        f.nodes[i].options.pre_vote = pre_vote;
        f.nodes[i].options.step_down_on_removal = true;
    }
    fixture_start_all(&f);
    fixture_elect(&f, 1);
}

static void drop_queue(void)
{
    for (size_t i = 0; i < f.queued; i++) {
        raft_message_release(&f.nodes[0].options.alloc, &f.queue[i]);
    }
    f.queued = 0;
}

static void propose_change(node_id leader, enum raft_change_type type, node_id id)
{
    struct raft_conf_change change = {.count = 1, .changes = {{type, id}}};

    cr_assert_eq(raft_propose_conf_change(fixture_node(&f, leader)->raft, &change), MS_OK);
}

/*
 * Leader 1 of two removes itself and has proposed more; node 2 has stored the change, but is
 * never told that it is committed.
 */
static void remove_leader_silently(void)
{
    propose_change(1, RAFT_REMOVE_MEMBER, 1);
    fixture_flush(&f, 1);
    cr_assert_eq(fixture_deliver(&f, 0), MS_OK);
    fixture_flush(&f, 2);
    cr_assert_eq(fixture_propose(&f, 1, "never committed"), MS_OK);
    fixture_flush(&f, 1);
    f.cut[1][2] = true;
    for (size_t i = 0; i < f.queued; i++) {
        if (f.queue[i].type == RAFT_MSG_APP_RESP) {
            cr_assert_eq(fixture_deliver(&f, i), MS_OK);
            break;
        }
    }
    fixture_flush(&f, 1);
    f.cut[1][2] = false;
    drop_queue();
    cr_assert_eq(fixture_status(&f, 1).state, RAFT_STATE_FOLLOWER, "it has removed itself");
    cr_assert_not(fixture_status(&f, 1).is_voter);
    cr_assert_lt(fixture_status(&f, 2).last_index, fixture_status(&f, 1).last_index);
    cr_assert_lt(fixture_status(&f, 2).commit, fixture_status(&f, 1).commit);
}

static void check_successor(bool pre_vote)
{
    start(2, pre_vote);
    remove_leader_silently();

    cr_assert_eq(raft_campaign(fixture_node(&f, 2)->raft), MS_OK);
    fixture_run(&f);
    /* Not elected by a configuration that is over, but now it knows the next. */
    cr_assert_eq(fixture_status(&f, 2).state, RAFT_STATE_FOLLOWER);
    cr_assert_eq(fixture_status(&f, 2).commit, fixture_status(&f, 1).commit);
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

Test(raft_votes, thesis_4_2_2_a_removed_leader_still_knows_after_a_restart)
{
    start(2, false);
    remove_leader_silently();
    fixture_crash(&f, 1);
    fixture_start(fixture_node(&f, 1));

    cr_assert_eq(raft_campaign(fixture_node(&f, 2)->raft), MS_OK);
    fixture_run(&f);
    fixture_elect(&f, 2);
    fixture_fini(&f);
}

/* The one with the longest log does not know yet that it may lead; who asks for its vote does. */
Test(raft_votes, thesis_4_2_1_a_new_voter_learns_from_the_request_that_it_is_one)
{
    start(3, false);
    propose_change(1, RAFT_ADD_LEARNER, 3); /* of the voters remain 1 and 2 */
    fixture_run(&f);
    cr_assert(fixture_status(&f, 3).is_learner);

    propose_change(1, RAFT_ADD_VOTER, 3);
    cr_assert_eq(fixture_propose(&f, 1, "not at 2"), MS_OK);
    fixture_flush(&f, 1);
    /* Node 3 gets both entries, node 2 the first; only node 2 hears of the commit. */
    f.cut[1][3] = true;
    for (size_t i = 0; i < f.queued;) {
        bool later = f.queue[i].to == 2 && f.queue[i].entries.entries[0].type == RAFT_ENTRY_NORMAL;

        if (later) {
            raft_message_release(&f.nodes[0].options.alloc, &f.queue[i]);
            f.queued--;
            memmove(&f.queue[i], &f.queue[i + 1], (f.queued - i) * sizeof(f.queue[0]));
        } else {
            i++;
        }
    }
    while (f.queued > 0) {
        bool to_leader = f.queue[0].to == 1;

        cr_assert_eq(fixture_deliver(&f, 0), MS_OK);
        fixture_flush(&f, 2);
        fixture_flush(&f, 3);
        if (to_leader) {
            break;
        }
    }
    drop_queue();
    fixture_flush(&f, 1);
    fixture_fini(&f);
}

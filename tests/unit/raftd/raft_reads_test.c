/*
 * Reads without log entries: thesis 6.4, by quorum and by lease.
 */
#include "tests/unit/raftd/raft_fixture.h"

static struct fixture f;

static void start(size_t count)
{
    fixture_prepare(&f, count);
    fixture_start_all(&f);
}

static int read_on(node_id id, uint64_t seq)
{
    return raft_read_index(fixture_node(&f, id)->raft,
                           (struct raft_read_id){.origin = 77, .seq = seq});
}

Test(raft_reads, thesis_6_4_leader_answers_after_a_quorum_confirms)
{
    struct fixture_node *leader;

    start(3);
    fixture_elect(&f, 1);
    leader = fixture_node(&f, 1);
    cr_assert_eq(fixture_propose(&f, 1, "x"), MS_OK);
    fixture_run(&f);

    cr_assert_eq(read_on(1, 5), MS_OK);
    fixture_flush(&f, 1);
    cr_assert_eq(leader->read_count, 0, "nobody has confirmed yet");
    cr_assert_eq(fixture_count(&f, RAFT_MSG_HEARTBEAT, 2), 1);
    fixture_run(&f);
    cr_assert_eq(leader->read_count, 1);
    cr_assert_eq(leader->reads[0].index, 2);
    cr_assert_eq(leader->reads[0].id.origin, 77);
    cr_assert_eq(leader->reads[0].id.seq, 5);
    fixture_fini(&f);
}

Test(raft_reads, thesis_6_4_isolated_leader_does_not_answer)
{
    start(3);
    fixture_elect(&f, 1);
    fixture_isolate(&f, 1, true);
    cr_assert_eq(read_on(1, 1), MS_OK);
    fixture_run(&f);
    fixture_tick(&f, 1, 3);
    fixture_run(&f);
    cr_assert_eq(fixture_node(&f, 1)->read_count, 0);

    /* Reads go on with the next heartbeat once the others are back. */
    fixture_isolate(&f, 1, false);
    fixture_tick(&f, 1, 1);
    fixture_run(&f);
    cr_assert_eq(fixture_node(&f, 1)->read_count, 1);
    fixture_fini(&f);
}

Test(raft_reads, thesis_6_4_one_round_confirms_all_reads_before_it)
{
    start(3);
    fixture_elect(&f, 1);
    for (uint64_t i = 0; i < 10; i++) {
        cr_assert_eq(read_on(1, i), MS_OK);
    }
    fixture_flush(&f, 1);
    /* Only the last round arrives, at one peer. */
    while (f.queued > 1) {
        size_t drop = f.queue[0].to == 2 && fixture_count(&f, RAFT_MSG_HEARTBEAT, 2) == 1 ? 1 : 0;

        raft_message_release(&f.nodes[0].options.alloc, &f.queue[drop]);
        f.queued--;
        memmove(&f.queue[drop], &f.queue[drop + 1], (f.queued - drop) * sizeof(f.queue[0]));
    }
    cr_assert_eq(f.queue[0].to, 2);
    fixture_run(&f);
    cr_assert_eq(fixture_node(&f, 1)->read_count, 10);
    for (uint64_t i = 0; i < 10; i++) {
        cr_assert_eq(fixture_node(&f, 1)->reads[i].id.seq, i, "in the order they came");
    }
    fixture_fini(&f);
}

Test(raft_reads, thesis_6_4_new_leader_waits_for_an_entry_of_its_term)
{
    start(3);
    fixture_elect(&f, 1);
    cr_assert_eq(raft_campaign(fixture_node(&f, 2)->raft), MS_OK);
    fixture_flush(&f, 2);
    while (fixture_status(&f, 2).state != RAFT_STATE_LEADER) {
        (void)fixture_deliver(&f, 0);
        fixture_flush(&f, 1);
        fixture_flush(&f, 3);
    }
    cr_assert_eq(read_on(2, 9), MS_OK);
    cr_assert_not(fixture_status(&f, 2).term_committed);
    cr_assert_eq(fixture_node(&f, 2)->read_count, 0);
    fixture_run(&f);
    cr_assert(fixture_status(&f, 2).term_committed);
    cr_assert_eq(fixture_node(&f, 2)->read_count, 1);
    cr_assert_eq(fixture_node(&f, 2)->reads[0].index, 2, "its own first entry");
    fixture_fini(&f);
}

Test(raft_reads, thesis_6_4_follower_asks_the_leader)
{
    start(3);
    fixture_elect(&f, 1);
    cr_assert_eq(read_on(3, 4), MS_OK);
    fixture_run(&f);
    cr_assert_eq(fixture_node(&f, 3)->read_count, 1);
    cr_assert_eq(fixture_node(&f, 3)->reads[0].index, 1);
    cr_assert_eq(fixture_node(&f, 3)->reads[0].id.seq, 4);
    cr_assert_eq(fixture_node(&f, 1)->read_count, 0);
    fixture_fini(&f);
}

Test(raft_reads, without_a_leader_a_read_is_refused)
{
    start(3);
    cr_assert_eq(read_on(1, 1), MS_EDROPPED);
    cr_assert_eq(raft_campaign(fixture_node(&f, 1)->raft), MS_OK);
    cr_assert_eq(read_on(1, 1), MS_EDROPPED);
    fixture_fini(&f);
}

Test(raft_reads, sole_voter_answers_at_once_after_its_first_commit)
{
    start(1);
    cr_assert_eq(raft_campaign(fixture_node(&f, 1)->raft), MS_OK);
    fixture_ready(&f, fixture_node(&f, 1)); /* its vote is stable: it leads */
    cr_assert_eq(fixture_status(&f, 1).state, RAFT_STATE_LEADER);
    cr_assert_eq(read_on(1, 1), MS_OK);
    cr_assert_eq(fixture_node(&f, 1)->read_count, 0, "nothing of its term is committed");
    fixture_run(&f);
    cr_assert_eq(fixture_node(&f, 1)->read_count, 1);
    cr_assert_eq(read_on(1, 2), MS_OK);
    fixture_ready(&f, fixture_node(&f, 1));
    cr_assert_eq(fixture_node(&f, 1)->read_count, 2);
    fixture_fini(&f);
}

static void start_lease(void)
{
    fixture_prepare(&f, 3);
    for (size_t i = 0; i < 3; i++) {
        f.nodes[i].options.check_quorum = true;
        f.nodes[i].options.read_mode = RAFT_READ_LEASE;
    }
    fixture_start_all(&f);
    fixture_elect(&f, 1);
}

Test(raft_reads, thesis_6_4_1_lease_answers_without_a_round)
{
    start_lease();
    cr_assert_eq(read_on(1, 1), MS_OK);
    fixture_flush(&f, 1);
    cr_assert_eq(fixture_node(&f, 1)->read_count, 1);
    cr_assert_eq(f.queued, 0);
    fixture_fini(&f);
}

Test(raft_reads, thesis_6_4_1_lease_ends_with_an_ordered_election)
{
    start_lease();
    cr_assert_eq(raft_transfer_leader(fixture_node(&f, 1)->raft, 2), MS_OK);
    cr_assert_eq(read_on(1, 1), MS_OK);
    fixture_flush(&f, 1);
    cr_assert_eq(fixture_node(&f, 1)->read_count, 0, "2 may lead already");
    fixture_fini(&f);
}

Test(raft_reads, lease_without_check_quorum_is_refused)
{
    struct raft *raft = NULL;

    fixture_prepare(&f, 1);
    f.nodes[0].options.read_mode = RAFT_READ_LEASE;
    cr_assert_eq(raft_create(&f.nodes[0].options, &raft), MS_EINVAL);
    cr_assert_null(raft);
    fixture_fini(&f);
}

Test(raft_reads, waiting_reads_are_bounded)
{
    int rc = MS_OK;
    size_t taken = 0;
    struct raft_ready ready;

    start(3);
    fixture_elect(&f, 1);
    fixture_isolate(&f, 1, true);
    while (rc == MS_OK && taken <= RAFT_READS_MAX) {
        rc = read_on(1, taken);
        taken += rc == MS_OK;
        if (taken % 1000 == 0) { /* heartbeats must not fill the outbox first */
            cr_assert_eq(raft_ready(fixture_node(&f, 1)->raft, &ready), MS_OK);
            raft_ready_release(fixture_node(&f, 1)->raft, &ready);
            cr_assert_eq(raft_advance(fixture_node(&f, 1)->raft), MS_OK);
        }
    }
    cr_assert_eq(rc, MS_EFULL);
    cr_assert_eq(taken, RAFT_READS_MAX);
    fixture_fini(&f);
}

Test(raft_reads, a_round_that_never_was_is_corrupt)
{
    struct raft_message message = {
        .type = RAFT_MSG_HEARTBEAT_RESP, .to = 1, .from = 2, .term = 1, .read_round = 1000};

    start(3);
    fixture_elect(&f, 1);
    cr_assert_eq(raft_step(fixture_node(&f, 1)->raft, &message), MS_ECORRUPT);
    fixture_fini(&f);
}

Test(raft_reads, reads_are_forgotten_when_leadership_ends)
{
    start(3);
    fixture_elect(&f, 1);
    fixture_isolate(&f, 1, true);
    cr_assert_eq(read_on(1, 1), MS_OK);
    fixture_run(&f);
    fixture_elect(&f, 2);
    fixture_isolate(&f, 1, false);
    fixture_tick(&f, 2, 1);
    fixture_run(&f);
    cr_assert_eq(fixture_status(&f, 1).state, RAFT_STATE_FOLLOWER);
    cr_assert_eq(fixture_node(&f, 1)->read_count, 0);
    fixture_fini(&f);
}

/*
 * lease: how long it holds, and what ends it.
 */
#include "raftd/lease.h"

#include <criterion/criterion.h>

#define ORIGIN  9
#define MS      UINT64_C(1000000)
#define TICK_MS 100
#define TICKS   10
/* Nine ticks, and nine tenths of that. */
#define LENGTH_NS (899 * MS / 10 * 9)

static const struct raft_basic_status leading = {
    .state = RAFT_STATE_LEADER, .lead = 1, .term = 4, .term_committed = true};

/* As if a question had been put at the time. */
static void asked(struct lease *lease, uint64_t at_ms)
{
    lease->last_seq++;
    lease->asked[lease->last_seq % LEASE_QUESTIONS_MAX].ns = at_ms * MS;
}

static void answered(struct lease *lease, uint64_t seq)
{
    const struct raft_read_state state = {.id = {.origin = ORIGIN, .seq = seq}};

    cr_assert(lease_answer(lease, &state));
}

static void start(struct lease *lease)
{
    lease_init(lease, ORIGIN, TICK_MS, TICKS);
    lease_follow(lease, &leading);
}

Test(lease, counts_from_the_question_not_from_the_answer)
{
    struct lease lease;

    start(&lease);
    cr_assert_eq(lease.end.ns, 0);
    asked(&lease, 1000);
    cr_assert_eq(lease.end.ns, 0);
    answered(&lease, 1);
    cr_assert_eq(lease.end.ns, 1000 * MS + LENGTH_NS);
}

Test(lease, late_answer_to_an_old_question_does_not_shorten_it)
{
    struct lease lease;

    start(&lease);
    asked(&lease, 1000);
    asked(&lease, 1100);
    answered(&lease, 2);
    answered(&lease, 1);
    cr_assert_eq(lease.end.ns, 1100 * MS + LENGTH_NS);
}

Test(lease, answers_of_others_are_not_its_own)
{
    const struct raft_read_state state = {.id = {.origin = ORIGIN + 1, .seq = 1}};
    struct lease lease;

    start(&lease);
    asked(&lease, 1000);
    cr_assert_not(lease_answer(&lease, &state));
    cr_assert_eq(lease.end.ns, 0);
}

Test(lease, ends_with_leadership_and_answers_from_before_do_not_bring_it_back)
{
    struct raft_basic_status basic = leading;
    struct lease lease;

    start(&lease);
    asked(&lease, 1000);
    answered(&lease, 1);
    asked(&lease, 1100);
    basic.state = RAFT_STATE_FOLLOWER;
    lease_follow(&lease, &basic);
    cr_assert_eq(lease.end.ns, 0);
    basic = leading;
    basic.term = 5;
    lease_follow(&lease, &basic);
    answered(&lease, 2);
    cr_assert_eq(lease.end.ns, 0);
    asked(&lease, 1200);
    answered(&lease, 3);
    cr_assert_eq(lease.end.ns, 1200 * MS + LENGTH_NS);
}

/* Who was ordered to campaign may do so any time, also after the transfer was given up. */
Test(lease, transfer_ends_it_for_the_rest_of_the_term)
{
    struct raft_basic_status basic = leading;
    struct lease lease;

    start(&lease);
    asked(&lease, 1000);
    answered(&lease, 1);
    basic.lead_transferee = 2;
    lease_follow(&lease, &basic);
    cr_assert_eq(lease.end.ns, 0);
    lease_follow(&lease, &leading);
    cr_assert_eq(lease_ask(&lease, NULL, &leading, (struct ms_instant){0}), 0, "it must not ask");
    asked(&lease, 1200);
    answered(&lease, 2);
    lease_follow(&lease, &leading);
    cr_assert_eq(lease.end.ns, 0);
}

Test(lease, is_not_asked_for_where_it_cannot_hold)
{
    struct raft_basic_status basic = leading;
    struct lease lease;

    start(&lease);
    basic.term_committed = false;
    cr_assert_eq(lease_ask(&lease, NULL, &basic, (struct ms_instant){0}), 0);
    basic = leading;
    basic.sole_voter = true;
    cr_assert_eq(lease_ask(&lease, NULL, &basic, (struct ms_instant){0}), 0);
    basic = leading;
    basic.state = RAFT_STATE_FOLLOWER;
    cr_assert_eq(lease_ask(&lease, NULL, &basic, (struct ms_instant){0}), 0);
    cr_assert_eq(lease.last_seq, 0);
}

Test(lease, question_that_was_forgotten_is_no_proof)
{
    struct lease lease;

    start(&lease);
    for (unsigned i = 0; i <= LEASE_QUESTIONS_MAX; i++) {
        asked(&lease, 1000 + i);
    }
    answered(&lease, 1);
    cr_assert_eq(lease.end.ns, 0);
    answered(&lease, LEASE_QUESTIONS_MAX + 9);
    cr_assert_eq(lease.end.ns, 0);
}

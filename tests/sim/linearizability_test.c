/*
 * The checker on histories whose verdict is known.
 */
#include "tests/sim/linearizability.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/err.h"

#define CHECK(history, verdict_expected) \
    check_verdict((history), sizeof(history) / sizeof((history)[0]), (verdict_expected))

#define CALL(c, from, to) .client = (c), .invoked = (from), .returned = (to)
#define PUT(c, from, to, v)                                                   \
    {                                                                         \
        .kind = LIN_PUT, .outcome = LIN_DONE, CALL(c, from, to), .value = (v) \
    }
#define LOST_PUT(c, from, v)                                            \
    {                                                                   \
        .kind = LIN_PUT, .client = (c), .invoked = (from), .value = (v) \
    }
#define PUT_IF(c, from, to, v, e, o)                                                      \
    {                                                                                     \
        .kind = LIN_PUT, .condition = LIN_IF_REVISION, .outcome = (o), CALL(c, from, to), \
        .value = (v), .expected = (e)                                                     \
    }
#define CREATE(c, from, to, v, o)                                                       \
    {                                                                                   \
        .kind = LIN_PUT, .condition = LIN_IF_ABSENT, .outcome = (o), CALL(c, from, to), \
        .value = (v)                                                                    \
    }
#define GET(c, from, to, v)                                                   \
    {                                                                         \
        .kind = LIN_GET, .outcome = LIN_DONE, CALL(c, from, to), .value = (v) \
    }
#define GET_ABSENT(c, from, to)                                   \
    {                                                             \
        .kind = LIN_GET, .outcome = LIN_ABSENT, CALL(c, from, to) \
    }
#define DELETE(c, from, to, o)                                \
    {                                                         \
        .kind = LIN_DELETE, .outcome = (o), CALL(c, from, to) \
    }
#define LOST_DELETE(c, from)                                 \
    {                                                        \
        .kind = LIN_DELETE, .client = (c), .invoked = (from) \
    }

static struct lin_report report; /* too large for a stack frame of each test */

static void check_verdict(const struct lin_operation *history, size_t count,
                          enum lin_verdict expected)
{
    cr_assert_eq(linearizability_check(history, count, NULL, &report), MS_OK, "%s", report.text);
    cr_assert_eq(report.verdict, expected, "verdict %d, expected %d\n%s", (int)report.verdict,
                 (int)expected, report.text);
    cr_assert_eq(report.text[0] == '\0', expected == LIN_OK);
}

/* ---- known histories ------------------------------------------------------------------------- */

Test(linearizability, nothing_is_fine)
{
    cr_assert_eq(linearizability_check(NULL, 0, NULL, &report), MS_OK);
    cr_assert_eq(report.verdict, LIN_OK);
}

Test(linearizability, sequential_history_is_fine)
{
    const struct lin_operation history[] = {
        GET_ABSENT(1, 1, 2),
        PUT(1, 3, 4, 7),
        GET(1, 5, 6, 7),
        DELETE(1, 7, 8, LIN_DONE),
        DELETE(1, 9, 10, LIN_ABSENT),
        GET_ABSENT(1, 11, 12),
    };

    CHECK(history, LIN_OK);
}

Test(linearizability, stale_read)
{
    const struct lin_operation history[] = {PUT(1, 1, 2, 7), PUT(1, 3, 4, 8), GET(2, 5, 6, 7)};

    CHECK(history, LIN_VIOLATED);
}

Test(linearizability, read_beside_a_write_may_see_either)
{
    const struct lin_operation old[] = {PUT(1, 1, 2, 7), PUT(1, 3, 6, 8), GET(2, 4, 5, 7)};
    const struct lin_operation fresh[] = {PUT(1, 1, 2, 7), PUT(1, 3, 6, 8), GET(2, 4, 5, 8)};

    CHECK(old, LIN_OK);
    CHECK(fresh, LIN_OK);
}

Test(linearizability, touching_instants_are_concurrent)
{
    const struct lin_operation history[] = {PUT(1, 1, 2, 7), PUT(1, 3, 4, 8), GET(2, 4, 5, 7)};

    CHECK(history, LIN_OK);
}

Test(linearizability, acknowledged_write_lost)
{
    const struct lin_operation history[] = {PUT(1, 1, 2, 7), GET_ABSENT(2, 3, 4)};

    CHECK(history, LIN_VIOLATED);
}

Test(linearizability, value_never_written)
{
    const struct lin_operation history[] = {PUT(1, 1, 2, 7), GET(2, 3, 4, 9)};

    CHECK(history, LIN_VIOLATED);
}

Test(linearizability, read_before_the_write_began)
{
    const struct lin_operation history[] = {GET(2, 1, 2, 7), PUT(1, 3, 4, 7)};

    CHECK(history, LIN_VIOLATED);
}

Test(linearizability, reads_of_two_clients_go_back)
{
    const struct lin_operation history[] = {PUT(1, 1, 2, 7), PUT(1, 3, 10, 8), GET(2, 4, 5, 8),
                                            GET(3, 6, 7, 7)};

    CHECK(history, LIN_VIOLATED);
}

Test(linearizability, two_winners_of_one_revision)
{
    struct lin_operation history[] = {
        PUT(1, 1, 2, 7),
        PUT_IF(1, 3, 6, 8, 5, LIN_DONE),
        PUT_IF(2, 4, 7, 9, 5, LIN_DONE),
    };

    history[0].revision = 5;
    CHECK(history, LIN_VIOLATED);
    history[2].outcome = LIN_REFUSED;
    CHECK(history, LIN_OK);
}

Test(linearizability, two_creators)
{
    const struct lin_operation history[] = {CREATE(1, 1, 4, 7, LIN_DONE),
                                            CREATE(2, 2, 5, 8, LIN_DONE)};
    const struct lin_operation with_removal[] = {
        CREATE(1, 1, 4, 7, LIN_DONE), CREATE(2, 2, 5, 8, LIN_DONE), DELETE(3, 1, 9, LIN_DONE)};

    CHECK(history, LIN_VIOLATED);
    CHECK(with_removal, LIN_OK);
}

Test(linearizability, lost_update)
{
    /* Both read 7 at revision 3 and wrote back; the second overwrote what it never saw. */
    struct lin_operation history[] = {
        PUT(1, 1, 2, 7),
        PUT_IF(1, 3, 4, 8, 3, LIN_DONE),
        PUT_IF(2, 5, 6, 9, 3, LIN_DONE),
        GET(3, 7, 8, 9),
    };

    history[0].revision = 3;
    CHECK(history, LIN_VIOLATED);
}

Test(linearizability, refused_although_the_revision_was_right)
{
    struct lin_operation history[] = {PUT(1, 1, 2, 7), PUT_IF(1, 3, 4, 8, 3, LIN_REFUSED)};

    history[0].revision = 3;
    CHECK(history, LIN_VIOLATED);
}

Test(linearizability, resurrected_delete)
{
    const struct lin_operation history[] = {PUT(1, 1, 2, 7), DELETE(1, 3, 4, LIN_DONE),
                                            GET_ABSENT(2, 5, 6), GET(2, 7, 8, 7)};

    CHECK(history, LIN_VIOLATED);
}

Test(linearizability, one_write_done_twice)
{
    const struct lin_operation history[] = {
        PUT(1, 1, 2, 7),
        PUT(2, 3, 4, 8),
        GET(2, 5, 6, 8),
        GET(2, 7, 8, 7),
    };
    const struct lin_operation unanswered[] = {
        LOST_PUT(1, 1, 7),
        GET(2, 2, 3, 7),
        PUT(2, 4, 5, 8),
        GET(2, 6, 7, 7),
    };

    CHECK(history, LIN_VIOLATED);
    CHECK(unanswered, LIN_VIOLATED);
}

Test(linearizability, write_without_answer_may_come_late)
{
    const struct lin_operation history[] = {LOST_PUT(1, 1, 7), PUT(2, 2, 3, 8), GET(2, 4, 5, 8),
                                            GET(2, 6, 7, 7), GET(3, 8, 9, 7)};

    CHECK(history, LIN_OK);
}

Test(linearizability, write_without_answer_may_never_come)
{
    const struct lin_operation history[] = {LOST_PUT(1, 1, 7), GET_ABSENT(2, 2, 3),
                                            GET_ABSENT(2, 100, 101)};

    CHECK(history, LIN_OK);
}

Test(linearizability, write_without_answer_does_not_undo_itself)
{
    const struct lin_operation history[] = {LOST_PUT(1, 1, 7), GET(2, 2, 3, 7),
                                            GET_ABSENT(2, 4, 5)};

    CHECK(history, LIN_VIOLATED);
}

Test(linearizability, removal_without_answer_explains_one_absence)
{
    const struct lin_operation once[] = {LOST_DELETE(3, 1), PUT(1, 2, 3, 7), GET_ABSENT(2, 4, 5),
                                         PUT(1, 6, 7, 8), GET(2, 8, 9, 8)};
    const struct lin_operation twice[] = {LOST_DELETE(3, 1), PUT(1, 2, 3, 7), GET_ABSENT(2, 4, 5),
                                          PUT(1, 6, 7, 8), GET_ABSENT(2, 8, 9)};

    CHECK(once, LIN_OK);
    CHECK(twice, LIN_VIOLATED);
}

Test(linearizability, revision_of_a_lost_write_is_found_by_elimination)
{
    /* The lost write took revision 4, as the read shows: so the refusal was right. */
    struct lin_operation history[] = {
        PUT(1, 1, 2, 7),
        LOST_PUT(2, 3, 8),
        PUT_IF(1, 4, 5, 9, 3, LIN_REFUSED),
        GET(1, 6, 7, 8),
        PUT_IF(1, 8, 9, 10, 4, LIN_DONE),
    };

    history[0].revision = 3;
    history[3].revision = 4;
    CHECK(history, LIN_OK);
    history[4].expected = 5; /* a success at a revision that nothing can have had */
    CHECK(history, LIN_VIOLATED);
}

Test(linearizability, read_with_another_revision_than_the_write)
{
    struct lin_operation history[] = {PUT(1, 1, 2, 7), GET(2, 3, 4, 7)};

    history[0].revision = 3;
    history[1].revision = 3;
    CHECK(history, LIN_OK);
    history[1].revision = 4;
    CHECK(history, LIN_VIOLATED);
}

Test(linearizability, revision_goes_back_on_one_key)
{
    struct lin_operation history[] = {PUT(1, 1, 2, 7), PUT(1, 3, 4, 8)};

    history[0].revision = 5;
    history[1].revision = 4;
    CHECK(history, LIN_VIOLATED);
}

Test(linearizability, revision_goes_back_between_keys)
{
    struct lin_operation history[] = {PUT(1, 1, 2, 7), PUT(2, 3, 4, 8)};

    history[0].revision = 5;
    history[1].revision = 4;
    history[1].key = 1;
    CHECK(history, LIN_VIOLATED);
    history[1].revision = 6;
    CHECK(history, LIN_OK);
    history[1].revision = 5;
    CHECK(history, LIN_VIOLATED);
}

Test(linearizability, read_shows_a_revision_before_a_smaller_one_was_given)
{
    struct lin_operation history[] = {LOST_PUT(1, 1, 7), GET(2, 2, 3, 7), PUT(3, 4, 5, 9)};

    history[1].revision = 8;
    history[2].key = 1;
    history[2].revision = 6;
    CHECK(history, LIN_VIOLATED);
    history[2].revision = 9;
    CHECK(history, LIN_OK);
}

Test(linearizability, keys_do_not_disturb_each_other)
{
    struct lin_operation history[] = {PUT(1, 1, 2, 7), PUT(1, 3, 4, 8), GET(2, 5, 6, 7),
                                      PUT(1, 1, 2, 7)};

    history[2].key = 1;
    history[3].key = 1;
    CHECK(history, LIN_OK);
}

Test(linearizability, impossible_operations_are_named)
{
    struct lin_operation history[] = {PUT(1, 5, 4, 7)};

    cr_assert_eq(linearizability_check(history, 1, NULL, &report), MS_EINVAL);
    cr_assert(strstr(report.text, "operation 0") != NULL);
    history[0].returned = 6;
    history[0].outcome = LIN_REFUSED; /* nothing was asked */
    cr_assert_eq(linearizability_check(history, 1, NULL, &report), MS_EINVAL);
    history[0].outcome = LIN_ABSENT;
    cr_assert_eq(linearizability_check(history, 1, NULL, &report), MS_EINVAL);
}

/* ---- limits ---------------------------------------------------------------------------------- */

Test(linearizability, gives_up_at_its_limit_and_says_so)
{
    enum {
        WRITES = 14
    };
    const struct lin_limits limits = {.states_max = 50};
    struct lin_operation history[2 * WRITES];

    /* All at once, and a read that none of the orders explains. */
    for (size_t i = 0; i < WRITES; i++) {
        history[i] = (struct lin_operation)PUT(i, 1, 100, i + 1);
        history[WRITES + i] = (struct lin_operation)GET(i, 101 + 2 * i, 102 + 2 * i, i + 1);
    }
    cr_assert_eq(linearizability_check(history, 2 * WRITES, &limits, &report), MS_OK);
    cr_assert_eq(report.verdict, LIN_UNDECIDED);
    cr_assert(strstr(report.text, "gave up") != NULL);
    check_verdict(history, 2 * WRITES, LIN_VIOLATED);
}

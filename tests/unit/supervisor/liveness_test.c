/*
 * liveness: the age of the ping under way.
 */
#include <criterion/criterion.h>

#include "supervisor/liveness.h"

static struct ms_instant at_ms(uint64_t ms)
{
    return (struct ms_instant){.ns = ms * UINT64_C(1000000)};
}

Test(liveness, silence_is_the_age_of_the_unanswered_ping)
{
    struct liveness l;

    liveness_reset(&l);
    cr_assert_eq(liveness_silence_ms(&l, at_ms(5000)), 0, "nothing was asked yet");
    cr_assert(liveness_wants_ping(&l));
    cr_assert_eq(liveness_sent(&l, at_ms(5000)), 1);
    cr_assert_not(liveness_wants_ping(&l), "one ping at a time");
    cr_assert_eq(liveness_silence_ms(&l, at_ms(7500)), 2500);
    liveness_answered(&l, 1);
    cr_assert_eq(liveness_silence_ms(&l, at_ms(9000)), 0);
    cr_assert(liveness_wants_ping(&l));
}

Test(liveness, an_answer_to_another_ping_does_not_count)
{
    struct liveness l;

    liveness_reset(&l);
    (void)liveness_sent(&l, at_ms(1));
    liveness_answered(&l, 1);
    (void)liveness_sent(&l, at_ms(10));
    liveness_answered(&l, 1);
    liveness_answered(&l, 3);
    liveness_answered(&l, UINT64_MAX);
    cr_assert_eq(liveness_silence_ms(&l, at_ms(110)), 100);
    liveness_answered(&l, 2);
    cr_assert_eq(liveness_silence_ms(&l, at_ms(110)), 0);
}

/* The supervisor was stopped itself: that nobody answered it proves nothing. */
Test(liveness, forgiving_starts_the_wait_anew)
{
    struct liveness l;

    liveness_reset(&l);
    liveness_forgive(&l, at_ms(0));
    cr_assert(liveness_wants_ping(&l));
    (void)liveness_sent(&l, at_ms(0));
    liveness_forgive(&l, at_ms(60000));
    cr_assert_eq(liveness_silence_ms(&l, at_ms(60010)), 10);
}

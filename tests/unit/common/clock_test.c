/*
 * clock: differences that cannot go wrong at either end of time.
 */
#include "common/clock.h"

#include <criterion/criterion.h>
#include <time.h>

Test(clock, now_never_goes_back)
{
    struct ms_instant before = ms_clock_now();

    for (int i = 0; i < 1000; i++) {
        struct ms_instant after = ms_clock_now();

        cr_assert_geq(after.ns, before.ns);
        before = after;
    }
}

Test(clock, wall_is_the_calendar)
{
    time_t before_s = time(NULL);
    uint64_t now_ms = ms_clock_wall_ms();
    time_t after_s = time(NULL);

    /* time() may read a coarser clock, a tick behind. */
    cr_assert_geq(now_ms / 1000, (uint64_t)before_s);
    cr_assert_leq(now_ms / 1000, (uint64_t)after_s + 1);
}

Test(clock, elapsed_is_zero_when_later_is_earlier)
{
    struct ms_instant early = {5};
    struct ms_instant late = {2000005};

    cr_assert_eq(ms_clock_elapsed_ns(early, late), 2000000);
    cr_assert_eq(ms_clock_elapsed_ms(early, late), 2);
    cr_assert_eq(ms_clock_elapsed_ns(late, early), 0);
    cr_assert_eq(ms_clock_elapsed_ms(late, early), 0);
    cr_assert_eq(ms_clock_elapsed_ns(early, early), 0);
}

Test(clock, add_stops_at_the_end_of_time)
{
    struct ms_instant at = {7};

    cr_assert_eq(ms_clock_add_ms(at, 3).ns, 3000007);
    cr_assert_eq(ms_clock_add_ms(at, UINT64_MAX).ns, UINT64_MAX);
    cr_assert_eq(ms_clock_add_ms((struct ms_instant){UINT64_MAX}, 1).ns, UINT64_MAX);
}

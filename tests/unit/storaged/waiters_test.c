/*
 * waiters: lowest index first, bounded.
 */
#include <stdlib.h>

#include <criterion/criterion.h>

#include "storaged/waiters.h"

Test(waiters, come_out_by_index)
{
    struct waiters waiters = {0};
    struct waiter waiter;
    raft_index last = 0;

    srandom(7);
    cr_assert_eq(waiters_first(&waiters, &waiter), MS_ENOENT);
    for (uint64_t i = 0; i < 500; i++) {
        waiter = (struct waiter){.index = (raft_index)(random() % 100), .request = i};
        cr_assert_eq(waiters_add(&waiters, &waiter), MS_OK);
    }
    for (int i = 0; i < 500; i++) {
        cr_assert_eq(waiters_first(&waiters, &waiter), MS_OK);
        cr_assert_geq(waiter.index, last);
        last = waiter.index;
        waiters_pop(&waiters);
    }
    cr_assert_eq(waiters_first(&waiters, &waiter), MS_ENOENT);
    waiters_fini(&waiters);
}

Test(waiters, no_more_than_the_bound_wait)
{
    struct waiters waiters = {0};
    struct waiter waiter = {.index = 1};

    for (unsigned i = 0; i < WAITERS_MAX; i++) {
        cr_assert_eq(waiters_add(&waiters, &waiter), MS_OK);
    }
    cr_assert_eq(waiters_add(&waiters, &waiter), MS_EFULL);
    waiters_pop(&waiters);
    cr_assert_eq(waiters_add(&waiters, &waiter), MS_OK);
    waiters_fini(&waiters);
}

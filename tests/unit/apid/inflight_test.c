/*
 * inflight: numbers, the acknowledged watermark, and what is sent again.
 */
#include "apid/inflight.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LIMIT 8

static void send_all(struct inflight *table)
{
    struct inflight_op *op;

    while ((op = inflight_next_unsent(table)) != NULL) {
        inflight_mark_sent(table, op);
    }
}

Test(inflight, numbers_count_from_one_and_are_found)
{
    struct inflight table;
    struct inflight_op ops[3];

    cr_assert_eq(inflight_init(&table, LIMIT), MS_OK);
    for (uint64_t i = 0; i < 3; i++) {
        cr_assert_eq(inflight_add(&table, &ops[i]), MS_OK);
        cr_assert_eq(ops[i].seq, i + 1);
        cr_assert(inflight_find(&table, i + 1) == &ops[i]);
    }
    cr_assert_null(inflight_find(&table, 0));
    cr_assert_null(inflight_find(&table, 4));
    cr_assert_null(inflight_find(&table, 1 + LIMIT), "same bucket, other number");
    inflight_fini(&table);
}

Test(inflight, limit_is_kept_and_room_comes_back)
{
    struct inflight table;
    struct inflight_op ops[LIMIT + 1];

    cr_assert_eq(inflight_init(&table, LIMIT), MS_OK);
    for (size_t i = 0; i < LIMIT; i++) {
        cr_assert_eq(inflight_add(&table, &ops[i]), MS_OK);
    }
    cr_assert_eq(inflight_add(&table, &ops[LIMIT]), MS_EFULL);
    inflight_remove(&table, &ops[3]);
    cr_assert_eq(inflight_add(&table, &ops[LIMIT]), MS_OK);
    cr_assert_eq(ops[LIMIT].seq, LIMIT + 1, "a refused one takes no number");
    inflight_fini(&table);
}

Test(inflight, ack_is_the_lowest_open_number)
{
    struct inflight table;
    struct inflight_op ops[3];

    cr_assert_eq(inflight_init(&table, LIMIT), MS_OK);
    cr_assert_eq(inflight_ack(&table), 1);
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(inflight_add(&table, &ops[i]), MS_OK);
    }
    cr_assert_eq(inflight_ack(&table), 1);
    inflight_remove(&table, &ops[1]);
    cr_assert_eq(inflight_ack(&table), 1);
    inflight_remove(&table, &ops[0]);
    cr_assert_eq(inflight_ack(&table), 3);
    inflight_remove(&table, &ops[2]);
    cr_assert_eq(inflight_ack(&table), 4);
    inflight_fini(&table);
}

Test(inflight, everything_is_sent_again_in_order)
{
    struct inflight table;
    struct inflight_op ops[4];

    cr_assert_eq(inflight_init(&table, LIMIT), MS_OK);
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(inflight_add(&table, &ops[i]), MS_OK);
    }
    inflight_mark_sent(&table, &ops[0]);
    inflight_mark_sent(&table, &ops[1]);
    cr_assert_eq(inflight_resend_all(&table), 2);
    cr_assert(ops[0].was_resent && ops[1].was_resent);
    cr_assert_not(ops[2].was_resent, "it had not been sent");
    for (size_t i = 0; i < 3; i++) {
        cr_assert(inflight_next_unsent(&table) == &ops[i]);
        inflight_mark_sent(&table, &ops[i]);
    }
    cr_assert_null(inflight_next_unsent(&table));
    cr_assert_eq(inflight_add(&table, &ops[3]), MS_OK);
    cr_assert(inflight_next_unsent(&table) == &ops[3]);
    inflight_fini(&table);
}

Test(inflight, removing_the_next_unsent_moves_on)
{
    struct inflight table;
    struct inflight_op ops[2];

    cr_assert_eq(inflight_init(&table, LIMIT), MS_OK);
    cr_assert_eq(inflight_add(&table, &ops[0]), MS_OK);
    cr_assert_eq(inflight_add(&table, &ops[1]), MS_OK);
    inflight_remove(&table, &ops[0]);
    cr_assert(inflight_next_unsent(&table) == &ops[1]);
    inflight_remove(&table, &ops[1]);
    cr_assert_null(inflight_next_unsent(&table));
    cr_assert_eq(inflight_resend_all(&table), 0);
    inflight_fini(&table);
}

/* Random adds, sends, removals and resends against the plainest possible model. */
Test(inflight, agrees_with_a_model)
{
    const char *text = getenv("MS_SEED");
    unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 10) : (unsigned)time(NULL);
    struct inflight_op ops[64] = {0};
    struct inflight table;
    size_t count = 0;

    printf("MS_SEED=%u\n", seed);
    srand(seed);
    cr_assert_eq(inflight_init(&table, 64), MS_OK);
    for (int step = 0; step < 20000; step++) {
        struct inflight_op *op = &ops[rand() % 64];
        uint64_t lowest = table.next_seq;

        if (op->seq == 0) {
            cr_assert_eq(inflight_add(&table, op), MS_OK);
            count++;
        } else if (rand() % 3 == 0) {
            inflight_remove(&table, op);
            count--;
        } else if (rand() % 50 == 0) {
            (void)inflight_resend_all(&table);
        } else if (inflight_next_unsent(&table) != NULL) {
            inflight_mark_sent(&table, inflight_next_unsent(&table));
        }
        lowest = table.next_seq;
        for (size_t i = 0; i < 64; i++) {
            if (ops[i].seq != 0) {
                cr_assert(inflight_find(&table, ops[i].seq) == &ops[i]);
                lowest = ops[i].seq < lowest ? ops[i].seq : lowest;
            }
        }
        cr_assert_eq(inflight_ack(&table), lowest);
        cr_assert_eq(table.count, count);
        if (inflight_next_unsent(&table) != NULL) {
            uint64_t first_unsent = inflight_next_unsent(&table)->seq;

            for (size_t i = 0; i < 64; i++) {
                cr_assert(ops[i].seq == 0 || ops[i].sent == (ops[i].seq < first_unsent));
            }
        }
    }
    send_all(&table);
    inflight_fini(&table);
}

/*
 * inflight: numbers, the acknowledged watermark, and what is sent again.
 */
#include "apid/inflight.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LIMIT 8

static struct ms_instant at(uint64_t ns)
{
    return (struct ms_instant){.ns = ns};
}

static void send_all(struct inflight *table)
{
    struct inflight_op *op;

    while ((op = inflight_next_unsent(table)) != NULL) {
        inflight_mark_sent(table, op, at(0));
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
    inflight_mark_sent(&table, &ops[0], at(1));
    inflight_mark_sent(&table, &ops[1], at(1));
    cr_assert_eq(inflight_resend_all(&table), 2);
    for (size_t i = 0; i < 3; i++) {
        cr_assert(inflight_next_unsent(&table) == &ops[i]);
        inflight_mark_sent(&table, &ops[i], at(2));
    }
    cr_assert(ops[0].copies == 2 && ops[1].copies == 2);
    cr_assert_eq(ops[2].copies, 1);
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

Test(inflight, the_old_ones_are_sent_again_behind_the_new)
{
    struct inflight table;
    struct inflight_op ops[4];
    struct ms_instant oldest;

    cr_assert_eq(inflight_init(&table, LIMIT), MS_OK);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(inflight_add(&table, &ops[i]), MS_OK);
    }
    cr_assert_not(inflight_oldest_sent(&table, &oldest));
    for (size_t i = 0; i < 3; i++) {
        inflight_mark_sent(&table, &ops[i], at(10 * (i + 1)));
    }
    cr_assert(inflight_oldest_sent(&table, &oldest));
    cr_assert_eq(oldest.ns, 10);
    cr_assert_eq(inflight_resend_older(&table, at(9)), 0);
    cr_assert_eq(inflight_resend_older(&table, at(20)), 2);
    cr_assert(inflight_oldest_sent(&table, &oldest));
    cr_assert_eq(oldest.ns, 30);
    cr_assert(inflight_next_unsent(&table) == &ops[3]);
    inflight_mark_sent(&table, &ops[3], at(40));
    cr_assert(inflight_next_unsent(&table) == &ops[0]);
    inflight_mark_sent(&table, &ops[0], at(40));
    cr_assert_eq(inflight_resend_older(&table, at(30)), 1, "it has just been sent again");
    cr_assert_eq(inflight_ack(&table), 1, "the order of sending does not matter to it");
    inflight_fini(&table);
}

/* What one copy did not do, another may have done. */
Test(inflight, only_the_refusal_of_the_last_copy_is_one_of_the_operation)
{
    struct inflight table;
    struct inflight_op op;

    cr_assert_eq(inflight_init(&table, LIMIT), MS_OK);
    cr_assert_eq(inflight_add(&table, &op), MS_OK);
    cr_assert_not(inflight_refused(&op), "nothing was sent");
    send_all(&table);
    (void)inflight_resend_all(&table);
    send_all(&table);
    cr_assert_not(inflight_refused(&op));
    cr_assert(inflight_refused(&op));
    cr_assert_not(inflight_refused(&op), "more refusals than copies say nothing");
    inflight_fini(&table);
}

/* Random adds, sends, removals, resends and refusals against the plainest possible model. */
Test(inflight, agrees_with_a_model)
{
    const char *text = getenv("MS_SEED");
    unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 10) : (unsigned)time(NULL);
    struct inflight_op ops[64] = {0};
    uint32_t copies[64] = {0};
    bool sent[64] = {0};
    struct inflight table;
    size_t count = 0;

    printf("MS_SEED=%u\n", seed);
    srand(seed);
    cr_assert_eq(inflight_init(&table, 64), MS_OK);
    for (uint64_t step = 1; step <= 20000; step++) {
        size_t i = (size_t)rand() % 64;
        struct inflight_op *next = inflight_next_unsent(&table);
        struct ms_instant oldest = {.ns = step};
        uint64_t lowest;

        if (ops[i].seq == 0) {
            cr_assert_eq(inflight_add(&table, &ops[i]), MS_OK);
            copies[i] = 0;
            sent[i] = false;
            count++;
        } else if (rand() % 3 == 0) {
            inflight_remove(&table, &ops[i]);
            count--;
        } else if (rand() % 50 == 0) {
            (void)inflight_resend_all(&table);
            memset(sent, 0, sizeof(sent));
        } else if (rand() % 20 == 0) {
            for (size_t k = 0; k < 64; k++) {
                sent[k] = sent[k] && ops[k].sent_at.ns > step - 40;
            }
            (void)inflight_resend_older(&table, at(step - 40));
        } else if (rand() % 4 == 0) {
            cr_assert_eq(inflight_refused(&ops[i]), copies[i] == 1);
            copies[i] -= copies[i] > 0;
        } else if (next != NULL) {
            inflight_mark_sent(&table, next, at(step));
            copies[next - ops]++;
            sent[next - ops] = true;
        }
        lowest = table.next_seq;
        for (size_t k = 0; k < 64; k++) {
            if (ops[k].seq != 0) {
                cr_assert(inflight_find(&table, ops[k].seq) == &ops[k]);
                cr_assert_eq(ops[k].sent, sent[k]);
                cr_assert_eq(ops[k].copies, copies[k]);
                lowest = ops[k].seq < lowest ? ops[k].seq : lowest;
                (void)inflight_oldest_sent(&table, &oldest);
                cr_assert(!sent[k] || oldest.ns <= ops[k].sent_at.ns);
            }
        }
        cr_assert_eq(inflight_ack(&table), lowest);
        cr_assert_eq(table.count, count);
    }
    send_all(&table);
    inflight_fini(&table);
}

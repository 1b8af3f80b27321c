/*
 * The checker on random histories: those that a register made are accepted, and small ones, spoiled
 * or not, are judged as by trying every order.
 */
#include "tests/sim/linearizability.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/err.h"
#include "tests/seed.h"

static struct lin_report report; /* too large for a stack frame of each test */

/* ---- histories ------------------------------------------------------------------------------- */

enum {
    KEYS_MAX = 8,
    HISTORY_MAX = 4096
};

struct shape {
    size_t clients;
    size_t operations;
    size_t keys;
    unsigned unknown_percent;
    unsigned values; /* how many different ones; 0: each value once */
    bool revisions;  /* answers tell them, and conditions use them */
};

struct cell {
    bool present;
    uint64_t value;
    uint64_t revision;
};

/* An operation with the instant at which the register does it. */
struct planned {
    struct lin_operation operation;
    uint64_t effect; /* UINT64_MAX: never */
};

static struct planned planned[HISTORY_MAX];
static struct lin_operation history[HISTORY_MAX];

static bool cell_condition(const struct cell *cell, const struct lin_operation *operation)
{
    switch (operation->condition) {
    case LIN_ALWAYS:
        return true;
    case LIN_IF_REVISION:
        return cell->present && cell->revision == operation->expected;
    case LIN_IF_ABSENT:
        return !cell->present;
    case LIN_IF_PRESENT:
        return cell->present;
    }
    return false;
}

/* The register itself: what the operation does, and what it is answered. */
static void cell_do(struct cell *cell, uint64_t *revision, struct lin_operation *operation)
{
    operation->outcome = LIN_REFUSED;
    operation->revision = 0;
    if (!cell_condition(cell, operation)) {
        return;
    }
    operation->outcome = LIN_DONE;
    if (operation->kind == LIN_PUT) {
        *cell = (struct cell){true, operation->value, ++*revision};
        operation->revision = *revision;
    } else if (!cell->present) {
        operation->outcome = LIN_ABSENT;
    } else if (operation->kind == LIN_DELETE) {
        *cell = (struct cell){.revision = ++*revision};
        operation->revision = *revision;
    } else {
        operation->value = cell->value;
        operation->revision = cell->revision;
    }
}

static int by_effect(const void *a, const void *b)
{
    const struct planned *left = a;
    const struct planned *right = b;

    return (left->effect > right->effect) - (left->effect < right->effect);
}

static struct lin_operation draw_operation(uint64_t *random, const struct shape *shape,
                                           uint64_t value, uint64_t revision_guess)
{
    struct lin_operation operation = {
        .kind = (enum lin_kind)test_random_below(random, 3),
        .key = test_random_below(random, shape->keys),
    };

    if (test_random_below(random, 3) == 0 && operation.kind != LIN_GET) {
        operation.condition = (enum lin_condition)(1 + test_random_below(random, 3));
        if (operation.condition == LIN_IF_REVISION) {
            operation.expected = 1 + test_random_below(random, revision_guess);
        }
    }
    if (operation.condition == LIN_IF_REVISION && !shape->revisions) {
        operation.condition = LIN_IF_PRESENT;
    }
    if (operation.kind == LIN_PUT) {
        operation.value = shape->values == 0 ? value : 1 + test_random_below(random, shape->values);
    }
    return operation;
}

/* Plans what each client does, one operation after the other, and lets one register do it. */
static void make_history(uint64_t *random, const struct shape *shape)
{
    struct cell cells[KEYS_MAX] = {{0}};
    uint64_t free_at[16] = {0};
    uint64_t revision = test_random_below(random, 3);

    cr_assert_leq(shape->operations, (size_t)HISTORY_MAX);
    for (size_t i = 0; i < shape->operations; i++) {
        size_t client = test_random_below(random, shape->clients);
        struct lin_operation *operation = &planned[i].operation;
        uint64_t length = 1 + test_random_below(random, 20);

        *operation = draw_operation(random, shape, i + 1, 2 + i);
        operation->client = client;
        operation->tag = i;
        operation->invoked = free_at[client] + 1 + test_random_below(random, 10);
        operation->returned = operation->invoked + length;
        planned[i].effect = operation->invoked + test_random_below(random, length + 1);
        if (test_random_below(random, 100) < shape->unknown_percent) {
            operation->returned = UINT64_MAX;
            planned[i].effect = test_random_below(random, 2) == 0
                                    ? UINT64_MAX
                                    : operation->invoked + test_random_below(random, 200);
        }
        free_at[client] = operation->invoked + length;
    }
    qsort(planned, shape->operations, sizeof(planned[0]), by_effect);
    for (size_t i = 0; i < shape->operations; i++) {
        struct lin_operation *operation = &planned[i].operation;

        if (planned[i].effect != UINT64_MAX) {
            cell_do(&cells[operation->key], &revision, operation);
        }
        if (operation->returned == UINT64_MAX) {
            operation->outcome = LIN_UNKNOWN;
        }
        if (!shape->revisions || operation->outcome != LIN_DONE ||
            (operation->kind != LIN_GET && test_random_below(random, 3) == 0)) {
            operation->revision = 0;
        }
        history[i] = *operation;
    }
}

/* Changes one thing in the history; most changes make it wrong, some do not. */
static void spoil(uint64_t *random, size_t count)
{
    struct lin_operation *operation = &history[test_random_below(random, count)];
    struct lin_operation *other = &history[test_random_below(random, count)];
    uint64_t value = operation->value;
    uint64_t shift = 1 + test_random_below(random, 30);

    switch (test_random_below(random, 6)) {
    case 0:
        operation->value = other->value;
        other->value = value;
        break;
    case 1:
        operation->outcome =
            operation->kind != LIN_PUT && operation->outcome == LIN_DONE ? LIN_ABSENT : LIN_DONE;
        operation->returned = operation->invoked + shift;
        break;
    case 2:
        operation->outcome = operation->condition != LIN_ALWAYS ? LIN_REFUSED : LIN_DONE;
        operation->returned = operation->invoked + shift;
        break;
    case 3:
        operation->invoked += shift;
        operation->returned += operation->outcome != LIN_UNKNOWN ? shift : 0;
        break;
    case 4:
        operation->returned = operation->invoked;
        break;
    default:
        operation->revision = other->revision;
        break;
    }
    if (operation->outcome != LIN_DONE) {
        operation->revision = 0;
    }
}

/* ---- every order, tried ---------------------------------------------------------------------- */

struct brute {
    const struct lin_operation *operations;
    size_t count;
    uint64_t revision_max; /* higher ones make no difference */
};

static bool brute_try(const struct brute *brute, uint32_t done, struct cell cell);

/* Does operation i, if its answer fits, and goes on with the rest. */
static bool brute_step(const struct brute *brute, uint32_t done, struct cell cell, size_t i)
{
    const struct lin_operation *told = &brute->operations[i];

    /* Revisions have gaps: other keys took them. */
    for (uint64_t last = cell.revision; last < brute->revision_max; last++) {
        struct lin_operation made = *told;
        struct cell after = cell;
        uint64_t revision = last;

        cell_do(&after, &revision, &made);
        if (told->outcome == LIN_UNKNOWN ||
            (made.outcome == told->outcome && made.value == told->value &&
             (told->revision == 0 || made.revision == told->revision))) {
            if (brute_try(brute, done | (1u << i), after)) {
                return true;
            }
        }
        if (revision == last) {
            return false; /* it changed nothing: other revisions would not, either */
        }
    }
    return false;
}

static bool brute_try(const struct brute *brute, uint32_t done, struct cell cell)
{
    uint64_t earliest = UINT64_MAX;
    bool all = true;

    for (size_t i = 0; i < brute->count; i++) {
        if ((done & (1u << i)) == 0 && brute->operations[i].outcome != LIN_UNKNOWN) {
            all = false;
            if (brute->operations[i].returned < earliest) {
                earliest = brute->operations[i].returned;
            }
        }
    }
    for (size_t i = 0; i < brute->count && !all; i++) {
        if ((done & (1u << i)) == 0 && brute->operations[i].invoked <= earliest &&
            brute_step(brute, done, cell, i)) {
            return true;
        }
    }
    return all;
}

static bool brute_is_linearizable(size_t count)
{
    struct brute brute = {.operations = history, .count = count, .revision_max = 2};

    for (size_t i = 0; i < count; i++) {
        const struct lin_operation *operation = &history[i];
        uint64_t most =
            operation->revision > operation->expected ? operation->revision : operation->expected;

        if (most > brute.revision_max) {
            brute.revision_max = most;
        }
    }
    brute.revision_max += count + 1;
    return brute_try(&brute, 0, (struct cell){0});
}

/* One key only, so that the order of revisions between keys plays no part. */
static void compare_with_brute_force(uint64_t seed, const struct shape *shape, size_t rounds)
{
    size_t bad = 0;

    for (size_t round = 0; round < rounds; round++) {
        uint64_t random = seed + round;
        const struct lin_limits tight = {.states_max = 1 + round % 4};
        enum lin_verdict expected;

        make_history(&random, shape);
        for (size_t i = test_random_below(&random, 3); i > 0; i--) {
            spoil(&random, shape->operations);
        }
        expected = brute_is_linearizable(shape->operations) ? LIN_OK : LIN_VIOLATED;
        bad += expected == LIN_VIOLATED;
        cr_assert_eq(linearizability_check(history, shape->operations, NULL, &report), MS_OK, "%s",
                     report.text);
        cr_assert_eq(report.verdict, expected,
                     "MS_SEED=%" PRIu64 ": verdict %d, all orders: %d\n%s", seed + round,
                     (int)report.verdict, (int)expected, report.text);
        cr_assert_eq(linearizability_check(history, shape->operations, &tight, &report), MS_OK);
        cr_assert(report.verdict == expected || report.verdict == LIN_UNDECIDED,
                  "MS_SEED=%" PRIu64 ": a wrong verdict under tight limits", seed + round);
    }
    cr_assert_gt(bad, rounds / 20, "hardly any history was spoiled");
    cr_assert_lt(bad, rounds - rounds / 20, "hardly any history was good");
}

Test(linearizability_random, agrees_with_trying_every_order_of_plain_registers)
{
    const struct shape shape = {.clients = 4, .operations = 7, .keys = 1, .unknown_percent = 20};

    compare_with_brute_force(test_seed("plain registers"), &shape, 20000);
}

Test(linearizability_random, agrees_with_trying_every_order_of_equal_values)
{
    const struct shape shape = {
        .clients = 3, .operations = 7, .keys = 1, .unknown_percent = 30, .values = 2};

    compare_with_brute_force(test_seed("equal values"), &shape, 20000);
}

Test(linearizability_random, agrees_with_trying_every_order_with_revisions)
{
    const struct shape shape = {
        .clients = 3, .operations = 6, .keys = 1, .unknown_percent = 30, .revisions = true};

    compare_with_brute_force(test_seed("revisions"), &shape, 20000);
}

Test(linearizability_random, agrees_with_trying_every_order_of_equal_values_with_revisions)
{
    const struct shape shape = {.clients = 3,
                                .operations = 6,
                                .keys = 1,
                                .unknown_percent = 30,
                                .values = 2,
                                .revisions = true};

    compare_with_brute_force(test_seed("equal values, revisions"), &shape, 20000);
}

Test(linearizability_random, accepts_what_a_register_did)
{
    uint64_t seed = test_seed("valid histories");

    for (uint64_t round = 0; round < 60; round++) {
        uint64_t random = seed + round;
        const struct shape shape = {
            .clients = 2 + test_random_below(&random, 12),
            .operations = 200 + test_random_below(&random, 2000),
            .keys = 1 + test_random_below(&random, KEYS_MAX),
            .unknown_percent = (unsigned)test_random_below(&random, 6),
            .values = (unsigned)(test_random_below(&random, 3) == 0 ? 50 : 0),
            .revisions = test_random_below(&random, 2) == 0,
        };

        make_history(&random, &shape);
        cr_assert_eq(linearizability_check(history, shape.operations, NULL, &report), MS_OK);
        cr_assert_eq(report.verdict, LIN_OK, "MS_SEED=%" PRIu64 "\n%s", seed + round, report.text);
    }
}

/* A read that goes back, deep in a long history, is found and explained in few lines. */
Test(linearizability_random, explains_with_few_operations)
{
    const struct shape shape = {.clients = 6, .operations = 1000, .keys = 3, .revisions = true};
    uint64_t random = 1; /* how few it comes to depends on the history: always the same one */
    size_t last = 0;
    size_t lines = 0;

    make_history(&random, &shape);
    for (size_t i = 0; i < shape.operations; i++) {
        if (history[i].kind == LIN_GET && history[i].outcome == LIN_DONE) {
            last = i;
        }
    }
    /* Shown once more after the key was written again. */
    history[shape.operations] = history[last];
    history[shape.operations + 1] = (struct lin_operation){.kind = LIN_PUT,
                                                           .outcome = LIN_DONE,
                                                           .key = history[last].key,
                                                           .value = 123456789,
                                                           .invoked = 900000,
                                                           .returned = 900001};
    history[shape.operations].invoked = 900002;
    history[shape.operations].returned = 900003;
    cr_assert_eq(linearizability_check(history, shape.operations + 2, NULL, &report), MS_OK);
    cr_assert_eq(report.verdict, LIN_VIOLATED);
    for (const char *c = report.text; *c != '\0'; c++) {
        lines += *c == '\n';
    }
    cr_assert_leq(lines, 20, "%s", report.text);
}

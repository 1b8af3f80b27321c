/*
 * linearizability: sorts a history by key, has each part searched, and explains what is wrong.
 */
#include "tests/sim/linearizability.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "tests/sim/linearizability_search.h"

enum {
    STATES_DEFAULT = 4 * 1024 * 1024,
    STEPS_DEFAULT = 200 * 1000 * 1000,
    /* Making an explanation small is worth this much, and no more. */
    SHRINK_STATES = 20 * 1000,
    SHRINK_STEPS = 200 * 1000,
    SHRINK_STEPS_TOTAL = 100 * 1000 * 1000,
    LINES_MAX = 40,
    LINE_BYTES = 160
};

/* ---- text ------------------------------------------------------------------------------------ */

__attribute__((format(printf, 2, 3))) static void say(struct lin_report *report, const char *format,
                                                      ...)
{
    size_t used = strlen(report->text);
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(report->text + used, sizeof(report->text) - used, format, arguments);
    va_end(arguments);
}

static const char *kind_text(enum lin_kind kind)
{
    switch (kind) {
    case LIN_GET:
        return "GET";
    case LIN_PUT:
        return "PUT";
    case LIN_DELETE:
        return "DELETE";
    }
    return "?";
}

static const char *outcome_text(enum lin_outcome outcome)
{
    switch (outcome) {
    case LIN_UNKNOWN:
        return "unknown";
    case LIN_DONE:
        return "done";
    case LIN_ABSENT:
        return "absent";
    case LIN_REFUSED:
        return "refused";
    }
    return "?";
}

static void describe_condition(const struct lin_operation *operation, char *dst, size_t dst_bytes)
{
    dst[0] = '\0';
    switch (operation->condition) {
    case LIN_ALWAYS:
        break;
    case LIN_IF_REVISION:
        (void)snprintf(dst, dst_bytes, " if revision %" PRIu64, operation->expected);
        break;
    case LIN_IF_ABSENT:
        (void)snprintf(dst, dst_bytes, " if absent");
        break;
    case LIN_IF_PRESENT:
        (void)snprintf(dst, dst_bytes, " if present");
        break;
    }
}

const char *linearizability_describe(const struct lin_operation *operation, char *dst,
                                     size_t dst_bytes)
{
    char condition[48];
    char value[32] = "";
    char revision[40] = "";
    char returned[24] = "-";

    describe_condition(operation, condition, sizeof(condition));
    if (operation->kind == LIN_PUT) {
        (void)snprintf(value, sizeof(value), " %" PRIu64, operation->value);
    } else if (operation->kind == LIN_GET && operation->outcome == LIN_DONE) {
        (void)snprintf(value, sizeof(value), " = %" PRIu64, operation->value);
    }
    if (operation->outcome == LIN_DONE && operation->revision != 0) {
        (void)snprintf(revision, sizeof(revision), " at revision %" PRIu64, operation->revision);
    }
    if (operation->outcome != LIN_UNKNOWN) {
        (void)snprintf(returned, sizeof(returned), "%" PRIu64, operation->returned);
    }
    (void)snprintf(
        dst, dst_bytes, "[%" PRIu64 " .. %s] client %" PRIu64 " #%" PRIu64 ": %s%s%s: %s%s",
        operation->invoked, returned, operation->client, operation->tag, kind_text(operation->kind),
        value, condition, outcome_text(operation->outcome), revision);
    return dst;
}

static void say_operation(struct lin_report *report, const struct lin_operation *operation)
{
    char line[LINE_BYTES * 2];

    say(report, "  %s\n", linearizability_describe(operation, line, sizeof(line)));
}

/* ---- what can be at all ---------------------------------------------------------------------- */

static bool is_possible(const struct lin_operation *operation)
{
    if (operation->kind < LIN_GET || operation->kind > LIN_DELETE ||
        operation->condition < LIN_ALWAYS || operation->condition > LIN_IF_PRESENT ||
        operation->outcome < LIN_UNKNOWN || operation->outcome > LIN_REFUSED) {
        return false;
    }
    if (operation->outcome == LIN_UNKNOWN) {
        return true;
    }
    if (operation->returned < operation->invoked) {
        return false;
    }
    if (operation->outcome == LIN_REFUSED) {
        return operation->condition != LIN_ALWAYS;
    }
    return operation->outcome == LIN_DONE || operation->kind != LIN_PUT;
}

static int order_of(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int by_key(const void *a, const void *b)
{
    const struct lin_operation *left = a;
    const struct lin_operation *right = b;
    int order = order_of(left->key, right->key);

    return order != 0 ? order : order_of(left->invoked, right->invoked);
}

/* ---- the order of revisions ------------------------------------------------------------------ */

static bool has_revision(const struct lin_operation *operation)
{
    return operation->outcome == LIN_DONE && operation->revision != 0;
}

static int by_revision(const void *a, const void *b)
{
    const struct lin_operation *left = *(const struct lin_operation *const *)a;
    const struct lin_operation *right = *(const struct lin_operation *const *)b;
    int order = order_of(left->revision, right->revision);

    return order != 0 ? order : order_of(left->invoked, right->invoked);
}

/* Two operations that name one revision must mean the same write. */
static bool same_write(const struct lin_operation *a, const struct lin_operation *b)
{
    if (a->key != b->key) {
        return false;
    }
    if (a->kind == LIN_DELETE || b->kind == LIN_DELETE) {
        return false;
    }
    return a->value == b->value && (a->kind == LIN_GET || b->kind == LIN_GET);
}

static void contradict(struct lin_report *report, const char *what, const struct lin_operation *a,
                       const struct lin_operation *b)
{
    report->verdict = LIN_VIOLATED;
    report->key = b->key;
    say(report, "%s (keys %" PRIu64 " and %" PRIu64 "):\n", what, a->key, b->key);
    say_operation(report, a);
    say_operation(report, b);
}

/*
 * One counter gives all revisions: each to one write, and a smaller one to whichever of two writes
 * was over before the other began. sorted: by revision, all of them with one.
 */
static void check_revisions(const struct lin_operation *const *sorted, size_t count,
                            struct lin_report *report)
{
    const struct lin_operation *latest = NULL; /* the write that began last, of those passed */
    size_t next;

    for (size_t i = 0; i < count; i = next) {
        const struct lin_operation *seen = sorted[i]; /* the first to know that it had happened */
        const struct lin_operation *write = NULL;

        for (next = i; next < count && sorted[next]->revision == sorted[i]->revision; next++) {
            if (next > i && !same_write(sorted[i], sorted[next])) {
                contradict(report, "one revision for two writes", sorted[i], sorted[next]);
                return;
            }
            if (sorted[next]->kind != LIN_GET) {
                write = sorted[next];
            }
            if (sorted[next]->returned < seen->returned) {
                seen = sorted[next];
            }
        }
        if (latest != NULL && seen->returned < latest->invoked) {
            contradict(report, "a later write has a smaller revision", seen, latest);
            return;
        }
        if (write != NULL && (latest == NULL || write->invoked > latest->invoked)) {
            latest = write;
        }
    }
}

static int check_all_revisions(const struct lin_operation *operations, size_t count,
                               struct lin_report *report)
{
    const struct lin_operation **sorted = malloc((count + 1) * sizeof(*sorted));
    size_t kept = 0;

    if (sorted == NULL) {
        return MS_ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        if (has_revision(&operations[i])) {
            sorted[kept++] = &operations[i];
        }
    }
    qsort(sorted, kept, sizeof(*sorted), by_revision);
    check_revisions(sorted, kept, report);
    free(sorted);
    return MS_OK;
}

/* ---- explanations ---------------------------------------------------------------------------- */

/* A violated history of one key while it is made smaller. */
struct shrink {
    struct lin_operation *operations;
    size_t count;
    struct lin_operation *attempt;
    uint64_t steps;
};

/* Whether the attempt is certainly violated, too. */
static bool still_violated(struct shrink *shrink, size_t count)
{
    const struct lin_limits limits = {.states_max = SHRINK_STATES, .steps_max = SHRINK_STEPS};
    enum lin_verdict verdict = LIN_UNDECIDED;

    if (shrink->steps > SHRINK_STEPS_TOTAL) {
        return false;
    }
    return lin_search(shrink->attempt, count, &limits, &verdict, &shrink->steps) == MS_OK &&
           verdict == LIN_VIOLATED;
}

static void accept(struct shrink *shrink, size_t count)
{
    memcpy(shrink->operations, shrink->attempt, count * sizeof(*shrink->attempt));
    shrink->count = count;
}

/*
 * Whether the operation may be forgotten entirely: it had no effect. A write may not (a read of it
 * would look wrong), but its answer may be.
 */
static bool is_read_only(const struct lin_operation *operation)
{
    return operation->kind == LIN_GET || operation->outcome == LIN_REFUSED ||
           operation->outcome == LIN_ABSENT;
}

/* The history as it was at an instant: what had not returned by then has no answer. */
static size_t cut_at(const struct shrink *shrink, uint64_t instant)
{
    size_t count = 0;

    for (size_t i = 0; i < shrink->count; i++) {
        struct lin_operation operation = shrink->operations[i];

        if (operation.invoked > instant) {
            continue;
        }
        if (operation.outcome != LIN_UNKNOWN && operation.returned > instant) {
            operation.outcome = LIN_UNKNOWN;
        }
        shrink->attempt[count++] = operation;
    }
    return count;
}

static int by_number(const void *a, const void *b)
{
    return order_of(*(const uint64_t *)a, *(const uint64_t *)b);
}

/* Finds the first answer that makes the history impossible and drops what came after it. */
static void shrink_end(struct shrink *shrink)
{
    uint64_t *returns = malloc((shrink->count + 1) * sizeof(*returns));
    size_t low = 0;
    size_t high = 0;
    size_t count;

    if (returns == NULL) {
        return; /* a longer explanation, then */
    }
    for (size_t i = 0; i < shrink->count; i++) {
        if (shrink->operations[i].outcome != LIN_UNKNOWN) {
            returns[high++] = shrink->operations[i].returned;
        }
    }
    qsort(returns, high, sizeof(*returns), by_number);
    while (low + 1 < high) { /* violated with the answers before high */
        size_t middle = low + (high - low) / 2;

        if (still_violated(shrink, cut_at(shrink, returns[middle - 1]))) {
            high = middle;
        } else {
            low = middle;
        }
    }
    if (high > 0) {
        count = cut_at(shrink, returns[high - 1]);
        if (still_violated(shrink, count)) {
            accept(shrink, count);
        }
    }
    free(returns);
}

/*
 * Without the answers of count operations from first on; reads are left out. Writes either keep the
 * revision that they had if they had their effect, or are as if nothing was ever known of them.
 */
static size_t weaken(const struct shrink *shrink, size_t first, size_t count, bool keep_revisions)
{
    size_t kept = 0;

    for (size_t i = 0; i < shrink->count; i++) {
        struct lin_operation operation = shrink->operations[i];

        if (i >= first && i < first + count) {
            if (is_read_only(&operation)) {
                continue;
            }
            operation.outcome = LIN_UNKNOWN;
            operation.revision = keep_revisions ? operation.revision : 0;
        }
        shrink->attempt[kept++] = operation;
    }
    return kept;
}

static bool any_answer(const struct shrink *shrink, size_t first, size_t count)
{
    for (size_t i = first; i < first + count && i < shrink->count; i++) {
        if (shrink->operations[i].outcome != LIN_UNKNOWN) {
            return true;
        }
    }
    return false;
}

/* Drops answers that are not needed for the contradiction, in ever smaller runs. */
static void shrink_answers(struct shrink *shrink)
{
    for (size_t run = shrink->count / 2 + 1; run > 0; run /= 2) {
        size_t first = 0;

        while (first < shrink->count) {
            size_t kept;
            size_t before = shrink->count;

            if (!any_answer(shrink, first, run)) {
                first += run;
                continue;
            }
            kept = weaken(shrink, first, run, false);
            if (still_violated(shrink, kept) ||
                /* Which of the two makes for the shorter search depends on the history. */
                still_violated(shrink, weaken(shrink, first, run, true))) {
                accept(shrink, kept);
                first += run - (before - kept);
            } else {
                first += run;
            }
        }
    }
}

/* Whether an operation without an answer matters to a reader: something shows that it happened. */
static bool is_shown(const struct shrink *shrink, const struct lin_operation *operation)
{
    for (size_t i = 0; i < shrink->count; i++) {
        const struct lin_operation *other = &shrink->operations[i];

        if (operation->kind == LIN_PUT && other->kind == LIN_GET && other->outcome == LIN_DONE &&
            other->value == operation->value) {
            return true;
        }
    }
    return false;
}

static void explain(struct lin_report *report, struct shrink *shrink)
{
    size_t total = shrink->count;
    size_t before;
    size_t lines = 0;
    size_t hidden = 0;

    shrink_end(shrink);
    do { /* what was needed, or too hard to tell, before others went may not be any more */
        before = shrink->count;
        shrink_answers(shrink);
    } while (shrink->count < before);
    say(report, "key %" PRIu64 ": no order of its %zu operations explains these answers:\n",
        report->key, total);
    for (size_t i = 0; i < shrink->count; i++) {
        const struct lin_operation *operation = &shrink->operations[i];

        if (operation->outcome == LIN_UNKNOWN && !is_shown(shrink, operation)) {
            hidden += operation->kind != LIN_GET;
        } else if (lines < LINES_MAX) {
            say_operation(report, operation);
            lines++;
        } else {
            lines++;
        }
    }
    if (lines > LINES_MAX) {
        say(report, "  ... and %zu more\n", lines - LINES_MAX);
    }
    if (hidden > 0) {
        say(report, "  (whenever, if at all, %zu further writes had their effect)\n", hidden);
    }
}

/* ---- all keys -------------------------------------------------------------------------------- */

static int check_key(const struct lin_operation *operations, size_t count,
                     const struct lin_limits *limits, struct lin_report *report)
{
    enum lin_verdict verdict = LIN_UNDECIDED;
    struct shrink shrink = {.count = count};
    int rc = lin_search(operations, count, limits, &verdict, &report->steps);

    if (rc != MS_OK || verdict == LIN_OK) {
        return rc;
    }
    if (verdict == LIN_UNDECIDED) {
        if (report->verdict == LIN_OK) {
            report->verdict = LIN_UNDECIDED;
            report->key = operations[0].key;
            say(report, "key %" PRIu64 ": gave up on its %zu operations\n", report->key, count);
        }
        return MS_OK;
    }
    report->verdict = LIN_VIOLATED;
    report->key = operations[0].key;
    report->text[0] = '\0';
    shrink.operations = malloc(count * sizeof(*shrink.operations));
    shrink.attempt = malloc(count * sizeof(*shrink.attempt));
    if (shrink.operations == NULL || shrink.attempt == NULL) {
        rc = MS_ENOMEM;
    } else {
        memcpy(shrink.operations, operations, count * sizeof(*operations));
        explain(report, &shrink);
    }
    free(shrink.operations);
    free(shrink.attempt);
    return rc;
}

static int check_keys(const struct lin_operation *sorted, size_t count,
                      const struct lin_limits *limits, struct lin_report *report)
{
    size_t next;
    int rc = MS_OK;

    for (size_t i = 0; i < count && rc == MS_OK && report->verdict != LIN_VIOLATED; i = next) {
        next = i;
        while (next < count && sorted[next].key == sorted[i].key) {
            next++;
        }
        report->keys++;
        rc = check_key(&sorted[i], next - i, limits, report);
    }
    return rc;
}

int linearizability_check(const struct lin_operation *operations, size_t count,
                          const struct lin_limits *limits, struct lin_report *report)
{
    struct lin_limits bounds = limits != NULL ? *limits : (struct lin_limits){0};
    struct lin_operation *sorted;
    int rc;

    report->verdict = LIN_OK;
    report->key = 0;
    report->keys = 0;
    report->steps = 0;
    report->text[0] = '\0';
    bounds.states_max = bounds.states_max != 0 ? bounds.states_max : STATES_DEFAULT;
    bounds.steps_max = bounds.steps_max != 0 ? bounds.steps_max : STEPS_DEFAULT;
    for (size_t i = 0; i < count; i++) {
        if (!is_possible(&operations[i])) {
            say(report, "operation %zu cannot be:\n", i);
            say_operation(report, &operations[i]);
            return MS_EINVAL;
        }
    }
    sorted = malloc((count + 1) * sizeof(*sorted));
    if (sorted == NULL) {
        return MS_ENOMEM;
    }
    if (count > 0) {
        memcpy(sorted, operations, count * sizeof(*sorted));
        qsort(sorted, count, sizeof(*sorted), by_key);
    }
    /* Keys first: their explanations say more. */
    rc = check_keys(sorted, count, &bounds, report);
    if (rc == MS_OK && report->verdict != LIN_VIOLATED) {
        rc = check_all_revisions(sorted, count, report);
    }
    free(sorted);
    return rc;
}

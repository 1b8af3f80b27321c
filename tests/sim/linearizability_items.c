/*
 * linearizability_items: one key's operations, made ready for the search.
 */
#include "tests/sim/linearizability_items.h"

#include <stdlib.h>

#include "common/err.h"

uint64_t lin_mix(uint64_t number)
{
    number = (number ^ (number >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    number = (number ^ (number >> 27)) * UINT64_C(0x94d049bb133111eb);
    return number ^ (number >> 31);
}

/* The smallest revision above last that no operation names. */
static uint64_t unnamed_revision(const struct lin_items *items, uint64_t last)
{
    size_t low = 0;
    size_t high = items->mention_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (items->mentions[middle].revision <= last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    last++;
    while (low < items->mention_count && items->mentions[low].revision == last) {
        last++;
        low++;
    }
    return last;
}

static bool may_have(const struct lin_item *item, const struct lin_mention *mention)
{
    const struct lin_operation *write = &item->operation;

    if (write->kind == LIN_DELETE) {
        return !mention->shown && !mention->of_put;
    }
    return !mention->shown || mention->shown_with == write->value;
}

bool lin_items_next_revision(const struct lin_items *items, const struct lin_item *item,
                             const struct lin_state *state, size_t *choice, uint64_t *revision)
{
    uint64_t own = item->operation.revision;

    if (items->mention_count == 0 || own != 0) { /* nobody looks at it, or it is known */
        *revision = own;
        return (*choice)++ == 0 && (own == 0 || own > state->revision);
    }
    if (*choice == 0) {
        *choice = 1;
        *revision = unnamed_revision(items, state->revision);
        return true;
    }
    for (; *choice <= items->open_count; (*choice)++) {
        const struct lin_mention *mention = &items->open[*choice - 1];

        if (mention->revision > state->revision && may_have(item, mention)) {
            (*choice)++;
            *revision = mention->revision;
            return true;
        }
    }
    return false;
}

/* ---- preparation ----------------------------------------------------------------------------- */

/* What is known about a value that answers show. */
struct binding {
    uint64_t revision; /* a GET showed it with; 0: none did */
    size_t puts;       /* how many wrote it */
};

static int order_of(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int by_invocation(const void *a, const void *b)
{
    const struct lin_item *left = a;
    const struct lin_item *right = b;
    int order = order_of(left->operation.invoked, right->operation.invoked);

    /* The same input always gives the same search. */
    return order != 0 ? order : order_of(left->place, right->place);
}

static int by_revision(const void *a, const void *b)
{
    return order_of(((const struct lin_mention *)a)->revision,
                    ((const struct lin_mention *)b)->revision);
}

static int by_number(const void *a, const void *b)
{
    return order_of(*(const uint64_t *)a, *(const uint64_t *)b);
}

static bool shows_value(const struct lin_operation *operation)
{
    return operation->kind == LIN_GET && operation->outcome == LIN_DONE;
}

/* Numbers the values that answers show, from 1 on. values has room for all items. */
static void number_values(struct lin_items *items, uint64_t *values)
{
    size_t count = 0;
    size_t last = 0;

    for (size_t i = 0; i < items->count; i++) {
        if (shows_value(&items->items[i].operation)) {
            values[count++] = items->items[i].operation.value;
        }
    }
    if (count == 0) {
        return;
    }
    qsort(values, count, sizeof(*values), by_number);
    for (size_t i = 1; i < count; i++) {
        if (values[i] != values[last]) {
            values[++last] = values[i];
        }
    }
    for (size_t i = 0; i < items->count; i++) {
        struct lin_item *item = &items->items[i];
        const uint64_t *found =
            bsearch(&item->operation.value, values, last + 1, sizeof(*values), by_number);

        if (found != NULL && item->operation.kind != LIN_DELETE) {
            item->value = (uint32_t)(found - values) + 1;
        }
    }
}

/*
 * A revision that a GET showed with a value belongs to the PUT of it, if there is but one: that PUT
 * need not try others. found has room for one of each value number.
 */
static void bind_revisions(struct lin_items *items, struct binding *found)
{
    for (size_t i = 0; i < items->count; i++) {
        const struct lin_item *item = &items->items[i];

        if (item->value == 0) {
            continue;
        }
        if (item->operation.kind == LIN_PUT) {
            found[item->value].puts++;
        } else if (item->operation.revision != 0) {
            found[item->value].revision = item->operation.revision;
        }
    }
    for (size_t i = 0; i < items->count; i++) {
        struct lin_item *item = &items->items[i];

        if (item->operation.kind == LIN_PUT && item->value != 0 && item->operation.revision == 0 &&
            found[item->value].puts == 1) {
            item->operation.revision = found[item->value].revision;
        }
    }
}

static void mention_add(struct lin_items *items, const struct lin_mention *mention)
{
    if (mention->revision != 0) {
        items->mentions[items->mention_count++] = *mention;
    }
}

static void mention_merge(struct lin_mention *into, const struct lin_mention *from)
{
    if (from->shown) {
        into->shown_with = from->shown_with;
    }
    into->owned = into->owned || from->owned;
    into->shown = into->shown || from->shown;
    into->of_put = into->of_put || from->of_put;
}

static void collect_mentions(struct lin_items *items)
{
    size_t last = 0;

    for (size_t i = 0; i < items->count; i++) {
        const struct lin_operation *operation = &items->items[i].operation;
        const struct lin_mention own = {
            .revision = operation->revision,
            .shown_with = operation->value,
            .shown = operation->kind == LIN_GET,
            .owned = operation->kind != LIN_GET,
        };
        const struct lin_mention expected = {
            .revision = operation->condition == LIN_IF_REVISION ? operation->expected : 0,
            .of_put = operation->outcome == LIN_DONE,
        };

        mention_add(items, &own);
        mention_add(items, &expected);
    }
    if (items->mention_count == 0) {
        return;
    }
    qsort(items->mentions, items->mention_count, sizeof(*items->mentions), by_revision);
    for (size_t i = 1; i < items->mention_count; i++) {
        if (items->mentions[last].revision == items->mentions[i].revision) {
            mention_merge(&items->mentions[last], &items->mentions[i]);
        } else {
            items->mentions[++last] = items->mentions[i];
        }
    }
    items->mention_count = last + 1;
    for (size_t i = 0; i < items->mention_count; i++) {
        if (!items->mentions[i].owned) {
            items->open[items->open_count++] = items->mentions[i];
        }
    }
}

/* Whether two unanswered operations differ in nothing but when they were invoked. */
static bool just_alike(const struct lin_item *a, const struct lin_item *b)
{
    return a->operation.kind == b->operation.kind &&
           a->operation.condition == b->operation.condition && a->value == b->value &&
           a->operation.revision == b->operation.revision &&
           (a->operation.condition != LIN_IF_REVISION ||
            a->operation.expected == b->operation.expected);
}

/* The unanswered item before this one that is just like it. */
static uint32_t find_alike(const struct lin_items *items, const struct lin_item *item)
{
    uint32_t number = item->prev;

    while (number != LIN_NOTHING && !just_alike(&items->items[number], item)) {
        number = items->items[number].prev;
    }
    return number;
}

static void build_lists(struct lin_items *items)
{
    uint32_t last_answered = LIN_NOTHING;
    uint32_t last_unanswered = LIN_NOTHING;

    for (uint32_t i = 0; i < items->count; i++) {
        struct lin_item *item = &items->items[i];
        bool answered = item->operation.outcome != LIN_UNKNOWN;
        uint32_t *head = answered ? &items->answered_head : &items->unanswered_head;
        uint32_t *last = answered ? &last_answered : &last_unanswered;

        item->next = LIN_NOTHING;
        item->prev = *last;
        if (*last == LIN_NOTHING) {
            *head = i;
        } else {
            items->items[*last].next = i;
        }
        *last = i;
        item->alike = answered ? LIN_NOTHING : find_alike(items, item);
        items->answered_count += answered;
    }
}

static int by_named_revision(const void *a, const void *b)
{
    const struct lin_named *left = a;
    const struct lin_named *right = b;
    int order = order_of(left->revision, right->revision);

    return order != 0 ? order : order_of(left->item, right->item);
}

/* Which revisions the answered items need. */
static void collect_named(struct lin_items *items)
{
    for (uint32_t i = 0; i < items->count; i++) {
        const struct lin_operation *operation = &items->items[i].operation;
        uint64_t revision = operation->revision;

        if (operation->outcome != LIN_DONE) {
            continue;
        }
        if (operation->condition == LIN_IF_REVISION) {
            revision = operation->expected;
        }
        if (revision != 0) {
            items->named[items->named_count++] = (struct lin_named){revision, i};
        }
    }
    if (items->named_count > 0) {
        qsort(items->named, items->named_count, sizeof(*items->named), by_named_revision);
    }
}

static void copy_items(struct lin_items *items, const struct lin_operation *operations,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct lin_item *item = &items->items[items->count];

        if (operations[i].outcome == LIN_UNKNOWN && operations[i].kind == LIN_GET) {
            continue; /* tells nothing */
        }
        item->operation = operations[i];
        if (operations[i].outcome == LIN_ABSENT || operations[i].outcome == LIN_REFUSED) {
            item->operation.revision = 0;
        }
        item->place = i;
        item->hash.low = lin_mix(2 * i + 1);
        item->hash.high = lin_mix(item->hash.low ^ UINT64_C(0x2545f4914f6cdd1d));
        items->count++;
    }
    qsort(items->items, items->count, sizeof(*items->items), by_invocation);
}

int lin_items_init(struct lin_items *items, const struct lin_operation *operations, size_t count)
{
    uint64_t *values = calloc(count + 1, sizeof(*values));
    struct binding *found = calloc(count + 1, sizeof(*found));
    int rc = MS_ENOMEM;

    *items = (struct lin_items){
        .items = calloc(count + 1, sizeof(*items->items)),
        /* An operation can name two: the one it got and the one it asked for. */
        .mentions = calloc(2 * count + 1, sizeof(*items->mentions)),
        .open = calloc(2 * count + 1, sizeof(*items->open)),
        .named = calloc(count + 1, sizeof(*items->named)),
        .answered_head = LIN_NOTHING,
        .unanswered_head = LIN_NOTHING,
    };
    if (values != NULL && found != NULL && items->items != NULL && items->mentions != NULL &&
        items->open != NULL && items->named != NULL) {
        copy_items(items, operations, count);
        number_values(items, values);
        bind_revisions(items, found);
        collect_mentions(items);
        collect_named(items);
        build_lists(items);
        rc = MS_OK;
    }
    free(found);
    free(values);
    return rc;
}

void lin_items_fini(struct lin_items *items)
{
    free(items->named);
    free(items->open);
    free(items->mentions);
    free(items->items);
    *items = (struct lin_items){0};
}

/*
 * linearizability_search: depth-first search over orders, with memory.
 *
 * A node of the search is a set of operations that have been put in order, and the state of the key
 * after them. An operation can be next if no other one that is left returned before it was invoked.
 * The search ends well when all operations with an answer are in order: those without one may have
 * their effect at any time after their invocation, or never.
 *
 * Some observations keep it small; none of them can change the verdict.
 * - An operation without effect whose answer fits the state may be put in order at once: wherever
 *   else it could stand, everything else could still stand as it does.
 * - Values that no answer shows are all alike.
 * - Unanswered operations that are alike can replace each other; only the first of them is tried.
 * - An unanswered write is of use only if something is answered because of it, or becomes possible,
 *   before the next write.
 * - An answer that names a revision has to come before any larger one is given.
 * - A node that was seen before is a dead end. Nodes are remembered by 128 bits of hash: that two
 *   of them have the same is possible, but not within anybody's lifetime.
 *
 * A write whose revision nobody was told has one all the same, larger than the last one. The search
 * gives it each number that it can have and that matters; lin_items_next_revision() finds them.
 */
#include "tests/sim/linearizability_search.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/err.h"
#include "tests/sim/linearizability_items.h"

enum {
    VISITED_FIRST = 256 /* slots; a power of two */
};

/* Where a node stands in going through what could be next. */
struct node {
    struct lin_state state;   /* before any of its children */
    uint64_t earliest_return; /* of those passed on the list of answered items */
    size_t trail;             /* length before the operation that led here */
    size_t named;             /* the items before it in by_revision are in order */
    uint32_t item;            /* tried last; LIN_NOTHING: none of this list yet */
    size_t choice;            /* of a revision for it: 0 is the unnamed one, then the mentions */
    bool unanswered;          /* which list */
    bool idle;                /* led here by an unanswered write that no answer needed so far */
};

struct search {
    struct lin_items items;
    size_t answered_left;
    struct node *nodes; /* a stack */
    size_t depth;
    uint32_t *trail; /* items in the order found */
    size_t trail_length;
    struct lin_hash ordered_hash; /* of the set of items on the trail */
    struct lin_hash *visited;     /* open addressing; all zero: free */
    size_t visited_slots;
    size_t visited_count;
    const struct lin_limits *limits;
    uint64_t steps;
};

/* ---- hashing --------------------------------------------------------------------------------- */

/* Sets are hashed by exclusive or, so members come and go in any order. */
static void toggle(struct lin_hash *set, struct lin_hash member)
{
    set->low ^= member.low;
    set->high ^= member.high;
}

static struct lin_hash node_hash(const struct search *search, const struct lin_state *state)
{
    uint64_t told = ((uint64_t)state->value << 1) | state->present;
    struct lin_hash hash = {
        .low = lin_mix(search->ordered_hash.low + lin_mix(told + UINT64_C(0x9e3779b97f4a7c15)) +
                       3 * lin_mix(state->revision + UINT64_C(0xd1b54a32d192ed03))),
        .high = lin_mix(search->ordered_hash.high + lin_mix(told + UINT64_C(0x8cb92ba72f3d8dd7)) +
                        5 * lin_mix(state->revision + UINT64_C(0xaef17502108ef2d9))),
    };

    hash.low |= 1; /* all zero is a free slot */
    return hash;
}

static bool same_hash(struct lin_hash a, struct lin_hash b)
{
    return a.low == b.low && a.high == b.high;
}

static struct lin_hash *visited_slot(struct lin_hash *slots, size_t slot_count,
                                     struct lin_hash hash)
{
    size_t at = hash.high & (slot_count - 1);

    while (slots[at].low != 0 && !same_hash(slots[at], hash)) {
        at = (at + 1) & (slot_count - 1);
    }
    return &slots[at];
}

static int visited_grow(struct search *search)
{
    size_t slots = search->visited_slots == 0 ? VISITED_FIRST : 2 * search->visited_slots;
    struct lin_hash *fresh = calloc(slots, sizeof(*fresh));

    if (fresh == NULL) {
        return MS_ENOMEM;
    }
    for (size_t i = 0; i < search->visited_slots; i++) {
        if (search->visited[i].low != 0) {
            *visited_slot(fresh, slots, search->visited[i]) = search->visited[i];
        }
    }
    free(search->visited);
    search->visited = fresh;
    search->visited_slots = slots;
    return MS_OK;
}

/* MS_EEXIST: seen before; MS_EFULL: no more may be remembered. */
static int visited_add(struct search *search, const struct lin_state *state)
{
    struct lin_hash hash = node_hash(search, state);
    struct lin_hash *slot;

    if (search->visited_count * 2 >= search->visited_slots) {
        int rc = visited_grow(search);

        if (rc != MS_OK) {
            return rc;
        }
    }
    slot = visited_slot(search->visited, search->visited_slots, hash);
    if (slot->low != 0) {
        return MS_EEXIST;
    }
    if (search->visited_count >= search->limits->states_max) {
        return MS_EFULL;
    }
    *slot = hash;
    search->visited_count++;
    return MS_OK;
}

/* ---- what operations mean -------------------------------------------------------------------- */

enum fit {
    FIT_NEVER,   /* this answer cannot come from this state (or it is unanswered and useless) */
    FIT_NOTHING, /* it fits and changes nothing */
    FIT_CHANGE,  /* it fits and changes the state */
};

static bool condition_holds(const struct lin_operation *operation, const struct lin_state *state)
{
    switch (operation->condition) {
    case LIN_ALWAYS:
        return true;
    case LIN_IF_REVISION:
        return state->present && operation->expected != 0 && operation->expected == state->revision;
    case LIN_IF_ABSENT:
        return !state->present;
    case LIN_IF_PRESENT:
        return state->present;
    }
    return false;
}

static enum fit fit_get(const struct lin_item *item, const struct lin_state *state)
{
    const struct lin_operation *get = &item->operation;
    bool fits;

    if (get->outcome == LIN_DONE) {
        fits = state->present && item->value == state->value &&
               (get->revision == 0 || get->revision == state->revision);
    } else {
        fits = !state->present;
    }
    return fits ? FIT_NOTHING : FIT_NEVER;
}

static enum fit fit_of(const struct lin_item *item, const struct lin_state *state)
{
    const struct lin_operation *operation = &item->operation;
    bool holds = condition_holds(operation, state);

    if (operation->outcome == LIN_REFUSED) {
        return holds ? FIT_NEVER : FIT_NOTHING;
    }
    if (!holds) {
        return FIT_NEVER;
    }
    switch (operation->kind) {
    case LIN_GET:
        return fit_get(item, state);
    case LIN_PUT:
        return FIT_CHANGE;
    case LIN_DELETE:
        if (operation->outcome == LIN_ABSENT) {
            return state->present ? FIT_NEVER : FIT_NOTHING;
        }
        return state->present ? FIT_CHANGE : FIT_NEVER;
    }
    return FIT_NEVER;
}

/* ---- the search ------------------------------------------------------------------------------ */

static bool is_answered(const struct lin_item *item)
{
    return item->operation.outcome != LIN_UNKNOWN;
}

static uint32_t *head_of(struct search *search, const struct lin_item *item)
{
    return is_answered(item) ? &search->items.answered_head : &search->items.unanswered_head;
}

static void put_in_order(struct search *search, uint32_t number)
{
    struct lin_item *item = &search->items.items[number];

    assert(!item->ordered);
    item->ordered = true;
    if (item->prev == LIN_NOTHING) {
        *head_of(search, item) = item->next;
    } else {
        search->items.items[item->prev].next = item->next;
    }
    if (item->next != LIN_NOTHING) {
        search->items.items[item->next].prev = item->prev;
    }
    search->answered_left -= is_answered(item);
    toggle(&search->ordered_hash, item->hash);
    search->trail[search->trail_length++] = number;
}

/* Undoes put_in_order() of the last item, whose neighbours are what they were then. */
static void take_back(struct search *search)
{
    uint32_t number = search->trail[--search->trail_length];
    struct lin_item *item = &search->items.items[number];

    item->ordered = false;
    if (item->prev == LIN_NOTHING) {
        *head_of(search, item) = number;
    } else {
        search->items.items[item->prev].next = number;
    }
    if (item->next != LIN_NOTHING) {
        search->items.items[item->next].prev = number;
    }
    search->answered_left += is_answered(item);
    toggle(&search->ordered_hash, item->hash);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Puts everything in order that can be next, fits the state and does not change it. */
static void absorb(struct search *search, const struct lin_state *state)
{
    bool again = true;

    while (again) {
        uint64_t earliest = UINT64_MAX;
        uint32_t next;

        again = false;
        for (uint32_t i = search->items.answered_head; i != LIN_NOTHING; i = next) {
            const struct lin_item *item = &search->items.items[i];

            next = item->next;
            if (item->operation.invoked > earliest) {
                break;
            }
            search->steps++;
            if (fit_of(item, state) == FIT_NOTHING) {
                put_in_order(search, i);
                again = true;
            } else {
                earliest = min_u64(earliest, item->operation.returned);
            }
        }
    }
}

/* The item after the one that was tried last, if any can be next; LIN_NOTHING otherwise. */
static uint32_t next_item(struct search *search, struct node *node)
{
    const struct lin_item *item;
    uint32_t number;

    if (!node->unanswered) {
        if (node->item == LIN_NOTHING) {
            number = search->items.answered_head;
        } else {
            item = &search->items.items[node->item];
            node->earliest_return = min_u64(node->earliest_return, item->operation.returned);
            number = item->next;
        }
        if (number != LIN_NOTHING &&
            search->items.items[number].operation.invoked <= node->earliest_return) {
            return number;
        }
        node->unanswered = true;
        number = search->items.unanswered_head;
    } else {
        number = search->items.items[node->item].next;
    }
    for (; number != LIN_NOTHING; number = item->next) {
        item = &search->items.items[number];
        if (item->operation.invoked > node->earliest_return) {
            return LIN_NOTHING;
        }
        if (item->alike == LIN_NOTHING || search->items.items[item->alike].ordered) {
            return number;
        }
    }
    return LIN_NOTHING;
}

/* Puts the item (LIN_NOTHING: none, at the root) in order and all that fits after it. */
static void push_node(struct search *search, const struct lin_state *state, uint32_t number)
{
    struct node *node = &search->nodes[search->depth++];
    size_t named = search->depth > 1 ? node[-1].named : 0;
    size_t absorbed;

    *node = (struct node){
        .state = *state,
        .earliest_return = UINT64_MAX,
        .trail = search->trail_length,
        .item = LIN_NOTHING,
    };
    if (number != LIN_NOTHING) {
        put_in_order(search, number);
    }
    absorbed = search->trail_length;
    absorb(search, state);
    absorbed = search->trail_length - absorbed;
    node->idle =
        number != LIN_NOTHING && !is_answered(&search->items.items[number]) && absorbed == 0;
    while (named < search->items.named_count &&
           search->items.items[search->items.named[named].item].ordered) {
        named++;
    }
    node->named = named;
}

/*
 * Whether doing the item in this node would make the unanswered write before it pointless: then the
 * same can be had without that write.
 */
static bool skips_over(const struct search *search, const struct node *node,
                       const struct lin_item *item)
{
    /* Idle nodes have a parent. */
    return node->idle && fit_of(item, &search->nodes[search->depth - 2].state) == FIT_CHANGE;
}

/* Whether an item that is left needs a revision below this one. */
static bool comes_too_late(const struct search *search, const struct node *node,
                           const struct lin_item *item, uint64_t revision)
{
    for (size_t i = node->named; i < search->items.named_count; i++) {
        const struct lin_named *named = &search->items.named[i];

        if (named->revision >= revision) {
            return false;
        }
        if (!search->items.items[named->item].ordered &&
            &search->items.items[named->item] != item) {
            return true;
        }
    }
    return false;
}

/* Goes on to the next untried child of the topmost node. False if it has none. */
static bool descend(struct search *search)
{
    struct node *node = &search->nodes[search->depth - 1];

    for (;;) {
        uint64_t revision;

        if (node->item != LIN_NOTHING) {
            const struct lin_item *item = &search->items.items[node->item];

            search->steps++;
            if (fit_of(item, &node->state) == FIT_CHANGE && !skips_over(search, node, item) &&
                lin_items_next_revision(&search->items, item, &node->state, &node->choice,
                                        &revision)) {
                const bool put = item->operation.kind == LIN_PUT;
                const struct lin_state after = {
                    .present = put,
                    .value = put ? item->value : 0,
                    .revision = revision,
                };

                if (comes_too_late(search, node, item, revision)) {
                    continue; /* with another revision, maybe */
                }
                push_node(search, &after, node->item);
                return true;
            }
        }
        node->choice = 0;
        node->item = next_item(search, node);
        if (node->item == LIN_NOTHING) {
            return false;
        }
    }
}

/* Drops the topmost node and all that was put in order for it. */
static void ascend(struct search *search)
{
    size_t trail = search->nodes[--search->depth].trail;

    while (search->trail_length > trail) {
        take_back(search);
    }
}

static int run(struct search *search, enum lin_verdict *verdict)
{
    const struct lin_state nothing = {0};

    push_node(search, &nothing, LIN_NOTHING);
    for (;;) {
        int rc;

        if (search->answered_left == 0) {
            *verdict = LIN_OK;
            return MS_OK;
        }
        rc = visited_add(search, &search->nodes[search->depth - 1].state);
        if (rc == MS_EFULL || search->steps > search->limits->steps_max) {
            *verdict = LIN_UNDECIDED;
            return MS_OK;
        }
        if (rc == MS_EEXIST) {
            ascend(search);
        } else if (rc != MS_OK) {
            return rc;
        }
        while (search->depth > 0 && !descend(search)) {
            ascend(search);
        }
        if (search->depth == 0) {
            *verdict = LIN_VIOLATED;
            return MS_OK;
        }
    }
}

int lin_search(const struct lin_operation *operations, size_t count,
               const struct lin_limits *limits, enum lin_verdict *verdict, uint64_t *steps)
{
    struct search search = {.limits = limits};
    int rc;

    assert(count < LIN_NOTHING / 2);
    rc = lin_items_init(&search.items, operations, count);
    if (rc != MS_OK) {
        goto out;
    }
    search.answered_left = search.items.answered_count;
    search.nodes = calloc(search.items.count + 1, sizeof(*search.nodes));
    search.trail = calloc(search.items.count + 1, sizeof(*search.trail));
    if (search.nodes == NULL || search.trail == NULL) {
        rc = MS_ENOMEM;
        goto out;
    }
    rc = run(&search, verdict);

out:
    *steps += search.steps;
    free(search.visited);
    free(search.trail);
    free(search.nodes);
    lin_items_fini(&search.items);
    return rc;
}

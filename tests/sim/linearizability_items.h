/*
 * linearizability_items: one key's operations, made ready for the search.
 *
 * Values become small numbers, and for every revision that is named anywhere it is worked out which
 * writes may have it. Private to linearizability_search.c.
 */
#ifndef METASTORE_TESTS_SIM_LINEARIZABILITY_ITEMS_H
#define METASTORE_TESTS_SIM_LINEARIZABILITY_ITEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/linearizability.h"

#define LIN_NOTHING UINT32_MAX

/* A key after some operations. */
struct lin_state {
    bool present;
    uint32_t value;    /* number of the value; see struct lin_item */
    uint64_t revision; /* of the last change, also when that removed the key */
};

/* 128 bits, so that two different things never have the same. */
struct lin_hash {
    uint64_t low;
    uint64_t high;
};

struct lin_item {
    struct lin_operation operation;
    size_t place; /* in the input */
    struct lin_hash hash;
    uint32_t value;      /* 0: no answer shows it, so it does not matter which it is */
    uint32_t next, prev; /* on the list of answered or of unanswered items not yet in order */
    uint32_t alike;      /* the unanswered item before this one that can stand for it, or NOTHING */
    bool ordered;
};

/* A revision that operations name. */
struct lin_mention {
    uint64_t revision;
    uint64_t shown_with; /* the value that a GET showed it with */
    bool owned;          /* by a write that is known to have it */
    bool shown;
    bool of_put; /* some condition on it held, so it is not a removal's */
};

/* An answered item that can stand only where the last revision is at most this one. */
struct lin_named {
    uint64_t revision;
    uint32_t item;
};

struct lin_items {
    struct lin_item *items; /* by invocation; both lists have that order, too */
    size_t count;
    struct lin_mention *mentions; /* by revision */
    size_t mention_count;
    struct lin_mention *open; /* those not owned */
    size_t open_count;
    struct lin_named *named; /* by revision */
    size_t named_count;
    uint32_t answered_head;
    uint32_t unanswered_head;
    size_t answered_count;
};

/* Scrambles the bits of a number. */
uint64_t lin_mix(uint64_t number);

/* MS_OK or MS_ENOMEM; lin_items_fini() in both cases. */
int lin_items_init(struct lin_items *items, const struct lin_operation *operations, size_t count);
void lin_items_fini(struct lin_items *items);

/*
 * Goes through the revisions that a write can have after a state: *choice starts at 0 and is
 * advanced; false when none is left. A revision that is not known is above the last one, and what
 * matters is only which of the named ones it equals: it gets each of those that it can have, and
 * the smallest that nobody names.
 */
bool lin_items_next_revision(const struct lin_items *items, const struct lin_item *item,
                             const struct lin_state *state, size_t *choice, uint64_t *revision);

#endif

/*
 * linearizability: does a recorded history of clients make sense for one copy of the store?
 *
 * The search of Wing and Gong (JPDC 1993) with Lowe's memory of visited states (CPE 2017), one key
 * at a time, because a history of registers is linearizable when each register's part of it is
 * (Herlihy and Wing, TOPLAS 1990, 3.3). Revisions are counted by the whole store, so their order is
 * checked across keys besides. It knows registers with conditions only: no ranges, transactions
 * or leases. It runs on any recorded history, simulated or real, and keeps no state between calls.
 */
#ifndef METASTORE_TESTS_SIM_LINEARIZABILITY_H
#define METASTORE_TESTS_SIM_LINEARIZABILITY_H

#include <stddef.h>
#include <stdint.h>

enum lin_kind {
    LIN_GET = 0,
    LIN_PUT = 1,
    LIN_DELETE = 2,
};

/* Looked at first, by every kind. One that does not hold refuses the operation. */
enum lin_condition {
    LIN_ALWAYS = 0,
    LIN_IF_REVISION = 1, /* If-Match: "expected": the key exists and was last changed by that */
    LIN_IF_ABSENT = 2,   /* If-None-Match: * */
    LIN_IF_PRESENT = 3,  /* If-Match: * */
};

enum lin_outcome {
    LIN_UNKNOWN =
        0,        /* no answer: may have had its effect, may have it at any later time, or never */
    LIN_DONE = 1, /* 200 or 204 */
    LIN_ABSENT = 2,  /* 404: GET or DELETE of a key that is not there */
    LIN_REFUSED = 3, /* 412: the condition did not hold */
};

/*
 * One operation. Instants come from any clock that all clients share; they only order events. a
 * happened before b when a.returned < b.invoked; what is not so ordered was concurrent.
 *
 * An operation that is known to have had no effect (refused at the door: no leader) is to be left
 * out. An operation that the client's side sent twice under one operation id is one operation.
 */
struct lin_operation {
    enum lin_kind kind;
    enum lin_condition condition;
    enum lin_outcome outcome;
    uint64_t key;      /* any number that stands for the key */
    uint64_t value;    /* PUT: what was written; GET that is DONE: what was read. Values written to
                          one key should differ from each other: it finds more and is faster */
    uint64_t expected; /* IF_REVISION: the revision asked for */
    uint64_t revision; /* DONE: the modification revision that was answered; 0: none was. UNKNOWN:
                          the one that a write has if it has its effect; 0: not known */
    uint64_t invoked;
    uint64_t returned; /* not before invoked; ignored for UNKNOWN */
    uint64_t client;   /* for the explanation only, as is tag */
    uint64_t tag;      /* whatever helps to find the operation elsewhere: node, line, index */
};

enum lin_verdict {
    LIN_OK = 0,        /* an order exists */
    LIN_VIOLATED = 1,  /* none exists */
    LIN_UNDECIDED = 2, /* a limit was reached before one of the two was certain */
};

/* 0 takes the default. */
struct lin_limits {
    size_t states_max;  /* visited states remembered for one key, 16 bytes each */
    uint64_t steps_max; /* operations tried for one key */
};

enum {
    LIN_TEXT_BYTES = 8192
};

struct lin_report {
    enum lin_verdict verdict;
    uint64_t key;              /* where it was violated or undecided */
    size_t keys;               /* how many there were */
    uint64_t steps;            /* tried, all keys together */
    char text[LIN_TEXT_BYTES]; /* several lines for a reader; empty when OK */
};

/*
 * Judges count operations in any order (borrowed, untouched). limits may be NULL. A violation of
 * one key wins over another key's being undecided. The explanation of a violation holds a small set
 * of operations that cannot be ordered even without the rest.
 *
 *   MS_OK      *report is filled, whatever the verdict.
 *   MS_EINVAL  an operation that cannot be (returned before invoked, a GET with unknown kind ...);
 *              text tells which.
 *   MS_ENOMEM  refused by the allocator.
 */
int linearizability_check(const struct lin_operation *operations, size_t count,
                          const struct lin_limits *limits, struct lin_report *report);

/* One operation as a line of the explanation, without a newline; returns dst. */
const char *linearizability_describe(const struct lin_operation *operation, char *dst,
                                     size_t dst_bytes);

#endif

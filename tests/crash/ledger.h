/*
 * ledger: what the crash test's writers were told about each key, and whether the store agrees.
 *
 * A key has one writer, which works on it one request at a time. An answer that did not come leaves
 * the key with two possible states; the writer then never touches it again, so at the end the value
 * tells which of the two it is, and the version whether anything was done twice.
 */
#ifndef METASTORE_TESTS_CRASH_LEDGER_H
#define METASTORE_TESTS_CRASH_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/crash/connection.h"

struct ledger_key {
    uint64_t value;    /* last acknowledged one */
    uint64_t version;  /* number of acknowledged writes */
    uint64_t revision; /* of the last acknowledged write */
    uint64_t unknown;  /* value of the write whose answer did not come; 0: none */
    bool seen;         /* found by the check */
};

struct ledger {
    unsigned writer; /* names the keys: /crash/WRITER/NUMBER */
    struct ledger_key *keys;
    size_t count;
    size_t capacity;
};

struct ledger_totals {
    uint64_t keys;
    uint64_t acknowledged;
    uint64_t unknown;
    uint64_t unknown_applied;
    uint64_t versions; /* of all keys together: the number of writes that took effect */
    uint64_t mistakes;
};

void ledger_init(struct ledger *ledger, unsigned writer);
void ledger_fini(struct ledger *ledger);

/* A new key that the store does not have; valid until the next add. */
struct ledger_key *ledger_add(struct ledger *ledger);

void ledger_path(const struct ledger *ledger, size_t position, char *dst, size_t dst_bytes);

/*
 * Lists all keys of the ledgers from the store and compares. Prints the first mistakes; adds up
 * totals (zeroed by the caller).
 */
void ledger_check(struct ledger *ledgers, size_t ledger_count, struct connection *connection,
                  struct ledger_totals *totals);

#endif

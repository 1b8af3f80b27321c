/*
 * history: what clients of a cluster asked and were told, and whether one store could have told it.
 */
#ifndef METASTORE_TESTS_CRASH_HISTORY_H
#define METASTORE_TESTS_CRASH_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/crash/connection.h"
#include "tests/sim/linearizability.h"

/* One thread's; appended to one another when all threads have ended. */
struct history {
    struct lin_operation *operations;
    size_t count;
    size_t capacity;
};

/* What one request asked for. */
struct history_request {
    enum lin_kind kind;
    enum lin_condition condition;
    uint64_t key;
    uint64_t value;    /* PUT */
    uint64_t expected; /* LIN_IF_REVISION */
    uint64_t client;
    uint64_t node; /* that was asked */
};

void history_init(struct history *history);
void history_fini(struct history *history);

/*
 * Sends a request, waits for its answer, and keeps both. path names the key. Returns the status; 0
 * if there was no answer. What certainly had no effect is not kept: a request that never left, a
 * read without an answer.
 */
int history_ask(struct history *history, struct connection *connection, const char *path,
                const struct history_request *request, struct reply *reply);

void history_append(struct history *history, const struct history *other);

/* Prints the verdict. If it is not good, the whole history is left in a file that it names. */
bool history_judge(const struct history *history);

#endif

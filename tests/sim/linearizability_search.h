/*
 * linearizability_search: the search for an order of one key's operations.
 *
 * linearizability.h says what the operations mean; this is the part of it that may take long.
 */
#ifndef METASTORE_TESTS_SIM_LINEARIZABILITY_SEARCH_H
#define METASTORE_TESTS_SIM_LINEARIZABILITY_SEARCH_H

#include <stddef.h>
#include <stdint.h>

#include "tests/sim/linearizability.h"

/*
 * Looks for an order of count operations on one key (borrowed, in any order, each one valid). Both
 * limits must be set. *steps grows by the operations that were tried.
 *
 * MS_OK with *verdict; MS_ENOMEM.
 */
int lin_search(const struct lin_operation *operations, size_t count,
               const struct lin_limits *limits, enum lin_verdict *verdict, uint64_t *steps);

#endif

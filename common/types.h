/*
 * types: the scalars that every room and every wire format share.
 */
#ifndef METASTORE_COMMON_TYPES_H
#define METASTORE_COMMON_TYPES_H

#include <stdint.h>

typedef uint64_t node_id;    /* 1-based; 0 is "none" */
typedef uint64_t raft_term;  /* 0 before the first election */
typedef uint64_t raft_index; /* 1-based; 0 is "before the first entry" */

/* A point on CLOCK_MONOTONIC. A struct, so that it cannot be added to a count. */
struct ms_instant {
    uint64_t ns;
};

/*
 * Names one client operation for ever: a repeated id is the same operation sent again.
 * origin is drawn at random by each apid incarnation, seq counts from 1 within it. An
 * all-zero id belongs to operations that need no answer and are idempotent by nature.
 */
struct ms_op_id {
    uint64_t origin;
    uint64_t seq;
};

#endif

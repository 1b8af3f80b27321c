/*
 * rocks_flusher: a thread that flushes a database when it is asked to.
 */
#ifndef METASTORE_STORAGED_ROCKS_FLUSHER_H
#define METASTORE_STORAGED_ROCKS_FLUSHER_H

#include <stddef.h>

#include "common/err.h"
#include "storaged/rocks.h"

struct rocks_flusher;

/* db is borrowed; marker as for rocks_flush. */
int rocks_flusher_create(struct rocks *db, size_t marker, struct rocks_flusher **out,
                         struct ms_err *err);

/* Waits for a flush that is under way. NULL is allowed. */
void rocks_flusher_destroy(struct rocks_flusher *flusher);

/* Flushes what is written by now, soon. Never waits; asking again meanwhile asks for one more. */
void rocks_flusher_ask(struct rocks_flusher *flusher);

#endif

/*
 * rocks_overlay: the changes of a batch that is not written yet, by key.
 *
 * The engine's batch is not visible in the database before it is committed, but later changes of a
 * batch depend on earlier ones. Holds only the newest change of each key; memory is kept from one
 * batch to the next.
 */
#ifndef METASTORE_STORAGED_ROCKS_OVERLAY_H
#define METASTORE_STORAGED_ROCKS_OVERLAY_H

#include <stdint.h>

#include "storaged/engine.h"

struct rocks_overlay_item {
    uint64_t hash;
    size_t at; /* of key and value in bytes */
    struct engine_change change;
};

struct rocks_overlay {
    uint32_t *table; /* number of an item + 1, 0: none; a power of two, at most half full */
    size_t table_room;
    struct rocks_overlay_item *items;
    size_t count;
    size_t item_room;
    uint8_t *bytes;
    size_t used_bytes;
    size_t byte_room;
};

/* All zero is an empty one. */
void rocks_overlay_fini(struct rocks_overlay *overlay);

/* Forgets the changes. */
void rocks_overlay_clear(struct rocks_overlay *overlay);

/* Copies a change. MS_ENOMEM: as it was before. */
int rocks_overlay_put(struct rocks_overlay *overlay, const struct engine_change *change);

/* The newest change of the key; its pointers are valid until the next put. NULL: there is none. */
const struct engine_change *rocks_overlay_find(struct rocks_overlay *overlay, const uint8_t *key,
                                               size_t key_bytes);

#endif

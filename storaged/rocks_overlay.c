/*
 * rocks_overlay: an open hash table over a buffer.
 */
#include "storaged/rocks_overlay.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#define ITEMS_MIN 256

/* What a single large batch made it grow to is not kept for ever. */
#define KEEP_BYTES ((size_t)4 << 20)

void rocks_overlay_fini(struct rocks_overlay *overlay)
{
    free(overlay->table);
    free(overlay->items);
    free(overlay->bytes);
    *overlay = (struct rocks_overlay){0};
}

void rocks_overlay_clear(struct rocks_overlay *overlay)
{
    if (overlay->byte_room > KEEP_BYTES) {
        rocks_overlay_fini(overlay);
        return;
    }
    if (overlay->count > 0) {
        memset(overlay->table, 0, overlay->table_room * sizeof(overlay->table[0]));
    }
    overlay->count = 0;
    overlay->used_bytes = 0;
}

/* The place in the table of a key, or the free one where it would go. */
static size_t place_of(const struct rocks_overlay *overlay, uint64_t hash, const uint8_t *key,
                       size_t key_bytes)
{
    size_t mask = overlay->table_room - 1;
    size_t place = (size_t)hash & mask;

    for (; overlay->table[place] != 0; place = (place + 1) & mask) {
        const struct rocks_overlay_item *item = &overlay->items[overlay->table[place] - 1];

        if (item->hash == hash && item->change.kv.key_bytes == key_bytes &&
            memcmp(overlay->bytes + item->at, key, key_bytes) == 0) {
            break;
        }
    }
    return place;
}

static int grow_items(struct rocks_overlay *overlay)
{
    size_t room = overlay->item_room == 0 ? ITEMS_MIN : 2 * overlay->item_room;
    struct rocks_overlay_item *items = reallocarray(overlay->items, room, sizeof(items[0]));
    uint32_t *table;

    if (items == NULL) {
        return MS_ENOMEM;
    }
    overlay->items = items;
    table = calloc(2 * room, sizeof(table[0]));
    if (table == NULL) {
        return MS_ENOMEM;
    }
    free(overlay->table);
    overlay->table = table;
    overlay->table_room = 2 * room;
    overlay->item_room = room;
    for (size_t i = 0; i < overlay->count; i++) {
        size_t place = (size_t)items[i].hash & (overlay->table_room - 1);

        while (table[place] != 0) {
            place = (place + 1) & (overlay->table_room - 1);
        }
        table[place] = (uint32_t)i + 1;
    }
    return MS_OK;
}

static int grow_bytes(struct rocks_overlay *overlay, size_t more)
{
    size_t room = overlay->byte_room == 0 ? 65536 : overlay->byte_room;
    uint8_t *bytes;

    while (room - overlay->used_bytes < more) {
        room *= 2;
    }
    bytes = realloc(overlay->bytes, room);
    if (bytes == NULL) {
        return MS_ENOMEM;
    }
    overlay->bytes = bytes;
    overlay->byte_room = room;
    return MS_OK;
}

int rocks_overlay_put(struct rocks_overlay *overlay, const struct engine_change *change)
{
    const struct ms_memdb_kv *kv = &change->kv;
    uint64_t hash = XXH3_64bits(kv->key, kv->key_bytes);
    struct rocks_overlay_item *item;
    size_t place;

    if (overlay->count == overlay->item_room && grow_items(overlay) != MS_OK) {
        return MS_ENOMEM;
    }
    if (overlay->byte_room - overlay->used_bytes < kv->key_bytes + kv->value_bytes &&
        grow_bytes(overlay, kv->key_bytes + kv->value_bytes) != MS_OK) {
        return MS_ENOMEM;
    }
    place = place_of(overlay, hash, kv->key, kv->key_bytes);
    if (overlay->table[place] == 0) {
        overlay->table[place] = (uint32_t)++overlay->count;
    }
    item = &overlay->items[overlay->table[place] - 1];
    *item = (struct rocks_overlay_item){.hash = hash, .at = overlay->used_bytes, .change = *change};
    memcpy(overlay->bytes + item->at, kv->key, kv->key_bytes);
    if (kv->value_bytes > 0) {
        memcpy(overlay->bytes + item->at + kv->key_bytes, kv->value, kv->value_bytes);
    }
    overlay->used_bytes += kv->key_bytes + kv->value_bytes;
    return MS_OK;
}

const struct engine_change *rocks_overlay_find(struct rocks_overlay *overlay, const uint8_t *key,
                                               size_t key_bytes)
{
    struct rocks_overlay_item *item;
    size_t place;

    if (overlay->count == 0) {
        return NULL;
    }
    place = place_of(overlay, XXH3_64bits(key, key_bytes), key, key_bytes);
    if (overlay->table[place] == 0) {
        return NULL;
    }
    item = &overlay->items[overlay->table[place] - 1];
    item->change.kv.key = overlay->bytes + item->at; /* the buffer may have moved */
    item->change.kv.value = item->change.kv.key + item->change.kv.key_bytes;
    return &item->change;
}

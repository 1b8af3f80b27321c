/*
 * rocks_overlay: finds the newest change of a key, however many there are.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "storaged/rocks_overlay.h"

#define KEYS 3000

static struct engine_change change_of(char key[16], unsigned n, const uint8_t *value, size_t bytes)
{
    return (struct engine_change){.kv = {.key = (const uint8_t *)key,
                                         .key_bytes = (size_t)snprintf(key, 16, "key-%u", n),
                                         .value = value,
                                         .value_bytes = bytes,
                                         .mod_revision = n + bytes},
                                  .tombstone = value == NULL};
}

Test(rocks_overlay, newest_change_of_each_key_is_found)
{
    static const uint8_t value[2000] = {1, 2, 3};
    struct rocks_overlay overlay = {0};

    for (int round = 0; round < 3; round++) {
        cr_assert_null(rocks_overlay_find(&overlay, (const uint8_t *)"key-1", 5));
        for (unsigned i = 0; i < 2 * KEYS; i++) {
            char key[16];
            /* The second time a tombstone for every third. */
            struct engine_change change = i >= KEYS && i % 3 == 0
                                              ? change_of(key, i % KEYS, NULL, 0)
                                              : change_of(key, i % KEYS, value, i % 1000);

            cr_assert_eq(rocks_overlay_put(&overlay, &change), MS_OK);
        }
        for (unsigned i = 0; i < KEYS; i++) {
            char key[16];
            struct engine_change wanted = change_of(key, i, value, (i + KEYS) % 1000);
            const struct engine_change *found =
                rocks_overlay_find(&overlay, wanted.kv.key, wanted.kv.key_bytes);

            cr_assert_not_null(found);
            cr_assert_eq(found->tombstone, (i + KEYS) % 3 == 0);
            cr_assert_eq(memcmp(found->kv.key, key, found->kv.key_bytes), 0);
            if (!found->tombstone) {
                cr_assert_eq(found->kv.value_bytes, wanted.kv.value_bytes);
                cr_assert_eq(found->kv.mod_revision, wanted.kv.mod_revision);
                cr_assert_eq(memcmp(found->kv.value, value, found->kv.value_bytes), 0);
            }
        }
        cr_assert_null(rocks_overlay_find(&overlay, (const uint8_t *)"key-9999", 8));
        rocks_overlay_clear(&overlay);
    }
    rocks_overlay_fini(&overlay);
}

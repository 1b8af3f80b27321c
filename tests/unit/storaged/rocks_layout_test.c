/*
 * rocks_layout: written keys are in the order of what they stand for, and come back whole.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "common/err.h"
#include "storaged/rocks_layout.h"
#include "tests/seed.h"

struct stamped {
    uint8_t key[24];
    size_t key_bytes;
    uint64_t revision;
    uint32_t sub;
};

/* Short keys of few different bytes: many begin alike, or begin each other. */
static void random_stamped(uint64_t *state, struct stamped *out)
{
    static const uint8_t bytes[] = {0, 1, 2, 0xfe, 0xff, 'a'};

    out->key_bytes = 1 + (size_t)test_random_below(state, 5);
    for (size_t i = 0; i < out->key_bytes; i++) {
        out->key[i] = bytes[test_random_below(state, sizeof(bytes))];
    }
    out->revision = test_random_below(state, 3) * 300 + 1;
    out->sub = (uint32_t)test_random_below(state, 3) * 255;
}

/* Keys in byte order; of one key, the newest first. */
static int order(const struct stamped *a, const struct stamped *b)
{
    size_t common = a->key_bytes < b->key_bytes ? a->key_bytes : b->key_bytes;
    int difference = memcmp(a->key, b->key, common);

    if (difference == 0) {
        difference = (a->key_bytes > b->key_bytes) - (a->key_bytes < b->key_bytes);
    }
    if (difference == 0) {
        difference = (a->revision < b->revision) - (a->revision > b->revision);
    }
    return difference != 0 ? difference : (a->sub < b->sub) - (a->sub > b->sub);
}

static void encode(const struct stamped *stamped, struct rocks_layout_key *out)
{
    rocks_layout_set_key(out, stamped->key, stamped->key_bytes);
    rocks_layout_set_stamp(out, stamped->revision, stamped->sub);
}

static int sign(int number)
{
    return (number > 0) - (number < 0);
}

Test(rocks_layout, written_order_is_key_order_and_newest_first)
{
    uint64_t state = test_seed("rocks_layout");
    static struct rocks_layout_key x;
    static struct rocks_layout_key y;

    for (int i = 0; i < 200000; i++) {
        struct stamped a;
        struct stamped b;
        size_t common;
        int written;

        random_stamped(&state, &a);
        random_stamped(&state, &b);
        encode(&a, &x);
        encode(&b, &y);
        common = rocks_layout_bytes(&x) < rocks_layout_bytes(&y) ? rocks_layout_bytes(&x)
                                                                 : rocks_layout_bytes(&y);
        written = memcmp(x.data, y.data, common);
        cr_assert_eq(sign(written), sign(order(&a, &b)));
        /* What is behind all versions of a key is before every key that comes after it. */
        rocks_layout_pass_key(&x);
        written = rocks_layout_compare(x.data, x.prefix_bytes, y.data, rocks_layout_bytes(&y));
        a.revision = 0;
        a.sub = 0;
        cr_assert_eq(sign(written), order(&a, &b) < 0 ? -1 : 1);
    }
}

Test(rocks_layout, keys_come_back_and_others_are_refused)
{
    uint64_t state = test_seed("rocks_layout");
    static struct rocks_layout_key written;
    static uint8_t key[MS_KEY_BYTES_MAX];
    static uint8_t back[MS_KEY_BYTES_MAX];
    size_t back_bytes = 0;
    uint64_t revision = 0;
    uint32_t sub = 0;

    for (int i = 0; i < 2000; i++) {
        size_t key_bytes = i == 0 ? sizeof(key) : 1 + (size_t)test_random_below(&state, 40);

        for (size_t k = 0; k < key_bytes; k++) {
            key[k] = (uint8_t)(test_random_below(&state, 3) * 0x80);
        }
        rocks_layout_set_key(&written, key, key_bytes);
        rocks_layout_set_stamp(&written, UINT64_C(1) << 40, 77);
        cr_assert_eq(
            rocks_layout_split(written.data, rocks_layout_bytes(&written), back, &back_bytes),
            MS_OK);
        cr_assert_eq(back_bytes, key_bytes);
        cr_assert_eq(memcmp(back, key, key_bytes), 0);
        cr_assert_eq(
            rocks_layout_stamp_of(written.data, rocks_layout_bytes(&written), &revision, &sub),
            MS_OK);
        cr_assert_eq(revision, UINT64_C(1) << 40);
        cr_assert_eq(sub, 77);
        /* One byte less shifts the end of the key to where none is. */
        cr_assert_eq(
            rocks_layout_split(written.data, rocks_layout_bytes(&written) - 1, back, &back_bytes),
            MS_ECORRUPT);
    }
    cr_assert_eq(rocks_layout_split((const uint8_t *)"a", 1, back, &back_bytes), MS_ECORRUPT);
    cr_assert_eq(rocks_layout_stamp_of((const uint8_t *)"a", 1, &revision, &sub), MS_ECORRUPT);
}

Test(rocks_layout, records_come_back_and_others_are_refused)
{
    const struct rocks_layout_meta meta = {
        .meta = {.applied = 1, .applied_term = 2, .revision = 3, .compact_revision = 4, .keys = 5},
        .compacted_to = 6,
        .complete = true};
    const struct ms_memdb_kv kv = {.create_revision = 7, .version = 8, .lease = 9};
    uint8_t header[ROCKS_LAYOUT_HEADER_BYTES];
    uint8_t raw[ROCKS_LAYOUT_META_BYTES];
    struct rocks_layout_meta back;
    struct ms_memdb_kv kv_back;
    bool tombstone = true;

    rocks_layout_encode_meta(&meta, raw);
    cr_assert_eq(rocks_layout_decode_meta(raw, sizeof(raw), &back), MS_OK);
    cr_assert_eq(back.meta.applied, 1);
    cr_assert_eq(back.meta.keys, 5);
    cr_assert_eq(back.compacted_to, 6);
    cr_assert(back.complete);
    cr_assert_eq(rocks_layout_decode_meta(raw, sizeof(raw) - 1, &back), MS_ECORRUPT);
    raw[0] = 99;
    cr_assert_eq(rocks_layout_decode_meta(raw, sizeof(raw), &back), MS_ECORRUPT);

    cr_assert_eq(rocks_layout_encode_header(&kv, false, header), sizeof(header));
    cr_assert_eq(rocks_layout_decode_version(header, sizeof(header), &kv_back, &tombstone), MS_OK);
    cr_assert_eq(kv_back.lease, 9);
    cr_assert_eq(kv_back.value_bytes, 0);
    cr_assert_not(tombstone);
    cr_assert_eq(rocks_layout_decode_version(header, 5, &kv_back, &tombstone), MS_ECORRUPT);
    cr_assert_eq(rocks_layout_encode_header(&kv, true, header), 1);
    cr_assert_eq(rocks_layout_decode_version(header, 1, &kv_back, &tombstone), MS_OK);
    cr_assert(tombstone);
}

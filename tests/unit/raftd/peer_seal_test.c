/*
 * Sealed records: only the right ones, in the right order, open.
 */
#include "raftd/peer_seal.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/seed.h"

struct pair {
    struct peer_seal a;
    struct peer_seal b;
};

static void begin(struct pair *pair)
{
    struct peer_seal_keys keys;
    struct peer_seal_keys turned;
    uint8_t header_a[PEER_SEAL_HEADER_BYTES];
    uint8_t header_b[PEER_SEAL_HEADER_BYTES];

    cr_assert_geq(sodium_init(), 0);
    memset(keys.tx, 1, sizeof(keys.tx));
    memset(keys.rx, 2, sizeof(keys.rx));
    memcpy(turned.tx, keys.rx, sizeof(keys.rx));
    memcpy(turned.rx, keys.tx, sizeof(keys.tx));
    peer_seal_init(&pair->a, &keys, header_a);
    peer_seal_init(&pair->b, &turned, header_b);
    cr_assert_eq(peer_seal_take_header(&pair->a, header_b), MS_OK);
    cr_assert_eq(peer_seal_take_header(&pair->b, header_a), MS_OK);
}

Test(peer_seal, records_of_any_size_open)
{
    uint64_t random = test_seed("peer_seal");
    static uint8_t plain[PEER_SEAL_PLAIN_MAX];
    static uint8_t record[PEER_SEAL_RECORD_MAX];
    static uint8_t opened[PEER_SEAL_PLAIN_MAX];
    struct pair pair;

    begin(&pair);
    for (unsigned i = 0; i < 200; i++) {
        size_t len = i == 0 ? sizeof(plain) : test_random_below(&random, sizeof(plain)) + 1;
        struct peer_seal *from = i % 2 == 0 ? &pair.a : &pair.b;
        struct peer_seal *to = i % 2 == 0 ? &pair.b : &pair.a;
        size_t record_bytes;
        size_t told_bytes;
        size_t opened_bytes;

        memset(plain, (int)i, len);
        record_bytes = peer_seal_close(from, plain, len, record);
        cr_assert_eq(record_bytes, len + PEER_SEAL_HEAD_BYTES + PEER_SEAL_COST_BYTES);
        cr_assert_eq(peer_seal_record_bytes(record, &told_bytes), MS_OK);
        cr_assert_eq(told_bytes, record_bytes);
        cr_assert_eq(peer_seal_open(to, record, record_bytes, opened, &opened_bytes), MS_OK);
        cr_assert_eq(opened_bytes, len);
        cr_assert_eq(memcmp(opened, plain, len), 0);
    }
}

Test(peer_seal, a_repeated_or_missing_record_does_not_open)
{
    uint8_t first[100];
    uint8_t second[100];
    uint8_t opened[PEER_SEAL_PLAIN_MAX];
    size_t first_bytes;
    size_t second_bytes;
    size_t len;
    struct pair pair;

    begin(&pair);
    first_bytes = peer_seal_close(&pair.a, (const uint8_t *)"one", 3, first);
    second_bytes = peer_seal_close(&pair.a, (const uint8_t *)"two", 3, second);
    cr_assert_eq(peer_seal_open(&pair.b, second, second_bytes, opened, &len), MS_EPROTO);

    begin(&pair);
    first_bytes = peer_seal_close(&pair.a, (const uint8_t *)"one", 3, first);
    cr_assert_eq(peer_seal_open(&pair.b, first, first_bytes, opened, &len), MS_OK);
    cr_assert_eq(peer_seal_open(&pair.b, first, first_bytes, opened, &len), MS_EPROTO);

    begin(&pair);
    first_bytes = peer_seal_close(&pair.a, (const uint8_t *)"one", 3, first);
    cr_assert_eq(peer_seal_open(&pair.a, first, first_bytes, opened, &len), MS_EPROTO,
                 "turned back on its sender");
}

Test(peer_seal, a_changed_bit_does_not_open)
{
    uint8_t record[60];
    uint8_t opened[PEER_SEAL_PLAIN_MAX];

    for (size_t at = PEER_SEAL_HEAD_BYTES; at < 30; at++) {
        struct pair pair;
        size_t record_bytes;
        size_t len = 7;

        begin(&pair);
        record_bytes = peer_seal_close(&pair.a, (const uint8_t *)"0123456789", 10, record);
        record[at] ^= 0x40;
        cr_assert_eq(peer_seal_open(&pair.b, record, record_bytes, opened, &len), MS_EPROTO);
        cr_assert_eq(len, 7, "an error must leave *len_bytes alone");
    }
}

Test(peer_seal, impossible_lengths_are_refused)
{
    static const uint8_t none[] = {PEER_SEAL_COST_BYTES, 0, 0, 0};
    static const uint8_t least[] = {PEER_SEAL_COST_BYTES + 1, 0, 0, 0};
    static const uint8_t much[] = {PEER_SEAL_COST_BYTES + 1, 0, 1, 0};
    static const uint8_t most[] = {PEER_SEAL_COST_BYTES, 0, 1, 0};
    size_t record_bytes;

    cr_assert_eq(peer_seal_record_bytes(none, &record_bytes), MS_EPROTO);
    cr_assert_eq(peer_seal_record_bytes(much, &record_bytes), MS_EPROTO);
    cr_assert_eq(peer_seal_record_bytes(least, &record_bytes), MS_OK);
    cr_assert_eq(peer_seal_record_bytes(most, &record_bytes), MS_OK);
    cr_assert_eq(record_bytes, PEER_SEAL_RECORD_MAX);
}

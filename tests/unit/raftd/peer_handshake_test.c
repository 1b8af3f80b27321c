/*
 * The key exchange and what is said in it.
 */
#include "raftd/peer_handshake.h"

#include <criterion/criterion.h>
#include <string.h>

#include "raftd/core/raft.h"

static const uint8_t cluster_key[MS_CLUSTER_KEY_BYTES] = {1, 2, 3};

/* Both sides' keys; what each sees of the other's opening is given. */
static bool keys_agree(struct peer_opening a, struct peer_opening b, const uint8_t *seen_by_a,
                       const uint8_t *seen_by_b, const uint8_t *key_b)
{
    struct peer_seal_keys keys_a;
    struct peer_seal_keys keys_b;

    cr_assert_eq(peer_handshake_keys(cluster_key, &a, seen_by_a, true, &keys_a), MS_OK);
    cr_assert_eq(peer_handshake_keys(key_b, &b, seen_by_b, false, &keys_b), MS_OK);
    cr_assert_neq(memcmp(keys_a.tx, keys_a.rx, sizeof(keys_a.tx)), 0);
    return memcmp(keys_a.tx, keys_b.rx, sizeof(keys_a.tx)) == 0 &&
           memcmp(keys_a.rx, keys_b.tx, sizeof(keys_a.rx)) == 0;
}

Test(peer_handshake, both_sides_find_the_same_keys)
{
    struct peer_opening a;
    struct peer_opening b;
    struct peer_opening c;
    uint8_t other_key[MS_CLUSTER_KEY_BYTES] = {1, 2, 4};

    cr_assert_geq(sodium_init(), 0);
    peer_handshake_open(true, &a);
    peer_handshake_open(true, &b);
    peer_handshake_open(true, &c);
    cr_assert_neq(memcmp(a.bytes, b.bytes, sizeof(a.bytes)), 0);
    cr_assert(keys_agree(a, b, b.bytes, a.bytes, cluster_key));
    cr_assert_not(keys_agree(a, b, b.bytes, a.bytes, other_key), "another cluster key");
    cr_assert_not(keys_agree(a, b, c.bytes, a.bytes, cluster_key), "somebody in between");
}

Test(peer_handshake, the_secret_is_wiped_after_use)
{
    static const uint8_t zero[32];
    struct peer_opening a;
    struct peer_opening b;
    struct peer_seal_keys keys;

    cr_assert_geq(sodium_init(), 0);
    peer_handshake_open(true, &a);
    peer_handshake_open(true, &b);
    cr_assert_eq(peer_handshake_keys(cluster_key, &a, b.bytes, true, &keys), MS_OK);
    cr_assert_arr_eq(a.secret, zero, sizeof(zero));
}

/* Public keys that make the shared secret zero whatever ours is. */
Test(peer_handshake, a_key_of_small_order_is_refused)
{
    struct peer_opening mine;
    struct peer_opening theirs;
    struct peer_seal_keys keys;

    cr_assert_geq(sodium_init(), 0);
    for (uint8_t low = 0; low < 2; low++) {
        peer_handshake_open(true, &mine);
        peer_handshake_open(true, &theirs);
        memset(theirs.bytes + 8, 0, 32);
        theirs.bytes[8] = low;
        cr_assert_eq(peer_handshake_keys(cluster_key, &mine, theirs.bytes, true, &keys), MS_EPROTO);
    }
}

Test(peer_handshake, openings_are_told_apart)
{
    struct peer_opening plain;
    struct peer_opening sealed;

    cr_assert_geq(sodium_init(), 0);
    peer_handshake_open(false, &plain);
    peer_handshake_open(true, &sealed);
    cr_assert_eq(peer_handshake_check(plain.bytes, false), MS_OK);
    cr_assert_eq(peer_handshake_check(sealed.bytes, true), MS_OK);
    cr_assert_eq(peer_handshake_check(plain.bytes, true), MS_EPERM);
    cr_assert_eq(peer_handshake_check(sealed.bytes, false), MS_EPERM);
    sealed.bytes[6] |= 2;
    cr_assert_eq(peer_handshake_check(sealed.bytes, true), MS_EPROTO);
    sealed.bytes[4]++;
    cr_assert_eq(peer_handshake_check(sealed.bytes, true), MS_EUNAVAILABLE);
    sealed.bytes[0]++;
    cr_assert_eq(peer_handshake_check(sealed.bytes, true), MS_EPROTO);
}

Test(peer_handshake, a_hello_comes_out_as_it_went_in)
{
    const struct peers_hello hello = {
        .cluster_id = UINT64_C(0x0102030405060708),
        .from = 5,
        .to = UINT64_MAX - 7,
        .data_id = UINT64_MAX,
        .conf_index = 1,
        .founding = true,
    };
    struct peers_hello out;
    enum peer_channel channel;
    uint8_t bytes[PEER_HANDSHAKE_HELLO_BYTES];

    peer_handshake_put_hello(&hello, PEER_CHANNEL_SNAPSHOT, bytes);
    cr_assert_eq(peer_handshake_get_hello(bytes, sizeof(bytes), &out, &channel), MS_OK);
    cr_assert_eq(channel, PEER_CHANNEL_SNAPSHOT);
    cr_assert_eq(out.cluster_id, hello.cluster_id);
    cr_assert_eq(out.from, hello.from);
    cr_assert_eq(out.to, hello.to);
    cr_assert_eq(out.data_id, hello.data_id);
    cr_assert_eq(out.conf_index, hello.conf_index);
    cr_assert(out.founding);
}

Test(peer_handshake, impossible_hellos_are_refused)
{
    const struct peers_hello hello = {.from = 5, .to = 6, .data_id = 7};
    /* channel, flags, zero */
    static const size_t places[] = {0, 1, 2, 7};
    struct peers_hello out;
    enum peer_channel channel;
    uint8_t bytes[PEER_HANDSHAKE_HELLO_BYTES + 1];

    peer_handshake_put_hello(&hello, PEER_CHANNEL_MESSAGES, bytes);
    cr_assert_eq(peer_handshake_get_hello(bytes, sizeof(bytes), &out, &channel), MS_EPROTO);
    cr_assert_eq(peer_handshake_get_hello(bytes, sizeof(bytes) - 2, &out, &channel), MS_EPROTO);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        peer_handshake_put_hello(&hello, PEER_CHANNEL_MESSAGES, bytes);
        bytes[places[i]] = 9;
        cr_assert_eq(peer_handshake_get_hello(bytes, sizeof(bytes) - 1, &out, &channel), MS_EPROTO);
    }
    peer_handshake_put_hello(&hello, PEER_CHANNEL_MESSAGES, bytes);
    memset(bytes + 16, 0, 8);
    cr_assert_eq(peer_handshake_get_hello(bytes, sizeof(bytes) - 1, &out, &channel), MS_EPROTO,
                 "from nobody");
    memset(bytes + 16, 0xff, 8);
    cr_assert_eq(peer_handshake_get_hello(bytes, sizeof(bytes) - 1, &out, &channel), MS_EPROTO,
                 "from the log's writer");
}

Test(peer_handshake, a_verdict_says_its_reason_in_words_that_can_be_logged)
{
    struct peer_verdict verdict = {.reason = PEERS_REFUSED_DATA, .text = "lost\nits data\x7f"};
    struct peer_verdict out;
    uint8_t bytes[PEER_HANDSHAKE_VERDICT_MAX + 1] = {0};
    size_t len_bytes = peer_handshake_put_verdict(&verdict, bytes);

    cr_assert_eq(peer_handshake_get_verdict(bytes, len_bytes, &out), MS_OK);
    cr_assert_eq(out.reason, PEERS_REFUSED_DATA);
    cr_assert_str_eq(out.text, "lost.its data.");
    memset(verdict.text, 'x', sizeof(verdict.text) - 1);
    verdict.text[sizeof(verdict.text) - 1] = '\0';
    len_bytes = peer_handshake_put_verdict(&verdict, bytes);
    cr_assert_eq(len_bytes, PEER_HANDSHAKE_VERDICT_MAX);
    cr_assert_eq(peer_handshake_get_verdict(bytes, len_bytes, &out), MS_OK);
    cr_assert_eq(strlen(out.text), PEER_HANDSHAKE_TEXT_MAX);
    cr_assert_eq(peer_handshake_get_verdict(bytes, len_bytes + 1, &out), MS_EPROTO);
    cr_assert_eq(peer_handshake_get_verdict(bytes, 3, &out), MS_EPROTO);
    bytes[0] = 99;
    cr_assert_eq(peer_handshake_get_verdict(bytes, len_bytes, &out), MS_EPROTO);
}

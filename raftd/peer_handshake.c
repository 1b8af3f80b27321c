/*
 * peer_handshake: see peer_handshake.h.
 */
#include "raftd/peer_handshake.h"

#include <assert.h>
#include <string.h>

#include "common/le.h"

enum opening_offset {
    OFFSET_MAGIC = 0,
    OFFSET_VERSION = 4,
    OFFSET_OPENING_FLAGS = 6,
    OFFSET_PUBLIC_KEY = 8,
};

enum hello_offset {
    OFFSET_CHANNEL = 0,
    OFFSET_HELLO_FLAGS = 1,
    OFFSET_ZERO = 2,
    OFFSET_CLUSTER_ID = 8,
    OFFSET_FROM = 16,
    OFFSET_TO = 24,
    OFFSET_DATA_ID = 32,
    OFFSET_CONF_INDEX = 40,
};

enum verdict_offset {
    OFFSET_REASON = 0,
    OFFSET_TEXT = 4,
};

#define FLAG_SEALED   1u
#define FLAG_FOUNDING 1u

_Static_assert(crypto_scalarmult_BYTES == PEER_HANDSHAKE_OPENING_BYTES - 8u, "public key");
_Static_assert(MS_CLUSTER_KEY_BYTES >= crypto_generichash_KEYBYTES_MIN &&
                   MS_CLUSTER_KEY_BYTES <= crypto_generichash_KEYBYTES_MAX,
               "the cluster key is a key of the hash");

void peer_handshake_open(bool sealed, struct peer_opening *out)
{
    *out = (struct peer_opening){0};
    memcpy(out->bytes + OFFSET_MAGIC, PEER_HANDSHAKE_MAGIC, 4);
    ms_le_put_u16(out->bytes + OFFSET_VERSION, PEER_HANDSHAKE_VERSION);
    if (sealed) {
        ms_le_put_u16(out->bytes + OFFSET_OPENING_FLAGS, FLAG_SEALED);
        randombytes_buf(out->secret, sizeof(out->secret));
        /* Fails for no secret. */
        (void)crypto_scalarmult_base(out->bytes + OFFSET_PUBLIC_KEY, out->secret);
    }
}

int peer_handshake_check(const uint8_t *opening, bool sealed)
{
    uint16_t flags = ms_le_get_u16(opening + OFFSET_OPENING_FLAGS);

    if (memcmp(opening + OFFSET_MAGIC, PEER_HANDSHAKE_MAGIC, 4) != 0) {
        return MS_EPROTO;
    }
    /* What follows may mean something else in another version. */
    if (ms_le_get_u16(opening + OFFSET_VERSION) != PEER_HANDSHAKE_VERSION) {
        return MS_EUNAVAILABLE;
    }
    if ((flags & ~FLAG_SEALED) != 0) {
        return MS_EPROTO;
    }
    return ((flags & FLAG_SEALED) != 0) == sealed ? MS_OK : MS_EPERM;
}

int peer_handshake_keys(const uint8_t cluster_key[MS_CLUSTER_KEY_BYTES], struct peer_opening *mine,
                        const uint8_t *theirs, bool dialled, struct peer_seal_keys *out)
{
    static const uint8_t purpose[] = "metastore peers: two keys of one connection";
    const uint8_t *dialling = dialled ? mine->bytes : theirs;
    const uint8_t *accepting = dialled ? theirs : mine->bytes;
    uint8_t shared[crypto_scalarmult_BYTES];
    uint8_t keys[2 * PEER_SEAL_KEY_BYTES]; /* first of what the dialling side sends */
    crypto_generichash_state hash;
    int rc = MS_OK;

    if (crypto_scalarmult(shared, mine->secret, theirs + OFFSET_PUBLIC_KEY) != 0) {
        rc = MS_EPROTO;
        goto out;
    }
    /* These fail only for lengths out of range, which are constants here. */
    (void)crypto_generichash_init(&hash, cluster_key, MS_CLUSTER_KEY_BYTES, sizeof(keys));
    (void)crypto_generichash_update(&hash, purpose, sizeof(purpose));
    (void)crypto_generichash_update(&hash, dialling, PEER_HANDSHAKE_OPENING_BYTES);
    (void)crypto_generichash_update(&hash, accepting, PEER_HANDSHAKE_OPENING_BYTES);
    (void)crypto_generichash_update(&hash, shared, sizeof(shared));
    (void)crypto_generichash_final(&hash, keys, sizeof(keys));
    memcpy(out->tx, dialled ? keys : keys + PEER_SEAL_KEY_BYTES, PEER_SEAL_KEY_BYTES);
    memcpy(out->rx, dialled ? keys + PEER_SEAL_KEY_BYTES : keys, PEER_SEAL_KEY_BYTES);

out:
    sodium_memzero(mine->secret, sizeof(mine->secret));
    sodium_memzero(shared, sizeof(shared));
    sodium_memzero(keys, sizeof(keys));
    sodium_memzero(&hash, sizeof(hash));
    return rc;
}

/* ---- hello ---- */

void peer_handshake_put_hello(const struct peers_hello *hello, enum peer_channel channel,
                              uint8_t *dst)
{
    memset(dst, 0, PEER_HANDSHAKE_HELLO_BYTES);
    dst[OFFSET_CHANNEL] = (uint8_t)channel;
    dst[OFFSET_HELLO_FLAGS] = hello->founding ? FLAG_FOUNDING : 0;
    ms_le_put_u64(dst + OFFSET_CLUSTER_ID, hello->cluster_id);
    ms_le_put_u64(dst + OFFSET_FROM, hello->from);
    ms_le_put_u64(dst + OFFSET_TO, hello->to);
    ms_le_put_u64(dst + OFFSET_DATA_ID, hello->data_id);
    ms_le_put_u64(dst + OFFSET_CONF_INDEX, hello->conf_index);
}

int peer_handshake_get_hello(const uint8_t *bytes, size_t len_bytes, struct peers_hello *out,
                             enum peer_channel *channel)
{
    struct peers_hello hello;

    if (len_bytes != PEER_HANDSHAKE_HELLO_BYTES || bytes[OFFSET_CHANNEL] > PEER_CHANNEL_SNAPSHOT ||
        (bytes[OFFSET_HELLO_FLAGS] & ~FLAG_FOUNDING) != 0) {
        return MS_EPROTO;
    }
    for (size_t i = OFFSET_ZERO; i < OFFSET_CLUSTER_ID; i++) {
        if (bytes[i] != 0) {
            return MS_EPROTO;
        }
    }
    hello = (struct peers_hello){
        .cluster_id = ms_le_get_u64(bytes + OFFSET_CLUSTER_ID),
        .from = ms_le_get_u64(bytes + OFFSET_FROM),
        .to = ms_le_get_u64(bytes + OFFSET_TO),
        .data_id = ms_le_get_u64(bytes + OFFSET_DATA_ID),
        .conf_index = ms_le_get_u64(bytes + OFFSET_CONF_INDEX),
        .founding = bytes[OFFSET_HELLO_FLAGS] != 0,
    };
    if (hello.from == RAFT_NONE || hello.from == RAFT_APPEND_THREAD ||
        hello.from == RAFT_APPLY_THREAD) {
        return MS_EPROTO;
    }
    *out = hello;
    *channel = (enum peer_channel)bytes[OFFSET_CHANNEL];
    return MS_OK;
}

/* ---- verdict ---- */

static bool reason_is_known(uint32_t reason)
{
    switch ((enum peers_refusal)reason) {
    case PEERS_ADMITTED:
    case PEERS_REFUSED_VERSION:
    case PEERS_REFUSED_CLUSTER:
    case PEERS_REFUSED_IDENTITY:
    case PEERS_REFUSED_STRANGER:
    case PEERS_REFUSED_REMOVED:
    case PEERS_REFUSED_DATA:
        return true;
    }
    return false;
}

size_t peer_handshake_put_verdict(const struct peer_verdict *verdict, uint8_t *dst)
{
    size_t len_text = strnlen(verdict->text, PEER_HANDSHAKE_TEXT_MAX);

    ms_le_put_u32(dst + OFFSET_REASON, (uint32_t)verdict->reason);
    memcpy(dst + OFFSET_TEXT, verdict->text, len_text);
    return OFFSET_TEXT + len_text;
}

int peer_handshake_get_verdict(const uint8_t *bytes, size_t len_bytes, struct peer_verdict *out)
{
    uint32_t reason;
    size_t len_text;

    if (len_bytes < OFFSET_TEXT || len_bytes > PEER_HANDSHAKE_VERDICT_MAX) {
        return MS_EPROTO;
    }
    reason = ms_le_get_u32(bytes + OFFSET_REASON);
    if (!reason_is_known(reason)) {
        return MS_EPROTO;
    }
    len_text = len_bytes - OFFSET_TEXT;
    *out = (struct peer_verdict){.reason = (enum peers_refusal)reason};
    for (size_t i = 0; i < len_text; i++) {
        uint8_t c = bytes[OFFSET_TEXT + i];

        out->text[i] = c >= ' ' && c <= '~' ? (char)c : '.';
    }
    return MS_OK;
}

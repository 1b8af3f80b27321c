/*
 * peer_seal: see peer_seal.h.
 */
#include "raftd/peer_seal.h"

#include <assert.h>
#include <string.h>

#include "common/le.h"

void peer_seal_init(struct peer_seal *seal, const struct peer_seal_keys *keys, uint8_t *header)
{
    /* Fails only for lengths that are constants here. */
    (void)crypto_secretstream_xchacha20poly1305_init_push(&seal->tx, header, keys->tx);
    memcpy(seal->rx_key, keys->rx, sizeof(seal->rx_key));
}

void peer_seal_fini(struct peer_seal *seal)
{
    sodium_memzero(seal, sizeof(*seal));
}

int peer_seal_take_header(struct peer_seal *seal, const uint8_t *header)
{
    int rc = crypto_secretstream_xchacha20poly1305_init_pull(&seal->rx, header, seal->rx_key);

    sodium_memzero(seal->rx_key, sizeof(seal->rx_key));
    return rc == 0 ? MS_OK : MS_EPROTO;
}

size_t peer_seal_close(struct peer_seal *seal, const uint8_t *plain, size_t len_bytes, uint8_t *dst)
{
    size_t sealed_bytes = len_bytes + PEER_SEAL_COST_BYTES;

    assert(len_bytes > 0 && len_bytes <= PEER_SEAL_PLAIN_MAX);
    ms_le_put_u32(dst, (uint32_t)sealed_bytes);
    /* Fails only beyond a length of many gigabytes. */
    (void)crypto_secretstream_xchacha20poly1305_push(
        &seal->tx, dst + PEER_SEAL_HEAD_BYTES, NULL, plain, len_bytes, NULL, 0,
        crypto_secretstream_xchacha20poly1305_TAG_MESSAGE);
    return PEER_SEAL_HEAD_BYTES + sealed_bytes;
}

int peer_seal_record_bytes(const uint8_t *head, size_t *record_bytes)
{
    uint32_t sealed_bytes = ms_le_get_u32(head);

    if (sealed_bytes <= PEER_SEAL_COST_BYTES ||
        sealed_bytes > PEER_SEAL_PLAIN_MAX + PEER_SEAL_COST_BYTES) {
        return MS_EPROTO;
    }
    *record_bytes = PEER_SEAL_HEAD_BYTES + sealed_bytes;
    return MS_OK;
}

int peer_seal_open(struct peer_seal *seal, const uint8_t *record, size_t record_bytes, uint8_t *dst,
                   size_t *len_bytes)
{
    unsigned long long opened = 0;
    uint8_t tag = 0;

    assert(record_bytes > PEER_SEAL_HEAD_BYTES + PEER_SEAL_COST_BYTES &&
           record_bytes <= PEER_SEAL_RECORD_MAX);
    if (crypto_secretstream_xchacha20poly1305_pull(
            &seal->rx, dst, &opened, &tag, record + PEER_SEAL_HEAD_BYTES,
            record_bytes - PEER_SEAL_HEAD_BYTES, NULL, 0) != 0 ||
        tag != crypto_secretstream_xchacha20poly1305_TAG_MESSAGE) {
        return MS_EPROTO;
    }
    *len_bytes = (size_t)opened;
    return MS_OK;
}

/*
 * peer_seal: the stream of frames, encrypted (crypto_secretstream of libsodium).
 *
 * Each direction begins with the header of its stream; then come records:
 *
 *   offset size (little-endian)
 *        0    4  length of what follows
 *        4    .  ciphertext, PEER_SEAL_COST_BYTES longer than the bytes in it
 *
 * Records follow the writes, not the frames: what is flushed together is sealed together. A record
 * that was changed, left out, repeated or moved does not open.
 */
#ifndef METASTORE_RAFTD_PEER_SEAL_H
#define METASTORE_RAFTD_PEER_SEAL_H

#include <sodium.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define PEER_SEAL_HEADER_BYTES crypto_secretstream_xchacha20poly1305_HEADERBYTES
#define PEER_SEAL_KEY_BYTES    crypto_secretstream_xchacha20poly1305_KEYBYTES
#define PEER_SEAL_COST_BYTES   crypto_secretstream_xchacha20poly1305_ABYTES
#define PEER_SEAL_HEAD_BYTES   4u
#define PEER_SEAL_PLAIN_MAX    (64u * 1024u)
#define PEER_SEAL_RECORD_MAX   (PEER_SEAL_HEAD_BYTES + PEER_SEAL_PLAIN_MAX + PEER_SEAL_COST_BYTES)

/* One key for each direction. */
struct peer_seal_keys {
    uint8_t tx[PEER_SEAL_KEY_BYTES];
    uint8_t rx[PEER_SEAL_KEY_BYTES];
};

struct peer_seal {
    crypto_secretstream_xchacha20poly1305_state tx;
    crypto_secretstream_xchacha20poly1305_state rx;
    uint8_t rx_key[PEER_SEAL_KEY_BYTES]; /* wiped once the far side's header has come */
};

/* Begins both directions; header (PEER_SEAL_HEADER_BYTES) is to be sent first. */
void peer_seal_init(struct peer_seal *seal, const struct peer_seal_keys *keys, uint8_t *header);
void peer_seal_fini(struct peer_seal *seal);

/* The far side's header. MS_EPROTO: it is none. */
int peer_seal_take_header(struct peer_seal *seal, const uint8_t *header);

/* Makes a record of len_bytes (1 .. PEER_SEAL_PLAIN_MAX) at dst; returns its length. */
size_t peer_seal_close(struct peer_seal *seal, const uint8_t *plain, size_t len_bytes,
                       uint8_t *dst);

/*
 * The length of a whole record, from its first PEER_SEAL_HEAD_BYTES; MS_EPROTO if there can be no
 * such record.
 */
int peer_seal_record_bytes(const uint8_t *head, size_t *record_bytes);

/*
 * Opens a whole record into dst (PEER_SEAL_PLAIN_MAX). MS_EPROTO: it was not made by the holder of
 * the key at this place of the stream; nothing more can be opened.
 */
int peer_seal_open(struct peer_seal *seal, const uint8_t *record, size_t record_bytes, uint8_t *dst,
                   size_t *len_bytes);

#endif

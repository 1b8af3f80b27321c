/*
 * peer_handshake: how two nodes come to trust a connection.
 *
 * Both sides first send an opening, in plain text:
 *
 *   offset size (little-endian)
 *        0    4  PEER_HANDSHAKE_MAGIC
 *        4    2  protocol version
 *        6    2  flags: bit 0 sealed
 *        8   32  sealed: an X25519 public key made for this connection; else zero
 *
 * The dialling side's comes first. If sealed, both derive one key per direction from the key
 * exchange, both openings and the cluster key (peer_handshake_keys) and go on in a sealed stream:
 * who does not hold the cluster key can neither open nor make a record, and old records fit no new
 * connection. The keys of past connections cannot be found even if the cluster key gets known.
 *
 * Then frames (peer_frame.h): HELLO of the dialling side, which is judged; WELCOME with the
 * verdict, which is judged in turn. Their payloads:
 *
 *   HELLO                          WELCOME                REFUSAL
 *        0    1  channel           0   48  as HELLO       0    4  reason
 *        1    1  flags: bit 0           (channel 0)       4    .  text
 *                founding         48    4  reason
 *        2    6  zero             52    .  text
 *        8    8  cluster id
 *       16    8  from
 *       24    8  to
 *       32    8  data id
 *       40    8  conf_index
 *
 * reason is an enum peers_refusal; a text is at most PEER_HANDSHAKE_TEXT_MAX bytes of any kind.
 */
#ifndef METASTORE_RAFTD_PEER_HANDSHAKE_H
#define METASTORE_RAFTD_PEER_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raftd/peer_seal.h"
#include "raftd/peers.h"

#define PEER_HANDSHAKE_VERSION       1u
#define PEER_HANDSHAKE_MAGIC         "MSPR"
#define PEER_HANDSHAKE_OPENING_BYTES 40u
#define PEER_HANDSHAKE_HELLO_BYTES   48u
#define PEER_HANDSHAKE_TEXT_MAX      200u
#define PEER_HANDSHAKE_VERDICT_MAX   (4u + PEER_HANDSHAKE_TEXT_MAX)
#define PEER_HANDSHAKE_WELCOME_MAX   (PEER_HANDSHAKE_HELLO_BYTES + PEER_HANDSHAKE_VERDICT_MAX)

enum peer_channel {
    PEER_CHANNEL_NONE = 0, /* in WELCOME: as asked for */
    PEER_CHANNEL_MESSAGES = 1,
    PEER_CHANNEL_SNAPSHOT = 2,
};

/* Our half of the key exchange. */
struct peer_opening {
    uint8_t bytes[PEER_HANDSHAKE_OPENING_BYTES];
    uint8_t secret[crypto_scalarmult_SCALARBYTES]; /* to be wiped after use */
};

/* Makes an opening; sealed ones differ each time. */
void peer_handshake_open(bool sealed, struct peer_opening *out);

/*
 * The far side's opening. MS_EPROTO: it is none; MS_EUNAVAILABLE: another version; MS_EPERM: sealed
 * where we are not, or the other way round.
 */
int peer_handshake_check(const uint8_t *opening, bool sealed);

/*
 * The keys of a sealed connection; theirs is a checked opening. mine is wiped of its secret.
 * MS_EPROTO: a public key that no honest node makes.
 */
int peer_handshake_keys(const uint8_t cluster_key[MS_CLUSTER_KEY_BYTES], struct peer_opening *mine,
                        const uint8_t *theirs, bool dialled, struct peer_seal_keys *out);

/* dst has PEER_HANDSHAKE_HELLO_BYTES. */
void peer_handshake_put_hello(const struct peers_hello *hello, enum peer_channel channel,
                              uint8_t *dst);
/* MS_EPROTO. */
int peer_handshake_get_hello(const uint8_t *bytes, size_t len_bytes, struct peers_hello *out,
                             enum peer_channel *channel);

struct peer_verdict {
    enum peers_refusal reason;
    char text[PEER_HANDSHAKE_TEXT_MAX + 1]; /* printable, ends in 0 */
};

/* dst has PEER_HANDSHAKE_VERDICT_MAX bytes; returns how many of them it takes. */
size_t peer_handshake_put_verdict(const struct peer_verdict *verdict, uint8_t *dst);
/* MS_EPROTO. Bytes that do not print become dots. */
int peer_handshake_get_verdict(const uint8_t *bytes, size_t len_bytes, struct peer_verdict *out);

#endif

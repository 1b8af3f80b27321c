/*
 * peer_codec: the core's messages as bytes between nodes.
 *
 * Pure: bytes in, struct out, and the other way round. Whether a message makes sense to Raft is the
 * core's business; here every field is checked for what the layout permits, and nothing is
 * allocated for a number that the bytes at hand do not bear out.
 */
#ifndef METASTORE_RAFTD_PEER_CODEC_H
#define METASTORE_RAFTD_PEER_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf_state.h"
#include "raftd/core/raft.h"
#include "raftd/peer_queue.h"

#define PEER_CODEC_MESSAGE_BYTES 88u
#define PEER_CODEC_ENTRY_BYTES   24u

/* The longest offer of a snapshot: every list of its configuration full, and every URL long. */
#define PEER_CODEC_OFFER_BYTES_MAX                                                        \
    (PEER_CODEC_MESSAGE_BYTES + 32u + 4u * RAFT_MEMBERS_MAX * (unsigned)sizeof(node_id) + \
     (unsigned)MS_CONF_STATE_BYTES_MAX)

/* Whether messages of this type travel between nodes as messages (MsgSnap has its own way). */
bool peer_codec_travels(enum raft_message_type type);

/* The length of the encoded message. */
size_t peer_codec_message_bytes(const struct raft_message *message);

/*
 * Appends the encoded message to the queue; large data is borrowed, all else copied. Fields that do
 * not travel (to, vote, snapshot, responses) must be empty but for to (assert), as must a type that
 * does not (assert). MS_ENOMEM: part of it may be in the queue; the caller rolls back.
 */
int peer_codec_put_message(struct peer_queue *queue, const struct raft_message *message);

/*
 * Reads one message from from to to. The data of its entries is copied out of bytes, unless owner
 * keeps bytes alive: then it is referred to. On MS_OK the caller releases *out; on any other answer
 * *out is untouched.
 *
 *   MS_EPROTO   not the encoding of a message that travels, or sent in another's name
 *   MS_ENOMEM
 */
int peer_codec_get_message(const struct raft_alloc *alloc, const uint8_t *bytes, size_t len_bytes,
                           struct raft_buffer *owner, node_id from, node_id to,
                           struct raft_message *out);

/*
 * The offer of a snapshot: a MsgSnap and how many bytes of state follow. dst has
 * PEER_CODEC_OFFER_BYTES_MAX bytes; returns how many of them it takes. The snapshot's data, if it
 * has any, is its membership (raftd/snapshot_conf.h) and travels with it.
 */
size_t peer_codec_put_offer(const struct raft_message *message, uint64_t size_bytes, uint8_t *dst);
/* As peer_codec_get_message. */
int peer_codec_get_offer(const struct raft_alloc *alloc, const uint8_t *bytes, size_t len_bytes,
                         node_id from, node_id to, struct raft_message *out, uint64_t *size_bytes);

#endif

/*
 * peer_frame: how the stream of bytes between two nodes is cut into frames.
 *
 *   offset size (little-endian)
 *        0    4  length of the payload
 *        4    1  type (enum peer_frame_type)
 *        5    3  zero
 *        8    .  payload
 *
 * The dialling side speaks first. What it may send (d) and what the accepting side may (a), and on
 * which channel:
 *
 *   type      from  channel    payload
 *   HELLO     d     both       peer_handshake.h; again when what it says has changed
 *   WELCOME   a     both       peer_handshake.h; again when what it says has changed
 *   REFUSAL   both  both       peer_handshake.h; the last frame of its side
 *   PING      d     both       none; answered by PONG
 *   PONG      a     both       none
 *   MESSAGE   d     messages   peer_codec.c
 *   NOTE      d     messages   4 kind (enum peers_note), then its bytes
 *   OFFER     d     snapshot   peer_codec.c; the first
 *   ACCEPT    a     snapshot   8 offset to go on from
 *   DATA      d     snapshot   8 offset, then bytes of the snapshot, without gaps
 *   CONSUMED  a     snapshot   8 offset up to which the bytes are stored
 *   END       d     snapshot   none; all bytes were sent
 *   FINISH    a     snapshot   4 status (enum ms_status); the last frame of its side
 */
#ifndef METASTORE_RAFTD_PEER_FRAME_H
#define METASTORE_RAFTD_PEER_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "raftd/core/raft.h"
#include "raftd/peer_queue.h"

#define PEER_FRAME_HEAD_BYTES 8u

enum peer_frame_type {
    PEER_FRAME_HELLO = 1,
    PEER_FRAME_WELCOME = 2,
    PEER_FRAME_REFUSAL = 3,
    PEER_FRAME_PING = 4,
    PEER_FRAME_PONG = 5,
    PEER_FRAME_MESSAGE = 6,
    PEER_FRAME_NOTE = 7,
    PEER_FRAME_OFFER = 8,
    PEER_FRAME_ACCEPT = 9,
    PEER_FRAME_DATA = 10,
    PEER_FRAME_CONSUMED = 11,
    PEER_FRAME_END = 12,
    PEER_FRAME_FINISH = 13,
};

/* Appends the head of a frame whose payload of len_bytes follows. MS_ENOMEM: nothing was added. */
int peer_frame_put_head(struct peer_queue *queue, enum peer_frame_type type, size_t len_bytes);
/* Appends a whole frame, payload copied. MS_ENOMEM: nothing was added. */
int peer_frame_put(struct peer_queue *queue, enum peer_frame_type type, const void *payload,
                   size_t len_bytes);

struct peer_frame {
    uint8_t type; /* as it came: limit has let it pass */
    const uint8_t *payload;
    size_t len_bytes;
    struct raft_buffer *owner; /* keeps payload alive beyond the call if referenced; or NULL */
};

struct peer_frame_handlers {
    /* Whether a frame of this type and length may come now. MS_OK, or what feeding returns. */
    int (*limit)(void *ctx, uint8_t type, size_t len_bytes);
    /* One frame, borrowed for the call. Other than MS_OK ends the feeding and is returned by it. */
    int (*frame)(void *ctx, const struct peer_frame *frame);
    void *ctx;
};

/* Takes the stream in pieces of any length. */
struct peer_frame_reader {
    const struct raft_alloc *alloc; /* borrowed */
    struct peer_frame_handlers handlers;
    uint8_t head[PEER_FRAME_HEAD_BYTES];
    size_t head_have;
    struct raft_buffer *buffer; /* of a frame that is not complete; NULL: none */
    uint8_t *bytes;             /* its payload */
    size_t len_bytes;
    size_t have_bytes;
};

/* alloc must outlive the reader. */
void peer_frame_reader_init(struct peer_frame_reader *reader, const struct raft_alloc *alloc,
                            const struct peer_frame_handlers *handlers);
void peer_frame_reader_fini(struct peer_frame_reader *reader);

/*
 * The next bytes of the stream; complete frames are handed on before it returns. After an answer
 * other than MS_OK the reader is of no more use: MS_EPROTO (not a frame), MS_ENOMEM, or a
 * handler's.
 */
int peer_frame_feed(struct peer_frame_reader *reader, const uint8_t *data, size_t len_bytes);

/*
 * Where the rest of a long frame may be put without a copy in between, *room_bytes of it; NULL if
 * none is on its way or little is missing. peer_frame_filled says how much came.
 */
uint8_t *peer_frame_room(struct peer_frame_reader *reader, size_t *room_bytes);
int peer_frame_filled(struct peer_frame_reader *reader, size_t len_bytes);

#endif

/*
 * peer_queue: bytes on their way to one peer, in order.
 *
 * Small pieces are copied one behind the other, so that many messages become one write. Large ones
 * are borrowed together with a reference to their owner, so that an entry's data is copied nowhere
 * on its way from the log to the socket. Bounds are the caller's: it asks for bytes first.
 */
#ifndef METASTORE_RAFTD_PEER_QUEUE_H
#define METASTORE_RAFTD_PEER_QUEUE_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "raftd/core/raft.h"

/* Data of at least this size is worth a reference and a place of its own in a gathered write. */
#define PEER_QUEUE_BORROW_BYTES_MIN 4096u

struct peer_segment;

struct peer_queue {
    const struct raft_alloc *alloc; /* borrowed */
    struct peer_segment *head;
    struct peer_segment *tail;
    struct peer_segment *spare; /* an emptied one, for the next copy */
    size_t bytes;               /* in all segments */
};

/* Where the queue ended at some time. */
struct peer_queue_mark {
    struct peer_segment *tail;
    size_t tail_bytes;
    size_t bytes;
};

/* alloc must outlive the queue. */
void peer_queue_init(struct peer_queue *queue, const struct raft_alloc *alloc);
void peer_queue_fini(struct peer_queue *queue);

/* Adds a copy of the bytes. MS_ENOMEM: nothing was added. */
int peer_queue_copy(struct peer_queue *queue, const void *data, size_t len_bytes);

/*
 * Adds bytes that owner keeps alive, which gets another reference; they are copied when they are
 * few or have no owner. MS_ENOMEM: nothing was added.
 */
int peer_queue_borrow(struct peer_queue *queue, const void *data, size_t len_bytes,
                      struct raft_buffer *owner);

/*
 * What was added after the mark is taken back, so that a frame of several pieces is added whole or
 * not at all. Nothing may have been consumed since.
 */
struct peer_queue_mark peer_queue_mark(const struct peer_queue *queue);
void peer_queue_rollback(struct peer_queue *queue, const struct peer_queue_mark *mark);

/*
 * Points bufs (bufs_max of them) at the first bytes, at most max_bytes; returns how many it needed.
 * They stay valid and unchanged until they are consumed, whatever is added meanwhile.
 */
size_t peer_queue_peek(const struct peer_queue *queue, size_t max_bytes, uv_buf_t *bufs,
                       size_t bufs_max);

/* Copies the first bytes out, at most max_bytes, and consumes them; returns how many there were. */
size_t peer_queue_take(struct peer_queue *queue, uint8_t *dst, size_t max_bytes);

/* Drops the first len_bytes, which must be there (assert). */
void peer_queue_consume(struct peer_queue *queue, size_t len_bytes);

#endif

/*
 * peer_queue: see peer_queue.h.
 */
#include "raftd/peer_queue.h"

#include <assert.h>
#include <string.h>

/* Copies are collected in pieces of this size: a few hundred small messages. */
#define CHUNK_BYTES (32u * 1024u)

/*
 * Bytes either lie behind the struct, where more can be added in room_bytes, or belong to owner;
 * then there is no room.
 */
struct peer_segment {
    struct peer_segment *next;
    const uint8_t *data; /* the first byte that was not consumed */
    size_t len_bytes;
    size_t room_bytes;
    struct raft_buffer *owner; /* one reference, or NULL */
    uint8_t bytes[];
};

void peer_queue_init(struct peer_queue *queue, const struct raft_alloc *alloc)
{
    *queue = (struct peer_queue){.alloc = alloc};
}

static void free_segment(struct peer_queue *queue, struct peer_segment *segment)
{
    raft_buffer_release(segment->owner);
    queue->alloc->free(queue->alloc->ctx, segment);
}

static void free_from(struct peer_queue *queue, struct peer_segment *segment)
{
    while (segment != NULL) {
        struct peer_segment *next = segment->next;

        free_segment(queue, segment);
        segment = next;
    }
}

void peer_queue_fini(struct peer_queue *queue)
{
    free_from(queue, queue->head);
    if (queue->spare != NULL) {
        free_segment(queue, queue->spare);
    }
    *queue = (struct peer_queue){.alloc = queue->alloc};
}

static void append(struct peer_queue *queue, struct peer_segment *segment)
{
    if (queue->tail != NULL) {
        queue->tail->next = segment;
    } else {
        queue->head = segment;
    }
    queue->tail = segment;
}

/* An empty segment with room for at least len_bytes; NULL if the allocator refuses. */
static struct peer_segment *new_chunk(struct peer_queue *queue, size_t len_bytes)
{
    size_t room_bytes = len_bytes > CHUNK_BYTES ? len_bytes : CHUNK_BYTES;
    struct peer_segment *segment = queue->spare;

    if (segment != NULL && room_bytes == CHUNK_BYTES) {
        queue->spare = NULL;
    } else {
        segment = queue->alloc->alloc(queue->alloc->ctx, sizeof(*segment) + room_bytes);
    }
    if (segment == NULL) {
        return NULL;
    }
    segment->next = NULL;
    segment->data = segment->bytes;
    segment->len_bytes = 0;
    segment->room_bytes = room_bytes;
    segment->owner = NULL;
    return segment;
}

int peer_queue_copy(struct peer_queue *queue, const void *data, size_t len_bytes)
{
    struct peer_segment *segment = queue->tail;

    if (len_bytes == 0) {
        return MS_OK;
    }
    if (segment == NULL || segment->room_bytes < len_bytes) {
        segment = new_chunk(queue, len_bytes);
        if (segment == NULL) {
            return MS_ENOMEM;
        }
        append(queue, segment);
    }
    /* Room means that the bytes lie behind the struct, so they may be written to. */
    memcpy(segment->bytes + (segment->data - segment->bytes) + segment->len_bytes, data, len_bytes);
    segment->len_bytes += len_bytes;
    segment->room_bytes -= len_bytes;
    queue->bytes += len_bytes;
    return MS_OK;
}

int peer_queue_borrow(struct peer_queue *queue, const void *data, size_t len_bytes,
                      struct raft_buffer *owner)
{
    struct peer_segment *segment;

    if (owner == NULL || len_bytes < PEER_QUEUE_BORROW_BYTES_MIN) {
        return peer_queue_copy(queue, data, len_bytes);
    }
    segment = queue->alloc->alloc(queue->alloc->ctx, sizeof(*segment));
    if (segment == NULL) {
        return MS_ENOMEM;
    }
    *segment = (struct peer_segment){.data = data, .len_bytes = len_bytes, .owner = owner};
    raft_buffer_ref(owner);
    append(queue, segment);
    queue->bytes += len_bytes;
    return MS_OK;
}

struct peer_queue_mark peer_queue_mark(const struct peer_queue *queue)
{
    return (struct peer_queue_mark){
        .tail = queue->tail,
        .tail_bytes = queue->tail != NULL ? queue->tail->len_bytes : 0,
        .bytes = queue->bytes,
    };
}

void peer_queue_rollback(struct peer_queue *queue, const struct peer_queue_mark *mark)
{
    struct peer_segment *tail = mark->tail;
    struct peer_segment *added = tail != NULL ? tail->next : queue->head;

    assert(queue->bytes >= mark->bytes);
    free_from(queue, added);
    if (tail != NULL) {
        tail->next = NULL;
        tail->room_bytes += tail->len_bytes - mark->tail_bytes;
        tail->len_bytes = mark->tail_bytes;
    } else {
        queue->head = NULL;
    }
    queue->tail = tail;
    queue->bytes = mark->bytes;
}

size_t peer_queue_peek(const struct peer_queue *queue, size_t max_bytes, uv_buf_t *bufs,
                       size_t bufs_max)
{
    size_t count = 0;

    for (const struct peer_segment *segment = queue->head;
         segment != NULL && count < bufs_max && max_bytes > 0; segment = segment->next) {
        size_t len_bytes = segment->len_bytes < max_bytes ? segment->len_bytes : max_bytes;

        if (len_bytes == 0) {
            continue;
        }
        /* libuv has one type for both directions; nobody writes through this one. */
        bufs[count].base = (char *)(uintptr_t)segment->data;
        bufs[count].len = len_bytes;
        max_bytes -= len_bytes;
        count++;
    }
    return count;
}

/* A chunk that is the last one stays, emptied: its room serves the next message. */
static void drop_head(struct peer_queue *queue)
{
    struct peer_segment *segment = queue->head;

    queue->head = segment->next;
    if (queue->head == NULL) {
        queue->tail = NULL;
    }
    if (segment->owner == NULL && queue->spare == NULL &&
        (size_t)(segment->data - segment->bytes) + segment->room_bytes == CHUNK_BYTES) {
        queue->spare = segment;
    } else {
        free_segment(queue, segment);
    }
}

void peer_queue_consume(struct peer_queue *queue, size_t len_bytes)
{
    assert(len_bytes <= queue->bytes);
    queue->bytes -= len_bytes;
    while (queue->head != NULL && len_bytes >= queue->head->len_bytes) {
        size_t head_bytes = queue->head->len_bytes;

        len_bytes -= head_bytes;
        queue->head->data += head_bytes;
        queue->head->len_bytes = 0;
        drop_head(queue);
    }
    if (len_bytes > 0) {
        queue->head->data += len_bytes;
        queue->head->len_bytes -= len_bytes;
    }
}

size_t peer_queue_take(struct peer_queue *queue, uint8_t *dst, size_t max_bytes)
{
    size_t taken = 0;

    while (queue->bytes > 0 && taken < max_bytes) {
        uv_buf_t piece;

        if (peer_queue_peek(queue, max_bytes - taken, &piece, 1) == 0) {
            break;
        }
        memcpy(dst + taken, piece.base, piece.len);
        taken += piece.len;
        peer_queue_consume(queue, piece.len);
    }
    return taken;
}

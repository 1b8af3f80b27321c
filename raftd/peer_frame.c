/*
 * peer_frame: see peer_frame.h.
 */
#include "raftd/peer_frame.h"

#include <assert.h>
#include <string.h>

#include "common/le.h"

/* With less than this missing, what is behind the frame is worth reading along. */
#define DIRECT_BYTES_MIN (64u * 1024u)

enum head_offset {
    OFFSET_LEN = 0,
    OFFSET_TYPE = 4,
    OFFSET_ZERO = 5,
};

int peer_frame_put_head(struct peer_queue *queue, enum peer_frame_type type, size_t len_bytes)
{
    uint8_t head[PEER_FRAME_HEAD_BYTES] = {0};

    assert(len_bytes <= UINT32_MAX);
    ms_le_put_u32(head + OFFSET_LEN, (uint32_t)len_bytes);
    head[OFFSET_TYPE] = (uint8_t)type;
    return peer_queue_copy(queue, head, sizeof(head));
}

int peer_frame_put(struct peer_queue *queue, enum peer_frame_type type, const void *payload,
                   size_t len_bytes)
{
    const struct peer_queue_mark mark = peer_queue_mark(queue);
    int rc = peer_frame_put_head(queue, type, len_bytes);

    if (rc == MS_OK) {
        rc = peer_queue_copy(queue, payload, len_bytes);
    }
    if (rc != MS_OK) {
        peer_queue_rollback(queue, &mark);
    }
    return rc;
}

void peer_frame_reader_init(struct peer_frame_reader *reader, const struct raft_alloc *alloc,
                            const struct peer_frame_handlers *handlers)
{
    *reader = (struct peer_frame_reader){.alloc = alloc, .handlers = *handlers};
}

void peer_frame_reader_fini(struct peer_frame_reader *reader)
{
    raft_buffer_release(reader->buffer);
    reader->buffer = NULL;
}

static int hand_on(struct peer_frame_reader *reader, const uint8_t *payload, size_t len_bytes,
                   struct raft_buffer *owner)
{
    const struct peer_frame frame = {
        .type = reader->head[OFFSET_TYPE],
        .payload = payload,
        .len_bytes = len_bytes,
        .owner = owner,
    };

    reader->head_have = 0;
    return reader->handlers.frame(reader->handlers.ctx, &frame);
}

/* The head is complete: is it one, and how long is the payload? */
static int check_head(struct peer_frame_reader *reader)
{
    const uint8_t *head = reader->head;

    reader->len_bytes = ms_le_get_u32(head + OFFSET_LEN);
    if (head[OFFSET_ZERO] != 0 || head[OFFSET_ZERO + 1] != 0 || head[OFFSET_ZERO + 2] != 0) {
        return MS_EPROTO;
    }
    return reader->handlers.limit(reader->handlers.ctx, head[OFFSET_TYPE], reader->len_bytes);
}

/* Adds what is there to the incomplete frame and hands it on once it is whole. */
static int fill(struct peer_frame_reader *reader, const uint8_t *data, size_t len_bytes)
{
    memcpy(reader->bytes + reader->have_bytes, data, len_bytes);
    return peer_frame_filled(reader, len_bytes);
}

int peer_frame_filled(struct peer_frame_reader *reader, size_t len_bytes)
{
    struct raft_buffer *buffer = reader->buffer;
    int rc;

    assert(buffer != NULL && len_bytes <= reader->len_bytes - reader->have_bytes);
    reader->have_bytes += len_bytes;
    if (reader->have_bytes < reader->len_bytes) {
        return MS_OK;
    }
    reader->buffer = NULL;
    rc = hand_on(reader, reader->bytes, reader->len_bytes, buffer);
    raft_buffer_release(buffer);
    return rc;
}

uint8_t *peer_frame_room(struct peer_frame_reader *reader, size_t *room_bytes)
{
    if (reader->buffer == NULL || reader->len_bytes - reader->have_bytes < DIRECT_BYTES_MIN) {
        return NULL;
    }
    *room_bytes = reader->len_bytes - reader->have_bytes;
    return reader->bytes + reader->have_bytes;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

int peer_frame_feed(struct peer_frame_reader *reader, const uint8_t *data, size_t len_bytes)
{
    const uint8_t *end = data + len_bytes;
    int rc = MS_OK;

    while (rc == MS_OK && data < end) {
        size_t left = (size_t)(end - data);
        size_t used;

        if (reader->buffer != NULL) {
            used = smaller(left, reader->len_bytes - reader->have_bytes);
            rc = fill(reader, data, used);
            data += used;
            continue;
        }
        used = smaller(left, sizeof(reader->head) - reader->head_have);
        memcpy(reader->head + reader->head_have, data, used);
        reader->head_have += used;
        data += used;
        left -= used;
        if (reader->head_have < sizeof(reader->head)) {
            break;
        }
        rc = check_head(reader);
        if (rc != MS_OK) {
            break;
        }
        if (left >= reader->len_bytes) {
            const uint8_t *payload = data;

            data += reader->len_bytes;
            rc = hand_on(reader, payload, reader->len_bytes, NULL);
        } else {
            reader->have_bytes = 0;
            rc = raft_buffer_create(reader->alloc, reader->len_bytes, &reader->buffer,
                                    &reader->bytes);
        }
    }
    return rc;
}

/*
 * snapshot_chunk: the frame around each piece of a snapshot's stream (drawn in snapshot_format.h).
 */
#ifndef METASTORE_STORAGED_SNAPSHOT_CHUNK_H
#define METASTORE_STORAGED_SNAPSHOT_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xxhash.h>

#include "common/le.h"
#include "storaged/snapshot_format.h"

/* The payload's length according to the head; 0: impossible. */
static inline size_t snapshot_chunk_length(const uint8_t head[SNAPSHOT_CHUNK_HEAD_BYTES])
{
    uint32_t length = ms_le_get_u32(head);

    return length <= SNAPSHOT_CHUNK_BYTES ? length : 0;
}

static inline uint32_t snapshot_chunk_number(const uint8_t head[SNAPSHOT_CHUNK_HEAD_BYTES])
{
    return ms_le_get_u32(head + 4);
}

/* Whether the payload is the one that the head was made for. */
static inline bool snapshot_chunk_is_sound(const uint8_t head[SNAPSHOT_CHUNK_HEAD_BYTES],
                                           const uint8_t *payload, size_t length)
{
    return ms_le_get_u64(head + 8) ==
           XXH3_64bits_withSeed(payload, length, snapshot_chunk_number(head));
}

static inline void snapshot_chunk_frame(uint8_t head[SNAPSHOT_CHUNK_HEAD_BYTES], uint32_t number,
                                        const uint8_t *payload, size_t length)
{
    ms_le_put_u32(head, (uint32_t)length);
    ms_le_put_u32(head + 4, number);
    ms_le_put_u64(head + 8, XXH3_64bits_withSeed(payload, length, number));
}

#endif

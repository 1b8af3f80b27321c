/*
 * rocks_layout: keys and values, there and back.
 */
#include "storaged/rocks_layout.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#include "common/err.h"
#include "common/le.h"

#define ESCAPED 0xff /* behind a 00 that is part of the key */
#define END     0x01
#define PASSED  0x02

#define TOMBSTONE 1

static void put_be64(uint8_t *dst, uint64_t value)
{
    value = htobe64(value);
    memcpy(dst, &value, sizeof(value));
}

static void put_be32(uint8_t *dst, uint32_t value)
{
    value = htobe32(value);
    memcpy(dst, &value, sizeof(value));
}

static uint64_t get_be64(const uint8_t *src)
{
    uint64_t value;

    memcpy(&value, src, sizeof(value));
    return be64toh(value);
}

static uint32_t get_be32(const uint8_t *src)
{
    uint32_t value;

    memcpy(&value, src, sizeof(value));
    return be32toh(value);
}

void rocks_layout_encode_meta(const struct rocks_layout_meta *meta,
                              uint8_t dst[ROCKS_LAYOUT_META_BYTES])
{
    ms_le_put_u32(dst, ROCKS_LAYOUT_VERSION);
    ms_le_put_u32(dst + 4, meta->complete);
    ms_le_put_u64(dst + 8, meta->meta.applied);
    ms_le_put_u64(dst + 16, meta->meta.applied_term);
    ms_le_put_u64(dst + 24, meta->meta.revision);
    ms_le_put_u64(dst + 32, meta->meta.compact_revision);
    ms_le_put_u64(dst + 40, meta->meta.keys);
    ms_le_put_u64(dst + 48, meta->compacted_to);
}

int rocks_layout_decode_meta(const uint8_t *src, size_t bytes, struct rocks_layout_meta *out)
{
    if (bytes != ROCKS_LAYOUT_META_BYTES || ms_le_get_u32(src) != ROCKS_LAYOUT_VERSION ||
        ms_le_get_u32(src + 4) > 1) {
        return MS_ECORRUPT;
    }
    *out = (struct rocks_layout_meta){
        .complete = ms_le_get_u32(src + 4) == 1,
        .meta = {.applied = ms_le_get_u64(src + 8),
                 .applied_term = ms_le_get_u64(src + 16),
                 .revision = ms_le_get_u64(src + 24),
                 .compact_revision = ms_le_get_u64(src + 32),
                 .keys = ms_le_get_u64(src + 40)},
        .compacted_to = ms_le_get_u64(src + 48),
    };
    return MS_OK;
}

void rocks_layout_open_key(struct rocks_layout_key *dst, const uint8_t *key, size_t key_bytes)
{
    uint8_t *at = dst->data;

    assert(key_bytes <= MS_KEY_BYTES_MAX);
    for (size_t i = 0; i < key_bytes; i++) {
        *at++ = key[i];
        if (key[i] == 0) {
            *at++ = ESCAPED;
        }
    }
    dst->prefix_bytes = (size_t)(at - dst->data);
}

void rocks_layout_set_key(struct rocks_layout_key *dst, const uint8_t *key, size_t key_bytes)
{
    rocks_layout_open_key(dst, key, key_bytes);
    dst->data[dst->prefix_bytes++] = 0;
    dst->data[dst->prefix_bytes++] = END;
}

void rocks_layout_set_stamp(struct rocks_layout_key *dst, uint64_t revision, uint32_t sub)
{
    put_be64(dst->data + dst->prefix_bytes, ~revision);
    put_be32(dst->data + dst->prefix_bytes + 8, ~sub);
}

void rocks_layout_pass_key(struct rocks_layout_key *dst)
{
    assert(dst->prefix_bytes >= ROCKS_LAYOUT_END_BYTES);
    dst->data[dst->prefix_bytes - 1] = PASSED;
}

int rocks_layout_stamp_of(const uint8_t *src, size_t bytes, uint64_t *revision, uint32_t *sub)
{
    if (bytes < ROCKS_LAYOUT_END_BYTES + ROCKS_LAYOUT_STAMP_BYTES) {
        return MS_ECORRUPT;
    }
    *revision = ~get_be64(src + bytes - ROCKS_LAYOUT_STAMP_BYTES);
    *sub = ~get_be32(src + bytes - ROCKS_LAYOUT_STAMP_BYTES + 8);
    return MS_OK;
}

int rocks_layout_split(const uint8_t *src, size_t bytes, uint8_t *dst, size_t *key_bytes)
{
    size_t end = bytes - ROCKS_LAYOUT_STAMP_BYTES - ROCKS_LAYOUT_END_BYTES;
    size_t written = 0;

    if (bytes < ROCKS_LAYOUT_STAMP_BYTES + ROCKS_LAYOUT_END_BYTES || src[end] != 0 ||
        src[end + 1] != END) {
        return MS_ECORRUPT;
    }
    for (size_t i = 0; i < end; i++) {
        if (written == MS_KEY_BYTES_MAX) {
            return MS_ECORRUPT;
        }
        dst[written++] = src[i];
        if (src[i] == 0 && (++i == end || src[i] != ESCAPED)) {
            return MS_ECORRUPT;
        }
    }
    *key_bytes = written;
    return written > 0 ? MS_OK : MS_ECORRUPT;
}

size_t rocks_layout_encode_header(const struct ms_memdb_kv *kv, bool tombstone,
                                  uint8_t dst[ROCKS_LAYOUT_HEADER_BYTES])
{
    dst[0] = tombstone ? TOMBSTONE : 0;
    if (tombstone) {
        return 1;
    }
    ms_le_put_u64(dst + 1, kv->create_revision);
    ms_le_put_u64(dst + 9, kv->version);
    ms_le_put_u64(dst + 17, kv->lease);
    return ROCKS_LAYOUT_HEADER_BYTES;
}

int rocks_layout_decode_version(const uint8_t *src, size_t bytes, struct ms_memdb_kv *out,
                                bool *tombstone)
{
    if (bytes == 1 && src[0] == TOMBSTONE) {
        *out = (struct ms_memdb_kv){0};
        *tombstone = true;
        return MS_OK;
    }
    if (bytes < ROCKS_LAYOUT_HEADER_BYTES || src[0] != 0) {
        return MS_ECORRUPT;
    }
    *out = (struct ms_memdb_kv){
        .value = src + ROCKS_LAYOUT_HEADER_BYTES,
        .value_bytes = bytes - ROCKS_LAYOUT_HEADER_BYTES,
        .create_revision = ms_le_get_u64(src + 1),
        .version = ms_le_get_u64(src + 9),
        .lease = ms_le_get_u64(src + 17),
    };
    *tombstone = false;
    return MS_OK;
}

void rocks_layout_history_key(uint64_t revision, uint32_t sub,
                              uint8_t dst[ROCKS_LAYOUT_STAMP_BYTES])
{
    put_be64(dst, revision);
    put_be32(dst + 8, sub);
}

int rocks_layout_decode_history_key(const uint8_t *src, size_t bytes, uint64_t *revision,
                                    uint32_t *sub)
{
    if (bytes != ROCKS_LAYOUT_STAMP_BYTES) {
        return MS_ECORRUPT;
    }
    *revision = get_be64(src);
    *sub = get_be32(src + 8);
    return MS_OK;
}

int rocks_layout_compare(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes)
{
    return memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
}

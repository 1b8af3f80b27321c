/*
 * wal_format: encoding and decoding of log segments. The drawing is in the header.
 */
#include "storaged/wal_format.h"

#include <assert.h>
#include <string.h>

#include <xxhash.h>

#include "common/le.h"

#define WAL_BATCH_MAGIC      0x4257534du /* "MSWB" */
#define WAL_HEADER_SUMMED    40u
#define WAL_BATCH_MAGIC_AT   8u
#define WAL_HARD_STATE_BYTES 24u
#define WAL_CONF_BYTES       8u
#define WAL_MARK_BYTES       16u
#define WAL_OPENING_NUMBERS  (WAL_OPENING_BYTES / 8)

static const uint8_t wal_magic[8] = {'M', 'S', 'W', 'A', 'L', 'S', 'E', 'G'};

void wal_header_encode(const struct wal_header *header, uint8_t *block)
{
    memset(block, 0, WAL_BLOCK_BYTES);
    memcpy(block, wal_magic, sizeof(wal_magic));
    ms_le_put_u32(block + 8, WAL_FORMAT);
    ms_le_put_u32(block + 12, header->used_before ? 1 : 0);
    ms_le_put_u64(block + 16, header->sequence);
    ms_le_put_u64(block + 24, header->salt);
    ms_le_put_u64(block + 32, header->size_bytes);
    ms_le_put_u64(block + WAL_HEADER_SUMMED, XXH3_64bits(block, WAL_HEADER_SUMMED));
}

int wal_header_decode(const uint8_t *block, struct wal_header *out, struct ms_err *err)
{
    struct wal_header header;
    uint32_t format;
    uint32_t used;

    if (memcmp(block, wal_magic, sizeof(wal_magic)) != 0) {
        return ms_err_set(err, MS_EINVAL, 0, "not a log segment (offset 0)");
    }
    format = ms_le_get_u32(block + 8);
    if (format != WAL_FORMAT) {
        return ms_err_set(err, MS_EINVAL, 0, "log format %u, this program reads %d", format,
                          WAL_FORMAT);
    }
    if (ms_le_get_u64(block + WAL_HEADER_SUMMED) != XXH3_64bits(block, WAL_HEADER_SUMMED)) {
        return ms_err_set(err, MS_ECORRUPT, 0, "damaged segment header (offset 0)");
    }
    used = ms_le_get_u32(block + 12);
    header.sequence = ms_le_get_u64(block + 16);
    header.salt = ms_le_get_u64(block + 24);
    header.size_bytes = ms_le_get_u64(block + 32);
    header.used_before = used == 1;
    if (used > 1 || header.sequence == 0 || header.size_bytes % WAL_BLOCK_BYTES != 0 ||
        header.size_bytes < 2 * WAL_BLOCK_BYTES) {
        return ms_err_set(err, MS_ECORRUPT, 0, "impossible segment header (offset 0)");
    }
    *out = header;
    return MS_OK;
}

/* Writes the head of a record and zeros its padding; the body comes at dst + WAL_RECORD_BYTES. */
static size_t wal_put_record(uint8_t *dst, enum wal_record_type type, size_t body_bytes)
{
    size_t total = wal_record_bytes(body_bytes);

    assert(body_bytes > 0 && body_bytes <= UINT32_MAX);
    memset(dst + total - 8, 0, 8);
    ms_le_put_u32(dst, (uint32_t)type);
    ms_le_put_u32(dst + 4, (uint32_t)body_bytes);
    return total;
}

size_t wal_put_opening(uint8_t *dst, const struct wal_opening *opening)
{
    const struct log_state *state = &opening->state;
    const uint64_t numbers[WAL_OPENING_NUMBERS] = {
        opening->previous_sequence, opening->previous_end,  opening->previous_lowest,
        opening->previous_confs,    state->hard_state.term, state->hard_state.vote,
        state->hard_state.commit,   state->first_index,     state->last_index,
        state->last_term,           state->compacted_term,  state->snapshot_index,
        state->snapshot_term,
    };
    size_t total = wal_put_record(dst, WAL_RECORD_OPENING, WAL_OPENING_BYTES);

    for (size_t i = 0; i < WAL_OPENING_NUMBERS; i++) {
        ms_le_put_u64(dst + WAL_RECORD_BYTES + 8 * i, numbers[i]);
    }
    return total;
}

size_t wal_put_entry(uint8_t *dst, const struct log_entry *entry)
{
    size_t total = wal_put_record(dst, WAL_RECORD_ENTRY, WAL_ENTRY_BYTES + entry->data_bytes);
    uint8_t *body = dst + WAL_RECORD_BYTES;

    ms_le_put_u64(body, entry->term);
    ms_le_put_u64(body + 8, entry->index);
    ms_le_put_u32(body + 16, entry->type);
    ms_le_put_u32(body + 20, 0);
    if (entry->data_bytes > 0) {
        memcpy(body + WAL_ENTRY_BYTES, entry->data, entry->data_bytes);
    }
    return total;
}

size_t wal_put_hard_state(uint8_t *dst, const struct ms_hard_state *hard_state)
{
    size_t total = wal_put_record(dst, WAL_RECORD_HARD_STATE, WAL_HARD_STATE_BYTES);

    ms_le_put_u64(dst + WAL_RECORD_BYTES, hard_state->term);
    ms_le_put_u64(dst + WAL_RECORD_BYTES + 8, hard_state->vote);
    ms_le_put_u64(dst + WAL_RECORD_BYTES + 16, hard_state->commit);
    return total;
}

size_t wal_put_conf(uint8_t *dst, raft_index index, const uint8_t *conf, size_t conf_bytes)
{
    size_t total = wal_put_record(dst, WAL_RECORD_CONF, WAL_CONF_BYTES + conf_bytes);

    ms_le_put_u64(dst + WAL_RECORD_BYTES, index);
    if (conf_bytes > 0) {
        memcpy(dst + WAL_RECORD_BYTES + WAL_CONF_BYTES, conf, conf_bytes);
    }
    return total;
}

size_t wal_put_mark(uint8_t *dst, enum wal_record_type type, raft_index index, raft_term term)
{
    size_t total = wal_put_record(dst, type, WAL_MARK_BYTES);

    assert(type == WAL_RECORD_SNAPSHOT || type == WAL_RECORD_COMPACT || type == WAL_RECORD_RESET);
    ms_le_put_u64(dst + WAL_RECORD_BYTES, index);
    ms_le_put_u64(dst + WAL_RECORD_BYTES + 8, term);
    return total;
}

size_t wal_batch_seal(uint8_t *batch, size_t payload_bytes, const struct wal_header *segment,
                      uint64_t number)
{
    size_t len_bytes = WAL_BATCH_HEADER_BYTES + payload_bytes;
    size_t total = wal_blocks_up(len_bytes);

    assert(payload_bytes <= UINT32_MAX);
    ms_le_put_u32(batch + WAL_BATCH_MAGIC_AT, WAL_BATCH_MAGIC);
    ms_le_put_u32(batch + 12, (uint32_t)payload_bytes);
    ms_le_put_u64(batch + 16, segment->sequence);
    ms_le_put_u64(batch + 24, number);
    memset(batch + len_bytes, 0, total - len_bytes);
    ms_le_put_u64(batch, XXH3_64bits_withSeed(batch + WAL_BATCH_MAGIC_AT,
                                              len_bytes - WAL_BATCH_MAGIC_AT, segment->salt));
    return total;
}

bool wal_batch_peek(const uint8_t *start, const struct wal_header *segment, uint64_t *number,
                    size_t *len_bytes)
{
    uint64_t payload_bytes = ms_le_get_u32(start + 12);

    if (ms_le_get_u32(start + WAL_BATCH_MAGIC_AT) != WAL_BATCH_MAGIC ||
        ms_le_get_u64(start + 16) != segment->sequence || payload_bytes % 8 != 0 ||
        payload_bytes == 0 || payload_bytes > segment->size_bytes) {
        return false;
    }
    *number = ms_le_get_u64(start + 24);
    *len_bytes = WAL_BATCH_HEADER_BYTES + payload_bytes;
    return true;
}

bool wal_batch_valid(const uint8_t *batch, size_t len_bytes, const struct wal_header *segment)
{
    assert(len_bytes >= WAL_BATCH_HEADER_BYTES);
    return ms_le_get_u64(batch) == XXH3_64bits_withSeed(batch + WAL_BATCH_MAGIC_AT,
                                                        len_bytes - WAL_BATCH_MAGIC_AT,
                                                        segment->salt);
}

static int wal_decode_opening(const uint8_t *body, size_t body_bytes, struct wal_opening *out)
{
    uint64_t numbers[WAL_OPENING_NUMBERS];

    if (body_bytes != WAL_OPENING_BYTES) {
        return MS_ECORRUPT;
    }
    for (size_t i = 0; i < WAL_OPENING_NUMBERS; i++) {
        numbers[i] = ms_le_get_u64(body + 8 * i);
    }
    *out = (struct wal_opening){
        .previous_sequence = numbers[0],
        .previous_end = numbers[1],
        .previous_lowest = numbers[2],
        .previous_confs = numbers[3],
        .state = {.hard_state = {.term = numbers[4], .vote = numbers[5], .commit = numbers[6]},
                  .first_index = numbers[7],
                  .last_index = numbers[8],
                  .last_term = numbers[9],
                  .compacted_term = numbers[10],
                  .snapshot_index = numbers[11],
                  .snapshot_term = numbers[12]},
    };
    return MS_OK;
}

static int wal_decode_entry(const uint8_t *body, size_t body_bytes, struct log_entry *out)
{
    if (body_bytes < WAL_ENTRY_BYTES) {
        return MS_ECORRUPT;
    }
    *out = (struct log_entry){
        .term = ms_le_get_u64(body),
        .index = ms_le_get_u64(body + 8),
        .type = ms_le_get_u32(body + 16),
        .data_bytes = (uint32_t)(body_bytes - WAL_ENTRY_BYTES),
        .data = body + WAL_ENTRY_BYTES,
    };
    return out->index > 0 ? MS_OK : MS_ECORRUPT;
}

static int wal_decode_body(uint32_t type, const uint8_t *body, size_t body_bytes,
                           struct wal_item *out)
{
    /* A number from the disk, not one of ours: everything unknown falls through to the end. */
    switch (type) {
    case WAL_RECORD_OPENING:
        return wal_decode_opening(body, body_bytes, &out->opening);
    case WAL_RECORD_ENTRY:
        return wal_decode_entry(body, body_bytes, &out->entry);
    case WAL_RECORD_HARD_STATE:
        if (body_bytes != WAL_HARD_STATE_BYTES) {
            return MS_ECORRUPT;
        }
        out->hard_state = (struct ms_hard_state){.term = ms_le_get_u64(body),
                                                 .vote = ms_le_get_u64(body + 8),
                                                 .commit = ms_le_get_u64(body + 16)};
        return MS_OK;
    case WAL_RECORD_CONF:
        if (body_bytes < WAL_CONF_BYTES || body_bytes > WAL_CONF_BYTES + LOG_STORE_CONF_BYTES_MAX) {
            return MS_ECORRUPT;
        }
        out->conf.index = ms_le_get_u64(body);
        out->conf.data = body + WAL_CONF_BYTES;
        out->conf.data_bytes = body_bytes - WAL_CONF_BYTES;
        return MS_OK;
    case WAL_RECORD_SNAPSHOT:
    case WAL_RECORD_COMPACT:
    case WAL_RECORD_RESET:
        if (body_bytes != WAL_MARK_BYTES) {
            return MS_ECORRUPT;
        }
        out->mark.index = ms_le_get_u64(body);
        out->mark.term = ms_le_get_u64(body + 8);
        return MS_OK;
    }
    return MS_ECORRUPT;
}

int wal_item_next(const uint8_t *payload, size_t payload_bytes, size_t *offset,
                  struct wal_item *out)
{
    const uint8_t *record = payload + *offset;
    size_t rest = payload_bytes - *offset;
    size_t body_bytes;
    uint32_t type;
    int rc;

    assert(*offset <= payload_bytes);
    if (rest == 0) {
        return MS_ENOENT;
    }
    if (rest < WAL_RECORD_BYTES) {
        return MS_ECORRUPT;
    }
    type = ms_le_get_u32(record);
    body_bytes = ms_le_get_u32(record + 4);
    if (body_bytes == 0 || wal_record_bytes(body_bytes) > rest) {
        return MS_ECORRUPT;
    }
    rc = wal_decode_body(type, record + WAL_RECORD_BYTES, body_bytes, out);
    if (rc == MS_OK) {
        out->type = (enum wal_record_type)type;
        *offset += wal_record_bytes(body_bytes);
    }
    return rc;
}

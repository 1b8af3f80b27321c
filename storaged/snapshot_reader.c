/*
 * snapshot_reader: chunks to stream, stream to items.
 */
#include "storaged/snapshot_reader.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "common/command.h"
#include "common/le.h"
#include "storaged/snapshot_chunk.h"
#include "storaged/snapshot_format.h"

struct snapshot_reader {
    struct snapshot_input input;
    XXH3_state_t *stream;
    uint64_t offset;    /* in the input, of the current chunk's payload */
    uint32_t number;    /* of the next chunk */
    size_t chunk_bytes; /* of the current payload; 0 before the first and after the last */
    size_t position;    /* in it */
    size_t hashed;      /* of it, into stream */
    uint64_t records;
    uint64_t stamps;
    uint64_t changes;
    uint8_t *scratch; /* for what lies in several chunks */
    size_t scratch_bytes;
    struct engine_stamp key_stamps[ENGINE_STAMPS_MAX];
    uint8_t chunk[SNAPSHOT_CHUNK_BYTES];
};

static int corrupt(const struct snapshot_reader *reader, const char *what, struct ms_err *err)
{
    uint64_t at = reader->offset + reader->position;

    return ms_err_set(err, MS_ECORRUPT, 0, "snapshot %s: at byte %" PRIu64 ": %s",
                      reader->input.name, at, what);
}

int snapshot_reader_create(const struct snapshot_input *input, struct snapshot_reader **out,
                           struct ms_err *err)
{
    struct snapshot_reader *reader = calloc(1, sizeof(*reader));

    if (reader != NULL) {
        reader->input = *input;
        reader->stream = XXH3_createState();
    }
    if (reader == NULL || reader->stream == NULL) {
        free(reader);
        return ms_err_set(err, MS_ENOMEM, 0, "snapshot: out of memory");
    }
    (void)XXH3_64bits_reset(reader->stream);
    *out = reader;
    return MS_OK;
}

void snapshot_reader_destroy(struct snapshot_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    (void)XXH3_freeState(reader->stream);
    free(reader->scratch);
    free(reader);
}

static void hash_up_to(struct snapshot_reader *reader, size_t position)
{
    (void)XXH3_64bits_update(reader->stream, reader->chunk + reader->hashed,
                             position - reader->hashed);
    reader->hashed = position;
}

/* Reads the next chunk and checks it. *end: there is none. */
static int next_chunk(struct snapshot_reader *reader, bool *end, struct ms_err *err)
{
    uint8_t head[SNAPSHOT_CHUNK_HEAD_BYTES];
    size_t length;
    size_t got = 0;
    int rc;

    hash_up_to(reader, reader->chunk_bytes);
    reader->offset += reader->chunk_bytes;
    reader->position = 0;
    reader->hashed = 0;
    reader->chunk_bytes = 0;
    rc = reader->input.read(reader->input.ctx, head, sizeof(head), &got, err);
    if (rc != MS_OK) {
        return rc;
    }
    *end = got == 0;
    if (*end) {
        return MS_OK;
    }
    if (got < sizeof(head)) {
        return corrupt(reader, "cut short in the head of a chunk", err);
    }
    length = snapshot_chunk_length(head);
    if (length == 0) {
        return corrupt(reader, "impossible length of a chunk", err);
    }
    if (snapshot_chunk_number(head) != reader->number) {
        return corrupt(reader, "chunk out of order", err);
    }
    rc = reader->input.read(reader->input.ctx, reader->chunk, length, &got, err);
    if (rc != MS_OK) {
        return rc;
    }
    if (got < length) {
        return corrupt(reader, "cut short inside a chunk", err);
    }
    if (!snapshot_chunk_is_sound(head, reader->chunk, length)) {
        return corrupt(reader, "wrong checksum of a chunk", err);
    }
    reader->offset += sizeof(head);
    reader->chunk_bytes = length;
    reader->number++;
    return MS_OK;
}

/* Lets scratch have room for have + more bytes, without trusting how much is still to come. */
static int grow_scratch(struct snapshot_reader *reader, size_t have, size_t more,
                        struct ms_err *err)
{
    size_t room = reader->scratch_bytes == 0 ? SNAPSHOT_CHUNK_BYTES : reader->scratch_bytes;
    uint8_t *grown;

    while (room < have + more) {
        room *= 2;
    }
    if (room == reader->scratch_bytes) {
        return MS_OK;
    }
    grown = realloc(reader->scratch, room);
    if (grown == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "snapshot: out of memory");
    }
    reader->scratch = grown;
    reader->scratch_bytes = room;
    return MS_OK;
}

/* The next len_bytes of the stream in one piece, valid until the next call. */
static int take(struct snapshot_reader *reader, size_t len_bytes, const uint8_t **out,
                struct ms_err *err)
{
    size_t have = 0;

    if (reader->chunk_bytes - reader->position >= len_bytes) {
        *out = reader->chunk + reader->position;
        reader->position += len_bytes;
        return MS_OK;
    }
    for (;;) {
        size_t rest = reader->chunk_bytes - reader->position;
        size_t part = rest < len_bytes - have ? rest : len_bytes - have;
        bool end = false;
        int rc = grow_scratch(reader, have, part, err);

        if (rc != MS_OK) {
            return rc;
        }
        memcpy(reader->scratch + have, reader->chunk + reader->position, part);
        reader->position += part;
        have += part;
        if (have == len_bytes) {
            *out = reader->scratch;
            return MS_OK;
        }
        rc = next_chunk(reader, &end, err);
        if (rc != MS_OK) {
            return rc;
        }
        if (end) {
            return corrupt(reader, "ends too early", err);
        }
    }
}

int snapshot_reader_header(struct snapshot_reader *reader, struct engine_snapshot_info *out,
                           struct ms_err *err)
{
    struct ms_conf_state conf;
    const uint8_t *data;
    uint32_t conf_bytes;
    int rc = take(reader, SNAPSHOT_HEADER_BYTES, &data, err);

    if (rc != MS_OK) {
        return rc;
    }
    if (memcmp(data, SNAPSHOT_MAGIC, 8) != 0) {
        return corrupt(reader, "not a snapshot", err);
    }
    if (ms_le_get_u32(data + 8) != SNAPSHOT_FORMAT) {
        return corrupt(reader, "a format that this version does not know", err);
    }
    conf_bytes = ms_le_get_u32(data + 12);
    if (conf_bytes > MS_CONF_STATE_BYTES_MAX) {
        return corrupt(reader, "impossible length of the configuration", err);
    }
    out->meta = (struct ms_memdb_meta){
        .applied = ms_le_get_u64(data + 16),
        .applied_term = ms_le_get_u64(data + 24),
        .revision = ms_le_get_u64(data + 32),
        .compact_revision = ms_le_get_u64(data + 40),
        .keys = ms_le_get_u64(data + 56),
    };
    out->compacted_to = ms_le_get_u64(data + 48);
    out->conf_bytes = conf_bytes;
    if (conf_bytes == 0) {
        return MS_OK;
    }
    rc = take(reader, conf_bytes, &data, err);
    if (rc != MS_OK) {
        return rc;
    }
    if (ms_conf_state_decode(data, conf_bytes, &conf) != MS_OK) {
        return corrupt(reader, "configuration cannot be decoded", err);
    }
    memcpy(out->conf, data, conf_bytes);
    return MS_OK;
}

/* ---- items --------------------------------------------------------------------------------- */

static int read_record(struct snapshot_reader *reader, const struct engine_sink *sink,
                       struct ms_err *err)
{
    const uint8_t *data;
    size_t name_bytes;
    size_t value_bytes;
    int rc = take(reader, SNAPSHOT_RECORD_BYTES, &data, err);

    if (rc != MS_OK) {
        return rc;
    }
    name_bytes = data[0];
    value_bytes = ms_le_get_u32(data + 1);
    if (name_bytes == 0 || name_bytes > ENGINE_RECORD_NAME_MAX) {
        return corrupt(reader, "impossible length of a record's name", err);
    }
    rc = take(reader, name_bytes + value_bytes, &data, err);
    if (rc != MS_OK) {
        return rc;
    }
    reader->records++;
    return sink->record(sink->ctx, data, name_bytes, data + name_bytes, value_bytes, err);
}

static int read_key(struct snapshot_reader *reader, const struct engine_sink *sink,
                    struct ms_err *err)
{
    const uint8_t *data;
    size_t key_bytes;
    size_t count;
    int rc = take(reader, SNAPSHOT_KEY_BYTES, &data, err);

    if (rc != MS_OK) {
        return rc;
    }
    key_bytes = ms_le_get_u16(data);
    count = ms_le_get_u32(data + 2);
    if (key_bytes == 0 || key_bytes > MS_KEY_BYTES_MAX || count == 0 || count > ENGINE_STAMPS_MAX) {
        return corrupt(reader, "impossible length of a key", err);
    }
    rc = take(reader, key_bytes + count * SNAPSHOT_STAMP_BYTES, &data, err);
    if (rc != MS_OK) {
        return rc;
    }
    for (size_t i = 0; i < count; i++) {
        const uint8_t *raw = data + key_bytes + i * SNAPSHOT_STAMP_BYTES;
        uint32_t sub = ms_le_get_u32(raw + 8);

        reader->key_stamps[i] = (struct engine_stamp){
            .revision = ms_le_get_u64(raw),
            .sub = sub & ~SNAPSHOT_TOMBSTONE_BIT,
            .tombstone = (sub & SNAPSHOT_TOMBSTONE_BIT) != 0,
        };
    }
    reader->stamps += count;
    return sink->key(sink->ctx, data, key_bytes, reader->key_stamps, count, err);
}

static int read_change(struct snapshot_reader *reader, const struct engine_sink *sink,
                       struct ms_err *err)
{
    struct engine_change change;
    const uint8_t *data;
    uint8_t tombstone;
    int rc = take(reader, SNAPSHOT_CHANGE_BYTES, &data, err);

    if (rc != MS_OK) {
        return rc;
    }
    tombstone = data[0];
    change = (struct engine_change){
        .kv =
            {
                .key_bytes = ms_le_get_u16(data + 1),
                .value_bytes = ms_le_get_u32(data + 3),
                .mod_revision = ms_le_get_u64(data + 11),
                .create_revision = ms_le_get_u64(data + 19),
                .version = ms_le_get_u64(data + 27),
                .lease = ms_le_get_u64(data + 35),
            },
        .sub = ms_le_get_u32(data + 7),
        .tombstone = tombstone == 1,
    };
    if (change.kv.key_bytes == 0 || change.kv.key_bytes > MS_KEY_BYTES_MAX || tombstone > 1 ||
        change.sub >= ENGINE_SUB_MAX || (change.tombstone && change.kv.value_bytes != 0)) {
        return corrupt(reader, "impossible change", err);
    }
    rc = take(reader, change.kv.key_bytes + change.kv.value_bytes, &data, err);
    if (rc != MS_OK) {
        return rc;
    }
    change.kv.key = data;
    change.kv.value = data + change.kv.key_bytes;
    reader->changes++;
    return sink->change(sink->ctx, &change, err);
}

static int read_end(struct snapshot_reader *reader, struct ms_err *err)
{
    uint64_t digest = XXH3_64bits_digest(reader->stream);
    const uint8_t *data;
    bool end = false;
    int rc = take(reader, SNAPSHOT_END_BYTES, &data, err);

    if (rc != MS_OK) {
        return rc;
    }
    if (ms_le_get_u64(data) != reader->records || ms_le_get_u64(data + 8) != reader->stamps ||
        ms_le_get_u64(data + 16) != reader->changes || ms_le_get_u64(data + 24) != digest) {
        return corrupt(reader, "the end does not match what came before", err);
    }
    if (reader->position != reader->chunk_bytes) {
        return corrupt(reader, "more behind the end", err);
    }
    rc = next_chunk(reader, &end, err);
    if (rc == MS_OK && !end) {
        return corrupt(reader, "more behind the end", err);
    }
    return rc;
}

/* Items of each kind stand together, in this order. */
static int rank_of(uint8_t tag)
{
    switch (tag) {
    case SNAPSHOT_TAG_RECORD:
        return 1;
    case SNAPSHOT_TAG_KEY:
        return 2;
    case SNAPSHOT_TAG_CHANGE:
        return 3;
    case SNAPSHOT_TAG_END:
        return 4;
    default:
        return 0;
    }
}

int snapshot_reader_run(struct snapshot_reader *reader, const struct engine_sink *sink,
                        struct ms_err *err)
{
    int rank = 0;

    for (;;) {
        const uint8_t *data;
        uint8_t tag;
        int rc = take(reader, 1, &data, err);

        if (rc != MS_OK) {
            return rc;
        }
        tag = *data;
        if (rank_of(tag) == 0 || rank_of(tag) < rank) {
            return corrupt(reader, "unknown or misplaced item", err);
        }
        rank = rank_of(tag);
        if (tag == SNAPSHOT_TAG_END) {
            hash_up_to(reader, reader->position - 1);
            return read_end(reader, err);
        }
        rc = tag == SNAPSHOT_TAG_RECORD ? read_record(reader, sink, err)
             : tag == SNAPSHOT_TAG_KEY  ? read_key(reader, sink, err)
                                        : read_change(reader, sink, err);
        if (rc != MS_OK) {
            return rc;
        }
    }
}

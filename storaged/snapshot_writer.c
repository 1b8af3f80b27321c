/*
 * snapshot_writer: an engine_sink that encodes what it is fed.
 */
#include "storaged/snapshot_writer.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "common/le.h"
#include "storaged/snapshot_chunk.h"
#include "storaged/snapshot_format.h"

struct writer {
    const struct snapshot_output *output;
    XXH3_state_t *stream; /* over everything before the end's tag */
    uint32_t number;      /* of the chunk being filled */
    size_t fill;          /* of its payload */
    uint64_t records;
    uint64_t stamps;
    uint64_t changes;
    uint8_t chunk[SNAPSHOT_CHUNK_HEAD_BYTES + SNAPSHOT_CHUNK_BYTES];
};

static int flush(struct writer *writer, struct ms_err *err)
{
    int rc;

    snapshot_chunk_frame(writer->chunk, writer->number, writer->chunk + SNAPSHOT_CHUNK_HEAD_BYTES,
                         writer->fill);
    rc = writer->output->write(writer->output->ctx, writer->chunk,
                               SNAPSHOT_CHUNK_HEAD_BYTES + writer->fill, err);
    writer->number++;
    writer->fill = 0;
    return rc;
}

static int emit(struct writer *writer, const void *data, size_t len_bytes, struct ms_err *err)
{
    const uint8_t *src = data;

    while (len_bytes > 0) {
        size_t room = SNAPSHOT_CHUNK_BYTES - writer->fill;
        size_t part = len_bytes < room ? len_bytes : room;

        memcpy(writer->chunk + SNAPSHOT_CHUNK_HEAD_BYTES + writer->fill, src, part);
        writer->fill += part;
        src += part;
        len_bytes -= part;
        if (writer->fill == SNAPSHOT_CHUNK_BYTES) {
            int rc;

            (void)XXH3_64bits_update(writer->stream, writer->chunk + SNAPSHOT_CHUNK_HEAD_BYTES,
                                     SNAPSHOT_CHUNK_BYTES);
            rc = flush(writer, err);
            if (rc != MS_OK) {
                return rc;
            }
        }
    }
    return MS_OK;
}

static int emit_header(struct writer *writer, const struct engine_snapshot_info *info,
                       struct ms_err *err)
{
    uint8_t header[SNAPSHOT_HEADER_BYTES];
    int rc;

    memcpy(header, SNAPSHOT_MAGIC, 8);
    ms_le_put_u32(header + 8, SNAPSHOT_FORMAT);
    ms_le_put_u32(header + 12, (uint32_t)info->conf_bytes);
    ms_le_put_u64(header + 16, info->meta.applied);
    ms_le_put_u64(header + 24, info->meta.applied_term);
    ms_le_put_u64(header + 32, info->meta.revision);
    ms_le_put_u64(header + 40, info->meta.compact_revision);
    ms_le_put_u64(header + 48, info->compacted_to);
    ms_le_put_u64(header + 56, info->meta.keys);
    rc = emit(writer, header, sizeof(header), err);
    return rc == MS_OK ? emit(writer, info->conf, info->conf_bytes, err) : rc;
}

static int write_record(void *ctx, const uint8_t *name, size_t name_bytes, const uint8_t *value,
                        size_t value_bytes, struct ms_err *err)
{
    struct writer *writer = ctx;
    uint8_t head[1 + SNAPSHOT_RECORD_BYTES] = {SNAPSHOT_TAG_RECORD, (uint8_t)name_bytes};
    int rc;

    ms_le_put_u32(head + 2, (uint32_t)value_bytes);
    writer->records++;
    rc = emit(writer, head, sizeof(head), err);
    if (rc == MS_OK) {
        rc = emit(writer, name, name_bytes, err);
    }
    return rc == MS_OK ? emit(writer, value, value_bytes, err) : rc;
}

static int write_key(void *ctx, const uint8_t *key, size_t key_bytes,
                     const struct engine_stamp *stamps, size_t count, struct ms_err *err)
{
    struct writer *writer = ctx;
    uint8_t head[1 + SNAPSHOT_KEY_BYTES] = {SNAPSHOT_TAG_KEY};
    int rc;

    ms_le_put_u16(head + 1, (uint16_t)key_bytes);
    ms_le_put_u32(head + 3, (uint32_t)count);
    writer->stamps += count;
    rc = emit(writer, head, sizeof(head), err);
    if (rc == MS_OK) {
        rc = emit(writer, key, key_bytes, err);
    }
    for (size_t i = 0; i < count && rc == MS_OK; i++) {
        uint8_t raw[SNAPSHOT_STAMP_BYTES];

        ms_le_put_u64(raw, stamps[i].revision);
        ms_le_put_u32(raw + 8, stamps[i].sub | (stamps[i].tombstone ? SNAPSHOT_TOMBSTONE_BIT : 0));
        rc = emit(writer, raw, sizeof(raw), err);
    }
    return rc;
}

static int write_change(void *ctx, const struct engine_change *change, struct ms_err *err)
{
    struct writer *writer = ctx;
    const struct ms_memdb_kv *kv = &change->kv;
    uint8_t head[1 + SNAPSHOT_CHANGE_BYTES] = {SNAPSHOT_TAG_CHANGE, change->tombstone};
    int rc;

    ms_le_put_u16(head + 2, (uint16_t)kv->key_bytes);
    ms_le_put_u32(head + 4, (uint32_t)kv->value_bytes);
    ms_le_put_u32(head + 8, change->sub);
    ms_le_put_u64(head + 12, kv->mod_revision);
    ms_le_put_u64(head + 20, kv->create_revision);
    ms_le_put_u64(head + 28, kv->version);
    ms_le_put_u64(head + 36, kv->lease);
    writer->changes++;
    rc = emit(writer, head, sizeof(head), err);
    if (rc == MS_OK) {
        rc = emit(writer, kv->key, kv->key_bytes, err);
    }
    return rc == MS_OK ? emit(writer, kv->value, kv->value_bytes, err) : rc;
}

static int emit_end(struct writer *writer, struct ms_err *err)
{
    uint8_t end[1 + SNAPSHOT_END_BYTES] = {SNAPSHOT_TAG_END};
    int rc;

    (void)XXH3_64bits_update(writer->stream, writer->chunk + SNAPSHOT_CHUNK_HEAD_BYTES,
                             writer->fill);
    ms_le_put_u64(end + 1, writer->records);
    ms_le_put_u64(end + 9, writer->stamps);
    ms_le_put_u64(end + 17, writer->changes);
    ms_le_put_u64(end + 25, XXH3_64bits_digest(writer->stream));
    rc = emit(writer, end, sizeof(end), err);
    return rc == MS_OK && writer->fill > 0 ? flush(writer, err) : rc;
}

int snapshot_writer_run(const struct engine *engine, struct engine_snapshot *snapshot,
                        const struct snapshot_output *output, struct ms_err *err)
{
    struct writer *writer = malloc(sizeof(*writer));
    struct engine_snapshot_info *info = malloc(sizeof(*info));
    struct engine_sink sink = {
        .record = write_record,
        .key = write_key,
        .change = write_change,
        .ctx = writer,
    };
    int rc;

    if (writer == NULL || info == NULL) {
        rc = ms_err_set(err, MS_ENOMEM, 0, "snapshot: out of memory");
        goto out;
    }
    *writer = (struct writer){.output = output, .stream = XXH3_createState()};
    if (writer->stream == NULL) {
        rc = ms_err_set(err, MS_ENOMEM, 0, "snapshot: out of memory");
        goto out;
    }
    (void)XXH3_64bits_reset(writer->stream);
    engine_snapshot_info(engine, snapshot, info);
    rc = emit_header(writer, info, err);
    if (rc == MS_OK) {
        rc = engine_snapshot_export(engine, snapshot, &sink, err);
    }
    if (rc == MS_OK) {
        rc = emit_end(writer, err);
    }

out:
    if (writer != NULL) {
        (void)XXH3_freeState(writer->stream);
    }
    free(writer);
    free(info);
    return rc;
}

/*
 * snapshot_fuzz: any bytes as a snapshot, read and checked as one that comes from a peer.
 *
 * The first byte chooses: the rest is a file as it is, or a stream that gets its chunks (with right
 * checksums) here, because no fuzzer finds those by chance.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/command.h"
#include "storaged/content_check.h"
#include "storaged/snapshot_chunk.h"
#include "storaged/snapshot_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct source {
    const uint8_t *data;
    size_t bytes;
    size_t position;
};

static int read_source(void *ctx, uint8_t *dst, size_t len_bytes, size_t *got, struct ms_err *err)
{
    struct source *source = ctx;
    size_t rest = source->bytes - source->position;

    (void)err;
    *got = len_bytes < rest ? len_bytes : rest;
    memcpy(dst, source->data + source->position, *got);
    source->position += *got;
    return MS_OK;
}

/* Looks at each byte it is given, so that a pointer too far shows. */
static uint64_t touch(const uint8_t *data, size_t bytes)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < bytes; i++) {
        sum += data[i];
    }
    return sum;
}

struct taken {
    uint64_t sum;
    struct content_check check;
};

static int take_record(void *ctx, const uint8_t *name, size_t name_bytes, const uint8_t *value,
                       size_t value_bytes, struct ms_err *err)
{
    struct taken *taken = ctx;

    taken->sum += touch(name, name_bytes) + touch(value, value_bytes);
    return content_check_record(name, name_bytes, err);
}

static int take_key(void *ctx, const uint8_t *key, size_t key_bytes,
                    const struct engine_stamp *stamps, size_t count, struct ms_err *err)
{
    struct taken *taken = ctx;
    bool is_new;

    if (key_bytes == 0 || key_bytes > MS_KEY_BYTES_MAX || count > ENGINE_STAMPS_MAX) {
        abort();
    }
    taken->sum += touch(key, key_bytes) + stamps[count - 1].revision;
    return content_check_key(&taken->check, key, key_bytes, stamps, count, &is_new, err);
}

static int take_change(void *ctx, const struct engine_change *change, struct ms_err *err)
{
    struct taken *taken = ctx;

    taken->sum += touch(change->kv.key, change->kv.key_bytes) +
                  touch(change->kv.value, change->kv.value_bytes);
    return content_check_change(&taken->check, change, err);
}

static void read_all(const uint8_t *data, size_t bytes)
{
    static struct engine_snapshot_info info;
    static struct taken taken;
    struct source source = {.data = data, .bytes = bytes};
    const struct snapshot_input input = {.read = read_source, .ctx = &source, .name = "fuzz"};
    const struct engine_sink sink = {take_record, take_key, take_change, &taken};
    struct snapshot_reader *reader;
    struct ms_err err;

    memset(&taken, 0, sizeof(taken));
    if (snapshot_reader_create(&input, &reader, &err) != MS_OK) {
        return;
    }
    if (snapshot_reader_header(reader, &info, &err) == MS_OK &&
        snapshot_reader_run(reader, &sink, &err) == MS_OK &&
        content_check_finish(&taken.check, &info, &err) == MS_OK &&
        taken.check.live > taken.check.stamps) {
        abort();
    }
    snapshot_reader_destroy(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Small chunks, so that items cross their borders. */
    enum {
        CHUNK = 64
    };
    size_t chunks = (size + CHUNK - 1) / CHUNK;
    uint8_t *framed;
    size_t fill = 0;

    if (size == 0) {
        return 0;
    }
    if (data[0] % 2 == 0) {
        read_all(data + 1, size - 1);
        return 0;
    }
    framed = malloc(size + chunks * SNAPSHOT_CHUNK_HEAD_BYTES + SNAPSHOT_CHUNK_HEAD_BYTES);
    if (framed == NULL) {
        return 0;
    }
    data++;
    size--;
    for (uint32_t number = 0; size > 0; number++) {
        size_t part = size < CHUNK ? size : CHUNK;

        snapshot_chunk_frame(framed + fill, number, data, part);
        memcpy(framed + fill + SNAPSHOT_CHUNK_HEAD_BYTES, data, part);
        fill += SNAPSHOT_CHUNK_HEAD_BYTES + part;
        data += part;
        size -= part;
    }
    read_all(framed, fill);
    free(framed);
    return 0;
}

/*
 * Log segments come from disks: any bytes are read to some end, and what a valid batch holds is
 * either refused or a log that makes sense.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "storaged/wal_format.h"
#include "storaged/wal_index.h"
#include "storaged/wal_scan.h"

#define FILE_BYTES (16 * WAL_BLOCK_BYTES)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct wal_header header = {.sequence = 1, .salt = 42, .size_bytes = FILE_BYTES};

static void fuzz_header(const uint8_t *data, size_t size)
{
    static uint8_t block[WAL_BLOCK_BYTES];
    struct wal_header out;
    struct ms_err err;

    memset(block, 0, sizeof(block));
    memcpy(block, data, size < sizeof(block) ? size : sizeof(block));
    if (wal_header_decode(block, &out, &err) == MS_OK && out.sequence == 0) {
        abort();
    }
}

/* Reads a segment to its end, as a start does. */
static void scan(int fd)
{
    struct wal_tail_range range = {.end = UINT64_MAX};
    struct wal_directory directory = {0};
    struct wal_window window = {0};
    uint64_t offset = WAL_BLOCK_BYTES;
    struct wal_batch batch;
    struct log_state state;
    enum wal_tail tail;
    uint64_t found = 0;
    struct ms_err err;

    wal_state_init(&state);
    if (wal_window_init(&window, fd, &err) != MS_OK) {
        return;
    }
    window.chunk_bytes = WAL_BLOCK_BYTES;
    while (wal_scan_batch(&window, &header, offset, &batch, &err) == MS_OK) {
        struct wal_summary summary;

        if (batch.end <= offset || batch.end > FILE_BYTES) {
            abort();
        }
        if (wal_batch_take(&batch, &state, &summary, &err) != MS_OK ||
            wal_directory_reserve(&directory, &err) != MS_OK) {
            break;
        }
        wal_directory_add(&directory, &summary, offset);
        if (state.last_index + 1 < state.first_index || state.snapshot_index > state.last_index) {
            abort();
        }
        offset = batch.end;
    }
    range.offset = offset;
    (void)wal_scan_tail(&window, &header, &range, &tail, &found, &err);
    (void)wal_directory_find(&directory, state.last_index, &found);
    wal_directory_fini(&directory);
    wal_window_fini(&window);
}

/* The bytes as they are behind the header, and as payloads of batches that are sound. */
static void fuzz_segment(const uint8_t *data, size_t size)
{
    static uint8_t file[FILE_BYTES];
    size_t at = WAL_BLOCK_BYTES;
    uint64_t number = 1;
    int fd = memfd_create("segment", MFD_CLOEXEC);

    if (fd < 0) {
        return;
    }
    memset(file, 0, sizeof(file));
    memcpy(file + at, data, size < FILE_BYTES - at ? size : FILE_BYTES - at);
    if (pwrite(fd, file, sizeof(file), 0) == (ssize_t)sizeof(file)) {
        scan(fd);
    }
    while (size >= 8 && at + 2 * WAL_BLOCK_BYTES <= FILE_BYTES) {
        size_t payload = 8 + data[0] * 16u;

        payload = payload > size ? size / 8 * 8 : payload;
        payload = payload > WAL_BLOCK_BYTES ? WAL_BLOCK_BYTES : payload;
        memcpy(file + at + WAL_BATCH_HEADER_BYTES, data, payload);
        at += wal_batch_seal(file + at, payload, &header, number++);
        data += payload;
        size -= payload;
    }
    if (pwrite(fd, file, sizeof(file), 0) == (ssize_t)sizeof(file)) {
        scan(fd);
    }
    (void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_header(data, size);
    fuzz_segment(data, size);
    return 0;
}

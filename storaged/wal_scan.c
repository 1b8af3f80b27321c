/*
 * wal_scan: reading segments, at the speed of the disk.
 */
#include "storaged/wal_scan.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "storaged/wal_io.h"

int wal_window_init(struct wal_window *window, int fd, struct ms_err *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0) {
        return ms_err_set(err, MS_EIO, errno, "size of a segment");
    }
    *window = (struct wal_window){
        .fd = fd, .file_bytes = (uint64_t)st.st_size, .chunk_bytes = WAL_WINDOW_BYTES};
    return MS_OK;
}

void wal_window_fini(struct wal_window *window)
{
    free(window->data);
    window->data = NULL;
}

static int window_grow(struct wal_window *window, size_t len_bytes, struct ms_err *err)
{
    size_t capacity = len_bytes > window->chunk_bytes ? len_bytes : window->chunk_bytes;
    uint8_t *data;

    if (window->capacity_bytes >= capacity) {
        return MS_OK;
    }
    data = malloc(capacity);
    if (data == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "%zu bytes to read a segment", capacity);
    }
    free(window->data);
    window->data = data;
    window->capacity_bytes = capacity;
    window->len_bytes = 0;
    return MS_OK;
}

int wal_window_get(struct wal_window *window, uint64_t offset, size_t len_bytes,
                   const uint8_t **out, struct ms_err *err)
{
    ssize_t n;
    int rc;

    if (offset >= window->base && offset + len_bytes <= window->base + window->len_bytes) {
        *out = window->data + (offset - window->base);
        return MS_OK;
    }
    rc = window_grow(window, len_bytes, err);
    if (rc != MS_OK) {
        return rc;
    }
    window->len_bytes = 0;
    n = wal_io_read(window->fd, window->data, window->capacity_bytes, (off_t)offset);
    if (n < 0) {
        (void)ms_err_set(err, MS_EIO, errno, "read at offset %ju", (uintmax_t)offset);
        return MS_EIO;
    }
    if ((size_t)n < window->capacity_bytes) {
        memset(window->data + n, 0, window->capacity_bytes - (size_t)n);
    }
    window->base = offset;
    window->len_bytes = window->capacity_bytes;
    *out = window->data;
    return MS_OK;
}

int wal_scan_batch(struct wal_window *window, const struct wal_header *segment, uint64_t offset,
                   struct wal_batch *out, struct ms_err *err)
{
    const uint8_t *start;
    uint64_t number;
    size_t len_bytes;
    int rc;

    assert(offset % WAL_BLOCK_BYTES == 0);
    if (offset + WAL_BLOCK_BYTES > segment->size_bytes || offset >= window->file_bytes) {
        return MS_ENOENT;
    }
    rc = wal_window_get(window, offset, WAL_BATCH_HEADER_BYTES, &start, err);
    if (rc != MS_OK) {
        return rc;
    }
    if (!wal_batch_peek(start, segment, &number, &len_bytes) ||
        len_bytes > segment->size_bytes - offset) {
        return MS_ENOENT;
    }
    rc = wal_window_get(window, offset, len_bytes, &start, err);
    if (rc != MS_OK) {
        return rc;
    }
    if (!wal_batch_valid(start, len_bytes, segment)) {
        return MS_ENOENT;
    }
    *out = (struct wal_batch){
        .number = number,
        .offset = offset,
        .end = offset + wal_blocks_up(len_bytes),
        .payload = start + WAL_BATCH_HEADER_BYTES,
        .payload_bytes = len_bytes - WAL_BATCH_HEADER_BYTES,
    };
    return MS_OK;
}

/* Whether the block where the log ends shows that a write had begun there. */
static int scan_is_torn(struct wal_window *window, const struct wal_header *segment,
                        uint64_t offset, bool *torn, struct ms_err *err)
{
    static const uint8_t zeros[WAL_BLOCK_BYTES];
    const uint8_t *block;
    uint64_t number;
    size_t len_bytes;
    int rc;

    *torn = false;
    if (offset >= window->file_bytes) {
        *torn = window->file_bytes < segment->size_bytes;
        return MS_OK;
    }
    rc = wal_window_get(window, offset, WAL_BLOCK_BYTES, &block, err);
    if (rc == MS_OK) {
        /* In a file that was used before anything may lie here, so only our own head counts. */
        *torn = wal_batch_peek(block, segment, &number, &len_bytes) ||
                (!segment->used_before && memcmp(block, zeros, WAL_BLOCK_BYTES) != 0) ||
                window->file_bytes < segment->size_bytes;
    }
    return rc;
}

int wal_scan_tail(struct wal_window *window, const struct wal_header *segment,
                  const struct wal_tail_range *range, enum wal_tail *tail, uint64_t *found,
                  struct ms_err *err)
{
    struct wal_batch batch;
    bool torn;
    int rc = scan_is_torn(window, segment, range->offset, &torn, err);

    if (rc != MS_OK) {
        return rc;
    }
    for (uint64_t at = range->offset; at < range->end && at < window->file_bytes;
         at += WAL_BLOCK_BYTES) {
        rc = wal_scan_batch(window, segment, at, &batch, err);
        if (rc == MS_OK) {
            *tail = WAL_TAIL_DAMAGED;
            *found = at;
            return MS_OK;
        }
        if (rc != MS_ENOENT) {
            return rc;
        }
    }
    *tail = torn ? WAL_TAIL_TORN : WAL_TAIL_CLEAN;
    return MS_OK;
}

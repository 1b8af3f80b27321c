/*
 * peer_stream: see peer_stream.h.
 */
#include "raftd/peer_stream.h"

#include <assert.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define GATHER_BUFS     64u
#define GATHER_BYTES    (256u * 1024u)
#define SEALED_BYTES    (4u * PEER_SEAL_RECORD_MAX)
#define WRITES_PER_CALL 4u /* then other streams get their turn */

int peer_stream_init(struct peer_stream *stream, const struct raft_alloc *alloc,
                     struct peer_scratch *scratch, const struct peer_stream_handlers *handlers)
{
    uint8_t *part = alloc->alloc(alloc->ctx, PEER_HANDSHAKE_OPENING_BYTES);

    if (part == NULL) {
        return MS_ENOMEM;
    }
    *stream = (struct peer_stream){
        .alloc = alloc, .scratch = scratch, .handlers = *handlers, .part = part};
    peer_queue_init(&stream->queue, alloc);
    peer_frame_reader_init(&stream->reader, alloc, &handlers->frames);
    return MS_OK;
}

void peer_stream_fini(struct peer_stream *stream)
{
    peer_queue_fini(&stream->queue);
    peer_frame_reader_fini(&stream->reader);
    peer_seal_fini(&stream->seal);
    stream->alloc->free(stream->alloc->ctx, stream->part);
    stream->alloc->free(stream->alloc->ctx, stream->sealed);
    stream->part = NULL;
    stream->sealed = NULL;
}

void peer_stream_fail(struct peer_stream *stream, int status)
{
    if (stream->phase != PEER_STREAM_FAILED) {
        stream->phase = PEER_STREAM_FAILED;
        (void)uv_read_stop((uv_stream_t *)&stream->tcp); /* never fails */
        stream->handlers.failed(stream->handlers.ctx, status);
    }
}

/* ---- receiving ---- */

/* Completes the part to want_bytes from *data; true once it is whole. */
static bool collect(struct peer_stream *stream, const uint8_t **data, const uint8_t *end,
                    size_t want_bytes)
{
    size_t used = (size_t)(end - *data);

    if (used > want_bytes - stream->part_bytes) {
        used = want_bytes - stream->part_bytes;
    }
    memcpy(stream->part + stream->part_bytes, *data, used);
    stream->part_bytes += used;
    *data += used;
    return stream->part_bytes == want_bytes;
}

static int take_record(struct peer_stream *stream, const uint8_t *record, size_t record_bytes)
{
    size_t len_bytes;
    int rc =
        peer_seal_open(&stream->seal, record, record_bytes, stream->scratch->opened, &len_bytes);

    if (rc != MS_OK) {
        return stream->has_opened ? rc : MS_EPERM;
    }
    stream->has_opened = true;
    return peer_frame_feed(&stream->reader, stream->scratch->opened, len_bytes);
}

/* The next record, or a part of one. */
static int take_sealed(struct peer_stream *stream, const uint8_t **data, const uint8_t *end)
{
    size_t record_bytes;
    int rc;

    if (stream->part_bytes == 0 && end - *data >= (ptrdiff_t)PEER_SEAL_HEAD_BYTES) {
        rc = peer_seal_record_bytes(*data, &record_bytes);
        if (rc != MS_OK) {
            return stream->has_opened ? rc : MS_EPERM;
        }
        if (record_bytes <= (size_t)(end - *data)) { /* whole: no need to collect it */
            const uint8_t *record = *data;

            *data += record_bytes;
            return take_record(stream, record, record_bytes);
        }
    }
    if (stream->part_bytes < PEER_SEAL_HEAD_BYTES &&
        !collect(stream, data, end, PEER_SEAL_HEAD_BYTES)) {
        return MS_OK;
    }
    rc = peer_seal_record_bytes(stream->part, &record_bytes);
    if (rc != MS_OK) {
        return stream->has_opened ? rc : MS_EPERM;
    }
    if (!collect(stream, data, end, record_bytes)) {
        return MS_OK;
    }
    stream->part_bytes = 0;
    return take_record(stream, stream->part, record_bytes);
}

static int take_opening(struct peer_stream *stream, const uint8_t **data, const uint8_t *end)
{
    uint8_t opening[PEER_HANDSHAKE_OPENING_BYTES];

    if (!collect(stream, data, end, sizeof(opening))) {
        return MS_OK;
    }
    stream->part_bytes = 0;
    memcpy(opening, stream->part, sizeof(opening)); /* the start makes place for records */
    return stream->handlers.opening(stream->handlers.ctx, opening);
}

static int take_header(struct peer_stream *stream, const uint8_t **data, const uint8_t *end)
{
    if (!collect(stream, data, end, PEER_SEAL_HEADER_BYTES)) {
        return MS_OK;
    }
    stream->part_bytes = 0;
    stream->phase = PEER_STREAM_RECORDS;
    return peer_seal_take_header(&stream->seal, stream->part);
}

/* Handlers may end the stream at any time, so the phase is looked at before each step. */
static void take_bytes(struct peer_stream *stream, const uint8_t *data, size_t len_bytes)
{
    const uint8_t *end = data + len_bytes;
    int rc = MS_OK;

    while (rc == MS_OK && data < end) {
        switch (stream->phase) {
        case PEER_STREAM_OPENING:
            rc = take_opening(stream, &data, end);
            break;
        case PEER_STREAM_HEADER:
            rc = take_header(stream, &data, end);
            break;
        case PEER_STREAM_RECORDS:
            rc = take_sealed(stream, &data, end);
            break;
        case PEER_STREAM_FRAMES:
            rc = peer_frame_feed(&stream->reader, data, (size_t)(end - data));
            data = end;
            break;
        case PEER_STREAM_DEAF:
        case PEER_STREAM_FAILED:
            return;
        }
    }
    if (rc != MS_OK && stream->phase != PEER_STREAM_DEAF) {
        peer_stream_fail(stream, rc);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested_bytes, uv_buf_t *buf)
{
    struct peer_stream *stream = (struct peer_stream *)handle; /* tcp is its first member */
    size_t room_bytes = 0;
    uint8_t *room = NULL;

    (void)suggested_bytes;
    if (stream->phase == PEER_STREAM_FRAMES) {
        room = peer_frame_room(&stream->reader, &room_bytes);
    }
    if (room == NULL) {
        room = stream->scratch->read;
        room_bytes = sizeof(stream->scratch->read);
    }
    buf->base = (char *)room;
    buf->len = room_bytes;
}

static void on_read(uv_stream_t *handle, ssize_t read_bytes, const uv_buf_t *buf)
{
    struct peer_stream *stream = (struct peer_stream *)handle;
    const uint8_t *data = (const uint8_t *)buf->base;

    if (read_bytes == 0) {
        return;
    }
    if (read_bytes < 0) {
        peer_stream_fail(stream, MS_EPEER);
        return;
    }
    stream->bytes_received += (uint64_t)read_bytes;
    if (data != stream->scratch->read) {
        int rc = peer_frame_filled(&stream->reader, (size_t)read_bytes);

        if (rc != MS_OK && stream->phase != PEER_STREAM_DEAF) {
            peer_stream_fail(stream, rc);
        }
        return;
    }
    take_bytes(stream, data, (size_t)read_bytes);
}

void peer_stream_listen(struct peer_stream *stream)
{
    if (uv_read_start((uv_stream_t *)&stream->tcp, on_alloc, on_read) != 0) {
        peer_stream_fail(stream, MS_EPEER);
    }
}

/* ---- sending ---- */

int peer_stream_put_raw(struct peer_stream *stream, const uint8_t *bytes, size_t len_bytes)
{
    assert(stream->phase == PEER_STREAM_OPENING);
    return peer_queue_copy(&stream->queue, bytes, len_bytes);
}

int peer_stream_start(struct peer_stream *stream, const struct peer_seal_keys *keys)
{
    uint8_t header[PEER_SEAL_HEADER_BYTES];
    uint8_t *part;
    int rc;

    assert(stream->phase == PEER_STREAM_OPENING);
    if (keys == NULL) {
        stream->phase = PEER_STREAM_FRAMES;
        return MS_OK;
    }
    part = stream->alloc->alloc(stream->alloc->ctx, PEER_SEAL_RECORD_MAX);
    if (part == NULL) {
        return MS_ENOMEM;
    }
    stream->sealed = stream->alloc->alloc(stream->alloc->ctx, SEALED_BYTES);
    if (stream->sealed == NULL) {
        stream->alloc->free(stream->alloc->ctx, part);
        return MS_ENOMEM;
    }
    stream->alloc->free(stream->alloc->ctx, stream->part);
    stream->part = part;
    peer_seal_init(&stream->seal, keys, header);
    rc = peer_queue_copy(&stream->queue, header, sizeof(header));
    if (rc != MS_OK) {
        return rc;
    }
    stream->raw_bytes = stream->queue.bytes;
    stream->is_sealed = true;
    stream->phase = PEER_STREAM_HEADER;
    return MS_OK;
}

size_t peer_stream_waiting(const struct peer_stream *stream)
{
    return stream->queue.bytes + (stream->sealed_bytes - stream->sealed_sent);
}

uint64_t peer_stream_acknowledged(const struct peer_stream *stream, uint64_t *left_bytes)
{
    const uv_stream_t *handle = (const uv_stream_t *)&stream->tcp;
    size_t in_libuv = uv_stream_get_write_queue_size(handle);
    size_t written = stream->writing ? stream->write_bytes - in_libuv : 0;
    int in_socket = 0;
    int fd;

    /* If one of these fails, the bytes count as acknowledged: reading finds out what is wrong. */
    if (uv_fileno((const uv_handle_t *)handle, &fd) == 0) {
        (void)ioctl(fd, SIOCOUTQ, &in_socket);
    }
    *left_bytes = peer_stream_waiting(stream) - written + (uint64_t)in_socket;
    return stream->bytes_sent + written - (uint64_t)in_socket;
}

/* Makes records of what is queued, as many as there is room for. */
static void seal_some(struct peer_stream *stream)
{
    stream->sealed_sent = 0;
    stream->sealed_bytes = 0;
    while (stream->queue.bytes > 0 && SEALED_BYTES - stream->sealed_bytes >= PEER_SEAL_RECORD_MAX) {
        uint8_t *plain = stream->scratch->to_seal;
        size_t len_bytes = peer_queue_take(&stream->queue, plain, PEER_SEAL_PLAIN_MAX);

        stream->sealed_bytes +=
            peer_seal_close(&stream->seal, plain, len_bytes, stream->sealed + stream->sealed_bytes);
    }
}

/* What is to be written next; 0 if there is nothing. */
static size_t gather(struct peer_stream *stream, uv_buf_t *bufs)
{
    if (!stream->is_sealed) {
        return peer_queue_peek(&stream->queue, GATHER_BYTES, bufs, GATHER_BUFS);
    }
    if (stream->raw_bytes > 0) {
        return peer_queue_peek(&stream->queue, stream->raw_bytes, bufs, GATHER_BUFS);
    }
    if (stream->sealed_sent == stream->sealed_bytes) {
        seal_some(stream);
    }
    bufs[0].base = (char *)stream->sealed + stream->sealed_sent;
    bufs[0].len = stream->sealed_bytes - stream->sealed_sent;
    return bufs[0].len > 0 ? 1 : 0;
}

/* So many of the gathered bytes are out. */
static void sent(struct peer_stream *stream, size_t len_bytes)
{
    stream->bytes_sent += len_bytes;
    if (!stream->is_sealed) {
        peer_queue_consume(&stream->queue, len_bytes);
    } else if (stream->raw_bytes > 0) {
        peer_queue_consume(&stream->queue, len_bytes);
        stream->raw_bytes -= len_bytes;
    } else {
        stream->sealed_sent += len_bytes;
    }
}

static size_t total_bytes(const uv_buf_t *bufs, size_t count)
{
    size_t total = 0;

    for (size_t i = 0; i < count; i++) {
        total += bufs[i].len;
    }
    return total;
}

static void on_written(uv_write_t *request, int status)
{
    struct peer_stream *stream = (struct peer_stream *)request->handle;

    stream->writing = false;
    if (status < 0) {
        if (status != UV_ECANCELED) { /* else it is being closed */
            peer_stream_fail(stream, MS_EPEER);
        }
        return;
    }
    sent(stream, stream->write_bytes);
    peer_stream_flush(stream);
}

/* Leaves the rest to libuv, which waits for room in the socket. */
static void write_later(struct peer_stream *stream)
{
    uv_buf_t bufs[GATHER_BUFS];
    size_t count = gather(stream, bufs);

    stream->write_bytes = total_bytes(bufs, count);
    stream->writing = true;
    if (uv_write(&stream->write, (uv_stream_t *)&stream->tcp, bufs, (unsigned)count, on_written) !=
        0) {
        stream->writing = false;
        peer_stream_fail(stream, MS_EPEER);
    }
}

static void say_no_more(struct peer_stream *stream)
{
    int fd;

    stream->hang_up = false;
    /* If it fails, the far side is gone already: reading finds out. */
    if (uv_fileno((uv_handle_t *)&stream->tcp, &fd) == 0) {
        (void)shutdown(fd, SHUT_WR);
    }
}

void peer_stream_flush(struct peer_stream *stream)
{
    for (unsigned writes = 0; !stream->writing && stream->phase != PEER_STREAM_FAILED; writes++) {
        uv_buf_t bufs[GATHER_BUFS];
        size_t count;
        size_t total;
        int rc;

        if (writes == WRITES_PER_CALL && peer_stream_waiting(stream) > 0) {
            write_later(stream);
            return;
        }
        count = gather(stream, bufs);
        if (count == 0) {
            if (stream->hang_up) {
                say_no_more(stream);
            }
            return;
        }
        total = total_bytes(bufs, count);
        rc = uv_try_write((uv_stream_t *)&stream->tcp, bufs, (unsigned)count);
        if (rc < 0 && rc != UV_EAGAIN) {
            peer_stream_fail(stream, MS_EPEER);
            return;
        }
        if (rc > 0) {
            sent(stream, (size_t)rc);
        }
        if (rc < 0 || (size_t)rc < total) {
            write_later(stream);
            return;
        }
    }
}

void peer_stream_finish(struct peer_stream *stream)
{
    if (stream->phase != PEER_STREAM_FAILED) {
        stream->phase = PEER_STREAM_DEAF;
        stream->hang_up = true;
        peer_stream_flush(stream);
    }
}

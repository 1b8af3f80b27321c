/*
 * log_reader: see log_reader.h.
 */
#include "raftd/log_reader.h"

#include <assert.h>
#include <string.h>

#include "raftd/entry_codec.h"

/* Much of the log at once, but storaged's main thread has other things to do in between. */
#define READ_BYTES_MAX ENTRY_CODEC_PIECE_BYTES

void log_reader_init(struct log_reader *reader, const struct raft_alloc *alloc)
{
    *reader = (struct log_reader){.alloc = alloc};
}

void log_reader_reset(struct log_reader *reader)
{
    for (size_t i = 0; i < LOG_READER_WINDOWS; i++) {
        raft_slice_release(&reader->windows[i].slice);
    }
    memset(reader->requests, 0, sizeof(reader->requests));
}

void log_reader_fini(struct log_reader *reader)
{
    log_reader_reset(reader);
}

/* ---- asking ---- */

static struct log_reader_window *find_window(struct log_reader *reader, raft_index index)
{
    for (size_t i = 0; i < LOG_READER_WINDOWS; i++) {
        const struct raft_slice *slice = &reader->windows[i].slice;

        if (slice->count > 0 && index >= slice->entries[0].index &&
            index - slice->entries[0].index < slice->count) {
            return &reader->windows[i];
        }
    }
    return NULL;
}

static void ask(struct log_reader *reader, raft_index low, raft_index high)
{
    struct log_reader_request *room = NULL;

    for (size_t i = 0; i < LOG_READER_REQUESTS; i++) {
        struct log_reader_request *request = &reader->requests[i];

        if (request->low == low) {
            return;
        }
        if (request->low == 0) {
            room = request;
        }
    }
    if (room != NULL) { /* else: it will be asked for again when another has been answered */
        *room = (struct log_reader_request){.low = low, .high = high};
    }
}

int log_reader_entries(struct log_reader *reader, raft_index first, raft_index end,
                       uint64_t max_bytes, struct raft_slice *out)
{
    struct log_reader_window *window = find_window(reader, first);
    const struct raft_entry *from;
    size_t offset;
    size_t count;

    assert(first > 0 && first < end);
    if (window == NULL) {
        ask(reader, first, end);
        return MS_EAGAIN;
    }
    window->used_at = ++reader->uses;
    offset = (size_t)(first - window->slice.entries[0].index);
    count = window->slice.count - offset;
    if (count > end - first) {
        count = (size_t)(end - first);
    }
    from = window->slice.entries + offset;
    *out = raft_slice_ref(&window->slice);
    out->entries = from;
    out->count = raft_entries_fit(from, count, max_bytes);
    return MS_OK;
}

/* ---- talking to storaged ---- */

void log_reader_link_lost(struct log_reader *reader)
{
    for (size_t i = 0; i < LOG_READER_REQUESTS; i++) {
        reader->requests[i].number = 0;
    }
}

int log_reader_pump(struct log_reader *reader, struct ms_link *link)
{
    for (size_t i = 0; i < LOG_READER_REQUESTS; i++) {
        struct log_reader_request *request = &reader->requests[i];
        struct ms_log_read body = {.request = reader->last_number + 1,
                                   .low = request->low,
                                   .high = request->high,
                                   .max_bytes = READ_BYTES_MAX};
        int rc;

        if (request->low == 0 || request->number != 0) {
            continue;
        }
        rc = ms_link_send(link, MS_IPC_LOG_READ, &body);
        if (rc != MS_OK) {
            return rc == MS_EAGAIN ? MS_OK : rc;
        }
        request->number = ++reader->last_number;
    }
    return MS_OK;
}

static struct log_reader_request *find_request(struct log_reader *reader, uint64_t number)
{
    for (size_t i = 0; i < LOG_READER_REQUESTS; i++) {
        if (reader->requests[i].low != 0 && reader->requests[i].number == number) {
            return &reader->requests[i];
        }
    }
    return NULL;
}

static void keep(struct log_reader *reader, struct raft_slice *slice)
{
    struct log_reader_window *oldest = &reader->windows[0];

    for (size_t i = 1; i < LOG_READER_WINDOWS; i++) {
        if (reader->windows[i].slice.count == 0 ||
            (oldest->slice.count > 0 && reader->windows[i].used_at < oldest->used_at)) {
            oldest = &reader->windows[i];
        }
    }
    raft_slice_release(&oldest->slice);
    *oldest = (struct log_reader_window){.slice = *slice, .used_at = ++reader->uses};
}

int log_reader_handle(struct log_reader *reader, const struct ms_ipc_message *message,
                      struct log_reader_answer *out)
{
    struct log_reader_answer answer = {0};
    struct log_reader_request *request;
    struct ms_log_entries body;
    struct raft_slice slice = {0};
    int rc;

    memcpy(&body, message->body, sizeof(body));
    if (body.request == 0 || body.request > reader->last_number) {
        return MS_EPROTO;
    }
    request = find_request(reader, body.request);
    if (request == NULL) { /* asked for before everything was reset */
        *out = answer;
        return MS_OK;
    }
    if (body.status == MS_OK) {
        if (body.first_index != request->low || body.count == 0 ||
            body.count > request->high - request->low) {
            return MS_EPROTO;
        }
        rc = entry_codec_unpack(reader->alloc, message->tail, message->tail_bytes, request->low,
                                body.count, &slice);
        if (rc != MS_OK) {
            return rc;
        }
        keep(reader, &slice);
        answer.available = true;
    } else if (body.status == MS_ECOMPACTED) {
        answer.first_gone = request->low;
    } else {
        return MS_EPROTO;
    }
    *request = (struct log_reader_request){0};
    *out = answer;
    return MS_OK;
}

/*
 * wal_read: finding entries and configurations again.
 *
 * A reader pins the segment it is at, so that its file keeps its name and content, and reads
 * through a descriptor of its own. The lock is taken to find a place, never while the disk is read.
 */
#include "storaged/wal_private.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storaged/wal_scan.h"

struct wal_reader {
    struct wal *wal;
    struct wal_segment *segment; /* pinned; NULL: none */
    int fd;
    struct wal_window window;

    /* The batch at hand: where in its payload the entries [first, first + count) are. */
    struct wal_batch batch;
    raft_index first;
    size_t count;
    size_t *offsets;
    size_t room;
};

static void reader_init(struct wal_reader *reader, struct wal *wal)
{
    *reader = (struct wal_reader){.wal = wal, .fd = -1};
}

static void reader_leave(struct wal_reader *reader)
{
    if (reader->segment != NULL) {
        (void)pthread_mutex_lock(&reader->wal->lock);
        reader->segment->pins--;
        (void)pthread_mutex_unlock(&reader->wal->lock);
        reader->segment = NULL;
    }
    if (reader->fd >= 0) {
        (void)close(reader->fd);
        reader->fd = -1;
    }
    wal_window_fini(&reader->window);
    reader->count = 0;
}

static void reader_fini(struct wal_reader *reader)
{
    reader_leave(reader);
    free(reader->offsets);
}

/* Opens the segment, which the caller has pinned for the reader. */
static int reader_enter(struct wal_reader *reader, struct wal_segment *segment, struct ms_err *err)
{
    int rc;

    reader->segment = segment;
    rc = wal_segment_open_read(&reader->wal->disk, segment->header.sequence, &reader->fd, err);
    if (rc == MS_OK) {
        rc = wal_window_init(&reader->window, reader->fd, err);
    }
    return rc == MS_ENOENT ? MS_ECORRUPT : rc;
}

/* The batch at offset, which must be there. */
static int reader_batch(struct wal_reader *reader, uint64_t offset, struct ms_err *err)
{
    const struct wal_header *header = &reader->segment->header;
    struct ms_err inner = {.status = MS_OK};
    int rc = wal_scan_batch(&reader->window, header, offset, &reader->batch, &inner);

    if (rc == MS_ENOENT) {
        /* The window may be older than the batch: once more from the file. */
        reader->window.len_bytes = 0;
        rc = wal_scan_batch(&reader->window, header, offset, &reader->batch, &inner);
    }
    if (rc == MS_ENOENT) {
        return wal_segment_fault(err, MS_ECORRUPT, header->sequence, offset,
                                 "what was written here does not read back");
    }
    if (rc != MS_OK) {
        return wal_segment_fault(err, rc, header->sequence, offset, inner.text);
    }
    return MS_OK;
}

/* Fills the directory of a sealed segment that a quick start did not read. */
static int reader_index(struct wal_reader *reader, struct ms_err *err)
{
    struct wal_segment *segment = reader->segment;
    struct wal_directory directory = {0};
    struct ms_err inner = {.status = MS_OK};
    uint64_t offset = WAL_BATCHES_AT;
    int rc = MS_OK;

    while (rc == MS_OK && offset < segment->end) {
        struct wal_summary summary;

        rc = reader_batch(reader, offset, err);
        if (rc != MS_OK) {
            break;
        }
        rc = wal_batch_take(&reader->batch, NULL, &summary, &inner);
        if (rc == MS_OK) {
            rc = wal_directory_reserve(&directory, &inner);
        }
        if (rc != MS_OK) {
            rc = wal_segment_fault(err, rc, segment->header.sequence, offset, inner.text);
            break;
        }
        wal_directory_add(&directory, &summary, offset);
        offset = reader->batch.end;
    }
    if (rc == MS_OK) {
        (void)pthread_mutex_lock(&reader->wal->lock);
        if (!segment->indexed) {
            segment->directory = directory;
            segment->indexed = true;
            directory = (struct wal_directory){0};
        }
        (void)pthread_mutex_unlock(&reader->wal->lock);
    }
    wal_directory_fini(&directory);
    return rc;
}

/*
 * Goes to the segment that answers for index and finds the offset of its batch. The caller has
 * checked that the log holds the index.
 */
static int reader_locate(struct wal_reader *reader, raft_index index, uint64_t *offset,
                         struct ms_err *err)
{
    struct wal *wal = reader->wal;

    for (;;) {
        struct wal_segment *segment = NULL;
        bool indexed = false;
        bool found = false;
        int rc;

        (void)pthread_mutex_lock(&wal->lock);
        for (size_t i = wal->segment_count; i-- > 0;) {
            if (wal->segments[i]->lowest != 0 && wal->segments[i]->lowest <= index) {
                segment = wal->segments[i];
                break;
            }
        }
        if (segment != NULL) {
            indexed = segment->indexed;
            found = indexed && wal_directory_find(&segment->directory, index, offset);
            if (segment != reader->segment) {
                segment->pins++;
            }
        }
        (void)pthread_mutex_unlock(&wal->lock);

        if (segment == NULL) {
            return ms_err_set(err, MS_ECOMPACTED, 0, "entry %" PRIu64 " is gone", index);
        }
        if (segment != reader->segment) {
            reader_leave(reader);
            rc = reader_enter(reader, segment, err);
            if (rc != MS_OK) {
                return rc;
            }
        }
        if (found) {
            return MS_OK;
        }
        if (indexed) {
            return wal_segment_fault(err, MS_ECORRUPT, segment->header.sequence, WAL_BATCHES_AT,
                                     "an entry that should be in it is not");
        }
        rc = reader_index(reader, err);
        if (rc != MS_OK) {
            return rc;
        }
    }
}

/* Notes where the entries of the batch at hand are. Later ones replace earlier ones. */
static int reader_note_entries(struct wal_reader *reader, struct ms_err *err)
{
    const struct wal_batch *batch = &reader->batch;
    struct wal_item item;
    size_t offset = 0;
    size_t at = 0;
    int rc;

    reader->count = 0;
    while ((rc = wal_item_next(batch->payload, batch->payload_bytes, &offset, &item)) == MS_OK) {
        if (item.type == WAL_RECORD_ENTRY) {
            raft_index index = item.entry.index;

            if (reader->count == 0 || index < reader->first ||
                index > reader->first + reader->count) {
                reader->first = index;
                reader->count = 0;
            } else {
                reader->count = index - reader->first;
            }
            if (reader->count == reader->room) {
                size_t room = reader->room == 0 ? 256 : reader->room * 2;
                size_t *grown = reallocarray(reader->offsets, room, sizeof(*grown));

                if (grown == NULL) {
                    return ms_err_set(err, MS_ENOMEM, 0, "memory to read the log");
                }
                reader->offsets = grown;
                reader->room = room;
            }
            reader->offsets[reader->count++] = at;
        }
        at = offset;
    }
    if (rc != MS_ENOENT) {
        return wal_segment_fault(err, MS_ECORRUPT, reader->segment->header.sequence, batch->offset,
                                 "unknown record in a valid batch");
    }
    return MS_OK;
}

/* The entry at index; data is borrowed until the next call. */
static int reader_get(struct wal_reader *reader, raft_index index, struct log_entry *out,
                      struct ms_err *err)
{
    struct wal_item item;
    uint64_t offset;
    size_t at;
    int rc = reader_locate(reader, index, &offset, err);

    if (rc != MS_OK) {
        return rc;
    }
    if (reader->count == 0 || reader->batch.offset != offset) {
        reader->count = 0;
        rc = reader_batch(reader, offset, err);
        if (rc == MS_OK) {
            rc = reader_note_entries(reader, err);
        }
        if (rc != MS_OK) {
            return rc;
        }
    }
    if (index < reader->first || index >= reader->first + reader->count) {
        return wal_segment_fault(err, MS_ECORRUPT, reader->segment->header.sequence, offset,
                                 "an entry that should be in this batch is not");
    }
    at = reader->offsets[index - reader->first];
    rc = wal_item_next(reader->batch.payload, reader->batch.payload_bytes, &at, &item);
    assert(rc == MS_OK && item.type == WAL_RECORD_ENTRY);
    *out = item.entry;
    return rc;
}

int wal_term(struct log_store *store, raft_index index, raft_term *out, struct ms_err *err)
{
    struct wal *wal = (struct wal *)store;
    struct wal_reader reader;
    struct log_entry entry;
    struct log_state state;
    int rc;

    log_store_state(store, &state);
    if (index + 1 == state.first_index) {
        *out = state.compacted_term;
        return MS_OK;
    }
    if (index < state.first_index) {
        return ms_err_set(err, MS_ECOMPACTED, 0, "entry %" PRIu64 " is compacted", index);
    }
    if (index > state.last_index) {
        return ms_err_set(err, MS_EUNAVAILABLE, 0, "entry %" PRIu64 " is beyond %" PRIu64, index,
                          state.last_index);
    }
    if (index == state.last_index) {
        *out = state.last_term;
        return MS_OK;
    }
    reader_init(&reader, wal);
    rc = reader_get(&reader, index, &entry, err);
    if (rc == MS_OK) {
        *out = entry.term;
    }
    reader_fini(&reader);
    return rc;
}

int wal_entries(struct log_store *store, const struct log_store_range *range, log_store_visit visit,
                void *ctx, struct ms_err *err)
{
    struct wal *wal = (struct wal *)store;
    struct wal_reader reader;
    struct log_state state;
    uint64_t bytes = 0;
    int rc = MS_OK;

    log_store_state(store, &state);
    if (range->low >= range->high) {
        return MS_OK;
    }
    if (range->low < state.first_index) {
        return ms_err_set(err, MS_ECOMPACTED, 0, "entry %" PRIu64 " is compacted", range->low);
    }
    if (range->high > state.last_index + 1) {
        return ms_err_set(err, MS_EUNAVAILABLE, 0, "entry %" PRIu64 " is beyond %" PRIu64,
                          range->high - 1, state.last_index);
    }
    reader_init(&reader, wal);
    for (raft_index index = range->low; index < range->high; index++) {
        struct log_entry entry;

        rc = reader_get(&reader, index, &entry, err);
        if (rc != MS_OK) {
            break;
        }
        bytes += entry.data_bytes;
        if (index > range->low && bytes > range->max_bytes) {
            break;
        }
        if (!visit(ctx, &entry)) {
            break;
        }
    }
    reader_fini(&reader);
    return rc;
}

/* ---- configurations ------------------------------------------------------------------------ */

/*
 * Pins the newest segment before below_sequence that has configurations into the reader. *high is
 * lowered to what the segments behind it leave of the log before them. MS_ENOENT: no more.
 */
static int reader_enter_confs(struct wal_reader *reader, uint64_t below_sequence, raft_index *high,
                              struct ms_err *err)
{
    struct wal *wal = reader->wal;
    struct wal_segment *segment = NULL;

    (void)pthread_mutex_lock(&wal->lock);
    for (size_t i = wal->segment_count; i-- > 0;) {
        const struct wal_segment *behind = i + 1 < wal->segment_count ? wal->segments[i + 1] : NULL;

        if (behind != NULL && behind->lowest != 0 && behind->lowest <= *high) {
            *high = behind->lowest - 1;
        }
        if (wal->segments[i]->confs > 0 && wal->segments[i]->header.sequence < below_sequence) {
            segment = wal->segments[i];
            segment->pins++;
            break;
        }
    }
    (void)pthread_mutex_unlock(&wal->lock);
    if (segment == NULL) {
        return MS_ENOENT;
    }
    reader_leave(reader);
    return reader_enter(reader, segment, err);
}

/* The best configuration of the segment at hand: the highest index, of equal ones the last. */
static bool reader_find_conf(struct wal_reader *reader, raft_index high, uint64_t *offset,
                             raft_index *found)
{
    bool any;

    (void)pthread_mutex_lock(&reader->wal->lock);
    any = wal_directory_find_conf(&reader->segment->directory, reader->wal->durable.first_index - 1,
                                  high, found, offset);
    (void)pthread_mutex_unlock(&reader->wal->lock);
    return any;
}

/* Copies the last configuration for exactly index out of the batch at hand. */
static int reader_copy_conf(const struct wal_reader *reader, raft_index index, uint8_t *dst,
                            size_t dst_bytes, size_t *conf_bytes, struct ms_err *err)
{
    const struct wal_batch *batch = &reader->batch;
    struct wal_item item;
    size_t offset = 0;
    int rc = MS_ENOENT;

    while (wal_item_next(batch->payload, batch->payload_bytes, &offset, &item) == MS_OK) {
        if (item.type != WAL_RECORD_CONF || item.conf.index != index) {
            continue;
        }
        if (item.conf.data_bytes > dst_bytes) {
            return ms_err_set(err, MS_ERANGE, 0, "a configuration of %zu bytes",
                              item.conf.data_bytes);
        }
        memcpy(dst, item.conf.data, item.conf.data_bytes);
        *conf_bytes = item.conf.data_bytes;
        rc = MS_OK;
    }
    return rc;
}

int wal_conf(struct log_store *store, raft_index index, uint8_t *dst, size_t dst_bytes,
             size_t *conf_bytes, raft_index *conf_index, struct ms_err *err)
{
    struct wal *wal = (struct wal *)store;
    uint64_t below_sequence = UINT64_MAX;
    struct wal_reader reader;
    raft_index high = index;
    raft_index best = 0;
    int rc;

    reader_init(&reader, wal);
    /* A record says what a committed entry leads to, so a later segment never has a lower one that
     * counts, but raftd may have sent one again: all segments that have any are looked through. */
    while ((rc = reader_enter_confs(&reader, below_sequence, &high, err)) == MS_OK) {
        raft_index found = 0;
        uint64_t offset = 0;

        below_sequence = reader.segment->header.sequence;
        if (!reader.segment->indexed) {
            rc = reader_index(&reader, err);
            if (rc != MS_OK) {
                break;
            }
        }
        if (!reader_find_conf(&reader, high, &offset, &found) || found <= best) {
            continue;
        }
        rc = reader_batch(&reader, offset, err);
        if (rc == MS_OK) {
            rc = reader_copy_conf(&reader, found, dst, dst_bytes, conf_bytes, err);
        }
        if (rc != MS_OK) {
            break;
        }
        best = found;
    }
    reader_fini(&reader);
    if (rc == MS_ENOENT && best != 0) {
        *conf_index = best;
        rc = MS_OK;
    }
    return rc;
}

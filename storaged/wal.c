/*
 * wal: staging, writing, compacting.
 */
#include "storaged/wal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storaged/wal_private.h"

#define WAL_DEFAULT_SEGMENT_BYTES (UINT64_C(4) << 20)
#define WAL_REQUESTS_PER_SEGMENT  4

uint64_t wal_segment_bytes_for(uint64_t max_request_bytes)
{
    uint64_t bytes = WAL_DEFAULT_SEGMENT_BYTES;

    while (bytes < WAL_SEGMENT_BYTES_MAX && bytes / WAL_REQUESTS_PER_SEGMENT < max_request_bytes) {
        bytes *= 2;
    }
    return bytes;
}

/* The largest payload that a new segment takes. */
static size_t wal_payload_max(uint64_t segment_bytes)
{
    return segment_bytes - WAL_BATCHES_AT - WAL_RESERVE_BYTES - WAL_BATCH_HEADER_BYTES;
}

void wal_unstage(struct wal *wal)
{
    wal->payload_bytes = 0;
    memset(&wal->summary, 0, sizeof(wal->summary));
    wal->staged = wal->durable; /* written by this thread alone: no lock to read it */
}

struct wal_segment *wal_last(const struct wal *wal)
{
    return wal->segment_count > 0 ? wal->segments[wal->segment_count - 1] : NULL;
}

void wal_segment_free(struct wal_segment *segment)
{
    if (segment != NULL) {
        wal_directory_fini(&segment->directory);
        free(segment);
    }
}

int wal_segments_push(struct wal *wal, struct wal_segment *segment, struct ms_err *err)
{
    if (wal->segment_count == wal->segment_room) {
        size_t room = wal->segment_room == 0 ? 16 : wal->segment_room * 2;
        struct wal_segment **grown =
            reallocarray(wal->segments, room, sizeof(struct wal_segment *));

        if (grown == NULL) {
            return ms_err_set(err, MS_ENOMEM, 0, "memory for the table of segments");
        }
        wal->segments = grown;
        wal->segment_room = room;
    }
    wal->segments[wal->segment_count++] = segment;
    return MS_OK;
}

/* ---- writing ------------------------------------------------------------------------------- */

/* Remembers that the disk failed: nothing is written after that, by rule. */
static int wal_break(struct wal *wal, int rc)
{
    wal->broken = rc == MS_OK ? MS_OK : MS_EIO;
    return wal->broken;
}

int wal_check(const struct wal *wal, struct ms_err *err)
{
    if (wal->broken != MS_OK) {
        return ms_err_set(err, wal->broken, 0, "a write to the log failed before");
    }
    return MS_OK;
}

int wal_write_batch(struct wal *wal, struct wal_segment *segment, uint8_t *batch,
                    size_t payload_bytes, struct ms_err *err)
{
    size_t total = wal_batch_seal(batch, payload_bytes, &segment->header, wal->next_number);
    char name[WAL_NAME_BYTES];
    int rc;

    wal_segment_name(segment->header.sequence, name);
    rc = wal_io_write_durably(wal->disk.io, wal->write_fd, wal->disk.mode, batch, total,
                              (off_t)segment->end, name, err);
    if (rc != MS_OK) {
        return wal_break(wal, rc);
    }
    wal->next_number++;
    wal->stats.syncs++;
    wal->stats.written_bytes += total;
    (void)pthread_mutex_lock(&wal->lock);
    segment->end += total;
    (void)pthread_mutex_unlock(&wal->lock);
    return MS_OK;
}

/* Begins a segment: its opening says what the log is up to here. MS_EAGAIN: none is ready. */
static int wal_begin_segment(struct wal *wal, struct ms_err *err)
{
    const struct wal_segment *previous = wal_last(wal);
    struct wal_opening opening = {.state = wal->durable};
    struct wal_segment *segment;
    int fd = -1;
    int rc;

    if (previous != NULL) {
        opening.previous_sequence = previous->header.sequence;
        opening.previous_end = previous->end;
        opening.previous_lowest = previous->lowest;
        opening.previous_confs = previous->confs;
    }
    segment = calloc(1, sizeof(*segment));
    if (segment == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a segment");
    }
    rc = wal_stock_take(wal->stock, &segment->header);
    if (rc != MS_OK) {
        free(segment);
        return ms_err_set(err, rc, 0, "no segment is ready");
    }
    /* From here on a failure must not be tried again: the segment is out of the stock. */
    rc = wal_segment_open_write(&wal->disk, segment->header.sequence, &fd, err);
    if (rc != MS_OK) {
        free(segment);
        return wal_break(wal, rc);
    }
    segment->end = WAL_OPENING_AT;
    segment->before = wal->durable.last_index;
    segment->indexed = true;
    (void)pthread_mutex_lock(&wal->lock);
    rc = wal_segments_push(wal, segment, err);
    (void)pthread_mutex_unlock(&wal->lock);
    if (rc != MS_OK) {
        (void)close(fd);
        wal_segment_free(segment);
        return wal_break(wal, rc);
    }
    if (wal->write_fd >= 0) {
        (void)close(wal->write_fd); /* every batch in it was synced */
    }
    wal->write_fd = fd;
    return wal_write_batch(wal, segment, wal->mark_block,
                           wal_put_opening(wal->mark_block + WAL_BATCH_HEADER_BYTES, &opening),
                           err);
}

int wal_make_room(struct wal *wal, size_t payload_bytes, size_t reserve_bytes, struct ms_err *err)
{
    uint64_t needed = wal_blocks_up(WAL_BATCH_HEADER_BYTES + payload_bytes) + reserve_bytes;
    const struct wal_segment *segment = wal_last(wal);

    if (segment != NULL && segment->end + needed <= segment->header.size_bytes) {
        return MS_OK;
    }
    return wal_begin_segment(wal, err);
}

void wal_note_batch(struct wal *wal, const struct wal_summary *summary, uint64_t offset,
                    const struct log_state *after)
{
    struct wal_segment *segment = wal_last(wal);

    (void)pthread_mutex_lock(&wal->lock);
    wal_directory_add(&segment->directory, summary, offset);
    if (summary->lowest != 0 && (segment->lowest == 0 || summary->lowest < segment->lowest)) {
        segment->lowest = summary->lowest;
    }
    segment->confs += summary->conf_count;
    wal->durable = *after;
    (void)pthread_mutex_unlock(&wal->lock);
}

static int wal_sync(struct log_store *store, struct ms_err *err)
{
    struct wal *wal = (struct wal *)store;
    struct wal_segment *segment;
    uint64_t offset;
    int rc = wal_check(wal, err);

    if (rc != MS_OK || wal->payload_bytes == 0) {
        return rc;
    }
    rc = wal_make_room(wal, wal->payload_bytes, WAL_RESERVE_BYTES, err);
    if (rc != MS_OK) {
        return rc;
    }
    segment = wal_last(wal);
    /* The index must take the batch once it is durable, so its memory comes first. */
    (void)pthread_mutex_lock(&wal->lock);
    rc = wal_directory_reserve(&segment->directory, err);
    (void)pthread_mutex_unlock(&wal->lock);
    if (rc != MS_OK) {
        return rc;
    }
    offset = segment->end;
    rc = wal_write_batch(wal, segment, wal->batch, wal->payload_bytes, err);
    if (rc != MS_OK) {
        return rc;
    }
    wal->stats.entries += wal->summary.entries;
    wal_note_batch(wal, &wal->summary, offset, &wal->staged);
    wal_unstage(wal);
    return MS_OK;
}

/* ---- staging ------------------------------------------------------------------------------- */

static int wal_room_for(const struct wal *wal, size_t bytes, struct ms_err *err)
{
    if (bytes > wal->batch_room) {
        return ms_err_set(err, MS_ERANGE, 0, "%zu bytes do not fit into a batch of %zu", bytes,
                          wal->batch_room);
    }
    if (bytes > wal->batch_room - wal->payload_bytes) {
        return ms_err_set(err, MS_EAGAIN, 0, "the batch is full");
    }
    return MS_OK;
}

/* Drops entries that a snapshot covers, and finds out how many bytes the others take. */
static int wal_check_entries(const struct wal *wal, const struct log_entry **entries, size_t *count,
                             size_t *bytes, struct ms_err *err)
{
    const struct log_entry *first = *entries;
    size_t n = *count;

    for (size_t i = 1; i < n; i++) {
        if (first[i].index != first[0].index + i) {
            return ms_err_set(err, MS_EINVAL, 0, "entry %" PRIu64 " follows entry %" PRIu64,
                              first[i].index, first[i - 1].index);
        }
    }
    while (n > 0 && first->index <= wal->staged.snapshot_index) {
        first++;
        n--;
    }
    if (n > 0 &&
        (first->index < wal->staged.first_index || first->index > wal->staged.last_index + 1)) {
        return ms_err_set(err, MS_EINVAL, 0,
                          "entry %" PRIu64 " does not follow a log of %" PRIu64 " to %" PRIu64,
                          first->index, wal->staged.first_index, wal->staged.last_index);
    }
    for (size_t i = 0; i < n; i++) {
        *bytes += wal_record_bytes(WAL_ENTRY_BYTES + first[i].data_bytes);
    }
    *entries = first;
    *count = n;
    return MS_OK;
}

static int wal_append(struct log_store *store, const struct log_entry *entries, size_t count,
                      const struct ms_hard_state *hard_state, struct ms_err *err)
{
    struct wal *wal = (struct wal *)store;
    size_t bytes = hard_state != NULL ? wal_record_bytes(sizeof(*hard_state)) : 0;
    uint8_t *dst;
    int rc = wal_check(wal, err);

    if (rc == MS_OK) {
        rc = wal_check_entries(wal, &entries, &count, &bytes, err);
    }
    if (rc == MS_OK) {
        rc = wal_room_for(wal, bytes, err);
    }
    if (rc != MS_OK) {
        return rc;
    }
    dst = wal->batch + WAL_BATCH_HEADER_BYTES + wal->payload_bytes;
    for (size_t i = 0; i < count; i++) {
        dst += wal_put_entry(dst, &entries[i]);
    }
    if (hard_state != NULL) {
        (void)wal_put_hard_state(dst, hard_state);
        wal->staged.hard_state = *hard_state;
    }
    wal->payload_bytes += bytes;
    if (count > 0) {
        wal->staged.cuts += entries[0].index <= wal->staged.last_index;
        wal->staged.last_index = entries[count - 1].index;
        wal->staged.last_term = entries[count - 1].term;
        wal_summary_add_entries(&wal->summary, entries[0].index, count);
    }
    return MS_OK;
}

static int wal_put_conf_record(struct log_store *store, raft_index index, const uint8_t *conf,
                               size_t conf_bytes, struct ms_err *err)
{
    struct wal *wal = (struct wal *)store;
    size_t bytes = wal_record_bytes(sizeof(uint64_t) + conf_bytes);
    int rc = wal_check(wal, err);

    if (rc != MS_OK) {
        return rc;
    }
    if (conf_bytes > LOG_STORE_CONF_BYTES_MAX) {
        return ms_err_set(err, MS_ERANGE, 0, "a configuration of %zu bytes", conf_bytes);
    }
    rc = wal_room_for(wal, bytes, err);
    if (rc == MS_OK && wal->summary.conf_count == WAL_BATCH_CONFS_MAX) {
        rc = ms_err_set(err, MS_EAGAIN, 0, "the batch is full");
    }
    if (rc != MS_OK) {
        return rc;
    }
    (void)wal_put_conf(wal->batch + WAL_BATCH_HEADER_BYTES + wal->payload_bytes, index, conf,
                       conf_bytes);
    wal->payload_bytes += bytes;
    wal->summary.confs[wal->summary.conf_count++] = index;
    return MS_OK;
}

/* ---- the rest ------------------------------------------------------------------------------ */

static int wal_event_fd(const struct log_store *store)
{
    return wal_stock_event_fd(((const struct wal *)store)->stock);
}

static void wal_service(struct log_store *store)
{
    struct wal *wal = (struct wal *)store;

    wal_stock_clear(wal->stock);
    wal_release_segments(wal); /* what a reader held may be free now */
}

static bool wal_is_full(struct log_store *store, struct ms_err *why)
{
    return wal_stock_failure(((struct wal *)store)->stock, why) != MS_OK;
}

static void wal_stats(const struct log_store *store, struct log_store_stats *out)
{
    *out = ((const struct wal *)store)->stats;
}

static void wal_state(struct log_store *store, struct log_state *out)
{
    struct wal *wal = (struct wal *)store;

    (void)pthread_mutex_lock(&wal->lock);
    *out = wal->durable;
    (void)pthread_mutex_unlock(&wal->lock);
}

static uint64_t wal_disk_bytes(struct log_store *store, raft_index index)
{
    struct wal *wal = (struct wal *)store;
    uint64_t bytes = 0;

    (void)pthread_mutex_lock(&wal->lock);
    for (size_t i = wal->segment_count; i-- > 0;) {
        bytes += wal->segments[i]->end;
        if (wal->segments[i]->before <= index) {
            break; /* older ones hold nothing behind index */
        }
    }
    (void)pthread_mutex_unlock(&wal->lock);
    return bytes;
}

static const struct log_store_ops wal_ops = {
    .destroy = wal_destroy,
    .append = wal_append,
    .put_conf = wal_put_conf_record,
    .sync = wal_sync,
    .set_snapshot = wal_set_snapshot,
    .install = wal_install,
    .compact = wal_compact,
    .event_fd = wal_event_fd,
    .service = wal_service,
    .is_full = wal_is_full,
    .stats = wal_stats,
    .state = wal_state,
    .term = wal_term,
    .entries = wal_entries,
    .conf = wal_conf,
    .disk_bytes = wal_disk_bytes,
};

int wal_create(const struct wal_options *options, struct wal **out, struct ms_err *err)
{
    struct wal *wal = calloc(1, sizeof(*wal));
    void *batch = NULL;
    void *block = NULL;

    assert(options->segment_bytes >= WAL_SEGMENT_BYTES_MIN &&
           options->segment_bytes <= WAL_SEGMENT_BYTES_MAX &&
           (options->segment_bytes & (options->segment_bytes - 1)) == 0);
    if (wal == NULL || posix_memalign(&batch, WAL_BLOCK_BYTES, options->segment_bytes) != 0 ||
        posix_memalign(&block, WAL_BLOCK_BYTES, WAL_BLOCK_BYTES) != 0) {
        free(batch);
        free(wal);
        return ms_err_set(err, MS_ENOMEM, 0, "memory for the log");
    }
    wal->base.ops = &wal_ops;
    wal->disk.io = options->io != NULL ? options->io : &wal_io_system;
    wal->disk.dir_fd = -1;
    wal->disk.segment_bytes = options->segment_bytes;
    wal->write_fd = -1;
    wal->next_number = 1;
    wal->batch = batch;
    wal->batch_room = wal_payload_max(options->segment_bytes);
    wal->mark_block = block;
    wal_state_init(&wal->durable);
    (void)pthread_mutex_init(&wal->lock, NULL);
    *out = wal;
    return MS_OK;
}

void wal_destroy(struct log_store *store)
{
    struct wal *wal = (struct wal *)store;

    wal_stock_destroy(wal->stock);
    for (size_t i = 0; i < wal->segment_count; i++) {
        wal_segment_free(wal->segments[i]);
    }
    free(wal->segments);
    if (wal->write_fd >= 0) {
        (void)close(wal->write_fd);
    }
    if (wal->disk.dir_fd >= 0) {
        (void)close(wal->disk.dir_fd);
    }
    (void)pthread_mutex_destroy(&wal->lock);
    free(wal->mark_block);
    free(wal->batch);
    free(wal);
}

int wal_open(const struct wal_options *options, struct log_store **out, struct wal_report *report,
             struct ms_err *err)
{
    struct wal_report unused;
    struct wal *wal = NULL;
    int rc = wal_create(options, &wal, err);

    if (rc != MS_OK) {
        return rc;
    }
    rc = wal_recover(wal, options, report != NULL ? report : &unused, err);
    if (rc != MS_OK) {
        wal_destroy(&wal->base);
        return rc;
    }
    wal_unstage(wal);
    *out = &wal->base;
    return MS_OK;
}

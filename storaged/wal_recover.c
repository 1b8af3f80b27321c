/*
 * wal_recover: what a start makes of the directory.
 *
 * It looks first and changes afterwards: whatever it refuses is left as it was found. The newest
 * segment with anything in it is always read whole; the ones before are known from the openings of
 * their successors, and read only when the caller wants all of it checked.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storaged/wal_private.h"
#include "storaged/wal_scan.h"

/* One file as found. */
struct wal_found {
    struct wal_header header;
    uint64_t file_bytes;
    bool used; /* holds a valid opening */
    uint64_t opening_number;
    struct wal_opening opening;
};

/*
 * How far behind the end of the log a quick start looks for valid batches. Storaged alone was
 * restarted then, the machine did not stop: the end is where it was left.
 */
#define RECOVER_QUICK_TAIL_BYTES (UINT64_C(256) << 10)

struct wal_recovery {
    struct wal *wal;
    struct wal_report *report;
    struct wal_found *files; /* ascending in sequence */
    size_t file_count;
    size_t file_room;
    size_t oldest;  /* index of the first file that is still wanted */
    size_t used;    /* index of the newest used file; file_count: none is */
    uint64_t end;   /* of the newest used file */
    bool cut;       /* its tail is to be cut */
    bool verify_all;
};

static int recover_fault(const struct wal_found *file, int status, uint64_t offset,
                         const struct ms_err *inner, struct ms_err *err)
{
    return wal_segment_fault(err, status, file->header.sequence, offset, inner->text);
}

/* ---- the directory ------------------------------------------------------------------------- */

static int recover_open_directory(struct wal *wal, const char *path, struct ms_err *err)
{
    int parent;

    if (mkdir(path, 0700) == 0) {
        char above[PATH_MAX];

        /* The name of a new directory lives in the one above. */
        if ((size_t)snprintf(above, sizeof(above), "%s/..", path) >= sizeof(above)) {
            return ms_err_set(err, MS_EINVAL, ENAMETOOLONG, "%s", path);
        }
        parent = open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent < 0 || fsync(parent) != 0) {
            int rc = ms_err_set(err, MS_EIO, errno, "sync %s", above);

            if (parent >= 0) {
                (void)close(parent);
            }
            return rc;
        }
        (void)close(parent);
    } else if (errno != EEXIST) {
        int failed = errno;

        return ms_err_set(err, wal_io_status(failed), failed, "create directory %s", path);
    }
    wal->disk.dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (wal->disk.dir_fd < 0) {
        return ms_err_set(err, MS_EIO, errno, "open directory %s", path);
    }
    return MS_OK;
}

static int recover_add_file(struct wal_recovery *recovery, uint64_t sequence, struct ms_err *err)
{
    if (recovery->file_count == recovery->file_room) {
        size_t room = recovery->file_room == 0 ? 64 : recovery->file_room * 2;
        struct wal_found *grown = reallocarray(recovery->files, room, sizeof(*grown));

        if (grown == NULL) {
            return ms_err_set(err, MS_ENOMEM, 0, "memory for the list of segments");
        }
        recovery->files = grown;
        recovery->file_room = room;
    }
    recovery->files[recovery->file_count++] =
        (struct wal_found){.header = {.sequence = sequence}};
    return MS_OK;
}

static int compare_sequences(const void *left, const void *right)
{
    const struct wal_found *a = left;
    const struct wal_found *b = right;

    return a->header.sequence < b->header.sequence ? -1 : a->header.sequence > b->header.sequence;
}

static int recover_list(struct wal_recovery *recovery, const char *path, struct ms_err *err)
{
    const struct dirent *file;
    DIR *dir = opendir(path);
    int rc = MS_OK;

    if (dir == NULL) {
        return ms_err_set(err, MS_EIO, errno, "list directory %s", path);
    }
    while (rc == MS_OK && (errno = 0, file = readdir(dir)) != NULL) {
        const char *name = file->d_name;
        uint64_t sequence;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            strcmp(name, "lost+found") == 0 || wal_segment_is_temporary(name)) {
            continue;
        }
        if (!wal_segment_name_parse(name, &sequence)) {
            rc = ms_err_set(err, MS_EINVAL, 0, "%s/%s is no file of the log", path, name);
        } else {
            rc = recover_add_file(recovery, sequence, err);
        }
    }
    if (rc == MS_OK && errno != 0) {
        rc = ms_err_set(err, MS_EIO, errno, "list directory %s", path);
    }
    (void)closedir(dir);
    if (recovery->file_count > 0) {
        qsort(recovery->files, recovery->file_count, sizeof(*recovery->files), compare_sequences);
    }
    return rc;
}

/* ---- heads: header and opening of every file ------------------------------------------------ */

/* Whether the file holds a valid opening. */
static int recover_opening(struct wal_found *file, struct wal_window *window, struct ms_err *err)
{
    struct ms_err inner = {.status = MS_OK};
    struct wal_batch batch;
    struct wal_item item;
    size_t offset = 0;
    int rc = wal_scan_batch(window, &file->header, WAL_OPENING_AT, &batch, &inner);

    if (rc == MS_ENOENT) {
        return MS_OK;
    }
    if (rc != MS_OK) {
        return recover_fault(file, rc, WAL_OPENING_AT, &inner, err);
    }
    rc = wal_item_next(batch.payload, batch.payload_bytes, &offset, &item);
    if (rc != MS_OK || item.type != WAL_RECORD_OPENING || batch.end != WAL_BATCHES_AT ||
        (item.opening.previous_sequence != 0 &&
         item.opening.previous_sequence + 1 != file->header.sequence)) {
        return wal_segment_fault(err, MS_ECORRUPT, file->header.sequence, WAL_OPENING_AT,
                                 "the segment does not begin as it must");
    }
    file->used = true;
    file->opening = item.opening;
    file->opening_number = batch.number;
    return MS_OK;
}

static int recover_head(const struct wal *wal, struct wal_found *file, struct ms_err *err)
{
    struct ms_err inner = {.status = MS_OK};
    uint64_t sequence = file->header.sequence;
    struct wal_window window = {0};
    const uint8_t *block;
    int fd = -1;
    int rc = wal_segment_open_read(&wal->disk, sequence, &fd, err);

    if (rc != MS_OK) {
        return rc;
    }
    rc = wal_window_init(&window, fd, &inner);
    window.chunk_bytes = WAL_BATCHES_AT; /* many files, and no more of each is looked at */
    if (rc == MS_OK) {
        rc = wal_window_get(&window, 0, WAL_BLOCK_BYTES, &block, &inner);
    }
    if (rc == MS_OK && window.file_bytes < WAL_BLOCK_BYTES) {
        rc = ms_err_set(&inner, MS_ECORRUPT, 0, "the file is shorter than its header (%ju bytes)",
                        (uintmax_t)window.file_bytes);
    }
    if (rc == MS_OK) {
        rc = wal_header_decode(block, &file->header, &inner);
    }
    if (rc == MS_OK && file->header.sequence != sequence) {
        file->header.sequence = sequence;
        rc = ms_err_set(&inner, MS_ECORRUPT, 0, "the header is of another segment");
    }
    if (rc != MS_OK) {
        rc = recover_fault(file, rc, 0, &inner, err);
    } else {
        file->file_bytes = window.file_bytes;
        rc = recover_opening(file, &window, err);
    }
    wal_window_fini(&window);
    (void)close(fd);
    return rc;
}

static int recover_heads(struct wal_recovery *recovery, struct ms_err *err)
{
    int rc = MS_OK;

    recovery->used = recovery->file_count;
    for (size_t i = 0; rc == MS_OK && i < recovery->file_count; i++) {
        rc = recover_head(recovery->wal, &recovery->files[i], err);
        if (rc == MS_OK && recovery->files[i].used) {
            recovery->used = i;
        }
    }
    return rc;
}

/* ---- segments ------------------------------------------------------------------------------ */

/* What is looked at for valid batches behind an end at offset. */
static struct wal_tail_range recover_range(const struct wal_recovery *recovery, uint64_t offset)
{
    return (struct wal_tail_range){
        .offset = offset,
        .end = recovery->verify_all ? UINT64_MAX : offset + RECOVER_QUICK_TAIL_BYTES};
}

/* A file without an opening must not hold anything else either; deep: that is looked for. */
static int recover_check_unused(struct wal_recovery *recovery, struct wal_found *file, bool deep,
                                struct ms_err *err)
{
    struct wal_tail_range range = recover_range(recovery, WAL_OPENING_AT);
    struct ms_err inner = {.status = MS_OK};
    enum wal_tail tail = WAL_TAIL_CLEAN;
    struct wal_window window = {0};
    uint64_t found = 0;
    int fd = -1;
    int rc;

    if (file->file_bytes < file->header.size_bytes) {
        return wal_segment_fault(err, MS_ECORRUPT, file->header.sequence, file->file_bytes,
                                 "the file is truncated");
    }
    if (!deep) {
        return MS_OK;
    }
    rc = wal_segment_open_read(&recovery->wal->disk, file->header.sequence, &fd, err);
    if (rc != MS_OK) {
        return rc;
    }
    rc = wal_window_init(&window, fd, &inner);
    if (rc == MS_OK) {
        window.chunk_bytes = recovery->verify_all ? WAL_WINDOW_BYTES : RECOVER_QUICK_TAIL_BYTES;
        rc = wal_scan_tail(&window, &file->header, &range, &tail, &found, &inner);
    }
    if (rc != MS_OK) {
        rc = recover_fault(file, rc, WAL_OPENING_AT, &inner, err);
    } else if (tail == WAL_TAIL_DAMAGED) {
        rc = wal_segment_fault(err, MS_ECORRUPT, file->header.sequence, WAL_OPENING_AT,
                               "damaged, and valid data lies behind");
    }
    wal_window_fini(&window);
    (void)close(fd);
    return rc;
}

/* Reads batches from the first on into state and segment. Stops where no valid batch follows. */
static int recover_scan(struct wal_found *file, struct wal_window *window,
                        struct wal_segment *segment, struct log_state *state, uint64_t *number,
                        struct ms_err *err)
{
    struct ms_err inner = {.status = MS_OK};
    int rc = MS_OK;

    segment->end = WAL_BATCHES_AT;
    for (;;) {
        struct wal_summary summary;
        struct wal_batch batch;

        rc = wal_scan_batch(window, &file->header, segment->end, &batch, &inner);
        if (rc == MS_ENOENT || (rc == MS_OK && batch.number != *number)) {
            return MS_OK;
        }
        if (rc == MS_OK) {
            rc = wal_batch_take(&batch, state, &summary, &inner);
        }
        if (rc == MS_OK) {
            rc = wal_directory_reserve(&segment->directory, &inner);
        }
        if (rc != MS_OK) {
            return recover_fault(file, rc, segment->end, &inner, err);
        }
        wal_directory_add(&segment->directory, &summary, segment->end);
        if (summary.lowest != 0 && (segment->lowest == 0 || summary.lowest < segment->lowest)) {
            segment->lowest = summary.lowest;
        }
        segment->confs += summary.conf_count;
        segment->end = batch.end;
        (*number)++;
    }
}

/* The last segment: where it ends, and whether that is an end or damage. */
static int recover_tail(struct wal_recovery *recovery, struct wal_found *file,
                        struct wal_window *window, uint64_t end, struct ms_err *err)
{
    struct wal_tail_range range = recover_range(recovery, end);
    struct wal_report *report = recovery->report;
    struct ms_err inner = {.status = MS_OK};
    enum wal_tail tail = WAL_TAIL_CLEAN;
    uint64_t found = 0;
    int rc = wal_scan_tail(window, &file->header, &range, &tail, &found, &inner);

    if (rc != MS_OK) {
        return recover_fault(file, rc, end, &inner, err);
    }
    if (tail == WAL_TAIL_DAMAGED) {
        return wal_segment_fault(err, MS_ECORRUPT, file->header.sequence, end,
                                 "damaged, and valid data lies behind");
    }
    recovery->end = end;
    recovery->cut = tail == WAL_TAIL_TORN;
    if (recovery->cut) {
        report->tail_cut = true;
        report->tail_offset = end;
        wal_segment_name(file->header.sequence, report->tail_file);
    }
    return MS_OK;
}

/*
 * Reads one used segment whole. next is the one after it, NULL for the last. *state goes in as the
 * opening says and comes out as the segment leaves it.
 */
static int recover_segment(struct wal_recovery *recovery, struct wal_found *file,
                           const struct wal_found *next, struct wal_segment *segment,
                           struct log_state *state, struct ms_err *err)
{
    struct ms_err inner = {.status = MS_OK};
    uint64_t number = file->opening_number + 1;
    struct wal_window window = {0};
    struct wal_item said;
    int fd = -1;
    int rc = wal_segment_open_read(&recovery->wal->disk, file->header.sequence, &fd, err);

    if (rc != MS_OK) {
        return rc;
    }
    if (next == NULL) {
        /* What a failed write left in the page cache is not what the disk has. */
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    rc = wal_window_init(&window, fd, &inner);
    if (rc != MS_OK) {
        rc = recover_fault(file, rc, 0, &inner, err);
        goto out;
    }
    *state = file->opening.state;
    segment->header = file->header;
    segment->before = state->last_index;
    segment->indexed = true;
    rc = recover_scan(file, &window, segment, state, &number, err);
    recovery->report->read_bytes += segment->end;
    if (rc != MS_OK) {
        goto out;
    }
    if (next == NULL) {
        rc = recover_tail(recovery, file, &window, segment->end, err);
        recovery->wal->next_number = number;
        goto out;
    }
    said.type = WAL_RECORD_OPENING;
    said.opening = next->opening;
    if (segment->end != next->opening.previous_end || number != next->opening_number) {
        rc = wal_segment_fault(err, MS_ECORRUPT, file->header.sequence, segment->end,
                               "damaged before its end");
    } else if (wal_state_take(state, &said, &inner) != MS_OK ||
               segment->lowest != next->opening.previous_lowest ||
               segment->confs != next->opening.previous_confs) {
        rc = wal_segment_fault(err, MS_ECORRUPT, next->header.sequence, WAL_OPENING_AT,
                               "it does not say what the segment before holds");
    }

out:
    wal_window_fini(&window);
    (void)close(fd);
    return rc;
}

/*
 * From the newest used segment back: which files are needed. The chain is complete where the log
 * begins behind all that older files hold.
 */
static int recover_chain(struct wal_recovery *recovery, const struct log_state *state,
                         struct ms_err *err)
{
    size_t at = recovery->used;

    while (recovery->files[at].opening.state.last_index >= state->first_index) {
        const struct wal_found *file = &recovery->files[at];
        const struct wal_found *before = at > 0 ? file - 1 : NULL;
        uint64_t wanted = file->header.sequence - 1;

        if (before == NULL || before->header.sequence != wanted) {
            return wal_segment_fault(err, MS_ECORRUPT, wanted, 0, "the file is missing");
        }
        if (!before->used) {
            return wal_segment_fault(err, MS_ECORRUPT, wanted, WAL_OPENING_AT,
                                     "damaged at its beginning");
        }
        if (before->file_bytes < before->header.size_bytes) {
            return wal_segment_fault(err, MS_ECORRUPT, wanted, before->file_bytes,
                                     "the file is truncated");
        }
        if (file->opening.previous_end > before->header.size_bytes) {
            return wal_segment_fault(err, MS_ECORRUPT, file->header.sequence, WAL_OPENING_AT,
                                     "an impossible end of the segment before");
        }
        at--;
    }
    recovery->oldest = at;
    return MS_OK;
}

/* A segment before the last: taken from the opening of its successor, or read as well. */
static int recover_sealed(struct wal_recovery *recovery, size_t at, struct ms_err *err)
{
    struct wal_found *file = &recovery->files[at];
    const struct wal_found *next = file + 1;
    struct wal_segment *segment = calloc(1, sizeof(*segment));
    struct log_state state;
    int rc;

    if (segment == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a segment");
    }
    if (recovery->verify_all) {
        rc = recover_segment(recovery, file, next, segment, &state, err);
        if (rc != MS_OK) {
            wal_segment_free(segment);
            return rc;
        }
    } else {
        segment->header = file->header;
        segment->before = file->opening.state.last_index;
        segment->end = next->opening.previous_end;
        segment->lowest = next->opening.previous_lowest;
        segment->confs = next->opening.previous_confs;
    }
    return wal_segments_push(recovery->wal, segment, err);
}

/* All that can be wrong with segments that hold something. */
static int recover_used(struct wal_recovery *recovery, struct ms_err *err)
{
    struct wal_found *file = &recovery->files[recovery->used];
    struct wal_segment *last = calloc(1, sizeof(*last));
    struct wal *wal = recovery->wal;
    struct log_state state;
    int rc;

    if (last == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a segment");
    }
    /* First, because it says where the log begins now, and so which files are needed. */
    rc = recover_segment(recovery, file, NULL, last, &state, err);
    if (rc == MS_OK && state.hard_state.commit > state.last_index) {
        char text[128];

        (void)snprintf(text, sizeof(text),
                       "entries up to %" PRIu64 " were committed, the log ends at %" PRIu64,
                       state.hard_state.commit, state.last_index);
        rc = wal_segment_fault(err, MS_ECORRUPT, file->header.sequence, recovery->end, text);
    }
    if (rc == MS_OK) {
        rc = recover_chain(recovery, &state, err);
    }
    for (size_t i = recovery->oldest; rc == MS_OK && i < recovery->used; i++) {
        rc = recover_sealed(recovery, i, err);
    }
    if (rc != MS_OK) {
        wal_segment_free(last);
        return rc;
    }
    wal->durable = state;
    return wal_segments_push(wal, last, err);
}

/* Files behind the last used one are ready for use; they must follow it without a gap. */
static int recover_spares(struct wal_recovery *recovery, struct ms_err *err)
{
    size_t first = recovery->used == recovery->file_count ? 0 : recovery->used + 1;

    for (size_t i = first; i < recovery->file_count; i++) {
        uint64_t expected = i == 0 ? 1 : recovery->files[i - 1].header.sequence + 1;
        int rc;

        if (recovery->files[i].header.sequence != expected) {
            return wal_segment_fault(err, MS_ECORRUPT, expected, 0, "the file is missing");
        }
        rc = recover_check_unused(recovery, &recovery->files[i],
                                  i == first || recovery->verify_all, err);
        if (rc != MS_OK) {
            return rc;
        }
    }
    return MS_OK;
}

/* ---- changes ------------------------------------------------------------------------------- */

/* Makes the last segment ready for more: full size, nothing of it only in a cache. */
static int recover_continue(struct wal_recovery *recovery, struct ms_err *err)
{
    struct wal *wal = recovery->wal;
    const struct wal_found *file = &recovery->files[recovery->used];
    int rc = wal_segment_open_write(&wal->disk, file->header.sequence, &wal->write_fd, err);

    /* What is left of a torn batch goes, lest it be found behind a shorter one the next time. */
    if (rc == MS_OK && (recovery->cut || file->file_bytes < file->header.size_bytes)) {
        rc = wal_segment_refill(&wal->disk, wal->write_fd, &file->header, recovery->end, err);
    }
    /* Without direct writes the last batch may have been written but not synced by a process that
     * was killed in between; from now on it counts as durable, so it has to be. */
    if (rc == MS_OK && wal->disk.io->sync(wal->disk.io->ctx, wal->write_fd) != 0) {
        rc = ms_err_set(err, MS_EIO, errno, "sync log segment %016" PRIx64, file->header.sequence);
    }
    return rc;
}

/*
 * Spares of another size (the limit on requests was changed) are removed, newest first, so that no
 * gap is left if this is interrupted. Returns how many of the spares stay.
 */
static size_t recover_drop_spares(struct wal_recovery *recovery, size_t first)
{
    struct wal *wal = recovery->wal;
    size_t keep = first;

    while (keep < recovery->file_count && keep - first < WAL_STOCK_READY_MAX &&
           recovery->files[keep].header.size_bytes == wal->disk.segment_bytes) {
        keep++;
    }
    for (size_t i = recovery->file_count; i-- > keep;) {
        char name[WAL_NAME_BYTES];

        wal_segment_name(recovery->files[i].header.sequence, name);
        (void)unlinkat(wal->disk.dir_fd, name, 0);
    }
    recovery->file_count = keep;
    return keep - first;
}

static int recover_stock(struct wal_recovery *recovery, struct ms_err *err)
{
    struct wal *wal = recovery->wal;
    bool used = recovery->used < recovery->file_count;
    size_t first = used ? recovery->used + 1 : 0;
    struct wal_header ready[WAL_STOCK_READY_MAX];
    struct wal_stock_options options = {.disk = wal->disk, .ready = ready, .oldest = 1};
    int rc;

    options.ready_count = recover_drop_spares(recovery, first);
    for (size_t i = 0; i < options.ready_count; i++) {
        ready[i] = recovery->files[first + i].header;
    }
    options.next_sequence = 1;
    if (recovery->file_count > 0) {
        options.oldest = recovery->files[0].header.sequence;
        options.next_sequence = recovery->files[recovery->file_count - 1].header.sequence + 1;
    }
    rc = wal_stock_create(&options, &wal->stock, err);
    if (rc != MS_OK) {
        return rc;
    }
    if (used) {
        wal_stock_release(wal->stock, recovery->files[recovery->oldest].header.sequence);
        return MS_OK;
    }
    /* A log that cannot even begin is told now, not at the first append. */
    return wal_stock_wait(wal->stock, err);
}

int wal_recover(struct wal *wal, const struct wal_options *options, struct wal_report *report,
                struct ms_err *err)
{
    struct wal_recovery recovery = {
        .wal = wal, .report = report, .verify_all = options->verify_all};
    int rc;

    memset(report, 0, sizeof(*report));
    rc = recover_open_directory(wal, options->directory, err);
    if (rc == MS_OK) {
        rc = recover_list(&recovery, options->directory, err);
    }
    if (rc == MS_OK) {
        rc = recover_heads(&recovery, err);
    }
    if (rc == MS_OK && recovery.used < recovery.file_count) {
        rc = recover_used(&recovery, err);
    }
    if (rc == MS_OK) {
        rc = recover_spares(&recovery, err);
    }
    if (rc == MS_OK) {
        rc = wal_io_probe(wal->disk.io, wal->disk.dir_fd, &wal->disk.mode, err);
    }
    if (rc == MS_OK && recovery.used < recovery.file_count) {
        rc = recover_continue(&recovery, err);
    }
    if (rc == MS_OK) {
        rc = recover_stock(&recovery, err);
    }
    report->segments = wal->segment_count;
    report->direct = wal->disk.mode.direct;
    free(recovery.files);
    return rc;
}

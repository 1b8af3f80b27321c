/*
 * wal_recover: what a start makes of the directory.
 *
 * It looks first and changes afterwards: whatever it refuses is left as it was found. The newest
 * segment with anything in it is always read whole; the ones before are known from the openings of
 * their successors, and read only when the caller wants all of it checked.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storaged/wal_found.h"
#include "storaged/wal_private.h"
#include "storaged/wal_scan.h"

/*
 * How far behind the end of the log a quick start looks for valid batches. Storaged alone was
 * restarted then, the machine did not stop: the end is where it was left.
 */
#define RECOVER_QUICK_TAIL_BYTES (UINT64_C(256) << 10)

struct wal_recovery {
    struct wal *wal;
    struct wal_report *report;
    struct wal_found *files; /* borrowed from the list; ascending in sequence */
    size_t file_count;
    size_t oldest; /* index of the first file that is still wanted */
    size_t used;   /* index of the newest used file; file_count: none is */
    uint64_t end;  /* of the newest used file */
    bool cut;      /* its tail is to be cut */
    bool verify_all;
};

/* ---- segments ------------------------------------------------------------------------------ */

/* What is looked at for valid batches behind an end at offset. */
static struct wal_tail_range recover_range(const struct wal_recovery *recovery, uint64_t offset)
{
    return (struct wal_tail_range){.offset = offset,
                                   .end = recovery->verify_all ? UINT64_MAX
                                                               : offset + RECOVER_QUICK_TAIL_BYTES};
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
        rc = wal_found_fault(file, rc, WAL_OPENING_AT, &inner, err);
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
            return wal_found_fault(file, rc, segment->end, &inner, err);
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
        return wal_found_fault(file, rc, end, &inner, err);
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
        rc = wal_found_fault(file, rc, 0, &inner, err);
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
    int rc = MS_OK;

    if (segment == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a segment");
    }
    if (recovery->verify_all) {
        rc = recover_segment(recovery, file, next, segment, &state, err);
    } else {
        segment->header = file->header;
        segment->before = file->opening.state.last_index;
        segment->end = next->opening.previous_end;
        segment->lowest = next->opening.previous_lowest;
        segment->confs = next->opening.previous_confs;
    }
    if (rc == MS_OK) {
        rc = wal_segments_push(recovery->wal, segment, err);
    }
    if (rc != MS_OK) {
        wal_segment_free(segment);
    }
    return rc;
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
    if (rc == MS_OK) {
        rc = wal_segments_push(wal, last, err);
    }
    if (rc != MS_OK) {
        wal_segment_free(last);
        return rc;
    }
    wal->durable = state;
    return MS_OK;
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
        rc = recover_check_unused(recovery, &recovery->files[i], i == first || recovery->verify_all,
                                  err);
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
    struct wal_found_list list = {0};
    int rc;

    memset(report, 0, sizeof(*report));
    rc = wal_found_open_directory(options->directory, &wal->disk.dir_fd, err);
    if (rc == MS_OK) {
        rc = wal_found_read(&wal->disk, options->directory, &list, err);
    }
    recovery.files = list.files;
    recovery.file_count = list.count;
    recovery.used = list.count;
    for (size_t i = 0; i < list.count; i++) {
        if (list.files[i].used) {
            recovery.used = i;
        }
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
    wal_found_free(&list);
    return rc;
}

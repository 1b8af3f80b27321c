/*
 * wal_found: looking at the log's directory. Changes nothing in it.
 */
#include "storaged/wal_found.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storaged/wal_private.h"
#include "storaged/wal_scan.h"

int wal_found_fault(const struct wal_found *file, int status, uint64_t offset,
                    const struct ms_err *inner, struct ms_err *err)
{
    return wal_segment_fault(err, status, file->header.sequence, offset, inner->text);
}

int wal_found_open_directory(const char *path, int *out_fd, struct ms_err *err)
{
    int parent;
    int fd;

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
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return ms_err_set(err, MS_EIO, errno, "open directory %s", path);
    }
    *out_fd = fd;
    return MS_OK;
}

static int found_add(struct wal_found_list *list, uint64_t sequence, struct ms_err *err)
{
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 64 : list->room * 2;
        struct wal_found *grown = reallocarray(list->files, room, sizeof(*grown));

        if (grown == NULL) {
            return ms_err_set(err, MS_ENOMEM, 0, "memory for the list of segments");
        }
        list->files = grown;
        list->room = room;
    }
    list->files[list->count++] = (struct wal_found){.header = {.sequence = sequence}};
    return MS_OK;
}

static int compare_sequences(const void *left, const void *right)
{
    const struct wal_found *a = left;
    const struct wal_found *b = right;

    return a->header.sequence < b->header.sequence ? -1 : a->header.sequence > b->header.sequence;
}

static int found_list(struct wal_found_list *list, const char *path, struct ms_err *err)
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

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lost+found") == 0 ||
            wal_segment_is_temporary(name)) {
            continue;
        }
        if (!wal_segment_name_parse(name, &sequence)) {
            rc = ms_err_set(err, MS_EINVAL, 0, "%s/%s is no file of the log", path, name);
        } else {
            rc = found_add(list, sequence, err);
        }
    }
    if (rc == MS_OK && errno != 0) {
        rc = ms_err_set(err, MS_EIO, errno, "list directory %s", path);
    }
    (void)closedir(dir);
    if (list->count > 0) {
        qsort(list->files, list->count, sizeof(*list->files), compare_sequences);
    }
    return rc;
}

/* Whether the file holds a valid opening. */
static int found_opening(struct wal_found *file, struct wal_window *window, struct ms_err *err)
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
        return wal_found_fault(file, rc, WAL_OPENING_AT, &inner, err);
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

static int found_head(const struct wal_disk *disk, struct wal_found *file, struct ms_err *err)
{
    struct ms_err inner = {.status = MS_OK};
    uint64_t sequence = file->header.sequence;
    struct wal_window window = {0};
    const uint8_t *block;
    int fd = -1;
    int rc = wal_segment_open_read(disk, sequence, &fd, err);

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
        rc = wal_found_fault(file, rc, 0, &inner, err);
    } else {
        file->file_bytes = window.file_bytes;
        rc = found_opening(file, &window, err);
    }
    wal_window_fini(&window);
    (void)close(fd);
    return rc;
}

int wal_found_read(const struct wal_disk *disk, const char *path, struct wal_found_list *list,
                   struct ms_err *err)
{
    int rc = found_list(list, path, err);

    for (size_t i = 0; rc == MS_OK && i < list->count; i++) {
        rc = found_head(disk, &list->files[i], err);
    }
    return rc;
}

void wal_found_free(struct wal_found_list *list)
{
    free(list->files);
    *list = (struct wal_found_list){0};
}

/*
 * wal_segment: making, naming and reusing segment files.
 */
#include "storaged/wal_segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define WAL_SUFFIX      ".wal"
#define WAL_TMP_SUFFIX  ".tmp"
#define WAL_NEW_NAME    "new" WAL_TMP_SUFFIX
#define WAL_ZEROS_BYTES (1u << 20)

void wal_segment_name(uint64_t sequence, char name[WAL_NAME_BYTES])
{
    (void)snprintf(name, WAL_NAME_BYTES, "%016" PRIx64 WAL_SUFFIX, sequence);
}

int wal_segment_fault(struct ms_err *err, int status, uint64_t sequence, uint64_t offset,
                      const char *text)
{
    char name[WAL_NAME_BYTES];

    wal_segment_name(sequence, name);
    return ms_err_set(err, status, 0, "log segment %s, offset %" PRIu64 ": %s", name, offset, text);
}

bool wal_segment_name_parse(const char *name, uint64_t *sequence)
{
    char again[WAL_NAME_BYTES];
    uint64_t value = strtoull(name, NULL, 16);

    wal_segment_name(value, again);
    if (value == 0 || strcmp(name, again) != 0) {
        return false;
    }
    *sequence = value;
    return true;
}

bool wal_segment_is_temporary(const char *name)
{
    size_t len = strlen(name);

    return len > sizeof(WAL_TMP_SUFFIX) - 1 &&
           strcmp(name + len - (sizeof(WAL_TMP_SUFFIX) - 1), WAL_TMP_SUFFIX) == 0;
}

static int segment_sys_error(struct ms_err *err, const char *what, const char *name)
{
    int failed = errno;

    return ms_err_set(err, wal_io_status(failed), failed, "%s %s", what, name);
}

static int segment_fill(const struct wal_disk *disk, int fd, uint64_t from, uint64_t to,
                        const char *name, struct ms_err *err)
{
    void *zeros = NULL;
    int rc = MS_OK;

    if (posix_memalign(&zeros, WAL_BLOCK_BYTES, WAL_ZEROS_BYTES) != 0) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory to fill %s", name);
    }
    memset(zeros, 0, WAL_ZEROS_BYTES);
    while (rc == MS_OK && from < to) {
        uint64_t piece = to - from < WAL_ZEROS_BYTES ? to - from : WAL_ZEROS_BYTES;

        rc = wal_io_write(disk->io, fd, zeros, piece, (off_t)from, name, err);
        from += piece;
    }
    if (rc == MS_OK && disk->io->sync(disk->io->ctx, fd) != 0) {
        rc = segment_sys_error(err, "sync", name);
    }
    free(zeros);
    return rc;
}

static int segment_write_header(const struct wal_disk *disk, int fd,
                                const struct wal_header *header, const char *name,
                                struct ms_err *err)
{
    void *block = NULL;
    int rc;

    if (posix_memalign(&block, WAL_BLOCK_BYTES, WAL_BLOCK_BYTES) != 0) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a block");
    }
    wal_header_encode(header, block);
    rc = wal_io_write_durably(disk->io, fd, disk->mode, block, WAL_BLOCK_BYTES, 0, name, err);
    free(block);
    return rc;
}

int wal_segment_make(const struct wal_disk *disk, uint64_t sequence, const char *recycle,
                     struct wal_header *out, struct ms_err *err)
{
    const char *name = recycle != NULL ? recycle : WAL_NEW_NAME;
    int create = recycle != NULL ? 0 : O_CREAT | O_TRUNC;
    struct wal_header header = {
        .sequence = sequence,
        .size_bytes = disk->segment_bytes,
        .used_before = recycle != NULL,
    };
    char final[WAL_NAME_BYTES];
    int rc = MS_OK;
    int fd;

    wal_segment_name(sequence, final);
    if (getrandom(&header.salt, sizeof(header.salt), 0) != (ssize_t)sizeof(header.salt)) {
        return ms_err_set(err, MS_EIO, errno, "random salt for %s", final);
    }
    fd = openat(disk->dir_fd, name, O_RDWR | O_CLOEXEC | create | wal_io_open_flags(disk->mode),
                0600);
    if (fd < 0) {
        return segment_sys_error(err, "create", name);
    }
    if (recycle == NULL) {
        int failed = disk->io->allocate(disk->io->ctx, fd, (off_t)disk->segment_bytes);

        if (failed != 0) {
            rc = ms_err_set(err, wal_io_status(failed), failed, "reserve %" PRIu64 " bytes for %s",
                            disk->segment_bytes, final);
            goto out;
        }
        rc = segment_fill(disk, fd, 0, disk->segment_bytes, final, err);
        if (rc != MS_OK) {
            goto out;
        }
    }
    rc = segment_write_header(disk, fd, &header, final, err);
    if (rc != MS_OK) {
        goto out;
    }
    if (renameat(disk->dir_fd, name, disk->dir_fd, final) != 0) {
        rc = segment_sys_error(err, "rename to", final);
        goto out;
    }
    name = final;
    /* The name lives in the directory; without this the segment could be lost whole. */
    if (disk->io->sync(disk->io->ctx, disk->dir_fd) != 0) {
        rc = segment_sys_error(err, "sync the directory of", final);
        goto out;
    }
    *out = header;

out:
    (void)close(fd);
    if (rc != MS_OK) {
        (void)unlinkat(disk->dir_fd, name, 0);
    }
    return rc;
}

int wal_segment_give_up(const struct wal_disk *disk, uint64_t sequence, char name[WAL_NAME_BYTES],
                        struct ms_err *err)
{
    char from[WAL_NAME_BYTES];

    wal_segment_name(sequence, from);
    (void)snprintf(name, WAL_NAME_BYTES, "used-%016" PRIx64 WAL_TMP_SUFFIX, sequence);
    if (renameat(disk->dir_fd, from, disk->dir_fd, name) != 0) {
        if (errno == ENOENT) {
            return ms_err_set(err, MS_ENOENT, 0, "no segment %s", from);
        }
        return segment_sys_error(err, "give up", from);
    }
    return MS_OK;
}

static int segment_open(const struct wal_disk *disk, uint64_t sequence, int flags, int *out_fd,
                        struct ms_err *err)
{
    char name[WAL_NAME_BYTES];
    int fd;

    wal_segment_name(sequence, name);
    fd = openat(disk->dir_fd, name, flags | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        return ms_err_set(err, MS_ENOENT, 0, "segment %s is missing", name);
    }
    if (fd < 0) {
        return ms_err_set(err, MS_EIO, errno, "open %s", name);
    }
    *out_fd = fd;
    return MS_OK;
}

int wal_segment_open_write(const struct wal_disk *disk, uint64_t sequence, int *out_fd,
                           struct ms_err *err)
{
    return segment_open(disk, sequence, O_RDWR | wal_io_open_flags(disk->mode), out_fd, err);
}

int wal_segment_open_read(const struct wal_disk *disk, uint64_t sequence, int *out_fd,
                          struct ms_err *err)
{
    return segment_open(disk, sequence, O_RDONLY, out_fd, err);
}

int wal_segment_refill(const struct wal_disk *disk, int fd, const struct wal_header *header,
                       uint64_t from_offset, struct ms_err *err)
{
    char name[WAL_NAME_BYTES];

    wal_segment_name(header->sequence, name);
    return segment_fill(disk, fd, from_offset, header->size_bytes, name, err);
}

/*
 * wal_io: the log's system calls.
 */
#include "storaged/wal_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storaged/wal_format.h"

#define WAL_PROBE_NAME "probe.tmp"

static ssize_t system_write_at(void *ctx, int fd, const void *data, size_t len_bytes, off_t offset)
{
    (void)ctx;
    return pwrite(fd, data, len_bytes, offset);
}

static int system_sync(void *ctx, int fd)
{
    (void)ctx;
    return fdatasync(fd);
}

static int system_allocate(void *ctx, int fd, off_t size_bytes)
{
    (void)ctx;
    return posix_fallocate(fd, 0, size_bytes);
}

const struct wal_io wal_io_system = {
    .write_at = system_write_at,
    .sync = system_sync,
    .allocate = system_allocate,
};

int wal_io_open_flags(struct wal_file_mode mode)
{
    return mode.direct ? O_DIRECT | O_DSYNC : 0;
}

int wal_io_status(int sys_errno)
{
    switch (sys_errno) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EROFS:
        return MS_ENOSPC;
    default:
        return MS_EIO;
    }
}

int wal_io_write(const struct wal_io *io, int fd, const void *data, size_t len_bytes, off_t offset,
                 const char *name, struct ms_err *err)
{
    const uint8_t *from = data;
    size_t done = 0;

    while (done < len_bytes) {
        ssize_t n = io->write_at(io->ctx, fd, from + done, len_bytes - done, offset + (off_t)done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        /* A direct write goes on from a block boundary only: a broken block is written again. */
        if (n >= 0 && (size_t)n < len_bytes - done) {
            n = n / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES;
            errno = ENOSPC; /* what stops a write half-way when it does not even begin a block */
        }
        if (n <= 0) {
            int failed = errno;

            return ms_err_set(err, wal_io_status(failed), failed,
                              "write %zu bytes to %s at offset %jd", len_bytes, name,
                              (intmax_t)offset);
        }
        done += (size_t)n;
    }
    return MS_OK;
}

int wal_io_write_durably(const struct wal_io *io, int fd, struct wal_file_mode mode,
                         const void *data, size_t len_bytes, off_t offset, const char *name,
                         struct ms_err *err)
{
    int rc = wal_io_write(io, fd, data, len_bytes, offset, name, err);

    if (rc == MS_OK && !mode.direct && io->sync(io->ctx, fd) != 0) {
        int failed = errno;

        rc = ms_err_set(err, wal_io_status(failed), failed, "sync %s", name);
    }
    return rc;
}

int wal_io_probe(const struct wal_io *io, int dir_fd, struct wal_file_mode *out, struct ms_err *err)
{
    struct wal_file_mode direct = {.direct = true};
    struct ms_err why = {.status = MS_OK};
    void *block = NULL;
    int rc = MS_OK;
    int fd = -1;

    if (posix_memalign(&block, WAL_BLOCK_BYTES, WAL_BLOCK_BYTES) != 0) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a block");
    }
    memset(block, 0, WAL_BLOCK_BYTES);
    fd = openat(dir_fd, WAL_PROBE_NAME,
                O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | wal_io_open_flags(direct), 0600);
    if (fd < 0) {
        int failed = errno;

        rc = ms_err_set(&why, wal_io_status(failed), failed, "create %s", WAL_PROBE_NAME);
    } else {
        rc = wal_io_write(io, fd, block, WAL_BLOCK_BYTES, 0, WAL_PROBE_NAME, &why);
    }
    /* EINVAL is how a file system says that it has no direct writes. */
    if (rc == MS_OK || rc == MS_ENOSPC || why.sys_errno == EINVAL) {
        out->direct = rc == MS_OK;
        rc = MS_OK;
    } else if (err != NULL) {
        *err = why;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    /* An open that fails with EINVAL may have made the file all the same. */
    (void)unlinkat(dir_fd, WAL_PROBE_NAME, 0);
    free(block);
    return rc;
}

ssize_t wal_io_read(int fd, void *dst, size_t len_bytes, off_t offset)
{
    uint8_t *to = dst;
    size_t done = 0;

    while (done < len_bytes) {
        ssize_t n = pread(fd, to + done, len_bytes - done, offset + (off_t)done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

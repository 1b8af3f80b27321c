/*
 * wal_io: the system calls that can fail for reasons of the disk, behind one table.
 *
 * The log calls the disk only through here, so that tests can let any of these calls fail, tear or
 * come up short. Nothing is retried but an interrupted call and the rest of a short write.
 */
#ifndef METASTORE_STORAGED_WAL_IO_H
#define METASTORE_STORAGED_WAL_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

/* As the system calls of those names: -1 and errno, but allocate, which returns the errno. */
struct wal_io {
    void *ctx;
    ssize_t (*write_at)(void *ctx, int fd, const void *data, size_t len_bytes, off_t offset);
    int (*sync)(void *ctx, int fd);
    int (*allocate)(void *ctx, int fd, off_t size_bytes);
};

/* The real ones. */
extern const struct wal_io wal_io_system;

/* How a file takes durable writes. */
struct wal_file_mode {
    bool direct; /* opened O_DIRECT|O_DSYNC: a write is a sync too */
};

/* The open flags that go with the mode. */
int wal_io_open_flags(struct wal_file_mode mode);

/*
 * Finds out, by writing a block to a file of its own in the directory, whether direct writes work
 * there. The file is gone afterwards. Where there is no room to find out, they are not used.
 * MS_EIO, MS_ENOMEM.
 */
int wal_io_probe(const struct wal_io *io, int dir_fd, struct wal_file_mode *out,
                 struct ms_err *err);

/*
 * Writes len_bytes (whole blocks, data aligned to a block) and makes them durable. name is for err.
 * MS_ENOSPC: no room (disk full, quota, file size limit, read-only); MS_EIO: anything else.
 */
int wal_io_write_durably(const struct wal_io *io, int fd, struct wal_file_mode mode,
                         const void *data, size_t len_bytes, off_t offset, const char *name,
                         struct ms_err *err);

/* The same without a sync where the mode needs one. */
int wal_io_write(const struct wal_io *io, int fd, const void *data, size_t len_bytes, off_t offset,
                 const char *name, struct ms_err *err);

/* MS_ENOSPC for the errnos that say "no room", MS_EIO for the others. */
int wal_io_status(int sys_errno);

/* Reads up to len_bytes at offset, fewer only at the end of the file. -1 and errno on failure. */
ssize_t wal_io_read(int fd, void *dst, size_t len_bytes, off_t offset);

#endif

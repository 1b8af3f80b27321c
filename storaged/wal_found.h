/*
 * wal_found: the files in the log's directory, and what their first blocks say.
 */
#ifndef METASTORE_STORAGED_WAL_FOUND_H
#define METASTORE_STORAGED_WAL_FOUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/wal_format.h"
#include "storaged/wal_segment.h"

/* One file as found. */
struct wal_found {
    struct wal_header header;
    uint64_t file_bytes;
    bool used; /* holds a valid opening */
    uint64_t opening_number;
    struct wal_opening opening;
};

struct wal_found_list {
    struct wal_found *files; /* owned; ascending in sequence */
    size_t count;
    size_t room;
};

/* Opens the directory, making it if it is not there. The caller owns *out_fd. */
int wal_found_open_directory(const char *path, int *out_fd, struct ms_err *err);

/*
 * Lists the directory (path names it in messages, disk->dir_fd is it) and reads the head of every
 * segment. MS_EINVAL: a file that does not belong there, or of another format; MS_ECORRUPT: a
 * damaged head; err names it. The list must be freed in either case.
 */
int wal_found_read(const struct wal_disk *disk, const char *path, struct wal_found_list *list,
                   struct ms_err *err);
void wal_found_free(struct wal_found_list *list);

/* Fills *err with a fault in that file; inner says what was wrong. Returns status. */
int wal_found_fault(const struct wal_found *file, int status, uint64_t offset,
                    const struct ms_err *inner, struct ms_err *err);

#endif

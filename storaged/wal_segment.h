/*
 * wal_segment: segment files: their names, how they come into being, how they are used again.
 *
 * A file gets its segment name only when its header is durable and its room reserved; until then,
 * and once it has been given up, its name ends in ".tmp" and a start may remove it.
 */
#ifndef METASTORE_STORAGED_WAL_SEGMENT_H
#define METASTORE_STORAGED_WAL_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/wal_format.h"
#include "storaged/wal_io.h"

#define WAL_NAME_BYTES 40

/* Where segments live and how they are written; plain data, copied freely. */
struct wal_disk {
    const struct wal_io *io; /* borrowed for ever */
    int dir_fd;              /* borrowed */
    struct wal_file_mode mode;
    uint64_t segment_bytes; /* of new segments */
};

/* "0000000000000001.wal" */
void wal_segment_name(uint64_t sequence, char name[WAL_NAME_BYTES]);

/*
 * Fills *err with a fault found in a segment: its name, the offset, and what was wrong (text).
 * Returns status.
 */
int wal_segment_fault(struct ms_err *err, int status, uint64_t sequence, uint64_t offset,
                      const char *text);

/* True if name is exactly what wal_segment_name makes of a sequence. */
bool wal_segment_name_parse(const char *name, uint64_t *sequence);

/* True for names that a start may remove. */
bool wal_segment_is_temporary(const char *name);

/*
 * Makes a segment: a new file of zeros, or out of the given-up file named recycle (NULL: none).
 * Durable with its name on MS_OK; nothing new is left behind otherwise. MS_ENOSPC: no room.
 */
int wal_segment_make(const struct wal_disk *disk, uint64_t sequence, const char *recycle,
                     struct wal_header *out, struct ms_err *err);

/*
 * Gives up a segment whose content is no longer needed: renames it for later use and tells the new
 * name. MS_ENOENT: there is no such segment.
 */
int wal_segment_give_up(const struct wal_disk *disk, uint64_t sequence, char name[WAL_NAME_BYTES],
                        struct ms_err *err);

/* Opens a segment for durable writes. The caller owns *out_fd. */
int wal_segment_open_write(const struct wal_disk *disk, uint64_t sequence, int *out_fd,
                           struct ms_err *err);

/* Opens a segment for reading; MS_ENOENT when it is not there. The caller owns *out_fd. */
int wal_segment_open_read(const struct wal_disk *disk, uint64_t sequence, int *out_fd,
                          struct ms_err *err);

/*
 * Brings a file that is shorter than its header says back to its size: zeros from the block in
 * which it ends on. fd is open for durable writes. MS_ENOSPC, MS_EIO.
 */
int wal_segment_refill(const struct wal_disk *disk, int fd, const struct wal_header *header,
                       uint64_t from_offset, struct ms_err *err);

#endif

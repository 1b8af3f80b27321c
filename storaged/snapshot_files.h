/*
 * snapshot_files: the directory of snapshots: which there are, and making one durable.
 *
 * A snapshot appears under its name, INDEX-TERM.snap (twenty decimal digits each), only when all of
 * it is on disk; until then it is a .tmp file that the next start removes. The newest two stay, as
 * long as the log leads on from both.
 */
#ifndef METASTORE_STORAGED_SNAPSHOT_FILES_H
#define METASTORE_STORAGED_SNAPSHOT_FILES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/types.h"
#include "storaged/engine.h"

struct snapshot_files;

struct snapshot_file {
    raft_index index;
    raft_term term;
    uint64_t size_bytes;
};

/* Snapshots that stay; older ones are removed after each new one. */
#define SNAPSHOT_FILES_KEPT 2

#define SNAPSHOT_NAME_BYTES 48

/* Opens (making it if needed) the directory and removes partial files. path is copied. */
int snapshot_files_open(const char *path, struct snapshot_files **out, struct ms_err *err);
void snapshot_files_close(struct snapshot_files *files);

/* Snapshots by age, 0 is the newest. MS_ENOENT past the last. */
int snapshot_files_get(const struct snapshot_files *files, size_t age, struct snapshot_file *out);

/* "INDEX-TERM.snap" into dst, which has SNAPSHOT_NAME_BYTES. */
void snapshot_files_name(const struct snapshot_file *file, char *dst);

/*
 * Writes the fixed state to disk: temporary file, sync, rename, sync of the directory. *cancel
 * (may be NULL) is looked at now and then; once true, MS_EAGAIN. On any error no partial file is
 * left and nothing else changed. The list is not touched, so that this may run on a thread of its
 * own; the owner calls snapshot_files_add afterwards. MS_EEXIST: there is one of this index and
 * term.
 */
int snapshot_files_write(const struct snapshot_files *files, const struct engine *engine,
                         struct engine_snapshot *snapshot, const atomic_bool *cancel,
                         struct snapshot_file *out, struct ms_err *err);

/* Takes a written snapshot into the list and removes those that are too many. */
int snapshot_files_add(struct snapshot_files *files, const struct snapshot_file *file,
                       struct ms_err *err);

/*
 * Only the header of a snapshot: what it holds and which configuration. MS_ECORRUPT names file and
 * offset.
 */
int snapshot_files_info(const struct snapshot_files *files, const struct snapshot_file *file,
                        struct engine_snapshot_info *out, struct ms_err *err);

/*
 * Installs a snapshot in an empty engine. MS_ECORRUPT names file and offset. The list is not
 * touched, and cancel works as for snapshot_files_write.
 */
int snapshot_files_load(const struct snapshot_files *files, const struct snapshot_file *file,
                        struct engine *engine, const atomic_bool *cancel,
                        struct engine_snapshot_info *out, struct ms_err *err);

/*
 * Opens a snapshot for reading; its content stays readable as long as the descriptor, which the
 * caller owns, even if the file is removed meanwhile. MS_ENOENT, MS_EIO.
 */
int snapshot_files_read(const struct snapshot_files *files, const struct snapshot_file *file,
                        int *out_fd, struct ms_err *err);

/*
 * Removes snapshots that the log does not lead on from, because it begins at first_index: a start
 * could not use them. The newest stays in any case.
 */
int snapshot_files_trim(struct snapshot_files *files, raft_index first_index, struct ms_err *err);

#endif

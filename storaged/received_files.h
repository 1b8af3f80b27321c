/*
 * received_files: snapshots that come from other nodes, on disk.
 *
 * They lie beside the node's own, under names of their own until they are the node's:
 *
 *   INDEX-TERM-SIZE.part   the beginning of one (numbers of twenty decimal digits)
 *   INDEX-TERM.received    all of one, sound and durable; the log does not know of it yet
 *   INDEX-TERM.snap        the log starts behind it: one of snapshot_files
 *
 * The log may come to depend on a complete one at any moment, from another thread than the one that
 * receives the next: claiming settles that it stays. All calls may come from any thread.
 */
#ifndef METASTORE_STORAGED_RECEIVED_FILES_H
#define METASTORE_STORAGED_RECEIVED_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/snapshot_files.h"

struct received_files;

/*
 * Opens (making it if needed) the directory of snapshots; path is copied. To be called before
 * snapshot_files_open, with what the log says: the snapshot that it starts behind becomes one of
 * the node's, what it has left behind is removed. Of the rest the newest complete one and the
 * newest beginning stay. MS_EIO, MS_ENOSPC, MS_ENOMEM.
 */
int received_files_open(const char *path, raft_index log_snapshot_index,
                        raft_term log_snapshot_term, struct received_files **out,
                        struct ms_err *err);
/* NULL is allowed. */
void received_files_close(struct received_files *files);

/*
 * Opens the beginning of exactly this snapshot, making an empty one if there is none; others are
 * removed. The caller owns *out_fd. MS_EIO, MS_ENOSPC.
 */
int received_files_begin(struct received_files *files, const struct snapshot_file *file,
                         int *out_fd, struct ms_err *err);

/* Removes it again: it is of no use. */
void received_files_forget(struct received_files *files, const struct snapshot_file *file);

/*
 * All of it has been written to fd (borrowed): makes it durable under its name. Complete ones that
 * nobody claimed are removed. MS_EIO, MS_ENOSPC: it is still a beginning.
 */
int received_files_complete(struct received_files *files, const struct snapshot_file *file, int fd,
                            struct ms_err *err);

/* Whether this snapshot is there, received or made here; *size_bytes (may be NULL) is its length.
 */
bool received_files_have(const struct received_files *files, raft_index index, raft_term term,
                         uint64_t *size_bytes);

/* Frees room: removes complete ones that nobody claimed. */
void received_files_discard(struct received_files *files);

/* The log is about to depend on this one: it stays. False: it is not there. */
bool received_files_claim(struct received_files *files, raft_index index, raft_term term);

/*
 * The log starts behind it: durably renames it to one of the node's own snapshots, unless it is one
 * already. MS_ENOENT: it is not there; MS_EIO.
 */
int received_files_adopt(struct received_files *files, raft_index index, raft_term term,
                         struct snapshot_file *out, struct ms_err *err);

#endif

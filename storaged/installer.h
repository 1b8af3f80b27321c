/*
 * installer: builds the state of a snapshot beside the one in use, and takes away the one that was.
 *
 * Both can take seconds with large states, so they are done on a thread of their own, one at a
 * time, while the owner thread goes on answering from the old state.
 */
#ifndef METASTORE_STORAGED_INSTALLER_H
#define METASTORE_STORAGED_INSTALLER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/apply.h"
#include "storaged/engine.h"
#include "storaged/memory_dir.h"
#include "storaged/received_files.h"
#include "storaged/snapshot_files.h"

struct installer;

struct installer_options {
    struct memory_dir *dir; /* borrowed, like the rest */
    const struct snapshot_files *files;
    struct received_files *received;
};

/* What came of it. When status is MS_OK, engine and apply are the caller's. */
struct installer_outcome {
    int status;
    struct ms_err err;
    struct snapshot_file file;
    struct engine *engine;
    struct apply *apply;
    struct memory_dir_aside aside;
    uint64_t duration_ns;
};

int installer_create(const struct installer_options *options, struct installer **out,
                     struct ms_err *err);

/* Gives up what is under way and waits for that. NULL is allowed. */
void installer_destroy(struct installer *installer);

/* Readable when there may be an outcome; borrowed. */
int installer_fd(const struct installer *installer);

/* Something is being built, or taken away. */
bool installer_is_busy(const struct installer *installer);

/*
 * Builds the state of the received snapshot of index and term, which becomes one of the node's own.
 * Not while busy (assert). MS_ENOMEM.
 */
int installer_start(struct installer *installer, raft_index index, raft_term term,
                    struct ms_err *err);

/*
 * MS_OK: what was started is over, *out says how: MS_ENOENT, MS_ECORRUPT, MS_ENOSPC (there is no
 * room for a second state), MS_EIO, MS_ENOMEM; nothing of it is left then. MS_EAGAIN: not yet.
 */
int installer_collect(struct installer *installer, struct installer_outcome *out);

/*
 * Takes engine and apply, which nobody uses any more, closes them and removes the environment of
 * the epoch. Not while busy (assert).
 */
void installer_take_away(struct installer *installer, struct engine *engine, struct apply *apply,
                         uint64_t epoch);

#endif

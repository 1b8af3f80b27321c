/*
 * datadir: the node's directory DIR/N: made, locked, and known to be this node's.
 *
 *   DIR/N/lock      locked (flock) as long as any process of the node lives: workers inherit the
 *                   descriptor, so that a start right after the supervisor was killed cannot meet
 *                   a worker that is still writing; holds the supervisor's pid as text
 *   DIR/N/identity  whose data this is, as text:
 *                       format = 1
 *                       id = 1
 *                       data-id = 5e0c1d3f92a7b846
 *                       storage = memory
 *                       raft-log = wal
 *                       used = yes
 *                   data-id is random and drawn with the directory: other members tell by it
 *                   whether a node still has the data it voted with; used comes last and later,
 *                   once there is something to lose
 *
 * The rest of the directory belongs to storaged. Nothing is deleted here.
 */
#ifndef METASTORE_SUPERVISOR_DATADIR_H
#define METASTORE_SUPERVISOR_DATADIR_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/err.h"

struct datadir {
    int dir_fd;       /* owned */
    int lock_fd;      /* owned; the lock goes with the last copy of it */
    uint64_t data_id; /* never 0 */
    bool was_used;    /* entries were applied from it: a log without any is not all there was */
};

/*
 * Makes config->node_dir (mode 0700, with parents) if missing, takes the lock, and checks the
 * identity or writes it, durably, into a directory that has none. Workers that outlive their
 * supervisor for a moment are waited for. Errors name the path:
 *
 *   MS_EBUSY     locked; says by which pid
 *   MS_EINVAL    another node's, or other storage: says both values
 *   MS_ECORRUPT  an identity file that is not understood: says which line
 *   MS_EIO       not a directory, read-only, no permission, ...
 */
int datadir_open(const struct ms_config *config, struct datadir *out, struct ms_err *err);

/*
 * Notes in the identity file, durably, that the directory is in use. Sets datadir->was_used. Does
 * nothing when that is noted already. MS_EIO: the file stays as it was.
 */
int datadir_mark_used(struct datadir *datadir, const struct ms_config *config, struct ms_err *err);

/* Lets go of both; the lock is free once the workers are gone, too. */
void datadir_close(struct datadir *datadir);

#endif

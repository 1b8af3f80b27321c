/*
 * datadir: the node's directory DIR/N: made, locked, and known to be this node's.
 *
 *   DIR/N/lock      locked (flock) as long as any process of the node lives: workers inherit the
 *                   descriptor, so that a start right after the supervisor was killed cannot meet
 *                   a worker that is still writing; holds the supervisor's pid as text
 *   DIR/N/identity  whose data this is, as text:
 *                       format = 1
 *                       id = 1
 *                       storage = memory
 *                       raft-log = wal
 *
 * The rest of the directory belongs to storaged. Nothing is deleted here.
 */
#ifndef METASTORE_SUPERVISOR_DATADIR_H
#define METASTORE_SUPERVISOR_DATADIR_H

#include "common/config.h"
#include "common/err.h"

struct datadir {
    int dir_fd;  /* owned */
    int lock_fd; /* owned; the lock goes with the last copy of it */
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

/* Lets go of both; the lock is free once the workers are gone, too. */
void datadir_close(struct datadir *datadir);

#endif

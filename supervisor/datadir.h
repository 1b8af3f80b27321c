/*
 * datadir: the node's directory DIR/N: made, locked, and known to be this node's.
 *
 *   DIR/N/lock      locked (flock) as long as the supervisor lives; holds its pid as text
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
    int lock_fd; /* owned; closing it releases the lock */
};

/*
 * Makes config->node_dir (mode 0700, with parents) if missing, takes the lock, and checks the
 * identity or writes it, durably, into a directory that has none. Errors name the path:
 *
 *   MS_EBUSY     locked; says by which pid
 *   MS_EINVAL    another node's, or other storage: says both values
 *   MS_ECORRUPT  an identity file that is not understood: says which line
 *   MS_EIO       not a directory, read-only, no permission, ...
 */
int datadir_open(const struct ms_config *config, struct datadir *out, struct ms_err *err);

/* Releases the lock. */
void datadir_close(struct datadir *datadir);

#endif

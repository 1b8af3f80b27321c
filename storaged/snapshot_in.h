/*
 * snapshot_in: what raftd says about a snapshot from the leader, and what it is told.
 *
 * One transfer at a time. The work is done by a snapshot_receiver; here is only who it is for, and
 * what may come. Owner thread.
 */
#ifndef METASTORE_STORAGED_SNAPSHOT_IN_H
#define METASTORE_STORAGED_SNAPSHOT_IN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ipc_catalogue.h"
#include "common/link.h"
#include "storaged/received_files.h"

struct snapshot_in;

/* files is borrowed. MS_ENOMEM, MS_EIO. */
int snapshot_in_create(struct received_files *files, struct snapshot_in **out, struct ms_err *err);

/* Gives up what is under way; what is on disk stays. NULL is allowed. */
void snapshot_in_destroy(struct snapshot_in *in);

/* Readable when snapshot_in_tell may have something to say; borrowed. */
int snapshot_in_fd(const struct snapshot_in *in);

/* Resets the descriptor and takes what has happened. */
void snapshot_in_collect(struct snapshot_in *in);

/* SNAP_RECEIVE, SNAP_WRITE and SNAP_ABANDON. What is wrong with them, SNAP_PROGRESS will say. */
void snapshot_in_receive(struct snapshot_in *in, const struct ms_snap_receive *message);
void snapshot_in_write(struct snapshot_in *in, const struct ms_snap_write *message,
                       const uint8_t *data, size_t len_bytes);
void snapshot_in_abandon(struct snapshot_in *in, const struct ms_snap_abandon *message);

/* The link is gone, and the transfer with it. */
void snapshot_in_reset(struct snapshot_in *in);

/* Whether SNAP_PROGRESS is due; sends it. As ms_link_send. */
bool snapshot_in_is_due(const struct snapshot_in *in);
int snapshot_in_tell(struct snapshot_in *in, struct ms_link *link);

#endif

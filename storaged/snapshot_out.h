/*
 * snapshot_out: snapshots that raftd reads in order to send them to followers.
 *
 * A session is an open file: it stays readable although the snapshot may be removed meanwhile.
 * Owner thread. Pieces are read straight into the ring: they were written not long ago, or are read
 * ahead, so that they come from the page cache as a rule; and should one come from the disk, the
 * writing of the log, which is what commits wait for, goes on in its own thread.
 */
#ifndef METASTORE_STORAGED_SNAPSHOT_OUT_H
#define METASTORE_STORAGED_SNAPSHOT_OUT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/ipc_catalogue.h"
#include "common/link.h"
#include "storaged/snapshot_files.h"

struct snapshot_out;

/* Sessions open at a time, those included that wait for a snapshot to be made. */
#define SNAPSHOT_OUT_SESSIONS_MAX 16

/* files is borrowed. MS_ENOMEM. */
int snapshot_out_create(const struct snapshot_files *files, struct snapshot_out **out,
                        struct ms_err *err);
void snapshot_out_destroy(struct snapshot_out *out);

/* The link is gone, and all sessions with it. */
void snapshot_out_reset(struct snapshot_out *out);

/* SNAP_OPEN. MS_EPROTO: the session exists; others as ms_link_send. */
int snapshot_out_open(struct snapshot_out *out, const struct ms_snap_open *message,
                      struct ms_link *link);
/* SNAP_CLOSE; of a session that does not exist: nothing. */
void snapshot_out_close(struct snapshot_out *out, const struct ms_snap_close *message);
/* SNAP_READ: answers at once. As ms_link_send. */
int snapshot_out_read(struct snapshot_out *out, const struct ms_snap_read *message,
                      struct ms_link *link);

/* True: sessions wait for a snapshot of at least *min_index, which should be made. */
bool snapshot_out_wants(const struct snapshot_out *out, raft_index *min_index);

/* A snapshot was made: sessions that it satisfies get it. */
void snapshot_out_made(struct snapshot_out *out);

/* None can be made: what waits is told so. */
void snapshot_out_deny(struct snapshot_out *out);

/* The lowest index of an open session; 0: there is none. The log is wanted from there on. */
raft_index snapshot_out_lowest(const struct snapshot_out *out);

/* Whether SNAP_OPENED is due; sends what has room. As ms_link_send. */
bool snapshot_out_is_due(const struct snapshot_out *out);
int snapshot_out_tell(struct snapshot_out *out, struct ms_link *link);

#endif

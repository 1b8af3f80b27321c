/*
 * keeper: decides when a snapshot is due (or makes one that a follower waits for) and what the log
 * may forget afterwards; suggests when history should be compacted.
 *
 * The work itself is done elsewhere: the snapshot by snapshot_job's thread, the log by the log
 * thread, the proposal of a compaction by raftd.
 */
#ifndef METASTORE_STORAGED_KEEPER_H
#define METASTORE_STORAGED_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/config.h"
#include "common/metrics.h"
#include "storaged/applier.h"
#include "storaged/log_thread.h"
#include "storaged/snapshot_files.h"
#include "storaged/snapshot_job.h"
#include "storaged/snapshot_out.h"

/* A snapshot is due at the latest when the log takes so many times its size on disk ... */
#define KEEPER_DISK_FACTOR 8
/* ... and at least so much: small batches are mostly padding. */
#define KEEPER_DISK_BYTES_MIN (UINT64_C(64) << 20)
/*
 * How long to wait after a snapshot that failed, and between two suggestions. With --history 0
 * nothing is suggested even when memory is full: who keeps all history has to compact by hand.
 */
#define KEEPER_RETRY_MS   5000
#define KEEPER_SUGGEST_MS 200

struct keeper_options {
    const struct ms_config *config; /* borrowed, like all below; may change at run time */
    struct snapshot_files *files;
    struct engine *engine;
    struct applier *applier;
    struct snapshot_out *out; /* who wants snapshots, and the log behind them */
    struct log_store *store;  /* reading side */
    struct log_thread *log;
    struct ms_metrics *metrics; /* may be NULL */
};

struct keeper;

int keeper_create(const struct keeper_options *options, struct keeper **out, struct ms_err *err);

/* Cancels a snapshot that is being written. NULL is allowed. */
void keeper_destroy(struct keeper *keeper);

/* Readable when a snapshot has ended; borrowed. */
int keeper_fd(const struct keeper *keeper);

/* After each batch and on each tick: cheap unless something is due. */
void keeper_run(struct keeper *keeper, struct ms_instant now);

/* Takes the outcome of a snapshot, if there is one. */
void keeper_collect(struct keeper *keeper, struct ms_instant now);

/*
 * The state is being replaced: no snapshot is begun any more, one that is being written is given
 * up. True once none is.
 */
bool keeper_pause(struct keeper *keeper);

/* The state was replaced by that of the snapshot; engine is borrowed from now on. Ends the pause.
 */
void keeper_switch(struct keeper *keeper, struct engine *engine, const struct snapshot_file *file);

/* The log's disk has become full, or has room again. */
void keeper_log_full(struct keeper *keeper, bool full);

/* The log thread has carried out a mark: raftd is told. */
void keeper_marked(struct keeper *keeper);

#endif

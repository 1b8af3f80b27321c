/*
 * snapshot_job: writes one snapshot on a thread of its own.
 *
 * The owner thread starts it, watches its descriptor and collects the outcome; nothing is shared in
 * between but the fixed state, which does not change.
 */
#ifndef METASTORE_STORAGED_SNAPSHOT_JOB_H
#define METASTORE_STORAGED_SNAPSHOT_JOB_H

#include "common/err.h"
#include "storaged/engine.h"
#include "storaged/snapshot_files.h"

struct snapshot_job;

struct snapshot_outcome {
    int status;                       /* MS_OK, MS_EEXIST, MS_EAGAIN (cancelled), MS_ENOSPC ... */
    struct snapshot_file file;        /* when status is MS_OK */
    struct engine_snapshot_info info; /* of what was to be written */
    uint64_t duration_ns;
    struct ms_err err;
};

/* No thread yet. files and engine are borrowed and must outlive the job. */
int snapshot_job_create(struct snapshot_files *files, struct engine *engine,
                        struct snapshot_job **out, struct ms_err *err);

/* Cancels and waits if one is being written. */
void snapshot_job_destroy(struct snapshot_job *job);

/* Becomes readable when an outcome waits; borrowed. */
int snapshot_job_fd(const struct snapshot_job *job);

bool snapshot_job_busy(const struct snapshot_job *job);

/* Fixes the state now and starts writing it. MS_EBUSY: one is being written already. */
int snapshot_job_start(struct snapshot_job *job, struct ms_err *err);

/* Gives up what is being written, if anything is: its outcome will soon be MS_EAGAIN. */
void snapshot_job_cancel(struct snapshot_job *job);

/* The engine to be snapshot from now on; borrowed like the first one. Not while busy (assert). */
void snapshot_job_switch(struct snapshot_job *job, struct engine *engine);

/*
 * Takes the outcome; a snapshot that was written is in the list of files then. MS_EAGAIN: not done
 * yet.
 */
int snapshot_job_collect(struct snapshot_job *job, struct snapshot_outcome *out);

#endif

/*
 * snapshot_job: the thread, and the two hand-overs: thread creation gives it the fixed state,
 * joining it gives the outcome back.
 */
#include "storaged/snapshot_job.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "storaged/work_thread.h"

struct snapshot_job {
    struct snapshot_files *files; /* borrowed, as is engine */
    struct engine *engine;
    int done_fd;
    bool busy; /* the owner's view: from start to collect */
    atomic_bool cancel;
    pthread_t thread;
    struct engine_snapshot *snapshot;
    struct snapshot_outcome outcome; /* the thread's while busy */
};

int snapshot_job_create(struct snapshot_files *files, struct engine *engine,
                        struct snapshot_job **out, struct ms_err *err)
{
    struct snapshot_job *job = calloc(1, sizeof(*job));

    if (job == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "snapshots: out of memory");
    }
    job->files = files;
    job->engine = engine;
    job->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (job->done_fd < 0) {
        int rc = ms_err_set(err, MS_EIO, errno, "snapshots: eventfd");

        free(job);
        return rc;
    }
    *out = job;
    return MS_OK;
}

int snapshot_job_fd(const struct snapshot_job *job)
{
    return job->done_fd;
}

bool snapshot_job_busy(const struct snapshot_job *job)
{
    return job->busy;
}

static void *run(void *ctx)
{
    struct snapshot_job *job = ctx;
    struct ms_instant began = ms_clock_now();
    const uint64_t one = 1;
    ssize_t written;

    job->outcome.status = snapshot_files_write(job->files, job->engine, job->snapshot, &job->cancel,
                                               &job->outcome.file, &job->outcome.err);
    job->outcome.duration_ns = ms_clock_elapsed_ns(began, ms_clock_now());
    written = write(job->done_fd, &one, sizeof(one));
    assert(written == sizeof(one)); /* the counter is far from its end */
    (void)written;
    return NULL;
}

int snapshot_job_start(struct snapshot_job *job, struct ms_err *err)
{
    int rc;
    int code;

    if (job->busy) {
        return ms_err_set(err, MS_EBUSY, 0, "a snapshot is being written");
    }
    rc = engine_snapshot_begin(job->engine, &job->snapshot, err);
    if (rc != MS_OK) {
        return rc;
    }
    memset(&job->outcome, 0, sizeof(job->outcome));
    engine_snapshot_info(job->engine, job->snapshot, &job->outcome.info);
    atomic_store(&job->cancel, false);
    code = work_thread_start(&job->thread, run, job);
    if (code != 0) {
        engine_snapshot_end(job->engine, job->snapshot);
        job->snapshot = NULL;
        return ms_err_set(err, MS_ENOMEM, code, "snapshots: start a thread");
    }
    job->busy = true;
    return MS_OK;
}

void snapshot_job_cancel(struct snapshot_job *job)
{
    atomic_store(&job->cancel, true);
}

void snapshot_job_switch(struct snapshot_job *job, struct engine *engine)
{
    assert(!job->busy);
    job->engine = engine;
}

/* Joins a thread that has finished, or will soon. */
static void finish(struct snapshot_job *job)
{
    uint64_t count;
    ssize_t got;

    work_thread_join(job->thread);
    got = read(job->done_fd, &count, sizeof(count)); /* it is over: nothing to be told any more */
    (void)got;
    engine_snapshot_end(job->engine, job->snapshot);
    job->snapshot = NULL;
    job->busy = false;
}

int snapshot_job_collect(struct snapshot_job *job, struct snapshot_outcome *out)
{
    uint64_t count;

    if (!job->busy || read(job->done_fd, &count, sizeof(count)) != sizeof(count)) {
        return MS_EAGAIN;
    }
    finish(job);
    if (job->outcome.status == MS_OK) {
        job->outcome.status = snapshot_files_add(job->files, &job->outcome.file, &job->outcome.err);
    }
    *out = job->outcome;
    return MS_OK;
}

void snapshot_job_destroy(struct snapshot_job *job)
{
    if (job == NULL) {
        return;
    }
    if (job->busy) {
        atomic_store(&job->cancel, true);
        finish(job);
    }
    (void)close(job->done_fd);
    free(job);
}

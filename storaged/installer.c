/*
 * installer: the thread, and who owns what when.
 */
#include "storaged/installer.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "storaged/memory_engine.h"
#include "storaged/work_thread.h"

enum work {
    WORK_NONE,
    WORK_BUILD,
    WORK_TAKE_AWAY,
};

/* While there is work, outcome and what follows belong to the thread. */
struct installer {
    struct installer_options options;
    int done_fd;
    enum work work; /* the owner's view */
    atomic_bool cancel;
    pthread_t thread;
    struct installer_outcome outcome;
    struct engine_snapshot_info info;
    uint64_t epoch; /* to be removed */
};

int installer_create(const struct installer_options *options, struct installer **out,
                     struct ms_err *err)
{
    struct installer *installer = calloc(1, sizeof(*installer));

    if (installer == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory to install snapshots");
    }
    installer->options = *options;
    installer->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (installer->done_fd < 0) {
        int rc = ms_err_set(err, MS_EIO, errno, "eventfd to install snapshots");

        free(installer);
        return rc;
    }
    *out = installer;
    return MS_OK;
}

int installer_fd(const struct installer *installer)
{
    return installer->done_fd;
}

bool installer_is_busy(const struct installer *installer)
{
    return installer->work != WORK_NONE;
}

/* ---- the thread ---------------------------------------------------------------------------- */

static void say_done(struct installer *installer)
{
    const uint64_t one = 1;
    ssize_t written = write(installer->done_fd, &one, sizeof(one));

    assert(written == (ssize_t)sizeof(one)); /* the counter is far from its end */
    (void)written;
}

static void close_state(struct installer_outcome *outcome)
{
    apply_destroy(outcome->apply);
    engine_close(outcome->engine);
    outcome->apply = NULL;
    outcome->engine = NULL;
}

static int build(struct installer *installer, struct ms_err *err)
{
    const struct installer_options *options = &installer->options;
    struct installer_outcome *outcome = &installer->outcome;
    int rc = received_files_adopt(options->received, outcome->file.index, outcome->file.term,
                                  &outcome->file, err);

    if (rc == MS_OK) {
        rc = memory_engine_create(outcome->aside.path, memory_dir_limit_bytes(options->dir),
                                  &outcome->engine, err);
    }
    if (rc == MS_OK) {
        rc = snapshot_files_load(options->files, &outcome->file, outcome->engine,
                                 &installer->cancel, &installer->info, err);
    }
    if (rc == MS_OK) {
        rc = apply_create(outcome->engine, &outcome->apply, err);
    }
    return rc;
}

static void *run_build(void *ctx)
{
    struct installer *installer = ctx;
    struct installer_outcome *outcome = &installer->outcome;
    struct ms_instant began = ms_clock_now();

    outcome->status = build(installer, &outcome->err);
    outcome->duration_ns = ms_clock_elapsed_ns(began, ms_clock_now());
    if (outcome->status != MS_OK) {
        close_state(outcome);
        /* What cannot be removed now is removed by the next start. */
        (void)memory_dir_remove(installer->options.dir, outcome->aside.epoch, NULL);
    }
    say_done(installer);
    return NULL;
}

static void take_away(struct installer *installer)
{
    struct ms_err err = {.status = MS_OK};

    close_state(&installer->outcome);
    if (memory_dir_remove(installer->options.dir, installer->epoch, &err) != MS_OK) {
        ms_log_err(MS_LOG_WARN, "an old state could not be removed", &err);
    }
}

static void *run_take_away(void *ctx)
{
    take_away(ctx);
    say_done(ctx);
    return NULL;
}

/* ---- the owner ----------------------------------------------------------------------------- */

static int start(struct installer *installer, enum work work, void *(*run)(void *ctx),
                 struct ms_err *err)
{
    int code;

    atomic_store(&installer->cancel, false);
    code = work_thread_start(&installer->thread, run, installer);
    if (code != 0) {
        return ms_err_set(err, MS_ENOMEM, code, "start a thread to install a snapshot");
    }
    installer->work = work;
    return MS_OK;
}

int installer_start(struct installer *installer, raft_index index, raft_term term,
                    struct ms_err *err)
{
    int rc;

    assert(installer->work == WORK_NONE);
    memset(&installer->outcome, 0, sizeof(installer->outcome));
    installer->outcome.file = (struct snapshot_file){.index = index, .term = term};
    rc = memory_dir_begin(installer->options.dir, &installer->outcome.aside, err);
    return rc == MS_OK ? start(installer, WORK_BUILD, run_build, err) : rc;
}

/* Joins a thread that has finished, or will soon. */
static void finish(struct installer *installer)
{
    uint64_t count;

    work_thread_join(installer->thread);
    (void)!read(installer->done_fd, &count, sizeof(count));
    installer->work = WORK_NONE;
}

int installer_collect(struct installer *installer, struct installer_outcome *out)
{
    enum work work = installer->work;
    uint64_t count;

    if (work == WORK_NONE || read(installer->done_fd, &count, sizeof(count)) != sizeof(count)) {
        return MS_EAGAIN;
    }
    finish(installer);
    if (work == WORK_TAKE_AWAY) {
        return MS_EAGAIN;
    }
    *out = installer->outcome;
    return MS_OK;
}

void installer_take_away(struct installer *installer, struct engine *engine, struct apply *apply,
                         uint64_t epoch)
{
    assert(installer->work == WORK_NONE);
    installer->outcome.engine = engine;
    installer->outcome.apply = apply;
    installer->epoch = epoch;
    if (start(installer, WORK_TAKE_AWAY, run_take_away, NULL) != MS_OK) {
        /* Without a thread the owner has to do it, however long it takes. */
        take_away(installer);
    }
}

void installer_destroy(struct installer *installer)
{
    if (installer == NULL) {
        return;
    }
    if (installer->work != WORK_NONE) {
        bool built = installer->work == WORK_BUILD;

        atomic_store(&installer->cancel, true);
        finish(installer);
        if (built && installer->outcome.status == MS_OK) {
            close_state(&installer->outcome);
        }
    }
    (void)close(installer->done_fd);
    free(installer);
}

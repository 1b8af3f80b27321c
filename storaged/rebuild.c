/*
 * rebuild: decides between continuing and starting over, then catches up with the log.
 */
#include "storaged/rebuild.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/ipc_catalogue.h"
#include "storaged/memory_engine.h"

/* Entries applied in one commit, by number and by size. */
#define BATCH_ENTRIES APPLY_BATCH_MAX
#define BATCH_BYTES   (4 << 20)

#define PROGRESS_NS UINT64_C(1000000000)

struct catch_up {
    struct apply_entry entries[BATCH_ENTRIES];
    struct apply_result results[BATCH_ENTRIES]; /* nobody waits for these answers any more */
    uint8_t conf[MS_CONF_STATE_BYTES_MAX];
};

/* ---- continuing ---------------------------------------------------------------------------- */

/*
 * Whether the log is the one that the engine's state came from: the entry that was applied last
 * must be in it, or be where it was cut.
 */
static const char *contradiction(const struct rebuild_log *log, const struct ms_memdb_meta *meta)
{
    raft_term term = 0;

    if (meta->applied > log->last_index) {
        return "it is ahead of the log";
    }
    if (meta->applied < log->snapshot_index) {
        return "the log begins behind a later state";
    }
    if (meta->applied == log->snapshot_index) {
        return meta->applied_term == log->snapshot_term ? NULL : "it is not of this log";
    }
    if (meta->applied + 1 < log->first_index) {
        return "the log starts behind it";
    }
    if (meta->applied >= log->first_index &&
        (log->term(log->ctx, meta->applied, &term) != MS_OK || term != meta->applied_term)) {
        return "it is not of this log";
    }
    return NULL;
}

/* Opens what was left. A reason not to comes back in *distrust, with MS_OK. */
static int try_kept(const struct rebuild_options *options, struct engine **engine,
                    const char **distrust, struct ms_err *err)
{
    const char *path = memory_dir_kept(options->dir);
    struct ms_memdb_meta meta;
    struct ms_err cause = {0};
    struct engine *kept;
    int rc;

    *engine = NULL;
    *distrust = memory_dir_distrust(options->dir);
    if (path == NULL) {
        return MS_OK;
    }
    rc = memory_engine_open(path, memory_dir_limit_bytes(options->dir), &kept, &cause);
    if (rc == MS_ENOENT || rc == MS_ECORRUPT) {
        *distrust = rc == MS_ENOENT ? "it was never completed" : "its layout does not hold";
        return MS_OK;
    }
    if (rc != MS_OK) {
        return ms_err_set(err, rc, cause.sys_errno, "%s", cause.text);
    }
    engine_meta(kept, &meta);
    *distrust = contradiction(options->log, &meta);
    if (*distrust != NULL) {
        engine_close(kept);
        return MS_OK;
    }
    *engine = kept;
    return MS_OK;
}

/* ---- starting over ------------------------------------------------------------------------- */

static int fresh_engine(const struct rebuild_options *options, struct engine **out,
                        struct ms_err *err)
{
    int rc = memory_dir_renew(options->dir, err);

    return rc == MS_OK ? memory_engine_create(memory_dir_path(options->dir),
                                              memory_dir_limit_bytes(options->dir), out, err)
                       : rc;
}

/* Whether the log leads on from the snapshot: it holds the entry, or starts right behind it. */
static bool leads_on(const struct rebuild_log *log, const struct snapshot_file *file)
{
    raft_term term = 0;

    if (file->index == log->snapshot_index) {
        return file->term == log->snapshot_term;
    }
    return file->index <= log->last_index && log->term(log->ctx, file->index, &term) == MS_OK &&
           term == file->term;
}

/*
 * A new engine with the newest snapshot that is sound. One that the log does not lead on from is
 * none of its; a damaged one is passed over only for an older state from which the log leads on.
 */
static int from_snapshots(const struct rebuild_options *options, struct rebuild_result *result,
                          struct ms_err *err)
{
    struct engine_snapshot_info *info = malloc(sizeof(*info));
    struct ms_err damage = {0};
    struct snapshot_file file;
    int rc = MS_OK;

    if (info == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "rebuild: out of memory");
    }
    for (size_t age = 0; rc == MS_OK; age++) {
        bool none = snapshot_files_get(options->snapshots, age, &file) != MS_OK;

        if (none) {
            file = (struct snapshot_file){0};
        }
        if (file.index + 1 < options->log->first_index) {
            rc = damage.status != MS_OK
                     ? ms_err_set(err, damage.status, 0, "%s", damage.text)
                     : ms_err_set(err, MS_ECORRUPT, 0,
                                  "the log starts at entry %llu and no snapshot reaches so far",
                                  (unsigned long long)options->log->first_index);
            break;
        }
        if (!none && !leads_on(options->log, &file)) {
            continue;
        }
        rc = fresh_engine(options, &result->engine, err);
        if (rc != MS_OK || none) {
            break;
        }
        rc = snapshot_files_load(options->snapshots, &file, result->engine, NULL, info, err);
        if (rc == MS_OK) {
            result->snapshot_index = file.index;
            break;
        }
        engine_close(result->engine);
        result->engine = NULL;
        if (rc == MS_ECORRUPT) {
            if (damage.status == MS_OK) {
                damage = *err;
            }
            rc = MS_OK;
        }
    }
    result->skipped = damage;
    free(info);
    return rc;
}

/* ---- catching up --------------------------------------------------------------------------- */

static int apply_confs(struct apply *apply, const struct rebuild_log *log, struct catch_up *work,
                       size_t count, struct ms_err *err)
{
    for (size_t i = 0; i < count; i++) {
        size_t len_bytes = 0;
        int rc;

        if (work->entries[i].type == MS_ENTRY_NORMAL) {
            continue;
        }
        rc = log->conf(log->ctx, work->entries[i].index, work->conf, &len_bytes);
        if (rc == MS_ENOENT) {
            continue;
        }
        if (rc != MS_OK) {
            return ms_err_set(err, rc, 0, "read the configuration of entry %llu",
                              (unsigned long long)work->entries[i].index);
        }
        rc = apply_conf(apply, work->entries[i].index, work->conf, len_bytes, err);
        if (rc != MS_OK) {
            return rc;
        }
    }
    return MS_OK;
}

/*
 * Cuts a batch so that it has no more configurations than may wait, and none that is not recorded
 * yet. A commit index reaches the disk with any record, so power may have failed between it and the
 * record of the configuration; passed without that, the change would be lost here for ever.
 */
static size_t limit_confs(const struct rebuild_log *log, const struct apply_entry *entries,
                          size_t count)
{
    size_t confs = 0;

    for (size_t i = 0; i < count; i++) {
        if (entries[i].type == MS_ENTRY_NORMAL) {
            continue;
        }
        confs++;
        if (confs > APPLY_CONFS_MAX || entries[i].index > log->conf_index) {
            return i;
        }
    }
    return count;
}

static int catch_up(const struct rebuild_options *options, struct rebuild_result *result,
                    struct ms_err *err)
{
    const struct rebuild_log *log = options->log;
    raft_index target = log->commit_index < log->last_index ? log->commit_index : log->last_index;
    struct ms_instant told = ms_clock_now();
    struct catch_up *work = malloc(sizeof(*work));
    struct ms_memdb_meta meta;
    int rc = MS_OK;

    if (work == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "rebuild: out of memory");
    }
    for (;;) {
        size_t count = BATCH_ENTRIES;
        size_t results = 0;

        engine_meta(result->engine, &meta);
        if (meta.applied >= target) {
            break;
        }
        rc = log->read(log->ctx, meta.applied + 1, target + 1, BATCH_BYTES, work->entries, &count,
                       err);
        if (rc == MS_OK && (count == 0 || count > BATCH_ENTRIES)) {
            rc = ms_err_set(err, MS_ECORRUPT, 0, "the log has no entry %llu",
                            (unsigned long long)meta.applied + 1);
        }
        if (rc == MS_OK) {
            count = limit_confs(log, work->entries, count);
            if (count == 0) {
                break;
            }
            rc = apply_confs(result->apply, log, work, count, err);
        }
        if (rc == MS_OK) {
            rc = apply_entries(result->apply, work->entries, count, work->results, &results, err);
        }
        if (rc != MS_OK) {
            break;
        }
        result->entries += count;
        if (options->progress != NULL && ms_clock_elapsed_ns(told, ms_clock_now()) >= PROGRESS_NS) {
            told = ms_clock_now();
            options->progress(options->progress_ctx, meta.applied + count, target);
        }
    }
    free(work);
    return rc;
}

int rebuild_open(const struct rebuild_options *options, struct rebuild_result *out,
                 struct ms_err *err)
{
    struct rebuild_result result = {0};
    struct ms_err own = {0};
    struct ms_err *text = err == NULL ? &own : err; /* decisions need it */
    int rc = try_kept(options, &result.engine, &result.distrust, text);

    result.kept = result.engine != NULL;
    if (rc == MS_OK && !result.kept) {
        rc = from_snapshots(options, &result, text);
    }
    if (rc == MS_OK) {
        rc = apply_create(result.engine, &result.apply, text);
    }
    if (rc == MS_OK) {
        rc = catch_up(options, &result, text);
    }
    if (rc != MS_OK) {
        apply_destroy(result.apply);
        engine_close(result.engine);
        return rc;
    }
    *out = result;
    return MS_OK;
}

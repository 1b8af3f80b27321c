/*
 * keeper: when to snapshot, when to compact.
 */
#include "storaged/keeper.h"

#include <assert.h>
#include <stdlib.h>

#include "common/command.h"
#include "common/log.h"

struct keeper {
    struct keeper_options options;
    struct snapshot_job *job;
    struct snapshot_file newest;  /* index 0: there is none */
    uint64_t bytes_at_newest;     /* applier_bytes when it was taken */
    uint64_t bytes_at_start;      /* ... when the one being written was begun */
    raft_index compact_asked;     /* the highest index that the log was asked to forget */
    struct ms_instant not_before; /* of the next snapshot, after a failure */
    struct ms_instant suggest_not_before;
    bool log_full;
    bool paused; /* the state is being replaced */
};

/* The newest snapshot may be known to the directory and not yet to the log. */
static void mark_newest(struct keeper *keeper)
{
    const struct ms_config *config = keeper->options.config;
    uint64_t keep = keeper->log_full ? 0 : config->snapshot_catch_up_entries;
    raft_index wanted = snapshot_out_lowest(keeper->options.out);
    struct log_thread_mark mark = {.snapshot_index = keeper->newest.index,
                                   .snapshot_term = keeper->newest.term};

    if (mark.snapshot_index > keep) {
        mark.compact_index = mark.snapshot_index - keep;
    }
    /* Who is being sent an older one goes on from there, if the disk has room for that. */
    if (wanted != 0 && wanted < mark.compact_index && !keeper->log_full) {
        mark.compact_index = wanted;
    }
    if (mark.compact_index > keeper->compact_asked) {
        keeper->compact_asked = mark.compact_index;
    }
    log_thread_mark(keeper->options.log, &mark);
}

int keeper_create(const struct keeper_options *options, struct keeper **out, struct ms_err *err)
{
    struct keeper *keeper = calloc(1, sizeof(*keeper));
    struct log_state state;
    int rc;

    if (keeper == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for the keeper of snapshots");
    }
    keeper->options = *options;
    rc = snapshot_job_create(options->files, options->engine, &keeper->job, err);
    if (rc != MS_OK) {
        free(keeper);
        return rc;
    }
    log_store_state(options->store, &state);
    if (snapshot_files_get(options->files, 0, &keeper->newest) == MS_OK &&
        keeper->newest.index > state.snapshot_index && keeper->newest.index <= state.last_index) {
        mark_newest(keeper);
    }
    *out = keeper;
    return MS_OK;
}

void keeper_destroy(struct keeper *keeper)
{
    if (keeper != NULL) {
        snapshot_job_destroy(keeper->job);
        free(keeper);
    }
}

int keeper_fd(const struct keeper *keeper)
{
    return snapshot_job_fd(keeper->job);
}

/* Whether enough has happened since the newest snapshot to be worth another one. */
static bool is_due(const struct keeper *keeper)
{
    const struct ms_config *config = keeper->options.config;
    raft_index applied = applier_meta(keeper->options.applier)->applied;
    uint64_t size_bytes = keeper->newest.size_bytes;
    uint64_t disk_max = size_bytes * KEEPER_DISK_FACTOR;
    uint64_t written;

    if (applied <= keeper->newest.index) {
        return false;
    }
    if (keeper->log_full) {
        return true;
    }
    if (applied - keeper->newest.index < config->snapshot_count) {
        return false;
    }
    /* Rewriting a large state again and again would cost more than the log does. */
    written = applier_bytes(keeper->options.applier) - keeper->bytes_at_newest;
    if (written >= size_bytes) {
        return true;
    }
    if (disk_max < KEEPER_DISK_BYTES_MIN) {
        disk_max = KEEPER_DISK_BYTES_MIN;
    }
    return log_store_disk_bytes(keeper->options.store, keeper->newest.index) >= disk_max;
}

static void start_snapshot(struct keeper *keeper, struct ms_instant now)
{
    struct ms_err err = {.status = MS_OK};

    keeper->bytes_at_start = applier_bytes(keeper->options.applier);
    if (snapshot_job_start(keeper->job, &err) != MS_OK) {
        keeper->not_before = ms_clock_add_ms(now, KEEPER_RETRY_MS);
        ms_log_err(MS_LOG_WARN, "cannot begin a snapshot", &err);
    }
}

/* Suggests to compact history that is longer than wanted, or all of it when memory is full. */
static void suggest(struct keeper *keeper, struct ms_instant now)
{
    const struct ms_memdb_meta *meta = applier_meta(keeper->options.applier);
    uint64_t history = keeper->options.config->history;
    struct ms_command command = {.kind = MS_COMMAND_COMPACT};
    uint8_t encoded[MS_COMMAND_HEADER_BYTES];
    struct engine_stats stats;

    if (history == 0 || now.ns < keeper->suggest_not_before.ns) {
        return;
    }
    engine_stats(keeper->options.engine, &stats);
    if (stats.memory_full && meta->revision > meta->compact_revision) {
        command.revision = meta->revision;
    } else if (meta->revision - meta->compact_revision > history + history / 10 + 1) {
        command.revision = meta->revision - history;
    } else {
        return;
    }
    assert(ms_command_encoded_bytes(&command) == sizeof(encoded));
    ms_command_encode(&command, encoded);
    /* It may be lost on its way; then it is simply suggested again. */
    (void)applier_suggest(keeper->options.applier, encoded, sizeof(encoded));
    keeper->suggest_not_before = ms_clock_add_ms(now, KEEPER_SUGGEST_MS);
}

/* Whether a follower waits for a snapshot that can be made now; if it cannot, it is told so. */
static bool is_wanted(struct keeper *keeper, struct ms_instant now)
{
    raft_index applied = applier_meta(keeper->options.applier)->applied;
    raft_index min_index;

    if (!snapshot_out_wants(keeper->options.out, &min_index)) {
        return false;
    }
    if (keeper->paused || now.ns < keeper->not_before.ns || applied < min_index ||
        applied <= keeper->newest.index) {
        snapshot_out_deny(keeper->options.out);
        return false;
    }
    return true;
}

void keeper_run(struct keeper *keeper, struct ms_instant now)
{
    suggest(keeper, now);
    if (snapshot_job_busy(keeper->job)) {
        return;
    }
    if (is_wanted(keeper, now)) {
        start_snapshot(keeper, now);
    } else if (keeper->paused || now.ns < keeper->not_before.ns) {
        return;
    } else if (keeper->log_full && keeper->newest.index > keeper->compact_asked) {
        mark_newest(keeper);
    } else if (is_due(keeper)) {
        start_snapshot(keeper, now);
    }
}

void keeper_collect(struct keeper *keeper, struct ms_instant now)
{
    struct ms_metrics *metrics = keeper->options.metrics;
    struct snapshot_outcome outcome;

    if (snapshot_job_collect(keeper->job, &outcome) != MS_OK) {
        return;
    }
    if (outcome.status == MS_EAGAIN && keeper->paused) {
        return; /* given up for a better one */
    }
    if (outcome.status != MS_OK) {
        keeper->not_before = ms_clock_add_ms(now, KEEPER_RETRY_MS);
        ms_log_err(MS_LOG_WARN, "snapshot failed", &outcome.err);
        return;
    }
    keeper->newest = outcome.file;
    keeper->bytes_at_newest = keeper->bytes_at_start;
    if (metrics != NULL) {
        ms_metrics_add(metrics, MS_METRIC_SNAPSHOTS, 1);
        ms_metrics_observe(metrics, MS_HISTOGRAM_SNAPSHOT, outcome.duration_ns);
    }
    ms_log(MS_LOG_INFO, "snapshot written", MS_F_U64("index", outcome.file.index),
           MS_F_U64("term", outcome.file.term), MS_F_U64("bytes", outcome.file.size_bytes),
           MS_F_U64("duration_ms", outcome.duration_ns / 1000000));
    snapshot_out_made(keeper->options.out);
    mark_newest(keeper);
}

/* Snapshots that a start could not use would only take room. */
static void trim(struct keeper *keeper)
{
    struct ms_err err = {.status = MS_OK};
    struct log_state state;

    log_store_state(keeper->options.store, &state);
    if (snapshot_files_trim(keeper->options.files, state.first_index, &err) != MS_OK) {
        ms_log_err(MS_LOG_WARN, "cannot remove an old snapshot", &err);
    }
}

static void show(const struct keeper *keeper, const struct log_state *state)
{
    struct ms_metrics *metrics = keeper->options.metrics;

    if (metrics != NULL) {
        ms_metrics_set(metrics, MS_METRIC_SNAPSHOT_INDEX, state->snapshot_index);
        ms_metrics_set(metrics, MS_METRIC_LOG_FIRST_INDEX, state->first_index);
    }
}

bool keeper_pause(struct keeper *keeper)
{
    keeper->paused = true;
    snapshot_job_cancel(keeper->job);
    return !snapshot_job_busy(keeper->job);
}

void keeper_switch(struct keeper *keeper, struct engine *engine, const struct snapshot_file *file)
{
    struct ms_err err = {.status = MS_OK};
    struct log_state state;

    keeper->options.engine = engine;
    snapshot_job_switch(keeper->job, engine);
    if (snapshot_files_add(keeper->options.files, file, &err) != MS_OK) {
        ms_log_err(MS_LOG_WARN, "cannot remove an old snapshot", &err);
    }
    keeper->newest = *file;
    keeper->bytes_at_newest = applier_bytes(keeper->options.applier);
    keeper->paused = false;
    trim(keeper);
    log_store_state(keeper->options.store, &state);
    show(keeper, &state);
}

void keeper_log_full(struct keeper *keeper, bool full)
{
    keeper->log_full = full;
    keeper->not_before = (struct ms_instant){0};
}

void keeper_marked(struct keeper *keeper)
{
    struct ms_log_compacted compacted;
    struct log_state state;

    trim(keeper);
    log_store_state(keeper->options.store, &state);
    compacted = (struct ms_log_compacted){.first_index = state.first_index,
                                          .snapshot_index = state.snapshot_index,
                                          .snapshot_term = state.snapshot_term};
    applier_tell_compacted(keeper->options.applier, &compacted);
    show(keeper, &state);
}

/*
 * recovery: log first, then the engine on top of it.
 */
#include "storaged/recovery.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "storaged/fatal.h"
#include "storaged/rebuild.h"
#include "storaged/wal.h"

/* Data of replayed entries that is held at a time; a single larger entry makes it grow. */
#define REPLAY_BYTES (UINT64_C(1) << 20)

/* Entries on their way from the log to the engine. */
struct replay {
    struct log_store *store;
    uint8_t *data;
    size_t room;
    size_t used;
    struct apply_entry *entries; /* the reader's */
    size_t count;
    size_t count_max;
    bool failed; /* no memory */
};

static bool replay_visit(void *ctx, const struct log_entry *entry)
{
    struct replay *replay = ctx;

    if (replay->count == replay->count_max) {
        return false;
    }
    if (entry->data_bytes > replay->room - replay->used) {
        uint8_t *grown;

        if (replay->count > 0) {
            return false; /* it comes with the next read */
        }
        grown = realloc(replay->data, entry->data_bytes);
        if (grown == NULL) {
            replay->failed = true;
            return false;
        }
        replay->data = grown;
        replay->room = entry->data_bytes;
    }
    if (entry->data_bytes > 0) {
        memcpy(replay->data + replay->used, entry->data, entry->data_bytes);
    }
    replay->entries[replay->count++] = (struct apply_entry){
        .index = entry->index,
        .term = entry->term,
        .type = entry->type,
        .data = replay->data + replay->used,
        .len_bytes = entry->data_bytes,
    };
    replay->used += entry->data_bytes;
    return true;
}

static int replay_read(void *ctx, raft_index low, raft_index high, size_t max_bytes,
                       struct apply_entry *entries, size_t *count, struct ms_err *err)
{
    struct log_store_range range = {.low = low, .high = high, .max_bytes = max_bytes};
    struct replay *replay = ctx;
    int rc;

    replay->used = 0;
    replay->entries = entries;
    replay->count = 0;
    replay->count_max = *count;
    rc = log_store_entries(replay->store, &range, replay_visit, replay, err);
    if (rc == MS_OK && replay->failed) {
        rc = ms_err_set(err, MS_ENOMEM, 0, "memory to replay entry %" PRIu64, low);
    }
    if (rc == MS_OK) {
        *count = replay->count;
    }
    return rc;
}

static int replay_term(void *ctx, raft_index index, raft_term *out)
{
    const struct replay *replay = ctx;

    return log_store_term(replay->store, index, out, NULL);
}

static int replay_conf(void *ctx, raft_index index, uint8_t *dst, size_t *len_bytes)
{
    const struct replay *replay = ctx;
    raft_index found = 0;
    int rc =
        log_store_conf(replay->store, index, dst, MS_CONF_STATE_BYTES_MAX, len_bytes, &found, NULL);

    return rc == MS_OK && found != index ? MS_ENOENT : rc;
}

/* Up to where the log knows every configuration; 0 if none is recorded. */
static int newest_conf(struct replay *replay, raft_index last_index, raft_index *out,
                       struct ms_err *err)
{
    size_t len_bytes;
    int rc =
        log_store_conf(replay->store, last_index, replay->data, replay->room, &len_bytes, out, err);

    if (rc == MS_ENOENT) {
        *out = 0;
        return MS_OK;
    }
    return rc;
}

static void show_progress(void *ctx, raft_index applied, raft_index target)
{
    (void)ctx;
    ms_log(MS_LOG_INFO, "replaying the log", MS_F_U64("applied", applied),
           MS_F_U64("target", target));
}

/* ---- opening ------------------------------------------------------------------------------- */

/* Bytes too long for a path are refused, not cut. */
static int node_path(const struct ms_config *config, const char *name,
                     char path[MS_CONFIG_PATH_BYTES], struct ms_err *err)
{
    int len = snprintf(path, MS_CONFIG_PATH_BYTES, "%s/%s", config->node_dir, name);

    if (len < 0 || len >= MS_CONFIG_PATH_BYTES) {
        return ms_err_set(err, MS_EINVAL, 0, "the path %s/%s is too long", config->node_dir, name);
    }
    return MS_OK;
}

static int open_log(const struct recovery_options *options, struct recovered *out,
                    struct ms_err *err)
{
    char path[MS_CONFIG_PATH_BYTES];
    struct wal_options wal = {
        .directory = path,
        .segment_bytes = wal_segment_bytes_for(options->config->max_request_bytes),
        .verify_all = options->previous_end == MS_END_NONE,
    };
    struct wal_report report;
    int rc = node_path(options->config, "wal", path, err);

    if (rc == MS_OK) {
        rc = wal_open(&wal, &out->store, &report, err);
    }
    if (rc != MS_OK) {
        return rc;
    }
    if (report.tail_cut) {
        ms_log(MS_LOG_WARN, "cut a torn batch at the end of the log", MS_F_STR("dir", path),
               MS_F_STR("file", report.tail_file), MS_F_U64("offset", report.tail_offset));
    }
    ms_log(MS_LOG_DEBUG, "log opened", MS_F_U64("segments", report.segments),
           MS_F_U64("read_bytes", report.read_bytes),
           MS_F_STR("writes", report.direct ? "direct" : "synced"));
    return MS_OK;
}

static int open_memory(const struct recovery_options *options, struct recovered *out,
                       struct ms_err *err)
{
    const struct memory_dir_options memory = {
        .memory_dir = options->config->memory_dir,
        .node_dir = options->config->node_dir,
        .limit_bytes = options->config->memory_limit_bytes,
        .previous_end = options->previous_end,
    };
    int rc = memory_dir_open(&memory, &out->dir, err);

    if (rc == MS_OK && memory_dir_fallback(out->dir) != NULL) {
        ms_log(MS_LOG_WARN, "the memory engine's file lies below the data directory",
               MS_F_STR("memory_dir", options->config->memory_dir),
               MS_F_STR("reason", memory_dir_fallback(out->dir)));
    }
    if (rc == MS_OK) {
        rc = fatal_arm(memory_dir_marker_fd(out->dir), err);
    }
    return rc;
}

/* What was received comes first: the log may have made one of the node's own of it. */
static int open_snapshots(const struct recovery_options *options, struct recovered *out,
                          struct ms_err *err)
{
    char path[MS_CONFIG_PATH_BYTES];
    struct log_state state;
    int rc = node_path(options->config, "snap", path, err);

    log_store_state(out->store, &state);
    if (rc == MS_OK) {
        rc = received_files_open(path, state.snapshot_index, state.snapshot_term, &out->received,
                                 err);
    }
    if (rc == MS_OK) {
        rc = snapshot_files_open(path, &out->files, err);
    }
    return rc;
}

static int open_engine(const struct recovery_options *options, struct recovered *out,
                       struct rebuild_result *result, struct ms_err *err)
{
    struct replay replay = {.store = out->store};
    struct log_state state;
    struct rebuild_log log = {
        .term = replay_term, .read = replay_read, .conf = replay_conf, .ctx = &replay};
    const struct rebuild_options rebuild = {
        .dir = out->dir, .snapshots = out->files, .log = &log, .progress = show_progress};
    int rc;

    log_store_state(out->store, &state);
    log.first_index = state.first_index;
    log.last_index = state.last_index;
    log.snapshot_index = state.snapshot_index;
    log.snapshot_term = state.snapshot_term;
    log.commit_index = state.hard_state.commit;
    if (log.commit_index < state.snapshot_index) {
        log.commit_index = state.snapshot_index; /* it is of what was applied */
    }
    if (log.commit_index < options->commit && state.last_term == options->commit_term) {
        log.commit_index = options->commit;
    }
    replay.data = malloc(REPLAY_BYTES);
    if (replay.data == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory to replay the log");
    }
    replay.room = REPLAY_BYTES;
    rc = newest_conf(&replay, state.last_index, &log.conf_index, err);
    if (rc == MS_OK) {
        /* A configuration is recorded when its change is committed. */
        if (log.commit_index < log.conf_index) {
            log.commit_index = log.conf_index;
        }
        rc = rebuild_open(&rebuild, result, err);
    }
    free(replay.data);
    if (rc == MS_OK) {
        out->engine = result->engine;
        out->apply = result->apply;
        out->kept = result->kept;
    }
    return rc;
}

/*
 * A log that was lost as a whole looks like one that was never written. To go on with it would be
 * to forget what was acknowledged, and, in a cluster, votes.
 */
static int check_log_is_there(const struct recovery_options *options,
                              const struct recovered *recovered, struct ms_err *err)
{
    struct log_state state;

    log_store_state(recovered->store, &state);
    if (!options->data_was_used || state.last_index > 0 || state.snapshot_index > 0) {
        return MS_OK;
    }
    return ms_err_set(
        err, MS_ECORRUPT, 0,
        "data dir %s was in use, but its log is empty: put the files of the log back, "
        "or move the whole directory away to start without any data",
        options->config->node_dir);
}

int recovery_open(const struct recovery_options *options, struct recovered *out, struct ms_err *err)
{
    struct ms_instant begin = ms_clock_now();
    struct recovered recovered = {0};
    struct rebuild_result result = {0};
    struct ms_memdb_meta meta;
    struct log_state state;
    int rc = open_log(options, &recovered, err);

    if (rc == MS_OK) {
        rc = check_log_is_there(options, &recovered, err);
    }
    if (rc == MS_OK) {
        rc = open_memory(options, &recovered, err);
    }
    if (rc == MS_OK) {
        rc = open_snapshots(options, &recovered, err);
    }
    if (rc == MS_OK) {
        rc = open_engine(options, &recovered, &result, err);
    }
    if (rc != MS_OK) {
        recovery_close(&recovered, false);
        return rc;
    }
    if (result.skipped.status != MS_OK) {
        ms_log_err(MS_LOG_WARN, "a damaged snapshot was not needed", &result.skipped);
    }
    log_store_state(recovered.store, &state);
    engine_meta(recovered.engine, &meta);
    ms_log(MS_LOG_INFO, "storage recovered",
           MS_F_STR("engine", recovered.kept ? "kept" : "rebuilt"),
           MS_F_STR("reason", recovered.kept ? NULL : result.distrust),
           MS_F_U64("snapshot_index", state.snapshot_index), MS_F_U64("replayed", result.entries),
           MS_F_U64("applied", meta.applied), MS_F_U64("first_index", state.first_index),
           MS_F_U64("last_index", state.last_index),
           MS_F_U64("duration_ms", ms_clock_elapsed_ms(begin, ms_clock_now())));
    *out = recovered;
    return MS_OK;
}

void recovery_close(struct recovered *recovered, bool remove_memory)
{
    apply_destroy(recovered->apply);
    engine_close(recovered->engine);
    if (recovered->files != NULL) {
        snapshot_files_close(recovered->files);
    }
    received_files_close(recovered->received);
    if (remove_memory && recovered->dir != NULL) {
        memory_dir_remove_and_close(recovered->dir);
    } else {
        memory_dir_close(recovered->dir);
    }
    log_store_destroy(recovered->store);
    memset(recovered, 0, sizeof(*recovered));
}

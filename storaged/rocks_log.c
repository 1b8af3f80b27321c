/*
 * rocks_log: staging into a batch, marks, opening.
 */
#include "storaged/rocks_log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "storaged/rocks_log_private.h"

/* What the library adds to a record in a batch, at most. */
#define RECORD_OVERHEAD_BYTES 32

#define CACHE_BYTES        (UINT64_C(8) << 20)
#define WRITE_BUFFER_BYTES (UINT64_C(32) << 20)

#define BATCH_BYTES_DEFAULT (UINT64_C(4) << 20)
#define REQUESTS_PER_BATCH  4

/* A full disk is looked at so often. */
#define RETRY_MS 100

static const struct rocks_family families[] = {{.name = "raft-log"}};

/* ---- writing ------------------------------------------------------------------------------- */

static void unstage(struct rocks_log *log)
{
    rocks_batch_clear(log->batch);
    log->batch_bytes = 0;
    log->staged_entries = 0;
    log->staged_lowest = 0;
    log->staged = log->durable; /* written by this thread alone: no lock to read it */
}

static int check_usable(const struct rocks_log *log, struct ms_err *err)
{
    return log->broken ? ms_err_set(err, MS_EIO, 0, "a write to the log failed before") : MS_OK;
}

static void put_state(struct rocks_batch *batch, const struct rocks_log_extent *extent)
{
    static const uint8_t name = ROCKS_LOG_KEY_STATE;
    uint8_t value[ROCKS_LOG_STATE_BYTES];
    const struct rocks_piece piece = {value, sizeof(value)};

    rocks_log_encode(extent, value);
    rocks_batch_put(batch, ROCKS_LOG_FAMILY, &name, sizeof(name), &piece, 1);
}

static void put_conf(struct rocks_batch *batch, raft_index index, const uint8_t *conf,
                     size_t conf_bytes)
{
    const struct rocks_piece piece = {conf, conf_bytes};
    uint8_t key[ROCKS_LOG_KEY_BYTES];

    rocks_log_put_key(key, ROCKS_LOG_KEY_CONF, index);
    rocks_batch_put(batch, ROCKS_LOG_FAMILY, key, sizeof(key), &piece, 1);
}

/* Removes the records of one kind with low <= index < high. */
static void remove_range(struct rocks_batch *batch, uint8_t kind, raft_index low, raft_index high)
{
    uint8_t from[ROCKS_LOG_KEY_BYTES];
    uint8_t to[ROCKS_LOG_KEY_BYTES];

    if (low >= high) {
        return;
    }
    rocks_log_put_key(from, kind, low);
    rocks_log_put_key(to, kind, high);
    if (high - low == 1) {
        rocks_batch_remove(batch, ROCKS_LOG_FAMILY, from, sizeof(from));
    } else {
        rocks_batch_remove_range(batch, ROCKS_LOG_FAMILY, from, sizeof(from), to, sizeof(to));
    }
}

/* Asks to be called again in a while, for the disk says nothing when it has room again. */
static void arm_retry(const struct rocks_log *log)
{
    const struct itimerspec once = {.it_value = {.tv_nsec = RETRY_MS * 1000000L}};

    (void)timerfd_settime(log->retry_fd, 0, &once, NULL);
}

/*
 * Whether the file system has room for so many bytes besides what must be left. The library would
 * find out too late: after a write of it failed, nothing can be written before it is opened anew.
 */
static int check_space(const struct rocks_log *log, uint64_t bytes, struct ms_err *err)
{
    uint64_t available = 0;
    int rc = rocks_free_bytes(log->db, &available, err);

    if (rc != MS_OK) {
        return rc;
    }
    if (available >= bytes) {
        return MS_OK;
    }
    arm_retry(log);
    return ms_err_set(err, MS_EAGAIN, ENOSPC, "%s: %" PRIu64 " bytes free, %" PRIu64 " wanted",
                      rocks_directory(log->db), available, bytes);
}

/* Writes a batch that leads to a state; the caller has put all but the state into it. */
static int write_batch(struct rocks_log *log, struct rocks_batch *batch,
                       const struct rocks_log_extent *after, uint64_t reserve_bytes,
                       struct ms_err *err)
{
    int rc = check_space(log, rocks_batch_bytes(batch) + reserve_bytes, err);

    if (rc != MS_OK) {
        return rc;
    }
    put_state(batch, after);
    rc = rocks_write(log->db, batch, err);
    if (rc != MS_OK) {
        log->broken = true;
        return MS_EIO;
    }
    log->stats.syncs++;
    log->stats.written_bytes += rocks_batch_bytes(batch);
    (void)pthread_mutex_lock(&log->lock);
    log->durable = *after;
    (void)pthread_mutex_unlock(&log->lock);
    return MS_OK;
}

static int rocks_log_sync(struct log_store *store, struct ms_err *err)
{
    struct rocks_log *log = (struct rocks_log *)store;
    int rc = check_usable(log, err);

    if (rc != MS_OK || log->batch_bytes == 0) {
        return rc;
    }
    rc = write_batch(log, log->batch, &log->staged, log->reserve_bytes / 2, err);
    if (rc == MS_OK) {
        log->stats.entries += log->staged_entries;
        unstage(log);
    }
    return rc;
}

static int check_room(const struct rocks_log *log, size_t bytes, struct ms_err *err)
{
    if (bytes > log->batch_room) {
        return ms_err_set(err, MS_ERANGE, 0, "%zu bytes do not fit into a batch of %zu", bytes,
                          log->batch_room);
    }
    return bytes > log->batch_room - log->batch_bytes
               ? ms_err_set(err, MS_EAGAIN, 0, "the batch is full")
               : MS_OK;
}

/* Drops entries that a snapshot covers, and finds out how many bytes the others take. */
static int check_entries(const struct rocks_log *log, const struct log_entry **entries,
                         size_t *count, size_t *bytes, struct ms_err *err)
{
    const struct log_state *state = &log->staged.state;
    const struct log_entry *first = *entries;
    size_t n = *count;

    for (size_t i = 1; i < n; i++) {
        if (first[i].index != first[0].index + i) {
            return ms_err_set(err, MS_EINVAL, 0, "entry %" PRIu64 " follows entry %" PRIu64,
                              first[i].index, first[i - 1].index);
        }
    }
    while (n > 0 && first->index <= state->snapshot_index) {
        first++;
        n--;
    }
    if (n > 0 && (first->index < state->first_index || first->index > state->last_index + 1)) {
        return ms_err_set(err, MS_EINVAL, 0,
                          "entry %" PRIu64 " does not follow a log of %" PRIu64 " to %" PRIu64,
                          first->index, state->first_index, state->last_index);
    }
    for (size_t i = 0; i < n; i++) {
        *bytes += RECORD_OVERHEAD_BYTES + ROCKS_LOG_ENTRY_HEADER_BYTES + first[i].data_bytes;
    }
    *entries = first;
    *count = n;
    return MS_OK;
}

static void stage_entries(struct rocks_log *log, const struct log_entry *entries, size_t count)
{
    struct log_state *state = &log->staged.state;
    raft_index first = entries[0].index;

    if (first <= state->last_index) {
        state->cuts++;
        remove_range(log->batch, ROCKS_LOG_KEY_ENTRY, first, state->last_index + 1);
    }
    if (first <= log->staged.highest_conf) {
        remove_range(log->batch, ROCKS_LOG_KEY_CONF, first, log->staged.highest_conf + 1);
        log->staged.highest_conf = first - 1;
    }
    for (size_t i = 0; i < count; i++) {
        uint8_t header[ROCKS_LOG_ENTRY_HEADER_BYTES];
        const struct rocks_piece pieces[] = {{header, sizeof(header)},
                                             {entries[i].data, entries[i].data_bytes}};
        uint8_t key[ROCKS_LOG_KEY_BYTES];

        ms_le_put_u64(header, entries[i].term);
        ms_le_put_u32(header + 8, entries[i].type);
        rocks_log_put_key(key, ROCKS_LOG_KEY_ENTRY, entries[i].index);
        rocks_batch_put(log->batch, ROCKS_LOG_FAMILY, key, sizeof(key), pieces, 2);
    }
    state->last_index = entries[count - 1].index;
    state->last_term = entries[count - 1].term;
    log->staged_entries += count;
    if (log->staged_lowest == 0 || first < log->staged_lowest) {
        log->staged_lowest = first;
    }
}

static int rocks_log_append(struct log_store *store, const struct log_entry *entries, size_t count,
                            const struct ms_hard_state *hard_state, struct ms_err *err)
{
    struct rocks_log *log = (struct rocks_log *)store;
    size_t bytes = hard_state != NULL ? ROCKS_LOG_STATE_BYTES : 0;
    int rc = check_usable(log, err);

    if (rc == MS_OK) {
        rc = check_entries(log, &entries, &count, &bytes, err);
    }
    if (rc == MS_OK) {
        rc = check_room(log, bytes, err);
    }
    if (rc != MS_OK) {
        return rc;
    }
    if (count > 0) {
        stage_entries(log, entries, count);
    }
    if (hard_state != NULL) {
        log->staged.state.hard_state = *hard_state;
    }
    log->batch_bytes += bytes;
    return MS_OK;
}

static int rocks_log_put_conf(struct log_store *store, raft_index index, const uint8_t *conf,
                              size_t conf_bytes, struct ms_err *err)
{
    struct rocks_log *log = (struct rocks_log *)store;
    size_t bytes = RECORD_OVERHEAD_BYTES + conf_bytes;
    int rc = check_usable(log, err);

    if (rc == MS_OK && conf_bytes > LOG_STORE_CONF_BYTES_MAX) {
        rc = ms_err_set(err, MS_ERANGE, 0, "a configuration of %zu bytes", conf_bytes);
    }
    if (rc == MS_OK) {
        rc = check_room(log, bytes, err);
    }
    if (rc != MS_OK) {
        return rc;
    }
    put_conf(log->batch, index, conf, conf_bytes);
    if (index > log->staged.highest_conf) {
        log->staged.highest_conf = index;
    }
    log->batch_bytes += bytes;
    return MS_OK;
}

/* ---- marks --------------------------------------------------------------------------------- */

/* Writes the batch of a mark. What is staged comes after it and runs ahead in its entries only. */
static int write_mark(struct rocks_log *log, const struct rocks_log_extent *after,
                      struct ms_err *err)
{
    /* A mark may be what makes room: it is not held to the reserve. */
    int rc = write_batch(log, log->mark, after, 0, err);

    rocks_batch_clear(log->mark);
    if (rc != MS_OK) {
        return rc;
    }
    if (log->batch_bytes == 0) {
        log->staged = log->durable;
    } else {
        log->staged.state.first_index = after->state.first_index;
        log->staged.state.compacted_term = after->state.compacted_term;
        log->staged.state.snapshot_index = after->state.snapshot_index;
        log->staged.state.snapshot_term = after->state.snapshot_term;
    }
    return MS_OK;
}

/* Whether the log holds the entry with that term, or begins right behind it. */
static int holds(struct rocks_log *log, raft_index index, raft_term term, bool *out,
                 struct ms_err *err)
{
    raft_term held = 0;
    int rc = rocks_log_term(&log->base, index, &held, err);

    if (rc == MS_EUNAVAILABLE || rc == MS_ECOMPACTED) {
        *out = false;
        return MS_OK;
    }
    *out = rc == MS_OK && held == term;
    return rc;
}

static int check_snapshot(const struct rocks_log *log, raft_index index, struct ms_err *err)
{
    int rc = check_usable(log, err);

    if (rc == MS_OK && index < log->durable.state.snapshot_index) {
        rc = ms_err_set(err, MS_EINVAL, 0, "snapshot %" PRIu64 " is older than %" PRIu64, index,
                        log->durable.state.snapshot_index);
    }
    return rc;
}

static int rocks_log_set_snapshot(struct log_store *store, raft_index index, raft_term term,
                                  struct ms_err *err)
{
    struct rocks_log *log = (struct rocks_log *)store;
    struct rocks_log_extent after = log->durable;
    bool held = false;
    int rc = check_snapshot(log, index, err);

    if (rc == MS_OK) {
        rc = holds(log, index, term, &held, err);
    }
    if (rc == MS_OK && !held) {
        rc = ms_err_set(err, MS_EINVAL, 0, "a snapshot of entry %" PRIu64 ", which is not here",
                        index);
    }
    after.state.snapshot_index = index;
    after.state.snapshot_term = term;
    return rc == MS_OK ? write_mark(log, &after, err) : rc;
}

static int rocks_log_install(struct log_store *store, const struct log_store_install *install,
                             struct ms_err *err)
{
    struct rocks_log *log = (struct rocks_log *)store;
    struct rocks_log_extent after = log->durable;
    struct log_state *state = &after.state;
    bool held = false;
    int rc = check_snapshot(log, install->index, err);

    if (rc == MS_OK && log->batch_bytes > 0) {
        rc = ms_err_set(err, MS_EBUSY, 0, "entries are staged for a log that is to start anew");
    }
    if (rc == MS_OK && (install->conf_bytes > LOG_STORE_CONF_BYTES_MAX ||
                        install->conf_bytes > log->batch_room / 2)) {
        rc = ms_err_set(err, MS_ERANGE, 0, "a configuration of %zu bytes", install->conf_bytes);
    }
    if (rc == MS_OK) {
        rc = holds(log, install->index, install->term, &held, err);
    }
    if (rc != MS_OK) {
        return rc;
    }
    if (!held) {
        state->cuts++;
        state->first_index = install->index + 1;
        state->last_index = install->index;
        state->last_term = install->term;
        state->compacted_term = install->term;
    }
    state->snapshot_index = install->index;
    state->snapshot_term = install->term;
    state->hard_state = install->hard_state;
    if (state->hard_state.commit > state->last_index) {
        return ms_err_set(err, MS_EINVAL, 0, "commit index %" PRIu64 " with a snapshot at %" PRIu64,
                          install->hard_state.commit, install->index);
    }
    if (!held) {
        remove_range(log->mark, ROCKS_LOG_KEY_ENTRY, log->durable.state.first_index,
                     log->durable.state.last_index + 1);
        remove_range(log->mark, ROCKS_LOG_KEY_CONF, 0, log->durable.highest_conf + 1);
        after.highest_conf = 0;
    }
    put_conf(log->mark, install->index, install->conf, install->conf_bytes);
    if (install->index > after.highest_conf) {
        after.highest_conf = install->index;
    }
    return write_mark(log, &after, err);
}

static int rocks_log_compact(struct log_store *store, raft_index index, struct ms_err *err)
{
    struct rocks_log *log = (struct rocks_log *)store;
    struct rocks_log_extent after = log->durable;
    struct log_state *state = &after.state;
    int rc = check_usable(log, err);

    if (rc != MS_OK || index < state->first_index) {
        return rc;
    }
    if (index > state->snapshot_index || index > state->last_index ||
        (log->staged_lowest != 0 && log->staged_lowest <= index)) {
        return ms_err_set(err, MS_EINVAL, 0,
                          "compacting to %" PRIu64 " with a snapshot at %" PRIu64
                          " and a log to %" PRIu64,
                          index, state->snapshot_index, state->last_index);
    }
    rc = rocks_log_term(store, index, &state->compacted_term, err);
    if (rc != MS_OK) {
        return rc;
    }
    remove_range(log->mark, ROCKS_LOG_KEY_ENTRY, state->first_index, index + 1);
    remove_range(log->mark, ROCKS_LOG_KEY_CONF, state->first_index - 1, index);
    state->first_index = index + 1;
    return write_mark(log, &after, err);
}

/* ---- the rest ------------------------------------------------------------------------------ */

static int rocks_log_event_fd(const struct log_store *store)
{
    return ((const struct rocks_log *)store)->retry_fd;
}

static bool rocks_log_is_full(struct log_store *store, struct ms_err *why)
{
    return check_space((const struct rocks_log *)store,
                       ((const struct rocks_log *)store)->reserve_bytes, why) != MS_OK;
}

static void rocks_log_service(struct log_store *store)
{
    struct rocks_log *log = (struct rocks_log *)store;
    uint64_t count;

    (void)!read(log->retry_fd, &count, sizeof(count)); /* EAGAIN: it was silent */
    (void)rocks_log_is_full(store, NULL);              /* then the timer runs again */
}

static void rocks_log_stats(const struct log_store *store, struct log_store_stats *out)
{
    *out = ((const struct rocks_log *)store)->stats;
}

static void rocks_log_destroy(struct log_store *store)
{
    struct rocks_log *log = (struct rocks_log *)store;

    rocks_batch_destroy(log->mark);
    rocks_batch_destroy(log->batch);
    rocks_close(log->db);
    if (log->retry_fd >= 0) {
        (void)close(log->retry_fd);
    }
    (void)pthread_mutex_destroy(&log->lock);
    free(log);
}

static const struct log_store_ops rocks_log_ops = {
    .destroy = rocks_log_destroy,
    .append = rocks_log_append,
    .put_conf = rocks_log_put_conf,
    .sync = rocks_log_sync,
    .set_snapshot = rocks_log_set_snapshot,
    .install = rocks_log_install,
    .compact = rocks_log_compact,
    .event_fd = rocks_log_event_fd,
    .service = rocks_log_service,
    .is_full = rocks_log_is_full,
    .stats = rocks_log_stats,
    .state = rocks_log_state,
    .term = rocks_log_term,
    .entries = rocks_log_entries,
    .conf = rocks_log_conf,
    .disk_bytes = rocks_log_disk_bytes,
};

size_t rocks_log_batch_bytes_for(uint64_t max_request_bytes)
{
    uint64_t bytes = REQUESTS_PER_BATCH * max_request_bytes;

    return bytes > BATCH_BYTES_DEFAULT ? bytes : BATCH_BYTES_DEFAULT;
}

int rocks_log_open(const struct rocks_log_options *options, struct log_store **out,
                   struct ms_err *err)
{
    const struct rocks_options database = {
        .directory = options->directory,
        .families = families,
        .family_count = sizeof(families) / sizeof(families[0]),
        .durability = ROCKS_SYNCED_WRITES,
        .tuning = {.cache_bytes = CACHE_BYTES,
                   .write_buffer_bytes = WRITE_BUFFER_BYTES,
                   .background_jobs = options->background_jobs},
    };
    struct rocks_log *log = calloc(1, sizeof(*log));
    int rc;

    assert(options->batch_bytes >= ROCKS_LOG_BATCH_BYTES_MIN);
    if (log == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for the log");
    }
    log->base.ops = &rocks_log_ops;
    log->batch_room = options->batch_bytes;
    log->reserve_bytes = options->reserve_bytes;
    (void)pthread_mutex_init(&log->lock, NULL);
    log->retry_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (log->retry_fd < 0) {
        rc = ms_err_set(err, MS_EIO, errno, "a timer for the log");
        goto out;
    }
    rc = rocks_open(&database, &log->db, err);
    if (rc == MS_OK) {
        rc = rocks_batch_create(log->db, &log->batch, err);
    }
    if (rc == MS_OK) {
        rc = rocks_batch_create(log->db, &log->mark, err);
    }
    if (rc == MS_OK) {
        rc = rocks_log_load(log, &log->durable, err);
    }
    if (rc == MS_OK) {
        log->staged = log->durable;
        *out = &log->base;
        log = NULL;
    }

out:
    if (log != NULL) {
        rocks_log_destroy(&log->base);
    }
    return rc;
}

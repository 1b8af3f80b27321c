/*
 * rocks_log_read: looks at the log, each time with one iterator, so that no answer mixes two
 * states.
 */
#include <endian.h>
#include <inttypes.h>
#include <string.h>

#include "storaged/rocks_log_private.h"

/* One consistent look at the database. */
struct look {
    struct rocks_iter *iter;
    struct rocks_log_extent extent;
};

/* ---- records ------------------------------------------------------------------------------- */

void rocks_log_put_key(uint8_t dst[ROCKS_LOG_KEY_BYTES], uint8_t kind, raft_index index)
{
    uint64_t ordered = htobe64(index);

    dst[0] = kind;
    memcpy(dst + 1, &ordered, sizeof(ordered));
}

/* The index in a key of this kind; false: it is of another kind. */
static bool get_key(const uint8_t *key, size_t key_bytes, uint8_t kind, raft_index *index)
{
    uint64_t ordered;

    if (key_bytes != ROCKS_LOG_KEY_BYTES || key[0] != kind) {
        return false;
    }
    memcpy(&ordered, key + 1, sizeof(ordered));
    *index = be64toh(ordered);
    return true;
}

void rocks_log_encode(const struct rocks_log_extent *extent, uint8_t dst[ROCKS_LOG_STATE_BYTES])
{
    const struct log_state *state = &extent->state;
    const uint64_t numbers[] = {
        state->hard_state.term, state->hard_state.vote, state->hard_state.commit,
        state->first_index,     state->last_index,      state->last_term,
        state->compacted_term,  state->snapshot_index,  state->snapshot_term,
        extent->highest_conf,
    };

    ms_le_put_u32(dst, ROCKS_LOG_STATE_FORMAT);
    ms_le_put_u32(dst + 4, 0);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        ms_le_put_u64(dst + 8 + 8 * i, numbers[i]);
    }
}

static int decode_extent(const uint8_t *src, size_t bytes, struct rocks_log_extent *out)
{
    struct log_state *state = &out->state;

    if (bytes != ROCKS_LOG_STATE_BYTES || ms_le_get_u32(src) != ROCKS_LOG_STATE_FORMAT) {
        return MS_ECORRUPT;
    }
    *out = (struct rocks_log_extent){0};
    state->hard_state.term = ms_le_get_u64(src + 8);
    state->hard_state.vote = ms_le_get_u64(src + 16);
    state->hard_state.commit = ms_le_get_u64(src + 24);
    state->first_index = ms_le_get_u64(src + 32);
    state->last_index = ms_le_get_u64(src + 40);
    state->last_term = ms_le_get_u64(src + 48);
    state->compacted_term = ms_le_get_u64(src + 56);
    state->snapshot_index = ms_le_get_u64(src + 64);
    state->snapshot_term = ms_le_get_u64(src + 72);
    out->highest_conf = ms_le_get_u64(src + 80);
    return state->first_index == 0 || state->last_index + 1 < state->first_index ? MS_ECORRUPT
                                                                                 : MS_OK;
}

/* ---- looking ------------------------------------------------------------------------------- */

static void look_end(struct look *look)
{
    rocks_iter_destroy(look->iter);
    look->iter = NULL;
}

static int look_begin(const struct rocks_log *log, struct look *look, struct ms_err *err)
{
    static const uint8_t name = ROCKS_LOG_KEY_STATE;
    const struct rocks_iter_options options = {.family = ROCKS_LOG_FAMILY};
    size_t bytes = 0;
    int rc;

    look->iter = rocks_iter_create(log->db, &options);
    if (look->iter == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory to read the log");
    }
    if (rocks_iter_seek(look->iter, &name, sizeof(name))) {
        const uint8_t *value = rocks_iter_value(look->iter, &bytes);

        rc = decode_extent(value, bytes, &look->extent);
        if (rc != MS_OK) {
            (void)ms_err_set(err, rc, 0, "%s: the record of the log's state does not hold",
                             rocks_directory(log->db));
        }
    } else {
        rc = rocks_iter_status(look->iter, err);
        look->extent =
            (struct rocks_log_extent){.state = {.first_index = 1}}; /* nothing was ever written */
    }
    if (rc != MS_OK) {
        look_end(look);
    }
    return rc;
}

/* The entry that the iterator stands on has to be the one at index. */
static int look_entry(const struct rocks_log *log, const struct look *look, bool stands,
                      raft_index index, struct log_entry *out, struct ms_err *err)
{
    raft_index found = 0;
    const uint8_t *data;
    size_t bytes = 0;
    int rc;

    if (!stands) {
        rc = rocks_iter_status(look->iter, err);
        return rc != MS_OK ? rc
                           : ms_err_set(err, MS_ECORRUPT, 0, "%s: entry %" PRIu64 " is missing",
                                        rocks_directory(log->db), index);
    }
    data = rocks_iter_key(look->iter, &bytes);
    if (!get_key(data, bytes, ROCKS_LOG_KEY_ENTRY, &found) || found != index) {
        return ms_err_set(err, MS_ECORRUPT, 0, "%s: entry %" PRIu64 " is missing",
                          rocks_directory(log->db), index);
    }
    data = rocks_iter_value(look->iter, &bytes);
    if (bytes < ROCKS_LOG_ENTRY_HEADER_BYTES || bytes - ROCKS_LOG_ENTRY_HEADER_BYTES > UINT32_MAX) {
        return ms_err_set(err, MS_ECORRUPT, 0, "%s: entry %" PRIu64 " has %zu bytes",
                          rocks_directory(log->db), index, bytes);
    }
    *out = (struct log_entry){
        .term = ms_le_get_u64(data),
        .index = index,
        .type = ms_le_get_u32(data + 8),
        .data = data + ROCKS_LOG_ENTRY_HEADER_BYTES,
        .data_bytes = (uint32_t)(bytes - ROCKS_LOG_ENTRY_HEADER_BYTES),
    };
    return MS_OK;
}

static int look_at(const struct rocks_log *log, const struct look *look, raft_index index,
                   struct log_entry *out, struct ms_err *err)
{
    uint8_t key[ROCKS_LOG_KEY_BYTES];

    rocks_log_put_key(key, ROCKS_LOG_KEY_ENTRY, index);
    return look_entry(log, look, rocks_iter_seek(look->iter, key, sizeof(key)), index, out, err);
}

static int check_low(const struct log_state *state, raft_index index, raft_index lowest,
                     struct ms_err *err)
{
    return index < lowest ? ms_err_set(err, MS_ECOMPACTED, 0,
                                       "entry %" PRIu64 " is compacted, the first is %" PRIu64,
                                       index, state->first_index)
                          : MS_OK;
}

static int check_high(const struct log_state *state, raft_index index, struct ms_err *err)
{
    return index > state->last_index ? ms_err_set(err, MS_EUNAVAILABLE, 0,
                                                  "entry %" PRIu64 " is beyond the last, %" PRIu64,
                                                  index, state->last_index)
                                     : MS_OK;
}

/* The term at index as one look sees it. */
static int look_term(const struct rocks_log *log, const struct look *look, raft_index index,
                     raft_term *out, struct ms_err *err)
{
    const struct log_state *state = &look->extent.state;
    struct log_entry entry;
    int rc = check_low(state, index, state->first_index - 1, err);

    if (rc == MS_OK) {
        rc = check_high(state, index, err);
    }
    if (rc == MS_OK && index + 1 == state->first_index) {
        *out = state->compacted_term;
        return MS_OK;
    }
    if (rc == MS_OK) {
        rc = look_at(log, look, index, &entry, err);
    }
    if (rc == MS_OK) {
        *out = entry.term;
    }
    return rc;
}

int rocks_log_load(const struct rocks_log *log, struct rocks_log_extent *out, struct ms_err *err)
{
    const struct log_state *state;
    struct log_entry entry;
    struct look look;
    int rc = look_begin(log, &look, err);

    if (rc != MS_OK) {
        return rc;
    }
    state = &look.extent.state;
    if (state->first_index <= state->last_index) {
        rc = look_at(log, &look, state->first_index, &entry, err);
        if (rc == MS_OK) {
            rc = look_at(log, &look, state->last_index, &entry, err);
        }
        if (rc == MS_OK && entry.term != state->last_term) {
            rc = ms_err_set(err, MS_ECORRUPT, 0,
                            "%s: entry %" PRIu64 " has term %" PRIu64 " instead of %" PRIu64,
                            rocks_directory(log->db), state->last_index, entry.term,
                            state->last_term);
        }
    }
    if (rc == MS_OK) {
        *out = look.extent;
    }
    look_end(&look);
    return rc;
}

int rocks_log_term(struct log_store *store, raft_index index, raft_term *out, struct ms_err *err)
{
    const struct rocks_log *log = (const struct rocks_log *)store;
    struct look look;
    int rc = look_begin(log, &look, err);

    if (rc == MS_OK) {
        rc = look_term(log, &look, index, out, err);
        look_end(&look);
    }
    return rc;
}

int rocks_log_entries(struct log_store *store, const struct log_store_range *range,
                      log_store_visit visit, void *ctx, struct ms_err *err)
{
    const struct rocks_log *log = (const struct rocks_log *)store;
    struct log_entry entry;
    struct look look;
    uint64_t bytes = 0;
    int rc = look_begin(log, &look, err);

    if (rc != MS_OK) {
        return rc;
    }
    rc = check_low(&look.extent.state, range->low, look.extent.state.first_index, err);
    if (rc == MS_OK && range->high > 0) {
        rc = check_high(&look.extent.state, range->high - 1, err);
    }
    for (raft_index index = range->low; rc == MS_OK && index < range->high; index++) {
        rc = index == range->low
                 ? look_at(log, &look, index, &entry, err)
                 : look_entry(log, &look, rocks_iter_next(look.iter), index, &entry, err);
        if (rc != MS_OK) {
            break;
        }
        bytes += entry.data_bytes;
        if ((index > range->low && bytes > range->max_bytes) || !visit(ctx, &entry)) {
            break;
        }
    }
    look_end(&look);
    return rc;
}

int rocks_log_conf(struct log_store *store, raft_index index, uint8_t *dst, size_t dst_bytes,
                   size_t *conf_bytes, raft_index *conf_index, struct ms_err *err)
{
    const struct rocks_log *log = (const struct rocks_log *)store;
    uint8_t key[ROCKS_LOG_KEY_BYTES];
    struct look look;
    raft_index best = 0;
    bool stands;
    int rc = look_begin(log, &look, err);

    if (rc != MS_OK) {
        return rc;
    }
    /* There are few of them, and compaction removes those of the past. */
    rocks_log_put_key(key, ROCKS_LOG_KEY_CONF, look.extent.state.first_index - 1);
    rc = MS_ENOENT;
    for (stands = rocks_iter_seek(look.iter, key, sizeof(key)); stands;
         stands = rocks_iter_next(look.iter)) {
        size_t bytes = 0;
        const uint8_t *found = rocks_iter_key(look.iter, &bytes);

        if (!get_key(found, bytes, ROCKS_LOG_KEY_CONF, &best) || best > index) {
            break;
        }
        found = rocks_iter_value(look.iter, &bytes);
        rc = bytes <= dst_bytes
                 ? MS_OK
                 : ms_err_set(err, MS_ERANGE, 0, "a configuration of %zu bytes", bytes);
        if (rc == MS_OK) {
            memcpy(dst, found, bytes);
            *conf_bytes = bytes;
            *conf_index = best;
        }
    }
    if (!stands && rocks_iter_status(look.iter, err) != MS_OK) {
        rc = rocks_iter_status(look.iter, err);
    }
    look_end(&look);
    return rc;
}

void rocks_log_state(struct log_store *store, struct log_state *out)
{
    struct rocks_log *log = (struct rocks_log *)store;

    (void)pthread_mutex_lock(&log->lock);
    *out = log->durable.state;
    (void)pthread_mutex_unlock(&log->lock);
}

/* Entries are taken to be of one size: the library can tell no better while they are in memory. */
uint64_t rocks_log_disk_bytes(struct log_store *store, raft_index index)
{
    struct rocks_log *log = (struct rocks_log *)store;
    struct rocks_stats stats;
    struct log_state state;
    double share;

    rocks_log_state(store, &state);
    if (index >= state.last_index) {
        return 0;
    }
    if (index < state.first_index) {
        index = state.first_index - 1;
    }
    rocks_stats(log->db, &stats);
    share = (double)(state.last_index - index) / (double)(state.last_index - state.first_index + 1);
    return (uint64_t)((double)(stats.file_bytes + stats.write_buffer_bytes) * share);
}

/*
 * log_store: where the Raft log and what belongs to it survive: entries, hard state,
 * configurations, snapshot metadata.
 *
 * An interface with one conformance suite that every implementation runs. It keeps and returns; it
 * never decides what may be appended or compacted, that is Raft's business.
 *
 * Threads: one thread writes (append, put_conf, sync, set_snapshot, install, compact, service). The
 * reading calls (state, term, entries, conf, disk_bytes) may come from any thread at any time, see
 * only what is durable, and never wait for a write or a sync.
 */
#ifndef METASTORE_STORAGED_LOG_STORE_H
#define METASTORE_STORAGED_LOG_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/ipc_catalogue.h"
#include "common/types.h"

struct log_store;

struct log_entry {
    raft_term term;
    raft_index index;
    uint32_t type; /* enum ms_entry_type */
    uint32_t data_bytes;
    const uint8_t *data; /* borrowed for the length of the call it is passed to */
};

/* What is durable. An empty log has last_index == first_index - 1. */
struct log_state {
    struct ms_hard_state hard_state;
    raft_index first_index;
    raft_index last_index;
    raft_term last_term;      /* of last_index; 0 on a log that never had an entry */
    raft_term compacted_term; /* of first_index - 1 */
    raft_index snapshot_index;
    raft_term snapshot_term;
    /* Changes whenever entries were discarded from the end; not kept over an opening. What was read
     * in several steps is of one log if this is the same before and after. */
    uint64_t cuts;
};

/* A snapshot that came from elsewhere and what goes with it. */
struct log_store_install {
    raft_index index;
    raft_term term;
    struct ms_hard_state hard_state;
    const uint8_t *conf; /* as of index */
    size_t conf_bytes;
};

/* Counters since the store was opened; written by the writing thread, read by it. */
struct log_store_stats {
    uint64_t written_bytes; /* with padding */
    uint64_t syncs;
    uint64_t entries;
};

struct log_store_range {
    raft_index low;     /* first index wanted */
    raft_index high;    /* first index not wanted */
    uint64_t max_bytes; /* of data; the first entry comes whatever its size */
};

/* Gets one entry, borrowed until it returns; false ends the walk. */
typedef bool (*log_store_visit)(void *ctx, const struct log_entry *entry);

struct log_store_ops {
    void (*destroy)(struct log_store *store);
    int (*append)(struct log_store *store, const struct log_entry *entries, size_t count,
                  const struct ms_hard_state *hard_state, struct ms_err *err);
    int (*put_conf)(struct log_store *store, raft_index index, const uint8_t *conf,
                    size_t conf_bytes, struct ms_err *err);
    int (*sync)(struct log_store *store, struct ms_err *err);
    int (*set_snapshot)(struct log_store *store, raft_index index, raft_term term,
                        struct ms_err *err);
    int (*install)(struct log_store *store, const struct log_store_install *install,
                   struct ms_err *err);
    int (*compact)(struct log_store *store, raft_index index, struct ms_err *err);
    int (*event_fd)(const struct log_store *store);
    void (*service)(struct log_store *store);
    bool (*is_full)(struct log_store *store, struct ms_err *why);
    void (*stats)(const struct log_store *store, struct log_store_stats *out);
    void (*state)(struct log_store *store, struct log_state *out);
    int (*term)(struct log_store *store, raft_index index, raft_term *out, struct ms_err *err);
    int (*entries)(struct log_store *store, const struct log_store_range *range,
                   log_store_visit visit, void *ctx, struct ms_err *err);
    int (*conf)(struct log_store *store, raft_index index, uint8_t *dst, size_t dst_bytes,
                size_t *conf_bytes, raft_index *conf_index, struct ms_err *err);
    uint64_t (*disk_bytes)(struct log_store *store, raft_index index);
};

/* Every implementation's object begins with one of these. */
struct log_store {
    const struct log_store_ops *ops;
};

/* Ends the store. What was not synced is lost. NULL is allowed. */
void log_store_destroy(struct log_store *store);

/*
 * Stages entries (consecutive indices, count may be 0) and the hard state (NULL: unchanged) for the
 * next sync. What the log holds from the first index on is discarded by it; entries at or below the
 * snapshot index are skipped. All or nothing:
 *
 *   MS_EAGAIN  what is staged leaves no room for it: sync, then stage it again.
 *   MS_ERANGE  it can never fit into one sync.
 *   MS_EINVAL  a gap: the first index is neither in the log nor next, or the indices do not follow.
 *   MS_EIO     a write failed before; the store is of no more use.
 */
int log_store_append(struct log_store *store, const struct log_entry *entries, size_t count,
                     const struct ms_hard_state *hard_state, struct ms_err *err);

/*
 * Stages the configuration that holds once the entry at index is applied. conf_bytes is at most
 * LOG_STORE_CONF_BYTES_MAX. Errors as for log_store_append.
 */
int log_store_put_conf(struct log_store *store, raft_index index, const uint8_t *conf,
                       size_t conf_bytes, struct ms_err *err);
#define LOG_STORE_CONF_BYTES_MAX 65536u

/*
 * Makes everything staged durable by one write and one sync; nothing staged is MS_OK.
 *
 *   MS_EAGAIN  the disk has no room now; everything stays staged. Call again once event_fd said
 * that something changed. MS_EIO     a write or sync failed. It must not be tried again: the
 * process ends, and the next one reads what the disk really has.
 */
int log_store_sync(struct log_store *store, struct ms_err *err);

/*
 * Records, durably, that a snapshot of the state up to index exists. MS_EINVAL: the log does not
 * hold that entry with that term, or knows of a newer snapshot. MS_EAGAIN, MS_EIO as for
 * log_store_sync.
 */
int log_store_set_snapshot(struct log_store *store, raft_index index, raft_term term,
                           struct ms_err *err);

/*
 * Lets the log start anew behind a snapshot that came from elsewhere; that, the hard state and the
 * configuration become durable at once. Where the log holds that entry with that term, or begins
 * right behind it, what follows is kept (Raft 7).
 *
 *   MS_EBUSY   something is staged: sync first.
 *   MS_EINVAL  older than the snapshot recorded, or a commit index beyond the log that results.
 *   MS_ERANGE  the configuration is too long.
 *   MS_EAGAIN, MS_EIO  as for log_store_sync.
 */
int log_store_install(struct log_store *store, const struct log_store_install *install,
                      struct ms_err *err);

/*
 * Forgets, durably, entries up to and including index, which must not pass the snapshot index or
 * the last index (MS_EINVAL). An index that is gone already is MS_OK. MS_EAGAIN, MS_EIO as above.
 */
int log_store_compact(struct log_store *store, raft_index index, struct ms_err *err);

/* Becomes readable when service should be called and sync is worth another try; -1: never. */
int log_store_event_fd(const struct log_store *store);
void log_store_service(struct log_store *store);

/*
 * True while the store could not take much more than what is on its way already; why (may be NULL)
 * says for what reason.
 */
bool log_store_is_full(struct log_store *store, struct ms_err *why);

void log_store_stats(const struct log_store *store, struct log_store_stats *out);

/* Any thread: what is durable now. */
void log_store_state(struct log_store *store, struct log_state *out);

/*
 * Any thread: the term of the entry at index; also of first_index - 1. Term(0) is 0 on a log that
 * was never compacted. MS_ECOMPACTED: before that; MS_EUNAVAILABLE: beyond the last index;
 * MS_ECORRUPT, MS_EIO: the disk does not give back what was written (err names file and offset).
 */
int log_store_term(struct log_store *store, raft_index index, raft_term *out, struct ms_err *err);

/*
 * Any thread: calls visit for the entries of the range in order, at least one. Errors as for
 * log_store_term; MS_EUNAVAILABLE when high is beyond last_index + 1, and then nothing is visited.
 */
int log_store_entries(struct log_store *store, const struct log_store_range *range,
                      log_store_visit visit, void *ctx, struct ms_err *err);

/*
 * Any thread: the configuration recorded for the highest index that is at most index and not below
 * first_index - 1. One that was recorded for an entry that was discarded later does not count.
 * MS_ENOENT: none recorded (then the snapshot's holds); MS_ERANGE: dst too small.
 */
int log_store_conf(struct log_store *store, raft_index index, uint8_t *dst, size_t dst_bytes,
                   size_t *conf_bytes, raft_index *conf_index, struct ms_err *err);

/* Any thread: about how many bytes of disk the entries behind index take. */
uint64_t log_store_disk_bytes(struct log_store *store, raft_index index);

#endif

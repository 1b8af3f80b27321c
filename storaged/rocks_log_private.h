/*
 * rocks_log_private: what the parts of this log store share: rocks_log (writing, marks, opening)
 * and rocks_log_read.
 *
 * One family holds all of it. Indexes inside keys are big-endian, so that byte order is their
 * order; all other numbers are little-endian.
 *
 *   configuration   key    0  1  'c'
 *                          1  8  index
 *                   value  0  .  as it was given
 *   entry           key    0  1  'e'
 *                          1  8  index
 *                   value  0  8  term
 *                          8  4  type
 *                         12  .  data
 *   state           key    0  1  's'
 *                   value  0  4  1, the version of this format
 *                          4  4  0
 *                          8  8  hard state: term
 *                         16  8  ... vote
 *                         24  8  ... commit
 *                         32  8  first index
 *                         40  8  last index
 *                         48  8  term of the last index
 *                         56  8  term of the index before the first
 *                         64  8  snapshot index
 *                         72  8  snapshot term
 *                         80  8  no configuration has a higher index
 *
 * Every batch ends with the state that it leads to. A reader takes the state and the entries from
 * the same iterator; what an older batch left outside of the state's bounds is never looked at.
 */
#ifndef METASTORE_STORAGED_ROCKS_LOG_PRIVATE_H
#define METASTORE_STORAGED_ROCKS_LOG_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/le.h"
#include "storaged/log_store.h"
#include "storaged/rocks.h"

#define ROCKS_LOG_FAMILY 0

#define ROCKS_LOG_KEY_BYTES          9
#define ROCKS_LOG_KEY_CONF           'c'
#define ROCKS_LOG_KEY_ENTRY          'e'
#define ROCKS_LOG_KEY_STATE          's'
#define ROCKS_LOG_ENTRY_HEADER_BYTES 12
#define ROCKS_LOG_STATE_FORMAT       1
#define ROCKS_LOG_STATE_BYTES        88

/* The state with what only this implementation needs. */
struct rocks_log_extent {
    struct log_state state;
    raft_index highest_conf;
};

struct rocks_log {
    struct log_store base;
    struct rocks *db;
    struct rocks_batch *batch; /* what is staged */
    size_t batch_bytes;
    size_t batch_room;
    struct rocks_batch *mark; /* for what does not wait for a sync */
    uint64_t reserve_bytes;
    int retry_fd; /* a timer that runs while the disk is full */
    bool broken;  /* a write failed: nothing is written after that */
    uint64_t staged_entries;
    raft_index staged_lowest;       /* of staged entries; 0: there are none */
    struct rocks_log_extent staged; /* what the batch leads to; equals durable when it is empty */
    struct log_store_stats stats;
    pthread_mutex_t lock;            /* over durable, which other threads read */
    struct rocks_log_extent durable; /* changed by the writing thread alone */
};

void rocks_log_put_key(uint8_t dst[ROCKS_LOG_KEY_BYTES], uint8_t kind, raft_index index);
void rocks_log_encode(const struct rocks_log_extent *extent, uint8_t dst[ROCKS_LOG_STATE_BYTES]);

/*
 * What the database holds, with its ends looked at. MS_ECORRUPT: an entry at one of them is missing
 * or of another term.
 */
int rocks_log_load(const struct rocks_log *log, struct rocks_log_extent *out, struct ms_err *err);

/* The reading calls of the interface. */
void rocks_log_state(struct log_store *store, struct log_state *out);
int rocks_log_term(struct log_store *store, raft_index index, raft_term *out, struct ms_err *err);
int rocks_log_entries(struct log_store *store, const struct log_store_range *range,
                      log_store_visit visit, void *ctx, struct ms_err *err);
int rocks_log_conf(struct log_store *store, raft_index index, uint8_t *dst, size_t dst_bytes,
                   size_t *conf_bytes, raft_index *conf_index, struct ms_err *err);
uint64_t rocks_log_disk_bytes(struct log_store *store, raft_index index);

#endif

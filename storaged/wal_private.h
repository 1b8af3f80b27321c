/*
 * wal_private: what the files that make up wal share.
 */
#ifndef METASTORE_STORAGED_WAL_PRIVATE_H
#define METASTORE_STORAGED_WAL_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storaged/log_store.h"
#include "storaged/wal.h"
#include "storaged/wal_format.h"
#include "storaged/wal_index.h"
#include "storaged/wal_segment.h"
#include "storaged/wal_stock.h"

/* Bytes at the end of a segment that only marks may use: they must fit when the disk is full. */
#define WAL_RESERVE_BYTES (8 * WAL_BLOCK_BYTES)

/* Where batches begin: behind the header comes the opening, in a block of its own. */
#define WAL_OPENING_AT WAL_BLOCK_BYTES
#define WAL_BATCHES_AT (2 * WAL_BLOCK_BYTES)

struct wal_segment {
    struct wal_header header;
    uint64_t end;      /* offset behind its last batch */
    raft_index lowest; /* of the entries in it; 0: has none */
    raft_index before; /* the log's last index when it was begun */
    uint64_t confs;    /* configurations in it */
    uint32_t pins;     /* readers that are at it: it must keep its name */
    bool indexed;      /* directory is filled */
    struct wal_directory directory;
};

/*
 * One thread writes; what it stages is its own until a sync made it durable. segments and durable
 * belong to the lock, which is held for a few instructions only, never over a call to the disk.
 * segments ascend by one in sequence; the last is the one that is written, the entry at an index
 * stands in the last one whose lowest is not above it.
 */
struct wal {
    struct log_store base;
    struct wal_disk disk;
    struct wal_stock *stock;
    int write_fd; /* of the last segment; -1 when there is none */
    uint64_t next_number;
    struct log_store_stats stats;
    int broken; /* MS_OK, or what a write failed with: nothing is written any more */

    /* Staged: the payload grows behind the room for the batch's header. */
    uint8_t *batch;
    size_t batch_room; /* of the payload */
    size_t payload_bytes;
    struct log_state staged;
    struct wal_summary summary;
    uint8_t *mark_block; /* for openings and marks */

    pthread_mutex_t lock;
    struct wal_segment **segments;
    size_t segment_count;
    size_t segment_room;
    struct log_state durable;
};

/* The object, with nothing opened: what every way out of wal_open and destroy can take apart. */
int wal_create(const struct wal_options *options, struct wal **out, struct ms_err *err);
void wal_destroy(struct log_store *store);

/* Reads the directory into the object and starts the stock. */
int wal_recover(struct wal *wal, const struct wal_options *options, struct wal_report *report,
                struct ms_err *err);

/* Appends a segment to the table (with the lock), which then owns it. MS_ENOMEM: it does not. */
int wal_segments_push(struct wal *wal, struct wal_segment *segment, struct ms_err *err);
void wal_segment_free(struct wal_segment *segment);

/* Writing thread: MS_OK, or the failure that ended all writing. */
int wal_check(const struct wal *wal, struct ms_err *err);

/* The segment that is written; NULL before the first. */
struct wal_segment *wal_last(const struct wal *wal);

/*
 * Sees to it that the last segment has room for a batch and leaves reserve_bytes behind it.
 * MS_EAGAIN: another segment is needed, and none is ready.
 */
int wal_make_room(struct wal *wal, size_t payload_bytes, size_t reserve_bytes, struct ms_err *err);

/*
 * Seals the batch (room for its header in front of the payload), writes it at the end of the
 * segment and syncs. MS_EIO: nothing may be written any more.
 */
int wal_write_batch(struct wal *wal, struct wal_segment *segment, uint8_t *batch,
                    size_t payload_bytes, struct ms_err *err);

/* Marks. */
int wal_set_snapshot(struct log_store *store, raft_index index, raft_term term, struct ms_err *err);
int wal_install(struct log_store *store, const struct log_store_install *install,
                struct ms_err *err);
int wal_compact(struct log_store *store, raft_index index, struct ms_err *err);

/* Empties the batch that is being staged. */
void wal_unstage(struct wal *wal);

/* Takes a batch that was written at offset of the last segment into the index. */
void wal_note_batch(struct wal *wal, const struct wal_summary *summary, uint64_t offset,
                    const struct log_state *after);

/* Reading side of the interface. */
int wal_term(struct log_store *store, raft_index index, raft_term *out, struct ms_err *err);
int wal_entries(struct log_store *store, const struct log_store_range *range, log_store_visit visit,
                void *ctx, struct ms_err *err);
int wal_conf(struct log_store *store, raft_index index, uint8_t *dst, size_t dst_bytes,
             size_t *conf_bytes, raft_index *conf_index, struct ms_err *err);

/* Gives back what is compacted and no longer pinned. Writing thread. */
void wal_release_segments(struct wal *wal);

#endif

/*
 * rocks_engine_private: what the parts of this engine share: rocks_engine (opening, batches,
 * housekeeping), rocks_engine_read, rocks_engine_write (changes, compaction) and
 * rocks_engine_transfer (snapshots out and in).
 */
#ifndef METASTORE_STORAGED_ROCKS_ENGINE_PRIVATE_H
#define METASTORE_STORAGED_ROCKS_ENGINE_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/err.h"
#include "storaged/content_check.h"
#include "storaged/engine.h"
#include "storaged/rocks.h"
#include "storaged/rocks_engine.h"
#include "storaged/rocks_flusher.h"
#include "storaged/rocks_layout.h"
#include "storaged/rocks_overlay.h"

/*
 * Between batches `batch` and `overlay` are empty. The two iterators are made when they are needed
 * and see the newest commit; commits and ticks drop them.
 */
struct rocks_engine {
    struct engine base;
    struct rocks *db;
    struct rocks_batch *batch;
    struct rocks_overlay overlay;
    bool in_batch;
    struct engine_stamp last;  /* of the newest change of this batch or a commit */
    struct rocks_iter *points; /* over versions, kept within one key */
    struct rocks_iter *walks;  /* over versions, all of them */
    struct rocks_layout_meta meta;
    struct rocks_layout_key sought; /* scratch for lookups */
    uint8_t found_key[MS_KEY_BYTES_MAX];
    uint64_t commits;
    size_t snapshots; /* open ones: they hold physical compaction back */
    struct content_check *install;

    struct rocks_flusher *flusher;
    uint64_t flush_entries;
    uint64_t flush_ns;
    raft_index durable_applied;    /* as of the last tick */
    struct ms_instant dirty_since; /* 0: all that was applied is durable */

    uint64_t reserve_bytes;
    uint64_t used_bytes; /* as of the last tick, like the next */
    uint64_t free_bytes;
};

/* Lets the iterators go. */
void rocks_engine_forget(struct rocks_engine *engine);

/* The same for what is not what it should be: MS_ECORRUPT naming the directory. */
int rocks_engine_corrupt(const struct rocks_engine *engine, const char *what, struct ms_err *err);

/* Writes the batch together with engine->meta and empties it. */
int rocks_engine_write_batch(struct rocks_engine *engine, struct ms_err *err);

/* Looks at what is durable, and at the room left. */
int rocks_engine_measure(struct rocks_engine *engine, struct ms_err *err);

/* ---- rocks_engine_read ---- */

/* One version of a key, in the hands of an iterator. */
struct rocks_version {
    struct ms_memdb_kv kv; /* without its key */
    struct engine_stamp stamp;
};

/*
 * The version of the key in engine->sought (its prefix) that was current at a revision
 * (UINT64_MAX: the newest), from an iterator that is kept within keys. MS_ENOENT: none.
 */
int rocks_engine_seek(struct rocks_engine *engine, struct rocks_iter *points, uint64_t revision,
                      struct rocks_version *out, struct ms_err *err);

/* The version that an iterator over versions stands on. */
int rocks_engine_version(const struct rocks_engine *engine, const struct rocks_iter *iter,
                         struct rocks_version *out, struct ms_err *err);

/* engine->points, made if need be. */
int rocks_engine_points(struct rocks_engine *engine, struct rocks_iter **out, struct ms_err *err);

/* The meta record or the configuration at a view (NULL: now). MS_ENOENT. */
int rocks_engine_load_meta(struct rocks *db, const struct rocks_view *view,
                           struct rocks_layout_meta *out, struct ms_err *err);
int rocks_engine_load_conf(struct rocks *db, const struct rocks_view *view, uint8_t *dst,
                           size_t *len_bytes, struct ms_err *err);

int rocks_engine_walk_records(struct rocks *db, const struct rocks_view *view,
                              int (*visit)(void *ctx, const uint8_t *name, size_t name_bytes,
                                           const uint8_t *value, size_t value_bytes,
                                           struct ms_err *err),
                              void *ctx, struct ms_err *err);

int rocks_engine_get(struct engine *base, const uint8_t *key, size_t key_bytes, uint64_t revision,
                     struct ms_memdb_kv *out, struct ms_err *err);
int rocks_engine_range(struct engine *base, const struct ms_memdb_range *range,
                       bool (*visit)(void *ctx, const struct ms_memdb_kv *kv), void *ctx,
                       struct ms_err *err);

/* ---- rocks_engine_write ---- */

int rocks_engine_find(struct engine *base, const uint8_t *key, size_t key_bytes,
                      struct ms_memdb_kv *out, struct ms_err *err);
int rocks_engine_change(struct engine *base, const struct engine_change *change,
                        struct ms_err *err);
/* Adds a change to the batch, and nothing else. */
void rocks_engine_put_change(struct rocks_engine *engine, const struct engine_change *change);
int rocks_engine_compact_step(struct engine *base, size_t budget, bool *more, struct ms_err *err);

/* ---- rocks_engine_transfer ---- */

int rocks_engine_snapshot_begin(struct engine *base, struct engine_snapshot **out,
                                struct ms_err *err);
void rocks_engine_snapshot_info(const struct engine_snapshot *snapshot,
                                struct engine_snapshot_info *out);
int rocks_engine_snapshot_export(struct engine_snapshot *snapshot, const struct engine_sink *sink,
                                 struct ms_err *err);
void rocks_engine_snapshot_end(struct engine *base, struct engine_snapshot *snapshot);
int rocks_engine_install_begin(struct engine *base, struct engine_sink *out, struct ms_err *err);
int rocks_engine_install_finish(struct engine *base, const struct engine_snapshot_info *info,
                                struct ms_err *err);

#endif

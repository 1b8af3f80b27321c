/*
 * engine: what a state engine is: a multi-version key-value store with an applied index.
 *
 * The state machine (apply.h) decides what happens; an engine stores it, atomically per commit, and
 * finds it again. Everything that makes two engines differ is behind struct engine_ops; everything
 * that must be the same on all nodes (revisions, conditions, answers) is above it. An engine has
 * one owner thread; only engine_snapshot_export may run on another one.
 *
 * An engine whose call failed with anything but MS_ENOENT, MS_ECOMPACTED, MS_EINVAL, MS_EBUSY, or
 * MS_ENOSPC from engine_begin and engine_compact_step, is unusable: close it. What was committed
 * before stays.
 */
#ifndef METASTORE_STORAGED_ENGINE_H
#define METASTORE_STORAGED_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf_state.h"
#include "common/err.h"
#include "common/memdb.h"
#include "common/types.h"

struct engine; /* begins with const struct engine_ops *ops */
struct engine_snapshot;

/* One change of one key. The revision of a kv is its mod_revision. */
struct engine_change {
    struct ms_memdb_kv kv; /* no value and no create revision when it is a tombstone */
    uint32_t sub;          /* position within its revision; below ENGINE_SUB_MAX */
    bool tombstone;
};

#define ENGINE_SUB_MAX (UINT32_C(1) << 31)

/* When a key changed, without what it became. */
struct engine_stamp {
    uint64_t revision;
    uint32_t sub;
    bool tombstone;
};

/* Names of side records (engine_record_put) are at most this long, and not empty. */
#define ENGINE_RECORD_NAME_MAX 64

/* How much a batch may bring. */
struct engine_volume {
    size_t operations;
    size_t bytes; /* of keys and values */
};

struct engine_stats {
    uint64_t used_bytes;  /* of memory, or of disk for an engine that lives there */
    uint64_t file_bytes;  /* reserved, used or not */
    uint64_t limit_bytes; /* memory_full when used_bytes is above it */
    uint64_t commits;
    uint64_t compacted_to; /* history up to here has been thinned out physically */
    /*
     * Entries up to here are not needed to get the state back, whatever happens: the log may forget
     * them. 0 for an engine that lives in memory: there only a snapshot makes entries dispensable.
     */
    raft_index durable_applied;
    bool memory_full; /* refuse PUTs; deletes and compaction go on */
};

/* The state that a snapshot has, or that an installation is to get. */
struct engine_snapshot_info {
    struct ms_memdb_meta meta;
    uint64_t compacted_to;
    size_t conf_bytes; /* 0: no configuration known */
    uint8_t conf[MS_CONF_STATE_BYTES_MAX];
};

/*
 * Takes the content of a store, piece by piece: all records, then all keys in byte order with
 * their stamps in ascending order, then all changes in ascending order of (revision, sub). Every
 * stamp has exactly one change. Pointers are valid during the call. An error ends the transfer.
 */
struct engine_sink {
    int (*record)(void *ctx, const uint8_t *name, size_t name_bytes, const uint8_t *value,
                  size_t value_bytes, struct ms_err *err);
    /* A key with many stamps comes in several calls, in order. */
    int (*key)(void *ctx, const uint8_t *key, size_t key_bytes, const struct engine_stamp *stamps,
               size_t count, struct ms_err *err);
    int (*change)(void *ctx, const struct engine_change *change, struct ms_err *err);
    void *ctx;
};

/* Most stamps in one call of key. */
#define ENGINE_STAMPS_MAX 1024

struct engine_ops {
    const char *name;
    void (*close)(struct engine *engine);
    void (*meta)(const struct engine *engine, struct ms_memdb_meta *out);
    int (*conf)(struct engine *engine, uint8_t *dst, size_t *len_bytes, struct ms_err *err);
    int (*begin)(struct engine *engine, const struct engine_volume *volume, struct ms_err *err);
    int (*find)(struct engine *engine, const uint8_t *key, size_t key_bytes,
                struct ms_memdb_kv *out, struct ms_err *err);
    int (*change)(struct engine *engine, const struct engine_change *change, struct ms_err *err);
    int (*record_put)(struct engine *engine, const uint8_t *name, size_t name_bytes,
                      const uint8_t *value, size_t value_bytes, struct ms_err *err);
    int (*record_remove)(struct engine *engine, const uint8_t *name, size_t name_bytes,
                         struct ms_err *err);
    int (*set_conf)(struct engine *engine, const uint8_t *conf, size_t len_bytes,
                    struct ms_err *err);
    int (*commit)(struct engine *engine, const struct ms_memdb_meta *meta, struct ms_err *err);
    int (*get)(struct engine *engine, const uint8_t *key, size_t key_bytes, uint64_t revision,
               struct ms_memdb_kv *out, struct ms_err *err);
    int (*range)(struct engine *engine, const struct ms_memdb_range *range,
                 bool (*visit)(void *ctx, const struct ms_memdb_kv *kv), void *ctx,
                 struct ms_err *err);
    int (*records)(struct engine *engine,
                   int (*visit)(void *ctx, const uint8_t *name, size_t name_bytes,
                                const uint8_t *value, size_t value_bytes, struct ms_err *err),
                   void *ctx, struct ms_err *err);
    int (*compact_step)(struct engine *engine, size_t budget, bool *more, struct ms_err *err);
    int (*hash)(struct engine *engine, uint64_t revision, uint64_t *out, struct ms_err *err);
    void (*stats)(const struct engine *engine, struct engine_stats *out);
    int (*tick)(struct engine *engine, struct ms_err *err);
    int (*flush)(struct engine *engine, struct ms_err *err); /* NULL: nothing ever is durable */
    int (*snapshot_begin)(struct engine *engine, struct engine_snapshot **out, struct ms_err *err);
    void (*snapshot_info)(const struct engine_snapshot *snapshot, struct engine_snapshot_info *out);
    int (*snapshot_export)(struct engine_snapshot *snapshot, const struct engine_sink *sink,
                           struct ms_err *err);
    void (*snapshot_end)(struct engine *engine, struct engine_snapshot *snapshot);
    int (*install_begin)(struct engine *engine, struct engine_sink *out, struct ms_err *err);
    int (*install_finish)(struct engine *engine, const struct engine_snapshot_info *info,
                          struct ms_err *err);
};

/* The part of every engine that its users may look at. */
struct engine {
    const struct engine_ops *ops;
};

/* Closes the engine. Nothing of it may be in use: no snapshot, no batch. NULL is allowed. */
static inline void engine_close(struct engine *engine)
{
    if (engine != NULL) {
        engine->ops->close(engine);
    }
}

/* What the newest commit says. Costs nothing. */
static inline void engine_meta(const struct engine *engine, struct ms_memdb_meta *out)
{
    engine->ops->meta(engine, out);
}

/*
 * The configuration as of the applied index (common/conf_state.h, encoded) into dst, which has room
 * for MS_CONF_STATE_BYTES_MAX; *len_bytes is 0 when none was ever set.
 */
static inline int engine_conf(struct engine *engine, uint8_t *dst, size_t *len_bytes,
                              struct ms_err *err)
{
    return engine->ops->conf(engine, dst, len_bytes, err);
}

/* ---- one batch: begin, any number of changes, commit --------------------------------------- */

/*
 * Starts a batch of at most this volume. MS_ENOSPC: the machine has no room for it, not even in the
 * reserve (nothing has changed).
 */
static inline int engine_begin(struct engine *engine, const struct engine_volume *volume,
                               struct ms_err *err)
{
    return engine->ops->begin(engine, volume, err);
}

/*
 * The key as it stands now, changes of this batch included. MS_ENOENT: it does not exist. Pointers
 * in *out are valid until the next change or commit.
 */
static inline int engine_find(struct engine *engine, const uint8_t *key, size_t key_bytes,
                              struct ms_memdb_kv *out, struct ms_err *err)
{
    return engine->ops->find(engine, key, key_bytes, out, err);
}

/*
 * Stores one change. (mod_revision, sub) must be above that of every change so far, and a key
 * changes at most once in one revision.
 */
static inline int engine_change(struct engine *engine, const struct engine_change *change,
                                struct ms_err *err)
{
    return engine->ops->change(engine, change, err);
}

/* Side records: state besides keys and values, in the same commit and in snapshots. */
static inline int engine_record_put(struct engine *engine, const uint8_t *name, size_t name_bytes,
                                    const uint8_t *value, size_t value_bytes, struct ms_err *err)
{
    return engine->ops->record_put(engine, name, name_bytes, value, value_bytes, err);
}

/* Removing a record that is not there is no error. */
static inline int engine_record_remove(struct engine *engine, const uint8_t *name,
                                       size_t name_bytes, struct ms_err *err)
{
    return engine->ops->record_remove(engine, name, name_bytes, err);
}

/* Stores the encoded configuration with this batch. */
static inline int engine_set_conf(struct engine *engine, const uint8_t *conf, size_t len_bytes,
                                  struct ms_err *err)
{
    return engine->ops->set_conf(engine, conf, len_bytes, err);
}

/* Makes the batch and *meta visible, all or nothing, also against SIGKILL at any instruction. */
static inline int engine_commit(struct engine *engine, const struct ms_memdb_meta *meta,
                                struct ms_err *err)
{
    return engine->ops->commit(engine, meta, err);
}

/* ---- reading, outside a batch -------------------------------------------------------------- */

/* As ms_memdb_get; pointers in *out are valid until the next call on this engine. */
static inline int engine_get(struct engine *engine, const uint8_t *key, size_t key_bytes,
                             uint64_t revision, struct ms_memdb_kv *out, struct ms_err *err)
{
    return engine->ops->get(engine, key, key_bytes, revision, out, err);
}

/* As ms_memdb_walk. visit must not call the engine. */
static inline int engine_range(struct engine *engine, const struct ms_memdb_range *range,
                               bool (*visit)(void *ctx, const struct ms_memdb_kv *kv), void *ctx,
                               struct ms_err *err)
{
    return engine->ops->range(engine, range, visit, ctx, err);
}

/* All side records in byte order of their names. visit must not call the engine. */
static inline int engine_records(struct engine *engine,
                                 int (*visit)(void *ctx, const uint8_t *name, size_t name_bytes,
                                              const uint8_t *value, size_t value_bytes,
                                              struct ms_err *err),
                                 void *ctx, struct ms_err *err)
{
    return engine->ops->records(engine, visit, ctx, err);
}

/*
 * XXH3-64 over everything that is alive at the revision (0: newest), in key order: equal on all
 * engines and nodes that hold the same. Reads all of it: for tests and comparisons.
 */
static inline int engine_hash(struct engine *engine, uint64_t revision, uint64_t *out,
                              struct ms_err *err)
{
    return engine->ops->hash(engine, revision, out, err);
}

/* ---- housekeeping, outside a batch ---------------------------------------------------------- */

/*
 * Removes history that the compact revision has made unreadable, at most about budget changes
 * (some microseconds each), in a commit of its own. *more: there is work left to be done now.
 * While a snapshot is open nothing is removed and *more is false. MS_ENOSPC as for engine_begin.
 */
static inline int engine_compact_step(struct engine *engine, size_t budget, bool *more,
                                      struct ms_err *err)
{
    return engine->ops->compact_step(engine, budget, more, err);
}

/*
 * As of the newest commit or tick. memory_full can change with each of them. A store that is full
 * gets room by deletes only once the history is compacted, so compact then, up to the newest
 * revision if need be.
 */
static inline void engine_stats(const struct engine *engine, struct engine_stats *out)
{
    engine->ops->stats(engine, out);
}

/*
 * To be called about every second, and when a process that reads the engine has died: looks whether
 * there is room again and frees what dead readers pinned.
 */
static inline int engine_tick(struct engine *engine, struct ms_err *err)
{
    return engine->ops->tick(engine, err);
}

/*
 * Asks for durable_applied to reach what is applied now, soon: a later tick shows it. Never waits.
 * An engine that keeps nothing on disk does nothing.
 */
static inline int engine_flush(struct engine *engine, struct ms_err *err)
{
    return engine->ops->flush == NULL ? MS_OK : engine->ops->flush(engine, err);
}

/* ---- snapshots ----------------------------------------------------------------------------- */

/*
 * Fixes the state as of the newest commit. Owner thread, outside a batch; as many at a time as the
 * reader table has room for (MS_EBUSY). Writes go on meanwhile, physical compaction waits.
 */
static inline int engine_snapshot_begin(struct engine *engine, struct engine_snapshot **out,
                                        struct ms_err *err)
{
    return engine->ops->snapshot_begin(engine, out, err);
}

static inline void engine_snapshot_info(const struct engine *engine,
                                        const struct engine_snapshot *snapshot,
                                        struct engine_snapshot_info *out)
{
    engine->ops->snapshot_info(snapshot, out);
}

/* Feeds the fixed state to the sink, once. Any thread; the engine must stay open meanwhile. */
static inline int engine_snapshot_export(const struct engine *engine,
                                         struct engine_snapshot *snapshot,
                                         const struct engine_sink *sink, struct ms_err *err)
{
    return engine->ops->snapshot_export(snapshot, sink, err);
}

/* Owner thread, after the export returned (or without one). */
static inline void engine_snapshot_end(struct engine *engine, struct engine_snapshot *snapshot)
{
    engine->ops->snapshot_end(engine, snapshot);
}

/*
 * Prepares an engine that was never written to for another one's content: feed *out, then finish.
 * An engine whose installation was not finished is not accepted when it is opened again.
 */
static inline int engine_install_begin(struct engine *engine, struct engine_sink *out,
                                       struct ms_err *err)
{
    return engine->ops->install_begin(engine, out, err);
}

/* MS_ECORRUPT: what came contradicts itself or *info. */
static inline int engine_install_finish(struct engine *engine,
                                        const struct engine_snapshot_info *info, struct ms_err *err)
{
    return engine->ops->install_finish(engine, info, err);
}

#endif

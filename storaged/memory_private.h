/*
 * memory_private: what the parts of the memory engine share: memory_engine (opening, batches,
 * reads), memory_write (changes, compaction) and memory_transfer (snapshots out and in).
 */
#ifndef METASTORE_STORAGED_MEMORY_PRIVATE_H
#define METASTORE_STORAGED_MEMORY_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lmdb.h>

#include "common/err.h"
#include "common/memdb.h"
#include "common/memdb_layout.h"
#include "storaged/content_check.h"
#include "storaged/engine.h"
#include "storaged/memory_space.h"

#define MEMORY_CONF_KEY "conf"

/* An installation in progress. */
struct memory_install {
    uint64_t pending_bytes; /* put since the last commit */
    uint64_t pending_items;
    struct content_check check;
};

/*
 * Between batches txn is NULL and meta is what the last commit stored. Inside one, txn and the
 * cursors are open and meta is what the next commit will store.
 */
struct memory_engine {
    struct engine base;
    MDB_env *env;
    struct ms_memdb *db;        /* handles, and the read side over env */
    struct ms_memdb_read *read; /* the owner thread's */
    bool reading;               /* its view is held for pointers that were handed out */
    MDB_txn *txn;
    struct ms_memdb_cursors cursors; /* of txn */
    bool at_end;                     /* the key last looked for is behind all others */
    struct ms_memdb_record_meta meta;
    struct memory_space space;
    uint64_t commits;
    size_t snapshots; /* open ones: they hold physical compaction back */
    struct memory_install *install;
};

/* MS_* for LMDB's code, with the text "memory engine: WHAT: ...". */
int memory_fail(int code, const char *what, struct ms_err *err);

/* Lets go of the view that pointers were handed out of. */
void memory_end_reading(struct memory_engine *engine);

/* Opens a write transaction with its cursors, room for need_bytes of new pages ensured. */
int memory_begin(struct memory_engine *engine, uint64_t need_bytes, struct ms_err *err);

/* Stores engine->meta and commits. On failure the engine is unusable. */
int memory_commit(struct memory_engine *engine, struct ms_err *err);
void memory_abort(struct memory_engine *engine);

/* ---- memory_write ---- */

int memory_find(struct engine *base, const uint8_t *key, size_t key_bytes, struct ms_memdb_kv *out,
                struct ms_err *err);
int memory_change(struct engine *base, const struct engine_change *change, struct ms_err *err);
int memory_compact_step(struct engine *base, size_t budget, bool *more, struct ms_err *err);

/* Adds a stamp to a key; append says that the key is behind all others (it is checked). */
int memory_put_stamp(struct memory_engine *engine, const uint8_t *key, size_t key_bytes,
                     const struct ms_memdb_stamp *stamp, bool append, struct ms_err *err);

/* Appends a change to the history. MS_ECORRUPT: it is not behind all others. */
int memory_put_history(struct memory_engine *engine, const struct engine_change *change,
                       struct ms_err *err);

/* ---- memory_transfer ---- */

/* The encoded configuration into dst (MS_CONF_STATE_BYTES_MAX); *len_bytes is 0 if there is none.
 */
int memory_read_conf(const struct ms_memdb *db, MDB_txn *txn, uint8_t *dst, size_t *len_bytes,
                     struct ms_err *err);

/* All side records of a transaction, in order. */
int memory_walk_records(const struct ms_memdb *db, MDB_txn *txn,
                        int (*visit)(void *ctx, const uint8_t *name, size_t name_bytes,
                                     const uint8_t *value, size_t value_bytes, struct ms_err *err),
                        void *ctx, struct ms_err *err);

int memory_snapshot_begin(struct engine *base, struct engine_snapshot **out, struct ms_err *err);
void memory_snapshot_info(const struct engine_snapshot *snapshot, struct engine_snapshot_info *out);
int memory_snapshot_export(struct engine_snapshot *snapshot, const struct engine_sink *sink,
                           struct ms_err *err);
void memory_snapshot_end(struct engine *base, struct engine_snapshot *snapshot);
int memory_install_begin(struct engine *base, struct engine_sink *out, struct ms_err *err);
int memory_install_finish(struct engine *base, const struct engine_snapshot_info *info,
                          struct ms_err *err);

#endif

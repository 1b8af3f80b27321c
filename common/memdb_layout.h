/*
 * memdb_layout: how the memory engine's data lies in LMDB; for memdb.c and storaged's memory
 * engine.
 *
 * One environment, five databases. Numbers inside keys and stamps are big-endian, so that LMDB's
 * byte order is their order; all others are in host order, for the file never leaves the machine.
 *
 *   (main)    "meta" -> struct ms_memdb_record_meta, beside LMDB's own entries for the rest
 *   index     key -> one stamp per change, ascending; duplicates of fixed size, so that the change
 *             that was current at any revision is found in logarithmic time
 *   branches  the same for the rest of keys that LMDB cannot hold whole, see below
 *   history   revision [sub] -> change: the version of a key and its value, appended
 *   records   side records by name
 *
 *   stamp, 12 bytes:     0  8  revision
 *                        8  4  sub; the top bit marks a tombstone
 *   history key:         0  8  revision
 *                        8  4  sub, left out when 0
 *   change:              0  8  create revision (0 for a tombstone)
 *                        8  8  version (0 for a tombstone)
 *                       16  8  lease
 *                       24  4  key length
 *                       28  4  1 for a tombstone, else 0
 *                       32  .  key, value
 *
 * LMDB's keys end at 511 bytes, ours at 8 KiB. A key longer than MS_MEMDB_ROOT_CHUNK continues in a
 * branch: index holds its first MS_MEMDB_ROOT_CHUNK bytes and a zero byte (a key of LMDB's full
 * length, which nothing else has) with the branch's number in place of a stamp; branches holds the
 * number, big-endian, and the next up to MS_MEMDB_BRANCH_CHUNK bytes, which continue in a further
 * branch when followed by a zero byte in the same way. A branch sorts right behind the key that
 * ends where it begins and before all that differ earlier, so byte order is kept. A branch exists
 * as long as it holds something.
 */
#ifndef METASTORE_COMMON_MEMDB_LAYOUT_H
#define METASTORE_COMMON_MEMDB_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lmdb.h>

#include "common/command.h"
#include "common/err.h"
#include "common/memdb.h"

#define MS_MEMDB_LAYOUT      1
#define MS_MEMDB_DBS         4 /* named ones */
#define MS_MEMDB_READERS_MAX 128

#define MS_MEMDB_NAME_INDEX    "index"
#define MS_MEMDB_NAME_BRANCHES "branches"
#define MS_MEMDB_NAME_HISTORY  "history"
#define MS_MEMDB_NAME_RECORDS  "records"
#define MS_MEMDB_META_KEY      "meta"

#define MS_MEMDB_LMDB_KEY_MAX 511
#define MS_MEMDB_BRANCH_ID    8
#define MS_MEMDB_ROOT_CHUNK   (MS_MEMDB_LMDB_KEY_MAX - 1)
#define MS_MEMDB_BRANCH_CHUNK (MS_MEMDB_LMDB_KEY_MAX - 1 - MS_MEMDB_BRANCH_ID)
/* How deep the longest key branches, the root not counted. */
#define MS_MEMDB_DEPTH_MAX \
    ((MS_KEY_BYTES_MAX - MS_MEMDB_ROOT_CHUNK + MS_MEMDB_BRANCH_CHUNK - 1) / MS_MEMDB_BRANCH_CHUNK)

#define MS_MEMDB_STAMP_BYTES   12
#define MS_MEMDB_TOMBSTONE_BIT UINT32_C(0x80000000)

struct ms_memdb_record_meta {
    uint32_t layout;   /* MS_MEMDB_LAYOUT */
    uint32_t complete; /* 0 while a snapshot is being installed: not to be used */
    uint64_t applied;
    uint64_t applied_term;
    uint64_t revision;
    uint64_t compact_revision;
    uint64_t keys;
    uint64_t compacted_to; /* history up to here is thinned out */
    uint64_t next_branch;
};

struct ms_memdb_change_header {
    uint64_t create_revision;
    uint64_t version;
    uint64_t lease;
    uint32_t key_bytes;
    uint32_t tombstone;
};

struct ms_memdb_stamp {
    uint64_t revision;
    uint32_t sub;
    bool tombstone;
};

struct ms_memdb {
    MDB_env *env;
    bool borrowed; /* env belongs to the memory engine */
    MDB_dbi main;
    MDB_dbi index;
    MDB_dbi branches;
    MDB_dbi history;
    MDB_dbi records;
};

/* What looking a key up needs, in a read or a write transaction. */
struct ms_memdb_cursors {
    MDB_cursor *index;
    MDB_cursor *branches;
    MDB_cursor *history;
};

/* A position in the key order. Between calls `at` stands on the first stamp of `key`. */
struct ms_memdb_walker {
    const struct ms_memdb_cursors *cursors;
    MDB_cursor *at;                          /* cursors->index or cursors->branches */
    size_t depth;                            /* 0: in index */
    uint64_t branch[MS_MEMDB_DEPTH_MAX + 1]; /* by depth; [0] unused */
    size_t key_bytes;
    uint8_t key[MS_KEY_BYTES_MAX + MS_MEMDB_LMDB_KEY_MAX];
};

/*
 * LMDB orders the writer and the readers by tables of its own, which the race detector cannot see:
 * these tell it. The writer releases before a commit and acquires before it fills a page that may
 * have been read; a reader acquires when its view begins and releases when it ends.
 */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#define ms_memdb_acquire(env) __tsan_acquire(env)
#define ms_memdb_release(env) __tsan_release(env)
#else
#define ms_memdb_acquire(env) ((void)(env))
#define ms_memdb_release(env) ((void)(env))
#endif

/* LMDB's codes as ours. */
int ms_memdb_status(int mdb_code);

/* Opens all databases in a transaction; create only for a writer. The handles outlive it. */
int ms_memdb_open_dbs(struct ms_memdb *db, MDB_txn *txn, bool create, struct ms_err *err);

/* MS_ENOENT: no meta record, or an incomplete store; MS_ECORRUPT: not this layout. */
int ms_memdb_load_meta(const struct ms_memdb *db, MDB_txn *txn, struct ms_memdb_record_meta *out);

/*
 * LMDB's key for the part of a key that lies at a depth: *part points into key, or to scratch (of
 * MS_MEMDB_LMDB_KEY_MAX bytes). Returns true when the key goes on in a branch from there.
 */
bool ms_memdb_part(const uint8_t *key, size_t key_bytes, size_t depth, uint64_t branch,
                   uint8_t *scratch, MDB_val *part);

/*
 * Finds the stamps of exactly this key: *at is the cursor that stands on the first of them.
 * MS_ENOENT, MS_ECORRUPT.
 */
int ms_memdb_find_key(const struct ms_memdb_cursors *cursors, const uint8_t *key, size_t key_bytes,
                      MDB_cursor **at);

/* The stamp in force at a revision (0: the newest) of the key a cursor stands on. MS_ENOENT. */
int ms_memdb_stamp_at(MDB_cursor *at, uint64_t revision, struct ms_memdb_stamp *out);

void ms_memdb_encode_stamp(const struct ms_memdb_stamp *stamp, uint8_t dst[MS_MEMDB_STAMP_BYTES]);
int ms_memdb_decode_stamp(const MDB_val *value, struct ms_memdb_stamp *out);

/* The history key of a stamp: its first 8 or all 12 bytes, without the tombstone bit. */
size_t ms_memdb_history_key(const struct ms_memdb_stamp *stamp, uint8_t dst[MS_MEMDB_STAMP_BYTES]);
int ms_memdb_decode_history_key(const MDB_val *key, struct ms_memdb_stamp *out);

/* Takes a history record apart; *out points into it. stamp->tombstone is set from the record. */
int ms_memdb_decode_change(const MDB_val *key, const MDB_val *value, struct ms_memdb_stamp *stamp,
                           struct ms_memdb_kv *out);

/* The change that a stamp of this key stands for. MS_ECORRUPT if it is not there. */
int ms_memdb_load_change(const struct ms_memdb_cursors *cursors, const struct ms_memdb_stamp *stamp,
                         const uint8_t *key, size_t key_bytes, struct ms_memdb_kv *out);

void ms_memdb_walker_init(struct ms_memdb_walker *walker, const struct ms_memdb_cursors *cursors);

/* To the first key >= key (> key with after); key_bytes of 0 is the start. MS_ENOENT: the end. */
int ms_memdb_walker_seek(struct ms_memdb_walker *walker, const uint8_t *key, size_t key_bytes,
                         bool after);
int ms_memdb_walker_next(struct ms_memdb_walker *walker);

/* For the owner of an environment: the read side over it. The environment stays the caller's. */
int ms_memdb_attach(MDB_env *env, struct ms_memdb **out, struct ms_err *err);

/* The transaction and cursors of a view that has begun. */
MDB_txn *ms_memdb_read_txn(struct ms_memdb_read *read);
const struct ms_memdb_cursors *ms_memdb_read_cursors(struct ms_memdb_read *read);

#endif

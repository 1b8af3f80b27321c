/*
 * rocks: RocksDB as the log store and the engine see it: statuses instead of strings, lengths with
 * every pointer, and two ways of being durable instead of some hundred options.
 *
 * rocks.c, rocks_read.c and rocks_library alone name the library's own functions and types; they
 * know nothing of what the families hold. Every call may come from any thread, but a batch, an
 * iterator and a value belong to one thread at a time.
 */
#ifndef METASTORE_STORAGED_ROCKS_H
#define METASTORE_STORAGED_ROCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct rocks;       /* an open database */
struct rocks_batch; /* changes that become visible together */
struct rocks_iter;  /* a position in one family */
struct rocks_view;  /* the database as it was at one moment */

#define ROCKS_FAMILIES_MAX 6

enum rocks_durability {
    /* A write is durable when it returns. */
    ROCKS_SYNCED_WRITES,
    /*
     * The database keeps no log of its own. What was written is durable after a flush, which takes
     * all families up to the same write; a crash before leaves the state of the flush before.
     */
    ROCKS_ATOMIC_FLUSHES,
};

/* A column family: keys and values of one kind. Keys are in byte order. */
struct rocks_family {
    const char *name;
    bool filtered; /* keep a Bloom filter: for families in which single keys are looked for */
    /*
     * Keys that differ only in so many last bytes belong together: the filter is over what comes
     * before, and iterators can be kept within it. 0: the filter is over whole keys.
     */
    size_t suffix_bytes;
};

struct rocks_tuning {
    uint64_t cache_bytes;        /* of the block cache, without indexes and filters */
    uint64_t write_buffer_bytes; /* of each family, before it is flushed */
    unsigned background_jobs;    /* flushes and compactions at a time */
};

struct rocks_options {
    const char *directory;               /* made if it is not there; its parent must be */
    bool must_exist;                     /* MS_ENOENT instead of a new database */
    const struct rocks_family *families; /* the same at every opening */
    size_t family_count;                 /* 1 .. ROCKS_FAMILIES_MAX */
    enum rocks_durability durability;
    struct rocks_tuning tuning;
};

/*
 * Opens or makes a database. Texts of errors name the directory.
 *
 *   MS_ECORRUPT  damaged, truncated or missing files
 *   MS_EINVAL    a database, but not with these families
 *   MS_EBUSY     open in another process
 *   MS_ENOENT    must_exist, and there is none
 *   MS_EUNAVAILABLE  the library is not installed
 *   MS_ENOSPC, MS_EIO, MS_ENOMEM
 */
int rocks_open(const struct rocks_options *options, struct rocks **out, struct ms_err *err);

/* Flushes what can be flushed. No batch, iterator, value or view may be left. NULL is allowed. */
void rocks_close(struct rocks *db);

/* At run time, from any thread: background_jobs stays as it was. */
int rocks_retune(struct rocks *db, const struct rocks_tuning *tuning, struct ms_err *err);

const char *rocks_directory(const struct rocks *db);

/* Bytes that the file system still gives. MS_EIO. */
int rocks_free_bytes(const struct rocks *db, uint64_t *out, struct ms_err *err);

/* ---- writing ------------------------------------------------------------------------------- */

int rocks_batch_create(struct rocks *db, struct rocks_batch **out, struct ms_err *err);
void rocks_batch_destroy(struct rocks_batch *batch);
void rocks_batch_clear(struct rocks_batch *batch);

/* About as much as the batch takes in memory and on disk; 0 when it is empty. */
size_t rocks_batch_bytes(const struct rocks_batch *batch);

/* A piece of a key or a value, which are put together from several. */
struct rocks_piece {
    const void *data;
    size_t bytes;
};
#define ROCKS_PIECES_MAX 4

/* Keys and values are copied. Later changes of a batch override earlier ones. */
void rocks_batch_put(struct rocks_batch *batch, size_t family, const uint8_t *key, size_t key_bytes,
                     const struct rocks_piece *value, size_t pieces);
void rocks_batch_remove(struct rocks_batch *batch, size_t family, const uint8_t *key,
                        size_t key_bytes);

/* Every key from low on that is below high. */
void rocks_batch_remove_range(struct rocks_batch *batch, size_t family, const uint8_t *low,
                              size_t low_bytes, const uint8_t *high, size_t high_bytes);

/* All of the batch or nothing, also against a crash. The batch stays as it is. */
int rocks_write(struct rocks *db, const struct rocks_batch *batch, struct ms_err *err);

/*
 * With ROCKS_ATOMIC_FLUSHES: makes everything written so far durable, in all families alike; waits
 * for the disk. marker is a small family that every write touches: what rocks_get_durable finds in
 * it afterwards says whether it worked, for the library does not.
 */
void rocks_flush(struct rocks *db, size_t marker);

/* ---- reading ------------------------------------------------------------------------------- */

/* Takes the newest state; the library keeps what it needs until it is released. */
struct rocks_view *rocks_view_take(struct rocks *db);
void rocks_view_release(struct rocks *db, struct rocks_view *view);

/* Bytes in the library's hands, valid until released. */
struct rocks_value {
    const uint8_t *data;
    size_t bytes;
    void *handle;
};
void rocks_value_release(const struct rocks *db, struct rocks_value *value);

struct rocks_key {
    size_t family;
    const uint8_t *data;
    size_t bytes;
};

/* view NULL: the newest state. MS_ENOENT, MS_ECORRUPT, MS_EIO; *out is set on MS_OK only. */
int rocks_get(struct rocks *db, const struct rocks_view *view, const struct rocks_key *key,
              struct rocks_value *out, struct ms_err *err);

/* What would be there after a crash now. */
int rocks_get_durable(struct rocks *db, const struct rocks_key *key, struct rocks_value *out,
                      struct ms_err *err);

struct rocks_iter_options {
    size_t family;
    const struct rocks_view *view; /* NULL: the newest state at creation */
    bool within_suffix; /* a seek finds only keys with the target's prefix (family.suffix_bytes) */
    bool bulk;          /* reads a lot once: ahead, and past the cache */
};

/* NULL: out of memory. The iterator keeps its state, and the files of it, until it is destroyed. */
struct rocks_iter *rocks_iter_create(struct rocks *db, const struct rocks_iter_options *options);
void rocks_iter_destroy(struct rocks_iter *iter);

/* To the first key >= key, or the next key. False: there is none, or rocks_iter_status says why. */
bool rocks_iter_seek(struct rocks_iter *iter, const uint8_t *key, size_t key_bytes);
bool rocks_iter_next(struct rocks_iter *iter);

/* To the last key <= key, or the key before. */
bool rocks_iter_seek_before(struct rocks_iter *iter, const uint8_t *key, size_t key_bytes);
bool rocks_iter_previous(struct rocks_iter *iter);

bool rocks_iter_valid(const struct rocks_iter *iter);

/* Where the iterator stands; valid until it moves. */
const uint8_t *rocks_iter_key(const struct rocks_iter *iter, size_t *bytes);
const uint8_t *rocks_iter_value(const struct rocks_iter *iter, size_t *bytes);

/* MS_OK when the iterator stands somewhere or came to an end; MS_ECORRUPT, MS_EIO. */
int rocks_iter_status(const struct rocks_iter *iter, struct ms_err *err);

/* ---- looking at it ------------------------------------------------------------------------- */

struct rocks_stats {
    uint64_t file_bytes;         /* of data on disk */
    uint64_t write_buffer_bytes; /* in memory, flushed or being flushed */
    uint64_t table_bytes;        /* of readers of files, outside the cache */
    uint64_t cache_bytes;
    uint64_t pending_compaction_bytes;
    uint64_t running_flushes;
    uint64_t running_compactions;
    uint64_t background_errors; /* since it was opened */
    bool writes_stopped;        /* until compaction has caught up */
};
void rocks_stats(struct rocks *db, struct rocks_stats *out);

#endif

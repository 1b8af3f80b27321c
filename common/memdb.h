/*
 * memdb: the memory engine's layout, and its read side.
 *
 * The memory engine is an LMDB environment in tmpfs. storaged alone writes it
 * (storaged/memory_*.c), every apid reads it; both go by the layout drawn in memdb_layout.h. A read
 * transaction sees one commit, whole, for as long as it is held, and costs the writer nothing but
 * the pages it pins: hold it for one request, not across waits.
 */
#ifndef METASTORE_COMMON_MEMDB_H
#define METASTORE_COMMON_MEMDB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/types.h"

struct ms_memdb;      /* an opened environment */
struct ms_memdb_read; /* one reusable read transaction with its cursors */

/* What holds for the whole store, as of one commit. */
struct ms_memdb_meta {
    raft_index applied;
    raft_term applied_term;
    uint64_t revision;         /* of the store; 1 when nothing was ever written, as etcd counts */
    uint64_t compact_revision; /* reads below it fail with MS_ECOMPACTED */
    uint64_t keys;             /* live ones */
};

/* One version of one key. Pointers are into the map: valid until the read transaction ends. */
struct ms_memdb_kv {
    const uint8_t *key;
    size_t key_bytes;
    const uint8_t *value;
    size_t value_bytes;
    uint64_t create_revision;
    uint64_t mod_revision;
    uint64_t version;
    uint64_t lease;
};

/*
 * Opens the environment below directory for reading. MS_ENOENT: not there; MS_ECORRUPT: not this
 * layout. One process opens one environment at most once (LMDB's rule).
 */
int ms_memdb_open(const char *directory, struct ms_memdb **out, struct ms_err *err);
void ms_memdb_close(struct ms_memdb *db);

/* A read transaction object, made once and reused; not bound to a thread. */
int ms_memdb_read_create(struct ms_memdb *db, struct ms_memdb_read **out, struct ms_err *err);
void ms_memdb_read_destroy(struct ms_memdb_read *read);

/* Takes the newest commit as this reader's view. MS_EBUSY: the reader table is full. */
int ms_memdb_read_begin(struct ms_memdb_read *read);

/* Lets the view go: pinned pages may be reused. The object stays ready for the next begin. */
void ms_memdb_read_end(struct ms_memdb_read *read);

int ms_memdb_read_meta(struct ms_memdb_read *read, struct ms_memdb_meta *out);

/*
 * The version of key that was current at revision (0: the view's newest). MS_ENOENT: absent then;
 * MS_ECOMPACTED: revision is below the compacted one; MS_EINVAL: in the future, or an impossible
 * key length; MS_ECORRUPT: the layout does not hold (the file must not be used further).
 */
int ms_memdb_get(struct ms_memdb_read *read, const uint8_t *key, size_t key_bytes,
                 uint64_t revision, struct ms_memdb_kv *out);

/* Where a walk over keys in byte order starts and ends; borrowed for the length of the walk. */
struct ms_memdb_range {
    const uint8_t *from; /* first key wanted (inclusive); NULL: from the start */
    size_t from_bytes;
    bool after;            /* start behind from instead of at it */
    const uint8_t *prefix; /* only keys that start so; NULL: all */
    size_t prefix_bytes;
    const uint8_t *to; /* first key no longer wanted; NULL: no end */
    size_t to_bytes;
    uint64_t revision; /* 0: newest */
};

/*
 * Calls visit for each key of the range that is alive at the revision, in byte order, until visit
 * returns false or the range ends. Errors as for ms_memdb_get.
 */
int ms_memdb_walk(struct ms_memdb_read *read, const struct ms_memdb_range *range,
                  bool (*visit)(void *ctx, const struct ms_memdb_kv *kv), void *ctx);

#endif

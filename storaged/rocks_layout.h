/*
 * rocks_layout: how the state lies in RocksDB.
 *
 * Four families. Numbers inside keys are big-endian, so that byte order is their order; those
 * inside values are little-endian.
 *
 *   meta       "meta" -> the meta record; "conf" -> the encoded configuration
 *   versions   key, revision, sub -> one version of a key; the newest version of a key comes first
 *   history    revision, sub -> which key changed
 *   records    side records by name
 *
 *   meta record      0  4  1, the version of this layout
 *                    4  4  1 if complete; 0 while a snapshot is being installed: not to be used
 *                    8  8  applied index
 *                   16  8  its term
 *                   24  8  revision
 *                   32  8  compact revision
 *                   40  8  live keys
 *                   48  8  history up to here is thinned out
 *
 *   key in versions  0  .  the key's bytes, each 00 among them written as 00 ff
 *                    .  2  00 01, which ends it
 *                    .  8  the revision, all bits inverted
 *                    .  4  the sub, all bits inverted
 *   value            0  1  0, or 1 for a tombstone, which has nothing behind it
 *                    1  8  create revision
 *                    9  8  version
 *                   17  8  lease
 *                   25  .  the value
 *
 *   key in history   0  8  revision
 *                    8  4  sub
 *   value            0  .  the key
 *
 * A key's end sorts before every byte that could continue it (00 01 before 00 ff and before 01), so
 * keys are in byte order, a shorter one before those that it begins; and no written key begins
 * another one, so two of them differ within the shorter one's length. A written key is never
 * written again with other contents: only the meta family and the records change in place.
 */
#ifndef METASTORE_STORAGED_ROCKS_LAYOUT_H
#define METASTORE_STORAGED_ROCKS_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/command.h"
#include "common/memdb.h"

enum rocks_layout_family {
    ROCKS_LAYOUT_META,
    ROCKS_LAYOUT_VERSIONS,
    ROCKS_LAYOUT_HISTORY,
    ROCKS_LAYOUT_RECORDS,
    ROCKS_LAYOUT_FAMILIES,
};

#define ROCKS_LAYOUT_VERSION    1
#define ROCKS_LAYOUT_META_KEY   "meta"
#define ROCKS_LAYOUT_CONF_KEY   "conf"
#define ROCKS_LAYOUT_META_BYTES 56

#define ROCKS_LAYOUT_STAMP_BYTES  12
#define ROCKS_LAYOUT_END_BYTES    2
#define ROCKS_LAYOUT_HEADER_BYTES 25
#define ROCKS_LAYOUT_KEY_BYTES_MAX \
    (2 * MS_KEY_BYTES_MAX + ROCKS_LAYOUT_END_BYTES + ROCKS_LAYOUT_STAMP_BYTES)

struct rocks_layout_meta {
    struct ms_memdb_meta meta;
    uint64_t compacted_to;
    bool complete;
};

/* A key as it is written in versions, stamp included or not yet. */
struct rocks_layout_key {
    size_t prefix_bytes; /* up to where the stamp begins */
    uint8_t data[ROCKS_LAYOUT_KEY_BYTES_MAX];
};

void rocks_layout_encode_meta(const struct rocks_layout_meta *meta,
                              uint8_t dst[ROCKS_LAYOUT_META_BYTES]);
int rocks_layout_decode_meta(const uint8_t *src, size_t bytes, struct rocks_layout_meta *out);

/* Only the key's bytes, without an end: what all keys that begin so begin with. */
void rocks_layout_open_key(struct rocks_layout_key *dst, const uint8_t *key, size_t key_bytes);

/* The whole prefix; then a stamp, as often as wanted. Lengths up to MS_KEY_BYTES_MAX. */
void rocks_layout_set_key(struct rocks_layout_key *dst, const uint8_t *key, size_t key_bytes);
void rocks_layout_set_stamp(struct rocks_layout_key *dst, uint64_t revision, uint32_t sub);

/* Makes a prefix one that is behind every version of its key and before every other later key. */
void rocks_layout_pass_key(struct rocks_layout_key *dst);

/* Bytes of a key with its stamp. */
static inline size_t rocks_layout_bytes(const struct rocks_layout_key *key)
{
    return key->prefix_bytes + ROCKS_LAYOUT_STAMP_BYTES;
}

/* Takes a key of versions apart; dst has room for MS_KEY_BYTES_MAX. MS_ECORRUPT. */
int rocks_layout_split(const uint8_t *src, size_t bytes, uint8_t *dst, size_t *key_bytes);
int rocks_layout_stamp_of(const uint8_t *src, size_t bytes, uint64_t *revision, uint32_t *sub);

/* The header of a version, and its value taken apart: *out without key and mod revision. */
size_t rocks_layout_encode_header(const struct ms_memdb_kv *kv, bool tombstone,
                                  uint8_t dst[ROCKS_LAYOUT_HEADER_BYTES]);
int rocks_layout_decode_version(const uint8_t *src, size_t bytes, struct ms_memdb_kv *out,
                                bool *tombstone);

void rocks_layout_history_key(uint64_t revision, uint32_t sub,
                              uint8_t dst[ROCKS_LAYOUT_STAMP_BYTES]);
int rocks_layout_decode_history_key(const uint8_t *src, size_t bytes, uint64_t *revision,
                                    uint32_t *sub);

/* Compares as far as both go; 0: one begins with the other. */
int rocks_layout_compare(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes);

#endif

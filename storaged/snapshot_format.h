/*
 * snapshot_format: a snapshot as bytes, the same for every engine, on disk, to peers and as backup.
 *
 * A sequence of chunks, all little-endian:
 *
 *   0  4  payload length, 1 .. SNAPSHOT_CHUNK_BYTES
 *   4  4  number of the chunk, from 0
 *   8  8  XXH3-64 of the payload, seeded with the number
 *  16  .  payload
 *
 * The payloads together are a stream that starts with a header:
 *
 *   0  8  SNAPSHOT_MAGIC
 *   8  4  SNAPSHOT_FORMAT
 *  12  4  length of the encoded configuration
 *  16  8  applied index
 *  24  8  its term
 *  32  8  revision of the store
 *  40  8  compact revision
 *  48  8  revision up to which history is thinned out
 *  56  8  live keys
 *  64  .  configuration (common/conf_state.h)
 *
 * After it come items, each behind a one-byte tag: all records by name, all keys in byte order, all
 * changes by revision, and the end. An item may go on in the next chunk.
 *
 *   'R' record   0 1 name length, 1 4 value length, name, value
 *   'K' key      0 2 key length, 2 4 number of stamps, key, stamps; a key with more than
 *                ENGINE_STAMPS_MAX stamps comes several times
 *                stamp: 0 8 revision, 8 4 sub; the top bit marks a tombstone
 *   'C' change   0 1 1 for a tombstone, else 0; 1 2 key length, 3 4 value length, 7 4 sub,
 *                11 8 revision, 19 8 create revision, 27 8 version, 35 8 lease, key, value
 *   'E' end      0 8 records, 8 8 stamps, 16 8 changes, 24 8 XXH3-64 of the stream before the tag;
 *                nothing follows
 */
#ifndef METASTORE_STORAGED_SNAPSHOT_FORMAT_H
#define METASTORE_STORAGED_SNAPSHOT_FORMAT_H

#define SNAPSHOT_MAGIC  "MSSNAP\r\n"
#define SNAPSHOT_FORMAT 1

#define SNAPSHOT_CHUNK_BYTES      (256 * 1024)
#define SNAPSHOT_CHUNK_HEAD_BYTES 16
#define SNAPSHOT_HEADER_BYTES     64

#define SNAPSHOT_TAG_RECORD 'R'
#define SNAPSHOT_TAG_KEY    'K'
#define SNAPSHOT_TAG_CHANGE 'C'
#define SNAPSHOT_TAG_END    'E'

/* Fixed parts behind the tag. */
#define SNAPSHOT_RECORD_BYTES 5
#define SNAPSHOT_KEY_BYTES    6
#define SNAPSHOT_STAMP_BYTES  12
#define SNAPSHOT_CHANGE_BYTES 43
#define SNAPSHOT_END_BYTES    32

#define SNAPSHOT_TOMBSTONE_BIT UINT32_C(0x80000000)

#endif

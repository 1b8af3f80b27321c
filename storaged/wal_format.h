/*
 * wal_format: the bytes of a log segment, encoded and decoded. Knows no files.
 *
 * A segment is a file of fixed size. Its first block names it, batches follow, each starting on a
 * block. All numbers are little-endian.
 *
 *   segment header, the first block                 batch, from a block boundary on
 *   offset size                                     offset size
 *        0    8  "MSWALSEG"                              0    8  checksum of all that follows it
 *        8    4  format, WAL_FORMAT                      8    4  "MSWB"
 *       12    4  1: the file was used before            12    4  payload length
 *       16    8  sequence number of the segment         16    8  sequence number of the segment
 *       24    8  salt, random                           24    8  number of the batch in the log
 *       32    8  size of the file                       32    .  payload: records
 *       40    8  checksum of the 40 bytes above          .    .  zeros up to the next block
 *       48    .  zeros
 *
 * Checksums are XXH3-64; those of batches are seeded with the salt of their segment, so that what
 * an earlier life of a recycled file left behind is never taken for a batch of this one. One batch
 * is one write and one sync; the zeros behind its payload are not checked.
 *
 *   record                                          body by type
 *   offset size                                     OPENING   104  see struct wal_opening
 *        0    4  type, enum wal_record_type         ENTRY      24  term, index, type 4, zero 4;
 * data 4    4  length of the body                 HARD_STATE 24  term, vote, commit 8    .  body
 * CONF        8  index; encoded configuration .    .  zeros up to a multiple of 8        SNAPSHOT
 * 16  index, term COMPACT    16  index, term RESET      16  index, term
 *
 * The first batch of a segment holds an OPENING and nothing else: all that a reader has to know of
 * the segments before, so that a start needs to read only the last one whole. In the order of the
 * log an ENTRY replaces what stood at its index and discards everything behind; COMPACT forgets
 * entries up to its index, RESET all of them: the log starts anew behind its index.
 */
#ifndef METASTORE_STORAGED_WAL_FORMAT_H
#define METASTORE_STORAGED_WAL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/log_store.h"

#define WAL_FORMAT             1
#define WAL_BLOCK_BYTES        4096u
#define WAL_BATCH_HEADER_BYTES 32u
#define WAL_RECORD_BYTES       8u
#define WAL_ENTRY_BYTES        24u

struct wal_header {
    uint64_t sequence;
    uint64_t salt;
    uint64_t size_bytes;
    bool used_before; /* what lies behind the last batch is not zeros */
};

enum wal_record_type {
    WAL_RECORD_OPENING = 1,
    WAL_RECORD_ENTRY = 2,
    WAL_RECORD_HARD_STATE = 3,
    WAL_RECORD_CONF = 4,
    WAL_RECORD_SNAPSHOT = 5,
    WAL_RECORD_COMPACT = 6,
    WAL_RECORD_RESET = 7,
};

/* The body of an OPENING: the numbers below, 8 bytes each, in this order. */
struct wal_opening {
    uint64_t previous_sequence; /* 0: there was none */
    uint64_t previous_end;      /* offset behind its last batch */
    raft_index previous_lowest; /* lowest index of an entry record in it; 0: has none */
    uint64_t previous_confs;    /* CONF records in it */
    struct log_state state;     /* as the segments before leave it */
};
#define WAL_OPENING_BYTES 104u

/* A decoded record with its body; pointers are into the batch. */
struct wal_item {
    enum wal_record_type type;
    union {
        struct wal_opening opening;
        struct log_entry entry;
        struct ms_hard_state hard_state;
        struct {
            raft_index index;
            const uint8_t *data;
            size_t data_bytes;
        } conf;
        struct {
            raft_index index;
            raft_term term;
        } mark; /* SNAPSHOT, COMPACT and RESET */
    };
};

/* Rounds up to whole blocks. */
static inline uint64_t wal_blocks_up(uint64_t len_bytes)
{
    return (len_bytes + WAL_BLOCK_BYTES - 1) / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES;
}

/* Bytes that a record with such a body takes. */
static inline size_t wal_record_bytes(size_t body_bytes)
{
    return WAL_RECORD_BYTES + (body_bytes + 7) / 8 * 8;
}

/* block is WAL_BLOCK_BYTES long. */
void wal_header_encode(const struct wal_header *header, uint8_t *block);

/*
 * MS_EINVAL: not a log segment at all, or one of another format; MS_ECORRUPT: the header is
 * damaged. err says which, without naming the file.
 */
int wal_header_decode(const uint8_t *block, struct wal_header *out, struct ms_err *err);

/*
 * Writers of records: dst must have room for wal_record_bytes of the body; the bytes taken are
 * returned.
 */
size_t wal_put_opening(uint8_t *dst, const struct wal_opening *opening);
size_t wal_put_entry(uint8_t *dst, const struct log_entry *entry);
size_t wal_put_hard_state(uint8_t *dst, const struct ms_hard_state *hard_state);
size_t wal_put_conf(uint8_t *dst, raft_index index, const uint8_t *conf, size_t conf_bytes);
size_t wal_put_mark(uint8_t *dst, enum wal_record_type type, raft_index index, raft_term term);

/*
 * Completes a batch whose payload stands at batch + WAL_BATCH_HEADER_BYTES: fills the header, zeros
 * the rest of the last block. Returns the length in whole blocks; batch has that much room.
 */
size_t wal_batch_seal(uint8_t *batch, size_t payload_bytes, const struct wal_header *segment,
                      uint64_t number);

/*
 * What the first WAL_BATCH_HEADER_BYTES at a block boundary say: true if a batch of this segment
 * seems to start there, with its number and length (header and payload). The checksum decides.
 */
bool wal_batch_peek(const uint8_t *start, const struct wal_header *segment, uint64_t *number,
                    size_t *len_bytes);

/* True if the checksum of the batch of len_bytes (header and payload) holds. */
bool wal_batch_valid(const uint8_t *batch, size_t len_bytes, const struct wal_header *segment);

/*
 * The record at *offset of a payload, decoded; *offset moves behind it. MS_ENOENT: the payload ends
 * here; MS_ECORRUPT: no record that this format knows.
 */
int wal_item_next(const uint8_t *payload, size_t payload_bytes, size_t *offset,
                  struct wal_item *out);

#endif

/*
 * command: what a log entry of type MS_ENTRY_NORMAL says to the state machine.
 *
 * Encoded by apid, opaque to raftd, decoded by storaged; it goes to disk and to peers, so the
 * encoding is explicit little-endian:
 *
 *   offset size
 *        0    1  format, MS_COMMAND_FORMAT
 *        1    1  kind, enum ms_command_kind
 *        2    1  condition, enum ms_command_condition
 *        3    1  zero
 *        4    4  key length
 *        8    8  operation id: origin
 *       16    8  operation id: seq
 *       24    8  ack: every seq of this origin below it has been answered to its client
 *       32    8  revision: of the condition, or to compact at
 *       40    4  value length
 *       44    4  zero
 *       48    .  key, value
 *
 * An entry without any data is a leader's first entry and changes nothing but the applied index.
 */
#ifndef METASTORE_COMMON_COMMAND_H
#define METASTORE_COMMON_COMMAND_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/types.h"

#define MS_COMMAND_FORMAT       1
#define MS_COMMAND_HEADER_BYTES 48
#define MS_KEY_BYTES_MAX        8192

enum ms_command_kind {
    MS_COMMAND_PUT = 1,
    MS_COMMAND_DELETE = 2,
    MS_COMMAND_COMPACT = 3, /* history below revision may go; no key, no id needed */
};

enum ms_command_condition {
    MS_CONDITION_NONE = 0,
    MS_CONDITION_MOD_REVISION = 1, /* the key exists and was last changed at revision */
    MS_CONDITION_ABSENT = 2,
    MS_CONDITION_PRESENT = 3,
};

struct ms_command {
    struct ms_op_id id;
    uint64_t ack_seq;
    uint64_t revision;
    enum ms_command_kind kind;
    enum ms_command_condition condition;
    const uint8_t *key; /* borrowed from whatever was decoded */
    size_t key_bytes;
    const uint8_t *value;
    size_t value_bytes;
};

/* Bytes that ms_command_encode will write. */
size_t ms_command_encoded_bytes(const struct ms_command *command);

/* Writes exactly ms_command_encoded_bytes(command) to dst. The command must be valid (assert). */
void ms_command_encode(const struct ms_command *command, uint8_t *dst);

/*
 * Checks and decodes one command; out borrows from data. MS_ECORRUPT for anything encode would not
 * have written (format, kind, condition, lengths, a key of 0 or over MS_KEY_BYTES_MAX bytes).
 */
int ms_command_decode(const uint8_t *data, size_t len_bytes, struct ms_command *out);

#endif

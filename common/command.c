/*
 * command: the codec of what a log entry says to the state machine; drawn in command.h.
 *
 * Encoding trusts its caller, who built the command; decoding trusts nobody, because the bytes come
 * from a disk, a peer or a worker that may be broken.
 */
#include "common/command.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "common/le.h"

enum command_offset {
    OFFSET_FORMAT = 0,
    OFFSET_KIND = 1,
    OFFSET_CONDITION = 2,
    OFFSET_ZERO = 3,
    OFFSET_KEY_BYTES = 4,
    OFFSET_ORIGIN = 8,
    OFFSET_SEQ = 16,
    OFFSET_ACK = 24,
    OFFSET_REVISION = 32,
    OFFSET_VALUE_BYTES = 40,
    OFFSET_ZERO_LONG = 44,
};

/* Which parts each kind may have: the one rule that both directions go by. */
static bool shape_is_valid(uint32_t kind, uint32_t condition, size_t key_bytes, size_t value_bytes)
{
    if (condition > MS_CONDITION_PRESENT) {
        return false;
    }
    if (kind == MS_COMMAND_COMPACT) {
        return condition == MS_CONDITION_NONE && key_bytes == 0 && value_bytes == 0;
    }
    if (key_bytes == 0 || key_bytes > MS_KEY_BYTES_MAX) {
        return false;
    }
    return kind == MS_COMMAND_PUT || (kind == MS_COMMAND_DELETE && value_bytes == 0);
}

size_t ms_command_encoded_bytes(const struct ms_command *command)
{
    return MS_COMMAND_HEADER_BYTES + command->key_bytes + command->value_bytes;
}

void ms_command_encode(const struct ms_command *command, uint8_t *dst)
{
    assert(shape_is_valid(command->kind, command->condition, command->key_bytes,
                          command->value_bytes));
    assert(command->value_bytes <= UINT32_MAX);

    dst[OFFSET_FORMAT] = MS_COMMAND_FORMAT;
    dst[OFFSET_KIND] = (uint8_t)command->kind;
    dst[OFFSET_CONDITION] = (uint8_t)command->condition;
    dst[OFFSET_ZERO] = 0;
    ms_le_put_u32(dst + OFFSET_KEY_BYTES, (uint32_t)command->key_bytes);
    ms_le_put_u64(dst + OFFSET_ORIGIN, command->id.origin);
    ms_le_put_u64(dst + OFFSET_SEQ, command->id.seq);
    ms_le_put_u64(dst + OFFSET_ACK, command->ack_seq);
    ms_le_put_u64(dst + OFFSET_REVISION, command->revision);
    ms_le_put_u32(dst + OFFSET_VALUE_BYTES, (uint32_t)command->value_bytes);
    ms_le_put_u32(dst + OFFSET_ZERO_LONG, 0);
    dst += MS_COMMAND_HEADER_BYTES;
    if (command->key_bytes > 0) {
        memcpy(dst, command->key, command->key_bytes);
    }
    if (command->value_bytes > 0) {
        memcpy(dst + command->key_bytes, command->value, command->value_bytes);
    }
}

int ms_command_decode(const uint8_t *data, size_t len_bytes, struct ms_command *out)
{
    uint32_t key_bytes;
    uint32_t value_bytes;

    if (len_bytes < MS_COMMAND_HEADER_BYTES || data[OFFSET_FORMAT] != MS_COMMAND_FORMAT ||
        data[OFFSET_ZERO] != 0 || ms_le_get_u32(data + OFFSET_ZERO_LONG) != 0) {
        return MS_ECORRUPT;
    }
    key_bytes = ms_le_get_u32(data + OFFSET_KEY_BYTES);
    value_bytes = ms_le_get_u32(data + OFFSET_VALUE_BYTES);
    if (!shape_is_valid(data[OFFSET_KIND], data[OFFSET_CONDITION], key_bytes, value_bytes) ||
        len_bytes != (uint64_t)MS_COMMAND_HEADER_BYTES + key_bytes + value_bytes) {
        return MS_ECORRUPT;
    }

    out->id.origin = ms_le_get_u64(data + OFFSET_ORIGIN);
    out->id.seq = ms_le_get_u64(data + OFFSET_SEQ);
    out->ack_seq = ms_le_get_u64(data + OFFSET_ACK);
    out->revision = ms_le_get_u64(data + OFFSET_REVISION);
    out->kind = (enum ms_command_kind)data[OFFSET_KIND];
    out->condition = (enum ms_command_condition)data[OFFSET_CONDITION];
    out->key = data + MS_COMMAND_HEADER_BYTES;
    out->key_bytes = key_bytes;
    out->value = out->key + key_bytes;
    out->value_bytes = value_bytes;
    return MS_OK;
}

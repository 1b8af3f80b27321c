/*
 * entry: sizes of entries, and configuration changes as entry data.
 *
 * Sizes are those of the entry as a protobuf message, because the protocol's byte limits are
 * defined that way:
 *
 *     tag, term (varint)    tag, index (varint)    [tag, type]    [tag, length (varint), data]
 *
 * The type is there for changes and for entries that stand in for one. Changes are protobuf,
 * too:
 *
 *     one change            10 type  18 id  [22 length context]
 *     list of changes       08 transition  { 12 length { 08 type  10 id } }  [1a length context]
 */
#include <string.h>

#include "raftd/core/raft.h"

enum {
    WIRE_VARINT = 0,
    WIRE_FIXED64 = 1,
    WIRE_BYTES = 2,
    WIRE_FIXED32 = 5,
};

/* Tags: field number and wire type. */
enum {
    V1_TYPE = 0x10,
    V1_ID = 0x18,
    V1_CONTEXT = 0x22,
    V2_TRANSITION = 0x08,
    V2_CHANGE = 0x12,
    V2_CONTEXT = 0x1a,
    CHANGE_TYPE = 0x08,
    CHANGE_ID = 0x10,
};

static size_t varint_bytes(uint64_t number)
{
    size_t count = 1;

    while (number >= 0x80) {
        number >>= 7;
        count++;
    }
    return count;
}

/* ---- sizes ---- */

uint64_t raft_entry_encoded_bytes(const struct raft_entry *entry)
{
    uint64_t bytes = 1 + varint_bytes(entry->term) + 1 + varint_bytes(entry->index);

    if (entry->type != RAFT_ENTRY_NORMAL || entry->stands_in) {
        bytes += 2;
    }
    if (entry->data != NULL) {
        bytes += 1 + varint_bytes(entry->len_bytes) + entry->len_bytes;
    }
    return bytes;
}

size_t raft_entries_fit(const struct raft_entry *entries, size_t count, uint64_t max_bytes)
{
    uint64_t left = max_bytes;

    if (max_bytes == RAFT_NO_LIMIT) {
        return count;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes = raft_entry_encoded_bytes(&entries[i]);

        if (bytes > left) {
            return i == 0 ? 1 : i;
        }
        left -= bytes;
    }
    return count;
}

/* ---- writing ---- */

/* Counts what does not fit, too, so that one pass tells the size that is needed. */
struct writer {
    uint8_t *dst;
    size_t capacity;
    size_t len;
};

static void write_byte(struct writer *writer, uint8_t byte)
{
    if (writer->len < writer->capacity) {
        writer->dst[writer->len] = byte;
    }
    writer->len++;
}

static void write_varint(struct writer *writer, uint64_t number)
{
    while (number >= 0x80) {
        write_byte(writer, (uint8_t)(number | 0x80));
        number >>= 7;
    }
    write_byte(writer, (uint8_t)number);
}

static void write_field(struct writer *writer, uint8_t tag, uint64_t number)
{
    write_byte(writer, tag);
    write_varint(writer, number);
}

static void write_context(struct writer *writer, uint8_t tag, const struct raft_conf_change *change)
{
    const uint8_t *bytes = change->context;

    if (bytes == NULL) {
        return;
    }
    write_field(writer, tag, change->context_bytes);
    for (size_t i = 0; i < change->context_bytes; i++) {
        write_byte(writer, bytes[i]);
    }
}

int raft_conf_change_encode(const struct raft_conf_change *change, uint8_t *dst, size_t dst_bytes,
                            size_t *len_bytes)
{
    struct writer writer = {.dst = dst, .capacity = dst_bytes};

    if (change->count > RAFT_CHANGES_MAX ||
        (change->v1 && (change->count != 1 || change->transition != RAFT_TRANSITION_AUTO))) {
        return MS_EINVAL;
    }
    if (change->v1) {
        write_field(&writer, V1_TYPE, change->changes[0].type);
        write_field(&writer, V1_ID, change->changes[0].id);
        write_context(&writer, V1_CONTEXT, change);
    } else {
        write_field(&writer, V2_TRANSITION, change->transition);
        for (size_t i = 0; i < change->count; i++) {
            const struct raft_change *single = &change->changes[i];

            write_field(&writer, V2_CHANGE,
                        2 + varint_bytes(single->type) + varint_bytes(single->id));
            write_field(&writer, CHANGE_TYPE, single->type);
            write_field(&writer, CHANGE_ID, single->id);
        }
        write_context(&writer, V2_CONTEXT, change);
    }
    *len_bytes = writer.len;
    return writer.len <= dst_bytes ? MS_OK : MS_ERANGE;
}

/* ---- reading ---- */

struct reader {
    const uint8_t *at;
    const uint8_t *end;
};

static int read_varint(struct reader *reader, uint64_t *number)
{
    uint64_t result = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte;

        if (reader->at == reader->end) {
            return MS_ECORRUPT;
        }
        byte = *reader->at++;
        if (shift == 63 && byte > 1) {
            return MS_ECORRUPT;
        }
        result |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *number = result;
            return MS_OK;
        }
    }
    return MS_ECORRUPT;
}

/* One field: its tag, and its number or its bytes. Fields of other kinds are read past. */
struct field {
    uint64_t tag;
    uint64_t number;     /* varint */
    struct reader bytes; /* length delimited */
};

static int read_bytes(struct reader *reader, uint64_t len_bytes, struct reader *out)
{
    if (len_bytes > (size_t)(reader->end - reader->at)) {
        return MS_ECORRUPT;
    }
    out->at = reader->at;
    out->end = reader->at + len_bytes;
    reader->at = out->end;
    return MS_OK;
}

static int read_field(struct reader *reader, struct field *field)
{
    uint64_t len_bytes;
    int rc = read_varint(reader, &field->tag);

    if (rc != MS_OK) {
        return rc;
    }
    switch (field->tag & 7) {
    case WIRE_VARINT:
        return read_varint(reader, &field->number);
    case WIRE_FIXED64:
        return read_bytes(reader, 8, &field->bytes);
    case WIRE_BYTES:
        rc = read_varint(reader, &len_bytes);
        return rc != MS_OK ? rc : read_bytes(reader, len_bytes, &field->bytes);
    case WIRE_FIXED32:
        return read_bytes(reader, 4, &field->bytes);
    default:
        return MS_ECORRUPT;
    }
}

static int set_type(struct raft_change *change, uint64_t number)
{
    if (number > RAFT_ADD_LEARNER) {
        return MS_ECORRUPT;
    }
    change->type = (enum raft_change_type)number;
    return MS_OK;
}

static void set_context(struct raft_conf_change *change, const struct reader *bytes)
{
    change->context = bytes->at;
    change->context_bytes = (size_t)(bytes->end - bytes->at);
}

static int decode_v1(struct reader *reader, struct raft_conf_change *change)
{
    int rc = MS_OK;

    change->v1 = true;
    change->count = 1;
    while (rc == MS_OK && reader->at < reader->end) {
        struct field field;

        rc = read_field(reader, &field);
        if (rc != MS_OK) {
            break;
        }
        if (field.tag == V1_TYPE) {
            rc = set_type(&change->changes[0], field.number);
        } else if (field.tag == V1_ID) {
            change->changes[0].id = field.number;
        } else if (field.tag == V1_CONTEXT) {
            set_context(change, &field.bytes);
        }
    }
    return rc;
}

static int decode_single(struct reader *reader, struct raft_change *change)
{
    int rc = MS_OK;

    while (rc == MS_OK && reader->at < reader->end) {
        struct field field;

        rc = read_field(reader, &field);
        if (rc != MS_OK) {
            break;
        }
        if (field.tag == CHANGE_TYPE) {
            rc = set_type(change, field.number);
        } else if (field.tag == CHANGE_ID) {
            change->id = field.number;
        }
    }
    return rc;
}

static int decode_v2(struct reader *reader, struct raft_conf_change *change)
{
    int rc = MS_OK;

    while (rc == MS_OK && reader->at < reader->end) {
        struct field field;

        rc = read_field(reader, &field);
        if (rc != MS_OK) {
            break;
        }
        if (field.tag == V2_TRANSITION) {
            if (field.number > RAFT_TRANSITION_EXPLICIT) {
                return MS_ECORRUPT;
            }
            change->transition = (enum raft_transition)field.number;
        } else if (field.tag == V2_CHANGE) {
            if (change->count == RAFT_CHANGES_MAX) {
                return MS_ECORRUPT;
            }
            rc = decode_single(&field.bytes, &change->changes[change->count++]);
        } else if (field.tag == V2_CONTEXT) {
            set_context(change, &field.bytes);
        }
    }
    return rc;
}

int raft_conf_change_decode(const struct raft_entry *entry, struct raft_conf_change *out)
{
    struct raft_conf_change change;
    struct reader reader;
    int rc = MS_EINVAL;

    memset(&change, 0, sizeof(change));
    reader.at = entry->data;
    reader.end = reader.at + (entry->data == NULL ? 0 : entry->len_bytes);
    switch (entry->type) {
    case RAFT_ENTRY_NORMAL:
        return MS_EINVAL;
    case RAFT_ENTRY_CONF_CHANGE:
        rc = decode_v1(&reader, &change);
        break;
    case RAFT_ENTRY_CONF_CHANGE_V2:
        rc = decode_v2(&reader, &change);
        break;
    }
    if (rc == MS_OK) {
        *out = change;
    }
    return rc;
}

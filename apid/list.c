/*
 * list: see list.h. Each entry is measured before it is written, so the bound is kept exactly and
 * the buffer grows at most once per entry.
 */
#include "apid/list.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Everything of an entry but key and value: names, punctuation and three numbers of 20 digits. */
#define ENTRY_FRAME_BYTES 160

#define APPEND_LITERAL(list, literal) append((list), (literal), sizeof(literal) - 1)

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char hex_digits[] = "0123456789abcdef";

void list_init(struct list *list, uint32_t limit)
{
    assert(limit > 0);
    *list = (struct list){.limit = limit};
}

void list_fini(struct list *list)
{
    free(list->text);
    list->text = NULL;
}

static bool reserve(struct list *list, size_t more_bytes)
{
    size_t wanted = list->len_bytes + more_bytes;
    size_t room = list->room_bytes == 0 ? 4096 : list->room_bytes;
    char *text;

    if (wanted <= list->room_bytes) {
        return true;
    }
    while (room < wanted) {
        room *= 2;
    }
    text = realloc(list->text, room);
    if (text == NULL) {
        list->failed = true;
        return false;
    }
    list->text = text;
    list->room_bytes = room;
    return true;
}

static void append(struct list *list, const char *text, size_t len_bytes)
{
    memcpy(list->text + list->len_bytes, text, len_bytes);
    list->len_bytes += len_bytes;
}

static void append_number(struct list *list, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    append(list, digits + at, sizeof(digits) - at);
}

static size_t base64_bytes(size_t len_bytes)
{
    return (len_bytes + 2) / 3 * 4;
}

/* RFC 4648 section 4, with padding. */
static void append_base64(struct list *list, const uint8_t *data, size_t len_bytes)
{
    char *dst = list->text + list->len_bytes;
    size_t i;

    for (i = 0; i + 2 < len_bytes; i += 3) {
        uint32_t bits = (uint32_t)data[i] << 16 | (uint32_t)data[i + 1] << 8 | data[i + 2];

        *dst++ = base64_digits[bits >> 18];
        *dst++ = base64_digits[bits >> 12 & 63];
        *dst++ = base64_digits[bits >> 6 & 63];
        *dst++ = base64_digits[bits & 63];
    }
    if (i < len_bytes) {
        bool two = i + 1 < len_bytes;
        uint32_t bits = (uint32_t)data[i] << 16 | (two ? (uint32_t)data[i + 1] << 8 : 0);

        *dst++ = base64_digits[bits >> 18];
        *dst++ = base64_digits[bits >> 12 & 63];
        *dst++ = two ? base64_digits[bits >> 6 & 63] : '=';
        *dst++ = '=';
    }
    list->len_bytes = (size_t)(dst - list->text);
}

/*
 * Length of the UTF-8 sequence at data, or 0 if it is none: overlong forms, surrogates and what
 * lies behind U+10FFFF are none (RFC 3629 section 4).
 */
static size_t utf8_sequence(const uint8_t *data, size_t len_bytes)
{
    uint8_t lead = data[0];
    uint8_t low = 0x80;
    uint8_t high = 0xbf;
    size_t length;

    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xc2 || lead > 0xf4) {
        return 0;
    }
    length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (length > len_bytes) {
        return 0;
    }
    /* The first continuation byte is what tells the forbidden ranges. */
    if (lead == 0xe0) {
        low = 0xa0;
    } else if (lead == 0xed) {
        high = 0x9f;
    } else if (lead == 0xf0) {
        low = 0x90;
    } else if (lead == 0xf4) {
        high = 0x8f;
    }
    if (data[1] < low || data[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < length; i++) {
        if (data[i] < 0x80 || data[i] > 0xbf) {
            return 0;
        }
    }
    return length;
}

static size_t escaped_bytes(uint8_t byte)
{
    if (byte == '"' || byte == '\\') {
        return 2;
    }
    return byte < 0x20 || byte == 0x7f ? 6 : 1;
}

/* Bytes that the key takes as the inside of a JSON string; false if it is not UTF-8. */
static bool measure_string(const uint8_t *data, size_t len_bytes, size_t *out_bytes)
{
    size_t total = 0;
    size_t at = 0;

    while (at < len_bytes) {
        size_t length = utf8_sequence(data + at, len_bytes - at);

        if (length == 0) {
            return false;
        }
        total += length == 1 ? escaped_bytes(data[at]) : length;
        at += length;
    }
    *out_bytes = total;
    return true;
}

static void append_string(struct list *list, const uint8_t *data, size_t len_bytes)
{
    char *dst = list->text + list->len_bytes;

    for (size_t i = 0; i < len_bytes; i++) {
        uint8_t byte = data[i];

        switch (escaped_bytes(byte)) {
        case 2:
            *dst++ = '\\';
            *dst++ = (char)byte;
            break;
        case 6:
            memcpy(dst, "\\u00", 4);
            dst[4] = hex_digits[byte >> 4];
            dst[5] = hex_digits[byte & 15];
            dst += 6;
            break;
        default:
            *dst++ = (char)byte;
            break;
        }
    }
    list->len_bytes = (size_t)(dst - list->text);
}

bool list_visit(void *ctx, const struct ms_memdb_kv *kv)
{
    struct list *list = ctx;
    size_t key_bytes;
    bool is_text = measure_string(kv->key, kv->key_bytes, &key_bytes);
    size_t entry_bytes;

    if (!is_text) {
        key_bytes = base64_bytes(kv->key_bytes);
    }
    entry_bytes = ENTRY_FRAME_BYTES + key_bytes + base64_bytes(kv->value_bytes);
    if (list->count == list->limit ||
        (list->count > 0 && list->len_bytes + entry_bytes > LIST_BYTES_MAX)) {
        list->more = true;
        return false;
    }
    if (!reserve(list, entry_bytes)) {
        return false;
    }

    append(list, list->count == 0 ? "[" : ",", 1);
    if (is_text) {
        APPEND_LITERAL(list, "{\"key\":\"");
        append_string(list, kv->key, kv->key_bytes);
    } else {
        APPEND_LITERAL(list, "{\"key_base64\":\"");
        append_base64(list, kv->key, kv->key_bytes);
    }
    APPEND_LITERAL(list, "\",\"value\":\"");
    append_base64(list, kv->value, kv->value_bytes);
    APPEND_LITERAL(list, "\",\"create_revision\":");
    append_number(list, kv->create_revision);
    APPEND_LITERAL(list, ",\"mod_revision\":");
    append_number(list, kv->mod_revision);
    APPEND_LITERAL(list, ",\"version\":");
    append_number(list, kv->version);
    APPEND_LITERAL(list, "}");
    list->count++;
    return true;
}

int list_finish(struct list *list)
{
    if (list->failed || !reserve(list, 3)) {
        return MS_ENOMEM;
    }
    if (list->count == 0) {
        APPEND_LITERAL(list, "[");
    }
    APPEND_LITERAL(list, "]\n");
    return MS_OK;
}

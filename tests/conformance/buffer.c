/*
 * buffer: see buffer.h.
 */
#include "tests/conformance/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 256

void *buffer_realloc(void *memory, size_t len_bytes)
{
    void *result = realloc(memory, len_bytes == 0 ? 1 : len_bytes);

    if (result == NULL) {
        (void)fputs("raft-conformance: out of memory\n", stderr);
        exit(2);
    }
    return result;
}

void *buffer_alloc(size_t len_bytes)
{
    return buffer_realloc(NULL, len_bytes);
}

static void reserve(struct buffer *buffer, size_t extra)
{
    size_t needed = buffer->len + extra + 1;

    if (needed > buffer->capacity) {
        buffer->capacity = needed < CAPACITY_MIN ? CAPACITY_MIN : 2 * needed;
        buffer->text = buffer_realloc(buffer->text, buffer->capacity);
    }
}

void buffer_add_bytes(struct buffer *buffer, const char *bytes, size_t len_bytes)
{
    reserve(buffer, len_bytes);
    memcpy(buffer->text + buffer->len, bytes, len_bytes);
    buffer->len += len_bytes;
    buffer->text[buffer->len] = '\0';
}

void buffer_add(struct buffer *buffer, const char *format, ...)
{
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0) {
        return;
    }
    reserve(buffer, (size_t)len);
    va_start(args, format);
    (void)vsnprintf(buffer->text + buffer->len, (size_t)len + 1, format, args);
    va_end(args);
    buffer->len += (size_t)len;
}

void buffer_add_indented(struct buffer *buffer, const struct buffer *src)
{
    size_t at = 0;

    while (at < src->len) {
        const char *end = memchr(src->text + at, '\n', src->len - at);
        size_t len = end == NULL ? src->len - at : (size_t)(end - (src->text + at));

        buffer_add_bytes(buffer, "  ", 2);
        buffer_add_bytes(buffer, src->text + at, len);
        buffer_add_bytes(buffer, "\n", 1);
        at += len + 1;
    }
}

const char *buffer_text(const struct buffer *buffer)
{
    return buffer->text == NULL ? "" : buffer->text;
}

void buffer_fini(struct buffer *buffer)
{
    free(buffer->text);
    *buffer = (struct buffer){0};
}

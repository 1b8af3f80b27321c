/*
 * buffer: text that grows. Out of memory ends the test driver.
 */
#ifndef METASTORE_TESTS_CONFORMANCE_BUFFER_H
#define METASTORE_TESTS_CONFORMANCE_BUFFER_H

#include <stddef.h>

/* Memory that never is NULL. */
void *buffer_alloc(size_t len_bytes);
void *buffer_realloc(void *memory, size_t len_bytes);

/* All zero is an empty buffer. text is NULL or ends in 0. */
struct buffer {
    char *text;
    size_t len;
    size_t capacity;
};

void buffer_add(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void buffer_add_bytes(struct buffer *buffer, const char *bytes, size_t len_bytes);
/* Appends every line of src with two spaces in front and a newline at its end. */
void buffer_add_indented(struct buffer *buffer, const struct buffer *src);
const char *buffer_text(const struct buffer *buffer);
void buffer_fini(struct buffer *buffer);

#endif

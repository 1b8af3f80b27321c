/*
 * files: temporary directories and small files for tests. Every function fails the test when the
 * kernel refuses.
 */
#ifndef METASTORE_TESTS_SUPPORT_FILES_H
#define METASTORE_TESTS_SUPPORT_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    FILES_PATH_BYTES = 512
};

/* Creates an empty directory below parent (NULL: $TMPDIR or /tmp) and writes its path to dst. */
void files_temp_dir(const char *parent, char *dst, size_t dst_bytes);

/* Removes path and everything in it; what does not exist is fine. Returns false if some stayed. */
bool files_remove_tree(const char *path);

/* Copies a directory with everything in it. */
void files_copy_tree(const char *from, const char *to);

void files_write(const char *path, const void *data, size_t len_bytes);

/* The whole file, with a zero behind it; free() it. */
char *files_read(const char *path, size_t *len_bytes);

off_t files_size(const char *path);
bool files_exist(const char *path);

/* The names in a directory that end in suffix, sorted; returns how many (at most max). */
size_t files_list(const char *directory, const char *suffix, char names[][256], size_t max);

/* printf into a path buffer; fails the test when it does not fit. */
__attribute__((format(printf, 3, 4))) void files_path(char *dst, size_t dst_bytes,
                                                      const char *format, ...);

#endif

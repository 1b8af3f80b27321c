/*
 * files: temporary directories and small files for tests.
 */
#include "tests/support/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/check.h"

enum {
    DESCRIPTORS_FOR_WALK = 16
};

void files_path(char *dst, size_t dst_bytes, const char *format, ...)
{
    va_list args;
    int written;

    va_start(args, format);
    written = vsnprintf(dst, dst_bytes, format, args);
    va_end(args);
    check_that(written >= 0 && (size_t)written < dst_bytes, "path too long: %s", dst);
}

void files_temp_dir(const char *parent, char *dst, size_t dst_bytes)
{
    const char *tmp = getenv("TMPDIR");

    if (parent == NULL) {
        parent = tmp != NULL && tmp[0] != '\0' ? tmp : "/tmp";
    }
    files_path(dst, dst_bytes, "%s/ms-XXXXXX", parent);
    check_that(mkdtemp(dst) != NULL, "mkdtemp %s: %s", dst, strerror(errno));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    /* A file that a dying process removed first is gone, which is what was wanted. */
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

bool files_remove_tree(const char *path)
{
    return nftw(path, remove_one, DESCRIPTORS_FOR_WALK, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0 ||
           !files_exist(path);
}

static void copy_file(const char *from, const char *to)
{
    size_t len_bytes;
    char *data = files_read(from, &len_bytes);

    files_write(to, data, len_bytes);
    free(data);
}

void files_copy_tree(const char *from, const char *to)
{
    DIR *directory = opendir(from);
    struct dirent *entry;

    check_that(directory != NULL, "opendir %s: %s", from, strerror(errno));
    check_that(mkdir(to, 0700) == 0 || errno == EEXIST, "mkdir %s: %s", to, strerror(errno));
    while ((entry = readdir(directory)) != NULL) {
        char source[FILES_PATH_BYTES];
        char target[FILES_PATH_BYTES];
        struct stat st;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        files_path(source, sizeof(source), "%s/%s", from, entry->d_name);
        files_path(target, sizeof(target), "%s/%s", to, entry->d_name);
        check_that(lstat(source, &st) == 0, "stat %s: %s", source, strerror(errno));
        if (S_ISDIR(st.st_mode)) {
            files_copy_tree(source, target);
        } else if (S_ISREG(st.st_mode)) {
            copy_file(source, target);
        }
    }
    (void)closedir(directory);
}

void files_write(const char *path, const void *data, size_t len_bytes)
{
    const uint8_t *from = data;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    check_that(fd >= 0, "create %s: %s", path, strerror(errno));
    while (len_bytes > 0) {
        ssize_t written = write(fd, from, len_bytes);

        check_that(written > 0, "write %s: %s", path, strerror(errno));
        from += written;
        len_bytes -= (size_t)written;
    }
    (void)close(fd);
}

char *files_read(const char *path, size_t *len_bytes)
{
    off_t size = files_size(path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t have = 0;
    char *data;

    check_that(fd >= 0, "open %s: %s", path, strerror(errno));
    data = malloc((size_t)size + 1);
    check_that(data != NULL, "no memory for %s", path);
    while (have < (size_t)size) {
        ssize_t got = read(fd, data + have, (size_t)size - have);

        check_that(got >= 0, "read %s: %s", path, strerror(errno));
        if (got == 0) {
            break;
        }
        have += (size_t)got;
    }
    data[have] = '\0';
    if (len_bytes != NULL) {
        *len_bytes = have;
    }
    (void)close(fd);
    return data;
}

off_t files_size(const char *path)
{
    struct stat st;

    check_that(stat(path, &st) == 0, "stat %s: %s", path, strerror(errno));
    return st.st_size;
}

bool files_exist(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(left, right);
}

size_t files_list(const char *directory, const char *suffix, char names[][256], size_t max)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    size_t count = 0;

    check_that(stream != NULL, "opendir %s: %s", directory, strerror(errno));
    while ((entry = readdir(stream)) != NULL && count < max) {
        size_t len_bytes = strlen(entry->d_name);
        size_t suffix_bytes = strlen(suffix);

        if (entry->d_name[0] == '.' || len_bytes < suffix_bytes ||
            strcmp(entry->d_name + len_bytes - suffix_bytes, suffix) != 0) {
            continue;
        }
        (void)snprintf(names[count++], sizeof(names[0]), "%s", entry->d_name);
    }
    (void)closedir(stream);
    qsort(names, count, sizeof(names[0]), compare_names);
    return count;
}

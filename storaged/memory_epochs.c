/*
 * memory_epochs: listing and removing.
 */
#include "storaged/memory_epochs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAME_BYTES 64

static bool parse_epoch(const char *name, uint64_t *out)
{
    char again[NAME_BYTES];
    uint64_t epoch;

    if (sscanf(name, MEMORY_EPOCH_FORMAT, &epoch) != 1 || epoch == 0) {
        return false;
    }
    (void)snprintf(again, sizeof(again), MEMORY_EPOCH_FORMAT, epoch);
    if (strcmp(again, name) != 0) {
        return false;
    }
    *out = epoch;
    return true;
}

DIR *memory_epochs_list(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);

    if (list == NULL && fd >= 0) {
        (void)close(fd);
    }
    return list;
}

int memory_epochs_remove(int dir_fd, uint64_t epoch, struct ms_err *err)
{
    static const char *const files[] = {"data.mdb", "lock.mdb"};
    char name[NAME_BYTES];
    int fd;

    (void)snprintf(name, sizeof(name), MEMORY_EPOCH_FORMAT, epoch);
    fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? MS_OK
                               : ms_err_set(err, MS_EIO, errno, "memory directory: open %s", name);
    }
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (unlinkat(fd, files[i], 0) != 0 && errno != ENOENT) {
            int rc =
                ms_err_set(err, MS_EIO, errno, "memory directory: remove %s/%s", name, files[i]);

            (void)close(fd);
            return rc;
        }
    }
    (void)close(fd);
    if (unlinkat(dir_fd, name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
        return ms_err_set(err, MS_EIO, errno, "memory directory: remove %s", name);
    }
    return MS_OK;
}

int memory_epochs_scan(int dir_fd, bool remove, uint64_t keep, uint64_t *newest, struct ms_err *err)
{
    DIR *list = memory_epochs_list(dir_fd);
    const struct dirent *entry;
    uint64_t found = 0;
    int rc = MS_OK;

    if (list == NULL) {
        return ms_err_set(err, MS_EIO, errno, "memory directory: list");
    }
    while (rc == MS_OK && (entry = readdir(list)) != NULL) {
        uint64_t epoch;

        if (!parse_epoch(entry->d_name, &epoch)) {
            continue;
        }
        found = epoch > found ? epoch : found;
        if (remove && epoch != keep) {
            rc = memory_epochs_remove(dir_fd, epoch, err);
        }
    }
    (void)closedir(list);
    if (rc == MS_OK) {
        *newest = found;
    }
    return rc;
}

/*
 * disk: a file system of a test's own whose writes can be made to wait.
 *
 * It lives in an image file behind a loop device, and is frozen as fsfreeze(8) does it: whoever
 * writes or syncs then sleeps, uninterruptibly, as with a disk that does not answer. Needs root,
 * loop devices and mkfs.ext4.
 */
#ifndef METASTORE_TESTS_SUPPORT_DISK_H
#define METASTORE_TESTS_SUPPORT_DISK_H

#include <stdbool.h>
#include <sys/types.h>

struct disk {
    int fd;        /* its root directory */
    int keeper_fd; /* closed: the keeper acts */
    pid_t keeper;  /* thaws it when the test dies, for nobody could end who waits for it */
};

/*
 * Makes one in the image file and mounts it at the directory, in a mount namespace that ends with
 * the test. False, with *reason set, if this machine does not let us.
 */
bool disk_create(struct disk *disk, const char *image_path, const char *directory,
                 const char **reason);
void disk_destroy(struct disk *disk);

/* Makes all writes wait from now on, or lets them go on. */
void disk_freeze(const struct disk *disk);
void disk_thaw(const struct disk *disk);

#endif

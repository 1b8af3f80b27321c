/*
 * disk: image, loop device, freezing.
 */
#include "tests/support/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/check.h"
#include "tests/support/node.h"

enum {
    IMAGE_BYTES = 512 * 1024 * 1024 /* sparse */
};

static bool run(const char *const argv[])
{
    char output[512];

    return node_command(argv, output, sizeof(output)) == 0;
}

static bool make_image(const char *path)
{
    const char *const make[] = {"mkfs.ext4", "-q", "-F", path, NULL};
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool made = fd >= 0 && ftruncate(fd, IMAGE_BYTES) == 0;

    if (fd >= 0) {
        (void)close(fd);
    }
    return made && run(make);
}

/* Sleeps until the test's end of the pipe is closed. */
static void run_keeper(int fd, int pipe_fd)
{
    char byte;

    (void)setsid();
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    (void)!read(pipe_fd, &byte, 1);
    (void)ioctl(fd, FITHAW, 0); /* fails if it is not frozen */
    _exit(0);
}

static void start_keeper(struct disk *disk)
{
    int fds[2];

    check_that(pipe2(fds, O_CLOEXEC) == 0, "pipe: %s", strerror(errno));
    disk->keeper = fork();
    check_that(disk->keeper >= 0, "fork: %s", strerror(errno));
    if (disk->keeper == 0) {
        (void)close(fds[1]);
        run_keeper(disk->fd, fds[0]);
    }
    (void)close(fds[0]);
    disk->keeper_fd = fds[1];
}

bool disk_create(struct disk *disk, const char *image_path, const char *directory,
                 const char **reason)
{
    const char *const mount_words[] = {"mount", "-o", "loop", image_path, directory, NULL};

    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", NULL, (unsigned long)MS_REC | MS_PRIVATE, NULL) != 0) {
        *reason = "mounting is not allowed here";
        return false;
    }
    if (!make_image(image_path)) {
        *reason = "no mkfs.ext4 that works";
        return false;
    }
    check_that(mkdir(directory, 0700) == 0, "mkdir %s: %s", directory, strerror(errno));
    if (!run(mount_words)) {
        *reason = "no loop device";
        (void)rmdir(directory);
        return false;
    }
    disk->fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check_that(disk->fd >= 0, "open %s: %s", directory, strerror(errno));
    start_keeper(disk);
    return true;
}

void disk_destroy(struct disk *disk)
{
    (void)close(disk->keeper_fd);
    (void)waitpid(disk->keeper, NULL, 0);
    (void)close(disk->fd);
}

void disk_freeze(const struct disk *disk)
{
    check_that(ioctl(disk->fd, FIFREEZE, 0) == 0, "freeze a disk: %s", strerror(errno));
}

void disk_thaw(const struct disk *disk)
{
    check_that(ioctl(disk->fd, FITHAW, 0) == 0, "thaw a disk: %s", strerror(errno));
}

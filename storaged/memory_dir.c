/*
 * memory_dir: finding, locking, judging and tidying the memory engine's directory.
 *
 * Others may write to the directory that ours lies in (/dev/shm is everybody's), so ours is only
 * used when it is a directory, belongs to us and is closed to all others, and is then only reached
 * through its descriptor.
 */
#include "storaged/memory_dir.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <xxhash.h>

#include "common/clock.h"
#include "storaged/memory_epochs.h"

#define BOOT_ID_FILE    "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_BYTES   64
#define OWNER_FILE      "owner"
#define MARKER_FILE     "poisoned"
#define FALLBACK_NAME   "memory"
#define NODE_DIR_LINE   "\nnode_dir="
#define NAME_BYTES      64
#define PATH_BYTES      4096
#define OWNER_BYTES_MAX (PATH_BYTES + 256)

/* Locking starts over when the directory was removed under our hands, but not for ever. */
#define LOCK_TRIES 8

struct memory_dir {
    int base_fd; /* what it lies in */
    int dir_fd;
    int owner_fd; /* locked */
    int marker_fd;
    char base[PATH_BYTES];
    char name[NAME_BYTES];
    char epoch_path[MEMORY_DIR_PATH_BYTES];
    uint64_t epoch; /* 0: none */
    uint64_t limit_bytes;
    const char *distrust;
    const char *fallback;
};

/* ---- small parts --------------------------------------------------------------------------- */

static int read_text(int fd, char *dst, size_t dst_bytes, struct ms_err *err)
{
    ssize_t got = pread(fd, dst, dst_bytes - 1, 0);

    if (got < 0) {
        return ms_err_set(err, MS_EIO, errno, "memory directory: read");
    }
    dst[got] = '\0';
    return MS_OK;
}

static int read_boot_id(const char *path, char dst[BOOT_ID_BYTES], struct ms_err *err)
{
    int fd = open(path == NULL ? BOOT_ID_FILE : path, O_RDONLY | O_CLOEXEC);
    int rc;

    if (fd < 0) {
        return ms_err_set(err, MS_EIO, errno, "open %s", path == NULL ? BOOT_ID_FILE : path);
    }
    rc = read_text(fd, dst, BOOT_ID_BYTES, err);
    dst[strcspn(dst, "\n")] = '\0';
    (void)close(fd);
    return rc;
}

/* What the owner file says while it is ours and of this boot. */
static int owner_text(const struct memory_dir_options *options, char *dst, struct ms_err *err)
{
    char boot_id[BOOT_ID_BYTES];
    int rc = read_boot_id(options->boot_id_file, boot_id, err);
    int length;

    if (rc != MS_OK) {
        return rc;
    }
    length = snprintf(dst, OWNER_BYTES_MAX, "format=1\nboot_id=%s" NODE_DIR_LINE "%s\n", boot_id,
                      options->node_dir);
    if (length < 0 || length >= OWNER_BYTES_MAX) {
        return ms_err_set(err, MS_EINVAL, 0, "path of the data directory is too long");
    }
    return MS_OK;
}

static void path_of(const struct memory_dir *dir, uint64_t epoch, char dst[MEMORY_DIR_PATH_BYTES])
{
    _Static_assert(MEMORY_DIR_PATH_BYTES >= PATH_BYTES + 2 * NAME_BYTES, "room for every path");

    (void)snprintf(dst, MEMORY_DIR_PATH_BYTES, "%s/%s/" MEMORY_EPOCH_FORMAT, dir->base, dir->name,
                   epoch);
}

static void set_epoch(struct memory_dir *dir, uint64_t epoch)
{
    dir->epoch = epoch;
    path_of(dir, epoch, dir->epoch_path);
}

/* ---- epochs -------------------------------------------------------------------------------- */

/* Bytes that the environments in the directory take. */
static uint64_t occupied_bytes(const struct memory_dir *dir)
{
    char path[NAME_BYTES + sizeof("/data.mdb")];
    struct stat st;

    (void)snprintf(path, sizeof(path), MEMORY_EPOCH_FORMAT "/data.mdb", dir->epoch);
    if (dir->epoch == 0 || fstatat(dir->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return 0;
    }
    return (uint64_t)st.st_blocks * 512;
}

/* ---- the directory and its lock ------------------------------------------------------------ */

static void close_all(struct memory_dir *dir)
{
    int *const fds[] = {&dir->marker_fd, &dir->owner_fd, &dir->dir_fd, &dir->base_fd};

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (*fds[i] >= 0) {
            (void)close(*fds[i]);
            *fds[i] = -1;
        }
    }
}

/* Opens a directory that is ours alone. */
static int open_private(int base_fd, const char *name, int *out, struct ms_err *err)
{
    int fd = openat(base_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0) {
        return ms_err_set(err, errno == ENOENT ? MS_ENOENT : MS_EPERM, errno, "open %s", name);
    }
    if (fstat(fd, &st) != 0 || st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
        (void)close(fd);
        return ms_err_set(err, MS_EPERM, 0, "%s is open to other users", name);
    }
    *out = fd;
    return MS_OK;
}

/* Opens and locks the owner file. MS_EBUSY: locked by another; MS_EAGAIN: removed meanwhile. */
static int lock_owner(int dir_fd, int flags, int *out, struct ms_err *err)
{
    int fd = openat(dir_fd, OWNER_FILE, O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
    struct stat opened;
    struct stat named;
    int rc = MS_OK;

    if (fd < 0) {
        rc = errno == ENOENT ? MS_EAGAIN : errno == ENOSPC ? MS_ENOSPC : MS_EIO;
        return ms_err_set(err, rc, errno, "memory directory: open " OWNER_FILE);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        rc = ms_err_set(err, errno == EWOULDBLOCK ? MS_EBUSY : MS_EIO, errno,
                        "memory directory: lock " OWNER_FILE);
    } else if (fstat(fd, &opened) != 0 ||
               fstatat(dir_fd, OWNER_FILE, &named, AT_SYMLINK_NOFOLLOW) != 0 ||
               opened.st_ino != named.st_ino) {
        rc = ms_err_set(err, MS_EAGAIN, 0, "memory directory: " OWNER_FILE " was replaced");
    }
    if (rc != MS_OK) {
        (void)close(fd);
        return rc;
    }
    *out = fd;
    return MS_OK;
}

static int open_and_lock(struct memory_dir *dir, struct ms_err *err)
{
    int rc = MS_EAGAIN;

    for (int i = 0; i < LOCK_TRIES && rc == MS_EAGAIN; i++) {
        if (dir->dir_fd >= 0) {
            (void)close(dir->dir_fd);
            dir->dir_fd = -1;
        }
        if (mkdirat(dir->base_fd, dir->name, 0700) != 0 && errno != EEXIST) {
            return ms_err_set(err, errno == ENOSPC ? MS_ENOSPC : MS_EIO, errno, "make %s/%s",
                              dir->base, dir->name);
        }
        rc = open_private(dir->base_fd, dir->name, &dir->dir_fd, err);
        if (rc == MS_OK) {
            rc = lock_owner(dir->dir_fd, O_CREAT, &dir->owner_fd, err);
        }
    }
    if (rc != MS_OK) {
        return rc == MS_EAGAIN ? MS_EIO : rc;
    }
    dir->marker_fd =
        openat(dir->dir_fd, MARKER_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    return dir->marker_fd >= 0 ? MS_OK
                               : ms_err_set(err, errno == ENOSPC ? MS_ENOSPC : MS_EIO, errno,
                                            "memory directory: open " MARKER_FILE);
}

/* ---- judging ------------------------------------------------------------------------------- */

/* Why what was left cannot be used; NULL when it can. */
static int find_distrust(const struct memory_dir *dir, const struct memory_dir_options *options,
                         const char *expected, const char **out, struct ms_err *err)
{
    char text[OWNER_BYTES_MAX];
    struct stat marker;
    int rc = read_text(dir->owner_fd, text, sizeof(text), err);

    if (rc != MS_OK) {
        return rc;
    }
    if (fstat(dir->marker_fd, &marker) != 0) {
        return ms_err_set(err, MS_EIO, errno, "memory directory: stat " MARKER_FILE);
    }
    *out = NULL;
    if (dir->epoch == 0) {
        *out = "nothing was left";
    } else if (strcmp(text, expected) != 0) {
        *out = "it is of another boot";
    } else if (options->previous_end == MS_END_OWN_FAULT) {
        *out = "its writer died of its own fault";
    } else if (marker.st_size > 0) {
        *out = "its writer marked it before it died";
    }
    return MS_OK;
}

/* Nothing of what was left may ever be taken for sound: it goes before the owner file says that
 * all is well. */
static int start_afresh(struct memory_dir *dir, const char *expected, struct ms_err *err)
{
    size_t length = strlen(expected);
    uint64_t newest;
    int rc = memory_epochs_scan(dir->dir_fd, true, 0, &newest, err);

    if (rc != MS_OK) {
        return rc;
    }
    if (ftruncate(dir->owner_fd, 0) != 0 ||
        pwrite(dir->owner_fd, expected, length, 0) != (ssize_t)length ||
        ftruncate(dir->marker_fd, 0) != 0) {
        return ms_err_set(err, errno == ENOSPC ? MS_ENOSPC : MS_EIO, errno,
                          "memory directory: write " OWNER_FILE);
    }
    return MS_OK;
}

/* ---- left-overs of others ------------------------------------------------------------------ */

static bool node_is_gone(int owner_fd)
{
    char text[OWNER_BYTES_MAX];
    char *node_dir;
    struct stat st;

    if (read_text(owner_fd, text, sizeof(text), NULL) != MS_OK) {
        return false;
    }
    node_dir = strstr(text, NODE_DIR_LINE);
    if (node_dir == NULL) {
        return false;
    }
    node_dir += strlen(NODE_DIR_LINE);
    node_dir[strcspn(node_dir, "\n")] = '\0';
    return node_dir[0] == '/' && stat(node_dir, &st) != 0 && (errno == ENOENT || errno == ENOTDIR);
}

static int remove_content(int base_fd, int dir_fd, const char *name, struct ms_err *err)
{
    uint64_t newest;
    int rc = memory_epochs_scan(dir_fd, true, 0, &newest, err);

    if (rc != MS_OK) {
        return rc;
    }
    if ((unlinkat(dir_fd, MARKER_FILE, 0) != 0 && errno != ENOENT) ||
        unlinkat(dir_fd, OWNER_FILE, 0) != 0 || unlinkat(base_fd, name, AT_REMOVEDIR) != 0) {
        return ms_err_set(err, MS_EIO, errno, "memory directory: remove %s", name);
    }
    return MS_OK;
}

/*
 * Removes directories of our user whose owner runs no more and whose data directory is gone. One
 * without an owner file may be in the making. What cannot be removed stays: it is nobody's harm but
 * that of the room it takes.
 */
static void remove_leftovers(const struct memory_dir *dir)
{
    char prefix[NAME_BYTES];
    DIR *list = memory_epochs_list(dir->base_fd);
    const struct dirent *entry;

    if (list == NULL) {
        return;
    }
    (void)snprintf(prefix, sizeof(prefix), "metastore-%u-", (unsigned)geteuid());
    while ((entry = readdir(list)) != NULL) {
        int dir_fd;
        int owner_fd;

        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 ||
            strcmp(entry->d_name, dir->name) == 0 ||
            open_private(dir->base_fd, entry->d_name, &dir_fd, NULL) != MS_OK) {
            continue;
        }
        if (lock_owner(dir_fd, 0, &owner_fd, NULL) == MS_OK) {
            if (node_is_gone(owner_fd)) {
                (void)remove_content(dir->base_fd, dir_fd, entry->d_name, NULL);
            }
            (void)close(owner_fd);
        }
        (void)close(dir_fd);
    }
    (void)closedir(list);
}

/* ---- opening ------------------------------------------------------------------------------- */

static uint64_t free_bytes(int fd)
{
    struct statvfs fs;

    return fstatvfs(fd, &fs) == 0 ? (uint64_t)fs.f_bavail * fs.f_frsize : 0;
}

static const char too_little_room[] = "it has too little room";

/* Everything for one base directory. *unfit is set when another one should be tried. */
static int open_in(struct memory_dir *dir, const struct memory_dir_options *options,
                   const char *base, const char **unfit, struct ms_err *err)
{
    char expected[OWNER_BYTES_MAX];
    uint64_t room;
    int rc = owner_text(options, expected, err);

    if (rc != MS_OK) {
        return rc;
    }
    *unfit = NULL;
    if (snprintf(dir->base, sizeof(dir->base), "%s", base) >= (int)sizeof(dir->base)) {
        return ms_err_set(err, MS_EINVAL, 0, "path of the memory directory is too long");
    }
    dir->base_fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->base_fd < 0) {
        return ms_err_set(err, MS_EIO, errno, "open memory directory %s", base);
    }
    rc = open_and_lock(dir, err);
    if (rc == MS_EPERM) {
        *unfit = "our name in it is taken by somebody else"; /* who must not keep us from running */
    }
    if (rc == MS_OK) {
        rc = memory_epochs_scan(dir->dir_fd, false, 0, &dir->epoch, err);
    }
    if (rc == MS_OK) {
        rc = find_distrust(dir, options, expected, &dir->distrust, err);
    }
    if (rc == MS_OK && dir->distrust != NULL) {
        rc = start_afresh(dir, expected, err);
        dir->epoch = 0;
    }
    if (rc != MS_OK) {
        if (rc == MS_ENOSPC) {
            *unfit = too_little_room;
        }
        return rc;
    }
    room = free_bytes(dir->base_fd) + occupied_bytes(dir);
    dir->limit_bytes = options->limit_bytes != 0 ? options->limit_bytes : room / 2;
    if (room < (options->limit_bytes != 0 ? options->limit_bytes : MEMORY_DIR_BYTES_MIN)) {
        *unfit = too_little_room;
        (void)remove_content(dir->base_fd, dir->dir_fd, dir->name, NULL);
        return ms_err_set(err, MS_ENOSPC, 0, "%s has room for %" PRIu64 " bytes", base, room);
    }
    *unfit = NULL;
    return MS_OK;
}

int memory_dir_open(const struct memory_dir_options *options, struct memory_dir **out,
                    struct ms_err *err)
{
    struct memory_dir *dir = calloc(1, sizeof(*dir));
    uint64_t hash = XXH3_64bits(options->node_dir, strlen(options->node_dir));
    const char *unfit = NULL;
    int rc;

    if (dir == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory directory: out of memory");
    }
    *dir = (struct memory_dir){.base_fd = -1, .dir_fd = -1, .owner_fd = -1, .marker_fd = -1};
    (void)snprintf(dir->name, sizeof(dir->name), "metastore-%u-%016" PRIx64, (unsigned)geteuid(),
                   hash);
    rc = open_in(dir, options, options->memory_dir, &unfit, err);
    if (rc == MS_OK) {
        remove_leftovers(dir);
    } else if (unfit != NULL) {
        struct memory_dir_options instead = *options;

        close_all(dir);
        dir->fallback = unfit;
        dir->epoch = 0;
        instead.memory_dir = options->node_dir;
        (void)snprintf(dir->name, sizeof(dir->name), FALLBACK_NAME);
        rc = open_in(dir, &instead, options->node_dir, &unfit, err);
    }
    if (rc != MS_OK) {
        memory_dir_close(dir);
        return rc;
    }
    if (dir->epoch != 0) {
        uint64_t newest;

        set_epoch(dir, dir->epoch);
        rc = memory_epochs_scan(dir->dir_fd, true, dir->epoch, &newest, err);
    }
    if (rc != MS_OK) {
        memory_dir_close(dir);
        return rc;
    }
    *out = dir;
    return MS_OK;
}

void memory_dir_close(struct memory_dir *dir)
{
    if (dir == NULL) {
        return;
    }
    close_all(dir);
    free(dir);
}

void memory_dir_remove_and_close(struct memory_dir *dir)
{
    if (dir == NULL) {
        return;
    }
    /* Whatever stays is found, and judged, by the next start. */
    (void)remove_content(dir->base_fd, dir->dir_fd, dir->name, NULL);
    memory_dir_close(dir);
}

int memory_dir_begin(struct memory_dir *dir, struct memory_dir_aside *out, struct ms_err *err)
{
    uint64_t now = ms_clock_wall_ms();
    uint64_t newest = 0;
    char name[NAME_BYTES];
    uint64_t epoch;
    int rc = memory_epochs_scan(dir->dir_fd, false, 0, &newest, err);

    if (rc != MS_OK) {
        return rc;
    }
    if (dir->epoch > newest) {
        newest = dir->epoch;
    }
    /* By the clock, so that it differs from all before even when nothing of them is left. */
    epoch = now > newest ? now : newest + 1;
    (void)snprintf(name, sizeof(name), MEMORY_EPOCH_FORMAT, epoch);
    if (mkdirat(dir->dir_fd, name, 0700) != 0) {
        return ms_err_set(err, errno == ENOSPC ? MS_ENOSPC : MS_EIO, errno,
                          "memory directory: make %s", name);
    }
    out->epoch = epoch;
    path_of(dir, epoch, out->path);
    return MS_OK;
}

uint64_t memory_dir_switch(struct memory_dir *dir, const struct memory_dir_aside *aside)
{
    uint64_t before = dir->epoch;

    set_epoch(dir, aside->epoch);
    return before;
}

int memory_dir_remove(const struct memory_dir *dir, uint64_t epoch, struct ms_err *err)
{
    return memory_epochs_remove(dir->dir_fd, epoch, err);
}

int memory_dir_renew(struct memory_dir *dir, struct ms_err *err)
{
    struct memory_dir_aside aside;
    uint64_t newest = 0;
    int rc = memory_dir_begin(dir, &aside, err);

    if (rc != MS_OK) {
        return rc;
    }
    (void)memory_dir_switch(dir, &aside);
    rc = memory_epochs_scan(dir->dir_fd, true, aside.epoch, &newest, err);
    if (rc == MS_OK && ftruncate(dir->marker_fd, 0) != 0) {
        rc = ms_err_set(err, MS_EIO, errno, "memory directory: clear " MARKER_FILE);
    }
    return rc;
}

const char *memory_dir_kept(const struct memory_dir *dir)
{
    return dir->distrust == NULL ? dir->epoch_path : NULL;
}

const char *memory_dir_distrust(const struct memory_dir *dir)
{
    return dir->distrust;
}

const char *memory_dir_path(const struct memory_dir *dir)
{
    assert(dir->epoch != 0);
    return dir->epoch_path;
}

uint64_t memory_dir_epoch(const struct memory_dir *dir)
{
    return dir->epoch;
}

uint64_t memory_dir_limit_bytes(const struct memory_dir *dir)
{
    return dir->limit_bytes;
}

const char *memory_dir_fallback(const struct memory_dir *dir)
{
    return dir->fallback;
}

int memory_dir_marker_fd(const struct memory_dir *dir)
{
    return dir->marker_fd;
}

/*
 * received_files: names, renames, and what is no longer needed.
 */
#include "storaged/received_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NUMBER          "%020" PRIu64
#define PART_FORMAT     NUMBER "-" NUMBER "-" NUMBER ".part"
#define COMPLETE_FORMAT NUMBER "-" NUMBER ".received"
/* Removed by snapshot_files_open if a crash leaves it. */
#define DOOMED_FORMAT NUMBER "-" NUMBER ".received.snap.tmp"

#define NAME_BYTES 96

struct received_files {
    int dir_fd;
    char *path;
    pthread_mutex_t lock; /* of claimed, and held while a complete one loses its name */
    struct snapshot_file claimed;
};

/* What a name in the directory stands for. */
enum kind {
    KIND_OTHER,
    KIND_PART,
    KIND_COMPLETE,
};

/* ---- names --------------------------------------------------------------------------------- */

static void part_name(const struct snapshot_file *file, char dst[NAME_BYTES])
{
    (void)snprintf(dst, NAME_BYTES, PART_FORMAT, file->index, file->term, file->size_bytes);
}

static void complete_name(raft_index index, raft_term term, char dst[NAME_BYTES])
{
    (void)snprintf(dst, NAME_BYTES, COMPLETE_FORMAT, index, term);
}

static void own_name(raft_index index, raft_term term, char dst[NAME_BYTES])
{
    const struct snapshot_file file = {.index = index, .term = term};

    snapshot_files_name(&file, dst);
}

/* Only exactly what the functions above write. */
static enum kind parse_name(const char *name, struct snapshot_file *out)
{
    struct snapshot_file file = {0};
    char again[NAME_BYTES];
    int numbers = sscanf(name, "%20" SCNu64 "-%20" SCNu64 "-%20" SCNu64, &file.index, &file.term,
                         &file.size_bytes);

    *out = file;
    if (numbers == 3) {
        part_name(&file, again);
        return strcmp(again, name) == 0 ? KIND_PART : KIND_OTHER;
    }
    if (numbers == 2) {
        complete_name(file.index, file.term, again);
        return strcmp(again, name) == 0 ? KIND_COMPLETE : KIND_OTHER;
    }
    return KIND_OTHER;
}

static int fault(const struct received_files *files, const char *what, const char *name,
                 struct ms_err *err)
{
    int cause = errno;
    bool room = cause == ENOSPC || cause == EDQUOT || cause == EFBIG;

    return ms_err_set(err, room ? MS_ENOSPC : MS_EIO, cause, "%s %s/%s", what, files->path, name);
}

/* Calls visit for every file of ours until it returns false. */
static int walk(const struct received_files *files,
                bool (*visit)(void *ctx, const char *name, enum kind kind,
                              const struct snapshot_file *file),
                void *ctx, struct ms_err *err)
{
    int fd = openat(files->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    bool more = true;

    if (dir == NULL) {
        int rc = fault(files, "read directory", "", err);

        if (fd >= 0) {
            (void)close(fd);
        }
        return rc;
    }
    while (more && (entry = readdir(dir)) != NULL) {
        struct snapshot_file file;
        enum kind kind = parse_name(entry->d_name, &file);

        if (kind != KIND_OTHER) {
            more = visit(ctx, entry->d_name, kind, &file);
        }
    }
    (void)closedir(dir);
    return MS_OK;
}

static bool is_file(const struct received_files *files, const char *name, uint64_t *size_bytes)
{
    struct stat st;

    if (fstatat(files->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) {
        return false;
    }
    if (size_bytes != NULL) {
        *size_bytes = (uint64_t)st.st_size;
    }
    return true;
}

/* ---- opening ------------------------------------------------------------------------------- */

/* The newest of each kind, found first; all others go. */
struct tidying {
    const struct received_files *files;
    raft_index above; /* what is not above this is of no use */
    struct snapshot_file part;
    struct snapshot_file complete;
};

static bool is_newer(const struct snapshot_file *a, const struct snapshot_file *b)
{
    return a->index > b->index || (a->index == b->index && a->term > b->term);
}

static bool find_newest(void *ctx, const char *name, enum kind kind,
                        const struct snapshot_file *file)
{
    struct tidying *tidying = ctx;
    struct snapshot_file *newest = kind == KIND_PART ? &tidying->part : &tidying->complete;

    (void)name;
    if (is_newer(file, newest)) {
        *newest = *file;
    }
    return true;
}

static bool is_same(const struct snapshot_file *a, const struct snapshot_file *b)
{
    return a->index == b->index && a->term == b->term && a->size_bytes == b->size_bytes;
}

static bool remove_useless(void *ctx, const char *name, enum kind kind,
                           const struct snapshot_file *file)
{
    const struct tidying *tidying = ctx;
    const struct snapshot_file *newest = kind == KIND_PART ? &tidying->part : &tidying->complete;

    if (file->index <= tidying->above || !is_same(file, newest)) {
        /* One that stays takes room and is tried again by the next start. */
        (void)unlinkat(tidying->files->dir_fd, name, 0);
    }
    return true;
}

static int tidy(struct received_files *files, raft_index above, struct ms_err *err)
{
    struct tidying tidying = {.files = files, .above = above};
    int rc = walk(files, find_newest, &tidying, err);

    return rc == MS_OK ? walk(files, remove_useless, &tidying, err) : rc;
}

int received_files_open(const char *path, raft_index log_snapshot_index,
                        raft_term log_snapshot_term, struct received_files **out,
                        struct ms_err *err)
{
    struct received_files *files = calloc(1, sizeof(*files));
    struct snapshot_file unused;
    int rc;

    if (files == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "snapshots: out of memory");
    }
    (void)pthread_mutex_init(&files->lock, NULL);
    files->dir_fd = -1;
    files->path = strdup(path);
    if (files->path == NULL) {
        rc = ms_err_set(err, MS_ENOMEM, 0, "snapshots: out of memory");
        goto out;
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        rc = fault(files, "make directory", "", err);
        goto out;
    }
    files->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (files->dir_fd < 0) {
        rc = fault(files, "open directory", "", err);
        goto out;
    }
    if (log_snapshot_index > 0) {
        rc = received_files_adopt(files, log_snapshot_index, log_snapshot_term, &unused, err);
        /* One that is missing is missed by who needs it: the engine may be beyond it. */
        if (rc != MS_OK && rc != MS_ENOENT) {
            goto out;
        }
    }
    rc = tidy(files, log_snapshot_index, err);
    if (rc == MS_OK) {
        *out = files;
        files = NULL;
    }

out:
    received_files_close(files);
    return rc;
}

void received_files_close(struct received_files *files)
{
    if (files == NULL) {
        return;
    }
    if (files->dir_fd >= 0) {
        (void)close(files->dir_fd);
    }
    (void)pthread_mutex_destroy(&files->lock);
    free(files->path);
    free(files);
}

/* ---- receiving ----------------------------------------------------------------------------- */

struct beginning {
    const struct received_files *files;
    const struct snapshot_file *file;
};

static bool remove_other_part(void *ctx, const char *name, enum kind kind,
                              const struct snapshot_file *file)
{
    const struct beginning *beginning = ctx;

    if (kind == KIND_PART && !is_same(file, beginning->file)) {
        (void)unlinkat(beginning->files->dir_fd, name, 0); /* the next one tries again */
    }
    return true;
}

int received_files_begin(struct received_files *files, const struct snapshot_file *file,
                         int *out_fd, struct ms_err *err)
{
    struct beginning beginning = {.files = files, .file = file};
    char name[NAME_BYTES];
    int fd;
    int rc = walk(files, remove_other_part, &beginning, err);

    if (rc != MS_OK) {
        return rc;
    }
    part_name(file, name);
    fd = openat(files->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return fault(files, "create", name, err);
    }
    *out_fd = fd;
    return MS_OK;
}

void received_files_forget(struct received_files *files, const struct snapshot_file *file)
{
    char name[NAME_BYTES];

    part_name(file, name);
    (void)unlinkat(files->dir_fd, name, 0); /* what stays is replaced by the next one */
}

struct discarding {
    struct received_files *files;
    const struct snapshot_file *keep; /* NULL: none but the claimed one */
};

static bool is_one(const struct snapshot_file *file, raft_index index, raft_term term)
{
    return file->index == index && file->term == term;
}

static bool discard_complete(void *ctx, const char *name, enum kind kind,
                             const struct snapshot_file *file)
{
    const struct discarding *discarding = ctx;
    struct received_files *files = discarding->files;
    bool doomed = false;
    char gone[NAME_BYTES];

    if (kind != KIND_COMPLETE || (discarding->keep != NULL &&
                                  is_one(file, discarding->keep->index, discarding->keep->term))) {
        return true;
    }
    (void)snprintf(gone, sizeof(gone), DOOMED_FORMAT, file->index, file->term);
    /* Removing a large file takes its time, losing its name does not. */
    (void)pthread_mutex_lock(&files->lock);
    if (!is_one(&files->claimed, file->index, file->term)) {
        doomed = renameat(files->dir_fd, name, files->dir_fd, gone) == 0;
    }
    (void)pthread_mutex_unlock(&files->lock);
    if (doomed) {
        (void)unlinkat(files->dir_fd, gone, 0);
    }
    return true;
}

static void discard_but(struct received_files *files, const struct snapshot_file *keep)
{
    struct discarding discarding = {.files = files, .keep = keep};

    /* What cannot be listed or removed stays, takes room, and goes another time. */
    (void)walk(files, discard_complete, &discarding, NULL);
}

void received_files_discard(struct received_files *files)
{
    discard_but(files, NULL);
}

int received_files_complete(struct received_files *files, const struct snapshot_file *file, int fd,
                            struct ms_err *err)
{
    char part[NAME_BYTES];
    char name[NAME_BYTES];

    part_name(file, part);
    complete_name(file->index, file->term, name);
    if (fsync(fd) != 0) {
        return fault(files, "sync", part, err);
    }
    if (renameat(files->dir_fd, part, files->dir_fd, name) != 0) {
        return fault(files, "rename", part, err);
    }
    if (fsync(files->dir_fd) != 0) {
        int rc = fault(files, "make durable the name of", name, err);

        (void)renameat(files->dir_fd, name, files->dir_fd, part); /* nobody has heard of it */
        return rc;
    }
    discard_but(files, file);
    return MS_OK;
}

bool received_files_have(const struct received_files *files, raft_index index, raft_term term,
                         uint64_t *size_bytes)
{
    char name[NAME_BYTES];

    own_name(index, term, name);
    if (is_file(files, name, size_bytes)) {
        return true;
    }
    complete_name(index, term, name);
    return is_file(files, name, size_bytes);
}

bool received_files_claim(struct received_files *files, raft_index index, raft_term term)
{
    bool there;

    (void)pthread_mutex_lock(&files->lock);
    there = received_files_have(files, index, term, NULL);
    if (there) {
        files->claimed = (struct snapshot_file){.index = index, .term = term};
    }
    (void)pthread_mutex_unlock(&files->lock);
    return there;
}

int received_files_adopt(struct received_files *files, raft_index index, raft_term term,
                         struct snapshot_file *out, struct ms_err *err)
{
    struct snapshot_file file = {.index = index, .term = term};
    char from[NAME_BYTES];
    char to[NAME_BYTES];

    complete_name(index, term, from);
    own_name(index, term, to);
    if (!is_file(files, to, &file.size_bytes)) {
        if (!is_file(files, from, &file.size_bytes)) {
            return ms_err_set(err, MS_ENOENT, 0, "there is no snapshot %s/%s", files->path, to);
        }
        if (renameat(files->dir_fd, from, files->dir_fd, to) != 0) {
            return fault(files, "rename", from, err);
        }
    }
    /* Also when the name is there: whoever gave it may have died before it was durable. */
    if (fsync(files->dir_fd) != 0) {
        return fault(files, "make durable the name of", to, err);
    }
    *out = file;
    return MS_OK;
}

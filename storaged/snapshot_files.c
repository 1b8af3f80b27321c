/*
 * snapshot_files: names, temporary files, and which snapshots stay.
 */
#include "storaged/snapshot_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storaged/snapshot_reader.h"
#include "storaged/snapshot_writer.h"

#define SUFFIX           ".snap"
#define TEMPORARY_SUFFIX ".snap.tmp"
#define NAME_FORMAT      "%020" PRIu64 "-%020" PRIu64

/* Snapshots taken note of; a directory never holds more unless somebody copies them there. */
#define LIST_MAX 16

/* The kernel is told to start writing after so many bytes, so that the sync at the end is short. */
#define WRITE_BEHIND_BYTES (8 << 20)

struct snapshot_files {
    int dir_fd;
    char *path;
    size_t count;
    struct snapshot_file list[LIST_MAX]; /* newest first */
};

/* ---- the list ------------------------------------------------------------------------------ */

void snapshot_files_name(const struct snapshot_file *file, char *dst)
{
    (void)snprintf(dst, SNAPSHOT_NAME_BYTES, NAME_FORMAT SUFFIX, file->index, file->term);
}

/* Only exactly what snapshot_files_name writes. */
static bool parse_name(const char *name, struct snapshot_file *out)
{
    struct snapshot_file file = {0};
    char again[SNAPSHOT_NAME_BYTES];

    if (sscanf(name, "%20" SCNu64 "-%20" SCNu64, &file.index, &file.term) != 2) {
        return false;
    }
    snapshot_files_name(&file, again);
    if (strcmp(again, name) != 0) {
        return false;
    }
    *out = file;
    return true;
}

static bool is_newer(const struct snapshot_file *a, const struct snapshot_file *b)
{
    return a->index > b->index || (a->index == b->index && a->term > b->term);
}

/* In order; the oldest falls off a full list. */
static void list_insert(struct snapshot_files *files, const struct snapshot_file *file)
{
    size_t at = 0;

    while (at < files->count && is_newer(&files->list[at], file)) {
        at++;
    }
    if (at == LIST_MAX) {
        return;
    }
    if (at < files->count && files->list[at].index == file->index &&
        files->list[at].term == file->term) {
        files->list[at] = *file; /* it is known */
        return;
    }
    if (files->count < LIST_MAX) {
        files->count++;
    }
    memmove(&files->list[at + 1], &files->list[at],
            (files->count - at - 1) * sizeof(files->list[0]));
    files->list[at] = *file;
}

static bool ends_with(const char *name, const char *suffix)
{
    size_t name_bytes = strlen(name);
    size_t suffix_bytes = strlen(suffix);

    return name_bytes >= suffix_bytes && strcmp(name + name_bytes - suffix_bytes, suffix) == 0;
}

static int scan(struct snapshot_files *files, struct ms_err *err)
{
    int fd = openat(files->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    int rc = MS_OK;

    if (dir == NULL) {
        rc = ms_err_set(err, MS_EIO, errno, "read directory %s", files->path);
        if (fd >= 0) {
            (void)close(fd);
        }
        return rc;
    }
    errno = 0;
    while (rc == MS_OK && (entry = readdir(dir)) != NULL) {
        struct snapshot_file file;
        struct stat st;

        if (ends_with(entry->d_name, TEMPORARY_SUFFIX)) {
            if (unlinkat(files->dir_fd, entry->d_name, 0) != 0) {
                rc = ms_err_set(err, MS_EIO, errno, "remove %s/%s", files->path, entry->d_name);
            }
        } else if (parse_name(entry->d_name, &file)) {
            if (fstatat(files->dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
                rc = ms_err_set(err, MS_EIO, errno, "stat %s/%s", files->path, entry->d_name);
            } else if (S_ISREG(st.st_mode)) {
                file.size_bytes = (uint64_t)st.st_size;
                list_insert(files, &file);
            }
        }
        errno = 0;
    }
    if (rc == MS_OK && errno != 0) {
        rc = ms_err_set(err, MS_EIO, errno, "read directory %s", files->path);
    }
    (void)closedir(dir);
    return rc;
}

int snapshot_files_open(const char *path, struct snapshot_files **out, struct ms_err *err)
{
    struct snapshot_files *files = calloc(1, sizeof(*files));
    int rc = MS_OK;

    if (files == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "snapshots: out of memory");
    }
    files->dir_fd = -1;
    files->path = strdup(path);
    if (files->path == NULL) {
        rc = ms_err_set(err, MS_ENOMEM, 0, "snapshots: out of memory");
        goto out;
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        rc =
            ms_err_set(err, errno == ENOSPC ? MS_ENOSPC : MS_EIO, errno, "make directory %s", path);
        goto out;
    }
    files->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (files->dir_fd < 0) {
        rc = ms_err_set(err, MS_EIO, errno, "open directory %s", path);
        goto out;
    }
    rc = scan(files, err);
    if (rc != MS_OK) {
        goto out;
    }
    *out = files;
    files = NULL;

out:
    snapshot_files_close(files);
    return rc;
}

void snapshot_files_close(struct snapshot_files *files)
{
    if (files == NULL) {
        return;
    }
    if (files->dir_fd >= 0) {
        (void)close(files->dir_fd);
    }
    free(files->path);
    free(files);
}

int snapshot_files_get(const struct snapshot_files *files, size_t age, struct snapshot_file *out)
{
    if (age >= files->count) {
        return MS_ENOENT;
    }
    *out = files->list[age];
    return MS_OK;
}

static int remove_oldest(struct snapshot_files *files, struct ms_err *err)
{
    char name[SNAPSHOT_NAME_BYTES];

    snapshot_files_name(&files->list[files->count - 1], name);
    files->count--;
    if (unlinkat(files->dir_fd, name, 0) != 0 && errno != ENOENT) {
        return ms_err_set(err, MS_EIO, errno, "remove old snapshot %s/%s", files->path, name);
    }
    return MS_OK;
}

/* The first failure counts; the others are tried all the same. */
static int remove_while(struct snapshot_files *files,
                        bool (*is_too_old)(const struct snapshot_files *files, raft_index limit),
                        raft_index limit, struct ms_err *err)
{
    int rc = MS_OK;

    while (is_too_old(files, limit)) {
        int failed = remove_oldest(files, rc == MS_OK ? err : NULL);

        rc = rc == MS_OK ? failed : rc;
    }
    return rc;
}

static bool are_too_many(const struct snapshot_files *files, raft_index limit)
{
    return files->count > limit;
}

static bool is_left_behind(const struct snapshot_files *files, raft_index first_index)
{
    return files->count > 1 && files->list[files->count - 1].index + 1 < first_index;
}

int snapshot_files_add(struct snapshot_files *files, const struct snapshot_file *file,
                       struct ms_err *err)
{
    list_insert(files, file);
    return remove_while(files, are_too_many, SNAPSHOT_FILES_KEPT, err);
}

int snapshot_files_trim(struct snapshot_files *files, raft_index first_index, struct ms_err *err)
{
    return remove_while(files, is_left_behind, first_index, err);
}

/* ---- writing ------------------------------------------------------------------------------- */

struct target {
    const struct snapshot_files *files;
    const char *name;
    const atomic_bool *cancel;
    int fd;
    uint64_t written;
    uint64_t started; /* of it, on their way to disk */
};

static int write_failed(const struct target *target, const char *what, struct ms_err *err)
{
    int cause = errno;
    bool room = cause == ENOSPC || cause == EDQUOT || cause == EFBIG;

    return ms_err_set(err, room ? MS_ENOSPC : MS_EIO, cause, "%s snapshot %s/%s", what,
                      target->files->path, target->name);
}

static int write_chunk(void *ctx, const uint8_t *data, size_t len_bytes, struct ms_err *err)
{
    struct target *target = ctx;

    if (target->cancel != NULL && atomic_load_explicit(target->cancel, memory_order_relaxed)) {
        return ms_err_set(err, MS_EAGAIN, 0, "snapshot %s was given up", target->name);
    }
    while (len_bytes > 0) {
        ssize_t done = write(target->fd, data, len_bytes);

        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return write_failed(target, "write", err);
        }
        data += done;
        len_bytes -= (size_t)done;
        target->written += (uint64_t)done;
    }
    if (target->written - target->started >= WRITE_BEHIND_BYTES) {
        /* A hint; what fails here fails again, and is seen, at the sync. */
        (void)sync_file_range(target->fd, (off_t)target->started,
                              (off_t)(target->written - target->started), SYNC_FILE_RANGE_WRITE);
        target->started = target->written;
    }
    return MS_OK;
}

/* Everything up to and including the sync of the temporary file. */
static int write_temporary(struct target *target, const struct engine *engine,
                           struct engine_snapshot *snapshot, struct ms_err *err)
{
    const struct snapshot_output output = {.write = write_chunk, .ctx = target};
    int rc;

    target->fd = openat(target->files->dir_fd, target->name,
                        O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (target->fd < 0) {
        return write_failed(target, "create", err);
    }
    rc = snapshot_writer_run(engine, snapshot, &output, err);
    if (rc == MS_OK && fsync(target->fd) != 0) {
        rc = write_failed(target, "sync", err);
    }
    if (close(target->fd) != 0 && rc == MS_OK) {
        rc = write_failed(target, "close", err);
    }
    return rc;
}

int snapshot_files_write(const struct snapshot_files *files, const struct engine *engine,
                         struct engine_snapshot *snapshot, const atomic_bool *cancel,
                         struct snapshot_file *out, struct ms_err *err)
{
    struct engine_snapshot_info *info = malloc(sizeof(*info));
    char name[SNAPSHOT_NAME_BYTES];
    char temporary[SNAPSHOT_NAME_BYTES + sizeof(TEMPORARY_SUFFIX)];
    struct target target = {.files = files, .name = temporary, .cancel = cancel, .fd = -1};
    struct snapshot_file file = {0};
    int rc;

    if (info == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "snapshots: out of memory");
    }
    engine_snapshot_info(engine, snapshot, info);
    file.index = info->meta.applied;
    file.term = info->meta.applied_term;
    free(info);
    snapshot_files_name(&file, name);
    (void)snprintf(temporary, sizeof(temporary), NAME_FORMAT TEMPORARY_SUFFIX, file.index,
                   file.term);
    if (faccessat(files->dir_fd, name, F_OK, 0) == 0) {
        return ms_err_set(err, MS_EEXIST, 0, "snapshot %s/%s is there already", files->path, name);
    }
    rc = write_temporary(&target, engine, snapshot, err);
    if (rc == MS_OK && renameat(files->dir_fd, temporary, files->dir_fd, name) != 0) {
        rc = write_failed(&target, "rename", err);
    }
    if (rc != MS_OK) {
        (void)unlinkat(files->dir_fd, temporary, 0);
        return rc;
    }
    target.name = name;
    if (fsync(files->dir_fd) != 0) {
        rc = write_failed(&target, "make durable the name of", err);
        (void)unlinkat(files->dir_fd, name, 0);
        return rc;
    }
    file.size_bytes = target.written;
    *out = file;
    return MS_OK;
}

/* ---- reading ------------------------------------------------------------------------------- */

struct source {
    int fd;
    const atomic_bool *cancel; /* may be NULL */
};

static int read_file(void *ctx, uint8_t *dst, size_t len_bytes, size_t *got, struct ms_err *err)
{
    const struct source *source = ctx;
    size_t have = 0;

    if (source->cancel != NULL && atomic_load_explicit(source->cancel, memory_order_relaxed)) {
        return ms_err_set(err, MS_EAGAIN, 0, "reading a snapshot was given up");
    }
    while (have < len_bytes) {
        ssize_t done = read(source->fd, dst + have, len_bytes - have);

        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return ms_err_set(err, MS_EIO, errno, "read a snapshot");
        }
        if (done == 0) {
            break;
        }
        have += (size_t)done;
    }
    *got = have;
    return MS_OK;
}

int snapshot_files_read(const struct snapshot_files *files, const struct snapshot_file *file,
                        int *out_fd, struct ms_err *err)
{
    char name[SNAPSHOT_NAME_BYTES];
    int fd;

    snapshot_files_name(file, name);
    fd = openat(files->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return ms_err_set(err, errno == ENOENT ? MS_ENOENT : MS_EIO, errno, "open snapshot %s/%s",
                          files->path, name);
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* a hint */
    *out_fd = fd;
    return MS_OK;
}

/* Reads the header; and all the rest into engine, if there is one. */
static int read_snapshot(const struct snapshot_files *files, const struct snapshot_file *file,
                         struct engine *engine, const atomic_bool *cancel,
                         struct engine_snapshot_info *out, struct ms_err *err)
{
    struct source source = {.fd = -1, .cancel = cancel};
    char name[SNAPSHOT_NAME_BYTES];
    char path[4096];
    struct snapshot_input input = {.read = read_file, .ctx = &source, .name = path};
    struct snapshot_reader *reader = NULL;
    struct engine_sink sink;
    struct ms_err cause = {0};
    int rc = snapshot_files_read(files, file, &source.fd, err);

    if (rc != MS_OK) {
        return rc;
    }
    snapshot_files_name(file, name);
    (void)snprintf(path, sizeof(path), "%s/%s", files->path, name);
    rc = snapshot_reader_create(&input, &reader, err);
    if (rc == MS_OK) {
        rc = snapshot_reader_header(reader, out, err);
    }
    if (rc == MS_OK && (out->meta.applied != file->index || out->meta.applied_term != file->term)) {
        rc = ms_err_set(err, MS_ECORRUPT, 0,
                        "snapshot %s: at byte 0: it is one of index %" PRIu64 " and term %" PRIu64,
                        path, out->meta.applied, out->meta.applied_term);
    }
    if (rc != MS_OK || engine == NULL) {
        goto out;
    }
    rc = engine_install_begin(engine, &sink, err);
    if (rc == MS_OK) {
        rc = snapshot_reader_run(reader, &sink, err);
    }
    if (rc == MS_OK) {
        rc = engine_install_finish(engine, out, &cause);
        if (rc != MS_OK) {
            (void)ms_err_set(err, rc, 0, "snapshot %s: at its end: %s", path, cause.text);
        }
    }

out:
    snapshot_reader_destroy(reader);
    (void)close(source.fd);
    return rc;
}

int snapshot_files_info(const struct snapshot_files *files, const struct snapshot_file *file,
                        struct engine_snapshot_info *out, struct ms_err *err)
{
    return read_snapshot(files, file, NULL, NULL, out, err);
}

int snapshot_files_load(const struct snapshot_files *files, const struct snapshot_file *file,
                        struct engine *engine, const atomic_bool *cancel,
                        struct engine_snapshot_info *out, struct ms_err *err)
{
    return read_snapshot(files, file, engine, cancel, out, err);
}

/*
 * datadir: see datadir.h.
 */
#include "supervisor/datadir.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/decimal.h"
#include "supervisor/process.h"

#define LOCK_NAME          "lock"
#define IDENTITY_NAME      "identity"
#define IDENTITY_TEMP      "identity.new"
#define IDENTITY_FORMAT    1
#define IDENTITY_BYTES_MAX 512
#define DATA_ID_DIGITS     16
#define DIR_MODE           0700
#define FILE_MODE          0600

/* A supervisor that was told to die a moment ago may be seen alive once more. */
#define HOLDER_END_MS 300

/* Workers are killed by the kernel with their supervisor; one in the middle of a write ends it. */
#define ORPHANS_END_S 5

struct identity {
    uint64_t format;
    uint64_t id;
    uint64_t data_id;
    char storage[16];
    char raft_log[16];
    bool used;
};

static int sync_dir(const char *path, struct ms_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = MS_OK;

    if (fd < 0 || fsync(fd) != 0) {
        rc = ms_err_set(err, MS_EIO, errno, "sync directory %s", path);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

/*
 * Makes one directory and its name durable: a log that survives a power cut is of little use in a
 * directory that does not.
 */
static int make_one(char *path, struct ms_err *err)
{
    char *slash;
    int rc;

    if (mkdir(path, DIR_MODE) != 0) {
        return errno == EEXIST ? MS_OK : ms_err_set(err, MS_EIO, errno, "create data dir %s", path);
    }
    slash = strrchr(path, '/');
    assert(slash != NULL); /* node_dir is absolute */
    if (slash == path) {
        return sync_dir("/", err);
    }
    *slash = '\0';
    rc = sync_dir(path, err);
    *slash = '/';
    return rc;
}

static int make_with_parents(const char *node_dir, struct ms_err *err)
{
    char path[MS_CONFIG_PATH_BYTES];
    int rc;

    assert(node_dir[0] == '/' && strlen(node_dir) < sizeof(path));
    (void)snprintf(path, sizeof(path), "%s", node_dir);
    for (char *p = path + 1; *p != '\0'; p++) {
        if (*p != '/') {
            continue;
        }
        *p = '\0';
        rc = make_one(path, err);
        *p = '/';
        if (rc != MS_OK) {
            return rc;
        }
    }
    return make_one(path, err);
}

static void on_alarm(int signo)
{
    (void)signo; /* its work is to interrupt flock */
}

/* Waits for workers that are dying with their supervisor. */
static int wait_for_lock(int fd)
{
    const struct itimerval limit = {.it_value = {.tv_sec = ORPHANS_END_S}};
    const struct itimerval none = {0};
    const struct sigaction action = {.sa_handler = on_alarm};
    struct sigaction before;
    int result;

    if (sigaction(SIGALRM, &action, &before) != 0) {
        return -1;
    }
    (void)setitimer(ITIMER_REAL, &limit, NULL);
    result = flock(fd, LOCK_EX);
    (void)setitimer(ITIMER_REAL, &none, NULL);
    (void)sigaction(SIGALRM, &before, NULL);
    return result;
}

/* The pid in the lock file; 0 if there is none. */
static pid_t read_holder(int fd)
{
    char text[32];
    ssize_t len = pread(fd, text, sizeof(text) - 1, 0);

    text[len > 0 ? len : 0] = '\0';
    return (pid_t)strtol(text, NULL, 10);
}

static int take_lock(int dir_fd, const char *node_dir, int *out_fd, struct ms_err *err)
{
    char text[32];
    int rc = MS_OK;
    pid_t holder;
    ssize_t len;
    int fd;

    fd = openat(dir_fd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
    if (fd < 0) {
        return ms_err_set(err, MS_EIO, errno, "data dir %s: open %s", node_dir, LOCK_NAME);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) {
            rc = ms_err_set(err, MS_EIO, errno, "data dir %s: lock", node_dir);
            goto out;
        }
        holder = read_holder(fd);
        if (holder <= 0 || !process_ends_within(holder, HOLDER_END_MS)) {
            rc = ms_err_set(err, MS_EBUSY, 0, "data dir %s is locked by pid %d", node_dir,
                            (int)holder);
            goto out;
        }
        if (wait_for_lock(fd) != 0) {
            rc = ms_err_set(err, MS_EBUSY, 0,
                            "data dir %s is locked: pid %d is gone, but not all of its workers are",
                            node_dir, (int)holder);
            goto out;
        }
    }
    /* For the message above only: the lock itself is the kernel's. */
    len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)len, 0) != len) {
        rc = ms_err_set(err, MS_EIO, errno, "data dir %s: write %s", node_dir, LOCK_NAME);
        goto out;
    }
    *out_fd = fd;
    fd = -1;

out:
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

static const char *storage_name(uint32_t storage)
{
    return storage == MS_STORAGE_ROCKSDB ? "rocksdb" : "memory";
}

static const char *raft_log_name(uint32_t raft_log)
{
    return raft_log == MS_RAFT_LOG_ROCKSDB ? "rocksdb" : "wal";
}

static int draw_data_id(uint64_t *out, struct ms_err *err)
{
    uint64_t drawn;

    do {
        if (getrandom(&drawn, sizeof(drawn), 0) != (ssize_t)sizeof(drawn)) {
            return ms_err_set(err, MS_EIO, errno, "draw a data id");
        }
    } while (drawn == 0);
    *out = drawn;
    return MS_OK;
}

static int write_identity(const struct datadir *datadir, const struct ms_config *config, bool used,
                          struct ms_err *err)
{
    char text[IDENTITY_BYTES_MAX];
    int dir_fd = datadir->dir_fd;
    int rc = MS_OK;
    int len;
    int fd;

    len = snprintf(
        text, sizeof(text),
        "format = %d\nid = %" PRIu64 "\ndata-id = %0*" PRIx64 "\nstorage = %s\nraft-log = %s\n%s",
        IDENTITY_FORMAT, config->id, DATA_ID_DIGITS, datadir->data_id,
        storage_name(config->storage), raft_log_name(config->raft_log), used ? "used = yes\n" : "");
    fd = openat(dir_fd, IDENTITY_TEMP, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                FILE_MODE);
    if (fd < 0) {
        return ms_err_set(err, MS_EIO, errno, "create %s/%s", config->node_dir, IDENTITY_TEMP);
    }
    if (write(fd, text, (size_t)len) != len || fsync(fd) != 0) {
        rc = ms_err_set(err, MS_EIO, errno, "write %s/%s", config->node_dir, IDENTITY_TEMP);
        goto out;
    }
    if (renameat(dir_fd, IDENTITY_TEMP, dir_fd, IDENTITY_NAME) != 0 || fsync(dir_fd) != 0) {
        rc = ms_err_set(err, MS_EIO, errno, "rename %s/%s", config->node_dir, IDENTITY_TEMP);
    }

out:
    (void)close(fd);
    return rc;
}

/* The whole file as a string. MS_ENOENT if there is none. */
static int read_identity(int dir_fd, const char *node_dir, char text[static IDENTITY_BYTES_MAX],
                         struct ms_err *err)
{
    ssize_t len;
    int fd;

    fd = openat(dir_fd, IDENTITY_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return ms_err_set(err, errno == ENOENT ? MS_ENOENT : MS_EIO, errno, "open %s/%s", node_dir,
                          IDENTITY_NAME);
    }
    len = read(fd, text, IDENTITY_BYTES_MAX);
    if (len < 0) {
        int saved = errno;

        (void)close(fd);
        return ms_err_set(err, MS_EIO, saved, "read %s/%s", node_dir, IDENTITY_NAME);
    }
    (void)close(fd);
    if (len == IDENTITY_BYTES_MAX || memchr(text, '\0', (size_t)len) != NULL) {
        return ms_err_set(err, MS_ECORRUPT, 0, "%s/%s is not an identity file", node_dir,
                          IDENTITY_NAME);
    }
    text[len] = '\0';
    return MS_OK;
}

static bool parse_data_id(const char *text, uint64_t *out)
{
    if (strlen(text) != DATA_ID_DIGITS || strspn(text, "0123456789abcdef") != DATA_ID_DIGITS) {
        return false;
    }
    *out = strtoull(text, NULL, 16);
    return *out != 0;
}

static bool parse_word(const char *text, char *out, size_t out_bytes)
{
    size_t len = strlen(text);

    if (len == 0 || len >= out_bytes) {
        return false;
    }
    memcpy(out, text, len + 1);
    return true;
}

/* One "name = value" line into *out; false if it is not understood. */
static bool parse_line(char *line, struct identity *out)
{
    char *separator = strstr(line, " = ");
    const char *value;

    if (separator == NULL) {
        return false;
    }
    *separator = '\0';
    value = separator + strlen(" = ");
    if (strcmp(line, "format") == 0) {
        return ms_decimal_parse(value, strlen(value), &out->format);
    }
    if (strcmp(line, "id") == 0) {
        return ms_decimal_parse(value, strlen(value), &out->id);
    }
    if (strcmp(line, "data-id") == 0) {
        return parse_data_id(value, &out->data_id);
    }
    if (strcmp(line, "storage") == 0) {
        return parse_word(value, out->storage, sizeof(out->storage));
    }
    if (strcmp(line, "raft-log") == 0) {
        return parse_word(value, out->raft_log, sizeof(out->raft_log));
    }
    if (strcmp(line, "used") == 0) {
        out->used = strcmp(value, "yes") == 0;
        return out->used;
    }
    return false;
}

static int parse_identity(char *text, const char *node_dir, struct identity *out,
                          struct ms_err *err)
{
    unsigned number = 0;
    char *rest = text;
    char *line;

    memset(out, 0, sizeof(*out));
    while ((line = strsep(&rest, "\n")) != NULL) {
        number++;
        if (line[0] != '\0' && !parse_line(line, out)) {
            return ms_err_set(err, MS_ECORRUPT, 0, "%s/%s line %u is not understood", node_dir,
                              IDENTITY_NAME, number);
        }
    }
    if (out->format != IDENTITY_FORMAT) {
        return ms_err_set(err, MS_ECORRUPT, 0,
                          "%s/%s has format %" PRIu64 ", this program knows %d", node_dir,
                          IDENTITY_NAME, out->format, IDENTITY_FORMAT);
    }
    if (out->id == 0 || out->data_id == 0 || out->storage[0] == '\0' || out->raft_log[0] == '\0') {
        return ms_err_set(err, MS_ECORRUPT, 0, "%s/%s is incomplete", node_dir, IDENTITY_NAME);
    }
    return MS_OK;
}

static int compare_identity(const struct identity *found, const struct ms_config *config,
                            struct ms_err *err)
{
    if (found->id != config->id) {
        return ms_err_set(err, MS_EINVAL, 0,
                          "data dir %s belongs to --id %" PRIu64 ", not to --id %" PRIu64,
                          config->node_dir, found->id, config->id);
    }
    if (strcmp(found->storage, storage_name(config->storage)) != 0) {
        return ms_err_set(err, MS_EINVAL, 0, "data dir %s was made with --storage %s, not %s",
                          config->node_dir, found->storage, storage_name(config->storage));
    }
    if (strcmp(found->raft_log, raft_log_name(config->raft_log)) != 0) {
        return ms_err_set(err, MS_EINVAL, 0, "data dir %s was made with --raft-log %s, not %s",
                          config->node_dir, found->raft_log, raft_log_name(config->raft_log));
    }
    return MS_OK;
}

/* Gives a directory without an identity a new one. */
static int make_identity(struct datadir *datadir, const struct ms_config *config,
                         struct ms_err *err)
{
    int rc = draw_data_id(&datadir->data_id, err);

    return rc == MS_OK ? write_identity(datadir, config, false, err) : rc;
}

static int check_identity(struct datadir *datadir, const struct ms_config *config,
                          struct ms_err *err)
{
    char text[IDENTITY_BYTES_MAX];
    struct identity found;
    int rc;

    rc = read_identity(datadir->dir_fd, config->node_dir, text, err);
    if (rc == MS_ENOENT) {
        return make_identity(datadir, config, err);
    }
    if (rc == MS_OK) {
        rc = parse_identity(text, config->node_dir, &found, err);
    }
    if (rc == MS_OK) {
        rc = compare_identity(&found, config, err);
    }
    if (rc == MS_OK) {
        datadir->data_id = found.data_id;
        datadir->was_used = found.used;
    }
    return rc;
}

int datadir_open(const struct ms_config *config, struct datadir *out, struct ms_err *err)
{
    struct datadir opened = {.dir_fd = -1, .lock_fd = -1};
    int rc;

    rc = make_with_parents(config->node_dir, err);
    if (rc != MS_OK) {
        goto out;
    }
    opened.dir_fd = open(config->node_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened.dir_fd < 0) {
        rc = ms_err_set(err, MS_EIO, errno, "open data dir %s", config->node_dir);
        goto out;
    }
    rc = take_lock(opened.dir_fd, config->node_dir, &opened.lock_fd, err);
    if (rc != MS_OK) {
        goto out;
    }
    rc = check_identity(&opened, config, err);
    if (rc != MS_OK) {
        goto out;
    }
    *out = opened;
    return MS_OK;

out:
    datadir_close(&opened);
    return rc;
}

int datadir_mark_used(struct datadir *datadir, const struct ms_config *config, struct ms_err *err)
{
    int rc;

    if (datadir->was_used) {
        return MS_OK;
    }
    rc = write_identity(datadir, config, true, err);
    datadir->was_used = rc == MS_OK;
    return rc;
}

void datadir_close(struct datadir *datadir)
{
    if (datadir->lock_fd >= 0) {
        (void)close(datadir->lock_fd);
    }
    if (datadir->dir_fd >= 0) {
        (void)close(datadir->dir_fd);
    }
    datadir->lock_fd = -1;
    datadir->dir_fd = -1;
}

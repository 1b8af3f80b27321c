/*
 * wal_stock: the thread that makes segments.
 *
 * The lock guards counters and is never held over a system call on a file.
 */
#include "storaged/wal_stock.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct wal_stock {
    struct wal_disk disk;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int event_fd;

    /* Under the lock. ready[0 .. ready_count) ascend without a gap up to next_sequence - 1. */
    struct wal_header ready[WAL_STOCK_READY_MAX];
    size_t ready_count;
    uint64_t next_sequence;
    uint64_t release_end;  /* segments below are no longer needed */
    struct ms_err failure; /* status MS_OK: none */
    bool stop;

    /* The thread's own. */
    uint64_t oldest; /* segments below are gone from the directory */
    char used[WAL_STOCK_USED_MAX][WAL_NAME_BYTES];
    size_t used_count;
};

static void stock_signal(struct wal_stock *stock)
{
    uint64_t one = 1;
    ssize_t n = write(stock->event_fd, &one, sizeof(one));

    /* The only failure of a non-blocking eventfd is a full counter: it is readable then. */
    assert(n == (ssize_t)sizeof(one) || errno == EAGAIN);
    (void)n;
}

static void stock_sweep(const struct wal_stock *stock)
{
    int fd = openat(stock->disk.dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *file;

    if (dir == NULL) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return; /* left-overs cost room, nothing else */
    }
    while ((file = readdir(dir)) != NULL) {
        if (wal_segment_is_temporary(file->d_name)) {
            (void)unlinkat(stock->disk.dir_fd, file->d_name, 0);
        }
    }
    (void)closedir(dir);
}

/* A file of another size (the limit on requests was changed) is of no use. */
static bool stock_size_fits(const struct wal_stock *stock, const char *name)
{
    struct stat st;

    return fstatat(stock->disk.dir_fd, name, &st, 0) == 0 &&
           (uint64_t)st.st_size == stock->disk.segment_bytes;
}

/* Gives up segments [oldest, end), oldest first, so that no gap is ever left between two. */
static void stock_take_back(struct wal_stock *stock, uint64_t end)
{
    for (; stock->oldest < end; stock->oldest++) {
        char name[WAL_NAME_BYTES];

        if (wal_segment_give_up(&stock->disk, stock->oldest, name, NULL) != MS_OK) {
            /* Gone already, or it stays until the next start gives it up. */
            continue;
        }
        if (stock->used_count < WAL_STOCK_USED_MAX && stock_size_fits(stock, name)) {
            memcpy(stock->used[stock->used_count++], name, WAL_NAME_BYTES);
        } else {
            (void)unlinkat(stock->disk.dir_fd, name, 0);
        }
    }
}

/* Makes one segment and publishes it, or the reason why not. Called without the lock. */
static int stock_make(struct wal_stock *stock, uint64_t sequence)
{
    struct wal_header header = {0};
    struct ms_err err = {.status = MS_OK};
    const char *used = stock->used_count > 0 ? stock->used[stock->used_count - 1] : NULL;
    int rc = wal_segment_make(&stock->disk, sequence, used, &header, &err);

    if (used != NULL) {
        stock->used_count--; /* became the segment, or was removed */
    }
    (void)pthread_mutex_lock(&stock->lock);
    if (rc == MS_OK) {
        assert(stock->ready_count < WAL_STOCK_READY_MAX);
        stock->ready[stock->ready_count++] = header;
        stock->next_sequence = sequence + 1;
        err.status = MS_OK;
    }
    stock->failure = err;
    (void)pthread_cond_broadcast(&stock->changed);
    (void)pthread_mutex_unlock(&stock->lock);
    stock_signal(stock);
    return rc;
}

/* With the lock. Waits for a change, or for a while when the last attempt failed. */
static void stock_wait(struct wal_stock *stock, bool failed)
{
    struct timespec until;

    if (!failed) {
        (void)pthread_cond_wait(&stock->changed, &stock->lock);
        return;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += WAL_STOCK_RETRY_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    (void)pthread_cond_timedwait(&stock->changed, &stock->lock, &until);
}

static void *stock_run(void *arg)
{
    struct wal_stock *stock = arg;
    bool failed = false;

    stock_sweep(stock);
    (void)pthread_mutex_lock(&stock->lock);
    while (!stock->stop) {
        uint64_t release_end = stock->release_end;
        uint64_t sequence = stock->next_sequence;
        bool wanted = stock->ready_count < WAL_STOCK_READY;

        if (release_end <= stock->oldest && (!wanted || failed)) {
            stock_wait(stock, failed);
            failed = false;
            continue;
        }
        (void)pthread_mutex_unlock(&stock->lock);
        stock_take_back(stock, release_end);
        failed = wanted && stock_make(stock, sequence) != MS_OK;
        (void)pthread_mutex_lock(&stock->lock);
    }
    (void)pthread_mutex_unlock(&stock->lock);
    return NULL;
}

int wal_stock_create(const struct wal_stock_options *options, struct wal_stock **out,
                     struct ms_err *err)
{
    struct wal_stock *stock = calloc(1, sizeof(*stock));
    pthread_condattr_t attributes;
    int failed;

    assert(options->ready_count <= WAL_STOCK_READY_MAX);
    if (stock == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for the stock of segments");
    }
    stock->disk = options->disk;
    stock->next_sequence = options->next_sequence;
    stock->oldest = options->oldest;
    stock->ready_count = options->ready_count;
    for (size_t i = 0; i < options->ready_count; i++) {
        stock->ready[i] = options->ready[i];
    }
    stock->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (stock->event_fd < 0) {
        int rc = ms_err_set(err, MS_EIO, errno, "eventfd of the stock of segments");

        free(stock);
        return rc;
    }
    (void)pthread_mutex_init(&stock->lock, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&stock->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    failed = pthread_create(&stock->thread, NULL, stock_run, stock);
    if (failed != 0) {
        int rc = ms_err_set(err, MS_ENOMEM, failed, "thread for the stock of segments");

        (void)pthread_cond_destroy(&stock->changed);
        (void)pthread_mutex_destroy(&stock->lock);
        (void)close(stock->event_fd);
        free(stock);
        return rc;
    }
    *out = stock;
    return MS_OK;
}

void wal_stock_destroy(struct wal_stock *stock)
{
    if (stock == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&stock->lock);
    stock->stop = true;
    (void)pthread_cond_broadcast(&stock->changed);
    (void)pthread_mutex_unlock(&stock->lock);
    (void)pthread_join(stock->thread, NULL);
    (void)pthread_cond_destroy(&stock->changed);
    (void)pthread_mutex_destroy(&stock->lock);
    (void)close(stock->event_fd);
    free(stock);
}

int wal_stock_take(struct wal_stock *stock, struct wal_header *out)
{
    int rc = MS_EAGAIN;

    (void)pthread_mutex_lock(&stock->lock);
    if (stock->ready_count > 0) {
        *out = stock->ready[0];
        stock->ready_count--;
        memmove(stock->ready, stock->ready + 1, stock->ready_count * sizeof(stock->ready[0]));
        (void)pthread_cond_broadcast(&stock->changed);
        rc = MS_OK;
    }
    (void)pthread_mutex_unlock(&stock->lock);
    return rc;
}

void wal_stock_release(struct wal_stock *stock, uint64_t sequence)
{
    (void)pthread_mutex_lock(&stock->lock);
    if (sequence > stock->release_end) {
        stock->release_end = sequence;
        (void)pthread_cond_broadcast(&stock->changed);
    }
    (void)pthread_mutex_unlock(&stock->lock);
}

int wal_stock_event_fd(const struct wal_stock *stock)
{
    return stock->event_fd;
}

void wal_stock_clear(struct wal_stock *stock)
{
    uint64_t count;

    /* EAGAIN: nothing to reset. */
    (void)!read(stock->event_fd, &count, sizeof(count));
}

int wal_stock_failure(struct wal_stock *stock, struct ms_err *err)
{
    int rc;

    (void)pthread_mutex_lock(&stock->lock);
    rc = stock->failure.status;
    if (rc != MS_OK && err != NULL) {
        *err = stock->failure;
    }
    (void)pthread_mutex_unlock(&stock->lock);
    return rc;
}

int wal_stock_wait(struct wal_stock *stock, struct ms_err *err)
{
    int rc = MS_OK;

    (void)pthread_mutex_lock(&stock->lock);
    while (stock->ready_count == 0 && stock->failure.status == MS_OK) {
        (void)pthread_cond_wait(&stock->changed, &stock->lock);
    }
    if (stock->ready_count == 0) {
        rc = stock->failure.status;
        if (err != NULL) {
            *err = stock->failure;
        }
    }
    (void)pthread_mutex_unlock(&stock->lock);
    return rc;
}

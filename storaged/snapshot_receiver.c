/*
 * snapshot_receiver: the reader of snapshots, fed with what comes instead of from a file, and the
 * file written on the way.
 */
#include "storaged/snapshot_receiver.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storaged/content_check.h"
#include "storaged/snapshot_chunk.h"
#include "storaged/snapshot_reader.h"
#include "storaged/work_thread.h"

/*
 * The kernel writes a step while the next one comes, and the one after that waits for it: so much
 * twice is all that a sync of the log, or ours at the end, may find dirty.
 */
#define STEP_BYTES (UINT64_C(2) << 20)

/* Progress is told after so many bytes, or when nothing more waits. */
#define TELL_BYTES (64 * 1024)

#define NAME_BYTES 64

struct snapshot_receiver {
    struct received_files *files; /* borrowed */
    struct snapshot_file file;
    int event_fd; /* borrowed */
    pthread_t thread;

    pthread_mutex_t lock; /* of all up to news */
    pthread_cond_t changed;
    bool cancelled;
    uint64_t put;   /* bytes ever put into the buffer ... */
    uint64_t taken; /* ... and taken out of it */
    struct snapshot_receiver_news news;
    uint8_t buffer[SNAPSHOT_RECEIVER_BYTES]; /* circular */

    /* The thread's own. */
    int fd;
    uint64_t on_disk;  /* bytes that the file had to begin with */
    uint64_t position; /* bytes that the reader has got */
    uint64_t told;     /* what news.offset says */
    uint64_t started;  /* bytes whose writing has been started ... */
    uint64_t settled;  /* ... and waited for */
    uint8_t chunk[SNAPSHOT_CHUNK_HEAD_BYTES + SNAPSHOT_CHUNK_BYTES];
    struct content_check check;
    struct engine_snapshot_info info;
};

/* ---- between the threads ------------------------------------------------------------------- */

static void ring(int fd)
{
    const uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof(one));

    assert(written == (ssize_t)sizeof(one) || errno == EAGAIN);
    (void)written;
}

int snapshot_receiver_put(struct snapshot_receiver *receiver, const uint8_t *data, size_t len_bytes)
{
    size_t at;
    size_t part;
    int rc = MS_OK;

    (void)pthread_mutex_lock(&receiver->lock);
    if (len_bytes > SNAPSHOT_RECEIVER_BYTES - (receiver->put - receiver->taken)) {
        rc = MS_EFULL;
    } else {
        at = receiver->put % SNAPSHOT_RECEIVER_BYTES;
        part = SNAPSHOT_RECEIVER_BYTES - at < len_bytes ? SNAPSHOT_RECEIVER_BYTES - at : len_bytes;
        memcpy(receiver->buffer + at, data, part);
        memcpy(receiver->buffer, data + part, len_bytes - part);
        receiver->put += len_bytes;
        (void)pthread_cond_signal(&receiver->changed);
    }
    (void)pthread_mutex_unlock(&receiver->lock);
    return rc;
}

void snapshot_receiver_look(struct snapshot_receiver *receiver, struct snapshot_receiver_news *out)
{
    (void)pthread_mutex_lock(&receiver->lock);
    *out = receiver->news;
    (void)pthread_mutex_unlock(&receiver->lock);
}

void snapshot_receiver_cancel(struct snapshot_receiver *receiver)
{
    (void)pthread_mutex_lock(&receiver->lock);
    receiver->cancelled = true;
    (void)pthread_cond_signal(&receiver->changed);
    (void)pthread_mutex_unlock(&receiver->lock);
}

static bool is_cancelled(struct snapshot_receiver *receiver)
{
    bool cancelled;

    (void)pthread_mutex_lock(&receiver->lock);
    cancelled = receiver->cancelled;
    (void)pthread_mutex_unlock(&receiver->lock);
    return cancelled;
}

static int given_up(struct ms_err *err)
{
    return ms_err_set(err, MS_EAGAIN, 0, "receiving a snapshot was given up");
}

static void tell_offset(struct snapshot_receiver *receiver, uint64_t offset)
{
    receiver->told = offset;
    (void)pthread_mutex_lock(&receiver->lock);
    receiver->news.begun = true;
    receiver->news.offset = offset;
    (void)pthread_mutex_unlock(&receiver->lock);
    ring(receiver->event_fd);
}

/* Waits for bytes and takes up to len_bytes. MS_EAGAIN: cancelled. *empty: it took the last. */
static int take(struct snapshot_receiver *receiver, uint8_t *dst, size_t len_bytes, size_t *got,
                bool *empty, struct ms_err *err)
{
    uint64_t waiting;
    int rc = MS_OK;

    (void)pthread_mutex_lock(&receiver->lock);
    while (receiver->put == receiver->taken && !receiver->cancelled) {
        (void)pthread_cond_wait(&receiver->changed, &receiver->lock);
    }
    if (receiver->cancelled) {
        rc = given_up(err);
    } else {
        size_t at = receiver->taken % SNAPSHOT_RECEIVER_BYTES;

        waiting = receiver->put - receiver->taken;
        *got = waiting < len_bytes ? waiting : len_bytes;
        if (*got > SNAPSHOT_RECEIVER_BYTES - at) {
            *got = SNAPSHOT_RECEIVER_BYTES - at;
        }
        memcpy(dst, receiver->buffer + at, *got);
        receiver->taken += *got;
        *empty = receiver->put == receiver->taken;
    }
    (void)pthread_mutex_unlock(&receiver->lock);
    return rc;
}

/* ---- the file ------------------------------------------------------------------------------ */

static int fault(const struct snapshot_receiver *receiver, const char *what, int cause,
                 struct ms_err *err)
{
    bool room = cause == ENOSPC || cause == EDQUOT || cause == EFBIG;

    return ms_err_set(err, room ? MS_ENOSPC : MS_EIO, cause,
                      "%s the snapshot of index %" PRIu64 " that is being received", what,
                      receiver->file.index);
}

static int write_at(struct snapshot_receiver *receiver, const uint8_t *data, size_t len_bytes,
                    uint64_t offset, struct ms_err *err)
{
    while (len_bytes > 0) {
        ssize_t done = pwrite(receiver->fd, data, len_bytes, (off_t)offset);

        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return fault(receiver, "write", errno, err);
        }
        data += done;
        len_bytes -= (size_t)done;
        offset += (uint64_t)done;
    }
    return MS_OK;
}

/* Fewer bytes only at the end of the file. */
static int read_at(const struct snapshot_receiver *receiver, uint8_t *dst, size_t len_bytes,
                   uint64_t offset, size_t *got, struct ms_err *err)
{
    *got = 0;
    while (*got < len_bytes) {
        ssize_t done = pread(receiver->fd, dst + *got, len_bytes - *got, (off_t)(offset + *got));

        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return fault(receiver, "read", errno, err);
        }
        if (done == 0) {
            break;
        }
        *got += (size_t)done;
    }
    return MS_OK;
}

/* Keeps the disk busy with what has come, and lets us wait rather than others. */
static void pace(struct snapshot_receiver *receiver)
{
    uint64_t end = receiver->position;

    if (end - receiver->started < STEP_BYTES) {
        return;
    }
    /* Hints; what fails here fails again, and is seen, at the sync. */
    (void)sync_file_range(receiver->fd, (off_t)receiver->started, (off_t)(end - receiver->started),
                          SYNC_FILE_RANGE_WRITE);
    if (receiver->started > receiver->settled) {
        (void)sync_file_range(
            receiver->fd, (off_t)receiver->settled, (off_t)(receiver->started - receiver->settled),
            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
        receiver->settled = receiver->started;
    }
    receiver->started = end;
}

/* How much of what the file holds is whole chunks whose checksums are right. */
static int find_sound(struct snapshot_receiver *receiver, uint64_t *out, struct ms_err *err)
{
    uint64_t offset = 0;

    for (uint32_t number = 0;; number++) {
        uint8_t *payload = receiver->chunk + SNAPSHOT_CHUNK_HEAD_BYTES;
        size_t length;
        size_t got;
        int rc = read_at(receiver, receiver->chunk, sizeof(receiver->chunk), offset, &got, err);

        if (rc != MS_OK) {
            return rc;
        }
        if (is_cancelled(receiver)) {
            return given_up(err);
        }
        length = got < SNAPSHOT_CHUNK_HEAD_BYTES ? 0 : snapshot_chunk_length(receiver->chunk);
        if (length == 0 || length > got - SNAPSHOT_CHUNK_HEAD_BYTES ||
            snapshot_chunk_number(receiver->chunk) != number ||
            !snapshot_chunk_is_sound(receiver->chunk, payload, length) ||
            offset + SNAPSHOT_CHUNK_HEAD_BYTES + length > receiver->file.size_bytes) {
            *out = offset;
            return MS_OK;
        }
        offset += SNAPSHOT_CHUNK_HEAD_BYTES + length;
    }
}

/* Opens what there is, cuts off what is not sound, and reserves the rest. */
static int open_file(struct snapshot_receiver *receiver, struct ms_err *err)
{
    int rc = received_files_begin(receiver->files, &receiver->file, &receiver->fd, err);

    if (rc == MS_OK) {
        rc = find_sound(receiver, &receiver->on_disk, err);
    }
    if (rc != MS_OK) {
        return rc;
    }
    if (ftruncate(receiver->fd, (off_t)receiver->on_disk) != 0) {
        return fault(receiver, "cut", errno, err);
    }
    /* A full disk is better known now. Where space cannot be reserved it shows later. */
    if (fallocate(receiver->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)receiver->file.size_bytes) != 0 &&
        errno != EOPNOTSUPP && errno != ENOSYS && errno != EINTR) {
        return fault(receiver, "reserve room for", errno, err);
    }
    receiver->started = receiver->on_disk;
    receiver->settled = receiver->on_disk;
    return MS_OK;
}

/* ---- the content --------------------------------------------------------------------------- */

/* What the reader reads: first what is on disk, then what comes, which is written on the way. */
static int next_bytes(void *ctx, uint8_t *dst, size_t len_bytes, size_t *got, struct ms_err *err)
{
    struct snapshot_receiver *receiver = ctx;
    size_t have = 0;
    int rc;

    while (have < len_bytes && receiver->position < receiver->file.size_bytes) {
        uint64_t rest = receiver->file.size_bytes - receiver->position;
        size_t want = len_bytes - have < rest ? len_bytes - have : rest;
        size_t part = 0;
        bool empty = false;

        if (receiver->position < receiver->on_disk) {
            rest = receiver->on_disk - receiver->position;
            want = want < rest ? want : rest;
            rc = read_at(receiver, dst + have, want, receiver->position, &part, err);
            if (rc == MS_OK && part < want) {
                rc = ms_err_set(err, MS_EIO, 0, "a snapshot that is being received was cut");
            }
            if (rc == MS_OK && is_cancelled(receiver)) {
                rc = given_up(err);
            }
        } else {
            rc = take(receiver, dst + have, want, &part, &empty, err);
            if (rc == MS_OK) {
                rc = write_at(receiver, dst + have, part, receiver->position, err);
            }
        }
        if (rc != MS_OK) {
            return rc;
        }
        have += part;
        receiver->position += part;
        if (receiver->position > receiver->on_disk) {
            pace(receiver);
            if (empty || receiver->position - receiver->told >= TELL_BYTES) {
                tell_offset(receiver, receiver->position);
            }
        }
    }
    *got = have;
    return MS_OK;
}

static int see_record(void *ctx, const uint8_t *name, size_t name_bytes, const uint8_t *value,
                      size_t value_bytes, struct ms_err *err)
{
    (void)ctx;
    (void)value;
    (void)value_bytes;
    return content_check_record(name, name_bytes, err);
}

static int see_key(void *ctx, const uint8_t *key, size_t key_bytes,
                   const struct engine_stamp *stamps, size_t count, struct ms_err *err)
{
    struct snapshot_receiver *receiver = ctx;
    bool is_new;

    return content_check_key(&receiver->check, key, key_bytes, stamps, count, &is_new, err);
}

static int see_change(void *ctx, const struct engine_change *change, struct ms_err *err)
{
    struct snapshot_receiver *receiver = ctx;

    return content_check_change(&receiver->check, change, err);
}

static int check_content(struct snapshot_receiver *receiver, struct ms_err *err)
{
    const struct engine_sink sink = {see_record, see_key, see_change, receiver};
    char name[NAME_BYTES];
    const struct snapshot_input input = {.read = next_bytes, .ctx = receiver, .name = name};
    struct snapshot_reader *reader = NULL;
    int rc;

    (void)snprintf(name, sizeof(name), "of index %" PRIu64 " from a peer", receiver->file.index);
    rc = snapshot_reader_create(&input, &reader, err);
    if (rc == MS_OK) {
        rc = snapshot_reader_header(reader, &receiver->info, err);
    }
    if (rc == MS_OK && (receiver->info.meta.applied != receiver->file.index ||
                        receiver->info.meta.applied_term != receiver->file.term)) {
        rc = ms_err_set(err, MS_ECORRUPT, 0, "snapshot %s: it is one of index %" PRIu64, name,
                        receiver->info.meta.applied);
    }
    if (rc == MS_OK) {
        rc = snapshot_reader_run(reader, &sink, err);
    }
    if (rc == MS_OK) {
        rc = content_check_finish(&receiver->check, &receiver->info, err);
    }
    if (rc == MS_OK && receiver->position != receiver->file.size_bytes) {
        rc = ms_err_set(err, MS_ECORRUPT, 0, "snapshot %s: it ends before its size", name);
    }
    snapshot_reader_destroy(reader);
    return rc;
}

/* ---- the thread ---------------------------------------------------------------------------- */

static int receive(struct snapshot_receiver *receiver, struct ms_err *err)
{
    int rc;

    if (received_files_have(receiver->files, receiver->file.index, receiver->file.term, NULL)) {
        /* Complete already; whoever sends it need not send anything. */
        tell_offset(receiver, receiver->file.size_bytes);
        return MS_OK;
    }
    rc = open_file(receiver, err);
    if (rc == MS_ENOSPC) {
        received_files_discard(receiver->files); /* so that the next try may find room */
    }
    if (rc == MS_OK) {
        tell_offset(receiver, receiver->on_disk);
        rc = check_content(receiver, err);
    }
    if (rc == MS_OK) {
        rc = received_files_complete(receiver->files, &receiver->file, receiver->fd, err);
    }
    /* After a sync that failed, what is read back is not what the disk has. */
    if (rc != MS_OK && rc != MS_EAGAIN && receiver->fd >= 0) {
        received_files_forget(receiver->files, &receiver->file);
    }
    return rc;
}

static void *run(void *ctx)
{
    struct snapshot_receiver *receiver = ctx;
    struct ms_err err = {.status = MS_OK};
    int rc = receive(receiver, &err);

    (void)pthread_mutex_lock(&receiver->lock);
    receiver->news.ended = true;
    receiver->news.status = rc;
    receiver->news.err = err;
    (void)pthread_mutex_unlock(&receiver->lock);
    ring(receiver->event_fd);
    return NULL;
}

static void free_receiver(struct snapshot_receiver *receiver)
{
    if (receiver->fd >= 0) {
        (void)close(receiver->fd);
    }
    (void)pthread_cond_destroy(&receiver->changed);
    (void)pthread_mutex_destroy(&receiver->lock);
    free(receiver);
}

int snapshot_receiver_start(struct received_files *files, const struct snapshot_file *file,
                            int event_fd, struct snapshot_receiver **out, struct ms_err *err)
{
    struct snapshot_receiver *receiver = calloc(1, sizeof(*receiver));
    int code;

    if (receiver == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory to receive a snapshot");
    }
    receiver->files = files;
    receiver->file = *file;
    receiver->event_fd = event_fd;
    receiver->fd = -1;
    (void)pthread_mutex_init(&receiver->lock, NULL);
    (void)pthread_cond_init(&receiver->changed, NULL);
    code = work_thread_start(&receiver->thread, run, receiver);
    if (code != 0) {
        free_receiver(receiver);
        return ms_err_set(err, MS_ENOMEM, code, "start a thread to receive a snapshot");
    }
    *out = receiver;
    return MS_OK;
}

void snapshot_receiver_destroy(struct snapshot_receiver *receiver)
{
    if (receiver == NULL) {
        return;
    }
    snapshot_receiver_cancel(receiver);
    work_thread_join(receiver->thread);
    free_receiver(receiver);
}

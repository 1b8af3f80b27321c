/*
 * snapshot_in: one transfer, and the receiver that serves it or is just ending.
 */
#include "storaged/snapshot_in.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/log.h"
#include "storaged/snapshot_receiver.h"

/*
 * A transfer is active from its SNAP_RECEIVE until its last SNAP_PROGRESS was sent or it was given
 * up. The receiver may outlive it: it ends at its own pace, and only then does the next one start,
 * for both would write to one file.
 */
struct snapshot_in {
    struct received_files *files; /* borrowed */
    int event_fd;
    struct snapshot_receiver *receiver; /* NULL: none */
    bool ending;                        /* the receiver was cancelled: it serves nobody any more */
    bool active;
    struct ms_snap_receive transfer;
    bool begun;
    uint64_t put; /* bytes handed over, from the start of the snapshot */
    bool due;
    struct ms_snap_progress progress; /* as it is, or was told last */
};

int snapshot_in_create(struct received_files *files, struct snapshot_in **out, struct ms_err *err)
{
    struct snapshot_in *in = calloc(1, sizeof(*in));

    if (in == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory to receive snapshots");
    }
    in->files = files;
    in->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (in->event_fd < 0) {
        int rc = ms_err_set(err, MS_EIO, errno, "eventfd to receive snapshots");

        free(in);
        return rc;
    }
    *out = in;
    return MS_OK;
}

void snapshot_in_destroy(struct snapshot_in *in)
{
    if (in != NULL) {
        snapshot_receiver_destroy(in->receiver);
        (void)close(in->event_fd);
        free(in);
    }
}

int snapshot_in_fd(const struct snapshot_in *in)
{
    return in->event_fd;
}

/* ---- the receiver -------------------------------------------------------------------------- */

/* The last word on the transfer. */
static void finish(struct snapshot_in *in, int status, const struct ms_err *err)
{
    in->progress.status = status;
    in->progress.complete = status == MS_OK;
    in->due = true;
    if (status != MS_OK) {
        ms_log_err(MS_LOG_WARN, "a snapshot could not be received", err);
    } else {
        ms_log(MS_LOG_INFO, "snapshot received", MS_F_U64("index", in->transfer.index),
               MS_F_U64("term", in->transfer.term), MS_F_U64("bytes", in->transfer.size_bytes));
    }
}

static void start(struct snapshot_in *in)
{
    const struct snapshot_file file = {.index = in->transfer.index,
                                       .term = in->transfer.term,
                                       .size_bytes = in->transfer.size_bytes};
    struct ms_err err = {.status = MS_OK};
    int rc = snapshot_receiver_start(in->files, &file, in->event_fd, &in->receiver, &err);

    if (rc != MS_OK) {
        finish(in, rc, &err);
    }
}

static void let_end(struct snapshot_in *in)
{
    if (in->receiver != NULL) {
        snapshot_receiver_cancel(in->receiver);
        in->ending = true;
    }
}

void snapshot_in_collect(struct snapshot_in *in)
{
    struct snapshot_receiver_news news;
    uint64_t count;

    (void)!read(in->event_fd, &count, sizeof(count)); /* EAGAIN: it was silent */
    if (in->receiver == NULL) {
        return;
    }
    snapshot_receiver_look(in->receiver, &news);
    if (!in->ending && news.begun && (!in->begun || news.offset != in->progress.offset)) {
        if (!in->begun) {
            in->put = news.offset;
        }
        in->begun = true;
        in->progress.offset = news.offset;
        in->due = true;
    }
    if (!news.ended) {
        return;
    }
    snapshot_receiver_destroy(in->receiver);
    in->receiver = NULL;
    if (!in->ending) {
        finish(in, news.status, &news.err);
        return;
    }
    in->ending = false;
    if (in->active) {
        start(in);
    }
}

/* ---- from raftd ---------------------------------------------------------------------------- */

void snapshot_in_receive(struct snapshot_in *in, const struct ms_snap_receive *message)
{
    let_end(in);
    in->active = true;
    in->transfer = *message;
    in->begun = false;
    in->put = 0;
    in->due = false;
    in->progress = (struct ms_snap_progress){.transfer = message->transfer};
    if (in->receiver == NULL) {
        start(in);
    }
}

void snapshot_in_write(struct snapshot_in *in, const struct ms_snap_write *message,
                       const uint8_t *data, size_t len_bytes)
{
    struct ms_err err = {.status = MS_OK};
    int rc = MS_OK;

    if (!in->active || message->transfer != in->transfer.transfer || in->progress.status != MS_OK ||
        in->progress.complete != 0) {
        return; /* sent before its sender knew */
    }
    if (!in->begun || in->receiver == NULL || message->offset != in->put ||
        len_bytes > in->transfer.size_bytes - in->put) {
        rc = MS_EINVAL;
    } else if (snapshot_receiver_put(in->receiver, data, len_bytes) != MS_OK) {
        rc = MS_EINVAL;
    } else {
        in->put += len_bytes;
    }
    if (rc != MS_OK) {
        (void)ms_err_set(&err, rc, 0,
                         "%zu bytes at %" PRIu64 " of a snapshot of %" PRIu64 ", of which %" PRIu64
                         " are there",
                         len_bytes, message->offset, in->transfer.size_bytes, in->put);
        let_end(in);
        finish(in, rc, &err);
    }
}

void snapshot_in_abandon(struct snapshot_in *in, const struct ms_snap_abandon *message)
{
    if (in->active && message->transfer == in->transfer.transfer) {
        snapshot_in_reset(in);
    }
}

void snapshot_in_reset(struct snapshot_in *in)
{
    let_end(in);
    in->active = false;
    in->due = false;
}

/* ---- to raftd ------------------------------------------------------------------------------ */

bool snapshot_in_is_due(const struct snapshot_in *in)
{
    return in->due;
}

int snapshot_in_tell(struct snapshot_in *in, struct ms_link *link)
{
    int rc = MS_OK;

    if (in->due) {
        rc = ms_link_send(link, MS_IPC_SNAP_PROGRESS, &in->progress);
        in->due = rc != MS_OK;
    }
    /* After the last word it is over. */
    if (rc == MS_OK && (in->progress.status != MS_OK || in->progress.complete != 0)) {
        in->active = false;
    }
    return rc;
}

/*
 * snapshot_receiver: one snapshot from another node on its way to disk, on a thread of its own.
 *
 * Every chunk is checked as it comes, and the content with it, so that what is complete can be
 * installed. The thread writes at the pace of the disk: what waits in the page cache is bounded,
 * and so is what waits here. A beginning that an earlier receiver left is checked and continued.
 */
#ifndef METASTORE_STORAGED_SNAPSHOT_RECEIVER_H
#define METASTORE_STORAGED_SNAPSHOT_RECEIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/ipc_catalogue.h"
#include "storaged/received_files.h"

struct snapshot_receiver;

/* Bytes that wait for the thread, at most. */
#define SNAPSHOT_RECEIVER_BYTES MS_SNAP_WINDOW_BYTES

/* How far it has come. */
struct snapshot_receiver_news {
    bool begun;      /* offset is known: bytes from there on are wanted */
    uint64_t offset; /* bytes taken, from the start of the snapshot */
    bool ended;      /* the thread will say nothing more */
    int status;      /* when ended: MS_OK if all of it is there, verified and durable */
    struct ms_err err;
};

/*
 * Starts to receive *file (index, term and size). files is borrowed; event_fd (an eventfd,
 * borrowed) is rung when there is news. MS_ENOMEM.
 */
int snapshot_receiver_start(struct received_files *files, const struct snapshot_file *file,
                            int event_fd, struct snapshot_receiver **out, struct ms_err *err);

/* Hands over the next bytes; copied. MS_EFULL: more than SNAPSHOT_RECEIVER_BYTES would wait. */
int snapshot_receiver_put(struct snapshot_receiver *receiver, const uint8_t *data,
                          size_t len_bytes);

void snapshot_receiver_look(struct snapshot_receiver *receiver, struct snapshot_receiver_news *out);

/* Asks it to end soon; what is on disk stays for the next one. */
void snapshot_receiver_cancel(struct snapshot_receiver *receiver);

/* Cancels, waits until the thread has ended, and frees. NULL is allowed. */
void snapshot_receiver_destroy(struct snapshot_receiver *receiver);

#endif

/*
 * peer_stream: one TCP connection to a peer, from bytes to frames and back, sealed or not.
 *
 * Knows nothing of who is at the other end. Begins with the far side's opening; then the owner says
 * how to go on. Reads as much as there is at once, writes all that was queued in one system call,
 * and has at most one write under way.
 */
#ifndef METASTORE_RAFTD_PEER_STREAM_H
#define METASTORE_RAFTD_PEER_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "raftd/peer_frame.h"
#include "raftd/peer_handshake.h"
#include "raftd/peer_queue.h"
#include "raftd/peer_seal.h"

#define PEER_STREAM_READ_BYTES (256u * 1024u)

/* Memory that all streams of a loop use in turn, each for the length of one call. */
struct peer_scratch {
    uint8_t read[PEER_STREAM_READ_BYTES];
    uint8_t opened[PEER_SEAL_PLAIN_MAX];
    uint8_t to_seal[PEER_SEAL_PLAIN_MAX];
};

struct peer_stream_handlers {
    /* The far side's opening came; answered before it returns by peer_stream_start, or failure. */
    int (*opening)(void *ctx, const uint8_t *bytes);
    /* As in peer_frame.h. */
    struct peer_frame_handlers frames;
    /*
     * The stream has come to an end; nothing more is read or written. Called once, also from within
     * calls here: takes note, and calls nothing of the stream. MS_EPEER: the far side closed it or
     * went away, MS_EPROTO: what came in is no stream of frames, MS_EPERM: the first record does
     * not open (another key), or what a handler returned.
     */
    void (*failed)(void *ctx, int status);
    void *ctx;
};

enum peer_stream_phase {
    PEER_STREAM_OPENING,
    PEER_STREAM_HEADER,  /* sealed: the far side's header comes next */
    PEER_STREAM_RECORDS, /* sealed */
    PEER_STREAM_FRAMES,  /* not sealed */
    PEER_STREAM_DEAF,    /* what comes in is of no interest any more */
    PEER_STREAM_FAILED,
};

struct peer_stream {
    uv_tcp_t tcp; /* data is the owner's */
    uv_write_t write;
    bool writing; /* a write is under way, of write_bytes */
    size_t write_bytes;

    struct peer_queue queue;
    size_t raw_bytes; /* sealed: so many at the head of the queue go out as they are */
    uint8_t *sealed;  /* records that wait to be written: [sealed_sent, sealed_bytes) */
    size_t sealed_bytes;
    size_t sealed_sent;

    enum peer_stream_phase phase;
    bool is_sealed;
    bool has_opened; /* a record was opened: the far side holds the key */
    bool hang_up;    /* once all is written, say that nothing more will come */
    struct peer_seal seal;
    uint8_t *part; /* of an opening, a header or a record: part_bytes of it */
    size_t part_bytes;
    struct peer_frame_reader reader;

    struct peer_stream_handlers handlers;
    struct peer_scratch *scratch;   /* borrowed */
    const struct raft_alloc *alloc; /* borrowed */
    uint64_t bytes_sent;
    uint64_t bytes_received;
};

/* A stream on no socket yet (tcp is the owner's to initialise). MS_ENOMEM. */
int peer_stream_init(struct peer_stream *stream, const struct raft_alloc *alloc,
                     struct peer_scratch *scratch, const struct peer_stream_handlers *handlers);
/* After tcp is closed. */
void peer_stream_fini(struct peer_stream *stream);

/* tcp is connected: begin to read. */
void peer_stream_listen(struct peer_stream *stream);

/* Queues bytes that go out as they are. Only before peer_stream_start. */
int peer_stream_put_raw(struct peer_stream *stream, const uint8_t *bytes, size_t len_bytes);

/*
 * Openings are exchanged: from now on frames, sealed if keys is not NULL. MS_ENOMEM.
 */
int peer_stream_start(struct peer_stream *stream, const struct peer_seal_keys *keys);

/* Writes what is queued, as far as the socket takes it; the rest goes out by itself. */
void peer_stream_flush(struct peer_stream *stream);

/* Drops what comes in from now on, writes what is queued, then closes our direction. */
void peer_stream_finish(struct peer_stream *stream);

/* Ends the stream with a reason of the owner's, reported as any other. */
void peer_stream_fail(struct peer_stream *stream, int status);

/* Bytes that wait for the socket. */
size_t peer_stream_waiting(const struct peer_stream *stream);
/*
 * How many bytes the far side's kernel has acknowledged; *left_bytes is how many it has yet to, in
 * the socket's buffer or waiting for it.
 */
uint64_t peer_stream_acknowledged(const struct peer_stream *stream, uint64_t *left_bytes);

#endif

/*
 * ring: one-producer, one-consumer record queue in memory shared by two processes.
 *
 * The bulk path between workers. It moves whole records, wakes nobody (the doorbell is the
 * link's eventfd) and distrusts the far side: a corrupt peer may cost us the ring, never our
 * own memory. The data area is mapped twice in a row, so that every record is contiguous.
 */
#ifndef METASTORE_COMMON_RING_H
#define METASTORE_COMMON_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct ms_ring_region; /* the shared bytes; layout private to ring.c and its tests */

enum ms_ring_side {
    MS_RING_PRODUCER,
    MS_RING_CONSUMER,
};

/* One side's private view. */
struct ms_ring {
    struct ms_ring_region *region; /* owned mapping; NULL when detached */
    uint8_t *data;                 /* first byte of the doubly mapped data area */
    uint64_t capacity_bytes;       /* power of two, copied at attach, never re-read */
    uint64_t position;             /* our own index, the only one we trust */
    uint64_t seen;                 /* the far side's index as last read and checked */
    uint64_t pending_bytes;        /* producer: bytes reserved; consumer: bytes peeked */
    uint64_t announced;            /* position when we last asked whether the far side sleeps */
    enum ms_ring_side side;
};

struct ms_ring_spec {
    uint64_t capacity_bytes; /* power of two, at least MS_RING_CAPACITY_MIN */
    uint64_t generation;     /* checked at attach: both ends must mean the same ring */
};

#define MS_RING_CAPACITY_MIN 4096u
#define MS_RING_CAPACITY_MAX (UINT64_C(1) << 30)

/*
 * Creates the shared memory of an empty ring, sealed against resizing. On MS_OK the caller owns
 * *out_fd. MS_EINVAL: impossible capacity; MS_ENOMEM / MS_EIO: the kernel refused.
 */
int ms_ring_create(const char *name, const struct ms_ring_spec *spec, int *out_fd,
                   struct ms_err *err);

/*
 * Maps the ring behind fd (borrowed; may be closed afterwards) for one side. Checks seals, size,
 * magic and generation: MS_ECORRUPT when they are not what ms_ring_create makes.
 * The view keeps its place: attaching a second time to one side continues where the indices stand.
 */
int ms_ring_attach(int fd, enum ms_ring_side side, uint64_t generation, struct ms_ring *out,
                   struct ms_err *err);

/* Unmaps. Safe on a zeroed or detached view. */
void ms_ring_detach(struct ms_ring *ring);

/* The longest record that reserve accepts: half the capacity less the record header. */
size_t ms_ring_record_max(const struct ms_ring *ring);

/* Producer: bytes that the consumer has not taken yet. An impossible index of its counts as full.
 */
uint64_t ms_ring_used_bytes(const struct ms_ring *ring);

/*
 * Producer: room for one record of len_bytes (1 .. record_max), contiguous, 8-byte aligned, to be
 * filled and committed. Nothing is visible to the consumer before ms_ring_commit.
 *
 *   MS_OK        *out is writable until commit or the next reserve (which replaces it).
 *   MS_EAGAIN    full; the consumer has been told that we wait, and will say so in
 *                ms_ring_producer_waits once it freed some.
 *   MS_ERANGE    longer than record_max.
 *   MS_ECORRUPT  the consumer published an impossible index.
 */
int ms_ring_reserve(struct ms_ring *ring, size_t len_bytes, void **out);

/* Producer: publishes the reserved record by one release store. */
void ms_ring_commit(struct ms_ring *ring);

/*
 * Producer, after a batch of commits: true if the consumer said it sleeps; the caller must then
 * ring its doorbell. Clears the statement, so one batch costs at most one system call.
 */
bool ms_ring_consumer_sleeps(struct ms_ring *ring);

/*
 * Consumer: the oldest record, in place. The bytes are shared: the far side can change them while
 * they are read, so copy out, then check, then use.
 *
 *   MS_OK        *out .. *out + *len_bytes stay until ms_ring_consume.
 *   MS_EAGAIN    empty.
 *   MS_ECORRUPT  impossible index or length; drop this ring and report the peer.
 */
int ms_ring_peek(struct ms_ring *ring, const void **out, size_t *len_bytes);

/* Consumer: gives the peeked record's room back. */
void ms_ring_consume(struct ms_ring *ring);

/*
 * Consumer, after a batch: true if the producer found the ring full and waits for room; the caller
 * must then ring its doorbell. Clears the statement.
 */
bool ms_ring_producer_waits(struct ms_ring *ring);

/*
 * Consumer, before it sleeps: states that it sleeps. False if a record has come in meanwhile: the
 * statement is withdrawn and the caller must read again.
 */
bool ms_ring_prepare_sleep(struct ms_ring *ring);

#endif

/*
 * link: one end of a pair of rings between two workers, with the doorbells.
 *
 * Adds to the rings what every receiver needs first: the catalogue's checks. Sending never blocks;
 * a full ring is MS_EAGAIN, upon which the sender stops reading its own input. Each end has one
 * eventfd (its doorbell), rung when a record came in while it slept, or when room came back while
 * it waited for some.
 */
#ifndef METASTORE_COMMON_LINK_H
#define METASTORE_COMMON_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/ipc_catalogue.h"
#include "common/ring.h"

/* Descriptors of one link, as they travel over the control channel, in this order. */
enum ms_link_fd {
    MS_LINK_FD_IN,       /* ring we consume */
    MS_LINK_FD_OUT,      /* ring we produce */
    MS_LINK_FD_DOORBELL, /* eventfd that wakes us */
    MS_LINK_FD_PEER,     /* eventfd that wakes the far end */
};
#define MS_LINK_FD_COUNT 4

/* What the supervisor says of a link when it hands over one end. */
struct ms_link_info {
    uint32_t kind;          /* enum ms_link_kind */
    uint32_t peer_role;     /* enum ms_role */
    uint32_t peer_instance; /* 0 for all but further apid processes */
    uint32_t pad;
    uint64_t generation; /* of the link: increases with every pair of rings made */
    /* The far worker's incarnation, random; of an apid: its ms_op_id.origin. */
    uint64_t peer_origin;
};

struct ms_link {
    struct ms_ring in;
    struct ms_ring out;
    int doorbell_fd; /* owned; readable when there is something to do */
    int peer_fd;     /* owned */
    enum ms_role self_role;
    struct ms_link_info info;
};

struct ms_ipc_message {
    enum ms_ipc_type type;
    uint32_t tail_bytes;
    const uint8_t *tail; /* in the ring: shared, valid until ms_link_release */
    _Alignas(8) uint8_t body[MS_IPC_BODY_MAX]; /* private copy of the fixed part */
};

/* The name of a message type, "unknown" for others. */
const char *ms_ipc_name(uint32_t type);

/*
 * Supervisor: makes both rings and doorbells of a link. left_fds and right_fds get the descriptors
 * for either end, in the order of enum ms_link_fd; all owned by the caller (doorbells are
 * duplicates: each array can be closed on its own).
 */
int ms_link_create(const struct ms_link_info *info, uint64_t capacity_bytes,
                   int left_fds[MS_LINK_FD_COUNT], int right_fds[MS_LINK_FD_COUNT],
                   struct ms_err *err);

/*
 * Takes the four descriptors (also on failure) and attaches. self_role decides which catalogue
 * rows may come in.
 */
int ms_link_take(struct ms_link *link, const struct ms_link_info *info, enum ms_role self_role,
                 int fds[MS_LINK_FD_COUNT], struct ms_err *err);

/* Unmaps and closes. Safe on a zeroed struct whose descriptors are -1, and twice. */
void ms_link_fini(struct ms_link *link);

/* An unattached link: every operation on it is refused with MS_EPEER. */
void ms_link_init_closed(struct ms_link *link);
bool ms_link_is_open(const struct ms_link *link);

/* The largest tail that a message of this type may have on this link. */
size_t ms_link_tail_max(const struct ms_link *link, enum ms_ipc_type type);

/*
 * Begins a message in place: *body is its fixed part (zeroed), *tail its tail_bytes of tail
 * (not zeroed). The type must be one that self_role may send on this link (assert).
 * MS_EAGAIN: full, the doorbell will ring when there is room. MS_ERANGE, MS_ECORRUPT, MS_EPEER.
 */
int ms_link_begin(struct ms_link *link, enum ms_ipc_type type, size_t tail_bytes, void **body,
                  void **tail);

/* Publishes what begin started. */
void ms_link_commit(struct ms_link *link);

/* begin + copy + commit for messages without a tail; body is the row's fixed part. */
int ms_link_send(struct ms_link *link, enum ms_ipc_type type, const void *body);

/*
 * The oldest message that waits. MS_EAGAIN: none. MS_EPROTO: unknown type, wrong sender, wrong
 * length; MS_ECORRUPT: the ring itself. After the last two the link is of no more use: report the
 * peer and drop it. Every MS_OK must be followed by ms_link_release.
 */
int ms_link_receive(struct ms_link *link, struct ms_ipc_message *out);
void ms_link_release(struct ms_link *link);

/* Bytes that we sent and the far end has not taken yet; 0 when the link is not open. */
uint64_t ms_link_backlog_bytes(const struct ms_link *link);

/* Rings the far end's doorbell if it sleeps or waits for room. Once per batch, before sleeping. */
void ms_link_flush(struct ms_link *link);

/*
 * As ms_link_flush, but lets the far end sleep if all there is for it are messages that can wait
 * until something else wakes it: rings only if it waits for room.
 */
void ms_link_flush_quietly(struct ms_link *link);

/* Before sleeping on doorbell_fd. False: something has come in meanwhile, go on receiving. */
bool ms_link_prepare_sleep(struct ms_link *link);

/*
 * Puts our doorbell into an epoll set, edge-triggered: waiting for the set takes the edge, so it
 * needs no reading. Its event has data 0. MS_EIO.
 */
int ms_link_watch(const struct ms_link *link, int epoll_fd, struct ms_err *err);
/*
 * Takes it out again; a link that is not open was taken out before. Must come before ms_link_fini,
 * for other processes hold the same eventfd, which keeps it in the set.
 */
void ms_link_unwatch(const struct ms_link *link, int epoll_fd);

/* Resets the doorbell after it woke us, for those who wait for it by itself. */
void ms_link_clear_doorbell(struct ms_link *link);

#endif

/*
 * control: the messages between the supervisor and one worker.
 *
 * One SOCK_SEQPACKET datagram is one message: a header, then the payload of its type, with
 * descriptors beside it where the table says so. Both sides are the same executable, so payloads
 * are plain structs; each is still checked for exact length, because a worker may be corrupt.
 */
#ifndef METASTORE_COMMON_CONTROL_H
#define METASTORE_COMMON_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "common/err.h"
#include "common/ipc_catalogue.h"
#include "common/link.h"
#include "common/member_request.h"
#include "common/status_page.h"

#define MS_CONTROL_PROTOCOL    1
#define MS_CLUSTER_KEY_BYTES   32
#define MS_CONTROL_FDS_MAX     MS_LINK_FD_COUNT
#define MS_CONTROL_PAYLOAD_MAX (sizeof(struct ms_control_welcome))

/* S: sent by the supervisor, W: sent by the worker; fds: descriptors that travel with it. */
/* A table reads better in columns. */
/* clang-format off */
#define MS_CONTROL_CATALOGUE(X)                                              \
    /* id  name        from  payload                       fds */            \
    X(1, WELCOME,      S, struct ms_control_welcome,       0)                \
    X(2, STATUS_PAGE,  S, struct ms_control_empty,         1)                \
    X(3, METRICS_PAGE, S, struct ms_control_empty,         1)                \
    X(4, LISTENER,     S, struct ms_control_listener,      1)                \
    X(5, LINK,         S, struct ms_link_info,             MS_LINK_FD_COUNT) \
    X(6, GO,           S, struct ms_control_empty,         0)                \
    X(7, PEER_DOWN,    S, struct ms_control_peer_down,     0)                \
    X(8, PING,         S, struct ms_control_ping,          0)                \
    X(9, LOG_LEVEL,    S, struct ms_control_log_level,     0)                \
    X(10, RELOAD,      S, struct ms_control_reload,        0)                \
    X(11, DRAIN,       S, struct ms_control_empty,         0)                \
    X(12, STOP,        S, struct ms_control_empty,         0)                \
    X(13, MEMBER_REQUEST, S, struct ms_control_member_request, 0)            \
    X(64, HELLO,       W, struct ms_control_hello,         0)                \
    X(65, READY,       W, struct ms_control_empty,         0)                \
    X(66, PONG,        W, struct ms_control_ping,          0)                \
    X(67, DRAINED,     W, struct ms_control_empty,         0)                \
    X(68, PEER_CORRUPT, W, struct ms_control_peer_corrupt, 0)                \
    X(69, MEMBER_ANSWER, W, struct ms_control_member_answer, 0)              \
    X(70, REMOVED,     W, struct ms_control_empty,         0)                \
    X(71, RELOADED,    W, struct ms_control_reloaded,      0)
/* clang-format on */

enum ms_control_type {
#define MS_CONTROL_ENUM(id, name, from, payload, fds) MS_CONTROL_##name = (id),
    MS_CONTROL_CATALOGUE(MS_CONTROL_ENUM)
#undef MS_CONTROL_ENUM
};

struct ms_control_empty {
    uint64_t zero;
};

/* How the incarnation before this one ended. */
enum ms_worker_end {
    MS_END_NONE = 0,      /* this is the first */
    MS_END_STOPPED = 1,   /* as asked */
    MS_END_KILLED = 2,    /* from outside: its memory was sound */
    MS_END_OWN_FAULT = 3, /* crash signal or non-zero exit: what it wrote is not to be trusted */
};

struct ms_control_welcome {
    uint32_t protocol; /* MS_CONTROL_PROTOCOL */
    uint32_t role;     /* enum ms_role */
    uint32_t instance;
    uint32_t previous_end; /* enum ms_worker_end */
    uint64_t generation;   /* of this worker: 1, 2, ... */
    uint64_t origin;       /* random, this incarnation's name; never 0 */
    uint64_t data_id;      /* names the data dir, drawn when it was made; never 0 */
    uint32_t has_cluster_key;
    uint32_t data_was_used; /* 0 or 1: entries were applied from the data dir at some time */
    uint8_t cluster_key[MS_CLUSTER_KEY_BYTES]; /* raftd only; zero for the others */
    struct ms_config config;
};

enum ms_listener_kind {
    MS_LISTENER_API = 1,  /* to apid */
    MS_LISTENER_PEER = 2, /* to raftd */
};

struct ms_control_listener {
    uint32_t kind; /* enum ms_listener_kind */
    uint32_t pad;
};

/* PEER_DOWN: drain what it had published, then wait for the LINK that follows. */
struct ms_control_peer_down {
    uint32_t role;
    uint32_t instance;
    uint32_t end; /* enum ms_worker_end */
    uint32_t pad;
};

struct ms_control_ping {
    uint64_t seq;
};

struct ms_control_log_level {
    uint32_t level;
    uint32_t pad;
};

/* To all; answered once by RELOADED with the same number. */
struct ms_control_reload {
    uint64_t number; /* 1, 2, ... */
    struct ms_config config;
};

struct ms_control_reloaded {
    uint64_t number;
    uint32_t refused; /* not 0: the worker goes on with what it had, and text says why */
    uint32_t pad;
    char text[MS_ERR_TEXT_BYTES];
};

struct ms_control_hello {
    uint32_t protocol;
    uint32_t role;
    uint64_t pid;
};

struct ms_control_peer_corrupt {
    uint32_t role;
    uint32_t instance;
    char text[240];
};

/* To raftd; answered once by MEMBER_ANSWER. */
struct ms_control_member_request {
    struct ms_member_request head;
    char peer_url[MS_PEER_URL_BYTES];
};

struct ms_control_member_answer {
    struct ms_member_answer head;
    char text[MS_MEMBER_TEXT_BYTES];
};

/*
 * REMOVED (payload empty): the cluster has removed this node and raftd has nothing left to do for
 * it. The supervisor stops the node in order and exits with MS_EXIT_OK.
 */

struct ms_control_message {
    enum ms_control_type type;
    size_t fd_count;
    int fds[MS_CONTROL_FDS_MAX]; /* owned by the receiver, O_CLOEXEC */
    _Alignas(8) uint8_t payload[MS_CONTROL_PAYLOAD_MAX];
};

const char *ms_control_name(uint32_t type);

/* A connected pair with buffers large enough for one of everything; O_CLOEXEC, non-blocking. */
int ms_control_pair(int out_fds[2], struct ms_err *err);

/*
 * Sends one message; payload is the struct of the table, fds (borrowed) as many as it says.
 * MS_EAGAIN: the receiver does not read; MS_EPEER: it is gone.
 */
int ms_control_send(int fd, enum ms_control_type type, const void *payload, const int *fds,
                    struct ms_err *err);

/*
 * Receives one. from_supervisor says which rows are permitted. MS_EAGAIN: nothing there; MS_EPEER:
 * end of file; MS_EPROTO: not in the table, wrong sender, length or number of descriptors
 * (descriptors are closed then).
 */
int ms_control_receive(int fd, bool from_supervisor, struct ms_control_message *out,
                       struct ms_err *err);

#endif

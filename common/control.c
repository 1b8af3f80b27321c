/*
 * control: one datagram, one message, its descriptors beside it.
 *
 *   0  4        type, enum ms_control_type
 *   4  4        zero
 *   8  payload  the row's struct, exactly
 *
 * Descriptors that come with a message are either handed to the caller or closed here: a peer that
 * breaks the rules must not be able to fill our table of open files.
 */
#include "common/control.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * Room for what may wait in one direction: configuration twice and a link for every neighbour, with
 * what the kernel adds to each. The kernel may grant less; the sender then sees MS_EAGAIN earlier.
 */
#define SEND_BUFFER_BYTES (1 << 20)

struct message_head {
    uint32_t type;
    uint32_t zero;
};

struct row {
    uint32_t type;
    const char *name;
    bool from_supervisor;
    size_t payload_bytes;
    size_t fd_count;
};

#define FROM_S true
#define FROM_W false

static const struct row rows[] = {
#define ROW(id, name_, from, payload, fds) {(id), #name_, FROM_##from, sizeof(payload), (fds)},
    MS_CONTROL_CATALOGUE(ROW)
#undef ROW
};
#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

#define ROW_CHECK(id, name, from, payload, fds)                                              \
    _Static_assert(sizeof(payload) <= MS_CONTROL_PAYLOAD_MAX && (fds) <= MS_CONTROL_FDS_MAX, \
                   #name " layout");
MS_CONTROL_CATALOGUE(ROW_CHECK)
#undef ROW_CHECK

/* The room in which descriptors travel; aligned as the kernel wants it. */
union fd_room {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(sizeof(int) * MS_CONTROL_FDS_MAX)];
};

/* NULL for a number that no message has. */
static const struct row *find_row(uint32_t type)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (rows[i].type == type) {
            return &rows[i];
        }
    }
    return NULL;
}

const char *ms_control_name(uint32_t type)
{
    const struct row *row = find_row(type);

    return row != NULL ? row->name : "unknown";
}

int ms_control_pair(int out_fds[2], struct ms_err *err)
{
    const int buffer_bytes = SEND_BUFFER_BYTES;
    int rc = MS_OK;
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0) {
        return ms_err_set(err, MS_EIO, errno, "create control channel");
    }
    for (size_t i = 0; i < 2; i++) {
        if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof(buffer_bytes)) != 0) {
            rc = ms_err_set(err, MS_EIO, errno, "size the control channel");
            goto out;
        }
    }
    out_fds[0] = fds[0];
    out_fds[1] = fds[1];

out:
    if (rc != MS_OK) {
        (void)close(fds[0]);
        (void)close(fds[1]);
    }
    return rc;
}

static int send_failed(const struct row *row, int sys_errno, struct ms_err *err)
{
    int status;

    switch (sys_errno) {
    case EAGAIN:
    case ENOBUFS:
    case ETOOMANYREFS: /* too many descriptors are under way: as full as a full buffer */
        status = MS_EAGAIN;
        break;
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
        status = MS_EPEER;
        break;
    case ENOMEM:
        status = MS_ENOMEM;
        break;
    default:
        status = MS_EIO;
        break;
    }
    return ms_err_set(err, status, sys_errno, "send control message %s", row->name);
}

int ms_control_send(int fd, enum ms_control_type type, const void *payload, const int *fds,
                    struct ms_err *err)
{
    const struct row *row = find_row(type);
    struct message_head head = {.type = type};
    union fd_room room;
    struct iovec parts[2];
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent;

    assert(row != NULL);
    assert(payload != NULL);
    assert(row->fd_count == 0 || fds != NULL);

    parts[0] = (struct iovec){.iov_base = &head, .iov_len = sizeof(head)};
    /* sendmsg only reads, but its parts are not const. */
    parts[1] =
        (struct iovec){.iov_base = (void *)(uintptr_t)payload, .iov_len = row->payload_bytes};
    if (row->fd_count > 0) {
        struct cmsghdr *part;

        memset(&room, 0, sizeof(room));
        message.msg_control = room.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * row->fd_count);
        part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof(int) * row->fd_count);
        memcpy(CMSG_DATA(part), fds, sizeof(int) * row->fd_count);
    }
    do {
        sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        return send_failed(row, errno, err);
    }
    assert((size_t)sent == sizeof(head) + row->payload_bytes); /* a datagram goes whole */
    return MS_OK;
}

/* Takes over the descriptors that came along. False if anything else came, or too many of them. */
static bool collect_fds(struct msghdr *message, struct ms_control_message *out)
{
    bool sound = (message->msg_flags & MSG_CTRUNC) == 0;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR(message, part)) {
        const uint8_t *data = CMSG_DATA(part);
        size_t data_bytes = part->cmsg_len - CMSG_LEN(0);

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
            sound = false;
            continue;
        }
        for (; data_bytes >= sizeof(int); data += sizeof(int), data_bytes -= sizeof(int)) {
            /* The room we offered the kernel holds no more than this. */
            assert(out->fd_count < MS_CONTROL_FDS_MAX);
            memcpy(&out->fds[out->fd_count], data, sizeof(int));
            out->fd_count++;
        }
    }
    return sound;
}

static int check_message(const struct message_head *head, size_t len_bytes, bool from_supervisor,
                         const struct ms_control_message *message, struct ms_err *err)
{
    const struct row *row;

    if (len_bytes < sizeof(*head)) {
        return ms_err_set(err, MS_EPROTO, 0, "control message of %zu bytes", len_bytes);
    }
    row = find_row(head->type);
    if (row == NULL || head->zero != 0) {
        return ms_err_set(err, MS_EPROTO, 0, "unknown control message %" PRIu32, head->type);
    }
    if (row->from_supervisor != from_supervisor) {
        return ms_err_set(err, MS_EPROTO, 0, "control message %s from the wrong side", row->name);
    }
    if (len_bytes != sizeof(*head) + row->payload_bytes) {
        return ms_err_set(err, MS_EPROTO, 0, "control message %s of %zu bytes", row->name,
                          len_bytes);
    }
    if (message->fd_count != row->fd_count) {
        return ms_err_set(err, MS_EPROTO, 0, "control message %s with %zu descriptors", row->name,
                          message->fd_count);
    }
    return MS_OK;
}

static int receive_failed(int sys_errno, struct ms_err *err)
{
    if (sys_errno == EAGAIN) {
        return MS_EAGAIN; /* the usual end of a batch: no text */
    }
    if (sys_errno == ECONNRESET) {
        return ms_err_set(err, MS_EPEER, 0, "control channel: the far side is gone");
    }
    return ms_err_set(err, MS_EIO, sys_errno, "receive control message");
}

int ms_control_receive(int fd, bool from_supervisor, struct ms_control_message *out,
                       struct ms_err *err)
{
    struct ms_control_message message;
    struct message_head head;
    union fd_room room;
    struct iovec parts[2] = {
        {.iov_base = &head, .iov_len = sizeof(head)},
        {.iov_base = message.payload, .iov_len = sizeof(message.payload)},
    };
    struct msghdr header = {
        .msg_iov = parts,
        .msg_iovlen = 2,
        .msg_control = room.bytes,
        .msg_controllen = sizeof(room.bytes),
    };
    ssize_t received;
    size_t payload_bytes;
    int rc;

    do {
        received = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (received < 0 && errno == EINTR);
    if (received < 0) {
        return receive_failed(errno, err);
    }
    message.fd_count = 0;
    if (!collect_fds(&header, &message)) {
        rc = ms_err_set(err, MS_EPROTO, 0, "control message with lost or unknown ancillary data");
    } else if ((header.msg_flags & MSG_TRUNC) != 0) {
        rc = ms_err_set(err, MS_EPROTO, 0, "control message too long");
    } else if (received == 0) {
        /* An empty datagram looks the same; whoever sends one is treated as gone, too. */
        rc = ms_err_set(err, MS_EPEER, 0, "control channel: the far side is gone");
    } else {
        rc = check_message(&head, (size_t)received, from_supervisor, &message, err);
    }
    if (rc != MS_OK) {
        for (size_t i = 0; i < message.fd_count; i++) {
            (void)close(message.fds[i]);
        }
        return rc;
    }
    payload_bytes = (size_t)received - sizeof(head);
    out->type = (enum ms_control_type)head.type;
    out->fd_count = message.fd_count;
    memcpy(out->fds, message.fds, sizeof(int) * message.fd_count);
    memcpy(out->payload, message.payload, payload_bytes);
    return MS_OK;
}

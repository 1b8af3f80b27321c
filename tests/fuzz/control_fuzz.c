/*
 * control_fuzz: a corrupt worker or supervisor. The input is one datagram on the control channel,
 * with some descriptors beside it.
 *
 * input: 0 bit 7: we are the supervisor, bits 0 to 2: number of descriptors; 1 .. the datagram
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/control.h"

#define FDS_MAX 8

static void send_input(int fd, const uint8_t *data, size_t size_bytes, size_t fd_count)
{
    _Alignas(struct cmsghdr) uint8_t room[CMSG_SPACE(sizeof(int) * FDS_MAX)] = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size_bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (fd_count > 0) {
        struct cmsghdr *rights;

        message.msg_control = room;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        for (size_t i = 0; i < fd_count; i++) {
            memcpy(CMSG_DATA(rights) + i * sizeof(int), &fd, sizeof(fd));
        }
    }
    if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0) {
        abort();
    }
}

/* The lowest free descriptor: the same before and after if none was lost. */
static int lowest_free(void)
{
    int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);

    (void)close(fd);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    static struct ms_control_message message;
    struct ms_err err;
    int before = lowest_free();
    int fds[2];

    if (size_bytes < 2 || size_bytes > 2 * MS_CONTROL_PAYLOAD_MAX) {
        return 0;
    }
    if (ms_control_pair(fds, &err) != MS_OK) {
        abort();
    }
    send_input(fds[0], data + 1, size_bytes - 1, data[0] % FDS_MAX);
    if (ms_control_receive(fds[1], (data[0] & 0x80) == 0, &message, &err) == MS_OK) {
        for (size_t i = 0; i < message.fd_count; i++) {
            (void)close(message.fds[i]);
        }
    }
    (void)close(fds[0]);
    (void)close(fds[1]);
    if (lowest_free() != before) {
        abort();
    }
    return 0;
}

/*
 * control: every row of the table passes, nothing else does, and no descriptor is ever lost.
 */
#include "common/control.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* More descriptors than any message may have, so that the kernel has to cut. */
#define FORGED_FDS_MAX (MS_CONTROL_FDS_MAX + 4)

struct control_fixture {
    int supervisor;
    int worker;
};

static void control_fixture_init(struct control_fixture *f)
{
    struct ms_err err;
    int fds[2];

    cr_assert_eq(ms_control_pair(fds, &err), MS_OK, "%s", err.text);
    f->supervisor = fds[0];
    f->worker = fds[1];
}

static void control_fixture_fini(struct control_fixture *f)
{
    (void)close(f->supervisor);
    (void)close(f->worker);
}

static size_t open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    size_t count = 0;

    cr_assert_not_null(dir);
    while (readdir(dir) != NULL) {
        count++;
    }
    (void)closedir(dir);
    return count;
}

/* One datagram as a corrupt far side could send it. */
static void forge(int fd, uint32_t type, size_t payload_bytes, size_t fd_count)
{
    uint8_t datagram[2 * MS_CONTROL_PAYLOAD_MAX] = {0};
    struct iovec part = {.iov_base = datagram, .iov_len = 8 + payload_bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    _Alignas(struct cmsghdr) uint8_t room[CMSG_SPACE(sizeof(int) * FORGED_FDS_MAX)] = {0};

    memcpy(datagram, &type, sizeof(type));
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
    cr_assert_eq(sendmsg(fd, &message, MSG_NOSIGNAL), (ssize_t)part.iov_len);
}

Test(control, every_row_passes_with_its_payload_and_descriptors)
{
    static const struct {
        enum ms_control_type type;
        size_t payload_bytes;
        size_t fd_count;
        bool from_supervisor;
    } cases[] = {
#define FROM_S                             true
#define FROM_W                             false
#define CASE(id, name, from, payload, fds) {MS_CONTROL_##name, sizeof(payload), (fds), FROM_##from},
        MS_CONTROL_CATALOGUE(CASE)
#undef CASE
    };
    static uint8_t payload[MS_CONTROL_PAYLOAD_MAX];
    static struct ms_control_message got;
    struct control_fixture f;

    control_fixture_init(&f);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int from = cases[i].from_supervisor ? f.supervisor : f.worker;
        int to = cases[i].from_supervisor ? f.worker : f.supervisor;
        const int fds[MS_CONTROL_FDS_MAX] = {from, from, from, from};
        struct ms_err err;

        memset(payload, (int)i + 1, sizeof(payload));
        cr_assert_eq(ms_control_send(from, cases[i].type, payload, fds, &err), MS_OK, "%s",
                     err.text);
        cr_assert_eq(ms_control_receive(to, cases[i].from_supervisor, &got, &err), MS_OK, "%s",
                     err.text);
        cr_assert_eq(got.type, cases[i].type);
        cr_assert_eq(memcmp(got.payload, payload, cases[i].payload_bytes), 0);
        cr_assert_eq(got.fd_count, cases[i].fd_count);
        for (size_t n = 0; n < got.fd_count; n++) {
            cr_assert(fcntl(got.fds[n], F_GETFD) & FD_CLOEXEC);
            (void)close(got.fds[n]);
        }
    }
    control_fixture_fini(&f);
}

Test(control, empty_channel_says_so)
{
    struct control_fixture f;
    struct ms_control_message got;

    control_fixture_init(&f);
    cr_assert_eq(ms_control_receive(f.worker, true, &got, NULL), MS_EAGAIN);
    control_fixture_fini(&f);
}

Test(control, far_side_that_is_gone_is_told_after_its_last_words)
{
    const struct ms_control_ping ping = {.seq = 1};
    struct control_fixture f;
    struct ms_control_message got;

    control_fixture_init(&f);
    cr_assert_eq(ms_control_send(f.supervisor, MS_CONTROL_PING, &ping, NULL, NULL), MS_OK);
    (void)close(f.supervisor);
    cr_assert_eq(ms_control_receive(f.worker, true, &got, NULL), MS_OK);
    cr_assert_eq(ms_control_receive(f.worker, true, &got, NULL), MS_EPEER);
    cr_assert_eq(ms_control_send(f.worker, MS_CONTROL_PONG, &ping, NULL, NULL), MS_EPEER);
    (void)close(f.worker);
}

/* Closing with unread messages inside resets the channel instead of ending it. */
Test(control, reset_channel_is_gone_too)
{
    const struct ms_control_ping ping = {.seq = 1};
    struct control_fixture f;
    struct ms_control_message got;

    control_fixture_init(&f);
    cr_assert_eq(ms_control_send(f.worker, MS_CONTROL_PONG, &ping, NULL, NULL), MS_OK);
    (void)close(f.supervisor);
    cr_assert_eq(ms_control_receive(f.worker, true, &got, NULL), MS_EPEER);
    (void)close(f.worker);
}

Test(control, channel_takes_a_whole_start_and_then_says_that_it_is_full)
{
    static const struct ms_control_welcome welcome;
    static const struct ms_control_reload reload;
    const struct ms_link_info info = {.kind = MS_LINK_API_RAFT};
    struct control_fixture f;
    int rc = MS_OK;
    int sent = 0;

    control_fixture_init(&f);
    cr_assert_eq(ms_control_send(f.supervisor, MS_CONTROL_WELCOME, &welcome, NULL, NULL), MS_OK);
    cr_assert_eq(ms_control_send(f.supervisor, MS_CONTROL_RELOAD, &reload, NULL, NULL), MS_OK);
    for (int i = 0; i < 2 * MS_API_WORKERS_MAX; i++) {
        const int fds[MS_LINK_FD_COUNT] = {f.worker, f.worker, f.worker, f.worker};

        cr_assert_eq(ms_control_send(f.supervisor, MS_CONTROL_LINK, &info, fds, NULL), MS_OK);
    }
    while (rc == MS_OK && sent < 100000) {
        rc = ms_control_send(f.supervisor, MS_CONTROL_WELCOME, &welcome, NULL, NULL);
        sent++;
    }
    cr_assert_eq(rc, MS_EAGAIN);
    control_fixture_fini(&f);
}

/* ---- a corrupt far side -------------------------------------------------------------------- */

static void assert_violation(uint32_t type, size_t payload_bytes, size_t fd_count)
{
    static struct ms_control_message got;
    struct control_fixture f;
    struct ms_err err;
    size_t before;

    control_fixture_init(&f);
    got.fd_count = 77;
    before = open_descriptors();
    forge(f.supervisor, type, payload_bytes, fd_count);
    cr_assert_eq(ms_control_receive(f.worker, true, &got, &err), MS_EPROTO, "type %u", type);
    cr_assert_eq(err.status, MS_EPROTO);
    cr_assert_eq(got.fd_count, 77, "an error must leave *out alone");
    cr_assert_eq(open_descriptors(), before, "descriptors must be closed");
    control_fixture_fini(&f);
}

Test(control, unknown_type_is_a_violation)
{
    assert_violation(0, 8, 0);
    assert_violation(13, 8, 0);
    assert_violation(UINT32_MAX, 8, 0);
    assert_violation(13, 8, 2);
}

Test(control, message_from_the_wrong_side_is_a_violation)
{
    assert_violation(MS_CONTROL_READY, sizeof(struct ms_control_empty), 0);
    assert_violation(MS_CONTROL_PONG, sizeof(struct ms_control_ping), 0);
}

Test(control, wrong_length_is_a_violation)
{
    assert_violation(MS_CONTROL_PING, 0, 0);
    assert_violation(MS_CONTROL_PING, 7, 0);
    assert_violation(MS_CONTROL_PING, 9, 0);
    assert_violation(MS_CONTROL_WELCOME, MS_CONTROL_PAYLOAD_MAX - 1, 0);
    assert_violation(MS_CONTROL_WELCOME, MS_CONTROL_PAYLOAD_MAX + 1, 0);
    assert_violation(MS_CONTROL_WELCOME, MS_CONTROL_PAYLOAD_MAX + 1000, 3);
}

Test(control, datagram_shorter_than_its_head_is_a_violation)
{
    struct ms_control_message got;
    struct control_fixture f;

    control_fixture_init(&f);
    for (size_t len_bytes = 1; len_bytes < 8; len_bytes++) {
        cr_assert_eq(send(f.supervisor, "\010\0\0\0\0\0\0\0", len_bytes, 0), (ssize_t)len_bytes);
        cr_assert_eq(ms_control_receive(f.worker, true, &got, NULL), MS_EPROTO);
    }
    control_fixture_fini(&f);
}

Test(control, wrong_number_of_descriptors_is_a_violation)
{
    assert_violation(MS_CONTROL_PING, sizeof(struct ms_control_ping), 1);
    assert_violation(MS_CONTROL_STATUS_PAGE, sizeof(struct ms_control_empty), 0);
    assert_violation(MS_CONTROL_STATUS_PAGE, sizeof(struct ms_control_empty), 2);
    assert_violation(MS_CONTROL_LINK, sizeof(struct ms_link_info), MS_LINK_FD_COUNT - 1);
    assert_violation(MS_CONTROL_LINK, sizeof(struct ms_link_info), MS_LINK_FD_COUNT + 1);
    assert_violation(MS_CONTROL_LINK, sizeof(struct ms_link_info), FORGED_FDS_MAX);
}

Test(control, every_message_has_its_name)
{
#define CHECK(id, name, from, payload, fds) cr_assert_str_eq(ms_control_name(id), #name);
    MS_CONTROL_CATALOGUE(CHECK)
#undef CHECK
    cr_assert_str_eq(ms_control_name(0), "unknown");
    cr_assert_str_eq(ms_control_name(14), "unknown");
}

/*
 * link: messages arrive as the catalogue has them, everything else is refused, and doorbells ring
 * exactly when somebody waits.
 */
#include "common/link.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CAPACITY 8192u

struct link_fixture {
    struct ms_link apid;
    struct ms_link raftd;
};

static const struct ms_link_info to_raftd = {
    .kind = MS_LINK_API_RAFT, .peer_role = MS_ROLE_RAFTD, .generation = 3, .peer_origin = 11};
static const struct ms_link_info to_apid = {
    .kind = MS_LINK_API_RAFT, .peer_role = MS_ROLE_APID, .generation = 3, .peer_origin = 12};

static void link_fixture_init(struct link_fixture *f)
{
    int left[MS_LINK_FD_COUNT];
    int right[MS_LINK_FD_COUNT];
    struct ms_err err;

    cr_assert_eq(ms_link_create(&to_raftd, CAPACITY, left, right, &err), MS_OK, "%s", err.text);
    cr_assert_eq(ms_link_take(&f->apid, &to_raftd, MS_ROLE_APID, left, &err), MS_OK, "%s",
                 err.text);
    cr_assert_eq(ms_link_take(&f->raftd, &to_apid, MS_ROLE_RAFTD, right, &err), MS_OK, "%s",
                 err.text);
}

static void link_fixture_fini(struct link_fixture *f)
{
    ms_link_fini(&f->apid);
    ms_link_fini(&f->raftd);
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

static bool is_rung(const struct ms_link *link)
{
    struct pollfd wait = {.fd = link->doorbell_fd, .events = POLLIN};

    return poll(&wait, 1, 0) == 1;
}

static int propose(struct ms_link *link, uint64_t seq, size_t tail_bytes)
{
    void *body;
    void *tail;
    int rc = ms_link_begin(link, MS_IPC_PROPOSE, tail_bytes, &body, &tail);

    if (rc == MS_OK) {
        struct ms_propose propose = {.id = {.origin = 5, .seq = seq}, .deadline_ns = 9};

        memcpy(body, &propose, sizeof(propose));
        memset(tail, (int)(seq & 0xff), tail_bytes);
        ms_link_commit(link);
    }
    return rc;
}

/* Puts one record into apid's ring as a corrupt apid could. */
static void forge(struct link_fixture *f, uint32_t type, uint32_t tail_bytes, size_t record_bytes)
{
    void *record;

    cr_assert_eq(ms_ring_reserve(&f->apid.out, record_bytes, &record), MS_OK);
    memset(record, 0xee, record_bytes);
    memcpy(record, &type, sizeof(type) < record_bytes ? sizeof(type) : record_bytes);
    if (record_bytes >= 8) {
        memcpy((uint8_t *)record + 4, &tail_bytes, sizeof(tail_bytes));
    }
    ms_ring_commit(&f->apid.out);
}

/* ---- messages ------------------------------------------------------------------------------ */

Test(link, message_with_a_tail_arrives_whole)
{
    struct link_fixture f;
    struct ms_ipc_message message;
    struct ms_propose got;

    link_fixture_init(&f);
    cr_assert_eq(propose(&f.apid, 1, 13), MS_OK);
    cr_assert_eq(propose(&f.apid, 2, 0), MS_OK);
    for (uint64_t seq = 1; seq <= 2; seq++) {
        cr_assert_eq(ms_link_receive(&f.raftd, &message), MS_OK);
        cr_assert_eq(message.type, MS_IPC_PROPOSE);
        memcpy(&got, message.body, sizeof(got));
        cr_assert_eq(got.id.origin, 5);
        cr_assert_eq(got.id.seq, seq);
        cr_assert_eq(got.deadline_ns, 9);
        cr_assert_eq(message.tail_bytes, seq == 1 ? 13 : 0);
        for (uint32_t i = 0; i < message.tail_bytes; i++) {
            cr_assert_eq(message.tail[i], 1);
        }
        ms_link_release(&f.raftd);
    }
    cr_assert_eq(ms_link_receive(&f.raftd, &message), MS_EAGAIN);
    link_fixture_fini(&f);
}

Test(link, begin_zeroes_the_fixed_part)
{
    struct link_fixture f;
    struct ms_ipc_message message;
    void *body;

    link_fixture_init(&f);
    /* Once around, so that old bytes lie where the next message goes. */
    for (uint64_t n = 0; n < 100; n++) {
        cr_assert_eq(propose(&f.apid, UINT64_MAX, 200), MS_OK);
        cr_assert_eq(ms_link_receive(&f.raftd, &message), MS_OK);
        ms_link_release(&f.raftd);
    }
    cr_assert_eq(ms_link_begin(&f.apid, MS_IPC_PROPOSE, 0, &body, NULL), MS_OK);
    for (size_t i = 0; i < sizeof(struct ms_propose); i++) {
        cr_assert_eq(((uint8_t *)body)[i], 0);
    }
    link_fixture_fini(&f);
}

Test(link, send_goes_both_ways)
{
    struct link_fixture f;
    struct ms_ipc_message message;
    struct ms_read_index ask = {.request = 4, .deadline_ns = 5};
    struct ms_read_ready answer = {.request = 4, .index = 6};

    link_fixture_init(&f);
    cr_assert_eq(ms_link_send(&f.apid, MS_IPC_READ_INDEX, &ask), MS_OK);
    cr_assert_eq(ms_link_receive(&f.raftd, &message), MS_OK);
    cr_assert_eq(message.type, MS_IPC_READ_INDEX);
    cr_assert_eq(memcmp(message.body, &ask, sizeof(ask)), 0);
    ms_link_release(&f.raftd);
    cr_assert_eq(ms_link_send(&f.raftd, MS_IPC_READ_READY, &answer), MS_OK);
    cr_assert_eq(ms_link_receive(&f.apid, &message), MS_OK);
    cr_assert_eq(message.type, MS_IPC_READ_READY);
    cr_assert_eq(memcmp(message.body, &answer, sizeof(answer)), 0);
    ms_link_release(&f.apid);
    link_fixture_fini(&f);
}

Test(link, longest_tail_fits_and_one_byte_more_is_refused)
{
    struct link_fixture f;
    struct ms_ipc_message message;
    size_t tail_bytes;

    link_fixture_init(&f);
    tail_bytes = ms_link_tail_max(&f.apid, MS_IPC_PROPOSE);
    cr_assert_eq(propose(&f.apid, 1, tail_bytes + 1), MS_ERANGE);
    cr_assert_eq(propose(&f.apid, 1, SIZE_MAX), MS_ERANGE);
    cr_assert_eq(propose(&f.apid, 1, tail_bytes), MS_OK);
    cr_assert_eq(ms_link_receive(&f.raftd, &message), MS_OK);
    cr_assert_eq(message.tail_bytes, tail_bytes);
    cr_assert_eq(ms_link_tail_max(&f.apid, MS_IPC_READ_INDEX), 0);
    link_fixture_fini(&f);
}

Test(link, what_was_published_outlives_its_sender)
{
    struct link_fixture f;
    struct ms_ipc_message message;

    link_fixture_init(&f);
    cr_assert_eq(propose(&f.apid, 1, 100), MS_OK);
    ms_link_fini(&f.apid);
    cr_assert_eq(ms_link_receive(&f.raftd, &message), MS_OK);
    ms_link_release(&f.raftd);
    cr_assert_eq(ms_link_receive(&f.raftd, &message), MS_EAGAIN);
    link_fixture_fini(&f);
}

/* ---- a corrupt far end --------------------------------------------------------------------- */

static void assert_violation(uint32_t type, uint32_t tail_bytes, size_t record_bytes)
{
    struct link_fixture f;
    struct ms_ipc_message message;

    link_fixture_init(&f);
    forge(&f, type, tail_bytes, record_bytes);
    cr_assert_eq(ms_link_receive(&f.raftd, &message), MS_EPROTO, "type %x", type);
    link_fixture_fini(&f);
}

Test(link, unknown_type_is_a_violation)
{
    static const uint32_t types[] = {0,      1,      0x0100, 0x0105,  0x010f,    0x0110,
                                     0x01ff, 0x0801, 0xff01, 0x10101, UINT32_MAX};

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        assert_violation(types[i], 0, 8 + sizeof(struct ms_propose));
    }
}

Test(link, message_from_the_wrong_end_is_a_violation)
{
    assert_violation(MS_IPC_PROPOSE_REFUSED, 0, 8 + sizeof(struct ms_propose_refused));
    assert_violation(MS_IPC_READ_READY, 0, 8 + sizeof(struct ms_read_ready));
}

Test(link, message_of_another_link_is_a_violation)
{
    assert_violation(MS_IPC_WAIT_APPLIED, 0, 8 + sizeof(struct ms_wait_applied));
    assert_violation(MS_IPC_LOG_APPEND, 0, 8 + sizeof(struct ms_log_append));
}

Test(link, wrong_length_is_a_violation)
{
    const size_t exact_bytes = 8 + sizeof(struct ms_propose);

    for (size_t record_bytes = 1; record_bytes < exact_bytes; record_bytes++) {
        assert_violation(MS_IPC_PROPOSE, 0, record_bytes);
    }
    assert_violation(MS_IPC_PROPOSE, 0, exact_bytes + 1);
    assert_violation(MS_IPC_PROPOSE, 8, exact_bytes + 7);
    assert_violation(MS_IPC_PROPOSE, 8, exact_bytes + 9);
    assert_violation(MS_IPC_PROPOSE, UINT32_MAX, exact_bytes);
    assert_violation(MS_IPC_READ_INDEX, 0, 8 + sizeof(struct ms_read_index) + 8);
}

Test(link, tail_where_none_is_allowed_is_a_violation)
{
    assert_violation(MS_IPC_READ_INDEX, 8, 8 + sizeof(struct ms_read_index) + 8);
}

Test(link, corrupt_ring_is_reported)
{
    struct link_fixture f;
    struct ms_ipc_message message;

    link_fixture_init(&f);
    cr_assert_eq(propose(&f.apid, 1, 8), MS_OK);
    memset(f.apid.out.data, 0xff, 8); /* the length of the record */
    cr_assert_eq(ms_link_receive(&f.raftd, &message), MS_ECORRUPT);
    link_fixture_fini(&f);
}

/* ---- doorbells ----------------------------------------------------------------------------- */

/* The first flush of a new end always asks; with it behind us the tests see the rule. */
static void settle(struct link_fixture *f)
{
    ms_link_flush(&f->apid);
    ms_link_flush(&f->raftd);
}

Test(link, flush_rings_only_for_one_who_sleeps)
{
    struct link_fixture f;

    link_fixture_init(&f);
    settle(&f);
    cr_assert_eq(propose(&f.apid, 1, 8), MS_OK);
    ms_link_flush(&f.apid);
    cr_assert_not(is_rung(&f.raftd), "it is awake");
    cr_assert_not(ms_link_prepare_sleep(&f.raftd), "it has something to do");
    link_fixture_fini(&f);

    link_fixture_init(&f);
    settle(&f);
    cr_assert(ms_link_prepare_sleep(&f.raftd));
    cr_assert_eq(propose(&f.apid, 1, 8), MS_OK);
    cr_assert_not(is_rung(&f.raftd), "sending makes no system call");
    ms_link_flush(&f.apid);
    cr_assert(is_rung(&f.raftd));
    ms_link_clear_doorbell(&f.raftd);
    cr_assert_not(is_rung(&f.raftd));
    ms_link_clear_doorbell(&f.raftd); /* does not block */
    link_fixture_fini(&f);
}

static int events_of(int epoll_fd)
{
    struct epoll_event event;

    return epoll_wait(epoll_fd, &event, 1, 0);
}

/* Others hold the eventfd, so without unwatching it would ring for ever. */
Test(link, watched_doorbell_rings_once_and_needs_no_reading)
{
    struct link_fixture f;
    struct ms_err err;
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

    link_fixture_init(&f);
    settle(&f);
    cr_assert_eq(ms_link_watch(&f.raftd, epoll_fd, &err), MS_OK, "%s", err.text);
    cr_assert_eq(events_of(epoll_fd), 0);
    for (uint64_t seq = 1; seq <= 2; seq++) {
        struct ms_ipc_message message;

        cr_assert(ms_link_prepare_sleep(&f.raftd));
        cr_assert_eq(propose(&f.apid, seq, 8), MS_OK);
        ms_link_flush(&f.apid);
        cr_assert_eq(events_of(epoll_fd), 1);
        cr_assert_eq(events_of(epoll_fd), 0, "waiting has taken the edge");
        cr_assert_eq(ms_link_receive(&f.raftd, &message), MS_OK);
        ms_link_release(&f.raftd);
    }
    ms_link_unwatch(&f.raftd, epoll_fd);
    cr_assert(ms_link_prepare_sleep(&f.raftd));
    cr_assert_eq(propose(&f.apid, 3, 8), MS_OK);
    ms_link_flush(&f.apid);
    cr_assert_eq(events_of(epoll_fd), 0);
    cr_assert_eq(ms_link_watch(&f.raftd, -1, &err), MS_EIO);
    (void)close(epoll_fd);
    link_fixture_fini(&f);
}

Test(link, idle_ends_do_not_keep_each_other_awake)
{
    struct link_fixture f;
    struct ms_ipc_message message;

    link_fixture_init(&f);
    settle(&f);
    cr_assert(ms_link_prepare_sleep(&f.apid));
    cr_assert(ms_link_prepare_sleep(&f.raftd));
    cr_assert_eq(propose(&f.apid, 1, 8), MS_OK);
    ms_link_flush(&f.apid);
    cr_assert(is_rung(&f.raftd));
    ms_link_clear_doorbell(&f.raftd);
    cr_assert_eq(ms_link_receive(&f.raftd, &message), MS_OK);
    ms_link_release(&f.raftd);
    ms_link_flush(&f.raftd);
    cr_assert(ms_link_prepare_sleep(&f.raftd));
    cr_assert_not(is_rung(&f.apid), "nobody waits for room, nothing was sent");
    for (int round = 0; round < 3; round++) {
        ms_link_flush(&f.apid);
        ms_link_flush(&f.raftd);
    }
    cr_assert_not(is_rung(&f.apid));
    cr_assert_not(is_rung(&f.raftd));
    link_fixture_fini(&f);
}

Test(link, full_link_rings_when_there_is_room)
{
    struct link_fixture f;
    struct ms_ipc_message message;
    uint64_t sent = 0;

    link_fixture_init(&f);
    settle(&f);
    while (propose(&f.apid, sent, 100) == MS_OK) {
        sent++;
    }
    cr_assert_gt(sent, 1);
    cr_assert_eq(propose(&f.apid, sent, 100), MS_EAGAIN);
    cr_assert(ms_link_prepare_sleep(&f.apid));
    cr_assert_eq(ms_link_receive(&f.raftd, &message), MS_OK);
    ms_link_release(&f.raftd);
    cr_assert_not(is_rung(&f.apid));
    ms_link_flush(&f.raftd);
    cr_assert(is_rung(&f.apid));
    cr_assert_eq(propose(&f.apid, sent, 100), MS_OK);
    link_fixture_fini(&f);
}

/* ---- opening and closing ------------------------------------------------------------------- */

Test(link, closed_link_refuses_everything)
{
    struct ms_link link;
    struct ms_ipc_message message;
    struct ms_read_index ask = {0};
    void *body;

    ms_link_init_closed(&link);
    cr_assert_not(ms_link_is_open(&link));
    cr_assert_eq(ms_link_begin(&link, MS_IPC_PROPOSE, 8, &body, NULL), MS_EPEER);
    cr_assert_eq(ms_link_send(&link, MS_IPC_READ_INDEX, &ask), MS_EPEER);
    cr_assert_eq(ms_link_receive(&link, &message), MS_EPEER);
    cr_assert_eq(ms_link_tail_max(&link, MS_IPC_PROPOSE), 0);
    cr_assert(ms_link_prepare_sleep(&link));
    ms_link_flush(&link);
    ms_link_clear_doorbell(&link);
    ms_link_fini(&link);
    ms_link_fini(&link);
}

Test(link, fini_gives_everything_back)
{
    size_t before = open_descriptors();
    struct link_fixture f;

    link_fixture_init(&f);
    cr_assert(ms_link_is_open(&f.apid));
    cr_assert_gt(open_descriptors(), before);
    link_fixture_fini(&f);
    cr_assert_eq(open_descriptors(), before);
    link_fixture_fini(&f);
    cr_assert_not(ms_link_is_open(&f.apid));
}

Test(link, each_end_can_be_closed_on_its_own)
{
    size_t before = open_descriptors();
    int left[MS_LINK_FD_COUNT];
    int right[MS_LINK_FD_COUNT];
    struct ms_link link;

    cr_assert_eq(ms_link_create(&to_raftd, CAPACITY, left, right, NULL), MS_OK);
    for (size_t i = 0; i < MS_LINK_FD_COUNT; i++) {
        (void)close(left[i]);
    }
    cr_assert_eq(ms_link_take(&link, &to_apid, MS_ROLE_RAFTD, right, NULL), MS_OK);
    ms_link_fini(&link);
    cr_assert_eq(open_descriptors(), before);
}

static void assert_take_fails(const struct ms_link_info *info, enum ms_role self_role, int status)
{
    size_t before = open_descriptors();
    int left[MS_LINK_FD_COUNT];
    int right[MS_LINK_FD_COUNT];
    struct ms_link link = {.doorbell_fd = -77};
    struct ms_err err;

    cr_assert_eq(ms_link_create(&to_raftd, CAPACITY, left, right, NULL), MS_OK);
    cr_assert_eq(ms_link_take(&link, info, self_role, left, &err), status);
    cr_assert_eq(err.status, status);
    cr_assert_eq(link.doorbell_fd, -77, "an error must leave *link alone");
    for (size_t i = 0; i < MS_LINK_FD_COUNT; i++) {
        (void)close(right[i]);
    }
    cr_assert_eq(open_descriptors(), before, "the descriptors are taken even so");
}

Test(link, take_refuses_ends_that_do_not_fit)
{
    struct ms_link_info info = to_raftd;

    assert_take_fails(&info, MS_ROLE_STORAGED, MS_EINVAL);
    assert_take_fails(&info, MS_ROLE_RAFTD, MS_EINVAL);
    info.kind = 0;
    assert_take_fails(&info, MS_ROLE_APID, MS_EINVAL);
    info.kind = MS_LINK_KIND_COUNT;
    assert_take_fails(&info, MS_ROLE_APID, MS_EINVAL);
}

Test(link, take_refuses_another_generation)
{
    struct ms_link_info info = to_raftd;

    info.generation++;
    assert_take_fails(&info, MS_ROLE_APID, MS_ECORRUPT);
}

Test(link, create_refuses_what_cannot_be)
{
    size_t before = open_descriptors();
    struct ms_link_info info = to_raftd;
    int left[MS_LINK_FD_COUNT] = {-7};
    int right[MS_LINK_FD_COUNT] = {-7};

    cr_assert_eq(ms_link_create(&info, CAPACITY - 1, left, right, NULL), MS_EINVAL);
    info.kind = 99;
    cr_assert_eq(ms_link_create(&info, CAPACITY, left, right, NULL), MS_EINVAL);
    cr_assert_eq(left[0], -7);
    cr_assert_eq(open_descriptors(), before);
}

Test(link, every_message_has_its_name)
{
#define CHECK(id, name, link, from, to, body, tail) cr_assert_str_eq(ms_ipc_name(id), #name);
    MS_IPC_CATALOGUE(CHECK)
#undef CHECK
    cr_assert_str_eq(ms_ipc_name(0), "unknown");
    cr_assert_str_eq(ms_ipc_name(0x01ff), "unknown");
    cr_assert_str_eq(ms_ipc_name(UINT32_MAX), "unknown");
}

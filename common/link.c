/*
 * link: two rings, two doorbells, and the checks that the catalogue promises every receiver.
 *
 * A record in a ring is one message:
 *
 *   0         4          type, enum ms_ipc_type
 *   4         4          tail_bytes
 *   8         body       the row's fixed part, a multiple of 8
 *   8 + body  tail_bytes the tail, only where the row allows one
 *
 * The link wakes the far end only when asked to (ms_link_flush) and never blocks. It does not
 * judge what a message means.
 */
#include "common/link.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct message_head {
    uint32_t type;
    uint32_t tail_bytes;
};

struct row {
    const char *name; /* NULL: no such message */
    enum ms_link_kind kind;
    enum ms_role from;
    enum ms_role to;
    size_t body_bytes;
    bool has_tail;
};

/* A number is two bytes, the group and the place in it: that makes the table dense and direct. */
#define GROUP_COUNT    8
#define GROUP_ROWS     32
#define GROUP_OF(type) ((type) >> 8)
#define PLACE_OF(type) ((type)&0xffu)

static const struct row rows[GROUP_COUNT][GROUP_ROWS] = {
#define ROW(id, name_, link, from_, to_, body, tail) \
    [GROUP_OF(id)][PLACE_OF(id)] = {                 \
        .name = #name_,                              \
        .kind = MS_LINK_##link,                      \
        .from = MS_ROLE_##from_,                     \
        .to = MS_ROLE_##to_,                         \
        .body_bytes = sizeof(body),                  \
        .has_tail = MS_TAIL_##tail == MS_TAIL_BYTES, \
    },
    MS_IPC_CATALOGUE(ROW)
#undef ROW
};

/* Names of the rings in /proc, and who may sit at either end. */
static const struct {
    const char *ring_name;
    enum ms_role left;
    enum ms_role right;
} kinds[MS_LINK_KIND_COUNT] = {
    [MS_LINK_API_RAFT] = {"metastore-api-raft", MS_ROLE_APID, MS_ROLE_RAFTD},
    [MS_LINK_API_STORE] = {"metastore-api-store", MS_ROLE_APID, MS_ROLE_STORAGED},
    [MS_LINK_RAFT_LOG] = {"metastore-raft-log", MS_ROLE_RAFTD, MS_ROLE_STORAGED},
    [MS_LINK_RAFT_APPLY] = {"metastore-raft-apply", MS_ROLE_RAFTD, MS_ROLE_STORAGED},
};

static bool kind_is_known(uint32_t kind)
{
    return kind < MS_LINK_KIND_COUNT && kinds[kind].ring_name != NULL;
}

/* NULL for a number that no message has. */
static const struct row *find_row(uint32_t type)
{
    const struct row *row;

    if (GROUP_OF(type) >= GROUP_COUNT || PLACE_OF(type) >= GROUP_ROWS) {
        return NULL;
    }
    row = &rows[GROUP_OF(type)][PLACE_OF(type)];
    return row->name != NULL ? row : NULL;
}

const char *ms_ipc_name(uint32_t type)
{
    const struct row *row = find_row(type);

    return row != NULL ? row->name : "unknown";
}

static void close_all(int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
            fds[i] = -1;
        }
    }
}

static int create_doorbell(int *out_fd, struct ms_err *err)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0) {
        return ms_err_set(err, MS_EIO, errno, "create doorbell");
    }
    *out_fd = fd;
    return MS_OK;
}

static int duplicate(int fd, int *out_fd, struct ms_err *err)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    if (copy < 0) {
        return ms_err_set(err, MS_EIO, errno, "duplicate descriptor of a link");
    }
    *out_fd = copy;
    return MS_OK;
}

int ms_link_create(const struct ms_link_info *info, uint64_t capacity_bytes,
                   int left_fds[MS_LINK_FD_COUNT], int right_fds[MS_LINK_FD_COUNT],
                   struct ms_err *err)
{
    /* What is in to one end is out to the other, and one's doorbell is the other's peer. */
    static const enum ms_link_fd far_name[MS_LINK_FD_COUNT] = {
        [MS_LINK_FD_IN] = MS_LINK_FD_OUT,
        [MS_LINK_FD_OUT] = MS_LINK_FD_IN,
        [MS_LINK_FD_DOORBELL] = MS_LINK_FD_PEER,
        [MS_LINK_FD_PEER] = MS_LINK_FD_DOORBELL,
    };
    const struct ms_ring_spec spec = {
        .capacity_bytes = capacity_bytes,
        .generation = info->generation,
    };
    int left[MS_LINK_FD_COUNT] = {-1, -1, -1, -1};
    int right[MS_LINK_FD_COUNT] = {-1, -1, -1, -1};
    const char *name;
    int rc;

    if (!kind_is_known(info->kind)) {
        return ms_err_set(err, MS_EINVAL, 0, "link of unknown kind %" PRIu32, info->kind);
    }
    name = kinds[info->kind].ring_name;
    rc = ms_ring_create(name, &spec, &left[MS_LINK_FD_IN], err);
    if (rc != MS_OK) {
        goto out;
    }
    rc = ms_ring_create(name, &spec, &left[MS_LINK_FD_OUT], err);
    if (rc != MS_OK) {
        goto out;
    }
    rc = create_doorbell(&left[MS_LINK_FD_DOORBELL], err);
    if (rc != MS_OK) {
        goto out;
    }
    rc = create_doorbell(&left[MS_LINK_FD_PEER], err);
    if (rc != MS_OK) {
        goto out;
    }
    for (size_t i = 0; i < MS_LINK_FD_COUNT; i++) {
        rc = duplicate(left[i], &right[far_name[i]], err);
        if (rc != MS_OK) {
            goto out;
        }
    }
    memcpy(left_fds, left, sizeof(left));
    memcpy(right_fds, right, sizeof(right));
    return MS_OK;

out:
    close_all(right, MS_LINK_FD_COUNT);
    close_all(left, MS_LINK_FD_COUNT);
    return rc;
}

/* Only the two ends that the kind names can hold such a link. */
static bool ends_fit(const struct ms_link_info *info, enum ms_role self_role)
{
    enum ms_role left;
    enum ms_role right;

    if (!kind_is_known(info->kind)) {
        return false;
    }
    left = kinds[info->kind].left;
    right = kinds[info->kind].right;
    return (self_role == left && info->peer_role == (uint32_t)right) ||
           (self_role == right && info->peer_role == (uint32_t)left);
}

int ms_link_take(struct ms_link *link, const struct ms_link_info *info, enum ms_role self_role,
                 int fds[MS_LINK_FD_COUNT], struct ms_err *err)
{
    struct ms_link taken;
    int rc;

    ms_link_init_closed(&taken);
    taken.self_role = self_role;
    taken.info = *info;
    if (!ends_fit(info, self_role)) {
        rc = ms_err_set(err, MS_EINVAL, 0,
                        "link of kind %" PRIu32 " cannot join %s and role %" PRIu32, info->kind,
                        ms_role_name(self_role), info->peer_role);
        goto out;
    }
    rc = ms_ring_attach(fds[MS_LINK_FD_IN], MS_RING_CONSUMER, info->generation, &taken.in, err);
    if (rc != MS_OK) {
        goto out;
    }
    rc = ms_ring_attach(fds[MS_LINK_FD_OUT], MS_RING_PRODUCER, info->generation, &taken.out, err);
    if (rc != MS_OK) {
        goto out;
    }
    taken.doorbell_fd = fds[MS_LINK_FD_DOORBELL];
    taken.peer_fd = fds[MS_LINK_FD_PEER];
    fds[MS_LINK_FD_DOORBELL] = -1;
    fds[MS_LINK_FD_PEER] = -1;
    *link = taken;

out:
    if (rc != MS_OK) {
        ms_link_fini(&taken);
    }
    close_all(fds, MS_LINK_FD_COUNT); /* the mappings keep the rings */
    return rc;
}

void ms_link_fini(struct ms_link *link)
{
    ms_ring_detach(&link->in);
    ms_ring_detach(&link->out);
    close_all(&link->doorbell_fd, 1);
    close_all(&link->peer_fd, 1);
}

void ms_link_init_closed(struct ms_link *link)
{
    *link = (struct ms_link){.doorbell_fd = -1, .peer_fd = -1};
}

bool ms_link_is_open(const struct ms_link *link)
{
    return link->in.region != NULL;
}

static size_t tail_max(const struct ms_link *link, const struct row *row)
{
    if (!row->has_tail || !ms_link_is_open(link)) {
        return 0;
    }
    return ms_ring_record_max(&link->out) - sizeof(struct message_head) - row->body_bytes;
}

size_t ms_link_tail_max(const struct ms_link *link, enum ms_ipc_type type)
{
    const struct row *row = find_row(type);

    assert(row != NULL);
    return tail_max(link, row);
}

int ms_link_begin(struct ms_link *link, enum ms_ipc_type type, size_t tail_bytes, void **body,
                  void **tail)
{
    const struct row *row = find_row(type);
    struct message_head head;
    void *record;
    uint8_t *fixed;
    int rc;

    assert(row != NULL);
    if (!ms_link_is_open(link)) {
        return MS_EPEER;
    }
    assert(row->kind == (enum ms_link_kind)link->info.kind);
    assert(row->from == link->self_role);
    assert(tail_bytes == 0 || row->has_tail);

    if (tail_bytes > tail_max(link, row)) {
        return MS_ERANGE;
    }
    rc = ms_ring_reserve(&link->out, sizeof(head) + row->body_bytes + tail_bytes, &record);
    if (rc != MS_OK) {
        return rc;
    }
    head.type = type;
    head.tail_bytes = (uint32_t)tail_bytes; /* a ring is far smaller than that can tell */
    memcpy(record, &head, sizeof(head));
    fixed = (uint8_t *)record + sizeof(head);
    memset(fixed, 0, row->body_bytes);
    *body = fixed;
    if (tail != NULL) {
        *tail = fixed + row->body_bytes;
    }
    return MS_OK;
}

void ms_link_commit(struct ms_link *link)
{
    ms_ring_commit(&link->out);
}

int ms_link_send(struct ms_link *link, enum ms_ipc_type type, const void *body)
{
    void *fixed;
    int rc;

    rc = ms_link_begin(link, type, 0, &fixed, NULL);
    if (rc != MS_OK) {
        return rc;
    }
    memcpy(fixed, body, find_row(type)->body_bytes);
    ms_link_commit(link);
    return MS_OK;
}

/* What every receiver checks before it looks at a message: see the catalogue. */
static bool is_permitted(const struct ms_link *link, const struct row *row,
                         const struct message_head *head, size_t record_bytes)
{
    if (row->kind != (enum ms_link_kind)link->info.kind || row->to != link->self_role ||
        row->from != (enum ms_role)link->info.peer_role) {
        return false;
    }
    if (head->tail_bytes != 0 && !row->has_tail) {
        return false;
    }
    return record_bytes == sizeof(*head) + row->body_bytes + head->tail_bytes;
}

int ms_link_receive(struct ms_link *link, struct ms_ipc_message *out)
{
    const struct row *row;
    struct message_head head;
    const void *record;
    const uint8_t *fixed;
    size_t record_bytes;
    int rc;

    if (!ms_link_is_open(link)) {
        return MS_EPEER;
    }
    rc = ms_ring_peek(&link->in, &record, &record_bytes);
    if (rc != MS_OK) {
        return rc;
    }
    if (record_bytes < sizeof(head)) {
        return MS_EPROTO;
    }
    /* volatile: read once, so that what is checked is what is used. */
    head = *(const volatile struct message_head *)record;
    row = find_row(head.type);
    if (row == NULL || !is_permitted(link, row, &head, record_bytes)) {
        return MS_EPROTO;
    }
    fixed = (const uint8_t *)record + sizeof(head);
    out->type = (enum ms_ipc_type)head.type;
    out->tail_bytes = head.tail_bytes;
    out->tail = fixed + row->body_bytes;
    memcpy(out->body, fixed, row->body_bytes);
    return MS_OK;
}

void ms_link_release(struct ms_link *link)
{
    ms_ring_consume(&link->in);
}

uint64_t ms_link_backlog_bytes(const struct ms_link *link)
{
    return ms_link_is_open(link) ? ms_ring_used_bytes(&link->out) : 0;
}

static void ring_doorbell(const struct ms_link *link)
{
    const uint64_t one = 1;
    ssize_t written = write(link->peer_fd, &one, sizeof(one));

    /* It refuses only when its count is at the end, and then it is readable anyway. */
    assert(written == (ssize_t)sizeof(one) || errno == EAGAIN);
    (void)written;
}

void ms_link_flush(struct ms_link *link)
{
    bool sleeps;
    bool waits;

    if (!ms_link_is_open(link)) {
        return;
    }
    sleeps = ms_ring_consumer_sleeps(&link->out);
    waits = ms_ring_producer_waits(&link->in);
    if (sleeps || waits) {
        ring_doorbell(link);
    }
}

void ms_link_flush_quietly(struct ms_link *link)
{
    if (ms_link_is_open(link) && ms_ring_producer_waits(&link->in)) {
        ring_doorbell(link);
    }
}

bool ms_link_prepare_sleep(struct ms_link *link)
{
    return !ms_link_is_open(link) || ms_ring_prepare_sleep(&link->in);
}

int ms_link_watch(const struct ms_link *link, int epoll_fd, struct ms_err *err)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};

    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, link->doorbell_fd, &event) != 0) {
        return ms_err_set(err, MS_EIO, errno, "watch the doorbell of link %u", link->info.kind);
    }
    return MS_OK;
}

void ms_link_unwatch(const struct ms_link *link, int epoll_fd)
{
    if (ms_link_is_open(link)) {
        (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, link->doorbell_fd, NULL);
    }
}

void ms_link_clear_doorbell(struct ms_link *link)
{
    uint64_t count;
    ssize_t bytes;

    if (!ms_link_is_open(link)) {
        return;
    }
    bytes = read(link->doorbell_fd, &count, sizeof(count));
    assert(bytes == (ssize_t)sizeof(count) || errno == EAGAIN); /* not rung at all */
    (void)bytes;
}

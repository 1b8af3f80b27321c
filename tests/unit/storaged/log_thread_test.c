/*
 * log_thread: a raftd of our own at the other end of a real link.
 */
#include <errno.h>

#include <criterion/criterion.h>

#include "storaged/log_thread.h"
#include "storaged/wal.h"
#include "tests/unit/storaged/link_fixture.h"
#include "tests/unit/storaged/store_fixture.h"

struct thread_fixture {
    char root[FIXTURE_PATH_BYTES];
    char dir[FIXTURE_PATH_BYTES + 8];
    struct log_store *store;
    struct log_thread *thread;
    struct ms_link raftd;
    struct wal_io io;
    raft_index claimable; /* the snapshot that is there; 0: none is */
    bool disk_full;       /* set and read atomically: the stock has a thread of its own */
    bool disk_fails;
};

static ssize_t write_at(void *ctx, int fd, const void *data, size_t len, off_t offset)
{
    const struct thread_fixture *f = ctx;

    if (__atomic_load_n(&f->disk_fails, __ATOMIC_SEQ_CST)) {
        errno = EIO;
        return -1;
    }
    return pwrite(fd, data, len, offset);
}

static int sync_fd(void *ctx, int fd)
{
    (void)ctx;
    return fdatasync(fd);
}

static int allocate(void *ctx, int fd, off_t size)
{
    const struct thread_fixture *f = ctx;

    return __atomic_load_n(&f->disk_full, __ATOMIC_SEQ_CST) ? ENOSPC : posix_fallocate(fd, 0, size);
}

static bool claim(void *ctx, raft_index index, raft_term term)
{
    const struct thread_fixture *f = ctx;

    return index == f->claimable && term == 7;
}

static void fixture_init(struct thread_fixture *f)
{
    struct wal_options options = {.segment_bytes = 1u << 20, .io = &f->io};
    struct log_thread_options thread = {0};

    memset(f, 0, sizeof(*f));
    f->io = (struct wal_io){.ctx = f, .write_at = write_at, .sync = sync_fd, .allocate = allocate};
    fixture_make_dir(f->root);
    (void)snprintf(f->dir, sizeof(f->dir), "%s/wal", f->root);
    options.directory = f->dir;
    cr_assert_eq(wal_open(&options, &f->store, NULL, NULL), MS_OK);
    thread = (struct log_thread_options){.store = f->store, .claim = claim, .ctx = f};
    cr_assert_eq(log_thread_start(&thread, &f->thread, NULL), MS_OK);
    ms_link_init_closed(&f->raftd);
}

static void fixture_fini(struct thread_fixture *f)
{
    log_thread_stop(f->thread);
    log_store_destroy(f->store);
    ms_link_fini(&f->raftd);
    fixture_remove_dir(f->root);
}

/* A new raftd: a new link. */
static void connect_raftd(struct thread_fixture *f, struct ms_log_state *state)
{
    static struct log_thread_link link;
    struct ms_link far_end;

    link.conf_bytes = 5;
    memcpy(link.conf, "conf!", 5);
    link_fixture_make(MS_LINK_RAFT_LOG, MS_ROLE_RAFTD, 1, &link.link, &far_end);
    cr_assert_eq(log_thread_take_link(f->thread, &link), MS_OK);
    ms_link_fini(&f->raftd);
    f->raftd = far_end;
    link_fixture_expect(&f->raftd, MS_IPC_LOG_STATE, state, sizeof(*state));
}

static void collect(struct thread_fixture *f, struct log_thread_news *news)
{
    struct pollfd wait = {.fd = log_thread_fd(f->thread), .events = POLLIN};

    cr_assert(poll(&wait, 1, 5000) == 1, "no news");
    log_thread_collect(f->thread, news);
}

Test(log_thread, appends_are_answered_once_durable)
{
    struct thread_fixture f;
    struct ms_log_state state;
    struct ms_log_durable durable = {0};
    uint64_t seq = 0;

    fixture_init(&f);
    connect_raftd(&f, &state);
    cr_assert_eq(state.first_index, 1);
    cr_assert_eq(state.last_index, 0);
    for (raft_index i = 1; i <= 100; i += 10) {
        cr_assert_eq(link_fixture_append(&f.raftd, ++seq, i, 10), MS_OK);
    }
    while (durable.seq < seq) {
        struct log_state now;

        link_fixture_expect(&f.raftd, MS_IPC_LOG_DURABLE, &durable, sizeof(durable));
        log_store_state(f.store, &now);
        cr_assert_geq(now.last_index, durable.last_index);
        cr_assert_eq(durable.last_term, 1);
    }
    cr_assert_eq(durable.last_index, 100);
    fixture_fini(&f);
}

Test(log_thread, many_messages_share_a_sync)
{
    struct thread_fixture f;
    struct ms_log_state state;
    struct ms_log_durable durable = {0};
    struct log_store_stats stats;
    uint64_t seq = 0;

    fixture_init(&f);
    connect_raftd(&f, &state);
    while (link_fixture_append(&f.raftd, seq + 1, seq + 1, 1) == MS_OK) {
        seq++;
    }
    while (durable.seq < seq) {
        link_fixture_expect(&f.raftd, MS_IPC_LOG_DURABLE, &durable, sizeof(durable));
    }
    cr_assert_eq(durable.last_index, seq);
    log_thread_stop(f.thread);
    f.thread = NULL;
    log_store_stats(f.store, &stats);
    cr_assert_eq(stats.entries, seq);
    cr_assert_lt(stats.syncs, seq, "%lu syncs for %lu messages", (unsigned long)stats.syncs,
                 (unsigned long)seq);
    fixture_fini(&f);
}

Test(log_thread, what_a_dead_raftd_published_is_kept_and_told_to_the_next)
{
    struct thread_fixture f;
    struct ms_log_state state;
    struct ms_log_durable durable;

    fixture_init(&f);
    connect_raftd(&f, &state);
    cr_assert_eq(link_fixture_append(&f.raftd, 1, 1, 3), MS_OK);
    cr_assert_eq(link_fixture_append(&f.raftd, 2, 4, 3), MS_OK);
    log_thread_drop_link(f.thread);
    connect_raftd(&f, &state);
    cr_assert_eq(state.last_index, 6);
    cr_assert_eq(state.hard_state.term, 1);
    /* Counting starts anew; a conflicting suffix is replaced. */
    cr_assert_eq(link_fixture_append(&f.raftd, 1, 5, 1), MS_OK);
    link_fixture_expect(&f.raftd, MS_IPC_LOG_DURABLE, &durable, sizeof(durable));
    cr_assert_eq(durable.seq, 1);
    cr_assert_eq(durable.last_index, 5);
    fixture_fini(&f);
}

static void expect_fault(struct thread_fixture *f)
{
    struct log_thread_news news;
    struct ms_log_state state;

    do {
        collect(f, &news);
    } while (!news.peer_corrupt);
    cr_assert_eq(news.peer.kind, MS_LINK_RAFT_LOG);
    cr_assert_not_null(news.peer_fault);
    connect_raftd(f, &state); /* and life goes on */
}

Test(log_thread, violations_cost_the_link_and_nothing_else)
{
    const struct log_entry like = {.term = 1};
    struct ms_log_append append = {.seq = 1, .first_index = 1, .count = 2};
    struct thread_fixture f;
    struct ms_log_state state;
    struct ms_log_durable durable;

    fixture_init(&f);
    connect_raftd(&f, &state);
    cr_assert_eq(link_fixture_append(&f.raftd, 2, 1, 1), MS_OK); /* seq 1 is missing */
    expect_fault(&f);
    cr_assert_eq(link_fixture_append(&f.raftd, 1, 5, 1), MS_OK); /* a gap */
    expect_fault(&f);
    /* Says two, brings three. */
    cr_assert_eq(
        link_fixture_entries(&f.raftd, MS_IPC_LOG_APPEND, &append, sizeof(append), 1, 3, &like),
        MS_OK);
    expect_fault(&f);
    cr_assert_eq(link_fixture_append(&f.raftd, 1, 1, 1), MS_OK);
    link_fixture_expect(&f.raftd, MS_IPC_LOG_DURABLE, &durable, sizeof(durable));
    cr_assert_eq(durable.last_index, 1);
    fixture_fini(&f);
}

/* Until one segment is in use and the stock behind it full: it works on its own, and tells only the
 * log thread. */
static void wait_for_stock(const struct thread_fixture *f)
{
    char path[FIXTURE_PATH_BYTES + 64];

    (void)snprintf(path, sizeof(path), "%s/0000000000000003.wal", f->dir);
    for (int i = 0; i < 5000 && access(path, F_OK) != 0; i++) {
        (void)usleep(1000);
    }
    cr_assert(access(path, F_OK) == 0);
}

Test(log_thread, a_full_disk_is_told_and_nothing_accepted_is_lost)
{
    struct thread_fixture f;
    struct ms_log_state state;
    struct ms_log_space space = {0};
    struct ms_ipc_message message;
    struct log_thread_mark mark;
    struct log_thread_news news;
    uint64_t sent = 1;
    uint64_t durable = 0;

    fixture_init(&f);
    connect_raftd(&f, &state);
    cr_assert_eq(link_fixture_append(&f.raftd, 1, 1, 50), MS_OK);
    wait_for_stock(&f);
    __atomic_store_n(&f.disk_full, true, __ATOMIC_SEQ_CST);
    while (space.full == 0) {
        if (link_fixture_append(&f.raftd, sent + 1, sent * 50 + 1, 50) == MS_OK) {
            sent++;
        }
        while (link_fixture_receive(&f.raftd, &message, sent > durable ? 20 : 0)) {
            if (message.type == MS_IPC_LOG_SPACE) {
                memcpy(&space, message.body, sizeof(space));
            } else {
                durable = ((const struct ms_log_durable *)(const void *)message.body)->seq;
            }
            ms_link_release(&f.raftd);
            ms_link_flush(&f.raftd);
        }
    }
    cr_assert_eq(link_fixture_append(&f.raftd, sent + 1, sent * 50 + 1, 50), MS_OK);
    sent++;
    collect(&f, &news);
    cr_assert(news.space_changed && news.full);
    cr_assert_eq(news.full_why.status, MS_ENOSPC, "%s", news.full_why.text);

    /* A snapshot makes room without a byte more of disk. */
    mark = (struct log_thread_mark){
        .snapshot_index = durable * 50, .snapshot_term = 1, .compact_index = durable * 50};
    log_thread_mark(f.thread, &mark);
    while (space.full != 0 || durable < sent) {
        cr_assert(link_fixture_receive(&f.raftd, &message, 5000));
        if (message.type == MS_IPC_LOG_SPACE) {
            memcpy(&space, message.body, sizeof(space));
        } else {
            durable = ((const struct ms_log_durable *)(const void *)message.body)->seq;
        }
        ms_link_release(&f.raftd);
        ms_link_flush(&f.raftd);
    }
    fixture_fini(&f);
}

Test(log_thread, a_failing_disk_ends_it)
{
    struct thread_fixture f;
    struct ms_log_state state;
    struct log_thread_news news;

    fixture_init(&f);
    connect_raftd(&f, &state);
    cr_assert_eq(link_fixture_append(&f.raftd, 1, 1, 1), MS_OK);
    __atomic_store_n(&f.disk_fails, true, __ATOMIC_SEQ_CST);
    do {
        (void)link_fixture_append(&f.raftd, 2, 2, 1);
        collect(&f, &news);
    } while (!news.failed);
    cr_assert_eq(news.failure.status, MS_EIO, "%s", news.failure.text);
    fixture_fini(&f);
}

/* LOG_SNAPSHOT of index and term 7. */
static void send_snapshot(struct thread_fixture *f, uint64_t seq, raft_index index)
{
    const struct ms_log_snapshot snapshot = {.seq = seq,
                                             .index = index,
                                             .term = 7,
                                             .hard_state = {.term = 8, .vote = 2, .commit = index}};
    void *body;
    void *tail;

    cr_assert_eq(ms_link_begin(&f->raftd, MS_IPC_LOG_SNAPSHOT, 5, &body, &tail), MS_OK);
    memcpy(body, &snapshot, sizeof(snapshot));
    memcpy(tail, "conf!", 5);
    ms_link_commit(&f->raftd);
    ms_link_flush(&f->raftd);
}

static void expect_durable(struct thread_fixture *f, uint64_t seq, raft_index last_index)
{
    struct ms_log_durable durable = {0};

    while (durable.seq < seq) {
        link_fixture_expect(&f->raftd, MS_IPC_LOG_DURABLE, &durable, sizeof(durable));
    }
    cr_assert_eq(durable.seq, seq);
    cr_assert_eq(durable.last_index, last_index);
}

Test(log_thread, a_snapshot_takes_its_place_between_appends)
{
    struct thread_fixture f;
    struct ms_log_state state;
    struct log_state now;

    fixture_init(&f);
    f.claimable = 50;
    connect_raftd(&f, &state);
    for (uint64_t seq = 1; seq <= 5; seq++) {
        cr_assert_eq(link_fixture_append(&f.raftd, seq, seq, 1), MS_OK);
    }
    send_snapshot(&f, 6, 50);
    cr_assert_eq(link_fixture_append(&f.raftd, 7, 51, 3), MS_OK);
    expect_durable(&f, 7, 53);
    log_store_state(f.store, &now);
    cr_assert_eq(now.first_index, 51);
    cr_assert_eq(now.snapshot_index, 50);
    cr_assert_eq(now.snapshot_term, 7);
    connect_raftd(&f, &state);
    cr_assert_eq(state.snapshot_index, 50);
    cr_assert_eq(state.first_index, 51);
    cr_assert_eq(state.last_index, 53);
    fixture_fini(&f);
}

/* A mark that was ordered before the log got another beginning is of no interest any more. */
Test(log_thread, an_outdated_mark_is_passed_over)
{
    const struct log_thread_mark mark = {
        .snapshot_index = 3, .snapshot_term = 1, .compact_index = 2};
    struct thread_fixture f;
    struct ms_log_state state;
    struct log_state now;

    fixture_init(&f);
    f.claimable = 50;
    connect_raftd(&f, &state);
    cr_assert_eq(link_fixture_append(&f.raftd, 1, 1, 5), MS_OK);
    send_snapshot(&f, 2, 50);
    expect_durable(&f, 2, 50);
    log_thread_mark(f.thread, &mark);
    cr_assert_eq(link_fixture_append(&f.raftd, 3, 51, 1), MS_OK);
    expect_durable(&f, 3, 51);
    log_store_state(f.store, &now);
    cr_assert_eq(now.snapshot_index, 50);
    cr_assert_eq(now.first_index, 51);
    fixture_fini(&f);
}

Test(log_thread, the_log_never_begins_behind_a_snapshot_that_is_not_there)
{
    struct thread_fixture f;
    struct ms_log_state state;

    fixture_init(&f);
    connect_raftd(&f, &state);
    send_snapshot(&f, 1, 50);
    expect_fault(&f);
    connect_raftd(&f, &state);
    cr_assert_eq(state.first_index, 1);
    cr_assert_eq(state.last_index, 0);
    fixture_fini(&f);
}

Test(log_thread, the_owner_hears_when_a_dropped_link_is_done_with)
{
    struct thread_fixture f;
    struct ms_log_state state;
    struct log_thread_news news;
    struct log_state now;
    uint64_t number;

    fixture_init(&f);
    connect_raftd(&f, &state);
    cr_assert_eq(link_fixture_append(&f.raftd, 1, 1, 5), MS_OK);
    number = log_thread_drop_link(f.thread);
    do {
        collect(&f, &news);
    } while (news.dropped == 0);
    cr_assert_eq(news.dropped, number);
    log_store_state(f.store, &now);
    cr_assert_eq(now.last_index, 5, "what it had published is durable by then");
    /* Also when there is none any more. */
    number = log_thread_drop_link(f.thread);
    do {
        collect(&f, &news);
    } while (news.dropped == 0);
    cr_assert_eq(news.dropped, number);
    fixture_fini(&f);
}

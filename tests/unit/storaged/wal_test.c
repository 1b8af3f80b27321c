/*
 * wal: what happens to it: torn tails, flipped bits, missing and foreign files, full and failing
 * disks. What every log store does is in log_store_test.
 */
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <criterion/criterion.h>
#include <xxhash.h>

#include "storaged/wal.h"
#include "storaged/wal_format.h"
#include "tests/unit/storaged/store_fixture.h"

#define SEGMENT WAL_SEGMENT_BYTES_MIN

struct wal_fixture {
    char root[FIXTURE_PATH_BYTES];
    char dir[FIXTURE_PATH_BYTES + 8];
};

static void fixture_init(struct wal_fixture *f)
{
    fixture_make_dir(f->root);
    (void)snprintf(f->dir, sizeof(f->dir), "%s/wal", f->root);
}

static void fixture_fini(struct wal_fixture *f)
{
    fixture_remove_dir(f->root);
}

static int open_with(const char *dir, bool verify_all, const struct wal_io *io,
                     struct log_store **out, struct wal_report *report, struct ms_err *err)
{
    const struct wal_options options = {
        .directory = dir, .segment_bytes = SEGMENT, .verify_all = verify_all, .io = io};

    return wal_open(&options, out, report, err);
}

static struct log_store *must_open(const char *dir, struct wal_report *report)
{
    struct log_store *store = NULL;
    struct ms_err err = {.status = MS_OK};
    int rc = open_with(dir, true, NULL, &store, report, &err);

    cr_assert_eq(rc, MS_OK, "%s", err.text);
    return store;
}

static struct log_state state_of(struct log_store *store)
{
    struct log_state state;

    log_store_state(store, &state);
    return state;
}

/* Entry i says so itself, so that a reader can check it. */
static void put_numbered(struct log_store *store, raft_index index, size_t len)
{
    static char text[1 << 15];

    cr_assert(len < sizeof(text));
    memset(text, 'a' + (int)(index % 26), len);
    text[len] = '\0';
    cr_assert_eq(fixture_put(store, index, 1, text), MS_OK);
}

static bool check_numbered(void *ctx, const struct log_entry *entry)
{
    raft_index *next = ctx;

    cr_assert_eq(entry->index, *next);
    for (uint32_t i = 0; i < entry->data_bytes; i++) {
        cr_assert_eq(entry->data[i], 'a' + (int)(entry->index % 26));
    }
    (*next)++;
    return true;
}

static void check_all(struct log_store *store)
{
    struct log_state state = state_of(store);
    raft_index next = state.first_index;
    struct log_store_range range = {
        .low = state.first_index, .high = state.last_index + 1, .max_bytes = UINT64_MAX};
    struct ms_err err = {.status = MS_OK};

    cr_assert_eq(log_store_entries(store, &range, check_numbered, &next, &err), MS_OK, "%s",
                 err.text);
    cr_assert_eq(next, state.last_index + 1);
}

/* A log of some segments: one entry per batch. Returns the last index. */
static raft_index make_log(const char *dir, raft_index count, size_t len)
{
    struct log_store *store = must_open(dir, NULL);

    for (raft_index i = 1; i <= count; i++) {
        put_numbered(store, i, len);
        cr_assert_eq(fixture_sync(store, NULL), MS_OK);
    }
    log_store_destroy(store);
    return count;
}

static int open_file(const char *dir, uint64_t sequence, int flags)
{
    char path[FIXTURE_PATH_BYTES + 64];
    char name[WAL_NAME_BYTES];

    wal_segment_name(sequence, name);
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return open(path, flags | O_CLOEXEC);
}

static void flip_bit(const char *dir, uint64_t sequence, uint64_t offset)
{
    int fd = open_file(dir, sequence, O_RDWR);
    uint8_t byte;

    cr_assert(pread(fd, &byte, 1, (off_t)offset) == 1);
    byte ^= 0x10;
    cr_assert(pwrite(fd, &byte, 1, (off_t)offset) == 1);
    (void)close(fd);
}

/* The newest segment with batches, and the offset of its last one. */
static void find_last_batch(const char *dir, uint64_t *sequence, uint64_t *offset)
{
    static uint8_t data[SEGMENT];

    *sequence = 0;
    for (uint64_t s = 1; s < 100; s++) {
        int fd = open_file(dir, s, O_RDONLY);
        struct wal_header header;
        uint64_t number;
        size_t len;

        if (fd < 0) {
            continue;
        }
        cr_assert(pread(fd, data, sizeof(data), 0) == (ssize_t)sizeof(data));
        (void)close(fd);
        cr_assert_eq(wal_header_decode(data, &header, NULL), MS_OK);
        for (uint64_t at = WAL_BLOCK_BYTES; at < SEGMENT;) {
            if (!wal_batch_peek(data + at, &header, &number, &len) ||
                !wal_batch_valid(data + at, len, &header)) {
                break;
            }
            *sequence = s;
            *offset = at;
            at += wal_blocks_up(len);
        }
    }
    cr_assert_neq(*sequence, 0);
}

/* All bytes of all files, to see whether anything was changed. */
static uint64_t fingerprint(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *file;
    uint64_t sum = 0;

    cr_assert_not_null(dir);
    while ((file = readdir(dir)) != NULL) {
        static uint8_t data[2 * SEGMENT];
        int fd;
        ssize_t n;

        if (file->d_name[0] == '.') {
            continue;
        }
        fd = openat(dirfd(dir), file->d_name, O_RDONLY | O_CLOEXEC);
        n = read(fd, data, sizeof(data));
        cr_assert(n >= 0);
        (void)close(fd);
        sum += XXH3_64bits(data, (size_t)n) ^ XXH3_64bits(file->d_name, strlen(file->d_name));
    }
    (void)closedir(dir);
    return sum;
}

/* Opening must fail, name what, and change nothing. */
static void expect_refused(const char *dir, int status, const char *named)
{
    for (int verify_all = 1; verify_all >= 0; verify_all--) {
        struct log_store *store = NULL;
        struct ms_err err = {.status = MS_OK};
        uint64_t before = fingerprint(dir);
        int rc = open_with(dir, verify_all != 0, NULL, &store, NULL, &err);

        if (rc == MS_OK && verify_all == 0) {
            log_store_destroy(store); /* a quick start looks at less */
            return;
        }
        cr_assert_eq(rc, status, "got %d (%s)", rc, err.text);
        cr_assert_not_null(strstr(err.text, named), "%s does not name %s", err.text, named);
        cr_assert_eq(fingerprint(dir), before, "something was changed");
    }
}

/* ---- the tail ------------------------------------------------------------------------------- */

enum tear {
    TEAR_TRUNCATED,
    TEAR_ZEROED
};

static void tear_at(struct wal_fixture *f, uint64_t cut, enum tear how)
{
    char copy[FIXTURE_PATH_BYTES + 16];
    struct wal_report report;
    struct log_store *store;
    uint64_t sequence;
    uint64_t offset;
    uint64_t len;
    int fd;

    (void)snprintf(copy, sizeof(copy), "%s/torn", f->root);
    fixture_copy_dir(f->dir, copy);
    find_last_batch(copy, &sequence, &offset);
    fd = open_file(copy, sequence, O_RDWR);
    if (how == TEAR_TRUNCATED) {
        cr_assert(ftruncate(fd, (off_t)(offset + cut)) == 0);
    } else {
        static uint8_t zeros[2 * WAL_BLOCK_BYTES];

        len = 2 * WAL_BLOCK_BYTES - cut;
        cr_assert(pwrite(fd, zeros, len, (off_t)(offset + cut)) == (ssize_t)len);
    }
    (void)close(fd);

    store = must_open(copy, &report);
    cr_assert_eq(state_of(store).last_index, 19, "the torn entry is gone, no other");
    if (cut >= WAL_BATCH_HEADER_BYTES || how == TEAR_TRUNCATED) {
        cr_assert(report.tail_cut);
        cr_assert_eq(report.tail_offset, offset);
    }
    check_all(store);
    put_numbered(store, 20, 100);
    cr_assert_eq(fixture_sync(store, NULL), MS_OK);
    log_store_destroy(store);
    store = must_open(copy, &report);
    cr_assert_not(report.tail_cut);
    cr_assert_eq(state_of(store).last_index, 20);
    check_all(store);
    log_store_destroy(store);
    fixture_remove_dir(copy);
}

/* What is cut must be cut wherever the power went, down to the byte. */
static void tear_range(uint64_t from, uint64_t to, uint64_t step)
{
    struct wal_fixture f;

    fixture_init(&f);
    (void)make_log(f.dir, 20, 5000);
    for (uint64_t cut = from; cut < to; cut += step) {
        tear_at(&f, cut, TEAR_TRUNCATED);
        tear_at(&f, cut, TEAR_ZEROED);
    }
    fixture_fini(&f);
}

Test(wal, a_tail_torn_in_its_head_is_cut)
{
    tear_range(0, 72, 1);
}

Test(wal, a_tail_torn_in_its_data_is_cut)
{
    tear_range(72, 5040, 97);
}

Test(wal, a_tail_torn_at_the_end_of_its_data_is_cut)
{
    tear_range(5040, WAL_BATCH_HEADER_BYTES + wal_record_bytes(WAL_ENTRY_BYTES + 5000), 1);
}

Test(wal, a_file_that_ends_behind_the_last_batch_is_filled_up)
{
    struct wal_fixture f;
    struct wal_report report;
    struct log_store *store;
    uint64_t sequence;
    uint64_t offset;
    int fd;

    fixture_init(&f);
    (void)make_log(f.dir, 20, 100);
    find_last_batch(f.dir, &sequence, &offset);
    fd = open_file(f.dir, sequence, O_RDWR);
    cr_assert(ftruncate(fd, (off_t)(offset + 300)) == 0); /* in the padding: the batch is whole */
    (void)close(fd);
    store = must_open(f.dir, &report);
    cr_assert_eq(state_of(store).last_index, 20);
    for (raft_index i = 21; i < 60; i++) {
        put_numbered(store, i, 100);
        cr_assert_eq(fixture_sync(store, NULL), MS_OK);
    }
    log_store_destroy(store);
    store = must_open(f.dir, &report);
    cr_assert_eq(state_of(store).last_index, 59);
    check_all(store);
    log_store_destroy(store);
    fixture_fini(&f);
}

/* ---- damage --------------------------------------------------------------------------------- */

/* Flips one bit per case and says what must come of it. */
Test(wal, flipped_bits_are_noticed_and_named)
{
    static const struct {
        uint64_t sequence;
        uint64_t offset;
        int status;
        const char *named;
    } cases[] = {
        {1, 0, MS_EINVAL, "0000000000000001.wal, offset 0"},              /* magic */
        {1, 8, MS_EINVAL, "0000000000000001.wal, offset 0"},              /* version */
        {1, 24, MS_ECORRUPT, "0000000000000001.wal, offset 0"},           /* salt */
        {2, 40, MS_ECORRUPT, "0000000000000002.wal, offset 0"},           /* its checksum */
        {1, 4096 + 50, MS_ECORRUPT, "0000000000000001.wal, offset 4096"}, /* opening */
        {2, 4096 + 50, MS_ECORRUPT, "0000000000000002.wal, offset 4096"},
        {1, 8192, MS_ECORRUPT, "0000000000000001.wal, offset 8192"},      /* first batch */
        {1, 8192 + 12, MS_ECORRUPT, "0000000000000001.wal, offset 8192"}, /* its length */
        {1, 8192 + 24, MS_ECORRUPT, "0000000000000001.wal, offset 8192"}, /* its number */
        {1, 12288 + 600, MS_ECORRUPT, "0000000000000001.wal, offset 12288"},
        {2, 16384 + 70, MS_ECORRUPT, "0000000000000002.wal, offset 16384"},
        {3, 8192 + 40, MS_ECORRUPT, "0000000000000003.wal, offset 8192"}, /* newest, not its end */
        {4, 0, MS_EINVAL, "0000000000000004.wal, offset 0"},              /* one not used yet */
    };
    struct wal_fixture f;

    fixture_init(&f);
    (void)make_log(f.dir, 22, 1000);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        flip_bit(f.dir, cases[i].sequence, cases[i].offset);
        expect_refused(f.dir, cases[i].status, cases[i].named);
        flip_bit(f.dir, cases[i].sequence, cases[i].offset);
    }
    log_store_destroy(must_open(f.dir, NULL));
    fixture_fini(&f);
}

Test(wal, a_random_bit_never_changes_what_is_read)
{
    struct wal_fixture f;
    char copy[FIXTURE_PATH_BYTES + 16];

    fixture_seed("wal");
    fixture_init(&f);
    (void)make_log(f.dir, 22, 1000);
    (void)snprintf(copy, sizeof(copy), "%s/flipped", f.root);
    for (int i = 0; i < 150; i++) {
        struct log_store *store = NULL;
        struct ms_err err = {.status = MS_OK};
        uint64_t sequence = 1 + fixture_random(3);
        int rc;

        fixture_copy_dir(f.dir, copy);
        flip_bit(copy, sequence, fixture_random(SEGMENT));
        rc = open_with(copy, true, NULL, &store, NULL, &err);
        if (rc == MS_OK) {
            /* In padding or unused room, or the end of the log is torn now. */
            cr_assert_geq(state_of(store).last_index, 21);
            check_all(store);
            log_store_destroy(store);
        } else {
            cr_assert_not_null(strstr(err.text, ".wal"), "%s", err.text);
        }
        fixture_remove_dir(copy);
    }
    fixture_fini(&f);
}

Test(wal, a_missing_segment_is_named)
{
    struct wal_fixture f;
    char path[FIXTURE_PATH_BYTES + 64];

    for (uint64_t sequence = 1; sequence <= 3; sequence++) {
        char name[WAL_NAME_BYTES];

        fixture_init(&f);
        (void)make_log(f.dir, 22, 1000);
        wal_segment_name(sequence, name);
        (void)snprintf(path, sizeof(path), "%s/%s", f.dir, name);
        cr_assert(unlink(path) == 0);
        expect_refused(f.dir, MS_ECORRUPT, name);
        fixture_fini(&f);
    }
}

Test(wal, a_truncated_segment_before_the_last_is_damage)
{
    struct wal_fixture f;

    fixture_init(&f);
    (void)make_log(f.dir, 22, 1000);
    for (int i = 0; i < 2; i++) {
        int fd = open_file(f.dir, 1, O_RDWR);

        cr_assert(ftruncate(fd, i == 0 ? SEGMENT - 1 : 100) == 0);
        (void)close(fd);
        expect_refused(f.dir, MS_ECORRUPT, "0000000000000001.wal");
    }
    fixture_fini(&f);
}

Test(wal, a_foreign_file_is_refused_by_name)
{
    struct wal_fixture f;
    char path[FIXTURE_PATH_BYTES + 64];
    int fd;

    fixture_init(&f);
    (void)make_log(f.dir, 3, 10);
    (void)snprintf(path, sizeof(path), "%s/notes.txt", f.dir);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    cr_assert(fd >= 0);
    (void)close(fd);
    expect_refused(f.dir, MS_EINVAL, "notes.txt");
    cr_assert(unlink(path) == 0);

    /* A segment's name alone does not make one. */
    (void)snprintf(path, sizeof(path), "%s/0000000000000004.wal", f.dir);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert(write(fd, "short", 5) == 5);
    (void)close(fd);
    expect_refused(f.dir, MS_ECORRUPT, "0000000000000004.wal");
    fixture_fini(&f);
}

Test(wal, a_commit_index_beyond_the_log_is_damage)
{
    struct wal_fixture f;
    struct ms_hard_state hard_state = {.term = 1, .vote = 1, .commit = 9};
    struct log_store *store;

    fixture_init(&f);
    store = must_open(f.dir, NULL);
    put_numbered(store, 1, 10);
    cr_assert_eq(log_store_append(store, NULL, 0, &hard_state, NULL), MS_OK);
    cr_assert_eq(fixture_sync(store, NULL), MS_OK);
    log_store_destroy(store);
    expect_refused(f.dir, MS_ECORRUPT, "up to 9 were committed");
    fixture_fini(&f);
}

/* ---- recycling ------------------------------------------------------------------------------ */

Test(wal, segments_are_used_again_and_what_was_in_them_is_never_seen)
{
    struct wal_fixture f;
    struct log_store *store;
    raft_index last = 0;

    fixture_init(&f);
    store = must_open(f.dir, NULL);
    for (int round = 0; round < 12; round++) {
        struct wal_report report;

        for (int i = 0; i < 25; i++) {
            put_numbered(store, ++last, 1000 + 400 * (size_t)(round % 3));
            cr_assert_eq(fixture_sync(store, NULL), MS_OK);
        }
        cr_assert_eq(fixture_mark(store, last - 2, 1, last - 5), MS_OK);
        log_store_destroy(store);
        store = must_open(f.dir, &report);
        cr_assert_leq(report.segments, 4, "compaction gives segments back");
        cr_assert_not(report.tail_cut);
        cr_assert_eq(state_of(store).last_index, last);
        cr_assert_eq(state_of(store).first_index, last - 4);
        check_all(store);
    }
    log_store_destroy(store);
    fixture_fini(&f);
}

Test(wal, another_segment_size_is_taken_up)
{
    struct wal_fixture f;
    struct wal_options options = {.segment_bytes = 2 * SEGMENT, .verify_all = true};
    struct log_store *store = NULL;
    struct ms_err err = {.status = MS_OK};

    fixture_init(&f);
    options.directory = f.dir;
    (void)make_log(f.dir, 10, 1000);
    cr_assert_eq(wal_open(&options, &store, NULL, &err), MS_OK, "%s", err.text);
    put_numbered(store, 11, 30000); /* more than fits into an old one */
    put_numbered(store, 12, 30000);
    cr_assert_eq(fixture_sync(store, NULL), MS_OK);
    put_numbered(store, 13, 30000);
    cr_assert_eq(fixture_sync(store, NULL), MS_OK);
    log_store_destroy(store);
    cr_assert_eq(wal_open(&options, &store, NULL, &err), MS_OK, "%s", err.text);
    cr_assert_eq(state_of(store).last_index, 13);
    check_all(store);
    log_store_destroy(store);
    fixture_fini(&f);
}

/* ---- full and failing disks ------------------------------------------------------------------ */

struct fake_disk {
    bool full;         /* no new files */
    bool short_writes; /* half of each write at a time */
    long fail_at;      /* this write tears and all after it fail; -1: none */
    long writes;
    int sync_errno;
};

static ssize_t fake_write_at(void *ctx, int fd, const void *data, size_t len, off_t offset)
{
    struct fake_disk *disk = ctx;
    long now = __atomic_add_fetch(&disk->writes, 1, __ATOMIC_SEQ_CST);

    if (disk->fail_at >= 0 && now >= disk->fail_at) {
        if (now == disk->fail_at && len > WAL_BLOCK_BYTES) {
            /* Torn: the second block reached the disk, the first did not. */
            (void)!pwrite(fd, (const uint8_t *)data + WAL_BLOCK_BYTES, WAL_BLOCK_BYTES,
                          offset + WAL_BLOCK_BYTES);
        }
        errno = EIO;
        return -1;
    }
    if (disk->short_writes && len > WAL_BLOCK_BYTES) {
        len = len / 2 / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES;
        len = len == 0 ? WAL_BLOCK_BYTES : len;
    }
    return pwrite(fd, data, len, offset);
}

static int fake_sync(void *ctx, int fd)
{
    const struct fake_disk *disk = ctx;

    if (disk->sync_errno != 0) {
        errno = disk->sync_errno;
        return -1;
    }
    return fdatasync(fd);
}

static int fake_allocate(void *ctx, int fd, off_t size)
{
    const struct fake_disk *disk = ctx;

    return __atomic_load_n(&disk->full, __ATOMIC_SEQ_CST) ? ENOSPC : posix_fallocate(fd, 0, size);
}

static struct wal_io fake_io(struct fake_disk *disk)
{
    return (struct wal_io){
        .ctx = disk, .write_at = fake_write_at, .sync = fake_sync, .allocate = fake_allocate};
}

Test(wal, short_writes_are_completed)
{
    struct fake_disk disk = {.short_writes = true, .fail_at = -1};
    struct wal_io io = fake_io(&disk);
    struct log_store *store = NULL;
    struct wal_fixture f;

    fixture_init(&f);
    cr_assert_eq(open_with(f.dir, true, &io, &store, NULL, NULL), MS_OK);
    for (raft_index i = 1; i < 6; i++) {
        put_numbered(store, i, 20000);
        cr_assert_eq(fixture_sync(store, NULL), MS_OK);
    }
    log_store_destroy(store);
    store = must_open(f.dir, NULL);
    cr_assert_eq(state_of(store).last_index, 5);
    check_all(store);
    log_store_destroy(store);
    fixture_fini(&f);
}

/* Whichever write fails: what was synced before is there, and the store says no for good. */
Test(wal, after_a_failed_write_nothing_is_written_and_nothing_synced_is_lost)
{
    for (long fail_at = 1; fail_at < 60; fail_at++) {
        struct fake_disk disk = {.fail_at = fail_at};
        struct wal_io io = fake_io(&disk);
        struct log_store *store = NULL;
        struct wal_fixture f;
        raft_index durable = 0;
        raft_index i = 1;
        int rc;

        fixture_init(&f);
        rc = open_with(f.dir, true, &io, &store, NULL, NULL);
        while (rc == MS_OK && i < 40) {
            put_numbered(store, i, 3000 + 500 * (size_t)(i % 5));
            rc = log_store_sync(store, NULL);
            if (rc == MS_OK) {
                durable = i++;
            } else if (rc == MS_EIO) {
                cr_assert_eq(log_store_sync(store, NULL), MS_EIO);
                cr_assert_eq(fixture_put(store, i + 1, 1, "x"), MS_EIO);
            } else if (rc == MS_EAGAIN && !log_store_is_full(store, NULL)) {
                struct pollfd wait = {.fd = log_store_event_fd(store), .events = POLLIN};

                /* Staged again: the loop must not put it twice. */
                cr_assert(poll(&wait, 1, 10000) == 1);
                log_store_service(store);
                rc = log_store_sync(store, NULL);
                if (rc == MS_OK) {
                    durable = i++;
                } else if (rc == MS_EAGAIN) {
                    break;
                }
            }
        }
        log_store_destroy(store);
        store = must_open(f.dir, NULL);
        cr_assert_geq(state_of(store).last_index, durable, "write %ld", fail_at);
        check_all(store);
        log_store_destroy(store);
        fixture_fini(&f);
    }
}

Test(wal, a_failed_sync_is_not_retried)
{
    struct fake_disk disk = {.fail_at = -1};
    struct wal_io io = fake_io(&disk);
    struct log_store *store = NULL;
    struct ms_err err = {.status = MS_OK};
    struct wal_fixture f;

    fixture_init(&f);
    cr_assert_eq(open_with(f.dir, true, &io, &store, NULL, NULL), MS_OK);
    put_numbered(store, 1, 10);
    cr_assert_eq(fixture_sync(store, NULL), MS_OK);
    disk.fail_at = 0; /* direct writes are syncs */
    disk.sync_errno = EIO;
    put_numbered(store, 2, 10);
    cr_assert_eq(log_store_sync(store, &err), MS_EIO);
    disk.fail_at = -1;
    disk.sync_errno = 0;
    cr_assert_eq(log_store_sync(store, &err), MS_EIO,
                 "the disk is well again, but who knows what "
                 "became of the write");
    log_store_destroy(store);
    fixture_fini(&f);
}

/* Until the stock has made the segment. */
static void wait_for_segment(struct log_store *store, const char *dir, uint64_t sequence)
{
    int fd;

    while ((fd = open_file(dir, sequence, O_RDONLY)) < 0) {
        struct pollfd wait = {.fd = log_store_event_fd(store), .events = POLLIN};

        cr_assert(poll(&wait, 1, 10000) == 1);
        log_store_service(store);
    }
    (void)close(fd);
}

Test(wal, a_full_disk_is_said_in_time_and_room_is_found_again)
{
    struct fake_disk disk = {.fail_at = -1};
    struct wal_io io = fake_io(&disk);
    struct log_store *store = NULL;
    struct wal_fixture f;
    raft_index last = 0;
    int said_at = 0;
    int rc = MS_OK;

    fixture_init(&f);
    cr_assert_eq(open_with(f.dir, true, &io, &store, NULL, NULL), MS_OK);
    put_numbered(store, ++last, 1000);
    cr_assert_eq(fixture_sync(store, NULL), MS_OK);
    wait_for_segment(store, f.dir, 3); /* the stock is full then */
    __atomic_store_n(&disk.full, true, __ATOMIC_SEQ_CST);
    while (!log_store_is_full(store, NULL)) {
        struct pollfd wait = {.fd = log_store_event_fd(store), .events = POLLIN};

        put_numbered(store, ++last, 1000);
        cr_assert_eq(fixture_sync(store, NULL), MS_OK);
        /* The segments are so small here that the stock needs a moment to find out. */
        (void)poll(&wait, 1, 5);
        log_store_service(store);
    }
    /* What is on its way still fits; then it waits, and is not lost. */
    while (rc == MS_OK) {
        put_numbered(store, ++last, 1000);
        rc = log_store_sync(store, NULL);
        said_at++;
    }
    cr_assert_eq(rc, MS_EAGAIN);
    cr_assert_geq(said_at, 8, "hardly any room was left when it was said: %d", said_at);
    cr_assert_eq(log_store_sync(store, NULL), MS_EAGAIN);

    /* Compaction needs room itself, and gets it from the reserve. */
    cr_assert_eq(log_store_set_snapshot(store, last - 1, 1, NULL), MS_OK);
    cr_assert_eq(log_store_compact(store, last - 1, NULL), MS_OK);
    cr_assert_eq(fixture_sync(store, NULL), MS_OK, "the segments given back are room");
    cr_assert_eq(state_of(store).last_index, last);
    log_store_destroy(store);
    store = must_open(f.dir, NULL);
    cr_assert_eq(state_of(store).last_index, last);
    check_all(store);
    log_store_destroy(store);
    fixture_fini(&f);
}

Test(wal, a_limit_on_file_sizes_is_a_full_disk)
{
    struct wal_fixture f;
    int status = 0;
    pid_t child;

    fixture_init(&f);
    child = fork();
    if (child == 0) {
        struct rlimit limit = {.rlim_cur = SEGMENT / 2, .rlim_max = SEGMENT / 2};
        struct log_store *store = NULL;
        struct ms_err err = {.status = MS_OK};

        (void)signal(SIGXFSZ, SIG_IGN);
        (void)setrlimit(RLIMIT_FSIZE, &limit);
        _exit(open_with(f.dir, true, NULL, &store, NULL, &err) == MS_ENOSPC ? 0 : 1);
    }
    cr_assert(waitpid(child, &status, 0) == child);
    cr_assert_eq(status, 0, "opening did not say that there is no room");
    fixture_fini(&f);
}

/* A process that is killed in the middle: what it was told to be durable is. */
Test(wal, killed_at_any_time_it_keeps_what_was_synced)
{
    fixture_seed("wal");
    for (int round = 0; round < 10; round++) {
        struct wal_fixture f;
        struct log_store *store;
        raft_index durable = 0;
        int reported[2];
        pid_t child;

        fixture_init(&f);
        cr_assert(pipe(reported) == 0);
        child = fork();
        if (child == 0) {
            store = must_open(f.dir, NULL);
            for (raft_index i = 1;; i++) {
                put_numbered(store, i, 100 + 3000 * (size_t)(i % 3));
                if (fixture_sync(store, NULL) != MS_OK ||
                    write(reported[1], &i, sizeof(i)) != (ssize_t)sizeof(i)) {
                    _exit(1);
                }
            }
        }
        (void)close(reported[1]);
        (void)usleep(20000 + fixture_random(60000));
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
        while (read(reported[0], &durable, sizeof(durable)) == (ssize_t)sizeof(durable)) {
        }
        (void)close(reported[0]);
        store = must_open(f.dir, NULL);
        cr_assert_geq(state_of(store).last_index, durable);
        cr_assert_leq(state_of(store).last_index, durable + 1);
        check_all(store);
        log_store_destroy(store);
        fixture_fini(&f);
    }
}

/*
 * status_page: readers see one write, whole, or are told that they cannot.
 */
#include "common/status_page.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"

/* Where status_page.c keeps its sequence number: a writer's death is played by making it odd. */
enum {
    SEQUENCE_WORD = 1
};

struct page_fixture {
    int fd;
    struct ms_status_page *writer;
    struct ms_status_page *reader;
};

static void page_fixture_init(struct page_fixture *f)
{
    struct ms_err err;

    cr_assert_eq(ms_status_page_create(&f->fd, &err), MS_OK, "%s", err.text);
    cr_assert_eq(ms_status_page_map(f->fd, true, &f->writer, &err), MS_OK, "%s", err.text);
    cr_assert_eq(ms_status_page_map(f->fd, false, &f->reader, &err), MS_OK, "%s", err.text);
}

static void page_fixture_fini(struct page_fixture *f)
{
    ms_status_page_unmap(f->writer);
    ms_status_page_unmap(f->reader);
    (void)close(f->fd);
}

Test(status_page, a_new_page_knows_nothing)
{
    struct page_fixture f;
    struct ms_raft_status status;

    page_fixture_init(&f);
    cr_assert_eq(ms_status_page_read(f.reader, true, &status), MS_OK);
    cr_assert_eq(status.role, MS_RAFT_NONE);
    cr_assert_eq(status.leader, 0);
    cr_assert_eq(status.member_count, 0);
    cr_assert_eq(ms_status_page_commit(f.reader), 0);
    page_fixture_fini(&f);
}

Test(status_page, a_write_is_read_with_and_without_members)
{
    struct page_fixture f;
    struct ms_raft_status in = {.self = 1, .leader = 2, .term = 3, .commit = 4, .member_count = 1};
    struct ms_raft_status out;

    page_fixture_init(&f);
    in.members[0].id = 9;
    (void)strcpy(in.members[0].peer_url, "http://h:1");
    ms_status_page_write(f.writer, &in, true);
    cr_assert_eq(ms_status_page_read(f.reader, true, &out), MS_OK);
    cr_assert_eq(memcmp(&in, &out, sizeof(in)), 0);

    memset(&out, 0, sizeof(out));
    cr_assert_eq(ms_status_page_read(f.reader, false, &out), MS_OK);
    cr_assert_eq(out.term, 3);
    cr_assert_eq(out.members[0].id, 0, "members were not asked for");
    page_fixture_fini(&f);
}

Test(status_page, a_commit_alone_leaves_the_members_as_they_were)
{
    struct page_fixture f;
    struct ms_raft_status in = {.commit = 4, .member_count = 1};
    struct ms_raft_status out;

    page_fixture_init(&f);
    in.members[0].id = 9;
    ms_status_page_write(f.writer, &in, true);
    in.commit = 5;
    in.members[0].id = 77;
    ms_status_page_write(f.writer, &in, false);
    cr_assert_eq(ms_status_page_read(f.reader, true, &out), MS_OK);
    cr_assert_eq(out.commit, 5);
    cr_assert_eq(out.members[0].id, 9);
    page_fixture_fini(&f);
}

Test(status_page, the_commit_index_never_goes_back)
{
    struct page_fixture f;
    struct ms_raft_status status = {.commit = 10};

    page_fixture_init(&f);
    ms_status_page_write(f.writer, &status, false);
    status.commit = 8; /* a raftd that has just come back knows less */
    ms_status_page_write(f.writer, &status, false);
    cr_assert_eq(ms_status_page_commit(f.reader), 10);
    page_fixture_fini(&f);
}

Test(status_page, a_writer_that_died_inside_costs_a_status_and_the_next_one_repairs)
{
    struct page_fixture f;
    struct ms_raft_status in = {.commit = 4, .member_count = 1};
    struct ms_raft_status out = {.term = 99};

    page_fixture_init(&f);
    ms_status_page_write(f.writer, &in, true);
    ((_Atomic uint64_t *)(void *)f.writer)[SEQUENCE_WORD]++;
    cr_assert_eq(ms_status_page_read(f.reader, true, &out), MS_EAGAIN);
    cr_assert_eq(out.term, 99, "an error must leave *out alone");
    cr_assert_eq(ms_status_page_commit(f.reader), 4, "the commit index needs no lock");

    in.members[0].id = 5;
    ms_status_page_write(f.writer, &in, false);
    cr_assert_eq(ms_status_page_read(f.reader, true, &out), MS_OK);
    cr_assert_eq(out.members[0].id, 5, "the repair writes the members, too");
    page_fixture_fini(&f);
}

Test(status_page, an_impossible_number_of_members_is_cut)
{
    struct page_fixture f;
    struct ms_raft_status in = {.member_count = 1000000};
    struct ms_raft_status out;

    page_fixture_init(&f);
    ms_status_page_write(f.writer, &in, true);
    cr_assert_eq(ms_status_page_read(f.reader, true, &out), MS_OK);
    cr_assert_eq(out.member_count, MS_STATUS_MEMBERS_MAX);
    page_fixture_fini(&f);
}

Test(status_page, memory_that_is_no_status_page_is_refused)
{
    struct ms_status_page *page;
    int fd = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    cr_assert_geq(fd, 0);
    cr_assert_eq(ms_status_page_map(fd, false, &page, NULL), MS_ECORRUPT);
    (void)close(fd);
}

/* A child that writes as fast as it can, every word the same; no read may mix two writes. */
Test(status_page, reads_beside_a_busy_writer_are_whole)
{
    struct page_fixture f;
    struct ms_instant began = ms_clock_now();
    uint64_t reads = 0;
    pid_t child;

    page_fixture_init(&f);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        struct ms_raft_status in = {0};

        for (uint64_t i = 1;; i++) {
            in.self = in.leader = in.term = in.commit = in.first_index = in.last_index = i;
            in.members[MS_STATUS_MEMBERS_MAX - 1].id = i;
            ms_status_page_write(f.writer, &in, true);
        }
    }
    while (ms_clock_elapsed_ms(began, ms_clock_now()) < 200) {
        struct ms_raft_status out;

        if (ms_status_page_read(f.reader, true, &out) != MS_OK) {
            continue; /* the writer lost the processor inside */
        }
        reads++;
        cr_assert_eq(out.self, out.last_index);
        cr_assert_eq(out.self, out.term);
        cr_assert_eq(out.self, out.members[MS_STATUS_MEMBERS_MAX - 1].id);
        cr_assert_leq(out.commit, ms_status_page_commit(f.reader));
    }
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    cr_assert_gt(reads, 0);
    page_fixture_fini(&f);
}

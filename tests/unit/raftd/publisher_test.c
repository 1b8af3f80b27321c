/*
 * publisher: what others read of the status page.
 */
#include "raftd/publisher.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

struct fixture {
    struct ms_status_page *page;
    struct publisher publisher;
    struct raft_basic_status basic;
    struct publisher_facts facts;
};

static void init(struct fixture *f)
{
    int fd = -1;

    memset(f, 0, sizeof(*f));
    cr_assert_eq(ms_status_page_create(&fd, NULL), MS_OK);
    cr_assert_eq(ms_status_page_map(fd, true, &f->page, NULL), MS_OK);
    close(fd);
    publisher_init(&f->publisher, f->page, NULL);
    f->basic.id = 1;
    f->basic.is_voter = true;
    f->facts.leaderless_since.ns = 5;
}

static struct ms_raft_status published(struct fixture *f)
{
    struct ms_raft_status status;

    publisher_update(&f->publisher, &f->basic, &f->facts);
    cr_assert_eq(ms_status_page_read(f->page, true, &status), MS_OK);
    return status;
}

Test(publisher, leader_publishes_what_a_quorum_has)
{
    struct fixture f;

    init(&f);
    f.basic.state = RAFT_STATE_LEADER;
    f.basic.lead = 1;
    f.basic.commit = 10;
    f.facts.durable_index = 7;
    cr_assert_eq(published(&f).commit, 10);
    cr_assert_eq(published(&f).role, MS_RAFT_LEADER);
    cr_assert_eq(published(&f).leaderless_since_ns, 0);
    ms_status_page_unmap(f.page);
}

/* Its disk may still end in entries that the leader has replaced. */
Test(publisher, follower_publishes_only_what_is_durable_here)
{
    struct fixture f;

    init(&f);
    f.basic.state = RAFT_STATE_FOLLOWER;
    f.basic.lead = 2;
    f.basic.commit = 10;
    f.facts.durable_index = 7;
    cr_assert_eq(published(&f).commit, 7);
    f.facts.durable_index = 12;
    cr_assert_eq(published(&f).commit, 10);
    ms_status_page_unmap(f.page);
}

/* Who was a member until a moment ago may have answered writes that are not applied here yet. */
Test(publisher, sole_voter_is_alone_once_that_is_applied)
{
    struct fixture f;

    init(&f);
    f.basic.sole_voter = true;
    f.basic.state = RAFT_STATE_LEADER;
    f.basic.lead = 1;
    f.basic.term_committed = true;
    cr_assert_eq(published(&f).sole_voter, 0);
    f.facts.conf_applied = true;
    cr_assert_eq(published(&f).sole_voter, 1);
    ms_status_page_unmap(f.page);
}

Test(publisher, sole_voter_needs_role_and_first_commit)
{
    struct fixture f;

    init(&f);
    f.basic.sole_voter = true;
    cr_assert_eq(published(&f).sole_voter, 0);
    cr_assert_eq(published(&f).leaderless_since_ns, 5);
    f.basic.state = RAFT_STATE_LEADER;
    f.basic.lead = 1;
    cr_assert_eq(published(&f).sole_voter, 0);
    f.facts.conf_applied = true;
    cr_assert_eq(published(&f).sole_voter, 0);
    f.basic.term_committed = true;
    cr_assert_eq(published(&f).sole_voter, 1);
    ms_status_page_unmap(f.page);
}

Test(publisher, members_are_written_when_they_change)
{
    struct fixture f;
    struct membership membership = {
        .conf = {.member_count = 1,
                 .members = {{.id = 3, .flags = MS_CONF_LEARNER, .peer_url = "http://c:3"}}}};

    init(&f);
    cr_assert_eq(published(&f).member_count, 0);
    publisher_set_members(&f.publisher, &membership);
    cr_assert_eq(published(&f).member_count, 1);
    cr_assert_eq(published(&f).members[0].role, MS_MEMBER_LEARNER);
    cr_assert_str_eq(published(&f).members[0].peer_url, "http://c:3");
    ms_status_page_unmap(f.page);
}

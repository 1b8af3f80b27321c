/*
 * membership: between the core's ids, the stored form and the status page.
 */
#include "raftd/membership.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/raftd/heap_fixture.h"

static struct raft_conf_change adding(node_id id, const char *url)
{
    return (struct raft_conf_change){.v1 = true,
                                     .count = 1,
                                     .changes = {{.type = RAFT_ADD_VOTER, .id = id}},
                                     .context = url,
                                     .context_bytes = strlen(url)};
}

Test(membership, founding_entries_add_every_member_with_its_url)
{
    struct ms_config config = {.id = 1};
    struct raft_conf_change change;
    struct raft_slice slice;
    struct ms_err err;

    (void)snprintf(config.cluster, sizeof(config.cluster),
                   "http://127.0.0.1:9021,http://127.0.0.1:9022");
    cr_assert_eq(membership_bootstrap(&config, &heap, &slice, &err), MS_OK);
    cr_assert_eq(slice.count, 2);
    cr_assert_eq(slice.entries[1].index, 2);
    cr_assert_eq(slice.entries[1].term, 1);
    cr_assert_eq(raft_conf_change_decode(&slice.entries[1], &change), MS_OK);
    cr_assert_eq(change.count, 1);
    cr_assert_eq(change.changes[0].type, RAFT_ADD_VOTER);
    cr_assert_eq(change.changes[0].id, 2);
    cr_assert_eq(change.context_bytes, strlen("http://127.0.0.1:9022"));
    cr_assert_arr_eq(change.context, "http://127.0.0.1:9022", change.context_bytes);
    raft_slice_release(&slice);
}

Test(membership, malformed_cluster_is_named)
{
    struct ms_config config = {.id = 1};
    struct raft_slice slice;
    struct ms_err err;

    (void)snprintf(config.cluster, sizeof(config.cluster), "http://127.0.0.1:9021,nonsense");
    cr_assert_eq(membership_bootstrap(&config, &heap, &slice, &err), MS_EINVAL);
    cr_assert_not_null(strstr(err.text, "--cluster"));
}

Test(membership, urls_come_with_the_change_and_stay)
{
    struct membership membership;
    struct raft_conf_state conf = {.voters = {.count = 1, .ids = {5}}};
    struct raft_conf_change change = adding(5, "http://a:1");
    struct ms_raft_status status;

    membership_init(&membership);
    membership_update(&membership, &conf, &change);
    conf.learners = (struct raft_ids){.count = 1, .ids = {2}};
    change = adding(2, "http://b:2");
    membership_update(&membership, &conf, &change);

    memset(&status, 0, sizeof(status));
    membership_to_status(&membership, &status);
    cr_assert_eq(status.member_count, 2);
    cr_assert_eq(status.members[0].id, 2, "ids ascend");
    cr_assert_eq(status.members[0].role, MS_MEMBER_LEARNER);
    cr_assert_str_eq(status.members[0].peer_url, "http://b:2");
    cr_assert_eq(status.members[1].id, 5);
    cr_assert_eq(status.members[1].role, MS_MEMBER_VOTER);
    cr_assert_str_eq(status.members[1].peer_url, "http://a:1");
}

Test(membership, url_too_long_is_cut_and_never_overruns)
{
    struct membership membership;
    const struct raft_conf_state conf = {.voters = {.count = 1, .ids = {1}}};
    char url[2 * MS_PEER_URL_BYTES];
    struct raft_conf_change change;

    memset(url, 'u', sizeof(url));
    url[sizeof(url) - 1] = '\0';
    change = adding(1, url);
    membership_init(&membership);
    membership_update(&membership, &conf, &change);
    cr_assert_eq(strlen(membership.conf.members[0].peer_url), MS_PEER_URL_BYTES - 1);
}

Test(membership, joint_configuration_survives_storing)
{
    const struct raft_conf_state conf = {
        .voters = {.count = 2, .ids = {1, 4}},
        .voters_outgoing = {.count = 3, .ids = {1, 2, 3}},
        .learners = {.count = 1, .ids = {7}},
        .learners_next = {.count = 1, .ids = {3}},
        .auto_leave = true,
    };
    const struct raft_conf_change change = {.count = 0};
    struct membership membership;
    struct membership copy;
    struct raft_conf_state back;
    struct conf_record record;

    membership_init(&membership);
    membership_update(&membership, &conf, &change);
    cr_assert_eq(membership_encode(&membership, &heap, 12, &record), MS_OK);
    cr_assert_eq(record.index, 12);
    cr_assert_eq(membership_decode(&copy, record.bytes, record.len_bytes), MS_OK);
    membership_to_core(&copy, &back);
    cr_assert_eq(memcmp(&back, &conf, sizeof(conf)), 0);
    raft_buffer_release(record.buffer);
}

Test(membership, nothing_stored_is_nobody)
{
    struct membership membership;

    cr_assert_eq(membership_decode(&membership, NULL, 0), MS_OK);
    cr_assert_eq(membership.conf.member_count, 0);
    cr_assert_eq(membership_decode(&membership, (const uint8_t *)"junk", 4), MS_ECORRUPT);
}

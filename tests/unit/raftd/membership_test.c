/*
 * membership: between the core's ids, the stored form and the status page.
 */
#include "raftd/membership.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/raftd/heap_fixture.h"

static const struct membership_founding founding = {.cluster_id = 77, .data_id = 5};

static void add(struct membership *membership, const struct raft_conf_state *conf, node_id id,
                const struct member_context *context)
{
    const struct raft_conf_change change = {
        .v1 = true, .count = 1, .changes = {{.type = RAFT_ADD_VOTER, .id = id}}};
    const struct membership_change applied = {
        .index = membership->index + 1, .change = &change, .context = context};

    membership_update(membership, conf, &applied);
}

Test(membership, founding_entries_add_every_member_with_its_url)
{
    struct ms_config config = {.id = 1};
    struct raft_conf_change change;
    struct member_context context;
    struct raft_slice slice;
    struct ms_err err;

    (void)snprintf(config.cluster, sizeof(config.cluster),
                   "http://127.0.0.1:9021,http://127.0.0.1:9022");
    cr_assert_eq(membership_bootstrap(&config, &founding, &heap, &slice, &err), MS_OK);
    cr_assert_eq(slice.count, 2);
    cr_assert_eq(slice.entries[1].index, 2);
    cr_assert_eq(slice.entries[1].term, MEMBERSHIP_FOUNDING_TERM);
    cr_assert_eq(raft_conf_change_decode(&slice.entries[1], &change), MS_OK);
    cr_assert_eq(change.count, 1);
    cr_assert_eq(change.changes[0].type, RAFT_ADD_VOTER);
    cr_assert_eq(change.changes[0].id, 2);
    cr_assert_eq(member_context_decode(change.context, change.context_bytes, &context), MS_OK);
    cr_assert_eq(context.cluster_id, 77);
    cr_assert_eq(context.data_id, 0);
    cr_assert_str_eq(context.peer_url, "http://127.0.0.1:9022");
    raft_slice_release(&slice);
}

Test(membership, who_founds_alone_registers_his_data_dir)
{
    struct ms_config config = {.id = 1, .cluster = "http://127.0.0.1:9021"};
    struct raft_conf_change change;
    struct member_context context;
    struct raft_slice slice;
    struct ms_err err;

    cr_assert_eq(membership_bootstrap(&config, &founding, &heap, &slice, &err), MS_OK);
    cr_assert_eq(slice.count, 1);
    cr_assert_eq(raft_conf_change_decode(&slice.entries[0], &change), MS_OK);
    cr_assert_eq(member_context_decode(change.context, change.context_bytes, &context), MS_OK);
    cr_assert_eq(context.data_id, founding.data_id);
    raft_slice_release(&slice);
}

Test(membership, malformed_cluster_is_named)
{
    struct ms_config config = {.id = 1};
    struct raft_slice slice;
    struct ms_err err;

    (void)snprintf(config.cluster, sizeof(config.cluster), "http://127.0.0.1:9021,nonsense");
    cr_assert_eq(membership_bootstrap(&config, &founding, &heap, &slice, &err), MS_EINVAL);
    cr_assert_not_null(strstr(err.text, "--cluster"));
}

Test(membership, what_a_change_says_stays_until_another_says_more)
{
    struct membership membership;
    struct raft_conf_state conf = {.voters = {.count = 1, .ids = {5}}};
    const struct ms_conf_member *member;
    struct ms_raft_status status;

    membership_init(&membership);
    add(&membership, &conf, 5, &(struct member_context){.cluster_id = 9, .peer_url = "http://a:1"});
    conf.learners = (struct raft_ids){.count = 1, .ids = {2}};
    add(&membership, &conf, 2, &(struct member_context){.peer_url = "http://b:2"});
    add(&membership, &conf, 5, &(struct member_context){.data_id = 50});
    cr_assert_eq(membership.conf.cluster_id, 9);
    cr_assert_eq(membership.index, 3);

    memset(&status, 0, sizeof(status));
    membership_to_status(&membership, &status);
    cr_assert_eq(status.member_count, 2);
    cr_assert_eq(status.members[0].id, 2, "ids ascend");
    cr_assert_eq(status.members[0].role, MS_MEMBER_LEARNER);
    cr_assert_str_eq(status.members[0].peer_url, "http://b:2");
    cr_assert_eq(status.members[1].id, 5);
    cr_assert_eq(status.members[1].role, MS_MEMBER_VOTER);
    cr_assert_str_eq(status.members[1].peer_url, "http://a:1");
    member = membership_find(&membership, 5);
    cr_assert_not_null(member);
    cr_assert_eq(member->data_id, 50);
    cr_assert_null(membership_find(&membership, 7));
}

Test(membership, member_that_comes_back_starts_with_another_data_dir)
{
    struct membership membership;
    struct raft_conf_state conf = {.voters = {.count = 2, .ids = {1, 2}}};

    membership_init(&membership);
    add(&membership, &conf, 2, &(struct member_context){.data_id = 50, .peer_url = "http://a:1"});
    conf.voters.count = 1;
    add(&membership, &conf, 2, &(struct member_context){0});
    cr_assert_null(membership_find(&membership, 2));
    conf.voters.count = 2;
    add(&membership, &conf, 2, &(struct member_context){.peer_url = "http://b:2"});
    cr_assert_eq(membership_find(&membership, 2)->data_id, 0);
    cr_assert_str_eq(membership_find(&membership, 2)->peer_url, "http://b:2");
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
    const struct member_context context = {0};
    struct membership membership;
    struct membership copy;
    struct raft_conf_state back;
    struct conf_record record;

    membership_init(&membership);
    membership_update(
        &membership, &conf,
        &(struct membership_change){.index = 12, .change = &change, .context = &context});
    cr_assert_eq(membership_encode(&membership, &heap, &record), MS_OK);
    cr_assert_eq(record.index, 12);
    cr_assert_eq(membership_decode(&copy, 12, record.bytes, record.len_bytes), MS_OK);
    membership_to_core(&copy, &back);
    cr_assert_eq(memcmp(&back, &conf, sizeof(conf)), 0);
    raft_buffer_release(record.buffer);
}

Test(membership, nothing_stored_is_nobody)
{
    struct membership membership;

    cr_assert_eq(membership_decode(&membership, 0, NULL, 0), MS_OK);
    cr_assert_eq(membership.conf.member_count, 0);
    cr_assert_eq(membership_decode(&membership, 0, (const uint8_t *)"junk", 4), MS_ECORRUPT);
}

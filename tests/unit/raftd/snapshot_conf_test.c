/*
 * snapshot_conf: the membership that goes with a snapshot.
 */
#include "raftd/snapshot_conf.h"

#include <criterion/criterion.h>
#include <string.h>

#include "raftd/peer_codec.h"
#include "tests/unit/raftd/heap_fixture.h"

Test(snapshot_conf, lives_as_long_as_the_snapshot)
{
    static const uint8_t bytes[] = {1, 2, 3};
    const struct raft_conf_state conf = {.voters = {.count = 1, .ids = {1}}};
    struct raft_buffer *data = NULL;
    struct raft_snapshot *snapshot = NULL;

    cr_assert_eq(snapshot_conf_create(&heap, bytes, sizeof(bytes), &data), MS_OK);
    cr_assert_eq(raft_snapshot_create(&heap, 5, 2, &conf, data, &snapshot), MS_OK);
    raft_buffer_release(data);
    cr_assert_eq(snapshot_conf_of(snapshot)->len_bytes, sizeof(bytes));
    cr_assert_arr_eq(snapshot_conf_of(snapshot)->bytes, bytes, sizeof(bytes));
    raft_snapshot_release(snapshot);
}

Test(snapshot_conf, snapshot_without_one_has_none)
{
    const struct raft_conf_state conf = {.voters = {.count = 1, .ids = {1}}};
    struct raft_snapshot *snapshot = NULL;

    cr_assert_eq(raft_snapshot_create(&heap, 5, 2, &conf, NULL, &snapshot), MS_OK);
    cr_assert_null(snapshot_conf_of(snapshot));
    raft_snapshot_release(snapshot);
}

Test(snapshot_conf, longer_than_any_configuration_is_refused)
{
    static const uint8_t bytes[MS_CONF_STATE_BYTES_MAX + 1];
    struct raft_buffer *data = NULL;

    cr_assert_eq(snapshot_conf_create(&heap, bytes, sizeof(bytes), &data), MS_ERANGE);
    cr_assert_null(data);
}

Test(snapshot_conf, travels_with_an_offer)
{
    static const uint8_t bytes[] = {9, 8, 7, 6};
    const struct raft_conf_state conf = {.voters = {.count = 2, .ids = {1, 2}}};
    struct raft_message message = {.type = RAFT_MSG_SNAP, .from = 1, .to = 2, .term = 3};
    struct raft_message back = {0};
    struct raft_buffer *data = NULL;
    uint8_t offer[PEER_CODEC_OFFER_BYTES_MAX];
    uint64_t size_bytes = 0;
    size_t len_bytes;

    cr_assert_eq(snapshot_conf_create(&heap, bytes, sizeof(bytes), &data), MS_OK);
    cr_assert_eq(raft_snapshot_create(&heap, 5, 2, &conf, data, &message.snapshot), MS_OK);
    raft_buffer_release(data);
    len_bytes = peer_codec_put_offer(&message, 77, offer);
    cr_assert_eq(peer_codec_get_offer(&heap, offer, len_bytes, 1, 2, &back, &size_bytes), MS_OK);
    cr_assert_eq(size_bytes, 77);
    cr_assert_eq(back.snapshot->conf.voters.count, 2);
    cr_assert_eq(snapshot_conf_of(back.snapshot)->len_bytes, sizeof(bytes));
    cr_assert_arr_eq(snapshot_conf_of(back.snapshot)->bytes, bytes, sizeof(bytes));
    raft_message_release(&heap, &message);
    raft_message_release(&heap, &back);
}

/*
 * entry_codec: entries into tails and back.
 */
#include "raftd/entry_codec.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/ipc_catalogue.h"
#include "tests/unit/raftd/heap_fixture.h"

static const struct raft_entry sample[] = {
    {.term = 3, .index = 8, .data = "abcdefghi", .len_bytes = 9, .type = RAFT_ENTRY_NORMAL},
    {.term = 3, .index = 9, .data = NULL, .len_bytes = 0, .type = RAFT_ENTRY_NORMAL},
    {.term = 4, .index = 10, .data = "12345678", .len_bytes = 8, .type = RAFT_ENTRY_CONF_CHANGE},
};
#define SAMPLE_COUNT (sizeof(sample) / sizeof(sample[0]))

static size_t pack_sample(uint8_t *dst)
{
    size_t tail_bytes = 0;

    cr_assert_eq(entry_codec_fit(sample, SAMPLE_COUNT, 4096, &tail_bytes), SAMPLE_COUNT);
    entry_codec_pack(sample, SAMPLE_COUNT, dst);
    return tail_bytes;
}

Test(entry_codec, what_was_packed_is_unpacked)
{
    uint8_t tail[512];
    size_t tail_bytes = pack_sample(tail);
    struct raft_slice slice;

    cr_assert_eq(tail_bytes, 3 * sizeof(struct ms_ipc_entry) + 16 + 8);
    cr_assert_eq(entry_codec_unpack(&heap, tail, tail_bytes, 8, SAMPLE_COUNT, &slice), MS_OK);
    cr_assert_eq(slice.count, SAMPLE_COUNT);
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        cr_assert_eq(slice.entries[i].term, sample[i].term);
        cr_assert_eq(slice.entries[i].index, sample[i].index);
        cr_assert_eq(slice.entries[i].type, sample[i].type);
        cr_assert_eq(slice.entries[i].len_bytes, sample[i].len_bytes);
    }
    cr_assert_arr_eq(slice.entries[0].data, "abcdefghi", 9);
    cr_assert_null(slice.entries[1].data);
    raft_slice_release(&slice);
}

Test(entry_codec, fit_takes_one_entry_at_least_and_stops_at_the_limit)
{
    size_t first = entry_codec_bytes(9);
    size_t tail_bytes = 0;

    cr_assert_eq(entry_codec_fit(sample, SAMPLE_COUNT, 1, &tail_bytes), 1);
    cr_assert_eq(tail_bytes, first);
    cr_assert_eq(entry_codec_fit(sample, SAMPLE_COUNT, first + 24, &tail_bytes), 2);
    cr_assert_eq(entry_codec_fit(sample, SAMPLE_COUNT, first + 23, &tail_bytes), 1);
    cr_assert_eq(entry_codec_fit(sample, 0, 100, &tail_bytes), 0);
    cr_assert_eq(tail_bytes, 0);
}

Test(entry_codec, every_cut_tail_is_refused)
{
    uint8_t tail[512];
    size_t tail_bytes = pack_sample(tail);
    struct raft_slice slice;

    for (size_t cut = 0; cut < tail_bytes; cut++) {
        cr_assert_eq(entry_codec_unpack(&heap, tail, cut, 8, SAMPLE_COUNT, &slice), MS_EPROTO);
    }
}

static void assert_refused(size_t offset, const void *bytes, size_t len_bytes, raft_index first,
                           size_t count)
{
    uint8_t tail[512];
    size_t tail_bytes = pack_sample(tail);
    struct raft_slice slice;

    memcpy(tail + offset, bytes, len_bytes);
    cr_assert_eq(entry_codec_unpack(&heap, tail, tail_bytes, first, count, &slice), MS_EPROTO);
}

Test(entry_codec, impossible_entries_are_refused)
{
    const uint64_t zero = 0;
    const uint64_t low_term = 2;
    const uint64_t far_index = 11;
    const uint32_t bad_type = 3;
    const uint32_t huge = UINT32_MAX;
    const size_t second = entry_codec_bytes(9);

    assert_refused(0, &zero, sizeof(zero), 8, SAMPLE_COUNT);
    assert_refused(second, &low_term, sizeof(low_term), 8, SAMPLE_COUNT);
    assert_refused(second + 8, &far_index, sizeof(far_index), 8, SAMPLE_COUNT);
    assert_refused(16, &bad_type, sizeof(bad_type), 8, SAMPLE_COUNT);
    assert_refused(20, &huge, sizeof(huge), 8, SAMPLE_COUNT);
    assert_refused(0, "", 0, 9, SAMPLE_COUNT);
    assert_refused(0, "", 0, 8, SAMPLE_COUNT - 1);
    assert_refused(0, "", 0, 8, 0);
    assert_refused(0, "", 0, 8, SIZE_MAX);
}

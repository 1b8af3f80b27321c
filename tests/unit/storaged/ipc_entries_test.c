/*
 * ipc_entries: entries in message tails, also those that are none.
 */
#include <string.h>

#include <criterion/criterion.h>

#include "common/ipc_catalogue.h"
#include "storaged/ipc_entries.h"

Test(ipc_entries, what_was_put_comes_out)
{
    _Alignas(8) uint8_t tail[256];
    struct log_entry first = {
        .term = 2, .index = 7, .type = 1, .data_bytes = 3, .data = (const uint8_t *)"abc"};
    struct log_entry second = {.term = 3, .index = 8};
    struct log_entry out;
    struct ipc_entries walk = {.tail = tail};

    walk.tail_bytes = ipc_entry_put(tail, &first);
    cr_assert_eq(walk.tail_bytes % 8, 0);
    cr_assert_eq(walk.tail_bytes, ipc_entry_bytes(3));
    walk.tail_bytes += ipc_entry_put(tail + walk.tail_bytes, &second);
    cr_assert_eq(ipc_entries_next(&walk, &out), MS_OK);
    cr_assert_eq(out.index, 7);
    cr_assert_eq(out.type, 1);
    cr_assert_arr_eq(out.data, "abc", 3);
    cr_assert_eq(ipc_entries_next(&walk, &out), MS_OK);
    cr_assert_eq(out.term, 3);
    cr_assert_eq(out.data_bytes, 0);
    cr_assert_eq(ipc_entries_next(&walk, &out), MS_ENOENT);
}

Test(ipc_entries, lengths_beyond_the_tail_are_refused)
{
    struct ms_ipc_entry head = {.term = 1, .index = 1, .len_bytes = UINT32_MAX};
    _Alignas(8) uint8_t tail[64] = {0};
    struct ipc_entries walk = {.tail = tail, .tail_bytes = sizeof(tail)};
    struct log_entry out;

    memcpy(tail, &head, sizeof(head));
    cr_assert_eq(ipc_entries_next(&walk, &out), MS_EPROTO);
    head.len_bytes = (uint32_t)(sizeof(tail) - sizeof(head)) + 1;
    memcpy(tail, &head, sizeof(head));
    cr_assert_eq(ipc_entries_next(&walk, &out), MS_EPROTO);
    head.len_bytes = (uint32_t)(sizeof(tail) - sizeof(head));
    memcpy(tail, &head, sizeof(head));
    cr_assert_eq(ipc_entries_next(&walk, &out), MS_OK);
    walk = (struct ipc_entries){.tail = tail, .tail_bytes = sizeof(head) - 1};
    cr_assert_eq(ipc_entries_next(&walk, &out), MS_EPROTO, "not even a head");
    memset(tail, 0, sizeof(tail));
    walk = (struct ipc_entries){.tail = tail, .tail_bytes = sizeof(tail)};
    cr_assert_eq(ipc_entries_next(&walk, &out), MS_EPROTO, "index 0");
}

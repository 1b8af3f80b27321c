/*
 * member_context: the bytes that travel with a change, there and back, and what is refused.
 */
#include "raftd/member_context.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"

static struct member_context sample(void)
{
    return (struct member_context){.cluster_id = UINT64_C(0x1122334455667788),
                                   .request = {.origin = 7, .seq = 9},
                                   .data_id = UINT64_C(0xfedcba9876543210),
                                   .peer_url = "http://127.0.0.1:9022"};
}

Test(member_context, comes_back_as_it_was)
{
    const struct member_context context = sample();
    uint8_t bytes[MEMBER_CONTEXT_BYTES_MAX];
    size_t len = member_context_encode(&context, bytes);
    struct member_context back;

    cr_assert_eq(len, 40 + strlen(context.peer_url));
    cr_assert_eq(member_context_decode(bytes, len, &back), MS_OK);
    cr_assert_eq(memcmp(&back, &context, sizeof(back)), 0);
}

Test(member_context, longest_url_fits)
{
    struct member_context context = sample();
    uint8_t bytes[MEMBER_CONTEXT_BYTES_MAX];
    struct member_context back;

    memset(context.peer_url, 'u', sizeof(context.peer_url) - 1);
    cr_assert_eq(member_context_encode(&context, bytes), sizeof(bytes));
    cr_assert_eq(member_context_decode(bytes, sizeof(bytes), &back), MS_OK);
    cr_assert_str_eq(back.peer_url, context.peer_url);
}

Test(member_context, nothing_says_nothing)
{
    struct member_context back = sample();

    cr_assert_eq(member_context_decode(NULL, 0, &back), MS_OK);
    cr_assert_eq(back.cluster_id, 0);
    cr_assert_eq(back.request.origin, 0);
    cr_assert_eq(back.data_id, 0);
    cr_assert_str_empty(back.peer_url);
}

Test(member_context, every_cut_and_every_addition_is_refused)
{
    const struct member_context context = sample();
    uint8_t bytes[MEMBER_CONTEXT_BYTES_MAX + 1] = {0};
    size_t len = member_context_encode(&context, bytes);
    struct member_context back = {.data_id = 5};

    for (size_t cut = 1; cut < len; cut++) {
        cr_assert_eq(member_context_decode(bytes, cut, &back), MS_ECORRUPT, "%zu bytes", cut);
    }
    cr_assert_eq(member_context_decode(bytes, len + 1, &back), MS_ECORRUPT);
    cr_assert_eq(back.data_id, 5, "an error leaves *out alone");
}

Test(member_context, other_format_padding_and_url_bytes_are_refused)
{
    const struct member_context context = sample();
    static const struct {
        size_t at;
        uint8_t value;
    } faults[] = {{0, 0}, {0, 2},  {1, 1},     {4, 1},     {7, 1},   {2, 255},
                  {3, 1}, {40, 0}, {45, '\n'}, {45, 0x80}, {50, ' '}};

    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        uint8_t bytes[MEMBER_CONTEXT_BYTES_MAX];
        size_t len = member_context_encode(&context, bytes);
        struct member_context back;

        bytes[faults[i].at] = faults[i].value;
        cr_assert_eq(member_context_decode(bytes, len, &back), MS_ECORRUPT, "fault %zu", i);
    }
}

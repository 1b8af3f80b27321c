/*
 * links: how large the rings are. That both ends get theirs is seen in supervisor_test.
 */
#include <criterion/criterion.h>

#include "common/ring.h"
#include "supervisor/links.h"

static const struct worker_link *link_of(enum ms_link_kind kind)
{
    size_t count;
    const struct worker_link *links = worker_table_links(&count);

    for (size_t i = 0; i < count; i++) {
        if (links[i].kind == kind) {
            return &links[i];
        }
    }
    return NULL;
}

Test(links, rings_hold_two_of_the_largest_requests)
{
    static const uint64_t requests[] = {1, 1572864, 2031616, 2031617, 67108864};

    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        uint64_t capacity = 0;

        cr_assert_eq(links_capacity_bytes(link_of(MS_LINK_RAFT_LOG), requests[i], &capacity, NULL),
                     MS_OK);
        cr_assert_geq(capacity, 2 * (requests[i] + 65536));
        cr_assert_geq(capacity, 4u << 20);
        cr_assert_eq(capacity & (capacity - 1), 0, "a power of two");
        cr_assert_leq(capacity, MS_RING_CAPACITY_MAX);
    }
}

Test(links, results_need_no_room_for_requests)
{
    uint64_t capacity = 0;

    cr_assert_eq(links_capacity_bytes(link_of(MS_LINK_API_STORE), 67108864, &capacity, NULL),
                 MS_OK);
    cr_assert_eq(capacity, 1u << 20);
}

Test(links, requests_larger_than_any_ring_are_refused)
{
    static const uint64_t requests[] = {MS_RING_CAPACITY_MAX, UINT64_MAX, UINT64_MAX / 2};

    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        uint64_t capacity = 7;

        cr_assert_eq(links_capacity_bytes(link_of(MS_LINK_API_RAFT), requests[i], &capacity, NULL),
                     MS_ERANGE);
        cr_assert_eq(capacity, 7);
    }
}

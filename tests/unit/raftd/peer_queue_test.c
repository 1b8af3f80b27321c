/*
 * Bytes for one peer: order, bounds of pieces, and all or nothing.
 */
#include "raftd/peer_queue.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/seed.h"
#include "tests/unit/raftd/heap_fixture.h"

Test(peer_queue, small_pieces_come_out_as_one)
{
    struct peer_queue queue;
    uv_buf_t bufs[4];

    peer_queue_init(&queue, &heap);
    cr_assert_eq(peer_queue_peek(&queue, 100, bufs, 4), 0);
    for (unsigned i = 0; i < 100; i++) {
        cr_assert_eq(peer_queue_copy(&queue, "abc", 3), MS_OK);
    }
    cr_assert_eq(queue.bytes, 300);
    cr_assert_eq(peer_queue_peek(&queue, 1000, bufs, 4), 1);
    cr_assert_eq(bufs[0].len, 300);
    cr_assert_eq(peer_queue_peek(&queue, 7, bufs, 4), 1);
    cr_assert_eq(bufs[0].len, 7);
    peer_queue_fini(&queue);
}

Test(peer_queue, large_pieces_are_not_copied)
{
    struct peer_queue queue;
    struct raft_buffer *owner;
    uint8_t *bytes;
    uv_buf_t bufs[4];

    peer_queue_init(&queue, &heap);
    cr_assert_eq(raft_buffer_create(&heap, 10000, &owner, &bytes), MS_OK);
    memset(bytes, 1, 10000);
    cr_assert_eq(peer_queue_copy(&queue, "a", 1), MS_OK);
    cr_assert_eq(peer_queue_borrow(&queue, bytes, 10000, owner), MS_OK);
    cr_assert_eq(peer_queue_copy(&queue, "b", 1), MS_OK);
    cr_assert_eq(owner->refs, 2);
    cr_assert_eq(peer_queue_peek(&queue, 100000, bufs, 4), 3);
    cr_assert_eq((uint8_t *)bufs[1].base, bytes);
    cr_assert_eq(bufs[1].len, 10000);
    peer_queue_consume(&queue, 5000);
    cr_assert_eq(owner->refs, 2, "half of it is still needed");
    peer_queue_consume(&queue, 5001);
    cr_assert_eq(owner->refs, 1);
    cr_assert_eq(queue.bytes, 1);
    cr_assert_eq(peer_queue_borrow(&queue, bytes, 10, owner), MS_OK);
    cr_assert_eq(owner->refs, 1, "not worth a reference");
    cr_assert_eq(peer_queue_borrow(&queue, bytes, 10000, owner), MS_OK);
    peer_queue_fini(&queue);
    cr_assert_eq(owner->refs, 1);
    raft_buffer_release(owner);
}

/* Against a plain array: any mix of additions, rollbacks and removals. */
Test(peer_queue, keeps_the_order_of_everything)
{
    enum {
        TOTAL = 1 << 20
    };
    uint64_t random = test_seed("peer_queue");
    struct peer_queue queue;
    struct raft_buffer *owner;
    uint8_t *source;
    uint8_t *model = malloc(TOTAL);
    uint8_t *taken = malloc(TOTAL);
    size_t begin = 0;
    size_t end = 0;

    peer_queue_init(&queue, &heap);
    cr_assert_eq(raft_buffer_create(&heap, 65536, &owner, &source), MS_OK);
    for (size_t i = 0; i < 65536; i++) {
        source[i] = (uint8_t)test_random(&random);
    }
    while (end < TOTAL - 65536) {
        size_t from = test_random_below(&random, 32768);
        size_t len = test_random_below(&random, UINT64_C(1) << test_random_below(&random, 16));

        if (test_random_below(&random, 3) > 0) {
            struct peer_queue_mark mark = peer_queue_mark(&queue);
            bool back = test_random_below(&random, 4) == 0;

            cr_assert_eq(peer_queue_copy(&queue, source + from, len / 2), MS_OK);
            cr_assert_eq(peer_queue_borrow(&queue, source + from + len / 2, len - len / 2, owner),
                         MS_OK);
            if (back) {
                peer_queue_rollback(&queue, &mark);
            } else {
                memcpy(model + end, source + from, len);
                end += len;
            }
        } else {
            size_t got = peer_queue_take(&queue, taken, len);

            cr_assert_eq(got, len < end - begin ? len : end - begin);
            cr_assert_eq(memcmp(taken, model + begin, got), 0);
            begin += got;
        }
        cr_assert_eq(queue.bytes, end - begin);
    }
    peer_queue_fini(&queue);
    cr_assert_eq(owner->refs, 1);
    raft_buffer_release(owner);
    free(model);
    free(taken);
}

static void *refuse(void *ctx, size_t len_bytes)
{
    return *(bool *)ctx ? NULL : malloc(len_bytes);
}

static void give_back(void *ctx, void *memory)
{
    (void)ctx;
    free(memory);
}

Test(peer_queue, refused_memory_adds_nothing)
{
    bool none_left = true;
    const struct raft_alloc alloc = {.alloc = refuse, .free = give_back, .ctx = &none_left};
    struct raft_buffer owner = {.refs = 1};
    static const uint8_t bytes[100000];
    struct peer_queue queue;

    peer_queue_init(&queue, &alloc);
    cr_assert_eq(peer_queue_copy(&queue, bytes, 1), MS_ENOMEM);
    cr_assert_eq(peer_queue_borrow(&queue, bytes, sizeof(bytes), &owner), MS_ENOMEM);
    cr_assert_eq(owner.refs, 1);
    cr_assert_eq(queue.bytes, 0);
    none_left = false;
    cr_assert_eq(peer_queue_copy(&queue, bytes, 1), MS_OK);
    none_left = true;
    cr_assert_eq(peer_queue_copy(&queue, bytes, 1), MS_OK, "there is room");
    cr_assert_eq(peer_queue_copy(&queue, bytes, sizeof(bytes)), MS_ENOMEM);
    cr_assert_eq(queue.bytes, 2);
    peer_queue_fini(&queue);
}

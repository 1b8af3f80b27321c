/*
 * Frames in a stream that comes in pieces of any size.
 */
#include "raftd/peer_frame.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/seed.h"
#include "tests/unit/raftd/heap_fixture.h"

#define LIMIT 200000

struct listener {
    size_t count;
    size_t bytes;
    uint64_t sum; /* over types and payloads, in order */
    int answer;
};

static uint64_t add_up(uint64_t sum, uint8_t type, const uint8_t *payload, size_t len_bytes)
{
    sum = sum * 31 + type;
    for (size_t i = 0; i < len_bytes; i++) {
        sum = sum * 31 + payload[i];
    }
    return sum;
}

static int on_limit(void *ctx, uint8_t type, size_t len_bytes)
{
    (void)ctx;
    (void)type;
    return len_bytes <= LIMIT ? MS_OK : MS_EPROTO;
}

static int on_frame(void *ctx, const struct peer_frame *frame)
{
    struct listener *listener = ctx;

    listener->count++;
    listener->bytes += frame->len_bytes;
    listener->sum = add_up(listener->sum, frame->type, frame->payload, frame->len_bytes);
    return listener->answer;
}

static void begin(struct peer_frame_reader *reader, struct listener *listener)
{
    const struct peer_frame_handlers handlers = {
        .limit = on_limit, .frame = on_frame, .ctx = listener};

    *listener = (struct listener){0};
    peer_frame_reader_init(reader, &heap, &handlers);
}

Test(peer_frame, frames_come_out_of_pieces_of_any_size)
{
    uint64_t random = test_seed("peer_frame");
    static uint8_t payload[LIMIT];
    struct peer_queue queue;
    struct peer_frame_reader reader;
    struct listener listener;
    uint64_t sum = 0;
    size_t count = 0;

    for (size_t i = 0; i < sizeof(payload); i++) {
        payload[i] = (uint8_t)test_random(&random);
    }
    begin(&reader, &listener);
    peer_queue_init(&queue, &heap);
    while (count < 300) {
        size_t len = test_random_below(&random, UINT64_C(1) << test_random_below(&random, 18));
        uint8_t type = (uint8_t)test_random_below(&random, 14);

        if (len > sizeof(payload)) {
            continue;
        }
        cr_assert_eq(peer_frame_put(&queue, (enum peer_frame_type)type, payload, len), MS_OK);
        sum = add_up(sum, type, payload, len);
        count++;
        while (queue.bytes > 0) {
            uint8_t piece[70000];
            size_t room_bytes = 0;
            uint8_t *room = peer_frame_room(&reader, &room_bytes);
            size_t most = test_random_below(&random, sizeof(piece)) + 1;

            if (room != NULL) { /* without a copy in between */
                size_t got = peer_queue_take(&queue, room, most < room_bytes ? most : room_bytes);

                cr_assert_eq(peer_frame_filled(&reader, got), MS_OK);
            } else {
                size_t got = peer_queue_take(&queue, piece, most);

                cr_assert_eq(peer_frame_feed(&reader, piece, got), MS_OK);
            }
        }
    }
    cr_assert_eq(listener.count, count);
    cr_assert_eq(listener.sum, sum);
    peer_queue_fini(&queue);
    peer_frame_reader_fini(&reader);
}

Test(peer_frame, many_frames_in_one_piece)
{
    struct peer_frame_reader reader;
    struct listener listener;
    uint8_t stream[10 * 9] = {0};

    for (size_t i = 0; i < 10; i++) {
        stream[i * 9] = 1;
        stream[i * 9 + 4] = PEER_FRAME_NOTE;
    }
    begin(&reader, &listener);
    cr_assert_eq(peer_frame_feed(&reader, stream, sizeof(stream)), MS_OK);
    cr_assert_eq(listener.count, 10);
    cr_assert_eq(listener.bytes, 10);
    peer_frame_reader_fini(&reader);
}

Test(peer_frame, a_length_beyond_the_limit_is_refused_before_it_is_allocated)
{
    static const uint8_t head[] = {0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0};
    struct peer_frame_reader reader;
    struct listener listener;

    begin(&reader, &listener);
    cr_assert_eq(peer_frame_feed(&reader, head, sizeof(head) - 1), MS_OK);
    cr_assert_eq(peer_frame_feed(&reader, head + sizeof(head) - 1, 1), MS_EPROTO);
    cr_assert_null(reader.buffer);
    peer_frame_reader_fini(&reader);
}

Test(peer_frame, a_head_that_is_none_is_refused)
{
    for (size_t at = 5; at < 8; at++) {
        uint8_t head[] = {0, 0, 0, 0, 1, 0, 0, 0};
        struct peer_frame_reader reader;
        struct listener listener;

        head[at] = 1;
        begin(&reader, &listener);
        cr_assert_eq(peer_frame_feed(&reader, head, sizeof(head)), MS_EPROTO);
        peer_frame_reader_fini(&reader);
    }
}

Test(peer_frame, a_handler_ends_the_feeding)
{
    static const uint8_t stream[16] = {[4] = PEER_FRAME_PING, [12] = PEER_FRAME_PING};
    struct peer_frame_reader reader;
    struct listener listener;

    begin(&reader, &listener);
    listener.answer = MS_EPEER;
    cr_assert_eq(peer_frame_feed(&reader, stream, sizeof(stream)), MS_EPEER);
    cr_assert_eq(listener.count, 1);
    peer_frame_reader_fini(&reader);
}

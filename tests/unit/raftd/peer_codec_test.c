/*
 * Messages between nodes: what was put in comes out, and nothing else is taken for a message.
 */
#include "raftd/peer_codec.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/seed.h"
#include "tests/unit/raftd/heap_fixture.h"

#define FROM ((node_id)3)
#define TO   ((node_id)9)

static const enum raft_message_type travelling[] = {
    RAFT_MSG_PROP,
    RAFT_MSG_APP,
    RAFT_MSG_APP_RESP,
    RAFT_MSG_VOTE,
    RAFT_MSG_VOTE_RESP,
    RAFT_MSG_HEARTBEAT,
    RAFT_MSG_PRE_VOTE,
    RAFT_MSG_TIMEOUT_NOW,
    RAFT_MSG_HEARTBEAT_RESP,
    RAFT_MSG_READ_INDEX,
    RAFT_MSG_PRE_VOTE_RESP,
    RAFT_MSG_READ_INDEX_RESP,
    RAFT_MSG_TRANSFER_LEADER,
};
#define TRAVELLING (sizeof(travelling) / sizeof(travelling[0]))

/* The encoded message in one piece; the caller frees it. */
static uint8_t *encode(const struct raft_message *message, size_t *len_bytes)
{
    struct peer_queue queue;
    uint8_t *bytes;

    peer_queue_init(&queue, &heap);
    cr_assert_eq(peer_codec_put_message(&queue, message), MS_OK);
    *len_bytes = peer_codec_message_bytes(message);
    cr_assert_eq(queue.bytes, *len_bytes);
    bytes = malloc(*len_bytes);
    cr_assert_eq(peer_queue_take(&queue, bytes, *len_bytes), *len_bytes);
    peer_queue_fini(&queue);
    return bytes;
}

static void check_same(const struct raft_message *a, const struct raft_message *b)
{
    cr_assert_eq(a->type, b->type);
    cr_assert_eq(a->reject, b->reject);
    cr_assert_eq(a->by_transfer, b->by_transfer);
    cr_assert_eq(a->from, b->from);
    cr_assert_eq(a->to, b->to);
    cr_assert_eq(a->term, b->term);
    cr_assert_eq(a->log_term, b->log_term);
    cr_assert_eq(a->index, b->index);
    cr_assert_eq(a->commit, b->commit);
    cr_assert_eq(a->commit_term, b->commit_term);
    cr_assert_eq(a->reject_hint, b->reject_hint);
    cr_assert_eq(a->read_round, b->read_round);
    cr_assert_eq(a->read_id.origin, b->read_id.origin);
    cr_assert_eq(a->read_id.seq, b->read_id.seq);
    cr_assert_eq(a->entries.count, b->entries.count);
    for (size_t i = 0; i < a->entries.count; i++) {
        const struct raft_entry *x = &a->entries.entries[i];
        const struct raft_entry *y = &b->entries.entries[i];

        cr_assert_eq(x->term, y->term);
        cr_assert_eq(x->index, y->index);
        cr_assert_eq(x->type, y->type);
        cr_assert_eq(x->len_bytes, y->len_bytes);
        cr_assert_eq(x->data == NULL, y->data == NULL, "none and empty differ");
        cr_assert_eq(x->len_bytes > 0 && memcmp(x->data, y->data, x->len_bytes) != 0, false);
    }
}

/* Data of each entry: none, empty, small, or large enough to be borrowed by the queue. */
static void add_entries(struct raft_message *message, size_t count, uint64_t *random)
{
    struct raft_entry entries[40];

    cr_assert_leq(count, 40u);
    for (size_t i = 0; i < count; i++) {
        static const size_t bounds[] = {1, 1, 100, 20000};
        size_t kind = test_random_below(random, 4);
        uint8_t *bytes;

        entries[i] = (struct raft_entry){
            .term = test_random(random),
            .index = test_random(random),
            .type = (enum raft_entry_type)test_random_below(random, 3),
        };
        if (kind > 0) {
            entries[i].len_bytes = test_random_below(random, bounds[kind]);
            cr_assert_eq(
                raft_buffer_create(&heap, entries[i].len_bytes + 1, &entries[i].owner, &bytes),
                MS_OK);
            memset(bytes, (int)test_random_below(random, 256), entries[i].len_bytes);
            entries[i].data = bytes;
        }
    }
    cr_assert_eq(raft_slice_create(&heap, entries, count, &message->entries), MS_OK);
    for (size_t i = 0; i < count; i++) {
        raft_buffer_release(entries[i].owner);
    }
}

static struct raft_message random_message(uint64_t *random)
{
    struct raft_message message = {
        .type = travelling[test_random_below(random, TRAVELLING)],
        .reject = test_random_below(random, 2) == 1,
        .by_transfer = test_random_below(random, 2) == 1,
        .from = FROM,
        .to = TO,
        .term = test_random(random),
        .log_term = test_random(random),
        .index = test_random(random),
        .commit = test_random(random),
        .commit_term = test_random(random),
        .reject_hint = test_random(random),
        .read_round = test_random(random),
        .read_id = {.origin = test_random(random), .seq = test_random(random)},
    };

    add_entries(&message, test_random_below(random, 40), random);
    return message;
}

Test(peer_codec, what_goes_in_comes_out)
{
    uint64_t random = test_seed("peer_codec");

    for (unsigned i = 0; i < 500; i++) {
        struct raft_message message = random_message(&random);
        struct raft_message copied;
        struct raft_message referring;
        struct raft_buffer *frame;
        uint8_t *frame_bytes;
        size_t len_bytes;
        uint8_t *bytes = encode(&message, &len_bytes);

        /* Copied out of bytes that go away, and referring to a frame that stays. */
        cr_assert_eq(peer_codec_get_message(&heap, bytes, len_bytes, NULL, FROM, TO, &copied),
                     MS_OK);
        cr_assert_eq(raft_buffer_create(&heap, len_bytes, &frame, &frame_bytes), MS_OK);
        memcpy(frame_bytes, bytes, len_bytes);
        memset(bytes, 0xee, len_bytes);
        free(bytes);
        cr_assert_eq(
            peer_codec_get_message(&heap, frame_bytes, len_bytes, frame, FROM, TO, &referring),
            MS_OK);
        raft_buffer_release(frame);
        check_same(&message, &copied);
        check_same(&message, &referring);
        raft_message_release(&heap, &message);
        raft_message_release(&heap, &copied);
        raft_message_release(&heap, &referring);
    }
}

Test(peer_codec, no_prefix_of_a_message_is_a_message)
{
    uint64_t random = test_seed("peer_codec");

    for (unsigned i = 0; i < 20; i++) {
        struct raft_message message = random_message(&random);
        struct raft_message out = {.commit = 77};
        size_t len_bytes;
        uint8_t *bytes = encode(&message, &len_bytes);

        for (size_t cut = 0; cut < len_bytes; cut += 1 + cut / 50) {
            uint8_t *exact = malloc(cut + 1); /* so that a sanitizer sees a look beyond */

            memcpy(exact + 1, bytes, cut);
            cr_assert_eq(peer_codec_get_message(&heap, exact + 1, cut, NULL, FROM, TO, &out),
                         MS_EPROTO);
            free(exact);
        }
        cr_assert_eq(out.commit, 77, "an error must leave *out alone");
        free(bytes);
        raft_message_release(&heap, &message);
    }
}

static int get(const uint8_t *bytes, size_t len_bytes)
{
    struct raft_message out;
    int rc = peer_codec_get_message(&heap, bytes, len_bytes, NULL, FROM, TO, &out);

    if (rc == MS_OK) {
        raft_message_release(&heap, &out);
    }
    return rc;
}

Test(peer_codec, impossible_fields_are_refused)
{
    uint8_t bytes[PEER_CODEC_MESSAGE_BYTES + PEER_CODEC_ENTRY_BYTES + 1] = {RAFT_MSG_APP};
    const size_t with_entry = sizeof(bytes) - 1;

    bytes[8] = FROM;
    cr_assert_eq(get(bytes, PEER_CODEC_MESSAGE_BYTES), MS_OK);
    cr_assert_eq(get(bytes, sizeof(bytes)), MS_EPROTO, "bytes that belong to nothing");
    bytes[1] = 4;
    cr_assert_eq(get(bytes, PEER_CODEC_MESSAGE_BYTES), MS_EPROTO, "unknown flag");
    bytes[1] = 0;
    bytes[2] = 1;
    cr_assert_eq(get(bytes, PEER_CODEC_MESSAGE_BYTES), MS_EPROTO, "not zero");
    bytes[2] = 0;
    bytes[4] = 1;
    cr_assert_eq(get(bytes, PEER_CODEC_MESSAGE_BYTES), MS_EPROTO, "an entry that is not there");
    cr_assert_eq(get(bytes, with_entry), MS_OK);
    bytes[88 + 16] = 1;
    cr_assert_eq(get(bytes, with_entry), MS_EPROTO, "data that is not there");
    cr_assert_eq(get(bytes, sizeof(bytes)), MS_EPROTO, "data without the flag");
    bytes[88 + 21] = 1;
    cr_assert_eq(get(bytes, sizeof(bytes)), MS_OK);
    bytes[88 + 20] = RAFT_ENTRY_CONF_CHANGE_V2 + 1;
    cr_assert_eq(get(bytes, sizeof(bytes)), MS_EPROTO, "unknown type of entry");
    bytes[88 + 20] = 0;
    bytes[88 + 22] = 1;
    cr_assert_eq(get(bytes, sizeof(bytes)), MS_EPROTO, "not zero");
    bytes[88 + 22] = 0;
    memset(bytes + 4, 0xff, 4);
    cr_assert_eq(get(bytes, sizeof(bytes)), MS_EPROTO, "more entries than bytes");
}

Test(peer_codec, only_some_types_travel)
{
    for (unsigned type = 0; type < 256; type++) {
        uint8_t bytes[PEER_CODEC_MESSAGE_BYTES] = {0};
        bool travels = false;

        bytes[0] = (uint8_t)type;
        bytes[8] = FROM;
        for (size_t i = 0; i < TRAVELLING; i++) {
            travels = travels || travelling[i] == type;
        }
        cr_assert_eq(get(bytes, sizeof(bytes)) == MS_OK, travels, "type %u", type);
        if (type <= RAFT_MSG_FORGET_LEADER) {
            cr_assert_eq(peer_codec_travels((enum raft_message_type)type), travels);
        }
    }
}

Test(peer_codec, only_requests_may_come_in_anothers_name)
{
    for (size_t i = 0; i < TRAVELLING; i++) {
        uint8_t bytes[PEER_CODEC_MESSAGE_BYTES] = {(uint8_t)travelling[i]};
        bool may = travelling[i] == RAFT_MSG_PROP || travelling[i] == RAFT_MSG_READ_INDEX ||
                   travelling[i] == RAFT_MSG_TRANSFER_LEADER;

        bytes[8] = FROM + 1;
        cr_assert_eq(get(bytes, sizeof(bytes)) == MS_OK, may);
        memset(bytes + 8, 0xff, 8); /* the node that is the log's writer */
        cr_assert_eq(get(bytes, sizeof(bytes)), MS_EPROTO);
        memset(bytes + 8, 0, 8);
        cr_assert_eq(get(bytes, sizeof(bytes)), MS_EPROTO);
    }
}

static void *refuse_nth(void *ctx, size_t len_bytes)
{
    int *left = ctx;

    return (*left)-- > 0 ? malloc(len_bytes) : NULL;
}

static void give_back(void *ctx, void *memory)
{
    (void)ctx;
    free(memory);
}

Test(peer_codec, refused_memory_is_a_status)
{
    uint64_t random = test_seed("peer_codec");
    struct raft_message message = {.type = RAFT_MSG_APP, .from = FROM, .to = TO};
    struct raft_message out = {.commit = 77};
    size_t len_bytes;
    uint8_t *bytes;
    int failures = 0;
    int rc;

    add_entries(&message, 30, &random);
    bytes = encode(&message, &len_bytes);
    do {
        int left = failures;
        const struct raft_alloc alloc = {.alloc = refuse_nth, .free = give_back, .ctx = &left};

        rc = peer_codec_get_message(&alloc, bytes, len_bytes, NULL, FROM, TO, &out);
        if (rc != MS_OK) {
            cr_assert_eq(rc, MS_ENOMEM);
            cr_assert_eq(out.commit, 77);
            failures++;
        } else {
            check_same(&message, &out);
            raft_message_release(&alloc, &out);
        }
    } while (rc != MS_OK);
    cr_assert_eq(failures, 2);
    free(bytes);
    raft_message_release(&heap, &message);
}

/* ---- offers ---- */

static struct raft_message random_offer(uint64_t *random)
{
    struct raft_message message = {
        .type = RAFT_MSG_SNAP, .from = FROM, .to = TO, .term = test_random(random)};
    struct raft_conf_state conf = {.auto_leave = test_random_below(random, 2) == 1};
    struct raft_ids *lists[] = {&conf.voters, &conf.voters_outgoing, &conf.learners,
                                &conf.learners_next};

    for (size_t i = 0; i < 4; i++) {
        lists[i]->count = test_random_below(random, RAFT_MEMBERS_MAX + 1);
        for (size_t k = 0; k < lists[i]->count; k++) {
            lists[i]->ids[k] = test_random(random) | 1;
        }
    }
    cr_assert_eq(raft_snapshot_create(&heap, test_random(random) | 1, test_random(random) | 1,
                                      &conf, NULL, &message.snapshot),
                 MS_OK);
    return message;
}

Test(peer_codec, an_offer_comes_out_as_it_went_in)
{
    uint64_t random = test_seed("peer_codec");

    for (unsigned i = 0; i < 200; i++) {
        struct raft_message message = random_offer(&random);
        uint64_t size_bytes = test_random(&random);
        uint8_t bytes[PEER_CODEC_OFFER_BYTES_MAX];
        size_t len_bytes = peer_codec_put_offer(&message, size_bytes, bytes);
        struct raft_message out;
        uint64_t size_out;

        cr_assert_leq(len_bytes, sizeof(bytes));
        cr_assert_eq(peer_codec_get_offer(&heap, bytes, len_bytes, FROM, TO, &out, &size_out),
                     MS_OK);
        cr_assert_eq(size_out, size_bytes);
        check_same(&message, &out);
        cr_assert_eq(out.snapshot->index, message.snapshot->index);
        cr_assert_eq(out.snapshot->term, message.snapshot->term);
        cr_assert_eq(
            memcmp(&out.snapshot->conf, &message.snapshot->conf, sizeof(message.snapshot->conf)),
            0);
        raft_message_release(&heap, &out);
        for (size_t cut = 0; cut < len_bytes; cut++) {
            cr_assert_eq(peer_codec_get_offer(&heap, bytes, cut, FROM, TO, &out, &size_out),
                         MS_EPROTO);
        }
        cr_assert_eq(peer_codec_get_offer(&heap, bytes, len_bytes, FROM + 1, TO, &out, &size_out),
                     MS_EPROTO, "in another's name");
        raft_message_release(&heap, &message);
    }
}

Test(peer_codec, impossible_offers_are_refused)
{
    uint64_t random = 5;
    struct raft_message message = random_offer(&random);
    uint8_t bytes[PEER_CODEC_OFFER_BYTES_MAX];
    size_t len_bytes = peer_codec_put_offer(&message, 10, bytes);
    /* type; auto_leave; too many voters; not zero */
    static const size_t places[] = {8, 112, 113, 117};
    struct raft_message out;
    uint64_t size_bytes;

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        uint8_t kept = bytes[places[i]];

        bytes[places[i]] = 0xff;
        cr_assert_eq(peer_codec_get_offer(&heap, bytes, len_bytes, FROM, TO, &out, &size_bytes),
                     MS_EPROTO);
        bytes[places[i]] = kept;
    }
    memset(bytes + 96, 0, 8); /* index */
    cr_assert_eq(peer_codec_get_offer(&heap, bytes, len_bytes, FROM, TO, &out, &size_bytes),
                 MS_EPROTO);
    raft_message_release(&heap, &message);
}

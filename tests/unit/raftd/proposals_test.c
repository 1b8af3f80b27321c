/*
 * proposals: what happens to a batch that is not proposed; the rest is tested through the node.
 */
#include "raftd/proposals.h"

#include "tests/unit/raftd/answers_fixture.h"

#define COMMAND_BYTES 48

static bool refuse_memory;
static const struct raft_alloc alloc = {
    .alloc = answers_take, .free = answers_give, .ctx = &refuse_memory};

static int add(struct proposals *proposals, struct api_client_ref from, uint64_t seq,
               uint64_t deadline_ns, size_t len_bytes)
{
    const struct ms_propose propose = {.id = {.origin = 1, .seq = seq}, .deadline_ns = deadline_ns};
    uint8_t *command = malloc(len_bytes);
    int rc;

    cr_assert_not_null(command);
    memset(command, (int)seq, len_bytes);
    rc = proposals_add(proposals, from, &propose, command, len_bytes);
    free(command); /* the batch has its own copy */
    return rc;
}

static void expect(struct answers_fixture *f, uint64_t seq, enum ms_refusal reason)
{
    struct ms_ipc_message message;
    struct ms_propose_refused body;

    cr_assert(answers_next(f, &message));
    cr_assert_eq(message.type, MS_IPC_PROPOSE_REFUSED);
    memcpy(&body, message.body, sizeof(body));
    cr_assert_eq(body.id.seq, seq);
    cr_assert_eq(body.reason, (uint32_t)reason);
}

Test(proposals, those_past_their_deadline_are_refused_and_the_others_stay)
{
    static struct proposals proposals;
    struct answers_fixture f;
    const struct ms_instant now = {.ns = 100};

    answers_init(&f, 65536);
    proposals_init(&proposals, &alloc);
    cr_assert_eq(add(&proposals, f.ref, 1, 50, COMMAND_BYTES), MS_OK);
    cr_assert_eq(add(&proposals, f.ref, 2, 150, COMMAND_BYTES), MS_OK);
    cr_assert_eq(add(&proposals, f.ref, 3, 99, COMMAND_BYTES), MS_OK);
    cr_assert_eq(proposals_refuse(&proposals, now, false, MS_REFUSED_NO_LEADER, &f.clients), 2);
    expect(&f, 1, MS_REFUSED_NO_LEADER);
    expect(&f, 3, MS_REFUSED_NO_LEADER);
    cr_assert_eq(proposals.count, 1);
    cr_assert_eq(proposals.infos[0].id.seq, 2);
    cr_assert_eq(((const uint8_t *)proposals.entries[0].data)[COMMAND_BYTES - 1], 2);
    cr_assert_eq(proposals_refuse(&proposals, now, true, MS_REFUSED_BUSY, &f.clients), 1);
    expect(&f, 2, MS_REFUSED_BUSY);
    cr_assert(proposals_is_empty(&proposals));
    cr_assert_eq(proposals.batch_bytes, 0);
    proposals_fini(&proposals);
    answers_fini(&f);
}

Test(proposals, batch_is_bounded_by_count_and_by_bytes)
{
    static struct proposals proposals;
    const struct api_client_ref from = {0};
    uint64_t count = 0;

    proposals_init(&proposals, &alloc);
    while (!proposals_is_full(&proposals)) {
        cr_assert_eq(add(&proposals, from, ++count, 0, COMMAND_BYTES), MS_OK);
    }
    cr_assert_eq(count, PROPOSALS_BATCH_MAX);
    for (uint64_t i = 0; i < count; i++) {
        cr_assert_eq(((const uint8_t *)proposals.entries[i].data)[0], (uint8_t)(i + 1));
    }
    proposals_fini(&proposals);

    proposals_init(&proposals, &alloc);
    for (count = 0; !proposals_is_full(&proposals); count++) {
        cr_assert_eq(add(&proposals, from, count, 0, PROPOSALS_BATCH_BYTES / 4), MS_OK);
    }
    cr_assert_eq(count, 4);
    proposals_fini(&proposals);
}

Test(proposals, refused_memory_leaves_the_batch_as_it_was)
{
    static struct proposals proposals;
    const struct api_client_ref from = {0};

    proposals_init(&proposals, &alloc);
    refuse_memory = true;
    cr_assert_eq(add(&proposals, from, 1, 0, COMMAND_BYTES), MS_ENOMEM);
    cr_assert(proposals_is_empty(&proposals));
    refuse_memory = false;
    cr_assert_eq(add(&proposals, from, 1, 0, COMMAND_BYTES), MS_OK);
    proposals_fini(&proposals);
}

/*
 * read_queue: who is answered by which question; asking itself is tested through the node.
 */
#include "raftd/read_queue.h"

#include "tests/unit/raftd/answers_fixture.h"

static struct read_queue queue;

/* Adds a waiter; as if it had been asked for with the question seq (0: not yet). */
static void add(const struct answers_fixture *f, uint64_t request, uint64_t asked_seq)
{
    const struct ms_read_index body = {.request = request, .deadline_ns = 100 * request};

    read_queue_add(&queue, f->ref, &body);
    queue.waiters[queue.count - 1].asked_seq = asked_seq;
}

static void expect(struct answers_fixture *f, uint64_t request, raft_index index, uint32_t reason)
{
    struct ms_ipc_message message;
    struct ms_read_ready body;

    cr_assert(answers_next(f, &message));
    cr_assert_eq(message.type, MS_IPC_READ_READY);
    memcpy(&body, message.body, sizeof(body));
    cr_assert_eq(body.request, request);
    cr_assert_eq(body.index, index);
    cr_assert_eq(body.reason, reason);
}

/* Thesis 6.4: a later round confirms what an earlier one would have. */
Test(read_queue, later_answer_covers_earlier_questions)
{
    struct answers_fixture f;
    struct raft_read_state state = {.id = {.origin = 5, .seq = 2}, .index = 40};

    answers_init(&f, 65536);
    read_queue_init(&queue, 5);
    add(&f, 1, 1);
    add(&f, 2, 2);
    add(&f, 3, 3);
    add(&f, 4, 0);
    read_queue_answer(&queue, &state, &f.clients);
    expect(&f, 1, 40, 0);
    expect(&f, 2, 40, 0);
    cr_assert_eq(queue.count, 2);
    answers_fini(&f);
}

Test(read_queue, answer_to_another_incarnation_answers_nobody)
{
    struct answers_fixture f;
    struct raft_read_state state = {.id = {.origin = 4, .seq = 2}, .index = 40};

    answers_init(&f, 65536);
    read_queue_init(&queue, 5);
    add(&f, 1, 1);
    read_queue_answer(&queue, &state, &f.clients);
    cr_assert_eq(queue.count, 1);
    answers_fini(&f);
}

Test(read_queue, old_question_is_forgotten_when_asked_again)
{
    struct answers_fixture f;
    struct raft_read_state state = {.id = {.origin = 5, .seq = 1}, .index = 40};

    answers_init(&f, 65536);
    read_queue_init(&queue, 5);
    add(&f, 1, 1);
    read_queue_ask_again_after(&queue, (struct ms_instant){.ns = 1000000}, 10);
    cr_assert_eq(queue.waiters[0].asked_seq, 1, "too early");
    read_queue_ask_again_after(&queue, (struct ms_instant){.ns = 50000000}, 10);
    cr_assert_eq(queue.waiters[0].asked_seq, 0);
    read_queue_answer(&queue, &state, &f.clients);
    cr_assert_eq(queue.count, 1);
    answers_fini(&f);
}

Test(read_queue, deadline_refuses)
{
    struct answers_fixture f;

    answers_init(&f, 65536);
    read_queue_init(&queue, 5);
    add(&f, 1, 1);
    add(&f, 2, 0);
    read_queue_refuse(&queue, (struct ms_instant){.ns = 150}, false, &f.clients);
    expect(&f, 1, 0, MS_REFUSED_NO_LEADER);
    cr_assert_eq(queue.count, 1);
    read_queue_refuse(&queue, (struct ms_instant){.ns = 150}, true, &f.clients);
    expect(&f, 2, 0, MS_REFUSED_NO_LEADER);
    cr_assert_eq(queue.count, 0);
    answers_fini(&f);
}

Test(read_queue, is_bounded)
{
    struct answers_fixture f;

    answers_init(&f, 65536);
    read_queue_init(&queue, 5);
    for (uint64_t i = 0; i < READ_QUEUE_MAX; i++) {
        cr_assert_not(read_queue_is_full(&queue));
        add(&f, i, 0);
    }
    cr_assert(read_queue_is_full(&queue));
    answers_fini(&f);
}

/*
 * api_client: answers that wait for room, and answers that nobody waits for.
 */
#include "tests/unit/raftd/answers_fixture.h"

static void answer(struct answers_fixture *f, struct api_client_ref ref, uint64_t request)
{
    struct api_answer answer = {.type = MS_IPC_READ_READY};

    answer.body.ready.request = request;
    api_clients_answer(&f->clients, ref, &answer);
}

static uint64_t request_of(const struct ms_ipc_message *message)
{
    struct ms_read_ready ready;

    memcpy(&ready, message->body, sizeof(ready));
    return ready.request;
}

Test(api_client, answers_wait_in_order_for_room)
{
    struct answers_fixture f;
    struct ms_ipc_message message;
    uint64_t next = 0;

    answers_init(&f, MS_RING_CAPACITY_MIN);
    for (uint64_t i = 0; i < API_CLIENT_ANSWERS_MAX; i++) {
        answer(&f, f.ref, i);
    }
    cr_assert_eq(api_client_pump(&f.clients.slots[3]), MS_OK);
    cr_assert_not(api_client_may_read(&f.clients.slots[3]), "more was taken than can be answered");
    while (answers_next(&f, &message)) {
        cr_assert_eq(request_of(&message), next);
        next++;
    }
    cr_assert_eq(next, API_CLIENT_ANSWERS_MAX);
    cr_assert(api_client_may_read(&f.clients.slots[3]));
    answers_fini(&f);
}

Test(api_client, answer_to_an_earlier_incarnation_is_dropped)
{
    struct answers_fixture f;
    struct ms_ipc_message message;
    struct api_client_ref earlier = {.instance = 3, .generation = 7};
    struct api_client_ref absent = {.instance = 4, .generation = 8};

    answers_init(&f, MS_RING_CAPACITY_MIN);
    answer(&f, earlier, 1);
    answer(&f, absent, 2);
    answer(&f, f.ref, 3);
    cr_assert(answers_next(&f, &message));
    cr_assert_eq(request_of(&message), 3);
    cr_assert_not(answers_next(&f, &message));
    answers_fini(&f);
}

Test(api_client, answers_about_the_membership_carry_their_reason)
{
    struct answers_fixture f;
    struct ms_ipc_message message;
    struct ms_member_answer head = {.request = 4, .code = MS_MEMBER_CONFLICT};
    char longest[2 * MS_MEMBER_TEXT_BYTES];

    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    answers_init(&f, MS_RING_CAPACITY_MIN);
    api_clients_answer_member(&f.clients, f.ref, &head, "it exists");
    head.request = 5;
    api_clients_answer_member(&f.clients, f.ref, &head, longest);
    cr_assert_not(api_client_may_read(&f.clients.slots[3]));
    cr_assert(answers_next(&f, &message));
    cr_assert_eq(message.type, MS_IPC_MEMBER_ANSWER);
    memcpy(&head, message.body, sizeof(head));
    cr_assert_eq(head.request, 4);
    cr_assert_eq(head.code, MS_MEMBER_CONFLICT);
    cr_assert_eq(message.tail_bytes, strlen("it exists"));
    cr_assert_arr_eq(message.tail, "it exists", message.tail_bytes);
    cr_assert(answers_next(&f, &message));
    cr_assert_eq(message.tail_bytes, MS_MEMBER_TEXT_BYTES - 1);
    cr_assert(api_client_may_read(&f.clients.slots[3]));
    answers_fini(&f);
}

Test(api_client, lost_proposals_are_said_once)
{
    struct answers_fixture f;
    struct ms_ipc_message message;
    struct ms_proposals_lost body;

    answers_init(&f, MS_RING_CAPACITY_MIN);
    api_clients_proposals_lost(&f.clients, 4);
    api_clients_proposals_lost(&f.clients, 5);
    cr_assert(answers_next(&f, &message));
    cr_assert_eq(message.type, MS_IPC_PROPOSALS_LOST);
    memcpy(&body, message.body, sizeof(body));
    cr_assert_eq(body.term, 5);
    cr_assert_not(answers_next(&f, &message));
    answers_fini(&f);
}

/*
 * member_note: requests and answers as other nodes send them, and what is refused.
 */
#include "raftd/member_note.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/err.h"

static struct member_ask sample_ask(void)
{
    return (struct member_ask){
        .id = {.origin = 3, .seq = 4},
        .attempt = 2,
        .term = 9,
        .wish = {.operation = MS_MEMBER_ADD_LEARNER, .id = 5, .peer_url = "http://127.0.0.1:9025"}};
}

static struct member_reply sample_reply(void)
{
    return (struct member_reply){.id = {.origin = 3, .seq = 4},
                                 .attempt = 2,
                                 .code = MS_MEMBER_NOT_READY,
                                 .index = 17,
                                 .text = "learner 5 has not caught up"};
}

Test(member_note, request_comes_back_as_it_was)
{
    const struct member_ask ask = sample_ask();
    uint8_t bytes[MEMBER_NOTE_BYTES_MAX];
    struct member_ask back;

    cr_assert_eq(member_note_get_ask(bytes, member_note_put_ask(&ask, bytes), &back), MS_OK);
    cr_assert_eq(back.wish.operation, ask.wish.operation);
    cr_assert_eq(back.wish.id, ask.wish.id);
    cr_assert_str_eq(back.wish.peer_url, ask.wish.peer_url);
    cr_assert_eq(back.id.origin, ask.id.origin);
    cr_assert_eq(back.id.seq, ask.id.seq);
    cr_assert_eq(back.attempt, ask.attempt);
    cr_assert_eq(back.term, ask.term);
}

Test(member_note, answer_comes_back_as_it_was)
{
    const struct member_reply reply = sample_reply();
    uint8_t bytes[MEMBER_NOTE_BYTES_MAX];
    struct member_reply back;

    cr_assert_eq(member_note_get_reply(bytes, member_note_put_reply(&reply, bytes), &back), MS_OK);
    cr_assert_eq(back.code, reply.code);
    cr_assert_eq(back.index, reply.index);
    cr_assert_eq(back.attempt, reply.attempt);
    cr_assert_str_eq(back.text, reply.text);
}

Test(member_note, every_cut_and_every_addition_is_refused)
{
    const struct member_ask ask = sample_ask();
    const struct member_reply reply = sample_reply();
    uint8_t bytes[MEMBER_NOTE_BYTES_MAX + 1] = {0};
    size_t len = member_note_put_ask(&ask, bytes);
    struct member_ask ask_back;
    struct member_reply reply_back;

    for (size_t cut = 0; cut < len; cut++) {
        cr_assert_eq(member_note_get_ask(bytes, cut, &ask_back), MS_EPROTO);
    }
    cr_assert_eq(member_note_get_ask(bytes, len + 1, &ask_back), MS_EPROTO);
    memset(bytes, 0, sizeof(bytes));
    len = member_note_put_reply(&reply, bytes);
    for (size_t cut = 0; cut < len; cut++) {
        cr_assert_eq(member_note_get_reply(bytes, cut, &reply_back), MS_EPROTO);
    }
    cr_assert_eq(member_note_get_reply(bytes, len + 1, &reply_back), MS_EPROTO);
}

Test(member_note, unknown_numbers_formats_and_bytes_are_refused)
{
    static const struct {
        size_t at;
        uint8_t value;
    } faults[] = {{0, 2}, {1, 0}, {1, 7}, {3, 1}, {45, ' '}, {45, '\n'}};
    static const struct {
        size_t at;
        uint8_t value;
    } reply_faults[] = {{0, 0}, {1, 8}, {3, 1}, {33, '\r'}, {33, 0xff}};
    uint8_t bytes[MEMBER_NOTE_BYTES_MAX];

    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        const struct member_ask ask = sample_ask();
        size_t len = member_note_put_ask(&ask, bytes);
        struct member_ask back;

        bytes[faults[i].at] = faults[i].value;
        cr_assert_eq(member_note_get_ask(bytes, len, &back), MS_EPROTO, "fault %zu", i);
    }
    for (size_t i = 0; i < sizeof(reply_faults) / sizeof(reply_faults[0]); i++) {
        const struct member_reply reply = sample_reply();
        size_t len = member_note_put_reply(&reply, bytes);
        struct member_reply back;

        bytes[reply_faults[i].at] = reply_faults[i].value;
        cr_assert_eq(member_note_get_reply(bytes, len, &back), MS_EPROTO, "fault %zu", i);
    }
}

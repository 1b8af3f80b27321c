/*
 * answer: errors as the client sees them.
 */
#include "apid/answer.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/member_request.h"

Test(answer, errors_have_constant_json)
{
    struct answer answer = answer_error(API_ERROR_KEY_TOO_LONG);
    const char *body = "{\"error\":\"the key is longer than 8192 bytes\",\"code\":414}\n";

    cr_assert_eq(answer.status, 414);
    cr_assert_eq(answer.body_bytes, strlen(body));
    cr_assert_arr_eq(answer.body, body, strlen(body));
    cr_assert_str_eq(answer_error(API_ERROR_KEY_METHOD).allow, "GET, HEAD, PUT, DELETE");
    cr_assert_str_eq(answer_error(API_ERROR_PAGE_METHOD).allow, "GET, HEAD");
    cr_assert(answer_error(API_ERROR_NO_LEADER).retry_after);
    cr_assert_not(answer_error(API_ERROR_WRITE_TIMEOUT).retry_after);
}

static void expect_words(int status, const char *text, const char *body)
{
    char room[256];
    struct answer answer = answer_in_words(status, text, strlen(text), room, sizeof(room));

    cr_assert_eq(answer.status, status);
    cr_assert_eq(answer.retry_after, status == 503);
    cr_assert_eq(answer.body_bytes, strlen(body), "%.*s", (int)answer.body_bytes, room);
    cr_assert_arr_eq(answer.body, body, strlen(body));
}

/* The text may come from another node. */
Test(answer, words_of_others_become_json_whatever_they_hold)
{
    char worst[40];
    char room[ANSWER_WORDS_BYTES(sizeof(worst))];

    expect_words(404, "there is no member 7",
                 "{\"error\":\"there is no member 7\",\"code\":404}\n");
    expect_words(503, "", "{\"error\":\"Service Unavailable\",\"code\":503}\n");
    expect_words(409, "a\"b\\c\n\x7f\xc3", "{\"error\":\"a\\\"b\\\\c???\",\"code\":409}\n");
    memset(worst, '"', sizeof(worst));
    cr_assert_leq(answer_in_words(409, worst, sizeof(worst), room, sizeof(room)).body_bytes,
                  sizeof(room));
}

Test(answer, every_error_has_a_reason_phrase)
{
#define CHECK_REASON(name, status, text_) \
    cr_assert_str_neq(answer_reason(status), "Unknown", "%d has no phrase", status);
    API_ERROR_LIST(CHECK_REASON)
#undef CHECK_REASON
#define CHECK_CODE(name, number, status) \
    cr_assert_str_neq(answer_reason(status), "Unknown", "%d has no phrase", status);
    MS_MEMBER_CODE_LIST(CHECK_CODE)
#undef CHECK_CODE
}

Test(answer, errors_made_by_others_keep_their_status)
{
    static const int statuses[] = {400, 404, 413, 417, 431, 503};

    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        cr_assert_eq(answer_error(answer_error_of_status(statuses[i])).status, statuses[i]);
    }
    cr_assert_eq(answer_error_of_status(502), API_ERROR_INTERNAL);
}

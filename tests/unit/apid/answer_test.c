/*
 * answer: errors as the client sees them.
 */
#include "apid/answer.h"

#include <criterion/criterion.h>
#include <string.h>

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

Test(answer, every_error_has_a_reason_phrase)
{
#define CHECK_REASON(name, status, text_) \
    cr_assert_str_neq(answer_reason(status), "Unknown", "%d has no phrase", status);
    API_ERROR_LIST(CHECK_REASON)
#undef CHECK_REASON
}

Test(answer, errors_made_by_others_keep_their_status)
{
    static const int statuses[] = {400, 404, 413, 417, 431, 503};

    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        cr_assert_eq(answer_error(answer_error_of_status(statuses[i])).status, statuses[i]);
    }
    cr_assert_eq(answer_error_of_status(502), API_ERROR_INTERNAL);
}

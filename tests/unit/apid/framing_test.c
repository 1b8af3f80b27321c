/*
 * framing: requests whose end or addressee could be read in two ways.
 */
#include "apid/framing.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(text, is_http_1_1) framing_check((text), strlen(text), (is_http_1_1))

Test(framing, usual_requests_are_sound)
{
    cr_assert_eq(CHECK("GET /k HTTP/1.1\r\nHost: h\r\n\r\n", true), FRAMING_SOUND);
    cr_assert_eq(CHECK("GET /k HTTP/1.1\nhost:\n\n", true), FRAMING_SOUND);
    cr_assert_eq(CHECK("\r\nGET /k HTTP/1.1\r\nHOST: h\r\n\r\n", true), FRAMING_SOUND);
    cr_assert_eq(CHECK("GET /k HTTP/1.0\r\n\r\n", false), FRAMING_SOUND);
    cr_assert_eq(CHECK("PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", true),
                 FRAMING_SOUND);
    cr_assert_eq(
        CHECK("PUT /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true),
        FRAMING_SOUND);
    cr_assert_eq(CHECK("PUT /k HTTP/1.1\r\nHost: h\r\nContent-Lengthy: 3\r\nContent-Length-: 3\r\n"
                       "Hostess: x\r\nContent-Length: 3\r\n\r\n",
                       true),
                 FRAMING_SOUND);
}

Test(framing, what_follows_the_head_does_not_count)
{
    cr_assert_eq(CHECK("PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n"
                       "Host: h\r\nContent-Length: 4\r\n",
                       true),
                 FRAMING_SOUND);
}

Test(framing, a_length_is_told_once)
{
    static const char *const heads[] = {
        "PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\ncontent-length: 3\r\n\r\n",
        "PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "PUT /k HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nHost: h\r\nContent-Length: 3\r\n\r\n",
        "PUT /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        "\nPUT /k HTTP/1.1\nHost: h\nContent-Length:3\nContent-Length:3\n\n",
    };

    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        cr_assert_eq(CHECK(heads[i], true), FRAMING_LENGTH, "%s", heads[i]);
    }
    cr_assert_eq(CHECK("PUT /k HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", false),
                 FRAMING_LENGTH);
}

Test(framing, a_host_is_told_once)
{
    cr_assert_eq(CHECK("GET /k HTTP/1.1\r\n\r\n", true), FRAMING_HOST);
    cr_assert_eq(CHECK("GET /k HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", true), FRAMING_HOST);
    cr_assert_eq(CHECK("GET /k HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n", false), FRAMING_HOST);
    cr_assert_eq(CHECK("GET /k HTTP/1.1\r\n\r\nHost: in-the-body\r\n", true), FRAMING_HOST);
}

/* h2o has parsed the head before; here no byte past its end may be touched all the same. */
Test(framing, a_cut_head_is_read_to_its_end_only)
{
    static const char head[] = "PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n";

    for (size_t cut = 0; cut < sizeof(head); cut++) {
        char *copy = malloc(cut > 0 ? cut : 1);

        cr_assert_not_null(copy);
        memcpy(copy, head, cut);
        (void)framing_check(copy, cut, true);
        free(copy);
    }
}

/*
 * decimal: what is a number, and what only looks like one.
 */
#include "common/decimal.h"

#include <criterion/criterion.h>
#include <string.h>

Test(decimal, digits_are_a_number)
{
    static const struct {
        const char *text;
        uint64_t value;
    } rows[] = {{"0", 0},
                {"7", 7},
                {"0012", 12},
                {"18446744073709551615", UINT64_MAX},
                {"00000000000000000000000001", 1}};
    uint64_t value;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cr_assert(ms_decimal_parse(rows[i].text, strlen(rows[i].text), &value), "%s", rows[i].text);
        cr_assert_eq(value, rows[i].value);
    }
    cr_assert(ms_decimal_parse("123", 2, &value));
    cr_assert_eq(value, 12, "only so many bytes count");
}

Test(decimal, anything_else_is_none_and_changes_nothing)
{
    static const char *const bad[] = {"",    "+1",  "-1",
                                      " 1",  "1 ",  "1a",
                                      "0x1", "1.0", "18446744073709551616",
                                      "/",   ":",   "99999999999999999999999"};
    uint64_t value = 42;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_not(ms_decimal_parse(bad[i], strlen(bad[i]), &value), "\"%s\"", bad[i]);
    }
    cr_assert_eq(value, 42);
}

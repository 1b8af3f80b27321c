/*
 * err: what a failing call leaves behind for whoever logs it.
 */
#include "common/err.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

Test(err, set_returns_the_status_it_was_given)
{
    struct ms_err err;

    cr_assert_eq(ms_err_set(&err, MS_ENOSPC, 0, "no room for %d", 7), MS_ENOSPC);
    cr_assert_eq(err.status, MS_ENOSPC);
    cr_assert_eq(err.sys_errno, 0);
    cr_assert_str_eq(err.text, "no room for 7");
}

Test(err, set_without_a_struct_only_returns)
{
    cr_assert_eq(ms_err_set(NULL, MS_EIO, EIO, "nobody listens"), MS_EIO);
}

Test(err, set_appends_what_the_kernel_said)
{
    struct ms_err err;

    (void)ms_err_set(&err, MS_EIO, ENOENT, "open %s", "x");
    cr_assert_eq(err.sys_errno, ENOENT);
    cr_assert_str_eq(err.text, "open x: No such file or directory");
}

Test(err, set_names_an_errno_without_a_text_by_number)
{
    struct ms_err err;

    (void)ms_err_set(&err, MS_EIO, 99999, "strange");
    cr_assert_str_eq(err.text, "strange: errno 99999");
}

Test(err, set_cuts_a_text_that_is_too_long)
{
    struct ms_err err;
    char text[2 * MS_ERR_TEXT_BYTES];

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    (void)ms_err_set(&err, MS_EIO, EIO, "%s", text);
    cr_assert_eq(strlen(err.text), sizeof(err.text) - 1);
}

Test(err, every_status_has_a_number_and_a_text)
{
#define CHECK(name, number, text)        \
    cr_assert_eq((int)(name), (number)); \
    cr_assert_str_eq(ms_status_text(name), (text));
    MS_STATUS_LIST(CHECK)
#undef CHECK
}

Test(err, other_numbers_are_unknown)
{
    cr_assert_str_eq(ms_status_text(1), "unknown status");
    cr_assert_str_eq(ms_status_text(-1000), "unknown status");
}

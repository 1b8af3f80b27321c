/*
 * roles: names that ps, logs and the admin socket share.
 */
#include "common/roles.h"

#include <criterion/criterion.h>

#include "common/ipc_catalogue.h"

Test(roles, every_process_has_its_name)
{
    cr_assert_str_eq(ms_role_name(MS_ROLE_SUPERVISOR), "metastore");
    cr_assert_str_eq(ms_role_name(MS_ROLE_RAFTD), "raftd");
    cr_assert_str_eq(ms_role_name(MS_ROLE_STORAGED), "storaged");
    cr_assert_str_eq(ms_role_name(MS_ROLE_APID), "apid");
    cr_assert_str_eq(ms_role_name((enum ms_role)99), "unknown");
}

/*
 * roles: the names of the processes, as ps, the log and the admin socket show them.
 */
#include "common/roles.h"

#include "common/ipc_catalogue.h"

const char *ms_role_name(enum ms_role role)
{
    switch (role) {
    case MS_ROLE_SUPERVISOR:
        return "metastore";
    case MS_ROLE_RAFTD:
        return "raftd";
    case MS_ROLE_STORAGED:
        return "storaged";
    case MS_ROLE_APID:
        return "apid";
    }
    return "unknown";
}

/*
 * main: the role storaged, log and state machine. Started by the supervisor; see process.c for what
 * it does.
 */
#include "common/exit_codes.h"
#include "common/log.h"
#include "common/roles.h"
#include "common/worker.h"
#include "storaged/process.h"

int storaged_main(void)
{
    struct ms_worker *worker = NULL;
    struct ms_err err;
    int exit_status;
    int rc = ms_worker_create(MS_ROLE_STORAGED, &worker, &err);

    if (rc != MS_OK) {
        ms_log_err(MS_LOG_ERROR, "cannot start", &err);
        return rc == MS_EPEER ? MS_EXIT_ORPHANED : MS_EXIT_INTERNAL;
    }
    exit_status = storaged_process_run(worker);
    ms_worker_destroy(worker);
    return exit_status;
}

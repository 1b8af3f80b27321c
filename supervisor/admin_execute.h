/*
 * admin_execute: carries out one admin command line and gives the answer.
 *
 * What a command does to the node comes in as functions, so that this room needs no event loop and
 * tests and fuzzers can drive it alone.
 */
#ifndef METASTORE_SUPERVISOR_ADMIN_EXECUTE_H
#define METASTORE_SUPERVISOR_ADMIN_EXECUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/log.h"
#include "supervisor/admin_member.h"
#include "supervisor/admin_status.h"

struct admin_actions {
    void (*snapshot)(void *ctx, struct admin_snapshot *out);
    /* MS_ENOENT: no such worker; MS_EBUSY: the node stops. */
    int (*restart)(void *ctx, const char *worker, struct ms_err *err);
    void (*set_log_level)(void *ctx, enum ms_log_level level);
    void (*stop)(void *ctx);
    /*
     * Begins a reload; how it went comes later, or even before this returns. An error: it did not
     * begin, err says why. Not called by admin_execute.
     */
    int (*reload)(void *ctx, struct ms_err *err);
    /*
     * Sends request on to raftd and sets its deadline; the answer comes later. MS_EBUSY,
     * MS_EUNAVAILABLE: nothing was sent, err says why. Not called by admin_execute.
     */
    int (*ask_member)(void *ctx, struct ms_control_member_request *request, struct ms_err *err);
};

/*
 * Carries out one line (modified).
 *
 *   MS_OK      *answer, ending in an empty line, is heap memory that the caller frees.
 *   MS_EAGAIN  it takes longer: *wish says what. admin_member_answer or admin_execute_reloaded
 *              makes the answer of the outcome.
 *   MS_ENOMEM  there is no memory for an answer.
 */
int admin_execute(char *line, size_t len_bytes, const struct admin_actions *actions, void *ctx,
                  char **answer, struct admin_wish *wish);

/*
 * The answer "error: TEXT" in the same form, with what is not printable replaced. This and the
 * answer below are heap memory; NULL when there is none.
 */
char *admin_execute_error(const char *text);

/* The answer to a reload: refused is what was not taken over (NULL: nothing), then remarks. */
char *admin_execute_reloaded(bool json, const char *refused, const char *remarks);

#endif

/*
 * admin_execute: carries out one admin command line and gives the answer.
 *
 * What a command does to the node comes in as functions, so that this room needs no event loop and
 * tests and fuzzers can drive it alone.
 */
#ifndef METASTORE_SUPERVISOR_ADMIN_EXECUTE_H
#define METASTORE_SUPERVISOR_ADMIN_EXECUTE_H

#include <stddef.h>

#include "common/err.h"
#include "common/log.h"
#include "supervisor/admin_status.h"

#define ADMIN_NOTE_BYTES 256

struct admin_actions {
    void (*snapshot)(void *ctx, struct admin_snapshot *out);
    /* MS_ENOENT: no such worker; MS_EBUSY: the node stops. */
    int (*restart)(void *ctx, const char *worker, struct ms_err *err);
    void (*set_log_level)(void *ctx, enum ms_log_level level);
    /* note: a remark for the client, may stay empty. */
    int (*reload)(void *ctx, char note[ADMIN_NOTE_BYTES], struct ms_err *err);
    void (*stop)(void *ctx);
};

/*
 * The answer to one line (modified), ending in an empty line: heap memory, the caller frees it.
 * NULL when there is no memory for one.
 */
char *admin_execute(char *line, size_t len_bytes, const struct admin_actions *actions, void *ctx);

/* The answer "error: TEXT" in the same form. */
char *admin_execute_error(const char *text);

#endif

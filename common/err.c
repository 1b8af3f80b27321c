/*
 * err: status texts, and the one place that formats an error. It decides nothing and logs nothing.
 */
#include "common/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int ms_err_set(struct ms_err *err, int status, int sys_errno, const char *format, ...)
{
    const char *cause;
    va_list args;
    size_t used_bytes;
    int written;

    if (err == NULL) {
        return status;
    }
    err->status = status;
    err->sys_errno = sys_errno;
    va_start(args, format);
    written = vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    if (written < 0) {
        err->text[0] = '\0';
    }
    if (sys_errno == 0) {
        return status;
    }
    used_bytes = strlen(err->text);
    /* Not strerror: its buffer is shared by the threads of a process. */
    cause = strerrordesc_np(sys_errno);
    if (cause != NULL) {
        (void)snprintf(err->text + used_bytes, sizeof(err->text) - used_bytes, ": %s", cause);
    } else {
        (void)snprintf(err->text + used_bytes, sizeof(err->text) - used_bytes, ": errno %d",
                       sys_errno);
    }
    return status;
}

const char *ms_status_text(int status)
{
    switch (status) {
#define STATUS_CASE(name, number, text) \
    case number:                        \
        return text;
        MS_STATUS_LIST(STATUS_CASE)
#undef STATUS_CASE
    }
    return "unknown status";
}

/*
 * err: the status codes every fallible function returns, and the text that goes with them.
 *
 * A status says what kind of failure it was; struct ms_err adds the object, the numbers and
 * the errno for whoever logs it. Callees fill it, the one who decides logs it.
 */
#ifndef METASTORE_COMMON_ERR_H
#define METASTORE_COMMON_ERR_H

#include <stddef.h>

/* X(name, number, text). Numbers are stable: they travel between processes. */
#define MS_STATUS_LIST(X)                   \
    X(MS_OK, 0, "ok")                       \
    X(MS_EAGAIN, -1, "try again")           \
    X(MS_ERANGE, -2, "does not fit")        \
    X(MS_ECORRUPT, -3, "corrupt")           \
    X(MS_EINVAL, -4, "invalid argument")    \
    X(MS_ENOMEM, -5, "out of memory")       \
    X(MS_EIO, -6, "input/output error")     \
    X(MS_ENOSPC, -7, "no space left")       \
    X(MS_ENOENT, -8, "not found")           \
    X(MS_EEXIST, -9, "exists already")      \
    X(MS_EBUSY, -10, "in use")              \
    X(MS_ECOMPACTED, -11, "compacted")      \
    X(MS_EUNAVAILABLE, -12, "unavailable")  \
    X(MS_EPROTO, -13, "protocol violation") \
    X(MS_EPEER, -14, "peer is gone")        \
    X(MS_ETIMEDOUT, -15, "timed out")       \
    X(MS_EUSAGE, -16, "wrong usage")        \
    X(MS_EDROPPED, -17, "proposal dropped") \
    X(MS_EPERM, -18, "not permitted")       \
    X(MS_EFULL, -19, "limit reached")

enum ms_status {
#define MS_STATUS_ENUM(name, number, text) name = (number),
    MS_STATUS_LIST(MS_STATUS_ENUM)
#undef MS_STATUS_ENUM
};

#define MS_ERR_TEXT_BYTES 512

struct ms_err {
    int status;    /* enum ms_status */
    int sys_errno; /* 0 when no system call was the cause */
    char text[MS_ERR_TEXT_BYTES];
};

/*
 * Fills *err (may be NULL) and returns status, so that a failing path is one statement.
 * sys_errno of 0 means that no system call failed; otherwise its strerror is appended.
 */
int ms_err_set(struct ms_err *err, int status, int sys_errno, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The fixed text of a status; "unknown status" for any other number. Never NULL. */
const char *ms_status_text(int status);

#endif

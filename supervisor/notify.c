/*
 * notify: see notify.h.
 */
#include "supervisor/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/clock.h"

#define STATUS_BYTES     256
#define NEEDED_TIMEOUT_S 1

/* How much a message matters. */
enum urgency {
    DISPENSABLE, /* not waited for */
    NEEDED,      /* worth a moment of waiting */
};

/*
 * Like sd_notify(), which would block for as long as the service manager does not read: a
 * supervisor that hangs on its own supervisor would take the node with it.
 */
static int tell(const char *state, enum urgency urgency, struct ms_err *err)
{
    const struct timeval timeout = {.tv_sec = NEEDED_TIMEOUT_S};
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t path_bytes;
    int rc = MS_OK;
    int fd;

    if (path == NULL || path[0] == '\0') {
        return MS_OK;
    }
    path_bytes = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || path_bytes >= sizeof(address.sun_path)) {
        return ms_err_set(err, MS_EINVAL, 0, "NOTIFY_SOCKET %s is not supported", path);
    }
    memcpy(address.sun_path, path, path_bytes + 1);
    if (path[0] == '@') { /* an abstract name */
        address.sun_path[0] = '\0';
    } else {
        path_bytes++; /* with its end */
    }
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0 ||
        sendto(fd, state, strlen(state), MSG_NOSIGNAL | (urgency == NEEDED ? 0 : MSG_DONTWAIT),
               (const struct sockaddr *)&address,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_bytes)) < 0) {
        rc = ms_err_set(err, errno == EAGAIN ? MS_EAGAIN : MS_EIO, errno, "tell %s \"%s\"", path,
                        state);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

int notify_ready(struct ms_err *err)
{
    return tell("READY=1", NEEDED, err);
}

int notify_reloading(struct ms_err *err)
{
    char state[96];

    /* The time stamp lets systemd tell this reload from a READY that was sent earlier. */
    (void)snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
                   ms_clock_now().ns / 1000);
    return tell(state, NEEDED, err);
}

int notify_stopping(struct ms_err *err)
{
    return tell("STOPPING=1", NEEDED, err);
}

int notify_watchdog(struct ms_err *err)
{
    return tell("WATCHDOG=1", DISPENSABLE, err);
}

int notify_status(struct ms_err *err, const char *format, ...)
{
    char text[STATUS_BYTES];
    char state[STATUS_BYTES + 8];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)snprintf(state, sizeof(state), "STATUS=%s", text);
    return tell(state, DISPENSABLE, err);
}

uint64_t notify_watchdog_interval_ms(void)
{
    uint64_t timeout_us = 0;

    if (sd_watchdog_enabled(0, &timeout_us) <= 0) {
        return 0;
    }
    return timeout_us / 2000 > 0 ? timeout_us / 2000 : 1;
}

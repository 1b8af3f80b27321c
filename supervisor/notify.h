/*
 * notify: what the service manager is told (sd_notify). Without NOTIFY_SOCKET all of it does
 * nothing.
 */
#ifndef METASTORE_SUPERVISOR_NOTIFY_H
#define METASTORE_SUPERVISOR_NOTIFY_H

#include <stdint.h>

#include "common/err.h"

/*
 * Each returns MS_OK, also when nobody listens; MS_EAGAIN when the service manager does not read;
 * or MS_EIO or MS_EINVAL when it cannot be reached.
 */
int notify_ready(struct ms_err *err);
int notify_reloading(struct ms_err *err);
int notify_stopping(struct ms_err *err);
int notify_watchdog(struct ms_err *err);

/* One line that a human reads in `systemctl status`. Never waits, like notify_watchdog. */
int notify_status(struct ms_err *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* How often notify_watchdog is due, half of what the service manager waits; 0: never. */
uint64_t notify_watchdog_interval_ms(void);

#endif

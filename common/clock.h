/*
 * clock: the only place that asks the kernel for the time.
 */
#ifndef METASTORE_COMMON_CLOCK_H
#define METASTORE_COMMON_CLOCK_H

#include <stdint.h>

#include "common/types.h"

#define MS_CLOCK_NS_PER_MS UINT64_C(1000000)

/* CLOCK_MONOTONIC now. Comparable between the processes of one machine within one boot. */
struct ms_instant ms_clock_now(void);

/* CLOCK_REALTIME in milliseconds since the epoch, for log lines and files only. */
uint64_t ms_clock_wall_ms(void);

/* later - earlier; 0 if later is not later. */
uint64_t ms_clock_elapsed_ns(struct ms_instant earlier, struct ms_instant later);
uint64_t ms_clock_elapsed_ms(struct ms_instant earlier, struct ms_instant later);

struct ms_instant ms_clock_add_ms(struct ms_instant at, uint64_t delay_ms);

#endif

/*
 * clock: the kernel's clocks as plain numbers. No caching, no time zones.
 */
#include "common/clock.h"

#include <assert.h>
#include <time.h>

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define MS_PER_S  UINT64_C(1000)

/* Neither clock can fail on Linux: both ids exist and the address is ours. */
static struct timespec read_clock(clockid_t id)
{
    struct timespec now;
    int rc = clock_gettime(id, &now);

    assert(rc == 0);
    (void)rc;
    return now;
}

struct ms_instant ms_clock_now(void)
{
    struct timespec now = read_clock(CLOCK_MONOTONIC);

    return (struct ms_instant){(uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec};
}

uint64_t ms_clock_wall_ms(void)
{
    struct timespec now = read_clock(CLOCK_REALTIME);

    return (uint64_t)now.tv_sec * MS_PER_S + (uint64_t)now.tv_nsec / NS_PER_MS;
}

uint64_t ms_clock_elapsed_ns(struct ms_instant earlier, struct ms_instant later)
{
    return later.ns > earlier.ns ? later.ns - earlier.ns : 0;
}

uint64_t ms_clock_elapsed_ms(struct ms_instant earlier, struct ms_instant later)
{
    return ms_clock_elapsed_ns(earlier, later) / NS_PER_MS;
}

struct ms_instant ms_clock_add_ms(struct ms_instant at, uint64_t delay_ms)
{
    uint64_t room_ns = UINT64_MAX - at.ns;

    /* A delay beyond the end of time means "never", not "long ago". */
    if (delay_ms > room_ns / NS_PER_MS) {
        return (struct ms_instant){UINT64_MAX};
    }
    return (struct ms_instant){at.ns + delay_ms * NS_PER_MS};
}

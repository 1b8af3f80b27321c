/*
 * recovery_times: how long after a worker was killed the next request was answered.
 */
#ifndef METASTORE_TESTS_CRASH_RECOVERY_TIMES_H
#define METASTORE_TESTS_CRASH_RECOVERY_TIMES_H

#include <stddef.h>
#include <stdint.h>

enum victim {
    VICTIM_RAFTD,
    VICTIM_STORAGED,
    VICTIM_APID,
    VICTIM_COUNT,
};

/* The process name of a victim. */
const char *victim_name(enum victim victim);

/* The killer, right before the signal. A kill before the last one was answered counts with it. */
void recovery_times_killed(enum victim victim, uint64_t now_ns);

/* The killer, right before it stops a worker: what waits for an answer now would measure that. */
void recovery_times_forget(void);

/*
 * Any writer, for each answer. Only a request sent after the kill says something: an older one may
 * have been decided before.
 */
void recovery_times_answered(uint64_t sent_ns, uint64_t answered_ns);

/* In milliseconds; 0 when nothing was measured. */
double recovery_times_median(enum victim victim);
double recovery_times_max(enum victim victim);
size_t recovery_times_count(enum victim victim);

#endif

/*
 * recovery_times: samples of kill-to-answer times, from several threads.
 */
#include "tests/crash/recovery_times.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    SAMPLES_MAX = 4096
};

struct series {
    uint64_t killed_ns; /* 0: nobody waits for an answer */
    size_t count;
    double samples_ms[SAMPLES_MAX];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct series all[VICTIM_COUNT];

const char *victim_name(enum victim victim)
{
    static const char *const names[] = {"raftd", "storaged", "apid"};

    return names[victim];
}

void recovery_times_killed(enum victim victim, uint64_t now_ns)
{
    (void)pthread_mutex_lock(&lock);
    if (all[victim].killed_ns == 0) {
        all[victim].killed_ns = now_ns;
    }
    (void)pthread_mutex_unlock(&lock);
}

void recovery_times_forget(void)
{
    (void)pthread_mutex_lock(&lock);
    for (int i = 0; i < VICTIM_COUNT; i++) {
        all[i].killed_ns = 0;
    }
    (void)pthread_mutex_unlock(&lock);
}

void recovery_times_answered(uint64_t sent_ns, uint64_t answered_ns)
{
    (void)pthread_mutex_lock(&lock);
    for (int i = 0; i < VICTIM_COUNT; i++) {
        struct series *series = &all[i];

        if (series->killed_ns != 0 && sent_ns > series->killed_ns) {
            if (series->count < SAMPLES_MAX) {
                series->samples_ms[series->count++] =
                    (double)(answered_ns - series->killed_ns) / 1e6;
            }
            series->killed_ns = 0;
        }
    }
    (void)pthread_mutex_unlock(&lock);
}

static int compare_samples(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;

    return (a > b) - (a < b);
}

static double nth(enum victim victim, double fraction)
{
    struct series *series = &all[victim];
    double value = 0;

    (void)pthread_mutex_lock(&lock);
    if (series->count > 0) {
        qsort(series->samples_ms, series->count, sizeof(double), compare_samples);
        value = series->samples_ms[(size_t)((double)(series->count - 1) * fraction)];
    }
    (void)pthread_mutex_unlock(&lock);
    return value;
}

double recovery_times_median(enum victim victim)
{
    return nth(victim, 0.5);
}

double recovery_times_max(enum victim victim)
{
    return nth(victim, 1);
}

size_t recovery_times_count(enum victim victim)
{
    return all[victim].count;
}

/*
 * liveness: see liveness.h.
 */
#include "supervisor/liveness.h"

#include <assert.h>

#include "common/clock.h"

void liveness_reset(struct liveness *liveness)
{
    *liveness = (struct liveness){0};
}

bool liveness_wants_ping(const struct liveness *liveness)
{
    return !liveness->waiting;
}

uint64_t liveness_sent(struct liveness *liveness, struct ms_instant now)
{
    assert(!liveness->waiting);
    liveness->waiting = true;
    liveness->sent_at = now;
    return ++liveness->seq;
}

void liveness_answered(struct liveness *liveness, uint64_t seq)
{
    if (seq == liveness->seq) {
        liveness->waiting = false;
    }
}

uint64_t liveness_silence_ms(const struct liveness *liveness, struct ms_instant now)
{
    return liveness->waiting ? ms_clock_elapsed_ms(liveness->sent_at, now) : 0;
}

void liveness_forgive(struct liveness *liveness, struct ms_instant now)
{
    if (liveness->waiting) {
        liveness->sent_at = now;
    }
}

/*
 * liveness: does a worker still answer?
 *
 * Book-keeping of pings, without a clock or a socket of its own. At most one ping is under way, so
 * its age is the time for which the worker has been silent.
 */
#ifndef METASTORE_SUPERVISOR_LIVENESS_H
#define METASTORE_SUPERVISOR_LIVENESS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/types.h"

struct liveness {
    uint64_t seq;              /* of the newest ping; 0 before the first */
    bool waiting;              /* that ping is not answered yet */
    struct ms_instant sent_at; /* of that ping */
};

void liveness_reset(struct liveness *liveness);

/* True if the next ping is due, that is if none is under way. */
bool liveness_wants_ping(const struct liveness *liveness);

/* A ping leaves now: returns the number it must carry. Only when one is wanted. */
uint64_t liveness_sent(struct liveness *liveness, struct ms_instant now);

/* An answer came; one to another ping than the newest is ignored. */
void liveness_answered(struct liveness *liveness, uint64_t seq);

/* For how long the ping under way has been unanswered; 0 if none is. */
uint64_t liveness_silence_ms(const struct liveness *liveness, struct ms_instant now);

/*
 * The supervisor itself did not run for a while (stopped, or the machine was suspended): silence
 * during that time proves nothing, so the ping under way counts as sent now.
 */
void liveness_forgive(struct liveness *liveness, struct ms_instant now);

#endif

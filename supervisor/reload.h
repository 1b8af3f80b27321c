/*
 * reload: the configuration read again, and what the workers make of it.
 *
 * What the supervisor itself can refuse (a file with mistakes) is known at once. What only a worker
 * can refuse (a certificate) is known when it has answered: so a reload is over, and whoever asked
 * for it hears how it went, when all workers that run have answered.
 */
#ifndef METASTORE_SUPERVISOR_RELOAD_H
#define METASTORE_SUPERVISOR_RELOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "common/control.h"
#include "common/err.h"

#define RELOAD_TEXT_BYTES 2048

/* Words one after the other, with "; " between them; what does not fit is left out. */
struct reload_words {
    size_t used;
    char text[RELOAD_TEXT_BYTES];
};

/*
 * At most one reload is under way: another one that begins meanwhile takes its place, and who waits
 * for the first is answered with the second, which says the same or more.
 */
struct reload {
    uint64_t number; /* of the newest; 0 before the first */
    bool under_way;
    uv_timer_t deadline;
    struct reload_words refused; /* what workers did not take over, and why */
    struct reload_words remarks; /* what else is to be known */
};

struct supervisor;
struct worker;

/* Prepares the timer; once, before anything else here. */
void reload_init(struct supervisor *s);

/*
 * Reads the configuration again and hands it to all workers. On MS_OK admin_on_reloaded is called
 * when it is over, perhaps before this returns. On an error (MS_EBUSY: the node is stopping; errors
 * of ms_config_reload, which are logged) everything stays as it is.
 */
int reload_begin(struct supervisor *s, struct ms_err *err);

/* The worker has answered; an answer to an older reload than the newest is ignored. */
void reload_answered(struct supervisor *s, struct worker *worker,
                     const struct ms_control_reloaded *answer);

/* The worker is dead: it will not answer. */
void reload_worker_lost(struct supervisor *s, struct worker *worker);

#endif

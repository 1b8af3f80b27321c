/*
 * restart_policy: what a worker's death means, and what follows from it.
 *
 * Pure decisions: no clock, no process, no log. After OTP's supervisors, deaths of a worker's own
 * fault are counted for the node as a whole, and more than so many within a period end it; what
 * others do to a worker (crash-isolation tests, an operator) is not held against it.
 */
#ifndef METASTORE_SUPERVISOR_RESTART_POLICY_H
#define METASTORE_SUPERVISOR_RESTART_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/control.h"
#include "common/types.h"

#define RESTART_INTENSITY_MAX  1000 /* larger settings count as this */
#define RESTART_DELAY_FIRST_MS 10
#define RESTART_DELAY_MAX_MS   5000

/* Why the supervisor itself sent a signal to the worker that died, if it did. */
enum kill_reason {
    KILL_NONE,          /* it did not */
    KILL_ADMIN,         /* `restart` on the admin socket */
    KILL_FROZEN,        /* stopped by job control: silent, but sound */
    KILL_HUNG,          /* silent past its liveness or start deadline */
    KILL_PROTOCOL,      /* it, or its neighbour on its behalf, was caught breaking the protocol */
    KILL_UNCONNECTED,   /* it could not be given what it needs to start */
    KILL_STOP_DEADLINE, /* the node stops and it took too long */
};

enum death_class {
    DEATH_ASKED,      /* left with status 0 after STOP */
    DEATH_OUTSIDE,    /* killed by somebody else, and not by a crash */
    DEATH_OWN_FAULT,  /* crash signal, hang, broken protocol, or any exit nobody asked for */
    DEATH_CANNOT_RUN, /* says itself that it lacks what it needs to run */
};

struct death_facts {
    int wait_status; /* as waitpid gives it */
    bool was_ready;
    bool asked_to_stop;
    enum kill_reason kill_reason;
};

struct death {
    enum death_class class;
    enum ms_worker_end end; /* what its successor and its neighbours are told */
    char cause[64];         /* for the log: "signal 9", "exit status 70", ... */
};

void restart_policy_classify(const struct death_facts *facts, struct death *out);

/* One worker's run of bad luck. Zeroed at first. */
struct restart_backoff {
    uint32_t faults;      /* own-fault deaths in a row without a stable life between them */
    uint32_t early_kills; /* times it was killed from outside before READY, in a row */
};

/* Recent own-fault deaths of all workers. */
struct restart_window {
    uint64_t intensity; /* so many are tolerated ... */
    uint64_t period_ms; /* ... within this time */
    uint32_t count;     /* used slots of died_at */
    uint32_t next;      /* slot that the next death goes to */
    struct ms_instant died_at[RESTART_INTENSITY_MAX + 1];
};

void restart_window_init(struct restart_window *window, uint64_t intensity, uint64_t period_ms);

enum restart_action {
    RESTART_NOW,
    RESTART_DELAYED,
    RESTART_UNABLE,     /* delayed by the longest delay, for as often as it takes */
    RESTART_GIVE_UP,    /* intensity exceeded */
    RESTART_CANNOT_RUN, /* stop the node: status 1 */
};

struct restart_decision {
    enum restart_action action;
    uint64_t delay_ms; /* of RESTART_DELAYED and RESTART_UNABLE */
};

/* What the decision after a death rests on, beside the death itself. */
struct restart_facts {
    bool was_ready;
    bool may_recover;      /* what it needs may come back by itself: see worker_role */
    uint64_t ready_for_ms; /* how long the incarnation had been ready; 0 if it never was */
    struct ms_instant now;
};

/* Decides after one death and takes it into account. */
struct restart_decision restart_policy_decide(struct restart_window *window,
                                              struct restart_backoff *backoff,
                                              const struct death *death,
                                              const struct restart_facts *facts);

#endif

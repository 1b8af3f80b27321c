/*
 * lease: see lease.h.
 */
#include "raftd/lease.h"

#include <string.h>

#include "common/err.h"

/* What is left of the promise after the difference in clocks. */
#define DRIFT_NUMERATOR   9u
#define DRIFT_DENOMINATOR 10u

#define NS_PER_MS 1000000u

void lease_init(struct lease *lease, uint64_t origin, uint64_t tick_ms, uint64_t election_ticks)
{
    /* The first tick may come right after they heard of us, and timers count in milliseconds. */
    const uint64_t promised_ms = (election_ticks - 1) * tick_ms - 1;

    memset(lease, 0, sizeof(*lease));
    lease->origin = origin;
    lease->length_ns = promised_ms * NS_PER_MS / DRIFT_DENOMINATOR * DRIFT_NUMERATOR;
}

int lease_ask(struct lease *lease, struct raft *raft, const struct raft_basic_status *basic,
              struct ms_instant now)
{
    const struct raft_read_id id = {.origin = lease->origin, .seq = lease->last_seq + 1};
    int rc;

    if (basic->state != RAFT_STATE_LEADER || basic->sole_voter || !basic->term_committed ||
        lease->broken) {
        return MS_OK;
    }
    rc = raft_read_index(raft, id);
    if (rc == MS_EDROPPED || rc == MS_EFULL) {
        return MS_OK; /* the next tick asks again */
    }
    if (rc == MS_OK) {
        lease->last_seq = id.seq;
        lease->asked[id.seq % LEASE_QUESTIONS_MAX] = now;
    }
    return rc;
}

bool lease_answer(struct lease *lease, const struct raft_read_state *state)
{
    uint64_t end_ns;

    if (state->id.origin != lease->origin) {
        return false;
    }
    if (state->id.seq <= lease->void_seq || state->id.seq > lease->last_seq ||
        lease->last_seq - state->id.seq >= LEASE_QUESTIONS_MAX) {
        return true;
    }
    end_ns = lease->asked[state->id.seq % LEASE_QUESTIONS_MAX].ns + lease->length_ns;
    if (end_ns > lease->end.ns) {
        lease->end.ns = end_ns;
    }
    return true;
}

void lease_follow(struct lease *lease, const struct raft_basic_status *basic)
{
    if (basic->term != lease->term) {
        lease->term = basic->term;
        lease->broken = false;
        lease_revoke(lease);
    }
    if (basic->lead_transferee != 0) {
        lease->broken = true;
    }
    if (lease->broken || basic->state != RAFT_STATE_LEADER) {
        lease_revoke(lease);
    }
}

void lease_revoke(struct lease *lease)
{
    lease->end.ns = 0;
    lease->void_seq = lease->last_seq;
}

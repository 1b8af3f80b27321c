/*
 * lease: until when this node may answer reads alone because nobody else can be elected.
 *
 * The leader asks a quorum, again and again, whether it still leads. Who confirms has heard of it
 * after the question was asked, and votes for nobody else for an election timeout from then on
 * (thesis 6.4.1). They count that in ticks, so it may be a tick less. The lease is a tenth shorter
 * than what is left: its bound on how much faster their clocks may run than ours, which is far more
 * than clocks do that NTP may slew. It begins when the question is asked, before anybody has heard
 * it, so the way there and back only makes it safer. That the promise holds is up to three things
 * elsewhere: who was started anew keeps it though he has forgotten it (node_time.c), nobody is told
 * to forget a leader, and an election that a leader orders ends his lease for the whole term.
 *
 * A lease is given up at once when leadership is about to be given away, for then the promise of
 * the others does not hold.
 */
#ifndef METASTORE_RAFTD_LEASE_H
#define METASTORE_RAFTD_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/types.h"
#include "raftd/core/raft.h"

/* Questions that may be under way at a time; answers to older ones are ignored. */
#define LEASE_QUESTIONS_MAX 16u

struct lease {
    uint64_t origin; /* names the questions */
    uint64_t length_ns;
    uint64_t last_seq;
    uint64_t void_seq; /* answers up to this one count no more */
    struct ms_instant asked[LEASE_QUESTIONS_MAX];
    struct ms_instant end; /* 0: no lease */
    raft_term term;
    bool broken; /* another was ordered to campaign in this term: he may do so any time */
};

/* origin is unique among all who ask for read indexes. */
void lease_init(struct lease *lease, uint64_t origin, uint64_t tick_ms, uint64_t election_ticks);

/* Asks once, if that may lead to a lease. MS_ENOMEM. */
int lease_ask(struct lease *lease, struct raft *raft, const struct raft_basic_status *basic,
              struct ms_instant now);

/* Takes an answer of the core; false: it belongs to somebody else. */
bool lease_answer(struct lease *lease, const struct raft_read_state *state);

/* What the core does now; to be called before any of its messages goes out. */
void lease_follow(struct lease *lease, const struct raft_basic_status *basic);

/* Gives it up; later questions may bring it back. */
void lease_revoke(struct lease *lease);

#endif

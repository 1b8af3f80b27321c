/*
 * quorum: see quorum.h. Sets are small, so counting beats sorting a copy.
 */
#include "raftd/core/quorum.h"

raft_index quorum_committed(const struct raft_ids *voters, quorum_acked_fn acked, const void *ctx)
{
    raft_index best = 0;

    if (voters->count == 0) {
        return UINT64_MAX; /* neutral in a joint quorum */
    }
    /* The answer is one of the acknowledged indexes: the largest that a majority reaches. */
    for (size_t i = 0; i < voters->count; i++) {
        raft_index index = acked(ctx, voters->ids[i]);
        size_t reached = 0;

        if (index <= best) {
            continue;
        }
        for (size_t j = 0; j < voters->count; j++) {
            reached += acked(ctx, voters->ids[j]) >= index;
        }
        if (reached > voters->count / 2) {
            best = index;
        }
    }
    return best;
}

raft_index quorum_joint_committed(const struct raft_ids *incoming, const struct raft_ids *outgoing,
                                  quorum_acked_fn acked, const void *ctx)
{
    raft_index in = quorum_committed(incoming, acked, ctx);
    raft_index out = quorum_committed(outgoing, acked, ctx);

    return in < out ? in : out;
}

enum quorum_result quorum_tally(const struct raft_ids *voters, quorum_vote_fn vote, const void *ctx)
{
    size_t needed = voters->count / 2 + 1;
    size_t yes = 0;
    size_t open = 0;

    if (voters->count == 0) {
        return QUORUM_WON; /* neutral in a joint quorum */
    }
    for (size_t i = 0; i < voters->count; i++) {
        enum quorum_vote v = vote(ctx, voters->ids[i]);

        yes += v == QUORUM_VOTE_YES;
        open += v == QUORUM_VOTE_NONE;
    }
    if (yes >= needed) {
        return QUORUM_WON;
    }
    return yes + open >= needed ? QUORUM_PENDING : QUORUM_LOST;
}

enum quorum_result quorum_joint_tally(const struct raft_ids *incoming,
                                      const struct raft_ids *outgoing, quorum_vote_fn vote,
                                      const void *ctx)
{
    enum quorum_result in = quorum_tally(incoming, vote, ctx);
    enum quorum_result out = quorum_tally(outgoing, vote, ctx);

    if (in == QUORUM_LOST || out == QUORUM_LOST) {
        return QUORUM_LOST;
    }
    return in == QUORUM_WON && out == QUORUM_WON ? QUORUM_WON : QUORUM_PENDING;
}

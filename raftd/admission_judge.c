/*
 * admission_judge: who may talk to this node.
 */
#include <inttypes.h>
#include <stdio.h>

#include "common/clock.h"
#include "raftd/admission_private.h"

/*
 * A member that is removed is told so by the log, on the connections it has: these must survive
 * being judged again, which comes at once. One that connects anew was not reached by that.
 */
#define FAREWELL_MS 50u

static enum peers_refusal refuse_cluster(struct admission *admission,
                                         const struct peers_hello *theirs, struct ms_instant now,
                                         char *text, size_t text_bytes)
{
    char list[MS_PEER_URL_BYTES];

    admission_note_conflict(admission, theirs->from, theirs->cluster_id, now);
    if (admission->founding) {
        admission_print_list(admission, list, sizeof(list));
        (void)snprintf(text, text_bytes, "member %" PRIu64 " was started with --cluster %s",
                       admission->self, list);
    } else {
        (void)snprintf(text, text_bytes, "member %" PRIu64 " belongs to cluster %016" PRIx64,
                       admission->self, admission_own_cluster(admission));
    }
    return PEERS_REFUSED_CLUSTER;
}

/*
 * This node is joining: it takes the word of the first that is listed and admits it, and then of
 * all who are of the same cluster.
 */
static enum peers_refusal judge_while_joining(struct admission *admission,
                                              const struct peers_hello *theirs, char *text,
                                              size_t text_bytes)
{
    if (theirs->cluster_id == 0) {
        (void)snprintf(text, text_bytes, "member %" PRIu64 " is joining itself", admission->self);
        return PEERS_REFUSED_STRANGER;
    }
    if (admission->adopted_cluster_id != 0 && theirs->cluster_id != admission->adopted_cluster_id) {
        (void)snprintf(text, text_bytes, "member %" PRIu64 " is joining cluster %016" PRIx64,
                       admission->self, admission->adopted_cluster_id);
        return PEERS_REFUSED_CLUSTER;
    }
    if (admission->adopted_cluster_id == 0 && !admission_is_listed(admission, theirs->from)) {
        (void)snprintf(text, text_bytes,
                       "member %" PRIu64 " is joining, and its --cluster has no URL for member "
                       "%" PRIu64,
                       admission->self, theirs->from);
        return PEERS_REFUSED_STRANGER;
    }
    if (admission_is_listed(admission, theirs->from)) {
        admission->their_cluster[theirs->from - 1] = theirs->cluster_id;
    }
    return PEERS_ADMITTED;
}

/* Whether it comes with the data dir that the member votes with, as far as this node knows. */
static enum peers_refusal judge_data(struct admission *admission,
                                     const struct ms_conf_member *member,
                                     const struct peers_hello *theirs, char *text,
                                     size_t text_bytes)
{
    uint64_t known =
        member->data_id != 0 ? member->data_id : admission_data_id(admission, member->id);

    if (known != 0 && known != theirs->data_id) {
        if (theirs->cluster_id != 0 && theirs->conf_index > admission->conf_index) {
            return PEERS_ADMITTED; /* it was added anew, and this node has still to learn that */
        }
        (void)snprintf(text, text_bytes, "member %" PRIu64 " votes with another data dir",
                       member->id);
        return PEERS_REFUSED_DATA;
    }
    if (known == 0) {
        admission_pin_data(admission, member->id, theirs->data_id);
    }
    return PEERS_ADMITTED;
}

/* Whether it has only just left, on a connection from before. */
static bool is_leaving(struct admission *admission, node_id id, struct ms_instant now)
{
    for (size_t i = 0; i < ADMISSION_DEPARTED_MAX; i++) {
        struct admission_departed *departed = &admission->departed[i];

        if (departed->id != id) {
            continue;
        }
        if (!departed->judged) {
            departed->judged = true;
            departed->judged_at = now;
        }
        return ms_clock_elapsed_ms(departed->judged_at, now) < FAREWELL_MS;
    }
    return false;
}

/*
 * It belongs to this cluster by its own word, and is no member as far as this node knows. Who says
 * a cluster id is or was a member by what it has applied, so of the two the one with the newer
 * membership is right.
 */
static enum peers_refusal judge_stranger(struct admission *admission,
                                         const struct peers_hello *theirs, struct ms_instant now,
                                         char *text, size_t text_bytes)
{
    if (theirs->cluster_id != 0 &&
        (theirs->conf_index > admission->conf_index || is_leaving(admission, theirs->from, now))) {
        return PEERS_ADMITTED;
    }
    (void)snprintf(text, text_bytes,
                   "member %" PRIu64 " is not in the membership as of entry %" PRIu64, theirs->from,
                   admission->conf_index);
    if (theirs->cluster_id != 0 && theirs->conf_index < admission->conf_index &&
        !theirs->founding) {
        return PEERS_REFUSED_REMOVED;
    }
    return PEERS_REFUSED_STRANGER;
}

enum peers_refusal admission_judge(struct admission *admission, const struct peers_hello *theirs,
                                   struct ms_instant now, char *text, size_t text_bytes)
{
    const struct ms_conf_member *member = admission_find(admission, theirs->from);
    enum peers_refusal verdict;

    if (theirs->from == 0 || theirs->from == admission->self || theirs->data_id == 0) {
        (void)snprintf(text, text_bytes, "a node that says it is member %" PRIu64, theirs->from);
        return PEERS_REFUSED_IDENTITY;
    }
    if (theirs->to != admission->self) {
        (void)snprintf(text, text_bytes, "this is member %" PRIu64 ", not %" PRIu64,
                       admission->self, theirs->to);
        return PEERS_REFUSED_IDENTITY;
    }
    if (admission_is_joining(admission)) {
        return judge_while_joining(admission, theirs, text, text_bytes);
    }
    if (theirs->cluster_id != 0 && theirs->cluster_id != admission_own_cluster(admission)) {
        return refuse_cluster(admission, theirs, now, text, text_bytes);
    }
    if (member == NULL) {
        return judge_stranger(admission, theirs, now, text, text_bytes);
    }
    verdict = judge_data(admission, member, theirs, text, text_bytes);
    if (verdict == PEERS_ADMITTED) {
        admission_forget_conflict(admission, theirs->from);
    }
    return verdict;
}

/*
 * node_members: the membership as it changes, and what follows from that.
 */
#include "common/log.h"
#include "raftd/node_private.h"
#include "raftd/snapshot_conf.h"

bool raftd_node_is_member(const struct raftd_node *node)
{
    return membership_find(&node->membership, node->config.id) != NULL;
}

/*
 * Whether the member of this id is this node, and not one before it with another data dir: who was
 * removed and added again meets its predecessor and that one's removal in the log.
 */
static bool is_this_node(const struct raftd_node *node, const struct ms_conf_member *member)
{
    return member->data_id == 0 || member->data_id == node->options.data_id;
}

/* Tells the status page, the judgement of peers, and the peers themselves. */
void raftd_node_membership_changed(struct raftd_node *node)
{
    const struct ms_conf_member *self = membership_find(&node->membership, node->config.id);

    if ((node->membership.conf.member_count > 1 || node->config.join != 0) && !node->listening) {
        (void)raftd_node_fail(node, MS_EINVAL,
                              "there are other members, and the port of this node's peer URL could "
                              "not be had: see above");
        return;
    }
    publisher_set_members(&node->publisher, &node->membership);
    admission_set_membership(&node->admission, &node->membership.conf, node->membership.index);
    raftd_node_set_contacts(node);
    node->options.network.judge_again(node->options.network.ctx);
    /* Whoever was promised something by another quorum is asked anew. */
    lease_revoke(&node->lease);
    node->store.recent_bytes_max = node->membership.conf.member_count > 1
                                       ? NODE_RECENT_BYTES_CLUSTER
                                       : NODE_RECENT_BYTES_ALONE;
    if (node->was_member && self == NULL) {
        ms_log(MS_LOG_INFO, "removed from the cluster", MS_F_U64("index", node->membership.index));
        node->removed_at = node->now;
    } else if (self != NULL) {
        node->removed_at.ns = 0; /* removed, and added again before it was gone */
    }
    node->was_member = self != NULL && is_this_node(node, self);
}

/* Makes the membership durable before the entry that led to it is applied. */
static int record_membership(struct raftd_node *node, struct conf_record *out)
{
    struct conf_record record = {0};
    int rc = membership_encode(&node->membership, &node->alloc, &record);

    if (rc == MS_OK) {
        rc = log_client_write_conf(&node->log, &record, node->now);
    }
    if (rc != MS_OK) {
        raft_buffer_release(record.buffer);
        return rc;
    }
    *out = record;
    return MS_OK;
}

int raftd_node_change_conf(struct raftd_node *node, const struct raft_entry *entry,
                           struct conf_record *out)
{
    struct raft_conf_change change;
    struct raft_conf_state conf;
    struct member_context context = {0};
    const struct membership_change applied = {
        .index = entry->index, .change = &change, .context = &context};
    const char *objection = NULL;
    int rc = raft_conf_change_decode(entry, &change);

    if (rc == MS_OK) {
        rc = member_context_decode(change.context, change.context_bytes, &context);
    }
    if (rc != MS_OK) {
        objection = "malformed";
    } else {
        rc = raft_apply_conf_change(node->raft, &change, &conf);
        if (rc == MS_ENOMEM || rc == MS_EFULL) {
            return rc; /* this node must not go on without it */
        }
        objection = rc != MS_OK ? raft_conf_change_reason(node->raft) : NULL;
    }
    if (objection != NULL) {
        /* The same on every node, so the entry is applied as one that changes nothing. */
        ms_log(MS_LOG_WARN, "configuration change has no effect", MS_F_U64("index", entry->index),
               MS_F_STR("reason", objection));
        member_service_changed(node->members, entry->index, &context, objection);
        /* Recorded all the same: a rebuild stops before a change of which nothing is recorded. */
        node->membership.index = entry->index;
        return record_membership(node, out);
    }
    membership_update(&node->membership, &conf, &applied);
    rc = record_membership(node, out);
    if (rc != MS_OK) {
        return rc;
    }
    raft_basic_status(node->raft, &node->basic);
    raftd_node_membership_changed(node);
    member_service_changed(node->members, entry->index, &context, NULL);
    return MS_OK;
}

void raftd_node_restore_conf(struct raftd_node *node, const struct raft_snapshot *snapshot)
{
    const struct snapshot_conf *conf = snapshot_conf_of(snapshot);
    int rc = membership_decode(&node->membership, snapshot->index, conf->bytes, conf->len_bytes);

    if (rc != MS_OK) { /* it was looked at before the core got it */
        (void)raftd_node_fail(node, rc, "membership of the snapshot of %ju",
                              (uintmax_t)snapshot->index);
        return;
    }
    raftd_node_membership_changed(node);
}

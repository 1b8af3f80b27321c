/*
 * node_services: what the modules beside the node need of it.
 *
 * member_service and snapshot_exchange know neither the core nor links nor peers; each gets a table
 * of functions, which are these.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "raftd/node_private.h"
#include "raftd/snapshot_conf.h"

/* ---- members ---- */

static void core_status(void *ctx, struct raft_status *out)
{
    const struct raftd_node *node = ctx;

    raft_status(node->raft, out);
}

static const struct ms_conf_state *applied_membership(void *ctx)
{
    const struct raftd_node *node = ctx;

    return &node->membership.conf;
}

static bool peer_is_there(void *ctx, node_id peer)
{
    return raftd_node_is_there(ctx, peer);
}

static uint64_t said_data_id(void *ctx, node_id peer)
{
    const struct raftd_node *node = ctx;

    return admission_data_id(&node->admission, peer);
}

/* Whether a change takes this node's vote away. */
static bool unseats(const struct raftd_node *node, const struct raft_conf_change *change)
{
    for (size_t i = 0; i < change->count; i++) {
        if (change->changes[i].id == node->config.id &&
            (change->changes[i].type == RAFT_REMOVE_MEMBER ||
             change->changes[i].type == RAFT_ADD_LEARNER)) {
            return true;
        }
    }
    return false;
}

static int propose_change(void *ctx, const struct raft_conf_change *change)
{
    struct raftd_node *node = ctx;

    if (!node->listening) {
        return MS_EPERM; /* a second member could not talk to this one */
    }
    if (unseats(node, change) && raftd_node_resigns_first(node)) {
        return MS_EDROPPED; /* it will be proposed again, to the next leader */
    }
    return raft_propose_conf_change(node->raft, change);
}

static int transfer_leader(void *ctx, node_id target)
{
    struct raftd_node *node = ctx;

    return raft_transfer_leader(node->raft, target);
}

static int send_note(void *ctx, node_id to, enum peers_note kind, const uint8_t *data,
                     size_t len_bytes)
{
    const struct raftd_node *node = ctx;

    return node->options.network.send_note(node->options.network.ctx, to, kind, data, len_bytes);
}

static void answer_member(void *ctx, const struct member_asker *asker,
                          const struct ms_member_answer *answer, const char *text)
{
    struct raftd_node *node = ctx;

    if (asker->supervisor) {
        struct ms_control_member_answer control = {.head = *answer};

        (void)snprintf(control.text, sizeof(control.text), "%s", text);
        node->options.answer_admin(node->options.ctx, &control);
    } else {
        const struct api_client_ref ref = {.instance = asker->instance,
                                           .generation = asker->generation};

        api_clients_answer_member(&node->api, ref, answer, text);
    }
}

/* ---- snapshots ---- */

static int peer_send(void *ctx, const struct raft_message *message, uint64_t size_bytes,
                     peers_transfer *out)
{
    const struct raftd_network *network = &((const struct raftd_node *)ctx)->options.network;

    return network->snapshot_send(network->ctx, message, size_bytes, out);
}

static void peer_write(void *ctx, peers_transfer transfer, const uint8_t *data, size_t len_bytes)
{
    const struct raftd_network *network = &((const struct raftd_node *)ctx)->options.network;

    network->snapshot_write(network->ctx, transfer, data, len_bytes);
}

static void peer_abort(void *ctx, peers_transfer transfer)
{
    const struct raftd_network *network = &((const struct raftd_node *)ctx)->options.network;

    network->snapshot_abort(network->ctx, transfer);
}

static void peer_accept(void *ctx, peers_transfer transfer, uint64_t offset)
{
    const struct raftd_network *network = &((const struct raftd_node *)ctx)->options.network;

    network->snapshot_accept(network->ctx, transfer, offset);
}

static void peer_refuse(void *ctx, peers_transfer transfer)
{
    const struct raftd_network *network = &((const struct raftd_node *)ctx)->options.network;

    network->snapshot_refuse(network->ctx, transfer);
}

static void peer_consumed(void *ctx, peers_transfer transfer, size_t len_bytes)
{
    const struct raftd_network *network = &((const struct raftd_node *)ctx)->options.network;

    network->snapshot_consumed(network->ctx, transfer, len_bytes);
}

static void peer_finish(void *ctx, peers_transfer transfer, int status)
{
    const struct raftd_network *network = &((const struct raftd_node *)ctx)->options.network;

    network->snapshot_finish(network->ctx, transfer, status);
}

static int send_to_storaged(void *ctx, enum ms_ipc_type type, const void *body, size_t body_bytes,
                            const void *tail, size_t tail_bytes)
{
    struct raftd_node *node = ctx;
    void *dst_body = NULL;
    void *dst_tail = NULL;
    int rc;

    if (!ms_link_is_open(&node->apply.link) || !node->apply.have_state) {
        return MS_EAGAIN;
    }
    rc = ms_link_begin(&node->apply.link, type, tail_bytes, &dst_body, &dst_tail);
    if (rc != MS_OK) {
        return rc;
    }
    memcpy(dst_body, body, body_bytes);
    if (tail_bytes > 0) {
        memcpy(dst_tail, tail, tail_bytes);
    }
    ms_link_commit(&node->apply.link);
    return MS_OK;
}

static void report_snapshot(void *ctx, node_id peer, bool failed)
{
    struct raftd_node *node = ctx;

    (void)raft_report_snapshot(node->raft, peer, failed); /* else its next answer tells */
}

static int step_snapshot(void *ctx, const struct raft_message *message)
{
    struct raftd_node *node = ctx;
    const struct snapshot_conf *conf = snapshot_conf_of(message->snapshot);
    struct membership membership;
    int rc;

    /* Once the core has taken it, there is no way back. */
    if (conf == NULL || membership_decode(&membership, message->snapshot->index, conf->bytes,
                                          conf->len_bytes) != MS_OK) {
        return MS_EINVAL;
    }
    rc = raft_step(node->raft, message);
    if (rc == MS_ECORRUPT) {
        return raftd_node_check_step(node, message, rc);
    }
    return rc;
}

static void core_basic_status(void *ctx, struct raft_basic_status *out)
{
    const struct raftd_node *node = ctx;

    raft_basic_status(node->raft, out);
}

static bool has_gone_on(void *ctx, node_id peer, raft_index index)
{
    const struct raftd_node *node = ctx;
    struct raft_status status;

    raft_status(node->raft, &status);
    for (size_t i = 0; i < status.progress_count; i++) {
        if (status.progress[i].id == peer) {
            return status.progress[i].state == RAFT_PROGRESS_REPLICATE &&
                   status.progress[i].match >= index;
        }
    }
    return true;
}

/* ---- creation ---- */

int raftd_node_create_services(struct raftd_node *node)
{
    const struct member_service_options members = {.self = node->config.id,
                                                   .origin = node->options.origin,
                                                   .election_timeout_ms =
                                                       node->config.election_timeout_ms,
                                                   .has_key = node->options.has_cluster_key,
                                                   .calls = {.status = core_status,
                                                             .membership = applied_membership,
                                                             .is_connected = peer_is_there,
                                                             .data_id = said_data_id,
                                                             .propose = propose_change,
                                                             .transfer = transfer_leader,
                                                             .send_note = send_note,
                                                             .answer = answer_member,
                                                             .ctx = node}};
    const struct snapshot_exchange_calls snapshots = {.peer_send = peer_send,
                                                      .peer_write = peer_write,
                                                      .peer_abort = peer_abort,
                                                      .peer_accept = peer_accept,
                                                      .peer_refuse = peer_refuse,
                                                      .peer_consumed = peer_consumed,
                                                      .peer_finish = peer_finish,
                                                      .send = send_to_storaged,
                                                      .report = report_snapshot,
                                                      .step = step_snapshot,
                                                      .basic_status = core_basic_status,
                                                      .has_gone_on = has_gone_on,
                                                      .ctx = node};
    int rc = member_service_create(&members, &node->members);

    return rc != MS_OK ? rc : snapshot_exchange_create(&node->alloc, &snapshots, &node->snapshots);
}

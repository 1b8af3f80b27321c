/*
 * node_peers: what the other members send, and the way there.
 *
 * Messages of the core are stepped as they come, and answered together in the node's next round.
 * Whatever this node cannot take now it lets go by, as if the network had lost it: Raft and the
 * apids send it again. Snapshots and requests about the membership have modules of their own,
 * which are connected here.
 *
 * A note of kind ADDRESS tells the far side how to reach the sender, for a member that lags (or
 * has just joined) may not know the leader yet, and must answer it all the same:
 *
 *   offset size (little-endian)
 *        0    8  conf_index: of the membership that says so
 *        8    .  peer URL
 */
#include <string.h>

#include "common/clock.h"
#include "common/le.h"
#include "common/log.h"
#include "raftd/node_private.h"
#include "raftd/snapshot_conf.h"

#define ADDRESS_URL_AT 8u

/* ---- messages out ---- */

/* The core learns that a message is lost; what it cannot send again itself is seen to here. */
static void message_lost(struct raftd_node *node, const struct raft_message *message)
{
    node->unsendable++;
    if (message->type == RAFT_MSG_PROP) {
        raftd_node_proposals_lost(node);
    } else if (message->type == RAFT_MSG_READ_INDEX) {
        read_queue_ask_again(&node->reads);
    } else {
        (void)raft_report_unreachable(node->raft, message->to); /* a hint; the next may succeed */
    }
}

static void send_snapshot(struct raftd_node *node, const struct raft_message *message)
{
    const struct raft_snapshot *snapshot = message->snapshot;
    struct membership then;
    const struct snapshot_conf *conf = snapshot_conf_of(snapshot);

    if (membership_decode(&then, snapshot->index, conf->bytes, conf->len_bytes) != MS_OK ||
        membership_find(&then, message->to) == NULL) {
        /* Made before this member was added: its core would refuse it. The next is newer. */
        node->snapshot_floor = node->membership.index;
        (void)raft_report_snapshot(node->raft, message->to, true);
        return;
    }
    snapshot_exchange_send(node->snapshots, message, node->now);
}

void raftd_node_send_message(struct raftd_node *node, struct raft_message *message)
{
    const struct raftd_network *network = &node->options.network;

    if (message->type == RAFT_MSG_SNAP) {
        send_snapshot(node, message);
    } else if (network->send(network->ctx, message) != MS_OK) {
        message_lost(node, message);
    }
    raft_message_release(&node->alloc, message);
}

/* ---- messages in ---- */

static bool is_vote_request(enum raft_message_type type)
{
    return type == RAFT_MSG_VOTE || type == RAFT_MSG_PRE_VOTE || type == RAFT_MSG_TIMEOUT_NOW;
}

/* What other nodes propose for their clients; changes of the membership come another way. */
static bool proposals_acceptable(const struct raftd_node *node, const struct raft_slice *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        if (entries->entries[i].type != RAFT_ENTRY_NORMAL ||
            entries->entries[i].len_bytes > node->entry_bytes_max) {
            return false;
        }
    }
    return !node->log.full;
}

static bool may_vote(const struct raftd_node *node, const struct raft_message *message)
{
    if (raftd_node_is_barred(node)) {
        return false;
    }
    /* Whoever leads may come back: it has given up its lease. */
    return message->by_transfer || message->from == node->basic.lead ||
           node->now.ns >= node->votes_from.ns;
}

/* Whether the core gets the message; else it counts as lost. */
static bool may_step(const struct raftd_node *node, const struct raft_message *message)
{
    const bool too_much = node->log.backlog >= LOG_CLIENT_BACKLOG_MAX ||
                          entry_store_unapplied_bytes(&node->store) > NODE_FOLLOWER_BYTES_MAX;

    if (is_vote_request(message->type)) {
        return node->log.backlog < LOG_CLIENT_BACKLOG_MAX && may_vote(node, message);
    }
    if (message->type == RAFT_MSG_PROP) {
        return proposals_acceptable(node, &message->entries);
    }
    if (message->type == RAFT_MSG_APP) {
        return !too_much;
    }
    return message->type != RAFT_MSG_SNAP; /* they come with their bytes, or not at all */
}

static bool is_from_leader(enum raft_message_type type)
{
    return type == RAFT_MSG_APP || type == RAFT_MSG_HEARTBEAT || type == RAFT_MSG_SNAP;
}

/* MS_OK, or the node cannot go on. */
static int check_peer_step(struct raftd_node *node, const struct raft_message *message, int rc)
{
    switch (rc) {
    case MS_EDROPPED: /* a proposal or read that this node cannot take (any more) */
    case MS_ENOENT:
    case MS_EFULL:
    case MS_ENOMEM:
        break;
    case MS_ECORRUPT:
        /* A leader knows what this node has acknowledged: something of it is gone. */
        if (is_from_leader(message->type)) {
            return raftd_node_check_step(node, message, rc);
        }
        ms_log(MS_LOG_ERROR, "a member contradicts what it said before",
               MS_F_U64("member", message->from),
               MS_F_STR("message", raft_message_name(message->type)));
        break;
    case MS_EINVAL:
    case MS_EPERM:
        ms_log(MS_LOG_WARN, "malformed message", MS_F_U64("member", message->from),
               MS_F_STR("message", raft_message_name(message->type)));
        break;
    default:
        return raftd_node_check_step(node, message, rc);
    }
    return MS_OK;
}

/* The slot of a peer, or one that has been silent for longest. */
static void note_heard(struct raftd_node *node, node_id peer)
{
    struct node_heard *slot = &node->heard[0];

    for (size_t i = 0; i < MS_STATUS_MEMBERS_MAX && slot->id != peer; i++) {
        struct node_heard *one = &node->heard[i];

        if (one->id == peer || one->at.ns < slot->at.ns) {
            slot = one;
        }
    }
    slot->id = peer;
    slot->at = node->now;
}

/*
 * A connection stands for a while without anybody at its other end: a process that is stopped, a
 * host that is cut off.
 */
bool raftd_node_is_there(const struct raftd_node *node, node_id peer)
{
    const struct raftd_network *network = &node->options.network;

    for (size_t i = 0; i < MS_STATUS_MEMBERS_MAX; i++) {
        if (node->heard[i].id == peer) {
            return network->is_connected(network->ctx, peer) &&
                   ms_clock_elapsed_ms(node->heard[i].at, node->now) <=
                       node->config.election_timeout_ms;
        }
    }
    return false;
}

static void on_message(void *ctx, const struct raft_message *message)
{
    struct raftd_node *node = ctx;
    const struct raftd_network *network = &node->options.network;
    bool taken;

    if (node->phase != NODE_RUNNING || node->failure.status != MS_OK) {
        return;
    }
    node->has_news = true;
    note_heard(node, message->from);
    taken = may_step(node, message);
    if (taken) {
        int rc = raft_step(node->raft, message);

        taken = rc == MS_OK;
        if (!taken && check_peer_step(node, message, rc) != MS_OK) {
            return;
        }
    }
    if (!taken && message->type == RAFT_MSG_PROP) {
        /* If this cannot be said either, the far side repeats them by itself after a while. */
        (void)network->send_note(network->ctx, message->from, PEERS_NOTE_PROPOSALS_LOST, NULL, 0);
    }
}

/* ---- who is where ---- */

static struct node_address *find_address(struct raftd_node *node, node_id id)
{
    for (size_t i = 0; i < MS_STATUS_MEMBERS_MAX; i++) {
        if (node->addresses[i].id == id) {
            return &node->addresses[i];
        }
    }
    return NULL;
}

/* Replaces or adds a contact; whom a newer membership knows is where that says. */
static size_t merge_address(const struct node_address *address, struct peers_member *contacts,
                            size_t count)
{
    size_t i = 0;

    while (i < count && contacts[i].id != address->id) {
        i++;
    }
    if (i == ADMISSION_CONTACTS_MAX) {
        return count;
    }
    contacts[i].id = address->id;
    memcpy(contacts[i].url, address->url, sizeof(contacts[i].url));
    return i < count ? count : count + 1;
}

void raftd_node_set_contacts(struct raftd_node *node)
{
    const struct raftd_network *network = &node->options.network;
    struct peers_member contacts[ADMISSION_CONTACTS_MAX];
    size_t count = admission_contacts(&node->admission, contacts);
    struct ms_err err;

    for (size_t i = 0; i < MS_STATUS_MEMBERS_MAX; i++) {
        struct node_address *address = &node->addresses[i];

        if (address->id != 0 && address->conf_index > node->membership.index) {
            count = merge_address(address, contacts, count);
        } else {
            address->id = 0;
        }
    }
    if (network->set_members(network->ctx, contacts, count, &err) != MS_OK) {
        ms_log_err(MS_LOG_WARN, "a member cannot be reached", &err);
    }
}

static void tell_address(struct raftd_node *node, node_id peer)
{
    const struct raftd_network *network = &node->options.network;
    const struct ms_conf_member *self = membership_find(&node->membership, node->config.id);
    uint8_t note[ADDRESS_URL_AT + MS_PEER_URL_BYTES];
    size_t url_bytes;

    if (self == NULL || self->peer_url[0] == '\0') {
        return;
    }
    url_bytes = strlen(self->peer_url);
    ms_le_put_u64(note, node->membership.index);
    memcpy(note + ADDRESS_URL_AT, self->peer_url, url_bytes);
    /* If it has no room for this, it will not have any for messages either, and break. */
    (void)network->send_note(network->ctx, peer, PEERS_NOTE_ADDRESS, note,
                             ADDRESS_URL_AT + url_bytes);
}

static void take_address(struct raftd_node *node, node_id from, const uint8_t *data,
                         size_t len_bytes)
{
    struct node_address *address = find_address(node, from);
    raft_index conf_index;

    if (len_bytes <= ADDRESS_URL_AT || len_bytes >= ADDRESS_URL_AT + MS_PEER_URL_BYTES ||
        memchr(data + ADDRESS_URL_AT, '\0', len_bytes - ADDRESS_URL_AT) != NULL) {
        ms_log(MS_LOG_WARN, "malformed note", MS_F_U64("member", from));
        return;
    }
    conf_index = ms_le_get_u64(data);
    if (conf_index <= node->membership.index) {
        return; /* this node knows better */
    }
    if (address == NULL) {
        address = find_address(node, 0);
    }
    if (address == NULL) {
        return; /* as many as there can be members; some are gone when the membership moves on */
    }
    memset(address, 0, sizeof(*address));
    address->id = from;
    address->conf_index = conf_index;
    memcpy(address->url, data + ADDRESS_URL_AT, len_bytes - ADDRESS_URL_AT);
    raftd_node_set_contacts(node);
}

/* ---- connections ---- */

static void on_say_hello(void *ctx, struct peers_hello *out)
{
    const struct raftd_node *node = ctx;

    admission_hello(&node->admission, out);
}

static enum peers_refusal on_judge(void *ctx, const struct peers_hello *theirs, char *text,
                                   size_t text_bytes)
{
    struct raftd_node *node = ctx;

    return admission_judge(&node->admission, theirs, node->now, text, text_bytes);
}

static void on_refused(void *ctx, const struct peers_hello *theirs, enum peers_refusal reason,
                       const char *text)
{
    struct raftd_node *node = ctx;

    node->has_news = true;
    admission_refused(&node->admission, theirs, reason, text, node->now);
    raftd_node_check_fate(node);
}

static void on_connected(void *ctx, node_id peer)
{
    struct raftd_node *node = ctx;

    node->has_news = true;
    node->early_due = true;
    admission_connected(&node->admission, peer);
    tell_address(node, peer);
    if (peer == node->basic.lead) {
        /* What was passed on to it may have been in the connection that broke. */
        raftd_node_proposals_lost(node);
        read_queue_ask_again(&node->reads);
    }
}

static void on_disconnected(void *ctx, node_id peer)
{
    struct raftd_node *node = ctx;

    node->has_news = true;
    admission_disconnected(&node->admission, peer);
    if (node->phase == NODE_RUNNING) {
        (void)raft_report_unreachable(node->raft, peer); /* a hint; heartbeats find out, too */
    }
}

static void on_absent(void *ctx, node_id peer)
{
    struct raftd_node *node = ctx;

    node->has_news = true;
    admission_absent(&node->admission, peer);
    raftd_node_is_absent(node, peer);
}

static void on_note(void *ctx, node_id from, enum peers_note kind, const uint8_t *data,
                    size_t len_bytes)
{
    struct raftd_node *node = ctx;

    if (node->phase != NODE_RUNNING) {
        return;
    }
    node->has_news = true;
    switch (kind) {
    case PEERS_NOTE_MEMBER_REQUEST:
    case PEERS_NOTE_MEMBER_ANSWER:
        if (member_service_note(node->members, from, kind, data, len_bytes, node->now) != MS_OK) {
            ms_log(MS_LOG_WARN, "malformed note", MS_F_U64("member", from));
        }
        break;
    case PEERS_NOTE_PROPOSALS_LOST:
        raftd_node_proposals_lost(node);
        break;
    case PEERS_NOTE_ADDRESS:
        take_address(node, from, data, len_bytes);
        break;
    }
}

void raftd_node_check_fate(struct raftd_node *node)
{
    switch (admission_fate(&node->admission, node->now)) {
    case ADMISSION_GOES_ON:
        break;
    case ADMISSION_REMOVED:
        member_service_removed(node->members);
        if (!node->said_removed) {
            node->said_removed = true;
            ms_log_plain(MS_LOG_INFO, "removed from the cluster while it was away");
            node->options.on_removed(node->options.ctx);
        }
        break;
    case ADMISSION_DATA_LOST:
        (void)raftd_node_fail(node, MS_EINVAL,
                              "the data dir of member %ju was lost or replaced: remove the member "
                              "and add it again, then start with --join",
                              (uintmax_t)node->config.id);
        break;
    }
}

/* ---- snapshots ---- */

static void on_snapshot_begin(void *ctx, peers_transfer transfer,
                              const struct raft_message *message, uint64_t size_bytes)
{
    struct raftd_node *node = ctx;

    node->has_news = true;
    if (node->phase != NODE_RUNNING) {
        node->options.network.snapshot_refuse(node->options.network.ctx, transfer);
        return;
    }
    snapshot_exchange_on_begin(node->snapshots, transfer, message, size_bytes);
}

static void on_snapshot_data(void *ctx, peers_transfer transfer, uint64_t offset,
                             const uint8_t *data, size_t len_bytes)
{
    struct raftd_node *node = ctx;

    node->has_news = true;
    snapshot_exchange_on_data(node->snapshots, transfer, offset, data, len_bytes);
}

static void on_snapshot_end(void *ctx, peers_transfer transfer)
{
    struct raftd_node *node = ctx;

    node->has_news = true;
    snapshot_exchange_on_end(node->snapshots, transfer);
}

static void on_snapshot_lost(void *ctx, peers_transfer transfer)
{
    struct raftd_node *node = ctx;

    node->has_news = true;
    snapshot_exchange_on_lost(node->snapshots, transfer);
}

static void on_snapshot_want(void *ctx, peers_transfer transfer, uint64_t offset, size_t len_bytes)
{
    struct raftd_node *node = ctx;

    node->has_news = true;
    snapshot_exchange_on_want(node->snapshots, transfer, offset, len_bytes);
}

static void on_snapshot_done(void *ctx, peers_transfer transfer, node_id peer, int status)
{
    struct raftd_node *node = ctx;

    node->has_news = true;
    snapshot_exchange_on_done(node->snapshots, transfer, peer, status);
}

void raftd_node_peers_events(struct raftd_node *node, struct peers_events *out)
{
    *out = (struct peers_events){.say_hello = on_say_hello,
                                 .judge = on_judge,
                                 .refused = on_refused,
                                 .connected = on_connected,
                                 .disconnected = on_disconnected,
                                 .absent = on_absent,
                                 .message = on_message,
                                 .note = on_note,
                                 .snapshot_begin = on_snapshot_begin,
                                 .snapshot_data = on_snapshot_data,
                                 .snapshot_end = on_snapshot_end,
                                 .snapshot_lost = on_snapshot_lost,
                                 .snapshot_want = on_snapshot_want,
                                 .snapshot_done = on_snapshot_done,
                                 .ctx = node};
}

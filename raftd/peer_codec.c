/*
 * peer_codec: see peer_codec.h. All numbers are little-endian.
 *
 * A message (payload of a MESSAGE frame):
 *
 *   offset size
 *        0    1  type, number of RAFT_MESSAGE_LIST
 *        1    1  flags: bit 0 reject, bit 1 by_transfer; others 0
 *        2    2  zero
 *        4    4  number of entries
 *        8    8  from: the sender, but for requests on their way to the leader and
 * MsgTransferLeader 16    8  term 24    8  log_term 32    8  index 40    8  commit 48    8
 * commit_term 56    8  reject_hint 64    8  read_round 72    8  read_id.origin 80    8  read_id.seq
 *       88   24  each entry: 8 term, 8 index, 4 length of its data, 1 type, 1 flags (bit 0: has
 *                data, be it empty), 2 zero
 *        .    .  the data of all entries, in order, without gaps
 *
 * An offer of a snapshot (payload of an OFFER frame):
 *
 *        0    8  bytes of state that follow
 *        8   88  the MsgSnap as above, with no entries
 *       96    8  snapshot index
 *      104    8  snapshot term
 *      112    1  auto_leave, 0 or 1
 *      113    1  number of voters
 *      114    1  number of outgoing voters
 *      115    1  number of learners
 *      116    1  number of learners to be
 *      117    3  zero
 *      120    .  8 each: voters, outgoing voters, learners, learners to be
 *        .    .  the rest: the encoded membership of snapshot_conf.h, or nothing
 */
#include "raftd/peer_codec.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/le.h"
#include "raftd/snapshot_conf.h"

enum message_offset {
    OFFSET_TYPE = 0,
    OFFSET_FLAGS = 1,
    OFFSET_ZERO = 2,
    OFFSET_ENTRY_COUNT = 4,
    OFFSET_FROM = 8,
    OFFSET_TERM = 16,
    OFFSET_LOG_TERM = 24,
    OFFSET_INDEX = 32,
    OFFSET_COMMIT = 40,
    OFFSET_COMMIT_TERM = 48,
    OFFSET_REJECT_HINT = 56,
    OFFSET_READ_ROUND = 64,
    OFFSET_READ_ORIGIN = 72,
    OFFSET_READ_SEQ = 80,
};

enum entry_offset {
    OFFSET_ENTRY_TERM = 0,
    OFFSET_ENTRY_INDEX = 8,
    OFFSET_ENTRY_BYTES = 16,
    OFFSET_ENTRY_TYPE = 20,
    OFFSET_ENTRY_FLAGS = 21,
    OFFSET_ENTRY_ZERO = 22,
};

enum offer_offset {
    OFFSET_OFFER_SIZE = 0,
    OFFSET_OFFER_MESSAGE = 8,
    OFFSET_OFFER_INDEX = 96,
    OFFSET_OFFER_TERM = 104,
    OFFSET_OFFER_AUTO_LEAVE = 112,
    OFFSET_OFFER_COUNTS = 113,
    OFFSET_OFFER_ZERO = 117,
    OFFSET_OFFER_IDS = 120,
};

#define FLAG_REJECT      1u
#define FLAG_BY_TRANSFER 2u
#define FLAG_HAS_DATA    1u
#define ID_LISTS         4

_Static_assert((int)OFFSET_OFFER_IDS == PEER_CODEC_MESSAGE_BYTES + 32, "bound of an offer");
_Static_assert(RAFT_MEMBERS_MAX <= UINT8_MAX, "list lengths are bytes");

bool peer_codec_travels(enum raft_message_type type)
{
    switch (type) {
    case RAFT_MSG_PROP:
    case RAFT_MSG_APP:
    case RAFT_MSG_APP_RESP:
    case RAFT_MSG_VOTE:
    case RAFT_MSG_VOTE_RESP:
    case RAFT_MSG_HEARTBEAT:
    case RAFT_MSG_HEARTBEAT_RESP:
    case RAFT_MSG_TRANSFER_LEADER:
    case RAFT_MSG_TIMEOUT_NOW:
    case RAFT_MSG_READ_INDEX:
    case RAFT_MSG_READ_INDEX_RESP:
    case RAFT_MSG_PRE_VOTE:
    case RAFT_MSG_PRE_VOTE_RESP:
        return true;
    case RAFT_MSG_HUP:
    case RAFT_MSG_BEAT:
    case RAFT_MSG_SNAP:
    case RAFT_MSG_UNREACHABLE:
    case RAFT_MSG_SNAP_STATUS:
    case RAFT_MSG_CHECK_QUORUM:
    case RAFT_MSG_STORAGE_APPEND:
    case RAFT_MSG_STORAGE_APPEND_RESP:
    case RAFT_MSG_STORAGE_APPLY:
    case RAFT_MSG_STORAGE_APPLY_RESP:
    case RAFT_MSG_FORGET_LEADER:
        return false;
    }
    return false;
}

/* Requests that one node passes on for another, or that name another in from. */
static bool from_may_differ(enum raft_message_type type)
{
    return type == RAFT_MSG_PROP || type == RAFT_MSG_READ_INDEX || type == RAFT_MSG_TRANSFER_LEADER;
}

size_t peer_codec_message_bytes(const struct raft_message *message)
{
    size_t total = PEER_CODEC_MESSAGE_BYTES + message->entries.count * PEER_CODEC_ENTRY_BYTES;

    for (size_t i = 0; i < message->entries.count; i++) {
        total += message->entries.entries[i].len_bytes;
    }
    return total;
}

static void put_head(const struct raft_message *message, uint8_t *dst)
{
    assert(message->entries.count <= UINT32_MAX && message->vote == 0);

    dst[OFFSET_TYPE] = (uint8_t)message->type;
    dst[OFFSET_FLAGS] = (uint8_t)((message->reject ? FLAG_REJECT : 0) |
                                  (message->by_transfer ? FLAG_BY_TRANSFER : 0));
    ms_le_put_u16(dst + OFFSET_ZERO, 0);
    ms_le_put_u32(dst + OFFSET_ENTRY_COUNT, (uint32_t)message->entries.count);
    ms_le_put_u64(dst + OFFSET_FROM, message->from);
    ms_le_put_u64(dst + OFFSET_TERM, message->term);
    ms_le_put_u64(dst + OFFSET_LOG_TERM, message->log_term);
    ms_le_put_u64(dst + OFFSET_INDEX, message->index);
    ms_le_put_u64(dst + OFFSET_COMMIT, message->commit);
    ms_le_put_u64(dst + OFFSET_COMMIT_TERM, message->commit_term);
    ms_le_put_u64(dst + OFFSET_REJECT_HINT, message->reject_hint);
    ms_le_put_u64(dst + OFFSET_READ_ROUND, message->read_round);
    ms_le_put_u64(dst + OFFSET_READ_ORIGIN, message->read_id.origin);
    ms_le_put_u64(dst + OFFSET_READ_SEQ, message->read_id.seq);
}

static void put_entry(const struct raft_entry *entry, uint8_t *dst)
{
    assert(entry->len_bytes <= UINT32_MAX);

    ms_le_put_u64(dst + OFFSET_ENTRY_TERM, entry->term);
    ms_le_put_u64(dst + OFFSET_ENTRY_INDEX, entry->index);
    ms_le_put_u32(dst + OFFSET_ENTRY_BYTES, (uint32_t)entry->len_bytes);
    dst[OFFSET_ENTRY_TYPE] = (uint8_t)entry->type;
    dst[OFFSET_ENTRY_FLAGS] = entry->data != NULL ? FLAG_HAS_DATA : 0;
    ms_le_put_u16(dst + OFFSET_ENTRY_ZERO, 0);
}

int peer_codec_put_message(struct peer_queue *queue, const struct raft_message *message)
{
    const struct raft_slice *entries = &message->entries;
    uint8_t head[PEER_CODEC_MESSAGE_BYTES];
    int rc;

    assert(peer_codec_travels(message->type) && message->snapshot == NULL &&
           message->response_count == 0);

    put_head(message, head);
    rc = peer_queue_copy(queue, head, sizeof(head));
    for (size_t i = 0; rc == MS_OK && i < entries->count; i++) {
        uint8_t row[PEER_CODEC_ENTRY_BYTES];

        put_entry(&entries->entries[i], row);
        rc = peer_queue_copy(queue, row, sizeof(row));
    }
    for (size_t i = 0; rc == MS_OK && i < entries->count; i++) {
        const struct raft_entry *entry = &entries->entries[i];

        rc = peer_queue_borrow(queue, entry->data, entry->len_bytes, entry->owner);
    }
    return rc;
}

/* Everything of a message but its entries; *count is how many of them it announces. */
static int get_head(const uint8_t *bytes, node_id from, node_id to, struct raft_message *out,
                    uint32_t *count)
{
    uint8_t type = bytes[OFFSET_TYPE];
    uint8_t flags = bytes[OFFSET_FLAGS];

    if (type > RAFT_MSG_FORGET_LEADER || (flags & ~(FLAG_REJECT | FLAG_BY_TRANSFER)) != 0 ||
        ms_le_get_u16(bytes + OFFSET_ZERO) != 0) {
        return MS_EPROTO;
    }
    *out = (struct raft_message){
        .type = (enum raft_message_type)type,
        .reject = (flags & FLAG_REJECT) != 0,
        .by_transfer = (flags & FLAG_BY_TRANSFER) != 0,
        .to = to,
        .from = ms_le_get_u64(bytes + OFFSET_FROM),
        .term = ms_le_get_u64(bytes + OFFSET_TERM),
        .log_term = ms_le_get_u64(bytes + OFFSET_LOG_TERM),
        .index = ms_le_get_u64(bytes + OFFSET_INDEX),
        .commit = ms_le_get_u64(bytes + OFFSET_COMMIT),
        .commit_term = ms_le_get_u64(bytes + OFFSET_COMMIT_TERM),
        .reject_hint = ms_le_get_u64(bytes + OFFSET_REJECT_HINT),
        .read_round = ms_le_get_u64(bytes + OFFSET_READ_ROUND),
        .read_id.origin = ms_le_get_u64(bytes + OFFSET_READ_ORIGIN),
        .read_id.seq = ms_le_get_u64(bytes + OFFSET_READ_SEQ),
    };
    *count = ms_le_get_u32(bytes + OFFSET_ENTRY_COUNT);
    if (from_may_differ(out->type)) {
        /* Storage has ids of its own; no node may speak for it. */
        return out->from == RAFT_NONE || out->from == RAFT_APPEND_THREAD ||
                       out->from == RAFT_APPLY_THREAD
                   ? MS_EPROTO
                   : MS_OK;
    }
    return out->from == from ? MS_OK : MS_EPROTO;
}

/* One row of the table; data begins at *data, which moves on by its length, within *left. */
static int get_entry(const uint8_t *row, const uint8_t **data, size_t *left,
                     struct raft_buffer *owner, struct raft_entry *out)
{
    /* Where empty data points to: it is not the same as none. */
    static const uint8_t nothing[1];
    uint32_t len_bytes = ms_le_get_u32(row + OFFSET_ENTRY_BYTES);
    uint8_t type = row[OFFSET_ENTRY_TYPE];
    uint8_t flags = row[OFFSET_ENTRY_FLAGS];

    if (type > RAFT_ENTRY_CONF_CHANGE_V2 || (flags & ~FLAG_HAS_DATA) != 0 ||
        ms_le_get_u16(row + OFFSET_ENTRY_ZERO) != 0 || len_bytes > *left ||
        (len_bytes > 0 && flags == 0)) {
        return MS_EPROTO;
    }
    *out = (struct raft_entry){
        .term = ms_le_get_u64(row + OFFSET_ENTRY_TERM),
        .index = ms_le_get_u64(row + OFFSET_ENTRY_INDEX),
        .len_bytes = len_bytes,
        .type = (enum raft_entry_type)type,
    };
    if (len_bytes > 0) {
        out->data = *data;
        out->owner = owner;
        *data += len_bytes;
        *left -= len_bytes;
    } else if (flags != 0) {
        out->data = nothing;
    }
    return MS_OK;
}

/* The table at rows with count rows and len_bytes of data behind it. */
static int get_entries(const struct raft_alloc *alloc, const uint8_t *rows, uint32_t count,
                       size_t len_bytes, struct raft_buffer *owner, struct raft_slice *out)
{
    const uint8_t *data = rows + (size_t)count * PEER_CODEC_ENTRY_BYTES;
    struct raft_entry *entries = NULL;
    struct raft_buffer *copy = NULL;
    size_t left = len_bytes;
    int rc = MS_OK;

    entries = calloc(count, sizeof(*entries));
    if (entries == NULL) {
        return MS_ENOMEM;
    }
    if (owner == NULL && len_bytes > 0) {
        uint8_t *copied;

        rc = raft_buffer_create(alloc, len_bytes, &copy, &copied);
        if (rc != MS_OK) {
            goto out;
        }
        memcpy(copied, data, len_bytes);
        data = copied;
        owner = copy;
    }
    for (uint32_t i = 0; rc == MS_OK && i < count; i++) {
        rc = get_entry(rows + (size_t)i * PEER_CODEC_ENTRY_BYTES, &data, &left, owner, &entries[i]);
    }
    if (rc == MS_OK) {
        rc = left == 0 ? raft_slice_create(alloc, entries, count, out) : MS_EPROTO;
    }

out:
    raft_buffer_release(copy);
    free(entries);
    return rc;
}

int peer_codec_get_message(const struct raft_alloc *alloc, const uint8_t *bytes, size_t len_bytes,
                           struct raft_buffer *owner, node_id from, node_id to,
                           struct raft_message *out)
{
    struct raft_message message;
    uint32_t count;
    size_t rest;
    int rc;

    if (len_bytes < PEER_CODEC_MESSAGE_BYTES) {
        return MS_EPROTO;
    }
    rc = get_head(bytes, from, to, &message, &count);
    if (rc != MS_OK) {
        return rc;
    }
    rest = len_bytes - PEER_CODEC_MESSAGE_BYTES;
    if (!peer_codec_travels(message.type) || count > rest / PEER_CODEC_ENTRY_BYTES ||
        (count == 0 && rest > 0)) {
        return MS_EPROTO;
    }
    if (count > 0) {
        rc = get_entries(alloc, bytes + PEER_CODEC_MESSAGE_BYTES, count,
                         rest - (size_t)count * PEER_CODEC_ENTRY_BYTES, owner, &message.entries);
        if (rc != MS_OK) {
            return rc;
        }
    }
    *out = message;
    return MS_OK;
}

/* ---- snapshots ---- */

size_t peer_codec_put_offer(const struct raft_message *message, uint64_t size_bytes, uint8_t *dst)
{
    const struct raft_snapshot *snapshot = message->snapshot;
    const struct snapshot_conf *membership = snapshot_conf_of(snapshot);
    const struct raft_ids *lists[ID_LISTS] = {
        &snapshot->conf.voters, &snapshot->conf.voters_outgoing, &snapshot->conf.learners,
        &snapshot->conf.learners_next};
    uint8_t *at = dst + OFFSET_OFFER_IDS;

    assert(message->type == RAFT_MSG_SNAP && message->entries.count == 0);

    ms_le_put_u64(dst + OFFSET_OFFER_SIZE, size_bytes);
    put_head(message, dst + OFFSET_OFFER_MESSAGE);
    ms_le_put_u64(dst + OFFSET_OFFER_INDEX, snapshot->index);
    ms_le_put_u64(dst + OFFSET_OFFER_TERM, snapshot->term);
    dst[OFFSET_OFFER_AUTO_LEAVE] = snapshot->conf.auto_leave;
    memset(dst + OFFSET_OFFER_ZERO, 0, OFFSET_OFFER_IDS - OFFSET_OFFER_ZERO);
    for (size_t i = 0; i < ID_LISTS; i++) {
        assert(lists[i]->count <= RAFT_MEMBERS_MAX);
        dst[OFFSET_OFFER_COUNTS + i] = (uint8_t)lists[i]->count;
        for (size_t k = 0; k < lists[i]->count; k++) {
            ms_le_put_u64(at, lists[i]->ids[k]);
            at += sizeof(node_id);
        }
    }
    if (membership != NULL) {
        memcpy(at, membership->bytes, membership->len_bytes);
        at += membership->len_bytes;
    }
    return (size_t)(at - dst);
}

/*
 * The configuration in an offer, which is at least OFFSET_OFFER_IDS long; *end is where that ends.
 */
static int get_conf(const uint8_t *bytes, size_t len_bytes, struct raft_conf_state *out,
                    size_t *end)
{
    struct raft_ids *lists[ID_LISTS] = {&out->voters, &out->voters_outgoing, &out->learners,
                                        &out->learners_next};
    const uint8_t *at = bytes + OFFSET_OFFER_IDS;
    size_t total = 0;

    *out = (struct raft_conf_state){.auto_leave = bytes[OFFSET_OFFER_AUTO_LEAVE] == 1};
    if (bytes[OFFSET_OFFER_AUTO_LEAVE] > 1) {
        return MS_EPROTO;
    }
    for (size_t i = OFFSET_OFFER_ZERO; i < OFFSET_OFFER_IDS; i++) {
        if (bytes[i] != 0) {
            return MS_EPROTO;
        }
    }
    for (size_t i = 0; i < ID_LISTS; i++) {
        lists[i]->count = bytes[OFFSET_OFFER_COUNTS + i];
        total += lists[i]->count;
        if (lists[i]->count > RAFT_MEMBERS_MAX) {
            return MS_EPROTO;
        }
    }
    if (len_bytes - OFFSET_OFFER_IDS < total * sizeof(node_id)) {
        return MS_EPROTO;
    }
    *end = OFFSET_OFFER_IDS + total * sizeof(node_id);
    for (size_t i = 0; i < ID_LISTS; i++) {
        for (size_t k = 0; k < lists[i]->count; k++) {
            node_id id = ms_le_get_u64(at);

            if (id == RAFT_NONE) {
                return MS_EPROTO;
            }
            lists[i]->ids[k] = id;
            at += sizeof(node_id);
        }
    }
    return MS_OK;
}

int peer_codec_get_offer(const struct raft_alloc *alloc, const uint8_t *bytes, size_t len_bytes,
                         node_id from, node_id to, struct raft_message *out, uint64_t *size_bytes)
{
    struct raft_conf_state conf;
    struct raft_message message;
    struct raft_buffer *membership = NULL;
    size_t end = 0;
    raft_index index;
    raft_term term;
    uint32_t count;
    int rc;

    if (len_bytes < OFFSET_OFFER_IDS) {
        return MS_EPROTO;
    }
    rc = get_head(bytes + OFFSET_OFFER_MESSAGE, from, to, &message, &count);
    if (rc == MS_OK && (message.type != RAFT_MSG_SNAP || count > 0)) {
        rc = MS_EPROTO;
    }
    if (rc == MS_OK) {
        rc = get_conf(bytes, len_bytes, &conf, &end);
    }
    if (rc != MS_OK) {
        return rc;
    }
    index = ms_le_get_u64(bytes + OFFSET_OFFER_INDEX);
    term = ms_le_get_u64(bytes + OFFSET_OFFER_TERM);
    if (index == 0 || term == 0) {
        return MS_EPROTO;
    }
    if (len_bytes > end) {
        rc = snapshot_conf_create(alloc, bytes + end, len_bytes - end, &membership);
    }
    if (rc == MS_OK) {
        rc = raft_snapshot_create(alloc, index, term, &conf, membership, &message.snapshot);
    }
    raft_buffer_release(membership);
    if (rc != MS_OK) {
        return rc == MS_ERANGE ? MS_EPROTO : rc;
    }
    *out = message;
    *size_bytes = ms_le_get_u64(bytes + OFFSET_OFFER_SIZE);
    return MS_OK;
}

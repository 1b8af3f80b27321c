/*
 * outbox: which queue a message goes to.
 *
 * A response that counts as a vote, on an election or on an entry, promises something that
 * must survive a crash (thesis 3.8): it waits for the disk. All else may leave at once.
 */
#include <assert.h>

#include "raftd/core/core.h"

static bool waits_for_disk(enum raft_message_type type)
{
    return type == RAFT_MSG_APP_RESP || type == RAFT_MSG_VOTE_RESP ||
           type == RAFT_MSG_PRE_VOTE_RESP;
}

struct raft_message *core_outbox_push(struct raft *raft, enum raft_message_type type, node_id to)
{
    struct raft_message *message;

    assert(waits_for_disk(type) || to != raft->id);
    message = core_list_push(waits_for_disk(type) ? &raft->after_append : &raft->messages);
    message->type = type;
    message->to = to;
    message->from = raft->id;
    message->term = raft->term;
    return message;
}

void core_outbox_forward(struct raft *raft, const struct raft_message *message, node_id to,
                         const struct raft_slice *entries)
{
    struct raft_message *copy = core_outbox_push(raft, message->type, to);

    if (message->from != RAFT_NONE) {
        copy->from = message->from;
    }
    /* Requests to whoever leads belong to no term. */
    if (message->type == RAFT_MSG_PROP || message->type == RAFT_MSG_READ_INDEX) {
        copy->term = 0;
    }
    copy->read_id = message->read_id;
    copy->entries = *entries;
}

/*
 * ready: what is to be written, sent and applied, and the order between them (Raft figure 2;
 * thesis 10.2.1 for what may overlap).
 *
 * The order is carried by the responses: what promises something is attached to the write that
 * makes it true, and is sent, or stepped into this node again, when that write is durable.
 */
#include <assert.h>
#include <string.h>

#include "raftd/core/core.h"

static bool soft_equal(const struct raft_soft_state *a, const struct raft_soft_state *b)
{
    return a->lead == b->lead && a->state == b->state;
}

static bool hard_equal(const struct raft_hard_state *a, const struct raft_hard_state *b)
{
    return a->term == b->term && a->vote == b->vote && a->commit == b->commit;
}

static struct raft_soft_state soft_now(const struct raft *raft)
{
    return (struct raft_soft_state){.lead = raft->lead, .state = raft->state};
}

static struct raft_hard_state hard_now(const struct raft *raft)
{
    return (struct raft_hard_state){
        .term = raft->term, .vote = raft->vote, .commit = raft->log.committed};
}

/* Without asynchronous storage the caller applies after it has written, so all may be applied. */
static bool may_apply_unstable(const struct raft *raft)
{
    return !raft->options.async_storage;
}

static bool has_next_snapshot(const struct raft *raft)
{
    return raft->log.unstable.snapshot != NULL && !raft->log.unstable.snapshot_in_progress;
}

bool raft_has_ready(const struct raft *raft)
{
    struct raft_soft_state soft = soft_now(raft);
    struct raft_hard_state hard = hard_now(raft);

    return !soft_equal(&soft, &raft->last_soft) || !hard_equal(&hard, &raft->last_hard) ||
           has_next_snapshot(raft) || raft->messages.count > 0 || raft->after_append.count > 0 ||
           unstable_has_next(&raft->log.unstable) ||
           raftlog_has_committed(&raft->log, may_apply_unstable(raft)) ||
           raft->read_state_count > 0;
}

/* ---- collecting ---- */

static void collect_state(struct raft *raft, struct raft_ready *ready)
{
    struct raft_soft_state soft = soft_now(raft);
    struct raft_hard_state hard = hard_now(raft);

    if (!soft_equal(&soft, &raft->last_soft)) {
        ready->has_soft_state = true;
        ready->soft_state = soft;
    }
    if (!hard_equal(&hard, &raft->last_hard)) {
        ready->has_hard_state = true;
        ready->hard_state = hard;
    }
    ready->entries = unstable_next(&raft->log.unstable);
    if (has_next_snapshot(raft)) {
        ready->snapshot = raft_snapshot_ref(raft->log.unstable.snapshot);
    }
    ready->must_sync = ready->entries.count > 0 || hard.term != raft->last_hard.term ||
                       hard.vote != raft->last_hard.vote;
}

/* Tells the core, when it comes back, how far the log is stable. */
static void push_append_response(struct raft *raft, const struct raft_ready *ready,
                                 struct message_list *list)
{
    const struct unstable *unstable = &raft->log.unstable;
    struct raft_message *message;

    if (unstable->count == 0 && ready->snapshot == NULL) {
        return;
    }
    message = core_list_push(list);
    message->type = RAFT_MSG_STORAGE_APPEND_RESP;
    message->to = raft->id;
    message->from = RAFT_APPEND_THREAD;
    message->term = raft->term;
    /*
     * The last entry of all, also if it was handed out before: once this write is done, those
     * before it are, too. The term makes sure that it still counts then (see step_lower_term).
     */
    if (unstable->count > 0) {
        struct entry_id last = raftlog_last_id(&raft->log);

        message->index = last.index;
        message->log_term = last.term;
    }
    message->snapshot = raft_snapshot_ref(ready->snapshot);
}

static void push_apply_response(struct raft *raft, const struct raft_ready *ready,
                                struct message_list *list)
{
    struct raft_message *message;

    if (ready->committed.count == 0) {
        return;
    }
    message = core_list_push(list);
    message->type = RAFT_MSG_STORAGE_APPLY_RESP;
    message->to = raft->id;
    message->from = RAFT_APPLY_THREAD;
    message->entries = raft_slice_ref(&ready->committed);
}

static void push_storage_append(struct raft *raft, const struct raft_ready *ready)
{
    struct raft_message *message;

    if (ready->entries.count == 0 && !ready->has_hard_state && ready->snapshot == NULL &&
        raft->after_append.count == 0) {
        return;
    }
    push_append_response(raft, ready, &raft->after_append);
    message = core_list_push(&raft->messages);
    message->type = RAFT_MSG_STORAGE_APPEND;
    message->to = RAFT_APPEND_THREAD;
    message->from = raft->id;
    message->entries = raft_slice_ref(&ready->entries);
    message->snapshot = raft_snapshot_ref(ready->snapshot);
    if (ready->has_hard_state) {
        message->term = ready->hard_state.term;
        message->vote = ready->hard_state.vote;
        message->commit = ready->hard_state.commit;
    }
    if (raft->after_append.count > 0) {
        message->responses = raft->after_append.items;
        message->response_count = raft->after_append.count;
        raft->after_append = (struct message_list){0};
    }
}

static void push_storage_apply(struct raft *raft, const struct raft_ready *ready,
                               struct message_list *responses)
{
    struct raft_message *message;

    if (ready->committed.count == 0) {
        return;
    }
    push_apply_response(raft, ready, responses);
    message = core_list_push(&raft->messages);
    message->type = RAFT_MSG_STORAGE_APPLY;
    message->to = RAFT_APPLY_THREAD;
    message->from = raft->id;
    message->entries = raft_slice_ref(&ready->committed);
    message->responses = responses->items;
    message->response_count = responses->count;
    *responses = (struct message_list){0};
}

/* What the asynchronous mode would send and get back, sorted into messages and steps to come. */
static void sort_after_append(struct raft *raft, const struct raft_ready *ready)
{
    for (size_t i = 0; i < raft->after_append.count; i++) {
        struct raft_message *message = &raft->after_append.items[i];
        struct message_list *list = message->to == raft->id ? &raft->on_advance : &raft->messages;

        raft_message_take(core_list_push(list), message);
    }
    raft->after_append.count = 0;
    push_append_response(raft, ready, &raft->on_advance);
    push_apply_response(raft, ready, &raft->on_advance);
}

/* Room for everything that is pushed below; *responses for a MsgStorageApply. */
static int reserve_ready(struct raft *raft, struct message_list *responses)
{
    const struct raft_alloc *alloc = &raft->options.alloc;
    size_t moved = raft->after_append.count;
    int rc;

    if (!raft->options.async_storage) {
        assert(raft->on_advance.count == 0); /* raft_advance() was forgotten */
        rc = core_list_reserve(alloc, &raft->messages, moved);
        return rc != MS_OK ? rc : core_list_reserve(alloc, &raft->on_advance, moved + 2);
    }
    rc = core_list_reserve(alloc, &raft->messages, 2);
    if (rc == MS_OK) {
        rc = core_list_reserve(alloc, &raft->after_append, 1);
    }
    if (rc == MS_OK && raftlog_has_committed(&raft->log, false)) {
        rc = core_list_reserve(alloc, responses, 1);
    }
    return rc;
}

int raft_ready(struct raft *raft, struct raft_ready *out)
{
    struct message_list responses = {0};
    struct raft_ready ready;
    int rc = reserve_ready(raft, &responses);

    memset(&ready, 0, sizeof(ready));
    if (rc == MS_OK) {
        rc = raftlog_next_committed(&raft->log, may_apply_unstable(raft), &ready.committed);
    }
    if (rc != MS_OK) {
        core_list_clear(&raft->options.alloc, &responses);
        return rc;
    }
    collect_state(raft, &ready);
    if (raft->options.async_storage) {
        push_storage_append(raft, &ready);
        push_storage_apply(raft, &ready, &responses);
        core_list_clear(&raft->options.alloc, &responses); /* if there was nothing after all */
    } else {
        sort_after_append(raft, &ready);
    }

    raft->last_soft = soft_now(raft);
    raft->last_hard = hard_now(raft);
    unstable_accept(&raft->log.unstable);
    raftlog_accept_applying(&raft->log, &ready.committed, may_apply_unstable(raft));

    ready.messages = raft->messages.items;
    ready.message_count = raft->messages.count;
    raft->messages = (struct message_list){0};
    ready.read_states = raft->read_states;
    ready.read_state_count = raft->read_state_count;
    raft->read_states = NULL;
    raft->read_state_count = 0;
    raft->read_state_capacity = 0;
    *out = ready;
    return MS_OK;
}

void raft_ready_release(struct raft *raft, struct raft_ready *ready)
{
    const struct raft_alloc *alloc = &raft->options.alloc;
    struct message_list messages = {.items = ready->messages, .count = ready->message_count};

    raft_slice_release(&ready->entries);
    raft_slice_release(&ready->committed);
    raft_snapshot_release(ready->snapshot);
    core_list_clear(alloc, &messages);
    if (ready->read_states != NULL) {
        alloc->free(alloc->ctx, ready->read_states);
    }
    memset(ready, 0, sizeof(*ready));
}

int raft_advance(struct raft *raft)
{
    assert(!raft->options.async_storage);
    while (raft->advanced < raft->on_advance.count) {
        struct raft_message *message = &raft->on_advance.items[raft->advanced];
        int rc = core_reserve(raft, 0, false);

        if (rc != MS_OK) {
            return rc;
        }
        (void)core_step_event(raft, message); /* of this node's own making: cannot be refused */
        raft_message_release(&raft->options.alloc, message);
        raft->advanced++;
    }
    raft->on_advance.count = 0;
    raft->advanced = 0;
    return MS_OK;
}

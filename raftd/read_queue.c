/*
 * read_queue: see read_queue.h.
 */
#include "raftd/read_queue.h"

#include <assert.h>
#include <string.h>

#include "common/clock.h"
#include "common/err.h"

void read_queue_init(struct read_queue *queue, uint64_t origin)
{
    memset(queue, 0, sizeof(*queue));
    queue->origin = origin;
}

bool read_queue_is_full(const struct read_queue *queue)
{
    return queue->count == READ_QUEUE_MAX;
}

void read_queue_add(struct read_queue *queue, struct api_client_ref from,
                    const struct ms_read_index *request)
{
    assert(!read_queue_is_full(queue));
    queue->waiters[queue->count++] = (struct read_waiter){
        .from = from, .request = request->request, .deadline_ns = request->deadline_ns};
}

int read_queue_ask(struct read_queue *queue, struct raft *raft, struct ms_instant now)
{
    struct raft_read_id id = {.origin = queue->origin, .seq = queue->last_seq + 1};
    bool wanted = false;
    int rc;

    for (size_t i = 0; i < queue->count; i++) {
        wanted = wanted || queue->waiters[i].asked_seq == 0;
    }
    if (!wanted) {
        return MS_OK;
    }
    rc = raft_read_index(raft, id);
    if (rc == MS_EDROPPED || rc == MS_EFULL) {
        return MS_OK;
    }
    if (rc != MS_OK) {
        return rc;
    }
    queue->last_seq = id.seq;
    queue->asked_at = now;
    for (size_t i = 0; i < queue->count; i++) {
        if (queue->waiters[i].asked_seq == 0) {
            queue->waiters[i].asked_seq = id.seq;
        }
    }
    return MS_OK;
}

void read_queue_ask_again(struct read_queue *queue)
{
    for (size_t i = 0; i < queue->count; i++) {
        queue->waiters[i].asked_seq = 0;
    }
}

void read_queue_ask_again_after(struct read_queue *queue, struct ms_instant now, uint64_t limit_ms)
{
    if (queue->count > 0 && ms_clock_elapsed_ms(queue->asked_at, now) > limit_ms) {
        read_queue_ask_again(queue);
    }
}

static void answer_one(const struct read_waiter *waiter, raft_index index, uint32_t reason,
                       struct api_clients *clients)
{
    struct api_answer answer = {.type = MS_IPC_READ_READY};

    answer.body.ready =
        (struct ms_read_ready){.request = waiter->request, .index = index, .reason = reason};
    api_clients_answer(clients, waiter->from, &answer);
}

void read_queue_answer(struct read_queue *queue, const struct raft_read_state *state,
                       struct api_clients *clients)
{
    size_t kept = 0;

    if (state->id.origin != queue->origin) {
        return;
    }
    for (size_t i = 0; i < queue->count; i++) {
        const struct read_waiter *waiter = &queue->waiters[i];

        if (waiter->asked_seq != 0 && waiter->asked_seq <= state->id.seq) {
            answer_one(waiter, state->index, 0, clients);
        } else {
            queue->waiters[kept++] = *waiter;
        }
    }
    queue->count = kept;
}

void read_queue_refuse(struct read_queue *queue, struct ms_instant now, bool all,
                       struct api_clients *clients)
{
    size_t kept = 0;

    for (size_t i = 0; i < queue->count; i++) {
        const struct read_waiter *waiter = &queue->waiters[i];

        if (all || waiter->deadline_ns < now.ns) {
            answer_one(waiter, 0, MS_REFUSED_NO_LEADER, clients);
        } else {
            queue->waiters[kept++] = *waiter;
        }
    }
    queue->count = kept;
}

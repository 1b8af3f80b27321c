/*
 * read_queue: reads that wait for an index from which they are linearizable (thesis 6.4).
 *
 * All that wait when the core is asked share one question. Answers get lost when the leader
 * changes, so questions are asked again; an answer to a later question answers earlier ones, too,
 * because commit indexes do not fall.
 */
#ifndef METASTORE_RAFTD_READ_QUEUE_H
#define METASTORE_RAFTD_READ_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ipc_catalogue.h"
#include "common/types.h"
#include "raftd/api_client.h"
#include "raftd/core/raft.h"

/* One apid sends one request for all reads that wait there, so few are ever outstanding. */
#define READ_QUEUE_MAX 1024u

struct read_waiter {
    struct api_client_ref from;
    uint64_t request;
    uint64_t deadline_ns;
    uint64_t asked_seq; /* of the question that covers it; 0: not yet asked */
};

struct read_queue {
    struct read_waiter waiters[READ_QUEUE_MAX];
    size_t count;
    uint64_t origin; /* names this raftd's questions in the cluster */
    uint64_t last_seq;
    struct ms_instant asked_at;
};

/* origin is this incarnation's random name. */
void read_queue_init(struct read_queue *queue, uint64_t origin);

bool read_queue_is_full(const struct read_queue *queue);
/* The queue must not be full (assert). */
void read_queue_add(struct read_queue *queue, struct api_client_ref from,
                    const struct ms_read_index *request);

/*
 * Puts one question to the core for all that have not been asked for. No leader is no failure:
 * they stay. MS_ENOMEM.
 */
int read_queue_ask(struct read_queue *queue, struct raft *raft, struct ms_instant now);

/* The questions under way will not be answered: to be called when the leader changed. */
void read_queue_ask_again(struct read_queue *queue);
/* The same if the newest question is older than limit_ms. */
void read_queue_ask_again_after(struct read_queue *queue, struct ms_instant now, uint64_t limit_ms);

/* The core's answer; goes to all that it covers. */
void read_queue_answer(struct read_queue *queue, const struct raft_read_state *state,
                       struct api_clients *clients);

/* Refuses with NO_LEADER those past their deadline, or all. */
void read_queue_refuse(struct read_queue *queue, struct ms_instant now, bool all,
                       struct api_clients *clients);

#endif

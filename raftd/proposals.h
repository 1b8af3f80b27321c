/*
 * proposals: commands on their way from an apid's ring into the core.
 *
 * Collects what a wake-up finds into one batch, copied out of the shared ring once, and proposes
 * it as a whole. A batch that cannot be proposed now (no leader, too much uncommitted) stays, and
 * nothing more is read meanwhile: the rest waits in the rings, where it costs its sender room.
 */
#ifndef METASTORE_RAFTD_PROPOSALS_H
#define METASTORE_RAFTD_PROPOSALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ipc_catalogue.h"
#include "common/types.h"
#include "raftd/api_client.h"
#include "raftd/core/raft.h"

/* A batch ends with whichever is reached first; the last command may exceed the bytes. */
#define PROPOSALS_BATCH_MAX   1024u
#define PROPOSALS_BATCH_BYTES (1024u * 1024u)

struct proposal {
    struct api_client_ref from;
    struct ms_op_id id;
    uint64_t deadline_ns;
};

struct proposals {
    const struct raft_alloc *alloc;
    struct proposal infos[PROPOSALS_BATCH_MAX];
    struct raft_entry entries[PROPOSALS_BATCH_MAX]; /* one reference to each owner */
    size_t count;
    size_t batch_bytes;
    struct raft_buffer *arena; /* where data is copied to; entries share it */
    uint8_t *arena_bytes;
    size_t arena_used;
    size_t arena_capacity;
};

void proposals_init(struct proposals *proposals, const struct raft_alloc *alloc);
void proposals_fini(struct proposals *proposals);

bool proposals_is_full(const struct proposals *proposals);
bool proposals_is_empty(const struct proposals *proposals);

/* Adds one command (copied) to the batch, which must not be full (assert). MS_ENOMEM. */
int proposals_add(struct proposals *proposals, struct api_client_ref from,
                  const struct ms_propose *propose, const uint8_t *command, size_t len_bytes);

/*
 * Proposes the whole batch. MS_OK: it is the core's now and the batch is empty; MS_EAGAIN: not
 * possible now, the batch stays; MS_ENOMEM: likewise, for want of memory.
 */
int proposals_submit(struct proposals *proposals, struct raft *raft);

/*
 * Refuses, with reason, those of the batch that are past their deadline, or all. Returns how many.
 */
size_t proposals_refuse(struct proposals *proposals, struct ms_instant now, bool all,
                        enum ms_refusal reason, struct api_clients *clients);

/* One refusal that never was part of the batch. */
void proposals_refuse_one(struct api_client_ref from, struct ms_op_id id, enum ms_refusal reason,
                          struct api_clients *clients);

#endif

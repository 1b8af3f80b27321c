/*
 * proposals: see proposals.h.
 */
#include "raftd/proposals.h"

#include <assert.h>
#include <string.h>

#include "common/err.h"

/*
 * One allocation serves many commands. It is freed with the last entry that lies in it, so it
 * should not be much larger than what is kept anyway.
 */
#define ARENA_BYTES (256u * 1024u)

void proposals_init(struct proposals *proposals, const struct raft_alloc *alloc)
{
    memset(proposals, 0, sizeof(*proposals));
    proposals->alloc = alloc;
}

static void clear(struct proposals *proposals)
{
    for (size_t i = 0; i < proposals->count; i++) {
        raft_buffer_release(proposals->entries[i].owner);
    }
    proposals->count = 0;
    proposals->batch_bytes = 0;
}

void proposals_fini(struct proposals *proposals)
{
    clear(proposals);
    raft_buffer_release(proposals->arena);
    proposals->arena = NULL;
}

bool proposals_is_full(const struct proposals *proposals)
{
    return proposals->count == PROPOSALS_BATCH_MAX ||
           proposals->batch_bytes >= PROPOSALS_BATCH_BYTES;
}

bool proposals_is_empty(const struct proposals *proposals)
{
    return proposals->count == 0;
}

/* Room for len_bytes in an arena of which entries may hold earlier parts. */
static int arena_reserve(struct proposals *proposals, size_t len_bytes)
{
    size_t capacity = len_bytes > ARENA_BYTES ? len_bytes : ARENA_BYTES;
    struct raft_buffer *arena = NULL;
    uint8_t *bytes = NULL;
    int rc;

    if (len_bytes <= proposals->arena_capacity - proposals->arena_used) {
        return MS_OK;
    }
    rc = raft_buffer_create(proposals->alloc, capacity, &arena, &bytes);
    if (rc != MS_OK) {
        return rc;
    }
    raft_buffer_release(proposals->arena);
    proposals->arena = arena;
    proposals->arena_bytes = bytes;
    proposals->arena_used = 0;
    proposals->arena_capacity = capacity;
    return MS_OK;
}

int proposals_add(struct proposals *proposals, struct api_client_ref from,
                  const struct ms_propose *propose, const uint8_t *command, size_t len_bytes)
{
    uint8_t *dst;
    int rc;

    assert(!proposals_is_full(proposals));
    rc = arena_reserve(proposals, len_bytes);
    if (rc != MS_OK) {
        return rc;
    }
    dst = proposals->arena_bytes + proposals->arena_used;
    memcpy(dst, command, len_bytes);
    proposals->arena_used += len_bytes;
    raft_buffer_ref(proposals->arena);
    proposals->entries[proposals->count] = (struct raft_entry){
        .data = dst, .len_bytes = len_bytes, .owner = proposals->arena, .type = RAFT_ENTRY_NORMAL};
    proposals->infos[proposals->count] =
        (struct proposal){.from = from, .id = propose->id, .deadline_ns = propose->deadline_ns};
    proposals->count++;
    proposals->batch_bytes += len_bytes;
    return MS_OK;
}

int proposals_submit(struct proposals *proposals, struct raft *raft)
{
    int rc;

    if (proposals->count == 0) {
        return MS_OK;
    }
    rc = raft_propose(raft, proposals->entries, proposals->count);
    if (rc == MS_EDROPPED || rc == MS_EFULL) {
        return MS_EAGAIN;
    }
    if (rc == MS_OK) {
        clear(proposals);
    }
    return rc;
}

void proposals_refuse_one(struct api_client_ref from, struct ms_op_id id, enum ms_refusal reason,
                          struct api_clients *clients)
{
    struct api_answer answer = {.type = MS_IPC_PROPOSE_REFUSED};

    answer.body.refused = (struct ms_propose_refused){.id = id, .reason = (uint32_t)reason};
    api_clients_answer(clients, from, &answer);
}

size_t proposals_refuse(struct proposals *proposals, struct ms_instant now, bool all,
                        enum ms_refusal reason, struct api_clients *clients)
{
    size_t count = proposals->count;
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        const struct proposal *info = &proposals->infos[i];
        struct raft_entry entry = proposals->entries[i];

        if (all || info->deadline_ns < now.ns) {
            proposals_refuse_one(info->from, info->id, reason, clients);
            proposals->batch_bytes -= entry.len_bytes;
            raft_buffer_release(entry.owner);
        } else {
            proposals->infos[kept] = *info;
            proposals->entries[kept] = entry;
            kept++;
        }
    }
    proposals->count = kept;
    return count - kept;
}

/*
 * memory: life and death of everything the core hands out. See memory.h and raft.h.
 */
#include "raftd/core/memory.h"

#include <assert.h>
#include <string.h>

#define LIST_CAPACITY_MIN 4

/* ---- buffers ---- */

struct owned_buffer {
    struct raft_buffer base;
    struct raft_alloc alloc;
    uint8_t bytes[];
};

static void owned_buffer_destroy(struct raft_buffer *buffer)
{
    struct owned_buffer *owned = (struct owned_buffer *)buffer; /* base is its first member */
    struct raft_alloc alloc = owned->alloc;

    alloc.free(alloc.ctx, owned);
}

int raft_buffer_create(const struct raft_alloc *alloc, size_t len_bytes,
                       struct raft_buffer **buffer, uint8_t **bytes)
{
    struct owned_buffer *owned;

    if (len_bytes > SIZE_MAX - sizeof(*owned)) {
        return MS_ENOMEM;
    }
    owned = alloc->alloc(alloc->ctx, sizeof(*owned) + len_bytes);
    if (owned == NULL) {
        return MS_ENOMEM;
    }
    owned->base.refs = 1;
    owned->base.destroy = owned_buffer_destroy;
    owned->alloc = *alloc;
    *buffer = &owned->base;
    *bytes = owned->bytes;
    return MS_OK;
}

void raft_buffer_ref(struct raft_buffer *buffer)
{
    if (buffer != NULL) {
        buffer->refs++;
    }
}

void raft_buffer_release(struct raft_buffer *buffer)
{
    if (buffer == NULL) {
        return;
    }
    assert(buffer->refs > 0);
    buffer->refs--;
    if (buffer->refs == 0) {
        buffer->destroy(buffer);
    }
}

/* ---- blocks and slices ---- */

struct raft_block *core_block_create(const struct raft_alloc *alloc, size_t capacity)
{
    struct raft_block *block;

    if (capacity > (SIZE_MAX - sizeof(*block)) / sizeof(struct raft_entry)) {
        return NULL;
    }
    block = alloc->alloc(alloc->ctx, sizeof(*block) + capacity * sizeof(struct raft_entry));
    if (block == NULL) {
        return NULL;
    }
    block->alloc = *alloc;
    block->refs = 1;
    block->capacity = capacity;
    block->used = 0;
    block->released = 0;
    return block;
}

void core_block_release(struct raft_block *block)
{
    struct raft_alloc alloc;

    if (block == NULL) {
        return;
    }
    assert(block->refs > 0);
    block->refs--;
    if (block->refs > 0) {
        return;
    }
    block->refs = 1; /* nobody else is left, as core_block_truncate() demands */
    core_block_truncate(block, block->released);
    alloc = block->alloc;
    alloc.free(alloc.ctx, block);
}

void core_block_append(struct raft_block *block, const struct raft_entry *entries, size_t count)
{
    assert(count <= block->capacity - block->used);
    for (size_t i = 0; i < count; i++) {
        raft_buffer_ref(entries[i].owner);
        block->entries[block->used++] = entries[i];
    }
}

void core_block_truncate(struct raft_block *block, size_t used)
{
    assert(block->refs == 1 && used >= block->released);
    while (block->used > used) {
        block->used--;
        raft_buffer_release(block->entries[block->used].owner);
    }
}

void core_block_forget(struct raft_block *block, size_t end)
{
    assert(end <= block->used);
    if (block->refs > 1) {
        return;
    }
    while (block->released < end) {
        raft_buffer_release(block->entries[block->released].owner);
        block->released++;
    }
}

struct raft_slice core_block_slice(struct raft_block *block, size_t start, size_t count)
{
    if (count == 0) {
        return (struct raft_slice){0};
    }
    assert(start >= block->released && start + count <= block->used);
    block->refs++;
    return (struct raft_slice){.block = block, .entries = &block->entries[start], .count = count};
}

int raft_slice_create(const struct raft_alloc *alloc, const struct raft_entry *entries,
                      size_t count, struct raft_slice *out)
{
    struct raft_block *block;

    if (count == 0) {
        *out = (struct raft_slice){0};
        return MS_OK;
    }
    block = core_block_create(alloc, count);
    if (block == NULL) {
        return MS_ENOMEM;
    }
    core_block_append(block, entries, count);
    /* The block's first reference becomes the slice's. */
    *out = (struct raft_slice){.block = block, .entries = block->entries, .count = count};
    return MS_OK;
}

struct raft_slice raft_slice_ref(const struct raft_slice *slice)
{
    if (slice->count == 0) {
        return (struct raft_slice){0};
    }
    assert(slice->block != NULL);
    slice->block->refs++;
    return *slice;
}

void raft_slice_release(struct raft_slice *slice)
{
    core_block_release(slice->block);
    *slice = (struct raft_slice){0};
}

/* ---- snapshots ---- */

int raft_snapshot_create(const struct raft_alloc *alloc, raft_index index, raft_term term,
                         const struct raft_conf_state *conf, struct raft_buffer *data,
                         struct raft_snapshot **out)
{
    struct raft_snapshot *snapshot = alloc->alloc(alloc->ctx, sizeof(*snapshot));

    if (snapshot == NULL) {
        return MS_ENOMEM;
    }
    snapshot->refs = 1;
    snapshot->alloc = *alloc;
    snapshot->index = index;
    snapshot->term = term;
    snapshot->conf = *conf;
    snapshot->data = data;
    raft_buffer_ref(data);
    *out = snapshot;
    return MS_OK;
}

struct raft_snapshot *raft_snapshot_ref(struct raft_snapshot *snapshot)
{
    if (snapshot != NULL) {
        snapshot->refs++;
    }
    return snapshot;
}

void raft_snapshot_release(struct raft_snapshot *snapshot)
{
    struct raft_alloc alloc;

    if (snapshot == NULL) {
        return;
    }
    assert(snapshot->refs > 0);
    snapshot->refs--;
    if (snapshot->refs > 0) {
        return;
    }
    raft_buffer_release(snapshot->data);
    alloc = snapshot->alloc;
    alloc.free(alloc.ctx, snapshot);
}

/* ---- messages ---- */

/*
 * What a list's items point into. Message arrays change hands (queue, ready, responses) as a
 * bare pointer; the capacity in front of it lets the last owner reuse or free the whole.
 */
struct message_array {
    size_t capacity;
    struct raft_message items[];
};

static struct message_array *array_of(struct raft_message *items)
{
    return (struct message_array *)((char *)items - offsetof(struct message_array, items));
}

int core_list_reserve(const struct raft_alloc *alloc, struct message_list *list, size_t extra)
{
    size_t capacity = list->items == NULL ? 0 : array_of(list->items)->capacity;
    struct message_array *grown;

    if (extra <= capacity - list->count) {
        return MS_OK;
    }
    capacity = capacity < LIST_CAPACITY_MIN ? LIST_CAPACITY_MIN : capacity;
    while (capacity < list->count + extra) {
        capacity *= 2;
    }
    grown = alloc->alloc(alloc->ctx, sizeof(*grown) + capacity * sizeof(struct raft_message));
    if (grown == NULL) {
        return MS_ENOMEM;
    }
    grown->capacity = capacity;
    if (list->items != NULL) {
        memcpy(grown->items, list->items, list->count * sizeof(struct raft_message));
        alloc->free(alloc->ctx, array_of(list->items));
    }
    list->items = grown->items;
    return MS_OK;
}

struct raft_message *core_list_push(struct message_list *list)
{
    struct raft_message *message;

    assert(list->items != NULL && list->count < array_of(list->items)->capacity);
    message = &list->items[list->count++];
    memset(message, 0, sizeof(*message));
    return message;
}

void core_list_clear(const struct raft_alloc *alloc, struct message_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        raft_message_release(alloc, &list->items[i]);
    }
    if (list->items != NULL) {
        alloc->free(alloc->ctx, array_of(list->items));
    }
    *list = (struct message_list){0};
}

void raft_message_release(const struct raft_alloc *alloc, struct raft_message *message)
{
    struct message_list responses = {.items = message->responses, .count = message->response_count};

    raft_slice_release(&message->entries);
    raft_snapshot_release(message->snapshot);
    /* Responses carry none of their own, so this goes no deeper than one level. */
    core_list_clear(alloc, &responses);
    memset(message, 0, sizeof(*message));
}

void raft_message_take(struct raft_message *dst, struct raft_message *src)
{
    *dst = *src;
    memset(src, 0, sizeof(*src));
}

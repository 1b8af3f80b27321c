/*
 * store: see store.h.
 */
#include "tests/conformance/store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/conformance/buffer.h"

static void *take_memory(void *ctx, size_t len_bytes)
{
    (void)ctx;
    return buffer_alloc(len_bytes);
}

static void free_memory(void *ctx, void *memory)
{
    (void)ctx;
    free(memory);
}

const struct raft_alloc store_alloc = {.alloc = take_memory, .free = free_memory};

static void push_history(struct store *store, raft_index index, raft_term term,
                         const struct raft_conf_state *conf)
{
    struct raft_snapshot *snapshot = NULL;
    int rc = raft_snapshot_create(&store_alloc, index, term, conf, NULL, &snapshot);

    assert(rc == MS_OK);
    (void)rc;
    if (store->history_count == store->history_capacity) {
        store->history_capacity = store->history_capacity == 0 ? 16 : 2 * store->history_capacity;
        store->history = buffer_realloc(store->history,
                                        store->history_capacity * sizeof(struct raft_snapshot *));
    }
    store->history[store->history_count++] = snapshot;
}

void store_init(struct store *store, raft_index index, raft_term term,
                const struct raft_conf_state *conf)
{
    memset(store, 0, sizeof(*store));
    store->dummy_index = index;
    store->dummy_term = term;
    store->snapshot_index = index;
    store->conf = *conf;
    push_history(store, index, term, conf);
}

static void cut(struct store *store, size_t keep)
{
    while (store->count > keep) {
        store->count--;
        raft_buffer_release(store->entries[store->count].owner);
    }
}

void store_fini(struct store *store)
{
    cut(store, 0);
    free(store->entries);
    for (size_t i = 0; i < store->history_count; i++) {
        raft_snapshot_release(store->history[i]);
    }
    free(store->history);
    memset(store, 0, sizeof(*store));
}

/* ---- for the core ---- */

static int initial_state(void *ctx, struct raft_hard_state *hard, struct raft_conf_state *conf)
{
    const struct store *store = ctx;

    *hard = (struct raft_hard_state){0};
    *conf = store->conf;
    return MS_OK;
}

static int read_entries(void *ctx, raft_index first, raft_index end, uint64_t max_bytes,
                        struct raft_slice *out)
{
    const struct store *store = ctx;
    const struct raft_entry *entries;

    if (first <= store->dummy_index) {
        return MS_ECOMPACTED;
    }
    assert(first < end && end <= store_last_index(store) + 1);
    entries = &store->entries[first - store->dummy_index - 1];
    return raft_slice_create(&store_alloc, entries,
                             raft_entries_fit(entries, (size_t)(end - first), max_bytes), out);
}

static int read_term(void *ctx, raft_index index, raft_term *term)
{
    const struct store *store = ctx;

    if (index < store->dummy_index) {
        return MS_ECOMPACTED;
    }
    if (index > store_last_index(store)) {
        return MS_EUNAVAILABLE;
    }
    *term = index == store->dummy_index ? store->dummy_term
                                        : store->entries[index - store->dummy_index - 1].term;
    return MS_OK;
}

static raft_index read_first_index(void *ctx)
{
    return store_first_index(ctx);
}

static raft_index read_last_index(void *ctx)
{
    return store_last_index(ctx);
}

static int read_snapshot(void *ctx, struct raft_snapshot **out)
{
    *out = raft_snapshot_ref(store_newest(ctx));
    return MS_OK;
}

struct raft_storage store_interface(struct store *store)
{
    return (struct raft_storage){.initial_state = initial_state,
                                 .entries = read_entries,
                                 .term = read_term,
                                 .first_index = read_first_index,
                                 .last_index = read_last_index,
                                 .snapshot = read_snapshot,
                                 .ctx = store};
}

/* ---- for the driver ---- */

raft_index store_first_index(const struct store *store)
{
    return store->dummy_index + 1;
}

raft_index store_last_index(const struct store *store)
{
    return store->dummy_index + store->count;
}

int store_append(struct store *store, const struct raft_entry *entries, size_t count)
{
    size_t keep;

    if (count == 0 || entries[count - 1].index <= store->dummy_index) {
        return MS_OK;
    }
    while (entries[0].index <= store->dummy_index) {
        entries++;
        count--;
    }
    keep = (size_t)(entries[0].index - store->dummy_index - 1);
    if (keep > store->count) {
        return MS_ERANGE;
    }
    cut(store, keep);
    if (store->count + count > store->capacity) {
        store->capacity = 2 * (store->count + count);
        store->entries =
            buffer_realloc(store->entries, store->capacity * sizeof(struct raft_entry));
    }
    for (size_t i = 0; i < count; i++) {
        raft_buffer_ref(entries[i].owner);
        store->entries[store->count++] = entries[i];
    }
    return MS_OK;
}

int store_apply_snapshot(struct store *store, const struct raft_snapshot *snapshot)
{
    if (store->snapshot_index != 0 && store->snapshot_index >= snapshot->index) {
        return MS_EEXIST;
    }
    cut(store, 0);
    store->dummy_index = snapshot->index;
    store->dummy_term = snapshot->term;
    store->snapshot_index = snapshot->index;
    return MS_OK;
}

int store_compact(struct store *store, raft_index index)
{
    size_t gone;

    if (index <= store->dummy_index) {
        return MS_ECOMPACTED;
    }
    if (index > store_last_index(store)) {
        return MS_ERANGE;
    }
    gone = (size_t)(index - store->dummy_index);
    store->dummy_term = store->entries[gone - 1].term;
    store->dummy_index = index;
    for (size_t i = 0; i < gone; i++) {
        raft_buffer_release(store->entries[i].owner);
    }
    store->count -= gone;
    memmove(store->entries, store->entries + gone, store->count * sizeof(struct raft_entry));
    return MS_OK;
}

struct raft_snapshot *store_newest(const struct store *store)
{
    return store->history[store->history_count - 1];
}

void store_applied(struct store *store, const struct raft_entry *entry,
                   const struct raft_conf_state *conf)
{
    push_history(store, entry->index, entry->term,
                 conf != NULL ? conf : &store_newest(store)->conf);
}

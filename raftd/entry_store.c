/*
 * entry_store: see entry_store.h.
 */
#include "raftd/entry_store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 256u

/* An entry without data costs something, too; else a bound in bytes would not bound anything. */
static uint64_t cost_of(const struct raft_entry *entry)
{
    return sizeof(*entry) + entry->len_bytes;
}

static struct raft_entry *at(const struct entry_store *store, raft_index index)
{
    const raft_index base = entry_store_base_index(store);

    assert(index > base);
    assert(index - base <= store->count);
    return &store->items[store->start + (size_t)(index - base) - 1];
}

void entry_store_init(struct entry_store *store, const struct raft_alloc *alloc,
                      uint64_t recent_bytes_max)
{
    memset(store, 0, sizeof(*store));
    store->alloc = alloc;
    store->recent_bytes_max = recent_bytes_max;
    term_runs_reset(&store->terms, 0, 0);
}

/* Drops the newest entries, those above index. */
static void cut_after(struct entry_store *store, raft_index index)
{
    while (store->count > 0 && entry_store_last_index(store) > index) {
        struct raft_entry *last = &store->items[store->start + store->count - 1];

        store->kept_bytes -= cost_of(last);
        if (last->index > store->applied) {
            store->unapplied_bytes -= cost_of(last);
        }
        raft_buffer_release(last->owner);
        store->count--;
    }
}

void entry_store_fini(struct entry_store *store)
{
    cut_after(store, entry_store_base_index(store));
    free(store->items);
    store->items = NULL;
    store->capacity = 0;
    store->start = 0;
}

void entry_store_reset(struct entry_store *store, raft_index base_index, raft_term base_term)
{
    cut_after(store, entry_store_base_index(store));
    store->start = 0;
    term_runs_reset(&store->terms, base_index, base_term);
    store->applied = base_index;
}

/* Room for extra more behind the live ones; moves these to the front before it grows. */
static int reserve(struct entry_store *store, size_t extra)
{
    size_t needed = store->count + extra;
    size_t capacity = store->capacity == 0 ? CAPACITY_MIN : store->capacity;
    struct raft_entry *grown;

    if (store->start + needed <= store->capacity) {
        return MS_OK;
    }
    while (capacity < 2 * needed) {
        capacity *= 2;
    }
    /* At most half full after a move: each entry is moved a bounded number of times. */
    if (capacity > store->capacity) {
        grown = calloc(capacity, sizeof(*grown));
        if (grown == NULL) {
            return MS_ENOMEM;
        }
        if (store->count > 0) {
            memcpy(grown, &store->items[store->start], store->count * sizeof(*grown));
        }
        free(store->items);
        store->items = grown;
        store->capacity = capacity;
    } else {
        memmove(store->items, &store->items[store->start], store->count * sizeof(*store->items));
    }
    store->start = 0;
    return MS_OK;
}

int entry_store_append(struct entry_store *store, const struct raft_entry *entries, size_t count)
{
    int rc;

    if (count == 0) {
        return MS_OK;
    }
    assert(entries[0].index > store->applied);
    assert(entries[0].index <= entry_store_last_index(store) + 1);
    rc = reserve(store, count);
    if (rc != MS_OK) {
        return rc;
    }
    cut_after(store, entries[0].index - 1);
    for (size_t i = 0; i < count; i++) {
        uint64_t cost = cost_of(&entries[i]);

        assert(entries[i].index == entries[0].index + i);
        raft_buffer_ref(entries[i].owner);
        store->items[store->start + store->count] = entries[i];
        store->count++;
        store->kept_bytes += cost;
        store->unapplied_bytes += cost;
    }
    return MS_OK;
}

void entry_store_applied(struct entry_store *store, raft_index index)
{
    assert(index <= entry_store_last_index(store));
    /* Less than what a snapshot has put in its place meanwhile is no news. */
    while (store->applied < index) {
        store->applied++;
        store->unapplied_bytes -= cost_of(at(store, store->applied));
    }
    while (entry_store_base_index(store) < store->applied &&
           store->kept_bytes > store->recent_bytes_max) {
        struct raft_entry *oldest = &store->items[store->start];

        store->kept_bytes -= cost_of(oldest);
        term_runs_add(&store->terms, oldest->term);
        raft_buffer_release(oldest->owner);
        store->start++;
        store->count--;
    }
}

int entry_store_learn_terms(struct entry_store *store, const struct ms_log_term_run *runs,
                            size_t count, raft_index last_index)
{
    return term_runs_learn(&store->terms, runs, count, last_index);
}

void entry_store_compacted(struct entry_store *store, raft_index first_index)
{
    const raft_index base = entry_store_base_index(store);

    if (first_index > 0) {
        term_runs_forget(&store->terms, first_index - 1 < base ? first_index - 1 : base);
    }
}

raft_index entry_store_base_index(const struct entry_store *store)
{
    return store->terms.last_index;
}

int entry_store_entries(const struct entry_store *store, raft_index first, raft_index end,
                        uint64_t max_bytes, struct raft_slice *out)
{
    const struct raft_entry *from;

    if (first < entry_store_first_index(store)) {
        return MS_ECOMPACTED;
    }
    if (first <= entry_store_base_index(store)) {
        return MS_EAGAIN;
    }
    if (end <= first || end > entry_store_last_index(store) + 1) {
        return MS_EUNAVAILABLE;
    }
    from = at(store, first);
    return raft_slice_create(store->alloc, from,
                             raft_entries_fit(from, (size_t)(end - first), max_bytes), out);
}

int entry_store_term(const struct entry_store *store, raft_index index, raft_term *term)
{
    if (index + 1 < entry_store_first_index(store)) {
        return MS_ECOMPACTED;
    }
    if (index > entry_store_last_index(store)) {
        return MS_EUNAVAILABLE;
    }
    *term = index <= entry_store_base_index(store) ? term_runs_at(&store->terms, index)
                                                   : at(store, index)->term;
    return MS_OK;
}

raft_index entry_store_first_index(const struct entry_store *store)
{
    return term_runs_first_index(&store->terms) + 1;
}

raft_index entry_store_last_index(const struct entry_store *store)
{
    return entry_store_base_index(store) + store->count;
}

bool entry_store_has_conf_change(const struct entry_store *store, raft_index after,
                                 raft_index up_to)
{
    for (raft_index index = after + 1; index <= up_to; index++) {
        if (at(store, index)->type != RAFT_ENTRY_NORMAL) {
            return true;
        }
    }
    return false;
}

uint64_t entry_store_unapplied_bytes(const struct entry_store *store)
{
    return store->unapplied_bytes;
}

/*
 * log_store: the calls of the interface. They only forward; each implementation answers for itself.
 */
#include "storaged/log_store.h"

void log_store_destroy(struct log_store *store)
{
    if (store != NULL) {
        store->ops->destroy(store);
    }
}

int log_store_append(struct log_store *store, const struct log_entry *entries, size_t count,
                     const struct ms_hard_state *hard_state, struct ms_err *err)
{
    return store->ops->append(store, entries, count, hard_state, err);
}

int log_store_put_conf(struct log_store *store, raft_index index, const uint8_t *conf,
                       size_t conf_bytes, struct ms_err *err)
{
    return store->ops->put_conf(store, index, conf, conf_bytes, err);
}

int log_store_sync(struct log_store *store, struct ms_err *err)
{
    return store->ops->sync(store, err);
}

int log_store_set_snapshot(struct log_store *store, raft_index index, raft_term term,
                           struct ms_err *err)
{
    return store->ops->set_snapshot(store, index, term, err);
}

int log_store_install(struct log_store *store, const struct log_store_install *install,
                      struct ms_err *err)
{
    return store->ops->install(store, install, err);
}

int log_store_compact(struct log_store *store, raft_index index, struct ms_err *err)
{
    return store->ops->compact(store, index, err);
}

int log_store_event_fd(const struct log_store *store)
{
    return store->ops->event_fd(store);
}

void log_store_service(struct log_store *store)
{
    store->ops->service(store);
}

bool log_store_is_full(struct log_store *store, struct ms_err *why)
{
    return store->ops->is_full(store, why);
}

void log_store_stats(const struct log_store *store, struct log_store_stats *out)
{
    store->ops->stats(store, out);
}

void log_store_state(struct log_store *store, struct log_state *out)
{
    store->ops->state(store, out);
}

int log_store_term(struct log_store *store, raft_index index, raft_term *out, struct ms_err *err)
{
    return store->ops->term(store, index, out, err);
}

int log_store_entries(struct log_store *store, const struct log_store_range *range,
                      log_store_visit visit, void *ctx, struct ms_err *err)
{
    return store->ops->entries(store, range, visit, ctx, err);
}

int log_store_conf(struct log_store *store, raft_index index, uint8_t *dst, size_t dst_bytes,
                   size_t *conf_bytes, raft_index *conf_index, struct ms_err *err)
{
    return store->ops->conf(store, index, dst, dst_bytes, conf_bytes, conf_index, err);
}

uint64_t log_store_disk_bytes(struct log_store *store, raft_index index)
{
    return store->ops->disk_bytes(store, index);
}

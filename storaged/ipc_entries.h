/*
 * ipc_entries: log entries in the tails of ring messages (struct ms_ipc_entry), read and written.
 */
#ifndef METASTORE_STORAGED_IPC_ENTRIES_H
#define METASTORE_STORAGED_IPC_ENTRIES_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/log_store.h"

/* A walk over a tail; entries borrow from it. */
struct ipc_entries {
    const uint8_t *tail;
    size_t tail_bytes;
    size_t offset;
};

/*
 * The next entry. Its head is copied before it is checked, so the far side cannot change it in
 * between. MS_ENOENT: the tail ends here; MS_EPROTO: what follows is no entry.
 */
int ipc_entries_next(struct ipc_entries *entries, struct log_entry *out);

/* Bytes that an entry takes in a tail. */
size_t ipc_entry_bytes(size_t data_bytes);

/* Writes one entry to dst, which has ipc_entry_bytes of room; returns them. */
size_t ipc_entry_put(uint8_t *dst, const struct log_entry *entry);

#endif

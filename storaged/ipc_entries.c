/*
 * ipc_entries: entries in ring messages.
 */
#include "storaged/ipc_entries.h"

#include <assert.h>
#include <string.h>

#include "common/ipc_catalogue.h"

#define ENTRY_ALIGN 8u

size_t ipc_entry_bytes(size_t data_bytes)
{
    return sizeof(struct ms_ipc_entry) + (data_bytes + ENTRY_ALIGN - 1) / ENTRY_ALIGN * ENTRY_ALIGN;
}

int ipc_entries_next(struct ipc_entries *entries, struct log_entry *out)
{
    size_t rest = entries->tail_bytes - entries->offset;
    struct ms_ipc_entry head;

    assert(entries->offset <= entries->tail_bytes);
    if (rest == 0) {
        return MS_ENOENT;
    }
    if (rest < sizeof(head)) {
        return MS_EPROTO;
    }
    memcpy(&head, entries->tail + entries->offset, sizeof(head));
    if (head.index == 0 || ipc_entry_bytes(head.len_bytes) > rest) {
        return MS_EPROTO;
    }
    *out = (struct log_entry){
        .term = head.term,
        .index = head.index,
        .type = head.type,
        .data_bytes = head.len_bytes,
        .data = entries->tail + entries->offset + sizeof(head),
    };
    entries->offset += ipc_entry_bytes(head.len_bytes);
    return MS_OK;
}

size_t ipc_entry_put(uint8_t *dst, const struct log_entry *entry)
{
    const struct ms_ipc_entry head = {.term = entry->term,
                                      .index = entry->index,
                                      .type = entry->type,
                                      .len_bytes = entry->data_bytes};
    size_t total = ipc_entry_bytes(entry->data_bytes);

    memset(dst + total - ENTRY_ALIGN, 0, ENTRY_ALIGN);
    memcpy(dst, &head, sizeof(head));
    if (entry->data_bytes > 0) {
        memcpy(dst + sizeof(head), entry->data, entry->data_bytes);
    }
    return total;
}

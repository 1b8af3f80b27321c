/*
 * entry_codec: see entry_codec.h.
 */
#include "raftd/entry_codec.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/ipc_catalogue.h"

_Static_assert((int)RAFT_ENTRY_NORMAL == (int)MS_ENTRY_NORMAL, "entry types differ");
_Static_assert((int)RAFT_ENTRY_CONF_CHANGE == (int)MS_ENTRY_CONF_CHANGE, "entry types differ");
_Static_assert((int)RAFT_ENTRY_CONF_CHANGE_V2 == (int)MS_ENTRY_CONF_CHANGE_V2,
               "entry types differ");

#define ENTRY_ALIGNMENT 8u

size_t entry_codec_bytes(size_t len_bytes)
{
    size_t padded = (len_bytes + ENTRY_ALIGNMENT - 1) & ~(size_t)(ENTRY_ALIGNMENT - 1);

    return sizeof(struct ms_ipc_entry) + padded;
}

size_t entry_codec_fit(const struct raft_entry *entries, size_t count, size_t tail_max,
                       size_t *tail_bytes)
{
    size_t limit = tail_max < ENTRY_CODEC_PIECE_BYTES ? tail_max : ENTRY_CODEC_PIECE_BYTES;
    size_t used = 0;
    size_t fit = 0;

    while (fit < count) {
        size_t bytes = entry_codec_bytes(entries[fit].len_bytes);

        if (fit > 0 && bytes > limit - used) {
            break;
        }
        used += bytes;
        fit++;
        if (used >= limit) {
            break;
        }
    }
    *tail_bytes = used;
    return fit;
}

void entry_codec_pack(const struct raft_entry *entries, size_t count, uint8_t *dst)
{
    for (size_t i = 0; i < count; i++) {
        const struct raft_entry *entry = &entries[i];
        struct ms_ipc_entry header = {
            .term = entry->term,
            .index = entry->index,
            .type = (uint32_t)entry->type,
            .len_bytes = (uint32_t)entry->len_bytes,
        };
        size_t bytes = entry_codec_bytes(entry->len_bytes);

        assert(entry->len_bytes <= UINT32_MAX);
        memcpy(dst, &header, sizeof(header));
        if (entry->len_bytes > 0) {
            memcpy(dst + sizeof(header), entry->data, entry->len_bytes);
        }
        memset(dst + sizeof(header) + entry->len_bytes, 0,
               bytes - sizeof(header) - entry->len_bytes);
        dst += bytes;
    }
}

/* Reads one entry from the front of [src, src + left); its length in the tail goes to *bytes. */
static int unpack_one(const uint8_t *src, size_t left, struct raft_buffer *owner,
                      struct raft_entry *out, size_t *bytes)
{
    struct ms_ipc_entry header;

    if (left < sizeof(header)) {
        return MS_EPROTO;
    }
    memcpy(&header, src, sizeof(header));
    if (header.type > MS_ENTRY_CONF_CHANGE_V2 || header.len_bytes > left - sizeof(header) ||
        entry_codec_bytes(header.len_bytes) > left) {
        return MS_EPROTO;
    }
    *out = (struct raft_entry){
        .term = header.term,
        .index = header.index,
        .data = header.len_bytes > 0 ? src + sizeof(header) : NULL,
        .len_bytes = header.len_bytes,
        .owner = owner,
        .type = (enum raft_entry_type)header.type,
    };
    *bytes = entry_codec_bytes(header.len_bytes);
    return MS_OK;
}

int entry_codec_unpack(const struct raft_alloc *alloc, const uint8_t *tail, size_t tail_bytes,
                       raft_index first_index, size_t count, struct raft_slice *out)
{
    struct raft_buffer *buffer = NULL;
    struct raft_entry *entries = NULL;
    uint8_t *copy = NULL;
    size_t offset = 0;
    int rc;

    /* Bounds count before anything is allocated for it. */
    if (count > tail_bytes / sizeof(struct ms_ipc_entry)) {
        return MS_EPROTO;
    }
    if (count == 0) {
        if (tail_bytes != 0) {
            return MS_EPROTO;
        }
        *out = (struct raft_slice){0};
        return MS_OK;
    }
    rc = raft_buffer_create(alloc, tail_bytes, &buffer, &copy);
    if (rc != MS_OK) {
        goto out;
    }
    memcpy(copy, tail, tail_bytes);
    entries = calloc(count, sizeof(*entries));
    if (entries == NULL) {
        rc = MS_ENOMEM;
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        size_t bytes = 0;

        rc = unpack_one(copy + offset, tail_bytes - offset, buffer, &entries[i], &bytes);
        if (rc == MS_OK && (entries[i].index != first_index + i || entries[i].term == 0 ||
                            (i > 0 && entries[i].term < entries[i - 1].term))) {
            rc = MS_EPROTO;
        }
        if (rc != MS_OK) {
            goto out;
        }
        offset += bytes;
    }
    rc = offset == tail_bytes ? raft_slice_create(alloc, entries, count, out) : MS_EPROTO;

out:
    free(entries);
    raft_buffer_release(buffer);
    return rc;
}

/*
 * entry_codec: log entries in the tails of ring messages.
 *
 * Between the core's descriptors and struct ms_ipc_entry. What comes in is copied out of the ring
 * before it is looked at: the far side could change the bytes between a check and their use.
 */
#ifndef METASTORE_RAFTD_ENTRY_CODEC_H
#define METASTORE_RAFTD_ENTRY_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "common/types.h"
#include "raftd/core/raft.h"

/*
 * A message gets no further entry beyond this, although the ring would take more: storaged looks
 * at its other work only between messages.
 */
#define ENTRY_CODEC_PIECE_BYTES (256u * 1024u)

/* Bytes that one entry with len_bytes of data takes in a tail. */
size_t entry_codec_bytes(size_t len_bytes);

/*
 * How many of the count entries go into one message whose tail may have up to tail_max bytes, and
 * in *tail_bytes how long the tail is. At least one if count > 0: an entry alone always fits,
 * because larger ones are refused before they become entries.
 */
size_t entry_codec_fit(const struct raft_entry *entries, size_t count, size_t tail_max,
                       size_t *tail_bytes);

/* Writes the entries to dst, which has the bytes that entry_codec_fit told. */
void entry_codec_pack(const struct raft_entry *entries, size_t count, uint8_t *dst);

/*
 * Reads count entries, of which the first must have first_index and the others must follow without
 * a gap and with terms that do not fall. *out gets a slice of its own, backed by one copy of the
 * tail. MS_EPROTO: anything else, or bytes left over; MS_ENOMEM.
 */
int entry_codec_unpack(const struct raft_alloc *alloc, const uint8_t *tail, size_t tail_bytes,
                       raft_index first_index, size_t count, struct raft_slice *out);

#endif

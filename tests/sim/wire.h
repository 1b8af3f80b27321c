/*
 * wire: copies as if things had been encoded and decoded: nothing is shared with the original.
 *
 * All memory of cores and copies comes from one counting allocator, so that a run can tell whether
 * it gave everything back.
 */
#ifndef METASTORE_TESTS_SIM_WIRE_H
#define METASTORE_TESTS_SIM_WIRE_H

#include "raftd/core/raft.h"

extern const struct raft_alloc wire_alloc;
/* What was taken from it and not given back. */
long wire_live(void);

/* Copies with contents of their own. */
struct raft_slice wire_copy_entries(const struct raft_entry *entries, size_t count);
void wire_copy_message(const struct raft_message *message, struct raft_message *out);
/* A buffer that holds a copy of the bytes. */
struct raft_buffer *wire_copy_bytes(const void *bytes, size_t len_bytes, uint8_t **out);

#endif

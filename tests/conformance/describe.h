/*
 * describe: entries, messages and readies as the scripts write them.
 */
#ifndef METASTORE_TESTS_CONFORMANCE_DESCRIBE_H
#define METASTORE_TESTS_CONFORMANCE_DESCRIBE_H

#include "raftd/core/raft.h"
#include "tests/conformance/buffer.h"

void describe_entry(struct buffer *out, const struct raft_entry *entry);
/* One line each. */
void describe_entries(struct buffer *out, const struct raft_entry *entries, size_t count);
/* Without a newline at its end, each line behind indent. */
void describe_message(struct buffer *out, const char *indent, const struct raft_message *message);
void describe_ready(struct buffer *out, const struct raft_ready *ready);
/* In double quotes, with what cannot be printed escaped. */
void describe_quoted(struct buffer *out, const char *bytes, size_t len_bytes);

#endif

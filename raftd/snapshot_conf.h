/*
 * snapshot_conf: the membership that travels with a snapshot.
 *
 * The core knows ids and quorums only; URLs, data ids and the cluster id are in the encoded
 * configuration (common/conf_state.h) as of the snapshot's index. Every raft_snapshot in this
 * process holds it as its data, and peers carry it with MsgSnap, so whoever gets a snapshot also
 * gets the configuration that LOG_SNAPSHOT needs.
 */
#ifndef METASTORE_RAFTD_SNAPSHOT_CONF_H
#define METASTORE_RAFTD_SNAPSHOT_CONF_H

#include <stddef.h>
#include <stdint.h>

#include "common/conf_state.h"
#include "raftd/core/raft.h"

/* What raft_snapshot.data points to. */
struct snapshot_conf {
    struct raft_buffer buffer; /* first, so that both have one address */
    struct raft_alloc alloc;
    size_t len_bytes; /* 0 .. MS_CONF_STATE_BYTES_MAX */
    uint8_t bytes[];
};

/*
 * Copies an encoded configuration into a buffer with one reference, to be handed to
 * raft_snapshot_create. What the bytes say is not looked at. MS_ERANGE: longer than any
 * configuration; MS_ENOMEM.
 */
int snapshot_conf_create(const struct raft_alloc *alloc, const uint8_t *bytes, size_t len_bytes,
                         struct raft_buffer **out);

/* The configuration of a snapshot, valid as long as the snapshot; NULL if it has none. */
const struct snapshot_conf *snapshot_conf_of(const struct raft_snapshot *snapshot);

#endif

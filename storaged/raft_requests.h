/*
 * raft_requests: what raftd asks on the apply link besides applying: the log, and snapshots.
 */
#ifndef METASTORE_STORAGED_RAFT_REQUESTS_H
#define METASTORE_STORAGED_RAFT_REQUESTS_H

#include <stdbool.h>

#include "common/err.h"
#include "common/link.h"
#include "storaged/log_reads.h"
#include "storaged/snapshot_in.h"
#include "storaged/snapshot_out.h"

struct raft_requests {
    struct log_reads reads;
    struct snapshot_out *out; /* borrowed, as is in */
    struct snapshot_in *in;
};

/* The link is gone, and what was open on it. */
void raft_requests_reset(struct raft_requests *requests);

/*
 * Handles a message. MS_EAGAIN: no room in the ring, come again; MS_EPROTO: raftd broke the
 * protocol; MS_ENOMEM, MS_ECORRUPT, MS_EIO: the log cannot be read.
 */
int raft_requests_handle(struct raft_requests *requests, const struct ms_ipc_message *message,
                         struct ms_link *link, struct ms_err *err);

/* Whether an answer has become due that had to wait; sends what has room. As ms_link_send. */
bool raft_requests_is_due(const struct raft_requests *requests);
int raft_requests_tell(struct raft_requests *requests, struct ms_link *link);

#endif

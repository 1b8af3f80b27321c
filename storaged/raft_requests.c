/*
 * raft_requests: who answers what.
 */
#include "storaged/raft_requests.h"

void raft_requests_reset(struct raft_requests *requests)
{
    snapshot_out_reset(requests->out);
    snapshot_in_reset(requests->in);
}

int raft_requests_handle(struct raft_requests *requests, const struct ms_ipc_message *message,
                         struct ms_link *link, struct ms_err *err)
{
    const void *body = message->body;

    switch (message->type) {
    case MS_IPC_LOG_READ:
        return log_reads_entries(&requests->reads, body, link, err);
    case MS_IPC_LOG_TERMS_READ:
        return log_reads_terms(&requests->reads, body, link, err);
    case MS_IPC_SNAP_OPEN:
        return snapshot_out_open(requests->out, body, link);
    case MS_IPC_SNAP_READ:
        return snapshot_out_read(requests->out, body, link);
    case MS_IPC_SNAP_CLOSE:
        snapshot_out_close(requests->out, body);
        return MS_OK;
    case MS_IPC_SNAP_RECEIVE:
        snapshot_in_receive(requests->in, body);
        return MS_OK;
    case MS_IPC_SNAP_WRITE:
        snapshot_in_write(requests->in, body, message->tail, message->tail_bytes);
        return MS_OK;
    case MS_IPC_SNAP_ABANDON:
        snapshot_in_abandon(requests->in, body);
        return MS_OK;
    default: /* ms_link_receive lets only what may come to storaged through */
        return MS_EPROTO;
    }
}

bool raft_requests_is_due(const struct raft_requests *requests)
{
    return snapshot_out_is_due(requests->out) || snapshot_in_is_due(requests->in);
}

int raft_requests_tell(struct raft_requests *requests, struct ms_link *link)
{
    int rc = snapshot_out_tell(requests->out, link);

    return rc == MS_OK ? snapshot_in_tell(requests->in, link) : rc;
}

/*
 * snapshot_conf: see snapshot_conf.h.
 */
#include "raftd/snapshot_conf.h"

#include <string.h>

static void destroy(struct raft_buffer *buffer)
{
    struct snapshot_conf *conf = (struct snapshot_conf *)buffer;
    const struct raft_alloc alloc = conf->alloc;

    alloc.free(alloc.ctx, conf);
}

int snapshot_conf_create(const struct raft_alloc *alloc, const uint8_t *bytes, size_t len_bytes,
                         struct raft_buffer **out)
{
    struct snapshot_conf *conf;

    if (len_bytes > MS_CONF_STATE_BYTES_MAX) {
        return MS_ERANGE;
    }
    conf = alloc->alloc(alloc->ctx, sizeof(*conf) + len_bytes);
    if (conf == NULL) {
        return MS_ENOMEM;
    }
    conf->buffer = (struct raft_buffer){.refs = 1, .destroy = destroy};
    conf->alloc = *alloc;
    conf->len_bytes = len_bytes;
    if (len_bytes > 0) {
        memcpy(conf->bytes, bytes, len_bytes);
    }
    *out = &conf->buffer;
    return MS_OK;
}

const struct snapshot_conf *snapshot_conf_of(const struct raft_snapshot *snapshot)
{
    return (const struct snapshot_conf *)snapshot->data;
}

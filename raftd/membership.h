/*
 * membership: who belongs to the cluster, and under which peer URL.
 *
 * The core knows ids and their part in quorums; the URL of a member travels as the context of the
 * change that adds it. Here both come together, in the form that storaged keeps.
 */
#ifndef METASTORE_RAFTD_MEMBERSHIP_H
#define METASTORE_RAFTD_MEMBERSHIP_H

#include <stddef.h>
#include <stdint.h>

#include "common/conf_state.h"
#include "common/config.h"
#include "common/status_page.h"
#include "raftd/core/raft.h"

/* An encoded configuration: what holds once the entry at index is applied. */
struct conf_record {
    raft_index index;
    struct raft_buffer *buffer; /* keeps bytes alive */
    const uint8_t *bytes;
    size_t len_bytes;
};

struct membership {
    struct ms_conf_state conf;
};

/* Nobody. */
void membership_init(struct membership *membership);

/* From the encoded form; none at all (len_bytes 0) is nobody. MS_ECORRUPT. */
int membership_decode(struct membership *membership, const uint8_t *data, size_t len_bytes);

/* Encodes it as of index. The caller owns out->buffer's reference. MS_ENOMEM. */
int membership_encode(const struct membership *membership, const struct raft_alloc *alloc,
                      raft_index index, struct conf_record *out);

/* The part that the core needs. */
void membership_to_core(const struct membership *membership, struct raft_conf_state *out);

/*
 * Takes the configuration that the core arrived at by applying change. A change of one member
 * carries that member's URL as context; members keep the URL they had otherwise.
 */
void membership_update(struct membership *membership, const struct raft_conf_state *conf,
                       const struct raft_conf_change *change);

/* The members that the status page shows; the rest of out is left alone. */
void membership_to_status(const struct membership *membership, struct ms_raft_status *out);

/*
 * The first entries of a new cluster: one change per URL in --cluster, adding ids 1, 2, ... as
 * voters in term 1. *out is a slice of its own. MS_EINVAL: --cluster has no or a malformed URL;
 * MS_ENOMEM.
 */
int membership_bootstrap(const struct ms_config *config, const struct raft_alloc *alloc,
                         struct raft_slice *out, struct ms_err *err);

#endif

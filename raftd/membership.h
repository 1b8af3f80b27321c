/*
 * membership: who belongs to the cluster, and under which peer URL.
 *
 * The core knows ids and their part in quorums; a member's URL and data dir, and the id of the
 * whole cluster, travel as the context of changes (member_context.h). Here all of it comes
 * together, in the form that storaged keeps.
 */
#ifndef METASTORE_RAFTD_MEMBERSHIP_H
#define METASTORE_RAFTD_MEMBERSHIP_H

#include <stddef.h>
#include <stdint.h>

#include "common/conf_state.h"
#include "common/config.h"
#include "common/status_page.h"
#include "raftd/core/raft.h"
#include "raftd/member_context.h"

/* An encoded configuration: what holds once the entry at index is applied. */
struct conf_record {
    raft_index index;
    struct raft_buffer *buffer; /* keeps bytes alive */
    const uint8_t *bytes;
    size_t len_bytes;
};

struct membership {
    struct ms_conf_state conf;
    raft_index index; /* conf holds every change up to here, and there is none after it */
};

/* Nobody. */
void membership_init(struct membership *membership);

/*
 * From the encoded form as of index; none at all (len_bytes 0) is nobody. MS_ECORRUPT.
 */
int membership_decode(struct membership *membership, raft_index index, const uint8_t *data,
                      size_t len_bytes);

/* The member of this id, borrowed until the next change; NULL: there is none. */
const struct ms_conf_member *membership_find(const struct membership *membership, node_id id);

/* Encodes it as of its index. The caller owns out->buffer's reference. MS_ENOMEM. */
int membership_encode(const struct membership *membership, const struct raft_alloc *alloc,
                      struct conf_record *out);

/* The part that the core needs. */
void membership_to_core(const struct membership *membership, struct raft_conf_state *out);

/* A change of the membership, as it is applied. */
struct membership_change {
    raft_index index;
    const struct raft_conf_change *change;
    const struct member_context *context; /* of the change's one member; says nothing of others */
};

/*
 * Takes the configuration that the core arrived at by applying change. What the context does not
 * tell stays as it was; who comes anew has no data dir yet unless the context names it.
 */
void membership_update(struct membership *membership, const struct raft_conf_state *conf,
                       const struct membership_change *change);

/* The members that the status page shows; the rest of out is left alone. */
void membership_to_status(const struct membership *membership, struct ms_raft_status *out);

#define MEMBERSHIP_FOUNDING_TERM ((raft_term)1) /* no leader is ever elected in this one */

struct membership_founding {
    uint64_t cluster_id;
    uint64_t data_id; /* of this node's data dir; nobody knows those of other founders yet */
};

/*
 * The first entries of a new cluster: one change per URL in --cluster, adding ids 1, 2, ... as
 * voters. *out is a slice of its own. MS_EINVAL: --cluster has no or a malformed URL; MS_ENOMEM.
 */
int membership_bootstrap(const struct ms_config *config, const struct membership_founding *founding,
                         const struct raft_alloc *alloc, struct raft_slice *out,
                         struct ms_err *err);

#endif

/*
 * member_service: wishes to change the membership or the leader, from the asker to the answer.
 *
 * Whoever asks (an apid for a client, the supervisor for an administrator) asks the raftd of its
 * own node. That one keeps the request until it is answered and passes it to the leader: in a note,
 * or directly if that is itself. The leader decides at once and keeps nothing: it refuses, by a
 * note, or proposes a change that carries the request's id. The asker's node answers when it has
 * applied that change itself, so who gets the answer and reads at the same node sees the effect.
 *
 *     WAITING --leader known--> ASKED --its change is applied here--> DONE --storaged, too-->
 * answered ^                        |
 *        +--- BUSY, or the term is over and the change was not in it ---+
 *
 * A request is made a second proposal only if the first cannot be in the log any more: within a
 * term the leader recognises a request by its id, and after it an entry of a later term, applied
 * here, shows that what the earlier leader had proposed and is not here is lost.
 *
 * The leader also registers the data ids of members that have none in the membership yet.
 */
#ifndef METASTORE_RAFTD_MEMBER_SERVICE_H
#define METASTORE_RAFTD_MEMBER_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf_state.h"
#include "common/member_request.h"
#include "common/types.h"
#include "raftd/core/raft.h"
#include "raftd/member_context.h"
#include "raftd/peers.h"

/* Requests of this node that wait; more are refused as MS_MEMBER_BUSY. */
#define MEMBER_SERVICE_REQUESTS_MAX 64
/* Applied changes whose requests are remembered, so that one is not made twice. */
#define MEMBER_SERVICE_RECENT_MAX 64

/* Who waits for the answer; handed back with it and not looked at here. */
struct member_asker {
    bool supervisor; /* else an apid: */
    uint32_t instance;
    uint64_t generation; /* of its link */
};

/* What the service needs of its node; every call may come from within every function below. */
struct member_service_calls {
    void (*status)(void *ctx, struct raft_status *out);   /* raft_status */
    const struct ms_conf_state *(*membership)(void *ctx); /* applied; borrowed for a moment */
    bool (*is_connected)(void *ctx, node_id peer);        /* and not silent, as far as is known */
    uint64_t (*data_id)(void *ctx, node_id peer);         /* admission_data_id */
    /*
     * raft_propose_conf_change and raft_transfer_leader; the node runs the core afterwards.
     * MS_EPERM: nobody can connect to this node, so the cluster cannot grow or change.
     */
    int (*propose)(void *ctx, const struct raft_conf_change *change);
    int (*transfer)(void *ctx, node_id target);
    int (*send_note)(void *ctx, node_id to, enum peers_note kind, const uint8_t *data,
                     size_t len_bytes); /* peers_send_note */
    /* Answers a request, exactly once; text is "" if there is nothing to say. */
    void (*answer)(void *ctx, const struct member_asker *asker,
                   const struct ms_member_answer *answer, const char *text);
    void *ctx;
};

struct member_service_options {
    node_id self;
    uint64_t origin; /* random name of this incarnation of raftd */
    uint64_t election_timeout_ms;
    bool has_key; /* else peers must be on loopback */
    struct member_service_calls calls;
};

struct member_service;

/* MS_ENOMEM. On MS_OK the caller owns *out. */
int member_service_create(const struct member_service_options *options,
                          struct member_service **out);
/* Takes NULL, too. Requests that wait are not answered. */
void member_service_destroy(struct member_service *service);

/*
 * A request of this node; origin names the apid's incarnation (link.info.peer_origin), or 0 for the
 * supervisor's. url need not end in 0.
 */
void member_service_ask(struct member_service *service, const struct member_asker *asker,
                        uint64_t origin, const struct ms_member_request *request, const char *url,
                        size_t url_bytes, struct ms_instant now);

/*
 * A note of kind MEMBER_REQUEST or MEMBER_ANSWER from a peer. MS_EPROTO: malformed, nothing was
 * done; worth a line in the log.
 */
int member_service_note(struct member_service *service, node_id from, enum peers_note kind,
                        const uint8_t *data, size_t len_bytes, struct ms_instant now);

/*
 * The core has applied the change entry at index; context is its decoded context. objection is
 * NULL, or why the change had no effect. Comes once per change entry, in order.
 */
void member_service_changed(struct member_service *service, raft_index index,
                            const struct member_context *context, const char *objection);

/* The state machine stands at index, an entry of term. */
void member_service_applied(struct member_service *service, raft_index index, raft_term term);

/* A snapshot took the place of all entries up to index: their changes were not seen one by one. */
void member_service_restored(struct member_service *service, raft_index index, raft_term term);

/* The others say that this node was removed: no more can be learned. */
void member_service_removed(struct member_service *service);

/*
 * Does what is due: passes requests on, repeats, gives up at deadlines, registers. Called in every
 * round of the node in which something came in, and on every tick; cheap when nothing is due.
 * Only while the core is there.
 */
void member_service_run(struct member_service *service, struct ms_instant now);

/* Whether nobody waits for an answer. */
bool member_service_is_idle(const struct member_service *service);

#endif

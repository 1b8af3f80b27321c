/*
 * member_rules: what a leader says to a wish to change the membership or the leader.
 *
 * Decides by what is applied and who can be reached now; changes nothing itself. A refusal names
 * its reason for a human. The rules about quorums are those that etcd calls strict: a change must
 * not leave a cluster that cannot commit because of members that cannot be reached already.
 */
#ifndef METASTORE_RAFTD_MEMBER_RULES_H
#define METASTORE_RAFTD_MEMBER_RULES_H

#include <stdbool.h>
#include <stddef.h>

#include "common/conf_state.h"
#include "common/member_request.h"
#include "raftd/core/raft.h"
#include "raftd/member_note.h"

/* What the decision depends on. */
struct member_facts {
    const struct raft_status *status; /* of this node, the leader */
    const struct ms_conf_state *conf; /* applied */
    bool has_key;                     /* else peers must be on loopback */
    bool (*is_connected)(void *ctx, node_id peer);
    void *ctx;
};

enum member_action {
    MEMBER_PROPOSE,  /* change */
    MEMBER_TRANSFER, /* leadership to target */
    MEMBER_NOTHING,  /* it is as wished already */
};

struct member_decision {
    enum member_action action;
    struct raft_change change;
    node_id target;
    char text[MS_MEMBER_TEXT_BYTES]; /* the reason of a refusal */
};

/*
 * What can be said of a wish without knowing anything else; puts its URL into the form that is
 * stored (no trailing slash). MS_MEMBER_OK, or MS_MEMBER_INVALID with the reason in text
 * (MS_MEMBER_TEXT_BYTES long).
 */
enum ms_member_code member_rules_check(struct member_wish *wish, bool has_key, char *text);

/* Checks the wish and decides. MS_MEMBER_OK: do what out->action says. */
enum ms_member_code member_rules_decide(const struct member_facts *facts, struct member_wish *wish,
                                        struct member_decision *out);

#endif

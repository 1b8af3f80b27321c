/*
 * confchange: which configuration may follow which (thesis 4.1 and 4.3).
 *
 * Works on a tracker that is a copy: on any status but MS_OK its content is undefined and the
 * caller throws it away. Windows of peers are carried along as they are; new peers have none.
 */
#ifndef METASTORE_RAFTD_CORE_CONFCHANGE_H
#define METASTORE_RAFTD_CORE_CONFCHANGE_H

#include "raftd/core/tracker.h"

/*
 * All of them: MS_EINVAL with *reason if the change is not possible from here, or leads beyond
 * RAFT_MEMBERS_MAX. last_index is where probing of new members starts.
 */

/* At most one voter more or less, without a joint configuration. */
int confchange_simple(struct tracker *tracker, raft_index last_index,
                      const struct raft_change *changes, size_t count, const char **reason);
int confchange_enter_joint(struct tracker *tracker, raft_index last_index, bool auto_leave,
                           const struct raft_change *changes, size_t count, const char **reason);
int confchange_leave_joint(struct tracker *tracker, const char **reason);
/* Whichever of the three the change asks for. */
int confchange_apply(struct tracker *tracker, raft_index last_index,
                     const struct raft_conf_change *change, const char **reason);
/* Builds the configuration conf from nothing; tracker must have no peers. */
int confchange_restore(struct tracker *tracker, raft_index last_index,
                       const struct raft_conf_state *conf, const char **reason);

#endif

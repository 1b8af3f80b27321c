/*
 * admin: the admin socket: who may connect, how many, for how long.
 *
 * One command a line, one answer a line's command, ending in an empty line. A client that floods,
 * stalls or sends garbage costs itself its connection and the node nothing.
 */
#ifndef METASTORE_SUPERVISOR_ADMIN_H
#define METASTORE_SUPERVISOR_ADMIN_H

#include <uv.h>

#include "common/err.h"
#include "supervisor/admin_execute.h"

#define ADMIN_CLIENTS_MAX     16
#define ADMIN_IDLE_TIMEOUT_MS 30000
/* Past the deadline of a request to raftd: its own word on it is better than none. */
#define ADMIN_GRACE_MS 1000

struct admin; /* heap */

/*
 * Binds the socket at path with mode 0600 and serves it on loop. A socket file that is there
 * already is removed: the caller holds the lock of the data dir, so its owner is dead. MS_ERANGE:
 * the path is longer than a socket's name can be; MS_EEXIST: something else than a socket is there;
 * MS_EIO. actions is copied.
 */
int admin_create(uv_loop_t *loop, const char *path, const struct admin_actions *actions, void *ctx,
                 struct admin **out, struct ms_err *err);

/* raftd's answer to a request of actions->ask_member. One that nobody waits for is ignored. */
void admin_on_member_answer(struct admin *admin, const struct ms_control_member_answer *answer);

/* raftd is gone: whoever waits for an answer is told that there will be none. */
void admin_on_raftd_lost(struct admin *admin);

/*
 * A reload is over: whoever waits for one is told what was refused (NULL: nothing) and the remarks
 * ("": none).
 */
void admin_on_reloaded(struct admin *admin, const char *refused, const char *remarks);

/*
 * Removes the socket file and closes all connections; the memory goes when the loop has run the
 * close callbacks. NULL is allowed.
 */
void admin_destroy(struct admin *admin);

#endif

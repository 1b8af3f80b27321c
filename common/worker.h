/*
 * worker: what every worker process does first and in between, whatever its event loop.
 *
 * Owns the control channel: says hello, takes configuration, pages, listeners and links, answers
 * pings, and calls the worker's handlers. The worker watches ms_worker_fd for readability and calls
 * ms_worker_dispatch. A worker whose supervisor is gone exits from inside dispatch.
 */
#ifndef METASTORE_COMMON_WORKER_H
#define METASTORE_COMMON_WORKER_H

#include <stdbool.h>

#include "common/config.h"
#include "common/control.h"
#include "common/err.h"
#include "common/link.h"
#include "common/metrics.h"
#include "common/status_page.h"

struct ms_worker;

/* Any handler may be NULL if the role never gets such a message. */
struct ms_worker_handlers {
    /* A new link (rings are empty and new). The handler owns *link's content: copy the struct. The
     * old link of that kind and instance must be drained before it is dropped. */
    void (*on_link)(void *ctx, struct ms_link *link);
    /* A listening socket; the handler owns fd. */
    void (*on_listener)(void *ctx, enum ms_listener_kind kind, int fd);
    void (*on_peer_down)(void *ctx, const struct ms_control_peer_down *down);
    /*
     * New configuration after SIGHUP; the log level is set already. On an error the worker goes on
     * with what it had; err goes to whoever asked for the reload.
     */
    int (*on_reload)(void *ctx, const struct ms_config *config, struct ms_err *err);
    /* Take no new work, finish what was taken, then call ms_worker_drained. */
    void (*on_drain)(void *ctx);
    /* raftd only; request is valid during the call. Answered by ms_worker_answer_member. */
    void (*on_member_request)(void *ctx, const struct ms_control_member_request *request);
    /* Flush and leave the event loop; the process then exits with MS_EXIT_OK. */
    void (*on_stop)(void *ctx);
};

struct ms_worker_identity {
    enum ms_role role;
    uint32_t instance;
    enum ms_worker_end previous_end;
    uint64_t generation;
    uint64_t origin;
    uint64_t data_id;
    bool data_was_used; /* a log without entries is then not all there was */
    bool has_cluster_key;
    uint8_t cluster_key[MS_CLUSTER_KEY_BYTES];
};

/*
 * Called by the role's main: names the process and its log, arms PR_SET_PDEATHSIG (a later change
 * of credentials disarms it), ignores SIGPIPE and SIGXFSZ, and all that a terminal sends to the
 * whole group (SIGINT, SIGHUP, the stop signals) and the supervisor answers for all. Says hello on
 * MS_FD_CONTROL and blocks until WELCOME, both pages and GO have come; links, listeners and orders
 * that came before GO are delivered to the handlers by the first ms_worker_dispatch, so that one
 * must not wait for ms_worker_fd. MS_EPEER: the supervisor is gone; MS_ETIMEDOUT: it says nothing;
 * MS_EPROTO: it breaks the protocol.
 */
int ms_worker_create(enum ms_role role, struct ms_worker **out, struct ms_err *err);
void ms_worker_destroy(struct ms_worker *worker);

/* Must be called once before the first dispatch. handlers is copied. */
void ms_worker_set_handlers(struct ms_worker *worker, const struct ms_worker_handlers *handlers,
                            void *ctx);

int ms_worker_fd(const struct ms_worker *worker);
const struct ms_worker_identity *ms_worker_identity(const struct ms_worker *worker);
const struct ms_config *ms_worker_config(const struct ms_worker *worker);
struct ms_status_page *ms_worker_status_page(struct ms_worker *worker); /* writable in raftd only */
struct ms_metrics *ms_worker_metrics(struct ms_worker *worker);         /* this worker's own slot */

/*
 * Handles all control messages that wait. Exits the process with MS_EXIT_ORPHANED when the
 * supervisor is gone, with MS_EXIT_INTERNAL on a protocol violation by it.
 */
void ms_worker_dispatch(struct ms_worker *worker);

/* Tells the supervisor that the role serves now. Once. */
void ms_worker_ready(struct ms_worker *worker);
void ms_worker_drained(struct ms_worker *worker);

/* raftd only. */
void ms_worker_answer_member(struct ms_worker *worker,
                             const struct ms_control_member_answer *answer);
/* raftd only: the node was removed from the cluster; see MS_CONTROL_REMOVED. Once. */
void ms_worker_removed(struct ms_worker *worker);

/* Tells the supervisor that a neighbour broke the protocol on a link; it will be restarted. */
void ms_worker_report_peer(struct ms_worker *worker, const struct ms_link_info *peer,
                           const char *text);

#endif

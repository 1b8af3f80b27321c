/*
 * links: raftd and storaged, as apid sees them.
 *
 * A neighbour that dies takes its link with it. What it had published is handled first; then
 * everything unanswered is sent again on the link that follows.
 */
#include <string.h>

#include "apid/apid.h"
#include "common/clock.h"
#include "common/log.h"

/* Messages per link and turn: answers go out, and requests come in, in between. */
#define RECEIVE_BATCH 512

static void on_doorbell(void *ctx);

void links_init(struct apid *apid)
{
    apid->raftd.apid = apid;
    apid->storaged.apid = apid;
    apid->raftd.away_since = ms_clock_now();
    apid->storaged.away_since = apid->raftd.away_since;
    ms_link_init_closed(&apid->raftd.link);
    ms_link_init_closed(&apid->storaged.link);
}

static void drop_link(struct neighbour *neighbour)
{
    if (!ms_link_is_open(&neighbour->link)) {
        return;
    }
    http_watch_destroy(neighbour->doorbell);
    neighbour->doorbell = NULL;
    ms_link_fini(&neighbour->link);
    ms_link_init_closed(&neighbour->link);
    neighbour->away_since = ms_clock_now();
}

void links_break(struct neighbour *neighbour, const char *what)
{
    if (!ms_link_is_open(&neighbour->link)) {
        return;
    }
    ms_log(MS_LOG_ERROR, "neighbour broke the protocol",
           MS_F_STR("worker", ms_role_name(neighbour->link.info.peer_role)),
           MS_F_STR("error", what));
    ms_worker_report_peer(neighbour->apid->worker, &neighbour->link.info, what);
    drop_link(neighbour);
}

/* ---- messages -------------------------------------------------------------------------------- */

static void on_store_opened(struct apid *apid, const struct ms_store_opened *opened,
                            const char *directory)
{
    bool is_new = !view_is_open(&apid->view) || apid->view.epoch != opened->epoch;
    struct ms_err err;

    if (view_open(&apid->view, directory, opened->epoch, &err) != MS_OK) {
        ms_log_err(MS_LOG_ERROR, "cannot open the memory engine", &err);
        reads_on_store_closed(&apid->reads);
        return;
    }
    if (is_new) {
        ms_log(MS_LOG_DEBUG, "store opened", MS_F_U64("epoch", opened->epoch),
               MS_F_U64("read_floor", opened->read_floor));
    }
    reads_on_store_opened(&apid->reads, opened->read_floor, is_new);
}

/* False: the message is not what the catalogue promises. */
static bool handle(struct apid *apid, const struct ms_ipc_message *message)
{
    union {
        struct ms_propose_refused refused;
        struct ms_read_ready ready;
        struct ms_store_opened opened;
        struct ms_apply_result result;
        struct ms_wait_done done;
        struct ms_store_space space;
        struct ms_member_answer member;
    } body;
    char directory[MS_CONFIG_PATH_BYTES];

    memcpy(&body, message->body, sizeof(body));
    switch (message->type) {
    case MS_IPC_PROPOSE_REFUSED:
        writes_on_refused(apid, &body.refused);
        return true;
    case MS_IPC_PROPOSALS_LOST:
        writes_propose_again(apid);
        return true;
    case MS_IPC_MEMBER_ANSWER:
        members_on_answer(apid, &body.member, message->tail, message->tail_bytes);
        return true;
    case MS_IPC_READ_READY:
        reads_on_ready(&apid->reads, body.ready.request, body.ready.index, body.ready.reason);
        return true;
    case MS_IPC_STORE_OPENED:
        if (message->tail_bytes == 0 || message->tail_bytes >= sizeof(directory)) {
            return false;
        }
        memcpy(directory, message->tail, message->tail_bytes);
        directory[message->tail_bytes] = '\0';
        on_store_opened(apid, &body.opened, directory);
        return true;
    case MS_IPC_APPLY_RESULT:
        writes_on_applied(apid, &body.result);
        return true;
    case MS_IPC_WAIT_DONE:
        reads_on_wait_done(&apid->reads, body.done.request, body.done.applied);
        return true;
    case MS_IPC_STORE_SPACE:
        apid->memory_full = body.space.memory_full != 0;
        return true;
    default: /* ms_link_receive lets only what may come to apid through */
        return false;
    }
}

/* Handles up to max messages. */
static void receive(struct neighbour *neighbour, unsigned max)
{
    struct ms_ipc_message message;
    bool understood = true;
    int rc = MS_OK;

    for (unsigned i = 0; i < max && understood; i++) {
        rc = ms_link_receive(&neighbour->link, &message);
        if (rc != MS_OK) {
            break;
        }
        understood = handle(neighbour->apid, &message);
        if (!ms_link_is_open(&neighbour->link)) {
            return; /* the message made us drop it */
        }
        ms_link_release(&neighbour->link);
    }
    if (!understood) {
        links_break(neighbour, ms_ipc_name(message.type));
    } else if (rc != MS_OK && rc != MS_EAGAIN && rc != MS_EPEER) {
        links_break(neighbour, ms_status_text(rc));
    }
}

static void on_doorbell(void *ctx)
{
    struct neighbour *neighbour = ctx;

    ms_link_clear_doorbell(&neighbour->link);
    receive(neighbour, RECEIVE_BATCH);
}

/* ---- the control channel's news -------------------------------------------------------------- */

static void replace_link(struct neighbour *neighbour, struct ms_link *link)
{
    struct ms_err err;

    receive(neighbour, UINT32_MAX);
    drop_link(neighbour);
    neighbour->link = *link;
    neighbour->doorbell =
        http_watch_create(neighbour->apid->http, link->doorbell_fd, on_doorbell, neighbour, &err);
    if (neighbour->doorbell == NULL) {
        ms_log_err(MS_LOG_ERROR, "cannot watch a link", &err);
        links_break(neighbour, "link cannot be watched");
    }
}

void links_on_link(void *ctx, struct ms_link *link)
{
    struct apid *apid = ctx;

    switch (link->info.kind) {
    case MS_LINK_API_RAFT:
        replace_link(&apid->raftd, link);
        reads_on_raft_replaced(&apid->reads);
        members_on_raft_lost(apid);
        break;
    case MS_LINK_API_STORE:
        replace_link(&apid->storaged, link);
        reads_on_store_replaced(&apid->reads);
        break;
    default:
        ms_link_fini(link);
        return;
    }
    /* A dead storaged may have taken answers with it: proposing again gets them told again. */
    writes_propose_again(apid);
}

void links_on_peer_down(void *ctx, const struct ms_control_peer_down *down)
{
    struct apid *apid = ctx;

    if (down->role == MS_ROLE_RAFTD) {
        receive(&apid->raftd, UINT32_MAX);
        drop_link(&apid->raftd);
        members_on_raft_lost(apid);
    } else if (down->role == MS_ROLE_STORAGED) {
        receive(&apid->storaged, UINT32_MAX);
        drop_link(&apid->storaged);
        if (down->end == MS_END_OWN_FAULT) {
            /* A stray write may have hit the file: it will be built anew. */
            view_close(&apid->view);
            reads_on_store_closed(&apid->reads);
        }
    }
}

/* ---- the loop -------------------------------------------------------------------------------- */

bool links_prepare_sleep(struct apid *apid)
{
    /* Both must be told, whatever the first says. */
    bool raftd_is_quiet = ms_link_prepare_sleep(&apid->raftd.link);
    bool storaged_is_quiet = ms_link_prepare_sleep(&apid->storaged.link);

    return raftd_is_quiet && storaged_is_quiet;
}

void links_receive(struct apid *apid)
{
    receive(&apid->raftd, RECEIVE_BATCH);
    receive(&apid->storaged, RECEIVE_BATCH);
}

void links_flush(struct apid *apid)
{
    ms_link_flush(&apid->raftd.link);
    ms_link_flush(&apid->storaged.link);
}

uint64_t links_away_ms(const struct neighbour *neighbour, struct ms_instant now)
{
    return ms_link_is_open(&neighbour->link) ? 0 : ms_clock_elapsed_ms(neighbour->away_since, now);
}

/*
 * apid: the state of the API worker, and how its files share the work.
 *
 *   main.c    the process: start, control channel, loop, drain, stop
 *   links.c   raftd and storaged: links, their messages, their deaths
 *   api.c     requests: what each kind needs; reads
 *   writes.c  proposals, sent again when they may be lost
 *   members   changes of the membership
 *   operation a request that waits: deadlines, answers
 *   pages.c   what the node says of itself
 */
#ifndef METASTORE_APID_APID_H
#define METASTORE_APID_APID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "apid/http.h"
#include "apid/inflight.h"
#include "apid/members.h"
#include "apid/queue.h"
#include "apid/reads.h"
#include "apid/view.h"
#include "common/link.h"
#include "common/metrics.h"
#include "common/types.h"
#include "common/worker.h"

/* Requests that wait for a neighbour; more get 503. */
#define APID_WAITING_MAX 16384

/* The same for the bytes of their values. */
#define APID_WAITING_BYTES_MAX ((size_t)256 << 20)

/* A neighbour and our end of the link to it. */
struct neighbour {
    struct apid *apid;
    struct ms_link link; /* closed while the neighbour is away */
    struct http_watch *doorbell;
    struct ms_instant away_since; /* meaningful while the link is closed */
};

struct apid {
    struct ms_worker *worker;
    struct ms_metrics *metrics;
    struct ms_status_page *status_page;
    struct http_server *http;
    struct http_watch *control;
    uint64_t origin; /* of our operation ids */

    /* As of the start; a reload does not change them. */
    uint64_t timeout_ms;
    uint64_t election_timeout_ms;
    uint64_t away_limit_ms;
    size_t body_max;
    enum ms_storage_kind storage;

    struct neighbour raftd;
    struct neighbour storaged;

    struct view view;
    struct reads reads;
    struct inflight writes;
    struct members members;
    struct ms_instant repeated_at; /* when unanswered proposals were looked through last */
    struct queue deadlines; /* of all that waits; one timeout for all, so this is their order */
    size_t waiting_count;
    size_t waiting_bytes;

    bool memory_full;
    bool draining;
    bool idle_closed;
    bool drained;
    bool stopping;
    bool has_answered; /* outside the event loop, which has yet to finish the sending */
};

/* ---- api.c ----------------------------------------------------------------------------------- */

/* Sets up reads and writes. MS_ENOMEM. */
int api_init(struct apid *apid, enum ms_read_mode mode);

/* http_options.on_request; ctx is the apid. */
void api_on_request(void *ctx, struct http_exchange exchange, const struct request_input *input);

/*
 * Does what is due, once per turn of the loop: answers 504 to whatever has waited too long, sends
 * what waits to be sent as far as there is room, and what may be lost again.
 */
void api_pump(struct apid *apid, struct ms_instant now);

/* Milliseconds until api_pump has something to do; -1: nothing waits. */
int api_next_due_ms(const struct apid *apid, struct ms_instant now);

/* ---- writes.c -------------------------------------------------------------------------------- */

/* Takes a PUT or DELETE from a client. */
void writes_start(struct apid *apid, struct http_exchange exchange,
                  const struct api_request *request, struct ms_instant started);

/* Proposes what waits to be proposed, as far as there is room. */
void writes_propose(struct apid *apid);

/* The neighbours' words on one operation; unknown ones are ignored. */
void writes_on_applied(struct apid *apid, const struct ms_apply_result *result);
void writes_on_refused(struct apid *apid, const struct ms_propose_refused *refused);

/* What was sent may be lost: everything unanswered is proposed again. */
void writes_propose_again(struct apid *apid);

/* The same, on a follower, for what was sent an election timeout ago; at most that often. */
void writes_repeat(struct apid *apid, struct ms_instant now);

/* When writes_repeat has something to look at. False: never, as it stands. */
bool writes_next_repeat(const struct apid *apid, struct ms_instant *out);

/* ---- pages.c --------------------------------------------------------------------------------- */

/* The answer for a kind that is neither about keys nor about members. */
struct answer pages_answer(struct apid *apid, struct http_exchange exchange, enum api_kind kind,
                           struct ms_instant now);

/* ---- links.c --------------------------------------------------------------------------------- */

void links_init(struct apid *apid);

/* Handlers of the control channel. */
void links_on_link(void *ctx, struct ms_link *link);
void links_on_peer_down(void *ctx, const struct ms_control_peer_down *down);

/* True when nothing waits in any link and each neighbour knows that we sleep. */
bool links_prepare_sleep(struct apid *apid);

/* Handles what waits, a bounded batch per link. */
void links_receive(struct apid *apid);

/* Wakes the neighbours if something was sent. Once per turn of the loop. */
void links_flush(struct apid *apid);

/* The neighbour broke the protocol: reports it, and drops the link. */
void links_break(struct neighbour *neighbour, const char *what);

/* For how long the neighbour has been away; 0 while it is there. */
uint64_t links_away_ms(const struct neighbour *neighbour, struct ms_instant now);

#endif

/*
 * api_client: raftd's ends of the links to the apid processes.
 *
 * One slot per apid process. Answers that find the ring full wait in the slot, in order; as long as
 * some wait, nothing is read from that process, so what can wait is bounded by what was taken
 * before. Answers to an apid that is gone are dropped: its clients are gone with it.
 */
#ifndef METASTORE_RAFTD_API_CLIENT_H
#define METASTORE_RAFTD_API_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "common/ipc_catalogue.h"
#include "common/link.h"
#include "raftd/member_service.h"

/* Answers that may wait in one slot: everything taken from it and not yet answered. */
#define API_CLIENT_ANSWERS_MAX 4096u
/* The same for requests about the membership: those that the service keeps, and one refused. */
#define API_CLIENT_MEMBER_ANSWERS_MAX (MEMBER_SERVICE_REQUESTS_MAX + 1u)

struct api_answer {
    enum ms_ipc_type type; /* PROPOSE_REFUSED or READ_READY */
    union {
        struct ms_propose_refused refused;
        struct ms_read_ready ready;
    } body;
};

struct api_member_answer {
    struct ms_member_answer head;
    char text[MS_MEMBER_TEXT_BYTES];
};

/* Names one apid incarnation's link. */
struct api_client_ref {
    uint32_t instance;
    uint64_t generation; /* of the link */
};

struct api_client {
    struct ms_link link;
    struct api_answer *answers; /* circular, API_CLIENT_ANSWERS_MAX of them; NULL while closed */
    size_t first;
    size_t count;
    struct api_member_answer *member_answers; /* API_CLIENT_MEMBER_ANSWERS_MAX, from the front */
    size_t member_count;
    bool lost; /* PROPOSALS_LOST is due, with lost_term */
    raft_term lost_term;
    bool dry; /* the last receive found nothing: safe to sleep on the doorbell */
};

struct api_clients {
    struct api_client slots[MS_API_WORKERS_MAX];
};

void api_clients_init(struct api_clients *clients);
void api_clients_fini(struct api_clients *clients);

/* A new link in the slot of its instance, which must be in range and closed. MS_ENOMEM. */
int api_client_take_link(struct api_client *client, const struct ms_link *link);
void api_client_close(struct api_client *client);

/* Sends or queues one answer; dropped if ref's link is not the present one. */
void api_clients_answer(struct api_clients *clients, struct api_client_ref ref,
                        const struct api_answer *answer);

/* The same for the answer to a MEMBER_REQUEST; text ends in 0 and is cut to what is allowed. */
void api_clients_answer_member(struct api_clients *clients, struct api_client_ref ref,
                               const struct ms_member_answer *answer, const char *text);

/* Tells all apids that what they have no answer for may be lost; term is the present one. */
void api_clients_proposals_lost(struct api_clients *clients, raft_term term);

/* True if no answer waits: only then more may be read from this process. */
bool api_client_may_read(const struct api_client *client);

/* Sends answers that wait, as far as there is room. MS_ECORRUPT: the ring is broken. */
int api_client_pump(struct api_client *client);

#endif

/*
 * member_leader: the leader's part of the service for members.
 *
 * Decides what is asked of it, proposes, begins transfers of leadership, recognises what it was
 * asked before, and registers data dirs. It keeps no request: the asker does.
 */
#ifndef METASTORE_RAFTD_MEMBER_LEADER_H
#define METASTORE_RAFTD_MEMBER_LEADER_H

#include <stdbool.h>

#include "raftd/member_note.h"
#include "raftd/member_service.h"

/* What is said to a request. code OK with index 0: it is under way; else OK once that is applied.
 */
struct member_outcome {
    enum ms_member_code code;
    raft_index index;
    char text[MS_MEMBER_TEXT_BYTES];
};

/* A change that was applied here, whoever asked for it. */
struct member_recent {
    struct member_request_id id;
    raft_index index; /* 0: unused */
    bool effective;
};

/* A transfer of leadership that this node was asked for. */
struct member_transfer {
    bool under_way;
    node_id asker; /* the node where the request is kept, maybe this one */
    struct member_request_id id;
    uint32_t attempt;
    node_id target;
    raft_term term;
};

struct member_leader {
    const struct member_service_options *options; /* borrowed */
    struct raft_status status;                    /* as of the last member_leader_look */
    size_t recent_next;                           /* circular */
    struct member_recent recents[MEMBER_SERVICE_RECENT_MAX];
    /* The last proposal for somebody. */
    struct member_request_id proposed;
    raft_index proposed_index;
    raft_term proposed_term;
    struct member_transfer transfer;
};

void member_leader_init(struct member_leader *leader, const struct member_service_options *options);

/* Takes the present status of the core; the others decide by it. */
void member_leader_look(struct member_leader *leader);

/*
 * Decides what node from asks for and sets to work; applied is where the state machine stands.
 * MS_MEMBER_NO_LEADER if this node does not lead in the term that is asked.
 */
void member_leader_decide(struct member_leader *leader, node_id from, struct member_ask *ask,
                          raft_index applied, struct member_outcome *out);

/*
 * Whether a transfer has failed: *out is what was asked for, to be refused now. One that works is
 * seen by the asker itself.
 */
bool member_leader_gave_up(struct member_leader *leader, struct member_transfer *out);

/* Makes the data dirs of members known to all, one member at a time, this node first. */
void member_leader_register(struct member_leader *leader);

/* The change at index was applied. On every node, so that whoever leads next knows it. */
void member_leader_changed(struct member_leader *leader, const struct member_request_id *id,
                           raft_index index, bool effective);

void member_outcome_set(struct member_outcome *outcome, enum ms_member_code code,
                        const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif

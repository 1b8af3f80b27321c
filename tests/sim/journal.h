/*
 * journal: raftd's side of the log: writes that are not answered yet.
 *
 * It follows the rules of raftd's log client: each write is kept until it is durable, and sent
 * again to a storaged that came back, from where that one's log ends; a commit index rides along
 * with entries or votes but is not worth a write of its own.
 */
#ifndef METASTORE_TESTS_SIM_JOURNAL_H
#define METASTORE_TESTS_SIM_JOURNAL_H

#include <sys/queue.h>

#include "raftd/core/raft.h"
#include "tests/sim/disk.h"

struct write {
    STAILQ_ENTRY(write) next;
    struct raft_message message; /* a MsgStorageAppend, owned; or */
    raft_index conf_index;       /* a configuration (else 0) */
    struct raft_conf_state conf;
    bool snapshot_sent;
    size_t sent;       /* of its entries */
    uint64_t last_seq; /* once all is sent: durable when this record is */
};

STAILQ_HEAD(write_list, write);

struct journal {
    struct write_list writes; /* oldest first */
    struct write *unsent;     /* the first that is not sent completely */
    uint64_t sent_seq;
    uint64_t durable_seq;
    struct raft_hard_state latest; /* in what was looked at */
    struct raft_hard_state sent;   /* in records */
    struct raft_hard_state acked;  /* reported durable */
    raft_index sent_last;          /* where the log ends with the last record */
    raft_index acked_last;
    raft_term acked_last_term;
};

/* A new raftd begins with what is on disk. */
void journal_begin(struct journal *journal, const struct disk *disk);
void journal_fini(struct journal *journal);
/* Takes a MsgStorageAppend out of *message. */
void journal_append(struct journal *journal, struct raft_message *message);
void journal_write_conf(struct journal *journal, raft_index index,
                        const struct raft_conf_state *conf);
/*
 * Adds records to the list while it has fewer than room; piece is how many entries go into one at
 * most. Tells how many were added.
 */
size_t journal_send(struct journal *journal, struct record_list *records, size_t room,
                    size_t piece);
/* storaged is new: decides what it has to get again. */
void journal_resume(struct journal *journal, const struct disk *disk);
/*
 * Up to where the log on disk is what the core has: what lies behind may be about to be replaced,
 * by entries of a later term or by a snapshot.
 */
raft_index journal_settled(const struct journal *journal);
/* The oldest write if it is durable, for the caller to destroy; else NULL. */
struct write *journal_done(struct journal *journal);
void journal_destroy_write(struct write *write);

#endif

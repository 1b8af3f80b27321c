/*
 * log_intake: one message of the log link on its way into the log store.
 *
 * A message may have more entries than a batch has room for; it is then staged in pieces, with a
 * sync in between, and remembers how far it has come.
 */
#ifndef METASTORE_STORAGED_LOG_INTAKE_H
#define METASTORE_STORAGED_LOG_INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/link.h"
#include "storaged/ipc_entries.h"
#include "storaged/log_store.h"

/* Entries handed to the store at a time. */
#define LOG_INTAKE_PIECE 256

/*
 * Settles that the snapshot of index and term stays, because the log is about to start behind it.
 * False: it is not there, and so the log must not.
 */
typedef bool log_intake_claim(void *ctx, raft_index index, raft_term term);

/* The owner receives into message and releases it once busy is false again. */
struct log_intake {
    log_intake_claim *claim; /* the owner's */
    void *ctx;
    bool busy;
    struct ms_ipc_message message;
    struct ipc_entries entries;
    uint32_t left; /* entries of the message that are not read yet */
    raft_index next_index;
    bool has_piece; /* piece was read but did not fit yet */
    size_t piece_count;
    struct log_entry piece[LOG_INTAKE_PIECE];
};

/* Begins with the message that was received; *seq is its number. */
void log_intake_begin(struct log_intake *intake, uint64_t *seq);

/*
 * Stages what is left of the message.
 *
 *   MS_OK      all of it is staged, or (a snapshot) durable already; busy is false.
 *   MS_EAGAIN  the store wants a sync first; call again.
 *   MS_EBUSY   the disk has no room now; call again once the store's descriptor says so.
 *   MS_EPROTO, MS_EINVAL, MS_ERANGE  raftd sent what it must not.
 *   others     as the store says.
 */
int log_intake_stage(struct log_intake *intake, struct log_store *store, struct ms_err *err);

#endif

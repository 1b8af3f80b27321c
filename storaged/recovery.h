/*
 * recovery: opens everything that storaged owns, in the order that makes it whole again.
 */
#ifndef METASTORE_STORAGED_RECOVERY_H
#define METASTORE_STORAGED_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/control.h"
#include "common/err.h"
#include "storaged/apply.h"
#include "storaged/engine.h"
#include "storaged/log_store.h"
#include "storaged/memory_dir.h"
#include "storaged/received_files.h"
#include "storaged/snapshot_files.h"

struct recovery_options {
    const struct ms_config *config;
    enum ms_worker_end previous_end; /* MS_END_NONE: everything is checked */
    bool data_was_used;              /* a log without anything in it is then refused */
    /*
     * What was known to be committed besides what the log says, and in which term. It holds for
     * this log only if the log ends in that term: entries of older terms may still have been
     * waiting to be replaced by the leader's, while those of the term itself are the leader's.
     */
    raft_index commit;
    raft_term commit_term;
};

/* All owned by whoever called recovery_open. */
struct recovered {
    struct log_store *store;
    struct memory_dir *dir;
    struct snapshot_files *files;
    struct received_files *received;
    struct engine *engine;
    struct apply *apply;
    bool kept; /* the engine stands where the storaged before left it */
};

/*
 * MS_ECORRUPT, MS_EINVAL: the data cannot be used: err names file and offset; a retry is pointless,
 * as it is after MS_ENOSPC and MS_EPERM. Logs what it found, once per matter.
 */
int recovery_open(const struct recovery_options *options, struct recovered *out,
                  struct ms_err *err);

/* Closes all of it; what is in memory stays for the next storaged unless remove_memory. */
void recovery_close(struct recovered *recovered, bool remove_memory);

#endif

/*
 * rebuild: brings the state machine up at start, from what memory, snapshots and the log hold.
 *
 * The memory engine's file is kept when it can be trusted and the log reaches as far as it; else
 * the newest sound snapshot of this log is installed in a new file. Either way the log entries that
 * are known to be committed are applied on top, but not past a change of the configuration whose
 * outcome the log lacks: only raftd can tell that, and does when it has the entry applied.
 */
#ifndef METASTORE_STORAGED_REBUILD_H
#define METASTORE_STORAGED_REBUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/types.h"
#include "storaged/apply.h"
#include "storaged/engine.h"
#include "storaged/memory_dir.h"
#include "storaged/snapshot_files.h"

/* The durable log, as far as rebuilding needs it. */
struct rebuild_log {
    raft_index first_index;
    raft_index last_index;     /* first_index - 1 when empty */
    raft_index commit_index;   /* the highest known to be committed; may be beyond last_index */
    raft_index conf_index;     /* of the newest configuration recorded; 0: none */
    raft_index snapshot_index; /* what the log was last cut for; 0: never */
    raft_term snapshot_term;

    /* The term of an entry in [first_index - 1, last_index]. */
    int (*term)(void *ctx, raft_index index, raft_term *out);
    /*
     * Entries from low on, below high, at most max_bytes of data but at least one entry: at most
     * *count of them to entries, *count is set to how many. Data stays valid until the next call.
     */
    int (*read)(void *ctx, raft_index low, raft_index high, size_t max_bytes,
                struct apply_entry *entries, size_t *count, struct ms_err *err);
    /*
     * The encoded configuration recorded for the entry at index, into dst (room for
     * MS_CONF_STATE_BYTES_MAX). MS_ENOENT: that entry changed nothing. Not asked for an entry above
     * conf_index.
     */
    int (*conf)(void *ctx, raft_index index, uint8_t *dst, size_t *len_bytes);
    void *ctx;
};

struct rebuild_options {
    struct memory_dir *dir;
    const struct snapshot_files *snapshots;
    const struct rebuild_log *log;
    /* Called about every second while entries are applied; may be NULL. */
    void (*progress)(void *ctx, raft_index applied, raft_index target);
    void *progress_ctx;
};

struct rebuild_result {
    struct engine *engine; /* both owned by the caller; destroy apply first */
    struct apply *apply;
    bool kept;                 /* the memory engine's file was continued */
    const char *distrust;      /* why not; a constant phrase, NULL when kept */
    raft_index snapshot_index; /* of the snapshot installed; 0: none */
    uint64_t entries;          /* applied from the log */
    struct ms_err skipped; /* a damaged newer snapshot that could be done without; else status 0 */
};

/*
 * MS_ECORRUPT: a snapshot is damaged and the log does not reach back behind it, or there is none
 * and the log does not start at 1: err names the file and the offset. Nothing on disk was changed.
 */
int rebuild_open(const struct rebuild_options *options, struct rebuild_result *out,
                 struct ms_err *err);

#endif

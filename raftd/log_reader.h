/*
 * log_reader: entries that raftd no longer keeps, fetched from storaged's log.
 *
 * Whoever needs one (the core for a follower that lags, the node for what is not yet applied) asks,
 * is told to come again, and finds it here once LOG_ENTRIES has come. A few stretches of the log
 * are held at a time, so several followers can lag at different places.
 */
#ifndef METASTORE_RAFTD_LOG_READER_H
#define METASTORE_RAFTD_LOG_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ipc_catalogue.h"
#include "common/link.h"
#include "raftd/core/raft.h"

/* Stretches that are held, and requests that are under way. */
#define LOG_READER_WINDOWS  4u
#define LOG_READER_REQUESTS 4u

struct log_reader_window {
    struct raft_slice slice; /* count 0: free */
    uint64_t used_at;        /* the larger, the more recently */
};

struct log_reader_request {
    raft_index low; /* 0: free */
    raft_index high;
    uint64_t number; /* of the LOG_READ that went out on the present link; 0: it has to */
};

struct log_reader {
    const struct raft_alloc *alloc; /* borrowed */
    struct log_reader_window windows[LOG_READER_WINDOWS];
    struct log_reader_request requests[LOG_READER_REQUESTS];
    uint64_t last_number;
    uint64_t uses;
};

/* What an answer was about. */
struct log_reader_answer {
    bool available;        /* entries have come: who was told to come again should */
    raft_index first_gone; /* not 0: storaged no longer has this entry, nor older ones */
};

void log_reader_init(struct log_reader *reader, const struct raft_alloc *alloc);
void log_reader_fini(struct log_reader *reader);

/* Forgets what is held and what was asked for. */
void log_reader_reset(struct log_reader *reader);

/*
 * Entries first .. end - 1, all durable, or as many of the first of them as are here and fit into
 * max_bytes (at least one), as a new reference. MS_EAGAIN: they are asked for, or will be when
 * others have been answered. MS_ENOMEM.
 */
int log_reader_entries(struct log_reader *reader, raft_index first, raft_index end,
                       uint64_t max_bytes, struct raft_slice *out);

/* storaged is gone: what it has not answered has to be asked for again. */
void log_reader_link_lost(struct log_reader *reader);

/* Sends on the apply link what has to be asked for, as far as there is room. As ms_link_send, but
 * never MS_EAGAIN. */
int log_reader_pump(struct log_reader *reader, struct ms_link *link);

/* LOG_ENTRIES. MS_EPROTO: not what was asked for; MS_ENOMEM. */
int log_reader_handle(struct log_reader *reader, const struct ms_ipc_message *message,
                      struct log_reader_answer *out);

#endif

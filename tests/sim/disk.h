/*
 * disk: what a node has on disk, and the records on their way there.
 *
 * The log, the hard state, the configurations that changes lead to, and one snapshot. Records
 * become durable in order; a crash keeps some of the first ones.
 */
#ifndef METASTORE_TESTS_SIM_DISK_H
#define METASTORE_TESTS_SIM_DISK_H

#include <sys/queue.h>

#include "raftd/core/raft.h"
#include "tests/sim/machine.h"

/* Entries base_index + 1 and up; each holds a reference to its data. */
struct entry_log {
    raft_index base_index;
    raft_term base_term;
    struct raft_entry *items;
    size_t count;
    size_t capacity;
};

raft_index entry_log_last(const struct entry_log *log);
/* False outside base_index .. last. */
bool entry_log_term(const struct entry_log *log, raft_index index, raft_term *term);
/* base_index < index <= last */
const struct raft_entry *entry_log_at(const struct entry_log *log, raft_index index);
/* Cuts the log before the first of the entries, then appends them; refers to their data. */
void entry_log_append(struct entry_log *log, const struct raft_slice *entries);
/* Forgets entries up to index, which is in the log. */
void entry_log_compact(struct entry_log *log, raft_index index);
/* Empties the log; the next entry will be base_index + 1. */
void entry_log_reset(struct entry_log *log, raft_index base_index, raft_term base_term);
void entry_log_fini(struct entry_log *log);

/* What one write makes durable, all or nothing. */
struct record {
    STAILQ_ENTRY(record) next;
    uint64_t seq;
    struct raft_slice entries; /* copies */
    bool has_hard;
    struct raft_hard_state hard;
    struct raft_snapshot *snapshot; /* a copy; replaces the log, and the state machine */
    raft_index conf_index;          /* 0: no configuration */
    struct raft_conf_state conf;
};

STAILQ_HEAD(record_list, record);

#define DISK_CONFS_MAX 64

struct disk_conf {
    raft_index index;
    struct raft_conf_state conf;
};

struct disk {
    struct entry_log log;
    struct raft_hard_state hard;
    struct disk_conf confs[DISK_CONFS_MAX]; /* ascending */
    size_t conf_count;
    struct machine snapshot; /* applied 0: none */
};

/* Makes the oldest record durable and frees it. */
void disk_write(struct disk *disk, struct record_list *records);
/* Loses all records. */
void disk_lose(struct record_list *records);
/* Takes the place of the snapshot before; the log is cut up to keep_after. */
void disk_snapshot(struct disk *disk, const struct machine *machine, raft_index keep_after);
/*
 * The state machine again, from snapshot and log, up to what the hard state says is committed. It
 * stops before a change whose configuration did not get to disk: raftd has to apply that one.
 */
void disk_rebuild(const struct disk *disk, struct machine *machine);
void disk_fini(struct disk *disk);

#endif

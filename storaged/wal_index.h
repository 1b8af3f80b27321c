/*
 * wal_index: what the records of a log amount to, and where in a segment they stand.
 *
 * Pure bookkeeping, used the same way when records are written, when a start reads them back and
 * when a reader looks for one.
 */
#ifndef METASTORE_STORAGED_WAL_INDEX_H
#define METASTORE_STORAGED_WAL_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/wal_format.h"
#include "storaged/wal_scan.h"

/* Configurations that one batch may hold. */
#define WAL_BATCH_CONFS_MAX 16

/* A batch with entries. */
struct wal_place {
    raft_index lowest;
    uint32_t block; /* where it starts, in blocks */
};

/* A batch with a configuration. */
struct wal_conf_place {
    raft_index index;
    uint32_t block;
};

/*
 * Where the batches of one segment are. places ascend strictly both in lowest and in block: a batch
 * that later ones in the segment replace whole is left out. So the entry at index, if it is this
 * segment's to answer, is in the last place whose lowest is not above it.
 */
struct wal_directory {
    struct wal_place *places;
    size_t place_count;
    size_t place_room;
    struct wal_conf_place *confs; /* in the order of the log */
    size_t conf_count;
    size_t conf_room;
};

/* What one batch adds. */
struct wal_summary {
    raft_index lowest; /* of its entries; 0: has none */
    uint64_t entries;
    size_t conf_count;
    raft_index confs[WAL_BATCH_CONFS_MAX];
};

/*
 * Counts count entries from index first on into the summary. Configurations before them in the
 * batch that are for entries from there on are of a log that these replace: they are forgotten.
 */
void wal_summary_add_entries(struct wal_summary *summary, raft_index first, uint64_t count);

/* The state of a log that never had anything in it. */
void wal_state_init(struct log_state *state);

/*
 * Takes one record into the state. MS_ECORRUPT: it cannot follow what the state says (err names the
 * numbers, not the place). An OPENING must repeat the state exactly.
 */
int wal_state_take(struct log_state *state, const struct wal_item *item, struct ms_err *err);

/*
 * Takes all records of a batch into the state (NULL: they are not checked against one) and sums the
 * batch up. MS_ECORRUPT as above, or a record that cannot be decoded.
 */
int wal_batch_take(const struct wal_batch *batch, struct log_state *state,
                   struct wal_summary *summary, struct ms_err *err);

/* Makes room for one more batch, so that the add that follows cannot fail. */
int wal_directory_reserve(struct wal_directory *directory, struct ms_err *err);
void wal_directory_add(struct wal_directory *directory, const struct wal_summary *summary,
                       uint64_t offset);
void wal_directory_fini(struct wal_directory *directory);

/* The offset of the batch that holds index. False: none does. */
bool wal_directory_find(const struct wal_directory *directory, raft_index index, uint64_t *offset);

/*
 * The configuration that counts among those for indices in [low, high]: of the highest index, the
 * last one, unless entries that were written later replace that index. False: none.
 */
bool wal_directory_find_conf(const struct wal_directory *directory, raft_index low, raft_index high,
                             raft_index *index, uint64_t *offset);

#endif

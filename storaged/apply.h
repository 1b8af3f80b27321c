/*
 * apply: the replicated state machine.
 *
 * Turns committed log entries into changes of a state engine. Everything in here is deterministic:
 * the same entries lead to the same revisions, answers and hashes on every node and every engine.
 * It decides; the engine stores; the answers table remembers what was answered.
 */
#ifndef METASTORE_STORAGED_APPLY_H
#define METASTORE_STORAGED_APPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/ipc_catalogue.h"
#include "common/types.h"
#include "storaged/engine.h"

struct apply;

struct apply_entry {
    raft_index index;
    raft_term term;
    uint32_t type;       /* enum ms_entry_type */
    const uint8_t *data; /* borrowed during apply_entries */
    size_t len_bytes;
};

/* What APPLY_RESULT says, and whether this was only a repetition. */
struct apply_result {
    struct ms_op_id id;
    uint64_t revision;
    enum ms_result_code code;
    bool duplicate; /* recognised by its id: nothing was done now */
};

struct apply_counters {
    uint64_t duplicates;
    uint64_t undecodable; /* commands that no apid of this version wrote; skipped */
};

/* Entries that one apply_entries takes at most. */
#define APPLY_BATCH_MAX 4096

/* Configurations that may wait for their entry. */
#define APPLY_CONFS_MAX 64

/* Loads the answers that the engine holds. engine is borrowed and must outlive the state machine.
 */
int apply_create(struct engine *engine, struct apply **out, struct ms_err *err);
void apply_destroy(struct apply *apply);

/*
 * APPLY_CONF: the encoded configuration that the entry at index leads to; copied, stored in the
 * commit that applies that entry. An index that is applied already is ignored.
 * MS_ECORRUPT: not an encoded configuration; MS_EPROTO: not above the last one that waits;
 * MS_EFULL: APPLY_CONFS_MAX wait.
 */
int apply_conf(struct apply *apply, raft_index index, const uint8_t *conf, size_t len_bytes,
               struct ms_err *err);

/*
 * Applies up to APPLY_BATCH_MAX entries in order, in one engine commit (in several when room is
 * short). Entries at or below the applied index are skipped and not answered. results has room for
 * count; one is written for each entry that carries an operation id and was applied, in order; they
 * may be sent now, whatever this returns.
 *
 *   MS_EPROTO   the entries have a gap, to each other or to the applied index; nothing was done
 *   MS_ENOSPC   see engine_begin; engine_meta tells how far this came, and it can be repeated
 *   others      as the engine says: it is unusable
 */
int apply_entries(struct apply *apply, const struct apply_entry *entries, size_t count,
                  struct apply_result *results, size_t *result_count, struct ms_err *err);

/*
 * What was answered to the origin's operations from from_seq on and is still kept: the first of
 * them. False: there is none.
 */
bool apply_next_answer(const struct apply *apply, uint64_t origin, uint64_t from_seq,
                       struct apply_result *out);

void apply_counters(const struct apply *apply, struct apply_counters *out);

#endif

/*
 * answers: what was answered to which operation, for those who may ask again.
 *
 * Part of the replicated state: the same entries lead to the same table on every node, and it is
 * stored in the engine in the same commit as the effects (as side records, so snapshots carry it).
 * An origin's answers stay until the origin has acknowledged them; the bounds below keep an origin
 * that never does from growing the state without end.
 *
 * A side record holds ANSWERS_CHUNK consecutive answers of one origin, so that an operation costs
 * a small record rewritten in place, however many answers are kept:
 *
 *   name   0   1  'a'
 *          1   8  origin, big-endian
 *          9   8  seq / ANSWERS_CHUNK, big-endian
 *   value  0   8  log index of the newest operation in it, little-endian like the rest
 *          8   8  the origin's watermark then
 *         16   .  ANSWERS_CHUNK answers of 8 bytes: 0 for none, else code + 1 in the lowest byte
 *                 and the revision above it
 */
#ifndef METASTORE_STORAGED_ANSWERS_H
#define METASTORE_STORAGED_ANSWERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/ipc_catalogue.h"
#include "common/types.h"
#include "storaged/engine.h"

#define ANSWERS_CHUNK 64

/* Chunks kept for one origin at most: older answers are given up (the watermark is raised). */
#define ANSWERS_CHUNKS_MAX 1024

/* Origins at most: the one that was silent for the longest part of the log is given up. */
#define ANSWERS_ORIGINS_MAX 256

#define ANSWERS_NAME_BYTES  17
#define ANSWERS_VALUE_BYTES (16 + 8 * ANSWERS_CHUNK)

/* Revisions must fit beside the code. */
#define ANSWERS_REVISION_MAX (UINT64_MAX >> 8)

struct answers;

struct answer {
    uint64_t revision;
    enum ms_result_code code;
};

enum answers_verdict {
    ANSWERS_NEW,       /* never seen: do it */
    ANSWERS_KNOWN,     /* done before: this is the answer */
    ANSWERS_FORGOTTEN, /* below the watermark: done and acknowledged, or given up */
};

/* An empty table. */
int answers_create(struct answers **out);
void answers_destroy(struct answers *answers);

/* Fills an empty table from the engine's records. MS_ECORRUPT: they are not what flush writes. */
int answers_load(struct answers *answers, struct engine *engine, struct ms_err *err);

/* Changes nothing. *out is set for ANSWERS_KNOWN only. */
enum answers_verdict answers_find(const struct answers *answers, struct ms_op_id id,
                                  struct answer *out);

/*
 * The first answer of the origin for a seq of at least from_seq that is kept. False: there is none.
 */
bool answers_next(const struct answers *answers, uint64_t origin, uint64_t from_seq, uint64_t *seq,
                  struct answer *out);

/*
 * Records what the operation in the entry at log_index was answered (or was answered before, for a
 * repeated one), and that the origin has got every answer below ack_seq. id must be at or above
 * the watermark (assert). MS_ENOMEM: the table has not changed.
 */
int answers_record(struct answers *answers, struct ms_op_id id, uint64_t ack_seq,
                   raft_index log_index, struct answer answer);

/* Stores what has changed since the last flush, in the engine's open batch. */
int answers_flush(struct answers *answers, struct engine *engine, struct ms_err *err);

/* Origins in the table, for tests and statistics. */
size_t answers_origins(const struct answers *answers);

#endif

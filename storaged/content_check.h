/*
 * content_check: whether what a sink is fed can be the content of a store.
 *
 * Whoever takes in a snapshot, to install it or only to keep it, calls this along with what it does
 * with the pieces: order, lengths, and that stamps and changes belong together. Constant memory.
 */
#ifndef METASTORE_STORAGED_CONTENT_CHECK_H
#define METASTORE_STORAGED_CONTENT_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/command.h"
#include "common/err.h"
#include "storaged/engine.h"

/* All zero is the beginning. */
struct content_check {
    uint64_t stamps;
    uint64_t changes;
    uint64_t live;          /* keys before the last one whose newest stamp is no tombstone */
    uint64_t balance;       /* hashes of stamps less those of changes: 0 in the end */
    uint64_t last_revision; /* highest seen in a stamp or a change */
    struct engine_stamp last_stamp; /* of the last key */
    struct engine_stamp last_change;
    uint64_t last_key_hash;
    size_t last_key_bytes;
    uint8_t last_key[MS_KEY_BYTES_MAX];
};

/* Each of these: MS_OK, or MS_ECORRUPT with the reason. */
int content_check_record(const uint8_t *name, size_t name_bytes, struct ms_err *err);
/* *is_new: the key is another one than in the call before. */
int content_check_key(struct content_check *check, const uint8_t *key, size_t key_bytes,
                      const struct engine_stamp *stamps, size_t count, bool *is_new,
                      struct ms_err *err);
int content_check_change(struct content_check *check, const struct engine_change *change,
                         struct ms_err *err);

/* After the last piece. */
int content_check_finish(const struct content_check *check, const struct engine_snapshot_info *info,
                         struct ms_err *err);

#endif

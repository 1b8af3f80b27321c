/*
 * snapshot_writer: turns the content of an engine into a snapshot's bytes (snapshot_format.h).
 *
 * Knows nothing of files: whole chunks go to a callback.
 */
#ifndef METASTORE_STORAGED_SNAPSHOT_WRITER_H
#define METASTORE_STORAGED_SNAPSHOT_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/engine.h"

/* Takes the next bytes; they are valid during the call. An error ends the snapshot. */
struct snapshot_output {
    int (*write)(void *ctx, const uint8_t *data, size_t len_bytes, struct ms_err *err);
    void *ctx;
};

/*
 * Writes the whole of a snapshot, header to end. Any thread. Errors are the engine's, the output's,
 * or MS_ENOMEM.
 */
int snapshot_writer_run(const struct engine *engine, struct engine_snapshot *snapshot,
                        const struct snapshot_output *output, struct ms_err *err);

#endif

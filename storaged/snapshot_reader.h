/*
 * snapshot_reader: takes a snapshot's bytes (snapshot_format.h) apart, trusting none of them.
 *
 * Knows nothing of files: bytes come from a callback, content goes to an engine_sink. Memory is
 * bounded by the largest item that really is there, not by what a length claims.
 */
#ifndef METASTORE_STORAGED_SNAPSHOT_READER_H
#define METASTORE_STORAGED_SNAPSHOT_READER_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/engine.h"

struct snapshot_reader;

/* Fills dst with the next len_bytes; *got is less only at the end of the input. */
struct snapshot_input {
    int (*read)(void *ctx, uint8_t *dst, size_t len_bytes, size_t *got, struct ms_err *err);
    void *ctx;
    const char *name; /* for errors */
};

/* *input is copied, what it points to is borrowed. */
int snapshot_reader_create(const struct snapshot_input *input, struct snapshot_reader **out,
                           struct ms_err *err);
void snapshot_reader_destroy(struct snapshot_reader *reader);

/* First: the header. MS_ECORRUPT names the input and the offset, here and below. */
int snapshot_reader_header(struct snapshot_reader *reader, struct engine_snapshot_info *out,
                           struct ms_err *err);

/* Then: everything else, to the end of the input. Errors are also the sink's. */
int snapshot_reader_run(struct snapshot_reader *reader, const struct engine_sink *sink,
                        struct ms_err *err);

#endif

/*
 * wire: see wire.h.
 */
#include "tests/sim/wire.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/machine.h"
#include "tests/sim/report.h"

static long live;

static void *take(void *ctx, size_t len_bytes)
{
    (void)ctx;
    live++;
    return report_realloc(NULL, len_bytes > 0 ? len_bytes : 1);
}

static void give(void *ctx, void *memory)
{
    (void)ctx;
    live--;
    free(memory);
}

const struct raft_alloc wire_alloc = {.alloc = take, .free = give};

long wire_live(void)
{
    return live;
}

struct raft_buffer *wire_copy_bytes(const void *bytes, size_t len_bytes, uint8_t **out)
{
    struct raft_buffer *buffer = NULL;

    (void)raft_buffer_create(&wire_alloc, len_bytes, &buffer, out); /* never refused */
    if (len_bytes > 0) {
        memcpy(*out, bytes, len_bytes);
    }
    return buffer;
}

struct raft_slice wire_copy_entries(const struct raft_entry *entries, size_t count)
{
    struct raft_entry *copies;
    struct raft_slice slice = {0};

    if (count == 0) {
        return slice;
    }
    copies = report_calloc(count, sizeof(*copies));
    for (size_t i = 0; i < count; i++) {
        uint8_t *bytes = NULL;

        copies[i] = entries[i];
        copies[i].owner = NULL;
        copies[i].stands_in = false;
        if (entries[i].data != NULL) {
            copies[i].owner = wire_copy_bytes(entries[i].data, entries[i].len_bytes, &bytes);
            copies[i].data = bytes;
        }
    }
    (void)raft_slice_create(&wire_alloc, copies, count, &slice);
    for (size_t i = 0; i < count; i++) {
        raft_buffer_release(copies[i].owner);
    }
    free(copies);
    return slice;
}

void wire_copy_message(const struct raft_message *message, struct raft_message *out)
{
    struct raft_message copy = *message;

    copy.entries = wire_copy_entries(message->entries.entries, message->entries.count);
    copy.snapshot = NULL;
    copy.responses = NULL;
    copy.response_count = 0;
    if (message->snapshot != NULL) {
        const struct raft_snapshot *snapshot = message->snapshot;
        const struct machine *machine = machine_of_snapshot(snapshot);

        copy.snapshot = machine_to_snapshot(machine, &snapshot->conf);
    }
    *out = copy;
}

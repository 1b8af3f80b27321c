/*
 * Contexts of changes come from disks and peers, notes from peers: any bytes are either refused, or
 * exactly what the encoders write.
 */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "raftd/member_context.h"
#include "raftd/member_note.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_context(const uint8_t *data, size_t size)
{
    uint8_t again[MEMBER_CONTEXT_BYTES_MAX];
    struct member_context context;

    if (size > 0 && member_context_decode(data, size, &context) == MS_OK &&
        (member_context_encode(&context, again) != size || memcmp(again, data, size) != 0)) {
        abort();
    }
}

static void fuzz_notes(const uint8_t *data, size_t size)
{
    uint8_t again[MEMBER_NOTE_BYTES_MAX];
    struct member_ask ask;
    struct member_reply reply;

    if (member_note_get_ask(data, size, &ask) == MS_OK &&
        (member_note_put_ask(&ask, again) != size || memcmp(again, data, size) != 0)) {
        abort();
    }
    if (member_note_get_reply(data, size, &reply) == MS_OK &&
        (member_note_put_reply(&reply, again) != size || memcmp(again, data, size) != 0)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_context(data, size);
    fuzz_notes(data, size);
    return 0;
}

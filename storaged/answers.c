/*
 * answers: the table in memory, and its form in the engine's records.
 *
 * Every decision depends only on what was recorded, in order; never on time, memory or addresses.
 */
#include "storaged/answers.h"

#include <assert.h>
#include <endian.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/le.h"

#define NAME_TAG     'a'
#define SLOTS_OFFSET 16

struct chunk {
    uint64_t number; /* seq / ANSWERS_CHUNK */
    raft_index last_index;
    uint64_t watermark;
    bool dirty; /* is in the list of changes */
    uint64_t slots[ANSWERS_CHUNK];
};

/*
 * One origin. All chunks have numbers in [watermark / ANSWERS_CHUNK, that + ANSWERS_CHUNKS_MAX), so
 * each has a place of its own. The chunk that was written last is always there, and it says the
 * current watermark and last_index: that is how loading finds them.
 */
struct origin {
    uint64_t id;
    uint64_t watermark;
    raft_index last_index;
    uint64_t newest;                          /* highest chunk number there is */
    struct chunk *chunks[ANSWERS_CHUNKS_MAX]; /* by number modulo the size */
};

struct name {
    uint64_t origin;
    uint64_t number;
};

struct answers {
    size_t origin_count;
    struct origin *origins[ANSWERS_ORIGINS_MAX]; /* by id, ascending */
    struct name *changed; /* chunks to be written, or removed if they no longer exist */
    size_t changed_count;
    size_t changed_room;
};

/* ---- small parts --------------------------------------------------------------------------- */

static uint64_t pack(struct answer answer)
{
    assert(answer.revision <= ANSWERS_REVISION_MAX);
    return answer.revision << 8 | ((uint64_t)answer.code + 1);
}

static struct answer unpack(uint64_t slot)
{
    return (struct answer){.revision = slot >> 8, .code = (enum ms_result_code)((slot & 0xff) - 1)};
}

static bool slot_is_valid(uint64_t slot)
{
    return slot == 0 || ((slot & 0xff) >= 1 && (slot & 0xff) <= MS_RESULT_FORGOTTEN + 1);
}

/* Where the origin is, or belongs. */
static size_t position_of(const struct answers *answers, uint64_t id)
{
    size_t low = 0;
    size_t high = answers->origin_count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (answers->origins[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct origin *find_origin(const struct answers *answers, uint64_t id)
{
    size_t position = position_of(answers, id);

    if (position == answers->origin_count || answers->origins[position]->id != id) {
        return NULL;
    }
    return answers->origins[position];
}

static struct chunk **chunk_place(struct origin *origin, uint64_t number)
{
    return &origin->chunks[number % ANSWERS_CHUNKS_MAX];
}

static const struct chunk *find_chunk(const struct origin *origin, uint64_t number)
{
    const struct chunk *chunk = origin->chunks[number % ANSWERS_CHUNKS_MAX];

    return chunk != NULL && chunk->number == number ? chunk : NULL;
}

/* ---- changes to be flushed ----------------------------------------------------------------- */

/* Room for so many more changes, so that noting them cannot fail half-way. */
static int reserve_changes(struct answers *answers, size_t more)
{
    size_t room = answers->changed_room;
    struct name *grown;

    if (room - answers->changed_count >= more) {
        return MS_OK;
    }
    while (room - answers->changed_count < more) {
        room = room == 0 ? ANSWERS_CHUNKS_MAX : 2 * room;
    }
    grown = realloc(answers->changed, room * sizeof(*grown));
    if (grown == NULL) {
        return MS_ENOMEM;
    }
    answers->changed = grown;
    answers->changed_room = room;
    return MS_OK;
}

static void note_change(struct answers *answers, uint64_t origin, uint64_t number)
{
    assert(answers->changed_count < answers->changed_room);
    answers->changed[answers->changed_count++] = (struct name){origin, number};
}

static void drop_chunk(struct answers *answers, struct origin *origin, uint64_t number)
{
    struct chunk **place = chunk_place(origin, number);

    if (*place != NULL && (*place)->number == number) {
        if (!(*place)->dirty) {
            note_change(answers, origin->id, number);
        }
        free(*place);
        *place = NULL;
    }
}

/* Drops what lies below the watermark; at most ANSWERS_CHUNKS_MAX chunks. */
static void raise_watermark(struct answers *answers, struct origin *origin, uint64_t watermark)
{
    uint64_t end = watermark / ANSWERS_CHUNK;
    uint64_t number = origin->watermark / ANSWERS_CHUNK;

    if (end > origin->newest) {
        end = origin->newest + 1;
    }
    for (; number < end; number++) {
        drop_chunk(answers, origin, number);
    }
    origin->watermark = watermark;
}

/* ---- origins ------------------------------------------------------------------------------- */

static void free_origin(struct origin *origin)
{
    for (size_t i = 0; i < ANSWERS_CHUNKS_MAX; i++) {
        free(origin->chunks[i]);
    }
    free(origin);
}

static void remove_origin(struct answers *answers, size_t position)
{
    struct origin *origin = answers->origins[position];

    for (size_t i = 0; i < ANSWERS_CHUNKS_MAX; i++) {
        if (origin->chunks[i] != NULL && !origin->chunks[i]->dirty) {
            note_change(answers, origin->id, origin->chunks[i]->number);
        }
    }
    free_origin(origin);
    answers->origin_count--;
    for (size_t i = position; i < answers->origin_count; i++) {
        answers->origins[i] = answers->origins[i + 1];
    }
}

/* Log indexes are unique, so there is exactly one that was silent longest. */
static void evict_origin(struct answers *answers)
{
    size_t oldest = 0;

    for (size_t i = 1; i < answers->origin_count; i++) {
        if (answers->origins[i]->last_index < answers->origins[oldest]->last_index) {
            oldest = i;
        }
    }
    remove_origin(answers, oldest);
}

static void insert_origin(struct answers *answers, struct origin *origin)
{
    size_t position = position_of(answers, origin->id);

    assert(answers->origin_count < ANSWERS_ORIGINS_MAX);
    for (size_t i = answers->origin_count; i > position; i--) {
        answers->origins[i] = answers->origins[i - 1];
    }
    answers->origins[position] = origin;
    answers->origin_count++;
}

/* ---- the public side ----------------------------------------------------------------------- */

int answers_create(struct answers **out)
{
    struct answers *answers = calloc(1, sizeof(*answers));

    if (answers == NULL) {
        return MS_ENOMEM;
    }
    *out = answers;
    return MS_OK;
}

void answers_destroy(struct answers *answers)
{
    if (answers == NULL) {
        return;
    }
    for (size_t i = 0; i < answers->origin_count; i++) {
        free_origin(answers->origins[i]);
    }
    free(answers->changed);
    free(answers);
}

enum answers_verdict answers_find(const struct answers *answers, struct ms_op_id id,
                                  struct answer *out)
{
    const struct origin *origin = find_origin(answers, id.origin);
    const struct chunk *chunk;
    uint64_t slot;

    if (origin == NULL) {
        return ANSWERS_NEW;
    }
    if (id.seq < origin->watermark) {
        return ANSWERS_FORGOTTEN;
    }
    chunk = find_chunk(origin, id.seq / ANSWERS_CHUNK);
    slot = chunk == NULL ? 0 : chunk->slots[id.seq % ANSWERS_CHUNK];
    if (slot == 0) {
        return ANSWERS_NEW;
    }
    *out = unpack(slot);
    return ANSWERS_KNOWN;
}

bool answers_next(const struct answers *answers, uint64_t origin_id, uint64_t from_seq,
                  uint64_t *seq, struct answer *out)
{
    const struct origin *origin = find_origin(answers, origin_id);
    uint64_t at = from_seq;

    if (origin == NULL) {
        return false;
    }
    if (at < origin->watermark) {
        at = origin->watermark;
    }
    while (at / ANSWERS_CHUNK <= origin->newest) {
        const struct chunk *chunk = find_chunk(origin, at / ANSWERS_CHUNK);

        if (chunk == NULL) {
            at = (at / ANSWERS_CHUNK + 1) * ANSWERS_CHUNK;
        } else if (chunk->slots[at % ANSWERS_CHUNK] == 0) {
            at++;
        } else {
            *seq = at;
            *out = unpack(chunk->slots[at % ANSWERS_CHUNK]);
            return true;
        }
    }
    return false;
}

int answers_record(struct answers *answers, struct ms_op_id id, uint64_t ack_seq,
                   raft_index log_index, struct answer answer)
{
    struct origin *origin = find_origin(answers, id.origin);
    uint64_t number = id.seq / ANSWERS_CHUNK;
    uint64_t watermark = ack_seq < id.seq ? ack_seq : id.seq;
    struct origin *new_origin = NULL;
    struct chunk *chunk;

    assert(origin == NULL || id.seq >= origin->watermark);
    /* Everything that can fail comes first. An eviction and a raised watermark may each touch all
     * chunks of one origin. */
    if (reserve_changes(answers, 2 * ANSWERS_CHUNKS_MAX + 1) != MS_OK) {
        return MS_ENOMEM;
    }
    chunk = origin == NULL ? NULL : *chunk_place(origin, number);
    if (chunk == NULL || chunk->number != number) {
        chunk = calloc(1, sizeof(*chunk));
        if (chunk == NULL) {
            return MS_ENOMEM;
        }
        chunk->number = number;
    }
    if (origin == NULL) {
        new_origin = calloc(1, sizeof(*new_origin));
        if (new_origin == NULL) {
            free(chunk);
            return MS_ENOMEM;
        }
        new_origin->id = id.origin;
        if (answers->origin_count == ANSWERS_ORIGINS_MAX) {
            evict_origin(answers);
        }
        insert_origin(answers, new_origin);
        origin = new_origin;
    }
    if (number >= ANSWERS_CHUNKS_MAX &&
        watermark < (number - ANSWERS_CHUNKS_MAX + 1) * ANSWERS_CHUNK) {
        watermark = (number - ANSWERS_CHUNKS_MAX + 1) * ANSWERS_CHUNK;
    }
    if (watermark > origin->watermark) {
        raise_watermark(answers, origin, watermark);
    }
    if (number > origin->newest) {
        origin->newest = number;
    }
    *chunk_place(origin, number) = chunk;
    origin->last_index = log_index;
    chunk->last_index = log_index;
    chunk->watermark = origin->watermark;
    chunk->slots[id.seq % ANSWERS_CHUNK] = pack(answer);
    if (!chunk->dirty) {
        chunk->dirty = true;
        note_change(answers, origin->id, number);
    }
    return MS_OK;
}

size_t answers_origins(const struct answers *answers)
{
    return answers->origin_count;
}

/* ---- records ------------------------------------------------------------------------------- */

static void encode_name(struct name name, uint8_t dst[ANSWERS_NAME_BYTES])
{
    uint64_t origin = htobe64(name.origin);
    uint64_t number = htobe64(name.number);

    dst[0] = NAME_TAG;
    memcpy(dst + 1, &origin, sizeof(origin));
    memcpy(dst + 9, &number, sizeof(number));
}

static void encode_chunk(const struct chunk *chunk, uint8_t dst[ANSWERS_VALUE_BYTES])
{
    ms_le_put_u64(dst, chunk->last_index);
    ms_le_put_u64(dst + 8, chunk->watermark);
    for (size_t i = 0; i < ANSWERS_CHUNK; i++) {
        ms_le_put_u64(dst + SLOTS_OFFSET + 8 * i, chunk->slots[i]);
    }
}

int answers_flush(struct answers *answers, struct engine *engine, struct ms_err *err)
{
    for (size_t i = 0; i < answers->changed_count; i++) {
        struct name changed = answers->changed[i];
        struct origin *origin = find_origin(answers, changed.origin);
        struct chunk *chunk = origin == NULL ? NULL : *chunk_place(origin, changed.number);
        uint8_t name[ANSWERS_NAME_BYTES];
        uint8_t value[ANSWERS_VALUE_BYTES];
        int rc;

        encode_name(changed, name);
        if (chunk != NULL && chunk->number == changed.number) {
            encode_chunk(chunk, value);
            chunk->dirty = false;
            rc = engine_record_put(engine, name, sizeof(name), value, sizeof(value), err);
        } else {
            rc = engine_record_remove(engine, name, sizeof(name), err);
        }
        if (rc != MS_OK) {
            return rc;
        }
    }
    answers->changed_count = 0;
    return MS_OK;
}

static int corrupt(struct ms_err *err, uint64_t origin, const char *what)
{
    return ms_err_set(err, MS_ECORRUPT, 0, "answers of origin %016llx: %s",
                      (unsigned long long)origin, what);
}

static int load_chunk(struct answers *answers, struct name name, const uint8_t *value,
                      struct ms_err *err)
{
    struct origin *origin = find_origin(answers, name.origin);
    struct chunk *chunk = calloc(1, sizeof(*chunk));

    if (chunk == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "answers: out of memory");
    }
    chunk->number = name.number;
    chunk->last_index = ms_le_get_u64(value);
    chunk->watermark = ms_le_get_u64(value + 8);
    for (size_t i = 0; i < ANSWERS_CHUNK; i++) {
        chunk->slots[i] = ms_le_get_u64(value + SLOTS_OFFSET + 8 * i);
        if (!slot_is_valid(chunk->slots[i])) {
            free(chunk);
            return corrupt(err, name.origin, "unknown result code");
        }
    }
    if (origin == NULL) {
        origin = answers->origin_count == ANSWERS_ORIGINS_MAX ? NULL : calloc(1, sizeof(*origin));
        if (origin == NULL) {
            free(chunk);
            return answers->origin_count == ANSWERS_ORIGINS_MAX
                       ? corrupt(err, name.origin, "too many origins")
                       : ms_err_set(err, MS_ENOMEM, 0, "answers: out of memory");
        }
        origin->id = name.origin;
        insert_origin(answers, origin);
    }
    if (*chunk_place(origin, name.number) != NULL) {
        free(chunk);
        return corrupt(err, name.origin, "too far apart");
    }
    *chunk_place(origin, name.number) = chunk;
    if (chunk->number > origin->newest) {
        origin->newest = chunk->number;
    }
    if (chunk->last_index > origin->last_index) {
        origin->last_index = chunk->last_index;
    }
    if (chunk->watermark > origin->watermark) {
        origin->watermark = chunk->watermark;
    }
    return MS_OK;
}

static int load_record(void *ctx, const uint8_t *name, size_t name_bytes, const uint8_t *value,
                       size_t value_bytes, struct ms_err *err)
{
    struct answers *answers = ctx;
    uint64_t raw[2];

    if (name[0] != NAME_TAG) {
        return MS_OK; /* somebody else's */
    }
    if (name_bytes != ANSWERS_NAME_BYTES || value_bytes != ANSWERS_VALUE_BYTES) {
        return ms_err_set(err, MS_ECORRUPT, 0, "answers: a record of an impossible length");
    }
    memcpy(raw, name + 1, sizeof(raw));
    return load_chunk(answers, (struct name){be64toh(raw[0]), be64toh(raw[1])}, value, err);
}

int answers_load(struct answers *answers, struct engine *engine, struct ms_err *err)
{
    int rc;

    assert(answers->origin_count == 0);
    rc = engine_records(engine, load_record, answers, err);
    if (rc != MS_OK) {
        return rc;
    }
    for (size_t i = 0; i < answers->origin_count; i++) {
        const struct origin *origin = answers->origins[i];
        uint64_t first = origin->watermark / ANSWERS_CHUNK;

        for (size_t k = 0; k < ANSWERS_CHUNKS_MAX; k++) {
            const struct chunk *chunk = origin->chunks[k];

            if (chunk != NULL &&
                (chunk->number < first || chunk->number - first >= ANSWERS_CHUNKS_MAX)) {
                return corrupt(err, origin->id, "outside of what is kept");
            }
        }
    }
    return MS_OK;
}

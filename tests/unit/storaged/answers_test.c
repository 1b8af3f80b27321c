/*
 * answers_test: the table of answers against a model, over an engine that only keeps records.
 */
#include "storaged/answers.h"
#include "tests/unit/storaged/engine_fixture.h"

/* ---- an engine of nothing but side records ---- */

struct record {
    size_t name_bytes;
    size_t value_bytes;
    uint8_t name[ENGINE_RECORD_NAME_MAX];
    uint8_t value[ANSWERS_VALUE_BYTES];
};

struct shelf {
    struct engine base;
    size_t count;
    size_t room;
    struct record *records;
};

static struct record *shelf_find(struct shelf *shelf, const uint8_t *name, size_t name_bytes)
{
    for (size_t i = 0; i < shelf->count; i++) {
        if (shelf->records[i].name_bytes == name_bytes &&
            memcmp(shelf->records[i].name, name, name_bytes) == 0) {
            return &shelf->records[i];
        }
    }
    return NULL;
}

static int shelf_put(struct engine *base, const uint8_t *name, size_t name_bytes,
                     const uint8_t *value, size_t value_bytes, struct ms_err *err)
{
    struct shelf *shelf = (struct shelf *)base;
    struct record *record = shelf_find(shelf, name, name_bytes);

    (void)err;
    cr_assert_leq(value_bytes, sizeof(record->value));
    if (record == NULL) {
        if (shelf->count == shelf->room) {
            shelf->room = shelf->room == 0 ? 64 : 2 * shelf->room;
            shelf->records = realloc(shelf->records, shelf->room * sizeof(*shelf->records));
            cr_assert_not_null(shelf->records);
        }
        record = &shelf->records[shelf->count++];
        record->name_bytes = name_bytes;
        memcpy(record->name, name, name_bytes);
    }
    record->value_bytes = value_bytes;
    memcpy(record->value, value, value_bytes);
    return MS_OK;
}

static int shelf_remove(struct engine *base, const uint8_t *name, size_t name_bytes,
                        struct ms_err *err)
{
    struct shelf *shelf = (struct shelf *)base;
    struct record *record = shelf_find(shelf, name, name_bytes);

    (void)err;
    if (record != NULL) {
        *record = shelf->records[--shelf->count];
    }
    return MS_OK;
}

static int shelf_records(struct engine *base,
                         int (*visit)(void *ctx, const uint8_t *name, size_t name_bytes,
                                      const uint8_t *value, size_t value_bytes, struct ms_err *err),
                         void *ctx, struct ms_err *err)
{
    struct shelf *shelf = (struct shelf *)base;
    int rc = MS_OK;

    for (size_t i = 0; i < shelf->count && rc == MS_OK; i++) {
        struct record *record = &shelf->records[i];

        rc = visit(ctx, record->name, record->name_bytes, record->value, record->value_bytes, err);
    }
    return rc;
}

static const struct engine_ops shelf_ops = {
    .name = "shelf",
    .record_put = shelf_put,
    .record_remove = shelf_remove,
    .records = shelf_records,
};

static void shelf_init(struct shelf *shelf)
{
    *shelf = (struct shelf){.base.ops = &shelf_ops};
}

static void shelf_fini(struct shelf *shelf)
{
    free(shelf->records);
}

/* Through the records into a new table, which then stands for the old one. */
static void reload(struct answers **answers, struct shelf *shelf)
{
    MUST(answers_flush(*answers, &shelf->base, err));
    answers_destroy(*answers);
    cr_assert_eq(answers_create(answers), MS_OK);
    MUST(answers_load(*answers, &shelf->base, err));
}

static void record(struct answers *answers, uint64_t origin, uint64_t seq, uint64_t ack_seq,
                   raft_index index)
{
    cr_assert_eq(answers_record(answers, (struct ms_op_id){origin, seq}, ack_seq, index,
                                (struct answer){.revision = 1000 + seq, .code = seq % 3}),
                 MS_OK);
}

static void expect(const struct answers *answers, uint64_t origin, uint64_t seq,
                   enum answers_verdict verdict)
{
    struct answer answer = {0};

    cr_assert_eq(answers_find(answers, (struct ms_op_id){origin, seq}, &answer), verdict,
                 "origin %llu seq %llu", (unsigned long long)origin, (unsigned long long)seq);
    if (verdict == ANSWERS_KNOWN) {
        cr_assert_eq(answer.revision, 1000 + seq);
        cr_assert_eq(answer.code, seq % 3);
    }
}

/* ---- tests ---- */

Test(answers, are_found_until_acknowledged)
{
    struct answers *answers = NULL;
    struct shelf shelf;

    shelf_init(&shelf);
    cr_assert_eq(answers_create(&answers), MS_OK);
    expect(answers, 5, 1, ANSWERS_NEW);
    for (uint64_t seq = 1; seq <= 200; seq++) {
        record(answers, 5, seq, 1, seq);
    }
    for (int round = 0; round < 2; round++) {
        expect(answers, 5, 1, ANSWERS_KNOWN);
        expect(answers, 5, 200, ANSWERS_KNOWN);
        expect(answers, 5, 201, ANSWERS_NEW);
        expect(answers, 6, 1, ANSWERS_NEW);
        reload(&answers, &shelf);
    }
    cr_assert_eq(shelf.count, 4); /* 200 answers, ANSWERS_CHUNK each */
    record(answers, 5, 201, 150, 201);
    for (int round = 0; round < 2; round++) {
        expect(answers, 5, 149, ANSWERS_FORGOTTEN);
        expect(answers, 5, 150, ANSWERS_KNOWN);
        reload(&answers, &shelf);
    }
    cr_assert_eq(shelf.count, 2);
    answers_destroy(answers);
    shelf_fini(&shelf);
}

/* An origin cannot acknowledge what was not answered: its own operation stays findable. */
Test(answers, acknowledgements_end_at_the_operation_itself)
{
    struct answers *answers = NULL;

    cr_assert_eq(answers_create(&answers), MS_OK);
    record(answers, 5, 10, UINT64_MAX, 1);
    expect(answers, 5, 10, ANSWERS_KNOWN);
    expect(answers, 5, 9, ANSWERS_FORGOTTEN);
    answers_destroy(answers);
}

/* An origin that never acknowledges is bounded, and so is one that jumps as far as it can. */
Test(answers, of_one_origin_are_bounded)
{
    const uint64_t span = (uint64_t)ANSWERS_CHUNK * ANSWERS_CHUNKS_MAX;
    struct answers *answers = NULL;
    struct shelf shelf;

    shelf_init(&shelf);
    cr_assert_eq(answers_create(&answers), MS_OK);
    for (uint64_t seq = 1; seq <= 3 * span; seq += ANSWERS_CHUNK / 2) {
        record(answers, 5, seq, 0, seq);
    }
    MUST(answers_flush(answers, &shelf.base, err));
    cr_assert_eq(shelf.count, ANSWERS_CHUNKS_MAX);
    expect(answers, 5, 1, ANSWERS_FORGOTTEN);
    reload(&answers, &shelf);
    expect(answers, 5, 1, ANSWERS_FORGOTTEN);
    record(answers, 5, UINT64_MAX, 0, 4 * span);
    expect(answers, 5, UINT64_MAX, ANSWERS_KNOWN);
    expect(answers, 5, 3 * span - ANSWERS_CHUNK, ANSWERS_FORGOTTEN);
    reload(&answers, &shelf);
    cr_assert_eq(shelf.count, 1);
    expect(answers, 5, UINT64_MAX, ANSWERS_KNOWN);
    record(answers, 6, UINT64_MAX - 1, 0, 4 * span + 1); /* a first one, from far out */
    expect(answers, 6, UINT64_MAX - 1, ANSWERS_KNOWN);
    answers_destroy(answers);
    shelf_fini(&shelf);
}

/* One origin too many: the one that was silent longest goes, also after a reload. */
Test(answers, origins_are_bounded)
{
    struct answers *answers = NULL;
    struct shelf shelf;
    raft_index index = 0;

    shelf_init(&shelf);
    cr_assert_eq(answers_create(&answers), MS_OK);
    for (uint64_t origin = 1; origin <= ANSWERS_ORIGINS_MAX; origin++) {
        record(answers, origin, 1, 1, ++index);
    }
    record(answers, 1, 2, 1, ++index); /* 2 is the silent one now */
    reload(&answers, &shelf);
    record(answers, 100000, 1, 1, ++index);
    cr_assert_eq(answers_origins(answers), ANSWERS_ORIGINS_MAX);
    expect(answers, 2, 1, ANSWERS_NEW);
    expect(answers, 1, 1, ANSWERS_KNOWN);
    expect(answers, 3, 1, ANSWERS_KNOWN);
    expect(answers, 100000, 1, ANSWERS_KNOWN);
    reload(&answers, &shelf);
    cr_assert_eq(answers_origins(answers), ANSWERS_ORIGINS_MAX);
    cr_assert_eq(shelf.count, ANSWERS_ORIGINS_MAX);
    expect(answers, 2, 1, ANSWERS_NEW);
    answers_destroy(answers);
    shelf_fini(&shelf);
}

/* One table lives on, the other goes through its records all the time: they never differ. */
Test(answers, records_say_everything)
{
    struct fixture_random random = fixture_random_init("records_say_everything");
    struct answers *living = NULL;
    struct answers *reloaded = NULL;
    struct shelf shelf;
    struct shelf other;

    shelf_init(&shelf);
    shelf_init(&other);
    cr_assert_eq(answers_create(&living), MS_OK);
    cr_assert_eq(answers_create(&reloaded), MS_OK);
    for (raft_index index = 1; index <= 4000; index++) {
        uint64_t origin = 1 + fixture_below(&random, ANSWERS_ORIGINS_MAX + 20);
        uint64_t seq = 1 + fixture_below(&random, 1 + index / 8);
        uint64_t ack = fixture_below(&random, seq + 2);
        struct answer a = {0};
        struct answer b = {0};
        struct ms_op_id id = {origin, seq};
        enum answers_verdict verdict = answers_find(living, id, &a);

        cr_assert_eq(answers_find(reloaded, id, &b), verdict);
        cr_assert_eq(a.revision, b.revision);
        cr_assert_eq(a.code, b.code);
        if (verdict != ANSWERS_FORGOTTEN) {
            record(living, origin, seq, ack, index);
            record(reloaded, origin, seq, ack, index);
        }
        if (fixture_below(&random, 40) == 0) {
            reload(&reloaded, &shelf);
        }
    }
    MUST(answers_flush(living, &other.base, err));
    MUST(answers_flush(reloaded, &shelf.base, err));
    cr_assert_eq(shelf.count, other.count);
    for (size_t i = 0; i < shelf.count; i++) {
        const struct record *mine = &shelf.records[i];
        const struct record *same = shelf_find(&other, mine->name, mine->name_bytes);

        cr_assert_not_null(same);
        cr_assert_eq(memcmp(mine->value, same->value, mine->value_bytes), 0);
    }
    answers_destroy(living);
    answers_destroy(reloaded);
    shelf_fini(&shelf);
    shelf_fini(&other);
}

static void expect_load(struct shelf *shelf, int status)
{
    struct answers *answers = NULL;

    cr_assert_eq(answers_create(&answers), MS_OK);
    cr_assert_eq(answers_load(answers, &shelf->base, NULL), status);
    answers_destroy(answers);
}

/* Records that flush would not have written are refused; others' records are let alone. */
Test(answers, damaged_records_are_refused)
{
    struct answers *answers = NULL;
    struct shelf shelf;

    shelf_init(&shelf);
    cr_assert_eq(answers_create(&answers), MS_OK);
    record(answers, 5, 70, 1, 9);
    MUST(answers_flush(answers, &shelf.base, err));
    MUST(shelf_put(&shelf.base, (const uint8_t *)"x", 1, (const uint8_t *)"y", 1, err));
    expect_load(&shelf, MS_OK);
    shelf.records[0].value[16 + 8 * 6] = 0xff; /* its code */
    expect_load(&shelf, MS_ECORRUPT);
    shelf.records[0].value[16 + 8 * 6] = 1;
    shelf.records[0].value_bytes--;
    expect_load(&shelf, MS_ECORRUPT);
    shelf.records[0].value_bytes++;
    shelf.records[0].value[10] = 1; /* a watermark far behind the chunk */
    expect_load(&shelf, MS_ECORRUPT);
    shelf.records[0].value[10] = 0;
    shelf.records[0].name_bytes--;
    expect_load(&shelf, MS_ECORRUPT);
    answers_destroy(answers);
    shelf_fini(&shelf);
}

/*
 * rocks_differential: the same random operations on both engines give the same answers, the same
 * data at every revision and the same hashes, with restarts, and with the state of each moved into
 * an engine of the other kind in between.
 *
 * MS_OPERATIONS sets how many operations there are.
 */
#include "tests/unit/storaged/engine_fixture.h"
#include "tests/unit/storaged/engine_kinds.h"

#define KEYS               200
#define OPERATIONS_DEFAULT 25000
#define BATCH_MAX          64
#define SIDES              2

struct side {
    const struct engine_kind *kind;
    char dir[300];
    struct engine *engine;
    struct apply *apply;
};

struct twins {
    char dir[256];
    unsigned generation; /* of directories */
    struct side sides[SIDES];
    struct fixture_random random;
    uint64_t next_seq[3]; /* by origin */
    uint64_t operations;
};

static void side_open(struct twins *twins, struct side *side, const struct engine_kind *kind,
                      bool fresh)
{
    side->kind = kind;
    if (fresh) {
        (void)snprintf(side->dir, sizeof(side->dir), "%s/%u", twins->dir, twins->generation++);
        cr_assert_eq(mkdir(side->dir, 0700), 0);
        MUST(kind->create(side->dir, &side->engine, err));
    } else {
        MUST(kind->open(side->dir, &side->engine, err));
    }
    side->apply = NULL;
}

static void side_close(struct side *side)
{
    apply_destroy(side->apply);
    engine_close(side->engine);
}

/* ---- operations ---- */

/* A command for the state that both are in; ids are new, or at times those of an earlier one. */
static struct ms_command random_command(struct twins *twins, const struct ms_memdb_meta *meta,
                                        struct fixture_key *key, uint8_t value[16384])
{
    struct fixture_random *random = &twins->random;
    uint64_t seed = fixture_next(random);
    size_t origin = fixture_below(random, 3);
    struct ms_command command = {
        .id = {.origin = origin + 1, .seq = twins->next_seq[origin]},
        .ack_seq = twins->next_seq[origin] > 30 ? twins->next_seq[origin] - 30 : 1,
        .kind = seed % 4 == 0 ? MS_COMMAND_DELETE : MS_COMMAND_PUT,
    };

    if (fixture_below(random, 20) == 0 && command.id.seq > 1) {
        command.id.seq -= fixture_below(random, command.id.seq < 40 ? command.id.seq : 40);
    } else {
        twins->next_seq[origin]++;
    }
    if (fixture_below(random, 300) == 0) {
        command.kind = MS_COMMAND_COMPACT;
        /* Mostly one of late, for all that can be read is compared again and again. */
        command.revision = 1 + fixture_below(random, meta->revision + 5);
        if (fixture_below(random, 3) != 0 && meta->revision > 3000) {
            command.revision = meta->revision - fixture_below(random, 3000);
        }
        return command;
    }
    fixture_key_of(fixture_below(random, KEYS), key);
    command.key = key->data;
    command.key_bytes = key->bytes;
    if (command.kind == MS_COMMAND_PUT) {
        command.value = value;
        command.value_bytes = model_value(seed, value);
    }
    switch (fixture_below(random, 8)) {
    case 0:
        command.condition = MS_CONDITION_ABSENT;
        break;
    case 1:
        command.condition = MS_CONDITION_PRESENT;
        break;
    case 2:
        command.condition = MS_CONDITION_MOD_REVISION;
        command.revision = meta->revision - fixture_below(random, meta->revision);
        break;
    default:
        break;
    }
    return command;
}

static void apply_on_both(struct twins *twins)
{
    static struct apply_result results[SIDES][BATCH_MAX];
    static uint8_t value[16384];
    struct apply_entry entries[BATCH_MAX];
    size_t count = 1 + fixture_below(&twins->random, BATCH_MAX);
    size_t result_counts[SIDES];
    struct ms_memdb_meta meta;

    engine_meta(twins->sides[0].engine, &meta);
    for (size_t i = 0; i < count; i++) {
        struct fixture_key key;
        struct ms_command command = random_command(twins, &meta, &key, value);

        entries[i] = fixture_entry(meta.applied + 1 + i, &command);
    }
    for (size_t i = 0; i < SIDES; i++) {
        memset(results[i], 0, sizeof(results[i]));
        MUST(apply_entries(twins->sides[i].apply, entries, count, results[i], &result_counts[i],
                           err));
    }
    cr_assert_eq(result_counts[0], result_counts[1]);
    for (size_t i = 0; i < result_counts[0]; i++) {
        cr_assert_eq(results[0][i].code, results[1][i].code);
        cr_assert_eq(results[0][i].revision, results[1][i].revision);
        cr_assert_eq(results[0][i].duplicate, results[1][i].duplicate);
    }
    for (size_t i = 0; i < count; i++) {
        fixture_free_entry(&entries[i]);
    }
    twins->operations += count;
}

/* ---- comparing ---- */

static void compare_key(struct twins *twins, uint64_t revision)
{
    struct ms_memdb_kv kv[SIDES];
    struct fixture_key key;
    int rc[SIDES];

    fixture_key_of(fixture_below(&twins->random, KEYS), &key);
    for (size_t i = 0; i < SIDES; i++) {
        rc[i] = engine_get(twins->sides[i].engine, key.data, key.bytes, revision, &kv[i], NULL);
    }
    cr_assert_eq(rc[0], rc[1], "%s and %s", ms_status_text(rc[0]), ms_status_text(rc[1]));
    if (rc[0] != MS_OK) {
        return;
    }
    cr_assert_eq(kv[0].create_revision, kv[1].create_revision);
    cr_assert_eq(kv[0].mod_revision, kv[1].mod_revision);
    cr_assert_eq(kv[0].version, kv[1].version);
    cr_assert_eq(kv[0].lease, kv[1].lease);
    cr_assert_eq(kv[0].key_bytes, kv[1].key_bytes);
    cr_assert_eq(memcmp(kv[0].key, kv[1].key, kv[0].key_bytes), 0);
    cr_assert_eq(kv[0].value_bytes, kv[1].value_bytes);
    cr_assert_eq(memcmp(kv[0].value, kv[1].value, kv[0].value_bytes), 0);
}

struct sum {
    uint64_t hash;
    size_t left; /* of the limit */
};

static void sum_bytes(struct sum *sum, const uint8_t *data, size_t bytes)
{
    sum->hash = sum->hash * 1099511628211U + bytes;
    for (size_t i = 0; i < bytes; i++) {
        sum->hash = (sum->hash ^ data[i]) * 1099511628211U;
    }
}

static bool sum_kv(void *ctx, const struct ms_memdb_kv *kv)
{
    struct sum *sum = ctx;

    sum_bytes(sum, kv->key, kv->key_bytes);
    sum_bytes(sum, kv->value, kv->value_bytes);
    sum->hash = sum->hash * 31 + kv->mod_revision;
    return --sum->left > 0;
}

static int sum_record(void *ctx, const uint8_t *name, size_t name_bytes, const uint8_t *value,
                      size_t value_bytes, struct ms_err *err)
{
    (void)err;
    sum_bytes(ctx, name, name_bytes);
    sum_bytes(ctx, value, value_bytes);
    return MS_OK;
}

/* A range that may begin, end and continue anywhere, and may be empty or impossible. */
static void compare_range(struct twins *twins, uint64_t revision)
{
    static struct fixture_key from;
    static struct fixture_key to;
    struct fixture_random *random = &twins->random;
    struct ms_memdb_range range = {.revision = revision};
    size_t limit = 1 + fixture_below(random, 2 * KEYS);
    struct sum sums[SIDES];
    int rc[SIDES];

    fixture_key_of(fixture_below(random, KEYS), &from);
    fixture_key_of(fixture_below(random, KEYS), &to);
    from.bytes -= fixture_below(random, from.bytes);
    if (from.bytes < sizeof(from.data) && fixture_below(random, 3) == 0) {
        from.data[from.bytes++] = (uint8_t)(fixture_next(random) % 3 == 0 ? 0 : 0xff);
    }
    if (fixture_below(random, 2) == 0) {
        range.from = from.data;
        range.from_bytes = from.bytes;
        range.after = fixture_below(random, 2) == 0;
    }
    if (fixture_below(random, 2) == 0) {
        range.to = to.data;
        range.to_bytes = to.bytes - fixture_below(random, to.bytes);
    }
    if (fixture_below(random, 3) == 0) {
        range.prefix = to.data;
        range.prefix_bytes = fixture_below(random, to.bytes + 1);
    }
    for (size_t i = 0; i < SIDES; i++) {
        sums[i] = (struct sum){.left = limit};
        rc[i] = engine_range(twins->sides[i].engine, &range, sum_kv, &sums[i], NULL);
    }
    cr_assert_eq(rc[0], rc[1]);
    cr_assert_eq(sums[0].left, sums[1].left);
    cr_assert_eq(sums[0].hash, sums[1].hash);
}

/* Any revision that can be read, and some that cannot. */
static uint64_t random_revision(struct twins *twins, const struct ms_memdb_meta *meta)
{
    uint64_t low = meta->compact_revision > 3 ? meta->compact_revision - 3 : 0;

    return fixture_below(&twins->random, 3) == 0
               ? 0
               : low + fixture_below(&twins->random, meta->revision - low + 3);
}

static void compare_hashes(struct twins *twins, uint64_t revision)
{
    uint64_t hashes[SIDES] = {0};
    int rc[SIDES];

    for (size_t i = 0; i < SIDES; i++) {
        rc[i] = engine_hash(twins->sides[i].engine, revision, &hashes[i], NULL);
    }
    cr_assert_eq(rc[0], rc[1]);
    cr_assert_eq(hashes[0], hashes[1], "at revision %llu", (unsigned long long)revision);
}

static void compare(struct twins *twins)
{
    struct ms_memdb_meta metas[SIDES];
    struct sum records[SIDES] = {{0}};

    for (size_t i = 0; i < SIDES; i++) {
        engine_meta(twins->sides[i].engine, &metas[i]);
        MUST(engine_records(twins->sides[i].engine, sum_record, &records[i], err));
    }
    cr_assert_eq(memcmp(&metas[0], &metas[1], sizeof(metas[0])), 0);
    cr_assert_eq(records[0].hash, records[1].hash);
    for (int i = 0; i < 10; i++) {
        compare_key(twins, random_revision(twins, &metas[0]));
    }
    for (int i = 0; i < 2; i++) {
        compare_range(twins, random_revision(twins, &metas[0]));
    }
    compare_hashes(twins, 0);
    if (fixture_below(&twins->random, 10) == 0) {
        compare_hashes(twins, random_revision(twins, &metas[0]));
    }
}

/* ---- moving ---- */

/* Replaces a side by an engine of another kind that took its state in. */
static void move(struct twins *twins, struct side *side, const struct engine_kind *kind)
{
    static struct engine_snapshot_info info;
    struct engine_snapshot *snapshot;
    struct engine_sink sink;
    struct side moved;

    side_open(twins, &moved, kind, true);
    MUST(engine_snapshot_begin(side->engine, &snapshot, err));
    engine_snapshot_info(side->engine, snapshot, &info);
    MUST(engine_install_begin(moved.engine, &sink, err));
    MUST(engine_snapshot_export(side->engine, snapshot, &sink, err));
    MUST(engine_install_finish(moved.engine, &info, err));
    engine_snapshot_end(side->engine, snapshot);
    side_close(side);
    fixture_remove_dir(side->dir);
    *side = moved;
    MUST(apply_create(side->engine, &side->apply, err));
}

static void swap_kinds(struct twins *twins)
{
    const struct engine_kind *first = twins->sides[0].kind;

    move(twins, &twins->sides[0], twins->sides[1].kind);
    move(twins, &twins->sides[1], first);
}

static void restart(struct twins *twins)
{
    for (size_t i = 0; i < SIDES; i++) {
        side_close(&twins->sides[i]);
        side_open(twins, &twins->sides[i], twins->sides[i].kind, false);
        MUST(apply_create(twins->sides[i].engine, &twins->sides[i].apply, err));
    }
}

static void keep_house(struct twins *twins)
{
    for (size_t i = 0; i < SIDES; i++) {
        struct engine *engine = twins->sides[i].engine;
        bool more;

        if (fixture_below(&twins->random, 3) == 0) {
            MUST(engine_compact_step(engine, 1 + fixture_below(&twins->random, 200), &more, err));
        }
        if (fixture_below(&twins->random, 50) == 0) {
            MUST(engine_tick(engine, err));
            MUST(engine_flush(engine, err));
        }
    }
}

Test(rocks_differential, both_engines_give_the_same_answers)
{
    const char *given = getenv("MS_OPERATIONS");
    uint64_t wanted = given != NULL ? strtoull(given, NULL, 10) : OPERATIONS_DEFAULT;
    static struct twins twins;

    twins.random = fixture_random_init("both_engines_give_the_same_answers");
    fixture_make_dir(twins.dir);
    for (size_t i = 0; i < SIDES; i++) {
        side_open(&twins, &twins.sides[i], i == 0 ? &memory_kind : &rocks_kind, true);
        MUST(apply_create(twins.sides[i].engine, &twins.sides[i].apply, err));
    }
    for (size_t i = 0; i < 3; i++) {
        twins.next_seq[i] = 1;
    }
    while (twins.operations < wanted) {
        apply_on_both(&twins);
        compare(&twins);
        keep_house(&twins);
        if (fixture_below(&twins.random, 150) == 0) {
            swap_kinds(&twins);
            compare(&twins);
        }
        if (fixture_below(&twins.random, 150) == 0) {
            restart(&twins);
            compare(&twins);
        }
    }
    side_close(&twins.sides[0]);
    side_close(&twins.sides[1]);
    fixture_remove_dir(twins.dir);
}

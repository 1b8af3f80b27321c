/*
 * engine: what every engine has to do, against a model that is too simple to be wrong.
 */
#include "tests/unit/storaged/store_of_engine.h"

/* Runs a case once on each kind of engine. */
static void on_each(void (*run)(const struct engine_kind *kind))
{
    for (size_t i = 0; i < ENGINE_KINDS; i++) {
        (void)fprintf(stderr, "engine: %s\n", engine_kinds[i]->name);
        run(engine_kinds[i]);
    }
}

/* ---- ranges against the model ---- */

struct sorted {
    size_t count;
    size_t numbers[KEYS];
    struct fixture_key keys[KEYS];
};

static struct sorted *sorting; /* for the comparison, which has no context */

static int compare_bytes(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes)
{
    int difference = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);

    return difference != 0 ? difference : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int compare_numbers(const void *a, const void *b)
{
    const struct fixture_key *left = &sorting->keys[*(const size_t *)a];
    const struct fixture_key *right = &sorting->keys[*(const size_t *)b];

    return compare_bytes(left->data, left->bytes, right->data, right->bytes);
}

/* All keys of the set in byte order. */
static struct sorted *sort_keys(void)
{
    struct sorted *sorted = malloc(sizeof(*sorted));

    cr_assert_not_null(sorted);
    sorted->count = KEYS;
    for (size_t n = 0; n < KEYS; n++) {
        fixture_key_of(n, &sorted->keys[n]);
        sorted->numbers[n] = n;
    }
    sorting = sorted;
    qsort(sorted->numbers, KEYS, sizeof(sorted->numbers[0]), compare_numbers);
    return sorted;
}

struct walk {
    const struct sorted *sorted;
    const struct model *model;
    const struct ms_memdb_range *range;
    size_t position; /* in sorted->numbers */
};

static bool in_range(const struct ms_memdb_range *range, const struct fixture_key *key)
{
    if (range->from != NULL) {
        int order = compare_bytes(key->data, key->bytes, range->from, range->from_bytes);

        if (order < 0 || (order == 0 && range->after)) {
            return false;
        }
    }
    if (range->prefix != NULL && (key->bytes < range->prefix_bytes ||
                                  memcmp(key->data, range->prefix, range->prefix_bytes) != 0)) {
        return false;
    }
    return range->to == NULL ||
           compare_bytes(key->data, key->bytes, range->to, range->to_bytes) < 0;
}

/* Moves to the next key that the walk should show. */
static const struct fixture_key *next_expected(struct walk *walk)
{
    uint64_t revision = walk->range->revision == 0 ? walk->model->revision : walk->range->revision;

    for (; walk->position < walk->sorted->count; walk->position++) {
        size_t n = walk->sorted->numbers[walk->position];

        if (in_range(walk->range, &walk->sorted->keys[n]) &&
            model_at(walk->model, n, revision) != NULL) {
            walk->position++;
            return &walk->sorted->keys[n];
        }
    }
    return NULL;
}

static bool visit(void *ctx, const struct ms_memdb_kv *kv)
{
    const struct fixture_key *expected = next_expected(ctx);

    cr_assert_not_null(expected, "a key too many");
    cr_assert_eq(kv->key_bytes, expected->bytes);
    cr_assert_eq(memcmp(kv->key, expected->data, expected->bytes), 0, "another key was due");
    return true;
}

static void check_range(struct store *store, const struct sorted *sorted,
                        const struct ms_memdb_range *range)
{
    struct walk walk = {.sorted = sorted, .model = &store->model, .range = range};

    MUST(engine_range(store->engine, range, visit, &walk, err));
    cr_assert_null(next_expected(&walk), "a key is missing");
}

static void check_random_range(struct store *store, const struct sorted *sorted)
{
    static struct fixture_key from;
    static struct fixture_key to;
    struct ms_memdb_range range = {0};

    fixture_key_of(fixture_below(&store->random, KEYS), &from);
    fixture_key_of(fixture_below(&store->random, KEYS), &to);
    /* Not only keys that exist: also cut and continued ones. */
    from.bytes -= fixture_below(&store->random, from.bytes);
    if (from.bytes < sizeof(from.data) && fixture_below(&store->random, 3) == 0) {
        from.data[from.bytes++] = (uint8_t)fixture_next(&store->random);
    }
    if (fixture_below(&store->random, 2) == 0) {
        range.from = from.data;
        range.from_bytes = from.bytes;
        range.after = fixture_below(&store->random, 2) == 0;
    }
    if (fixture_below(&store->random, 2) == 0) {
        range.to = to.data;
        range.to_bytes = to.bytes;
    }
    if (fixture_below(&store->random, 3) == 0) {
        range.prefix = to.data;
        range.prefix_bytes = fixture_below(&store->random, to.bytes + 1);
    }
    if (fixture_below(&store->random, 2) == 0) {
        range.revision = random_revision(store);
    }
    check_range(store, sorted, &range);
}

/* Puts, deletes, history, ranges, compaction and reopening, in any order, agree with the model. */
static void run_random_operations_agree_with_the_model(const struct engine_kind *kind)
{
    struct store store = {0};
    struct sorted *sorted = sort_keys();
    struct ms_memdb_meta meta;

    store_init(&store, kind, "random_operations_agree_with_the_model");
    for (size_t round = 0; round < 150; round++) {
        bool more = true;

        apply_random_batch(&store, 1 + fixture_below(&store.random, 64));
        for (size_t i = 0; i < 20; i++) {
            model_check_key(&store.model, store.engine, fixture_below(&store.random, KEYS),
                            random_revision(&store));
        }
        check_random_range(&store, sorted);
        if (fixture_below(&store.random, 8) == 0) {
            compact_at(&store, random_revision(&store));
        }
        if (fixture_below(&store.random, 2) == 0) {
            MUST(engine_compact_step(store.engine, 1 + fixture_below(&store.random, 40), &more,
                                     err));
        }
        if (fixture_below(&store.random, 20) == 0) {
            uint64_t before;
            uint64_t after;

            MUST(engine_hash(store.engine, 0, &before, err));
            store_reopen(&store);
            MUST(engine_hash(store.engine, 0, &after, err));
            cr_assert_eq(before, after);
        }
    }
    for (bool more = true; more;) {
        MUST(engine_compact_step(store.engine, 100, &more, err));
    }
    engine_meta(store.engine, &meta);
    for (uint64_t i = 0; i < 30; i++) {
        uint64_t revision = random_revision(&store);
        size_t alive = 0;

        for (size_t n = 0; n < KEYS; n++) {
            model_check_key(&store.model, store.engine, n, revision);
            alive += model_at(&store.model, n, meta.revision) != NULL;
        }
        cr_assert_eq(meta.keys, alive);
    }
    free(sorted);
    store_fini(&store);
}

/* After compaction exactly what can still be read is there; when all is deleted, nothing is. */
static void run_compaction_removes_what_cannot_be_read(const struct engine_kind *kind)
{
    struct store store = {0};
    struct ms_memdb_meta meta;
    struct ms_memdb_kv kv;
    struct fixture_key key;

    store_init(&store, kind, "compaction_removes_what_cannot_be_read");
    for (size_t i = 0; i < 30; i++) {
        apply_random_batch(&store, 64);
    }
    compact_at(&store, store.model.revision);
    engine_meta(store.engine, &meta);
    for (bool more = true; more;) {
        MUST(engine_compact_step(store.engine, 7, &more, err));
    }
    cr_assert_eq(history_length(store.engine), meta.keys);
    fixture_key_of(0, &key);
    cr_assert_eq(engine_get(store.engine, key.data, key.bytes, meta.revision - 1, &kv, NULL),
                 MS_ECOMPACTED);
    cr_assert_eq(engine_get(store.engine, key.data, key.bytes, meta.revision + 1, &kv, NULL),
                 MS_EINVAL);
    for (size_t n = 0; n < KEYS; n++) {
        fixture_key_of(n, &key);
        (void)fixture_apply(store.engine, store.apply,
                            &(struct ms_command){.kind = MS_COMMAND_DELETE,
                                                 .key = key.data,
                                                 .key_bytes = key.bytes});
    }
    engine_meta(store.engine, &meta);
    cr_assert_eq(meta.keys, 0);
    compact_at(&store, meta.revision);
    for (bool more = true; more;) {
        MUST(engine_compact_step(store.engine, 7, &more, err));
    }
    cr_assert_eq(history_length(store.engine), 0);
    store_fini(&store);
}

/* Nothing is removed while a snapshot could still need it. */
static void run_snapshots_hold_compaction_back(const struct engine_kind *kind)
{
    struct store store = {0};
    struct engine_snapshot *snapshot;
    struct engine_stats stats;
    bool more = true;

    store_init(&store, kind, "snapshots_hold_compaction_back");
    apply_random_batch(&store, 64);
    MUST(engine_snapshot_begin(store.engine, &snapshot, err));
    compact_at(&store, store.model.revision);
    MUST(engine_compact_step(store.engine, 1000, &more, err));
    engine_stats(store.engine, &stats);
    cr_assert(!more);
    cr_assert_eq(stats.compacted_to, 0);
    engine_snapshot_end(store.engine, snapshot);
    MUST(engine_compact_step(store.engine, 1000, &more, err));
    engine_stats(store.engine, &stats);
    cr_assert_eq(stats.compacted_to, store.model.revision);
    store_fini(&store);
}

/* A key that changes all the time: its stamps outgrow a page, and any of them is found. */
static void run_hot_keys_keep_a_long_history(const struct engine_kind *kind)
{
    struct store store = {0};
    struct fixture_key key;
    bool more = true;

    store_init(&store, kind, "hot_keys_keep_a_long_history");
    fixture_key_of(3, &key);
    for (uint64_t i = 0; i < 3000; i++) {
        uint64_t seed = 2 + i;
        uint8_t value[16384];
        const struct ms_command command = {
            .kind = MS_COMMAND_PUT,
            .key = key.data,
            .key_bytes = key.bytes,
            .value = value,
            .value_bytes = model_value(seed, value),
        };

        model_put(&store.model, 3, seed);
        (void)fixture_apply(store.engine, store.apply, &command);
    }
    for (uint64_t revision = 2; revision <= store.model.revision; revision += 97) {
        model_check_key(&store.model, store.engine, 3, revision);
    }
    compact_at(&store, 2500);
    while (more) {
        MUST(engine_compact_step(store.engine, 100, &more, err));
    }
    cr_assert_eq(history_length(store.engine), 3001 - 2500 + 1);
    model_check_key(&store.model, store.engine, 3, 2500);
    model_check_key(&store.model, store.engine, 3, 2777);
    store_fini(&store);
}

Test(engine, random_operations_agree_with_the_model)
{
    on_each(run_random_operations_agree_with_the_model);
}

Test(engine, compaction_removes_what_cannot_be_read)
{
    on_each(run_compaction_removes_what_cannot_be_read);
}

Test(engine, snapshots_hold_compaction_back)
{
    on_each(run_snapshots_hold_compaction_back);
}

Test(engine, hot_keys_keep_a_long_history)
{
    on_each(run_hot_keys_keep_a_long_history);
}

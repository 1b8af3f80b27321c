/*
 * memory_test: the memory engine against a model, against SIGKILL, against a bound.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/memdb.h"
#include "tests/unit/storaged/engine_fixture.h"

#define KEYS 240

struct store {
    char dir[256];
    struct engine *engine;
    struct apply *apply;
    struct model model;
    struct fixture_random random;
};

static void store_init(struct store *store, const char *test)
{
    fixture_make_dir(store->dir);
    store->random = fixture_random_init(test);
    model_init(&store->model);
    MUST(memory_engine_create(store->dir, FIXTURE_LIMIT_BYTES, &store->engine, err));
    MUST(apply_create(store->engine, &store->apply, err));
}

static void store_close(struct store *store)
{
    apply_destroy(store->apply);
    engine_close(store->engine);
    store->apply = NULL;
    store->engine = NULL;
}

static void store_fini(struct store *store)
{
    store_close(store);
    model_fini(&store->model);
    fixture_remove_dir(store->dir);
}

static void store_reopen(struct store *store)
{
    store_close(store);
    MUST(memory_engine_open(store->dir, FIXTURE_LIMIT_BYTES, &store->engine, err));
    MUST(apply_create(store->engine, &store->apply, err));
}

/* A random put or delete, done to the model too. */
static struct apply_entry random_entry(struct store *store, raft_index index)
{
    size_t n = fixture_below(&store->random, KEYS);
    uint64_t seed = fixture_next(&store->random) | 1; /* 0 would be a tombstone */
    bool is_delete = fixture_below(&store->random, 4) == 0;
    static uint8_t value[16384];
    struct fixture_key key;
    struct ms_command command;

    fixture_key_of(n, &key);
    command = (struct ms_command){
        .id = {.origin = 1 + index % 3, .seq = index},
        .ack_seq = index > 20 ? index - 20 : 1,
        .kind = is_delete ? MS_COMMAND_DELETE : MS_COMMAND_PUT,
        .key = key.data,
        .key_bytes = key.bytes,
        .value = value,
        .value_bytes = is_delete ? 0 : model_value(seed, value),
    };
    if (is_delete) {
        model_delete(&store->model, n);
    } else {
        model_put(&store->model, n, seed);
    }
    return fixture_entry(index, &command);
}

static void apply_random_batch(struct store *store, size_t count)
{
    struct apply_entry entries[64];
    struct apply_result results[64];
    struct ms_memdb_meta meta;
    size_t result_count = 0;

    engine_meta(store->engine, &meta);
    for (size_t i = 0; i < count; i++) {
        entries[i] = random_entry(store, meta.applied + 1 + i);
    }
    MUST(apply_entries(store->apply, entries, count, results, &result_count, err));
    cr_assert_eq(result_count, count);
    for (size_t i = 0; i < count; i++) {
        fixture_free_entry(&entries[i]);
    }
    engine_meta(store->engine, &meta);
    cr_assert_eq(meta.revision, store->model.revision);
}

static void compact_at(struct store *store, uint64_t revision)
{
    const struct ms_command command = {.kind = MS_COMMAND_COMPACT, .revision = revision};

    (void)fixture_apply(store->engine, store->apply, &command);
    store->model.compact_revision = revision;
}

/* A revision that can still be read. */
static uint64_t random_revision(struct store *store)
{
    uint64_t low = store->model.compact_revision == 0 ? 1 : store->model.compact_revision;

    return low + fixture_below(&store->random, (size_t)(store->model.revision - low + 1));
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

/* ---- tests ---- */

/* Puts, deletes, history, ranges, compaction and reopening, in any order, agree with the model. */
Test(memory, random_operations_agree_with_the_model)
{
    struct store store = {0};
    struct sorted *sorted = sort_keys();
    struct ms_memdb_meta meta;

    store_init(&store, "random_operations_agree_with_the_model");
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

/* What is physically there. */
struct tally {
    size_t stamps;
    size_t changes;
};

static int tally_record(void *ctx, const uint8_t *name, size_t name_bytes, const uint8_t *value,
                        size_t value_bytes, struct ms_err *err)
{
    (void)ctx;
    (void)name;
    (void)name_bytes;
    (void)value;
    (void)value_bytes;
    (void)err;
    return MS_OK;
}

static int tally_key(void *ctx, const uint8_t *key, size_t key_bytes,
                     const struct engine_stamp *stamps, size_t count, struct ms_err *err)
{
    struct tally *tally = ctx;

    (void)key;
    (void)key_bytes;
    (void)stamps;
    (void)err;
    tally->stamps += count;
    return MS_OK;
}

static int tally_change(void *ctx, const struct engine_change *change, struct ms_err *err)
{
    struct tally *tally = ctx;

    (void)change;
    (void)err;
    tally->changes++;
    return MS_OK;
}

/* Changes in the history; the index must have a stamp for each. */
static size_t history_length(struct engine *engine)
{
    struct engine_snapshot *snapshot;
    struct tally tally = {0};
    const struct engine_sink sink = {tally_record, tally_key, tally_change, &tally};

    MUST(engine_snapshot_begin(engine, &snapshot, err));
    MUST(engine_snapshot_export(engine, snapshot, &sink, err));
    engine_snapshot_end(engine, snapshot);
    cr_assert_eq(tally.stamps, tally.changes);
    return tally.changes;
}

/* After compaction exactly what can still be read is there; when all is deleted, nothing is. */
Test(memory, compaction_removes_what_cannot_be_read)
{
    struct store store = {0};
    struct ms_memdb_meta meta;
    struct ms_memdb_kv kv;
    struct fixture_key key;

    store_init(&store, "compaction_removes_what_cannot_be_read");
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
Test(memory, snapshots_hold_compaction_back)
{
    struct store store = {0};
    struct engine_snapshot *snapshot;
    struct engine_stats stats;
    bool more = true;

    store_init(&store, "snapshots_hold_compaction_back");
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
Test(memory, hot_keys_keep_a_long_history)
{
    struct store store = {0};
    struct fixture_key key;
    bool more = true;

    store_init(&store, "hot_keys_keep_a_long_history");
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

/* What entry index says depends on the index and the state before it only. */
static void apply_numbered(struct engine *engine, struct apply *apply)
{
    static uint8_t value[16384];
    struct fixture_random random;
    struct ms_memdb_meta meta;
    struct ms_command command;
    struct fixture_key key;
    raft_index index;
    bool is_delete;

    engine_meta(engine, &meta);
    index = meta.applied + 1;
    if (index % 50 == 0 && meta.revision > 100) {
        command = (struct ms_command){.kind = MS_COMMAND_COMPACT, .revision = meta.revision - 100};
        (void)fixture_apply(engine, apply, &command);
        return;
    }
    random = (struct fixture_random){index};
    fixture_key_of(fixture_below(&random, KEYS), &key);
    is_delete = fixture_below(&random, 4) == 0;
    command = (struct ms_command){
        .id = {.origin = 9, .seq = index},
        .ack_seq = index > 50 ? index - 50 : 1,
        .kind = is_delete ? MS_COMMAND_DELETE : MS_COMMAND_PUT,
        .key = key.data,
        .key_bytes = key.bytes,
        .value = value,
        .value_bytes = is_delete ? 0 : model_value(fixture_next(&random) | 1, value),
    };
    (void)fixture_apply(engine, apply, &command);
}

/* Tells begun_fd when it is about to start. */
static void write_until_killed(const char *dir, int begun_fd)
{
    struct engine *engine;
    struct apply *apply;
    bool more;

    MUST(memory_engine_open(dir, FIXTURE_LIMIT_BYTES, &engine, err));
    MUST(apply_create(engine, &apply, err));
    cr_assert_eq(write(begun_fd, "b", 1), 1);
    for (;;) {
        apply_numbered(engine, apply);
        MUST(engine_compact_step(engine, 20, &more, err));
    }
}

/*
 * SIGKILL at any moment leaves exactly the commits that were made: the state is that of a store in
 * which the same entries were applied without disturbance.
 */
Test(memory, killed_writer_leaves_whole_commits)
{
    struct store killed = {0};
    struct store calm = {0};
    struct ms_memdb_meta meta = {0};
    int begun[2];

    cr_assert_eq(pipe(begun), 0);
    store_init(&killed, "killed_writer_leaves_whole_commits");
    store_close(&killed);
    store_init(&calm, "killed_writer_leaves_whole_commits, undisturbed");
    for (size_t round = 0; round < 25; round++) {
        pid_t child = fork();
        struct ms_memdb_meta now;
        uint64_t left = 0;
        uint64_t right = 1;
        char byte;
        int status;

        cr_assert_geq(child, 0);
        if (child == 0) {
            write_until_killed(killed.dir, begun[1]);
            _exit(1);
        }
        cr_assert_eq(read(begun[0], &byte, 1), 1);
        (void)usleep((useconds_t)fixture_below(&killed.random, 20000)); /* somewhere in its work */
        cr_assert_eq(kill(child, SIGKILL), 0);
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFSIGNALED(status));
        MUST(memory_engine_open(killed.dir, FIXTURE_LIMIT_BYTES, &killed.engine, err));
        MUST(apply_create(killed.engine, &killed.apply, err));
        engine_meta(killed.engine, &meta);
        for (engine_meta(calm.engine, &now); now.applied < meta.applied;
             engine_meta(calm.engine, &now)) {
            apply_numbered(calm.engine, calm.apply);
        }
        cr_assert_eq(memcmp(&now, &meta, sizeof(now)), 0);
        for (uint64_t back = 0; back < 100 && back < now.revision; back += 25) {
            MUST(engine_hash(killed.engine, now.revision - back, &left, err));
            MUST(engine_hash(calm.engine, now.revision - back, &right, err));
            cr_assert_eq(left, right);
        }
        (void)history_length(killed.engine);
        store_close(&killed);
    }
    cr_assert_gt(meta.applied, 25, "the writer hardly got to write");
    (void)close(begun[0]);
    (void)close(begun[1]);
    store_fini(&calm);
    store_fini(&killed);
}

/* Another process, as apid is, sees only whole commits while they are made. */
Test(memory, readers_in_other_processes_see_whole_commits)
{
    struct store store = {0};
    pid_t child;
    int status;

    store_init(&store, "readers_in_other_processes_see_whole_commits");
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        struct ms_memdb_read *read = NULL;
        struct ms_memdb *db = NULL;
        struct ms_memdb_meta meta = {0};

        MUST(ms_memdb_open(store.dir, &db, err));
        MUST(ms_memdb_read_create(db, &read, err));
        /* Each batch writes both keys: their revisions follow each other in every commit. */
        while (meta.revision < 2001) {
            struct ms_memdb_kv a;
            struct ms_memdb_kv b;

            MUST(ms_memdb_read_begin(read));
            MUST(ms_memdb_read_meta(read, &meta));
            if (meta.revision > 1) {
                MUST(ms_memdb_get(read, (const uint8_t *)"a", 1, 0, &a));
                MUST(ms_memdb_get(read, (const uint8_t *)"b", 1, 0, &b));
                cr_assert_eq(a.mod_revision + 1, b.mod_revision);
                cr_assert_eq(b.mod_revision, meta.revision);
                cr_assert_eq(a.version, b.version);
            }
            ms_memdb_read_end(read);
        }
        ms_memdb_read_destroy(read);
        ms_memdb_close(db);
        _exit(0);
    }
    for (raft_index index = 1; index <= 2000; index += 2) {
        struct apply_entry entries[2];
        struct apply_result results[2];
        size_t count;

        for (size_t i = 0; i < 2; i++) {
            const struct ms_command command = {
                .kind = MS_COMMAND_PUT,
                .key = (const uint8_t *)(i == 0 ? "a" : "b"),
                .key_bytes = 1,
                .value = (const uint8_t *)"v",
                .value_bytes = 1,
            };

            entries[i] = fixture_entry(index + i, &command);
        }
        MUST(apply_entries(store.apply, entries, 2, results, &count, err));
        fixture_free_entry(&entries[0]);
        fixture_free_entry(&entries[1]);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    store_fini(&store);
}

/* What a dead reader pinned is freed by the next tick. */
Test(memory, dead_readers_are_cleared)
{
    struct store store = {0};
    struct engine_stats before;
    struct engine_stats after;
    pid_t child;
    int pipe_fds[2];
    char byte;
    int status;

    store_init(&store, "dead_readers_are_cleared");
    apply_random_batch(&store, 64);
    cr_assert_eq(pipe(pipe_fds), 0);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        struct ms_memdb_read *read = NULL;
        struct ms_memdb *db = NULL;

        MUST(ms_memdb_open(store.dir, &db, err));
        MUST(ms_memdb_read_create(db, &read, err));
        MUST(ms_memdb_read_begin(read));
        cr_assert_eq(write(pipe_fds[1], "r", 1), 1);
        (void)pause();
        _exit(1);
    }
    cr_assert_eq(read(pipe_fds[0], &byte, 1), 1);
    cr_assert_eq(kill(child, SIGKILL), 0);
    cr_assert_eq(waitpid(child, &status, 0), child);
    MUST(engine_tick(store.engine, err));
    for (size_t i = 0; i < 20; i++) {
        apply_random_batch(&store, 1);
    }
    MUST(engine_tick(store.engine, err));
    engine_stats(store.engine, &before);
    for (size_t i = 0; i < 200; i++) {
        const struct ms_command command = {
            .kind = MS_COMMAND_DELETE, .key = (const uint8_t *)"absent", .key_bytes = 6};

        (void)fixture_apply(store.engine, store.apply, &command);
    }
    MUST(engine_tick(store.engine, err));
    engine_stats(store.engine, &after);
    cr_assert_leq(after.used_bytes, before.used_bytes + 16 * 4096,
                  "freed pages are not used again");
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
    store_fini(&store);
}

static void put_numbered(struct engine *engine, struct apply *apply, uint64_t n, size_t bytes)
{
    static const uint8_t value[65536];
    char key[32];
    const struct ms_command command = {
        .kind = MS_COMMAND_PUT,
        .key = (const uint8_t *)key,
        .key_bytes = (size_t)snprintf(key, sizeof(key), "key-%llu", (unsigned long long)n),
        .value = value,
        .value_bytes = bytes,
    };

    (void)fixture_apply(engine, apply, &command);
}

static void delete_numbered(struct engine *engine, struct apply *apply, uint64_t n)
{
    char key[32];
    const struct ms_command command = {
        .kind = MS_COMMAND_DELETE,
        .key = (const uint8_t *)key,
        .key_bytes = (size_t)snprintf(key, sizeof(key), "key-%llu", (unsigned long long)n),
    };

    (void)fixture_apply(engine, apply, &command);
}

/* Past the limit the store says so and goes on working; deletes and compaction make room again. */
Test(memory, limit_is_reported_and_recovered_from)
{
    struct engine_stats stats = {0};
    struct ms_memdb_meta meta;
    struct engine *engine;
    struct apply *apply;
    char dir[256];
    uint64_t n = 0;

    fixture_make_dir(dir);
    MUST(memory_engine_create(dir, UINT64_C(4) << 20, &engine, err));
    MUST(apply_create(engine, &apply, err));
    for (; !stats.memory_full; n++) {
        cr_assert_lt(n, 10000);
        put_numbered(engine, apply, n, 1000);
        engine_stats(engine, &stats);
    }
    cr_assert_gt(stats.used_bytes, UINT64_C(4) << 20);
    cr_assert_lt(stats.used_bytes, UINT64_C(5) << 20);
    /* What was accepted before still gets in. */
    for (uint64_t i = 0; i < 1000; i++) {
        put_numbered(engine, apply, n + i, 1000);
    }
    for (uint64_t i = 0; i < n; i++) {
        delete_numbered(engine, apply, i);
    }
    engine_meta(engine, &meta);
    (void)fixture_apply(
        engine, apply, &(struct ms_command){.kind = MS_COMMAND_COMPACT, .revision = meta.revision});
    for (bool more = true; more;) {
        MUST(engine_compact_step(engine, 200, &more, err));
    }
    MUST(engine_tick(engine, err));
    engine_stats(engine, &stats);
    cr_assert(!stats.memory_full, "%llu bytes are used", (unsigned long long)stats.used_bytes);
    apply_destroy(apply);
    engine_close(engine);
    fixture_remove_dir(dir);
}

/* A file system that gives no more room shows as memory_full, then as a status; never as SIGBUS. */
Test(memory, exhausted_file_system_is_a_status)
{
    pid_t child = fork();
    int status;

    cr_assert_geq(child, 0);
    if (child == 0) {
        const struct rlimit file = {UINT64_C(24) << 20, UINT64_C(24) << 20};
        struct engine_stats stats = {0};
        struct ms_memdb_meta meta;
        struct engine *engine;
        struct apply *apply;
        struct ms_err cause = {0};
        char dir[256];
        uint64_t n = 0;
        int rc = MS_OK;

        fixture_make_dir(dir);
        cr_assert_neq(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &file), 0);
        MUST(memory_engine_create(dir, UINT64_C(1) << 30, &engine, err));
        MUST(apply_create(engine, &apply, err));
        for (; rc == MS_OK; n++) {
            static const uint8_t value[65536];
            struct ms_command command = {
                .kind = MS_COMMAND_PUT,
                .key = (const uint8_t *)&n,
                .key_bytes = sizeof(n),
                .value = value,
                .value_bytes = 20000,
            };
            struct apply_entry entry = fixture_entry(n + 1, &command);
            struct apply_result result;
            size_t count;

            cr_assert_lt(n, 10000);
            rc = apply_entries(apply, &entry, 1, &result, &count, &cause);
            engine_stats(engine, &stats);
            fixture_free_entry(&entry);
        }
        cr_assert_eq(rc, MS_ENOSPC, "%s", cause.text);
        cr_assert(stats.memory_full);
        engine_meta(engine, &meta);
        cr_assert_eq(meta.applied, n - 1);
        cr_assert_eq(meta.keys, n - 1);
        apply_destroy(apply);
        engine_close(engine);
        fixture_remove_dir(dir);
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
}

/* What is not a finished store is refused, each with its own status. */
Test(memory, unfinished_and_foreign_files_are_refused)
{
    struct engine *engine = NULL;
    struct engine_sink sink;
    char dir[256];
    char path[300];
    int fd;

    fixture_make_dir(dir);
    cr_assert_eq(memory_engine_open(dir, FIXTURE_LIMIT_BYTES, &engine, NULL), MS_ENOENT);
    MUST(memory_engine_create(dir, FIXTURE_LIMIT_BYTES, &engine, err));
    MUST(engine_install_begin(engine, &sink, err));
    engine_close(engine);
    cr_assert_eq(memory_engine_open(dir, FIXTURE_LIMIT_BYTES, &engine, NULL), MS_ENOENT);
    (void)snprintf(path, sizeof(path), "%s/data.mdb", dir);
    fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    for (off_t page = 0; page < 2; page++) {
        cr_assert_eq(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, page * 4096 + 16), 8);
    }
    (void)close(fd);
    cr_assert_eq(memory_engine_open(dir, FIXTURE_LIMIT_BYTES, &engine, NULL), MS_ECORRUPT);
    fixture_remove_dir(dir);
}

/*
 * engine_fixture: what the tests of the state machine and its engine share: temporary directories,
 * seeded random numbers, commands as log entries, and a model that is too simple to be wrong.
 */
#ifndef METASTORE_TESTS_UNIT_STORAGED_ENGINE_FIXTURE_H
#define METASTORE_TESTS_UNIT_STORAGED_ENGINE_FIXTURE_H

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/command.h"
#include "storaged/apply.h"
#include "storaged/memory_engine.h"

#define FIXTURE_LIMIT_BYTES (UINT64_C(256) << 20)

/* Fails the test with the text of the error. */
#define MUST(call)                                                                                 \
    do {                                                                                           \
        struct ms_err must_err = {0};                                                              \
        struct ms_err *err = &must_err;                                                            \
        int must_rc = (call);                                                                      \
        cr_assert_eq(must_rc, MS_OK, "%s: %s: %s", #call, ms_status_text(must_rc), must_err.text); \
        (void)err;                                                                                 \
    } while (0)

/* ---- directories --------------------------------------------------------------------------- */

static inline void fixture_make_dir(char dst[256])
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(dst, 256, "%s/metastore-test-XXXXXX", base == NULL ? "/tmp" : base);
    cr_assert_not_null(mkdtemp(dst));
}

static inline int fixture_remove_entry(const char *path, const struct stat *st, int type,
                                       struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

static inline void fixture_remove_dir(const char *path)
{
    (void)nftw(path, fixture_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- random numbers ------------------------------------------------------------------------ */

struct fixture_random {
    uint64_t state;
};

/* From MS_SEED or the clock; printed, so that a failure can be repeated. */
static inline struct fixture_random fixture_random_init(const char *test)
{
    const char *given = getenv("MS_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10)
                                  : (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();

    (void)fprintf(stderr, "%s: MS_SEED=%llu\n", test, (unsigned long long)seed);
    return (struct fixture_random){seed};
}

/* splitmix64 */
static inline uint64_t fixture_next(struct fixture_random *random)
{
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline size_t fixture_below(struct fixture_random *random, size_t bound)
{
    return (size_t)(fixture_next(random) % bound);
}

/* ---- keys ---------------------------------------------------------------------------------- */

struct fixture_key {
    size_t bytes;
    uint8_t data[MS_KEY_BYTES_MAX];
};

/*
 * The n-th of a fixed set of keys, all different: short ones, some with zero bytes, and long ones
 * that share long prefixes and have lengths around every limit of the layout.
 */
static inline void fixture_key_of(size_t n, struct fixture_key *key)
{
    static const size_t lengths[] = {509,  510,  511,  512,  513,  1011, 1012,
                                     1013, 1014, 2000, 4096, 8191, 8192};
    size_t count = sizeof(lengths) / sizeof(lengths[0]);

    if (n % 4 != 3) {
        int written = snprintf((char *)key->data, sizeof(key->data), "/%c/%zu", "abc"[n % 3], n);

        key->bytes = (size_t)written;
        if (n % 8 == 6) {
            key->data[key->bytes++] = 0;
            key->data[key->bytes++] = 0xff;
        }
        return;
    }
    /* All of them start alike; the number stands at the end, in the middle or in the front. */
    n /= 4;
    key->bytes = lengths[n % count];
    memset(key->data, 'p', key->bytes);
    {
        size_t place = n / count % 3;
        size_t at = place == 0 ? key->bytes - 4 : place == 1 ? key->bytes / 2 : 500;

        key->data[at] = (uint8_t)(n >> 16);
        key->data[at + 1] = (uint8_t)(n >> 8);
        key->data[at + 2] = (uint8_t)n;
        key->data[at + 3] = (uint8_t)place;
    }
}

/* ---- commands ------------------------------------------------------------------------------ */

/* A log entry that owns its data. */
static inline struct apply_entry fixture_entry(raft_index index, const struct ms_command *command)
{
    size_t bytes = ms_command_encoded_bytes(command);
    uint8_t *data = malloc(bytes);

    cr_assert_not_null(data);
    ms_command_encode(command, data);
    return (struct apply_entry){
        .index = index, .term = 1, .type = MS_ENTRY_NORMAL, .data = data, .len_bytes = bytes};
}

static inline void fixture_free_entry(struct apply_entry *entry)
{
    free((void *)(uintptr_t)entry->data);
    entry->data = NULL;
}

/* Applies one command as the next entry and returns the answer; it must have an id. */
static inline struct apply_result fixture_apply(struct engine *engine, struct apply *apply,
                                                const struct ms_command *command)
{
    struct apply_result result = {0};
    struct ms_memdb_meta meta;
    struct apply_entry entry;
    size_t count = 0;

    engine_meta(engine, &meta);
    entry = fixture_entry(meta.applied + 1, command);
    MUST(apply_entries(apply, &entry, 1, &result, &count, err));
    cr_assert_eq(count, command->id.origin != 0 || command->id.seq != 0 ? 1 : 0);
    fixture_free_entry(&entry);
    return result;
}

/* ---- the model ----------------------------------------------------------------------------- */

struct model_change {
    size_t key; /* number for fixture_key_of */
    uint64_t revision;
    uint64_t create_revision;
    uint64_t version;
    uint64_t value; /* 0: a tombstone; else the seed of the value */
};

struct model {
    uint64_t revision;
    uint64_t compact_revision;
    size_t count;
    size_t room;
    struct model_change *changes;
};

static inline void model_init(struct model *model)
{
    *model = (struct model){.revision = 1};
}

static inline void model_fini(struct model *model)
{
    free(model->changes);
}

/* What the key was at a revision; NULL if it did not exist. */
static inline const struct model_change *model_at(const struct model *model, size_t key,
                                                  uint64_t revision)
{
    for (size_t i = model->count; i > 0; i--) {
        const struct model_change *change = &model->changes[i - 1];

        if (change->key == key && change->revision <= revision) {
            return change->value == 0 ? NULL : change;
        }
    }
    return NULL;
}

static inline void model_add(struct model *model, struct model_change change)
{
    if (model->count == model->room) {
        model->room = model->room == 0 ? 1024 : 2 * model->room;
        model->changes = realloc(model->changes, model->room * sizeof(*model->changes));
        cr_assert_not_null(model->changes);
    }
    model->changes[model->count++] = change;
}

static inline void model_put(struct model *model, size_t key, uint64_t value)
{
    const struct model_change *current = model_at(model, key, model->revision);

    model->revision++;
    model_add(model,
              (struct model_change){
                  .key = key,
                  .revision = model->revision,
                  .create_revision = current == NULL ? model->revision : current->create_revision,
                  .version = current == NULL ? 1 : current->version + 1,
                  .value = value,
              });
}

static inline void model_delete(struct model *model, size_t key)
{
    if (model_at(model, key, model->revision) != NULL) {
        model->revision++;
        model_add(model, (struct model_change){.key = key, .revision = model->revision});
    }
}

/* Values: their length and bytes come from a seed. Some are empty, a few span pages. */
static inline size_t model_value(uint64_t seed, uint8_t dst[16384])
{
    size_t bytes = seed % 7 == 0 ? 0 : seed % 61 == 1 ? 9000 : seed % 200;

    for (size_t i = 0; i < bytes; i++) {
        dst[i] = (uint8_t)(seed * 31 + i);
    }
    return bytes;
}

/* The engine holds what the model says about one key at a revision. */
static inline void model_check_key(const struct model *model, struct engine *engine, size_t n,
                                   uint64_t revision)
{
    const struct model_change *expected = model_at(model, n, revision);
    static uint8_t value[16384];
    struct fixture_key key;
    struct ms_memdb_kv kv;
    size_t value_bytes;
    int rc;

    fixture_key_of(n, &key);
    rc = engine_get(engine, key.data, key.bytes, revision, &kv, NULL);
    if (expected == NULL) {
        cr_assert_eq(rc, MS_ENOENT, "key %zu at %llu: %s", n, (unsigned long long)revision,
                     ms_status_text(rc));
        return;
    }
    cr_assert_eq(rc, MS_OK, "key %zu at %llu: %s", n, (unsigned long long)revision,
                 ms_status_text(rc));
    value_bytes = model_value(expected->value, value);
    cr_assert_eq(kv.mod_revision, expected->revision);
    cr_assert_eq(kv.create_revision, expected->create_revision);
    cr_assert_eq(kv.version, expected->version);
    cr_assert_eq(kv.key_bytes, key.bytes);
    cr_assert_eq(memcmp(kv.key, key.data, key.bytes), 0);
    cr_assert_eq(kv.value_bytes, value_bytes);
    cr_assert_eq(memcmp(kv.value, value, value_bytes), 0);
}

#endif

/*
 * rocks: our interface to the library does what it says.
 */
#include <string.h>

#include "storaged/rocks.h"
#include "storaged/rocks_flusher.h"
#include "tests/unit/storaged/engine_fixture.h"

enum {
    MARKER,
    DATA,
    FAMILIES
};

static const struct rocks_family families[FAMILIES] = {
    {.name = "marker"},
    {.name = "data", .filtered = true, .suffix_bytes = 1},
};

static int open_db(const char *dir, enum rocks_durability durability, struct rocks **out,
                   struct ms_err *err)
{
    const struct rocks_options options = {
        .directory = dir,
        .families = families,
        .family_count = FAMILIES,
        .durability = durability,
        .tuning = {.cache_bytes = 1 << 20, .write_buffer_bytes = 1 << 20, .background_jobs = 1}};

    return rocks_open(&options, out, err);
}

static void put(struct rocks *db, size_t family, const char *key, const char *value)
{
    const struct rocks_piece pieces[] = {{value, strlen(value)}, {"!", 1}};
    struct rocks_batch *batch;

    MUST(rocks_batch_create(db, &batch, err));
    cr_assert_eq(rocks_batch_bytes(batch), 0);
    rocks_batch_put(batch, family, (const uint8_t *)key, strlen(key), pieces, 2);
    cr_assert_gt(rocks_batch_bytes(batch), strlen(key) + strlen(value));
    MUST(rocks_write(db, batch, err));
    rocks_batch_destroy(batch);
}

static bool has(struct rocks *db, const struct rocks_view *view, size_t family, const char *key,
                const char *value)
{
    const struct rocks_key name = {family, (const uint8_t *)key, strlen(key)};
    struct rocks_value found = {0};
    int rc = rocks_get(db, view, &name, &found, NULL);
    bool same =
        rc == MS_OK && found.bytes == strlen(value) && memcmp(found.data, value, found.bytes) == 0;

    cr_assert(rc == MS_OK || rc == MS_ENOENT);
    rocks_value_release(db, &found);
    return same;
}

static bool has_durably(struct rocks *db, size_t family, const char *key)
{
    const struct rocks_key name = {family, (const uint8_t *)key, strlen(key)};
    struct rocks_value found = {0};
    int rc = rocks_get_durable(db, &name, &found, NULL);

    rocks_value_release(db, &found);
    return rc == MS_OK;
}

Test(rocks, batches_views_and_flushes)
{
    struct rocks *db;
    struct rocks_view *view;
    char dir[256];

    fixture_make_dir(dir);
    MUST(open_db(dir, ROCKS_ATOMIC_FLUSHES, &db, err));
    put(db, DATA, "a1", "one");
    view = rocks_view_take(db);
    put(db, DATA, "a1", "two");
    put(db, MARKER, "m", "1");
    cr_assert(has(db, NULL, DATA, "a1", "two!"));
    cr_assert(has(db, view, DATA, "a1", "one!"));
    cr_assert_not(has(db, view, MARKER, "m", "1!"));
    rocks_view_release(db, view);
    cr_assert_not(has_durably(db, DATA, "a1"));
    rocks_flush(db, MARKER);
    cr_assert(has_durably(db, MARKER, "m"));
    cr_assert(has_durably(db, DATA, "a1"), "a flush takes all families");
    rocks_flush(db, MARKER); /* nothing to do */
    rocks_close(db);
    MUST(open_db(dir, ROCKS_ATOMIC_FLUSHES, &db, err));
    cr_assert(has(db, NULL, DATA, "a1", "two!"));
    rocks_close(db);
    fixture_remove_dir(dir);
}

Test(rocks, iterators_stay_within_what_they_are_told)
{
    const struct rocks_iter_options all = {.family = DATA};
    const struct rocks_iter_options within = {.family = DATA, .within_suffix = true};
    struct rocks_iter *iter;
    struct rocks *db;
    size_t bytes;
    char dir[256];

    fixture_make_dir(dir);
    MUST(open_db(dir, ROCKS_SYNCED_WRITES, &db, err));
    put(db, DATA, "a1", "x");
    put(db, DATA, "a3", "y");
    put(db, DATA, "b2", "z");
    iter = rocks_iter_create(db, &within);
    cr_assert(rocks_iter_seek(iter, (const uint8_t *)"a2", 2));
    cr_assert_eq(memcmp(rocks_iter_key(iter, &bytes), "a3", 2), 0);
    cr_assert_not(rocks_iter_next(iter));
    cr_assert_eq(rocks_iter_status(iter, NULL), MS_OK);
    cr_assert_not(rocks_iter_seek(iter, (const uint8_t *)"c0", 2));
    rocks_iter_destroy(iter);
    iter = rocks_iter_create(db, &all);
    cr_assert(rocks_iter_seek(iter, (const uint8_t *)"a4", 2));
    cr_assert_eq(memcmp(rocks_iter_key(iter, &bytes), "b2", 2), 0);
    cr_assert_eq(memcmp(rocks_iter_value(iter, &bytes), "z!", 2), 0);
    cr_assert_eq(bytes, 2);
    cr_assert(rocks_iter_previous(iter));
    cr_assert_eq(memcmp(rocks_iter_key(iter, &bytes), "a3", 2), 0);
    cr_assert(rocks_iter_seek_before(iter, (const uint8_t *)"a2", 2));
    cr_assert_eq(memcmp(rocks_iter_key(iter, &bytes), "a1", 2), 0);
    cr_assert_not(rocks_iter_previous(iter));
    cr_assert_not(rocks_iter_valid(iter));
    rocks_iter_destroy(iter);
    rocks_close(db);
    fixture_remove_dir(dir);
}

Test(rocks, removals_and_clearing)
{
    struct rocks_batch *batch;
    struct rocks *db;
    char dir[256];

    fixture_make_dir(dir);
    MUST(open_db(dir, ROCKS_SYNCED_WRITES, &db, err));
    put(db, DATA, "a1", "x");
    put(db, DATA, "b1", "x");
    put(db, DATA, "b2", "x");
    put(db, DATA, "c1", "x");
    MUST(rocks_batch_create(db, &batch, err));
    rocks_batch_remove(batch, DATA, (const uint8_t *)"c1", 2);
    rocks_batch_clear(batch);
    rocks_batch_remove(batch, DATA, (const uint8_t *)"a1", 2);
    rocks_batch_remove_range(batch, DATA, (const uint8_t *)"b0", 2, (const uint8_t *)"b2", 2);
    MUST(rocks_write(db, batch, err));
    rocks_batch_destroy(batch);
    cr_assert_not(has(db, NULL, DATA, "a1", "x!"));
    cr_assert_not(has(db, NULL, DATA, "b1", "x!"));
    cr_assert(has(db, NULL, DATA, "b2", "x!"));
    cr_assert(has(db, NULL, DATA, "c1", "x!"));
    rocks_close(db);
    fixture_remove_dir(dir);
}

Test(rocks, other_families_are_refused)
{
    static const struct rocks_family others[] = {{.name = "marker"}};
    const struct rocks_options fewer = {
        .families = others,
        .family_count = 1,
        .tuning = {.cache_bytes = 1 << 20, .write_buffer_bytes = 1 << 20, .background_jobs = 1}};
    struct rocks_options options = fewer;
    struct ms_err cause = {0};
    struct rocks *db;
    char dir[256];

    fixture_make_dir(dir);
    options.directory = dir;
    options.must_exist = true;
    cr_assert_eq(rocks_open(&options, &db, &cause), MS_ENOENT, "%s", cause.text);
    MUST(open_db(dir, ROCKS_SYNCED_WRITES, &db, err));
    cr_assert_str_eq(rocks_directory(db), dir);
    rocks_close(db);
    cr_assert_eq(rocks_open(&options, &db, &cause), MS_EINVAL, "%s", cause.text);
    cr_assert_not_null(strstr(cause.text, dir));
    fixture_remove_dir(dir);
}

/* Asked twice while it is at work, it does it once more; its end waits for the work. */
Test(rocks, flusher_flushes_when_asked)
{
    struct rocks_flusher *flusher;
    struct rocks *db;
    char dir[256];

    fixture_make_dir(dir);
    MUST(open_db(dir, ROCKS_ATOMIC_FLUSHES, &db, err));
    MUST(rocks_flusher_create(db, MARKER, &flusher, err));
    put(db, MARKER, "m", "1");
    rocks_flusher_ask(flusher);
    for (int i = 0; i < 1000 && !has_durably(db, MARKER, "m"); i++) {
        (void)usleep(10000);
    }
    cr_assert(has_durably(db, MARKER, "m"));
    rocks_flusher_ask(flusher);
    rocks_flusher_ask(flusher);
    rocks_flusher_destroy(flusher);
    rocks_close(db);
    fixture_remove_dir(dir);
}

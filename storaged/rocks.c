/*
 * rocks: opening, writing, and what the library says about itself.
 */
#include "storaged/rocks.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "storaged/rocks_library.h"

/* The library insists on a family of this name, which stays empty. */
#define DEFAULT_FAMILY "default"

#define BLOCK_BYTES         8192
#define TABLE_FORMAT        5
#define FILTER_BITS_PER_KEY 10

#define INDEX_RESTART_INTERVAL 16

/*
 * A torn end of the library's own log is cut; damage before it is an error. Its text log has what
 * goes wrong only, in few small files.
 */
#define DATABASE_OPTIONS                                                       \
    "create_missing_column_families=1;paranoid_checks=1;max_open_files=512;"   \
    "wal_recovery_mode=kTolerateCorruptedTailRecords;bytes_per_sync=1048576;"  \
    "info_log_level=WARN_LEVEL;max_log_file_size=1048576;keep_log_file_num=2;" \
    "stats_dump_period_sec=0;stats_persist_period_sec=0;"

#define FAMILY_OPTIONS                                                                    \
    "max_write_buffer_number=4;compression=kLZ4Compression;bottommost_compression=kZSTD;" \
    "level_compaction_dynamic_level_bytes=1;"

#define READ_TIER_PERSISTED 2

/* ---- filters over prefixes ----------------------------------------------------------------- */

struct suffix {
    size_t bytes;
    char name[48]; /* stored in the files: another length is another name */
};

static char *suffix_cut(void *ctx, const char *key, size_t bytes, size_t *prefix_bytes)
{
    const struct suffix *suffix = ctx;

    *prefix_bytes = bytes - suffix->bytes;
    return (char *)(uintptr_t)key;
}

static unsigned char suffix_fits(void *ctx, const char *key, size_t bytes)
{
    (void)key;
    return bytes >= ((const struct suffix *)ctx)->bytes;
}

static unsigned char suffix_any(void *ctx, const char *key, size_t bytes)
{
    (void)ctx;
    (void)key;
    (void)bytes;
    return 1;
}

static const char *suffix_name(void *ctx)
{
    return ((const struct suffix *)ctx)->name;
}

static int set_suffix(const struct rocks *db, rocksdb_options_t *options, size_t suffix_bytes,
                      struct ms_err *err)
{
    struct suffix *suffix = calloc(1, sizeof(*suffix));

    if (suffix == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a database");
    }
    suffix->bytes = suffix_bytes;
    (void)snprintf(suffix->name, sizeof(suffix->name), "metastore.suffix.%zu", suffix_bytes);
    db->lib.options_set_prefix_extractor(
        options, db->lib.slicetransform_create(suffix, free, suffix_cut, suffix_fits, suffix_any,
                                               suffix_name));
    return MS_OK;
}

/* ---- opening ------------------------------------------------------------------------------- */

/* Options from the library's own notation, which has all of them by name. */
static int options_from(const struct rocks *db, const char *text, rocksdb_options_t **out,
                        struct ms_err *err)
{
    rocksdb_options_t *defaults = db->lib.options_create();
    rocksdb_options_t *made = db->lib.options_create();
    char *fault = NULL;
    int rc;

    db->lib.get_options_from_string(defaults, text, made, &fault);
    db->lib.options_destroy(defaults);
    rc = rocks_library_result(db, "options", fault, err);
    if (rc != MS_OK) {
        db->lib.options_destroy(made);
        return rc;
    }
    *out = made;
    return MS_OK;
}

static int database_options(struct rocks *db, const struct rocks_options *options,
                            struct ms_err *err)
{
    char text[sizeof(DATABASE_OPTIONS) + 128];

    (void)snprintf(text, sizeof(text),
                   DATABASE_OPTIONS "create_if_missing=%d;atomic_flush=%d;max_background_jobs=%u",
                   !options->must_exist, options->durability == ROCKS_ATOMIC_FLUSHES,
                   options->tuning.background_jobs);
    return options_from(db, text, &db->options, err);
}

static int family_options(struct rocks *db, const struct rocks_options *options,
                          const struct rocks_family *family, rocksdb_options_t **out,
                          struct ms_err *err)
{
    rocksdb_block_based_table_options_t *table;
    rocksdb_options_t *made;
    char text[sizeof(FAMILY_OPTIONS) + 128];
    int rc;

    (void)snprintf(text, sizeof(text),
                   FAMILY_OPTIONS "write_buffer_size=%llu;memtable_prefix_bloom_size_ratio=%s",
                   (unsigned long long)options->tuning.write_buffer_bytes,
                   family->suffix_bytes > 0 ? "0.05" : "0");
    rc = options_from(db, text, &made, err);
    if (rc == MS_OK && family->suffix_bytes > 0) {
        rc = set_suffix(db, made, family->suffix_bytes, err);
        if (rc != MS_OK) {
            db->lib.options_destroy(made);
        }
    }
    if (rc != MS_OK) {
        return rc;
    }
    /* These by hand, for one cache serves all families. */
    table = db->lib.block_based_options_create();
    db->lib.block_based_options_set_block_cache(table, db->cache);
    db->lib.block_based_options_set_block_size(table, BLOCK_BYTES);
    db->lib.block_based_options_set_format_version(table, TABLE_FORMAT);
    /*
     * Indexes and filters stay in memory with their files, which are limited in number. In the
     * cache they would be looked up several times for each read; and one that is too large for a
     * part of the cache would be read again each time, as can be with keys longer than blocks.
     * Those are why an index holds differences only.
     */
    db->lib.block_based_options_set_index_block_restart_interval(table, INDEX_RESTART_INTERVAL);
    if (family->filtered) {
        db->lib.block_based_options_set_filter_policy(
            table, db->lib.filterpolicy_create_bloom_full(FILTER_BITS_PER_KEY));
        db->lib.block_based_options_set_whole_key_filtering(table, family->suffix_bytes == 0);
    }
    db->lib.options_set_block_based_table_factory(made, table);
    db->lib.block_based_options_destroy(table);
    *out = made;
    return MS_OK;
}

static int open_families(struct rocks *db, const struct rocks_options *options, struct ms_err *err)
{
    const char *names[ROCKS_FAMILIES_MAX + 1] = {DEFAULT_FAMILY};
    const rocksdb_options_t *settings[ROCKS_FAMILIES_MAX + 1] = {db->options};
    rocksdb_column_family_handle_t *handles[ROCKS_FAMILIES_MAX + 1] = {NULL};
    char *text = NULL;

    for (size_t i = 0; i < options->family_count; i++) {
        names[i + 1] = options->families[i].name;
        settings[i + 1] = db->family_options[i];
    }
    db->db = db->lib.open_column_families(db->options, options->directory,
                                          (int)options->family_count + 1, names, settings, handles,
                                          &text);
    if (text != NULL) {
        db->db = NULL;
        return rocks_library_result(db, "open", text, err);
    }
    db->default_family = handles[0];
    for (size_t i = 0; i < options->family_count; i++) {
        db->families[i] = handles[i + 1];
    }
    db->family_count = options->family_count;
    return MS_OK;
}

int rocks_open(const struct rocks_options *options, struct rocks **out, struct ms_err *err)
{
    struct rocks *db = calloc(1, sizeof(*db));
    int rc = MS_OK;

    assert(options->family_count >= 1 && options->family_count <= ROCKS_FAMILIES_MAX);
    if (db == NULL || (db->directory = strdup(options->directory)) == NULL) {
        free(db);
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a database");
    }
    if (!options->must_exist && mkdir(options->directory, 0700) != 0 && errno != EEXIST) {
        rc = ms_err_set(err, errno == ENOSPC ? MS_ENOSPC : MS_EIO, errno, "make %s",
                        options->directory);
        goto out;
    }
    rc = rocks_library_load(&db->lib, err);
    if (rc != MS_OK) {
        goto out;
    }
    db->cache = db->lib.cache_create_lru(options->tuning.cache_bytes);
    rc = database_options(db, options, err);
    for (size_t i = 0; i < options->family_count && rc == MS_OK; i++) {
        rc = family_options(db, options, &options->families[i], &db->family_options[i], err);
    }
    if (rc == MS_OK) {
        rc = open_families(db, options, err);
    }
    if (rc != MS_OK) {
        goto out;
    }
    db->write = db->lib.writeoptions_create();
    db->lib.writeoptions_set_sync(db->write, options->durability == ROCKS_SYNCED_WRITES);
    db->lib.writeoptions_disable_WAL(db->write, options->durability == ROCKS_ATOMIC_FLUSHES);
    db->read = db->lib.readoptions_create();
    db->lib.readoptions_set_total_order_seek(db->read, 1);
    db->read_durable = db->lib.readoptions_create();
    db->lib.readoptions_set_read_tier(db->read_durable, READ_TIER_PERSISTED);
    *out = db;
    db = NULL;

out:
    rocks_close(db);
    return rc;
}

void rocks_close(struct rocks *db)
{
    if (db == NULL) {
        return;
    }
    if (db->read != NULL) {
        db->lib.readoptions_destroy(db->read_durable);
        db->lib.readoptions_destroy(db->read);
        db->lib.writeoptions_destroy(db->write);
    }
    if (db->db != NULL) {
        for (size_t i = 0; i < db->family_count; i++) {
            db->lib.column_family_handle_destroy(db->families[i]);
        }
        db->lib.column_family_handle_destroy(db->default_family);
        db->lib.close(db->db);
    }
    for (size_t i = 0; i < ROCKS_FAMILIES_MAX; i++) {
        if (db->family_options[i] != NULL) {
            db->lib.options_destroy(db->family_options[i]);
        }
    }
    if (db->options != NULL) {
        db->lib.options_destroy(db->options);
    }
    if (db->cache != NULL) {
        db->lib.cache_destroy(db->cache);
    }
    free(db->directory);
    free(db);
}

int rocks_retune(struct rocks *db, const struct rocks_tuning *tuning, struct ms_err *err)
{
    const char *const names[] = {"write_buffer_size"};
    char number[32];
    const char *const values[] = {number};

    (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)tuning->write_buffer_bytes);
    for (size_t i = 0; i < db->family_count; i++) {
        char *text = NULL;
        int rc;

        db->lib.set_options_cf(db->db, db->families[i], 1, names, values, &text);
        rc = rocks_library_result(db, "change the write buffer", text, err);
        if (rc != MS_OK) {
            return rc;
        }
    }
    db->lib.cache_set_capacity(db->cache, tuning->cache_bytes);
    return MS_OK;
}

const char *rocks_directory(const struct rocks *db)
{
    return db->directory;
}

int rocks_free_bytes(const struct rocks *db, uint64_t *out, struct ms_err *err)
{
    struct statvfs fs;

    if (statvfs(db->directory, &fs) != 0) {
        return ms_err_set(err, MS_EIO, errno, "look for room in %s", db->directory);
    }
    *out = (uint64_t)fs.f_bavail * fs.f_frsize;
    return MS_OK;
}

/* ---- writing ------------------------------------------------------------------------------- */

int rocks_batch_create(struct rocks *db, struct rocks_batch **out, struct ms_err *err)
{
    struct rocks_batch *batch = calloc(1, sizeof(*batch));

    if (batch == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a batch");
    }
    batch->db = db;
    batch->batch = db->lib.writebatch_create();
    *out = batch;
    return MS_OK;
}

void rocks_batch_destroy(struct rocks_batch *batch)
{
    if (batch != NULL) {
        batch->db->lib.writebatch_destroy(batch->batch);
        free(batch);
    }
}

void rocks_batch_clear(struct rocks_batch *batch)
{
    batch->db->lib.writebatch_clear(batch->batch);
}

size_t rocks_batch_bytes(const struct rocks_batch *batch)
{
    size_t bytes = 0;

    if (batch->db->lib.writebatch_count(batch->batch) > 0) {
        (void)batch->db->lib.writebatch_data(batch->batch, &bytes);
    }
    return bytes;
}

void rocks_batch_put(struct rocks_batch *batch, size_t family, const uint8_t *key, size_t key_bytes,
                     const struct rocks_piece *value, size_t pieces)
{
    const char *keys[1] = {(const char *)key};
    const char *values[ROCKS_PIECES_MAX];
    size_t sizes[ROCKS_PIECES_MAX];

    assert(family < batch->db->family_count && pieces <= ROCKS_PIECES_MAX);
    for (size_t i = 0; i < pieces; i++) {
        values[i] = value[i].bytes > 0 ? value[i].data : "";
        sizes[i] = value[i].bytes;
    }
    batch->db->lib.writebatch_putv_cf(batch->batch, batch->db->families[family], 1, keys,
                                      &key_bytes, (int)pieces, values, sizes);
}

void rocks_batch_remove(struct rocks_batch *batch, size_t family, const uint8_t *key,
                        size_t key_bytes)
{
    assert(family < batch->db->family_count);
    batch->db->lib.writebatch_delete_cf(batch->batch, batch->db->families[family],
                                        (const char *)key, key_bytes);
}

void rocks_batch_remove_range(struct rocks_batch *batch, size_t family, const uint8_t *low,
                              size_t low_bytes, const uint8_t *high, size_t high_bytes)
{
    assert(family < batch->db->family_count);
    batch->db->lib.writebatch_delete_range_cf(batch->batch, batch->db->families[family],
                                              (const char *)low, low_bytes, (const char *)high,
                                              high_bytes);
}

int rocks_write(struct rocks *db, const struct rocks_batch *batch, struct ms_err *err)
{
    char *text = NULL;

    db->lib.write(db->db, db->write, batch->batch, &text);
    return rocks_library_result(db, "write", text, err);
}

/*
 * The C interface flushes one family at a time, which atomic flushes do not allow. Compacting a
 * family first flushes all of them together, and for a family of a few keys nothing else is to do.
 */
void rocks_flush(struct rocks *db, size_t marker)
{
    rocksdb_compactoptions_t *options = db->lib.compactoptions_create();

    assert(marker < db->family_count);
    /* Other compactions need not wait for this one, nor it for them. */
    db->lib.compactoptions_set_exclusive_manual_compaction(options, 0);
    db->lib.compact_range_cf_opt(db->db, db->families[marker], options, NULL, 0, NULL, 0);
    db->lib.compactoptions_destroy(options);
}

/* ---- looking at it ------------------------------------------------------------------------- */

static uint64_t property(struct rocks *db, size_t family, const char *name)
{
    uint64_t value = 0;

    return db->lib.property_int_cf(db->db, db->families[family], name, &value) == 0 ? value : 0;
}

void rocks_stats(struct rocks *db, struct rocks_stats *out)
{
    *out = (struct rocks_stats){
        .cache_bytes = db->lib.cache_get_usage(db->cache),
        .running_flushes = property(db, 0, "rocksdb.num-running-flushes"),
        .running_compactions = property(db, 0, "rocksdb.num-running-compactions"),
        .background_errors = property(db, 0, "rocksdb.background-errors"),
        .writes_stopped = property(db, 0, "rocksdb.is-write-stopped") != 0,
    };
    for (size_t i = 0; i < db->family_count; i++) {
        out->file_bytes += property(db, i, "rocksdb.total-sst-files-size");
        out->write_buffer_bytes += property(db, i, "rocksdb.cur-size-all-mem-tables");
        out->table_bytes += property(db, i, "rocksdb.estimate-table-readers-mem");
        out->pending_compaction_bytes +=
            property(db, i, "rocksdb.estimate-pending-compaction-bytes");
    }
}

/*
 * rocks_library: the library's functions, as found at run time; for rocks.c and rocks_read.c.
 */
#ifndef METASTORE_STORAGED_ROCKS_LIBRARY_H
#define METASTORE_STORAGED_ROCKS_LIBRARY_H

#include <rocksdb/c.h>

#include "common/err.h"
#include "storaged/rocks.h"

/* What is called of it. */
// clang-format off
#define ROCKS_LIBRARY_CALLS(X)                                                                    \
    X(block_based_options_create) X(block_based_options_destroy)                                  \
    X(block_based_options_set_block_cache) X(block_based_options_set_block_size)                  \
    X(block_based_options_set_filter_policy) X(block_based_options_set_format_version)            \
    X(block_based_options_set_index_block_restart_interval)                                       \
    X(block_based_options_set_whole_key_filtering) X(cache_create_lru) X(cache_destroy)           \
    X(cache_get_usage) X(cache_set_capacity) X(close) X(column_family_handle_destroy)             \
    X(compact_range_cf_opt) X(compactoptions_create) X(compactoptions_destroy)                    \
    X(compactoptions_set_exclusive_manual_compaction) X(create_iterator_cf) X(create_snapshot)    \
    X(filterpolicy_create_bloom_full) X(free) X(get_options_from_string) X(get_pinned_cf)         \
    X(iter_destroy) X(iter_get_error) X(iter_key) X(iter_next) X(iter_prev) X(iter_seek)          \
    X(iter_seek_for_prev) X(iter_valid) X(iter_value) X(open_column_families) X(options_create)   \
    X(options_destroy) X(options_set_block_based_table_factory) X(options_set_prefix_extractor)   \
    X(pinnableslice_destroy) X(pinnableslice_value) X(property_int_cf) X(readoptions_create)      \
    X(readoptions_destroy) X(readoptions_set_fill_cache) X(readoptions_set_prefix_same_as_start)  \
    X(readoptions_set_read_tier) X(readoptions_set_readahead_size) X(readoptions_set_snapshot)    \
    X(readoptions_set_total_order_seek) X(release_snapshot) X(set_options_cf)                     \
    X(slicetransform_create) X(write) X(writebatch_clear) X(writebatch_count)                     \
    X(writebatch_create) X(writebatch_data) X(writebatch_delete_cf)                               \
    X(writebatch_delete_range_cf) X(writebatch_destroy) X(writebatch_putv_cf)                     \
    X(writeoptions_create) X(writeoptions_destroy) X(writeoptions_disable_WAL)                    \
    X(writeoptions_set_sync)
// clang-format on

struct rocks_library {
#define ROCKS_LIBRARY_POINTER(name) __typeof__(&rocksdb_##name) name;
    ROCKS_LIBRARY_CALLS(ROCKS_LIBRARY_POINTER)
#undef ROCKS_LIBRARY_POINTER
};

struct rocks {
    struct rocks_library lib;
    rocksdb_t *db;
    char *directory;
    rocksdb_cache_t *cache;
    rocksdb_options_t *options;
    rocksdb_options_t *family_options[ROCKS_FAMILIES_MAX];
    rocksdb_column_family_handle_t *default_family;
    rocksdb_column_family_handle_t *families[ROCKS_FAMILIES_MAX];
    size_t family_count;
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read;         /* newest state */
    rocksdb_readoptions_t *read_durable; /* what is on disk */
};

struct rocks_batch {
    rocksdb_writebatch_t *batch;
    struct rocks *db;
};

struct rocks_iter {
    rocksdb_iterator_t *iter;
    rocksdb_readoptions_t *read;
    const struct rocks *db;
};

/*
 * Loads it, if that has not been done, and finds its functions. MS_EUNAVAILABLE: it is not
 * installed, or another version.
 */
int rocks_library_load(struct rocks_library *out, struct ms_err *err);

/* MS_OK when text, an error of the library's, is NULL; else the status for it. Frees the text. */
int rocks_library_result(const struct rocks *db, const char *what, char *text, struct ms_err *err);

#endif

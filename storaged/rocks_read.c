/*
 * rocks_read: views, single keys and iterators.
 */
#include <assert.h>
#include <stdlib.h>

#include "storaged/rocks_library.h"

#define SCAN_READAHEAD (UINT64_C(256) << 10)

struct rocks_view *rocks_view_take(struct rocks *db)
{
    return (struct rocks_view *)(uintptr_t)db->lib.create_snapshot(db->db);
}

void rocks_view_release(struct rocks *db, struct rocks_view *view)
{
    if (view != NULL) {
        db->lib.release_snapshot(db->db, (const rocksdb_snapshot_t *)view);
    }
}

void rocks_value_release(const struct rocks *db, struct rocks_value *value)
{
    if (value->handle != NULL) {
        db->lib.pinnableslice_destroy(value->handle);
    }
    *value = (struct rocks_value){0};
}

static int get_with(struct rocks *db, const rocksdb_readoptions_t *read,
                    const struct rocks_key *key, struct rocks_value *out, struct ms_err *err)
{
    rocksdb_pinnableslice_t *slice;
    struct rocks_value value;
    char *text = NULL;

    assert(key->family < db->family_count);
    slice = db->lib.get_pinned_cf(db->db, read, db->families[key->family], (const char *)key->data,
                                  key->bytes, &text);
    if (text != NULL) {
        return rocks_library_result(db, "read", text, err);
    }
    if (slice == NULL) {
        return MS_ENOENT;
    }
    value.handle = slice;
    value.data = (const uint8_t *)db->lib.pinnableslice_value(slice, &value.bytes);
    *out = value;
    return MS_OK;
}

int rocks_get(struct rocks *db, const struct rocks_view *view, const struct rocks_key *key,
              struct rocks_value *out, struct ms_err *err)
{
    rocksdb_readoptions_t *read;
    int rc;

    if (view == NULL) {
        return get_with(db, db->read, key, out, err);
    }
    read = db->lib.readoptions_create();
    db->lib.readoptions_set_snapshot(read, (const rocksdb_snapshot_t *)view);
    rc = get_with(db, read, key, out, err);
    db->lib.readoptions_destroy(read);
    return rc;
}

int rocks_get_durable(struct rocks *db, const struct rocks_key *key, struct rocks_value *out,
                      struct ms_err *err)
{
    return get_with(db, db->read_durable, key, out, err);
}

struct rocks_iter *rocks_iter_create(struct rocks *db, const struct rocks_iter_options *options)
{
    struct rocks_iter *iter = calloc(1, sizeof(*iter));

    assert(options->family < db->family_count);
    if (iter == NULL) {
        return NULL;
    }
    iter->db = db;
    iter->read = db->lib.readoptions_create();
    if (options->view != NULL) {
        db->lib.readoptions_set_snapshot(iter->read, (const rocksdb_snapshot_t *)options->view);
    }
    if (options->within_suffix) {
        db->lib.readoptions_set_prefix_same_as_start(iter->read, 1);
    } else {
        db->lib.readoptions_set_total_order_seek(iter->read, 1);
    }
    if (options->bulk) {
        db->lib.readoptions_set_fill_cache(iter->read, 0);
        db->lib.readoptions_set_readahead_size(iter->read, SCAN_READAHEAD);
    }
    iter->iter = db->lib.create_iterator_cf(db->db, iter->read, db->families[options->family]);
    return iter;
}

void rocks_iter_destroy(struct rocks_iter *iter)
{
    if (iter != NULL) {
        iter->db->lib.iter_destroy(iter->iter);
        iter->db->lib.readoptions_destroy(iter->read);
        free(iter);
    }
}

bool rocks_iter_seek(struct rocks_iter *iter, const uint8_t *key, size_t key_bytes)
{
    iter->db->lib.iter_seek(iter->iter, (const char *)key, key_bytes);
    return iter->db->lib.iter_valid(iter->iter);
}

bool rocks_iter_next(struct rocks_iter *iter)
{
    iter->db->lib.iter_next(iter->iter);
    return iter->db->lib.iter_valid(iter->iter);
}

bool rocks_iter_seek_before(struct rocks_iter *iter, const uint8_t *key, size_t key_bytes)
{
    iter->db->lib.iter_seek_for_prev(iter->iter, (const char *)key, key_bytes);
    return iter->db->lib.iter_valid(iter->iter);
}

bool rocks_iter_previous(struct rocks_iter *iter)
{
    iter->db->lib.iter_prev(iter->iter);
    return iter->db->lib.iter_valid(iter->iter);
}

bool rocks_iter_valid(const struct rocks_iter *iter)
{
    return iter->db->lib.iter_valid(iter->iter);
}

const uint8_t *rocks_iter_key(const struct rocks_iter *iter, size_t *bytes)
{
    return (const uint8_t *)iter->db->lib.iter_key(iter->iter, bytes);
}

const uint8_t *rocks_iter_value(const struct rocks_iter *iter, size_t *bytes)
{
    return (const uint8_t *)iter->db->lib.iter_value(iter->iter, bytes);
}

int rocks_iter_status(const struct rocks_iter *iter, struct ms_err *err)
{
    char *text = NULL;

    iter->db->lib.iter_get_error(iter->iter, &text);
    return rocks_library_result(iter->db, "read", text, err);
}

/*
 * content_check: the rules.
 */
#include "storaged/content_check.h"

#include <inttypes.h>
#include <string.h>

#include <xxhash.h>

int content_check_record(const uint8_t *name, size_t name_bytes, struct ms_err *err)
{
    (void)name;
    if (name_bytes == 0 || name_bytes > ENGINE_RECORD_NAME_MAX) {
        return ms_err_set(err, MS_ECORRUPT, 0, "record name of %zu bytes", name_bytes);
    }
    return MS_OK;
}

static int compare_keys(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes)
{
    int difference = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);

    return difference != 0 ? difference : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static bool follows(const struct engine_stamp *last, uint64_t revision, uint32_t sub)
{
    return revision > last->revision || (revision == last->revision && sub > last->sub);
}

static void note_revision(struct content_check *check, uint64_t revision)
{
    if (revision > check->last_revision) {
        check->last_revision = revision;
    }
}

/* A number for "this key changed then": sums of them do not depend on the order. */
static uint64_t hash_of(uint64_t key_hash, uint64_t revision, uint32_t sub, bool tombstone)
{
    const uint64_t parts[] = {key_hash, revision, (uint64_t)sub << 1 | tombstone};

    return XXH3_64bits(parts, sizeof(parts));
}

static bool is_live(const struct content_check *check)
{
    return check->last_key_bytes > 0 && !check->last_stamp.tombstone;
}

int content_check_key(struct content_check *check, const uint8_t *key, size_t key_bytes,
                      const struct engine_stamp *stamps, size_t count, bool *is_new,
                      struct ms_err *err)
{
    int order;

    if (key_bytes == 0 || key_bytes > MS_KEY_BYTES_MAX || count == 0) {
        return ms_err_set(err, MS_ECORRUPT, 0, "key of %zu bytes with %zu stamps", key_bytes,
                          count);
    }
    order = compare_keys(key, key_bytes, check->last_key, check->last_key_bytes);
    if (order < 0) {
        return ms_err_set(err, MS_ECORRUPT, 0, "keys are not in order");
    }
    if (order > 0) {
        check->live += is_live(check);
        check->last_stamp = (struct engine_stamp){0};
        check->last_key_hash = XXH3_64bits(key, key_bytes);
        memcpy(check->last_key, key, key_bytes);
        check->last_key_bytes = key_bytes;
    }
    for (size_t i = 0; i < count; i++) {
        if (!follows(&check->last_stamp, stamps[i].revision, stamps[i].sub) ||
            stamps[i].sub >= ENGINE_SUB_MAX) {
            return ms_err_set(err, MS_ECORRUPT, 0, "stamps of a key are not in order");
        }
        check->last_stamp = stamps[i];
        check->balance +=
            hash_of(check->last_key_hash, stamps[i].revision, stamps[i].sub, stamps[i].tombstone);
    }
    check->stamps += count;
    note_revision(check, check->last_stamp.revision);
    *is_new = order > 0;
    return MS_OK;
}

int content_check_change(struct content_check *check, const struct engine_change *change,
                         struct ms_err *err)
{
    const struct ms_memdb_kv *kv = &change->kv;

    if (kv->key_bytes == 0 || kv->key_bytes > MS_KEY_BYTES_MAX || change->sub >= ENGINE_SUB_MAX) {
        return ms_err_set(err, MS_ECORRUPT, 0, "change of a key of %zu bytes", kv->key_bytes);
    }
    if (!follows(&check->last_change, kv->mod_revision, change->sub)) {
        return ms_err_set(err, MS_ECORRUPT, 0, "changes are not in order");
    }
    check->last_change = (struct engine_stamp){kv->mod_revision, change->sub, change->tombstone};
    check->balance -= hash_of(XXH3_64bits(kv->key, kv->key_bytes), kv->mod_revision, change->sub,
                              change->tombstone);
    check->changes++;
    note_revision(check, kv->mod_revision);
    return MS_OK;
}

int content_check_finish(const struct content_check *check, const struct engine_snapshot_info *info,
                         struct ms_err *err)
{
    uint64_t live = check->live + is_live(check);

    if (check->stamps != check->changes) {
        return ms_err_set(err, MS_ECORRUPT, 0, "%" PRIu64 " stamps, but %" PRIu64 " changes",
                          check->stamps, check->changes);
    }
    if (check->balance != 0) {
        return ms_err_set(err, MS_ECORRUPT, 0, "stamps and changes do not belong together");
    }
    if (live != info->meta.keys) {
        return ms_err_set(err, MS_ECORRUPT, 0, "%" PRIu64 " keys instead of %" PRIu64, live,
                          info->meta.keys);
    }
    if (check->last_revision > info->meta.revision ||
        info->meta.compact_revision > info->meta.revision ||
        info->compacted_to > info->meta.compact_revision || info->meta.revision == 0) {
        return ms_err_set(err, MS_ECORRUPT, 0,
                          "revision %" PRIu64 ", compacted at %" PRIu64 ", newest change %" PRIu64,
                          info->meta.revision, info->meta.compact_revision, check->last_revision);
    }
    return MS_OK;
}

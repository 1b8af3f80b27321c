/*
 * engine_hash: key, value and numbers of all that is alive, in key order, through one hash.
 */
#include "storaged/engine_hash.h"

#include <xxhash.h>

static bool hash_kv(void *ctx, const struct ms_memdb_kv *kv)
{
    const uint64_t head[] = {
        kv->key_bytes,    kv->value_bytes, kv->create_revision,
        kv->mod_revision, kv->version,     kv->lease,
    };
    XXH3_state_t *state = ctx;

    (void)XXH3_64bits_update(state, head, sizeof(head));
    (void)XXH3_64bits_update(state, kv->key, kv->key_bytes);
    (void)XXH3_64bits_update(state, kv->value, kv->value_bytes);
    return true;
}

int engine_hash_by_range(struct engine *engine, uint64_t revision, uint64_t *out,
                         struct ms_err *err)
{
    const struct ms_memdb_range everything = {.revision = revision};
    XXH3_state_t *state = XXH3_createState();
    int rc;

    if (state == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a hash");
    }
    (void)XXH3_64bits_reset(state);
    rc = engine_range(engine, &everything, hash_kv, state, err);
    if (rc == MS_OK) {
        *out = XXH3_64bits_digest(state);
    }
    (void)XXH3_freeState(state);
    return rc;
}

/*
 * memdb_layout: encoding and finding in the memory engine's databases, for either side of it.
 *
 * Works in whatever transaction the cursors belong to and never writes. What it meets in the file
 * is checked, because another process wrote it.
 */
#include "common/memdb_layout.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

static uint64_t get_be64(const uint8_t *src)
{
    uint64_t raw;

    memcpy(&raw, src, sizeof(raw));
    return be64toh(raw);
}

static uint32_t get_be32(const uint8_t *src)
{
    uint32_t raw;

    memcpy(&raw, src, sizeof(raw));
    return be32toh(raw);
}

static void put_be64(uint8_t *dst, uint64_t value)
{
    uint64_t raw = htobe64(value);

    memcpy(dst, &raw, sizeof(raw));
}

static void put_be32(uint8_t *dst, uint32_t value)
{
    uint32_t raw = htobe32(value);

    memcpy(dst, &raw, sizeof(raw));
}

int ms_memdb_status(int mdb_code)
{
    switch (mdb_code) {
    case MDB_SUCCESS:
        return MS_OK;
    case MDB_NOTFOUND:
        return MS_ENOENT;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case ENOSPC:
    case EFBIG:
    case EDQUOT:
        return MS_ENOSPC;
    case MDB_READERS_FULL:
        return MS_EBUSY;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_PAGE_FULL:
    case MDB_CURSOR_FULL:
    case MDB_PANIC:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_VALSIZE:
    case MDB_BAD_DBI:
    case MDB_BAD_TXN:
        return MS_ECORRUPT;
    case MDB_MAP_RESIZED:
        return MS_EUNAVAILABLE;
    case ENOMEM:
        return MS_ENOMEM;
    case ENOENT:
        return MS_ENOENT;
    case EACCES:
    case EPERM:
        return MS_EPERM;
    default:
        return MS_EIO;
    }
}

int ms_memdb_open_dbs(struct ms_memdb *db, MDB_txn *txn, bool create, struct ms_err *err)
{
    const struct {
        const char *name;
        unsigned flags;
        MDB_dbi *dbi;
    } table[] = {
        {NULL, 0, &db->main},
        {MS_MEMDB_NAME_INDEX, MDB_DUPSORT | MDB_DUPFIXED, &db->index},
        {MS_MEMDB_NAME_BRANCHES, MDB_DUPSORT | MDB_DUPFIXED, &db->branches},
        {MS_MEMDB_NAME_HISTORY, 0, &db->history},
        {MS_MEMDB_NAME_RECORDS, 0, &db->records},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        unsigned flags = table[i].flags | (create && table[i].name != NULL ? MDB_CREATE : 0);
        int code = mdb_dbi_open(txn, table[i].name, flags, table[i].dbi);

        if (code != MDB_SUCCESS) {
            /* A store whose making was cut short lacks some of them. */
            return ms_err_set(err, ms_memdb_status(code), 0, "memory engine: database %s: %s",
                              table[i].name == NULL ? "main" : table[i].name, mdb_strerror(code));
        }
    }
    return MS_OK;
}

int ms_memdb_load_meta(const struct ms_memdb *db, MDB_txn *txn, struct ms_memdb_record_meta *out)
{
    MDB_val key = {sizeof(MS_MEMDB_META_KEY) - 1, (void *)(uintptr_t)MS_MEMDB_META_KEY};
    MDB_val value;
    struct ms_memdb_record_meta meta;
    int code = mdb_get(txn, db->main, &key, &value);

    if (code != MDB_SUCCESS) {
        return ms_memdb_status(code);
    }
    if (value.mv_size != sizeof(meta)) {
        return MS_ECORRUPT;
    }
    memcpy(&meta, value.mv_data, sizeof(meta));
    if (meta.layout != MS_MEMDB_LAYOUT || meta.compact_revision > meta.revision ||
        meta.compacted_to > meta.compact_revision) {
        return MS_ECORRUPT;
    }
    if (meta.complete != 1) {
        return MS_ENOENT;
    }
    *out = meta;
    return MS_OK;
}

static size_t part_offset(size_t depth)
{
    return depth == 0 ? 0 : MS_MEMDB_ROOT_CHUNK + (depth - 1) * MS_MEMDB_BRANCH_CHUNK;
}

bool ms_memdb_part(const uint8_t *key, size_t key_bytes, size_t depth, uint64_t branch,
                   uint8_t *scratch, MDB_val *part)
{
    size_t offset = part_offset(depth);
    size_t id_bytes = depth == 0 ? 0 : MS_MEMDB_BRANCH_ID;
    size_t chunk_max = depth == 0 ? MS_MEMDB_ROOT_CHUNK : MS_MEMDB_BRANCH_CHUNK;
    size_t rest = key_bytes - offset;
    size_t chunk = rest <= chunk_max ? rest : chunk_max;

    assert(key_bytes > offset);
    if (depth == 0 && rest <= chunk_max) {
        *part = (MDB_val){rest, (void *)(uintptr_t)key};
        return false;
    }
    if (depth > 0) {
        put_be64(scratch, branch);
    }
    memcpy(scratch + id_bytes, key + offset, chunk);
    *part = (MDB_val){id_bytes + chunk, scratch};
    if (rest <= chunk_max) {
        return false;
    }
    scratch[part->mv_size++] = 0;
    return true;
}

/* The branch that a marker's value names. */
static int decode_branch(const MDB_val *value, uint64_t *out)
{
    const uint8_t *data = value->mv_data;

    if (value->mv_size != MS_MEMDB_STAMP_BYTES || get_be32(data + MS_MEMDB_BRANCH_ID) != 0) {
        return MS_ECORRUPT;
    }
    *out = get_be64(data);
    return *out == 0 ? MS_ECORRUPT : MS_OK;
}

int ms_memdb_find_key(const struct ms_memdb_cursors *cursors, const uint8_t *key, size_t key_bytes,
                      MDB_cursor **at)
{
    uint64_t branch = 0;

    assert(key_bytes > 0 && key_bytes <= MS_KEY_BYTES_MAX);
    for (size_t depth = 0;; depth++) {
        uint8_t scratch[MS_MEMDB_LMDB_KEY_MAX];
        MDB_cursor *cursor = depth == 0 ? cursors->index : cursors->branches;
        MDB_val part;
        MDB_val value;
        bool goes_on = ms_memdb_part(key, key_bytes, depth, branch, scratch, &part);
        int code = mdb_cursor_get(cursor, &part, &value, MDB_SET);

        if (code != MDB_SUCCESS) {
            return ms_memdb_status(code);
        }
        if (!goes_on) {
            *at = cursor;
            return MS_OK;
        }
        if (decode_branch(&value, &branch) != MS_OK) {
            return MS_ECORRUPT;
        }
    }
}

void ms_memdb_encode_stamp(const struct ms_memdb_stamp *stamp, uint8_t dst[MS_MEMDB_STAMP_BYTES])
{
    put_be64(dst, stamp->revision);
    put_be32(dst + 8, stamp->sub | (stamp->tombstone ? MS_MEMDB_TOMBSTONE_BIT : 0));
}

int ms_memdb_decode_stamp(const MDB_val *value, struct ms_memdb_stamp *out)
{
    const uint8_t *data = value->mv_data;
    uint32_t sub;

    if (value->mv_size != MS_MEMDB_STAMP_BYTES) {
        return MS_ECORRUPT;
    }
    sub = get_be32(data + 8);
    out->revision = get_be64(data);
    out->sub = sub & ~MS_MEMDB_TOMBSTONE_BIT;
    out->tombstone = (sub & MS_MEMDB_TOMBSTONE_BIT) != 0;
    return MS_OK;
}

int ms_memdb_stamp_at(MDB_cursor *at, uint64_t revision, struct ms_memdb_stamp *out)
{
    uint8_t beyond[MS_MEMDB_STAMP_BYTES];
    MDB_val key;
    MDB_val value;
    int code = mdb_cursor_get(at, &key, &value, MDB_LAST_DUP);

    if (code != MDB_SUCCESS || ms_memdb_decode_stamp(&value, out) != MS_OK) {
        return MS_ECORRUPT; /* the caller found the key: it has stamps */
    }
    if (revision == 0 || out->revision <= revision) {
        return MS_OK;
    }
    /* The newest is too new: the one before the first beyond the revision. It exists, as the last
     * one is beyond it. */
    ms_memdb_encode_stamp(&(struct ms_memdb_stamp){.revision = revision + 1}, beyond);
    value = (MDB_val){sizeof(beyond), beyond};
    code = mdb_cursor_get(at, &key, NULL, MDB_GET_CURRENT);
    if (code == MDB_SUCCESS) {
        code = mdb_cursor_get(at, &key, &value, MDB_GET_BOTH_RANGE);
    }
    if (code != MDB_SUCCESS) {
        return MS_ECORRUPT;
    }
    code = mdb_cursor_get(at, &key, &value, MDB_PREV_DUP);
    if (code != MDB_SUCCESS) {
        return ms_memdb_status(code);
    }
    return ms_memdb_decode_stamp(&value, out);
}

size_t ms_memdb_history_key(const struct ms_memdb_stamp *stamp, uint8_t dst[MS_MEMDB_STAMP_BYTES])
{
    put_be64(dst, stamp->revision);
    if (stamp->sub == 0) {
        return 8;
    }
    put_be32(dst + 8, stamp->sub);
    return MS_MEMDB_STAMP_BYTES;
}

int ms_memdb_decode_history_key(const MDB_val *key, struct ms_memdb_stamp *out)
{
    const uint8_t *data = key->mv_data;

    if (key->mv_size != 8 && key->mv_size != MS_MEMDB_STAMP_BYTES) {
        return MS_ECORRUPT;
    }
    out->revision = get_be64(data);
    out->sub = key->mv_size == 8 ? 0 : get_be32(data + 8);
    out->tombstone = false;
    return MS_OK;
}

int ms_memdb_decode_change(const MDB_val *key, const MDB_val *value, struct ms_memdb_stamp *stamp,
                           struct ms_memdb_kv *out)
{
    const uint8_t *data = value->mv_data;
    struct ms_memdb_change_header header;

    if (ms_memdb_decode_history_key(key, stamp) != MS_OK || value->mv_size < sizeof(header)) {
        return MS_ECORRUPT;
    }
    memcpy(&header, data, sizeof(header));
    if (header.key_bytes == 0 || header.key_bytes > MS_KEY_BYTES_MAX ||
        header.key_bytes > value->mv_size - sizeof(header) || header.tombstone > 1) {
        return MS_ECORRUPT;
    }
    stamp->tombstone = header.tombstone == 1;
    *out = (struct ms_memdb_kv){
        .key = data + sizeof(header),
        .key_bytes = header.key_bytes,
        .value = data + sizeof(header) + header.key_bytes,
        .value_bytes = value->mv_size - sizeof(header) - header.key_bytes,
        .create_revision = header.create_revision,
        .mod_revision = stamp->revision,
        .version = header.version,
        .lease = header.lease,
    };
    return MS_OK;
}

int ms_memdb_load_change(const struct ms_memdb_cursors *cursors, const struct ms_memdb_stamp *stamp,
                         const uint8_t *key, size_t key_bytes, struct ms_memdb_kv *out)
{
    uint8_t name[MS_MEMDB_STAMP_BYTES];
    struct ms_memdb_stamp found;
    struct ms_memdb_kv kv;
    MDB_val at = {ms_memdb_history_key(stamp, name), name};
    MDB_val value;
    int code = mdb_cursor_get(cursors->history, &at, &value, MDB_SET);

    if (code != MDB_SUCCESS || ms_memdb_decode_change(&at, &value, &found, &kv) != MS_OK ||
        found.tombstone != stamp->tombstone || kv.key_bytes != key_bytes ||
        memcmp(kv.key, key, key_bytes) != 0) {
        return MS_ECORRUPT;
    }
    *out = kv;
    return MS_OK;
}

/* ---- walking in key order ------------------------------------------------------------------ */

void ms_memdb_walker_init(struct ms_memdb_walker *walker, const struct ms_memdb_cursors *cursors)
{
    walker->cursors = cursors;
    walker->at = cursors->index;
    walker->depth = 0;
    walker->key_bytes = 0;
}

/* Whether LMDB's key still belongs to the branch that the walker is in. */
static bool in_branch(const struct ms_memdb_walker *walker, const MDB_val *part)
{
    return walker->depth == 0 || (part->mv_size > MS_MEMDB_BRANCH_ID &&
                                  get_be64(part->mv_data) == walker->branch[walker->depth]);
}

/* Enters the branch that a marker names. */
static int enter(struct ms_memdb_walker *walker, const MDB_val *value)
{
    if (walker->depth == MS_MEMDB_DEPTH_MAX) {
        return MS_ECORRUPT;
    }
    walker->depth++;
    walker->at = walker->cursors->branches;
    return decode_branch(value, &walker->branch[walker->depth]);
}

/* Takes LMDB's entry as the walker's position: a key, or, for a marker, the first key behind it. */
static int settle(struct ms_memdb_walker *walker, MDB_val part, MDB_val value)
{
    for (;;) {
        uint8_t id[MS_MEMDB_BRANCH_ID];
        size_t id_bytes = walker->depth == 0 ? 0 : MS_MEMDB_BRANCH_ID;
        size_t offset = part_offset(walker->depth);
        bool marker = part.mv_size == MS_MEMDB_LMDB_KEY_MAX;
        size_t chunk = part.mv_size - id_bytes - (marker ? 1 : 0);
        int code;

        memcpy(walker->key + offset, (const uint8_t *)part.mv_data + id_bytes, chunk);
        walker->key_bytes = offset + chunk;
        if (!marker) {
            return walker->key_bytes <= MS_KEY_BYTES_MAX ? MS_OK : MS_ECORRUPT;
        }
        if (enter(walker, &value) != MS_OK) {
            return MS_ECORRUPT;
        }
        put_be64(id, walker->branch[walker->depth]);
        part = (MDB_val){sizeof(id), id};
        code = mdb_cursor_get(walker->at, &part, &value, MDB_SET_RANGE);
        if (code != MDB_SUCCESS || !in_branch(walker, &part)) {
            return MS_ECORRUPT; /* no branch is empty */
        }
    }
}

/* Leaves the branch: back onto its marker, whose path is a prefix of the walker's key. */
static int leave(struct ms_memdb_walker *walker)
{
    uint8_t scratch[MS_MEMDB_LMDB_KEY_MAX];
    MDB_val part;
    MDB_val value;

    walker->depth--;
    if (walker->depth == 0) {
        walker->at = walker->cursors->index; /* has not moved meanwhile */
        return MS_OK;
    }
    /* One byte more than this depth holds, so that the part is the marker. */
    (void)ms_memdb_part(walker->key, part_offset(walker->depth + 1) + 1, walker->depth,
                        walker->branch[walker->depth], scratch, &part);
    return mdb_cursor_get(walker->at, &part, &value, MDB_SET) == MDB_SUCCESS ? MS_OK : MS_ECORRUPT;
}

int ms_memdb_walker_next(struct ms_memdb_walker *walker)
{
    for (;;) {
        MDB_val part;
        MDB_val value;
        int code = mdb_cursor_get(walker->at, &part, &value, MDB_NEXT_NODUP);

        if (code != MDB_SUCCESS && code != MDB_NOTFOUND) {
            return ms_memdb_status(code);
        }
        if (code == MDB_SUCCESS && in_branch(walker, &part)) {
            return settle(walker, part, value);
        }
        if (walker->depth == 0) {
            return MS_ENOENT;
        }
        if (leave(walker) != MS_OK) {
            return MS_ECORRUPT;
        }
    }
}

/* The first entry of the walker's depth at or behind a part of the key. */
static int seek_part(struct ms_memdb_walker *walker, MDB_val *part)
{
    MDB_val value;
    int code = mdb_cursor_get(walker->at, part, &value, MDB_SET_RANGE);

    if (code != MDB_SUCCESS && code != MDB_NOTFOUND) {
        return ms_memdb_status(code);
    }
    if (code == MDB_SUCCESS && in_branch(walker, part)) {
        return settle(walker, *part, value);
    }
    if (walker->depth == 0) {
        return MS_ENOENT;
    }
    /* Nothing left in this branch: what follows it. */
    return leave(walker) == MS_OK ? ms_memdb_walker_next(walker) : MS_ECORRUPT;
}

int ms_memdb_walker_seek(struct ms_memdb_walker *walker, const uint8_t *key, size_t key_bytes,
                         bool after)
{
    static const uint8_t first[1] = {0};
    uint8_t scratch[MS_MEMDB_LMDB_KEY_MAX];
    MDB_val part;
    int rc;

    assert(key_bytes <= MS_KEY_BYTES_MAX);
    walker->depth = 0;
    walker->at = walker->cursors->index;
    if (key_bytes == 0) {
        /* No key is empty, so the smallest is this one. */
        part = (MDB_val){sizeof(first), (void *)(uintptr_t)first};
        return seek_part(walker, &part);
    }
    /* Down along the branches of the key itself, as far as they exist. */
    while (ms_memdb_part(key, key_bytes, walker->depth, walker->branch[walker->depth], scratch,
                         &part)) {
        MDB_val probe = part;
        MDB_val value;
        int code = mdb_cursor_get(walker->at, &probe, &value, MDB_SET);

        if (code == MDB_NOTFOUND) {
            return seek_part(walker, &part);
        }
        if (code != MDB_SUCCESS) {
            return ms_memdb_status(code);
        }
        memcpy(walker->key, key, part_offset(walker->depth + 1));
        if (enter(walker, &value) != MS_OK) {
            return MS_ECORRUPT;
        }
    }
    rc = seek_part(walker, &part);
    if (rc == MS_OK && after && walker->key_bytes == key_bytes &&
        memcmp(walker->key, key, key_bytes) == 0) {
        rc = ms_memdb_walker_next(walker);
    }
    return rc;
}

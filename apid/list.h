/*
 * list: a listing of keys as JSON.
 *
 *   [{"key":"/a","value":"dmFsdWU=","create_revision":2,"mod_revision":3,"version":2},...]
 *
 * The value is base64. A key that is not valid UTF-8 cannot be a JSON string: it comes as
 * "key_base64" instead of "key".
 */
#ifndef METASTORE_APID_LIST_H
#define METASTORE_APID_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/memdb.h"

/* A listing is cut before it gets longer than this, unless its first entry alone is. */
#define LIST_BYTES_MAX ((size_t)4 << 20)

struct list {
    char *text; /* owned */
    size_t len_bytes;
    size_t room_bytes;
    uint32_t count;
    uint32_t limit;
    bool more;   /* cut: there was at least one key more */
    bool failed; /* out of memory */
};

/* Starts a listing of at most limit keys (at least 1). */
void list_init(struct list *list, uint32_t limit);
void list_fini(struct list *list);

/* Adds one key, as a visitor for ms_memdb_walk: ctx is the list. False: full, or out of memory. */
bool list_visit(void *ctx, const struct ms_memdb_kv *kv);

/* Closes the array. MS_ENOMEM if that or any entry found no memory: text is then of no use. */
int list_finish(struct list *list);

#endif

/*
 * rocks_library: loading, and errors.
 *
 * The library is loaded when the first database is opened: linked with the program, it would cost
 * every start of every worker the time to bind it, more than all the rest of such a start.
 */
#include "storaged/rocks_library.h"

#include <dlfcn.h>
#include <string.h>

int rocks_library_load(struct rocks_library *out, struct ms_err *err)
{
    static const char *const names[] = {
#define LIBRARY_NAME(name) "rocksdb_" #name,
        ROCKS_LIBRARY_CALLS(LIBRARY_NAME)
#undef LIBRARY_NAME
    };
    /* It has threads and must stay. */
    void *handle = dlopen(MS_ROCKSDB_LIBRARY, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
    void *calls[sizeof(names) / sizeof(names[0])];

    _Static_assert(sizeof(calls) == sizeof(*out), "one pointer for each call");
    if (handle == NULL) {
        return ms_err_set(err, MS_EUNAVAILABLE, 0, "RocksDB: %s", dlerror());
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        calls[i] = dlsym(handle, names[i]);
        if (calls[i] == NULL) {
            (void)dlclose(handle);
            return ms_err_set(err, MS_EUNAVAILABLE, 0, "RocksDB: %s has no %s", MS_ROCKSDB_LIBRARY,
                              names[i]);
        }
    }
    (void)dlclose(handle); /* it is not unloaded by that */
    memcpy(out, calls, sizeof(*out));
    return MS_OK;
}

/* The library tells kinds of errors apart only in its texts. */
static int status_of(const char *text)
{
    if (strstr(text, "No space left") != NULL) {
        return MS_ENOSPC;
    }
    if (strstr(text, "does not exist (create_if_missing is false)") != NULL) {
        return MS_ENOENT;
    }
    if (strncmp(text, "IO error: While lock file", strlen("IO error: While lock file")) == 0 ||
        strncmp(text, "IO error: lock ", strlen("IO error: lock ")) == 0) {
        return MS_EBUSY;
    }
    if (strncmp(text, "Corruption", strlen("Corruption")) == 0) {
        return MS_ECORRUPT;
    }
    return strncmp(text, "Invalid argument", strlen("Invalid argument")) == 0 ? MS_EINVAL : MS_EIO;
}

int rocks_library_result(const struct rocks *db, const char *what, char *text, struct ms_err *err)
{
    int rc;

    if (text == NULL) {
        return MS_OK;
    }
    rc = ms_err_set(err, status_of(text), 0, "%s: %s: %s", db->directory, what, text);
    db->lib.free(text);
    return rc;
}

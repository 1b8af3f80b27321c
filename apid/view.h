/*
 * view: this process's look at the memory engine. Opens it, reads from it, lets go of it.
 *
 * A read copies what it found into an answer before the transaction ends: no pointer into the map
 * survives a call.
 */
#ifndef METASTORE_APID_VIEW_H
#define METASTORE_APID_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "apid/answer.h"
#include "apid/request.h"
#include "common/err.h"
#include "common/memdb.h"
#include "common/types.h"

struct view {
    struct ms_memdb *db; /* NULL: closed */
    struct ms_memdb_read *read;
    uint64_t epoch; /* of the open file */
};

/*
 * Opens the engine's file below directory, unless it is the one that is open (same epoch). Errors
 * as of ms_memdb_open; the view is then closed.
 */
int view_open(struct view *view, const char *directory, uint64_t epoch, struct ms_err *err);

/* Safe on a zeroed or closed view. */
void view_close(struct view *view);
bool view_is_open(const struct view *view);

/* Where the store stands. MS_EUNAVAILABLE: closed; MS_EBUSY, MS_ECORRUPT as of ms_memdb. */
int view_applied(struct view *view, raft_index *out);

/*
 * Reads what the request (GET or LIST) wants and hands the answer to deliver while the transaction
 * is still open, so that nothing is copied twice. deliver is called exactly once when MS_OK, and
 * not at all otherwise: MS_EUNAVAILABLE, MS_EBUSY, MS_ENOMEM; MS_ECORRUPT: the file must not be
 * used any more.
 */
int view_serve(struct view *view, const struct api_request *request,
               void (*deliver)(void *ctx, const struct answer *answer), void *ctx);

#endif

/*
 * view: see view.h.
 */
#include "apid/view.h"

#include "apid/list.h"

int view_open(struct view *view, const char *directory, uint64_t epoch, struct ms_err *err)
{
    int rc;

    if (view_is_open(view) && view->epoch == epoch) {
        return MS_OK;
    }
    view_close(view); /* first: LMDB allows one environment per process and file */
    rc = ms_memdb_open(directory, &view->db, err);
    if (rc != MS_OK) {
        view->db = NULL;
        return rc;
    }
    rc = ms_memdb_read_create(view->db, &view->read, err);
    if (rc != MS_OK) {
        ms_memdb_close(view->db);
        view->db = NULL;
        return rc;
    }
    view->epoch = epoch;
    return MS_OK;
}

void view_close(struct view *view)
{
    if (view->db != NULL) {
        ms_memdb_read_destroy(view->read);
        ms_memdb_close(view->db);
        view->read = NULL;
        view->db = NULL;
    }
}

bool view_is_open(const struct view *view)
{
    return view->db != NULL;
}

int view_applied(struct view *view, raft_index *out)
{
    struct ms_memdb_meta meta;
    int rc;

    if (!view_is_open(view)) {
        return MS_EUNAVAILABLE;
    }
    rc = ms_memdb_read_begin(view->read);
    if (rc != MS_OK) {
        return rc;
    }
    rc = ms_memdb_read_meta(view->read, &meta);
    ms_memdb_read_end(view->read);
    if (rc == MS_OK) {
        *out = meta.applied;
    }
    return rc;
}

/* What the conditions of a GET make of the version that was found (RFC 9110 13.2.2). */
static struct answer answer_for(const struct api_request *request, const struct ms_memdb_kv *kv)
{
    if (request->condition == MS_CONDITION_MOD_REVISION && kv->mod_revision != request->revision) {
        return answer_error(API_ERROR_CONDITION_FAILED);
    }
    if (request->unless_any || request->unless_revision == kv->mod_revision) {
        return (struct answer){.status = 304, .type = ANSWER_EMPTY, .revision = kv->mod_revision};
    }
    return (struct answer){.status = 200,
                           .type = ANSWER_OCTETS,
                           .body = kv->value,
                           .body_bytes = kv->value_bytes,
                           .revision = kv->mod_revision};
}

static int serve_get(struct view *view, const struct api_request *request,
                     void (*deliver)(void *ctx, const struct answer *answer), void *ctx)
{
    struct ms_memdb_kv kv;
    struct answer answer;
    int rc = ms_memdb_get(view->read, request->key, request->key_bytes, 0, &kv);

    if (rc == MS_OK) {
        answer = answer_for(request, &kv);
    } else if (rc == MS_ENOENT) {
        answer = answer_error(request->condition == MS_CONDITION_NONE ? API_ERROR_NO_KEY
                                                                      : API_ERROR_CONDITION_FAILED);
    } else {
        return rc;
    }
    deliver(ctx, &answer);
    return MS_OK;
}

static int serve_list(struct view *view, const struct api_request *request,
                      void (*deliver)(void *ctx, const struct answer *answer), void *ctx)
{
    const struct ms_memdb_range range = {
        .from = request->after,
        .from_bytes = request->after_bytes,
        .after = request->after != NULL,
        .prefix = request->key,
        .prefix_bytes = request->key_bytes,
    };
    struct list list;
    int rc;

    list_init(&list, request->limit);
    rc = ms_memdb_walk(view->read, &range, list_visit, &list);
    if (rc == MS_OK) {
        rc = list_finish(&list);
    }
    if (rc == MS_OK) {
        deliver(ctx, &(struct answer){.status = 200,
                                      .type = ANSWER_JSON,
                                      .body = list.text,
                                      .body_bytes = list.len_bytes,
                                      .more = list.more});
    }
    list_fini(&list);
    return rc;
}

int view_serve(struct view *view, const struct api_request *request,
               void (*deliver)(void *ctx, const struct answer *answer), void *ctx)
{
    int rc;

    if (!view_is_open(view)) {
        return MS_EUNAVAILABLE;
    }
    rc = ms_memdb_read_begin(view->read);
    if (rc != MS_OK) {
        return rc;
    }
    rc = request->kind == API_LIST ? serve_list(view, request, deliver, ctx)
                                   : serve_get(view, request, deliver, ctx);
    ms_memdb_read_end(view->read);
    return rc;
}

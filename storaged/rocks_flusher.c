/*
 * rocks_flusher: one flag, one thread.
 */
#include "storaged/rocks_flusher.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "storaged/work_thread.h"

struct rocks_flusher {
    struct rocks *db;
    size_t marker;
    pthread_t thread;
    pthread_mutex_t lock; /* over the flags */
    pthread_cond_t changed;
    bool wanted;
    bool stop;
};

static void *flush_on_demand(void *ctx)
{
    struct rocks_flusher *flusher = ctx;

    (void)pthread_mutex_lock(&flusher->lock);
    while (!flusher->stop) {
        if (!flusher->wanted) {
            (void)pthread_cond_wait(&flusher->changed, &flusher->lock);
            continue;
        }
        flusher->wanted = false;
        (void)pthread_mutex_unlock(&flusher->lock);
        rocks_flush(flusher->db, flusher->marker);
        (void)pthread_mutex_lock(&flusher->lock);
    }
    (void)pthread_mutex_unlock(&flusher->lock);
    return NULL;
}

int rocks_flusher_create(struct rocks *db, size_t marker, struct rocks_flusher **out,
                         struct ms_err *err)
{
    struct rocks_flusher *flusher = calloc(1, sizeof(*flusher));
    int code;

    if (flusher == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a thread that flushes");
    }
    flusher->db = db;
    flusher->marker = marker;
    (void)pthread_mutex_init(&flusher->lock, NULL);
    (void)pthread_cond_init(&flusher->changed, NULL);
    code = work_thread_start(&flusher->thread, flush_on_demand, flusher);
    if (code != 0) {
        (void)pthread_cond_destroy(&flusher->changed);
        (void)pthread_mutex_destroy(&flusher->lock);
        free(flusher);
        return ms_err_set(err, MS_ENOMEM, code, "start a thread that flushes");
    }
    *out = flusher;
    return MS_OK;
}

void rocks_flusher_destroy(struct rocks_flusher *flusher)
{
    if (flusher == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&flusher->lock);
    flusher->stop = true;
    (void)pthread_cond_signal(&flusher->changed);
    (void)pthread_mutex_unlock(&flusher->lock);
    work_thread_join(flusher->thread);
    (void)pthread_cond_destroy(&flusher->changed);
    (void)pthread_mutex_destroy(&flusher->lock);
    free(flusher);
}

void rocks_flusher_ask(struct rocks_flusher *flusher)
{
    (void)pthread_mutex_lock(&flusher->lock);
    flusher->wanted = true;
    (void)pthread_cond_signal(&flusher->changed);
    (void)pthread_mutex_unlock(&flusher->lock);
}

/*
 * work_thread: threads for long work beside the one that answers.
 */
#ifndef METASTORE_STORAGED_WORK_THREAD_H
#define METASTORE_STORAGED_WORK_THREAD_H

#include <pthread.h>

/*
 * Starts one with lower priority than the others: what somebody waits for goes first when the
 * processors are busy. Signals to the process stay the owner's; a fault of the thread's own arrives
 * all the same. Returns an errno.
 */
int work_thread_start(pthread_t *out, void *(*run)(void *ctx), void *ctx);

/* Joins one that started. */
void work_thread_join(pthread_t thread);

#endif

/*
 * traffic: a client that asks one node without end, and remembers when it was answered.
 *
 * A writer puts one new key after the other, so that each acknowledged write can be looked for
 * later. A reader asks for the newest key that some writer got acknowledged before: where it is
 * not found, the answer was stale. Each runs in a thread of its own, one request at a time.
 */
#ifndef METASTORE_TESTS_SUPPORT_TRAFFIC_H
#define METASTORE_TESTS_SUPPORT_TRAFFIC_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/types.h"

enum {
    TRAFFIC_REQUESTS_MAX = 100000, /* then it falls silent */
    TRAFFIC_NAME_BYTES = 16
};

struct traffic_request {
    struct ms_instant sent;
    struct ms_instant answered;
    int status; /* 0: no answer */
};

/* Of a running one only what the functions tell is to be used. */
struct traffic {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct http_client *client;
    struct traffic *writer; /* whose keys are read; NULL: this is a writer */
    char name[TRAFFIC_NAME_BYTES];
    bool stopping;
    size_t count; /* of requests that came to an end */
    size_t acked; /* number of the newest acknowledged write, counted from 1; 0: none */
    size_t stale; /* answers of a reader */
    struct traffic_request *requests;
};

/* Starts a writer of the keys /traffic/NAME/... at the node with this URL. */
void traffic_start_writer(struct traffic *traffic, const char *url, const char *name);
/* Starts a reader of what writer, which has to outlive it, gets acknowledged. */
void traffic_start_reader(struct traffic *traffic, const char *url, struct traffic *writer);

/* Ends it after the request that is under way. Its records stay until traffic_fini. */
void traffic_stop(struct traffic *traffic);
void traffic_fini(struct traffic *traffic);

/*
 * Waits until a request sent at since or later is done (204 or 200). Returns how many milliseconds
 * after since that was, or -1 at the deadline.
 */
int traffic_wait_done(struct traffic *traffic, struct ms_instant since, unsigned timeout_ms);

/* How many requests, sent at from or later and answered before to, were done. */
size_t traffic_count_done(struct traffic *traffic, struct ms_instant from, struct ms_instant to);
/* How many requests, sent at from or later and answered before to, were not. */
size_t traffic_count_refused(struct traffic *traffic, struct ms_instant from, struct ms_instant to);
/* The longest time in milliseconds between from and to in which nothing was done. */
uint64_t traffic_longest_gap_ms(struct traffic *traffic, struct ms_instant from,
                                struct ms_instant to);
/* How many answers of a reader were older than they may be. */
size_t traffic_count_stale(struct traffic *traffic);

/*
 * How many of a stopped writer's acknowledged writes are not in this state, which is all there is
 * below /traffic/ as cluster_state_read gives it.
 */
size_t traffic_count_lost(const struct traffic *traffic, const char *state);

#endif

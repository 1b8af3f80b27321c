/*
 * traffic: clients in threads. The lock guards the records; requests are made without it.
 */
#include "tests/support/traffic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "tests/support/check.h"
#include "tests/support/http.h"

enum {
    PATH_BYTES = 64,
    PAUSE_MS = 2,         /* leaves some of the machine to the nodes */
    REFUSED_PAUSE_MS = 10 /* a refused connection costs nothing: without it they would be all */
};

#define NS_PER_MS 1000000L
#define NS_PER_S  1000000000u

static void key_of(const struct traffic *writer, size_t number, char dst[PATH_BYTES])
{
    /* In the order of the numbers, which is then that of a listing. */
    (void)snprintf(dst, PATH_BYTES, "/traffic/%s/%08zu", writer->name, number);
}

static bool is_done(int status)
{
    return status == 200 || status == 204;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static size_t newest_of(struct traffic *writer)
{
    size_t acked;

    (void)pthread_mutex_lock(&writer->lock);
    acked = writer->acked;
    (void)pthread_mutex_unlock(&writer->lock);
    return acked;
}

/* Records a request; false: it was the last. */
static bool record(struct traffic *traffic, const struct traffic_request *request)
{
    bool more;

    (void)pthread_mutex_lock(&traffic->lock);
    traffic->requests[traffic->count++] = *request;
    if (traffic->writer == NULL && is_done(request->status)) {
        traffic->acked = traffic->count;
    }
    if (traffic->writer != NULL && request->status == 404) {
        traffic->stale++;
    }
    more = !traffic->stopping && traffic->count < TRAFFIC_REQUESTS_MAX;
    (void)pthread_cond_broadcast(&traffic->news);
    (void)pthread_mutex_unlock(&traffic->lock);
    return more;
}

static void *run(void *ctx)
{
    struct traffic *traffic = ctx;
    struct http_response answer = {0};
    bool more = true;

    while (more) {
        struct traffic_request request = {.sent = ms_clock_now()};
        struct timespec pause = {0};
        char path[PATH_BYTES];

        if (traffic->writer == NULL) {
            key_of(traffic, traffic->count + 1, path);
            request.status = http_put(traffic->client, path, "v", &answer);
        } else {
            key_of(traffic->writer, newest_of(traffic->writer), path);
            request.status = http_get(traffic->client, path, &answer);
        }
        request.answered = ms_clock_now();
        more = record(traffic, &request);
        pause.tv_nsec = (is_done(request.status) ? PAUSE_MS : REFUSED_PAUSE_MS) * NS_PER_MS;
        (void)nanosleep(&pause, NULL);
    }
    http_response_fini(&answer);
    return NULL;
}

/* ---- start and stop -------------------------------------------------------------------------- */

static void start(struct traffic *traffic, const char *url)
{
    (void)pthread_mutex_init(&traffic->lock, NULL);
    (void)pthread_cond_init(&traffic->news, NULL);
    traffic->client = http_client_create(url);
    traffic->requests = calloc(TRAFFIC_REQUESTS_MAX, sizeof(*traffic->requests));
    check_that(traffic->requests != NULL, "no memory for traffic");
    check_that(pthread_create(&traffic->thread, NULL, run, traffic) == 0, "start a thread");
}

void traffic_start_writer(struct traffic *traffic, const char *url, const char *name)
{
    memset(traffic, 0, sizeof(*traffic));
    (void)snprintf(traffic->name, sizeof(traffic->name), "%s", name);
    start(traffic, url);
}

void traffic_start_reader(struct traffic *traffic, const char *url, struct traffic *writer)
{
    memset(traffic, 0, sizeof(*traffic));
    check_that(newest_of(writer) > 0, "nothing has been written yet that could be read");
    traffic->writer = writer;
    start(traffic, url);
}

void traffic_stop(struct traffic *traffic)
{
    (void)pthread_mutex_lock(&traffic->lock);
    traffic->stopping = true;
    (void)pthread_mutex_unlock(&traffic->lock);
    (void)pthread_join(traffic->thread, NULL);
}

void traffic_fini(struct traffic *traffic)
{
    http_client_destroy(traffic->client);
    free(traffic->requests);
    (void)pthread_cond_destroy(&traffic->news);
    (void)pthread_mutex_destroy(&traffic->lock);
    memset(traffic, 0, sizeof(*traffic));
}

/* ---- what became of the requests ------------------------------------------------------------- */

/* The first request at position from or behind it that was sent at since or later and is done. */
static const struct traffic_request *find_done(const struct traffic *traffic, size_t from,
                                               struct ms_instant since)
{
    for (size_t i = from; i < traffic->count; i++) {
        const struct traffic_request *request = &traffic->requests[i];

        if (request->sent.ns >= since.ns && is_done(request->status)) {
            return request;
        }
    }
    return NULL;
}

int traffic_wait_done(struct traffic *traffic, struct ms_instant since, unsigned timeout_ms)
{
    const struct ms_instant end = ms_clock_add_ms(ms_clock_now(), timeout_ms);
    const struct timespec deadline = {.tv_sec = (time_t)(end.ns / NS_PER_S),
                                      .tv_nsec = (long)(end.ns % NS_PER_S)};
    const struct traffic_request *found;
    size_t looked_at = 0;
    int after_ms = -1;
    int rc = 0;

    (void)pthread_mutex_lock(&traffic->lock);
    for (;;) {
        found = find_done(traffic, looked_at, since);
        looked_at = traffic->count;
        if (found != NULL || rc != 0) {
            break;
        }
        rc = pthread_cond_clockwait(&traffic->news, &traffic->lock, CLOCK_MONOTONIC, &deadline);
    }
    if (found != NULL) {
        after_ms = (int)ms_clock_elapsed_ms(since, found->answered);
    }
    (void)pthread_mutex_unlock(&traffic->lock);
    return after_ms;
}

static size_t count(struct traffic *traffic, struct ms_instant from, struct ms_instant to,
                    bool done)
{
    size_t found = 0;

    (void)pthread_mutex_lock(&traffic->lock);
    for (size_t i = 0; i < traffic->count; i++) {
        const struct traffic_request *request = &traffic->requests[i];

        found += request->sent.ns >= from.ns && request->answered.ns < to.ns &&
                 is_done(request->status) == done;
    }
    (void)pthread_mutex_unlock(&traffic->lock);
    return found;
}

size_t traffic_count_done(struct traffic *traffic, struct ms_instant from, struct ms_instant to)
{
    return count(traffic, from, to, true);
}

size_t traffic_count_refused(struct traffic *traffic, struct ms_instant from, struct ms_instant to)
{
    return count(traffic, from, to, false);
}

uint64_t traffic_longest_gap_ms(struct traffic *traffic, struct ms_instant from,
                                struct ms_instant to)
{
    struct ms_instant last = from;
    uint64_t longest_ns = 0;

    (void)pthread_mutex_lock(&traffic->lock);
    for (size_t i = 0; i <= traffic->count; i++) {
        const struct traffic_request *request = &traffic->requests[i];
        const bool at_end = i == traffic->count || request->answered.ns >= to.ns;
        const struct ms_instant now = at_end ? to : request->answered;

        if (!at_end && (now.ns < from.ns || !is_done(request->status))) {
            continue;
        }
        if (now.ns - last.ns > longest_ns) {
            longest_ns = now.ns - last.ns;
        }
        last = now;
        if (at_end) {
            break;
        }
    }
    (void)pthread_mutex_unlock(&traffic->lock);
    return longest_ns / (uint64_t)NS_PER_MS;
}

size_t traffic_count_stale(struct traffic *traffic)
{
    size_t stale;

    (void)pthread_mutex_lock(&traffic->lock);
    stale = traffic->stale;
    (void)pthread_mutex_unlock(&traffic->lock);
    return stale;
}

size_t traffic_count_lost(const struct traffic *traffic, const char *state)
{
    size_t lost = 0;

    for (size_t i = 0; i < traffic->count; i++) {
        char wanted[PATH_BYTES];
        const char *at;

        if (!is_done(traffic->requests[i].status)) {
            continue;
        }
        key_of(traffic, i + 1, wanted);
        at = strstr(state, wanted);
        if (at == NULL) {
            lost++;
        } else {
            state = at; /* both are in the same order */
        }
    }
    return lost;
}

/*
 * log_thread: group commit.
 */
#include "storaged/log_thread.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "storaged/log_intake.h"

struct orders {
    bool stop;
    bool drop_link;
    uint64_t drop_number;         /* of the last order to drop the link */
    struct log_thread_link *link; /* owned; NULL: none */
    bool has_mark;
    struct log_thread_mark mark;
};

struct log_thread {
    struct log_store *store;
    struct ms_metrics *metrics;
    pthread_t thread;
    int order_fd;
    int news_fd;
    pthread_mutex_t lock; /* of the two boxes */
    uint64_t drops;       /* orders to drop a link, so far; the owner's */
    struct orders orders;
    struct log_thread_news news;

    /* The thread's own. */
    struct ms_link link;
    bool draining; /* the far end is dead */
    struct orders pending;
    struct log_intake intake;
    size_t staged_bytes;
    uint64_t staged_seq;  /* of the last message staged whole */
    uint64_t durable_seq; /* of the last one that is durable */
    uint64_t answered_seq;
    bool full;
    bool said_full; /* on the present link */
    struct log_store_stats counted;
};

static void ring(int fd)
{
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof(one));

    assert(n == (ssize_t)sizeof(one) || errno == EAGAIN);
    (void)n;
}

static void hush(int fd)
{
    uint64_t count;

    (void)!read(fd, &count, sizeof(count)); /* EAGAIN: it was silent */
}

/* ---- boxes --------------------------------------------------------------------------------- */

static void free_link(struct log_thread_link *link)
{
    if (link != NULL) {
        ms_link_fini(&link->link);
        free(link);
    }
}

int log_thread_take_link(struct log_thread *thread, const struct log_thread_link *link)
{
    struct log_thread_link *copy = malloc(sizeof(*copy));
    struct log_thread_link *older;

    if (copy == NULL) {
        struct ms_link unused = link->link;

        ms_link_fini(&unused);
        return MS_ENOMEM;
    }
    *copy = *link;
    (void)pthread_mutex_lock(&thread->lock);
    older = thread->orders.link;
    thread->orders.link = copy;
    thread->orders.drop_link = true;
    (void)pthread_mutex_unlock(&thread->lock);
    free_link(older);
    ring(thread->order_fd);
    return MS_OK;
}

uint64_t log_thread_drop_link(struct log_thread *thread)
{
    struct log_thread_link *older;

    (void)pthread_mutex_lock(&thread->lock);
    older = thread->orders.link;
    thread->orders.link = NULL;
    thread->orders.drop_link = true;
    thread->orders.drop_number = ++thread->drops;
    (void)pthread_mutex_unlock(&thread->lock);
    free_link(older);
    ring(thread->order_fd);
    return thread->drops;
}

void log_thread_mark(struct log_thread *thread, const struct log_thread_mark *mark)
{
    (void)pthread_mutex_lock(&thread->lock);
    thread->orders.has_mark = true;
    thread->orders.mark = *mark;
    (void)pthread_mutex_unlock(&thread->lock);
    ring(thread->order_fd);
}

int log_thread_fd(const struct log_thread *thread)
{
    return thread->news_fd;
}

void log_thread_collect(struct log_thread *thread, struct log_thread_news *out)
{
    hush(thread->news_fd);
    (void)pthread_mutex_lock(&thread->lock);
    *out = thread->news;
    memset(&thread->news, 0, sizeof(thread->news));
    (void)pthread_mutex_unlock(&thread->lock);
}

/* Moves orders into the thread's own hands. */
static void take_orders(struct log_thread *thread)
{
    struct orders *pending = &thread->pending;
    struct orders *orders = &thread->orders;
    struct log_thread_link *older = NULL;

    (void)pthread_mutex_lock(&thread->lock);
    pending->stop = pending->stop || orders->stop;
    if (orders->drop_link) {
        /* What waited to be taken up is replaced, or its far end is dead too. */
        older = pending->link;
        pending->link = orders->link;
        if (orders->drop_number != 0) {
            pending->drop_number = orders->drop_number;
        }
        thread->draining = true;
    }
    if (orders->has_mark) {
        pending->has_mark = true;
        pending->mark = orders->mark;
    }
    memset(orders, 0, sizeof(*orders));
    (void)pthread_mutex_unlock(&thread->lock);
    free_link(older);
}

static void tell_failure(struct log_thread *thread, const struct ms_err *err)
{
    (void)pthread_mutex_lock(&thread->lock);
    thread->news.failed = true;
    thread->news.failure = *err;
    (void)pthread_mutex_unlock(&thread->lock);
    ring(thread->news_fd);
}

/* ---- the link ------------------------------------------------------------------------------ */

static void close_link(struct log_thread *thread)
{
    ms_link_fini(&thread->link);
    ms_link_init_closed(&thread->link);
    thread->draining = false;
    thread->intake.busy = false;
}

/* raftd sent what it must not: the link is of no more use. What is staged stays staged. */
static void refuse_peer(struct log_thread *thread, const char *fault)
{
    (void)pthread_mutex_lock(&thread->lock);
    thread->news.peer_corrupt = true;
    thread->news.peer = thread->link.info;
    thread->news.peer_fault = fault;
    (void)pthread_mutex_unlock(&thread->lock);
    ring(thread->news_fd);
    close_link(thread);
}

/* The first words on a new link. */
static void greet(struct log_thread *thread, const struct log_thread_link *new_link)
{
    struct log_state state;
    struct ms_log_state message;
    void *body;
    void *tail;

    thread->link = new_link->link;
    thread->staged_seq = 0;
    thread->durable_seq = 0;
    thread->answered_seq = 0;
    thread->said_full = false;
    log_store_state(thread->store, &state);
    message = (struct ms_log_state){
        .hard_state = state.hard_state,
        .first_index = state.first_index,
        .last_index = state.last_index,
        .last_term = state.last_term,
        .snapshot_index = state.snapshot_index,
        .snapshot_term = state.snapshot_term,
    };
    /* The ring is new and empty: there is room unless the far end has broken it already. */
    if (ms_link_begin(&thread->link, MS_IPC_LOG_STATE, new_link->conf_bytes, &body, &tail) !=
        MS_OK) {
        refuse_peer(thread, "no room in a new ring");
        return;
    }
    memcpy(body, &message, sizeof(message));
    memcpy(tail, new_link->conf, new_link->conf_bytes);
    ms_link_commit(&thread->link);
}

static void tell_dropped(struct log_thread *thread)
{
    if (thread->pending.drop_number == 0) {
        return;
    }
    (void)pthread_mutex_lock(&thread->lock);
    thread->news.dropped = thread->pending.drop_number;
    (void)pthread_mutex_unlock(&thread->lock);
    thread->pending.drop_number = 0;
    ring(thread->news_fd);
}

/* Changes links once the old one is empty and all it brought is durable. True if it did. */
static bool change_link(struct log_thread *thread)
{
    if (thread->draining && !thread->intake.busy && thread->staged_bytes == 0) {
        close_link(thread);
        tell_dropped(thread);
    }
    if (thread->pending.link == NULL || ms_link_is_open(&thread->link)) {
        return false;
    }
    greet(thread, thread->pending.link);
    free(thread->pending.link); /* its content is in use now */
    thread->pending.link = NULL;
    return true;
}

/* Says what has become durable, and whether the disk is full. MS_EAGAIN: no room in the ring. */
static int answer(struct log_thread *thread)
{
    struct ms_log_space space = {.full = thread->full ? 1 : 0};
    struct log_state state;
    struct ms_log_durable durable;
    int rc = MS_OK;

    if (!ms_link_is_open(&thread->link) || thread->draining) {
        return MS_OK;
    }
    if (thread->durable_seq > thread->answered_seq) {
        log_store_state(thread->store, &state);
        durable = (struct ms_log_durable){.seq = thread->durable_seq,
                                          .last_index = state.last_index,
                                          .last_term = state.last_term};
        rc = ms_link_send(&thread->link, MS_IPC_LOG_DURABLE, &durable);
        if (rc == MS_OK) {
            thread->answered_seq = thread->durable_seq;
        }
    }
    if (rc == MS_OK && thread->full != thread->said_full) {
        rc = ms_link_send(&thread->link, MS_IPC_LOG_SPACE, &space);
        if (rc == MS_OK) {
            thread->said_full = thread->full;
        }
    }
    if (rc != MS_OK && rc != MS_EAGAIN) {
        refuse_peer(thread, "broken ring");
        rc = MS_OK;
    }
    return rc;
}

/* ---- taking in ----------------------------------------------------------------------------- */

/*
 * Stages what waits in the link, up to a batch. MS_EAGAIN: nothing waits any more; MS_OK: a sync is
 * due first; MS_EBUSY: what waits needs room on disk that is not there. A fault of the far end
 * drops the link and is MS_EAGAIN, too.
 */
static int gather(struct log_thread *thread, struct ms_err *err)
{
    struct log_intake *intake = &thread->intake;

    while (thread->staged_bytes < LOG_THREAD_BATCH_BYTES) {
        uint64_t seq = 0;
        int rc;

        if (!intake->busy) {
            rc = ms_link_receive(&thread->link, &intake->message);
            if (rc == MS_EAGAIN || rc == MS_EPEER) {
                return MS_EAGAIN;
            }
            if (rc == MS_OK) {
                log_intake_begin(intake, &seq);
            }
            if (rc != MS_OK || seq != thread->staged_seq + 1) {
                refuse_peer(thread, "malformed message on the log link");
                return MS_EAGAIN;
            }
        }
        rc = log_intake_stage(intake, thread->store, err);
        if (rc == MS_EAGAIN) {
            thread->staged_bytes += LOG_THREAD_BATCH_BYTES; /* the store is full up to a sync */
            return MS_OK;
        }
        if (rc == MS_EPROTO || rc == MS_EINVAL || rc == MS_ERANGE) {
            refuse_peer(thread, "impossible entries on the log link");
            return MS_EAGAIN;
        }
        if (rc != MS_OK) {
            return rc;
        }
        thread->staged_bytes += sizeof(intake->message.body) + intake->message.tail_bytes;
        thread->staged_seq++;
        ms_link_release(&thread->link);
    }
    return MS_OK;
}

/* ---- writing ------------------------------------------------------------------------------- */

static void count(struct log_thread *thread)
{
    struct log_store_stats stats;
    struct log_state state;

    if (thread->metrics == NULL) {
        return;
    }
    log_store_stats(thread->store, &stats);
    log_store_state(thread->store, &state);
    ms_metrics_add(thread->metrics, MS_METRIC_WAL_BYTES,
                   stats.written_bytes - thread->counted.written_bytes);
    ms_metrics_add(thread->metrics, MS_METRIC_WAL_SYNCS, stats.syncs - thread->counted.syncs);
    ms_metrics_add(thread->metrics, MS_METRIC_WAL_ENTRIES, stats.entries - thread->counted.entries);
    ms_metrics_set(thread->metrics, MS_METRIC_LOG_FIRST_INDEX, state.first_index);
    ms_metrics_set(thread->metrics, MS_METRIC_LOG_LAST_INDEX, state.last_index);
    thread->counted = stats;
}

/* Makes durable what is staged. MS_EAGAIN: the disk has no room now. */
static int write_staged(struct log_thread *thread, struct ms_err *err)
{
    struct ms_instant begin = ms_clock_now();
    int rc;

    if (thread->staged_bytes == 0) {
        return MS_OK;
    }
    rc = log_store_sync(thread->store, err);
    if (rc == MS_OK) {
        thread->staged_bytes = 0;
        thread->durable_seq = thread->staged_seq;
        if (thread->metrics != NULL) {
            ms_metrics_observe(thread->metrics, MS_HISTOGRAM_WAL_SYNC,
                               ms_clock_elapsed_ns(begin, ms_clock_now()));
        }
        count(thread);
    }
    return rc;
}

/* Carries out an order to mark. MS_EAGAIN: not now. */
static int write_mark(struct log_thread *thread, struct ms_err *err)
{
    const struct log_thread_mark *mark = &thread->pending.mark;
    struct log_state state;
    int rc;

    if (!thread->pending.has_mark) {
        return MS_OK;
    }
    log_store_state(thread->store, &state);
    if (mark->snapshot_index < state.snapshot_index) {
        thread->pending.has_mark = false; /* the log has got another beginning meanwhile */
        return MS_OK;
    }
    rc = log_store_set_snapshot(thread->store, mark->snapshot_index, mark->snapshot_term, err);
    if (rc == MS_OK && mark->compact_index > 0) {
        rc = log_store_compact(thread->store, mark->compact_index, err);
    }
    if (rc == MS_EAGAIN) {
        return rc;
    }
    thread->pending.has_mark = false;
    if (rc != MS_OK) {
        return rc;
    }
    count(thread);
    (void)pthread_mutex_lock(&thread->lock);
    thread->news.marked = true;
    (void)pthread_mutex_unlock(&thread->lock);
    ring(thread->news_fd);
    return MS_OK;
}

static void watch_space(struct log_thread *thread)
{
    struct ms_err why = {.status = MS_OK};
    bool full = log_store_is_full(thread->store, &why);

    if (full == thread->full) {
        return;
    }
    thread->full = full;
    if (thread->metrics != NULL) {
        ms_metrics_set(thread->metrics, MS_METRIC_WAL_FULL, full ? 1 : 0);
    }
    (void)pthread_mutex_lock(&thread->lock);
    thread->news.space_changed = true;
    thread->news.full = full;
    thread->news.full_why = why;
    (void)pthread_mutex_unlock(&thread->lock);
    ring(thread->news_fd);
}

/* ---- the loop ------------------------------------------------------------------------------ */

/* Waits for orders, for room on disk, and, if listen, for the far end. */
static void sleep_until_something(struct log_thread *thread, bool listen)
{
    struct pollfd wait[3] = {
        {.fd = thread->order_fd, .events = POLLIN},
        {.fd = log_store_event_fd(thread->store), .events = POLLIN},
        {.fd = listen ? thread->link.doorbell_fd : -1, .events = POLLIN},
    };

    (void)poll(wait, 3, -1); /* an interrupted wait is a wake-up for nothing */
    if (wait[0].revents != 0) {
        hush(thread->order_fd);
    }
    if (wait[1].revents != 0) {
        log_store_service(thread->store);
    }
    if (wait[2].revents != 0) {
        ms_link_clear_doorbell(&thread->link);
    }
}

/* One round. MS_OK: done for now; *blocked: the disk has no room. Errors end the thread. */
static int round_once(struct log_thread *thread, bool *idle, bool *blocked, struct ms_err *err)
{
    int gathered = MS_EAGAIN;
    int rc;

    *blocked = false;
    take_orders(thread);
    rc = write_mark(thread, err);
    if (rc == MS_EAGAIN) {
        *blocked = true;
    } else if (rc != MS_OK) {
        return rc;
    }
    rc = answer(thread);
    if (rc == MS_OK) {
        gathered = gather(thread, err);
        if (gathered == MS_EBUSY) {
            *blocked = true;
        } else if (gathered != MS_OK && gathered != MS_EAGAIN) {
            return gathered;
        }
    }
    rc = write_staged(thread, err);
    if (rc == MS_EAGAIN) {
        *blocked = true;
    } else if (rc != MS_OK) {
        return rc;
    }
    watch_space(thread);
    rc = answer(thread);
    *idle = rc == MS_EAGAIN || *blocked || gathered == MS_EAGAIN;
    if (*idle && !*blocked && gathered == MS_EAGAIN && change_link(thread)) {
        *idle = false;
    }
    ms_link_flush(&thread->link);
    return MS_OK;
}

static void *run(void *arg)
{
    struct log_thread *thread = arg;
    struct ms_err err = {.status = MS_OK};

    for (;;) {
        bool idle = false;
        bool blocked = false;
        int rc = round_once(thread, &idle, &blocked, &err);

        if (rc != MS_OK) {
            err.status = rc;
            tell_failure(thread, &err);
            return NULL;
        }
        if (!idle) {
            continue;
        }
        if (thread->pending.stop) {
            return NULL;
        }
        if (blocked) {
            sleep_until_something(thread, false);
        } else if (thread->durable_seq > thread->answered_seq ||
                   thread->full != thread->said_full || ms_link_prepare_sleep(&thread->link)) {
            /* With an answer that found no room, its doorbell is the one for room. */
            sleep_until_something(thread, true);
        }
    }
}

int log_thread_start(const struct log_thread_options *options, struct log_thread **out,
                     struct ms_err *err)
{
    struct log_thread *thread = calloc(1, sizeof(*thread));
    int failed;
    int rc = MS_OK;

    if (thread == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for the log thread");
    }
    thread->store = options->store;
    thread->metrics = options->metrics;
    thread->intake.claim = options->claim;
    thread->intake.ctx = options->ctx;
    ms_link_init_closed(&thread->link);
    (void)pthread_mutex_init(&thread->lock, NULL);
    thread->order_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    thread->news_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (thread->order_fd < 0 || thread->news_fd < 0) {
        rc = ms_err_set(err, MS_EIO, errno, "eventfd of the log thread");
        goto out;
    }
    log_store_stats(thread->store, &thread->counted);
    failed = pthread_create(&thread->thread, NULL, run, thread);
    if (failed != 0) {
        rc = ms_err_set(err, MS_ENOMEM, failed, "start the log thread");
        goto out;
    }
    *out = thread;
    return MS_OK;

out:
    if (thread->order_fd >= 0) {
        (void)close(thread->order_fd);
    }
    if (thread->news_fd >= 0) {
        (void)close(thread->news_fd);
    }
    (void)pthread_mutex_destroy(&thread->lock);
    free(thread);
    return rc;
}

void log_thread_stop(struct log_thread *thread)
{
    if (thread == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&thread->lock);
    thread->orders.stop = true;
    (void)pthread_mutex_unlock(&thread->lock);
    ring(thread->order_fd);
    (void)pthread_join(thread->thread, NULL);
    free_link(thread->orders.link);
    free_link(thread->pending.link);
    ms_link_fini(&thread->link);
    (void)close(thread->order_fd);
    (void)close(thread->news_fd);
    (void)pthread_mutex_destroy(&thread->lock);
    free(thread);
}

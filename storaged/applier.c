/*
 * applier: batches.
 */
#include "storaged/applier.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "storaged/raft_requests.h"

struct applier {
    struct applier_options options;
    struct ms_link link;
    struct ms_link_info peer; /* whose link it is, or was last */
    bool greeted;
    bool draining; /* the far end is dead */
    bool blocked;  /* the last run ended APPLIER_BLOCKED */
    struct ms_memdb_meta meta;
    struct engine_stats stats;
    struct apply_counters counters;
    uint64_t bytes;
    raft_index durable; /* the log's last index when the message at hand was received */

    /* The message at hand; part of its entries may be in the batch already. */
    bool busy;
    struct ms_ipc_message message;
    struct ipc_entries entries;
    uint32_t left;
    raft_index next_index;

    struct apply_entry batch[APPLIER_BATCH_ENTRIES];
    size_t batch_count;
    uint8_t *data; /* what the batch's entries point to */
    size_t data_bytes;
    size_t data_room;

    /* Answers that are due. */
    struct apply_result results[APPLIER_BATCH_ENTRIES];
    size_t result_count;
    size_t result_next;
    unsigned others; /* messages of other kinds that were handled since the batch was begun */
    bool done_due;
    bool done_waits; /* ... for all apids to know of the new state */
    bool compacted_due;
    bool loud;              /* raftd waits for something that was sent since the last flush */
    uint32_t quiet_entries; /* applied since then ... */
    size_t quiet_bytes;     /* ... and how long they were */
    struct ms_log_compacted compacted;

    bool replacing; /* APPLY_SNAPSHOT came; nothing is taken until the state is replaced */
    struct ms_apply_snapshot snapshot;
    struct raft_requests requests;
};

int applier_create(const struct applier_options *options, struct applier **out, struct ms_err *err)
{
    struct applier *applier = calloc(1, sizeof(*applier));

    if (applier == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for the applier");
    }
    applier->data = malloc(APPLIER_BATCH_BYTES);
    if (applier->data == NULL) {
        free(applier);
        return ms_err_set(err, MS_ENOMEM, 0, "memory for a batch");
    }
    applier->data_room = APPLIER_BATCH_BYTES;
    applier->options = *options;
    log_reads_init(&applier->requests.reads, options->store);
    applier->requests.out = options->out;
    applier->requests.in = options->in;
    ms_link_init_closed(&applier->link);
    engine_meta(options->engine, &applier->meta);
    *out = applier;
    return MS_OK;
}

static void close_link(struct applier *applier)
{
    ms_link_unwatch(&applier->link, applier->options.epoll_fd);
    ms_link_fini(&applier->link);
    ms_link_init_closed(&applier->link);
    applier->busy = false;
    applier->draining = false;
    applier->done_due = false;
    applier->compacted_due = false;
    applier->replacing = false;
    raft_requests_reset(&applier->requests);
}

void applier_destroy(struct applier *applier)
{
    if (applier != NULL) {
        close_link(applier);
        log_reads_fini(&applier->requests.reads);
        free(applier->data);
        free(applier);
    }
}

int applier_take_link(struct applier *applier, const struct ms_link *link, struct ms_err *err)
{
    int rc;

    assert(!ms_link_is_open(&applier->link));
    applier->link = *link;
    applier->peer = link->info;
    applier->greeted = false;
    rc = ms_link_watch(&applier->link, applier->options.epoll_fd, err);
    if (rc != MS_OK) {
        close_link(applier);
    }
    return rc;
}

void applier_drain(struct applier *applier)
{
    applier->draining = ms_link_is_open(&applier->link);
}

bool applier_is_open(const struct applier *applier)
{
    return ms_link_is_open(&applier->link);
}

const struct ms_link_info *applier_peer(const struct applier *applier)
{
    return &applier->peer;
}

const struct ms_memdb_meta *applier_meta(const struct applier *applier)
{
    return &applier->meta;
}

uint64_t applier_bytes(const struct applier *applier)
{
    return applier->bytes;
}

void applier_tell_compacted(struct applier *applier, const struct ms_log_compacted *compacted)
{
    applier->compacted_due = ms_link_is_open(&applier->link);
    applier->compacted = *compacted;
}

bool applier_suggest(struct applier *applier, const uint8_t *command, size_t len_bytes)
{
    void *body;
    void *tail;

    if (applier->draining || !applier->greeted ||
        ms_link_begin(&applier->link, MS_IPC_SUGGEST, len_bytes, &body, &tail) != MS_OK) {
        return false;
    }
    memcpy(tail, command, len_bytes);
    applier->loud = true;
    ms_link_commit(&applier->link);
    return true;
}

/* ---- answers ------------------------------------------------------------------------------- */

/* Sends one message to raftd unless it is dead. */
static int tell(struct applier *applier, enum ms_ipc_type type, const void *body)
{
    applier->loud = applier->loud || type != MS_IPC_APPLY_DONE;
    return applier->draining ? MS_OK : ms_link_send(&applier->link, type, body);
}

/* Says to raftd what it has to know. MS_EAGAIN: no room. */
static int tell_raftd(struct applier *applier)
{
    const struct ms_memdb_meta *meta = &applier->meta;
    int rc = MS_OK;

    if (!ms_link_is_open(&applier->link)) {
        return MS_OK;
    }
    if (!applier->greeted) {
        const struct ms_apply_state state = {.applied = meta->applied,
                                             .applied_term = meta->applied_term,
                                             .revision = meta->revision};

        rc = tell(applier, MS_IPC_APPLY_STATE, &state);
        applier->greeted = rc == MS_OK;
    }
    applier->done_waits = applier->done_waits && !api_links_all_greeted(applier->options.api);
    if (rc == MS_OK && applier->done_due && !applier->done_waits) {
        const struct ms_apply_done done = {.applied = meta->applied, .revision = meta->revision};

        rc = tell(applier, MS_IPC_APPLY_DONE, &done);
        applier->done_due = rc != MS_OK;
    }
    if (rc == MS_OK && applier->compacted_due) {
        rc = tell(applier, MS_IPC_LOG_COMPACTED, &applier->compacted);
        applier->compacted_due = rc != MS_OK;
    }
    if (rc == MS_OK && !applier->draining && raft_requests_is_due(&applier->requests)) {
        applier->loud = true;
        rc = raft_requests_tell(&applier->requests, &applier->link);
    }
    return rc;
}

static int send_answers(struct applier *applier)
{
    while (applier->result_next < applier->result_count) {
        int rc = api_links_result(applier->options.api, &applier->results[applier->result_next]);

        if (rc != MS_OK) {
            return rc;
        }
        applier->result_next++;
    }
    return tell_raftd(applier);
}

/* ---- the batch ----------------------------------------------------------------------------- */

static void count_batch(struct applier *applier, uint64_t duration_ns)
{
    struct ms_metrics *metrics = applier->options.metrics;
    struct apply_counters counters;
    struct engine_stats stats;

    if (metrics == NULL) {
        return;
    }
    apply_counters(applier->options.apply, &counters);
    engine_stats(applier->options.engine, &stats);
    ms_metrics_observe(metrics, MS_HISTOGRAM_STORE_COMMIT, duration_ns);
    ms_metrics_add(metrics, MS_METRIC_STORE_COMMITS, stats.commits - applier->stats.commits);
    ms_metrics_add(metrics, MS_METRIC_STORE_DUPLICATES,
                   counters.duplicates - applier->counters.duplicates);
    applier->counters = counters;
    applier->stats = stats;
}

/* Applies the batch in one commit. */
static int apply_batch(struct applier *applier, struct ms_err *err)
{
    struct ms_instant begin = ms_clock_now();
    int rc;

    if (applier->batch_count == 0) {
        return MS_OK;
    }
    rc = apply_entries(applier->options.apply, applier->batch, applier->batch_count,
                       applier->results, &applier->result_count, err);
    applier->result_next = 0;
    if (rc == MS_ENOSPC) {
        /* Part of it may be applied, and is answered; the rest stays in the batch. */
        applier->done_due = ms_link_is_open(&applier->link);
        engine_meta(applier->options.engine, &applier->meta);
        return rc;
    }
    if (rc != MS_OK) {
        applier->result_count = 0;
        return rc;
    }
    applier->bytes += applier->data_bytes;
    applier->quiet_entries += (uint32_t)applier->batch_count;
    applier->quiet_bytes += applier->data_bytes;
    applier->batch_count = 0;
    applier->data_bytes = 0;
    applier->done_due = ms_link_is_open(&applier->link);
    engine_meta(applier->options.engine, &applier->meta);
    count_batch(applier, ms_clock_elapsed_ns(begin, ms_clock_now()));
    return MS_OK;
}

/* Room for an entry's data. MS_EFULL: apply what is there first. */
static int make_room(struct applier *applier, size_t len_bytes)
{
    uint8_t *grown;

    if (len_bytes <= applier->data_room - applier->data_bytes) {
        return MS_OK;
    }
    if (applier->batch_count > 0) {
        return MS_EFULL;
    }
    /* Bounded by what a ring message can be. */
    grown = realloc(applier->data, len_bytes);
    if (grown == NULL) {
        return MS_ENOMEM;
    }
    applier->data = grown;
    applier->data_room = len_bytes;
    return MS_OK;
}

/* Moves entries of the message at hand into the batch. MS_EFULL: the batch must be applied. */
static int take_entries(struct applier *applier)
{
    while (applier->left > 0) {
        struct ipc_entries before = applier->entries;
        struct log_entry entry;
        int rc;

        if (applier->batch_count == APPLIER_BATCH_ENTRIES) {
            return MS_EFULL;
        }
        if (ipc_entries_next(&applier->entries, &entry) != MS_OK ||
            entry.index != applier->next_index || entry.index > applier->durable) {
            return MS_EPROTO;
        }
        rc = make_room(applier, entry.data_bytes);
        if (rc != MS_OK) {
            applier->entries = before;
            return rc;
        }
        memcpy(applier->data + applier->data_bytes, entry.data, entry.data_bytes);
        applier->batch[applier->batch_count++] = (struct apply_entry){
            .index = entry.index,
            .term = entry.term,
            .type = entry.type,
            .data = applier->data + applier->data_bytes,
            .len_bytes = entry.data_bytes,
        };
        applier->data_bytes += entry.data_bytes;
        applier->next_index++;
        applier->left--;
    }
    return applier->entries.offset == applier->entries.tail_bytes ? MS_OK : MS_EPROTO;
}

/* ---- taking in ----------------------------------------------------------------------------- */

static void begin_message(struct applier *applier)
{
    const struct ms_ipc_message *message = &applier->message;

    applier->busy = true;
    applier->left = 0;
    applier->entries = (struct ipc_entries){0};
    if (message->type == MS_IPC_APPLY_ENTRIES) {
        const struct ms_apply_entries *entries = (const void *)message->body;
        struct log_state state;

        /* Only what the local disk has may be applied. */
        log_store_state(applier->options.store, &state);
        applier->durable = state.last_index;
        applier->left = entries->count;
        applier->next_index = entries->first_index;
        applier->entries =
            (struct ipc_entries){.tail = message->tail, .tail_bytes = message->tail_bytes};
    }
}

/*
 * Handles the message at hand. MS_EFULL: apply the batch and come again; MS_EAGAIN: come again when
 * there is room in the ring; MS_EBUSY: when the state is replaced.
 */
static int handle_message(struct applier *applier, struct ms_err *err)
{
    const struct ms_ipc_message *message = &applier->message;
    const void *body = message->body;

    switch (message->type) {
    case MS_IPC_APPLY_ENTRIES:
        return take_entries(applier);
    case MS_IPC_APPLY_CONF:
        applier->loud = true; /* the next change waits for this one */
        return apply_conf(applier->options.apply, ((const struct ms_apply_conf *)body)->index,
                          message->tail, message->tail_bytes, err);
    case MS_IPC_APPLY_SNAPSHOT:
        applier->loud = true;
        applier->replacing = true;
        memcpy(&applier->snapshot, body, sizeof(applier->snapshot));
        return MS_EBUSY;
    default:
        applier->others++;
        applier->loud = true;
        return applier->draining
                   ? MS_OK
                   : raft_requests_handle(&applier->requests, message, &applier->link, err);
    }
}

/* Takes in up to a batch. MS_OK: there may be more; MS_EAGAIN: nothing waits. */
static int gather(struct applier *applier, bool *ring_full, struct ms_err *err)
{
    applier->others = 0;
    while (applier->data_bytes < APPLIER_BATCH_BYTES && applier->others < APPLIER_OTHERS_MAX) {
        int rc;

        if (!applier->busy) {
            rc = ms_link_receive(&applier->link, &applier->message);
            if (rc == MS_EAGAIN || rc == MS_EPEER) {
                return MS_EAGAIN;
            }
            if (rc != MS_OK) {
                return ms_err_set(err, MS_EPROTO, 0, "malformed message on the apply link");
            }
            begin_message(applier);
        }
        rc = handle_message(applier, err);
        if (rc == MS_EFULL && applier->batch_count > 0) {
            return MS_OK;
        }
        if (rc == MS_EAGAIN || rc == MS_EBUSY) {
            *ring_full = rc == MS_EAGAIN;
            return MS_OK;
        }
        if (rc == MS_EPROTO || rc == MS_EFULL) {
            return ms_err_set(err, MS_EPROTO, 0, "impossible %s on the apply link",
                              ms_ipc_name(applier->message.type));
        }
        if (rc != MS_OK) {
            return rc;
        }
        applier->busy = false;
        ms_link_release(&applier->link);
    }
    return MS_OK;
}

/* Whose fault it is that a message could not be handled. */
static enum applier_status gather_failed(struct applier *applier, int rc)
{
    if (rc != MS_EPROTO && applier->busy &&
        (applier->message.type == MS_IPC_LOG_READ ||
         applier->message.type == MS_IPC_LOG_TERMS_READ)) {
        return APPLIER_LOG_FAILED;
    }
    if (rc == MS_EPROTO ||
        (rc == MS_ECORRUPT && applier->busy && applier->message.type == MS_IPC_APPLY_CONF)) {
        close_link(applier);
        return APPLIER_REFUSED;
    }
    return APPLIER_ENGINE_FAILED;
}

static enum applier_status ring_broke(struct applier *applier, struct ms_err *err)
{
    close_link(applier);
    (void)ms_err_set(err, MS_EPROTO, 0, "broken apply ring");
    return APPLIER_REFUSED;
}

static enum applier_status run(struct applier *applier, struct ms_err *err)
{
    bool ring_full = false;
    int gathered;
    int rc = send_answers(applier);

    if (rc == MS_EAGAIN) {
        return APPLIER_BLOCKED;
    }
    if (rc != MS_OK) {
        return ring_broke(applier, err);
    }
    if (applier->replacing) {
        return APPLIER_BLOCKED;
    }
    gathered = gather(applier, &ring_full, err);
    if (gathered != MS_OK && gathered != MS_EAGAIN) {
        return gather_failed(applier, gathered);
    }
    rc = apply_batch(applier, err);
    if (rc == MS_ENOSPC) {
        /* What cannot be sent now is sent first when the owner's tick tries the batch again. */
        (void)send_answers(applier);
        return APPLIER_BLOCKED;
    }
    if (rc == MS_EPROTO) {
        applier->batch_count = 0;
        applier->data_bytes = 0;
        close_link(applier);
        return APPLIER_REFUSED;
    }
    if (rc != MS_OK) {
        return APPLIER_ENGINE_FAILED;
    }
    rc = send_answers(applier);
    if (rc == MS_EAGAIN || ring_full) {
        return APPLIER_BLOCKED;
    }
    if (rc != MS_OK) {
        return ring_broke(applier, err);
    }
    if (applier->replacing) {
        return APPLIER_BLOCKED;
    }
    if (gathered == MS_OK) {
        return APPLIER_MORE;
    }
    if (applier->draining) {
        close_link(applier);
    }
    return APPLIER_IDLE;
}

bool applier_wants_snapshot(const struct applier *applier, struct ms_apply_snapshot *out)
{
    if (applier->replacing) {
        *out = applier->snapshot;
    }
    return applier->replacing;
}

void applier_switch(struct applier *applier, struct engine *engine, struct apply *apply)
{
    applier->options.engine = engine;
    applier->options.apply = apply;
    engine_meta(engine, &applier->meta);
    engine_stats(engine, &applier->stats);
    apply_counters(apply, &applier->counters);
    /* What waits to be applied, or answered, is part of the new state. */
    applier->batch_count = 0;
    applier->data_bytes = 0;
    applier->result_count = 0;
    applier->result_next = 0;
    if (!ms_link_is_open(&applier->link)) {
        return;
    }
    applier->done_due = true;
    applier->done_waits = true;
    if (applier->replacing) {
        applier->replacing = false;
        applier->busy = false;
        ms_link_release(&applier->link);
    }
}

void applier_refuse(struct applier *applier)
{
    close_link(applier);
}

enum applier_status applier_run(struct applier *applier, struct ms_err *err)
{
    enum applier_status status = run(applier, err);

    applier->blocked = status == APPLIER_BLOCKED;
    return status;
}

/*
 * Nobody waits for a plain APPLY_DONE: it only lets raftd forget entries, and raftd looks at the
 * ring whenever it is awake, at the latest with its next tick. Waking it for each would cost a
 * wake-up per write, taken from the answer that is on its way to apid at that very moment.
 */
void applier_flush(struct applier *applier)
{
    if (!applier->loud && applier->quiet_entries < APPLIER_QUIET_ENTRIES &&
        applier->quiet_bytes < APPLIER_QUIET_BYTES) {
        ms_link_flush_quietly(&applier->link);
        return;
    }
    ms_link_flush(&applier->link);
    applier->loud = false;
    applier->quiet_entries = 0;
    applier->quiet_bytes = 0;
}

bool applier_prepare_sleep(struct applier *applier)
{
    return applier->blocked || ms_link_prepare_sleep(&applier->link);
}

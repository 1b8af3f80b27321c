/*
 * fake_store: storaged as a raftd node sees it, over real links.
 *
 * Keeps a log, a state machine and snapshots as the real one would, so it can be killed and come
 * back, and checks what a storaged may rely on: records without gaps, nothing to apply that is not
 * durable, not published as committed, or whose configuration is not recorded. It moves only when
 * the test lets it.
 */
#ifndef METASTORE_TESTS_UNIT_RAFTD_FAKE_STORE_H
#define METASTORE_TESTS_UNIT_RAFTD_FAKE_STORE_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "common/link.h"
#include "common/status_page.h"
#include "raftd/entry_codec.h"

#define FIXTURE_ENTRIES_MAX 65536
#define FIXTURE_RING_BYTES  (256u * 1024u)

struct fake_entry {
    struct ms_ipc_entry header;
    uint8_t *data;
};

struct fake_conf {
    raft_index index; /* 0: none */
    size_t len_bytes;
    uint8_t bytes[1024];
};

#define FIXTURE_CONFS    256
#define FIXTURE_SESSIONS 16

/* A snapshot: which one, and how many bytes stand for the state. */
struct fake_snapshot {
    raft_index index; /* 0: none */
    raft_term term;
    uint64_t size_bytes;
    struct fake_conf conf;
};

#define FIXTURE_SNAPSHOT_BYTES 300000u

struct fake_store {
    const struct ms_status_page *page; /* borrowed; where the node publishes its commit index */
    struct ms_link log;
    struct ms_link apply;
    /* the disk */
    struct ms_hard_state hard;
    struct fake_entry entries[FIXTURE_ENTRIES_MAX]; /* [index] */
    raft_index compacted;                           /* entries up to here are gone */
    raft_index last;
    struct fake_conf recorded[FIXTURE_CONFS]; /* LOG_CONF, [index % FIXTURE_CONFS] */
    struct fake_snapshot snapshot;            /* the newest, of this node's own or recorded */
    struct fake_snapshot incoming;            /* being received */
    uint64_t incoming_transfer;
    uint64_t incoming_bytes;
    struct fake_snapshot sessions[FIXTURE_SESSIONS]; /* open ones, [session % FIXTURE_SESSIONS] */
    /* the state machine */
    raft_index applied;
    struct fake_conf conf; /* as of applied */
    bool slow_install;     /* APPLY_SNAPSHOT takes until the test calls store_install */
    struct fake_conf announced;
    /* of the present links */
    uint64_t received_seq;
    uint64_t appends; /* LOG_APPENDs received */
    unsigned opened;  /* SNAP_OPENs received */
};

static inline raft_term store_term(const struct fake_store *store, raft_index index)
{
    return index == 0 ? 0 : store->entries[index].header.term;
}

/* A snapshot of what is applied; the log forgets all but the last keep entries before it. */
static inline void store_make_snapshot(struct fake_store *store, raft_index keep)
{
    store->snapshot = (struct fake_snapshot){.index = store->applied,
                                             .term = store_term(store, store->applied),
                                             .size_bytes = FIXTURE_SNAPSHOT_BYTES,
                                             .conf = store->conf};
    if (store->applied > keep && store->applied - keep > store->compacted) {
        const struct ms_log_compacted body = {.first_index = store->applied - keep + 1,
                                              .snapshot_index = store->snapshot.index,
                                              .snapshot_term = store->snapshot.term};

        store->compacted = store->applied - keep;
        cr_assert_eq(ms_link_send(&store->apply, MS_IPC_LOG_COMPACTED, &body), MS_OK);
    }
}

static inline void store_install(struct fake_store *store)
{
    store->applied = store->snapshot.index;
    store->conf = store->snapshot.conf;
}

/* What its log begins with, its state machine has before storaged says anything. */
static inline void store_recover(struct fake_store *store)
{
    if (store->applied < store->snapshot.index && store->compacted == store->snapshot.index) {
        store_install(store);
    }
}

static inline void store_say_log_state(struct fake_store *store)
{
    struct ms_log_state state = {.hard_state = store->hard,
                                 .first_index = store->compacted + 1,
                                 .last_index = store->last,
                                 .last_term = store_term(store, store->last),
                                 .snapshot_index = store->snapshot.index,
                                 .snapshot_term = store->snapshot.term};
    void *body = NULL;
    void *tail = NULL;

    cr_assert_eq(ms_link_begin(&store->log, MS_IPC_LOG_STATE, store->conf.len_bytes, &body, &tail),
                 MS_OK);
    memcpy(body, &state, sizeof(state));
    memcpy(tail, store->conf.bytes, store->conf.len_bytes);
    ms_link_commit(&store->log);
}

static inline void store_say_apply_state(struct fake_store *store)
{
    struct ms_apply_state state = {.applied = store->applied,
                                   .applied_term = store_term(store, store->applied)};

    cr_assert_eq(ms_link_send(&store->apply, MS_IPC_APPLY_STATE, &state), MS_OK);
}

/* storaged comes (back) with what it has. */
static inline void store_put_entry(struct fake_store *store, const struct ms_ipc_entry *header,
                                   const uint8_t *data)
{
    struct fake_entry *entry = &store->entries[header->index];

    cr_assert(header->index < FIXTURE_ENTRIES_MAX);
    cr_assert(header->index <= store->last + 1, "entry %ju leaves a gap after %ju",
              (uintmax_t)header->index, (uintmax_t)store->last);
    cr_assert(header->index > store->applied || header->term == entry->header.term,
              "an applied entry is replaced");
    free(entry->data);
    entry->header = *header;
    entry->data = malloc(header->len_bytes + 1);
    cr_assert_not_null(entry->data);
    memcpy(entry->data, data, header->len_bytes);
    store->last = header->index;
}

static inline void store_take_append(struct fake_store *store, const struct ms_ipc_message *message)
{
    struct ms_log_append body;
    size_t offset = 0;

    memcpy(&body, message->body, sizeof(body));
    cr_assert_eq(body.seq, ++store->received_seq);
    for (uint32_t i = 0; i < body.count; i++) {
        struct ms_ipc_entry header;

        memcpy(&header, message->tail + offset, sizeof(header));
        cr_assert_eq(header.index, body.first_index + i);
        store_put_entry(store, &header, message->tail + offset + sizeof(header));
        offset += entry_codec_bytes(header.len_bytes);
    }
    cr_assert_eq(offset, message->tail_bytes);
    if (body.has_hard_state != 0) {
        cr_assert(body.hard_state.term >= store->hard.term);
        cr_assert(body.hard_state.commit >= store->hard.commit);
        cr_assert(body.hard_state.commit <= store->last, "commit beyond the log's end");
        store->hard = body.hard_state;
    }
    store->appends++;
}

static inline void store_keep_conf(struct fake_conf *conf, raft_index index,
                                   const struct ms_ipc_message *message)
{
    cr_assert(message->tail_bytes <= sizeof(conf->bytes));
    conf->index = index;
    conf->len_bytes = message->tail_bytes;
    memcpy(conf->bytes, message->tail, message->tail_bytes);
}

/* LOG_SNAPSHOT: the log starts anew behind what was received. */
static inline void store_take_snapshot(struct fake_store *store,
                                       const struct ms_ipc_message *message)
{
    struct ms_log_snapshot body;

    memcpy(&body, message->body, sizeof(body));
    cr_assert_eq(body.seq, ++store->received_seq);
    cr_assert_eq(body.index, store->incoming.index, "recorded before it is complete");
    cr_assert_eq(body.term, store->incoming.term);
    cr_assert_eq(store->incoming_bytes, store->incoming.size_bytes);
    cr_assert(body.index > store->applied);
    cr_assert(body.hard_state.term >= store->hard.term);
    cr_assert(body.hard_state.commit == body.index);
    store->snapshot = store->incoming;
    store_keep_conf(&store->snapshot.conf, body.index, message);
    store->entries[body.index].header =
        (struct ms_ipc_entry){.term = body.term, .index = body.index};
    store->compacted = body.index;
    store->last = body.index;
    store->hard = body.hard_state;
}

/* Writes up to limit records to the disk, without saying so. Returns how many there were. */
static inline unsigned store_write(struct fake_store *store, unsigned limit)
{
    struct ms_ipc_message message;
    unsigned count = 0;

    while (count < limit && ms_link_receive(&store->log, &message) == MS_OK) {
        if (message.type == MS_IPC_LOG_APPEND) {
            store_take_append(store, &message);
        } else if (message.type == MS_IPC_LOG_SNAPSHOT) {
            store_take_snapshot(store, &message);
        } else {
            struct ms_log_conf body;

            cr_assert_eq(message.type, MS_IPC_LOG_CONF);
            memcpy(&body, message.body, sizeof(body));
            cr_assert_eq(body.seq, ++store->received_seq);
            store_keep_conf(&store->recorded[body.index % FIXTURE_CONFS], body.index, &message);
        }
        ms_link_release(&store->log);
        count++;
    }
    return count;
}

static inline void store_say_durable(struct fake_store *store)
{
    struct ms_log_durable body = {.seq = store->received_seq,
                                  .last_index = store->last,
                                  .last_term = store_term(store, store->last)};

    cr_assert_eq(ms_link_send(&store->log, MS_IPC_LOG_DURABLE, &body), MS_OK);
}

static inline void store_take_entries(struct fake_store *store,
                                      const struct ms_ipc_message *message)
{
    struct ms_apply_entries body;
    size_t offset = 0;

    memcpy(&body, message->body, sizeof(body));
    cr_assert(body.count > 0);
    for (uint32_t i = 0; i < body.count; i++) {
        struct ms_ipc_entry header;

        memcpy(&header, message->tail + offset, sizeof(header));
        offset += entry_codec_bytes(header.len_bytes);
        cr_assert_eq(header.index, body.first_index + i);
        cr_assert_eq(header.index, store->applied + 1, "entry %ju after %ju was applied",
                     (uintmax_t)header.index, (uintmax_t)store->applied);
        cr_assert(header.index <= store->last, "not durable, but to be applied");
        cr_assert_eq(header.term, store_term(store, header.index));
        cr_assert(header.index <= ms_status_page_commit(store->page), "not published");
        if (header.type != MS_ENTRY_NORMAL && store->announced.index == header.index) {
            const struct fake_conf *recorded = &store->recorded[header.index % FIXTURE_CONFS];

            cr_assert_eq(recorded->index, header.index, "configuration of %ju, not of %ju",
                         (uintmax_t)recorded->index, (uintmax_t)header.index);
            cr_assert_arr_eq(recorded->bytes, store->announced.bytes, recorded->len_bytes);
            store->conf = store->announced;
        }
        store->applied = header.index;
    }
    cr_assert_eq(offset, message->tail_bytes);
}

static inline void store_answer_read(struct fake_store *store, const struct ms_ipc_message *message)
{
    struct ms_log_read read;
    struct ms_log_entries body = {.status = MS_OK};
    uint8_t *tail = malloc(FIXTURE_RING_BYTES);
    size_t used = 0;
    void *dst_body = NULL;
    void *dst_tail = NULL;

    cr_assert_not_null(tail);
    memcpy(&read, message->body, sizeof(read));
    cr_assert(read.low < read.high && read.high <= store->last + 1);
    body.request = read.request;
    body.first_index = read.low;
    body.status = read.low > store->compacted ? MS_OK : MS_ECOMPACTED;
    for (raft_index i = read.low; i < read.high && body.status == MS_OK; i++) {
        const struct fake_entry *entry = &store->entries[i];
        size_t bytes = entry_codec_bytes(entry->header.len_bytes);

        /* A small limit of its own, so that loading needs several rounds. */
        if (used + bytes > FIXTURE_RING_BYTES || used + bytes > read.max_bytes || body.count == 7) {
            break;
        }
        memset(tail + used, 0, bytes);
        memcpy(tail + used, &entry->header, sizeof(entry->header));
        memcpy(tail + used + sizeof(entry->header), entry->data, entry->header.len_bytes);
        used += bytes;
        body.count++;
    }
    cr_assert_eq(ms_link_begin(&store->apply, MS_IPC_LOG_ENTRIES, used, &dst_body, &dst_tail),
                 MS_OK);
    memcpy(dst_body, &body, sizeof(body));
    memcpy(dst_tail, tail, used);
    ms_link_commit(&store->apply);
    free(tail);
}

static inline void store_answer_terms(struct fake_store *store,
                                      const struct ms_ipc_message *message)
{
    struct ms_log_terms_read read;
    struct ms_log_terms body = {.first_index = store->compacted + 1, .last_index = store->last};
    struct ms_log_term_run runs[256];
    void *dst_body = NULL;
    void *dst_tail = NULL;

    memcpy(&read, message->body, sizeof(read));
    body.request = read.request;
    for (raft_index i = store->compacted; i <= store->last; i++) {
        if (i == store->compacted || store_term(store, i) != store_term(store, i - 1)) {
            cr_assert(body.count < 256);
            runs[body.count++] = (struct ms_log_term_run){.index = i, .term = store_term(store, i)};
        }
    }
    cr_assert_eq(ms_link_begin(&store->apply, MS_IPC_LOG_TERMS, body.count * sizeof(runs[0]),
                               &dst_body, &dst_tail),
                 MS_OK);
    memcpy(dst_body, &body, sizeof(body));
    memcpy(dst_tail, runs, body.count * sizeof(runs[0]));
    ms_link_commit(&store->apply);
}

static inline void store_say(struct ms_link *link, enum ms_ipc_type type, const void *body,
                             size_t body_bytes, const void *tail, size_t tail_bytes)
{
    void *dst_body = NULL;
    void *dst_tail = NULL;

    cr_assert_eq(ms_link_begin(link, type, tail_bytes, &dst_body, &dst_tail), MS_OK);
    memcpy(dst_body, body, body_bytes);
    memcpy(dst_tail, tail, tail_bytes);
    ms_link_commit(link);
}

static inline void store_say_progress(struct fake_store *store)
{
    const struct ms_snap_progress body = {
        .transfer = store->incoming_transfer,
        .offset = store->incoming_bytes,
        .complete = store->incoming_bytes == store->incoming.size_bytes ? 1 : 0};

    cr_assert_eq(ms_link_send(&store->apply, MS_IPC_SNAP_PROGRESS, &body), MS_OK);
}

/* SNAP_*: the content is one byte again and again, the low one of the index. */
static inline void store_answer_snapshot(struct fake_store *store,
                                         const struct ms_ipc_message *message)
{
    static uint8_t piece[MS_SNAP_PIECE_BYTES];

    if (message->type == MS_IPC_SNAP_OPEN) {
        struct ms_snap_open open;
        struct ms_snap_opened body;

        memcpy(&open, message->body, sizeof(open));
        store->opened++;
        if (store->snapshot.index == 0 || store->snapshot.index < open.min_index) {
            store_make_snapshot(store, UINT64_MAX);
        }
        cr_assert(store->snapshot.index >= open.min_index);
        store->sessions[open.session % FIXTURE_SESSIONS] = store->snapshot;
        body = (struct ms_snap_opened){.session = open.session,
                                       .index = store->snapshot.index,
                                       .term = store->snapshot.term,
                                       .size_bytes = store->snapshot.size_bytes};
        store_say(&store->apply, MS_IPC_SNAP_OPENED, &body, sizeof(body),
                  store->snapshot.conf.bytes, store->snapshot.conf.len_bytes);
    } else if (message->type == MS_IPC_SNAP_READ) {
        const struct fake_snapshot *snapshot;
        struct ms_snap_read read;
        struct ms_snap_data body;
        size_t len_bytes;

        memcpy(&read, message->body, sizeof(read));
        snapshot = &store->sessions[read.session % FIXTURE_SESSIONS];
        cr_assert(read.offset < snapshot->size_bytes);
        len_bytes = snapshot->size_bytes - read.offset < read.len_bytes
                        ? (size_t)(snapshot->size_bytes - read.offset)
                        : read.len_bytes;
        body = (struct ms_snap_data){.session = read.session, .offset = read.offset};
        memset(piece, (int)(snapshot->index & 0xff), len_bytes);
        store_say(&store->apply, MS_IPC_SNAP_DATA, &body, sizeof(body), piece, len_bytes);
    } else if (message->type == MS_IPC_SNAP_RECEIVE) {
        struct ms_snap_receive receive;

        memcpy(&receive, message->body, sizeof(receive));
        if (store->incoming.index != receive.index || store->incoming.term != receive.term) {
            store->incoming_bytes = 0;
        }
        store->incoming_transfer = receive.transfer;
        store->incoming = (struct fake_snapshot){
            .index = receive.index, .term = receive.term, .size_bytes = receive.size_bytes};
        store_say_progress(store);
    } else if (message->type == MS_IPC_SNAP_WRITE) {
        struct ms_snap_write write;

        memcpy(&write, message->body, sizeof(write));
        cr_assert_eq(write.transfer, store->incoming_transfer);
        cr_assert_eq(write.offset, store->incoming_bytes);
        cr_assert_eq(message->tail[0], (uint8_t)(store->incoming.index & 0xff));
        store->incoming_bytes += message->tail_bytes;
        store_say_progress(store);
    } else {
        cr_assert(message->type == MS_IPC_SNAP_CLOSE || message->type == MS_IPC_SNAP_ABANDON, "%s",
                  ms_ipc_name(message->type));
    }
}

/* Applies up to limit messages, without saying so. Returns how many there were. */
static inline unsigned store_apply(struct fake_store *store, unsigned limit)
{
    struct ms_ipc_message message;
    unsigned count = 0;

    while (count < limit && ms_link_receive(&store->apply, &message) == MS_OK) {
        if (message.type == MS_IPC_APPLY_ENTRIES) {
            store_take_entries(store, &message);
        } else if (message.type == MS_IPC_LOG_READ) {
            store_answer_read(store, &message);
        } else if (message.type == MS_IPC_LOG_TERMS_READ) {
            store_answer_terms(store, &message);
        } else if (message.type == MS_IPC_APPLY_SNAPSHOT) {
            struct ms_apply_snapshot body;

            memcpy(&body, message.body, sizeof(body));
            cr_assert_eq(body.index, store->snapshot.index, "applied before it is recorded");
            if (!store->slow_install) {
                store_install(store);
            }
        } else if (message.type == MS_IPC_APPLY_CONF) {
            struct ms_apply_conf body;

            memcpy(&body, message.body, sizeof(body));
            store_keep_conf(&store->announced, body.index, &message);
        } else {
            store_answer_snapshot(store, &message);
        }
        ms_link_release(&store->apply);
        count++;
    }
    return count;
}

static inline void store_say_done(struct fake_store *store)
{
    struct ms_apply_done body = {.applied = store->applied};

    cr_assert_eq(ms_link_send(&store->apply, MS_IPC_APPLY_DONE, &body), MS_OK);
}

/* Node and storaged work until neither has anything left. */
/* The number that the command in the log at index carries; 0 for an entry without a command. */
static inline uint64_t store_op(const struct fake_store *store, raft_index index)
{
    const struct fake_entry *entry = &store->entries[index];
    uint64_t op = 0;

    if (entry->header.type == MS_ENTRY_NORMAL && entry->header.len_bytes > 0) {
        memcpy(&op, entry->data, sizeof(op));
    }
    return op;
}

/* Which apid it came from. */
static inline uint32_t store_instance(const struct fake_store *store, raft_index index)
{
    uint32_t instance = 0;

    memcpy(&instance, store->entries[index].data + sizeof(uint64_t), sizeof(instance));
    return instance;
}

#endif

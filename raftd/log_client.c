/*
 * log_client: see log_client.h.
 */
#include "raftd/log_client.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "raftd/entry_codec.h"
#include "raftd/snapshot_conf.h"

enum log_item_kind {
    LOG_ITEM_APPEND, /* message */
    LOG_ITEM_CONF,   /* conf */
};

struct log_item {
    STAILQ_ENTRY(log_item) next;
    enum log_item_kind kind;
    struct raft_message message; /* owned; the responses may be gone when it completes */
    struct conf_record conf;     /* one reference to its buffer */
    struct ms_instant since;
    bool replaces;      /* what is in the log, or in an item before it */
    bool snapshot_sent; /* the message's snapshot is on the way, or durable already */
    size_t sent;        /* of its entries: likewise */
    uint64_t last_seq;  /* once sent: durable when this record is */
};

void log_client_init(struct log_client *client, const struct raft_alloc *alloc,
                     const struct log_client_events *events)
{
    memset(client, 0, sizeof(*client));
    client->alloc = alloc;
    client->events = *events;
    ms_link_init_closed(&client->link);
    STAILQ_INIT(&client->items);
}

static void item_destroy(struct log_client *client, struct log_item *item)
{
    raft_message_release(client->alloc, &item->message);
    raft_buffer_release(item->conf.buffer);
    free(item);
}

void log_client_fini(struct log_client *client)
{
    struct log_item *item;

    while ((item = STAILQ_FIRST(&client->items)) != NULL) {
        STAILQ_REMOVE_HEAD(&client->items, next);
        item_destroy(client, item);
    }
    client->unsent = NULL;
    client->backlog = 0;
    log_client_close(client);
}

void log_client_take_link(struct log_client *client, const struct ms_link *link)
{
    assert(!ms_link_is_open(&client->link));
    client->link = *link;
    client->have_state = false;
    client->sent_seq = 0;
    client->durable_seq = 0;
}

void log_client_close(struct log_client *client)
{
    ms_link_fini(&client->link);
    ms_link_init_closed(&client->link);
    client->have_state = false;
}

/* ---- taking ---- */

void log_client_adopt(struct log_client *client)
{
    client->adopted = true;
    client->last_index = client->acked_last.index;
}

/* Keeps account of what will be replaced once the item is written. */
static void note_replaced(struct log_client *client, struct log_item *item)
{
    const struct raft_slice *entries = &item->message.entries;
    raft_index before; /* the last that stays */

    if (item->message.snapshot != NULL) {
        before = 0;
    } else if (entries->count > 0) {
        before = entries->entries[0].index - 1;
    } else {
        return;
    }
    if (before < client->last_index) {
        if (client->replacing == 0 || before < client->kept_index) {
            client->kept_index = before;
        }
        client->replacing++;
        item->replaces = true;
    }
    client->last_index = entries->count > 0 ? entries->entries[entries->count - 1].index
                                            : item->message.snapshot->index;
}

raft_index log_client_certain_index(const struct log_client *client)
{
    return client->replacing > 0 && client->kept_index < client->acked_last.index
               ? client->kept_index
               : client->acked_last.index;
}

static void push(struct log_client *client, struct log_item *item, struct ms_instant now)
{
    assert(client->adopted);
    item->since = now;
    STAILQ_INSERT_TAIL(&client->items, item, next);
    if (client->unsent == NULL) {
        client->unsent = item;
    }
    client->backlog++;
}

int log_client_append(struct log_client *client, struct raft_message *message,
                      struct ms_instant now)
{
    struct log_item *item = calloc(1, sizeof(*item));

    if (item == NULL) {
        return MS_ENOMEM;
    }
    item->kind = LOG_ITEM_APPEND;
    raft_message_take(&item->message, message);
    note_replaced(client, item);
    push(client, item, now);
    return MS_OK;
}

int log_client_write_conf(struct log_client *client, const struct conf_record *record,
                          struct ms_instant now)
{
    struct log_item *item = calloc(1, sizeof(*item));

    if (item == NULL) {
        return MS_ENOMEM;
    }
    item->kind = LOG_ITEM_CONF;
    item->conf = *record;
    raft_buffer_ref(item->conf.buffer);
    push(client, item, now);
    return MS_OK;
}

uint64_t log_client_waits_ms(const struct log_client *client, struct ms_instant now)
{
    const struct log_item *oldest = STAILQ_FIRST(&client->items);

    return oldest != NULL ? ms_clock_elapsed_ms(oldest->since, now) : 0;
}

/* ---- sending ---- */

static bool has_hard_state(const struct raft_message *message)
{
    return message->term != 0 || message->vote != 0 || message->commit != 0;
}

static struct ms_hard_state hard_state_of(const struct raft_message *message)
{
    return (struct ms_hard_state){
        .term = message->term, .vote = message->vote, .commit = message->commit};
}

/* Whether hard has a term or vote that than lacks. A vote once given stays for its term. */
static bool promises_more(const struct ms_hard_state *hard, const struct ms_hard_state *than)
{
    return hard->term > than->term ||
           (hard->term == than->term && hard->vote != 0 && than->vote == 0);
}

/* The hard state for a record after which the log ends at last_index; false if it is known. */
static bool next_hard_state(const struct log_client *client, raft_index last_index,
                            struct ms_hard_state *out)
{
    struct ms_hard_state hard = client->latest_hard;

    /* On disk the commit index must not lead beyond the entries, whatever record is the last. */
    if (hard.commit > last_index) {
        hard.commit = last_index;
    }
    if (!promises_more(&hard, &client->sent_hard) && hard.commit <= client->sent_hard.commit) {
        return false;
    }
    *out = hard;
    return true;
}

/* The log starts anew behind the item's snapshot. */
static int send_snapshot(struct log_client *client, struct log_item *item)
{
    const struct raft_snapshot *snapshot = item->message.snapshot;
    struct ms_log_snapshot body = {.seq = client->sent_seq + 1,
                                   .hard_state = client->latest_hard,
                                   .index = snapshot->index,
                                   .term = snapshot->term};
    const struct snapshot_conf *conf = snapshot_conf_of(snapshot);
    void *dst_body = NULL;
    void *dst_tail = NULL;
    int rc;

    assert(conf != NULL);
    if (body.hard_state.commit > snapshot->index) {
        body.hard_state.commit = snapshot->index; /* as in next_hard_state */
    }
    rc = ms_link_begin(&client->link, MS_IPC_LOG_SNAPSHOT, conf->len_bytes, &dst_body, &dst_tail);
    if (rc != MS_OK) {
        return rc;
    }
    memcpy(dst_body, &body, sizeof(body));
    memcpy(dst_tail, conf->bytes, conf->len_bytes);
    ms_link_commit(&client->link);

    client->sent_seq++;
    client->sent_last_index = snapshot->index;
    client->sent_hard = body.hard_state;
    item->snapshot_sent = true;
    return MS_OK;
}

static int send_append(struct log_client *client, struct log_item *item)
{
    const struct raft_slice *entries = &item->message.entries;
    const struct raft_entry *rest = entries->entries + item->sent;
    size_t tail_max = ms_link_tail_max(&client->link, MS_IPC_LOG_APPEND);
    size_t tail_bytes = 0;
    size_t count = entry_codec_fit(rest, entries->count - item->sent, tail_max, &tail_bytes);
    raft_index last_index = count > 0 ? rest[count - 1].index : client->sent_last_index;
    struct ms_log_append body = {.seq = client->sent_seq + 1, .count = (uint32_t)count};
    void *dst_body = NULL;
    void *dst_tail = NULL;
    int rc;

    if (count > 0) {
        body.first_index = rest[0].index;
    }
    body.has_hard_state = next_hard_state(client, last_index, &body.hard_state) ? 1 : 0;
    rc = ms_link_begin(&client->link, MS_IPC_LOG_APPEND, tail_bytes, &dst_body, &dst_tail);
    if (rc != MS_OK) {
        return rc;
    }
    memcpy(dst_body, &body, sizeof(body));
    entry_codec_pack(rest, count, dst_tail);
    ms_link_commit(&client->link);

    client->sent_seq++;
    client->sent_last_index = last_index;
    if (body.has_hard_state != 0) {
        client->sent_hard = body.hard_state;
    }
    item->sent += count;
    return MS_OK;
}

static int send_conf(struct log_client *client, struct log_item *item)
{
    struct ms_log_conf body = {.seq = client->sent_seq + 1, .index = item->conf.index};
    void *dst_body = NULL;
    void *dst_tail = NULL;
    int rc =
        ms_link_begin(&client->link, MS_IPC_LOG_CONF, item->conf.len_bytes, &dst_body, &dst_tail);

    if (rc != MS_OK) {
        return rc;
    }
    memcpy(dst_body, &body, sizeof(body));
    memcpy(dst_tail, item->conf.bytes, item->conf.len_bytes);
    ms_link_commit(&client->link);
    client->sent_seq++;
    return MS_OK;
}

/* Sends all of the item's records; it may need none at all. */
static int send_item(struct log_client *client, struct log_item *item)
{
    int rc = MS_OK;

    switch (item->kind) {
    case LOG_ITEM_APPEND:
        if (has_hard_state(&item->message)) {
            client->latest_hard = hard_state_of(&item->message);
        }
        if (item->message.snapshot != NULL && !item->snapshot_sent) {
            rc = send_snapshot(client, item);
        }
        while (rc == MS_OK && (item->sent < item->message.entries.count ||
                               promises_more(&client->latest_hard, &client->sent_hard))) {
            rc = send_append(client, item);
        }
        break;
    case LOG_ITEM_CONF:
        rc = send_conf(client, item);
        break;
    }
    if (rc == MS_OK) {
        item->last_seq = client->sent_seq;
    }
    return rc;
}

/* ---- completing ---- */

/* Where the log ends once the item is written. */
static void note_end(struct log_client *client, const struct log_item *item)
{
    const struct raft_slice *entries = &item->message.entries;

    if (entries->count > 0) {
        const struct raft_entry *last = &entries->entries[entries->count - 1];

        client->acked_last = (struct log_position){.index = last->index, .term = last->term};
    } else if (item->message.snapshot != NULL) {
        client->acked_last = (struct log_position){.index = item->message.snapshot->index,
                                                   .term = item->message.snapshot->term};
    }
}

static void complete(struct log_client *client)
{
    struct log_item *item;

    while ((item = STAILQ_FIRST(&client->items)) != NULL && item != client->unsent &&
           item->last_seq <= client->durable_seq) {
        STAILQ_REMOVE_HEAD(&client->items, next);
        client->backlog--;
        client->replacing -= item->replaces ? 1 : 0;
        switch (item->kind) {
        case LOG_ITEM_APPEND:
            if (has_hard_state(&item->message)) {
                client->acked_hard = hard_state_of(&item->message);
            }
            note_end(client, item);
            client->events.on_written(client->events.ctx, &item->message);
            break;
        case LOG_ITEM_CONF:
            client->events.on_conf_durable(client->events.ctx, item->conf.index);
            break;
        }
        item_destroy(client, item);
    }
}

int log_client_pump(struct log_client *client)
{
    int rc = MS_OK;

    if (!client->have_state) {
        return MS_OK;
    }
    while (client->unsent != NULL) {
        rc = send_item(client, client->unsent);
        if (rc != MS_OK) {
            break;
        }
        client->unsent = STAILQ_NEXT(client->unsent, next);
    }
    complete(client);
    return rc == MS_EAGAIN ? MS_OK : rc;
}

/* ---- receiving ---- */

/* How far a log that ends at the position has got with an item. */
enum reach {
    REACH_NOT,      /* the position is not the item's */
    REACH_SNAPSHOT, /* at its snapshot */
    REACH_ENTRIES,  /* at one of its entries */
};

/* *count gets the number of its entries up to the position. */
static enum reach reach_of(const struct log_item *item, const struct log_position *position,
                           size_t *count)
{
    const struct raft_snapshot *snapshot = item->message.snapshot;
    const struct raft_slice *entries = &item->message.entries;
    size_t offset;

    *count = 0;
    if (snapshot != NULL && position->index == snapshot->index &&
        position->term == snapshot->term) {
        return REACH_SNAPSHOT;
    }
    if (entries->count == 0 || position->index < entries->entries[0].index) {
        return REACH_NOT;
    }
    offset = (size_t)(position->index - entries->entries[0].index);
    if (offset >= entries->count || entries->entries[offset].term != position->term) {
        return REACH_NOT;
    }
    *count = offset + 1;
    return REACH_ENTRIES;
}

/* Everything is to be sent, but what a log that was found up to (reached, durable) has. */
static void rewind_items(struct log_client *client, const struct log_item *reached, size_t durable)
{
    bool before = reached != NULL;
    struct log_item *item;

    for (item = STAILQ_FIRST(&client->items); item != NULL; item = STAILQ_NEXT(item, next)) {
        bool is_it = item == reached;

        item->snapshot_sent = before;
        item->sent = is_it ? durable : before ? item->message.entries.count : 0;
        before = before && !is_it;
    }
}

/*
 * Decides what a storaged that came back has to get again. An entry's index and term name the
 * whole log up to it (Raft 5.3, log matching): if the last durable entry is one of an item's, all
 * before it is durable, too, or was replaced since. Otherwise nothing that is unanswered has
 * arrived.
 */
static int resume(struct log_client *client, const struct ms_log_state *state)
{
    const struct log_position last = {.index = state->last_index, .term = state->last_term};
    const struct log_item *reached = NULL;
    const struct log_item *item;
    size_t durable = 0;

    for (item = STAILQ_FIRST(&client->items); item != NULL; item = STAILQ_NEXT(item, next)) {
        size_t count = 0;

        if (reach_of(item, &last, &count) != REACH_NOT) {
            reached = item;
            durable = count;
        }
    }
    if (reached == NULL &&
        (last.index != client->acked_last.index || last.term != client->acked_last.term)) {
        return MS_EPROTO; /* entries that were reported durable are gone */
    }
    if (state->hard_state.term < client->acked_hard.term) {
        return MS_EPROTO;
    }
    rewind_items(client, reached, durable);
    return MS_OK;
}

static int handle_state(struct log_client *client, const struct ms_ipc_message *message)
{
    struct ms_log_state state;
    int rc = MS_OK;

    memcpy(&state, message->body, sizeof(state));
    if (client->have_state || message->tail_bytes > sizeof(client->conf) ||
        state.first_index == 0 || state.last_index + 1 < state.first_index ||
        state.last_index < state.snapshot_index || (state.last_index > 0 && state.last_term == 0)) {
        return MS_EPROTO;
    }
    if (client->adopted) {
        rc = resume(client, &state);
    } else {
        client->acked_last =
            (struct log_position){.index = state.last_index, .term = state.last_term};
        client->acked_hard = state.hard_state;
    }
    if (rc != MS_OK) {
        return rc;
    }
    memcpy(client->conf, message->tail, message->tail_bytes);
    client->conf_bytes = message->tail_bytes;
    client->state = state;
    client->latest_hard = client->acked_hard;
    client->sent_hard = state.hard_state;
    client->sent_last_index = state.last_index;
    client->unsent = STAILQ_FIRST(&client->items);
    client->have_state = true;
    client->full = false; /* said anew on every link while it holds */
    return MS_OK;
}

static int handle_durable(struct log_client *client, const struct ms_ipc_message *message)
{
    struct ms_log_durable durable;

    memcpy(&durable, message->body, sizeof(durable));
    if (durable.seq < client->durable_seq || durable.seq > client->sent_seq) {
        return MS_EPROTO;
    }
    client->durable_seq = durable.seq;
    complete(client);
    return MS_OK;
}

int log_client_handle(struct log_client *client, const struct ms_ipc_message *message)
{
    if (message->type == MS_IPC_LOG_STATE) {
        return handle_state(client, message);
    }
    if (!client->have_state) {
        return MS_EPROTO;
    }
    if (message->type == MS_IPC_LOG_DURABLE) {
        return handle_durable(client, message);
    }
    if (message->type == MS_IPC_LOG_SPACE) {
        struct ms_log_space space;

        memcpy(&space, message->body, sizeof(space));
        client->full = space.full != 0;
        return MS_OK;
    }
    return MS_EPROTO;
}

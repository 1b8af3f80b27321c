/*
 * apply_client: see apply_client.h.
 */
#include "raftd/apply_client.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "raftd/entry_codec.h"

struct apply_item {
    STAILQ_ENTRY(apply_item) next;
    struct raft_message message; /* owned; has a snapshot, or else at least one entry */
    size_t sent;                 /* of its entries: on the way, or applied already */
};

struct apply_conf {
    STAILQ_ENTRY(apply_conf) next;
    struct conf_record record; /* one reference to its buffer */
    bool durable;
};

void apply_client_init(struct apply_client *client, const struct raft_alloc *alloc,
                       const struct apply_client_events *events)
{
    memset(client, 0, sizeof(*client));
    client->alloc = alloc;
    client->events = *events;
    ms_link_init_closed(&client->link);
    STAILQ_INIT(&client->items);
    STAILQ_INIT(&client->confs);
}

static void pop_item(struct apply_client *client)
{
    struct apply_item *item = STAILQ_FIRST(&client->items);

    STAILQ_REMOVE_HEAD(&client->items, next);
    raft_message_release(client->alloc, &item->message);
    free(item);
}

static void pop_conf(struct apply_client *client)
{
    struct apply_conf *conf = STAILQ_FIRST(&client->confs);

    STAILQ_REMOVE_HEAD(&client->confs, next);
    raft_buffer_release(conf->record.buffer);
    free(conf);
}

void apply_client_fini(struct apply_client *client)
{
    while (!STAILQ_EMPTY(&client->items)) {
        pop_item(client);
    }
    while (!STAILQ_EMPTY(&client->confs)) {
        pop_conf(client);
    }
    client->unsent = NULL;
    apply_client_close(client);
}

void apply_client_take_link(struct apply_client *client, const struct ms_link *link)
{
    assert(!ms_link_is_open(&client->link));
    client->link = *link;
    client->have_state = false;
}

void apply_client_close(struct apply_client *client)
{
    ms_link_fini(&client->link);
    ms_link_init_closed(&client->link);
    client->have_state = false;
}

void apply_client_adopt(struct apply_client *client)
{
    client->adopted = true;
    client->conf_seen = client->applied;
}

int apply_client_apply(struct apply_client *client, struct raft_message *message)
{
    struct apply_item *item;

    assert(message->snapshot != NULL || message->entries.count > 0);
    item = calloc(1, sizeof(*item));
    if (item == NULL) {
        return MS_ENOMEM;
    }
    raft_message_take(&item->message, message);
    STAILQ_INSERT_TAIL(&client->items, item, next);
    if (client->unsent == NULL) {
        client->unsent = item;
    }
    return MS_OK;
}

void apply_client_replace(struct apply_client *client, raft_index index)
{
    assert(index > client->replaced_to);
    client->replaced_to = index;
    if (client->conf_seen < index) {
        client->conf_seen = index;
    }
}

static struct apply_conf *find_conf(const struct apply_client *client, raft_index index)
{
    struct apply_conf *conf;

    for (conf = STAILQ_FIRST(&client->confs); conf != NULL; conf = STAILQ_NEXT(conf, next)) {
        if (conf->record.index == index) {
            return conf;
        }
    }
    return NULL;
}

void apply_client_conf_durable(struct apply_client *client, raft_index index)
{
    struct apply_conf *conf = find_conf(client, index);

    if (conf != NULL) { /* else it is applied already, by a storaged that went ahead */
        conf->durable = true;
    }
}

bool apply_client_is_idle(const struct apply_client *client)
{
    return STAILQ_EMPTY(&client->items);
}

/* ---- sending ---- */

/* The stream has come to a change: has it applied and keeps what it leads to. */
static int meet_conf_change(struct apply_client *client, const struct raft_entry *entry)
{
    struct conf_record record = {0};
    struct apply_conf *conf;
    int rc;

    if (entry->index <= client->conf_seen) {
        return MS_OK;
    }
    conf = calloc(1, sizeof(*conf));
    if (conf == NULL) {
        return MS_ENOMEM;
    }
    rc = client->events.on_conf_change(client->events.ctx, entry, &record);
    if (rc == MS_OK) {
        client->conf_seen = entry->index;
    }
    if (rc != MS_OK || record.buffer == NULL) {
        free(conf);
        return rc;
    }
    conf->record = record;
    STAILQ_INSERT_TAIL(&client->confs, conf, next);
    return MS_OK;
}

/* Sends APPLY_CONF for the change at index if it has one. MS_EAGAIN: not yet durable, or no room.
 */
static int send_conf(struct apply_client *client, raft_index index)
{
    const struct apply_conf *conf = find_conf(client, index);
    struct ms_apply_conf body = {.index = index};
    void *dst_body = NULL;
    void *dst_tail = NULL;
    int rc;

    if (conf == NULL || client->conf_sent == index) {
        return MS_OK;
    }
    if (!conf->durable) {
        return MS_EAGAIN;
    }
    rc = ms_link_begin(&client->link, MS_IPC_APPLY_CONF, conf->record.len_bytes, &dst_body,
                       &dst_tail);
    if (rc != MS_OK) {
        return rc;
    }
    memcpy(dst_body, &body, sizeof(body));
    memcpy(dst_tail, conf->record.bytes, conf->record.len_bytes);
    ms_link_commit(&client->link);
    client->conf_sent = index;
    return MS_OK;
}

/* The number of entries up to the next change; the first may be one. */
static size_t run_length(const struct raft_entry *entries, size_t count)
{
    size_t length = 1;

    while (length < count && entries[length].type == RAFT_ENTRY_NORMAL) {
        length++;
    }
    return length;
}

static int send_entries(struct apply_client *client, struct apply_item *item)
{
    const struct raft_slice *entries = &item->message.entries;
    const struct raft_entry *rest = entries->entries + item->sent;
    size_t tail_max = ms_link_tail_max(&client->link, MS_IPC_APPLY_ENTRIES);
    size_t tail_bytes = 0;
    size_t count =
        entry_codec_fit(rest, run_length(rest, entries->count - item->sent), tail_max, &tail_bytes);
    struct ms_apply_entries body = {.first_index = rest[0].index, .count = (uint32_t)count};
    void *dst_body = NULL;
    void *dst_tail = NULL;
    int rc = ms_link_begin(&client->link, MS_IPC_APPLY_ENTRIES, tail_bytes, &dst_body, &dst_tail);

    if (rc != MS_OK) {
        return rc;
    }
    memcpy(dst_body, &body, sizeof(body));
    entry_codec_pack(rest, count, dst_tail);
    ms_link_commit(&client->link);
    client->sent_index = rest[count - 1].index;
    item->sent += count;
    return MS_OK;
}

static int send_snapshot(struct apply_client *client, const struct raft_snapshot *snapshot)
{
    const struct ms_apply_snapshot body = {.index = snapshot->index, .term = snapshot->term};
    int rc;

    if (snapshot->index <= client->applied) {
        return MS_OK;
    }
    rc = ms_link_send(&client->link, MS_IPC_APPLY_SNAPSHOT, &body);
    if (rc == MS_OK) {
        client->sent_index = snapshot->index;
    }
    return rc;
}

/*
 * Whether the entry need not be sent: it is applied, or will be with a snapshot. Once its
 * configuration was announced, storaged expects it.
 */
static bool is_needless(const struct apply_client *client, raft_index index)
{
    return index <= client->applied || (index <= client->replaced_to && index != client->conf_sent);
}

static int send_item(struct apply_client *client, struct apply_item *item)
{
    const struct raft_slice *entries = &item->message.entries;
    int rc = MS_OK;

    if (item->message.snapshot != NULL) {
        return send_snapshot(client, item->message.snapshot);
    }
    while (rc == MS_OK && item->sent < entries->count) {
        const struct raft_entry *entry = &entries->entries[item->sent];

        if (entry->type != RAFT_ENTRY_NORMAL) {
            rc = meet_conf_change(client, entry);
        }
        if (rc == MS_OK && is_needless(client, entry->index)) {
            item->sent++;
            continue;
        }
        if (rc == MS_OK && entry->type != RAFT_ENTRY_NORMAL) {
            rc = send_conf(client, entry->index);
        }
        if (rc == MS_OK) {
            rc = send_entries(client, item);
        }
    }
    return rc;
}

/* ---- completing ---- */

/* Where the state machine stands once the item is applied. */
static raft_index last_index(const struct apply_item *item)
{
    const struct raft_slice *entries = &item->message.entries;

    return item->message.snapshot != NULL ? item->message.snapshot->index
                                          : entries->entries[entries->count - 1].index;
}

static void complete(struct apply_client *client)
{
    struct apply_item *item;

    while (!STAILQ_EMPTY(&client->confs) &&
           STAILQ_FIRST(&client->confs)->record.index <= client->applied) {
        pop_conf(client);
    }
    while ((item = STAILQ_FIRST(&client->items)) != NULL && item != client->unsent) {
        if (last_index(item) > client->applied) {
            break;
        }
        client->events.on_applied(client->events.ctx, &item->message);
        pop_item(client);
    }
}

int apply_client_pump(struct apply_client *client)
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

static int handle_state(struct apply_client *client, const struct ms_ipc_message *message,
                        raft_index committed)
{
    struct ms_apply_state state;
    struct apply_item *item;

    memcpy(&state, message->body, sizeof(state));
    if (client->have_state) {
        return MS_EPROTO;
    }
    if (client->adopted && (state.applied < client->applied || state.applied > committed)) {
        return MS_EPROTO; /* it lost what it had reported, or made something up */
    }
    for (item = STAILQ_FIRST(&client->items); item != NULL; item = STAILQ_NEXT(item, next)) {
        item->sent = 0;
    }
    client->unsent = STAILQ_FIRST(&client->items);
    client->have_state = true;
    client->applied_term = state.applied_term;
    client->sent_index = state.applied;
    client->conf_sent = 0;
    client->applied = state.applied;
    return MS_OK;
}

static int handle_done(struct apply_client *client, const struct ms_ipc_message *message)
{
    struct ms_apply_done done;

    memcpy(&done, message->body, sizeof(done));
    if (!client->have_state || done.applied < client->applied ||
        done.applied > client->sent_index) {
        return MS_EPROTO;
    }
    client->applied = done.applied;
    complete(client);
    return MS_OK;
}

int apply_client_handle(struct apply_client *client, const struct ms_ipc_message *message,
                        raft_index committed)
{
    if (message->type == MS_IPC_APPLY_STATE) {
        return handle_state(client, message, committed);
    }
    if (message->type == MS_IPC_APPLY_DONE) {
        return handle_done(client, message);
    }
    return MS_EPROTO;
}

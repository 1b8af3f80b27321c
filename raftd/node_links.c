/*
 * node_links: the node's ends of all links: what comes in, what goes out, and who may wake it.
 *
 * A neighbour that breaks the protocol costs its link and is reported; nothing it sends costs more.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/clock.h"
#include "common/command.h"
#include "raftd/node_private.h"

/* How much of one link is handled before the others have their turn. */
#define RECEIVE_BURST 1024u

/* Names of the links. */
enum doorbell {
    DOORBELL_LOG = 0,
    DOORBELL_APPLY = 1,
    DOORBELL_API = 2, /* + instance */
};
#define DOORBELL_COUNT (DOORBELL_API + MS_API_WORKERS_MAX)

/* ---- links ---- */

static struct ms_link *link_of(struct raftd_node *node, uint32_t doorbell)
{
    switch (doorbell) {
    case DOORBELL_LOG:
        return &node->log.link;
    case DOORBELL_APPLY:
        return &node->apply.link;
    default: /* not an enumerator alone: DOORBELL_API and what is added to it */
        assert(doorbell < DOORBELL_COUNT);
        return &node->api.slots[doorbell - DOORBELL_API].link;
    }
}

static void close_link(struct raftd_node *node, uint32_t doorbell)
{
    struct ms_link *link = link_of(node, doorbell);

    if (!ms_link_is_open(link)) {
        return;
    }
    ms_link_unwatch(link, node->epoll_fd);
    switch (doorbell) {
    case DOORBELL_LOG:
        log_client_close(&node->log);
        raftd_node_restart(node);
        break;
    case DOORBELL_APPLY:
        apply_client_close(&node->apply);
        log_reader_link_lost(&node->reader);
        snapshot_exchange_link_down(node->snapshots);
        node->terms_asked = false;
        raftd_node_restart(node);
        break;
    default: /* see link_of */
        api_client_close(&node->api.slots[doorbell - DOORBELL_API]);
        break;
    }
}

/*
 * Something on a link did not go well. What is the neighbour's fault costs the link and is
 * reported; what is ours ends the node.
 */
static void link_failed(struct raftd_node *node, uint32_t doorbell, int rc)
{
    const struct ms_link_info info = link_of(node, doorbell)->info;
    char text[128];

    switch (rc) {
    case MS_EPROTO:
    case MS_ECORRUPT:
        (void)snprintf(text, sizeof(text), "%s on link %u: %s",
                       ms_role_name((enum ms_role)info.peer_role), info.kind, ms_status_text(rc));
        close_link(node, doorbell);
        node->options.report_peer(node->options.ctx, &info, text);
        break;
    case MS_ERANGE:
        (void)raftd_node_fail(node, MS_EINVAL,
                              "a log entry is larger than the rings allow: "
                              "--max-request-bytes was larger when it was written");
        break;
    default:
        (void)raftd_node_fail(node, rc, "link %u: %s", info.kind, ms_status_text(rc));
        break;
    }
}

static void set_entry_bytes_max(struct raftd_node *node)
{
    size_t log_max =
        ms_link_is_open(&node->log.link) ? ms_link_tail_max(&node->log.link, MS_IPC_LOG_APPEND) : 0;
    size_t apply_max = ms_link_is_open(&node->apply.link)
                           ? ms_link_tail_max(&node->apply.link, MS_IPC_APPLY_ENTRIES)
                           : 0;
    size_t tail_max = log_max < apply_max ? log_max : apply_max;

    if (tail_max > entry_codec_bytes(0)) {
        node->entry_bytes_max = (tail_max - entry_codec_bytes(0)) & ~(size_t)7;
    } /* else: while storaged is away, what was known stays true for the rings to come */
}

/* ---- receiving ---- */

static int handle_log(struct raftd_node *node, const struct ms_ipc_message *message)
{
    return log_client_handle(&node->log, message);
}

static int handle_suggestion(struct raftd_node *node, const struct ms_ipc_message *message)
{
    struct raft_entry entry = {.type = RAFT_ENTRY_NORMAL, .len_bytes = message->tail_bytes};
    struct raft_buffer *buffer = NULL;
    uint8_t *bytes = NULL;

    if (message->tail_bytes < MS_COMMAND_HEADER_BYTES) {
        return MS_EPROTO;
    }
    /* It may be lost, and is made again as long as there is reason for it. */
    if (node->phase != NODE_RUNNING || node->basic.state != RAFT_STATE_LEADER || node->log.full ||
        raft_buffer_create(&node->alloc, message->tail_bytes, &buffer, &bytes) != MS_OK) {
        return MS_OK;
    }
    memcpy(bytes, message->tail, message->tail_bytes);
    entry.data = bytes;
    entry.owner = buffer;
    (void)raft_propose(node->raft, &entry, 1);
    raft_buffer_release(buffer);
    return MS_OK;
}

/* Entries that were asked for, for a follower or because they are not applied yet. */
static int handle_entries(struct raftd_node *node, const struct ms_ipc_message *message)
{
    struct log_reader_answer answer;
    int rc = log_reader_handle(&node->reader, message, &answer);

    if (rc != MS_OK) {
        return rc;
    }
    if (node->phase != NODE_RUNNING) {
        /* What is not applied is not compacted either. */
        return answer.first_gone != 0 ? MS_EPROTO : raftd_node_load(node);
    }
    if (answer.first_gone != 0) {
        entry_store_compacted(&node->store, answer.first_gone + 1);
    }
    rc = raft_entries_available(node->raft);
    return rc == MS_EFULL ? MS_OK : rc; /* a peer's next answer tries again */
}

static int handle_compacted(struct raftd_node *node, const struct ms_ipc_message *message)
{
    struct ms_log_compacted body;

    memcpy(&body, message->body, sizeof(body));
    if (body.first_index < node->log_first_index) {
        return MS_OK; /* said before a snapshot was installed */
    }
    node->log_first_index = body.first_index;
    if (node->phase == NODE_RUNNING) {
        entry_store_compacted(&node->store, body.first_index);
    }
    return MS_OK;
}

static int handle_terms(struct raftd_node *node, const struct ms_ipc_message *message)
{
    struct ms_log_term_run runs[TERM_RUNS_MAX];
    struct ms_log_terms body;
    size_t skipped = 0;
    size_t count;
    int rc;

    memcpy(&body, message->body, sizeof(body));
    count = body.count;
    if (!node->terms_asked || message->tail_bytes != count * sizeof(runs[0])) {
        return MS_EPROTO;
    }
    if (count > TERM_RUNS_MAX) {
        skipped = count - TERM_RUNS_MAX; /* the oldest */
        count = TERM_RUNS_MAX;
    }
    memcpy(runs, message->tail + skipped * sizeof(runs[0]), count * sizeof(runs[0]));
    rc = entry_store_learn_terms(&node->store, runs, count, body.last_index);
    node->terms_known = rc == MS_OK;
    return rc;
}

static int handle_apply(struct raftd_node *node, const struct ms_ipc_message *message)
{
    switch (message->type) {
    case MS_IPC_LOG_ENTRIES:
        return handle_entries(node, message);
    case MS_IPC_LOG_COMPACTED:
        return handle_compacted(node, message);
    case MS_IPC_LOG_TERMS:
        return handle_terms(node, message);
    case MS_IPC_SUGGEST:
        return handle_suggestion(node, message);
    case MS_IPC_SNAP_OPENED:
    case MS_IPC_SNAP_DATA:
    case MS_IPC_SNAP_PROGRESS:
        return node->phase == NODE_RUNNING ? snapshot_exchange_handle(node->snapshots, message)
                                           : MS_EPROTO;
    default: /* the link lets through what storaged may send, and the client knows the rest */
        return apply_client_handle(&node->apply, message, node->basic.commit);
    }
}

/* Whether proposals and reads may be taken at all. */
static bool takes_work(const struct raftd_node *node)
{
    return node->phase == NODE_RUNNING && !node->draining && node->failure.status == MS_OK &&
           entry_store_unapplied_bytes(&node->store) < NODE_UNAPPLIED_BYTES_MAX &&
           node->log.backlog < LOG_CLIENT_BACKLOG_MAX;
}

static bool may_read(const struct raftd_node *node, const struct api_client *client)
{
    return ms_link_is_open(&client->link) && api_client_may_read(client) && takes_work(node) &&
           !proposals_is_full(&node->proposals) && !read_queue_is_full(&node->reads);
}

static int handle_propose(struct raftd_node *node, struct api_client_ref from,
                          const struct ms_ipc_message *message)
{
    struct ms_propose propose;
    enum ms_refusal reason = MS_REFUSED_BUSY;

    memcpy(&propose, message->body, sizeof(propose));
    if (message->tail_bytes < MS_COMMAND_HEADER_BYTES) {
        return MS_EPROTO;
    }
    if (node->log.full) {
        reason = MS_REFUSED_NO_SPACE;
    } else if (message->tail_bytes > node->entry_bytes_max) {
        reason = MS_REFUSED_TOO_LARGE;
    } else if (proposals_add(&node->proposals, from, &propose, message->tail,
                             message->tail_bytes) == MS_OK) {
        return MS_OK;
    }
    proposals_refuse_one(from, propose.id, reason, &node->api);
    publisher_count(&node->publisher, MS_METRIC_RAFT_PROPOSALS_REFUSED, 1);
    return MS_OK;
}

static int handle_api(struct raftd_node *node, struct api_client_ref from,
                      const struct ms_ipc_message *message)
{
    if (message->type == MS_IPC_PROPOSE) {
        return handle_propose(node, from, message);
    }
    if (message->type == MS_IPC_READ_INDEX) {
        struct ms_read_index request;

        memcpy(&request, message->body, sizeof(request));
        read_queue_add(&node->reads, from, &request);
        publisher_count(&node->publisher, MS_METRIC_RAFT_READ_INDEX, 1);
        return MS_OK;
    }
    if (message->type == MS_IPC_MEMBER_REQUEST) {
        const struct member_asker asker = {.instance = from.instance,
                                           .generation = from.generation};
        struct ms_member_request request;

        memcpy(&request, message->body, sizeof(request));
        member_service_ask(node->members, &asker,
                           node->api.slots[from.instance].link.info.peer_origin, &request,
                           (const char *)message->tail, message->tail_bytes, node->now);
        return MS_OK;
    }
    return MS_EPROTO;
}

/* Handles what waits on a link to storaged, a burst of it. Tells whether there may be more. */
static bool receive_storage(struct raftd_node *node, uint32_t doorbell)
{
    struct ms_link *link = link_of(node, doorbell);
    struct ms_ipc_message message;

    for (uint32_t i = 0; i < RECEIVE_BURST && ms_link_is_open(link); i++) {
        int rc = ms_link_receive(link, &message);

        if (rc == MS_EAGAIN) {
            return false;
        }
        if (rc == MS_OK) {
            rc = doorbell == DOORBELL_LOG ? handle_log(node, &message)
                                          : handle_apply(node, &message);
            ms_link_release(link);
        }
        if (rc != MS_OK) {
            link_failed(node, doorbell, rc);
            return false;
        }
    }
    return ms_link_is_open(link);
}

/* The same for an apid, as long as its work may be taken. */
static void receive_api(struct raftd_node *node, uint32_t instance)
{
    struct api_client *client = &node->api.slots[instance];
    struct api_client_ref from = {.instance = instance, .generation = client->link.info.generation};
    struct ms_ipc_message message;

    client->dry = false;
    for (uint32_t i = 0; i < RECEIVE_BURST && may_read(node, client); i++) {
        int rc = ms_link_receive(&client->link, &message);

        if (rc == MS_EAGAIN) {
            client->dry = true;
            return;
        }
        if (rc == MS_OK) {
            rc = handle_api(node, from, &message);
            ms_link_release(&client->link);
        }
        if (rc != MS_OK) {
            link_failed(node, DOORBELL_API + instance, rc);
            return;
        }
    }
}

bool raftd_node_receive(struct raftd_node *node)
{
    bool more = receive_storage(node, DOORBELL_LOG);

    return receive_storage(node, DOORBELL_APPLY) || more;
}

void raftd_node_receive_work(struct raftd_node *node)
{
    for (uint32_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        receive_api(node, (node->next_slot + i) % MS_API_WORKERS_MAX);
    }
    node->next_slot = (node->next_slot + 1) % MS_API_WORKERS_MAX;
}

bool raftd_node_work_waits(const struct raftd_node *node)
{
    for (uint32_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        const struct api_client *client = &node->api.slots[i];

        if (!client->dry && may_read(node, client)) {
            return true;
        }
    }
    return false;
}

/* ---- sending ---- */

static void flush(struct raftd_node *node)
{
    for (uint32_t i = 0; i < DOORBELL_COUNT; i++) {
        struct ms_link *link = link_of(node, i);

        if (ms_link_is_open(link)) {
            ms_link_flush(link);
        }
    }
}

/* Where does which term begin in the log? Asked once, as soon as somebody may want to know. */
static int ask_terms(struct raftd_node *node)
{
    const struct ms_log_terms_read body = {.request = 1};
    int rc;

    if (node->phase != NODE_RUNNING || node->terms_known || node->terms_asked ||
        !node->apply.have_state || node->basic.sole_voter) {
        return MS_OK;
    }
    rc = ms_link_send(&node->apply.link, MS_IPC_LOG_TERMS_READ, &body);
    node->terms_asked = rc == MS_OK;
    return rc == MS_EAGAIN ? MS_OK : rc;
}

/* Everything for storaged's main thread. */
static int pump_apply(struct raftd_node *node)
{
    int rc = apply_client_pump(&node->apply);

    if (rc == MS_OK) {
        rc = raftd_node_load(node);
    }
    if (rc == MS_OK) {
        rc = ask_terms(node);
    }
    if (rc == MS_OK && node->apply.have_state) {
        rc = log_reader_pump(&node->reader, &node->apply.link);
    }
    if (rc == MS_OK && node->phase == NODE_RUNNING) {
        rc = snapshot_exchange_pump(node->snapshots);
    }
    return rc == MS_EPEER ? MS_OK : rc; /* storaged is away; what waits, waits */
}

void raftd_node_send(struct raftd_node *node)
{
    int rc = log_client_pump(&node->log);

    if (rc != MS_OK) {
        link_failed(node, DOORBELL_LOG, rc);
    }
    rc = pump_apply(node);
    if (rc != MS_OK) {
        link_failed(node, DOORBELL_APPLY, rc);
    }
    /* A configuration that came up there goes to the log at once, not with the next wake-up. */
    rc = log_client_pump(&node->log);
    if (rc != MS_OK) {
        link_failed(node, DOORBELL_LOG, rc);
    }
    for (uint32_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        rc = api_client_pump(&node->api.slots[i]);
        if (rc != MS_OK) {
            link_failed(node, DOORBELL_API + i, rc);
        }
    }
    publisher_gauge(&node->publisher, MS_METRIC_RING_LOG, ms_link_backlog_bytes(&node->log.link));
    publisher_gauge(&node->publisher, MS_METRIC_RING_APPLY,
                    ms_link_backlog_bytes(&node->apply.link));
    flush(node);
}

/* ---- sleeping ---- */

void raftd_node_clear_doorbells(struct raftd_node *node)
{
    struct epoll_event events[DOORBELL_COUNT];

    /* Waiting takes the edges, and which they were does not matter: a round looks at all links. */
    (void)epoll_wait(node->epoll_fd, events, DOORBELL_COUNT, 0); /* EINTR: the caller comes again */
}

bool raftd_node_prepare_sleep(struct raftd_node *node)
{
    bool quiet = true;

    for (uint32_t i = 0; i < DOORBELL_COUNT; i++) {
        struct ms_link *link = link_of(node, i);
        bool listens = i < DOORBELL_API || node->api.slots[i - DOORBELL_API].dry;

        if (ms_link_is_open(link) && listens && !ms_link_prepare_sleep(link)) {
            quiet = false;
        }
    }
    return quiet;
}

/* ---- coming and going ---- */

/* Handles all that a neighbour had published before it died. */
static void drain_link(struct raftd_node *node, uint32_t doorbell)
{
    if (doorbell < DOORBELL_API) {
        while (receive_storage(node, doorbell)) {
            /* bounded by the ring: nobody writes to it any more */
        }
        return;
    }
    /* An apid's clients are gone with it: what does not fit in now, nobody misses. */
    receive_api(node, doorbell - DOORBELL_API);
    if (node->phase == NODE_RUNNING && node->failure.status == MS_OK) {
        raftd_node_submit(node);
    }
}

static int doorbell_for(const struct ms_link_info *info, uint32_t *doorbell)
{
    if (info->kind == MS_LINK_RAFT_LOG) {
        *doorbell = DOORBELL_LOG;
    } else if (info->kind == MS_LINK_RAFT_APPLY) {
        *doorbell = DOORBELL_APPLY;
    } else if (info->kind == MS_LINK_API_RAFT && info->peer_instance < MS_API_WORKERS_MAX) {
        *doorbell = DOORBELL_API + info->peer_instance;
    } else {
        return MS_EPROTO;
    }
    return MS_OK;
}

int raftd_node_take_link(struct raftd_node *node, const struct ms_link *link, struct ms_instant now,
                         struct ms_err *err)
{
    struct ms_link taken = *link;
    uint32_t doorbell = 0;
    int rc = doorbell_for(&taken.info, &doorbell);

    node->now = now;
    if (rc != MS_OK) {
        rc = ms_err_set(err, rc, 0, "link of kind %u, instance %u", taken.info.kind,
                        taken.info.peer_instance);
        goto out;
    }
    if (ms_link_is_open(link_of(node, doorbell))) {
        drain_link(node, doorbell);
        close_link(node, doorbell);
    }
    rc = ms_link_watch(&taken, node->epoll_fd, err);
    if (rc != MS_OK) {
        goto out;
    }
    switch (doorbell) {
    case DOORBELL_LOG:
        log_client_take_link(&node->log, &taken);
        break;
    case DOORBELL_APPLY:
        apply_client_take_link(&node->apply, &taken);
        break;
    default: /* see link_of */
        rc = api_client_take_link(&node->api.slots[doorbell - DOORBELL_API], &taken);
        if (rc != MS_OK) {
            ms_link_unwatch(&taken, node->epoll_fd);
            rc = ms_err_set(err, rc, 0, "link to apid %u", taken.info.peer_instance);
            goto out;
        }
        break;
    }
    set_entry_bytes_max(node);
    return raftd_node_outcome(node, err);

out:
    ms_link_fini(&taken);
    return rc;
}

int raftd_node_peer_down(struct raftd_node *node, enum ms_role role, uint32_t instance,
                         struct ms_instant now, struct ms_err *err)
{
    node->now = now;
    for (uint32_t i = 0; i < DOORBELL_COUNT; i++) {
        struct ms_link *link = link_of(node, i);

        if (ms_link_is_open(link) && link->info.peer_role == (uint32_t)role &&
            link->info.peer_instance == instance) {
            drain_link(node, i);
            close_link(node, i);
        }
    }
    return raftd_node_outcome(node, err);
}

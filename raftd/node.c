/*
 * node: see node.h. Here are its beginning and end, and the loop.
 *
 * One round of raftd_node_run: receive what storaged and the apids sent (what peers sent is in the
 * core already), let the core work, send what it wants, wake the far ends that sleep. A round
 * handles all that waits, so the more there is to do, the fewer system calls each message costs.
 */
#include "raftd/node_private.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/command.h"

/* How long to go on before the caller may look at other things. */
#define ROUNDS_MAX 16u

int raftd_node_fail(struct raftd_node *node, int status, const char *format, ...)
{
    char text[MS_ERR_TEXT_BYTES];
    va_list arguments;

    if (node->failure.status != MS_OK) {
        return node->failure.status;
    }
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return ms_err_set(&node->failure, status, 0, "%s", text);
}

int raftd_node_outcome(const struct raftd_node *node, struct ms_err *err)
{
    if (node->failure.status == MS_OK) {
        return MS_OK;
    }
    return ms_err_set(err, node->failure.status, 0, "%s", node->failure.text);
}

/* ---- creation ---- */

static void *allocate(void *ctx, size_t len_bytes)
{
    (void)ctx;
    return malloc(len_bytes);
}

static void release(void *ctx, void *memory)
{
    (void)ctx;
    free(memory);
}

static void on_written(void *ctx, struct raft_message *message)
{
    struct raftd_node *node = ctx;

    if (node->phase == NODE_FOUNDING) {
        raftd_node_founded(node);
    } else {
        raftd_node_written(node, message);
    }
}

static void on_conf_durable(void *ctx, raft_index index)
{
    struct raftd_node *node = ctx;

    apply_client_conf_durable(&node->apply, index);
}

static int on_conf_change(void *ctx, const struct raft_entry *entry, struct conf_record *out)
{
    return raftd_node_change_conf(ctx, entry, out);
}

static void on_applied(void *ctx, const struct raft_message *message)
{
    raftd_node_applied(ctx, message);
}

/* Sets up everything that needs nothing of the system. */
static void init(struct raftd_node *node, const struct raftd_node_options *options)
{
    const struct log_client_events log_events = {
        .on_written = on_written, .on_conf_durable = on_conf_durable, .ctx = node};
    const struct apply_client_events apply_events = {
        .on_conf_change = on_conf_change, .on_applied = on_applied, .ctx = node};
    const uint64_t tick_ms = options->config->heartbeat_interval_ms;
    const uint64_t ticks = (options->config->election_timeout_ms + tick_ms - 1) / tick_ms;

    node->options = *options;
    node->options.config = NULL;
    node->config = *options->config;
    node->now = options->now;
    node->alloc = (struct raft_alloc){.alloc = allocate, .free = release};
    node->epoll_fd = -1;
    node->election_ticks = ticks < 2 ? 2 : ticks;
    node->log_first_index = 1;
    entry_store_init(&node->store, &node->alloc, NODE_RECENT_BYTES_ALONE);
    log_reader_init(&node->reader, &node->alloc);
    log_client_init(&node->log, &node->alloc, &log_events);
    apply_client_init(&node->apply, &node->alloc, &apply_events);
    api_clients_init(&node->api);
    proposals_init(&node->proposals, &node->alloc);
    read_queue_init(&node->reads, options->origin);
    /* The complement is as good a name as the origin itself, and another one. */
    lease_init(&node->lease, ~options->origin, tick_ms, node->election_ticks);
    membership_init(&node->membership);
    publisher_init(&node->publisher, options->page, options->metrics);
}

int raftd_node_create(const struct raftd_node_options *options, struct raftd_node **out,
                      struct ms_err *err)
{
    struct raftd_node *node = calloc(1, sizeof(*node));
    int rc;

    if (node == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "node");
    }
    init(node, options);
    rc = admission_init(&node->admission, options->config, options->data_id, options->now, err);
    if (rc == MS_OK && raftd_node_create_services(node) != MS_OK) {
        rc = ms_err_set(err, MS_ENOMEM, 0, "node");
    }
    if (rc == MS_OK) {
        node->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (node->epoll_fd < 0) {
            rc = ms_err_set(err, MS_EIO, errno, "epoll_create1");
        }
    }
    if (rc != MS_OK) {
        raftd_node_destroy(node);
        return rc;
    }
    *out = node;
    return MS_OK;
}

void raftd_node_destroy(struct raftd_node *node)
{
    if (node == NULL) {
        return;
    }
    member_service_destroy(node->members);
    snapshot_exchange_destroy(node->snapshots);
    /* The core first: what it holds came from the others' memory. */
    raft_destroy(node->raft);
    raft_message_release(&node->alloc, &node->held_response);
    log_client_fini(&node->log);
    apply_client_fini(&node->apply);
    api_clients_fini(&node->api);
    proposals_fini(&node->proposals);
    log_reader_fini(&node->reader);
    entry_store_fini(&node->store);
    if (node->epoll_fd >= 0) {
        (void)close(node->epoll_fd);
    }
    free(node);
}

void raftd_node_set_listening(struct raftd_node *node)
{
    node->listening = true;
}

int raftd_node_fd(const struct raftd_node *node)
{
    return node->epoll_fd;
}

/* ---- work ---- */

static void refuse(struct raftd_node *node, bool all)
{
    size_t refused =
        proposals_refuse(&node->proposals, node->now, all, MS_REFUSED_NO_LEADER, &node->api);

    publisher_count(&node->publisher, MS_METRIC_RAFT_PROPOSALS_REFUSED, refused);
    read_queue_refuse(&node->reads, node->now, all, &node->api);
}

/*
 * Whoever has to wait for a leader waits until his deadline, but not when none has been known for
 * an election timeout. A sole voter will lead as soon as its disk answers: there waiting helps.
 */
static void refuse_if_leaderless(struct raftd_node *node)
{
    uint64_t leaderless_ms;

    if (node->removed_at.ns != 0) {
        refuse(node, true); /* its leader is not this node's any more */
        return;
    }
    if (node->basic.lead != 0) {
        return;
    }
    leaderless_ms = ms_clock_elapsed_ms(node->leaderless_since, node->now);
    refuse(node, !node->basic.sole_voter && leaderless_ms > node->config.election_timeout_ms);
}

void raftd_node_submit(struct raftd_node *node)
{
    size_t count = node->proposals.count;
    int rc = proposals_submit(&node->proposals, node->raft);

    if (rc == MS_OK) {
        publisher_count(&node->publisher, MS_METRIC_RAFT_PROPOSALS, count);
        node->proposals_at_risk = node->proposals_at_risk || count > 0;
    } else if (rc == MS_ENOMEM) {
        count = proposals_refuse(&node->proposals, node->now, true, MS_REFUSED_BUSY, &node->api);
        publisher_count(&node->publisher, MS_METRIC_RAFT_PROPOSALS_REFUSED, count);
    } else if (rc != MS_EAGAIN) {
        (void)raftd_node_fail(node, rc, "propose: %s", ms_status_text(rc));
    }
    rc = read_queue_ask(&node->reads, node->raft, node->now);
    if (rc != MS_OK) {
        (void)raftd_node_fail(node, rc, "read index: %s", ms_status_text(rc));
    }
}

/* One round. Tells whether there may be more to do. */
static bool work(struct raftd_node *node)
{
    bool more = raftd_node_receive(node);

    raftd_node_start(node);
    raftd_node_receive_work(node);
    if (node->phase == NODE_RUNNING && node->failure.status == MS_OK) {
        raftd_node_submit(node);
        refuse_if_leaderless(node);
        member_service_run(node->members, node->now);
    }
    if (node->phase == NODE_RUNNING && node->failure.status == MS_OK) {
        raftd_node_do_ready(node);
        raftd_node_publish(node);
    }
    /* storaged first: its disk takes longer than the way to the others. */
    raftd_node_send(node);
    node->options.network.flush(node->options.network.ctx);
    /* Sending may complete things at once, and what completes may give the core more to do. */
    return more || raftd_node_work_waits(node) ||
           (node->phase == NODE_RUNNING && raft_has_ready(node->raft));
}

int raftd_node_run(struct raftd_node *node, struct ms_instant now, struct ms_err *err)
{
    bool more = true;

    node->now = now;
    node->has_news = false;
    raftd_node_clear_doorbells(node);
    for (uint32_t i = 0; i < ROUNDS_MAX && more && node->failure.status == MS_OK; i++) {
        more = work(node) || !raftd_node_prepare_sleep(node);
    }
    if (node->failure.status != MS_OK) {
        return raftd_node_outcome(node, err);
    }
    return more ? MS_EAGAIN : MS_OK;
}

/* ---- events from outside ---- */

bool raftd_node_has_news(const struct raftd_node *node)
{
    return node->has_news;
}

int raftd_node_tick(struct raftd_node *node, struct ms_instant now, struct ms_err *err)
{
    node->now = now;
    if (node->failure.status == MS_OK) {
        raftd_node_check_fate(node);
    }
    if (node->phase == NODE_RUNNING && node->failure.status == MS_OK) {
        /* What storaged has answered must not count as waiting. */
        (void)raftd_node_receive(node);
        raftd_node_pass_time(node);
    }
    return raftd_node_outcome(node, err);
}

void raftd_node_ask_member(struct raftd_node *node, const struct ms_control_member_request *request,
                           struct ms_instant now)
{
    const struct member_asker asker = {.supervisor = true};

    node->now = now;
    node->has_news = true;
    member_service_ask(node->members, &asker, 0, &request->head, request->peer_url,
                       strnlen(request->peer_url, sizeof(request->peer_url)), now);
}

void raftd_node_drain(struct raftd_node *node)
{
    node->draining = true;
}

bool raftd_node_is_idle(const struct raftd_node *node)
{
    return proposals_is_empty(&node->proposals) && node->log.backlog == 0 &&
           apply_client_is_idle(&node->apply);
}

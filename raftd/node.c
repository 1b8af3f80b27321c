/*
 * node: see node.h. Here are its beginning and end, and the loop.
 *
 * One round of raftd_node_run: receive what storaged and the apids sent, let the core work, send
 * what it wants, wake the far ends that sleep. A round handles all that waits, so the more there
 * is to do, the fewer system calls each message costs.
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

static void on_written(void *ctx, const struct raft_message *message)
{
    struct raftd_node *node = ctx;

    if (node->phase == NODE_FOUNDING) {
        raftd_node_founded(node);
    } else {
        raftd_node_deliver(node, message);
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
    struct raftd_node *node = ctx;

    entry_store_applied(&node->store, message->entries.entries[message->entries.count - 1].index);
    raftd_node_deliver(node, message);
}

/* What this version can be configured to. */
static int check_config(const struct ms_config *config, struct ms_err *err)
{
    if (ms_config_cluster_size(config) > 1) {
        return ms_err_set(err, MS_EINVAL, 0,
                          "--cluster: clusters of more than one member need the peer transport, "
                          "which this version does not have yet");
    }
    if (config->join != 0) {
        return ms_err_set(err, MS_EINVAL, 0,
                          "--join: joining a cluster needs the peer transport, which this version "
                          "does not have yet");
    }
    return MS_OK;
}

int raftd_node_create(const struct raftd_node_options *options, struct raftd_node **out,
                      struct ms_err *err)
{
    const struct log_client_events log_events = {.on_written = on_written,
                                                 .on_conf_durable = on_conf_durable};
    const struct apply_client_events apply_events = {.on_conf_change = on_conf_change,
                                                     .on_applied = on_applied};
    struct raftd_node *node;
    int rc = check_config(options->config, err);

    if (rc != MS_OK) {
        return rc;
    }
    node = calloc(1, sizeof(*node));
    if (node == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "node");
    }
    node->options = *options;
    node->options.config = NULL;
    node->config = *options->config;
    node->alloc = (struct raft_alloc){.alloc = allocate, .free = release};
    node->log_first_index = 1;
    entry_store_init(&node->store, &node->alloc, NODE_RECENT_BYTES_MAX);
    log_client_init(&node->log, &node->alloc, &log_events);
    node->log.events.ctx = node;
    apply_client_init(&node->apply, &node->alloc, &apply_events);
    node->apply.events.ctx = node;
    api_clients_init(&node->api);
    proposals_init(&node->proposals, &node->alloc);
    read_queue_init(&node->reads, options->origin);
    membership_init(&node->membership);
    publisher_init(&node->publisher, options->page, options->metrics);
    node->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (node->epoll_fd < 0) {
        rc = ms_err_set(err, MS_EIO, errno, "epoll_create1");
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
    /* The core first: what it holds came from the others' memory. */
    raft_destroy(node->raft);
    log_client_fini(&node->log);
    apply_client_fini(&node->apply);
    api_clients_fini(&node->api);
    proposals_fini(&node->proposals);
    entry_store_fini(&node->store);
    if (node->epoll_fd >= 0) {
        (void)close(node->epoll_fd);
    }
    free(node);
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

    if (node->phase != NODE_RUNNING || node->basic.lead != 0) {
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
    }
    if (node->phase == NODE_RUNNING && node->failure.status == MS_OK) {
        raftd_node_do_ready(node);
        raftd_node_publish(node);
    }
    raftd_node_send(node);
    /* Sending may complete things at once, and what completes may give the core more to do. */
    return more || raftd_node_work_waits(node) ||
           (node->phase == NODE_RUNNING && raft_has_ready(node->raft));
}

int raftd_node_run(struct raftd_node *node, struct ms_instant now, struct ms_err *err)
{
    bool more = true;

    node->now = now;
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

int raftd_node_tick(struct raftd_node *node, struct ms_instant now, struct ms_err *err)
{
    int rc;

    node->now = now;
    if (node->phase != NODE_RUNNING || node->failure.status != MS_OK) {
        return raftd_node_outcome(node, err);
    }
    rc = raft_tick(node->raft);
    if (rc != MS_OK) {
        (void)raftd_node_fail(node, rc, "tick: %s", ms_status_text(rc));
    }
    read_queue_ask_again_after(&node->reads, now, node->config.election_timeout_ms);
    return raftd_node_outcome(node, err);
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

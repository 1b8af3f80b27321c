/*
 * node_core: what goes into the core and what comes out of it.
 *
 * The order of the two sides of a step is fixed here: what the core decided is published on the
 * status page first, and only then put on the way to storage or into answers.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/log.h"
#include "raftd/node_private.h"

/* One message to a follower, and what may be on its way there. */
#define MESSAGE_BYTES_MAX  (1024u * 1024u)
#define INFLIGHT_MESSAGES  256u
#define INFLIGHT_BYTES_MAX (16u * 1024u * 1024u)
/* Handed out for applying at a time. */
#define COMMITTED_BYTES_MAX (4u * 1024u * 1024u)
/* The node stops taking proposals long before: see NODE_UNAPPLIED_BYTES_MAX. */
#define UNCOMMITTED_BYTES_MAX (4u * NODE_UNAPPLIED_BYTES_MAX)

/* ---- what the core asks for ---- */

static int initial_state(void *ctx, struct raft_hard_state *hard, struct raft_conf_state *conf)
{
    const struct raftd_node *node = ctx;

    *hard = node->initial_hard;
    membership_to_core(&node->membership, conf);
    return MS_OK;
}

static int stored_entries(void *ctx, raft_index first, raft_index end, uint64_t max_bytes,
                          struct raft_slice *out)
{
    const struct raftd_node *node = ctx;

    return entry_store_entries(&node->store, first, end, max_bytes, out);
}

static int stored_term(void *ctx, raft_index index, raft_term *term)
{
    const struct raftd_node *node = ctx;

    return entry_store_term(&node->store, index, term);
}

static raft_index stored_first_index(void *ctx)
{
    const struct raftd_node *node = ctx;

    return entry_store_first_index(&node->store);
}

static raft_index stored_last_index(void *ctx)
{
    const struct raftd_node *node = ctx;

    return entry_store_last_index(&node->store);
}

/* A snapshot goes to a follower, and a sole voter has none. */
static int stored_snapshot(void *ctx, struct raft_snapshot **out)
{
    (void)ctx;
    (void)out;
    return MS_EAGAIN;
}

/* Any bias of the remainder is far below what election timeouts could show. */
static uint32_t draw(void *ctx, uint32_t n)
{
    uint64_t number = 0;

    (void)ctx;
    if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number)) {
        /* Only before the kernel's pool is ready; nodes start at different instants. */
        number = ms_clock_now().ns;
    }
    return (uint32_t)(number % n);
}

static void log_line(void *ctx, enum raft_log_level level, const char *line)
{
    enum ms_log_level shown = MS_LOG_DEBUG;

    (void)ctx;
    switch (level) {
    case RAFT_LOG_DEBUG:
    case RAFT_LOG_INFO: /* what matters of it, the node says itself */
        break;
    case RAFT_LOG_WARN:
        shown = MS_LOG_WARN;
        break;
    case RAFT_LOG_ERROR:
        shown = MS_LOG_ERROR;
        break;
    }
    ms_log(shown, "raft core", MS_F_STR("detail", line));
}

/* ---- creation ---- */

static struct raft_options core_options(struct raftd_node *node)
{
    uint64_t heartbeat_ms = node->config.heartbeat_interval_ms;
    uint64_t ticks = (node->config.election_timeout_ms + heartbeat_ms - 1) / heartbeat_ms;

    return (struct raft_options){
        .id = node->config.id,
        .election_ticks = ticks < 2 ? 2 : (uint32_t)ticks,
        .heartbeat_ticks = 1,
        .applied = node->apply.applied,
        .max_message_bytes = MESSAGE_BYTES_MAX,
        .max_committed_bytes = COMMITTED_BYTES_MAX,
        .max_uncommitted_bytes = UNCOMMITTED_BYTES_MAX,
        .max_inflight_messages = INFLIGHT_MESSAGES,
        .max_inflight_bytes = INFLIGHT_BYTES_MAX,
        .max_unstable_bytes = UNCOMMITTED_BYTES_MAX,
        .async_storage = true,
        .pre_vote = true,
        .check_quorum = true,
        .step_down_on_removal = true,
        /* This node publishes no read lease, so a restarted leader has none to give up. */
        .leader_may_recampaign = true,
        .read_mode = RAFT_READ_SAFE,
        .alloc = node->alloc,
        .storage = {.initial_state = initial_state,
                    .entries = stored_entries,
                    .term = stored_term,
                    .first_index = stored_first_index,
                    .last_index = stored_last_index,
                    .snapshot = stored_snapshot,
                    .ctx = node},
        .draw = draw,
        .log = log_line,
        .log_level = ms_log_get_level() == MS_LOG_DEBUG ? RAFT_LOG_DEBUG : RAFT_LOG_WARN,
    };
}

static void say_ready(struct raftd_node *node)
{
    const struct raft_basic_status *basic = &node->basic;

    if (node->said_ready ||
        (node->options.ready_when_leading && basic->sole_voter && !basic->term_committed)) {
        return;
    }
    node->said_ready = true;
    node->options.on_ready(node->options.ctx);
}

void raftd_node_create_core(struct raftd_node *node)
{
    const struct raft_options options = core_options(node);
    int rc = raft_create(&options, &node->raft);

    if (rc != MS_OK) {
        (void)raftd_node_fail(node, rc, "raft core: %s", ms_status_text(rc));
        return;
    }
    node->phase = NODE_RUNNING;
    node->leaderless_since = node->now;
    log_client_adopt(&node->log);
    apply_client_adopt(&node->apply);
    publisher_set_members(&node->publisher, &node->membership);
    raft_basic_status(node->raft, &node->basic);
    raftd_node_publish(node);
    ms_log(MS_LOG_INFO, "recovered", MS_F_U64("term", node->basic.term),
           MS_F_U64("commit", node->basic.commit), MS_F_U64("applied", node->basic.applied),
           MS_F_U64("last_index", node->basic.last_index),
           MS_F_U64("snapshot_index", node->log.state.snapshot_index));
    say_ready(node);
}

/* ---- out of the core ---- */

void raftd_node_publish(struct raftd_node *node)
{
    const struct publisher_facts facts = {.log_first_index = node->log_first_index,
                                          .durable_index = node->log.acked_last.index,
                                          .log_full = node->log.full,
                                          .leaderless_since = node->leaderless_since};

    publisher_update(&node->publisher, &node->basic, &facts);
}

static void note_roles(struct raftd_node *node, const struct raft_soft_state *soft)
{
    const struct raft_basic_status *basic = &node->basic;

    if (soft->state == RAFT_STATE_LEADER) {
        ms_log(MS_LOG_INFO, "became leader", MS_F_U64("term", basic->term),
               MS_F_U64("commit", basic->commit));
    } else if (soft->lead != 0) {
        ms_log(MS_LOG_INFO, "following", MS_F_U64("leader", soft->lead),
               MS_F_U64("term", basic->term), MS_F_U64("commit", basic->commit));
    } else {
        node->leaderless_since = node->now;
        ms_log(MS_LOG_DEBUG, "no leader", MS_F_STR("state", raft_state_name(soft->state)),
               MS_F_U64("term", basic->term));
    }
    if (soft->lead != 0) {
        publisher_count(&node->publisher, MS_METRIC_RAFT_ELECTIONS, 1);
    }
    read_queue_ask_again(&node->reads);
}

/* A message for another node: the core treats it as lost, which Raft allows. */
static void drop(struct raftd_node *node, const struct raft_message *message)
{
    node->unsendable++;
    (void)raft_report_unreachable(node->raft, message->to); /* a hint; the next one may succeed */
}

static void route(struct raftd_node *node, struct raft_message *message)
{
    int rc = MS_OK;

    if (message->type == RAFT_MSG_STORAGE_APPEND) {
        assert(message->snapshot == NULL); /* only a peer's MsgSnap brings one */
        rc = entry_store_append(&node->store, message->entries.entries, message->entries.count);
        if (rc == MS_OK) {
            rc = log_client_append(&node->log, message);
        }
    } else if (message->type == RAFT_MSG_STORAGE_APPLY) {
        rc = apply_client_apply(&node->apply, message);
    } else {
        drop(node, message);
    }
    if (rc != MS_OK) {
        (void)raftd_node_fail(node, rc, "taking over what the core wants done");
    }
}

/*
 * A sole voter needs nobody's consent, so it does not wait for the election timeout. The core
 * refuses while a change of configuration is committed and not yet applied.
 */
static void campaign_if_sole(struct raftd_node *node)
{
    const struct raft_basic_status *basic = &node->basic;
    int rc;

    if (!basic->sole_voter || !basic->is_voter || basic->state != RAFT_STATE_FOLLOWER ||
        basic->lead != 0 ||
        entry_store_has_conf_change(&node->store, basic->applied, basic->commit)) {
        return;
    }
    rc = raft_campaign(node->raft);
    if (rc != MS_OK) {
        (void)raftd_node_fail(node, rc, "campaign: %s", ms_status_text(rc));
    }
}

static void do_one_ready(struct raftd_node *node)
{
    struct raft_ready ready;
    int rc = raft_ready(node->raft, &ready);

    if (rc != MS_OK) {
        (void)raftd_node_fail(node, rc, "raft core: %s", ms_status_text(rc));
        return;
    }
    raft_basic_status(node->raft, &node->basic);
    if (ready.has_soft_state) {
        note_roles(node, &ready.soft_state);
    }
    raftd_node_publish(node);
    say_ready(node);
    for (size_t i = 0; i < ready.message_count; i++) {
        route(node, &ready.messages[i]);
    }
    for (size_t i = 0; i < ready.read_state_count; i++) {
        read_queue_answer(&node->reads, &ready.read_states[i], &node->api);
    }
    raft_ready_release(node->raft, &ready);
}

void raftd_node_do_ready(struct raftd_node *node)
{
    raft_basic_status(node->raft, &node->basic);
    campaign_if_sole(node);
    while (node->failure.status == MS_OK && raft_has_ready(node->raft)) {
        do_one_ready(node);
    }
}

/* ---- into the core ---- */

void raftd_node_deliver(struct raftd_node *node, const struct raft_message *message)
{
    for (size_t i = 0; i < message->response_count; i++) {
        const struct raft_message *response = &message->responses[i];
        int rc;

        if (response->to != node->config.id) {
            drop(node, response);
            continue;
        }
        rc = raft_step(node->raft, response);
        /* MS_ENOENT: this node was removed meanwhile, its own acknowledgement counts no more. */
        if (rc != MS_OK && rc != MS_ENOENT) {
            (void)raftd_node_fail(node, rc, "raft core: %s: %s", raft_message_name(response->type),
                                  ms_status_text(rc));
        }
    }
}

int raftd_node_change_conf(struct raftd_node *node, const struct raft_entry *entry,
                           struct conf_record *out)
{
    struct raft_conf_change change;
    struct raft_conf_state conf;
    struct conf_record record = {0};
    const char *reason = "malformed";
    int rc = raft_conf_change_decode(entry, &change);

    if (rc == MS_OK) {
        rc = raft_apply_conf_change(node->raft, &change, &conf);
        reason = rc == MS_EINVAL ? raft_conf_change_reason(node->raft) : ms_status_text(rc);
    }
    if (rc == MS_ENOMEM) {
        return rc;
    }
    if (rc != MS_OK) {
        /* The same on every node, so the entry is applied as one that changes nothing. */
        ms_log(MS_LOG_WARN, "configuration change has no effect", MS_F_U64("index", entry->index),
               MS_F_STR("reason", reason));
        return MS_OK;
    }
    membership_update(&node->membership, &conf, &change);
    rc = membership_encode(&node->membership, &node->alloc, entry->index, &record);
    if (rc == MS_OK) {
        rc = log_client_write_conf(&node->log, &record);
    }
    if (rc != MS_OK) {
        raft_buffer_release(record.buffer);
        return rc;
    }
    publisher_set_members(&node->publisher, &node->membership);
    *out = record;
    return MS_OK;
}

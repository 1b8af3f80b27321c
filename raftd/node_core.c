/*
 * node_core: what goes into the core and what comes out of it.
 *
 * The order of the two sides of a step is fixed here: what the core decided is published on the
 * status page first, and only then put on the way to storage or into answers.
 */
#include <assert.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/log.h"
#include "raftd/node_private.h"

/* One message to a follower, and what may be on its way there. */
#define MESSAGE_BYTES_MAX  (1024u * 1024u)
#define INFLIGHT_MESSAGES  256u
#define INFLIGHT_BYTES_MAX (64u * 1024u * 1024u)
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
    struct raftd_node *node = ctx;
    const raft_index kept = entry_store_base_index(&node->store) + 1;
    int rc = entry_store_entries(&node->store, first, end, max_bytes, out);

    if (rc != MS_EAGAIN) {
        return rc;
    }
    return log_reader_entries(&node->reader, first, end < kept ? end : kept, max_bytes, out);
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

static int stored_snapshot(void *ctx, struct raft_snapshot **out)
{
    struct raftd_node *node = ctx;
    raft_index first = entry_store_first_index(&node->store);

    if (!node->terms_known) {
        return MS_EAGAIN; /* the log may reach further back than is known yet */
    }
    if (first <= node->snapshot_floor) {
        first = node->snapshot_floor + 1;
    }
    return snapshot_exchange_newest(node->snapshots, first, out);
}

/* Any bias of the remainder is far below what election timeouts could show. */
static uint32_t draw(void *ctx, uint32_t n)
{
    const struct raftd_node *node = ctx;
    uint64_t number = 0;

    if (node->options.draw != NULL) {
        return node->options.draw(node->options.ctx, n);
    }
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
    return (struct raft_options){
        .id = node->config.id,
        .election_ticks = (uint32_t)node->election_ticks,
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
        /* A leader that is no voter any more goes on until another leads: see node_time.c. */
        .step_down_on_removal = false,
        /* A restarted leader publishes a page without a lease before it does anything else. */
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
        .draw_ctx = node,
        .log = log_line,
        .log_level = ms_log_get_level() == MS_LOG_DEBUG ? RAFT_LOG_DEBUG : RAFT_LOG_WARN,
    };
}

static void say_ready(struct raftd_node *node)
{
    const struct raft_basic_status *basic = &node->basic;

    if (node->said_ready ||
        (node->options.first_start && basic->sole_voter && !basic->term_committed)) {
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
    raftd_node_begin_time(node); /* before the page is written */
    log_client_adopt(&node->log);
    apply_client_adopt(&node->apply);
    raft_basic_status(node->raft, &node->basic);
    raftd_node_membership_changed(node);
    raftd_node_publish(node);
    ms_log(MS_LOG_INFO, "recovered", MS_F_U64("term", node->basic.term),
           MS_F_U64("commit", node->basic.commit), MS_F_U64("applied", node->basic.applied),
           MS_F_U64("last_index", node->basic.last_index),
           MS_F_U64("snapshot_index", node->log.state.snapshot_index));
    node->options.on_running(node->options.ctx);
    say_ready(node);
}

/* ---- out of the core ---- */

void raftd_node_publish(struct raftd_node *node)
{
    const struct publisher_facts facts = {.log_first_index = node->log_first_index,
                                          .durable_index = log_client_certain_index(&node->log),
                                          .conf_applied =
                                              node->apply.applied >= node->membership.index,
                                          .log_full = node->log.full,
                                          .leaderless_since = node->leaderless_since,
                                          .lease_end = node->lease.end};

    publisher_update(&node->publisher, &node->basic, &facts);
}

static void log_role(struct raftd_node *node, const struct raft_soft_state *soft)
{
    const struct raft_basic_status *basic = &node->basic;

    if (soft->state == RAFT_STATE_LEADER) {
        ms_log(MS_LOG_INFO, "became leader", MS_F_U64("term", basic->term),
               MS_F_U64("commit", basic->commit));
    } else if (soft->lead != 0) {
        ms_log(MS_LOG_INFO, "following", MS_F_U64("leader", soft->lead),
               MS_F_U64("term", basic->term), MS_F_U64("commit", basic->commit));
    } else {
        ms_log(node->known_lead != 0 ? MS_LOG_INFO : MS_LOG_DEBUG, "no leader",
               MS_F_STR("state", raft_state_name(soft->state)), MS_F_U64("term", basic->term));
    }
    if (soft->lead != 0) {
        publisher_count(&node->publisher, MS_METRIC_RAFT_ELECTIONS, 1);
    }
}

/* The log starts anew behind a snapshot; so does everything that mirrors it. */
static void take_snapshot(struct raftd_node *node, const struct raft_snapshot *snapshot)
{
    ms_log(MS_LOG_INFO, "installing snapshot", MS_F_U64("index", snapshot->index),
           MS_F_U64("term", snapshot->term));
    apply_client_replace(&node->apply, snapshot->index);
    entry_store_reset(&node->store, snapshot->index, snapshot->term);
    log_reader_reset(&node->reader);
    node->log_first_index = snapshot->index + 1;
    raftd_node_restore_conf(node, snapshot);
}

static int append(struct raftd_node *node, struct raft_message *message)
{
    int rc;

    if (message->snapshot != NULL) {
        take_snapshot(node, message->snapshot);
    }
    if (message->snapshot != NULL || message->entries.count > 0) {
        admission_set_founding(&node->admission, false);
    }
    rc = entry_store_append(&node->store, message->entries.entries, message->entries.count);
    return rc != MS_OK ? rc : log_client_append(&node->log, message, node->now);
}

/* What the log is about to replace must be known before anything is published as committed. */
static void route_appends(struct raftd_node *node, const struct raft_ready *ready)
{
    for (size_t i = 0; i < ready->message_count; i++) {
        if (ready->messages[i].type == RAFT_MSG_STORAGE_APPEND &&
            append(node, &ready->messages[i]) != MS_OK) {
            (void)raftd_node_fail(node, MS_ENOMEM, "taking over what the core wants written");
        }
    }
}

static void route(struct raftd_node *node, struct raft_message *message)
{
    int rc = MS_OK;

    if (message->to == RAFT_NONE || node->failure.status != MS_OK) {
        return; /* empty: route_appends has taken it */
    }
    if (message->type == RAFT_MSG_STORAGE_APPLY) {
        rc = apply_client_apply(&node->apply, message);
    } else {
        raftd_node_send_message(node, message);
    }
    if (rc != MS_OK) {
        (void)raftd_node_fail(node, rc, "taking over what the core wants done");
    }
}

static void take_read_state(struct raftd_node *node, const struct raft_read_state *state)
{
    if (!lease_answer(&node->lease, state)) {
        read_queue_answer(&node->reads, state, &node->api);
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
        log_role(node, &ready.soft_state);
    }
    raftd_node_note_leader(node);
    for (size_t i = 0; i < ready.read_state_count; i++) {
        take_read_state(node, &ready.read_states[i]);
    }
    lease_follow(&node->lease, &node->basic);
    route_appends(node, &ready);
    raftd_node_publish(node);
    say_ready(node);
    for (size_t i = 0; i < ready.message_count; i++) {
        route(node, &ready.messages[i]);
    }
    raft_ready_release(node->raft, &ready);
}

void raftd_node_do_ready(struct raftd_node *node)
{
    raft_basic_status(node->raft, &node->basic);
    raftd_node_campaign(node);
    while (node->failure.status == MS_OK && raft_has_ready(node->raft)) {
        do_one_ready(node);
    }
}

/* ---- into the core ---- */

int raftd_node_check_step(struct raftd_node *node, const struct raft_message *message, int rc)
{
    /* MS_ENOENT: this node was removed meanwhile, its own acknowledgement counts no more. */
    if (rc == MS_OK || rc == MS_ENOENT) {
        return MS_OK;
    }
    return raftd_node_fail(node, rc, "raft core: %s: %s", raft_message_name(message->type),
                           ms_status_text(rc));
}

/* A response that was attached to a write or to what is applied. */
static void deliver(struct raftd_node *node, struct raft_message *response)
{
    if (response->to == node->config.id) {
        (void)raftd_node_check_step(node, response, raft_step(node->raft, response));
    } else {
        raftd_node_send_message(node, response);
    }
}

/*
 * For the core a snapshot is stored when it is applied, and what comes behind it only after that:
 * told in another order, it would take the end of the log for the snapshot's. Of what was written
 * meanwhile the last word says all.
 */
static void deliver_in_order(struct raftd_node *node, struct raft_message *response)
{
    if (node->installing == 0) {
        deliver(node, response);
    } else if (response->index != 0) {
        raft_message_release(&node->alloc, &node->held_response);
        raft_message_take(&node->held_response, response);
    }
}

void raftd_node_written(struct raftd_node *node, struct raft_message *message)
{
    for (size_t i = 0; i < message->response_count; i++) {
        struct raft_message *response = &message->responses[i];

        if (response->type != RAFT_MSG_STORAGE_APPEND_RESP) {
            deliver(node, response);
        } else if (message->snapshot == NULL) {
            deliver_in_order(node, response);
        }
    }
    if (message->snapshot == NULL) {
        return;
    }
    node->installing++;
    if (apply_client_apply(&node->apply, message) != MS_OK) {
        (void)raftd_node_fail(node, MS_ENOMEM, "snapshot to be applied");
    }
}

static void snapshot_applied(struct raftd_node *node, const struct raft_message *message)
{
    const struct raft_snapshot *snapshot = message->snapshot;

    for (size_t i = 0; i < message->response_count; i++) {
        if (message->responses[i].type == RAFT_MSG_STORAGE_APPEND_RESP) {
            deliver(node, &message->responses[i]);
        }
    }
    assert(node->installing > 0);
    node->installing--;
    if (node->installing == 0 && node->held_response.index != 0) {
        deliver(node, &node->held_response);
        raft_message_release(&node->alloc, &node->held_response);
    }
    member_service_restored(node->members, snapshot->index, snapshot->term);
    ms_log(MS_LOG_INFO, "snapshot installed", MS_F_U64("index", snapshot->index),
           MS_F_U64("term", snapshot->term));
}

void raftd_node_applied(struct raftd_node *node, const struct raft_message *message)
{
    const struct raft_entry *last;

    if (message->snapshot != NULL) {
        snapshot_applied(node, message);
        return;
    }
    last = &message->entries.entries[message->entries.count - 1];
    entry_store_applied(&node->store, last->index);
    for (size_t i = 0; i < message->response_count; i++) {
        deliver(node, &message->responses[i]);
    }
    member_service_applied(node->members, last->index, last->term);
}

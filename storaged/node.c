/*
 * node: the parts of storaged and how they hang together.
 */
#include "storaged/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/log.h"
#include "storaged/node_private.h"

/* Events taken from the set at a time; the rest stays in it. */
#define NODE_EVENTS 16

int node_fail(struct store_node *node, enum ms_exit exit_status, int rc)
{
    node->exit_status = exit_status;
    return rc;
}

enum ms_exit store_node_exit(const struct store_node *node)
{
    return node->exit_status;
}

int store_node_fd(const struct store_node *node)
{
    return node->epoll_fd;
}

static int watch(struct store_node *node, int fd, enum node_event what, struct ms_err *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.u32 = (uint32_t)what}};

    if (epoll_ctl(node->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        return ms_err_set(err, MS_EIO, errno, "watch a descriptor");
    }
    return MS_OK;
}

static void report_api(void *ctx, const struct ms_link_info *peer, const char *text)
{
    struct store_node *node = ctx;

    node->options.report_peer(node->options.ctx, peer, text);
}

static bool next_answer(void *ctx, uint64_t origin, uint64_t from_seq, struct apply_result *out)
{
    const struct store_node *node = ctx;

    return apply_next_answer(node->parts.apply, origin, from_seq, out);
}

static bool claim_snapshot(void *ctx, raft_index index, raft_term term)
{
    return received_files_claim(ctx, index, term);
}

/* Whether the state's configuration has no other voters than this node. */
static bool votes_alone(const struct recovered *parts, node_id self)
{
    uint8_t encoded[MS_CONF_STATE_BYTES_MAX];
    struct ms_conf_state conf;
    size_t len_bytes = 0;
    bool alone = true;

    /* One that cannot be read counts as alone: that is the careful answer. */
    if (engine_conf(parts->engine, encoded, &len_bytes, NULL) != MS_OK ||
        ms_conf_state_decode(encoded, len_bytes, &conf) != MS_OK) {
        return true;
    }
    for (uint32_t i = 0; i < conf.member_count; i++) {
        bool votes = (conf.members[i].flags & (MS_CONF_VOTER | MS_CONF_VOTER_OUTGOING)) != 0;

        alone = alone && (!votes || conf.members[i].id == self);
    }
    return alone;
}

struct api_links_news node_news(const struct store_node *node)
{
    const struct recovered *parts = &node->parts;
    struct ms_memdb_meta meta;
    struct log_state state;

    engine_meta(parts->engine, &meta);
    log_store_state(parts->store, &state);
    /*
     * An engine that was kept has all that was ever answered. One that was made anew may still lack
     * entries that were, but are known to be committed only by what follows them. That matters only
     * to a node that needs nobody else to know what is committed, and its log is never cut. With
     * other voters the end of the log may be cut, and would be waited for in vain.
     */
    return (struct api_links_news){
        .epoch = memory_dir_epoch(parts->dir),
        .directory = memory_dir_path(parts->dir),
        .read_floor = parts->kept || !votes_alone(parts, node->options.config->id)
                          ? meta.applied
                          : state.last_index,
    };
}

/* ---- metrics -------------------------------------------------------------------------------- */

static void show(struct store_node *node)
{
    const struct ms_memdb_meta *meta = applier_meta(node->applier);
    struct ms_metrics *metrics = node->options.metrics;
    struct engine_stats stats;

    engine_stats(node->parts.engine, &stats);
    node->memory_full = stats.memory_full;
    node->api.memory_full = stats.memory_full;
    if (metrics == NULL) {
        return;
    }
    ms_metrics_set(metrics, MS_METRIC_STORE_APPLIED, meta->applied);
    ms_metrics_set(metrics, MS_METRIC_STORE_REVISION, meta->revision);
    ms_metrics_set(metrics, MS_METRIC_STORE_COMPACTED, meta->compact_revision);
    ms_metrics_set(metrics, MS_METRIC_STORE_KEYS, meta->keys);
    ms_metrics_set(metrics, MS_METRIC_STORE_BYTES, stats.used_bytes);
    ms_metrics_set(metrics, MS_METRIC_STORE_LIMIT_BYTES, stats.limit_bytes);
    ms_metrics_set(metrics, MS_METRIC_RING_RESULT, api_links_backlog_bytes(&node->api));
}

static void show_log(struct store_node *node)
{
    struct log_state state;

    if (node->options.metrics == NULL) {
        return;
    }
    log_store_state(node->parts.store, &state);
    ms_metrics_set(node->options.metrics, MS_METRIC_LOG_FIRST_INDEX, state.first_index);
    ms_metrics_set(node->options.metrics, MS_METRIC_LOG_LAST_INDEX, state.last_index);
    ms_metrics_set(node->options.metrics, MS_METRIC_SNAPSHOT_INDEX, state.snapshot_index);
}

/* ---- beginning and end ---------------------------------------------------------------------- */

static int create_parts(struct store_node *node, struct ms_err *err)
{
    struct applier_options applier = {
        .epoll_fd = node->epoll_fd,
        .engine = node->parts.engine,
        .apply = node->parts.apply,
        .store = node->parts.store,
        .api = &node->api,
        .metrics = node->options.metrics,
    };
    const struct log_thread_options log = {.store = node->parts.store,
                                           .metrics = node->options.metrics,
                                           .claim = claim_snapshot,
                                           .ctx = node->parts.received};
    const struct installer_options installer = {
        .dir = node->parts.dir, .files = node->parts.files, .received = node->parts.received};
    struct keeper_options keeper = {
        .config = node->options.config,
        .files = node->parts.files,
        .engine = node->parts.engine,
        .store = node->parts.store,
        .metrics = node->options.metrics,
    };
    int rc = snapshot_out_create(node->parts.files, &node->out, err);

    if (rc == MS_OK) {
        rc = snapshot_in_create(node->parts.received, &node->in, err);
    }
    if (rc == MS_OK) {
        rc = watch(node, snapshot_in_fd(node->in), NODE_EVENT_RECEIVED, err);
    }
    if (rc == MS_OK) {
        rc = installer_create(&installer, &node->installer, err);
    }
    if (rc == MS_OK) {
        rc = watch(node, installer_fd(node->installer), NODE_EVENT_INSTALLED, err);
    }
    if (rc == MS_OK) {
        applier.out = node->out;
        applier.in = node->in;
        rc = applier_create(&applier, &node->applier, err);
    }
    if (rc == MS_OK) {
        rc = log_thread_start(&log, &node->log, err);
    }
    if (rc == MS_OK) {
        rc = watch(node, log_thread_fd(node->log), NODE_EVENT_LOG, err);
    }
    if (rc == MS_OK) {
        keeper.applier = node->applier;
        keeper.out = node->out;
        keeper.log = node->log;
        rc = keeper_create(&keeper, &node->keeper, err);
    }
    if (rc == MS_OK) {
        rc = watch(node, keeper_fd(node->keeper), NODE_EVENT_SNAPSHOT, err);
    }
    return rc;
}

int store_node_create(const struct store_node_options *options, struct store_node **out,
                      struct ms_err *err)
{
    struct recovery_options recovery = {
        .config = options->config,
        .previous_end = options->previous_end,
        .data_was_used = options->data_was_used,
    };
    struct ms_raft_status status;
    struct store_node *node = calloc(1, sizeof(*node));
    int rc;

    if (node == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for the node");
    }
    node->options = *options;
    node->exit_status = MS_EXIT_INTERNAL;
    ms_link_init_closed(&node->next_log);
    ms_link_init_closed(&node->next_apply);
    node->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    api_links_init(&node->api, node->epoll_fd);
    node->api.report = report_api;
    node->api.next_answer = next_answer;
    node->api.ctx = node;
    if (node->epoll_fd < 0) {
        rc = ms_err_set(err, MS_EIO, errno, "epoll set");
        goto out;
    }
    /* A page that cannot be read now says nothing; the log's own word is enough to go on. */
    if (ms_status_page_read(options->page, false, &status) == MS_OK) {
        recovery.commit = status.commit;
        recovery.commit_term = status.term;
    }
    rc = recovery_open(&recovery, &node->parts, err);
    if (rc != MS_OK) {
        goto out;
    }
    node->api.news = node_news(node);
    rc = create_parts(node, err);
    if (rc != MS_OK) {
        goto out;
    }
    show(node);
    show_log(node);
    *out = node;
    node = NULL;

out:
    store_node_destroy(node);
    return rc;
}

static void end(struct store_node *node, bool remove_memory)
{
    keeper_destroy(node->keeper);
    log_thread_stop(node->log);
    node_install_end(node);
    applier_destroy(node->applier);
    snapshot_in_destroy(node->in);
    snapshot_out_destroy(node->out);
    api_links_fini(&node->api);
    ms_link_fini(&node->next_log);
    ms_link_fini(&node->next_apply);
    recovery_close(&node->parts, remove_memory);
    if (node->epoll_fd >= 0) {
        (void)close(node->epoll_fd);
    }
    free(node);
}

void store_node_destroy(struct store_node *node)
{
    if (node != NULL) {
        end(node, false);
    }
}

void store_node_stop(struct store_node *node)
{
    struct ms_err err = {.status = MS_OK};
    enum applier_status status;

    /* raftd and apid are gone by now, so nothing is added to what the rings hold. */
    log_thread_stop(node->log);
    node->log = NULL;
    applier_drain(node->applier);
    do {
        status = applier_run(node->applier, &err);
    } while (status == APPLIER_MORE);
    end(node, true);
}

/* ---- links ---------------------------------------------------------------------------------- */

/*
 * Hands both new links out once the old ones are done with, and the state is one that the log leads
 * on from; *changed then.
 */
static int change_raftd(struct store_node *node, bool *changed, struct ms_err *err)
{
    struct log_thread_link log;
    int rc;

    if (!ms_link_is_open(&node->next_log) || !ms_link_is_open(&node->next_apply) ||
        node->next_log.info.peer_origin != node->next_apply.info.peer_origin ||
        applier_is_open(node->applier) || node->log_draining || node_install_is_due(node)) {
        return MS_OK;
    }
    rc = engine_conf(node->parts.engine, log.conf, &log.conf_bytes, err);
    if (rc != MS_OK) {
        return node_fail(node, MS_EXIT_INTERNAL, rc);
    }
    log.link = node->next_log;
    ms_link_init_closed(&node->next_log);
    rc = log_thread_take_link(node->log, &log);
    if (rc == MS_OK) {
        struct ms_link apply = node->next_apply;

        ms_link_init_closed(&node->next_apply);
        rc = applier_take_link(node->applier, &apply, err);
        *changed = true;
    }
    return rc == MS_OK ? MS_OK : node_fail(node, MS_EXIT_INTERNAL, rc);
}

void node_drop_log_link(struct store_node *node)
{
    node->log_dropped = log_thread_drop_link(node->log);
    node->log_draining = true;
}

/* A raftd is gone, or another one takes its place: what it had published still counts. */
static void drain_raftd(struct store_node *node)
{
    if (applier_is_open(node->applier)) {
        applier_drain(node->applier);
        node_drop_log_link(node);
    }
}

static int take_raftd_link(struct store_node *node, const struct ms_link *link,
                           struct ms_link *next, struct ms_err *err)
{
    bool changed;

    ms_link_fini(next);
    *next = *link;
    if (applier_peer(node->applier)->peer_origin != link->info.peer_origin) {
        drain_raftd(node);
    }
    return change_raftd(node, &changed, err);
}

int store_node_take_link(struct store_node *node, const struct ms_link *link, struct ms_err *err)
{
    struct ms_link unused = *link;
    int rc;

    switch ((enum ms_link_kind)link->info.kind) {
    case MS_LINK_RAFT_LOG:
        return take_raftd_link(node, link, &node->next_log, err);
    case MS_LINK_RAFT_APPLY:
        return take_raftd_link(node, link, &node->next_apply, err);
    case MS_LINK_API_STORE:
        rc = api_links_take(&node->api, link, err);
        return rc == MS_OK ? MS_OK : node_fail(node, MS_EXIT_INTERNAL, rc);
    case MS_LINK_API_RAFT:
        break; /* not one of storaged's: ms_link_take refuses it */
    }
    ms_link_fini(&unused);
    return node_fail(node, MS_EXIT_INTERNAL,
                     ms_err_set(err, MS_EPROTO, 0, "a link of kind %u", link->info.kind));
}

void store_node_peer_down(struct store_node *node, const struct ms_control_peer_down *down)
{
    struct ms_err err = {.status = MS_OK};

    if (down->role == MS_ROLE_RAFTD) {
        drain_raftd(node);
    } else if (down->role == MS_ROLE_APID) {
        api_links_drop(&node->api, down->instance);
        /* Its reader slots pin pages until somebody looks. The next tick looks again. */
        if (engine_tick(node->parts.engine, &err) != MS_OK) {
            ms_log_err(MS_LOG_WARN, "cannot clear the readers of a dead process", &err);
        }
    }
}

/* ---- running -------------------------------------------------------------------------------- */

static int collect_log(struct store_node *node, struct ms_err *err)
{
    struct log_thread_news news;

    log_thread_collect(node->log, &news);
    if (news.failed) {
        *err = news.failure;
        switch (news.failure.status) {
        case MS_EIO:
        case MS_ENOSPC:
            return node_fail(node, MS_EXIT_DISK, news.failure.status);
        case MS_ECORRUPT:
            return node_fail(node, MS_EXIT_CANNOT_RUN, news.failure.status);
        default:
            return node_fail(node, MS_EXIT_INTERNAL, news.failure.status);
        }
    }
    if (news.peer_corrupt) {
        node->options.report_peer(node->options.ctx, &news.peer, news.peer_fault);
    }
    if (news.space_changed) {
        if (news.full) {
            ms_log_err(MS_LOG_ERROR, "no room for the log: writes are refused", &news.full_why);
        } else {
            ms_log_plain(MS_LOG_INFO, "there is room for the log again");
        }
        keeper_log_full(node->keeper, news.full);
    }
    if (news.marked) {
        keeper_marked(node->keeper);
    }
    if (news.dropped == node->log_dropped) {
        node->log_draining = false;
    }
    return MS_OK;
}

/* One batch. *more: there is more to do at once. */
static int run_applier(struct store_node *node, bool *more, struct ms_err *err)
{
    switch (applier_run(node->applier, err)) {
    case APPLIER_IDLE:
    case APPLIER_BLOCKED:
        return MS_OK;
    case APPLIER_MORE:
        *more = true;
        return MS_OK;
    case APPLIER_REFUSED:
        node->options.report_peer(node->options.ctx, applier_peer(node->applier), err->text);
        node_drop_log_link(node);
        return MS_OK;
    case APPLIER_ENGINE_FAILED:
        return node_fail(node, MS_EXIT_INTERNAL, err->status);
    case APPLIER_LOG_FAILED:
        break;
    }
    return node_fail(node, err->status == MS_ECORRUPT ? MS_EXIT_CANNOT_RUN : MS_EXIT_DISK,
                     err->status);
}

/* A bounded piece of physical compaction, if any is left or has become due. */
static int compact(struct store_node *node, bool *more, struct ms_err *err)
{
    const struct ms_memdb_meta *meta = applier_meta(node->applier);
    struct engine_stats stats;
    int rc;

    engine_stats(node->parts.engine, &stats);
    if (!node->compacting && stats.compacted_to >= meta->compact_revision) {
        return MS_OK;
    }
    rc = engine_compact_step(node->parts.engine, STORE_NODE_COMPACT_BUDGET, &node->compacting, err);
    if (rc != MS_OK) {
        return node_fail(node, MS_EXIT_INTERNAL, rc);
    }
    *more = *more || node->compacting;
    return MS_OK;
}

static void flush(struct store_node *node)
{
    api_links_flush(&node->api); /* first: a client waits behind it */
    applier_flush(node->applier);
}

/* Takes what the set has to tell. *more: it may have more. */
static int take_events(struct store_node *node, struct ms_instant now, bool *more,
                       struct ms_err *err)
{
    struct epoll_event events[NODE_EVENTS];
    int count = epoll_wait(node->epoll_fd, events, NODE_EVENTS, 0);
    int rc = MS_OK;

    *more = count == NODE_EVENTS;
    for (int i = 0; rc == MS_OK && i < count; i++) {
        switch ((enum node_event)events[i].data.u32) {
        case NODE_EVENT_DOORBELL:
            break; /* its edge is taken; all links are looked at in any case */
        case NODE_EVENT_LOG:
            rc = collect_log(node, err);
            break;
        case NODE_EVENT_SNAPSHOT:
            keeper_collect(node->keeper, now);
            break;
        case NODE_EVENT_RECEIVED:
            snapshot_in_collect(node->in);
            break;
        case NODE_EVENT_INSTALLED:
            rc = node_install_collect(node, err);
            break;
        }
    }
    return rc;
}

int store_node_run(struct store_node *node, struct ms_instant now, struct ms_err *err)
{
    bool was_greeted;
    bool more = false;
    int rc = take_events(node, now, &more, err);

    if (rc == MS_OK) {
        rc = run_applier(node, &more, err);
    }
    if (rc == MS_OK) {
        rc = node_install_run(node, &more, err);
    }
    if (rc == MS_OK) {
        rc = change_raftd(node, &more, err);
    }
    if (rc == MS_OK) {
        rc = compact(node, &more, err);
    }
    if (rc != MS_OK) {
        return rc;
    }
    show(node);
    keeper_run(node->keeper, now);
    was_greeted = api_links_all_greeted(&node->api);
    more = api_links_run(&node->api, applier_meta(node->applier)->applied) || more;
    /* raftd may wait for all apids to know of a new state. */
    more = more || (!was_greeted && api_links_all_greeted(&node->api));
    flush(node);
    if (more || !applier_prepare_sleep(node->applier) || !api_links_prepare_sleep(&node->api)) {
        return MS_EAGAIN;
    }
    return MS_OK;
}

int store_node_tick(struct store_node *node, struct ms_instant now, struct ms_err *err)
{
    int rc = engine_tick(node->parts.engine, err);

    if (rc != MS_OK) {
        return node_fail(node, MS_EXIT_INTERNAL, rc);
    }
    return store_node_run(node, now, err);
}

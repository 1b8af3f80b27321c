/*
 * node_install: replaces the state by that of a received snapshot, behind which the log has begun.
 *
 * The new state is built beside the old one, from which reads are answered meanwhile. Then all
 * change over at once: the node, the apids by STORE_OPENED, and last raftd, by APPLY_DONE. Dying at
 * any point leaves a log that begins behind the snapshot and its file: the next start builds the
 * state from that, unless the switch was made.
 */
#include <string.h>

#include "common/log.h"
#include "storaged/node_private.h"

/*
 * Which snapshot the state has to become, if any. A raftd that is gone asks no more: then it is the
 * log's, if the state does not reach so far.
 */
static bool find_wanted(const struct store_node *node, struct ms_apply_snapshot *out)
{
    struct log_state state;

    if (applier_wants_snapshot(node->applier, out)) {
        return true;
    }
    if (applier_is_open(node->applier) || node->log_draining) {
        return false;
    }
    log_store_state(node->parts.store, &state);
    *out = (struct ms_apply_snapshot){.index = state.snapshot_index, .term = state.snapshot_term};
    return applier_meta(node->applier)->applied < state.snapshot_index;
}

bool node_install_is_due(const struct store_node *node)
{
    struct ms_apply_snapshot wanted;

    return node->has_built || find_wanted(node, &wanted);
}

/* What failed ends the process; the next one tries it from the file alone. */
static int install_failed(struct store_node *node, int status, const struct ms_err *cause,
                          struct ms_err *err)
{
    *err = *cause;
    switch (status) {
    case MS_ENOSPC:
        /* The apids let go of the old state when this process ends of its own fault. */
        return node_fail(node, MS_EXIT_INTERNAL,
                         ms_err_set(err, MS_ENOSPC, 0,
                                    "no room for the state of a snapshot beside the present one, "
                                    "starting over with it alone: %s",
                                    cause->text));
    case MS_EIO:
        return node_fail(node, MS_EXIT_DISK, status);
    case MS_ENOMEM:
        return node_fail(node, MS_EXIT_INTERNAL, status);
    default:
        return node_fail(node, MS_EXIT_CANNOT_RUN, status);
    }
}

static int refuse(struct store_node *node)
{
    applier_refuse(node->applier);
    node_drop_log_link(node);
    node->options.report_peer(node->options.ctx, applier_peer(node->applier),
                              "a snapshot that the log does not begin behind");
    return MS_OK;
}

static int begin(struct store_node *node, const struct ms_apply_snapshot *wanted, bool *more,
                 struct ms_err *err)
{
    struct ms_err cause = {.status = MS_OK};
    struct log_state state;
    int rc;

    log_store_state(node->parts.store, &state);
    if (wanted->index != state.snapshot_index || wanted->term != state.snapshot_term) {
        *more = true;
        return refuse(node);
    }
    if (wanted->index <= applier_meta(node->applier)->applied) {
        /* The state is there already; all that is due is the answer. */
        applier_switch(node->applier, node->parts.engine, node->parts.apply);
        *more = true;
        return MS_OK;
    }
    (void)keeper_pause(node->keeper);
    rc = installer_start(node->installer, wanted->index, wanted->term, &cause);
    return rc == MS_OK ? MS_OK : install_failed(node, rc, &cause, err);
}

static void change_over(struct store_node *node)
{
    struct installer_outcome *built = &node->built;
    struct engine *engine = node->parts.engine;
    struct apply *apply = node->parts.apply;
    struct api_links_news news;
    uint64_t epoch;

    node->parts.engine = built->engine;
    node->parts.apply = built->apply;
    node->parts.kept = false;
    node->has_built = false;
    node->compacting = false;
    epoch = memory_dir_switch(node->parts.dir, &built->aside);
    applier_switch(node->applier, built->engine, built->apply);
    keeper_switch(node->keeper, built->engine, &built->file);
    news = node_news(node);
    api_links_renew(&node->api, &news);
    installer_take_away(node->installer, engine, apply, epoch);
    ms_log(MS_LOG_INFO, "snapshot installed", MS_F_U64("index", built->file.index),
           MS_F_U64("term", built->file.term), MS_F_U64("bytes", built->file.size_bytes),
           MS_F_U64("duration_ms", built->duration_ns / 1000000));
}

int node_install_run(struct store_node *node, bool *more, struct ms_err *err)
{
    struct ms_apply_snapshot wanted;

    if (node->has_built) {
        /* Whoever still reads the old state for a snapshot must be done with it. */
        if (keeper_pause(node->keeper)) {
            change_over(node);
            *more = true;
        }
        return MS_OK;
    }
    if (installer_is_busy(node->installer) || !find_wanted(node, &wanted)) {
        return MS_OK;
    }
    return begin(node, &wanted, more, err);
}

int node_install_collect(struct store_node *node, struct ms_err *err)
{
    struct installer_outcome outcome;

    if (installer_collect(node->installer, &outcome) != MS_OK) {
        return MS_OK;
    }
    if (outcome.status != MS_OK) {
        return install_failed(node, outcome.status, &outcome.err, err);
    }
    node->built = outcome;
    node->has_built = true;
    return MS_OK;
}

void node_install_end(struct store_node *node)
{
    installer_destroy(node->installer);
    if (node->has_built) {
        apply_destroy(node->built.apply);
        engine_close(node->built.engine);
    }
}

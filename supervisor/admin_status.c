/*
 * admin_status: see admin_status.h.
 */
#include "supervisor/admin_status.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

static const char *raft_state_name(uint32_t role)
{
    switch ((enum ms_raft_role)role) {
    case MS_RAFT_NONE:
        return "starting";
    case MS_RAFT_FOLLOWER:
        return "follower";
    case MS_RAFT_PRE_CANDIDATE:
        return "pre-candidate";
    case MS_RAFT_CANDIDATE:
        return "candidate";
    case MS_RAFT_LEADER:
        return "leader";
    }
    return "unknown"; /* the page is raftd's, and raftd may be corrupt */
}

static const char *member_role_name(uint32_t role)
{
    return role == MS_MEMBER_LEARNER ? "learner" : "voter";
}

static size_t member_count(const struct ms_raft_status *status)
{
    return status->member_count < MS_STATUS_MEMBERS_MAX ? status->member_count
                                                        : MS_STATUS_MEMBERS_MAX;
}

/* Length of a URL up to the first byte that no URL has: a corrupt writer may have left anything. */
static int url_bytes(const struct ms_status_member *member)
{
    int len = 0;

    while (len < MS_PEER_URL_BYTES && member->peer_url[len] > ' ' && member->peer_url[len] <= '~') {
        len++;
    }
    return len;
}

/* Writes and frees value; a NULL one stands for a failure while it was built. */
static int dump(json_t *value, FILE *out)
{
    char *text;

    if (value == NULL) {
        return MS_ENOMEM;
    }
    text = json_dumps(value, JSON_COMPACT);
    json_decref(value);
    if (text == NULL) {
        return MS_ENOMEM;
    }
    (void)fprintf(out, "%s\n", text);
    free(text);
    return MS_OK;
}

/* Appends item (stolen) to array; frees both and gives NULL when either failed. */
static json_t *appended(json_t *array, json_t *item)
{
    if (array == NULL || item == NULL || json_array_append_new(array, item) != 0) {
        json_decref(array);
        return NULL;
    }
    return array;
}

static json_t *workers_json(const struct admin_snapshot *snapshot)
{
    json_t *array = json_array();

    for (size_t i = 0; i < snapshot->worker_count && array != NULL; i++) {
        const struct admin_worker *worker = &snapshot->workers[i];

        array = appended(array, json_pack("{s:s, s:I, s:s, s:I, s:I}", "name", worker->name, "pid",
                                          (json_int_t)worker->pid, "state", worker->state,
                                          "restarts", (json_int_t)worker->restarts, "uptime_ms",
                                          (json_int_t)worker->uptime_ms));
    }
    return array;
}

static json_t *members_json(const struct ms_raft_status *status)
{
    json_t *array = json_array();

    for (size_t i = 0; i < member_count(status) && array != NULL; i++) {
        const struct ms_status_member *member = &status->members[i];

        array = appended(array, json_pack("{s:I, s:s%, s:s}", "id", (json_int_t)member->id,
                                          "peer_url", member->peer_url, (size_t)url_bytes(member),
                                          "role", member_role_name(member->role)));
    }
    return array;
}

static json_t *node_json(const struct admin_snapshot *s)
{
    return json_pack("{s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "id",
                     (json_int_t)s->id, "state", raft_state_name(s->status.role), "leader",
                     (json_int_t)s->status.leader, "term", (json_int_t)s->status.term,
                     "first_index", (json_int_t)s->first_index, "last_index",
                     (json_int_t)s->last_index, "commit", (json_int_t)s->status.commit, "applied",
                     (json_int_t)s->applied, "snapshot_index", (json_int_t)s->snapshot_index,
                     "revision", (json_int_t)s->revision, "storage", s->storage);
}

/* "950ms", "12.3s", "2h05m": short, for a table. */
static void format_uptime(uint64_t ms, char *dst, size_t dst_bytes)
{
    uint64_t seconds = ms / 1000;

    if (ms < 1000) {
        (void)snprintf(dst, dst_bytes, "%" PRIu64 "ms", ms);
    } else if (seconds < 60) {
        (void)snprintf(dst, dst_bytes, "%" PRIu64 ".%" PRIu64 "s", seconds, ms % 1000 / 100);
    } else if (seconds < 3600) {
        (void)snprintf(dst, dst_bytes, "%" PRIu64 "m%02" PRIu64 "s", seconds / 60, seconds % 60);
    } else if (seconds < 86400) {
        (void)snprintf(dst, dst_bytes, "%" PRIu64 "h%02" PRIu64 "m", seconds / 3600,
                       seconds % 3600 / 60);
    } else {
        (void)snprintf(dst, dst_bytes, "%" PRIu64 "d%02" PRIu64 "h", seconds / 86400,
                       seconds % 86400 / 3600);
    }
}

static void workers_text(const struct admin_snapshot *snapshot, FILE *out)
{
    (void)fprintf(out, "%-12s %8s  %-9s %9s %9s\n", "WORKER", "PID", "STATE", "RESTARTS", "UPTIME");
    for (size_t i = 0; i < snapshot->worker_count; i++) {
        const struct admin_worker *worker = &snapshot->workers[i];
        char uptime[32] = "-";
        char pid[24] = "-";

        if (worker->pid != 0) {
            (void)snprintf(pid, sizeof(pid), "%" PRId64, worker->pid);
            format_uptime(worker->uptime_ms, uptime, sizeof(uptime));
        }
        (void)fprintf(out, "%-12s %8s  %-9s %9" PRIu64 " %9s\n", worker->name, pid, worker->state,
                      worker->restarts, uptime);
    }
}

static void members_text(const struct ms_raft_status *status, FILE *out)
{
    (void)fprintf(out, "%-12s %8s  %s\n", "MEMBER", "ROLE", "PEER URL");
    for (size_t i = 0; i < member_count(status); i++) {
        const struct ms_status_member *member = &status->members[i];

        (void)fprintf(out, "%-12" PRIu64 " %8s  %.*s\n", member->id, member_role_name(member->role),
                      url_bytes(member), member->peer_url);
    }
}

static void leader_text(const struct ms_raft_status *status, FILE *out)
{
    if (status->leader != 0) {
        (void)fprintf(out, "%-12s %" PRIu64 "\n", "leader", status->leader);
    } else {
        (void)fprintf(out, "%-12s %s\n", "leader", "none");
    }
    (void)fprintf(out, "%-12s %" PRIu64 "\n", "term", status->term);
}

static void node_text(const struct admin_snapshot *s, FILE *out)
{
    (void)fprintf(out, "%-12s %" PRIu64 "\n", "node", s->id);
    (void)fprintf(out, "%-12s %s\n", "state", raft_state_name(s->status.role));
    leader_text(&s->status, out);
    (void)fprintf(out, "%-12s %" PRIu64 " to %" PRIu64 "\n", "log", s->first_index, s->last_index);
    (void)fprintf(out, "%-12s %" PRIu64 "\n", "commit", s->status.commit);
    (void)fprintf(out, "%-12s %" PRIu64 "\n", "applied", s->applied);
    (void)fprintf(out, "%-12s %" PRIu64 "\n", "snapshot", s->snapshot_index);
    (void)fprintf(out, "%-12s %" PRIu64 "\n", "revision", s->revision);
    (void)fprintf(out, "%-12s %s\n", "storage", s->storage);
}

int admin_status_render(const struct admin_snapshot *snapshot, bool json, FILE *out)
{
    if (json) {
        /* json_pack frees what it was handed even when it fails. */
        return dump(json_pack("{s:o, s:o, s:o}", "node", node_json(snapshot), "workers",
                              workers_json(snapshot), "members", members_json(&snapshot->status)),
                    out);
    }
    node_text(snapshot, out);
    workers_text(snapshot, out);
    members_text(&snapshot->status, out);
    return MS_OK;
}

int admin_status_render_workers(const struct admin_snapshot *snapshot, bool json, FILE *out)
{
    if (json) {
        return dump(workers_json(snapshot), out);
    }
    workers_text(snapshot, out);
    return MS_OK;
}

int admin_status_render_members(const struct admin_snapshot *snapshot, bool json, FILE *out)
{
    if (json) {
        return dump(members_json(&snapshot->status), out);
    }
    members_text(&snapshot->status, out);
    return MS_OK;
}

int admin_status_render_leader(const struct admin_snapshot *snapshot, bool json, FILE *out)
{
    if (json) {
        return dump(json_pack("{s:I, s:I}", "leader", (json_int_t)snapshot->status.leader, "term",
                              (json_int_t)snapshot->status.term),
                    out);
    }
    leader_text(&snapshot->status, out);
    return MS_OK;
}

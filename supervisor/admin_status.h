/*
 * admin_status: how the node stands, as text for people and as JSON for programs.
 */
#ifndef METASTORE_SUPERVISOR_ADMIN_STATUS_H
#define METASTORE_SUPERVISOR_ADMIN_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/status_page.h"
#include "supervisor/worker_table.h"

struct admin_worker {
    char name[WORKER_NAME_BYTES];
    const char *state;
    int64_t pid; /* 0 while there is no process */
    uint64_t restarts;
    uint64_t uptime_ms; /* of the current process */
};

/* Copied from the pages and the worker table at one moment. */
struct admin_snapshot {
    uint64_t id;
    const char *storage;
    struct ms_raft_status status; /* with members */
    uint64_t first_index;
    uint64_t last_index;
    uint64_t applied;
    uint64_t snapshot_index;
    uint64_t revision;
    size_t worker_count;
    struct admin_worker workers[WORKERS_MAX];
};

/*
 * Each writes its answer without the closing empty line; JSON is one line. MS_ENOMEM: nothing was
 * written.
 */
int admin_status_render(const struct admin_snapshot *snapshot, bool json, FILE *out);
int admin_status_render_workers(const struct admin_snapshot *snapshot, bool json, FILE *out);
int admin_status_render_members(const struct admin_snapshot *snapshot, bool json, FILE *out);
int admin_status_render_leader(const struct admin_snapshot *snapshot, bool json, FILE *out);

#endif

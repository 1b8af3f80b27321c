/*
 * worker_table: see worker_table.h.
 */
#include "supervisor/worker_table.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

/*
 * The order of stopping: first nobody takes requests any more, then nobody proposes, then the
 * storage flushes what is left.
 */
static const struct worker_role roles[] = {
    {.role = MS_ROLE_STORAGED, .stop_order = 2, .restarts_metric = MS_METRIC_RESTARTS_STORAGED},
    {.role = MS_ROLE_RAFTD,
     .stop_order = 1,
     .listener = MS_LISTENER_PEER,
     .restarts_metric = MS_METRIC_RESTARTS_RAFTD},
    {.role = MS_ROLE_APID,
     .stop_order = 0,
     .drains = true,
     .needs_foreign_files = true,
     .listener = MS_LISTENER_API,
     .restarts_metric = MS_METRIC_RESTARTS_APID},
};

static const struct worker_link links[] = {
    {MS_LINK_API_RAFT, MS_ROLE_APID, MS_ROLE_RAFTD, 4 * MIB, true},
    {MS_LINK_API_STORE, MS_ROLE_APID, MS_ROLE_STORAGED, 1 * MIB, false},
    {MS_LINK_RAFT_LOG, MS_ROLE_RAFTD, MS_ROLE_STORAGED, 4 * MIB, true},
    {MS_LINK_RAFT_APPLY, MS_ROLE_RAFTD, MS_ROLE_STORAGED, 4 * MIB, true},
};

static const char *const state_names[] = {
    [WORKER_WAITING] = "waiting",   [WORKER_STARTING] = "starting", [WORKER_RUNNING] = "running",
    [WORKER_DRAINING] = "draining", [WORKER_STOPPING] = "stopping", [WORKER_STOPPED] = "stopped",
};

static void add(struct worker_table *table, const struct worker_role *role, uint32_t instance)
{
    struct worker *worker;

    assert(table->count < WORKERS_MAX);
    worker = &table->workers[table->count++];
    memset(worker, 0, sizeof(*worker));
    worker->role = role;
    worker->instance = instance;
    if (instance == 0) {
        (void)snprintf(worker->name, sizeof(worker->name), "%s", ms_role_name(role->role));
    } else {
        (void)snprintf(worker->name, sizeof(worker->name), "%s-%u", ms_role_name(role->role),
                       instance);
    }
    worker->state = WORKER_WAITING;
    worker->pidfd = -1;
    worker->control_fd = -1;
    worker->previous_end = MS_END_NONE;
}

void worker_table_init(struct worker_table *table, const struct ms_config *config)
{
    assert(config->api_workers >= 1 && config->api_workers <= MS_API_WORKERS_MAX);
    table->count = 0;
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        uint64_t instances = roles[i].role == MS_ROLE_APID ? config->api_workers : 1;

        for (uint32_t instance = 0; instance < instances; instance++) {
            add(table, &roles[i], instance);
        }
    }
}

struct worker *worker_table_by_pid(struct worker_table *table, pid_t pid)
{
    for (size_t i = 0; i < table->count; i++) {
        if (pid > 0 && table->workers[i].pid == pid) {
            return &table->workers[i];
        }
    }
    return NULL;
}

struct worker *worker_table_by_role(struct worker_table *table, uint32_t role, uint32_t instance)
{
    for (size_t i = 0; i < table->count; i++) {
        if ((uint32_t)table->workers[i].role->role == role &&
            table->workers[i].instance == instance) {
            return &table->workers[i];
        }
    }
    return NULL;
}

struct worker *worker_table_by_name(struct worker_table *table, const char *name)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->workers[i].name, name) == 0) {
            return &table->workers[i];
        }
    }
    return NULL;
}

const struct worker_link *worker_table_links(size_t *count)
{
    *count = sizeof(links) / sizeof(links[0]);
    return links;
}

bool worker_table_linked(enum ms_role a, enum ms_role b)
{
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        if ((links[i].left == a && links[i].right == b) ||
            (links[i].left == b && links[i].right == a)) {
            return true;
        }
    }
    return false;
}

unsigned worker_table_stop_orders(void)
{
    return sizeof(roles) / sizeof(roles[0]);
}

bool worker_is_alive(const struct worker *worker)
{
    return worker->pid > 0;
}

const char *worker_state_name(const struct worker *worker)
{
    if (worker->state == WORKER_WAITING && worker->unable) {
        return "failing";
    }
    assert((size_t)worker->state < sizeof(state_names) / sizeof(state_names[0]));
    return state_names[worker->state];
}

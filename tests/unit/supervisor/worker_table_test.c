/*
 * worker_table: what the table says of a configuration.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "supervisor/worker_table.h"

static struct worker_table table;

static void make(uint64_t api_workers)
{
    static struct ms_config config;

    config.api_workers = api_workers;
    worker_table_init(&table, &config);
}

Test(worker_table, one_of_each_by_default)
{
    make(1);
    cr_assert_eq(table.count, 3);
    cr_assert_not_null(worker_table_by_name(&table, "raftd"));
    cr_assert_not_null(worker_table_by_name(&table, "storaged"));
    cr_assert_not_null(worker_table_by_name(&table, "apid"));
    cr_assert_null(worker_table_by_name(&table, "apid-1"));
    cr_assert_null(worker_table_by_name(&table, ""));
}

Test(worker_table, several_api_workers_have_names_of_their_own)
{
    struct worker *worker;

    make(MS_API_WORKERS_MAX);
    cr_assert_eq(table.count, WORKERS_MAX);
    worker = worker_table_by_name(&table, "apid-15");
    cr_assert_not_null(worker);
    cr_assert_eq(worker->instance, 15);
    cr_assert_eq(worker_table_by_role(&table, MS_ROLE_APID, 15), worker);
    cr_assert_null(worker_table_by_role(&table, MS_ROLE_APID, 16));
    cr_assert_null(worker_table_by_role(&table, 77, 0));
}

Test(worker_table, a_pid_finds_its_worker_and_none_is_nobodys)
{
    make(1);
    cr_assert_null(worker_table_by_pid(&table, 0), "workers without a process have pid 0");
    table.workers[1].pid = 4242;
    cr_assert_eq(worker_table_by_pid(&table, 4242), &table.workers[1]);
    cr_assert(worker_is_alive(&table.workers[1]));
    cr_assert_not(worker_is_alive(&table.workers[0]));
}

Test(worker_table, raftd_and_storaged_have_two_links)
{
    size_t count;
    const struct worker_link *links = worker_table_links(&count);
    int between = 0;

    for (size_t i = 0; i < count; i++) {
        between += links[i].left == MS_ROLE_RAFTD && links[i].right == MS_ROLE_STORAGED;
    }
    cr_assert_eq(between, 2);
    cr_assert(worker_table_linked(MS_ROLE_STORAGED, MS_ROLE_APID));
    cr_assert(worker_table_linked(MS_ROLE_APID, MS_ROLE_STORAGED));
    cr_assert_not(worker_table_linked(MS_ROLE_APID, MS_ROLE_APID));
}

Test(worker_table, requests_stop_before_proposals_before_storage)
{
    unsigned api, raft, store;

    make(1);
    api = worker_table_by_name(&table, "apid")->role->stop_order;
    raft = worker_table_by_name(&table, "raftd")->role->stop_order;
    store = worker_table_by_name(&table, "storaged")->role->stop_order;
    cr_assert_lt(api, raft);
    cr_assert_lt(raft, store);
    cr_assert_lt(store, worker_table_stop_orders());
}

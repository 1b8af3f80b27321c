/*
 * node: the whole of storaged but its process, between a raftd and an apid of our own.
 */
#include <criterion/criterion.h>

#include "common/command.h"
#include "common/log.h"
#include "storaged/node.h"
#include "tests/unit/storaged/link_fixture.h"
#include "tests/unit/storaged/store_fixture.h"

#define ORIGIN UINT64_C(77)

struct node_fixture {
    char root[FIXTURE_PATH_BYTES];
    struct ms_config config;
    struct ms_status_page *page;
    struct store_node *node;
    struct ms_link log;
    struct ms_link apply;
    struct ms_link api;
    uint64_t seq;      /* of the last LOG_APPEND */
    raft_index index;  /* of the last entry */
    unsigned reports;  /* of neighbours that broke the protocol */
    uint32_t reported; /* the link kind of the last one */
};

static void report(void *ctx, const struct ms_link_info *peer, const char *text)
{
    struct node_fixture *f = ctx;

    cr_assert_not_null(text);
    f->reports++;
    f->reported = peer->kind;
}

static void start(struct node_fixture *f, enum ms_worker_end previous_end)
{
    const struct store_node_options options = {.config = &f->config,
                                               .previous_end = previous_end,
                                               .page = f->page,
                                               .report_peer = report,
                                               .ctx = f};
    struct ms_err err = {.status = MS_OK};

    cr_assert_eq(store_node_create(&options, &f->node, &err), MS_OK, "%s", err.text);
}

static void fixture_init(struct node_fixture *f)
{
    char path[FIXTURE_PATH_BYTES + 16];
    int fd = -1;

    memset(f, 0, sizeof(*f));
    ms_log_init("test", MS_LOG_TEXT, MS_LOG_ERROR);
    fixture_make_dir(f->root);
    f->config = (struct ms_config){.id = 1,
                                   .history = 1000000,
                                   .snapshot_count = 1000000,
                                   .snapshot_catch_up_entries = 5,
                                   .max_request_bytes = 1 << 16,
                                   .memory_limit_bytes = 64 << 20};
    (void)snprintf(f->config.node_dir, sizeof(f->config.node_dir), "%s/node", f->root);
    (void)snprintf(f->config.memory_dir, sizeof(f->config.memory_dir), "%s/memory", f->root);
    (void)snprintf(path, sizeof(path), "%s/node", f->root);
    cr_assert(mkdir(path, 0700) == 0);
    (void)snprintf(path, sizeof(path), "%s/memory", f->root);
    cr_assert(mkdir(path, 0700) == 0);
    cr_assert_eq(ms_status_page_create(&fd, NULL), MS_OK);
    cr_assert_eq(ms_status_page_map(fd, true, &f->page, NULL), MS_OK);
    (void)close(fd);
    ms_link_init_closed(&f->log);
    ms_link_init_closed(&f->apply);
    ms_link_init_closed(&f->api);
    start(f, MS_END_NONE);
}

static void fixture_fini(struct node_fixture *f)
{
    store_node_destroy(f->node);
    ms_link_fini(&f->log);
    ms_link_fini(&f->apply);
    ms_link_fini(&f->api);
    ms_status_page_unmap(f->page);
    fixture_remove_dir(f->root);
}

/* Lets the node work until it has nothing to do. */
static void settle(struct node_fixture *f)
{
    struct ms_err err = {.status = MS_OK};
    int rc;

    do {
        rc = store_node_run(f->node, ms_clock_now(), &err);
        cr_assert(rc == MS_OK || rc == MS_EAGAIN, "%s", err.text);
    } while (rc == MS_EAGAIN);
}

/* The next message of the type on one of our ends, the node working meanwhile. */
static void expect(struct node_fixture *f, struct ms_link *link, enum ms_ipc_type type, void *body,
                   size_t body_bytes)
{
    for (int i = 0; i < 1000; i++) {
        struct pollfd wait[2] = {{.fd = link->doorbell_fd, .events = POLLIN},
                                 {.fd = store_node_fd(f->node), .events = POLLIN}};
        struct ms_ipc_message message;

        settle(f);
        if (ms_link_receive(link, &message) == MS_OK) {
            cr_assert_eq(message.type, type, "%s instead of %s", ms_ipc_name(message.type),
                         ms_ipc_name(type));
            memcpy(body, message.body, body_bytes);
            ms_link_release(link);
            ms_link_flush(link);
            return;
        }
        if (ms_link_prepare_sleep(link)) {
            (void)poll(wait, 2, 100);
            ms_link_clear_doorbell(link);
        }
    }
    cr_assert_fail("no %s came", ms_ipc_name(type));
}

static void take(struct node_fixture *f, enum ms_link_kind kind, enum ms_role role, uint64_t origin,
                 struct ms_link *far_end)
{
    struct ms_err err = {.status = MS_OK};
    struct ms_link near_end;
    struct ms_link made;

    link_fixture_make(kind, role, origin, &near_end, &made);
    cr_assert_eq(store_node_take_link(f->node, &near_end, &err), MS_OK, "%s", err.text);
    ms_link_fini(far_end);
    *far_end = made;
}

/* A new raftd introduces itself and hears what is there. */
static void connect_raftd(struct node_fixture *f, struct ms_log_state *log,
                          struct ms_apply_state *apply)
{
    static uint64_t origin;

    origin++;
    take(f, MS_LINK_RAFT_LOG, MS_ROLE_RAFTD, origin, &f->log);
    take(f, MS_LINK_RAFT_APPLY, MS_ROLE_RAFTD, origin, &f->apply);
    expect(f, &f->log, MS_IPC_LOG_STATE, log, sizeof(*log));
    expect(f, &f->apply, MS_IPC_APPLY_STATE, apply, sizeof(*apply));
    f->seq = 0;
    f->index = log->last_index;
}

static void connect_apid(struct node_fixture *f, struct ms_store_opened *opened)
{
    take(f, MS_LINK_API_STORE, MS_ROLE_APID, ORIGIN, &f->api);
    expect(f, &f->api, MS_IPC_STORE_OPENED, opened, sizeof(*opened));
}

/* The entry for PUT of key = "k" number, as apid would encode it. */
static size_t encode_put(uint64_t number, uint8_t dst[256])
{
    char key[32];
    struct ms_command command = {.kind = MS_COMMAND_PUT,
                                 .id = {.origin = ORIGIN, .seq = number},
                                 .key = (const uint8_t *)key,
                                 .value = (const uint8_t *)"value",
                                 .value_bytes = 5};

    command.key_bytes = (size_t)snprintf(key, sizeof(key), "k%llu", (unsigned long long)number);
    ms_command_encode(&command, dst);
    return ms_command_encoded_bytes(&command);
}

/* Makes the next entry durable; applying it is another matter. */
static void append(struct node_fixture *f, uint64_t number)
{
    struct ms_log_append message = {.seq = f->seq + 1,
                                    .first_index = f->index + 1,
                                    .count = 1,
                                    .has_hard_state = 1,
                                    .hard_state = {.term = 1, .vote = 1, .commit = f->index}};
    uint8_t data[256];
    struct log_entry like = {.term = 1, .data = data};
    struct ms_log_durable durable;

    f->seq++;
    f->index++;
    like.data_bytes = (uint32_t)encode_put(number, data);
    cr_assert_eq(link_fixture_entries(&f->log, MS_IPC_LOG_APPEND, &message, sizeof(message),
                                      f->index, 1, &like),
                 MS_OK);
    link_fixture_expect(&f->log, MS_IPC_LOG_DURABLE, &durable, sizeof(durable));
    cr_assert_eq(durable.seq, f->seq);
}

static void send_apply(struct node_fixture *f, raft_index index, uint64_t number)
{
    struct ms_apply_entries message = {.first_index = index, .count = 1};
    uint8_t data[256];
    struct log_entry like = {.term = 1, .data = data};

    like.data_bytes = (uint32_t)encode_put(number, data);
    cr_assert_eq(link_fixture_entries(&f->apply, MS_IPC_APPLY_ENTRIES, &message, sizeof(message),
                                      index, 1, &like),
                 MS_OK);
}

/* One PUT from end to end. */
static void put(struct node_fixture *f, uint64_t number)
{
    struct ms_apply_result result;
    struct ms_apply_done done;

    append(f, number);
    send_apply(f, f->index, number);
    expect(f, &f->apply, MS_IPC_APPLY_DONE, &done, sizeof(done));
    cr_assert_eq(done.applied, f->index);
    expect(f, &f->api, MS_IPC_APPLY_RESULT, &result, sizeof(result));
    cr_assert_eq(result.id.seq, number);
    cr_assert_eq(result.code, MS_RESULT_OK);
}

Test(node, operations_are_made_durable_applied_and_answered)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;

    fixture_init(&f);
    connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.last_index, 0);
    cr_assert_eq(apply.applied, 0);
    cr_assert_eq(apply.revision, 1);
    connect_apid(&f, &opened);
    for (uint64_t i = 1; i <= 20; i++) {
        put(&f, i);
    }
    fixture_fini(&f);
}

Test(node, nothing_is_applied_before_it_is_durable)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_control_peer_down down = {.role = MS_ROLE_RAFTD};

    fixture_init(&f);
    connect_raftd(&f, &log, &apply);
    send_apply(&f, 1, 1);
    settle(&f);
    cr_assert_eq(f.reports, 1);
    cr_assert_eq(f.reported, MS_LINK_RAFT_APPLY);
    store_node_peer_down(f.node, &down);
    connect_raftd(&f, &log, &apply);
    cr_assert_eq(apply.applied, 0);
    fixture_fini(&f);
}

Test(node, a_repeated_operation_gets_its_first_answer)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    struct ms_apply_result result;

    fixture_init(&f);
    connect_raftd(&f, &log, &apply);
    connect_apid(&f, &opened);
    put(&f, 1);
    put(&f, 2);
    append(&f, 1);
    send_apply(&f, f.index, 1);
    expect(&f, &f.api, MS_IPC_APPLY_RESULT, &result, sizeof(result));
    cr_assert_eq(result.id.seq, 1);
    cr_assert_eq(result.revision, 2, "the first write's revision, not another one");
    fixture_fini(&f);
}

Test(node, waits_end_when_the_index_is_applied)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    struct ms_wait_applied wait = {.request = 5, .index = 2};
    struct ms_apply_result result;
    struct ms_wait_done done;

    fixture_init(&f);
    connect_raftd(&f, &log, &apply);
    connect_apid(&f, &opened);
    cr_assert_eq(ms_link_send(&f.api, MS_IPC_WAIT_APPLIED, &wait), MS_OK);
    ms_link_flush(&f.api);
    put(&f, 1);
    append(&f, 2);
    send_apply(&f, 2, 2);
    expect(&f, &f.api, MS_IPC_APPLY_RESULT, &result, sizeof(result));
    expect(&f, &f.api, MS_IPC_WAIT_DONE, &done, sizeof(done));
    cr_assert_eq(done.request, 5);
    cr_assert_eq(done.applied, 2);
    wait = (struct ms_wait_applied){.request = 6, .index = 1};
    cr_assert_eq(ms_link_send(&f.api, MS_IPC_WAIT_APPLIED, &wait), MS_OK);
    ms_link_flush(&f.api);
    expect(&f, &f.api, MS_IPC_WAIT_DONE, &done, sizeof(done));
    cr_assert_eq(done.request, 6);
    fixture_fini(&f);
}

Test(node, a_new_raftd_finds_what_the_old_one_published)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    struct ms_control_peer_down down = {.role = MS_ROLE_RAFTD};

    fixture_init(&f);
    connect_raftd(&f, &log, &apply);
    connect_apid(&f, &opened);
    put(&f, 1);
    append(&f, 2);
    send_apply(&f, 2, 2); /* and dies */
    append(&f, 3);
    store_node_peer_down(f.node, &down);
    connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.last_index, 3);
    cr_assert_eq(log.last_term, 1);
    cr_assert_eq(apply.applied, 2);
    cr_assert_eq(apply.applied_term, 1);
    fixture_fini(&f);
}

Test(node, the_log_can_be_read_back)
{
    struct ms_log_read read = {.request = 9, .low = 1, .high = 4, .max_bytes = 1 << 20};
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    struct ms_log_entries entries;

    fixture_init(&f);
    connect_raftd(&f, &log, &apply);
    connect_apid(&f, &opened);
    for (uint64_t i = 1; i <= 5; i++) {
        put(&f, i);
    }
    cr_assert_eq(ms_link_send(&f.apply, MS_IPC_LOG_READ, &read), MS_OK);
    ms_link_flush(&f.apply);
    expect(&f, &f.apply, MS_IPC_LOG_ENTRIES, &entries, sizeof(entries));
    cr_assert_eq(entries.request, 9);
    cr_assert_eq(entries.status, MS_OK);
    cr_assert_eq(entries.count, 3);
    read.high = 7;
    cr_assert_eq(ms_link_send(&f.apply, MS_IPC_LOG_READ, &read), MS_OK);
    ms_link_flush(&f.apply);
    expect(&f, &f.apply, MS_IPC_LOG_ENTRIES, &entries, sizeof(entries));
    cr_assert_eq(entries.status, MS_EUNAVAILABLE);
    cr_assert_eq(entries.count, 0);
    fixture_fini(&f);
}

/* Ends the node as SIGKILL would, and starts the next. */
static void restart(struct node_fixture *f, enum ms_worker_end end)
{
    store_node_destroy(f->node);
    ms_link_fini(&f->log);
    ms_link_fini(&f->apply);
    ms_link_fini(&f->api);
    start(f, end);
}

Test(node, killed_it_continues_and_after_a_fault_of_its_own_it_rebuilds)
{
    struct ms_raft_status status = {.commit = 10};
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    uint64_t epoch;

    fixture_init(&f);
    connect_raftd(&f, &log, &apply);
    connect_apid(&f, &opened);
    epoch = opened.epoch;
    for (uint64_t i = 1; i <= 10; i++) {
        put(&f, i);
    }
    append(&f, 11);
    restart(&f, MS_END_KILLED);
    connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.last_index, 11);
    cr_assert_geq(apply.applied, 10);
    connect_apid(&f, &opened);
    cr_assert_eq(opened.epoch, epoch, "the same file");

    ms_status_page_write(f.page, &status, true);
    restart(&f, MS_END_OWN_FAULT);
    connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.last_index, 11);
    cr_assert_eq(apply.applied, 10, "what the status page says is committed, and no more");
    connect_apid(&f, &opened);
    cr_assert_neq(opened.epoch, epoch, "another file");
    cr_assert_eq(opened.read_floor, 11);
    fixture_fini(&f);
}

Test(node, snapshots_are_taken_and_the_log_is_compacted)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    struct ms_log_compacted compacted;

    fixture_init(&f);
    f.config.snapshot_count = 20;
    connect_raftd(&f, &log, &apply);
    connect_apid(&f, &opened);
    for (uint64_t i = 1; i < 20; i++) {
        put(&f, i);
    }
    append(&f, 20);
    send_apply(&f, 20, 20);
    {
        struct ms_apply_done done;

        expect(&f, &f.apply, MS_IPC_APPLY_DONE, &done, sizeof(done));
    }
    expect(&f, &f.apply, MS_IPC_LOG_COMPACTED, &compacted, sizeof(compacted));
    cr_assert_eq(compacted.snapshot_index, 20);
    cr_assert_eq(compacted.first_index, 16);
    cr_assert_eq(compacted.snapshot_term, 1);
    restart(&f, MS_END_OWN_FAULT);
    connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.first_index, 16);
    cr_assert_eq(apply.applied, 20);
    cr_assert_eq(apply.revision, 21);
    fixture_fini(&f);
}

Test(node, long_history_makes_it_suggest_a_compaction)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    struct ms_apply_done done;
    struct ms_suggest suggest;

    fixture_init(&f);
    f.config.history = 10;
    connect_raftd(&f, &log, &apply);
    connect_apid(&f, &opened);
    for (uint64_t i = 1; i < 12; i++) {
        put(&f, i);
    }
    append(&f, 12);
    send_apply(&f, 12, 12);
    expect(&f, &f.apply, MS_IPC_APPLY_DONE, &done, sizeof(done));
    expect(&f, &f.apply, MS_IPC_SUGGEST, &suggest, sizeof(suggest));
    fixture_fini(&f);
}

Test(node, an_orderly_stop_leaves_nothing_in_memory_and_everything_on_disk)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;

    fixture_init(&f);
    connect_raftd(&f, &log, &apply);
    connect_apid(&f, &opened);
    put(&f, 1);
    append(&f, 2);
    store_node_stop(f.node);
    f.node = NULL;
    cr_assert(rmdir(f.config.memory_dir) == 0, "the memory directory is not empty");
    cr_assert(mkdir(f.config.memory_dir, 0700) == 0);
    start(&f, MS_END_STOPPED);
    connect_raftd(&f, &log, &apply);
    cr_assert_eq(log.last_index, 2);
    cr_assert_eq(apply.applied, 1);
    fixture_fini(&f);
}

/* Results that find apid's ring full wait, and nothing more is applied meanwhile. */
Test(node, a_full_ring_to_apid_holds_applying_back_and_loses_nothing)
{
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    uint64_t sent = 0;
    uint64_t seen = 0;

    fixture_init(&f);
    connect_raftd(&f, &log, &apply);
    connect_apid(&f, &opened);
    for (uint64_t i = 1; i <= 1500; i++) {
        struct ms_ipc_message message;

        append(&f, i);
        send_apply(&f, i, i);
        sent++;
        settle(&f);
        while (ms_link_receive(&f.apply, &message) == MS_OK) {
            ms_link_release(&f.apply);
            ms_link_flush(&f.apply);
        }
        if (sent - seen > 1300) {
            /* By now the ring to apid is full. Let it read a little. */
            for (int k = 0; k < 500; k++) {
                struct ms_apply_result result;

                expect(&f, &f.api, MS_IPC_APPLY_RESULT, &result, sizeof(result));
                cr_assert_eq(result.id.seq, ++seen);
            }
        }
    }
    while (seen < sent) {
        struct ms_apply_result result;

        expect(&f, &f.api, MS_IPC_APPLY_RESULT, &result, sizeof(result));
        cr_assert_eq(result.id.seq, ++seen);
    }
    fixture_fini(&f);
}

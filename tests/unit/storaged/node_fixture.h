/*
 * node_fixture: the whole of storaged but its process, between a raftd and an apid of our own.
 */
#ifndef METASTORE_TESTS_NODE_FIXTURE_H
#define METASTORE_TESTS_NODE_FIXTURE_H

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
    struct ms_metrics_page *metrics_page;
    struct store_node *node;
    struct ms_link log;
    struct ms_link apply;
    struct ms_link api;
    uint64_t seq;      /* of the last LOG_APPEND */
    raft_index index;  /* of the last entry */
    unsigned reports;  /* of neighbours that broke the protocol */
    uint32_t reported; /* the link kind of the last one */
};

static inline void fixture_report(void *ctx, const struct ms_link_info *peer, const char *text)
{
    struct node_fixture *f = ctx;

    cr_assert_not_null(text);
    f->reports++;
    f->reported = peer->kind;
}

static inline void fixture_start(struct node_fixture *f, enum ms_worker_end previous_end)
{
    const struct store_node_options options = {
        .config = &f->config,
        .previous_end = previous_end,
        .page = f->page,
        .metrics = ms_metrics_slot(f->metrics_page, MS_ROLE_STORAGED, 0),
        .report_peer = fixture_report,
        .ctx = f};
    struct ms_err err = {.status = MS_OK};

    cr_assert_eq(store_node_create(&options, &f->node, &err), MS_OK, "%s", err.text);
}

static inline void fixture_init(struct node_fixture *f)
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
    cr_assert_eq(ms_metrics_page_create(&fd, NULL), MS_OK);
    cr_assert_eq(ms_metrics_page_map(fd, &f->metrics_page, NULL), MS_OK);
    (void)close(fd);
    ms_link_init_closed(&f->log);
    ms_link_init_closed(&f->apply);
    ms_link_init_closed(&f->api);
    fixture_start(f, MS_END_NONE);
}

static inline void fixture_fini(struct node_fixture *f)
{
    store_node_destroy(f->node);
    ms_link_fini(&f->log);
    ms_link_fini(&f->apply);
    ms_link_fini(&f->api);
    ms_status_page_unmap(f->page);
    ms_metrics_page_unmap(f->metrics_page);
    fixture_remove_dir(f->root);
}

/* Lets the node work until it has nothing to do. */
static inline void fixture_settle(struct node_fixture *f)
{
    struct ms_err err = {.status = MS_OK};
    int rc;

    do {
        rc = store_node_run(f->node, ms_clock_now(), &err);
        cr_assert(rc == MS_OK || rc == MS_EAGAIN, "%s", err.text);
    } while (rc == MS_EAGAIN);
}

/* Room for the tail of a message. */
struct fixture_tail {
    size_t len_bytes;
    uint8_t data[LINK_FIXTURE_RING];
};

/* The next message of the type on one of our ends, the node working meanwhile; tail may be NULL. */
static inline void fixture_expect_tail(struct node_fixture *f, struct ms_link *link,
                                       enum ms_ipc_type type, void *body, size_t body_bytes,
                                       struct fixture_tail *tail)
{
    for (int i = 0; i < 1000; i++) {
        struct pollfd wait[2] = {{.fd = link->doorbell_fd, .events = POLLIN},
                                 {.fd = store_node_fd(f->node), .events = POLLIN}};
        struct ms_ipc_message message;

        fixture_settle(f);
        if (ms_link_receive(link, &message) == MS_OK) {
            cr_assert_eq(message.type, type, "%s instead of %s", ms_ipc_name(message.type),
                         ms_ipc_name(type));
            memcpy(body, message.body, body_bytes);
            if (tail != NULL) {
                tail->len_bytes = message.tail_bytes;
                memcpy(tail->data, message.tail, message.tail_bytes);
            }
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

static inline void fixture_expect(struct node_fixture *f, struct ms_link *link,
                                  enum ms_ipc_type type, void *body, size_t body_bytes)
{
    fixture_expect_tail(f, link, type, body, body_bytes, NULL);
}

/* Sends a message without a tail from one of our ends. */
static inline void fixture_send(struct ms_link *link, enum ms_ipc_type type, const void *body)
{
    cr_assert_eq(ms_link_send(link, type, body), MS_OK);
    ms_link_flush(link);
}

static inline uint64_t fixture_metric(const struct node_fixture *f, enum ms_metric metric)
{
    return ms_metrics_get(ms_metrics_slot(f->metrics_page, MS_ROLE_STORAGED, 0), metric);
}

/* True if nothing waits on our end once the node has nothing to do. */
static inline bool fixture_is_silent(struct node_fixture *f, struct ms_link *link)
{
    struct ms_ipc_message message;

    fixture_settle(f);
    return ms_link_receive(link, &message) == MS_EAGAIN;
}

static inline void fixture_take_link(struct node_fixture *f, enum ms_link_kind kind,
                                     enum ms_role role, uint64_t origin, struct ms_link *far_end)
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
static inline void fixture_connect_raftd(struct node_fixture *f, struct ms_log_state *log,
                                         struct ms_apply_state *apply)
{
    static uint64_t origin;

    origin++;
    fixture_take_link(f, MS_LINK_RAFT_LOG, MS_ROLE_RAFTD, origin, &f->log);
    fixture_take_link(f, MS_LINK_RAFT_APPLY, MS_ROLE_RAFTD, origin, &f->apply);
    fixture_expect(f, &f->log, MS_IPC_LOG_STATE, log, sizeof(*log));
    fixture_expect(f, &f->apply, MS_IPC_APPLY_STATE, apply, sizeof(*apply));
    f->seq = 0;
    f->index = log->last_index;
}

static inline void fixture_connect_apid(struct node_fixture *f, struct ms_store_opened *opened)
{
    fixture_take_link(f, MS_LINK_API_STORE, MS_ROLE_APID, ORIGIN, &f->api);
    fixture_expect(f, &f->api, MS_IPC_STORE_OPENED, opened, sizeof(*opened));
}

/* The entry for PUT of key = "k" number, as apid would encode it. */
static inline size_t fixture_encode_put(uint64_t number, uint8_t dst[256])
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
static inline void fixture_append(struct node_fixture *f, uint64_t number)
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
    like.data_bytes = (uint32_t)fixture_encode_put(number, data);
    cr_assert_eq(link_fixture_entries(&f->log, MS_IPC_LOG_APPEND, &message, sizeof(message),
                                      f->index, 1, &like),
                 MS_OK);
    link_fixture_expect(&f->log, MS_IPC_LOG_DURABLE, &durable, sizeof(durable));
    cr_assert_eq(durable.seq, f->seq);
}

static inline void fixture_send_apply(struct node_fixture *f, raft_index index, uint64_t number)
{
    struct ms_apply_entries message = {.first_index = index, .count = 1};
    uint8_t data[256];
    struct log_entry like = {.term = 1, .data = data};

    like.data_bytes = (uint32_t)fixture_encode_put(number, data);
    cr_assert_eq(link_fixture_entries(&f->apply, MS_IPC_APPLY_ENTRIES, &message, sizeof(message),
                                      index, 1, &like),
                 MS_OK);
}

/* One PUT from end to end. */
static inline void fixture_do_put(struct node_fixture *f, uint64_t number)
{
    struct ms_apply_result result;
    struct ms_apply_done done;

    fixture_append(f, number);
    fixture_send_apply(f, f->index, number);
    fixture_expect(f, &f->apply, MS_IPC_APPLY_DONE, &done, sizeof(done));
    cr_assert_eq(done.applied, f->index);
    fixture_expect(f, &f->api, MS_IPC_APPLY_RESULT, &result, sizeof(result));
    cr_assert_eq(result.id.seq, number);
    cr_assert_eq(result.code, MS_RESULT_OK);
}

/* Ends the node as SIGKILL would, and starts the next. */
static inline void fixture_restart(struct node_fixture *f, enum ms_worker_end end)
{
    store_node_destroy(f->node);
    ms_link_fini(&f->log);
    ms_link_fini(&f->apply);
    ms_link_fini(&f->api);
    fixture_start(f, end);
}

#endif

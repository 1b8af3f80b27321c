/*
 * apply_client: configuration changes in the stream; the rest is tested through the node.
 */
#include "raftd/apply_client.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/raftd/heap_fixture.h"

struct fixture {
    struct apply_client client;
    struct ms_link store; /* storaged's end */
    uint64_t generation;
    unsigned changes; /* calls of on_conf_change */
    bool effect;      /* whether changes have one */
    unsigned applied; /* calls of on_applied */
};

static int on_conf_change(void *ctx, const struct raft_entry *entry, struct conf_record *out)
{
    struct fixture *f = ctx;
    uint8_t *bytes = NULL;

    f->changes++;
    if (f->effect) {
        cr_assert_eq(raft_buffer_create(&heap, 8, &out->buffer, &bytes), MS_OK);
        memset(bytes, (int)entry->index, 8);
        out->index = entry->index;
        out->bytes = bytes;
        out->len_bytes = 8;
    }
    return MS_OK;
}

static void on_applied(void *ctx, const struct raft_message *message)
{
    struct fixture *f = ctx;

    (void)message;
    f->applied++;
}

static void handle(struct fixture *f, enum ms_ipc_type type, const void *body)
{
    struct ms_ipc_message message;

    cr_assert_eq(ms_link_send(&f->store, type, body), MS_OK);
    cr_assert_eq(ms_link_receive(&f->client.link, &message), MS_OK);
    cr_assert_eq(apply_client_handle(&f->client, &message, 100), MS_OK);
    ms_link_release(&f->client.link);
}

static void connect(struct fixture *f, raft_index applied)
{
    struct ms_link_info info = {
        .kind = MS_LINK_RAFT_APPLY, .peer_role = MS_ROLE_STORAGED, .generation = ++f->generation};
    const struct ms_apply_state state = {.applied = applied};
    struct ms_link link;
    int left[MS_LINK_FD_COUNT];
    int right[MS_LINK_FD_COUNT];

    cr_assert_eq(ms_link_create(&info, 65536, left, right, NULL), MS_OK);
    cr_assert_eq(ms_link_take(&link, &info, MS_ROLE_RAFTD, left, NULL), MS_OK);
    info.peer_role = MS_ROLE_RAFTD;
    ms_link_fini(&f->store);
    cr_assert_eq(ms_link_take(&f->store, &info, MS_ROLE_STORAGED, right, NULL), MS_OK);
    apply_client_close(&f->client);
    apply_client_take_link(&f->client, &link);
    handle(f, MS_IPC_APPLY_STATE, &state);
}

/* Entries 1 .. 5, of which the third changes the configuration. */
static void init(struct fixture *f, bool effect)
{
    const struct apply_client_events events = {
        .on_conf_change = on_conf_change, .on_applied = on_applied, .ctx = f};
    struct raft_message message = {.type = RAFT_MSG_STORAGE_APPLY};
    struct raft_entry entries[5];

    memset(f, 0, sizeof(*f));
    f->effect = effect;
    ms_link_init_closed(&f->store);
    apply_client_init(&f->client, &heap, &events);
    connect(f, 0);
    apply_client_adopt(&f->client);
    for (size_t i = 0; i < 5; i++) {
        entries[i] = (struct raft_entry){.term = 1, .index = i + 1};
    }
    entries[2].type = RAFT_ENTRY_CONF_CHANGE;
    cr_assert_eq(raft_slice_create(&heap, entries, 5, &message.entries), MS_OK);
    cr_assert_eq(apply_client_apply(&f->client, &message), MS_OK);
    cr_assert_eq(apply_client_pump(&f->client), MS_OK);
}

static void fini(struct fixture *f)
{
    apply_client_fini(&f->client);
    ms_link_fini(&f->store);
}

static void expect_entries(struct fixture *f, raft_index first, uint32_t count)
{
    struct ms_ipc_message message;
    struct ms_apply_entries body;

    cr_assert_eq(ms_link_receive(&f->store, &message), MS_OK);
    cr_assert_eq(message.type, MS_IPC_APPLY_ENTRIES);
    memcpy(&body, message.body, sizeof(body));
    cr_assert_eq(body.first_index, first);
    cr_assert_eq(body.count, count);
    ms_link_release(&f->store);
}

static void expect_conf(struct fixture *f, raft_index index)
{
    struct ms_ipc_message message;
    struct ms_apply_conf body;

    cr_assert_eq(ms_link_receive(&f->store, &message), MS_OK);
    cr_assert_eq(message.type, MS_IPC_APPLY_CONF);
    memcpy(&body, message.body, sizeof(body));
    cr_assert_eq(body.index, index);
    cr_assert_eq(message.tail_bytes, 8);
    ms_link_release(&f->store);
}

static void expect_nothing(struct fixture *f)
{
    struct ms_ipc_message message;

    cr_assert_eq(ms_link_receive(&f->store, &message), MS_EAGAIN);
}

Test(apply_client, change_waits_until_its_configuration_is_durable)
{
    struct fixture f;

    init(&f, true);
    expect_entries(&f, 1, 2);
    expect_nothing(&f);
    apply_client_conf_durable(&f.client, 3);
    cr_assert_eq(apply_client_pump(&f.client), MS_OK);
    expect_conf(&f, 3);
    expect_entries(&f, 3, 3);
    cr_assert_eq(f.changes, 1);
    handle(&f, MS_IPC_APPLY_DONE, &(struct ms_apply_done){.applied = 5});
    cr_assert_eq(f.applied, 1);
    cr_assert(apply_client_is_idle(&f.client));
    fini(&f);
}

Test(apply_client, change_without_effect_has_no_configuration)
{
    struct fixture f;

    init(&f, false);
    expect_entries(&f, 1, 2);
    expect_entries(&f, 3, 3);
    expect_nothing(&f);
    fini(&f);
}

Test(apply_client, returned_storaged_gets_the_configuration_again_but_the_core_does_not)
{
    struct fixture f;

    init(&f, true);
    apply_client_conf_durable(&f.client, 3);
    cr_assert_eq(apply_client_pump(&f.client), MS_OK);
    connect(&f, 1);
    cr_assert_eq(apply_client_pump(&f.client), MS_OK);
    expect_entries(&f, 2, 1);
    expect_conf(&f, 3);
    expect_entries(&f, 3, 3);
    cr_assert_eq(f.changes, 1);
    fini(&f);
}

Test(apply_client, storaged_that_went_ahead_is_believed)
{
    struct fixture f;

    init(&f, true);
    connect(&f, 5);
    cr_assert_eq(apply_client_pump(&f.client), MS_OK);
    expect_nothing(&f);
    cr_assert_eq(f.changes, 1, "the core needs the change all the same");
    cr_assert_eq(f.applied, 1);
    fini(&f);
}

Test(apply_client, message_is_done_when_its_last_entry_is)
{
    struct fixture f;

    init(&f, false);
    handle(&f, MS_IPC_APPLY_DONE, &(struct ms_apply_done){.applied = 4});
    cr_assert_eq(f.applied, 0);
    handle(&f, MS_IPC_APPLY_DONE, &(struct ms_apply_done){.applied = 5});
    cr_assert_eq(f.applied, 1);
    fini(&f);
}

/* ---- snapshots ---- */

/* A snapshot of index 9 takes the place of everything. */
static void replace(struct fixture *f)
{
    const struct raft_conf_state conf = {.voters = {.count = 1, .ids = {1}}};
    struct raft_message message = {.type = RAFT_MSG_STORAGE_APPEND};

    apply_client_replace(&f->client, 9);
    cr_assert_eq(raft_snapshot_create(&heap, 9, 2, &conf, NULL, &message.snapshot), MS_OK);
    cr_assert_eq(apply_client_apply(&f->client, &message), MS_OK);
    cr_assert_eq(apply_client_pump(&f->client), MS_OK);
}

static void expect_snapshot(struct fixture *f)
{
    struct ms_ipc_message message;
    struct ms_apply_snapshot body;

    cr_assert_eq(ms_link_receive(&f->store, &message), MS_OK);
    cr_assert_eq(message.type, MS_IPC_APPLY_SNAPSHOT, "%s", ms_ipc_name(message.type));
    memcpy(&body, message.body, sizeof(body));
    cr_assert_eq(body.index, 9);
    cr_assert_eq(body.term, 2);
    ms_link_release(&f->store);
}

Test(apply_client, what_waits_when_a_snapshot_comes_is_not_sent_but_done_with_it)
{
    struct fixture f;

    init(&f, true);
    expect_entries(&f, 1, 2); /* the third waits for its configuration */
    replace(&f);
    expect_snapshot(&f);
    expect_nothing(&f);
    handle(&f, MS_IPC_APPLY_DONE, &(struct ms_apply_done){.applied = 2});
    cr_assert_eq(f.applied, 0);
    handle(&f, MS_IPC_APPLY_DONE, &(struct ms_apply_done){.applied = 9});
    cr_assert_eq(f.applied, 2, "the entries, and the snapshot");
    cr_assert_eq(f.changes, 1);
    cr_assert(apply_client_is_idle(&f.client));
    fini(&f);
}

/* The core has the snapshot's configuration already: an older change would undo it. */
Test(apply_client, change_that_is_part_of_a_snapshot_does_not_reach_the_core)
{
    struct fixture f;

    init(&f, true);
    connect(&f, 0);
    f.client.conf_seen = 0; /* as if the stream had not come to it */
    f.changes = 0;
    replace(&f);
    expect_snapshot(&f);
    cr_assert_eq(f.changes, 0);
    fini(&f);
}

Test(apply_client, announced_configuration_is_followed_by_its_entry_all_the_same)
{
    struct fixture f;

    init(&f, true);
    expect_entries(&f, 1, 2);
    apply_client_conf_durable(&f.client, 3);
    f.client.conf_sent = 3; /* as if there had been no room for the entry behind it */
    replace(&f);
    expect_entries(&f, 3, 3);
    expect_snapshot(&f);
    fini(&f);
}

Test(apply_client, storaged_that_installed_the_snapshot_by_itself_is_believed)
{
    struct fixture f;

    init(&f, true);
    replace(&f);
    connect(&f, 9);
    cr_assert_eq(apply_client_pump(&f.client), MS_OK);
    expect_nothing(&f);
    cr_assert_eq(f.applied, 2);
    fini(&f);
}

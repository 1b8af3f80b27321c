/*
 * log_client: what only a log with replaced entries shows; the rest is tested through the node.
 */
#include "raftd/log_client.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/conf_state.h"
#include "raftd/entry_codec.h"
#include "raftd/snapshot_conf.h"
#include "tests/unit/raftd/heap_fixture.h"

#define ENTRIES_MAX 16

struct fixture {
    struct log_client client;
    struct ms_link store; /* storaged's end */
    uint64_t generation;
    unsigned written;
    raft_index conf_durable;
};

static void on_written(void *ctx, struct raft_message *message)
{
    struct fixture *f = ctx;

    (void)message;
    f->written++;
}

static void on_conf_durable(void *ctx, raft_index index)
{
    struct fixture *f = ctx;

    f->conf_durable = index;
}

static void connect(struct fixture *f, struct ms_log_state state)
{
    struct ms_link_info info = {
        .kind = MS_LINK_RAFT_LOG, .peer_role = MS_ROLE_STORAGED, .generation = ++f->generation};
    struct ms_link link;
    struct ms_ipc_message message;
    int left[MS_LINK_FD_COUNT];
    int right[MS_LINK_FD_COUNT];

    cr_assert_eq(ms_link_create(&info, 65536, left, right, NULL), MS_OK);
    cr_assert_eq(ms_link_take(&link, &info, MS_ROLE_RAFTD, left, NULL), MS_OK);
    info.peer_role = MS_ROLE_RAFTD;
    ms_link_fini(&f->store);
    cr_assert_eq(ms_link_take(&f->store, &info, MS_ROLE_STORAGED, right, NULL), MS_OK);
    log_client_close(&f->client);
    log_client_take_link(&f->client, &link);
    cr_assert_eq(ms_link_send(&f->store, MS_IPC_LOG_STATE, &state), MS_OK);
    cr_assert_eq(ms_link_receive(&f->client.link, &message), MS_OK);
    cr_assert_eq(log_client_handle(&f->client, &message), MS_OK);
    ms_link_release(&f->client.link);
}

static struct ms_log_state log_at(raft_index last, raft_term term, raft_term hard_term)
{
    return (struct ms_log_state){
        .hard_state = {.term = hard_term}, .first_index = 1, .last_index = last, .last_term = term};
}

static void init(struct fixture *f, struct ms_log_state state)
{
    const struct log_client_events events = {
        .on_written = on_written, .on_conf_durable = on_conf_durable, .ctx = f};

    memset(f, 0, sizeof(*f));
    ms_link_init_closed(&f->store);
    log_client_init(&f->client, &heap, &events);
    connect(f, state);
    log_client_adopt(&f->client);
}

static void fini(struct fixture *f)
{
    log_client_fini(&f->client);
    ms_link_fini(&f->store);
}

/* A write of entries first .. last of one term, with the hard state of that term. */
static void append(struct fixture *f, raft_index first, raft_index last, raft_term term,
                   raft_index commit)
{
    struct raft_entry entries[ENTRIES_MAX];
    struct raft_message message = {.type = RAFT_MSG_STORAGE_APPEND, .term = term, .commit = commit};
    size_t count = (size_t)(last + 1 - first);

    for (size_t i = 0; i < count; i++) {
        entries[i] = (struct raft_entry){.term = term, .index = first + i};
    }
    cr_assert_eq(raft_slice_create(&heap, entries, count, &message.entries), MS_OK);
    cr_assert_eq(log_client_append(&f->client, &message, (struct ms_instant){0}), MS_OK);
    cr_assert_eq(log_client_pump(&f->client), MS_OK);
}

/* The next record on the link; false if there is none. */
static bool next(struct fixture *f, struct ms_log_append *out)
{
    struct ms_ipc_message message;

    if (ms_link_receive(&f->store, &message) != MS_OK) {
        return false;
    }
    cr_assert_eq(message.type, MS_IPC_LOG_APPEND);
    memcpy(out, message.body, sizeof(*out));
    ms_link_release(&f->store);
    return true;
}

static void say_durable(struct fixture *f, uint64_t seq)
{
    const struct ms_log_durable body = {.seq = seq};
    struct ms_ipc_message message;

    cr_assert_eq(ms_link_send(&f->store, MS_IPC_LOG_DURABLE, &body), MS_OK);
    cr_assert_eq(ms_link_receive(&f->client.link, &message), MS_OK);
    cr_assert_eq(log_client_handle(&f->client, &message), MS_OK);
    ms_link_release(&f->client.link);
}

/* Raft 5.3: entries 4 and 5 of term 2 are replaced by one of term 3. */
Test(log_client, replaced_entries_are_recognised_by_their_term)
{
    struct fixture f;
    struct ms_log_append body;

    init(&f, log_at(3, 1, 1));
    append(&f, 4, 5, 2, 0);
    append(&f, 4, 4, 3, 0);
    append(&f, 5, 6, 3, 4);

    /* Only the first had arrived: the log is longer than it will be, and not what it will be. */
    connect(&f, log_at(5, 2, 2));
    cr_assert_eq(log_client_pump(&f.client), MS_OK);
    cr_assert(next(&f, &body));
    cr_assert_eq(body.seq, 1);
    cr_assert_eq(body.first_index, 4);
    cr_assert_eq(body.count, 1);
    cr_assert_eq(body.hard_state.term, 3);
    cr_assert(next(&f, &body));
    cr_assert_eq(body.first_index, 5);
    cr_assert_eq(body.hard_state.commit, 4);
    cr_assert_not(next(&f, &body));
    cr_assert_eq(f.written, 1, "the first is done without being sent again");
    say_durable(&f, 2);
    cr_assert_eq(f.written, 3);
    fini(&f);
}

Test(log_client, nothing_arrived_means_everything_again)
{
    struct fixture f;
    struct ms_log_append body;

    init(&f, log_at(3, 1, 1));
    append(&f, 4, 5, 2, 0);
    append(&f, 4, 4, 3, 0);
    connect(&f, log_at(3, 1, 1));
    cr_assert_eq(log_client_pump(&f.client), MS_OK);
    cr_assert(next(&f, &body));
    cr_assert_eq(body.first_index, 4);
    cr_assert_eq(body.count, 2);
    cr_assert_eq(body.hard_state.term, 2);
    cr_assert(next(&f, &body));
    cr_assert_eq(body.count, 1);
    fini(&f);
}

/* On disk the commit index never points behind the entries, at whatever record power fails. */
Test(log_client, commit_index_never_leads_beyond_the_entries_of_a_record)
{
    struct fixture f;
    struct ms_log_append body;

    init(&f, log_at(0, 0, 0));
    append(&f, 1, 2, 1, 5);
    append(&f, 3, 4, 1, 5);
    append(&f, 5, 6, 1, 5);
    cr_assert(next(&f, &body));
    cr_assert_eq(body.hard_state.commit, 2);
    cr_assert(next(&f, &body));
    cr_assert_eq(body.hard_state.commit, 4);
    cr_assert(next(&f, &body));
    cr_assert_eq(body.hard_state.commit, 5);
    fini(&f);
}

Test(log_client, vote_is_written_without_entries)
{
    struct fixture f;
    struct ms_log_append body;
    struct raft_message message = {.type = RAFT_MSG_STORAGE_APPEND, .term = 4, .vote = 2};

    init(&f, log_at(3, 1, 4));
    cr_assert_eq(log_client_append(&f.client, &message, (struct ms_instant){0}), MS_OK);
    cr_assert_eq(log_client_pump(&f.client), MS_OK);
    cr_assert(next(&f, &body));
    cr_assert_eq(body.count, 0);
    cr_assert_eq(body.has_hard_state, 1);
    cr_assert_eq(body.hard_state.vote, 2);
    cr_assert_eq(f.written, 0, "a vote counts when it is durable");
    say_durable(&f, 1);
    cr_assert_eq(f.written, 1);
    fini(&f);
}

/* Storaged wrote the vote and died before it said so. */
Test(log_client, vote_that_is_on_disk_is_not_taken_back)
{
    struct fixture f;
    struct ms_log_append body;
    struct ms_log_state state = log_at(3, 1, 4);
    struct raft_message message = {.type = RAFT_MSG_STORAGE_APPEND, .term = 4, .vote = 2};

    init(&f, state);
    cr_assert_eq(log_client_append(&f.client, &message, (struct ms_instant){0}), MS_OK);
    cr_assert_eq(log_client_pump(&f.client), MS_OK);
    state.hard_state.vote = 2;
    connect(&f, state);
    append(&f, 4, 4, 4, 0);
    while (next(&f, &body)) {
        cr_assert(body.has_hard_state == 0 || body.hard_state.vote == 2);
    }
    fini(&f);
}

Test(log_client, records_are_numbered_together)
{
    struct fixture f;
    struct ms_log_append body;
    struct raft_buffer *buffer = NULL;
    struct ms_ipc_message message;
    struct ms_log_conf conf;
    uint8_t *bytes = NULL;

    init(&f, log_at(3, 1, 1));
    cr_assert_eq(raft_buffer_create(&heap, 8, &buffer, &bytes), MS_OK);
    memset(bytes, 0, 8);
    append(&f, 4, 4, 1, 0);
    cr_assert_eq(
        log_client_write_conf(
            &f.client,
            &(struct conf_record){.index = 4, .buffer = buffer, .bytes = bytes, .len_bytes = 8},
            (struct ms_instant){0}),
        MS_OK);
    raft_buffer_release(buffer);
    cr_assert_eq(log_client_pump(&f.client), MS_OK);
    cr_assert(next(&f, &body));
    cr_assert_eq(ms_link_receive(&f.store, &message), MS_OK);
    cr_assert_eq(message.type, MS_IPC_LOG_CONF);
    cr_assert_eq(message.tail_bytes, 8);
    memcpy(&conf, message.body, sizeof(conf));
    ms_link_release(&f.store);
    cr_assert_eq(conf.seq, 2);
    cr_assert_eq(conf.index, 4);
    say_durable(&f, 1);
    cr_assert_eq(f.conf_durable, 0);
    say_durable(&f, 2);
    cr_assert_eq(f.conf_durable, 4);
    fini(&f);
}

/* What is about to be replaced is on disk, but not to be counted as what the log is. */
Test(log_client, log_is_certain_up_to_what_an_unanswered_write_replaces)
{
    struct fixture f;

    init(&f, log_at(6, 1, 1));
    cr_assert_eq(log_client_certain_index(&f.client), 6);
    append(&f, 7, 8, 1, 0);
    cr_assert_eq(log_client_certain_index(&f.client), 6);
    append(&f, 4, 5, 3, 0);
    cr_assert_eq(log_client_certain_index(&f.client), 3);
    append(&f, 6, 9, 3, 0);
    say_durable(&f, 1);
    cr_assert_eq(log_client_certain_index(&f.client), 3, "8 entries are durable, 3 will stay");
    say_durable(&f, 2);
    cr_assert_eq(log_client_certain_index(&f.client), 5);
    say_durable(&f, 3);
    cr_assert_eq(log_client_certain_index(&f.client), 9);
    fini(&f);
}

Test(log_client, oldest_item_tells_how_long_the_disk_has_been_waited_for)
{
    const struct ms_instant later = {.ns = UINT64_C(5000000000)};
    struct fixture f;

    init(&f, log_at(3, 1, 1));
    cr_assert_eq(log_client_waits_ms(&f.client, later), 0);
    append(&f, 4, 4, 1, 0); /* at 0 */
    cr_assert_eq(log_client_waits_ms(&f.client, later), 5000);
    log_client_close(&f.client); /* that storaged died is no answer */
    cr_assert_eq(log_client_waits_ms(&f.client, later), 5000);
    connect(&f, log_at(4, 1, 1));
    cr_assert_eq(log_client_pump(&f.client), MS_OK);
    cr_assert_eq(log_client_waits_ms(&f.client, later), 0);
    fini(&f);
}

/* ---- snapshots ---- */

/* The log starts anew behind a snapshot of index 20 and term 4, with entries 21 and 22. */
static void append_snapshot(struct fixture *f)
{
    const struct ms_conf_state conf = {.member_count = 1,
                                       .members = {{.id = 1, .flags = MS_CONF_VOTER}}};
    const struct raft_conf_state ids = {.voters = {.count = 1, .ids = {1}}};
    struct raft_message message = {.type = RAFT_MSG_STORAGE_APPEND, .term = 5, .commit = 22};
    struct raft_entry entries[2] = {{.term = 4, .index = 21}, {.term = 5, .index = 22}};
    struct raft_buffer *data = NULL;
    uint8_t bytes[MS_CONF_STATE_BYTES_MAX];

    ms_conf_state_encode(&conf, bytes);
    cr_assert_eq(snapshot_conf_create(&heap, bytes, ms_conf_state_encoded_bytes(&conf), &data),
                 MS_OK);
    cr_assert_eq(raft_snapshot_create(&heap, 20, 4, &ids, data, &message.snapshot), MS_OK);
    raft_buffer_release(data);
    cr_assert_eq(raft_slice_create(&heap, entries, 2, &message.entries), MS_OK);
    cr_assert_eq(log_client_append(&f->client, &message, (struct ms_instant){0}), MS_OK);
    cr_assert_eq(log_client_pump(&f->client), MS_OK);
}

static void expect_snapshot(struct fixture *f, uint64_t seq)
{
    struct ms_ipc_message message;
    struct ms_log_snapshot body;
    struct ms_conf_state conf;

    cr_assert_eq(ms_link_receive(&f->store, &message), MS_OK);
    cr_assert_eq(message.type, MS_IPC_LOG_SNAPSHOT);
    memcpy(&body, message.body, sizeof(body));
    cr_assert_eq(body.seq, seq);
    cr_assert_eq(body.index, 20);
    cr_assert_eq(body.term, 4);
    cr_assert_eq(body.hard_state.term, 5);
    cr_assert_eq(body.hard_state.commit, 20, "the entries behind it are not there yet");
    cr_assert_eq(ms_conf_state_decode(message.tail, message.tail_bytes, &conf), MS_OK);
    cr_assert_eq(conf.member_count, 1);
    ms_link_release(&f->store);
}

Test(log_client, snapshot_comes_before_the_entries_behind_it)
{
    struct fixture f;
    struct ms_log_append body;

    init(&f, log_at(3, 1, 1));
    append_snapshot(&f);
    cr_assert_eq(log_client_certain_index(&f.client), 0);
    expect_snapshot(&f, 1);
    cr_assert(next(&f, &body));
    cr_assert_eq(body.seq, 2);
    cr_assert_eq(body.first_index, 21);
    cr_assert_eq(body.hard_state.commit, 22);
    say_durable(&f, 1);
    cr_assert_eq(f.written, 0);
    say_durable(&f, 2);
    cr_assert_eq(f.written, 1);
    cr_assert_eq(log_client_certain_index(&f.client), 22);
    fini(&f);
}

Test(log_client, returned_storaged_gets_the_snapshot_again_unless_it_has_it)
{
    struct fixture f;
    struct ms_log_append body;
    struct ms_log_state installed = log_at(20, 4, 5);

    installed.first_index = 21;
    installed.snapshot_index = 20;
    installed.snapshot_term = 4;
    init(&f, log_at(3, 1, 1));
    append_snapshot(&f);
    connect(&f, log_at(3, 1, 1));
    cr_assert_eq(log_client_pump(&f.client), MS_OK);
    expect_snapshot(&f, 1);
    cr_assert(next(&f, &body));
    connect(&f, installed);
    cr_assert_eq(log_client_pump(&f.client), MS_OK);
    cr_assert(next(&f, &body));
    cr_assert_eq(body.seq, 1);
    cr_assert_eq(body.first_index, 21);
    cr_assert_eq(body.count, 2);
    say_durable(&f, 1);
    cr_assert_eq(f.written, 1);
    fini(&f);
}

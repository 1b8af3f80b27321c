/*
 * node_install: a snapshot out of one storaged and into another, and every way to die on the way.
 */
#include "common/conf_state.h"
#include "tests/unit/storaged/node_fixture.h"

#define SNAPSHOT_BYTES_MAX (4u << 20)
#define PIECE_BYTES        20000u
#define LEADER_TERM        3

/* A snapshot as raftd would have it from a peer. */
struct shipment {
    raft_index index;
    raft_term term;
    size_t conf_bytes;
    uint8_t conf[MS_CONF_STATE_BYTES_MAX];
    uint64_t size_bytes;
    uint8_t *data;
};

static void open_session(struct node_fixture *f, uint64_t session, raft_index min_index,
                         struct ms_snap_opened *opened, struct fixture_tail *tail)
{
    const struct ms_snap_open open = {.session = session, .min_index = min_index};

    fixture_send(&f->apply, MS_IPC_SNAP_OPEN, &open);
    fixture_expect_tail(f, &f->apply, MS_IPC_SNAP_OPENED, opened, sizeof(*opened), tail);
    cr_assert_eq(opened->session, session);
}

static void read_session(struct node_fixture *f, uint64_t session, struct shipment *out)
{
    static struct fixture_tail tail;
    uint64_t offset = 0;

    while (offset < out->size_bytes) {
        const struct ms_snap_read read = {
            .session = session, .offset = offset, .len_bytes = PIECE_BYTES};
        struct ms_snap_data data;

        fixture_send(&f->apply, MS_IPC_SNAP_READ, &read);
        fixture_expect_tail(f, &f->apply, MS_IPC_SNAP_DATA, &data, sizeof(data), &tail);
        cr_assert_eq(data.status, MS_OK);
        cr_assert_eq(data.offset, offset);
        cr_assert_eq(tail.len_bytes, out->size_bytes - offset < PIECE_BYTES
                                         ? out->size_bytes - offset
                                         : PIECE_BYTES);
        memcpy(out->data + offset, tail.data, tail.len_bytes);
        offset += tail.len_bytes;
    }
}

/* A configuration of two voters comes with the entry at index, so that the snapshot has one. */
static void set_conf(struct node_fixture *f)
{
    const struct ms_apply_conf message = {.index = f->index + 1};
    struct ms_conf_state conf = {.cluster_id = 5, .member_count = 2};
    void *body;
    void *tail;

    for (uint32_t i = 0; i < 2; i++) {
        conf.members[i].id = i + 1;
        conf.members[i].flags = MS_CONF_VOTER;
    }
    cr_assert_eq(ms_link_begin(&f->apply, MS_IPC_APPLY_CONF, ms_conf_state_encoded_bytes(&conf),
                               &body, &tail),
                 MS_OK);
    memcpy(body, &message, sizeof(message));
    ms_conf_state_encode(&conf, tail);
    ms_link_commit(&f->apply);
}

/* A leader with so many writes makes a snapshot of them. */
static void make_shipment(uint64_t writes, struct shipment *out)
{
    static struct fixture_tail tail;
    struct ms_snap_opened opened;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened store;
    struct node_fixture f;

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    fixture_connect_apid(&f, &store);
    set_conf(&f);
    for (uint64_t i = 1; i <= writes; i++) {
        fixture_do_put(&f, i);
    }
    open_session(&f, 7, 0, &opened, &tail);
    cr_assert_eq(opened.status, MS_OK);
    cr_assert_eq(opened.index, writes);
    cr_assert_leq(opened.size_bytes, SNAPSHOT_BYTES_MAX);
    *out = (struct shipment){.index = opened.index,
                             .term = opened.term,
                             .conf_bytes = tail.len_bytes,
                             .size_bytes = opened.size_bytes,
                             .data = malloc(opened.size_bytes)};
    cr_assert_not_null(out->data);
    cr_assert_gt(tail.len_bytes, 0);
    memcpy(out->conf, tail.data, tail.len_bytes);
    read_session(&f, 7, out);
    fixture_fini(&f);
}

static void free_shipment(struct shipment *shipment)
{
    free(shipment->data);
}

/* ---- the receiving side --------------------------------------------------------------------- */

static void expect_progress(struct node_fixture *f, uint64_t transfer, struct ms_snap_progress *out)
{
    fixture_expect(f, &f->apply, MS_IPC_SNAP_PROGRESS, out, sizeof(*out));
    cr_assert_eq(out->transfer, transfer);
}

static void begin_transfer(struct node_fixture *f, uint64_t transfer,
                           const struct shipment *shipment, struct ms_snap_progress *progress)
{
    const struct ms_snap_receive receive = {.transfer = transfer,
                                            .index = shipment->index,
                                            .term = shipment->term,
                                            .size_bytes = shipment->size_bytes};

    fixture_send(&f->apply, MS_IPC_SNAP_RECEIVE, &receive);
    expect_progress(f, transfer, progress);
}

static void send_piece(struct node_fixture *f, uint64_t transfer, const uint8_t *data,
                       size_t len_bytes, uint64_t offset)
{
    const struct ms_snap_write message = {.transfer = transfer, .offset = offset};
    void *body;
    void *tail;

    cr_assert_eq(ms_link_begin(&f->apply, MS_IPC_SNAP_WRITE, len_bytes, &body, &tail), MS_OK);
    memcpy(body, &message, sizeof(message));
    memcpy(tail, data, len_bytes);
    ms_link_commit(&f->apply);
    ms_link_flush(&f->apply);
}

/* Sends what is missing up to end; returns once that much is taken. */
static void send_up_to(struct node_fixture *f, uint64_t transfer, const struct shipment *shipment,
                       uint64_t end, struct ms_snap_progress *progress)
{
    uint64_t sent = progress->offset;

    while (progress->offset < end) {
        if (sent < end) {
            size_t len_bytes = end - sent < PIECE_BYTES ? end - sent : PIECE_BYTES;

            send_piece(f, transfer, shipment->data + sent, len_bytes, sent);
            sent += len_bytes;
        }
        expect_progress(f, transfer, progress);
        cr_assert_eq(progress->status, MS_OK);
        cr_assert_leq(progress->offset, sent);
    }
}

static void transfer_all(struct node_fixture *f, uint64_t transfer, const struct shipment *shipment)
{
    struct ms_snap_progress progress;

    begin_transfer(f, transfer, shipment, &progress);
    send_up_to(f, transfer, shipment, shipment->size_bytes, &progress);
    while (progress.complete == 0) {
        expect_progress(f, transfer, &progress);
        cr_assert_eq(progress.status, MS_OK);
    }
}

static void send_log_snapshot(struct node_fixture *f, const struct shipment *shipment)
{
    const struct ms_log_snapshot message = {
        .seq = ++f->seq,
        .index = shipment->index,
        .term = shipment->term,
        .hard_state = {.term = LEADER_TERM, .vote = 2, .commit = shipment->index}};
    void *body;
    void *tail;

    cr_assert_eq(ms_link_begin(&f->log, MS_IPC_LOG_SNAPSHOT, shipment->conf_bytes, &body, &tail),
                 MS_OK);
    memcpy(body, &message, sizeof(message));
    memcpy(tail, shipment->conf, shipment->conf_bytes);
    ms_link_commit(&f->log);
    ms_link_flush(&f->log);
}

static void begin_log(struct node_fixture *f, const struct shipment *shipment)
{
    struct ms_log_durable durable;

    send_log_snapshot(f, shipment);
    link_fixture_expect(&f->log, MS_IPC_LOG_DURABLE, &durable, sizeof(durable));
    cr_assert_eq(durable.seq, f->seq);
    cr_assert_eq(durable.last_index, shipment->index);
    cr_assert_eq(durable.last_term, shipment->term);
    f->index = shipment->index;
}

static void send_apply_snapshot(struct node_fixture *f, const struct shipment *shipment)
{
    const struct ms_apply_snapshot message = {.index = shipment->index, .term = shipment->term};

    fixture_send(&f->apply, MS_IPC_APPLY_SNAPSHOT, &message);
}

static void expect_done(struct node_fixture *f, raft_index applied)
{
    struct ms_apply_done done;

    fixture_expect(f, &f->apply, MS_IPC_APPLY_DONE, &done, sizeof(done));
    cr_assert_eq(done.applied, applied);
}

/* The next write of the leader arrives as it does on a follower: nobody here waits for it. */
static void follow(struct node_fixture *f, uint64_t number)
{
    fixture_append(f, number);
    fixture_send_apply(f, f->index, number);
    expect_done(f, f->index);
}

static void expect_states(struct node_fixture *f, raft_index first, raft_index last,
                          raft_index applied)
{
    struct ms_log_state log;
    struct ms_apply_state apply;

    fixture_connect_raftd(f, &log, &apply);
    cr_assert_eq(log.first_index, first);
    cr_assert_eq(log.last_index, last);
    cr_assert_eq(apply.applied, applied);
}

/* ---- the tests ------------------------------------------------------------------------------ */

Test(node_install, a_snapshot_from_another_node_replaces_log_and_state)
{
    static struct fixture_tail tail;
    struct shipment shipment;
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened before;
    struct ms_store_opened after;

    make_shipment(40, &shipment);
    fixture_init(&f);
    f.config.id = 2;
    fixture_connect_raftd(&f, &log, &apply);
    fixture_connect_apid(&f, &before);
    /* What it has so far will not do: entries of a leader that nobody followed. */
    fixture_append(&f, 1);
    fixture_append(&f, 2);
    transfer_all(&f, 1, &shipment);
    begin_log(&f, &shipment);
    send_apply_snapshot(&f, &shipment);
    expect_done(&f, 40);
    cr_assert_eq(fixture_metric(&f, MS_METRIC_SNAPSHOT_INDEX), 40);
    cr_assert_eq(fixture_metric(&f, MS_METRIC_LOG_FIRST_INDEX), 41);
    fixture_expect_tail(&f, &f.api, MS_IPC_STORE_OPENED, &after, sizeof(after), &tail);
    cr_assert_neq(after.epoch, before.epoch);
    cr_assert_eq(after.read_floor, 40);
    cr_assert_gt(tail.len_bytes, 0);
    /* Its apid made these operations, as far as it is concerned, and hears what became of them. */
    for (uint64_t i = 1; i <= 40; i++) {
        struct ms_apply_result result;

        fixture_expect(&f, &f.api, MS_IPC_APPLY_RESULT, &result, sizeof(result));
        cr_assert_eq(result.id.seq, i);
        cr_assert_eq(result.code, MS_RESULT_OK);
        cr_assert_eq(result.revision, i + 1);
    }
    follow(&f, 41);
    fixture_restart(&f, MS_END_KILLED);
    expect_states(&f, 41, 41, 41);
    fixture_restart(&f, MS_END_OWN_FAULT);
    expect_states(&f, 41, 41, 40);
    fixture_fini(&f);
    free_shipment(&shipment);
}

/* raftd must not hear that it is done before every apid has been told of the new file. */
Test(node_install, apids_know_the_new_state_before_raftd_does)
{
    struct shipment shipment;
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    struct ms_store_opened opened;
    struct ms_wait_applied wait = {.index = 1};
    uint64_t answers = 0;

    make_shipment(10, &shipment);
    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    fixture_connect_apid(&f, &opened);
    follow(&f, 1);
    {
        struct ms_apply_result result;

        fixture_expect(&f, &f.api, MS_IPC_APPLY_RESULT, &result, sizeof(result));
    }
    /* Its apid asks and asks, and reads no answer: the ring fills up. */
    while (ms_link_send(&f.api, MS_IPC_WAIT_APPLIED, &wait) == MS_OK && answers < 5000) {
        ms_link_flush(&f.api);
        fixture_settle(&f);
        wait.request = ++answers;
    }
    transfer_all(&f, 1, &shipment);
    begin_log(&f, &shipment);
    send_apply_snapshot(&f, &shipment);
    for (int i = 0; i < 50; i++) {
        struct pollfd node = {.fd = store_node_fd(f.node), .events = POLLIN};

        (void)poll(&node, 1, 5);
        cr_assert(fixture_is_silent(&f, &f.apply));
    }
    for (;;) {
        struct ms_ipc_message message;

        fixture_settle(&f);
        cr_assert_eq(ms_link_receive(&f.api, &message), MS_OK);
        ms_link_release(&f.api);
        ms_link_flush(&f.api);
        if (message.type == MS_IPC_STORE_OPENED) {
            break;
        }
        cr_assert_eq(message.type, MS_IPC_WAIT_DONE);
    }
    expect_done(&f, 10);
    fixture_fini(&f);
    free_shipment(&shipment);
}

/* Where storaged or raftd dies, and what must be there afterwards. */
enum death {
    DEATH_IN_TRANSFER,
    DEATH_COMPLETE,
    DEATH_LOG_BEGUN,
    DEATH_IN_INSTALL,
    DEATH_INSTALLED,
    DEATHS,
};

static void get_to(struct node_fixture *f, enum death death, const struct shipment *shipment)
{
    struct ms_snap_progress progress;

    if (death == DEATH_IN_TRANSFER) {
        begin_transfer(f, 1, shipment, &progress);
        send_up_to(f, 1, shipment, shipment->size_bytes / 2, &progress);
        return;
    }
    transfer_all(f, 1, shipment);
    if (death >= DEATH_LOG_BEGUN) {
        begin_log(f, shipment);
    }
    if (death >= DEATH_IN_INSTALL) {
        send_apply_snapshot(f, shipment);
        fixture_settle(f);
    }
    if (death >= DEATH_INSTALLED) {
        expect_done(f, shipment->index);
    }
}

/* What raftd does after it has connected: the rest of what it was at. */
static void go_on(struct node_fixture *f, enum death death, const struct shipment *shipment)
{
    struct ms_snap_progress progress;

    if (death <= DEATH_COMPLETE) {
        begin_transfer(f, 2, shipment, &progress);
        if (death == DEATH_COMPLETE) {
            while (progress.complete == 0) {
                cr_assert_eq(progress.offset, shipment->size_bytes);
                expect_progress(f, 2, &progress);
            }
        } else {
            send_up_to(f, 2, shipment, shipment->size_bytes, &progress);
            while (progress.complete == 0) {
                expect_progress(f, 2, &progress);
            }
        }
        begin_log(f, shipment);
        send_apply_snapshot(f, shipment);
        expect_done(f, shipment->index);
    }
    follow(f, shipment->index + 1);
}

static void die_at(enum death death, enum ms_worker_end end, const struct shipment *shipment)
{
    bool begun = death >= DEATH_LOG_BEGUN;
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    fixture_append(&f, 1);
    get_to(&f, death, shipment);
    fixture_restart(&f, end);
    expect_states(&f, begun ? shipment->index + 1 : 1, begun ? shipment->index : 1,
                  begun ? shipment->index : 0);
    go_on(&f, death, shipment);
    fixture_restart(&f, MS_END_OWN_FAULT);
    expect_states(&f, shipment->index + 1, shipment->index + 1, shipment->index);
    fixture_fini(&f);
}

Test(node_install, a_storaged_that_dies_anywhere_ends_in_a_consistent_state)
{
    struct shipment shipment;

    make_shipment(40, &shipment);
    for (int death = 0; death < DEATHS; death++) {
        die_at((enum death)death, MS_END_KILLED, &shipment);
        die_at((enum death)death, MS_END_OWN_FAULT, &shipment);
    }
    free_shipment(&shipment);
}

Test(node_install, an_orderly_stop_in_the_middle_leaves_what_the_next_start_needs)
{
    struct shipment shipment;
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;

    make_shipment(40, &shipment);
    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    get_to(&f, DEATH_IN_INSTALL, &shipment);
    store_node_stop(f.node);
    f.node = NULL;
    cr_assert(rmdir(f.config.memory_dir) == 0, "the memory directory is not empty");
    cr_assert(mkdir(f.config.memory_dir, 0700) == 0);
    fixture_start(&f, MS_END_STOPPED);
    expect_states(&f, 41, 40, 40);
    follow(&f, 41);
    fixture_fini(&f);
    free_shipment(&shipment);
}

/* The new raftd hears nothing before what the old one began is done. */
Test(node_install, a_raftd_that_dies_anywhere_finds_log_and_state_together)
{
    const struct ms_control_peer_down down = {.role = MS_ROLE_RAFTD};
    struct shipment shipment;

    make_shipment(40, &shipment);
    for (int death = 0; death < DEATHS; death++) {
        bool begun = death >= DEATH_LOG_BEGUN;
        struct node_fixture f;
        struct ms_log_state log;
        struct ms_apply_state apply;

        fixture_init(&f);
        fixture_connect_raftd(&f, &log, &apply);
        fixture_append(&f, 1);
        if (death == DEATH_LOG_BEGUN) {
            /* It dies right after it said so: the log thread has not even seen it. */
            transfer_all(&f, 1, &shipment);
            send_log_snapshot(&f, &shipment);
        } else {
            get_to(&f, (enum death)death, &shipment);
        }
        store_node_peer_down(f.node, &down);
        expect_states(&f, begun ? shipment.index + 1 : 1, begun ? shipment.index : 1,
                      begun ? shipment.index : 0);
        go_on(&f, (enum death)death, &shipment);
        fixture_fini(&f);
    }
    free_shipment(&shipment);
}

Test(node_install, a_snapshot_that_is_not_there_is_refused)
{
    const struct ms_control_peer_down down = {.role = MS_ROLE_RAFTD};
    struct shipment shipment = {.index = 100, .term = 4};
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;

    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    send_log_snapshot(&f, &shipment);
    for (int i = 0; i < 100 && f.reports == 0; i++) {
        struct pollfd node = {.fd = store_node_fd(f.node), .events = POLLIN};

        (void)poll(&node, 1, 50);
        fixture_settle(&f);
    }
    cr_assert_eq(f.reports, 1);
    cr_assert_eq(f.reported, MS_LINK_RAFT_LOG);
    store_node_peer_down(f.node, &down);
    expect_states(&f, 1, 0, 0);
    send_apply_snapshot(&f, &shipment);
    fixture_settle(&f);
    cr_assert_eq(f.reports, 2);
    cr_assert_eq(f.reported, MS_LINK_RAFT_APPLY);
    store_node_peer_down(f.node, &down);
    expect_states(&f, 1, 0, 0);
    fixture_fini(&f);
}

Test(node_install, a_snapshot_that_is_being_written_gives_way)
{
    struct shipment shipment;
    struct node_fixture f;
    struct ms_log_state log;
    struct ms_apply_state apply;
    const struct ms_snap_open open = {.session = 3};

    make_shipment(40, &shipment);
    fixture_init(&f);
    fixture_connect_raftd(&f, &log, &apply);
    follow(&f, 1);
    transfer_all(&f, 1, &shipment);
    begin_log(&f, &shipment);
    fixture_send(&f.apply, MS_IPC_SNAP_OPEN, &open);
    send_apply_snapshot(&f, &shipment);
    for (int i = 0; i < 2; i++) {
        struct ms_ipc_message message;
        struct pollfd node = {.fd = store_node_fd(f.node), .events = POLLIN};

        fixture_settle(&f);
        if (ms_link_receive(&f.apply, &message) != MS_OK) {
            (void)poll(&node, 1, 1000);
            i--;
            continue;
        }
        cr_assert(message.type == MS_IPC_SNAP_OPENED || message.type == MS_IPC_APPLY_DONE);
        ms_link_release(&f.apply);
        ms_link_flush(&f.apply);
    }
    follow(&f, 41);
    fixture_fini(&f);
    free_shipment(&shipment);
}

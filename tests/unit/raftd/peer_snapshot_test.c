/*
 * Snapshots between nodes: whole, in spite of everything, and not faster than they may.
 */
#include "tests/unit/raftd/peers_fixture.h"

#include "tests/seed.h"

#define INDEX 42

/* Node 1 has a state of so many bytes to send. */
static void prepare(struct network *network, uint64_t size_bytes)
{
    struct fixture_snapshot *out = &network_node(network, 1)->out;
    uint64_t random = test_seed("peer_snapshot");

    out->size_bytes = size_bytes;
    out->bytes = malloc(size_bytes + 1);
    cr_assert_not_null(out->bytes);
    for (uint64_t i = 0; i < size_bytes; i++) {
        out->bytes[i] = (uint8_t)test_random(&random);
    }
}

static int offer(struct network *network, node_id to)
{
    struct fixture_node *one = network_node(network, 1);
    const struct raft_conf_state conf = {.voters = {.count = 2, .ids = {1, 2}}};
    struct raft_message message = {.type = RAFT_MSG_SNAP, .from = 1, .to = to, .term = 3};
    int rc;

    cr_assert_eq(raft_snapshot_create(&heap, INDEX, 3, &conf, NULL, &message.snapshot), MS_OK);
    rc = peers_snapshot_send(one->peers, &message, one->out.size_bytes, &one->out.id);
    raft_message_release(&heap, &message);
    return rc;
}

static void check_arrived(struct network *network)
{
    const struct fixture_snapshot *out = &network_node(network, 1)->out;
    const struct fixture_snapshot *in = &network_node(network, 2)->in;

    cr_assert_eq(out->status, MS_OK);
    cr_assert_eq(in->index, INDEX);
    cr_assert_eq(in->size_bytes, out->size_bytes);
    cr_assert_eq(in->have_bytes, out->size_bytes);
    cr_assert_eq(memcmp(in->bytes, out->bytes, out->size_bytes), 0);
}

static void check_transfer(bool has_key, uint64_t size_bytes)
{
    struct network *network = network_create(has_key, 2);
    struct fixture_node *one = network_node(network, 1);

    prepare(network, size_bytes);
    cr_assert_eq(offer(network, 2), MS_OK);
    network_until(network, one->out.dones == 1);
    check_arrived(network);
    cr_assert_eq(network_node(network, 2)->in.ends, 1);
    cr_assert_eq(network_node(network, 2)->in.lost, 0);
    network_run_ms(network, 50);
    cr_assert_eq(network_node(network, 2)->in.lost, 0, "it is over, not lost");
    cr_assert(network_linked(network, 1, 2), "messages have their own connection");
    network_destroy(network);
}

Test(peer_snapshot, arrives_whole)
{
    check_transfer(false, 5 * 1024 * 1024 + 1);
}

Test(peer_snapshot, arrives_whole_with_a_key)
{
    check_transfer(true, 5 * 1024 * 1024 + 1);
}

Test(peer_snapshot, may_be_empty)
{
    check_transfer(true, 0);
}

Test(peer_snapshot, may_be_one_byte)
{
    check_transfer(false, 1);
}

Test(peer_snapshot, goes_on_where_the_receiver_says)
{
    struct network *network = network_create(true, 2);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_snapshot *in = &network_node(network, 2)->in;

    prepare(network, 1000000);
    in->accept_from = 999000;
    in->bytes = malloc(1000000);
    memcpy(in->bytes, one->out.bytes, 999000);
    cr_assert_eq(offer(network, 2), MS_OK);
    network_until(network, one->out.dones == 1);
    check_arrived(network);
    cr_assert_eq(in->first_offset, 999000);
    network_destroy(network);
}

Test(peer_snapshot, needs_no_bytes_when_all_are_there)
{
    struct network *network = network_create(true, 2);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_snapshot *in = &network_node(network, 2)->in;

    prepare(network, 1000);
    in->accept_from = 1000;
    in->bytes = malloc(1000);
    memcpy(in->bytes, one->out.bytes, 1000);
    cr_assert_eq(offer(network, 2), MS_OK);
    network_until(network, one->out.dones == 1);
    check_arrived(network);
    cr_assert_eq(in->first_offset, UINT64_MAX);
    network_destroy(network);
}

/* The connection is cut again and again; the receiver keeps what it has. */
Test(peer_snapshot, gets_through_in_spite_of_lost_connections)
{
    struct network *network = network_create(true, 2);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *two = network_node(network, 2);
    unsigned attempts = 0;

    prepare(network, 20 * 1024 * 1024);
    do {
        uint64_t stop_at = two->in.have_bytes + 3 * 1024 * 1024;
        uint64_t dones = one->out.dones;

        two->in.accept_from = two->in.have_bytes;
        cr_assert_eq(offer(network, 2), MS_OK);
        network_until(network, two->in.have_bytes >= stop_at || one->out.dones > dones);
        if (one->out.dones == dones) {
            network_stop(network, 2);
            network_until(network, one->out.dones > dones);
            cr_assert_neq(one->out.status, MS_OK);
            two->in.id = 0;
            network_start(network, 2);
        }
        cr_assert_lt(++attempts, 20);
    } while (one->out.status != MS_OK);
    cr_assert_gt(attempts, 3);
    check_arrived(network);
    network_destroy(network);
}

Test(peer_snapshot, no_more_than_the_window_is_under_way)
{
    struct network *network = network_create(false, 2);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_snapshot *in = &network_node(network, 2)->in;

    prepare(network, 4 * PEERS_SNAPSHOT_WINDOW_BYTES);
    in->hold = true;
    cr_assert_eq(offer(network, 2), MS_OK);
    network_until(network, in->held_bytes == PEERS_SNAPSHOT_WINDOW_BYTES);
    network_run_ms(network, 50);
    cr_assert_eq(in->held_bytes, PEERS_SNAPSHOT_WINDOW_BYTES);
    cr_assert_eq(one->out.dones, 0);
    in->hold = false;
    peers_snapshot_consumed(network_node(network, 2)->peers, in->id, (size_t)in->held_bytes);
    in->held_bytes = 0;
    network_until(network, one->out.dones == 1);
    check_arrived(network);
    network_destroy(network);
}

Test(peer_snapshot, keeps_to_the_rate_limit)
{
    struct network *network = network_create_idle(false);
    struct fixture_node *one = network_node(network, 1);
    uint64_t begin_ms;
    uint64_t took_ms;

    one->options.snapshot_bytes_per_second = 4 * 1024 * 1024;
    network_start(network, 1);
    network_start(network, 2);
    network_introduce(network, 1, 2);
    prepare(network, 2 * 1024 * 1024);
    begin_ms = uv_hrtime() / 1000000;
    cr_assert_eq(offer(network, 2), MS_OK);
    network_until(network, one->out.dones == 1);
    took_ms = uv_hrtime() / 1000000 - begin_ms;
    check_arrived(network);
    /* Half a second's worth, less a burst and the last piece, which is not waited for. */
    cr_assert_geq(took_ms, 350);
    cr_assert_leq(took_ms, 5000);
    network_destroy(network);
}

Test(peer_snapshot, one_at_a_time_to_each_peer)
{
    struct network *network = network_create(false, 2);
    struct fixture_node *one = network_node(network, 1);
    peers_transfer first;

    prepare(network, 1000);
    one->out.hold = true;
    cr_assert_eq(offer(network, 2), MS_OK);
    first = one->out.id;
    cr_assert_eq(offer(network, 2), MS_EBUSY);
    cr_assert_eq(offer(network, 3), MS_EPEER);
    network_until(network, one->out.held_bytes == 1000);
    one->out.hold = false;
    peers_snapshot_write(one->peers, first, one->out.bytes, 1000);
    network_until(network, one->out.dones == 1);
    check_arrived(network);
    cr_assert_eq(offer(network, 2), MS_OK);
    cr_assert_neq(one->out.id, first);
    network_until(network, one->out.dones == 2);
    network_destroy(network);
}

Test(peer_snapshot, a_refusal_is_told)
{
    struct network *network = network_create(false, 2);
    struct fixture_node *one = network_node(network, 1);

    prepare(network, 1000);
    network_node(network, 2)->in.refuse = true;
    cr_assert_eq(offer(network, 2), MS_OK);
    network_until(network, one->out.dones == 1);
    cr_assert_eq(one->out.status, MS_EUNAVAILABLE);
    network_destroy(network);
}

Test(peer_snapshot, a_failure_to_store_is_told)
{
    struct network *network = network_create(false, 2);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *two = network_node(network, 2);

    prepare(network, PEERS_SNAPSHOT_WINDOW_BYTES / 2);
    two->in.hold = true;
    cr_assert_eq(offer(network, 2), MS_OK);
    network_until(network, two->in.ends == 1);
    cr_assert_eq(one->out.dones, 0, "sent is not stored");
    peers_snapshot_finish(two->peers, two->in.id, MS_ENOSPC);
    network_until(network, one->out.dones == 1);
    cr_assert_eq(one->out.status, MS_ENOSPC);
    network_destroy(network);
}

Test(peer_snapshot, nobody_at_the_address_is_a_failure)
{
    struct network *network = network_create(false, 2);
    struct fixture_node *one = network_node(network, 1);

    prepare(network, 1000);
    network_stop(network, 2);
    cr_assert_eq(offer(network, 2), MS_OK);
    network_until(network, one->out.dones == 1);
    cr_assert_eq(one->out.status, MS_EUNAVAILABLE);
    network_destroy(network);
}

Test(peer_snapshot, giving_up_the_sender_loses_it_for_the_receiver)
{
    struct network *network = network_create(true, 2);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *two = network_node(network, 2);
    peers_transfer id;

    prepare(network, 4 * PEERS_SNAPSHOT_WINDOW_BYTES);
    two->in.hold = true;
    cr_assert_eq(offer(network, 2), MS_OK);
    network_until(network, two->in.have_bytes > 0);
    id = one->out.id;
    peers_snapshot_abort(one->peers, id);
    network_until(network, two->in.lost == 1);
    network_run_ms(network, 20);
    cr_assert_eq(one->out.dones, 0, "no more events after giving up");
    /* Whoever has not heard of it yet does no harm. */
    peers_snapshot_write(one->peers, id, one->out.bytes, 1);
    peers_snapshot_abort(one->peers, id);
    network_destroy(network);
}

Test(peer_snapshot, giving_up_the_receiver_fails_it_for_the_sender)
{
    struct network *network = network_create(true, 2);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *two = network_node(network, 2);
    peers_transfer id;

    prepare(network, 4 * PEERS_SNAPSHOT_WINDOW_BYTES);
    two->in.hold = true;
    cr_assert_eq(offer(network, 2), MS_OK);
    network_until(network, two->in.have_bytes > 0);
    id = two->in.id;
    peers_snapshot_abort(two->peers, id);
    network_until(network, one->out.dones == 1);
    cr_assert_eq(one->out.status, MS_EPEER);
    cr_assert_eq(two->in.lost, 0);
    peers_snapshot_consumed(two->peers, id, 1);
    peers_snapshot_finish(two->peers, id, MS_OK);
    network_destroy(network);
}

Test(peer_snapshot, a_second_offer_replaces_the_first)
{
    struct network *network = network_create(true, 2);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *two = network_node(network, 2);
    peers_transfer first;

    prepare(network, 4 * PEERS_SNAPSHOT_WINDOW_BYTES);
    two->in.hold = true;
    cr_assert_eq(offer(network, 2), MS_OK);
    network_until(network, two->in.have_bytes > 0);
    first = two->in.id;
    /* The sender starts anew, as after its own restart. */
    network_stop(network, 1);
    one->out.id = 0;
    network_start(network, 1);
    network_introduce(network, 1, 2);
    network_until(network, two->in.lost == 1);
    two->in.hold = false;
    cr_assert_eq(offer(network, 2), MS_OK);
    network_until(network, one->out.dones == 1);
    cr_assert_neq(first, 0);
    check_arrived(network);
    network_destroy(network);
}

Test(peer_snapshot, a_removed_member_gets_none)
{
    struct network *network = network_create(false, 2);
    struct fixture_node *one = network_node(network, 1);

    prepare(network, 4 * PEERS_SNAPSHOT_WINDOW_BYTES);
    network_node(network, 2)->in.hold = true;
    cr_assert_eq(offer(network, 2), MS_OK);
    network_until(network, network_node(network, 2)->in.have_bytes > 0);
    network_introduce(network, 1, 1);
    network_until(network, one->out.dones == 1);
    cr_assert_eq(one->out.status, MS_EPEER);
    network_until(network, network_node(network, 2)->in.lost == 1);
    network_destroy(network);
}

/* What the owner passes on may come from a process that has gone wrong. */
Test(peer_snapshot, nonsense_of_the_owner_ends_the_transfer)
{
    for (unsigned kind = 0; kind < 3; kind++) {
        struct network *network = network_create(false, 2);
        struct fixture_node *one = network_node(network, 1);
        struct fixture_node *two = network_node(network, 2);

        prepare(network, 1000);
        one->out.hold = true;
        cr_assert_eq(offer(network, 2), MS_OK);
        network_until(network, one->out.held_bytes == 1000);
        if (kind == 0) {
            peers_snapshot_write(one->peers, one->out.id, one->out.bytes, 1001);
        } else if (kind == 1) {
            peers_snapshot_consumed(two->peers, two->in.id, 1);
        } else {
            peers_snapshot_accept(two->peers, two->in.id, 1001);
        }
        network_until(network, one->out.dones == 1 && two->in.lost == 1);
        cr_assert_neq(one->out.status, MS_OK);
        network_destroy(network);
    }
}

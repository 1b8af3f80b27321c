/*
 * The connections of whole nodes: what arrives, who may talk to whom, and what happens when it does
 * not come to that.
 */
#include "tests/unit/raftd/peers_fixture.h"

#include "tests/seed.h"

/* ---- messages ---- */

static void check_messages_arrive(bool has_key)
{
    struct network *network = network_create(has_key, 2);
    struct fixture_node *two = network_node(network, 2);
    struct peers_stats stats;

    for (uint64_t i = 0; i < 1000; i++) {
        cr_assert_eq(network_send_beat(network, 1, 2, i), MS_OK);
    }
    peers_flush(network_node(network, 1)->peers);
    network_until(network, two->message_count == 1000);
    for (uint64_t i = 0; i < 1000; i++) {
        cr_assert_eq(two->messages[i].commit, i, "order");
        cr_assert_eq(two->messages[i].from, 1);
        cr_assert_eq(two->messages[i].to, 2);
    }
    peers_stats(two->peers, &stats);
    cr_assert_eq(stats.messages_received, 1000);
    cr_assert_gt(stats.bytes_received, 1000 * 88);
    network_destroy(network);
}

Test(peers, messages_arrive_in_order)
{
    check_messages_arrive(false);
}

Test(peers, messages_arrive_in_order_with_a_key)
{
    check_messages_arrive(true);
}

/* Entries of all sizes, between them messages without. */
static void check_random_entries_arrive(bool has_key)
{
    enum {
        COUNT = 300
    };
    uint64_t random = test_seed("peers");
    struct network *network = network_create(has_key, 2);
    struct fixture_node *two = network_node(network, 2);
    size_t sizes[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        sizes[i] = test_random_below(&random, UINT64_C(1) << test_random_below(&random, 20)) + 1;
        cr_assert_eq(network_send_entry(network, 1, 2, sizes[i], (uint8_t)i), MS_OK);
        if (test_random_below(&random, 10) == 0) {
            peers_flush(network_node(network, 1)->peers);
            (void)uv_run(&network->loop, UV_RUN_NOWAIT);
        }
    }
    peers_flush(network_node(network, 1)->peers);
    network_until(network, two->message_count == COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        const struct raft_entry *entry = two->messages[i].entries.entries;

        cr_assert_eq(entry->len_bytes, sizes[i]);
        for (size_t k = 0; k < entry->len_bytes; k++) {
            cr_assert_eq(((const uint8_t *)entry->data)[k], (uint8_t)i);
        }
    }
    network_destroy(network);
}

Test(peers, entries_of_any_size_arrive)
{
    check_random_entries_arrive(false);
}

Test(peers, entries_of_any_size_arrive_with_a_key)
{
    check_random_entries_arrive(true);
}

Test(peers, a_batch_is_one_write_and_read_in_one_go)
{
    struct network *network = network_create(false, 2);
    struct fixture_node *two = network_node(network, 2);
    size_t rounds = 0;

    for (uint64_t i = 0; i < 100; i++) {
        cr_assert_eq(network_send_beat(network, 1, 2, i), MS_OK);
    }
    peers_flush(network_node(network, 1)->peers);
    while (two->message_count == 0) {
        (void)uv_run(&network->loop, UV_RUN_ONCE);
        cr_assert_lt(++rounds, 1000);
    }
    cr_assert_eq(two->message_count, 100, "all of a batch come together");
    network_destroy(network);
}

Test(peers, three_nodes_talk_to_each_other)
{
    struct network *network = network_create(true, 3);

    for (node_id from = 1; from <= 3; from++) {
        for (node_id to = 1; to <= 3; to++) {
            if (from != to) {
                cr_assert_eq(network_send_beat(network, from, to, from), MS_OK);
            }
        }
        peers_flush(network_node(network, from)->peers);
    }
    for (node_id id = 1; id <= 3; id++) {
        network_until(network, network_node(network, id)->message_count == 2);
    }
    network_destroy(network);
}

Test(peers, notes_arrive_between_messages)
{
    struct network *network = network_create(true, 2);
    struct fixture_node *one = network_node(network, 1);
    uint8_t note[PEERS_NOTE_BYTES_MAX];

    memset(note, 'n', sizeof(note));
    cr_assert_eq(peers_send_note(network_node(network, 2)->peers, 1, PEERS_NOTE_MEMBER_REQUEST,
                                 note, sizeof(note)),
                 MS_OK);
    peers_flush(network_node(network, 2)->peers);
    network_until(network, one->notes == 1);
    cr_assert_eq(one->note_from, 2);
    cr_assert_eq(one->note_kind, PEERS_NOTE_MEMBER_REQUEST);
    cr_assert_eq(one->note_bytes, sizeof(note));
    cr_assert_arr_eq(one->note, note, sizeof(note));

    cr_assert_eq(
        peers_send_note(network_node(network, 2)->peers, 1, PEERS_NOTE_PROPOSALS_LOST, NULL, 0),
        MS_OK);
    peers_flush(network_node(network, 2)->peers);
    network_until(network, one->notes == 2);
    cr_assert_eq(one->note_bytes, 0);
    network_destroy(network);
}

Test(peers, nothing_is_sent_to_who_is_not_there)
{
    struct network *network = network_create_idle(false);
    struct ms_err err = {0};
    struct peers_member member;

    network_start(network, 1);
    cr_assert_eq(network_send_beat(network, 1, 2, 1), MS_EPEER, "no member");
    network_node(network, 2)->port = 1; /* nobody listens there */
    member = network_member(network, 2);
    cr_assert_eq(peers_set_members(network_node(network, 1)->peers, &member, 1, &err), MS_OK);
    network_run_ms(network, 50);
    cr_assert_eq(network_send_beat(network, 1, 2, 1), MS_EPEER, "not connected");
    cr_assert_not(peers_is_connected(network_node(network, 1)->peers, 2));
    network_destroy(network);
}

/* ---- reading slowly ---- */

Test(peers, a_full_queue_refuses_and_holds_up_nobody_else)
{
    struct network *network = network_create_idle(false);
    struct fixture_node *one = network_node(network, 1);
    struct peers_stats stats;
    size_t sent = 0;
    int rc = MS_OK;

    for (node_id id = 1; id <= 3; id++) {
        network_start(network, id);
    }
    network_introduce(network, 1, 3);
    network_until(network, peers_is_connected(one->peers, 2) && peers_is_connected(one->peers, 3));
    /* Node 2 gets no turn while the loop does not run. */
    while (rc == MS_OK) {
        rc = network_send_entry(network, 1, 2, 1024 * 1024, 1);
        sent += rc == MS_OK;
        cr_assert_lt(sent, 1000);
    }
    cr_assert_eq(rc, MS_EFULL);
    cr_assert_eq(sent, PEERS_QUEUE_BYTES_MAX / (1024 * 1024));
    peers_stats(one->peers, &stats);
    cr_assert_eq(stats.messages_refused, 1);
    cr_assert_eq(network_send_beat(network, 1, 3, 5), MS_OK);
    peers_flush(one->peers);
    network_until(network, network_node(network, 3)->message_count == 1);
    network_until(network, network_node(network, 2)->message_count == sent);
    cr_assert_eq(network_send_beat(network, 1, 2, 5), MS_OK, "there is room again");
    network_destroy(network);
}

Test(peers, who_takes_nothing_in_counts_as_dead)
{
    struct network *network = network_create_idle(false);
    struct fixture_node *one = network_node(network, 1);
    struct peers_member member;
    struct ms_err err = {0};
    uint16_t port = 0;
    int fd = fixture_listen(&port);

    /* The kernel accepts in its name, but nobody ever answers. */
    network_start(network, 1);
    member = (struct peers_member){.id = 2};
    (void)snprintf(member.url, sizeof(member.url), "http://localhost:%u/", port);
    cr_assert_eq(peers_set_members(one->peers, &member, 1, &err), MS_OK, "%s", err.text);
    network_run_ms(network, 1500); /* and once more, after giving up */
    cr_assert_eq(one->connected[2], 0);
    cr_assert_eq(one->absent[2], 0, "it may be busy");
    network_destroy(network);
    (void)close(fd);
}

/* Silence that is our own doing is nobody's fault. */
Test(peers, a_node_that_was_stopped_itself_blames_nobody)
{
    struct network *network = network_create(true, 2);

    network_run_ms(network, 50);
    (void)usleep(2500 * 1000); /* longer than the silence that counts as death */
    network_run_ms(network, 300);
    cr_assert_eq(network_node(network, 1)->disconnected[2], 0);
    cr_assert_eq(network_node(network, 2)->disconnected[1], 0);
    network_destroy(network);
}

/* ---- coming and going ---- */

Test(peers, a_node_that_comes_back_is_found_again)
{
    struct network *network = network_create(true, 2);
    struct fixture_node *one = network_node(network, 1);

    network_stop(network, 2);
    cr_assert_eq(one->absent[2], 0);
    network_until(network, one->disconnected[2] == 1);
    cr_assert_eq(network_send_beat(network, 1, 2, 1), MS_EPEER);
    network_until(network, one->absent[2] > 0);
    network_start(network, 2);
    network_introduce(network, 2, 2);
    network_until(network, one->connected[2] == 2 && network_linked(network, 1, 2));
    cr_assert_eq(network_send_beat(network, 1, 2, 9), MS_OK);
    peers_flush(one->peers);
    network_until(network, network_node(network, 2)->message_count == 1);
    network_destroy(network);
}

Test(peers, what_was_queued_for_a_lost_connection_is_gone)
{
    struct network *network = network_create(false, 2);
    struct fixture_node *one = network_node(network, 1);

    cr_assert_eq(network_send_entry(network, 1, 2, 100000, 1), MS_OK);
    network_stop(network, 2); /* nothing was flushed */
    network_until(network, one->disconnected[2] == 1);
    network_start(network, 2);
    network_introduce(network, 2, 2);
    network_until(network, network_linked(network, 1, 2));
    network_run_ms(network, 50);
    cr_assert_eq(network_node(network, 2)->message_count, 0);
    network_destroy(network);
}

Test(peers, a_member_that_moves_is_dialled_at_its_new_address)
{
    struct network *network = network_create(false, 2);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *two = network_node(network, 2);
    uint16_t old_port = two->port;

    network_stop(network, 2);
    two->port = 0;
    network_start(network, 2);
    cr_assert_neq(two->port, old_port);
    network_run_ms(network, 50);
    cr_assert_not(peers_is_connected(one->peers, 2));
    network_introduce(network, 1, 2);
    network_until(network, peers_is_connected(one->peers, 2));
    network_destroy(network);
}

Test(peers, a_removed_member_gets_what_was_queued_for_it)
{
    struct network *network = network_create(false, 2);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *two = network_node(network, 2);

    for (uint64_t i = 0; i < 20; i++) {
        cr_assert_eq(network_send_entry(network, 1, 2, 1024 * 1024, 1), MS_OK);
    }
    cr_assert_eq(network_send_beat(network, 1, 2, 77), MS_OK);
    network_introduce(network, 1, 1);
    cr_assert_eq(network_send_beat(network, 1, 2, 78), MS_EPEER);
    network_until(network, two->message_count == 21);
    cr_assert_eq(two->messages[20].commit, 77);
    network_until(network, one->disconnected[2] == 1);
    network_until(network, two->disconnected[1] == 1);
    network_destroy(network);
}

Test(peers, closing_in_the_middle_of_everything_leaves_nothing_behind)
{
    uint64_t random = test_seed("peers");

    for (unsigned round = 0; round < 30; round++) {
        struct network *network = network_create_idle(round % 2 == 0);

        network_start(network, 1);
        network_start(network, 2);
        network_introduce(network, 1, 2);
        network_introduce(network, 2, 2);
        for (uint64_t i = test_random_below(&random, 20); i > 0; i--) {
            (void)uv_run(&network->loop, UV_RUN_NOWAIT);
            (void)network_send_entry(network, 1, 2, test_random_below(&random, 1000000), 1);
            peers_flush(network_node(network, 1)->peers);
        }
        network_destroy(network);
    }
}

/* ---- verdicts ---- */

Test(peers, a_refused_node_learns_why)
{
    struct network *network = network_create_idle(true);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *two = network_node(network, 2);

    network_start(network, 1);
    network_start(network, 2);
    two->verdict[1] = PEERS_REFUSED_REMOVED;
    one->conf_index = 12;
    network_introduce(network, 1, 2);
    network_until(network, one->refusals == 1);
    cr_assert_eq(one->refusal, PEERS_REFUSED_REMOVED);
    cr_assert_eq(one->refuser.from, 2);
    cr_assert_eq(one->refuser.data_id, two->data_id);
    cr_assert_str_eq(one->refusal_text, "verdict of node 2");
    cr_assert_eq(two->theirs[1].conf_index, 12);
    cr_assert_eq(one->judged[2], 0, "who is refused has nothing to judge");
    cr_assert_eq(one->connected[2], 0);

    two->verdict[1] = PEERS_ADMITTED;
    network_until(network, one->connected[2] == 1);
    network_destroy(network);
}

Test(peers, the_dialling_side_judges_too)
{
    struct network *network = network_create_idle(true);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *two = network_node(network, 2);

    network_start(network, 1);
    network_start(network, 2);
    one->verdict[2] = PEERS_REFUSED_DATA;
    network_introduce(network, 1, 2);
    network_until(network, two->refusals == 1);
    cr_assert_eq(two->refusal, PEERS_REFUSED_DATA);
    cr_assert_eq(two->refuser.from, 1);
    cr_assert_eq(one->connected[2], 0);
    cr_assert_eq(one->refusals, 0);
    network_destroy(network);
}

Test(peers, another_cluster_is_refused)
{
    struct network *network = network_create_idle(false);
    struct fixture_node *one = network_node(network, 1);

    network_start(network, 1);
    network_start(network, 2);
    one->cluster_id = 8;
    network_introduce(network, 1, 2);
    network_until(network, one->refusals == 1);
    cr_assert_eq(one->refusal, PEERS_REFUSED_CLUSTER);
    network_destroy(network);
}

/* A list of members that is wrong about who is where. */
Test(peers, another_member_at_the_address_is_refused)
{
    struct network *network = network_create_idle(false);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *three = network_node(network, 3);
    struct peers_member member;
    struct ms_err err = {0};

    network_start(network, 1);
    network_start(network, 3);
    member = network_member(network, 3);
    member.id = 2;
    cr_assert_eq(peers_set_members(one->peers, &member, 1, &err), MS_OK);
    network_until(network, one->refusals == 1);
    cr_assert_eq(one->refusal, PEERS_REFUSED_IDENTITY);
    cr_assert_eq(one->refuser.from, 3);
    cr_assert_eq(one->connected[2], 0);
    cr_assert_eq(three->theirs[1].to, 2);
    network_destroy(network);
}

Test(peers, a_node_does_not_talk_to_itself)
{
    struct network *network = network_create_idle(false);
    struct fixture_node *one = network_node(network, 1);
    struct peers_member member;
    struct ms_err err = {0};

    network_start(network, 1);
    member = network_member(network, 1);
    member.id = 2;
    cr_assert_eq(peers_set_members(one->peers, &member, 1, &err), MS_OK);
    network_until(network, one->refusals == 1);
    cr_assert_eq(one->refusal, PEERS_REFUSED_IDENTITY);
    cr_assert_eq(one->judged[1], 0);
    network_destroy(network);
}

Test(peers, judging_again_ends_what_is_no_longer_admitted)
{
    struct network *network = network_create(true, 2);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *two = network_node(network, 2);

    one->verdict[2] = PEERS_REFUSED_REMOVED;
    peers_judge_again(one->peers);
    cr_assert_eq(one->disconnected[2], 0, "not from within the call");
    network_until(network, one->disconnected[2] == 1 && two->disconnected[1] == 1);
    cr_assert_geq(two->refusals, 1);
    cr_assert_eq(two->refusal, PEERS_REFUSED_REMOVED);

    one->verdict[2] = PEERS_ADMITTED;
    peers_judge_again(one->peers);
    network_until(network, network_linked(network, 1, 2));
    network_destroy(network);
}

Test(peers, what_a_node_says_of_itself_is_told_again_when_it_changes)
{
    struct network *network = network_create(true, 2);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *two = network_node(network, 2);
    unsigned judged = two->judged[1];

    peers_judge_again(one->peers);
    network_run_ms(network, 30);
    cr_assert_eq(two->judged[1], judged, "nothing has changed");
    one->conf_index = 5;
    peers_judge_again(one->peers);
    network_until(network, two->judged[1] == judged + 2); /* on both connections */
    cr_assert_eq(two->theirs[1].conf_index, 5);
    cr_assert_eq(one->disconnected[2] + two->disconnected[1], 0);
    cr_assert(network_linked(network, 1, 2));
    network_destroy(network);
}

/* ---- keys ---- */

static bool refused_some(const struct fixture_node *node)
{
    struct peers_stats stats;

    peers_stats(node->peers, &stats);
    return stats.strangers >= 2;
}

Test(peers, another_key_keeps_nodes_apart)
{
    struct network *network = network_create_idle(true);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *two = network_node(network, 2);

    two->options.key[0] ^= 1;
    network_start(network, 1);
    network_start(network, 2);
    network_introduce(network, 1, 2);
    network_introduce(network, 2, 2);
    network_until(network, refused_some(one) && refused_some(two));
    cr_assert_eq(one->connected[2] + two->connected[1], 0);
    cr_assert_eq(one->judged[2] + two->judged[1], 0, "nothing is said before the key is shown");
    network_destroy(network);
}

Test(peers, a_key_on_one_side_only_keeps_nodes_apart)
{
    struct network *network = network_create_idle(true);
    struct fixture_node *one = network_node(network, 1);
    struct fixture_node *two = network_node(network, 2);

    two->options.has_key = false;
    network_start(network, 1);
    network_start(network, 2);
    network_introduce(network, 1, 2);
    network_introduce(network, 2, 2);
    network_until(network, refused_some(one) && refused_some(two));
    cr_assert_eq(one->connected[2] + two->connected[1], 0);
    cr_assert_eq(one->judged[2] + two->judged[1], 0);
    network_destroy(network);
}

/* ---- URLs ---- */

Test(peers, an_url_that_cannot_be_used_does_not_keep_the_others_out)
{
    struct network *network = network_create_idle(false);
    struct peers_member members[2];
    struct ms_err err = {0};

    network_start(network, 1);
    network_start(network, 2);
    members[0] = (struct peers_member){.id = 3, .url = "http://192.0.2.1:9021"};
    members[1] = network_member(network, 2);
    cr_assert_eq(peers_set_members(network_node(network, 1)->peers, members, 2, &err), MS_EINVAL);
    cr_assert_not_null(strstr(err.text, "192.0.2.1"), "%s", err.text);
    (void)snprintf(members[0].url, sizeof(members[0].url), "nonsense");
    cr_assert_eq(peers_set_members(network_node(network, 1)->peers, members, 2, &err), MS_EINVAL);
    cr_assert_not_null(strstr(err.text, "nonsense"), "%s", err.text);
    network_until(network, peers_is_connected(network_node(network, 1)->peers, 2));
    network_destroy(network);
}

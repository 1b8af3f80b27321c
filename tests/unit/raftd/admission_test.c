/*
 * admission: judgement of hellos, founding without founding twice, joining, and lost data dirs.
 */
#include "raftd/admission.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"

#define THREE "http://127.0.0.1:9021,http://127.0.0.1:9022,http://127.0.0.1:9023"
#define OTHER "http://127.0.0.1:9021,http://127.0.0.1:9022,http://127.0.0.1:9029"

#define ELECTION_MS 1000u

static const struct ms_instant start = {.ns = UINT64_C(5000000000)};

static struct ms_instant after_ms(uint64_t ms)
{
    return ms_clock_add_ms(start, ms);
}

static uint64_t data_of(node_id id)
{
    return 0xd000 + id;
}

static void init(struct admission *admission, node_id id, const char *cluster, bool join)
{
    static struct ms_config config;
    struct ms_err err;

    memset(&config, 0, sizeof(config));
    config.id = id;
    config.join = join ? 1 : 0;
    config.election_timeout_ms = ELECTION_MS;
    (void)snprintf(config.cluster, sizeof(config.cluster), "%s", cluster);
    cr_assert_eq(admission_init(admission, &config, data_of(id), start, &err), MS_OK);
}

/* The membership that THREE founds, with some data ids registered. */
static struct ms_conf_state three(const struct admission *founder, bool registered)
{
    struct ms_conf_state conf = {.cluster_id = admission_founding_cluster_id(founder),
                                 .member_count = 3};

    for (node_id id = 1; id <= 3; id++) {
        struct ms_conf_member *member = &conf.members[id - 1];

        *member = (struct ms_conf_member){
            .id = id, .flags = MS_CONF_VOTER, .data_id = registered ? data_of(id) : 0};
        (void)snprintf(member->peer_url, sizeof(member->peer_url), "http://127.0.0.1:%d",
                       9020 + (int)id);
    }
    return conf;
}

/* A running member of THREE. */
static void init_member(struct admission *admission, node_id id, bool registered, raft_index index)
{
    struct ms_conf_state conf;

    init(admission, id, THREE, false);
    conf = three(admission, registered);
    admission_set_membership(admission, &conf, index);
}

static struct peers_hello hello_to(const struct admission *admission, node_id to)
{
    struct peers_hello hello;

    admission_hello(admission, &hello);
    hello.to = to;
    return hello;
}

static enum peers_refusal judge_at(struct admission *me, const struct peers_hello *theirs,
                                   uint64_t ms)
{
    char text[200] = "";
    enum peers_refusal verdict = admission_judge(me, theirs, after_ms(ms), text, sizeof(text));

    cr_assert_eq(verdict == PEERS_ADMITTED, text[0] == '\0', "a refusal says why: %s", text);
    return verdict;
}

static enum peers_refusal judge(struct admission *me, const struct admission *them)
{
    const struct peers_hello hello = hello_to(them, me->self);

    return judge_at(me, &hello, 0);
}

/* One tells the other that it is refused, if so. */
static enum peers_refusal meet(struct admission *refuser, struct admission *dialler, uint64_t ms)
{
    const struct peers_hello hello = hello_to(dialler, refuser->self);
    const struct peers_hello answer = hello_to(refuser, dialler->self);
    char text[200] = "";
    enum peers_refusal verdict = admission_judge(refuser, &hello, after_ms(ms), text, sizeof(text));

    if (verdict != PEERS_ADMITTED) {
        admission_refused(dialler, &answer, verdict, text, after_ms(ms));
    }
    return verdict;
}

static void remove_member(struct ms_conf_state *conf, node_id id)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < conf->member_count; i++) {
        if (conf->members[i].id != id) {
            conf->members[kept++] = conf->members[i];
        }
    }
    conf->member_count = kept;
}

/* ---- the cluster's id ---- */

Test(admission, same_list_same_cluster_and_no_other)
{
    struct admission a;
    struct admission b;
    struct admission c;

    init(&a, 1, THREE, false);
    init(&b, 3, THREE, false);
    init(&c, 3, OTHER, false);
    cr_assert_neq(admission_founding_cluster_id(&a), 0);
    cr_assert_eq(admission_founding_cluster_id(&a), admission_founding_cluster_id(&b));
    cr_assert_neq(admission_founding_cluster_id(&a), admission_founding_cluster_id(&c));
    init(&c, 1, "http://127.0.0.1:9021,http://127.0.0.1:9023,http://127.0.0.1:9022", false);
    cr_assert_neq(admission_founding_cluster_id(&a), admission_founding_cluster_id(&c),
                  "the order gives the ids");
    init(&c, 1, "http://127.0.0.1:9021/,http://127.0.0.1:9022,http://127.0.0.1:9023/", false);
    cr_assert_eq(admission_founding_cluster_id(&a), admission_founding_cluster_id(&c),
                 "a slash is no difference");
}

Test(admission, malformed_list_is_refused)
{
    static struct ms_config config = {.id = 1, .cluster = "http://127.0.0.1:9021,nonsense"};
    static struct admission admission;
    struct ms_err err;

    cr_assert_eq(admission_init(&admission, &config, 1, start, &err), MS_EINVAL);
    cr_assert_not_null(strstr(err.text, "--cluster"));
}

/* ---- founding ---- */

Test(admission, founders_admit_each_other_before_anything_is_applied)
{
    struct admission a;
    struct admission b;

    init(&a, 1, THREE, false);
    init(&b, 2, THREE, false);
    admission_set_founding(&a, true);
    admission_set_founding(&b, true);
    cr_assert_eq(judge(&a, &b), PEERS_ADMITTED);
    cr_assert_eq(judge(&b, &a), PEERS_ADMITTED);
}

Test(admission, founders_that_are_half_way_through_the_first_entries_remove_nobody)
{
    struct admission a;
    struct admission b;
    struct ms_conf_state conf;

    init(&a, 1, THREE, false);
    init(&b, 2, THREE, false);
    conf = three(&a, false);
    conf.member_count = 1;
    admission_set_membership(&a, &conf, 1);
    cr_assert_eq(judge(&a, &b), PEERS_ADMITTED);
    conf = three(&a, false);
    admission_set_membership(&a, &conf, 3);
    cr_assert_eq(judge(&a, &b), PEERS_ADMITTED, "it has applied nothing, and is a member");
    cr_assert_eq(judge(&b, &a), PEERS_ADMITTED);
}

Test(admission, founder_waits_until_it_has_tried_the_others)
{
    struct admission a;

    init(&a, 1, THREE, false);
    cr_assert(!admission_is_barred(&a, start), "not known to be founding");
    admission_set_founding(&a, true);
    cr_assert(admission_is_barred(&a, start));
    admission_connected(&a, 2);
    cr_assert(admission_is_barred(&a, start));
    admission_connected(&a, 3);
    cr_assert(!admission_is_barred(&a, start));
}

Test(admission, founder_does_not_wait_for_who_is_known_to_be_down)
{
    struct admission a;
    struct admission b;

    init(&a, 1, THREE, false);
    init(&b, 2, OTHER, false);
    admission_set_founding(&a, true);
    admission_absent(&a, 2);
    admission_absent(&a, 3);
    cr_assert(!admission_is_barred(&a, start));
    cr_assert_eq(meet(&a, &b, 0), PEERS_REFUSED_CLUSTER);
    cr_assert(admission_is_barred(&a, start), "it has come and contradicts");
}

Test(admission, founder_waits_no_longer_than_an_election_timeout_for_who_is_down)
{
    struct admission a;

    init(&a, 1, THREE, false);
    admission_set_founding(&a, true);
    admission_connected(&a, 2);
    cr_assert(admission_is_barred(&a, after_ms(ELECTION_MS - 1)));
    cr_assert(!admission_is_barred(&a, after_ms(ELECTION_MS)));
}

Test(admission, single_founder_waits_for_nobody)
{
    struct admission a;

    init(&a, 1, "http://127.0.0.1:9021", false);
    admission_set_founding(&a, true);
    cr_assert(!admission_is_barred(&a, start));
}

Test(admission, different_lists_found_nothing_until_the_conflict_is_gone)
{
    struct admission a;
    struct admission b;
    struct admission c;

    init(&a, 1, THREE, false);
    init(&b, 2, OTHER, false);
    init(&c, 3, THREE, false);
    admission_set_founding(&a, true);
    admission_set_founding(&b, true);
    admission_set_founding(&c, true);
    cr_assert_eq(meet(&a, &b, 0), PEERS_REFUSED_CLUSTER);
    cr_assert_eq(meet(&b, &a, 0), PEERS_REFUSED_CLUSTER);
    admission_connected(&a, 3);
    cr_assert(admission_is_barred(&a, after_ms(2 * ELECTION_MS)), "the refuser");
    cr_assert(admission_is_barred(&b, after_ms(2 * ELECTION_MS)), "the refused");

    /* The wrong one is started again with an empty data dir and the right list. */
    init(&b, 2, THREE, false);
    admission_set_founding(&b, true);
    cr_assert_eq(meet(&a, &b, 3 * ELECTION_MS), PEERS_ADMITTED);
    cr_assert(!admission_is_barred(&a, after_ms(3 * ELECTION_MS)));
}

Test(admission, conflict_with_who_is_not_heard_of_any_more_is_forgotten)
{
    struct admission a;
    struct admission b;

    init(&a, 1, THREE, false);
    init(&b, 2, OTHER, false);
    admission_set_founding(&a, true);
    cr_assert_eq(meet(&a, &b, 0), PEERS_REFUSED_CLUSTER);
    cr_assert(admission_is_barred(&a, after_ms(9000)));
    cr_assert(!admission_is_barred(&a, after_ms(60000)));
}

Test(admission, running_cluster_does_not_care_about_other_founders)
{
    struct admission a;
    struct admission b;

    init_member(&a, 1, true, 7);
    init(&b, 2, OTHER, false);
    admission_set_founding(&b, true);
    cr_assert_eq(meet(&a, &b, 0), PEERS_REFUSED_CLUSTER);
    cr_assert(!admission_is_barred(&a, start));
    cr_assert(admission_is_barred(&b, after_ms(2 * ELECTION_MS)));
    cr_assert_eq(meet(&b, &a, 0), PEERS_REFUSED_CLUSTER);
    cr_assert_eq(admission_fate(&a, after_ms(60000)), ADMISSION_GOES_ON);
}

/* ---- members ---- */

Test(admission, members_are_admitted_and_others_are_strangers)
{
    struct admission a;
    struct admission b;
    struct peers_hello hello;

    init_member(&a, 1, true, 7);
    init_member(&b, 2, true, 7);
    cr_assert_eq(judge(&a, &b), PEERS_ADMITTED);
    hello = hello_to(&b, 1);
    hello.from = 9;
    cr_assert_eq(judge_at(&a, &hello, 0), PEERS_REFUSED_STRANGER);
}

Test(admission, who_is_who_must_be_clear)
{
    struct admission a;
    struct admission b;
    struct peers_hello hello;

    init_member(&a, 1, true, 7);
    init_member(&b, 2, true, 7);
    hello = hello_to(&b, 3);
    cr_assert_eq(judge_at(&a, &hello, 0), PEERS_REFUSED_IDENTITY, "it looks for another one");
    hello = hello_to(&b, 1);
    hello.from = 1;
    cr_assert_eq(judge_at(&a, &hello, 0), PEERS_REFUSED_IDENTITY, "it says that it is this node");
    hello.from = 0;
    cr_assert_eq(judge_at(&a, &hello, 0), PEERS_REFUSED_IDENTITY);
    hello = hello_to(&b, 1);
    hello.data_id = 0;
    cr_assert_eq(judge_at(&a, &hello, 0), PEERS_REFUSED_IDENTITY);
}

Test(admission, contacts_are_the_other_members)
{
    struct admission a;
    struct peers_member contacts[ADMISSION_CONTACTS_MAX];

    init_member(&a, 2, true, 7);
    cr_assert_eq(admission_contacts(&a, contacts), 2);
    cr_assert_eq(contacts[0].id, 1);
    cr_assert_eq(contacts[1].id, 3);
    cr_assert_str_eq(contacts[1].url, "http://127.0.0.1:9023");
}

/* ---- removal ---- */

Test(admission, removed_node_learns_it_when_it_comes_back)
{
    struct admission a;
    struct admission c;
    struct ms_conf_state conf;

    init_member(&a, 1, true, 7);
    init_member(&c, 3, true, 7);
    conf = three(&a, true);
    remove_member(&conf, 3);
    admission_connected(&a, 3);
    admission_set_membership(&a, &conf, 9);
    cr_assert_eq(meet(&a, &c, 0), PEERS_ADMITTED, "on the connection that it has");
    cr_assert_eq(meet(&a, &c, 1000), PEERS_REFUSED_REMOVED);
    cr_assert_eq(admission_fate(&c, start), ADMISSION_REMOVED);
}

/* Admitted once, it would wait there for ever: nobody would judge that connection again. */
Test(admission, member_that_was_away_when_it_was_removed_is_refused_at_once)
{
    struct admission a;
    struct admission c;
    struct ms_conf_state conf;

    init_member(&a, 1, true, 7);
    init_member(&c, 3, true, 7);
    conf = three(&a, true);
    remove_member(&conf, 3);
    admission_connected(&a, 3);
    admission_disconnected(&a, 3);
    admission_set_membership(&a, &conf, 9);
    cr_assert_eq(meet(&a, &c, 0), PEERS_REFUSED_REMOVED);
    cr_assert_eq(admission_fate(&c, start), ADMISSION_REMOVED);
}

Test(admission, member_that_lags_admits_who_it_does_not_know_yet)
{
    struct admission a;
    struct admission d;
    struct ms_conf_state conf;

    init_member(&a, 1, true, 7);
    init(&d, 4, THREE ",http://127.0.0.1:9024", true);
    conf = three(&a, true);
    conf.members[3] = conf.members[2];
    conf.members[3].id = 4;
    conf.members[3].data_id = data_of(4);
    conf.member_count = 4;
    admission_set_membership(&d, &conf, 9);
    cr_assert_eq(judge(&a, &d), PEERS_ADMITTED);
    cr_assert_eq(meet(&d, &a, 0), PEERS_ADMITTED);
}

Test(admission, being_called_removed_by_one_that_knows_less_means_nothing)
{
    struct admission a;
    struct admission c;
    struct peers_hello theirs;

    init_member(&a, 1, true, 7);
    init_member(&c, 3, true, 9);
    theirs = hello_to(&a, 3);
    admission_refused(&c, &theirs, PEERS_REFUSED_REMOVED, "", start);
    cr_assert_eq(admission_fate(&c, start), ADMISSION_GOES_ON);
    theirs.conf_index = 12;
    theirs.cluster_id++;
    admission_refused(&c, &theirs, PEERS_REFUSED_REMOVED, "", start);
    cr_assert_eq(admission_fate(&c, start), ADMISSION_GOES_ON, "another cluster's word");
    theirs.cluster_id--;
    admission_refused(&c, &theirs, PEERS_REFUSED_REMOVED, "", start);
    cr_assert_eq(admission_fate(&c, start), ADMISSION_REMOVED);
}

Test(admission, founder_that_never_started_is_a_stranger_after_its_removal)
{
    struct admission a;
    struct admission c;
    struct ms_conf_state conf;

    init_member(&a, 1, true, 7);
    conf = three(&a, true);
    remove_member(&conf, 3);
    admission_set_membership(&a, &conf, 9);
    init(&c, 3, THREE, false);
    admission_set_founding(&c, true);
    cr_assert_eq(meet(&a, &c, 0), PEERS_REFUSED_STRANGER);
    cr_assert_eq(admission_fate(&c, after_ms(60000)), ADMISSION_GOES_ON);
}

/* ---- data dirs ---- */

Test(admission, lost_data_dir_is_refused_and_the_node_stops)
{
    struct admission a;
    struct admission b;
    struct admission c;

    init_member(&a, 1, true, 7);
    init_member(&b, 2, true, 7);
    init(&c, 3, THREE, false);
    c.data_id = 0xeeee;
    admission_set_founding(&c, true);
    cr_assert_eq(meet(&a, &c, 0), PEERS_REFUSED_DATA);
    cr_assert(admission_is_barred(&c, after_ms(2 * ELECTION_MS)));
    cr_assert_eq(admission_fate(&c, after_ms(ELECTION_MS)), ADMISSION_GOES_ON);
    cr_assert_eq(meet(&b, &c, ELECTION_MS), PEERS_REFUSED_DATA);
    cr_assert_eq(admission_fate(&c, after_ms(2 * ELECTION_MS)), ADMISSION_DATA_LOST);
}

Test(admission, node_that_was_added_anew_outlives_a_member_that_lags)
{
    struct admission a;
    struct admission b;
    struct admission c;
    struct ms_conf_state conf;

    init_member(&a, 1, true, 7); /* knows nothing of what came since */
    init_member(&b, 2, true, 7);
    conf = three(&b, true);
    conf.members[2].data_id = 0;
    admission_set_membership(&b, &conf, 12);
    init(&c, 3, THREE, true);
    c.data_id = 0xeeee;
    cr_assert_eq(meet(&a, &c, 0), PEERS_REFUSED_DATA);
    cr_assert_eq(meet(&b, &c, 0), PEERS_ADMITTED);
    admission_connected(&c, 2);
    cr_assert_eq(meet(&a, &c, 100), PEERS_REFUSED_DATA);
    cr_assert_eq(admission_fate(&c, after_ms(60000)), ADMISSION_GOES_ON);
    admission_disconnected(&c, 2);
    admission_connected(&c, 2);
    cr_assert_eq(admission_fate(&c, after_ms(60000)), ADMISSION_GOES_ON);
}

Test(admission, first_data_id_is_pinned_until_one_is_registered)
{
    struct admission a;
    struct admission c;
    struct ms_conf_state conf;
    struct peers_hello hello;

    init_member(&a, 1, false, 3);
    init_member(&c, 3, false, 3);
    cr_assert_eq(admission_data_id(&a, 3), 0);
    cr_assert_eq(admission_data_id(&a, 1), data_of(1), "its own");
    cr_assert_eq(judge(&a, &c), PEERS_ADMITTED);
    cr_assert_eq(admission_data_id(&a, 3), data_of(3));
    hello = hello_to(&c, 1);
    hello.data_id = 0xeeee;
    cr_assert_eq(judge_at(&a, &hello, 0), PEERS_REFUSED_DATA);

    /* Another change keeps the pin; the member's removal and return do not. */
    conf = three(&a, false);
    conf.members[1].data_id = data_of(2);
    admission_set_membership(&a, &conf, 5);
    cr_assert_eq(admission_data_id(&a, 3), data_of(3));
    remove_member(&conf, 3);
    admission_set_membership(&a, &conf, 6);
    conf = three(&a, false);
    admission_set_membership(&a, &conf, 7);
    hello.cluster_id = 0;
    cr_assert_eq(judge_at(&a, &hello, 0), PEERS_ADMITTED);

    conf.members[2].data_id = 0xeeee;
    admission_set_membership(&a, &conf, 8);
    cr_assert_eq(admission_data_id(&a, 3), 0, "registered: nothing is left to do");
    cr_assert_eq(judge_at(&a, &hello, 0), PEERS_ADMITTED);
}

/* ---- joining ---- */

Test(admission, joining_node_is_known_by_cluster_id_zero)
{
    struct admission d;
    struct peers_hello hello;
    struct peers_member contacts[ADMISSION_CONTACTS_MAX];

    init(&d, 4, THREE ",http://127.0.0.1:9024", true);
    cr_assert(admission_is_joining(&d));
    hello = hello_to(&d, 1);
    cr_assert_eq(hello.cluster_id, 0);
    cr_assert_eq(admission_contacts(&d, contacts), 3);
    cr_assert_eq(contacts[2].id, 3);
    cr_assert(!admission_is_barred(&d, start), "it has no vote to give");
}

Test(admission, joining_node_with_an_id_beyond_the_list_does_not_dial_itself)
{
    struct admission d;
    struct peers_member contacts[ADMISSION_CONTACTS_MAX];

    init(&d, 77, THREE ",http://127.0.0.1:9024", true);
    cr_assert_eq(admission_contacts(&d, contacts), 3);
}

Test(admission, joining_node_must_have_been_added)
{
    struct admission a;
    struct admission d;
    struct ms_conf_state conf;

    init_member(&a, 1, true, 7);
    init(&d, 4, THREE ",http://127.0.0.1:9024", true);
    cr_assert_eq(meet(&a, &d, 0), PEERS_REFUSED_STRANGER);
    cr_assert_eq(admission_fate(&d, after_ms(60000)), ADMISSION_GOES_ON, "it waits");
    conf = three(&a, true);
    conf.members[3] = conf.members[2];
    conf.members[3].id = 4;
    conf.members[3].data_id = 0;
    conf.member_count = 4;
    admission_set_membership(&a, &conf, 9);
    cr_assert_eq(meet(&a, &d, 0), PEERS_ADMITTED);
    cr_assert_eq(admission_data_id(&a, 4), data_of(4));
}

Test(admission, joining_node_stays_with_the_cluster_that_admitted_it_first)
{
    struct admission a;
    struct admission d;
    struct peers_hello hello;

    init_member(&a, 1, true, 7);
    init(&d, 4, THREE ",http://127.0.0.1:9024", true);
    hello = hello_to(&a, 4);
    hello.from = 9;
    cr_assert_eq(judge_at(&d, &hello, 0), PEERS_REFUSED_STRANGER, "not in its list");
    hello.from = 1;
    cr_assert_eq(judge_at(&d, &hello, 0), PEERS_ADMITTED);
    admission_connected(&d, 1);
    hello.from = 9;
    cr_assert_eq(judge_at(&d, &hello, 0), PEERS_ADMITTED, "of the same cluster as member 1");
    hello.from = 2;
    hello.cluster_id++;
    cr_assert_eq(judge_at(&d, &hello, 0), PEERS_REFUSED_CLUSTER);
    hello.cluster_id = 0;
    cr_assert_eq(judge_at(&d, &hello, 0), PEERS_REFUSED_STRANGER, "joins itself");
}

/* The log tells the joining node of the time before it was added. */
Test(admission, joining_node_that_replays_history_is_not_taken_for_a_removed_one)
{
    struct admission a;
    struct admission d;
    struct ms_conf_state conf;
    struct peers_hello hello;
    struct peers_member contacts[ADMISSION_CONTACTS_MAX];

    init_member(&a, 1, true, 7);
    init(&d, 4, THREE ",http://127.0.0.1:9024", true);
    conf = three(&a, false);
    admission_set_membership(&d, &conf, 3);
    hello = hello_to(&d, 1);
    cr_assert_eq(hello.cluster_id, 0, "it is no member by what it has applied");
    cr_assert_eq(judge(&a, &d), PEERS_REFUSED_STRANGER);
    conf.member_count = 2; /* applied so far; the list knows more */
    admission_set_membership(&d, &conf, 2);
    cr_assert_eq(admission_contacts(&d, contacts), 3);

    conf = three(&a, true);
    conf.members[3] = conf.members[2];
    conf.members[3].id = 4;
    conf.member_count = 4;
    admission_set_membership(&d, &conf, 9);
    cr_assert(!admission_is_joining(&d));
    hello = hello_to(&d, 1);
    cr_assert_eq(hello.cluster_id, conf.cluster_id);
}

Test(admission, unknown_reasons_of_later_versions_are_ignored)
{
    struct admission a;
    struct peers_hello theirs;

    init_member(&a, 1, true, 7);
    theirs = hello_to(&a, 2);
    admission_refused(&a, &theirs, (enum peers_refusal)99, "", start);
    admission_refused(&a, &theirs, PEERS_ADMITTED, "", start);
    cr_assert_eq(admission_fate(&a, after_ms(60000)), ADMISSION_GOES_ON);
}

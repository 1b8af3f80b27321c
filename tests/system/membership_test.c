/*
 * Members come and go: founding, joining, promoting, removing, moving; and what is refused.
 *
 * Nodes of this file are real, on 127.0.0.1, each with a peer port of its own.
 */
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/clock.h"
#include "tests/support/admin.h"
#include "tests/support/check.h"
#include "tests/support/files.h"
#include "tests/support/http.h"
#include "tests/support/node.h"

enum {
    PEERS = 4,
    URL_BYTES = 64,
    LIST_BYTES = PEERS * URL_BYTES,
    PATIENCE_MS = 30000,
    PAUSE_MS = 20
};

/* A node of the test; ids are positions, counted from 1. */
struct peer {
    struct node node;
    char id[8];
    char url[URL_BYTES];
    struct http_client *client;
};

static struct peer peers[PEERS + 1];
static struct http_response answer;
static char printed[16384];
static char key_path[FILES_PATH_BYTES]; /* "": none */
static bool short_log;                  /* snapshots come early and little of the log is kept */

static void fail(const char *text)
{
    cr_assert_fail("%s", text);
}

static void init(void)
{
    check_set_handler(fail);
    for (unsigned i = 1; i <= PEERS; i++) {
        struct peer *peer = &peers[i];

        node_init(&peer->node);
        (void)snprintf(peer->id, sizeof(peer->id), "%u", i);
        files_path(peer->node.node_dir, sizeof(peer->node.node_dir), "%s/%u", peer->node.data_dir,
                   i);
        files_path(peer->node.admin_path, sizeof(peer->node.admin_path), "%s/admin.sock",
                   peer->node.node_dir);
        (void)snprintf(peer->url, sizeof(peer->url), "http://127.0.0.1:%u", node_free_port());
        peer->client = http_client_create(peer->node.url);
    }
}

static void fini(void)
{
    http_response_fini(&answer);
    for (unsigned i = 1; i <= PEERS; i++) {
        http_client_destroy(peers[i].client);
        node_fini(&peers[i].node);
    }
}

TestSuite(membership, .init = init, .fini = fini, .timeout = 180);

/* ---- nodes ----------------------------------------------------------------------------------- */

/* "URL,URL": the peer URLs of these nodes, ended by 0. */
static const char *list(unsigned first, ...)
{
    static char text[LIST_BYTES];
    va_list arguments;

    (void)snprintf(text, sizeof(text), "%s", peers[first].url);
    va_start(arguments, first);
    for (unsigned i = va_arg(arguments, unsigned); i != 0; i = va_arg(arguments, unsigned)) {
        size_t used = strlen(text);

        (void)snprintf(text + used, sizeof(text) - used, ",%s", peers[i].url);
    }
    va_end(arguments);
    return text;
}

static void spawn(unsigned i, const char *urls, bool join)
{
    const char *arguments[16] = {"--id", peers[i].id, "--cluster", urls};
    const struct node_launch launch = {.arguments = arguments};
    size_t count = 4;

    if (join) {
        arguments[count++] = "--join";
    }
    if (short_log) {
        arguments[count++] = "--snapshot-count";
        arguments[count++] = "50";
        arguments[count++] = "--snapshot-catch-up-entries";
        arguments[count++] = "5";
    }
    if (key_path[0] != '\0') {
        arguments[count++] = "--cluster-key-file";
        arguments[count++] = key_path;
    }
    node_spawn(&peers[i].node, &launch);
}

/* Nodes 1, 2 and 3 found a cluster. */
static void start_three(void)
{
    for (unsigned i = 1; i <= 3; i++) {
        spawn(i, list(1, 2, 3, 0), false);
    }
    for (unsigned i = 1; i <= 3; i++) {
        node_wait_ready(&peers[i].node);
    }
}

static void pause_briefly(void)
{
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};

    (void)nanosleep(&pause, NULL);
}

/* Repeats a PUT until it works: there may be no leader for a moment. */
static void put(unsigned at, const char *path, const char *value)
{
    struct ms_instant since = ms_clock_now();
    int status;

    do {
        status = http_put(peers[at].client, path, value, &answer);
        cr_assert(status == 204 || ms_clock_elapsed_ms(since, ms_clock_now()) < PATIENCE_MS,
                  "PUT %s at node %u: %d %s%s", path, at, status, answer.body, answer.error);
        if (status != 204) {
            pause_briefly();
        }
    } while (status != 204);
}

/* Repeats a read, linearizable or local, until it gives this value. */
static void expect_value(unsigned at, const char *path, const char *value, bool local)
{
    struct ms_instant since = ms_clock_now();
    char target[128];
    int status;

    (void)snprintf(target, sizeof(target), "%s%s", path, local ? "?consistency=serializable" : "");
    for (;;) {
        status = http_get(peers[at].client, target, &answer);
        if (status == 200 && strcmp(answer.body, value) == 0) {
            return;
        }
        cr_assert_lt(ms_clock_elapsed_ms(since, ms_clock_now()), PATIENCE_MS,
                     "GET %s at node %u: %d %s%s", target, at, status, answer.body, answer.error);
        pause_briefly();
    }
}

static uint64_t number_at(unsigned at, const char *name)
{
    return admin_status_number(&peers[at].node, name);
}

/* Who leads, as a node sees it, once it is somebody. */
static unsigned leader_at(unsigned at)
{
    struct ms_instant since = ms_clock_now();
    uint64_t leader;

    while ((leader = number_at(at, "leader")) == 0) {
        cr_assert_lt(ms_clock_elapsed_ms(since, ms_clock_now()), PATIENCE_MS, "no leader");
        pause_briefly();
    }
    cr_assert_leq(leader, PEERS);
    return (unsigned)leader;
}

/* Waits until a node applied all that another one has. */
static void wait_caught_up(unsigned at, unsigned with)
{
    struct ms_instant since = ms_clock_now();

    while (number_at(at, "applied") < number_at(with, "commit")) {
        cr_assert_lt(ms_clock_elapsed_ms(since, ms_clock_now()), PATIENCE_MS,
                     "node %u does not catch up", at);
        pause_briefly();
    }
}

static void wait_log(unsigned at, const char *text)
{
    struct ms_instant since = ms_clock_now();

    while (!files_exist(peers[at].node.log_path) || !node_log_has(&peers[at].node, text)) {
        cr_assert_lt(ms_clock_elapsed_ms(since, ms_clock_now()), PATIENCE_MS,
                     "node %u does not log %s", at, text);
        pause_briefly();
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

static int post(unsigned at, unsigned id, const char *url)
{
    char path[16];
    const struct http_request request = {
        .method = "POST", .path = path, .body = url, .body_bytes = strlen(url)};

    (void)snprintf(path, sizeof(path), "/%u", id);
    return http_send(peers[at].client, &request, &answer);
}

static int delete (unsigned at, unsigned id)
{
    char path[16];

    (void)snprintf(path, sizeof(path), "/%u", id);
    return http_delete(peers[at].client, path, &answer);
}

/* metastorectl at a node with the words of one line. */
static int ctl(unsigned at, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int ctl(unsigned at, const char *format, ...)
{
    const char *argv[12] = {node_ctl(), "-S", peers[at].node.admin_path};
    char words[256];
    char *rest = words;
    size_t count = 3;
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(words, sizeof(words), format, arguments);
    va_end(arguments);
    while (rest != NULL && count < 11) {
        argv[count++] = strsep(&rest, " ");
    }
    return node_command(argv, printed, sizeof(printed));
}

#define ASSERT_STATUS(expression, wanted)                                                          \
    do {                                                                                           \
        int status_ = (expression);                                                                \
        cr_assert_eq(status_, (wanted), "%s: status %d instead of %d: %s%s", #expression, status_, \
                     (wanted), answer.body != NULL ? answer.body : "", answer.error);              \
    } while (0)

#define ASSERT_CTL(expression, wanted)                                                            \
    do {                                                                                          \
        int status_ = (expression);                                                               \
        cr_assert_eq(status_, (wanted), "%s: exit status %d: %s", #expression, status_, printed); \
    } while (0)

/* The role that a node shows for a member, or "" if it shows none; free nothing. */
static const char *role_at(unsigned at, unsigned id)
{
    static char role[16];
    json_t *status = admin_status(&peers[at].node);
    json_t *members = json_object_get(status, "members");
    json_t *member;
    size_t i;

    role[0] = '\0';
    json_array_foreach(members, i, member)
    {
        if (json_integer_value(json_object_get(member, "id")) == (json_int_t)id) {
            (void)snprintf(role, sizeof(role), "%s",
                           json_string_value(json_object_get(member, "role")));
        }
    }
    json_decref(status);
    return role;
}

static void finish(unsigned first, ...)
{
    va_list arguments;

    va_start(arguments, first);
    for (unsigned i = first; i != 0; i = va_arg(arguments, unsigned)) {
        node_finish(&peers[i].node);
    }
    va_end(arguments);
    for (unsigned i = 1; i <= PEERS; i++) {
        peers[i].node.passed = true; /* those that were never started or have ended */
    }
}

/* Ends as a removed node does: by itself, as if it had been asked to. */
static void expect_end(unsigned i, int status)
{
    cr_assert_eq(node_wait_exit(&peers[i].node, NODE_DEADLINE_MS), status);
}

/* ---- joining --------------------------------------------------------------------------------- */

Test(membership, new_nodes_join_one_that_has_data_and_all_keep_everything)
{
    spawn(1, list(1, 0), false);
    node_wait_ready(&peers[1].node);
    put(1, "/before", "1");

    ASSERT_STATUS(post(1, 2, peers[2].url), 204);
    spawn(2, list(1, 2, 0), true);
    node_wait_ready(&peers[2].node);
    expect_value(2, "/before", "1", false);
    ASSERT_STATUS(post(2, 3, peers[3].url), 204);
    cr_assert_str_eq(role_at(2, 3), "voter", "who got the answer sees the member");
    spawn(3, list(1, 2, 3, 0), true);
    node_wait_ready(&peers[3].node);
    expect_value(3, "/before", "1", true);

    put(1, "/at-1", "a");
    put(2, "/at-2", "b");
    put(3, "/at-3", "c");
    for (unsigned i = 1; i <= 3; i++) {
        expect_value(i, "/at-1", "a", false);
        expect_value(i, "/at-2", "b", false);
        expect_value(i, "/at-3", "c", false);
    }

    for (unsigned i = 1; i <= 3; i++) {
        node_stop(&peers[i].node);
    }
    spawn(1, list(1, 0), false);
    spawn(2, list(1, 2, 0), true);
    spawn(3, list(1, 2, 3, 0), false);
    for (unsigned i = 1; i <= 3; i++) {
        node_wait_ready(&peers[i].node);
    }
    for (unsigned i = 1; i <= 3; i++) {
        expect_value(i, "/before", "1", false);
        expect_value(i, "/at-1", "a", true);
        expect_value(i, "/at-2", "b", true);
        expect_value(i, "/at-3", "c", true);
    }
    finish(1, 2, 3, 0);
}

/* What the log has no more of comes as a snapshot, to old members and to new ones. */
Test(membership, node_that_is_behind_the_log_gets_a_snapshot)
{
    static char value[20000];
    char path[32];
    unsigned leader;
    unsigned away;

    short_log = true;
    memset(value, 'v', sizeof(value) - 1);
    start_three();
    put(1, "/before", "1");
    leader = leader_at(1);
    away = leader % 3 + 1;
    wait_caught_up(away, leader);
    node_stop(&peers[away].node);
    /* More than stays in memory for those that lag, and until the log does not begin with it. */
    for (int i = 0; i < 1500 || (i < 6000 && number_at(leader, "first_index") < 500); i++) {
        (void)snprintf(path, sizeof(path), "/key-%d", i % 50);
        put(leader, path, value);
    }
    put(leader, "/after", "2");
    spawn(away, list(1, 2, 3, 0), false);
    node_wait_ready(&peers[away].node);
    expect_value(away, "/after", "2", false);
    expect_value(away, "/before", "1", true);
    expect_value(away, "/key-49", value, true);
    cr_assert(node_log_has(&peers[away].node, "snapshot installed"));

    ASSERT_STATUS(post(leader, 4, peers[4].url), 204);
    spawn(4, list(1, 2, 3, 4, 0), true);
    node_wait_ready(&peers[4].node);
    expect_value(4, "/before", "1", false);
    expect_value(4, "/key-0", value, true);
    cr_assert_str_eq(role_at(4, 4), "voter");
    put(4, "/from-4", "3");
    expect_value(away, "/from-4", "3", false);
    finish(1, 2, 3, 4, 0);
}

Test(membership, learner_is_promoted_when_it_has_caught_up)
{
    unsigned leader;

    start_three();
    put(1, "/k", "v");
    leader = leader_at(1);
    ASSERT_CTL(ctl(leader % 3 + 1, "member add 4 %s --learner", peers[4].url), 0);
    cr_assert_str_eq(role_at(leader % 3 + 1, 4), "learner");
    ASSERT_CTL(ctl(1, "member promote 4"), 1);
    cr_assert_not_null(strstr(printed, "error: "), "%s", printed);
    cr_assert_str_eq(role_at(1, 4), "learner", "nothing changes");

    spawn(4, list(1, 2, 3, 4, 0), true);
    node_wait_ready(&peers[4].node);
    wait_caught_up(4, leader);
    expect_value(4, "/k", "v", true);
    ASSERT_CTL(ctl(4, "member promote 4"), 0);
    cr_assert_str_eq(role_at(4, 4), "voter");
    put(4, "/from-4", "w");
    expect_value(1, "/from-4", "w", false);
    finish(1, 2, 3, 4, 0);
}

Test(membership, node_that_was_not_added_waits_outside)
{
    start_three();
    put(1, "/k", "v");
    spawn(4, list(1, 2, 3, 4, 0), true);
    wait_log(4, "has to be added first");
    ASSERT_STATUS(post(1, 4, peers[4].url), 204);
    node_wait_ready(&peers[4].node);
    expect_value(4, "/k", "v", true);
    finish(1, 2, 3, 4, 0);
}

/* ---- removing -------------------------------------------------------------------------------- */

Test(membership, removed_follower_ends_and_stays_out)
{
    unsigned leader;
    unsigned follower;

    start_three();
    put(1, "/k", "v");
    leader = leader_at(1);
    follower = leader % 3 + 1;
    ASSERT_STATUS(delete (leader, follower), 204);
    expect_end(follower, 0);
    cr_assert_str_eq(role_at(leader, follower), "");
    put(leader, "/k", "w");

    /* It knows by itself that it has no business there (1), or is told so (0). */
    spawn(follower, list(1, 2, 3, 0), false);
    cr_assert_leq(node_wait_exit(&peers[follower].node, NODE_DEADLINE_MS), 1);
    cr_assert(node_log_has(&peers[follower].node, "removed from the cluster"));
    finish(leader, follower % 3 + 1, 0);
}

Test(membership, follower_removes_itself)
{
    unsigned follower;

    start_three();
    put(1, "/k", "v");
    follower = leader_at(1) % 3 + 1;
    ASSERT_STATUS(delete (follower, follower), 204);
    expect_end(follower, 0);
    finish(follower % 3 + 1, (follower + 1) % 3 + 1, 0);
}

Test(membership, removed_leader_ends_and_the_others_go_on)
{
    unsigned leader;

    start_three();
    put(1, "/k", "v");
    leader = leader_at(1);
    ASSERT_STATUS(delete (leader, leader), 204);
    expect_end(leader, 0);
    put(leader % 3 + 1, "/k", "w");
    expect_value((leader + 1) % 3 + 1, "/k", "w", false);
    cr_assert_str_eq(role_at(leader % 3 + 1, leader), "");
    finish(leader % 3 + 1, (leader + 1) % 3 + 1, 0);
}

Test(membership, node_that_was_removed_while_it_was_away_learns_it)
{
    unsigned leader;
    unsigned away;

    start_three();
    put(1, "/k", "v");
    leader = leader_at(1);
    away = leader % 3 + 1;
    node_stop(&peers[away].node);
    ASSERT_CTL(ctl(leader, "member remove %u", away), 0);
    spawn(away, list(1, 2, 3, 0), false);
    expect_end(away, 0);
    finish(leader, away % 3 + 1, 0);
}

/* ---- data dirs ------------------------------------------------------------------------------- */

Test(membership, lost_data_dir_is_refused_until_the_member_is_added_anew)
{
    unsigned leader;
    unsigned lost;

    start_three();
    put(1, "/k", "v");
    leader = leader_at(1);
    lost = leader % 3 + 1;
    wait_caught_up(lost, leader);
    node_stop(&peers[lost].node);
    cr_assert(files_remove_tree(peers[lost].node.node_dir));
    spawn(lost, list(1, 2, 3, 0), false);
    expect_end(lost, 1);
    cr_assert(node_log_has(&peers[lost].node, "lost or replaced"));
    put(leader, "/k", "w");

    ASSERT_CTL(ctl(leader, "member remove %u", lost), 0);
    ASSERT_CTL(ctl(leader, "member add %u %s", lost, peers[lost].url), 0);
    cr_assert(files_remove_tree(peers[lost].node.node_dir));
    spawn(lost, list(1, 2, 3, 0), true);
    node_wait_ready(&peers[lost].node);
    expect_value(lost, "/k", "w", false);
    finish(1, 2, 3, 0);
}

/* ---- founding -------------------------------------------------------------------------------- */

Test(membership, different_lists_do_not_become_two_clusters)
{
    char urls[LIST_BYTES];
    struct ms_instant since;

    spawn(1, list(1, 2, 3, 0), false);
    spawn(2, list(1, 2, 4, 0), false);
    spawn(3, list(1, 2, 3, 0), false);
    for (unsigned i = 1; i <= 3; i++) {
        wait_log(i, "a peer belongs to another cluster");
    }
    since = ms_clock_now();
    while (ms_clock_elapsed_ms(since, ms_clock_now()) < 3000) {
        for (unsigned i = 1; i <= 3; i++) {
            cr_assert_neq(http_put(peers[i].client, "/k", "v", &answer), 204, "at node %u", i);
        }
    }

    /* The wrong one begins again with the list of the others. */
    (void)snprintf(urls, sizeof(urls), "%s", list(1, 2, 3, 0));
    node_stop(&peers[2].node);
    cr_assert(files_remove_tree(peers[2].node.node_dir));
    spawn(2, urls, false);
    for (unsigned i = 1; i <= 3; i++) {
        node_wait_ready(&peers[i].node);
    }
    put(2, "/k", "v");
    expect_value(1, "/k", "v", false);
    finish(1, 2, 3, 0);
}

Test(membership, founder_with_another_list_does_not_disturb_a_running_cluster)
{
    spawn(1, list(1, 2, 0), false);
    spawn(2, list(1, 2, 0), false);
    node_wait_ready(&peers[1].node);
    node_wait_ready(&peers[2].node);
    put(1, "/k", "v");
    spawn(3, list(1, 2, 3, 0), false);
    wait_log(3, "a peer belongs to another cluster");
    put(1, "/k", "w");
    cr_assert_neq(http_put(peers[3].client, "/k", "x", &answer), 204);
    expect_value(2, "/k", "w", false);
    finish(1, 2, 3, 0);
}

Test(membership, node_with_another_key_stays_outside)
{
    static const uint8_t keys[2][32] = {{1, 2, 3}, {1, 2, 4}};
    char paths[2][FILES_PATH_BYTES];

    for (int i = 0; i < 2; i++) {
        files_path(paths[i], sizeof(paths[i]), "%s/key-%d", peers[1].node.dir, i);
        files_write(paths[i], keys[i], sizeof(keys[i]));
        cr_assert_eq(chmod(paths[i], 0600), 0);
    }
    (void)snprintf(key_path, sizeof(key_path), "%s", paths[0]);
    start_three();
    put(1, "/k", "v");
    ASSERT_STATUS(post(1, 4, peers[4].url), 204);
    (void)snprintf(key_path, sizeof(key_path), "%s", paths[1]);
    spawn(4, list(1, 2, 3, 4, 0), true);
    wait_log(4, "storage recovered");
    put(2, "/k", "w");
    cr_assert_neq(http_get(peers[4].client, "/k?consistency=serializable", &answer), 200);
    node_stop(&peers[4].node);
    (void)snprintf(key_path, sizeof(key_path), "%s", paths[0]);
    spawn(4, list(1, 2, 3, 4, 0), true);
    expect_value(4, "/k", "w", true);
    finish(1, 2, 3, 4, 0);
}

/* ---- moving ---------------------------------------------------------------------------------- */

Test(membership, member_moves_to_another_url)
{
    unsigned leader;
    unsigned moved;

    start_three();
    put(1, "/k", "v");
    leader = leader_at(1);
    moved = leader % 3 + 1;
    node_stop(&peers[moved].node);
    (void)snprintf(peers[moved].url, sizeof(peers[moved].url), "http://127.0.0.1:%u",
                   node_free_port());
    ASSERT_CTL(ctl(leader, "member update %u %s", moved, peers[moved].url), 0);
    put(leader, "/k", "w");
    spawn(moved, list(1, 2, 3, 0), false);
    node_wait_ready(&peers[moved].node);
    expect_value(moved, "/k", "w", false);
    finish(1, 2, 3, 0);
}

/* ---- leadership ------------------------------------------------------------------------------ */

Test(membership, leadership_is_transferred_on_request)
{
    unsigned leader;
    unsigned next;

    start_three();
    put(1, "/k", "v");
    leader = leader_at(1);
    next = leader % 3 + 1;
    wait_caught_up(next, leader);
    ASSERT_CTL(ctl((leader + 1) % 3 + 1, "leader transfer %u", next), 0);
    cr_assert_eq(leader_at((leader + 1) % 3 + 1), next);
    put(leader, "/k", "w");
    ASSERT_CTL(ctl(leader, "leader transfer 9"), 1);
    cr_assert_not_null(strstr(printed, "no member 9"), "%s", printed);
    finish(1, 2, 3, 0);
}

/* ---- what is refused ------------------------------------------------------------------------- */

Test(membership, impossible_changes_are_refused_and_change_nothing)
{
    spawn(1, list(1, 0), false);
    node_wait_ready(&peers[1].node);
    ASSERT_STATUS(delete (1, 1), 409);
    cr_assert_not_null(strstr(answer.body, "last voter"), "%s", answer.body);
    ASSERT_STATUS(post(1, 1, peers[2].url), 409);
    cr_assert_not_null(strstr(answer.body, "member 1 exists already"), "%s", answer.body);
    ASSERT_STATUS(post(1, 2, peers[1].url), 409);
    ASSERT_STATUS(post(1, 2, "nonsense"), 400);
    ASSERT_STATUS(post(1, 2, "http://127.0.0.1:0"), 400);
    ASSERT_STATUS(post(1, 2, "http://192.0.2.7:9021"), 400);
    ASSERT_STATUS(delete (1, 7), 404);
    ASSERT_CTL(ctl(1, "member promote 1"), 1);
    cr_assert_not_null(strstr(printed, "voter already"), "%s", printed);
    ASSERT_CTL(ctl(1, "member update 7 %s", peers[2].url), 1);
    ASSERT_CTL(ctl(1, "leader transfer"), 1);
    cr_assert_str_eq(role_at(1, 2), "");
    put(1, "/k", "v");
    finish(1, 0);
}

Test(membership, change_that_would_cost_the_quorum_is_refused)
{
    unsigned leader;

    start_three();
    put(1, "/k", "v");
    leader = leader_at(1);
    node_stop(&peers[leader % 3 + 1].node);
    ASSERT_STATUS(post(leader, 4, peers[4].url), 409);
    ASSERT_STATUS(delete (leader, (leader + 1) % 3 + 1), 409);
    put(leader, "/k", "w");
    ASSERT_STATUS(delete (leader, leader % 3 + 1), 204);
    put(leader, "/k", "x");
    finish(leader, (leader + 1) % 3 + 1, 0);
}

/*
 * Workers and supervisors that die or stop, and what comes of it.
 */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/system/fixture.h"

SYSTEM_SUITE(supervise);

/* A client on a new connection: the old one may have died with apid. */
static void reconnect(void)
{
    http_client_destroy(client);
    client = http_client_create(node.url);
}

static void assert_stored(const char *path, const char *value)
{
    ASSERT_STATUS(http_get(client, path, &answer), 200);
    assert_body(value);
}

Test(supervise, a_killed_worker_costs_no_request)
{
    static const char *const names[] = {"raftd", "storaged"};

    node_start(&node, NULL);
    for (int round = 0; round < 10; round++) {
        for (size_t i = 0; i < 2; i++) {
            char value[32];
            pid_t old_pid = admin_kill_worker(&node, names[i], SIGKILL);

            (void)snprintf(value, sizeof(value), "%s %d", names[i], round);
            ASSERT_STATUS(http_put(client, "/k", value, &answer), 204);
            assert_stored("/k", value);
            (void)admin_wait_replaced(&node, names[i], old_pid);
        }
    }
    cr_assert_eq(admin_worker(&node, "raftd").restarts, 10);
    cr_assert_eq(admin_worker(&node, "storaged").restarts, 10);
    cr_assert_eq(admin_worker(&node, "apid").restarts, 0);
    ASSERT_STATUS(http_get(client, "/metrics", &answer), 200);
    cr_assert_not_null(
        strstr(answer.body, "\nmetastore_worker_restarts_total{worker=\"storaged\"} 10\n"));
    node_finish(&node);
}

/* Killed from outside, as often as anybody likes: that is no reason to give up. */
Test(supervise, kills_from_outside_are_not_counted)
{
    node_start(&node, "--restart-intensity", "2", NULL);
    for (int round = 0; round < 20; round++) {
        pid_t old_pid = admin_kill_worker(&node, "apid", round % 2 == 0 ? SIGKILL : SIGTERM);

        (void)admin_wait_replaced(&node, "apid", old_pid);
        reconnect();
        ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    }
    node_finish(&node);
}

Test(supervise, all_workers_at_once)
{
    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    for (int round = 0; round < 5; round++) {
        struct admin_worker workers[ADMIN_WORKERS_MAX];
        size_t count = admin_workers(&node, workers, ADMIN_WORKERS_MAX);

        for (size_t i = 0; i < count; i++) {
            (void)kill(workers[i].pid, SIGKILL);
        }
        for (size_t i = 0; i < count; i++) {
            (void)admin_wait_replaced(&node, workers[i].name, workers[i].pid);
        }
        reconnect();
        assert_stored("/k", "v");
        ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    }
    node_finish(&node);
}

/* A worker that dies of its own fault, again and again: the supervisor gives up, with status 3. */
Test(supervise, a_worker_that_keeps_crashing_ends_the_node_with_3)
{
    int status = -1;

    node_start(&node, "--restart-intensity", "3", NULL);
    for (int round = 0; round < 4; round++) {
        pid_t old_pid = admin_kill_worker(&node, "raftd", SIGABRT);

        if (round == 3) {
            break;
        }
        (void)admin_wait_replaced(&node, "raftd", old_pid);
    }
    status = node_wait_exit(&node, NODE_DEADLINE_MS);
    cr_assert_eq(status, 3);
    cr_assert(node_log_has(&node, "raftd"));

    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    node_finish(&node);
}

/* storaged's own fault: what it left in memory is not trusted, and rebuilt. */
Test(supervise, after_a_crash_of_storaged_the_memory_is_rebuilt)
{
    node_start(&node, NULL);
    for (int i = 0; i < 100; i++) {
        char key[32];

        (void)snprintf(key, sizeof(key), "/k%d", i);
        ASSERT_STATUS(http_put(client, key, key, &answer), 204);
    }
    (void)admin_kill_worker(&node, "storaged", SIGABRT);
    ASSERT_STATUS(http_put(client, "/after", "v", &answer), 204);
    cr_assert(node_log_has(&node, "rebuilt"));
    for (int i = 0; i < 100; i++) {
        char key[32];

        (void)snprintf(key, sizeof(key), "/k%d", i);
        assert_stored(key, key);
    }
    node_finish(&node);
}

Test(supervise, reads_go_on_while_storaged_is_stopped_or_dead)
{
    node_start(&node, "--liveness-deadline", "1000", NULL);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    for (int round = 0; round < 3; round++) {
        const struct ms_instant began = ms_clock_now();
        pid_t pid = admin_kill_worker(&node, "storaged", SIGSTOP);
        int reads = 0;

        /* Until the supervisor acts, and over the replacement: not one read fails or waits long. */
        while (!node_wait_gone(pid, 0)) {
            const struct ms_instant asked = ms_clock_now();

            assert_stored("/k", "v");
            cr_assert_lt(ms_clock_elapsed_ms(asked, ms_clock_now()), 900);
            cr_assert_lt(ms_clock_elapsed_ms(began, ms_clock_now()), NODE_DEADLINE_MS);
            reads++;
        }
        cr_assert_gt(reads, 10);
        ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    }
    node_finish(&node);
}

Test(supervise, a_stopped_worker_is_replaced_after_the_liveness_deadline)
{
    static const char *const names[] = {"raftd", "storaged", "apid"};

    node_start(&node, "--liveness-deadline", "300", NULL);
    for (size_t i = 0; i < 3; i++) {
        pid_t old_pid = admin_kill_worker(&node, names[i], SIGSTOP);

        cr_assert(node_wait_gone(old_pid, NODE_DEADLINE_MS), "%s", names[i]);
        (void)admin_wait_replaced(&node, names[i], old_pid);
        reconnect();
        ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    }
    node_finish(&node);
}

Test(supervise, no_worker_outlives_a_killed_supervisor)
{
    struct admin_worker workers[ADMIN_WORKERS_MAX];
    struct ms_instant killed;
    size_t count;

    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    count = admin_workers(&node, workers, ADMIN_WORKERS_MAX);
    killed = ms_clock_now();
    cr_assert_eq(kill(node.pid, SIGKILL), 0);
    for (size_t i = 0; i < count; i++) {
        cr_assert(node_wait_gone(workers[i].pid, 1000), "%s is still there", workers[i].name);
    }
    cr_assert_lt(ms_clock_elapsed_ms(killed, ms_clock_now()), 1000);
    cr_assert_eq(node_wait_exit(&node, NODE_DEADLINE_MS), 128 + SIGKILL);

    node_start(&node, NULL);
    reconnect();
    assert_stored("/k", "v");
    ASSERT_STATUS(http_put(client, "/k", "w", &answer), 204);
    node_finish(&node);
}

/* A stopped worker cannot read its socket; it must go all the same. */
Test(supervise, not_even_a_stopped_worker_outlives_the_supervisor)
{
    pid_t pid;

    node_start(&node, NULL);
    pid = admin_kill_worker(&node, "storaged", SIGSTOP);
    cr_assert_eq(kill(node.pid, SIGKILL), 0);
    cr_assert(node_wait_gone(pid, 1000));
    (void)node_wait_exit(&node, NODE_DEADLINE_MS);
    node_start(&node, NULL);
    node_finish(&node);
}

Test(supervise, the_processes_have_their_names)
{
    static const char *const names[] = {"raftd", "storaged", "apid"};

    node_start(&node, NULL);
    for (size_t i = 0; i < 4; i++) {
        char path[64];
        char name[32] = "";
        FILE *file;

        (void)snprintf(path, sizeof(path), "/proc/%d/comm",
                       i == 3 ? node.pid : admin_worker(&node, names[i]).pid);
        file = fopen(path, "r");
        cr_assert_not_null(file);
        cr_assert_not_null(fgets(name, sizeof(name), file));
        (void)fclose(file);
        name[strcspn(name, "\n")] = '\0';
        cr_assert_str_eq(name, i == 3 ? "metastore" : names[i]);
    }
    node_finish(&node);
}

/* A stop drains: what was accepted is answered, and the exit status is 0. */
Test(supervise, a_second_signal_hurries_the_stop)
{
    node_start(&node, "--liveness-deadline", "30000", NULL);
    (void)admin_kill_worker(&node, "storaged", SIGSTOP);
    cr_assert_eq(kill(node.pid, SIGTERM), 0);
    cr_assert(node_wait_notify(&node, "STOPPING=1", NODE_DEADLINE_MS, NULL, 0));
    cr_assert_eq(kill(node.pid, SIGTERM), 0);
    cr_assert_eq(node_wait_exit(&node, 5000), 0);
    node_finish(&node);
}

Test(supervise, sigint_is_an_orderly_stop)
{
    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    cr_assert_eq(kill(-node.pid, SIGINT), 0, "as a terminal does it: to the whole group");
    cr_assert_eq(node_wait_exit(&node, NODE_DEADLINE_MS), 0);
    node_start(&node, NULL);
    reconnect();
    assert_stored("/k", "v");
    node_finish(&node);
}

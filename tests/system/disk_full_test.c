/*
 * No room: on the disk (writes get 507, reads go on, nothing is lost) and in memory (puts get 507,
 * deletes go on). No worker dies of it.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/system/fixture.h"

SYSTEM_SUITE(disk_full);

enum {
    VALUE_BYTES = 100000,
    DISK_BYTES = 48 * 1024 * 1024,
    TRIES_MAX = 20000
};

#define MEMORY_LIMIT      UINT64_C(33554432)
#define MEMORY_LIMIT_TEXT "33554432"

static char value[VALUE_BYTES + 1];

static void make_value(void)
{
    memset(value, 'v', VALUE_BYTES);
}

/* Distinct keys until one is refused; returns how many were taken. */
static int fill(void)
{
    for (int i = 0; i < TRIES_MAX; i++) {
        char key[32];
        int status;

        (void)snprintf(key, sizeof(key), "/fill/%05d", i);
        status = http_put(client, key, value, &answer);
        if (status != 204) {
            cr_assert_eq(status, 507, "write %d: %d %s%s", i, status, answer.body, answer.error);
            assert_error_body(507);
            return i;
        }
    }
    cr_assert_fail("%d writes fitted", TRIES_MAX);
    return 0;
}

static void assert_filled(int count)
{
    for (int i = 0; i < count; i++) {
        char key[32];

        (void)snprintf(key, sizeof(key), "/fill/%05d", i);
        ASSERT_STATUS(http_get(client, key, &answer), 200);
        cr_assert_eq(answer.body_bytes, VALUE_BYTES);
    }
}

static void assert_no_worker_down(void)
{
    struct admin_worker workers[ADMIN_WORKERS_MAX];
    size_t count = admin_workers(&node, workers, ADMIN_WORKERS_MAX);

    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(workers[i].restarts, 0, "%s was replaced", workers[i].name);
    }
}

/*
 * A small file system of our own below the data dir, in a mount namespace that ends with the test.
 * False where the kernel does not let us.
 */
static bool mount_small_disk(void)
{
    char options[64];

    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", NULL, (unsigned long)MS_REC | MS_PRIVATE, NULL) != 0) {
        return false;
    }
    cr_assert_eq(mkdir(node.data_dir, 0700), 0);
    (void)snprintf(options, sizeof(options), "size=%d", DISK_BYTES);
    return mount("none", node.data_dir, "tmpfs", 0, options) == 0;
}

/* Takes all the room that is left on the small disk. */
static void take_all_room(char *path, size_t path_bytes)
{
    static const char block[65536];
    FILE *file;

    files_path(path, path_bytes, "%s/ballast", node.data_dir);
    file = fopen(path, "w");
    cr_assert_not_null(file);
    while (fwrite(block, 1, sizeof(block), file) == sizeof(block) && fflush(file) == 0) {
    }
    (void)fclose(file); /* fails: that is the point */
}

/* Writes are taken again within the time that the node needs to notice. */
static void assert_writable_again(void)
{
    for (int tries = 0; tries < 600; tries++) {
        if (http_put(client, "/again", "yes", &answer) == 204) {
            return;
        }
        ASSERT_STATUS(answer.status, 507);
        (void)usleep(50000); /* nothing announces that a node found room: ask now and then */
    }
    cr_assert_fail("writes are still refused although there is room");
}

Test(disk_full, a_full_disk_refuses_writes_and_recovers_when_room_returns, .timeout = 200)
{
    char ballast[FILES_PATH_BYTES];
    int taken;

    if (!mount_small_disk()) {
        cr_skip("needs root and mount namespaces");
    }
    make_value();
    /* No snapshots: they would free the log's segments and hide what is tested. */
    node_start(&node, "--snapshot-count", "100000000", NULL);
    ASSERT_STATUS(http_put(client, "/first", "1", &answer), 204);
    take_all_room(ballast, sizeof(ballast));
    taken = fill();
    for (int i = 0; i < 20; i++) {
        ASSERT_STATUS(http_put(client, "/more", value, &answer), 507);
        ASSERT_STATUS(http_get(client, "/first", &answer), 200);
    }
    assert_filled(taken);
    ASSERT_STATUS(http_get(client, "/livez", &answer), 200);
    assert_no_worker_down();

    cr_assert_eq(unlink(ballast), 0);
    assert_writable_again();
    assert_no_worker_down();
    node_power_cut(&node);
    node_start(&node, NULL);
    http_client_destroy(client);
    client = http_client_create(node.url);
    assert_filled(taken);
    ASSERT_STATUS(http_get(client, "/again", &answer), 200);
    node_finish(&node);
}

/* The same disk, filled by the node itself; a restart on the full disk must still serve reads. */
Test(disk_full, a_restart_on_a_full_disk_serves_reads, .timeout = 200)
{
    int taken;

    if (!mount_small_disk()) {
        cr_skip("needs root and mount namespaces");
    }
    make_value();
    node_start(&node, "--snapshot-count", "100000000", NULL);
    taken = fill();
    cr_assert_gt(taken, 10);
    assert_no_worker_down();
    node_kill_all(&node);
    node_start(&node, "--snapshot-count", "100000000", NULL);
    http_client_destroy(client);
    client = http_client_create(node.url);
    assert_filled(taken);
    node_finish(&node);
}

Test(disk_full, a_file_size_limit_is_a_full_disk_as_well, .timeout = 200)
{
    struct node_launch launch = {.file_bytes_max = 3 * 1024 * 1024};

    /* Segments are larger than that: the very start must say so, or serve reads. Never crash. */
    node_spawn(&node, &launch);
    if (node_wait_notify(&node, "READY=1", NODE_DEADLINE_MS, NULL, 0)) {
        make_value();
        (void)fill();
        ASSERT_STATUS(http_get(client, "/livez", &answer), 200);
        assert_no_worker_down();
        node_stop(&node);
    } else {
        cr_assert_eq(node_wait_exit(&node, NODE_DEADLINE_MS), 1);
        cr_assert_gt(files_size(node.log_path), 0, "no message");
    }
    node_finish(&node);
}

Test(disk_full, past_the_memory_limit_puts_are_refused_and_deletes_go_on, .timeout = 200)
{
    int taken;

    make_value();
    node_start(&node, "--memory-limit", MEMORY_LIMIT_TEXT, "--history", "10", NULL);
    taken = fill();
    cr_assert_gt(taken, 50);
    /* The bound is kept within the engine's reserve, a quarter of it. */
    cr_assert_lt((uint64_t)taken * VALUE_BYTES, MEMORY_LIMIT + MEMORY_LIMIT / 4, "%d values",
                 taken);
    assert_filled(taken);
    ASSERT_STATUS(http_get(client, "/livez", &answer), 200);
    assert_no_worker_down();

    /* Deleting makes room, once the history behind it has been compacted. */
    for (int i = 0; i < taken; i++) {
        char key[32];

        (void)snprintf(key, sizeof(key), "/fill/%05d", i);
        ASSERT_STATUS(http_delete(client, key, &answer), 204);
    }
    assert_writable_again();
    assert_no_worker_down();
    node_finish(&node);
}

/* storaged dies on a full memory: what it rebuilds must still fit. */
Test(disk_full, a_full_memory_survives_kills, .timeout = 200)
{
    int taken;

    make_value();
    node_start(&node, "--memory-limit", MEMORY_LIMIT_TEXT, NULL);
    taken = fill();
    (void)admin_wait_replaced(&node, "storaged", admin_kill_worker(&node, "storaged", SIGKILL));
    assert_filled(taken);
    ASSERT_STATUS(http_delete(client, "/fill/00000", &answer), 204);
    (void)admin_wait_replaced(&node, "storaged", admin_kill_worker(&node, "storaged", SIGABRT));
    ASSERT_STATUS(http_get(client, "/fill/00001", &answer), 200);
    ASSERT_STATUS(http_get(client, "/fill/00000", &answer), 404);
    node_power_cut(&node);
    node_start(&node, "--memory-limit", MEMORY_LIMIT_TEXT, NULL);
    http_client_destroy(client);
    client = http_client_create(node.url);
    ASSERT_STATUS(http_get(client, "/fill/00001", &answer), 200);
    node_finish(&node);
}

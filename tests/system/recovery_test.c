/*
 * Stops, power cuts and damaged files: what was acknowledged comes back, what is damaged is named.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/seed.h"
#include "tests/system/fixture.h"

SYSTEM_SUITE(recovery);

enum {
    BLOCK_BYTES = 4096,
    NAMES_MAX = 64
};

static char wal_dir[FILES_PATH_BYTES];

static void put_numbers(int from, int to)
{
    for (int i = from; i < to; i++) {
        char key[32];
        char value[32];

        (void)snprintf(key, sizeof(key), "/n/%05d", i);
        (void)snprintf(value, sizeof(value), "value %d", i);
        ASSERT_STATUS(http_put(client, key, value, &answer), 204);
    }
}

static void assert_numbers(int from, int to)
{
    for (int i = from; i < to; i++) {
        char key[32];
        char value[32];

        (void)snprintf(key, sizeof(key), "/n/%05d", i);
        (void)snprintf(value, sizeof(value), "value %d", i);
        ASSERT_STATUS(http_get(client, key, &answer), 200);
        assert_body(value);
    }
}

static void reconnect(void)
{
    http_client_destroy(client);
    client = http_client_create(node.url);
}

Test(recovery, an_orderly_stop_keeps_everything_and_leaves_no_memory)
{
    char names[NAMES_MAX][256];
    uint64_t revision;

    node_start(&node, NULL);
    put_numbers(0, 50);
    revision = http_revision(&answer);
    node_stop(&node);
    cr_assert_eq(files_list(node.memory_dir, "", names, NAMES_MAX), 0, "%s is left", names[0]);
    node_start(&node, NULL);
    reconnect();
    assert_numbers(0, 50);
    cr_assert_eq(admin_status_number(&node, "revision"), revision);
    put_numbers(50, 51);
    cr_assert_eq(http_revision(&answer), revision + 1);
    node_finish(&node);
}

Test(recovery, a_power_cut_keeps_everything_that_was_acknowledged)
{
    node_start(&node, NULL);
    for (int round = 0; round < 3; round++) {
        put_numbers(round * 20, round * 20 + 20);
        node_power_cut(&node);
        node_start(&node, NULL);
        reconnect();
        assert_numbers(0, round * 20 + 20);
    }
    node_finish(&node);
}

Test(recovery, revisions_and_conditions_survive_a_power_cut)
{
    char condition[64];

    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "1", &answer), 204);
    ASSERT_STATUS(http_put(client, "/k", "2", &answer), 204);
    (void)snprintf(condition, sizeof(condition), "If-Match: \"%llu\"",
                   (unsigned long long)http_revision(&answer));
    ASSERT_STATUS(http_put(client, "/gone", "x", &answer), 204);
    ASSERT_STATUS(http_delete(client, "/gone", &answer), 204);
    node_power_cut(&node);
    node_start(&node, NULL);
    reconnect();
    ASSERT_STATUS(http_get(client, "/gone", &answer), 404);
    ASSERT_STATUS(send_with("PUT", "/k", "3", condition), 204);
    node_finish(&node);
}

Test(recovery, snapshots_are_written_and_recovered_from)
{
    char names[NAMES_MAX][256];
    char snap_dir[FILES_PATH_BYTES];

    files_path(snap_dir, sizeof(snap_dir), "%s/snap", node.node_dir);
    node_start(&node, "--snapshot-count", "100", "--snapshot-catch-up-entries", "10", NULL);
    for (int i = 0; i < 40 && admin_status_number(&node, "snapshot_index") == 0; i++) {
        put_numbers(i * 50, i * 50 + 50);
    }
    cr_assert_gt(admin_status_number(&node, "snapshot_index"), 0, "no snapshot after 2000 writes");
    cr_assert_geq(files_list(snap_dir, "", names, NAMES_MAX), 1);
    put_numbers(5000, 5020);
    node_power_cut(&node);
    node_start(&node, NULL);
    reconnect();
    assert_numbers(0, 50);
    assert_numbers(5000, 5020);
    node_finish(&node);
}

Test(recovery, the_log_is_compacted_behind_a_snapshot)
{
    node_start(&node, "--snapshot-count", "100", "--snapshot-catch-up-entries", "10", NULL);
    for (int i = 0; i < 60 && admin_status_number(&node, "first_index") <= 1; i++) {
        put_numbers(i * 50, i * 50 + 50);
    }
    cr_assert_gt(admin_status_number(&node, "first_index"), 1);
    cr_assert_leq(admin_status_number(&node, "first_index"),
                  admin_status_number(&node, "snapshot_index") + 1);
    node_finish(&node);
}

Test(recovery, history_is_compacted_by_itself)
{
    const char *line = NULL;

    node_start(&node, "--history", "100", NULL);
    for (int i = 0; i < 20 && line == NULL; i++) {
        put_numbers(0, 50);
        ASSERT_STATUS(http_get(client, "/metrics", &answer), 200);
        line = strstr(answer.body, "\nmetastore_store_compact_revision ");
        if (line != NULL &&
            strtoull(line + strlen("\nmetastore_store_compact_revision "), NULL, 10) < 2) {
            line = NULL;
        }
    }
    cr_assert_not_null(line, "1000 revisions, a history of 100, and no compaction");
    assert_numbers(0, 50);
    node_finish(&node);
}

/* ---- damage -------------------------------------------------------------------------------- */

/* The last WAL segment that holds anything, and the offset behind its last written block. */
static void find_log_end(char *path, size_t path_bytes, off_t *end)
{
    char names[NAMES_MAX][256];
    size_t count;

    files_path(wal_dir, sizeof(wal_dir), "%s/wal", node.node_dir);
    count = files_list(wal_dir, "", names, NAMES_MAX);
    cr_assert_gt(count, 0);
    *end = 0;
    for (size_t i = 0; i < count; i++) {
        char candidate[FILES_PATH_BYTES];
        size_t len_bytes;
        char *data;
        size_t used = 0;

        files_path(candidate, sizeof(candidate), "%s/%s", wal_dir, names[i]);
        data = files_read(candidate, &len_bytes);
        for (size_t at = 0; at < len_bytes; at++) {
            if (data[at] != 0) {
                used = at + 1;
            }
        }
        free(data);
        /* More than a segment's own header block: entries. */
        if (used > BLOCK_BYTES) {
            files_path(path, path_bytes, "%s", candidate);
            *end = (off_t)used;
        }
    }
    cr_assert_gt(*end, 0, "no segment with entries");
}

/* Prepares a stopped node with a few entries and keeps a copy of its data. */
static void prepare_copy(char *copy, size_t copy_bytes)
{
    node_start(&node, NULL);
    put_numbers(0, 10);
    node_kill_all(&node);
    files_path(copy, copy_bytes, "%s/copy", node.dir);
    files_copy_tree(node.data_dir, copy);
}

static void restore_copy(const char *copy)
{
    char names[NAMES_MAX][256];
    size_t count = files_list(node.memory_dir, "", names, NAMES_MAX);

    for (size_t i = 0; i < count; i++) {
        char path[FILES_PATH_BYTES];

        files_path(path, sizeof(path), "%s/%s", node.memory_dir, names[i]);
        cr_assert(files_remove_tree(path));
    }
    cr_assert(files_remove_tree(node.data_dir));
    files_copy_tree(copy, node.data_dir);
}

/*
 * The file ends somewhere inside the last record, as after a crash of a file system that lost the
 * tail: everything before it must be there, the torn record must not be half there.
 */
Test(recovery, a_log_that_ends_inside_its_last_record_is_cut, .timeout = 300)
{
    char copy[FILES_PATH_BYTES];
    char path[FILES_PATH_BYTES];
    uint64_t state = test_seed("recovery");
    off_t end;

    prepare_copy(copy, sizeof(copy));
    find_log_end(path, sizeof(path), &end);
    for (int i = 0; i < 12; i++) {
        /* Samples here; every offset is a unit test's matter. The first and last byte are in. */
        off_t last_block = (end - 1) / BLOCK_BYTES * BLOCK_BYTES;
        off_t cut =
            i == 0   ? last_block
            : i == 1 ? end - 1
                     : (off_t)check_random_between(&state, (uint64_t)last_block, (uint64_t)end - 1);

        restore_copy(copy);
        cr_assert_eq(truncate(path, cut), 0);
        node_start(&node, NULL);
        reconnect();
        assert_numbers(0, 9); /* the tenth may be what was cut */
        put_numbers(20, 22);
        node_kill_all(&node);
        node_start(&node, NULL);
        reconnect();
        assert_numbers(0, 9);
        assert_numbers(20, 22);
        node_kill_all(&node);
    }
    node_finish(&node);
}

Test(recovery, damage_before_the_tail_is_refused_with_file_and_offset)
{
    char copy[FILES_PATH_BYTES];
    char path[FILES_PATH_BYTES];
    uint8_t byte = 0;
    off_t end;
    off_t at;
    int fd;
    int status;

    prepare_copy(copy, sizeof(copy));
    find_log_end(path, sizeof(path), &end);
    restore_copy(copy);

    /* One flipped bit in the middle of what is written. */
    at = end / 2 / BLOCK_BYTES * BLOCK_BYTES + 40;
    cr_assert_lt(at, end - BLOCK_BYTES);
    fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    (void)close(fd);
    cr_assert_eq(unlink(node.log_path), 0);

    status = node_run(&node, &(struct node_launch){0});
    cr_assert_eq(status, 1, "exit status %d", status);
    cr_assert(node_log_has(&node, strrchr(path, '/') + 1), "the message names the file");
    cr_assert(node_log_has(&node, "offset"), "the message names the offset");

    /* Refusing changed nothing: with the bit flipped back all is well. */
    byte ^= 0x10;
    fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    (void)close(fd);
    node_start(&node, NULL);
    reconnect();
    assert_numbers(0, 10);
    node_finish(&node);
}

Test(recovery, a_missing_or_foreign_log_file_is_refused_by_name)
{
    char copy[FILES_PATH_BYTES];
    char path[FILES_PATH_BYTES];
    off_t end;

    prepare_copy(copy, sizeof(copy));
    find_log_end(path, sizeof(path), &end);
    restore_copy(copy);
    files_write(path, "this is not a log segment", 25);
    cr_assert_eq(node_run(&node, &(struct node_launch){0}), 1);
    cr_assert(node_log_has(&node, strrchr(path, '/') + 1));
    node_finish(&node);
}

Test(recovery, a_damaged_newest_snapshot_is_not_trusted)
{
    char names[NAMES_MAX][256];
    char snap_dir[FILES_PATH_BYTES];
    char path[FILES_PATH_BYTES];
    size_t count;
    size_t len_bytes;
    char *data;
    int status;

    files_path(snap_dir, sizeof(snap_dir), "%s/snap", node.node_dir);
    node_start(&node, "--snapshot-count", "50", "--snapshot-catch-up-entries", "0", NULL);
    for (int i = 0; i < 60 && admin_status_number(&node, "first_index") <= 1; i++) {
        put_numbers(i * 50, i * 50 + 50);
    }
    cr_assert_gt(admin_status_number(&node, "snapshot_index"), 0);
    node_power_cut(&node);
    count = files_list(snap_dir, "", names, NAMES_MAX);
    cr_assert_gt(count, 0);
    for (size_t i = 0; i < count; i++) {
        files_path(path, sizeof(path), "%s/%s", snap_dir, names[i]);
        data = files_read(path, &len_bytes);
        data[len_bytes / 2] = (char)(data[len_bytes / 2] ^ 1);
        files_write(path, data, len_bytes);
        free(data);
    }
    /* None is left to recover from, and the log does not reach back: an error with the file's name.
     */
    status = node_run(&node, &(struct node_launch){0});
    cr_assert_eq(status, 1, "exit status %d", status);
    cr_assert(node_log_has(&node, names[count - 1]) || node_log_has(&node, names[0]));
    node_finish(&node);
}

Test(recovery, left_overs_in_memory_of_a_node_that_is_gone_are_removed)
{
    struct node other;
    char names[NAMES_MAX][256];
    const char *arguments[] = {"--memory-dir", node.memory_dir, NULL};

    /* Another node used this memory dir, was killed, and its data dir is deleted. */
    node_init(&other);
    node_spawn(&other, &(struct node_launch){.arguments = arguments});
    node_wait_ready(&other);
    node_kill_all(&other);
    cr_assert_eq(files_list(node.memory_dir, "", names, NAMES_MAX), 1);
    node_finish(&other);
    node_fini(&other);

    node_start(&node, NULL);
    cr_assert_eq(files_list(node.memory_dir, "", names, NAMES_MAX), 1, "only our own is there");
    node_stop(&node);
    cr_assert_eq(files_list(node.memory_dir, "", names, NAMES_MAX), 0);
    node_finish(&node);
}

/* It looks like a log that was never written, but the identity file knows better. */
Test(recovery, a_log_that_is_gone_as_a_whole_is_missed)
{
    char kept[FILES_PATH_BYTES];

    files_path(wal_dir, sizeof(wal_dir), "%s/wal", node.node_dir);
    files_path(kept, sizeof(kept), "%s/kept", node.dir);
    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    node_stop(&node);
    cr_assert_eq(rename(wal_dir, kept), 0);
    for (int i = 0; i < 2; i++) { /* also when the first try has left an empty log behind */
        cr_assert_eq(node_run(&node, &(struct node_launch){0}), 1);
        cr_assert(node_log_has(&node, "was in use, but its log is empty"));
        cr_assert(node_log_has(&node, node.node_dir));
    }
    cr_assert(files_remove_tree(wal_dir));
    cr_assert_eq(rename(kept, wal_dir), 0);
    node_start(&node, NULL);
    reconnect();
    ASSERT_STATUS(http_get(client, "/k", &answer), 200);
    assert_body("v");
    node_finish(&node);
}

/* A node that joins has no entries until a leader sends some: that is no loss. */
Test(recovery, a_node_that_waits_to_join_may_be_restarted_with_an_empty_log)
{
    const char *arguments[] = {
        "--id", "2", "--join", "--cluster", "http://127.0.0.1:1,http://127.0.0.1:2", NULL};
    struct admin_worker storaged;
    char saved[sizeof(node.admin_path)];

    (void)snprintf(saved, sizeof(saved), "%s", node.admin_path);
    (void)snprintf(node.admin_path, sizeof(node.admin_path), "%s/2/admin.sock", node.data_dir);
    for (int i = 0; i < 2; i++) {
        node_spawn(&node, &(struct node_launch){.arguments = arguments});
        node_wait_ready(&node);
        storaged = admin_worker(&node, "storaged");
        (void)admin_kill_worker(&node, "storaged", SIGKILL);
        (void)admin_wait_replaced(&node, "storaged", storaged.pid);
        node_stop(&node);
    }
    (void)snprintf(node.admin_path, sizeof(node.admin_path), "%s", saved);
    cr_assert_not(node_log_has(&node, "its log is empty"));
    node_finish(&node);
}

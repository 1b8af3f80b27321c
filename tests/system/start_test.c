/*
 * Starts that must fail, each with the right exit status and a message that names what and where.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/system/fixture.h"

SYSTEM_SUITE(start);

/* A start with these further arguments ends with the status, and the log names the thing. */
static void assert_refused(int status, const char *named, const char *const *arguments)
{
    int got = node_run(&node, &(struct node_launch){.arguments = arguments});

    cr_assert_eq(got, status, "exit status %d instead of %d (%s)", got, status, named);
    cr_assert(node_log_has(&node, named), "the message does not name %s", named);
    cr_assert_eq(unlink(node.log_path), 0);
}

#define ARGUMENTS(...) ((const char *const[]){__VA_ARGS__, NULL})

Test(start, wrong_usage_is_2_and_names_the_option)
{
    assert_refused(2, "--prot", ARGUMENTS("--prot", "1"));
    assert_refused(2, "--port", ARGUMENTS("--port", "99999"));
    assert_refused(2, "--port", ARGUMENTS("--port"));
    assert_refused(2, "--id", ARGUMENTS("--id", "0"));
    assert_refused(2, "--id", ARGUMENTS("--id", "2"));
    assert_refused(2, "--storage", ARGUMENTS("--storage", "floppy"));
    assert_refused(2, "--cluster", ARGUMENTS("--cluster", "127.0.0.1"));
    assert_refused(2, "--tls-key", ARGUMENTS("--tls-cert", "x"));
    assert_refused(2, "argument", ARGUMENTS("run"));
    cr_assert(!files_exist(node.data_dir), "a wrong usage must leave no trace");
    node_finish(&node);
}

Test(start, a_wrong_file_is_refused_with_its_line)
{
    char path[FILES_PATH_BYTES];

    files_path(path, sizeof(path), "%s/metastore.ini", node.dir);
    files_write(path, "id = 1\nprot = 9121\n", 19);
    assert_refused(2, "metastore.ini:2", ARGUMENTS("--config", path));
    assert_refused(1, "/nowhere.ini", ARGUMENTS("--config", "/nowhere.ini"));
    node_finish(&node);
}

Test(start, help_and_version_are_no_start)
{
    char out[8192];

    cr_assert_eq(node_command(ARGUMENTS(node_binary(), "--help"), out, sizeof(out)), 0);
    cr_assert_not_null(strstr(out, "--data-dir"));
    cr_assert_eq(node_command(ARGUMENTS(node_binary(), "--version"), out, sizeof(out)), 0);
    cr_assert_eq(strncmp(out, "metastore ", 10), 0);
    node_finish(&node);
}

Test(start, a_port_in_use_is_1)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(node.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char port[8];

    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(listen(fd, 1), 0);
    (void)snprintf(port, sizeof(port), "%u", node.port);
    assert_refused(1, port, ARGUMENTS("--log-level", "info"));
    (void)close(fd);
    node_finish(&node);
}

Test(start, an_address_that_is_not_ours_is_1)
{
    assert_refused(1, "192.0.2.1", ARGUMENTS("--listen", "192.0.2.1"));
    node_finish(&node);
}

Test(start, ipv6_is_served)
{
    struct http_client *six;
    char url[64];

    node_start(&node, "--listen", "::1", NULL);
    (void)snprintf(url, sizeof(url), "http://[::1]:%u", node.port);
    six = http_client_create(url);
    ASSERT_STATUS(http_put(six, "/k", "v", &answer), 204);
    http_client_destroy(six);
    node_finish(&node);
}

Test(start, twice_on_one_data_dir_is_1_and_leaves_the_first_alone)
{
    struct node second;
    const char *arguments[] = {"--data-dir", node.data_dir, NULL};
    int status;

    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    node_init(&second);
    status = node_run(&second, &(struct node_launch){.arguments = arguments});
    cr_assert_eq(status, 1);
    cr_assert(node_log_has(&second, "locked"));
    cr_assert(node_log_has(&second, node.node_dir), "the message names the directory");
    node_finish(&second);
    node_fini(&second);
    ASSERT_STATUS(http_get(client, "/k", &answer), 200);
    assert_body("v");
    node_finish(&node);
}

Test(start, another_nodes_or_engines_data_is_1)
{
    char moved[FILES_PATH_BYTES];

    node_start(&node, NULL);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    node_stop(&node);
    assert_refused(1, "rocksdb", ARGUMENTS("--storage", "rocksdb"));
    assert_refused(1, "rocksdb", ARGUMENTS("--raft-log", "rocksdb"));

    files_path(moved, sizeof(moved), "%s/2", node.data_dir);
    cr_assert_eq(rename(node.node_dir, moved), 0);
    assert_refused(1, "id", ARGUMENTS("--id", "2", "--join"));
    cr_assert_eq(rename(moved, node.node_dir), 0);

    node_start(&node, NULL);
    ASSERT_STATUS(http_get(client, "/k", &answer), 200);
    assert_body("v");
    node_finish(&node);
}

Test(start, a_data_dir_that_is_a_file_is_1)
{
    files_write(node.data_dir, "x", 1);
    assert_refused(1, node.data_dir, ARGUMENTS("--log-level", "info"));
    node_finish(&node);
}

Test(start, a_log_that_is_no_directory_is_1)
{
    char path[FILES_PATH_BYTES];

    cr_assert_eq(mkdir(node.data_dir, 0700), 0);
    cr_assert_eq(mkdir(node.node_dir, 0700), 0);
    files_path(path, sizeof(path), "%s/wal", node.node_dir);
    files_write(path, "x", 1);
    assert_refused(1, path, ARGUMENTS("--log-level", "info"));
    node_finish(&node);
}

/* Root may write everywhere but where the kernel itself refuses. */
Test(start, a_read_only_data_dir_is_1)
{
    const char *read_only = "/proc/metastore";
    char locked[FILES_PATH_BYTES];

    if (geteuid() != 0) {
        files_path(locked, sizeof(locked), "%s/locked", node.dir);
        cr_assert_eq(mkdir(locked, 0500), 0);
        read_only = locked;
    }
    assert_refused(1, read_only, ARGUMENTS("--data-dir", read_only));
    node_finish(&node);
}

Test(start, a_memory_dir_that_is_no_directory_is_1)
{
    char path[FILES_PATH_BYTES];

    assert_refused(1, "open memory directory /nowhere/at/all: No such file or directory",
                   ARGUMENTS("--memory-dir", "/nowhere/at/all"));
    files_path(path, sizeof(path), "%s/file", node.dir);
    files_write(path, "x", 1);
    assert_refused(1, path, ARGUMENTS("--memory-dir", path));
    node_finish(&node);
}

Test(start, a_key_file_that_is_not_there_is_1)
{
    assert_refused(1, "/nowhere.key: No such file or directory",
                   ARGUMENTS("--cluster-key-file", "/nowhere.key"));
    node_finish(&node);
}

Test(start, the_identity_file_is_checked)
{
    char path[FILES_PATH_BYTES];

    node_start(&node, NULL);
    node_stop(&node);
    files_path(path, sizeof(path), "%s/identity", node.node_dir);
    files_write(path, "rubbish\n", 8);
    assert_refused(1, "identity", ARGUMENTS("--log-level", "info"));
    node_finish(&node);
}

Test(start, environment_and_file_configure_as_well)
{
    char path[FILES_PATH_BYTES];
    char variable[FILES_PATH_BYTES + 32];
    char text[1024];
    const char *environment[] = {variable, "METASTORE_LOG_FORMAT=json", NULL};
    char *log;

    files_path(path, sizeof(path), "%s/metastore.ini", node.dir);
    files_path(variable, sizeof(variable), "METASTORE_CONFIG=%s", path);
    (void)snprintf(text, sizeof(text), "[metastore]\nport = %u\ndata-dir = %s\nmemory-dir = %s\n",
                   node.port, node.data_dir, node.memory_dir);
    files_write(path, text, strlen(text));
    node_spawn(&node, &(struct node_launch){.bare = true, .environment = environment});
    node_wait_ready(&node);
    ASSERT_STATUS(http_put(client, "/k", "v", &answer), 204);
    node_stop(&node);
    log = node_log(&node);
    for (char *rest, *line = strtok_r(log, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        json_t *json = json_loads(line, 0, NULL);

        cr_assert_not_null(json, "not JSON: %s", line);
        cr_assert(json_is_string(json_object_get(json, "msg")));
        json_decref(json);
    }
    free(log);
    node_finish(&node);
}

Test(start, the_log_tells_what_was_recovered)
{
    node_start(&node, NULL);
    node_stop(&node);
    cr_assert(node_log_has(&node, "msg=\"recovered\"") || node_log_has(&node, "msg=recovered"));
    node_finish(&node);
}

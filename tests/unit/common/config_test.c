/*
 * config: who wins, what is refused, and that the message says where to look.
 */
#include "common/config.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

enum {
    ARGUMENTS_MAX = 16
};

static struct ms_config config;
static enum ms_config_action action;
static struct ms_err err;
static char *environment[ARGUMENTS_MAX];
static char file_path[128];

/* Loads with the given arguments, NULL-terminated. */
static int load(const char *first, ...)
{
    char *argv[ARGUMENTS_MAX] = {(char *)"metastore"};
    int argc = 1;
    va_list args;

    va_start(args, first);
    for (const char *arg = first; arg != NULL; arg = va_arg(args, const char *)) {
        cr_assert_lt(argc, ARGUMENTS_MAX);
        argv[argc++] = (char *)arg;
    }
    va_end(args);
    err.text[0] = '\0';
    return ms_config_load(argc, argv, environment, &config, &action, &err);
}

static void write_file(const char *text)
{
    const char *dir = getenv("TMPDIR");
    int fd;

    (void)snprintf(file_path, sizeof(file_path), "%s/metastore-config-XXXXXX",
                   dir != NULL ? dir : "/tmp");
    fd = mkstemp(file_path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
}

static void remove_file(void)
{
    if (file_path[0] != '\0') {
        (void)unlink(file_path);
    }
}

TestSuite(config, .fini = remove_file);

static void assert_refused(int rc, const char *needle)
{
    cr_assert_eq(rc, MS_EUSAGE, "%s", err.text);
    cr_assert_not_null(strstr(err.text, needle), "\"%s\" does not name %s", err.text, needle);
}

Test(config, defaults_are_what_the_manual_says)
{
    char cwd[1024];
    char want[1100];

    cr_assert_eq(load(NULL), MS_OK, "%s", err.text);
    cr_assert_eq(action, MS_CONFIG_RUN);
    cr_assert_eq(config.id, 1);
    cr_assert_str_eq(config.cluster, "http://127.0.0.1:9021");
    cr_assert_eq(config.port, 9121);
    cr_assert_str_eq(config.listen, "127.0.0.1");
    cr_assert_eq(config.join, 0);
    cr_assert_eq(config.storage, MS_STORAGE_MEMORY);
    cr_assert_eq(config.raft_log, MS_RAFT_LOG_WAL);
    cr_assert_str_eq(config.memory_dir, "/dev/shm");
    cr_assert_eq(config.memory_limit_bytes, 0);
    cr_assert_eq(config.history, 100000);
    cr_assert_str_eq(config.data_dir, "./data");
    cr_assert_eq(config.snapshot_count, 10000);
    cr_assert_eq(config.snapshot_catch_up_entries, 5000);
    cr_assert_eq(config.heartbeat_interval_ms, 100);
    cr_assert_eq(config.election_timeout_ms, 1000);
    cr_assert_eq(config.request_timeout_ms, 5000);
    cr_assert_eq(config.max_request_bytes, 1572864);
    cr_assert_eq(config.read_mode, MS_READ_SAFE);
    cr_assert_eq(config.log_level, MS_LOG_INFO);
    cr_assert_eq(config.log_format, MS_LOG_TEXT);
    cr_assert_eq(config.api_workers, 1);
    cr_assert_eq(config.restart_intensity, 10);
    cr_assert_eq(config.restart_period_ms, 60000);
    cr_assert_eq(config.liveness_deadline_ms, 2000);
    cr_assert_not_null(getcwd(cwd, sizeof(cwd)));
    (void)snprintf(want, sizeof(want), "%s/data/1", cwd);
    cr_assert_str_eq(config.node_dir, want);
    (void)snprintf(want, sizeof(want), "%s/data/1/admin.sock", cwd);
    cr_assert_str_eq(config.admin_socket, want);
}

Test(config, both_forms_of_an_argument_and_the_last_one_wins)
{
    cr_assert_eq(load("--port", "80", "--port=81", "--log-level=warn", NULL), MS_OK);
    cr_assert_eq(config.port, 81);
    cr_assert_eq(config.log_level, MS_LOG_WARN);
}

Test(config, command_line_before_environment_before_file)
{
    write_file("port = 1\nlisten = file\n[metastore]\nhistory: 1 ; comment\n# comment\n");
    environment[0] = (char *)"METASTORE_PORT=2";
    environment[1] = (char *)"METASTORE_HISTORY=2";
    environment[2] = (char *)"METASTORE_MEMORY_DIR=";
    cr_assert_eq(load("--port", "3", "--config", file_path, NULL), MS_OK, "%s", err.text);
    cr_assert_eq(config.port, 3);
    cr_assert_eq(config.history, 2);
    cr_assert_str_eq(config.listen, "file");
    cr_assert_str_eq(config.memory_dir, "/dev/shm", "an empty variable says nothing");
}

Test(config, the_environment_can_name_the_file)
{
    char variable[160];

    write_file("id = 2\njoin = yes\nsnapshot-count = 7\n");
    (void)snprintf(variable, sizeof(variable), "METASTORE_CONFIG=%s", file_path);
    environment[0] = variable;
    cr_assert_eq(load(NULL), MS_OK, "%s", err.text);
    cr_assert_eq(config.id, 2);
    cr_assert_eq(config.join, 1);
    cr_assert_eq(config.snapshot_count, 7);
    cr_assert_str_eq(config.config_file, file_path);
}

Test(config, flags_take_no_value_but_may_have_one_after_an_equals_sign)
{
    cr_assert_eq(load("--rocksdb", "--join", "--port", "5", NULL), MS_OK, "%s", err.text);
    cr_assert_eq(config.storage, MS_STORAGE_ROCKSDB);
    cr_assert_eq(config.join, 1);
    cr_assert_eq(load("--join", "--join=false", "--rocksdb=false", NULL), MS_OK, "%s", err.text);
    cr_assert_eq(config.join, 0);
    cr_assert_eq(config.storage, MS_STORAGE_MEMORY);
    environment[0] = (char *)"METASTORE_JOIN=perhaps";
    assert_refused(load(NULL), "METASTORE_JOIN");
}

Test(config, help_and_version_need_no_sound_rest)
{
    cr_assert_eq(load("--help", NULL), MS_OK);
    cr_assert_eq(action, MS_CONFIG_SHOW_HELP);
    cr_assert_eq(load("--config", "/nowhere", "-h", NULL), MS_OK);
    cr_assert_eq(action, MS_CONFIG_SHOW_HELP);
    cr_assert_eq(load("--version", NULL), MS_OK);
    cr_assert_eq(action, MS_CONFIG_SHOW_VERSION);
}

Test(config, wrong_values_are_refused_by_name)
{
    static const char *const cases[][2] = {
        {"--port", "0"},
        {"--port", "65536"},
        {"--port", "-1"},
        {"--port", "+1"},
        {"--port", " 1"},
        {"--port", "1 "},
        {"--port", "0x50"},
        {"--port", "99999999999999999999999"},
        {"--port", "18446744073709551617"},
        {"--port", ""},
        {"--id", "0"},
        {"--id", "9223372036854775808"},
        {"--api-workers", "17"},
        {"--max-request-bytes", "0"},
        {"--storage", "memor"},
        {"--storage", "memory|rocksdb"},
        {"--storage", "Memory"},
        {"--log-level", "loud"},
        {"--log-format", ""},
        {"--data-dir", ""},
        {"--data-dir", "a\nb"},
        {"--read-mode", "fast"},
        {"--memory-limit", "1000"},
        {"--liveness-deadline", "1"},
        {"--cluster", "127.0.0.1:9021"},
        {"--cluster", "http://127.0.0.1"},
        {"--cluster", "http://127.0.0.1:0"},
        {"--cluster", "http://127.0.0.1:65536"},
        {"--cluster", "http://127.0.0.1:123456"},
        {"--cluster", "http://:9021"},
        {"--cluster", "http://[::1:9021"},
        {"--cluster", "http://a:1/path"},
        {"--cluster", "http://a:1,"},
        {"--cluster", ",http://a:1"},
        {"--cluster", "http://a:1, http://b:1"},
        {"--cluster", "http://[::1]:1,http://[::1]:2,http://[::1]:1/"},
        {"--cluster", "http://127.0.0.1:1,http://a:1"},
        {"--cluster", "https://a:1"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int rc = load(cases[i][0], cases[i][1], NULL);

        cr_assert_eq(rc, MS_EUSAGE, "%s \"%s\" was taken", cases[i][0], cases[i][1]);
        assert_refused(rc, cases[i][0]);
    }
}

Test(config, unknown_arguments_are_refused_by_name)
{
    assert_refused(load("--prot", "1", NULL), "--prot");
    assert_refused(load("--port-", "1", NULL), "--port-");
    assert_refused(load("--por", "1", NULL), "--por");
    assert_refused(load("--", NULL), "--");
    assert_refused(load("--=1", NULL), "--");
    assert_refused(load("-p", "1", NULL), "-p");
    assert_refused(load("data", NULL), "data");
    assert_refused(load("", NULL), "argument");
    assert_refused(load("--port", NULL), "--port");
}

Test(config, contradictions_are_refused)
{
    assert_refused(load("--tls-cert", "c", NULL), "--tls-key");
    assert_refused(load("--tls-key", "k", NULL), "--tls-cert");
    assert_refused(load("--tls-client-ca", "k", NULL), "--tls-cert");
    assert_refused(load("--election-timeout", "100", NULL), "--heartbeat-interval");
    assert_refused(load("--id", "2", NULL), "--id");
    cr_assert_eq(load("--id", "2", "--join", NULL), MS_OK, "%s", err.text);
}

Test(config, mistakes_in_the_environment_name_the_variable)
{
    environment[0] = (char *)"METASTORE_DATA_DIR=/x";
    environment[1] = (char *)"METASTORE_REQUEST_TIMEOUT=soon";
    assert_refused(load(NULL), "METASTORE_REQUEST_TIMEOUT");
}

Test(config, mistakes_in_the_file_name_file_and_line)
{
    static const struct {
        const char *text;
        const char *line;
        const char *name;
    } cases[] = {
        {"id = 1\nport = many\n", ":2:", "port"},
        {"\n\nprot = 1\n", ":3:", "prot"},
        {"[server]\nport = 1\n", ":2:", "[server]"},
        {"port\n", ":1:", "name = value"},
        {"config = other.ini\n", ":1:", "config"},
        {"[metastore\nport = 1\n", ":1:", ""},
        {"port =\n", ":1:", "port"},
        {"id = 1\n  2\n", ":2:", ""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int rc;

        write_file(cases[i].text);
        rc = load("--config", file_path, NULL);
        assert_refused(rc, file_path);
        assert_refused(rc, cases[i].line);
        assert_refused(rc, cases[i].name);
        remove_file();
    }
}

Test(config, a_file_that_cannot_be_read_is_told_from_wrong_usage)
{
    cr_assert_eq(load("--config", "/nowhere/metastore.ini", NULL), MS_ENOENT);
    cr_assert_not_null(strstr(err.text, "/nowhere/metastore.ini"));
    cr_assert_eq(load("--config", "/", NULL), MS_EIO);
    assert_refused(load("--config", "/dev/zero", NULL), "/dev/zero");
}

Test(config, long_lines_and_values_have_a_bound)
{
    static char text[20000];
    static char path[3000];

    memset(path, 'p', sizeof(path) - 1);
    assert_refused(load("--data-dir", path, NULL), "--data-dir");
    path[MS_CONFIG_PATH_BYTES - 10] = '\0';
    assert_refused(load("--data-dir", path, NULL), "--data-dir");

    (void)strcpy(text, "id = 1\ncluster = ");
    memset(text + strlen(text), 'x', 10000);
    write_file(text);
    assert_refused(load("--config", file_path, NULL), ":2: line is too long");
    remove_file();

    text[0] = '\0';
    for (int i = 0; i < 60; i++) {
        (void)sprintf(text + strlen(text), "%shttp://a-rather-long-name-of-a-host-%d:9021",
                      i == 0 ? "cluster-key-file = key\ncluster = " : ",", i);
    }
    write_file(text);
    cr_assert_eq(load("--config", file_path, NULL), MS_OK, "%s", err.text);
    cr_assert_eq(ms_config_cluster_size(&config), 60);
}

Test(config, more_members_than_a_cluster_may_have_are_refused)
{
    char cluster[2000] = "http://h:1";

    for (int i = 2; i <= 65; i++) {
        (void)sprintf(cluster + strlen(cluster), ",http://h:%d", i);
    }
    assert_refused(load("--cluster", cluster, NULL), "--cluster");
}

Test(config, cluster_urls_are_split_and_checked)
{
    char url[64];

    cr_assert_eq(load("--cluster", "http://a:1,http://[::1]:2/,http://c-d.e_f:65535",
                      "--cluster-key-file", "key", NULL),
                 MS_OK, "%s", err.text);
    cr_assert_eq(ms_config_cluster_size(&config), 3);
    cr_assert_eq(ms_config_cluster_url(&config, 1, url, sizeof(url)), MS_OK);
    cr_assert_str_eq(url, "http://a:1");
    cr_assert_eq(ms_config_cluster_url(&config, 2, url, sizeof(url)), MS_OK);
    cr_assert_str_eq(url, "http://[::1]:2");
    cr_assert_eq(ms_config_cluster_url(&config, 4, url, sizeof(url)), MS_ENOENT);
    cr_assert_eq(ms_config_cluster_url(&config, 0, url, sizeof(url)), MS_ENOENT);
    cr_assert_eq(ms_config_cluster_url(&config, 1, url, 3), MS_EINVAL);
}

Test(config, peers_elsewhere_need_a_key)
{
    assert_refused(load("--cluster", "http://127.0.0.1:1,http://10.0.0.1:1", NULL),
                   "--cluster-key-file");
    assert_refused(load("--cluster", "http://10.0.0.1:1", NULL), "http://10.0.0.1:1");
    cr_assert_eq(load("--cluster", "http://localhost:1,http://[::1]:1", NULL), MS_OK);
    cr_assert_eq(load("--cluster", "http://10.0.0.1:1", "--cluster-key-file", "key", NULL), MS_OK);
}

Test(config, a_node_finds_its_own_url)
{
    static const char cluster[] = "http://[::1]:1,http://[::1]:2";
    char url[64];

    cr_assert_eq(load("--cluster", cluster, "--id", "2", NULL), MS_OK);
    cr_assert_eq(ms_config_own_url(&config, url, sizeof(url)), MS_OK);
    cr_assert_str_eq(url, "http://[::1]:2");
    cr_assert_eq(load("--cluster", cluster, "--id", "1", "--join", NULL), MS_OK);
    cr_assert_eq(ms_config_own_url(&config, url, sizeof(url)), MS_OK);
    cr_assert_str_eq(url, "http://[::1]:1");
    cr_assert_eq(load("--cluster", cluster, "--id", "4711", "--join", NULL), MS_OK);
    cr_assert_eq(ms_config_own_url(&config, url, sizeof(url)), MS_OK);
    cr_assert_str_eq(url, "http://[::1]:2");
}

Test(config, the_node_directory_is_absolute_and_plain)
{
    cr_assert_eq(load("--data-dir", "/srv//meta/./store/", "--id", "3", "--join", NULL), MS_OK);
    cr_assert_str_eq(config.node_dir, "/srv/meta/store/3");
    cr_assert_str_eq(config.admin_socket, "/srv/meta/store/3/admin.sock");
    cr_assert_eq(load("--data-dir", "/", "--admin-socket", "/run/x.sock", NULL), MS_OK);
    cr_assert_str_eq(config.node_dir, "/1");
    cr_assert_str_eq(config.admin_socket, "/run/x.sock");
}

Test(config, an_error_leaves_the_result_alone)
{
    cr_assert_eq(load("--port", "77", NULL), MS_OK);
    (void)load("--port", "78", "--id", "0", NULL);
    cr_assert_eq(config.port, 77);
}

Test(config, reload_changes_what_can_change_and_names_the_rest)
{
    char *argv[] = {(char *)"metastore", (char *)"--config", file_path};
    char fixed[MS_CONFIG_NAMES_BYTES] = "?";

    write_file("log-level = info\nport = 1\nhistory = 5\n");
    cr_assert_eq(load("--config", file_path, NULL), MS_OK);
    cr_assert_eq(ms_config_reload(3, argv, environment, &config, fixed, &err), MS_OK);
    cr_assert_str_eq(fixed, "");

    remove_file();
    {
        FILE *file = fopen(argv[2], "w");

        cr_assert_not_null(file);
        (void)fputs(
            "log-level = debug\nport = 2\nlisten = ::1\nhistory = 6\ntls-cert = c\ntls-key = k\n",
            file);
        (void)fclose(file);
    }
    cr_assert_eq(ms_config_reload(3, argv, environment, &config, fixed, &err), MS_OK, "%s",
                 err.text);
    cr_assert_str_eq(fixed, "port, listen, tls-cert, tls-key", "all of them");
    cr_assert_eq(config.log_level, MS_LOG_DEBUG);
    cr_assert_eq(config.history, 6);
    cr_assert_eq(config.port, 1);
    cr_assert_str_eq(config.tls_cert, "", "TLS cannot be switched on by a reload");
}

Test(config, reload_takes_new_certificate_files_and_refuses_mistakes)
{
    char *argv[] = {(char *)"metastore", (char *)"--tls-cert=c", (char *)"--tls-key=k"};
    char *bad[] = {(char *)"metastore", (char *)"--port=x"};
    char fixed[MS_CONFIG_NAMES_BYTES] = "?";

    cr_assert_eq(load("--tls-cert=a", "--tls-key=b", NULL), MS_OK);
    cr_assert_eq(ms_config_reload(3, argv, environment, &config, fixed, &err), MS_OK);
    cr_assert_str_eq(fixed, "");
    cr_assert_str_eq(config.tls_cert, "c");
    cr_assert_str_eq(config.tls_key, "k");
    cr_assert_eq(ms_config_reload(2, bad, environment, &config, fixed, &err), MS_EUSAGE);
    cr_assert_str_eq(config.tls_cert, "c");
}

Test(config, help_names_every_public_option_with_its_default)
{
    char text[8192];
    int len_bytes = ms_config_help(text, sizeof(text));

    cr_assert_gt(len_bytes, 0);
    cr_assert_lt(len_bytes, (int)sizeof(text));
    cr_assert_not_null(strstr(text, "--snapshot-catch-up-entries N"));
    cr_assert_not_null(strstr(text, "(default http://127.0.0.1:9021)"));
    cr_assert_null(strstr(text, "restart-intensity"));
    cr_assert_eq(ms_config_help(text, 10), len_bytes);
    cr_assert_eq(strlen(text), 9);
}

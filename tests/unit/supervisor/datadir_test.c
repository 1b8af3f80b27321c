/*
 * datadir: made, locked, and known to be this node's.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor/datadir.h"

static char base[256];
static struct ms_config config;

static int remove_one(const char *path, const struct stat *found, int type, struct FTW *walk)
{
    (void)found;
    (void)type;
    (void)walk;
    return remove(path);
}

static void set_up(void)
{
    const char *tmp = getenv("TMPDIR");

    (void)snprintf(base, sizeof(base), "%s/datadir_test.XXXXXX", tmp != NULL ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(base));
    memset(&config, 0, sizeof(config));
    config.id = 3;
    (void)snprintf(config.node_dir, sizeof(config.node_dir), "%s/a/b/3", base);
}

static void clean_up(void)
{
    (void)nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void write_identity(const char *text)
{
    char path[MS_CONFIG_PATH_BYTES + 16];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/identity", config.node_dir);
    file = fopen(path, "w");
    cr_assert_not_null(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

static void make(void)
{
    struct datadir d;
    struct ms_err err = {0};

    cr_assert_eq(datadir_open(&config, &d, &err), MS_OK, "%s", err.text);
    datadir_close(&d);
}

static void expect_refusal(int status, const char *part)
{
    struct datadir d;
    struct ms_err err = {0};

    cr_assert_eq(datadir_open(&config, &d, &err), status, "%s", err.text);
    cr_assert_not_null(strstr(err.text, part), "\"%s\" lacks \"%s\"", err.text, part);
}

TestSuite(datadir, .init = set_up, .fini = clean_up);

Test(datadir, is_made_with_parents_for_its_owner_alone)
{
    struct stat found;

    make();
    cr_assert_eq(stat(config.node_dir, &found), 0);
    cr_assert_eq(found.st_mode & 0777, 0700);
    make(); /* and once more */
}

/* A directory that is made anew is another one, whatever its name. */
Test(datadir, has_a_name_of_its_own_for_life)
{
    char path[MS_CONFIG_PATH_BYTES + 16];
    struct datadir d;
    struct ms_err err = {0};
    uint64_t first;

    cr_assert_eq(datadir_open(&config, &d, &err), MS_OK, "%s", err.text);
    first = d.data_id;
    cr_assert_neq(first, 0);
    datadir_close(&d);
    cr_assert_eq(datadir_open(&config, &d, &err), MS_OK, "%s", err.text);
    cr_assert_eq(d.data_id, first);
    datadir_close(&d);
    (void)snprintf(path, sizeof(path), "%s/identity", config.node_dir);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(datadir_open(&config, &d, &err), MS_OK, "%s", err.text);
    cr_assert_neq(d.data_id, first);
    datadir_close(&d);
}

Test(datadir, a_second_owner_is_refused_and_told_the_first)
{
    struct datadir d;
    struct ms_err err = {0};
    char part[64];

    cr_assert_eq(datadir_open(&config, &d, &err), MS_OK, "%s", err.text);
    (void)snprintf(part, sizeof(part), "is locked by pid %d", (int)getpid());
    expect_refusal(MS_EBUSY, part);
    expect_refusal(MS_EBUSY, config.node_dir);
    datadir_close(&d);
    make();
}

Test(datadir, contradictions_are_refused_with_both_values)
{
    make();
    config.id = 4;
    expect_refusal(MS_EINVAL, "belongs to --id 3, not to --id 4");
    config.id = 3;
    config.storage = MS_STORAGE_ROCKSDB;
    expect_refusal(MS_EINVAL, "made with --storage memory, not rocksdb");
    config.storage = MS_STORAGE_MEMORY;
    config.raft_log = MS_RAFT_LOG_ROCKSDB;
    expect_refusal(MS_EINVAL, "made with --raft-log wal, not rocksdb");
    config.raft_log = MS_RAFT_LOG_WAL;
    make();
}

Test(datadir, an_identity_that_is_not_understood_is_refused)
{
    static const struct {
        const char *text;
        const char *part;
    } cases[] = {
        {"", "format 0"},
        {"format = 1\n", "incomplete"},
        {"format = 1\nid = 3\nstorage = memory\n", "incomplete"},
        {"format = 1\nid = 3\nstorage = memory\nraft-log = wal\n", "incomplete"},
        {"format = 2\nid = 3\nstorage = memory\nraft-log = wal\n", "format 2"},
        {"format = 1\nid = three\n", "line 2"},
        {"format = 1\nid = -3\n", "line 2"},
        {"format = 1\nid = 99999999999999999999999\n", "line 2"},
        {"format = 1\nid = 3\ndata-id = 0000000000000000\n", "line 3"},
        {"format = 1\nid = 3\ndata-id = 5e0c1d3f92a7b84\n", "line 3"},
        {"format = 1\nid = 3\ndata-id = 5E0C1D3F92A7B846\n", "line 3"},
        {"format = 1\nid = 3\nstorage = aVeryLongNameOfAnEngine\n", "line 3"},
        {"format = 1\nid = 3\nstorage = \n", "line 3"},
        {"format = 1\ncolour = red\n", "line 2"},
        {"\x01\x02\x03", "line 1"},
    };

    make();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_identity(cases[i].text);
        expect_refusal(MS_ECORRUPT, cases[i].part);
        expect_refusal(MS_ECORRUPT, "identity");
    }
}

Test(datadir, an_identity_that_is_too_long_is_refused)
{
    char text[2048];

    make();
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    write_identity(text);
    expect_refusal(MS_ECORRUPT, "not an identity file");
}

Test(datadir, something_else_in_its_place_is_named)
{
    char path[MS_CONFIG_PATH_BYTES + 16];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/a", base);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    (void)close(fd);
    expect_refusal(MS_EIO, path);

    cr_assert_eq(unlink(path), 0);
    make();
    (void)snprintf(path, sizeof(path), "%s/lock", config.node_dir);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(mkdir(path, 0700), 0);
    expect_refusal(MS_EIO, config.node_dir);
}

Test(datadir, a_node_dir_that_is_a_file_is_named)
{
    int fd;

    (void)snprintf(config.node_dir, sizeof(config.node_dir), "%s/3", base);
    fd = open(config.node_dir, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    (void)close(fd);
    expect_refusal(MS_EIO, config.node_dir);
}

/* A crash between writing and renaming leaves the temporary file behind: it means nothing. */
Test(datadir, a_left_over_temporary_identity_is_ignored)
{
    char path[MS_CONFIG_PATH_BYTES + 16];
    FILE *file;

    make();
    (void)snprintf(path, sizeof(path), "%s/identity", config.node_dir);
    cr_assert_eq(unlink(path), 0);
    (void)snprintf(path, sizeof(path), "%s/identity.new", config.node_dir);
    file = fopen(path, "w");
    cr_assert_not_null(file);
    (void)fputs("format = 1\nid = 9", file);
    (void)fclose(file);
    make();
    make();
}

/* A supervisor that was killed leaves workers that are dying; they hold its lock until they are
 * dead. */
Test(datadir, workers_of_a_dead_supervisor_are_waited_for, .init = set_up, .fini = clean_up)
{
    struct datadir d;
    struct ms_err err = {0};
    siginfo_t info;
    pid_t supervisor = fork();

    if (supervisor == 0) {
        if (datadir_open(&config, &d, &err) != MS_OK) {
            _exit(1);
        }
        if (fork() == 0) { /* the worker: its dying takes a while */
            (void)poll(NULL, 0, 100);
        }
        _exit(0);
    }
    /* Ended, and not yet waited for: its number is still taken. */
    cr_assert_eq(waitid(P_PID, (id_t)supervisor, &info, WEXITED | WNOWAIT), 0);
    cr_assert_eq(info.si_status, 0);
    cr_assert_eq(datadir_open(&config, &d, &err), MS_OK, "%s", err.text);
    datadir_close(&d);
    cr_assert_eq(waitpid(supervisor, NULL, 0), supervisor);
}

/* A mark that survives, so that a log that is lost as a whole is missed. */
Test(datadir, remembers_that_it_is_in_use)
{
    struct datadir d;
    struct ms_err err = {0};
    uint64_t data_id;

    cr_assert_eq(datadir_open(&config, &d, &err), MS_OK, "%s", err.text);
    cr_assert_not(d.was_used);
    data_id = d.data_id;
    datadir_close(&d);
    cr_assert_eq(datadir_open(&config, &d, &err), MS_OK, "%s", err.text);
    cr_assert_not(d.was_used, "opening it is no use");
    cr_assert_eq(datadir_mark_used(&d, &config, &err), MS_OK, "%s", err.text);
    cr_assert_eq(datadir_mark_used(&d, &config, &err), MS_OK, "%s", err.text);
    datadir_close(&d);
    cr_assert_eq(datadir_open(&config, &d, &err), MS_OK, "%s", err.text);
    cr_assert(d.was_used);
    cr_assert_eq(d.data_id, data_id);
    datadir_close(&d);
}

/*
 * rocks_log: what is particular to the log store in RocksDB: torn, flipped, missing, foreign, full.
 */
#include <poll.h>
#include <sys/wait.h>

#include "storaged/rocks_log.h"
#include "tests/unit/storaged/store_fixture.h"

#define ENTRIES 20

static int open_log(const char *path, uint64_t reserve_bytes, struct log_store **out,
                    struct ms_err *err)
{
    const struct rocks_log_options options = {.directory = path,
                                              .batch_bytes = ROCKS_LOG_BATCH_BYTES_MIN,
                                              .reserve_bytes = reserve_bytes,
                                              .background_jobs = ROCKS_LOG_JOBS};

    return rocks_log_open(&options, out, err);
}

/*
 * Leaves a log of some entries, each in a batch of its own, as a crash would: the process that
 * wrote it does not close it, which would flush it. This process must not open it, for threads
 * do not survive a fork.
 */
static void leave_log(const char *path)
{
    pid_t child = fork();
    int status;

    cr_assert_geq(child, 0);
    if (child == 0) {
        struct log_store *store;
        char text[64];

        cr_assert_eq(open_log(path, 0, &store, NULL), MS_OK);
        for (raft_index i = 1; i <= ENTRIES; i++) {
            (void)snprintf(text, sizeof(text), "entry %d with some text to be damaged", (int)i);
            cr_assert_eq(fixture_put(store, i, 1, text), MS_OK);
            cr_assert_eq(fixture_sync(store, NULL), MS_OK);
        }
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The first file of the directory whose name ends so. */
static void find_file(const char *directory, const char *end, char path[FIXTURE_PATH_BYTES + 64])
{
    DIR *dir = opendir(directory);
    const struct dirent *file;
    bool found = false;

    cr_assert_not_null(dir);
    while (!found && (file = readdir(dir)) != NULL) {
        size_t len = strlen(file->d_name);
        struct stat st;

        (void)snprintf(path, FIXTURE_PATH_BYTES + 64, "%s/%.60s", directory, file->d_name);
        found = len >= strlen(end) && strcmp(file->d_name + len - strlen(end), end) == 0 &&
                stat(path, &st) == 0 && st.st_size > 0;
    }
    (void)closedir(dir);
    cr_assert(found, "no %s", end);
}

static off_t size_of(const char *path)
{
    struct stat st;

    cr_assert_eq(stat(path, &st), 0);
    return st.st_size;
}

/* Changes one byte of a file. */
static void flip(const char *path, off_t offset)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    cr_assert_geq(fd, 0);
    cr_assert_eq(pread(fd, &byte, 1, offset), 1);
    byte ^= 0x40;
    cr_assert_eq(pwrite(fd, &byte, 1, offset), 1);
    (void)close(fd);
}

/* A write that a crash cut short is as if it had never begun; all before it is there. */
Test(rocks_log, torn_end_is_cut)
{
    char path[FIXTURE_PATH_BYTES];
    char wal[FIXTURE_PATH_BYTES + 64];
    struct log_state state;
    struct log_store *store;
    struct ms_err err = {.status = MS_OK};

    fixture_make_dir(path);
    leave_log(path);
    find_file(path, ".log", wal);
    cr_assert_eq(truncate(wal, size_of(wal) - 3), 0);
    cr_assert_eq(open_log(path, 0, &store, &err), MS_OK, "%s", err.text);
    log_store_state(store, &state);
    cr_assert_eq(state.last_index, ENTRIES - 1);
    log_store_destroy(store);
    fixture_remove_dir(path);
}

Test(rocks_log, damage_before_the_end_is_an_error_that_says_where)
{
    char path[FIXTURE_PATH_BYTES];
    char wal[FIXTURE_PATH_BYTES + 64];
    struct log_store *store;
    struct ms_err err = {.status = MS_OK};

    fixture_make_dir(path);
    leave_log(path);
    find_file(path, ".log", wal);
    flip(wal, size_of(wal) / 2);
    cr_assert_eq(open_log(path, 0, &store, &err), MS_ECORRUPT, "%s", err.text);
    cr_assert_not_null(strstr(err.text, path), "%s", err.text);
    fixture_remove_dir(path);
}

/* The same for what was flushed into a table. */
Test(rocks_log, damaged_table_is_an_error_that_says_where)
{
    char path[FIXTURE_PATH_BYTES];
    char table[FIXTURE_PATH_BYTES + 64];
    struct log_store *store;
    struct ms_err err = {.status = MS_OK};

    fixture_make_dir(path);
    leave_log(path);
    cr_assert_eq(open_log(path, 0, &store, &err), MS_OK, "%s", err.text);
    log_store_destroy(store); /* recovery flushed it */
    find_file(path, ".sst", table);
    flip(table, 40);
    cr_assert_eq(open_log(path, 0, &store, &err), MS_ECORRUPT, "%s", err.text);
    cr_assert_not_null(strstr(err.text, path), "%s", err.text);
    cr_assert_eq(unlink(table), 0);
    cr_assert_eq(open_log(path, 0, &store, &err), MS_ECORRUPT, "%s", err.text);
    fixture_remove_dir(path);
}

/* The store says so before the disk is really full, and only that nothing goes on being staged. */
Test(rocks_log, full_disk_is_told_and_waited_for)
{
    char path[FIXTURE_PATH_BYTES];
    struct log_store *store;
    struct log_state state;
    struct pollfd wait;
    struct ms_err err = {.status = MS_OK};

    fixture_make_dir(path);
    cr_assert_eq(open_log(path, 0, &store, &err), MS_OK, "%s", err.text);
    for (raft_index i = 1; i <= 10; i++) {
        cr_assert_eq(fixture_put(store, i, 1, "text"), MS_OK);
    }
    cr_assert_eq(log_store_sync(store, NULL), MS_OK);
    cr_assert_not(log_store_is_full(store, NULL));
    log_store_destroy(store);

    cr_assert_eq(open_log(path, UINT64_MAX / 2, &store, &err), MS_OK, "%s", err.text);
    cr_assert(log_store_is_full(store, &err));
    cr_assert_not_null(strstr(err.text, path), "%s", err.text);
    cr_assert_eq(fixture_put(store, 11, 1, "text"), MS_OK);
    cr_assert_eq(log_store_sync(store, NULL), MS_EAGAIN);
    wait = (struct pollfd){.fd = log_store_event_fd(store), .events = POLLIN};
    cr_assert_eq(poll(&wait, 1, 10000), 1, "nobody says when to try again");
    log_store_service(store);
    cr_assert_eq(poll(&wait, 1, 10000), 1, "nobody looks again");
    cr_assert_eq(log_store_sync(store, NULL), MS_EAGAIN);
    /* What makes room is not held back. */
    cr_assert_eq(log_store_set_snapshot(store, 10, 1, NULL), MS_OK);
    cr_assert_eq(log_store_compact(store, 9, NULL), MS_OK);
    log_store_state(store, &state);
    cr_assert_eq(state.first_index, 10);
    cr_assert_eq(state.last_index, 10);
    log_store_destroy(store);
    fixture_remove_dir(path);
}

Test(rocks_log, second_opening_is_refused)
{
    char path[FIXTURE_PATH_BYTES];
    struct log_store *second;
    struct log_store *store;
    struct ms_err err = {.status = MS_OK};

    fixture_make_dir(path);
    cr_assert_eq(open_log(path, 0, &store, &err), MS_OK, "%s", err.text);
    cr_assert_eq(open_log(path, 0, &second, &err), MS_EBUSY, "%s", err.text);
    log_store_destroy(store);
    fixture_remove_dir(path);
}

Test(rocks_log, batches_are_bounded)
{
    static const uint8_t data[ROCKS_LOG_BATCH_BYTES_MIN];
    struct log_entry entry = {.index = 1, .term = 1, .data = data, .data_bytes = sizeof(data)};
    char path[FIXTURE_PATH_BYTES];
    struct log_store *store;

    fixture_make_dir(path);
    cr_assert_eq(open_log(path, 0, &store, NULL), MS_OK);
    cr_assert_eq(log_store_append(store, &entry, 1, NULL, NULL), MS_ERANGE);
    entry.data_bytes = sizeof(data) / 2;
    cr_assert_eq(log_store_append(store, &entry, 1, NULL, NULL), MS_OK);
    entry.index = 2;
    cr_assert_eq(log_store_append(store, &entry, 1, NULL, NULL), MS_EAGAIN);
    cr_assert_eq(log_store_sync(store, NULL), MS_OK);
    cr_assert_eq(log_store_append(store, &entry, 1, NULL, NULL), MS_OK);
    log_store_destroy(store);
    fixture_remove_dir(path);
}

/* A configuration goes with its entry; an installed one stays. */
Test(rocks_log, configurations_go_with_their_entries)
{
    const struct log_store_install install = {.index = 50,
                                              .term = 3,
                                              .hard_state = {.term = 3, .commit = 50},
                                              .conf = (const uint8_t *)"far",
                                              .conf_bytes = 3};
    char path[FIXTURE_PATH_BYTES];
    struct log_store *store;
    struct log_state state;
    uint8_t conf[16];
    size_t conf_bytes = 0;
    raft_index index = 0;

    fixture_make_dir(path);
    cr_assert_eq(open_log(path, 0, &store, NULL), MS_OK);
    for (raft_index i = 1; i <= 5; i++) {
        cr_assert_eq(fixture_put(store, i, 1, "e"), MS_OK);
    }
    cr_assert_eq(log_store_put_conf(store, 2, (const uint8_t *)"two", 3, NULL), MS_OK);
    cr_assert_eq(log_store_put_conf(store, 5, (const uint8_t *)"five", 4, NULL), MS_OK);
    cr_assert_eq(fixture_put(store, 4, 2, "f"), MS_OK);
    cr_assert_eq(log_store_install(store, &install, NULL), MS_EBUSY);
    cr_assert_eq(fixture_sync(store, NULL), MS_OK);
    cr_assert_eq(log_store_conf(store, 9, conf, 16, &conf_bytes, &index, NULL), MS_OK);
    cr_assert_eq(index, 2);
    cr_assert_eq(log_store_install(store, &install, NULL), MS_OK);
    for (int i = 0; i < 2; i++) {
        log_store_state(store, &state);
        cr_assert_eq(state.first_index, 51);
        cr_assert_eq(state.last_index, 50);
        cr_assert_eq(state.last_term, 3);
        cr_assert_eq(state.hard_state.commit, 50);
        cr_assert_eq(log_store_conf(store, 99, conf, 16, &conf_bytes, &index, NULL), MS_OK);
        cr_assert_eq(index, 50);
        cr_assert_arr_eq(conf, "far", 3);
        log_store_destroy(store);
        cr_assert_eq(open_log(path, 0, &store, NULL), MS_OK);
    }
    log_store_destroy(store);
    fixture_remove_dir(path);
}

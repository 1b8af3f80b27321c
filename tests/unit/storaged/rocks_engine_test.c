/*
 * rocks_engine: what is particular to the engine in RocksDB: what a crash leaves, what is refused.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/unit/storaged/store_of_engine.h"

/* What a process that opened the engine tells of it. */
struct finding {
    struct ms_memdb_meta meta;
    uint64_t hashes[4];
    raft_index durable;
};

static void look_at(struct engine *engine, struct finding *out)
{
    struct engine_stats stats;

    memset(out, 0, sizeof(*out));
    engine_meta(engine, &out->meta);
    engine_stats(engine, &stats);
    out->durable = stats.durable_applied;
    for (uint64_t i = 0; i < 4 && i * 30 < out->meta.revision; i++) {
        MUST(engine_hash(engine, out->meta.revision - i * 30, &out->hashes[i], err));
    }
}

/* Runs until it is killed; tells what is durable whenever it has moved. */
static void write_until_killed(const char *dir, int durable_fd)
{
    raft_index told = 0;
    struct engine_stats stats;
    struct engine *engine;
    struct apply *apply;
    bool more;

    if (rocks_kind.open(dir, &engine, NULL) != MS_OK) {
        MUST(rocks_kind.create(dir, &engine, err));
    }
    MUST(apply_create(engine, &apply, err));
    for (uint64_t i = 1;; i++) {
        apply_numbered(engine, apply);
        MUST(engine_compact_step(engine, 20, &more, err));
        if (i % 40 == 0) {
            MUST(engine_tick(engine, err));
            engine_stats(engine, &stats);
        }
        if (i % 40 == 0 && stats.durable_applied > told) {
            told = stats.durable_applied;
            cr_assert_eq(write(durable_fd, &told, sizeof(told)), sizeof(told));
        }
        if (i % 500 == 0) {
            MUST(engine_flush(engine, err));
        }
    }
}

/* In a process of its own, for the threads of an open database do not survive a fork. */
static struct finding found_in(const char *dir)
{
    struct finding finding;
    int fds[2];
    int status;
    pid_t child;

    cr_assert_eq(pipe(fds), 0);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        struct engine *engine;

        MUST(rocks_kind.open(dir, &engine, err));
        look_at(engine, &finding);
        (void)history_length(engine); /* index and history fit together */
        engine_close(engine);
        cr_assert_eq(write(fds[1], &finding, sizeof(finding)), sizeof(finding));
        _exit(0);
    }
    (void)close(fds[1]);
    cr_assert_eq(read(fds[0], &finding, sizeof(finding)), sizeof(finding),
                 "the store is not sound");
    (void)close(fds[0]);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return finding;
}

/* The highest index that the writer said to be durable before it was killed. */
static raft_index kill_writer(const char *dir, struct fixture_random *random)
{
    raft_index durable = 0;
    size_t wanted = 1 + fixture_below(random, 3);
    int fds[2];
    int status;
    pid_t child;

    cr_assert_eq(pipe(fds), 0);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        (void)close(fds[0]);
        write_until_killed(dir, fds[1]);
        _exit(1);
    }
    (void)close(fds[1]);
    for (size_t i = 0; i < wanted; i++) {
        cr_assert_eq(read(fds[0], &durable, sizeof(durable)), sizeof(durable));
    }
    (void)usleep((useconds_t)fixture_below(random, 20000)); /* somewhere in its work */
    cr_assert_eq(kill(child, SIGKILL), 0);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status), "the writer failed by itself");
    while (read(fds[0], &durable, sizeof(durable)) == sizeof(durable)) {
    }
    (void)close(fds[0]);
    return durable;
}

/*
 * SIGKILL at any moment leaves the state of one commit, not older than what was said to be durable,
 * the same in all families: that of a store in which the same entries were applied undisturbed.
 */
Test(rocks_engine, killed_writer_leaves_a_whole_commit_and_what_was_durable)
{
    struct store calm = {0};
    struct ms_memdb_meta now;
    char dir[300];

    store_init(&calm, &memory_kind, "killed_writer_leaves_a_whole_commit_and_what_was_durable");
    (void)snprintf(dir, sizeof(dir), "%s/rocks", calm.dir);
    for (size_t round = 0; round < 12; round++) {
        raft_index durable = kill_writer(dir, &calm.random);
        struct finding found = found_in(dir);
        struct finding expected;

        cr_assert_geq(found.meta.applied, durable);
        cr_assert_geq(found.durable, durable);
        for (engine_meta(calm.engine, &now); now.applied < found.meta.applied;
             engine_meta(calm.engine, &now)) {
            apply_numbered(calm.engine, calm.apply);
        }
        look_at(calm.engine, &expected);
        cr_assert_eq(memcmp(&found.meta, &expected.meta, sizeof(found.meta)), 0);
        cr_assert_arr_eq(found.hashes, expected.hashes, sizeof(found.hashes));
    }
    store_fini(&calm);
}

/* An orderly end leaves everything, flushed or not; a flush shows in a later tick. */
Test(rocks_engine, flushes_make_what_was_applied_durable)
{
    struct store store = {0};
    struct engine_stats stats;
    struct ms_memdb_meta meta;

    store_init(&store, &rocks_kind, "flushes_make_what_was_applied_durable");
    apply_random_batch(&store, 10);
    MUST(engine_tick(store.engine, err));
    engine_stats(store.engine, &stats);
    cr_assert_eq(stats.durable_applied, 0);
    MUST(engine_flush(store.engine, err));
    for (int i = 0; i < 1000 && stats.durable_applied < 10; i++) {
        (void)usleep(10000);
        MUST(engine_tick(store.engine, err));
        engine_stats(store.engine, &stats);
    }
    cr_assert_eq(stats.durable_applied, 10);
    apply_random_batch(&store, 5);
    store_reopen(&store);
    engine_meta(store.engine, &meta);
    cr_assert_eq(meta.applied, 15);
    engine_stats(store.engine, &stats);
    cr_assert_eq(stats.durable_applied, 15);
    store_fini(&store);
}

/* The engine asks for flushes itself, by number of entries. */
Test(rocks_engine, enough_entries_are_flushed_unasked)
{
    struct rocks_engine_options options;
    struct engine_stats stats = {0};
    struct engine *engine;
    struct apply *apply;
    char dir[256];

    fixture_make_dir(dir);
    options = rocks_test_options(dir);
    options.flush_entries = 100;
    MUST(rocks_engine_create(&options, &engine, err));
    MUST(apply_create(engine, &apply, err));
    for (int i = 0; i < 120; i++) {
        apply_numbered(engine, apply);
    }
    for (int i = 0; i < 1000 && stats.durable_applied < 120; i++) {
        MUST(engine_tick(engine, err));
        engine_stats(engine, &stats);
        (void)usleep(10000);
    }
    cr_assert_eq(stats.durable_applied, 120);
    apply_destroy(apply);
    engine_close(engine);
    fixture_remove_dir(dir);
}

/* Changes one byte early in every table. */
static void damage_tables(const char *dir)
{
    DIR *tables = opendir(dir);
    const struct dirent *file;
    int damaged = 0;

    cr_assert_not_null(tables);
    while ((file = readdir(tables)) != NULL) {
        const char *end = strrchr(file->d_name, '.');
        int fd;

        if (end == NULL || strcmp(end, ".sst") != 0) {
            continue;
        }
        fd = openat(dirfd(tables), file->d_name, O_WRONLY | O_CLOEXEC);
        cr_assert_geq(fd, 0);
        cr_assert_eq(pwrite(fd, "\xff", 1, 30), 1);
        (void)close(fd);
        damaged++;
    }
    (void)closedir(tables);
    cr_assert_gt(damaged, 0);
}

Test(rocks_engine, what_is_no_finished_store_is_refused)
{
    const struct rocks_engine_options other = {.directory = "/proc/none/here"};
    struct engine *engine = NULL;
    struct engine *second = NULL;
    struct engine_sink sink;
    struct ms_err err_text = {0};
    uint64_t hash;
    char dir[256];
    int rc;

    fixture_make_dir(dir);
    cr_assert_eq(rocks_kind.open(dir, &engine, NULL), MS_ENOENT);
    cr_assert_neq(rocks_engine_open(&other, &engine, NULL), MS_OK);
    MUST(rocks_kind.create(dir, &engine, err));
    cr_assert_eq(rocks_kind.open(dir, &second, NULL), MS_EBUSY);
    MUST(engine_install_begin(engine, &sink, err));
    MUST(sink.record(sink.ctx, (const uint8_t *)"n", 1, (const uint8_t *)"v", 1, err));
    engine_close(engine);
    cr_assert_eq(rocks_kind.open(dir, &engine, NULL), MS_ENOENT);
    fixture_remove_dir(dir);

    fixture_make_dir(dir);
    MUST(rocks_kind.create(dir, &engine, err));
    {
        struct apply *apply;

        MUST(apply_create(engine, &apply, err));
        for (int i = 0; i < 200; i++) {
            apply_numbered(engine, apply);
        }
        apply_destroy(apply);
    }
    engine_close(engine);
    cr_assert_eq(rocks_kind.create(dir, &engine, NULL), MS_EEXIST);
    damage_tables(dir);
    rc = rocks_kind.open(dir, &engine, &err_text);
    if (rc == MS_OK) {
        rc = engine_hash(engine, 0, &hash, &err_text);
        engine_close(engine);
    }
    cr_assert_eq(rc, MS_ECORRUPT, "%s", err_text.text);
    cr_assert_not_null(strstr(err_text.text, dir), "%s", err_text.text);
    fixture_remove_dir(dir);
}

/* A file system with little room shows as memory_full, and later as a status. */
Test(rocks_engine, lack_of_room_is_a_status)
{
    const struct engine_volume volume = {.operations = 1, .bytes = 100};
    struct rocks_engine_options options;
    struct engine_stats stats;
    struct engine *engine;
    char dir[256];

    fixture_make_dir(dir);
    options = rocks_test_options(dir);
    options.reserve_bytes = UINT64_MAX / 2;
    MUST(rocks_engine_create(&options, &engine, err));
    engine_stats(engine, &stats);
    cr_assert(stats.memory_full);
    cr_assert_eq(engine_begin(engine, &volume, NULL), MS_ENOSPC);
    engine_close(engine);
    fixture_remove_dir(dir);
}

Test(rocks_engine, tuning_changes_while_it_is_open)
{
    const struct rocks_tuning tuning = {.cache_bytes = UINT64_C(32) << 20,
                                        .write_buffer_bytes = UINT64_C(4) << 20};
    struct rocks_stats stats;
    struct store store = {0};

    store_init(&store, &rocks_kind, "tuning_changes_while_it_is_open");
    apply_random_batch(&store, 60);
    MUST(rocks_engine_retune(store.engine, &tuning, err));
    apply_random_batch(&store, 60);
    rocks_engine_library_stats(store.engine, &stats);
    cr_assert_gt(stats.write_buffer_bytes, 0);
    cr_assert_eq(stats.background_errors, 0);
    store_fini(&store);
}

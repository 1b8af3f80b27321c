/*
 * memory_test: the memory engine against SIGKILL, against a bound, and with readers beside it.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/memdb.h"
#include "tests/unit/storaged/store_of_engine.h"

/* Tells begun_fd when it is about to start. */
static void write_until_killed(const char *dir, int begun_fd)
{
    struct engine *engine;
    struct apply *apply;
    bool more;

    MUST(memory_engine_open(dir, FIXTURE_LIMIT_BYTES, &engine, err));
    MUST(apply_create(engine, &apply, err));
    cr_assert_eq(write(begun_fd, "b", 1), 1);
    for (;;) {
        apply_numbered(engine, apply);
        MUST(engine_compact_step(engine, 20, &more, err));
    }
}

/*
 * SIGKILL at any moment leaves exactly the commits that were made: the state is that of a store in
 * which the same entries were applied without disturbance.
 */
Test(memory, killed_writer_leaves_whole_commits)
{
    struct store killed = {0};
    struct store calm = {0};
    struct ms_memdb_meta meta = {0};
    int begun[2];

    cr_assert_eq(pipe(begun), 0);
    store_init(&killed, &memory_kind, "killed_writer_leaves_whole_commits");
    store_close(&killed);
    store_init(&calm, &memory_kind, "killed_writer_leaves_whole_commits, undisturbed");
    for (size_t round = 0; round < 25; round++) {
        pid_t child = fork();
        struct ms_memdb_meta now;
        uint64_t left = 0;
        uint64_t right = 1;
        char byte;
        int status;

        cr_assert_geq(child, 0);
        if (child == 0) {
            write_until_killed(killed.dir, begun[1]);
            _exit(1);
        }
        cr_assert_eq(read(begun[0], &byte, 1), 1);
        (void)usleep((useconds_t)fixture_below(&killed.random, 20000)); /* somewhere in its work */
        cr_assert_eq(kill(child, SIGKILL), 0);
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFSIGNALED(status));
        MUST(memory_engine_open(killed.dir, FIXTURE_LIMIT_BYTES, &killed.engine, err));
        MUST(apply_create(killed.engine, &killed.apply, err));
        engine_meta(killed.engine, &meta);
        for (engine_meta(calm.engine, &now); now.applied < meta.applied;
             engine_meta(calm.engine, &now)) {
            apply_numbered(calm.engine, calm.apply);
        }
        cr_assert_eq(memcmp(&now, &meta, sizeof(now)), 0);
        for (uint64_t back = 0; back < 100 && back < now.revision; back += 25) {
            MUST(engine_hash(killed.engine, now.revision - back, &left, err));
            MUST(engine_hash(calm.engine, now.revision - back, &right, err));
            cr_assert_eq(left, right);
        }
        (void)history_length(killed.engine);
        store_close(&killed);
    }
    cr_assert_gt(meta.applied, 25, "the writer hardly got to write");
    (void)close(begun[0]);
    (void)close(begun[1]);
    store_fini(&calm);
    store_fini(&killed);
}

/* Another process, as apid is, sees only whole commits while they are made. */
Test(memory, readers_in_other_processes_see_whole_commits)
{
    struct store store = {0};
    pid_t child;
    int status;

    store_init(&store, &memory_kind, "readers_in_other_processes_see_whole_commits");
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        struct ms_memdb_read *read = NULL;
        struct ms_memdb *db = NULL;
        struct ms_memdb_meta meta = {0};

        MUST(ms_memdb_open(store.dir, &db, err));
        MUST(ms_memdb_read_create(db, &read, err));
        /* Each batch writes both keys: their revisions follow each other in every commit. */
        while (meta.revision < 2001) {
            struct ms_memdb_kv a;
            struct ms_memdb_kv b;

            MUST(ms_memdb_read_begin(read));
            MUST(ms_memdb_read_meta(read, &meta));
            if (meta.revision > 1) {
                MUST(ms_memdb_get(read, (const uint8_t *)"a", 1, 0, &a));
                MUST(ms_memdb_get(read, (const uint8_t *)"b", 1, 0, &b));
                cr_assert_eq(a.mod_revision + 1, b.mod_revision);
                cr_assert_eq(b.mod_revision, meta.revision);
                cr_assert_eq(a.version, b.version);
            }
            ms_memdb_read_end(read);
        }
        ms_memdb_read_destroy(read);
        ms_memdb_close(db);
        _exit(0);
    }
    for (raft_index index = 1; index <= 2000; index += 2) {
        struct apply_entry entries[2];
        struct apply_result results[2];
        size_t count;

        for (size_t i = 0; i < 2; i++) {
            const struct ms_command command = {
                .kind = MS_COMMAND_PUT,
                .key = (const uint8_t *)(i == 0 ? "a" : "b"),
                .key_bytes = 1,
                .value = (const uint8_t *)"v",
                .value_bytes = 1,
            };

            entries[i] = fixture_entry(index + i, &command);
        }
        MUST(apply_entries(store.apply, entries, 2, results, &count, err));
        fixture_free_entry(&entries[0]);
        fixture_free_entry(&entries[1]);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    store_fini(&store);
}

/* What a dead reader pinned is freed by the next tick. */
Test(memory, dead_readers_are_cleared)
{
    struct store store = {0};
    struct engine_stats before;
    struct engine_stats after;
    pid_t child;
    int pipe_fds[2];
    char byte;
    int status;

    store_init(&store, &memory_kind, "dead_readers_are_cleared");
    apply_random_batch(&store, 64);
    cr_assert_eq(pipe(pipe_fds), 0);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        struct ms_memdb_read *read = NULL;
        struct ms_memdb *db = NULL;

        MUST(ms_memdb_open(store.dir, &db, err));
        MUST(ms_memdb_read_create(db, &read, err));
        MUST(ms_memdb_read_begin(read));
        cr_assert_eq(write(pipe_fds[1], "r", 1), 1);
        (void)pause();
        _exit(1);
    }
    cr_assert_eq(read(pipe_fds[0], &byte, 1), 1);
    cr_assert_eq(kill(child, SIGKILL), 0);
    cr_assert_eq(waitpid(child, &status, 0), child);
    MUST(engine_tick(store.engine, err));
    for (size_t i = 0; i < 20; i++) {
        apply_random_batch(&store, 1);
    }
    MUST(engine_tick(store.engine, err));
    engine_stats(store.engine, &before);
    for (size_t i = 0; i < 200; i++) {
        const struct ms_command command = {
            .kind = MS_COMMAND_DELETE, .key = (const uint8_t *)"absent", .key_bytes = 6};

        (void)fixture_apply(store.engine, store.apply, &command);
    }
    MUST(engine_tick(store.engine, err));
    engine_stats(store.engine, &after);
    cr_assert_leq(after.used_bytes, before.used_bytes + 16 * 4096,
                  "freed pages are not used again");
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
    store_fini(&store);
}

static void put_numbered(struct engine *engine, struct apply *apply, uint64_t n, size_t bytes)
{
    static const uint8_t value[65536];
    char key[32];
    const struct ms_command command = {
        .kind = MS_COMMAND_PUT,
        .key = (const uint8_t *)key,
        .key_bytes = (size_t)snprintf(key, sizeof(key), "key-%llu", (unsigned long long)n),
        .value = value,
        .value_bytes = bytes,
    };

    (void)fixture_apply(engine, apply, &command);
}

static void delete_numbered(struct engine *engine, struct apply *apply, uint64_t n)
{
    char key[32];
    const struct ms_command command = {
        .kind = MS_COMMAND_DELETE,
        .key = (const uint8_t *)key,
        .key_bytes = (size_t)snprintf(key, sizeof(key), "key-%llu", (unsigned long long)n),
    };

    (void)fixture_apply(engine, apply, &command);
}

/* Past the limit the store says so and goes on working; deletes and compaction make room again. */
Test(memory, limit_is_reported_and_recovered_from)
{
    struct engine_stats stats = {0};
    struct ms_memdb_meta meta;
    struct engine *engine;
    struct apply *apply;
    char dir[256];
    uint64_t n = 0;

    fixture_make_dir(dir);
    MUST(memory_engine_create(dir, UINT64_C(4) << 20, &engine, err));
    MUST(apply_create(engine, &apply, err));
    for (; !stats.memory_full; n++) {
        cr_assert_lt(n, 10000);
        put_numbered(engine, apply, n, 1000);
        engine_stats(engine, &stats);
    }
    cr_assert_gt(stats.used_bytes, UINT64_C(4) << 20);
    cr_assert_lt(stats.used_bytes, UINT64_C(5) << 20);
    /* What was accepted before still gets in. */
    for (uint64_t i = 0; i < 1000; i++) {
        put_numbered(engine, apply, n + i, 1000);
    }
    for (uint64_t i = 0; i < n; i++) {
        delete_numbered(engine, apply, i);
    }
    engine_meta(engine, &meta);
    (void)fixture_apply(
        engine, apply, &(struct ms_command){.kind = MS_COMMAND_COMPACT, .revision = meta.revision});
    for (bool more = true; more;) {
        MUST(engine_compact_step(engine, 200, &more, err));
    }
    MUST(engine_tick(engine, err));
    engine_stats(engine, &stats);
    cr_assert(!stats.memory_full, "%llu bytes are used", (unsigned long long)stats.used_bytes);
    apply_destroy(apply);
    engine_close(engine);
    fixture_remove_dir(dir);
}

/* A file system that gives no more room shows as memory_full, then as a status; never as SIGBUS. */
Test(memory, exhausted_file_system_is_a_status)
{
    pid_t child = fork();
    int status;

    cr_assert_geq(child, 0);
    if (child == 0) {
        const struct rlimit file = {UINT64_C(24) << 20, UINT64_C(24) << 20};
        struct engine_stats stats = {0};
        struct ms_memdb_meta meta;
        struct engine *engine;
        struct apply *apply;
        struct ms_err cause = {0};
        char dir[256];
        uint64_t n = 0;
        int rc = MS_OK;

        fixture_make_dir(dir);
        cr_assert_neq(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &file), 0);
        MUST(memory_engine_create(dir, UINT64_C(1) << 30, &engine, err));
        MUST(apply_create(engine, &apply, err));
        for (; rc == MS_OK; n++) {
            static const uint8_t value[65536];
            struct ms_command command = {
                .kind = MS_COMMAND_PUT,
                .key = (const uint8_t *)&n,
                .key_bytes = sizeof(n),
                .value = value,
                .value_bytes = 20000,
            };
            struct apply_entry entry = fixture_entry(n + 1, &command);
            struct apply_result result;
            size_t count;

            cr_assert_lt(n, 10000);
            rc = apply_entries(apply, &entry, 1, &result, &count, &cause);
            engine_stats(engine, &stats);
            fixture_free_entry(&entry);
        }
        cr_assert_eq(rc, MS_ENOSPC, "%s", cause.text);
        cr_assert(stats.memory_full);
        engine_meta(engine, &meta);
        cr_assert_eq(meta.applied, n - 1);
        cr_assert_eq(meta.keys, n - 1);
        apply_destroy(apply);
        engine_close(engine);
        fixture_remove_dir(dir);
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
}

/* What is not a finished store is refused, each with its own status. */
Test(memory, unfinished_and_foreign_files_are_refused)
{
    struct engine *engine = NULL;
    struct engine_sink sink;
    char dir[256];
    char path[300];
    int fd;

    fixture_make_dir(dir);
    cr_assert_eq(memory_engine_open(dir, FIXTURE_LIMIT_BYTES, &engine, NULL), MS_ENOENT);
    MUST(memory_engine_create(dir, FIXTURE_LIMIT_BYTES, &engine, err));
    MUST(engine_install_begin(engine, &sink, err));
    engine_close(engine);
    cr_assert_eq(memory_engine_open(dir, FIXTURE_LIMIT_BYTES, &engine, NULL), MS_ENOENT);
    (void)snprintf(path, sizeof(path), "%s/data.mdb", dir);
    fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    for (off_t page = 0; page < 2; page++) {
        cr_assert_eq(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, page * 4096 + 16), 8);
    }
    (void)close(fd);
    cr_assert_eq(memory_engine_open(dir, FIXTURE_LIMIT_BYTES, &engine, NULL), MS_ECORRUPT);
    fixture_remove_dir(dir);
}

/*
 * snapshot_test: out of one engine and into another, through files that are whole, cut or damaged.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "storaged/snapshot_files.h"
#include "storaged/snapshot_job.h"
#include "storaged/snapshot_reader.h"
#include "tests/unit/storaged/engine_fixture.h"

#define KEYS 400

struct world {
    char dir[256];
    char memory[280];
    char copy[280];
    char snap[280];
    struct engine *engine;
    struct apply *apply;
    struct snapshot_files *files;
    struct fixture_random random;
};

static void world_init(struct world *world, const char *test)
{
    *world = (struct world){.random = fixture_random_init(test)};
    fixture_make_dir(world->dir);
    (void)snprintf(world->memory, sizeof(world->memory), "%s/memory", world->dir);
    (void)snprintf(world->copy, sizeof(world->copy), "%s/copy", world->dir);
    (void)snprintf(world->snap, sizeof(world->snap), "%s/snap", world->dir);
    cr_assert_eq(mkdir(world->memory, 0700), 0);
    MUST(memory_engine_create(world->memory, FIXTURE_LIMIT_BYTES, &world->engine, err));
    MUST(apply_create(world->engine, &world->apply, err));
    MUST(snapshot_files_open(world->snap, &world->files, err));
}

static void world_fini(struct world *world)
{
    snapshot_files_close(world->files);
    apply_destroy(world->apply);
    engine_close(world->engine);
    fixture_remove_dir(world->dir);
}

static void write_some(struct world *world, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t seed = fixture_next(&world->random) | 1;
        static uint8_t value[16384];
        static struct fixture_key key;
        struct ms_memdb_meta meta;
        struct ms_command command;

        engine_meta(world->engine, &meta);
        fixture_key_of(fixture_below(&world->random, KEYS), &key);
        command = (struct ms_command){
            .id = {.origin = 1 + seed % 5, .seq = meta.applied + 1},
            .ack_seq = meta.applied / 2,
            .kind = seed % 5 == 0 ? MS_COMMAND_DELETE : MS_COMMAND_PUT,
            .key = key.data,
            .key_bytes = key.bytes,
            .value = value,
        };
        command.value_bytes = command.kind == MS_COMMAND_PUT ? model_value(seed, value) : 0;
        (void)fixture_apply(world->engine, world->apply, &command);
    }
}

static void compact_to(struct world *world, uint64_t revision, size_t steps)
{
    bool more;

    (void)fixture_apply(world->engine, world->apply,
                        &(struct ms_command){.kind = MS_COMMAND_COMPACT, .revision = revision});
    for (size_t i = 0; i < steps; i++) {
        MUST(engine_compact_step(world->engine, 50, &more, err));
    }
}

static void set_conf(struct world *world)
{
    struct ms_conf_state conf = {.member_count = 1};
    uint8_t data[MS_CONF_STATE_BYTES_MAX];
    struct ms_memdb_meta meta;
    struct apply_result result;
    struct apply_entry entry;
    size_t count;

    conf.members[0].id = 42;
    conf.members[0].flags = MS_CONF_VOTER;
    ms_conf_state_encode(&conf, data);
    engine_meta(world->engine, &meta);
    MUST(apply_conf(world->apply, meta.applied + 1, data, ms_conf_state_encoded_bytes(&conf), err));
    entry =
        (struct apply_entry){.index = meta.applied + 1, .term = 1, .type = MS_ENTRY_CONF_CHANGE_V2};
    MUST(apply_entries(world->apply, &entry, 1, &result, &count, err));
}

static struct snapshot_file take_snapshot(struct world *world)
{
    struct engine_snapshot *snapshot;
    struct snapshot_file file;

    MUST(engine_snapshot_begin(world->engine, &snapshot, err));
    MUST(snapshot_files_write(world->files, world->engine, snapshot, NULL, &file, err));
    engine_snapshot_end(world->engine, snapshot);
    MUST(snapshot_files_add(world->files, &file, err));
    return file;
}

static int install(struct world *world, const struct snapshot_file *file, struct engine **copy,
                   struct ms_err *cause)
{
    static struct engine_snapshot_info info;
    int rc;

    fixture_remove_dir(world->copy);
    cr_assert_eq(mkdir(world->copy, 0700), 0);
    MUST(memory_engine_create(world->copy, FIXTURE_LIMIT_BYTES, copy, err));
    rc = snapshot_files_load(world->files, file, *copy, NULL, &info, cause);
    if (rc != MS_OK) {
        engine_close(*copy);
        *copy = NULL;
    }
    return rc;
}

static int hash_record(void *ctx, const uint8_t *name, size_t name_bytes, const uint8_t *value,
                       size_t value_bytes, struct ms_err *err)
{
    uint64_t *hash = ctx;

    (void)err;
    for (size_t i = 0; i < name_bytes; i++) {
        *hash = *hash * 31 + name[i];
    }
    for (size_t i = 0; i < value_bytes; i++) {
        *hash = *hash * 31 + value[i];
    }
    return MS_OK;
}

/* Equal at every readable revision up to one, in records, and in the configuration. */
static void expect_equal(struct engine *a, struct engine *b, uint64_t revision)
{
    static uint8_t conf_a[MS_CONF_STATE_BYTES_MAX];
    static uint8_t conf_b[MS_CONF_STATE_BYTES_MAX];
    struct ms_memdb_meta meta;
    uint64_t records_a = 0;
    uint64_t records_b = 0;
    size_t bytes_a;
    size_t bytes_b;

    engine_meta(b, &meta);
    for (uint64_t at = meta.compact_revision + 1; at <= revision; at += 13) {
        uint64_t left = 0;
        uint64_t right = 1;

        MUST(engine_hash(a, at, &left, err));
        MUST(engine_hash(b, at, &right, err));
        cr_assert_eq(left, right, "at revision %llu", (unsigned long long)at);
    }
    MUST(engine_conf(a, conf_a, &bytes_a, err));
    MUST(engine_conf(b, conf_b, &bytes_b, err));
    cr_assert_eq(bytes_a, bytes_b);
    cr_assert_eq(memcmp(conf_a, conf_b, bytes_a), 0);
    MUST(engine_records(a, hash_record, &records_a, err));
    MUST(engine_records(b, hash_record, &records_b, err));
    cr_assert_eq(records_a, records_b);
}

/* A copy is the original: data, history, answers, configuration; and it goes on like it. */
Test(snapshot, copy_equals_the_original)
{
    struct world world;
    struct snapshot_file file;
    struct ms_memdb_meta left;
    struct ms_memdb_meta right;
    struct engine *copy = NULL;
    struct apply *apply = NULL;

    world_init(&world, "copy_equals_the_original");
    set_conf(&world);
    write_some(&world, 3000);
    compact_to(&world, 1000, 3); /* physically half-way */
    write_some(&world, 100);
    file = take_snapshot(&world);
    MUST(install(&world, &file, &copy, err));
    engine_meta(world.engine, &left);
    engine_meta(copy, &right);
    cr_assert_eq(memcmp(&left, &right, sizeof(left)), 0);
    expect_equal(world.engine, copy, left.revision);
    /* The same entries lead both of them to the same place again, compaction included. */
    MUST(apply_create(copy, &apply, err));
    {
        struct fixture_random before = world.random;
        struct world other = world;
        bool more = true;

        write_some(&world, 300);
        compact_to(&world, 2500, 100);
        other.engine = copy;
        other.apply = apply;
        other.random = before;
        write_some(&other, 300);
        compact_to(&other, 2500, 100);
        while (more) {
            MUST(engine_compact_step(copy, 1000, &more, err));
        }
    }
    engine_meta(world.engine, &left);
    expect_equal(world.engine, copy, left.revision);
    apply_destroy(apply);
    engine_close(copy);
    world_fini(&world);
}

Test(snapshot, of_an_empty_store_works)
{
    struct world world;
    struct snapshot_file file;
    struct ms_memdb_meta meta;
    struct engine *copy = NULL;

    world_init(&world, "of_an_empty_store_works");
    file = take_snapshot(&world);
    MUST(install(&world, &file, &copy, err));
    engine_meta(copy, &meta);
    cr_assert_eq(meta.revision, 1);
    engine_close(copy);
    world_fini(&world);
}

/* The job writes the state of its start, while the owner goes on writing and compacting. */
Test(snapshot, is_of_the_moment_it_was_begun)
{
    static struct snapshot_outcome outcome;
    struct world world;
    struct snapshot_job *job;
    struct ms_memdb_meta meta;
    struct ms_memdb_meta copied;
    struct engine *copy = NULL;
    uint64_t expected;
    uint64_t got;

    world_init(&world, "is_of_the_moment_it_was_begun");
    write_some(&world, 4000);
    MUST(snapshot_job_create(world.files, world.engine, &job, err));
    for (int round = 0; round < 5; round++) {
        struct pollfd done = {.fd = snapshot_job_fd(job), .events = POLLIN};

        engine_meta(world.engine, &meta);
        MUST(engine_hash(world.engine, 0, &expected, err));
        MUST(snapshot_job_start(job, err));
        cr_assert(snapshot_job_busy(job));
        cr_assert_eq(snapshot_job_start(job, NULL), MS_EBUSY);
        while (poll(&done, 1, 0) == 0) {
            write_some(&world, 20);
            compact_to(&world, meta.revision - 5 + (uint64_t)round, 1);
        }
        MUST(snapshot_job_collect(job, &outcome));
        cr_assert_eq(outcome.status, MS_OK, "%s", outcome.err.text);
        cr_assert_eq(outcome.file.index, meta.applied);
        cr_assert_eq(snapshot_job_collect(job, &outcome), MS_EAGAIN);
        MUST(install(&world, &outcome.file, &copy, err));
        engine_meta(copy, &copied);
        cr_assert_eq(memcmp(&meta, &copied, sizeof(meta)), 0);
        MUST(engine_hash(copy, 0, &got, err));
        cr_assert_eq(got, expected);
        engine_close(copy);
        write_some(&world, 10);
    }
    MUST(snapshot_job_start(job, err));
    snapshot_job_destroy(job); /* gives it up */
    world_fini(&world);
}

static size_t file_names(const char *dir, const char *suffix)
{
    char command[512];
    char line[32] = "";
    FILE *pipe;

    (void)snprintf(command, sizeof(command), "ls %s | grep -c '%s$'", dir, suffix);
    pipe = popen(command, "r");
    cr_assert_not_null(pipe);
    cr_assert_not_null(fgets(line, sizeof(line), pipe));
    (void)pclose(pipe);
    return strtoul(line, NULL, 10);
}

/* Two stay; a partial one goes at the next start; one of the same state is not written again. */
Test(snapshot, files_are_kept_and_removed)
{
    struct engine_snapshot *snapshot;
    struct snapshot_file file;
    struct snapshot_file second;
    struct world world;
    char path[400];
    int fd;

    world_init(&world, "files_are_kept_and_removed");
    for (int i = 0; i < 4; i++) {
        write_some(&world, 5);
        file = take_snapshot(&world);
    }
    cr_assert_eq(file_names(world.snap, "snap"), SNAPSHOT_FILES_KEPT);
    MUST(snapshot_files_get(world.files, 1, &second));
    cr_assert_eq(second.index + 5, file.index);
    cr_assert_eq(snapshot_files_get(world.files, 2, &second), MS_ENOENT);
    MUST(engine_snapshot_begin(world.engine, &snapshot, err));
    cr_assert_eq(snapshot_files_write(world.files, world.engine, snapshot, NULL, &second, NULL),
                 MS_EEXIST);
    engine_snapshot_end(world.engine, snapshot);
    snapshot_files_close(world.files);
    (void)snprintf(path, sizeof(path), "%s/%020d-%020d.snap.tmp", world.snap, 7, 1);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    (void)close(fd);
    (void)snprintf(path, sizeof(path), "%s/notes.txt", world.snap);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    (void)close(fd);
    MUST(snapshot_files_open(world.snap, &world.files, err));
    cr_assert_eq(file_names(world.snap, "tmp"), 0);
    cr_assert_eq(file_names(world.snap, "txt"), 1);
    MUST(snapshot_files_get(world.files, 0, &second));
    cr_assert_eq(second.index, file.index);
    cr_assert_eq(second.size_bytes, file.size_bytes);
    world_fini(&world);
}

Test(snapshot, files_that_the_log_has_left_behind_are_trimmed)
{
    struct snapshot_file first;
    struct snapshot_file second;
    struct snapshot_file found;
    struct world world;

    world_init(&world, "files_that_the_log_has_left_behind_are_trimmed");
    write_some(&world, 5);
    first = take_snapshot(&world);
    write_some(&world, 5);
    second = take_snapshot(&world);
    MUST(snapshot_files_trim(world.files, first.index + 1, err));
    cr_assert_eq(file_names(world.snap, "snap"), 2, "the log leads on from both");
    MUST(snapshot_files_trim(world.files, first.index + 2, err));
    cr_assert_eq(file_names(world.snap, "snap"), 1);
    MUST(snapshot_files_trim(world.files, second.index + 2, err));
    cr_assert_eq(file_names(world.snap, "snap"), 1, "the newest stays in any case");
    MUST(snapshot_files_get(world.files, 0, &found));
    cr_assert_eq(found.index, second.index);
    MUST(snapshot_files_add(world.files, &second, err));
    cr_assert_eq(snapshot_files_get(world.files, 1, &found), MS_ENOENT, "it is known already");
    world_fini(&world);
}

/* ---- damage ---- */

static int ignore_record(void *ctx, const uint8_t *name, size_t name_bytes, const uint8_t *value,
                         size_t value_bytes, struct ms_err *err)
{
    (void)ctx;
    (void)name;
    (void)name_bytes;
    (void)value;
    (void)value_bytes;
    (void)err;
    return MS_OK;
}

static int ignore_key(void *ctx, const uint8_t *key, size_t key_bytes,
                      const struct engine_stamp *stamps, size_t count, struct ms_err *err)
{
    (void)ctx;
    (void)key;
    (void)key_bytes;
    (void)stamps;
    (void)count;
    (void)err;
    return MS_OK;
}

static int ignore_change(void *ctx, const struct engine_change *change, struct ms_err *err)
{
    (void)ctx;
    (void)change;
    (void)err;
    return MS_OK;
}

struct bytes {
    const uint8_t *data;
    size_t bytes;
    size_t position;
};

static int read_bytes(void *ctx, uint8_t *dst, size_t len_bytes, size_t *got, struct ms_err *err)
{
    struct bytes *bytes = ctx;
    size_t rest = bytes->bytes - bytes->position;

    (void)err;
    *got = len_bytes < rest ? len_bytes : rest;
    memcpy(dst, bytes->data + bytes->position, *got);
    bytes->position += *got;
    return MS_OK;
}

/* Reads a whole snapshot from memory, looking at nothing but its form. */
static int read_through(const uint8_t *data, size_t len_bytes, struct ms_err *cause)
{
    static struct engine_snapshot_info info;
    struct bytes bytes = {.data = data, .bytes = len_bytes};
    const struct snapshot_input input = {.read = read_bytes, .ctx = &bytes, .name = "test"};
    const struct engine_sink sink = {ignore_record, ignore_key, ignore_change, NULL};
    struct snapshot_reader *reader;
    int rc;

    MUST(snapshot_reader_create(&input, &reader, err));
    rc = snapshot_reader_header(reader, &info, cause);
    if (rc == MS_OK) {
        rc = snapshot_reader_run(reader, &sink, cause);
    }
    snapshot_reader_destroy(reader);
    return rc;
}

static uint8_t *load_file(const struct world *world, const struct snapshot_file *file)
{
    char name[SNAPSHOT_NAME_BYTES];
    char path[400];
    uint8_t *data = malloc(file->size_bytes + 16);
    int fd;

    snapshot_files_name(file, name);
    (void)snprintf(path, sizeof(path), "%s/%s", world->snap, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    cr_assert_not_null(data);
    cr_assert_eq(read(fd, data, file->size_bytes), (ssize_t)file->size_bytes);
    (void)close(fd);
    return data;
}

/* Cut anywhere, continued, or with any bit turned: found out, and the place is named. */
Test(snapshot, damage_is_found_anywhere)
{
    struct snapshot_file file;
    struct world world;
    struct ms_err cause;
    uint8_t *data;

    world_init(&world, "damage_is_found_anywhere");
    set_conf(&world);
    write_some(&world, 60);
    file = take_snapshot(&world);
    data = load_file(&world, &file);
    cr_assert_eq(read_through(data, file.size_bytes, &cause), MS_OK, "%s", cause.text);
    for (size_t length = 0; length < file.size_bytes;
         length += length < 300 ? 1 : 1 + fixture_below(&world.random, 200)) {
        cr_assert_eq(read_through(data, length, &cause), MS_ECORRUPT, "cut at %zu", length);
        cr_assert_not_null(strstr(cause.text, "test: at byte"), "%s", cause.text);
    }
    data[file.size_bytes] = 0;
    cr_assert_eq(read_through(data, file.size_bytes + 1, &cause), MS_ECORRUPT);
    for (size_t at = 0; at < file.size_bytes;
         at += at < 300 ? 1 : 1 + fixture_below(&world.random, 100)) {
        uint8_t mask = (uint8_t)(1U << fixture_below(&world.random, 8));

        data[at] ^= mask;
        cr_assert_eq(read_through(data, file.size_bytes, &cause), MS_ECORRUPT, "bit in %zu", at);
        data[at] ^= mask;
    }
    free(data);
    world_fini(&world);
}

/* Values larger than a chunk go through whole. */
Test(snapshot, items_may_span_chunks)
{
    static uint8_t value[900000];
    struct snapshot_file file;
    struct world world;
    struct engine *copy = NULL;
    uint64_t left = 0;
    uint64_t right = 1;

    world_init(&world, "items_may_span_chunks");
    for (size_t i = 0; i < sizeof(value); i++) {
        value[i] = (uint8_t)fixture_next(&world.random);
    }
    for (uint64_t i = 0; i < 4; i++) {
        (void)fixture_apply(world.engine, world.apply,
                            &(struct ms_command){.kind = MS_COMMAND_PUT,
                                                 .key = (const uint8_t *)&i,
                                                 .key_bytes = sizeof(i),
                                                 .value = value,
                                                 .value_bytes = sizeof(value) - i});
    }
    file = take_snapshot(&world);
    MUST(install(&world, &file, &copy, err));
    MUST(engine_hash(world.engine, 0, &left, err));
    MUST(engine_hash(copy, 0, &right, err));
    cr_assert_eq(left, right);
    engine_close(copy);
    world_fini(&world);
}

/* A file under another one's name is not taken for it. */
Test(snapshot, names_must_match)
{
    struct snapshot_file file;
    struct snapshot_file wrong;
    struct world world;
    struct engine *copy = NULL;
    struct ms_err cause;
    char name[SNAPSHOT_NAME_BYTES];
    char from[400];
    char to[400];

    world_init(&world, "names_must_match");
    write_some(&world, 5);
    file = take_snapshot(&world);
    wrong = file;
    wrong.index += 100;
    snapshot_files_name(&file, name);
    (void)snprintf(from, sizeof(from), "%s/%s", world.snap, name);
    snapshot_files_name(&wrong, name);
    (void)snprintf(to, sizeof(to), "%s/%s", world.snap, name);
    cr_assert_eq(rename(from, to), 0);
    cr_assert_eq(install(&world, &wrong, &copy, &cause), MS_ECORRUPT);
    cr_assert_not_null(strstr(cause.text, name));
    cr_assert_eq(install(&world, &file, &copy, &cause), MS_ENOENT);
    world_fini(&world);
}

/* Without room on disk: a status, nothing left behind, and the next one works. */
Test(snapshot, full_disk_leaves_nothing_behind)
{
    struct engine_snapshot *snapshot;
    struct snapshot_file file;
    struct world world;
    struct rlimit old;
    struct rlimit small;

    world_init(&world, "full_disk_leaves_nothing_behind");
    write_some(&world, 2000);
    cr_assert_neq(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 100000;
    MUST(engine_snapshot_begin(world.engine, &snapshot, err));
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    cr_assert_eq(snapshot_files_write(world.files, world.engine, snapshot, NULL, &file, NULL),
                 MS_ENOSPC);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    engine_snapshot_end(world.engine, snapshot);
    cr_assert_eq(file_names(world.snap, "tmp"), 0);
    cr_assert_eq(file_names(world.snap, "snap"), 0);
    file = take_snapshot(&world);
    cr_assert_gt(file.size_bytes, 100000);
    world_fini(&world);
}

/* ---- contradictions behind valid checksums ---- */

static const struct ms_memdb_kv some_kv = {
    .key = (const uint8_t *)"k",
    .key_bytes = 1,
    .value = (const uint8_t *)"v",
    .value_bytes = 1,
    .create_revision = 2,
    .mod_revision = 2,
    .version = 1,
};

static struct engine *begin_install(struct world *world, struct engine_sink *sink)
{
    struct engine *copy;

    fixture_remove_dir(world->copy);
    cr_assert_eq(mkdir(world->copy, 0700), 0);
    MUST(memory_engine_create(world->copy, FIXTURE_LIMIT_BYTES, &copy, err));
    MUST(engine_install_begin(copy, sink, err));
    return copy;
}

Test(snapshot, contradictory_content_is_refused)
{
    const struct engine_stamp stamp = {.revision = 2};
    const struct engine_change change = {.kv = some_kv};
    static struct engine_snapshot_info info;
    struct world world;
    struct engine_sink sink;
    struct engine *copy;

    world_init(&world, "contradictory_content_is_refused");
    info.meta = (struct ms_memdb_meta){.applied = 1, .revision = 2, .keys = 1};

    copy = begin_install(&world, &sink); /* a stamp without its change */
    MUST(sink.key(sink.ctx, (const uint8_t *)"k", 1, &stamp, 1, err));
    cr_assert_eq(engine_install_finish(copy, &info, NULL), MS_ECORRUPT);
    engine_close(copy);

    copy = begin_install(&world, &sink); /* keys that go backwards */
    MUST(sink.key(sink.ctx, (const uint8_t *)"k", 1, &stamp, 1, err));
    cr_assert_eq(sink.key(sink.ctx, (const uint8_t *)"a", 1, &stamp, 1, NULL), MS_ECORRUPT);
    engine_close(copy);

    copy = begin_install(&world, &sink); /* the same stamp twice */
    MUST(sink.key(sink.ctx, (const uint8_t *)"k", 1, &stamp, 1, err));
    cr_assert_eq(sink.key(sink.ctx, (const uint8_t *)"k", 1, &stamp, 1, NULL), MS_ECORRUPT);
    engine_close(copy);

    copy = begin_install(&world, &sink); /* a change twice */
    MUST(sink.change(sink.ctx, &change, err));
    cr_assert_eq(sink.change(sink.ctx, &change, NULL), MS_ECORRUPT);
    engine_close(copy);

    copy = begin_install(&world, &sink); /* newer than the whole */
    MUST(sink.key(sink.ctx, (const uint8_t *)"k", 1, &stamp, 1, err));
    MUST(sink.change(sink.ctx, &change, err));
    info.meta.revision = 1;
    cr_assert_eq(engine_install_finish(copy, &info, NULL), MS_ECORRUPT);
    info.meta.revision = 2;
    info.meta.keys = 2; /* another number of keys */
    cr_assert_eq(engine_install_finish(copy, &info, NULL), MS_ECORRUPT);
    info.meta.keys = 1;
    MUST(engine_install_finish(copy, &info, err));
    engine_close(copy);
    world_fini(&world);
}

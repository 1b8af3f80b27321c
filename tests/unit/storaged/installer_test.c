/*
 * installer: states built aside, with and without room for them.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>

#include "common/log.h"
#include "storaged/installer.h"
#include "tests/unit/storaged/engine_fixture.h"

struct world {
    char dir[256];
    char memory[280];
    char theirs[280];
    char snap[280];
    struct memory_dir *memory_dir;
    struct received_files *received;
    struct snapshot_files *files;
    struct installer *installer;
    struct snapshot_file file;
};

/* A snapshot made elsewhere lies in our directory as if it had just been received. */
static void receive_snapshot(struct world *world)
{
    struct engine_snapshot *snapshot;
    struct snapshot_files *theirs;
    struct engine *engine;
    struct apply *apply;
    char from[400];
    char to[400];
    char name[SNAPSHOT_NAME_BYTES];
    static uint8_t value[100000];

    cr_assert_eq(mkdir(world->theirs, 0700), 0);
    MUST(memory_engine_create(world->theirs, FIXTURE_LIMIT_BYTES, &engine, err));
    MUST(apply_create(engine, &apply, err));
    for (uint64_t i = 1; i <= 50; i++) {
        const struct ms_command command = {.id = {.origin = 8, .seq = i},
                                           .kind = MS_COMMAND_PUT,
                                           .key = (const uint8_t *)&i,
                                           .key_bytes = sizeof(i),
                                           .value = value,
                                           .value_bytes = sizeof(value)};

        (void)fixture_apply(engine, apply, &command);
    }
    MUST(snapshot_files_open(world->theirs, &theirs, err));
    MUST(engine_snapshot_begin(engine, &snapshot, err));
    MUST(snapshot_files_write(theirs, engine, snapshot, NULL, &world->file, err));
    engine_snapshot_end(engine, snapshot);
    snapshot_files_close(theirs);
    apply_destroy(apply);
    engine_close(engine);
    snapshot_files_name(&world->file, name);
    (void)snprintf(from, sizeof(from), "%s/%s", world->theirs, name);
    (void)snprintf(to, sizeof(to), "%s/%.*s.received", world->snap,
                   (int)(strlen(name) - strlen(".snap")), name);
    cr_assert_eq(rename(from, to), 0);
}

static void world_init(struct world *world)
{
    struct memory_dir_options memory = {
        .memory_dir = world->memory, .node_dir = world->dir, .limit_bytes = UINT64_C(64) << 20};
    struct installer_options options;

    *world = (struct world){.installer = NULL};
    ms_log_init("test", MS_LOG_TEXT, MS_LOG_ERROR);
    fixture_make_dir(world->dir);
    (void)snprintf(world->memory, sizeof(world->memory), "%s/memory", world->dir);
    (void)snprintf(world->theirs, sizeof(world->theirs), "%s/theirs", world->dir);
    (void)snprintf(world->snap, sizeof(world->snap), "%s/snap", world->dir);
    cr_assert_eq(mkdir(world->memory, 0700), 0);
    MUST(memory_dir_open(&memory, &world->memory_dir, err));
    MUST(memory_dir_renew(world->memory_dir, err));
    MUST(received_files_open(world->snap, 0, 0, &world->received, err));
    MUST(snapshot_files_open(world->snap, &world->files, err));
    receive_snapshot(world);
    options = (struct installer_options){
        .dir = world->memory_dir, .files = world->files, .received = world->received};
    MUST(installer_create(&options, &world->installer, err));
}

static void world_fini(struct world *world)
{
    installer_destroy(world->installer);
    snapshot_files_close(world->files);
    received_files_close(world->received);
    memory_dir_close(world->memory_dir);
    fixture_remove_dir(world->dir);
}

static void finish(struct world *world, struct installer_outcome *out)
{
    struct pollfd wait = {.fd = installer_fd(world->installer), .events = POLLIN};

    cr_assert(installer_is_busy(world->installer));
    cr_assert(poll(&wait, 1, 10000) == 1, "it does not end");
    cr_assert_eq(installer_collect(world->installer, out), MS_OK);
    cr_assert(!installer_is_busy(world->installer));
}

Test(installer, builds_a_state_beside_the_one_in_use_and_takes_the_old_one_away)
{
    struct pollfd wait;
    struct installer_outcome outcome;
    struct apply_result result;
    struct ms_memdb_meta meta;
    struct world world;

    world_init(&world);
    MUST(installer_start(world.installer, world.file.index, world.file.term, err));
    finish(&world, &outcome);
    cr_assert_eq(outcome.status, MS_OK, "%s", outcome.err.text);
    cr_assert_eq(outcome.file.size_bytes, world.file.size_bytes);
    engine_meta(outcome.engine, &meta);
    cr_assert_eq(meta.applied, world.file.index);
    cr_assert(apply_next_answer(outcome.apply, 8, 0, &result));
    cr_assert_eq(result.id.seq, 1);
    cr_assert(apply_next_answer(outcome.apply, 8, 50, &result));
    cr_assert_eq(result.revision, 51);
    cr_assert(!apply_next_answer(outcome.apply, 8, 51, &result));
    cr_assert(!apply_next_answer(outcome.apply, 9, 0, &result));
    installer_take_away(world.installer, outcome.engine, outcome.apply, outcome.aside.epoch);
    wait = (struct pollfd){.fd = installer_fd(world.installer), .events = POLLIN};
    cr_assert(poll(&wait, 1, 10000) == 1);
    cr_assert_eq(installer_collect(world.installer, &outcome), MS_EAGAIN, "there is no outcome");
    cr_assert(!installer_is_busy(world.installer));
    cr_assert_neq(access(outcome.aside.path, F_OK), 0);
    world_fini(&world);
}

Test(installer, without_room_nothing_is_left_and_it_can_be_repeated)
{
    struct rlimit before;
    struct rlimit limit;
    struct installer_outcome outcome;
    struct world world;

    (void)signal(SIGXFSZ, SIG_IGN);
    world_init(&world);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 2 << 20;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    MUST(installer_start(world.installer, world.file.index, world.file.term, err));
    finish(&world, &outcome);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    cr_assert_eq(outcome.status, MS_ENOSPC, "%s", outcome.err.text);
    cr_assert_null(outcome.engine);
    cr_assert_neq(access(outcome.aside.path, F_OK), 0);
    MUST(installer_start(world.installer, world.file.index, world.file.term, err));
    finish(&world, &outcome);
    cr_assert_eq(outcome.status, MS_OK, "%s", outcome.err.text);
    apply_destroy(outcome.apply);
    engine_close(outcome.engine);
    world_fini(&world);
}

Test(installer, what_is_missing_or_damaged_is_said)
{
    struct installer_outcome outcome;
    struct world world;
    char path[400];
    int fd;

    world_init(&world);
    MUST(installer_start(world.installer, 1000, 1, err));
    finish(&world, &outcome);
    cr_assert_eq(outcome.status, MS_ENOENT);
    (void)snprintf(path, sizeof(path), "%s/%020llu-%020llu.received", world.snap,
                   (unsigned long long)world.file.index, (unsigned long long)world.file.term);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    cr_assert(fd >= 0);
    cr_assert_eq(pwrite(fd, "damage", 6, 300000), 6);
    (void)close(fd);
    MUST(installer_start(world.installer, world.file.index, world.file.term, err));
    finish(&world, &outcome);
    cr_assert_eq(outcome.status, MS_ECORRUPT);
    cr_assert_not_null(strstr(outcome.err.text, "at byte"), "%s", outcome.err.text);
    cr_assert_neq(access(outcome.aside.path, F_OK), 0);
    world_fini(&world);
}

/* Given up in the middle, it leaves nothing open: the leak detector would say so. */
Test(installer, can_be_given_up_at_any_time)
{
    for (useconds_t delay_us = 0; delay_us < 10000; delay_us += 700) {
        struct world world;

        world_init(&world);
        MUST(installer_start(world.installer, world.file.index, world.file.term, err));
        (void)usleep(delay_us);
        world_fini(&world);
    }
}

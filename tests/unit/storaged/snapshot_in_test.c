/*
 * snapshot_in: a raftd of our own that receives snapshots from a leader, sound, damaged or cut.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/log.h"
#include "storaged/snapshot_format.h"
#include "storaged/snapshot_in.h"
#include "tests/unit/storaged/engine_fixture.h"
#include "tests/unit/storaged/link_fixture.h"

/* The leader's store and its snapshot; and the directory that receives. */
struct world {
    char dir[256];
    char memory[280];
    char theirs[280];
    char ours[280];
    struct snapshot_file file;
    uint8_t *data;
    struct received_files *files;
    struct snapshot_in *in;
    struct ms_link near_end;
    struct ms_link far_end;
    struct fixture_random random;
};

/* Values that no compression would shrink, so that the snapshot has many chunks. */
static void write_values(struct engine *engine, struct apply *apply, size_t count)
{
    static uint8_t value[60000];

    for (size_t i = 1; i <= count; i++) {
        char key[32];
        struct ms_command command = {.id = {.origin = 1, .seq = i},
                                     .kind = MS_COMMAND_PUT,
                                     .key = (const uint8_t *)key,
                                     .value = value,
                                     .value_bytes = sizeof(value)};

        command.key_bytes = (size_t)snprintf(key, sizeof(key), "k%zu", i);
        memset(value, (int)i, sizeof(value));
        (void)fixture_apply(engine, apply, &command);
    }
}

static void make_snapshot(struct world *world)
{
    struct engine_snapshot *snapshot;
    struct snapshot_files *files;
    struct engine *engine;
    struct apply *apply;
    char path[400];
    char name[SNAPSHOT_NAME_BYTES];
    int fd;

    MUST(memory_engine_create(world->memory, FIXTURE_LIMIT_BYTES, &engine, err));
    MUST(apply_create(engine, &apply, err));
    write_values(engine, apply, 40);
    MUST(snapshot_files_open(world->theirs, &files, err));
    MUST(engine_snapshot_begin(engine, &snapshot, err));
    MUST(snapshot_files_write(files, engine, snapshot, NULL, &world->file, err));
    engine_snapshot_end(engine, snapshot);
    snapshot_files_name(&world->file, name);
    (void)snprintf(path, sizeof(path), "%s/%s", world->theirs, name);
    world->data = malloc(world->file.size_bytes);
    cr_assert_not_null(world->data);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert_eq(read(fd, world->data, world->file.size_bytes), (ssize_t)world->file.size_bytes);
    (void)close(fd);
    snapshot_files_close(files);
    apply_destroy(apply);
    engine_close(engine);
}

static void open_ours(struct world *world, raft_index log_snapshot, raft_term log_snapshot_term)
{
    MUST(received_files_open(world->ours, log_snapshot, log_snapshot_term, &world->files, err));
    MUST(snapshot_in_create(world->files, &world->in, err));
    link_fixture_make(MS_LINK_RAFT_APPLY, MS_ROLE_RAFTD, 1, &world->near_end, &world->far_end);
}

static void close_ours(struct world *world)
{
    snapshot_in_destroy(world->in);
    received_files_close(world->files);
    ms_link_fini(&world->near_end);
    ms_link_fini(&world->far_end);
}

static void world_init(struct world *world, const char *test)
{
    *world = (struct world){.random = fixture_random_init(test)};
    ms_log_init("test", MS_LOG_TEXT, MS_LOG_ERROR);
    fixture_make_dir(world->dir);
    (void)snprintf(world->memory, sizeof(world->memory), "%s/memory", world->dir);
    (void)snprintf(world->theirs, sizeof(world->theirs), "%s/theirs", world->dir);
    (void)snprintf(world->ours, sizeof(world->ours), "%s/ours", world->dir);
    cr_assert_eq(mkdir(world->memory, 0700), 0);
    make_snapshot(world);
    cr_assert_gt(world->file.size_bytes, 4 * SNAPSHOT_CHUNK_BYTES);
    open_ours(world, 0, 0);
}

static void world_fini(struct world *world)
{
    close_ours(world);
    free(world->data);
    fixture_remove_dir(world->dir);
}

/* The next SNAP_PROGRESS. */
static struct ms_snap_progress next_progress(struct world *world)
{
    struct ms_snap_progress progress = {0};
    struct ms_ipc_message message;

    while (!snapshot_in_is_due(world->in)) {
        struct pollfd wait = {.fd = snapshot_in_fd(world->in), .events = POLLIN};

        cr_assert(poll(&wait, 1, 10000) == 1, "no progress");
        snapshot_in_collect(world->in);
    }
    cr_assert_eq(snapshot_in_tell(world->in, &world->near_end), MS_OK);
    cr_assert_eq(ms_link_receive(&world->far_end, &message), MS_OK);
    cr_assert_eq(message.type, MS_IPC_SNAP_PROGRESS);
    memcpy(&progress, message.body, sizeof(progress));
    ms_link_release(&world->far_end);
    return progress;
}

static struct ms_snap_progress begin(struct world *world, uint64_t transfer)
{
    const struct ms_snap_receive receive = {.transfer = transfer,
                                            .index = world->file.index,
                                            .term = world->file.term,
                                            .size_bytes = world->file.size_bytes};
    struct ms_snap_progress progress;

    snapshot_in_receive(world->in, &receive);
    progress = next_progress(world);
    cr_assert_eq(progress.transfer, transfer);
    return progress;
}

/* Sends up to end in random pieces. Returns the last progress: of that much, or with a status. */
static struct ms_snap_progress feed(struct world *world, struct ms_snap_progress progress,
                                    uint64_t end)
{
    uint64_t sent = progress.offset;

    while (progress.status == MS_OK && progress.complete == 0 &&
           (progress.offset < end || end == world->file.size_bytes)) {
        if (sent < end && sent - progress.offset < MS_SNAP_WINDOW_BYTES / 2) {
            const struct ms_snap_write write = {.transfer = progress.transfer, .offset = sent};
            size_t piece = 1 + fixture_below(&world->random, 200000);

            piece = end - sent < piece ? end - sent : piece;
            snapshot_in_write(world->in, &write, world->data + sent, piece);
            sent += piece;
            continue;
        }
        progress = next_progress(world);
    }
    return progress;
}

static struct ms_snap_progress feed_all(struct world *world, uint64_t transfer)
{
    return feed(world, begin(world, transfer), world->file.size_bytes);
}

static size_t files_in(const char *dir, const char *suffix)
{
    char command[400];
    FILE *pipe;
    size_t count = 0;

    (void)snprintf(command, sizeof(command), "ls %s | grep -c '%s$'", dir, suffix);
    pipe = popen(command, "r");
    cr_assert_not_null(pipe);
    cr_assert_eq(fscanf(pipe, "%zu", &count), 1);
    (void)pclose(pipe);
    return count;
}

Test(snapshot_in, what_is_complete_can_be_adopted_and_loaded)
{
    struct ms_snap_progress progress;
    struct engine_snapshot_info *info = malloc(sizeof(*info));
    struct snapshot_files *own;
    struct snapshot_file file;
    struct engine *engine;
    struct world world;
    char copy[400];

    world_init(&world, "what_is_complete_can_be_adopted_and_loaded");
    progress = feed_all(&world, 1);
    cr_assert_eq(progress.status, MS_OK);
    cr_assert_eq(progress.complete, 1);
    cr_assert_eq(progress.offset, world.file.size_bytes);
    cr_assert(received_files_have(world.files, world.file.index, world.file.term, NULL));
    MUST(received_files_adopt(world.files, world.file.index, world.file.term, &file, err));
    cr_assert_eq(file.size_bytes, world.file.size_bytes);
    MUST(snapshot_files_open(world.ours, &own, err));
    cr_assert_eq(snapshot_files_get(own, 0, &file), MS_OK);
    cr_assert_eq(file.index, world.file.index);
    (void)snprintf(copy, sizeof(copy), "%s/copy", world.dir);
    cr_assert_eq(mkdir(copy, 0700), 0);
    MUST(memory_engine_create(copy, FIXTURE_LIMIT_BYTES, &engine, err));
    MUST(snapshot_files_load(own, &file, engine, NULL, info, err));
    engine_close(engine);
    snapshot_files_close(own);
    free(info);
    world_fini(&world);
}

Test(snapshot_in, one_that_was_interrupted_goes_on_where_it_is_sound)
{
    struct ms_snap_progress progress;
    struct world world;
    uint64_t half;

    world_init(&world, "one_that_was_interrupted_goes_on_where_it_is_sound");
    half = world.file.size_bytes / 2;
    (void)feed(&world, begin(&world, 1), half);
    snapshot_in_abandon(world.in, &(struct ms_snap_abandon){.transfer = 1});
    progress = begin(&world, 2);
    cr_assert_leq(progress.offset, half);
    cr_assert_gt(progress.offset + 2 * SNAPSHOT_CHUNK_BYTES, half, "whole chunks are kept");
    progress = feed(&world, progress, half + 300000);
    close_ours(&world);
    open_ours(&world, 0, 0);
    progress = begin(&world, 3);
    cr_assert_gt(progress.offset, half, "also over the end of the process");
    progress = feed(&world, progress, world.file.size_bytes);
    cr_assert_eq(progress.complete, 1);
    progress = begin(&world, 4);
    while (progress.complete == 0) {
        cr_assert_eq(progress.offset, world.file.size_bytes, "nothing needs to be sent");
        progress = next_progress(&world);
    }
    world_fini(&world);
}

/* Power fails: what was in the page cache only is zeros, or something else. */
Test(snapshot_in, damage_in_the_beginning_is_cut_off)
{
    struct ms_snap_progress progress;
    struct world world;
    char path[400];
    int fd;

    world_init(&world, "damage_in_the_beginning_is_cut_off");
    (void)feed(&world, begin(&world, 1), world.file.size_bytes - 1000);
    close_ours(&world);
    (void)snprintf(path, sizeof(path), "%s/%020llu-%020llu-%020llu.part", world.ours,
                   (unsigned long long)world.file.index, (unsigned long long)world.file.term,
                   (unsigned long long)world.file.size_bytes);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    cr_assert(fd >= 0);
    cr_assert_eq(pwrite(fd, "damage", 6, 2 * SNAPSHOT_CHUNK_BYTES + 5000), 6);
    (void)close(fd);
    open_ours(&world, 0, 0);
    progress = begin(&world, 2);
    cr_assert_eq(progress.offset, 2 * (SNAPSHOT_CHUNK_BYTES + SNAPSHOT_CHUNK_HEAD_BYTES));
    progress = feed(&world, progress, world.file.size_bytes);
    cr_assert_eq(progress.complete, 1);
    world_fini(&world);
}

Test(snapshot_in, damage_on_the_way_is_found_and_nothing_of_it_kept)
{
    struct world world;

    world_init(&world, "damage_on_the_way_is_found_and_nothing_of_it_kept");
    for (uint64_t transfer = 1; transfer <= 30; transfer++) {
        size_t at = fixture_below(&world.random, world.file.size_bytes);
        uint8_t mask = (uint8_t)(1u << fixture_below(&world.random, 8));
        struct ms_snap_progress progress;

        world.data[at] ^= mask;
        progress = feed_all(&world, transfer);
        cr_assert_eq(progress.status, MS_ECORRUPT, "byte %zu", at);
        cr_assert_eq(progress.complete, 0);
        cr_assert_eq(files_in(world.ours, "part"), 0);
        cr_assert_eq(files_in(world.ours, "received"), 0);
        world.data[at] ^= mask;
    }
    cr_assert_eq(feed_all(&world, 100).complete, 1);
    world_fini(&world);
}

Test(snapshot_in, another_than_was_announced_is_refused)
{
    struct snapshot_file truth;
    struct world world;

    world_init(&world, "another_than_was_announced_is_refused");
    truth = world.file;
    world.file.index++;
    cr_assert_eq(feed_all(&world, 1).status, MS_ECORRUPT);
    world.file = truth;
    world.file.size_bytes -= 10; /* it ends in the middle */
    cr_assert_eq(feed_all(&world, 2).status, MS_ECORRUPT);
    world.file = truth;
    world.data = realloc(world.data, truth.size_bytes + 10);
    memset(world.data + truth.size_bytes, 0, 10);
    world.file.size_bytes += 10; /* and something behind the end */
    cr_assert_eq(feed_all(&world, 3).status, MS_ECORRUPT);
    world.file = truth;
    cr_assert_eq(feed_all(&world, 4).complete, 1);
    world_fini(&world);
}

Test(snapshot_in, gaps_and_floods_end_the_transfer)
{
    struct ms_snap_write write = {.transfer = 1, .offset = 10};
    static const uint8_t zeros[MS_SNAP_WINDOW_BYTES + 1];
    struct world world;

    world_init(&world, "gaps_and_floods_end_the_transfer");
    (void)begin(&world, 1);
    snapshot_in_write(world.in, &write, world.data, 10);
    cr_assert_eq(next_progress(&world).status, MS_EINVAL, "a gap");
    (void)begin(&world, 2);
    write = (struct ms_snap_write){.transfer = 2};
    snapshot_in_write(world.in, &write, zeros, sizeof(zeros));
    cr_assert_eq(next_progress(&world).status, MS_EINVAL, "more than the window");
    snapshot_in_receive(world.in, &(struct ms_snap_receive){
                                      .transfer = 3, .size_bytes = 100, .index = 9, .term = 1});
    cr_assert_eq(next_progress(&world).offset, 0);
    write = (struct ms_snap_write){.transfer = 3};
    snapshot_in_write(world.in, &write, zeros, 101);
    cr_assert_eq(next_progress(&world).status, MS_EINVAL, "beyond the size");
    /* Late words of a transfer that is over are nobody's business. */
    snapshot_in_write(world.in, &write, zeros, 10);
    snapshot_in_abandon(world.in, &(struct ms_snap_abandon){.transfer = 2});
    cr_assert_eq(feed_all(&world, 4).complete, 1);
    world_fini(&world);
}

Test(snapshot_in, a_new_one_takes_the_place_of_the_old)
{
    struct snapshot_file first;
    struct world world;

    world_init(&world, "a_new_one_takes_the_place_of_the_old");
    first = world.file;
    world.file = (struct snapshot_file){.index = 5, .term = 1, .size_bytes = 5000000};
    (void)feed(&world, begin(&world, 1), 100000);
    cr_assert_eq(files_in(world.ours, "part"), 1);
    world.file = first;
    cr_assert_eq(feed_all(&world, 2).complete, 1);
    cr_assert_eq(files_in(world.ours, "part"), 0);
    cr_assert_eq(files_in(world.ours, "received"), 1);
    world_fini(&world);
}

Test(snapshot_in, a_full_disk_is_told_and_breaks_nothing)
{
    struct rlimit before;
    struct rlimit limit;
    struct ms_snap_progress progress;
    struct world world;

    (void)signal(SIGXFSZ, SIG_IGN);
    world_init(&world, "a_full_disk_is_told_and_breaks_nothing");
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = world.file.size_bytes / 2;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    progress = feed_all(&world, 1);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    cr_assert_eq(progress.status, MS_ENOSPC);
    cr_assert_eq(files_in(world.ours, "part"), 0, "what is there takes room only");
    cr_assert_eq(feed_all(&world, 2).complete, 1);
    world_fini(&world);
}

/* A child receives and is killed at any moment, again and again, until it has come to the end. */
static unsigned kill_until_complete(struct world *world)
{
    bool complete = false;
    unsigned kills = 0;

    while (!complete) {
        useconds_t delay_us = (useconds_t)fixture_below(&world->random, 2000) + 50 * kills;
        int status;
        pid_t child = fork();

        cr_assert(child >= 0);
        if (child == 0) {
            struct ms_snap_progress progress;

            open_ours(world, 0, 0);
            progress = feed_all(world, 1);
            _exit(progress.complete != 0 ? 0 : 1);
        }
        (void)usleep(delay_us);
        (void)kill(child, SIGKILL);
        cr_assert_eq(waitpid(child, &status, 0), child);
        complete = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        cr_assert(complete || WIFSIGNALED(status), "status %d", status);
        kills += !complete;
    }
    return kills;
}

Test(snapshot_in, killed_at_any_time_it_ends_with_the_whole, .timeout = 60)
{
    struct world world;
    unsigned kills = 0;

    world_init(&world, "killed_at_any_time_it_ends_with_the_whole");
    for (int round = 0; round < 10; round++) {
        struct snapshot_file file;

        close_ours(&world);
        fixture_remove_dir(world.ours);
        kills += kill_until_complete(&world);
        open_ours(&world, world.file.index, world.file.term);
        MUST(received_files_adopt(world.files, world.file.index, world.file.term, &file, err));
        cr_assert_eq(files_in(world.ours, "snap"), 1, "the log began behind it: it is ours");
        cr_assert_eq(files_in(world.ours, "part"), 0);
    }
    (void)fprintf(stderr, "killed %u times\n", kills);
    world_fini(&world);
}

/*
 * received_files: what stays, what goes, and what the log may depend on.
 */
#include <fcntl.h>

#include <criterion/criterion.h>

#include "storaged/received_files.h"
#include "tests/unit/storaged/store_fixture.h"

struct world {
    char dir[FIXTURE_PATH_BYTES];
    struct received_files *files;
};

static void reopen(struct world *world, raft_index index, raft_term term)
{
    struct ms_err err = {.status = MS_OK};

    received_files_close(world->files);
    cr_assert_eq(received_files_open(world->dir, index, term, &world->files, &err), MS_OK, "%s",
                 err.text);
}

static void world_init(struct world *world)
{
    world->files = NULL;
    fixture_make_dir(world->dir);
    reopen(world, 0, 0);
}

static void world_fini(struct world *world)
{
    received_files_close(world->files);
    fixture_remove_dir(world->dir);
}

static struct snapshot_file file_of(raft_index index)
{
    return (struct snapshot_file){.index = index, .term = 3, .size_bytes = 4};
}

/* A beginning, and if complete all of it. */
static void receive(struct world *world, raft_index index, bool complete)
{
    const struct snapshot_file file = file_of(index);
    int fd = -1;

    cr_assert_eq(received_files_begin(world->files, &file, &fd, NULL), MS_OK);
    cr_assert_eq(write(fd, "data", 4), 4);
    if (complete) {
        cr_assert_eq(received_files_complete(world->files, &file, fd, NULL), MS_OK);
    }
    (void)close(fd);
}

static bool is_there(const struct world *world, const char *name)
{
    char path[FIXTURE_PATH_BYTES + 128];

    (void)snprintf(path, sizeof(path), "%s/%s", world->dir, name);
    return access(path, F_OK) == 0;
}

#define PART_10     "00000000000000000010-00000000000000000003-00000000000000000004.part"
#define PART_20     "00000000000000000020-00000000000000000003-00000000000000000004.part"
#define RECEIVED_10 "00000000000000000010-00000000000000000003.received"
#define RECEIVED_20 "00000000000000000020-00000000000000000003.received"
#define SNAP_10     "00000000000000000010-00000000000000000003.snap"

Test(received_files, a_beginning_stays_until_another_one_begins)
{
    struct world world;

    world_init(&world);
    receive(&world, 10, false);
    cr_assert(is_there(&world, PART_10));
    reopen(&world, 5, 1);
    cr_assert(is_there(&world, PART_10));
    receive(&world, 20, false);
    cr_assert(!is_there(&world, PART_10));
    cr_assert(is_there(&world, PART_20));
    reopen(&world, 20, 2);
    cr_assert(!is_there(&world, PART_20), "the log is beyond it");
    world_fini(&world);
}

Test(received_files, a_complete_one_becomes_ours_when_the_log_begins_behind_it)
{
    struct snapshot_file file;
    struct world world;
    uint64_t size_bytes = 0;

    world_init(&world);
    receive(&world, 10, true);
    cr_assert(is_there(&world, RECEIVED_10));
    cr_assert(!is_there(&world, PART_10));
    reopen(&world, 0, 0);
    cr_assert(is_there(&world, RECEIVED_10), "the log may still get to it");
    reopen(&world, 10, 3);
    cr_assert(is_there(&world, SNAP_10));
    cr_assert(!is_there(&world, RECEIVED_10));
    cr_assert(received_files_have(world.files, 10, 3, &size_bytes));
    cr_assert_eq(size_bytes, 4);
    cr_assert(!received_files_have(world.files, 10, 4, NULL));
    cr_assert_eq(received_files_adopt(world.files, 10, 3, &file, NULL), MS_OK, "again");
    cr_assert_eq(file.size_bytes, 4);
    cr_assert_eq(received_files_adopt(world.files, 11, 3, &file, NULL), MS_ENOENT);
    world_fini(&world);
}

Test(received_files, what_the_log_has_left_behind_goes_and_of_others_the_newest_stays)
{
    struct world world;

    world_init(&world);
    receive(&world, 10, true);
    cr_assert(received_files_claim(world.files, 10, 3));
    receive(&world, 20, true);
    cr_assert(is_there(&world, RECEIVED_10), "claimed");
    cr_assert(is_there(&world, RECEIVED_20));
    reopen(&world, 0, 0);
    cr_assert(!is_there(&world, RECEIVED_10));
    cr_assert(is_there(&world, RECEIVED_20));
    reopen(&world, 20, 7);
    cr_assert(!is_there(&world, RECEIVED_20), "of another term: not what the log begins behind");
    world_fini(&world);
}

Test(received_files, what_is_claimed_is_not_discarded)
{
    struct world world;

    world_init(&world);
    receive(&world, 10, true);
    cr_assert(!received_files_claim(world.files, 20, 3), "it is not there");
    cr_assert(!received_files_claim(world.files, 10, 2));
    cr_assert(received_files_claim(world.files, 10, 3));
    received_files_discard(world.files);
    cr_assert(is_there(&world, RECEIVED_10));
    receive(&world, 20, true);
    received_files_discard(world.files);
    cr_assert(is_there(&world, RECEIVED_10));
    cr_assert(!is_there(&world, RECEIVED_20));
    world_fini(&world);
}

Test(received_files, names_of_others_are_left_alone)
{
    static const char *const names[] = {"notes.txt", "10-3.received", "x.part",
                                        "00000000000000000010-00000000000000000003.part"};
    struct world world;

    world_init(&world);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[FIXTURE_PATH_BYTES + 128];
        int fd;

        (void)snprintf(path, sizeof(path), "%s/%s", world.dir, names[i]);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        cr_assert(fd >= 0);
        (void)close(fd);
    }
    reopen(&world, 100, 9);
    receive(&world, 200, true);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        cr_assert(is_there(&world, names[i]), "%s", names[i]);
    }
    world_fini(&world);
}

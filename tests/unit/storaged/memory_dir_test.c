/*
 * memory_dir_test: whose the directory is, what of it is trusted, and what is tidied away.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "storaged/fatal.h"
#include "storaged/memory_dir.h"
#include "tests/unit/storaged/engine_fixture.h"

struct place {
    char root[256];
    char memory[280];
    char node[280];
    char boot_id[280];
    struct memory_dir_options options;
};

static void write_boot_id(const struct place *place, const char *id)
{
    FILE *file = fopen(place->boot_id, "w");

    cr_assert_not_null(file);
    (void)fprintf(file, "%s\n", id);
    cr_assert_eq(fclose(file), 0);
}

static void place_init(struct place *place)
{
    fixture_make_dir(place->root);
    (void)snprintf(place->memory, sizeof(place->memory), "%s/memory", place->root);
    (void)snprintf(place->node, sizeof(place->node), "%s/node", place->root);
    (void)snprintf(place->boot_id, sizeof(place->boot_id), "%s/boot_id", place->root);
    cr_assert_eq(mkdir(place->memory, 0700), 0);
    cr_assert_eq(mkdir(place->node, 0700), 0);
    write_boot_id(place, "11111111-2222");
    place->options = (struct memory_dir_options){
        .memory_dir = place->memory,
        .node_dir = place->node,
        .limit_bytes = FIXTURE_LIMIT_BYTES,
        .boot_id_file = place->boot_id,
    };
}

static void place_fini(struct place *place)
{
    fixture_remove_dir(place->root);
}

static struct memory_dir *open_place(struct place *place)
{
    struct memory_dir *dir = NULL;

    MUST(memory_dir_open(&place->options, &dir, err));
    return dir;
}

/* As a first storaged does: a directory with a finished store in it. */
static void leave_store(struct place *place)
{
    struct memory_dir *dir = open_place(place);
    struct engine *engine;

    MUST(memory_dir_renew(dir, err));
    MUST(memory_engine_create(memory_dir_path(dir), FIXTURE_LIMIT_BYTES, &engine, err));
    engine_close(engine);
    memory_dir_close(dir);
}

static void expect_distrust(struct place *place, const char *word)
{
    struct memory_dir *dir = open_place(place);

    cr_assert_null(memory_dir_kept(dir));
    cr_assert_not_null(strstr(memory_dir_distrust(dir), word), "%s", memory_dir_distrust(dir));
    memory_dir_close(dir);
}

static size_t entries_of(const char *path)
{
    char command[400];
    char line[32] = "";
    FILE *pipe;

    (void)snprintf(command, sizeof(command), "ls -A %s | wc -l", path);
    pipe = popen(command, "r");
    cr_assert_not_null(pipe);
    cr_assert_not_null(fgets(line, sizeof(line), pipe));
    (void)pclose(pipe);
    return strtoul(line, NULL, 10);
}

Test(memory_dir, what_a_sound_writer_left_is_kept)
{
    struct memory_dir *dir;
    struct engine *engine;
    struct place place;
    uint64_t epoch;

    place_init(&place);
    expect_distrust(&place, "nothing");
    leave_store(&place);
    dir = open_place(&place);
    epoch = memory_dir_epoch(dir);
    cr_assert_null(memory_dir_distrust(dir));
    cr_assert_null(memory_dir_fallback(dir));
    cr_assert_str_eq(memory_dir_kept(dir), memory_dir_path(dir));
    cr_assert_eq(memory_dir_limit_bytes(dir), FIXTURE_LIMIT_BYTES);
    MUST(memory_engine_open(memory_dir_kept(dir), FIXTURE_LIMIT_BYTES, &engine, err));
    engine_close(engine);
    MUST(memory_dir_renew(dir, err));
    cr_assert_gt(memory_dir_epoch(dir), epoch);
    memory_dir_remove_and_close(dir);
    cr_assert_eq(entries_of(place.memory), 0);
    place_fini(&place);
}

Test(memory_dir, what_a_faulty_writer_left_is_not)
{
    struct memory_dir *dir;
    struct place place;

    place_init(&place);
    leave_store(&place);
    place.options.previous_end = MS_END_OWN_FAULT;
    expect_distrust(&place, "own fault");
    place.options.previous_end = MS_END_KILLED;
    expect_distrust(&place, "nothing"); /* it was removed, not only passed over */
    leave_store(&place);
    dir = open_place(&place);
    cr_assert_not_null(memory_dir_kept(dir));
    cr_assert_eq(write(memory_dir_marker_fd(dir), "x", 1), 1);
    memory_dir_close(dir);
    expect_distrust(&place, "marked");
    leave_store(&place);
    dir = open_place(&place); /* the mark went with what it marked */
    cr_assert_not_null(memory_dir_kept(dir));
    memory_dir_close(dir);
    place_fini(&place);
}

Test(memory_dir, another_boot_is_another_world)
{
    struct place place;

    place_init(&place);
    leave_store(&place);
    write_boot_id(&place, "99999999-0000");
    expect_distrust(&place, "boot");
    place_fini(&place);
}

Test(memory_dir, has_one_owner_at_a_time)
{
    struct memory_dir *second = NULL;
    struct memory_dir *dir;
    struct place place;

    place_init(&place);
    dir = open_place(&place);
    cr_assert_eq(memory_dir_open(&place.options, &second, NULL), MS_EBUSY);
    memory_dir_close(dir);
    MUST(memory_dir_open(&place.options, &second, err));
    memory_dir_close(second);
    place_fini(&place);
}

/* Only directories of nodes that neither run nor have a data directory go. */
Test(memory_dir, leftovers_of_gone_nodes_are_removed)
{
    struct memory_dir *running;
    struct memory_dir *dir;
    struct place place;
    char gone[280];
    char busy[280];

    place_init(&place);
    (void)snprintf(gone, sizeof(gone), "%s/gone", place.root);
    (void)snprintf(busy, sizeof(busy), "%s/busy", place.root);
    cr_assert_eq(mkdir(gone, 0700), 0);
    cr_assert_eq(mkdir(busy, 0700), 0);
    place.options.node_dir = gone;
    leave_store(&place);
    place.options.node_dir = busy;
    running = open_place(&place);
    cr_assert_eq(rmdir(gone), 0);
    cr_assert_eq(rmdir(busy), 0);
    place.options.node_dir = place.node;
    cr_assert_eq(entries_of(place.memory), 2);
    dir = open_place(&place);
    cr_assert_eq(entries_of(place.memory), 2, "one is gone, one runs, and there is ours");
    memory_dir_close(running);
    memory_dir_close(dir);
    place_fini(&place);
}

/* A mistake in the option is told, not worked around. */
Test(memory_dir, what_is_no_directory_is_refused)
{
    struct memory_dir *dir = NULL;
    struct ms_err err = {0};
    struct place place;
    char path[400];

    place_init(&place);
    (void)snprintf(path, sizeof(path), "%s/nowhere", place.root);
    place.options.memory_dir = path;
    cr_assert_eq(memory_dir_open(&place.options, &dir, &err), MS_EIO);
    cr_assert_not_null(strstr(err.text, path), "%s", err.text);
    cr_assert_not_null(strstr(err.text, "No such file or directory"), "%s", err.text);
    place.options.memory_dir = "/proc/self/status";
    cr_assert_eq(memory_dir_open(&place.options, &dir, &err), MS_EIO);
    cr_assert_not_null(strstr(err.text, "Not a directory"), "%s", err.text);
    cr_assert_eq(entries_of(place.node), 0, "nothing was made below the data directory");
    place_fini(&place);
}

/* Where others have taken our name, the data directory serves, and the reason is told. */
Test(memory_dir, falls_back_below_the_data_directory)
{
    struct memory_dir *dir;
    struct place place;
    char path[600];

    place_init(&place);
    leave_store(&place);
    dir = open_place(&place);
    (void)snprintf(path, sizeof(path), "%s", memory_dir_path(dir));
    *strrchr(path, '/') = '\0';
    memory_dir_remove_and_close(dir);
    cr_assert_eq(symlink(place.root, path), 0);
    dir = open_place(&place);
    cr_assert_not_null(memory_dir_fallback(dir));
    MUST(memory_dir_renew(dir, err));
    cr_assert_eq(strncmp(memory_dir_path(dir), place.node, strlen(place.node)), 0);
    memory_dir_close(dir);
    dir = open_place(&place);
    cr_assert_not_null(memory_dir_kept(dir), "%s", memory_dir_distrust(dir));
    memory_dir_close(dir);
    place_fini(&place);
}

Test(memory_dir, too_little_room_is_no_room)
{
    struct memory_dir *dir = NULL;
    struct place place;

    place_init(&place);
    place.options.limit_bytes = UINT64_MAX / 2;
    cr_assert_eq(memory_dir_open(&place.options, &dir, NULL), MS_ENOSPC);
    cr_assert_eq(entries_of(place.memory), 0);
    place.options.limit_bytes = 0;
    dir = open_place(&place);
    cr_assert_gt(memory_dir_limit_bytes(dir), 0);
    memory_dir_close(dir);
    place_fini(&place);
}

/* A directory that others can write to, or a link, is not used, whoever made it. */
Test(memory_dir, directories_of_others_are_not_used)
{
    struct memory_dir *dir;
    struct place place;
    char ours[512];
    char *slash;

    place_init(&place);
    leave_store(&place);
    dir = open_place(&place);
    (void)snprintf(ours, sizeof(ours), "%s", memory_dir_kept(dir));
    memory_dir_close(dir);
    slash = strrchr(ours, '/');
    *slash = '\0';
    cr_assert_eq(chmod(ours, 0770), 0);
    dir = open_place(&place);
    cr_assert_not_null(memory_dir_fallback(dir));
    memory_dir_close(dir);
    fixture_remove_dir(ours);
    cr_assert_eq(symlink(place.root, ours), 0);
    dir = open_place(&place);
    cr_assert_not_null(memory_dir_fallback(dir));
    memory_dir_close(dir);
    place_fini(&place);
}

/* Of several epochs, as an interrupted rebuild leaves them, only the newest stays. */
Test(memory_dir, older_epochs_are_removed)
{
    struct memory_dir *dir;
    struct place place;
    char path[600];
    uint64_t epoch;

    place_init(&place);
    leave_store(&place);
    dir = open_place(&place);
    epoch = memory_dir_epoch(dir);
    (void)snprintf(path, sizeof(path), "%s", memory_dir_path(dir));
    (void)snprintf(strrchr(path, '/'), 64, "/epoch-%llu", (unsigned long long)epoch + 5);
    cr_assert_eq(mkdir(path, 0700), 0);
    memory_dir_close(dir);
    dir = open_place(&place);
    cr_assert_eq(memory_dir_epoch(dir), epoch + 5);
    (void)snprintf(strrchr(path, '/'), 64, "/epoch-%llu", (unsigned long long)epoch);
    cr_assert_neq(access(path, F_OK), 0);
    memory_dir_close(dir);
    place_fini(&place);
}

/* A state that is built aside does not touch the one in use; dying in between leaves both. */
Test(memory_dir, another_environment_is_made_aside_and_switched_to)
{
    struct memory_dir_aside aside;
    struct memory_dir *dir;
    struct place place;
    uint64_t before;
    char old_path[MEMORY_DIR_PATH_BYTES];

    place_init(&place);
    leave_store(&place);
    dir = open_place(&place);
    cr_assert_not_null(memory_dir_kept(dir));
    before = memory_dir_epoch(dir);
    (void)snprintf(old_path, sizeof(old_path), "%s", memory_dir_path(dir));
    MUST(memory_dir_begin(dir, &aside, err));
    cr_assert_neq(aside.epoch, before);
    cr_assert_eq(access(aside.path, F_OK), 0);
    cr_assert_eq(memory_dir_epoch(dir), before);
    cr_assert_eq(memory_dir_switch(dir, &aside), before);
    cr_assert_eq(memory_dir_epoch(dir), aside.epoch);
    cr_assert_str_eq(memory_dir_path(dir), aside.path);
    cr_assert_eq(access(old_path, F_OK), 0, "somebody still closes it");
    MUST(memory_dir_remove(dir, before, err));
    cr_assert_neq(access(old_path, F_OK), 0);
    MUST(memory_dir_remove(dir, before, err));
    memory_dir_close(dir);
    place_fini(&place);
}

static void die_by(int number, int marker_fd)
{
    pid_t child = fork();
    int status;

    cr_assert_geq(child, 0);
    if (child == 0) {
        /* As a program starts: a test runner's handlers are none of its business. */
        (void)signal(number, SIG_DFL);
        if (fatal_arm(marker_fd, NULL) == MS_OK) {
            (void)raise(number);
        }
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status));
    cr_assert_eq(WTERMSIG(status), number);
}

Test(memory_dir, a_fatal_signal_leaves_its_mark)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};
    struct memory_dir *dir;
    struct place place;

    place_init(&place);
    for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++) {
        leave_store(&place);
        dir = open_place(&place);
        cr_assert_not_null(memory_dir_kept(dir));
        die_by(fatal[i], memory_dir_marker_fd(dir));
        memory_dir_close(dir);
        expect_distrust(&place, "marked");
    }
    leave_store(&place);
    dir = open_place(&place);
    die_by(SIGTERM, memory_dir_marker_fd(dir));
    memory_dir_close(dir);
    dir = open_place(&place);
    cr_assert_not_null(memory_dir_kept(dir));
    memory_dir_close(dir);
    place_fini(&place);
}

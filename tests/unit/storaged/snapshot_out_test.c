/*
 * snapshot_out: a raftd of our own that reads snapshots.
 */
#include "common/log.h"
#include "storaged/snapshot_out.h"
#include "tests/unit/storaged/engine_fixture.h"
#include "tests/unit/storaged/link_fixture.h"

struct world {
    char dir[256];
    char memory[280];
    char snap[280];
    struct engine *engine;
    struct apply *apply;
    struct snapshot_files *files;
    struct snapshot_out *out;
    struct ms_link near_end;
    struct ms_link far_end;
};

static void world_init(struct world *world)
{
    *world = (struct world){.engine = NULL};
    ms_log_init("test", MS_LOG_TEXT, MS_LOG_ERROR);
    fixture_make_dir(world->dir);
    (void)snprintf(world->memory, sizeof(world->memory), "%s/memory", world->dir);
    (void)snprintf(world->snap, sizeof(world->snap), "%s/snap", world->dir);
    cr_assert_eq(mkdir(world->memory, 0700), 0);
    MUST(memory_engine_create(world->memory, FIXTURE_LIMIT_BYTES, &world->engine, err));
    MUST(apply_create(world->engine, &world->apply, err));
    MUST(snapshot_files_open(world->snap, &world->files, err));
    MUST(snapshot_out_create(world->files, &world->out, err));
    link_fixture_make(MS_LINK_RAFT_APPLY, MS_ROLE_RAFTD, 1, &world->near_end, &world->far_end);
}

static void world_fini(struct world *world)
{
    ms_link_fini(&world->near_end);
    ms_link_fini(&world->far_end);
    snapshot_out_destroy(world->out);
    snapshot_files_close(world->files);
    apply_destroy(world->apply);
    engine_close(world->engine);
    fixture_remove_dir(world->dir);
}

/* A few writes, and a snapshot of them. */
static struct snapshot_file make_snapshot(struct world *world)
{
    struct engine_snapshot *snapshot;
    struct snapshot_file file;

    for (uint64_t i = 0; i < 10; i++) {
        const struct ms_command command = {.kind = MS_COMMAND_PUT,
                                           .key = (const uint8_t *)"key",
                                           .key_bytes = 3,
                                           .value = (const uint8_t *)"value",
                                           .value_bytes = 5};

        (void)fixture_apply(world->engine, world->apply, &command);
    }
    MUST(engine_snapshot_begin(world->engine, &snapshot, err));
    MUST(snapshot_files_write(world->files, world->engine, snapshot, NULL, &file, err));
    engine_snapshot_end(world->engine, snapshot);
    MUST(snapshot_files_add(world->files, &file, err));
    return file;
}

static int open_session(struct world *world, uint64_t session, raft_index min_index)
{
    const struct ms_snap_open open = {.session = session, .min_index = min_index};

    return snapshot_out_open(world->out, &open, &world->near_end);
}

static struct ms_snap_opened expect_opened(struct world *world, uint64_t session)
{
    struct ms_snap_opened opened;

    cr_assert_eq(snapshot_out_tell(world->out, &world->near_end), MS_OK);
    cr_assert(!snapshot_out_is_due(world->out));
    ms_link_flush(&world->near_end);
    link_fixture_expect(&world->far_end, MS_IPC_SNAP_OPENED, &opened, sizeof(opened));
    cr_assert_eq(opened.session, session);
    return opened;
}

static struct ms_snap_data read_piece(struct world *world, uint64_t session, uint64_t offset,
                                      uint32_t len_bytes, size_t *got)
{
    const struct ms_snap_read read = {.session = session, .offset = offset, .len_bytes = len_bytes};
    struct ms_ipc_message message;
    struct ms_snap_data data;

    cr_assert_eq(snapshot_out_read(world->out, &read, &world->near_end), MS_OK);
    cr_assert_eq(ms_link_receive(&world->far_end, &message), MS_OK);
    memcpy(&data, message.body, sizeof(data));
    *got = message.tail_bytes;
    ms_link_release(&world->far_end);
    return data;
}

Test(snapshot_out, a_session_outlives_its_file)
{
    struct ms_snap_opened opened;
    struct snapshot_file file;
    struct world world;
    size_t got = 0;

    world_init(&world);
    file = make_snapshot(&world);
    cr_assert_eq(open_session(&world, 1, 0), MS_OK);
    opened = expect_opened(&world, 1);
    cr_assert_eq(opened.status, MS_OK);
    cr_assert_eq(opened.index, file.index);
    cr_assert_eq(opened.size_bytes, file.size_bytes);
    for (int i = 0; i < SNAPSHOT_FILES_KEPT + 1; i++) {
        (void)make_snapshot(&world);
    }
    MUST(snapshot_files_trim(world.files, UINT64_MAX, err));
    cr_assert_eq(snapshot_out_lowest(world.out), file.index, "the log is wanted from there on");
    cr_assert_eq(read_piece(&world, 1, 0, 100, &got).status, MS_OK);
    cr_assert_eq(got, 100);
    cr_assert_eq(read_piece(&world, 1, file.size_bytes - 10, 100, &got).status, MS_OK);
    cr_assert_eq(got, 10, "the end");
    cr_assert_eq(read_piece(&world, 1, file.size_bytes, 100, &got).status, MS_OK);
    cr_assert_eq(got, 0);
    cr_assert_eq(read_piece(&world, 1, file.size_bytes + 1, 100, &got).status, MS_ERANGE);
    cr_assert_eq(read_piece(&world, 1, 0, 0, &got).status, MS_ERANGE);
    cr_assert_eq(read_piece(&world, 1, 0, MS_SNAP_PIECE_BYTES + 1, &got).status, MS_ERANGE);
    cr_assert_eq(read_piece(&world, 2, 0, 100, &got).status, MS_ENOENT);
    snapshot_out_close(world.out, &(struct ms_snap_close){.session = 1});
    cr_assert_eq(read_piece(&world, 1, 0, 100, &got).status, MS_ENOENT);
    cr_assert_eq(snapshot_out_lowest(world.out), 0);
    world_fini(&world);
}

Test(snapshot_out, who_needs_a_newer_one_waits_for_it)
{
    struct snapshot_file file;
    struct world world;
    raft_index min_index = 0;

    world_init(&world);
    cr_assert_eq(open_session(&world, 1, 0), MS_OK);
    cr_assert(snapshot_out_wants(world.out, &min_index), "there is none at all");
    cr_assert_eq(min_index, 0);
    cr_assert_eq(open_session(&world, 2, 15), MS_OK);
    cr_assert_eq(open_session(&world, 2, 15), MS_EPROTO, "the session exists");
    cr_assert(snapshot_out_wants(world.out, &min_index));
    cr_assert_eq(min_index, 15);
    file = make_snapshot(&world);
    snapshot_out_made(world.out);
    cr_assert_eq(expect_opened(&world, 1).index, file.index);
    cr_assert(snapshot_out_wants(world.out, &min_index), "the second needs more");
    file = make_snapshot(&world);
    snapshot_out_made(world.out);
    cr_assert_eq(expect_opened(&world, 2).index, file.index);
    cr_assert(!snapshot_out_wants(world.out, &min_index));
    cr_assert_eq(open_session(&world, 3, 1000), MS_OK);
    snapshot_out_deny(world.out);
    cr_assert_eq(expect_opened(&world, 3).status, MS_ENOENT);
    cr_assert_eq(open_session(&world, 3, 0), MS_OK, "it is free again");
    cr_assert_eq(expect_opened(&world, 3).status, MS_OK);
    world_fini(&world);
}

Test(snapshot_out, sessions_are_bounded)
{
    struct ms_snap_opened opened;
    struct world world;

    world_init(&world);
    (void)make_snapshot(&world);
    for (uint64_t session = 1; session <= SNAPSHOT_OUT_SESSIONS_MAX; session++) {
        cr_assert_eq(open_session(&world, session, 0), MS_OK);
        cr_assert_eq(expect_opened(&world, session).status, MS_OK);
    }
    cr_assert_eq(open_session(&world, 100, 0), MS_OK);
    ms_link_flush(&world.near_end);
    link_fixture_expect(&world.far_end, MS_IPC_SNAP_OPENED, &opened, sizeof(opened));
    cr_assert_eq(opened.session, 100);
    cr_assert_eq(opened.status, MS_EFULL);
    snapshot_out_reset(world.out);
    cr_assert_eq(open_session(&world, 100, 0), MS_OK);
    cr_assert_eq(expect_opened(&world, 100).status, MS_OK);
    world_fini(&world);
}

/* A ring without room costs nothing: the answer is given when there is some. */
Test(snapshot_out, a_full_ring_only_delays)
{
    struct ms_snap_read read = {.session = 1, .len_bytes = 1000};
    struct ms_ipc_message message;
    struct world world;
    unsigned sent = 0;
    unsigned seen = 0;

    world_init(&world);
    (void)make_snapshot(&world);
    cr_assert_eq(open_session(&world, 1, 0), MS_OK);
    (void)expect_opened(&world, 1);
    while (snapshot_out_read(world.out, &read, &world.near_end) == MS_OK) {
        sent++;
    }
    cr_assert_gt(sent, 10);
    cr_assert_eq(open_session(&world, 2, 0), MS_OK);
    while (ms_link_send(&world.near_end, MS_IPC_APPLY_DONE, &(struct ms_apply_done){0}) == MS_OK) {
        sent++;
    }
    cr_assert_eq(snapshot_out_tell(world.out, &world.near_end), MS_EAGAIN);
    cr_assert(snapshot_out_is_due(world.out));
    while (ms_link_receive(&world.far_end, &message) == MS_OK) {
        ms_link_release(&world.far_end);
        seen++;
    }
    cr_assert_eq(seen, sent);
    cr_assert_eq(expect_opened(&world, 2).status, MS_OK);
    world_fini(&world);
}

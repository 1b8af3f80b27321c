/*
 * snapshot_stress: snapshots that are received, claimed, installed and given up by several threads,
 * for the race detector.
 *
 *   snapshot_stress [ROUNDS]
 *
 * Each round receives one snapshot, interrupted a few times, while another thread claims as the log
 * would, and installs it. Exits non-zero if anything but an interruption fails.
 */
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/command.h"
#include "common/log.h"
#include "storaged/installer.h"
#include "storaged/memory_engine.h"
#include "storaged/snapshot_in.h"

#define ROUNDS_DEFAULT 20u
#define WRITES         400u
#define VALUE_BYTES    5000u
#define PIECE_BYTES    70000u
#define LIMIT_BYTES    (UINT64_C(64) << 20)

struct shared {
    struct received_files *received;
    _Atomic raft_index index; /* of the snapshot of this round */
    atomic_bool done;
};

static _Noreturn void die(const char *what, const struct ms_err *err)
{
    (void)fprintf(stderr, "snapshot_stress: %s: %s\n", what, err->text);
    exit(1);
}

static void must(int rc, const char *what, const struct ms_err *err)
{
    if (rc != MS_OK) {
        die(what, err);
    }
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

/* What the log thread does, only more often. */
static void *claim(void *arg)
{
    struct shared *shared = arg;

    while (!atomic_load(&shared->done)) {
        (void)received_files_claim(shared->received, atomic_load(&shared->index), 1);
        (void)usleep(200);
    }
    return NULL;
}

/* A store with WRITES entries, beginning at any index, as the bytes of its snapshot. */
static uint8_t *make_snapshot(const char *dir, raft_index index, struct snapshot_file *file)
{
    static uint8_t value[VALUE_BYTES];
    struct ms_err err = {.status = MS_OK};
    struct engine_snapshot *snapshot;
    struct snapshot_files *files;
    struct engine_volume volume = {.operations = WRITES, .bytes = WRITES * (VALUE_BYTES + 8)};
    struct ms_memdb_meta meta = {
        .applied = index, .applied_term = 1, .revision = WRITES + 1, .keys = WRITES};
    struct engine *engine;
    char memory[300];
    char snap[300];
    char path[400];
    char name[SNAPSHOT_NAME_BYTES];
    uint8_t *data;
    int fd;

    (void)snprintf(memory, sizeof(memory), "%s/their-memory", dir);
    (void)snprintf(snap, sizeof(snap), "%s/their-snap", dir);
    (void)mkdir(memory, 0700);
    must(memory_engine_create(memory, LIMIT_BYTES, &engine, &err), "create", &err);
    must(engine_begin(engine, &volume, &err), "begin", &err);
    for (uint64_t i = 0; i < WRITES; i++) {
        const struct engine_change change = {.kv = {.key = (const uint8_t *)&i,
                                                    .key_bytes = sizeof(i),
                                                    .value = value,
                                                    .value_bytes = VALUE_BYTES,
                                                    .create_revision = i + 2,
                                                    .mod_revision = i + 2,
                                                    .version = 1}};

        must(engine_change(engine, &change, &err), "change", &err);
    }
    must(engine_commit(engine, &meta, &err), "commit", &err);
    must(snapshot_files_open(snap, &files, &err), "open", &err);
    must(engine_snapshot_begin(engine, &snapshot, &err), "snapshot", &err);
    must(snapshot_files_write(files, engine, snapshot, NULL, file, &err), "write", &err);
    engine_snapshot_end(engine, snapshot);
    snapshot_files_close(files);
    engine_close(engine);
    snapshot_files_name(file, name);
    (void)snprintf(path, sizeof(path), "%s/%s", snap, name);
    data = malloc(file->size_bytes);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (data == NULL || fd < 0 || read(fd, data, file->size_bytes) != (ssize_t)file->size_bytes) {
        die("read the snapshot", &err);
    }
    (void)close(fd);
    (void)nftw(memory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    (void)nftw(snap, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return data;
}

static void next_progress(struct snapshot_in *in, struct ms_link *near_end, struct ms_link *far_end,
                          struct ms_snap_progress *out)
{
    struct ms_ipc_message message;

    while (!snapshot_in_is_due(in)) {
        struct pollfd wait = {.fd = snapshot_in_fd(in), .events = POLLIN};

        (void)poll(&wait, 1, -1);
        snapshot_in_collect(in);
    }
    (void)snapshot_in_tell(in, near_end);
    if (ms_link_receive(far_end, &message) == MS_OK) {
        memcpy(out, message.body, sizeof(*out));
        ms_link_release(far_end);
    }
}

/* One transfer; gives up after so many pieces. True if it came to the end. */
static bool transfer(struct snapshot_in *in, struct ms_link ends[2],
                     const struct snapshot_file *file, const uint8_t *data, unsigned pieces)
{
    static uint64_t number;
    const struct ms_snap_receive receive = {.transfer = ++number,
                                            .index = file->index,
                                            .term = file->term,
                                            .size_bytes = file->size_bytes};
    struct ms_snap_progress progress = {0};
    uint64_t sent = 0;
    bool begun = false;

    snapshot_in_receive(in, &receive);
    while (progress.complete == 0) {
        next_progress(in, &ends[0], &ends[1], &progress);
        if (progress.status != MS_OK) {
            (void)fprintf(stderr, "snapshot_stress: transfer failed: %d\n", progress.status);
            exit(1);
        }
        if (!begun) {
            sent = progress.offset;
            begun = true;
        }
        if (pieces-- == 0) {
            snapshot_in_abandon(in, &(struct ms_snap_abandon){.transfer = number});
            return false;
        }
        while (sent < file->size_bytes && sent - progress.offset < 3 * PIECE_BYTES) {
            const struct ms_snap_write write = {.transfer = number, .offset = sent};
            uint64_t rest = file->size_bytes - sent;

            snapshot_in_write(in, &write, data + sent, rest < PIECE_BYTES ? rest : PIECE_BYTES);
            sent += rest < PIECE_BYTES ? rest : PIECE_BYTES;
        }
    }
    return true;
}

static void install(struct installer *installer, const struct snapshot_file *file, bool finish)
{
    struct pollfd wait = {.fd = installer_fd(installer), .events = POLLIN};
    struct installer_outcome outcome;
    struct ms_err err = {.status = MS_OK};

    must(installer_start(installer, file->index, file->term, &err), "install", &err);
    if (!finish) {
        return; /* it is destroyed in the middle */
    }
    (void)poll(&wait, 1, -1);
    if (installer_collect(installer, &outcome) != MS_OK || outcome.status != MS_OK) {
        die("install", &outcome.err);
    }
    installer_take_away(installer, outcome.engine, outcome.apply, outcome.aside.epoch);
}

static void make_ends(struct ms_link ends[2])
{
    struct ms_link_info info = {.kind = MS_LINK_RAFT_APPLY, .generation = 1, .peer_origin = 1};
    struct ms_err err = {.status = MS_OK};
    int left[MS_LINK_FD_COUNT];
    int right[MS_LINK_FD_COUNT];

    must(ms_link_create(&info, 1 << 16, left, right, &err), "link", &err);
    info.peer_role = MS_ROLE_STORAGED;
    must(ms_link_take(&ends[1], &info, MS_ROLE_RAFTD, left, &err), "link", &err);
    info.peer_role = MS_ROLE_RAFTD;
    must(ms_link_take(&ends[0], &info, MS_ROLE_STORAGED, right, &err), "link", &err);
}

static void run_round(struct shared *shared, struct ms_link ends[2], const char *dir,
                      struct memory_dir *memory, unsigned round)
{
    struct ms_err err = {.status = MS_OK};
    struct installer_options options = {.dir = memory, .received = shared->received};
    struct snapshot_files *files;
    struct installer *installer;
    struct snapshot_in *in;
    struct snapshot_file file;
    uint8_t *data = make_snapshot(dir, 100 + round, &file);
    char snap[300];

    (void)snprintf(snap, sizeof(snap), "%s/snap", dir);
    must(snapshot_files_open(snap, &files, &err), "open", &err);
    options.files = files;
    must(snapshot_in_create(shared->received, &in, &err), "receive", &err);
    must(installer_create(&options, &installer, &err), "installer", &err);
    atomic_store(&shared->index, file.index);
    for (unsigned pieces = round % 5; !transfer(in, ends, &file, data, pieces); pieces += 7) {
    }
    install(installer, &file, round % 3 != 0);
    installer_destroy(installer);
    snapshot_in_destroy(in);
    must(snapshot_files_add(files, &file, &err), "add", &err);
    snapshot_files_close(files);
    free(data);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : ROUNDS_DEFAULT;
    const char *tmp = getenv("TMPDIR");
    struct ms_err err = {.status = MS_OK};
    struct shared shared = {.received = NULL};
    struct memory_dir *memory;
    struct ms_link ends[2];
    pthread_t thread;
    char dir[200];
    char snap[300];

    ms_log_init("stress", MS_LOG_TEXT, MS_LOG_ERROR);
    (void)snprintf(dir, sizeof(dir), "%s/ms-stress-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(dir) == NULL) {
        die("make a directory", &err);
    }
    (void)snprintf(snap, sizeof(snap), "%s/snap", dir);
    must(memory_dir_open(&(struct memory_dir_options){.memory_dir = dir,
                                                      .node_dir = dir,
                                                      .limit_bytes = LIMIT_BYTES},
                         &memory, &err),
         "memory", &err);
    must(received_files_open(snap, 0, 0, &shared.received, &err), "open", &err);
    make_ends(ends);
    if (pthread_create(&thread, NULL, claim, &shared) != 0) {
        die("start a thread", &err);
    }
    for (unsigned round = 0; round < rounds; round++) {
        run_round(&shared, ends, dir, memory, round);
    }
    atomic_store(&shared.done, true);
    (void)pthread_join(thread, NULL);
    ms_link_fini(&ends[0]);
    ms_link_fini(&ends[1]);
    received_files_close(shared.received);
    memory_dir_remove_and_close(memory);
    (void)nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    (void)printf("snapshot_stress: %u rounds\n", rounds);
    return 0;
}

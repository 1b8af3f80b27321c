/*
 * engine_bench: what the state machine and the memory engine cost, without disk, rings or network.
 *
 *   engine_bench [KEYS]     16-byte keys, 128-byte values; prints one line per measurement
 */
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/command.h"
#include "common/memdb.h"
#include "storaged/apply.h"
#include "storaged/memory_engine.h"
#include "storaged/snapshot_files.h"

#define KEY_BYTES   16
#define VALUE_BYTES 128
#define BATCH_MAX   4096
#define LIMIT_BYTES (UINT64_C(4) << 30)
#define IN_FLIGHT   64 /* operations that an origin has not acknowledged */

struct bench {
    char root[64];
    char store[128];
    char copy[128];
    char snapshots[128];
    struct engine *engine;
    struct apply *apply;
    raft_index index;
    uint64_t random;
    uint8_t *commands;
    struct apply_entry entries[BATCH_MAX];
    struct apply_result results[BATCH_MAX];
};

static void check(int rc, const struct ms_err *err, const char *what)
{
    if (rc != MS_OK) {
        (void)fprintf(stderr, "engine_bench: %s: %s %s\n", what, ms_status_text(rc), err->text);
        exit(1);
    }
}

/* Same numbers in each run (a multiplicative generator; its upper bits are good). */
static uint64_t next_random(struct bench *bench)
{
    bench->random = bench->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return bench->random >> 20;
}

/* The n-th key. scattered: in no order, as hashes are. */
static void key_of(uint64_t n, bool scattered, uint8_t key[KEY_BYTES])
{
    char text[KEY_BYTES + 1];

    (void)snprintf(text, sizeof(text), "%016" PRIx64,
                   scattered ? n * UINT64_C(0x9e3779b97f4a7c15) : n);
    memcpy(key, text, KEY_BYTES);
}

static void put_batch(struct bench *bench, const uint64_t *numbers, size_t count, bool scattered)
{
    uint8_t value[VALUE_BYTES];
    struct ms_err err = {0};
    size_t results = 0;

    memset(value, 'v', sizeof(value));
    for (size_t i = 0; i < count; i++) {
        uint8_t key[KEY_BYTES];
        uint64_t seq = bench->index + 1;
        const struct ms_command command = {
            .id = {.origin = 7, .seq = seq},
            .ack_seq = seq > IN_FLIGHT ? seq - IN_FLIGHT : 1,
            .kind = MS_COMMAND_PUT,
            .key = key,
            .key_bytes = sizeof(key),
            .value = value,
            .value_bytes = sizeof(value),
        };
        uint8_t *at = bench->commands + i * 256;

        key_of(numbers[i], scattered, key);
        ms_command_encode(&command, at);
        bench->entries[i] = (struct apply_entry){
            .index = ++bench->index,
            .term = 1,
            .data = at,
            .len_bytes = ms_command_encoded_bytes(&command),
        };
    }
    check(apply_entries(bench->apply, bench->entries, count, bench->results, &results, &err), &err,
          "apply");
}

static void report(const char *what, double value, const char *unit)
{
    printf("%-44s %10.2f %s\n", what, value, unit);
    (void)fflush(stdout);
}

static double elapsed_us(struct ms_instant began)
{
    return (double)ms_clock_elapsed_ns(began, ms_clock_now()) / 1000.0;
}

static void open_store(struct bench *bench)
{
    struct ms_err err = {0};

    check(mkdir(bench->store, 0700) == 0 ? MS_OK : MS_EIO, &err, "mkdir");
    check(memory_engine_create(bench->store, LIMIT_BYTES, &bench->engine, &err), &err, "create");
    check(apply_create(bench->engine, &bench->apply, &err), &err, "state machine");
    bench->index = 0;
}

static void close_store(struct bench *bench)
{
    apply_destroy(bench->apply);
    engine_close(bench->engine);
}

static void fill(struct bench *bench, uint64_t keys, bool scattered)
{
    const char *order = scattered ? "scattered" : "ascending";
    struct ms_instant began = ms_clock_now();
    struct engine_stats stats;
    struct ms_err err = {0};
    char label[64];

    for (uint64_t n = 0; n < keys; n += 256) {
        uint64_t numbers[256];
        size_t count = keys - n < 256 ? keys - n : 256;

        for (size_t i = 0; i < count; i++) {
            numbers[i] = n + i;
        }
        put_batch(bench, numbers, count, scattered);
    }
    (void)snprintf(label, sizeof(label), "fill, %s keys, batches of 256", order);
    report(label, elapsed_us(began) / (double)keys, "us/put");
    check(engine_tick(bench->engine, &err), &err, "tick");
    engine_stats(bench->engine, &stats);
    (void)snprintf(label, sizeof(label), "used, %s keys", order);
    report(label, (double)stats.used_bytes / (double)keys, "B/key");
}

static void overwrite(struct bench *bench, uint64_t keys, size_t batch, size_t rounds)
{
    struct ms_instant began = ms_clock_now();
    char label[64];

    for (size_t round = 0; round < rounds; round++) {
        uint64_t numbers[BATCH_MAX];

        for (size_t i = 0; i < batch; i++) {
            numbers[i] = next_random(bench) % keys;
        }
        put_batch(bench, numbers, batch, true);
    }
    (void)snprintf(label, sizeof(label), "overwrite random keys, batches of %zu", batch);
    report(label, elapsed_us(began) / (double)(rounds * batch), "us/put");
}

/* In a process of its own, as apid is. */
static void get(struct bench *bench, uint64_t keys, uint64_t hot, const char *label)
{
    pid_t child = fork();
    int status = 0;

    if (child == 0) {
        const size_t count = 500000;
        struct ms_memdb_read *read = NULL;
        struct ms_memdb *db = NULL;
        struct ms_err err = {0};
        struct ms_instant began;

        check(ms_memdb_open(bench->store, &db, &err), &err, "open");
        check(ms_memdb_read_create(db, &read, &err), &err, "reader");
        began = ms_clock_now();
        for (size_t i = 0; i < count; i++) {
            uint8_t key[KEY_BYTES];
            struct ms_memdb_meta meta;
            struct ms_memdb_kv kv;

            key_of(next_random(bench) % hot * (keys / hot), true, key);
            check(ms_memdb_read_begin(read), &err, "begin");
            check(ms_memdb_read_meta(read, &meta), &err, "meta");
            check(ms_memdb_get(read, key, sizeof(key), 0, &kv), &err, "get");
            ms_memdb_read_end(read);
        }
        report(label, elapsed_us(began) / (double)count, "us/get");
        ms_memdb_read_destroy(read);
        ms_memdb_close(db);
        _exit(0);
    }
    if (waitpid(child, &status, 0) != child || status != 0) {
        exit(1);
    }
}

static void transfer(struct bench *bench)
{
    struct engine_snapshot *snapshot = NULL;
    struct engine_snapshot_info info;
    struct snapshot_files *files = NULL;
    struct engine *copy = NULL;
    struct snapshot_file file;
    struct ms_err err = {0};
    struct ms_instant began;
    uint64_t left = 0;
    uint64_t right = 1;

    check(snapshot_files_open(bench->snapshots, &files, &err), &err, "snapshots");
    began = ms_clock_now();
    check(engine_snapshot_begin(bench->engine, &snapshot, &err), &err, "snapshot");
    check(snapshot_files_write(files, bench->engine, snapshot, NULL, &file, &err), &err, "write");
    engine_snapshot_end(bench->engine, snapshot);
    report("write a snapshot, with sync", elapsed_us(began) / 1e6, "s");
    report("its size", (double)file.size_bytes / 1e6, "MB");
    check(mkdir(bench->copy, 0700) == 0 ? MS_OK : MS_EIO, &err, "mkdir");
    began = ms_clock_now();
    check(memory_engine_create(bench->copy, LIMIT_BYTES, &copy, &err), &err, "create");
    check(snapshot_files_load(files, &file, copy, NULL, &info, &err), &err, "install");
    report("install it", elapsed_us(began) / 1e6, "s");
    began = ms_clock_now();
    check(engine_hash(bench->engine, 0, &left, &err), &err, "hash");
    report("hash of everything", elapsed_us(began) / 1e6, "s");
    check(engine_hash(copy, 0, &right, &err), &err, "hash");
    check(left == right ? MS_OK : MS_ECORRUPT, &err, "the copy differs");
    engine_close(copy);
    snapshot_files_close(files);
}

static void compact(struct bench *bench)
{
    const struct ms_command command = {.kind = MS_COMMAND_COMPACT};
    struct ms_command at_revision = command;
    struct ms_memdb_meta meta;
    struct ms_err err = {0};
    struct ms_instant began;
    size_t results = 0;
    size_t steps = 0;
    double longest_us = 0;
    bool more = true;

    engine_meta(bench->engine, &meta);
    at_revision.revision = meta.revision;
    ms_command_encode(&at_revision, bench->commands);
    bench->entries[0] = (struct apply_entry){
        .index = ++bench->index,
        .term = 1,
        .data = bench->commands,
        .len_bytes = ms_command_encoded_bytes(&at_revision),
    };
    check(apply_entries(bench->apply, bench->entries, 1, bench->results, &results, &err), &err,
          "compact");
    began = ms_clock_now();
    while (more) {
        struct ms_instant step = ms_clock_now();

        check(engine_compact_step(bench->engine, 256, &more, &err), &err, "compact");
        steps++;
        longest_us = elapsed_us(step) > longest_us ? elapsed_us(step) : longest_us;
    }
    report("compaction, all history, per revision", elapsed_us(began) / (double)meta.revision,
           "us");
    report("compaction, longest step of 256", longest_us, "us");
    report("compaction, steps", (double)steps, "");
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

int main(int argc, char **argv)
{
    uint64_t keys = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    struct bench *bench = calloc(1, sizeof(*bench));
    struct ms_err err = {0};

    if (bench == NULL || keys < 1000) {
        (void)fprintf(stderr, "usage: engine_bench [KEYS, at least 1000]\n");
        return 2;
    }
    bench->random = 1;
    bench->commands = malloc(BATCH_MAX * 256);
    (void)snprintf(bench->root, sizeof(bench->root), "/dev/shm/engine-bench-XXXXXX");
    if (bench->commands == NULL || mkdtemp(bench->root) == NULL) {
        check(MS_EIO, &err, "mkdtemp");
    }
    (void)snprintf(bench->store, sizeof(bench->store), "%s/ascending", bench->root);
    (void)snprintf(bench->copy, sizeof(bench->copy), "%s/copy", bench->root);
    (void)snprintf(bench->snapshots, sizeof(bench->snapshots), "%s/snap", bench->root);

    open_store(bench);
    fill(bench, keys, false);
    close_store(bench);
    (void)snprintf(bench->store, sizeof(bench->store), "%s/scattered", bench->root);
    open_store(bench);
    fill(bench, keys, true);
    overwrite(bench, keys, 1, 20000);
    overwrite(bench, keys, 256, 400);
    overwrite(bench, keys, 4096, 10);
    get(bench, keys, keys, "get, any key");
    get(bench, keys, 1000, "get, one of 1000 hot keys");
    transfer(bench);
    compact(bench);
    close_store(bench);
    (void)nftw(bench->root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(bench->commands);
    free(bench);
    return 0;
}

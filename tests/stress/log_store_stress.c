/*
 * log_store_stress: a log that is written, compacted and read by two threads, for the race
 * detector.
 *
 *   log_store_stress [ENTRIES]
 *
 * The writer appends, syncs, marks snapshots and compacts; the reader reads whatever range the
 * store says it has, and finds every entry as it was written. Exits non-zero if it does not.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storaged/wal.h"

#define ENTRIES_DEFAULT 20000u
#define ENTRY_BYTES     200u
#define BATCH           16u
#define KEPT            500u

struct shared {
    struct log_store *store;
    int done;
    int failed; /* written by the reader, read after it was joined */
    unsigned long read;
};

static void fill(uint8_t data[ENTRY_BYTES], raft_index index)
{
    memset(data, (int)(index % 251), ENTRY_BYTES);
}

static bool check(void *ctx, const struct log_entry *entry)
{
    struct shared *shared = ctx;
    uint8_t expected[ENTRY_BYTES];

    fill(expected, entry->index);
    if (entry->data_bytes != ENTRY_BYTES || memcmp(entry->data, expected, ENTRY_BYTES) != 0) {
        shared->failed = 1;
        return false;
    }
    shared->read++;
    return true;
}

static void *read_all(void *arg)
{
    struct shared *shared = arg;

    while (!__atomic_load_n(&shared->done, __ATOMIC_ACQUIRE) && !shared->failed) {
        struct log_state state;
        struct log_store_range range = {.max_bytes = 50 * ENTRY_BYTES};
        struct ms_err err = {.status = MS_OK};
        raft_term term;
        int rc;

        log_store_state(shared->store, &state);
        range.low = state.first_index + (shared->read % KEPT);
        range.high = state.last_index + 1;
        rc = log_store_entries(shared->store, &range, check, shared, &err);
        if (rc == MS_OK) {
            rc = log_store_term(shared->store, state.last_index / 2 + 1, &term, &err);
        }
        /* What was compacted meanwhile is no fault. */
        if (rc != MS_OK && rc != MS_ECOMPACTED && rc != MS_EUNAVAILABLE) {
            (void)fprintf(stderr, "reader: %s\n", err.text);
            shared->failed = 1;
        }
    }
    return NULL;
}

/* Waits for room once; the store said that there is none. */
static void wait_for_room(struct log_store *store)
{
    struct pollfd wait = {.fd = log_store_event_fd(store), .events = POLLIN};

    (void)poll(&wait, 1, 1000);
    log_store_service(store);
}

static int write_all(struct log_store *store, raft_index count, struct ms_err *err)
{
    for (raft_index index = 1; index <= count;) {
        uint8_t data[BATCH][ENTRY_BYTES];
        struct log_entry entries[BATCH];
        int rc;

        for (unsigned i = 0; i < BATCH; i++) {
            fill(data[i], index + i);
            entries[i] = (struct log_entry){
                .term = 1, .index = index + i, .data = data[i], .data_bytes = ENTRY_BYTES};
        }
        rc = log_store_append(store, entries, BATCH, NULL, err);
        while (rc == MS_OK && (rc = log_store_sync(store, err)) == MS_EAGAIN) {
            wait_for_room(store);
            rc = MS_OK;
        }
        index += BATCH;
        if (rc == MS_OK && index % 1024 < BATCH && index > 2 * KEPT) {
            rc = log_store_set_snapshot(store, index - 1, 1, err);
            if (rc == MS_OK) {
                rc = log_store_compact(store, index - KEPT, err);
            }
            rc = rc == MS_EAGAIN ? MS_OK : rc;
        }
        if (rc != MS_OK) {
            return rc;
        }
        log_store_service(store);
    }
    return MS_OK;
}

static void remove_directory(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *file;

    while (dir != NULL && (file = readdir(dir)) != NULL) {
        (void)unlinkat(dirfd(dir), file->d_name, 0);
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    (void)rmdir(path);
}

int main(int argc, char **argv)
{
    raft_index count = argc > 1 ? strtoul(argv[1], NULL, 10) : ENTRIES_DEFAULT;
    const char *tmp = getenv("TMPDIR");
    struct wal_options options = {.segment_bytes = WAL_SEGMENT_BYTES_MIN};
    struct shared shared = {0};
    struct ms_err err = {.status = MS_OK};
    pthread_t reader;
    char path[512];
    int rc;

    (void)snprintf(path, sizeof(path), "%s/ms-stress-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(path) == NULL) {
        perror("mkdtemp");
        return 1;
    }
    options.directory = path;
    rc = wal_open(&options, &shared.store, NULL, &err);
    if (rc == MS_OK) {
        if (pthread_create(&reader, NULL, read_all, &shared) != 0) {
            perror("pthread_create");
            return 1;
        }
        rc = write_all(shared.store, count, &err);
        __atomic_store_n(&shared.done, 1, __ATOMIC_RELEASE);
        (void)pthread_join(reader, NULL);
        log_store_destroy(shared.store);
    }
    remove_directory(path);
    if (rc != MS_OK) {
        (void)fprintf(stderr, "writer: %s\n", err.text);
    }
    (void)printf("log_store_stress: %lu entries written, %lu read, %s\n", (unsigned long)count,
                 shared.read, rc == MS_OK && !shared.failed ? "ok" : "FAILED");
    return rc == MS_OK && !shared.failed ? 0 : 1;
}

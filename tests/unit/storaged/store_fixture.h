/*
 * store_fixture: a directory and a log store in it, for tests of log stores.
 */
#ifndef METASTORE_TESTS_STORE_FIXTURE_H
#define METASTORE_TESTS_STORE_FIXTURE_H

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "storaged/log_store.h"
#include "tests/seed.h"

#define FIXTURE_PATH_BYTES 512

/* A directory of its own below $TMPDIR. */
static inline void fixture_make_dir(char path[FIXTURE_PATH_BYTES])
{
    const char *tmp = getenv("TMPDIR");

    (void)snprintf(path, FIXTURE_PATH_BYTES, "%s/ms-store-XXXXXX", tmp != NULL ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(path));
}

/* Removes a directory and all that is in it. */
static inline void fixture_remove_at(int parent_fd, const char *name)
{
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *file;

    if (dir == NULL) {
        return;
    }
    while ((file = readdir(dir)) != NULL) {
        if (strcmp(file->d_name, ".") != 0 && strcmp(file->d_name, "..") != 0 &&
            unlinkat(dirfd(dir), file->d_name, 0) != 0) {
            fixture_remove_at(dirfd(dir), file->d_name);
        }
    }
    (void)closedir(dir);
    (void)unlinkat(parent_fd, name, AT_REMOVEDIR);
}

static inline void fixture_remove_dir(const char *path)
{
    fixture_remove_at(AT_FDCWD, path);
}

/* Copies all plain files of one directory into another, which is made. */
static inline void fixture_copy_dir(const char *from, const char *to)
{
    DIR *dir = opendir(from);
    const struct dirent *file;
    int to_fd;

    cr_assert_not_null(dir);
    cr_assert(mkdir(to, 0700) == 0);
    to_fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert(to_fd >= 0);
    while ((file = readdir(dir)) != NULL) {
        static char buffer[1 << 16];
        ssize_t n;
        int in;
        int out;

        if (file->d_name[0] == '.') {
            continue;
        }
        in = openat(dirfd(dir), file->d_name, O_RDONLY | O_CLOEXEC);
        if (in < 0) {
            continue; /* a file that was just being made went away */
        }
        out = openat(to_fd, file->d_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        cr_assert(out >= 0);
        while ((n = read(in, buffer, sizeof(buffer))) > 0) {
            cr_assert(write(out, buffer, (size_t)n) == n);
        }
        (void)close(in);
        (void)close(out);
    }
    (void)close(to_fd);
    (void)closedir(dir);
}

/* Syncs, waiting for room as the log thread does. */
static inline int fixture_sync(struct log_store *store, struct ms_err *err)
{
    int waits = 0;
    int rc;

    while ((rc = log_store_sync(store, err)) == MS_EAGAIN) {
        struct pollfd wait = {.fd = log_store_event_fd(store), .events = POLLIN};

        cr_assert(waits++ < 20, "no room came");
        cr_assert(poll(&wait, 1, 10000) == 1, "no room came");
        log_store_service(store);
    }
    return rc;
}

/* set_snapshot and compact, waiting for room likewise. */
static inline int fixture_mark(struct log_store *store, raft_index snapshot, raft_term term,
                               raft_index compact)
{
    int rc;

    for (;;) {
        struct pollfd wait = {.fd = log_store_event_fd(store), .events = POLLIN};

        rc = term != 0 ? log_store_set_snapshot(store, snapshot, term, NULL) : MS_OK;
        if (rc == MS_OK && compact != 0) {
            rc = log_store_compact(store, compact, NULL);
        }
        if (rc != MS_EAGAIN) {
            return rc;
        }
        cr_assert(poll(&wait, 1, 10000) == 1, "no room came");
        log_store_service(store);
    }
}

/* Lets the log start anew behind a snapshot, waiting for room likewise. */
static inline int fixture_install(struct log_store *store, const struct log_store_install *install)
{
    int rc;

    while ((rc = log_store_install(store, install, NULL)) == MS_EAGAIN) {
        struct pollfd wait = {.fd = log_store_event_fd(store), .events = POLLIN};

        cr_assert(poll(&wait, 1, 10000) == 1, "no room came");
        log_store_service(store);
    }
    return rc;
}

/* Stages one entry whose data is text. */
static inline int fixture_put(struct log_store *store, raft_index index, raft_term term,
                              const char *text)
{
    struct log_entry entry = {.index = index,
                              .term = term,
                              .data = (const uint8_t *)text,
                              .data_bytes = (uint32_t)strlen(text)};

    return log_store_append(store, &entry, 1, NULL, NULL);
}

/* One sequence of random numbers per test, to be had again with MS_SEED. */
static uint64_t fixture_random_state;

static inline void fixture_seed(const char *name)
{
    fixture_random_state = test_seed(name);
}

static inline unsigned fixture_random(unsigned below)
{
    return (unsigned)test_random_below(&fixture_random_state, below);
}

#endif

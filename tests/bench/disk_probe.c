/*
 * disk_probe: what one durable write costs on this disk, without any program around it.
 *
 *   disk_probe DIRECTORY MILLISECONDS
 *
 * Overwrites a preallocated, already written file with 4 KiB at a time, O_DIRECT|O_DSYNC, and
 * prints the latencies as one line of JSON. Where the file system knows no O_DIRECT, O_DSYNC alone,
 * and the line says so.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"

enum {
    BLOCK_BYTES = 4096,
    BLOCKS = 1024,
    SAMPLES_MAX = 1000000
};

static int compare_samples(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

/* Writes every block once, so that later writes allocate nothing. */
static int prepare(const char *path)
{
    static const char zeros[BLOCK_BYTES];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int failed = fd < 0;

    for (int i = 0; !failed && i < BLOCKS; i++) {
        failed = write(fd, zeros, sizeof(zeros)) != (ssize_t)sizeof(zeros);
    }
    failed = failed || fsync(fd) != 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return failed ? -1 : 0;
}

int main(int argc, char **argv)
{
    char path[4096];
    uint64_t *samples;
    size_t count = 0;
    void *block;
    bool direct = true;
    struct ms_instant end;
    int fd;

    if (argc != 3) {
        (void)fprintf(stderr, "usage: disk_probe DIRECTORY MILLISECONDS\n");
        return 2;
    }
    (void)snprintf(path, sizeof(path), "%s/probe-%d", argv[1], getpid());
    samples = calloc(SAMPLES_MAX, sizeof(*samples));
    block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    if (samples == NULL || block == NULL || prepare(path) != 0) {
        (void)fprintf(stderr, "disk_probe: %s: %s\n", path, strerror(errno));
        return 1;
    }
    memset(block, 'p', BLOCK_BYTES);
    fd = open(path, O_WRONLY | O_DIRECT | O_DSYNC | O_CLOEXEC);
    if (fd < 0) {
        direct = false;
        fd = open(path, O_WRONLY | O_DSYNC | O_CLOEXEC);
    }
    (void)unlink(path);

    end = ms_clock_add_ms(ms_clock_now(), strtoull(argv[2], NULL, 10));
    while (count < SAMPLES_MAX && ms_clock_now().ns < end.ns) {
        const struct ms_instant began = ms_clock_now();

        if (pwrite(fd, block, BLOCK_BYTES, (off_t)(count % BLOCKS) * BLOCK_BYTES) != BLOCK_BYTES) {
            (void)fprintf(stderr, "disk_probe: write: %s\n", strerror(errno));
            return 1;
        }
        samples[count++] = ms_clock_elapsed_ns(began, ms_clock_now());
    }
    qsort(samples, count, sizeof(*samples), compare_samples);
    (void)printf("{\"writes\":%zu,\"direct\":%s,\"p50_us\":%.1f,\"p99_us\":%.1f}\n", count,
                 direct ? "true" : "false", (double)samples[count / 2] / 1e3,
                 (double)samples[count * 99 / 100] / 1e3);
    (void)close(fd);
    free(block);
    free(samples);
    return 0;
}

/*
 * crash_test: workers are killed at random under load, and nothing that was acknowledged is lost.
 *
 * Writers create distinct keys, overwrite them with increasing values and compare-and-set them,
 * without pause; readers read beside them. In the first half only raftd and storaged die, and not
 * one request may fail; in the second half apid dies as well, and only its open connections may
 * break. Now and then a worker is stopped instead, until the supervisor acts; while it is storaged,
 * reads must go on. At the end the store must hold every acknowledged write with its last value,
 * and the versions tell whether any was done twice. Then the power is cut, and it must hold them
 * again.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/crash/connection.h"
#include "tests/crash/ledger.h"
#include "tests/crash/recovery_times.h"
#include "tests/seed.h"
#include "tests/support/admin.h"
#include "tests/support/check.h"
#include "tests/support/node.h"

enum {
    WRITERS = 4,
    READERS = 2,
    KILL_MIN_MS = 100,
    KILL_MAX_MS = 400,
    STOP_PERCENT = 4, /* of the kills: the victim is stopped instead */
    STEADY_KEYS = 16, /* written once, read all the time */
    MEDIAN_MAX_MS = 100
};

/* Shorter than the default, so that a short run sees several stopped workers replaced. */
#define LIVENESS_DEADLINE_MS "600"

/* Answers under way when a wait begins may be to old questions; later ones are not. */
#define ANSWERS_BEFORE_STOP 8

enum phase {
    PHASE_NO_FAILURE, /* only raftd and storaged die */
    PHASE_ALL,        /* apid, too: a connection may break */
};

/* Set by main, read by all threads. */
static struct node node;
static _Atomic bool stopping;
static _Atomic int phase;
static _Atomic uint64_t failures;
static _Atomic uint64_t reads_done;
static _Atomic uint64_t writes_done;
static _Atomic uint64_t slowest_read_ns;
static _Atomic uint64_t kills[VICTIM_COUNT];
static _Atomic uint64_t stops[VICTIM_COUNT];
static uint64_t barriers_written;

struct writer {
    pthread_t thread;
    struct ledger ledger;
    uint64_t random;
    uint64_t next_value;
    uint64_t creates;
    uint64_t overwrites;
    uint64_t exchanges; /* compare-and-set */
};

struct reader {
    pthread_t thread;
    uint64_t random;
};

/* A request that the test says must not fail did. */
static void count_failure(const char *what, const char *path, const struct reply *reply)
{
    if (atomic_fetch_add(&failures, 1) < 20) {
        (void)printf("  FAILED: %s %s: status %d%s%s %.200s\n", what, path, reply->status,
                     reply->status == 0 ? ", " : "",
                     reply->status == 0 ? strerror(reply->errno_of_fail) : "",
                     reply->body != NULL ? reply->body : "");
    }
}

/* A broken connection is apid's death, as long as apid may die. */
static bool may_break(const struct reply *reply)
{
    return reply->status == 0 && atomic_load(&phase) == PHASE_ALL && reply->errno_of_fail != EAGAIN;
}

/* ---- writers ------------------------------------------------------------------------------- */

static void write_once(struct writer *writer, struct connection *connection)
{
    struct ledger *ledger = &writer->ledger;
    uint64_t dice = check_random_between(&writer->random, 0, 99);
    struct ledger_key *key = NULL;
    size_t position;
    struct reply reply;
    char path[64];
    char headers[64] = "";
    char value[32];
    uint64_t *counter = &writer->creates;

    if (dice >= 40 && ledger->count > 0) {
        position = (size_t)check_random_between(&writer->random, 0, ledger->count - 1);
        key = &ledger->keys[position];
        if (key->unknown != 0) {
            key = NULL; /* never touched again */
        }
    }
    if (key == NULL) {
        key = ledger_add(ledger);
        position = ledger->count - 1;
        (void)snprintf(headers, sizeof(headers), "If-None-Match: *\r\n");
    } else if (dice >= 80) {
        (void)snprintf(headers, sizeof(headers), "If-Match: \"%" PRIu64 "\"\r\n", key->revision);
        counter = &writer->exchanges;
    } else {
        counter = &writer->overwrites;
    }
    ledger_path(ledger, position, path, sizeof(path));
    (void)snprintf(value, sizeof(value), "%" PRIu64, ++writer->next_value);
    connection_send(connection, "PUT", path, headers, value, &reply);
    if (reply.status == 204) {
        atomic_fetch_add(&writes_done, 1);
        recovery_times_answered(reply.sent_ns, reply.answered_ns);
        if (reply.revision <= key->revision) {
            count_failure("PUT with a revision that did not grow:", path, &reply);
        }
        key->value = writer->next_value;
        key->version++;
        key->revision = reply.revision;
        (*counter)++;
        return;
    }
    if (reply.sent_ns != 0) {
        key->unknown = writer->next_value;
    }
    if (!may_break(&reply)) {
        count_failure("PUT", path, &reply);
    }
}

/* What was just acknowledged must be read, whoever died in between. */
static void read_back(struct writer *writer, struct connection *connection)
{
    struct ledger *ledger = &writer->ledger;
    size_t position = (size_t)check_random_between(&writer->random, 0, ledger->count - 1);
    const struct ledger_key *key = &ledger->keys[position];
    struct reply reply;
    char path[64];

    if (key->unknown != 0 || key->version == 0) {
        return;
    }
    ledger_path(ledger, position, path, sizeof(path));
    connection_send(connection, "GET", path, "", "", &reply);
    if (reply.status == 0 && may_break(&reply)) {
        return;
    }
    if (reply.status != 200 || strtoull(reply.body, NULL, 10) != key->value) {
        count_failure("GET of an acknowledged value", path, &reply);
    }
}

static void *run_writer(void *ctx)
{
    struct writer *writer = ctx;
    struct connection connection;

    connection_init(&connection, node.port);
    while (!atomic_load(&stopping)) {
        write_once(writer, &connection);
        if (check_random_between(&writer->random, 0, 9) == 0) {
            read_back(writer, &connection);
        }
    }
    connection_fini(&connection);
    return NULL;
}

/* ---- readers ------------------------------------------------------------------------------- */

static void steady_path(uint64_t number, char *dst, size_t dst_bytes)
{
    (void)snprintf(dst, dst_bytes, "/steady/%02" PRIu64, number);
}

static void *run_reader(void *ctx)
{
    struct reader *reader = ctx;
    struct connection connection;

    connection_init(&connection, node.port);
    while (!atomic_load(&stopping)) {
        uint64_t number = check_random_between(&reader->random, 0, STEADY_KEYS - 1);
        struct reply reply;
        char path[64];

        steady_path(number, path, sizeof(path));
        connection_send(&connection, "GET", path, "", "", &reply);
        if (reply.status == 200 && strtoull(reply.body, NULL, 10) == number) {
            uint64_t took_ns = reply.answered_ns - reply.sent_ns;
            uint64_t slowest = atomic_load(&slowest_read_ns);

            atomic_fetch_add(&reads_done, 1);
            while (atomic_load(&phase) == PHASE_NO_FAILURE && took_ns > slowest &&
                   !atomic_compare_exchange_weak(&slowest_read_ns, &slowest, took_ns)) {
            }
        } else if (!may_break(&reply)) {
            count_failure("GET", path, &reply);
        }
    }
    connection_fini(&connection);
    return NULL;
}

static void write_steady_keys(void)
{
    struct connection connection;

    connection_init(&connection, node.port);
    for (uint64_t i = 0; i < STEADY_KEYS; i++) {
        struct reply reply;
        char path[64];
        char value[16];

        steady_path(i, path, sizeof(path));
        (void)snprintf(value, sizeof(value), "%" PRIu64, i);
        connection_send(&connection, "PUT", path, "", value, &reply);
        check_that(reply.status == 204, "PUT %s: status %d", path, reply.status);
    }
    connection_fini(&connection);
}

/* ---- killer -------------------------------------------------------------------------------- */

static void sleep_until(struct ms_instant at)
{
    const struct timespec when = {.tv_sec = (time_t)(at.ns / 1000000000),
                                  .tv_nsec = (long)(at.ns % 1000000000)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR) {
    }
}

static void wait_for_growth(_Atomic uint64_t *counter)
{
    uint64_t wanted = atomic_load(counter) + ANSWERS_BEFORE_STOP;

    while (atomic_load(counter) < wanted) {
        sleep_until(ms_clock_add_ms(ms_clock_now(), 1));
    }
}

/*
 * That reads go on without storaged is promised for a node that has come up. An apid or a raftd
 * that was replaced a moment ago still needs it: to learn where the data lies, to lead again.
 */
static void wait_until_all_serve(void)
{
    wait_for_growth(&writes_done);
    wait_for_growth(&reads_done);
}

/* Stops a worker; returns once the supervisor has killed it. Reads go on if it was storaged. */
static void stop_until_replaced(enum victim victim, pid_t pid)
{
    uint64_t reads_before;

    if (victim == VICTIM_STORAGED) {
        wait_until_all_serve();
    }
    recovery_times_forget();
    if (kill(pid, SIGSTOP) != 0) {
        return;
    }
    atomic_fetch_add(&stops[victim], 1);
    reads_before = atomic_load(&reads_done);
    check_that(node_wait_gone(pid, NODE_DEADLINE_MS), "%s was stopped, and nobody acted",
               victim_name(victim));
    if (victim == VICTIM_STORAGED && atomic_load(&reads_done) == reads_before) {
        (void)printf("  FAILED: no read was answered while storaged was stopped\n");
        atomic_fetch_add(&failures, 1);
    }
}

static void strike(enum victim victim, uint64_t *random)
{
    struct admin_worker worker = admin_worker(&node, victim_name(victim));

    if (worker.pid <= 0) {
        return; /* between death and restart; its turn comes again */
    }
    if (check_random_between(random, 0, 99) < STOP_PERCENT) {
        stop_until_replaced(victim, worker.pid);
        return;
    }
    recovery_times_killed(victim, ms_clock_now().ns);
    if (kill(worker.pid, SIGKILL) == 0) {
        atomic_fetch_add(&kills[victim], 1);
    }
}

/* Strikes each of the first victim_count victims every 100 to 400 ms, for so long. */
static void run_killer(int victim_count, uint64_t duration_ms, uint64_t *random)
{
    const struct ms_instant end = ms_clock_add_ms(ms_clock_now(), duration_ms);
    struct ms_instant due[VICTIM_COUNT];

    for (int i = 0; i < VICTIM_COUNT; i++) {
        due[i] =
            ms_clock_add_ms(ms_clock_now(), check_random_between(random, KILL_MIN_MS, KILL_MAX_MS));
    }
    for (;;) {
        int next = 0;

        for (int i = 1; i < victim_count; i++) {
            next = due[i].ns < due[next].ns ? i : next;
        }
        if (due[next].ns > end.ns) {
            sleep_until(end);
            return;
        }
        sleep_until(due[next]);
        strike((enum victim)next, random);
        due[next] =
            ms_clock_add_ms(ms_clock_now(), check_random_between(random, KILL_MIN_MS, KILL_MAX_MS));
    }
}

/* ---- the whole ----------------------------------------------------------------------------- */

/* A sanitizer makes everything slow; the times are then worth printing, not judging. */
static bool is_sanitized(void)
{
    char path[64];
    char line[512];
    bool found = false;
    FILE *maps;

    (void)snprintf(path, sizeof(path), "/proc/%d/maps", node.pid);
    maps = fopen(path, "r");
    check_that(maps != NULL, "open %s", path);
    while (!found && fgets(line, sizeof(line), maps) != NULL) {
        found = strstr(line, "libasan") != NULL || strstr(line, "libtsan") != NULL ||
                strstr(line, "libubsan") != NULL;
    }
    (void)fclose(maps);
    return found;
}

/*
 * A write behind everything that is still under way: what an apid that died left in its ring may be
 * applied although nobody waits for it any more.
 */
static void write_barrier(void)
{
    struct connection connection;
    struct reply reply;

    connection_init(&connection, node.port);
    connection_send(&connection, "PUT", "/barrier", "", "1", &reply);
    check_that(reply.status == 204, "PUT /barrier: status %d", reply.status);
    barriers_written++;
    connection_fini(&connection);
}

/* Compares the store with the ledgers; the revision must count exactly the writes that took effect.
 */
static bool check_store(struct writer *writers, const char *when)
{
    struct ledger ledgers[WRITERS];
    struct ledger_totals totals = {0};
    struct connection connection;
    uint64_t revision;
    uint64_t expected;

    for (int i = 0; i < WRITERS; i++) {
        ledgers[i] = writers[i].ledger;
    }
    write_barrier();
    connection_init(&connection, node.port);
    ledger_check(ledgers, WRITERS, &connection, &totals);
    connection_fini(&connection);
    revision = admin_status_number(&node, "revision");
    expected = 1 + STEADY_KEYS + barriers_written + totals.versions;
    if (revision != expected) {
        (void)printf("  MISTAKE: the store's revision is %" PRIu64
                     ", its keys' versions say %" PRIu64 "\n",
                     revision, expected);
        totals.mistakes++;
    }
    (void)printf("%s: %" PRIu64 " keys, %" PRIu64 " acknowledged writes, %" PRIu64
                 " with unknown outcome (%" PRIu64 " took effect), revision %" PRIu64
                 ", mistakes %" PRIu64 "\n",
                 when, totals.keys, totals.acknowledged, totals.unknown, totals.unknown_applied,
                 revision, totals.mistakes);
    return totals.mistakes == 0;
}

static bool report_times(bool judged)
{
    bool good = true;

    for (int i = 0; i < VICTIM_COUNT; i++) {
        enum victim victim = (enum victim)i;
        double median = recovery_times_median(victim);

        (void)printf("%-8s killed %3" PRIu64 " times, stopped %2" PRIu64
                     "; kill to next answered write: median %.1f ms, maximum %.1f ms (%zu)\n",
                     victim_name(victim), atomic_load(&kills[i]), atomic_load(&stops[i]), median,
                     recovery_times_max(victim), recovery_times_count(victim));
        if (judged && median > MEDIAN_MAX_MS) {
            (void)printf("  FAILED: a median of more than %d ms\n", MEDIAN_MAX_MS);
            good = false;
        }
    }
    return good;
}

static bool run(unsigned seconds, uint64_t seed)
{
    static struct writer writers[WRITERS];
    static struct reader readers[READERS];
    uint64_t killer_random = seed;
    uint64_t creates = 0;
    uint64_t overwrites = 0;
    uint64_t exchanges = 0;
    bool judged;
    bool good;

    node_init(&node);
    node_start(&node, "--liveness-deadline", LIVENESS_DEADLINE_MS, "--snapshot-count", "5000",
               "--history", "2000", "--log-level", "warn", NULL);
    judged = !is_sanitized();
    write_steady_keys();
    for (unsigned i = 0; i < WRITERS; i++) {
        ledger_init(&writers[i].ledger, i);
        writers[i].random = seed + 1 + i;
        check_that(pthread_create(&writers[i].thread, NULL, run_writer, &writers[i]) == 0,
                   "pthread_create");
    }
    for (unsigned i = 0; i < READERS; i++) {
        readers[i].random = seed + 101 + i;
        check_that(pthread_create(&readers[i].thread, NULL, run_reader, &readers[i]) == 0,
                   "pthread_create");
    }

    run_killer(VICTIM_APID, seconds * 500, &killer_random);
    (void)printf("only raftd and storaged died: %" PRIu64
                 " requests failed, slowest read %.1f ms\n",
                 atomic_load(&failures), (double)atomic_load(&slowest_read_ns) / 1e6);
    atomic_store(&phase, PHASE_ALL);
    run_killer(VICTIM_COUNT, seconds * 500, &killer_random);

    atomic_store(&stopping, true);
    for (unsigned i = 0; i < WRITERS; i++) {
        (void)pthread_join(writers[i].thread, NULL);
        creates += writers[i].creates;
        overwrites += writers[i].overwrites;
        exchanges += writers[i].exchanges;
    }
    for (unsigned i = 0; i < READERS; i++) {
        (void)pthread_join(readers[i].thread, NULL);
    }
    (void)printf("%" PRIu64 " creates, %" PRIu64 " overwrites, %" PRIu64
                 " compare-and-sets, %" PRIu64 " reads\n",
                 creates, overwrites, exchanges, atomic_load(&reads_done));
    good = report_times(judged);
    good = check_store(writers, "at the end") && good;
    node_power_cut(&node);
    node_start(&node, NULL);
    good = check_store(writers, "after a power cut") && good;
    good = atomic_load(&failures) == 0 && good;

    for (unsigned i = 0; i < WRITERS; i++) {
        ledger_fini(&writers[i].ledger);
    }
    if (good) {
        node_finish(&node);
    }
    node_fini(&node);
    return good;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seconds", required_argument, NULL, 's'},
                                            {"seed", required_argument, NULL, 'r'},
                                            {NULL, 0, NULL, 0}};
    unsigned seconds = 60;
    uint64_t seed;
    int option;
    bool good;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 's':
            seconds = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'r':
            (void)setenv("MS_SEED", optarg, 1);
            break;
        default:
            (void)fprintf(stderr, "usage: crash-test [--seconds N] [--seed N]\n");
            return 2;
        }
    }
    if (seconds == 0 || seconds > 86400) {
        (void)fprintf(stderr, "crash-test: --seconds must be 1 to 86400\n");
        return 2;
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    seed = test_seed("crash test");
    good = run(seconds, seed);
    (void)printf("crash test: %s\n", good ? "passed" : "FAILED");
    return good ? 0 : 1;
}

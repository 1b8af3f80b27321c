/*
 * log_reads: entries and terms out of a log that is written, compacted and cut meanwhile.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "storaged/log_reads.h"
#include "tests/unit/storaged/link_fixture.h"
#include "tests/unit/storaged/log_stores.h"

struct fixture {
    char path[FIXTURE_PATH_BYTES];
    struct log_store *store;
    struct log_reads reads;
    struct ms_link near_end;
    struct ms_link far_end;
};

static void on_each(void (*run)(struct fixture *f))
{
    for (size_t i = 0; i < IMPLEMENTATIONS; i++) {
        struct ms_err err = {.status = MS_OK};
        struct fixture f;

        fixture_make_dir(f.path);
        cr_assert_eq(implementations[i].open(f.path, &f.store, &err), MS_OK, "%s", err.text);
        log_reads_init(&f.reads, f.store);
        link_fixture_make(MS_LINK_RAFT_APPLY, MS_ROLE_RAFTD, 1, &f.near_end, &f.far_end);
        run(&f);
        ms_link_fini(&f.near_end);
        ms_link_fini(&f.far_end);
        log_reads_fini(&f.reads);
        log_store_destroy(f.store);
        fixture_remove_dir(f.path);
    }
}

/* Entries [first, last] of the term. */
static void put_term(struct fixture *f, raft_index first, raft_index last, raft_term term)
{
    for (raft_index index = first; index <= last; index++) {
        cr_assert_eq(fixture_put(f->store, index, term, "entry"), MS_OK);
    }
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
}

static struct ms_log_terms read_terms(struct fixture *f, struct ms_log_term_run *runs)
{
    const struct ms_log_terms_read read = {.request = 5};
    struct ms_ipc_message message;
    struct ms_log_terms terms;

    cr_assert_eq(log_reads_terms(&f->reads, &read, &f->near_end, NULL), MS_OK);
    cr_assert_eq(ms_link_receive(&f->far_end, &message), MS_OK);
    cr_assert_eq(message.type, MS_IPC_LOG_TERMS);
    memcpy(&terms, message.body, sizeof(terms));
    cr_assert_eq(terms.request, 5);
    cr_assert_eq(message.tail_bytes, terms.count * sizeof(*runs));
    cr_assert_leq(terms.count, LOG_READS_RUNS_MAX);
    memcpy(runs, message.tail, message.tail_bytes);
    ms_link_release(&f->far_end);
    return terms;
}

static void expect_run(const struct ms_log_term_run *run, raft_index index, raft_term term)
{
    cr_assert_eq(run->index, index, "%llu", (unsigned long long)run->index);
    cr_assert_eq(run->term, term, "%llu", (unsigned long long)run->term);
}

static void run_terms(struct fixture *f)
{
    struct ms_log_term_run runs[LOG_READS_RUNS_MAX];
    struct ms_log_terms terms = read_terms(f, runs);

    cr_assert_eq(terms.count, 1);
    cr_assert_eq(terms.first_index, 1);
    cr_assert_eq(terms.last_index, 0);
    expect_run(&runs[0], 0, 0);

    put_term(f, 1, 100, 1);
    put_term(f, 101, 101, 4);
    put_term(f, 102, 300, 5);
    terms = read_terms(f, runs);
    cr_assert_eq(terms.count, 4);
    cr_assert_eq(terms.first_index, 1);
    cr_assert_eq(terms.last_index, 300);
    expect_run(&runs[0], 0, 0);
    expect_run(&runs[1], 1, 1);
    expect_run(&runs[2], 101, 4);
    expect_run(&runs[3], 102, 5);

    put_term(f, 200, 210, 6);
    cr_assert_eq(fixture_mark(f->store, 100, 1, 50), MS_OK);
    terms = read_terms(f, runs);
    cr_assert_eq(terms.count, 4);
    cr_assert_eq(terms.first_index, 51);
    cr_assert_eq(terms.last_index, 210);
    expect_run(&runs[0], 50, 1);
    expect_run(&runs[1], 101, 4);
    expect_run(&runs[2], 102, 5);
    expect_run(&runs[3], 200, 6);
}

Test(log_reads, terms_are_told_by_where_they_begin)
{
    on_each(run_terms);
}

static void run_many_terms(struct fixture *f)
{
    struct ms_log_term_run runs[LOG_READS_RUNS_MAX];
    struct ms_log_terms terms;

    for (raft_index i = 1; i <= 300; i++) {
        cr_assert_eq(fixture_put(f->store, 2 * i - 1, i, "a"), MS_OK);
        cr_assert_eq(fixture_put(f->store, 2 * i, i, "b"), MS_OK);
    }
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    terms = read_terms(f, runs);
    cr_assert_eq(terms.count, LOG_READS_RUNS_MAX);
    cr_assert_eq(terms.last_index, 600);
    cr_assert_eq(terms.first_index, runs[0].index + 1);
    for (uint32_t i = 0; i < terms.count; i++) {
        raft_term term = 300 - LOG_READS_RUNS_MAX + 1 + i;

        expect_run(&runs[i], 2 * term - 1, term);
    }
}

Test(log_reads, of_very_many_terms_the_newest_are_told)
{
    on_each(run_many_terms);
}

static struct ms_log_entries read_entries(struct fixture *f, raft_index low, raft_index high,
                                          uint64_t max_bytes, struct log_entry *last)
{
    const struct ms_log_read read = {
        .request = 9, .low = low, .high = high, .max_bytes = max_bytes};
    struct ms_log_entries answer;
    struct ms_ipc_message message;
    struct ipc_entries walk;

    cr_assert_eq(log_reads_entries(&f->reads, &read, &f->near_end, NULL), MS_OK);
    cr_assert_eq(ms_link_receive(&f->far_end, &message), MS_OK);
    cr_assert_eq(message.type, MS_IPC_LOG_ENTRIES);
    memcpy(&answer, message.body, sizeof(answer));
    walk = (struct ipc_entries){.tail = message.tail, .tail_bytes = message.tail_bytes};
    for (uint32_t i = 0; i < answer.count; i++) {
        raft_term before = i > 0 ? last->term : 0;

        cr_assert_eq(ipc_entries_next(&walk, last), MS_OK);
        cr_assert_eq(last->index, low + i);
        cr_assert_geq(last->term, before, "terms never fall along a log");
    }
    ms_link_release(&f->far_end);
    return answer;
}

static void run_entries(struct fixture *f)
{
    struct log_entry last;

    put_term(f, 1, 100, 1);
    put_term(f, 101, 200, 2);
    cr_assert_eq(read_entries(f, 95, 105, 1 << 20, &last).count, 10);
    cr_assert_eq(last.term, 2);
    cr_assert_eq(read_entries(f, 95, 105, 0, &last).count, 1, "at least one");
    cr_assert_eq(read_entries(f, 95, 105, 11, &last).count, 2, "as many as fit");
    cr_assert_eq(read_entries(f, 190, 202, 1 << 20, &last).status, MS_EUNAVAILABLE);
    cr_assert_eq(fixture_mark(f->store, 150, 2, 99), MS_OK);
    cr_assert_eq(read_entries(f, 99, 110, 1 << 20, &last).status, MS_ECOMPACTED);
    cr_assert_eq(read_entries(f, 100, 110, 1 << 20, &last).count, 10);
}

Test(log_reads, entries_come_within_limits)
{
    on_each(run_entries);
}

/* ---- while it is written -------------------------------------------------------------------- */

struct writer {
    struct log_store *store;
    atomic_bool stop;
    atomic_uint rounds;
};

/* Cuts the log again and again, each time in a higher term. */
static void *write_and_cut(void *ctx)
{
    struct writer *writer = ctx;

    for (raft_term term = 2; !atomic_load(&writer->stop); term++) {
        raft_index first = 21 + term * 7 % 20;

        for (raft_index index = first; index <= 60; index++) {
            cr_assert_eq(fixture_put(writer->store, index, term, "other"), MS_OK);
        }
        cr_assert_eq(fixture_sync(writer->store, NULL), MS_OK);
        atomic_fetch_add(&writer->rounds, 1);
    }
    return NULL;
}

static void run_concurrently(struct fixture *f)
{
    struct ms_log_term_run runs[LOG_READS_RUNS_MAX];
    struct writer writer = {.store = f->store};
    pthread_t thread;

    put_term(f, 1, 60, 1);
    cr_assert_eq(pthread_create(&thread, NULL, write_and_cut, &writer), 0);
    while (atomic_load(&writer.rounds) < 300) {
        struct ms_log_terms terms = read_terms(f, runs);
        struct log_entry last;

        cr_assert_eq(read_entries(f, 1, 61, 1 << 20, &last).count, 60);
        cr_assert_eq(terms.first_index, 1);
        for (uint32_t i = 1; i < terms.count; i++) {
            cr_assert_gt(runs[i].index, runs[i - 1].index);
            cr_assert_gt(runs[i].term, runs[i - 1].term);
        }
    }
    atomic_store(&writer.stop, true);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

Test(log_reads, an_answer_is_of_one_moment, .timeout = 60)
{
    on_each(run_concurrently);
}

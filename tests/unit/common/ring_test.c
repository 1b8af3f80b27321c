/*
 * ring: records arrive whole and in order, waiting is never for ever, and nothing that the far side
 * writes into the shared header costs more than the ring.
 */
#include "common/ring.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ring_layout.h"
#include "tests/seed.h"

#define CAPACITY   4096u
#define GENERATION 7u
#define RECORD_MAX (CAPACITY / 2 - 8)

struct ring_fixture {
    int fd;
    struct ms_ring producer;
    struct ms_ring consumer;
    struct ms_ring_region *region; /* what a corrupt peer can write to */
};

static int create_ring(void)
{
    const struct ms_ring_spec spec = {.capacity_bytes = CAPACITY, .generation = GENERATION};
    struct ms_err err;
    int fd = -1;

    cr_assert_eq(ms_ring_create("test", &spec, &fd, &err), MS_OK, "%s", err.text);
    return fd;
}

static void attach_both(struct ring_fixture *f)
{
    struct ms_err err;

    cr_assert_eq(ms_ring_attach(f->fd, MS_RING_PRODUCER, GENERATION, &f->producer, &err), MS_OK,
                 "%s", err.text);
    cr_assert_eq(ms_ring_attach(f->fd, MS_RING_CONSUMER, GENERATION, &f->consumer, &err), MS_OK,
                 "%s", err.text);
    f->region = f->producer.region;
}

static void detach_both(struct ring_fixture *f)
{
    ms_ring_detach(&f->producer);
    ms_ring_detach(&f->consumer);
}

static void ring_fixture_init(struct ring_fixture *f)
{
    f->fd = create_ring();
    attach_both(f);
}

static void ring_fixture_fini(struct ring_fixture *f)
{
    detach_both(f);
    (void)close(f->fd);
}

/* The bytes of the record numbered n, so that any mix-up shows. */
static void fill(uint8_t *dst, size_t len_bytes, uint64_t n)
{
    for (size_t i = 0; i < len_bytes; i++) {
        dst[i] = (uint8_t)(n * 31 + i);
    }
}

static bool is_filled(const uint8_t *src, size_t len_bytes, uint64_t n)
{
    for (size_t i = 0; i < len_bytes; i++) {
        if (src[i] != (uint8_t)(n * 31 + i)) {
            return false;
        }
    }
    return true;
}

static int push(struct ms_ring *ring, size_t len_bytes, uint64_t n)
{
    void *record;
    int rc = ms_ring_reserve(ring, len_bytes, &record);

    if (rc == MS_OK) {
        fill(record, len_bytes, n);
        ms_ring_commit(ring);
    }
    return rc;
}

static void assert_pops(struct ms_ring *ring, size_t len_bytes, uint64_t n)
{
    const void *record;
    size_t got_bytes;

    cr_assert_eq(ms_ring_peek(ring, &record, &got_bytes), MS_OK);
    cr_assert_eq(got_bytes, len_bytes);
    cr_assert_eq((uintptr_t)record % 8, 0);
    cr_assert(is_filled(record, len_bytes, n));
    ms_ring_consume(ring);
}

static void assert_peek_fails(struct ms_ring *ring, int status)
{
    const void *record = ring;
    size_t len_bytes = 7;

    cr_assert_eq(ms_ring_peek(ring, &record, &len_bytes), status);
    cr_assert_eq(len_bytes, 7, "an error must leave *len_bytes alone");
    cr_assert_eq(record, ring, "an error must leave *out alone");
}

/* ---- records ------------------------------------------------------------------------------- */

Test(ring, empty_ring_has_nothing)
{
    struct ring_fixture f;

    ring_fixture_init(&f);
    assert_peek_fails(&f.consumer, MS_EAGAIN);
    ring_fixture_fini(&f);
}

Test(ring, every_length_arrives_whole)
{
    struct ring_fixture f;

    ring_fixture_init(&f);
    for (size_t len_bytes = 1; len_bytes <= RECORD_MAX; len_bytes++) {
        cr_assert_eq(push(&f.producer, len_bytes, len_bytes), MS_OK);
        assert_pops(&f.consumer, len_bytes, len_bytes);
    }
    assert_peek_fails(&f.consumer, MS_EAGAIN);
    ring_fixture_fini(&f);
}

Test(ring, longer_than_the_limit_is_refused)
{
    struct ring_fixture f;
    void *record = &f;

    ring_fixture_init(&f);
    cr_assert_eq(ms_ring_record_max(&f.producer), RECORD_MAX);
    cr_assert_eq(ms_ring_reserve(&f.producer, RECORD_MAX + 1, &record), MS_ERANGE);
    cr_assert_eq(ms_ring_reserve(&f.producer, SIZE_MAX, &record), MS_ERANGE);
    cr_assert_eq(record, &f, "an error must leave *out alone");
    ring_fixture_fini(&f);
}

Test(ring, records_wrap_around_at_every_offset)
{
    struct ring_fixture f;

    ring_fixture_init(&f);
    for (uint64_t offset = 0; offset < CAPACITY; offset += 8) {
        detach_both(&f);
        attach_both(&f);
        atomic_store(&f.region->head, offset);
        atomic_store(&f.region->tail, offset);
        detach_both(&f);
        attach_both(&f);
        for (uint64_t n = 0; n < 3; n++) {
            cr_assert_eq(push(&f.producer, 1000 + n, offset + n), MS_OK);
        }
        for (uint64_t n = 0; n < 3; n++) {
            assert_pops(&f.consumer, 1000 + n, offset + n);
        }
    }
    ring_fixture_fini(&f);
}

Test(ring, nothing_is_visible_before_commit)
{
    struct ring_fixture f;
    void *record;

    ring_fixture_init(&f);
    cr_assert_eq(ms_ring_reserve(&f.producer, 100, &record), MS_OK);
    assert_peek_fails(&f.consumer, MS_EAGAIN);
    /* A second reserve replaces the first. */
    cr_assert_eq(push(&f.producer, 9, 1), MS_OK);
    assert_pops(&f.consumer, 9, 1);
    assert_peek_fails(&f.consumer, MS_EAGAIN);
    ring_fixture_fini(&f);
}

Test(ring, peek_is_repeatable_until_consume)
{
    struct ring_fixture f;
    const void *first;
    const void *second;
    size_t len_bytes;

    ring_fixture_init(&f);
    cr_assert_eq(push(&f.producer, 9, 1), MS_OK);
    cr_assert_eq(ms_ring_peek(&f.consumer, &first, &len_bytes), MS_OK);
    cr_assert_eq(ms_ring_peek(&f.consumer, &second, &len_bytes), MS_OK);
    cr_assert_eq(first, second);
    assert_pops(&f.consumer, 9, 1);
    ring_fixture_fini(&f);
}

Test(ring, attaching_again_continues_where_the_indices_stand)
{
    struct ring_fixture f;

    ring_fixture_init(&f);
    for (uint64_t n = 0; n < 10; n++) {
        cr_assert_eq(push(&f.producer, 50, n), MS_OK);
    }
    assert_pops(&f.consumer, 50, 0);
    detach_both(&f);
    attach_both(&f);
    cr_assert_eq(push(&f.producer, 50, 10), MS_OK);
    for (uint64_t n = 1; n <= 10; n++) {
        assert_pops(&f.consumer, 50, n);
    }
    assert_peek_fails(&f.consumer, MS_EAGAIN);
    ring_fixture_fini(&f);
}

/* Random lengths and interleavings against a plain count of what should be there. */
Test(ring, behaves_like_a_queue)
{
    uint64_t random = test_seed("ring behaves_like_a_queue");
    struct ring_fixture f;
    uint64_t lengths[CAPACITY];
    uint64_t pushed = 0;
    uint64_t popped = 0;

    ring_fixture_init(&f);
    for (int step = 0; step < 200000; step++) {
        bool wants_push = test_random_below(&random, 2) == 0;

        if (wants_push) {
            size_t bound = test_random_below(&random, 8) == 0 ? RECORD_MAX : 64;
            size_t len_bytes = 1 + test_random_below(&random, bound);
            int rc = push(&f.producer, len_bytes, pushed);

            if (rc == MS_OK) {
                lengths[pushed % CAPACITY] = len_bytes;
                pushed++;
            } else {
                cr_assert_eq(rc, MS_EAGAIN);
                cr_assert_gt(pushed, popped, "an empty ring takes any record");
            }
        } else if (pushed > popped) {
            assert_pops(&f.consumer, lengths[popped % CAPACITY], popped);
            popped++;
        } else {
            assert_peek_fails(&f.consumer, MS_EAGAIN);
        }
    }
    ring_fixture_fini(&f);
}

/* ---- waiting ------------------------------------------------------------------------------- */

Test(ring, full_ring_asks_for_room_and_is_told_once)
{
    struct ring_fixture f;
    void *record;
    uint64_t n = 0;

    ring_fixture_init(&f);
    (void)ms_ring_producer_waits(&f.consumer); /* a new view always asks once */
    while (push(&f.producer, 100, n) == MS_OK) {
        n++;
    }
    cr_assert_eq(n, CAPACITY / 112, "records lie without gaps");
    cr_assert_not(ms_ring_producer_waits(&f.consumer), "no room has been made yet");
    assert_pops(&f.consumer, 100, 0);
    cr_assert(ms_ring_producer_waits(&f.consumer));
    assert_pops(&f.consumer, 100, 1);
    cr_assert_not(ms_ring_producer_waits(&f.consumer), "told already");
    cr_assert_eq(ms_ring_reserve(&f.producer, 100, &record), MS_OK);
    ring_fixture_fini(&f);
}

Test(ring, sleeping_consumer_is_woken_once)
{
    struct ring_fixture f;

    ring_fixture_init(&f);
    cr_assert(ms_ring_prepare_sleep(&f.consumer));
    cr_assert_eq(push(&f.producer, 1, 0), MS_OK);
    cr_assert(ms_ring_consumer_sleeps(&f.producer));
    cr_assert_eq(push(&f.producer, 1, 1), MS_OK);
    cr_assert_not(ms_ring_consumer_sleeps(&f.producer), "woken already");
    ring_fixture_fini(&f);
}

Test(ring, consumer_does_not_sleep_over_a_record)
{
    struct ring_fixture f;

    ring_fixture_init(&f);
    cr_assert_eq(push(&f.producer, 1, 0), MS_OK);
    cr_assert_not(ms_ring_prepare_sleep(&f.consumer), "not looked at yet");
    cr_assert_eq(push(&f.producer, 1, 1), MS_OK);
    assert_pops(&f.consumer, 1, 0);
    cr_assert_not(ms_ring_prepare_sleep(&f.consumer), "known already");
    cr_assert_not(ms_ring_consumer_sleeps(&f.producer), "the statement must be withdrawn");
    assert_pops(&f.consumer, 1, 1);
    cr_assert(ms_ring_prepare_sleep(&f.consumer));
    ring_fixture_fini(&f);
}

Test(ring, side_that_did_nothing_wakes_nobody)
{
    struct ring_fixture f;

    ring_fixture_init(&f);
    cr_assert_eq(push(&f.producer, 1, 0), MS_OK);
    cr_assert_not(ms_ring_consumer_sleeps(&f.producer));
    assert_pops(&f.consumer, 1, 0);
    cr_assert(ms_ring_prepare_sleep(&f.consumer));
    cr_assert_not(ms_ring_consumer_sleeps(&f.producer), "nothing was committed since");
    ring_fixture_fini(&f);
}

/* Whoever had the side before may have died between publishing and waking. */
Test(ring, attached_side_speaks_for_its_predecessor)
{
    struct ring_fixture f;

    ring_fixture_init(&f);
    cr_assert(ms_ring_prepare_sleep(&f.consumer));
    cr_assert_eq(push(&f.producer, 1, 0), MS_OK);
    ms_ring_detach(&f.producer);
    cr_assert_eq(ms_ring_attach(f.fd, MS_RING_PRODUCER, GENERATION, &f.producer, NULL), MS_OK);
    cr_assert(ms_ring_consumer_sleeps(&f.producer));
    ring_fixture_fini(&f);
}

/* ---- a corrupt far side -------------------------------------------------------------------- */

Test(ring, impossible_tail_is_corrupt)
{
    /* Relative to a consumer that stands at 48. */
    static const uint64_t tails[] = {0, 40, 49, 52, 48 + CAPACITY + 8, UINT64_MAX - 7};

    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        struct ring_fixture f;

        ring_fixture_init(&f);
        for (uint64_t n = 0; n < 3; n++) {
            cr_assert_eq(push(&f.producer, 8, n), MS_OK);
            assert_pops(&f.consumer, 8, n);
        }
        cr_assert_eq(f.consumer.position, 48);
        atomic_store(&f.region->tail, tails[i]);
        assert_peek_fails(&f.consumer, MS_ECORRUPT);
        cr_assert_not(ms_ring_prepare_sleep(&f.consumer), "it must come to be reported");
        ring_fixture_fini(&f);
    }
}

Test(ring, impossible_head_is_corrupt)
{
    /* Relative to a full ring of a producer that has seen 16. */
    static const uint64_t heads[] = {0, 8, 17, CAPACITY + 24, UINT64_MAX - 7};

    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        struct ring_fixture f;
        void *record = &f;

        ring_fixture_init(&f);
        while (push(&f.producer, 8, 0) == MS_OK) {
        }
        assert_pops(&f.consumer, 8, 0);
        cr_assert_eq(push(&f.producer, 8, 0), MS_OK);
        cr_assert_eq(f.producer.seen, 16);
        atomic_store(&f.region->head, heads[i]);
        cr_assert_eq(ms_ring_reserve(&f.producer, 8, &record), MS_ECORRUPT, "head %zu", i);
        cr_assert_eq(record, &f, "an error must leave *out alone");
        ring_fixture_fini(&f);
    }
}

Test(ring, impossible_length_is_corrupt)
{
    /* Of a record that takes 16 of the 16 bytes published. */
    static const uint64_t lengths[] = {0,        9,          RECORD_MAX,    RECORD_MAX + 1,
                                       CAPACITY, UINT64_MAX, UINT64_MAX - 8};

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct ring_fixture f;

        ring_fixture_init(&f);
        cr_assert_eq(push(&f.producer, 8, 0), MS_OK);
        memcpy(f.producer.data, &lengths[i], sizeof(lengths[i]));
        assert_peek_fails(&f.consumer, MS_ECORRUPT);
        ring_fixture_fini(&f);
    }
}

/* ---- attaching ----------------------------------------------------------------------------- */

static void assert_refused(int fd, uint64_t generation)
{
    struct ms_ring ring = {.position = 77};
    struct ms_err err;

    cr_assert_eq(ms_ring_attach(fd, MS_RING_CONSUMER, generation, &ring, &err), MS_ECORRUPT);
    cr_assert_eq(err.status, MS_ECORRUPT);
    cr_assert_eq(ring.position, 77, "an error must leave *out alone");
}

Test(ring, create_refuses_impossible_capacities)
{
    static const uint64_t capacities[] = {
        0, 1, CAPACITY / 2, CAPACITY + 1, CAPACITY * 3, 2 * MS_RING_CAPACITY_MAX, UINT64_MAX};

    for (size_t i = 0; i < sizeof(capacities) / sizeof(capacities[0]); i++) {
        const struct ms_ring_spec spec = {.capacity_bytes = capacities[i]};
        int fd = -7;

        cr_assert_eq(ms_ring_create("test", &spec, &fd, NULL), MS_EINVAL);
        cr_assert_eq(fd, -7);
    }
}

Test(ring, attach_refuses_another_generation)
{
    int fd = create_ring();

    assert_refused(fd, GENERATION + 1);
    (void)close(fd);
}

Test(ring, attach_refuses_a_broken_header)
{
    struct ring_fixture f;

    ring_fixture_init(&f);
    f.region->magic++;
    assert_refused(f.fd, GENERATION);
    f.region->magic--;
    f.region->version++;
    assert_refused(f.fd, GENERATION);
    f.region->version--;
    f.region->capacity_bytes *= 2;
    assert_refused(f.fd, GENERATION);
    f.region->capacity_bytes /= 2;
    atomic_store(&f.region->tail, 4);
    assert_refused(f.fd, GENERATION);
    atomic_store(&f.region->tail, CAPACITY + 8);
    assert_refused(f.fd, GENERATION);
    atomic_store(&f.region->tail, CAPACITY);
    atomic_store(&f.region->head, CAPACITY + 8);
    assert_refused(f.fd, GENERATION);
    ring_fixture_fini(&f);
}

Test(ring, attach_refuses_what_is_no_sealed_memory_of_the_right_size)
{
    static const off_t sizes[] = {0, 100, MS_RING_HEADER_BYTES, CAPACITY + 100,
                                  MS_RING_HEADER_BYTES + CAPACITY - 1};
    int fd;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        fd = memfd_create("short", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        cr_assert_eq(ftruncate(fd, sizes[i]), 0);
        cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
        assert_refused(fd, 0);
        (void)close(fd);
    }
    fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert_eq(ftruncate(fd, MS_RING_HEADER_BYTES + CAPACITY), 0);
    assert_refused(fd, 0);
    (void)close(fd);
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_refused(fd, 0);
    (void)close(fd);
}

Test(ring, memory_cannot_be_resized)
{
    int fd = create_ring();

    cr_assert_neq(ftruncate(fd, 0), 0);
    cr_assert_neq(ftruncate(fd, 2 * CAPACITY + MS_RING_HEADER_BYTES), 0);
    (void)close(fd);
}

Test(ring, descriptor_may_be_closed_once_attached_and_detach_is_repeatable)
{
    struct ring_fixture f;

    ring_fixture_init(&f);
    (void)close(f.fd);
    cr_assert_eq(push(&f.producer, 8, 1), MS_OK);
    assert_pops(&f.consumer, 8, 1);
    detach_both(&f);
    detach_both(&f);
}

/* ---- two processes ------------------------------------------------------------------------- */

#define STRESS_RECORDS     200000u
#define STRESS_PATIENCE_MS 20000

/* Waits for the doorbell; false when it does not ring: that is a lost wake-up. */
static bool wait_doorbell(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    uint64_t count;

    return poll(&wait, 1, STRESS_PATIENCE_MS) == 1 &&
           read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count);
}

static void ring_doorbell(int fd)
{
    const uint64_t one = 1;

    cr_assert_eq(write(fd, &one, sizeof(one)), (ssize_t)sizeof(one));
}

/* Exit status: 0, or what went wrong. */
static int produce(int ring_fd, int own_bell, int far_bell, uint64_t random)
{
    struct ms_ring ring;

    if (ms_ring_attach(ring_fd, MS_RING_PRODUCER, GENERATION, &ring, NULL) != MS_OK) {
        return 1;
    }
    for (uint64_t n = 0; n < STRESS_RECORDS;) {
        uint64_t batch = 1 + test_random_below(&random, 8);
        int rc = MS_OK;

        for (; batch > 0 && n < STRESS_RECORDS && rc == MS_OK; batch--) {
            rc = push(&ring, 1 + n % 300, n);
            n += rc == MS_OK;
        }
        if (ms_ring_consumer_sleeps(&ring)) {
            ring_doorbell(far_bell);
        }
        if (rc == MS_EAGAIN && !wait_doorbell(own_bell)) {
            return 2;
        }
        if (rc != MS_OK && rc != MS_EAGAIN) {
            return 3;
        }
    }
    return 0;
}

/* Both sides sleep whenever they can, thousands of times; each wait that is not ended is a failure.
 */
Test(ring, no_wake_up_is_lost_between_processes)
{
    uint64_t random = test_seed("ring no_wake_up_is_lost_between_processes");
    struct ring_fixture f;
    int producer_bell = eventfd(0, EFD_CLOEXEC);
    int consumer_bell = eventfd(0, EFD_CLOEXEC);
    uint64_t sleeps = 0;
    int status;
    pid_t child;

    ring_fixture_init(&f);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        _exit(produce(f.fd, producer_bell, consumer_bell, random));
    }
    for (uint64_t n = 0; n < STRESS_RECORDS;) {
        uint64_t batch = 1 + test_random_below(&random, 8);
        const void *record;
        size_t len_bytes;
        int rc = MS_OK;

        for (; batch > 0 && n < STRESS_RECORDS && rc == MS_OK; batch--) {
            rc = ms_ring_peek(&f.consumer, &record, &len_bytes);
            if (rc == MS_OK) {
                assert_pops(&f.consumer, 1 + n % 300, n);
                n++;
            }
        }
        if (ms_ring_producer_waits(&f.consumer)) {
            ring_doorbell(producer_bell);
        }
        if (rc == MS_EAGAIN && ms_ring_prepare_sleep(&f.consumer)) {
            cr_assert(wait_doorbell(consumer_bell), "lost wake-up at record %lu", (unsigned long)n);
            sleeps++;
        }
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "producer: status %x", status);
    cr_assert_gt(sleeps, 0);
    (void)close(producer_bell);
    (void)close(consumer_bell);
    ring_fixture_fini(&f);
}

Test(ring, used_bytes_are_what_the_consumer_has_not_taken)
{
    struct ring_fixture f;
    const void *record;
    void *room;
    size_t len_bytes;

    ring_fixture_init(&f);
    cr_assert_eq(ms_ring_used_bytes(&f.producer), 0);
    cr_assert_eq(ms_ring_reserve(&f.producer, 24, &room), MS_OK);
    ms_ring_commit(&f.producer);
    cr_assert_eq(ms_ring_used_bytes(&f.producer), 32, "the record and its length");
    cr_assert_eq(ms_ring_peek(&f.consumer, &record, &len_bytes), MS_OK);
    ms_ring_consume(&f.consumer);
    cr_assert_eq(ms_ring_used_bytes(&f.producer), 0);
    atomic_store(&f.region->head, UINT64_MAX / 2);
    cr_assert_eq(ms_ring_used_bytes(&f.producer), CAPACITY, "a corrupt index counts as full");
    ring_fixture_fini(&f);
}

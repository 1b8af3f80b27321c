/*
 * ring_stress: two threads and one mapping of a ring, for the race detector.
 *
 *   ring_stress [RECORDS]
 *
 * Processes that share a ring have mappings of their own, which a race detector takes for different
 * memory. So both views here use one mapping, and every access that the memory order argument in
 * ring.c has to justify is one that the detector sees. Prints the seed (MS_SEED replays it); exits
 * non-zero if a record is wrong or a wake-up is lost.
 */
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/ring.h"
#include "tests/seed.h"

#define CAPACITY        4096u
#define SHORT_BYTES     600u
#define LONG_BYTES      2040u
#define PHASE_RECORDS   1000u
#define BATCH_MAX       16u
#define RECORDS_DEFAULT 200000u
#define PATIENCE_MS     20000

struct side {
    struct ms_ring ring;
    uint64_t records;
    uint64_t random;
    uint64_t sleeps;
    int own_bell;
    int far_bell;
    const char *failure; /* NULL: none */
};

/*
 * Phases of short records, with much going on between two waits, and of long ones: then the ring
 * holds one or two, each side waits for each step of the other, and a wake-up that is lost is not
 * made good by the next one.
 */
static size_t length_of(uint64_t n)
{
    uint64_t spread = (n * 2654435761u >> 7) % SHORT_BYTES;

    return n / PHASE_RECORDS % 2 == 0 ? 1 + spread : LONG_BYTES - spread;
}

static uint8_t byte_of(uint64_t n)
{
    return (uint8_t)(n ^ n >> 8);
}

static bool wait_doorbell(struct side *side)
{
    struct pollfd wait = {.fd = side->own_bell, .events = POLLIN};
    uint64_t count;

    side->sleeps++;
    if (poll(&wait, 1, PATIENCE_MS) != 1 ||
        read(side->own_bell, &count, sizeof(count)) != (ssize_t)sizeof(count)) {
        side->failure = "a wake-up was lost";
        return false;
    }
    return true;
}

static void ring_doorbell(struct side *side)
{
    const uint64_t one = 1;

    if (write(side->far_bell, &one, sizeof(one)) != (ssize_t)sizeof(one)) {
        side->failure = "a doorbell could not be rung";
    }
}

static void *produce(void *argument)
{
    struct side *side = argument;
    uint64_t n = 0;

    while (n < side->records && side->failure == NULL) {
        uint64_t batch = 1 + test_random_below(&side->random, BATCH_MAX);
        void *record;
        int rc = MS_OK;

        for (; batch > 0 && n < side->records; batch--) {
            rc = ms_ring_reserve(&side->ring, length_of(n), &record);
            if (rc != MS_OK) {
                break;
            }
            memset(record, byte_of(n), length_of(n));
            ms_ring_commit(&side->ring);
            n++;
        }
        if (ms_ring_consumer_sleeps(&side->ring)) {
            ring_doorbell(side);
        }
        if (rc == MS_EAGAIN) {
            (void)wait_doorbell(side);
        } else if (rc != MS_OK) {
            side->failure = ms_status_text(rc);
        }
    }
    return NULL;
}

static bool is_record(const uint8_t *record, size_t len_bytes, uint64_t n)
{
    if (len_bytes != length_of(n)) {
        return false;
    }
    for (size_t i = 0; i < len_bytes; i++) {
        if (record[i] != byte_of(n)) {
            return false;
        }
    }
    return true;
}

static void *consume(void *argument)
{
    struct side *side = argument;
    uint64_t n = 0;

    while (n < side->records && side->failure == NULL) {
        uint64_t batch = 1 + test_random_below(&side->random, BATCH_MAX);
        const void *record;
        size_t len_bytes;
        int rc = MS_OK;

        for (; batch > 0 && n < side->records; batch--) {
            rc = ms_ring_peek(&side->ring, &record, &len_bytes);
            if (rc != MS_OK) {
                break;
            }
            if (!is_record(record, len_bytes, n)) {
                side->failure = "a record is not what was sent";
                return NULL;
            }
            ms_ring_consume(&side->ring);
            n++;
        }
        if (ms_ring_producer_waits(&side->ring)) {
            ring_doorbell(side);
        }
        if (rc == MS_EAGAIN && ms_ring_prepare_sleep(&side->ring)) {
            (void)wait_doorbell(side);
        } else if (rc != MS_OK && rc != MS_EAGAIN) {
            side->failure = ms_status_text(rc);
        }
    }
    return NULL;
}

/* Two views of one mapping. Only the first owns it. */
static int open_sides(struct side *producer, struct side *consumer, struct ms_err *err)
{
    const struct ms_ring_spec spec = {.capacity_bytes = CAPACITY, .generation = 1};
    int fd;
    int rc;

    rc = ms_ring_create("ring-stress", &spec, &fd, err);
    if (rc != MS_OK) {
        return rc;
    }
    rc = ms_ring_attach(fd, MS_RING_PRODUCER, spec.generation, &producer->ring, err);
    (void)close(fd);
    if (rc != MS_OK) {
        return rc;
    }
    consumer->ring = producer->ring; /* an empty ring: both stand at its beginning */
    consumer->ring.side = MS_RING_CONSUMER;
    producer->own_bell = consumer->far_bell = eventfd(0, EFD_CLOEXEC);
    consumer->own_bell = producer->far_bell = eventfd(0, EFD_CLOEXEC);
    if (producer->own_bell < 0 || consumer->own_bell < 0) {
        return ms_err_set(err, MS_EIO, 0, "no doorbells");
    }
    return MS_OK;
}

int main(int argc, char **argv)
{
    struct side producer = {.records = RECORDS_DEFAULT};
    struct side consumer;
    struct ms_instant began;
    struct ms_err err;
    pthread_t threads[2];

    if (argc > 1) {
        producer.records = strtoull(argv[1], NULL, 10);
    }
    producer.random = test_seed("ring_stress");
    consumer = producer;
    consumer.random++;
    if (open_sides(&producer, &consumer, &err) != MS_OK) {
        (void)fprintf(stderr, "ring_stress: %s\n", err.text);
        return 1;
    }
    began = ms_clock_now();
    if (pthread_create(&threads[0], NULL, produce, &producer) != 0 ||
        pthread_create(&threads[1], NULL, consume, &consumer) != 0) {
        (void)fprintf(stderr, "ring_stress: no threads\n");
        return 1;
    }
    (void)pthread_join(threads[0], NULL);
    (void)pthread_join(threads[1], NULL);
    if (producer.failure != NULL || consumer.failure != NULL) {
        (void)fprintf(stderr, "ring_stress: producer: %s, consumer: %s\n",
                      producer.failure != NULL ? producer.failure : "ok",
                      consumer.failure != NULL ? consumer.failure : "ok");
        return 1;
    }
    (void)printf("ring_stress: %" PRIu64 " records in %" PRIu64 " ms, waits: producer %" PRIu64
                 ", consumer %" PRIu64 "\n",
                 producer.records, ms_clock_elapsed_ms(began, ms_clock_now()), producer.sleeps,
                 consumer.sleeps);
    ms_ring_detach(&producer.ring);
    (void)close(producer.own_bell);
    (void)close(consumer.own_bell);
    return 0;
}

/*
 * ring: the indices, their checks, and the mapping trick that keeps records contiguous.
 *
 * Each side owns one index and keeps it privately; the copy in shared memory is for the other side
 * only. What the other side says is copied once, checked against what is possible, and only the
 * copy is used. So a corrupt far side can make us see wrong records, which the layer above checks,
 * or an impossible index, which is MS_ECORRUPT; it cannot make us touch memory outside the ring.
 *
 * Memory order.
 *
 * Records: the producer fills the record, then stores tail with release; the consumer loads tail
 * with acquire, then reads the record. The consumer is done with the record, then stores head with
 * release; the producer loads head with acquire, then writes over it.
 *
 * Sleeping: the consumer says that it sleeps and then looks at tail once more; the producer moves
 * tail and then asks whether the consumer sleeps. A wake-up would be lost only if both looked
 * before the other's word arrived. It cannot be, because every access to the flag is an exchange
 * with acquire and release order, and the exchanges of one flag stand in one order, each reading
 * what the one before it wrote. If the consumer's comes first, the producer's reads the statement
 * and rings. If the producer's comes first, the consumer's reads from it, so all that the producer
 * did before, the new tail above all, is visible to the look that follows. The producer that waits
 * for room is the same with the roles exchanged. (Fences would do as well; exchanges cost no more
 * here, clear the flag in passing, and the thread sanitizer understands them.)
 */
#include "common/ring.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/ring_layout.h"
#include "common/shm.h"

/* The length in front of every record. */
#define LENGTH_BYTES sizeof(uint64_t)

static bool capacity_is_possible(uint64_t capacity_bytes)
{
    return capacity_bytes >= MS_RING_CAPACITY_MIN && capacity_bytes <= MS_RING_CAPACITY_MAX &&
           (capacity_bytes & (capacity_bytes - 1)) == 0;
}

static bool is_aligned(uint64_t index)
{
    return index % MS_RING_RECORD_ALIGN == 0;
}

/* What a record of len_bytes takes in the data area. */
static uint64_t record_bytes(uint64_t len_bytes)
{
    uint64_t total_bytes = LENGTH_BYTES + len_bytes;

    return (total_bytes + MS_RING_RECORD_ALIGN - 1) & ~(uint64_t)(MS_RING_RECORD_ALIGN - 1);
}

static uint8_t *record_at(const struct ms_ring *ring, uint64_t index)
{
    return ring->data + (index & (ring->capacity_bytes - 1));
}

static bool exchange_flag(_Atomic uint32_t *flag, uint32_t value)
{
    return atomic_exchange_explicit(flag, value, memory_order_acq_rel) != 0;
}

int ms_ring_create(const char *name, const struct ms_ring_spec *spec, int *out_fd,
                   struct ms_err *err)
{
    const struct ms_ring_region head = {
        .magic = MS_RING_MAGIC,
        .version = MS_RING_VERSION,
        .capacity_bytes = spec->capacity_bytes,
        .generation = spec->generation,
    };

    if (!capacity_is_possible(spec->capacity_bytes)) {
        return ms_err_set(err, MS_EINVAL, 0, "ring %s: impossible capacity of %" PRIu64 " bytes",
                          name, spec->capacity_bytes);
    }
    return ms_shm_create(name, MS_RING_HEADER_BYTES + spec->capacity_bytes, &head, sizeof(head),
                         out_fd, err);
}

/* Looks at the header through a mapping of its own and returns the capacity it proves. */
static int check_region(int fd, uint64_t generation, uint64_t *capacity_bytes, struct ms_err *err)
{
    const struct ms_ring_region *region;
    uint64_t data_bytes;
    struct stat st;
    void *memory;
    int rc;

    if (fstat(fd, &st) != 0) {
        return ms_err_set(err, MS_EIO, errno, "ring: stat");
    }
    data_bytes =
        (uint64_t)st.st_size - MS_RING_HEADER_BYTES; /* too small: huge, hence impossible */
    if (!capacity_is_possible(data_bytes)) {
        return ms_err_set(err, MS_ECORRUPT, 0, "ring: impossible size of %jd bytes",
                          (intmax_t)st.st_size);
    }
    rc = ms_shm_map(fd, (size_t)st.st_size, false, &memory, err);
    if (rc != MS_OK) {
        return rc;
    }
    region = memory;
    if (region->magic != MS_RING_MAGIC || region->version != MS_RING_VERSION) {
        rc = ms_err_set(err, MS_ECORRUPT, 0, "ring: not one of this version");
    } else if (region->capacity_bytes != data_bytes) {
        rc = ms_err_set(err, MS_ECORRUPT, 0,
                        "ring: capacity of %" PRIu64 " bytes in memory for %" PRIu64,
                        region->capacity_bytes, data_bytes);
    } else if (region->generation != generation) {
        rc = ms_err_set(err, MS_ECORRUPT, 0, "ring: generation %" PRIu64 " instead of %" PRIu64,
                        region->generation, generation);
    } else {
        *capacity_bytes = data_bytes;
    }
    (void)munmap(memory, (size_t)st.st_size);
    return rc;
}

static size_t mapping_bytes(uint64_t capacity_bytes)
{
    return MS_RING_HEADER_BYTES + 2 * capacity_bytes;
}

static bool map_at(uint8_t *address, size_t len_bytes, int fd, off_t offset)
{
    return mmap(address, len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, offset) !=
           MAP_FAILED;
}

/* Header, data, and the same data once more behind it: what wraps around is still contiguous. */
static int map_twice(int fd, uint64_t capacity_bytes, uint8_t **out, struct ms_err *err)
{
    size_t once_bytes = MS_RING_HEADER_BYTES + capacity_bytes;
    uint8_t *base;
    int sys_errno;

    base = mmap(NULL, mapping_bytes(capacity_bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        (void)ms_err_set(err, MS_ENOMEM, errno, "ring: reserve %zu bytes of addresses",
                         mapping_bytes(capacity_bytes));
        return MS_ENOMEM;
    }
    if (!map_at(base, once_bytes, fd, 0) ||
        !map_at(base + once_bytes, capacity_bytes, fd, MS_RING_HEADER_BYTES)) {
        sys_errno = errno;
        (void)munmap(base, mapping_bytes(capacity_bytes));
        (void)ms_err_set(err, MS_EIO, sys_errno, "ring: map %" PRIu64 " bytes of data",
                         capacity_bytes);
        return MS_EIO;
    }
    *out = base;
    return MS_OK;
}

int ms_ring_attach(int fd, enum ms_ring_side side, uint64_t generation, struct ms_ring *out,
                   struct ms_err *err)
{
    struct ms_ring ring = {.side = side};
    uint64_t head;
    uint64_t tail;
    uint8_t *base;
    int rc;

    rc = check_region(fd, generation, &ring.capacity_bytes, err);
    if (rc != MS_OK) {
        return rc;
    }
    rc = map_twice(fd, ring.capacity_bytes, &base, err);
    if (rc != MS_OK) {
        return rc;
    }
    ring.region = (struct ms_ring_region *)base;
    ring.data = base + MS_RING_HEADER_BYTES;
    head = atomic_load_explicit(&ring.region->head, memory_order_acquire);
    tail = atomic_load_explicit(&ring.region->tail, memory_order_acquire);
    if (!is_aligned(head) || !is_aligned(tail) || tail - head > ring.capacity_bytes) {
        ms_ring_detach(&ring);
        return ms_err_set(err, MS_ECORRUPT, 0,
                          "ring: impossible indices, head %" PRIu64 " tail %" PRIu64, head, tail);
    }
    ring.position = side == MS_RING_PRODUCER ? tail : head;
    ring.seen = side == MS_RING_PRODUCER ? head : tail;
    /* Not equal: whoever had this side before us may have ended between moving on and saying so. */
    ring.announced = ring.position - 1;
    *out = ring;
    return MS_OK;
}

void ms_ring_detach(struct ms_ring *ring)
{
    if (ring->region != NULL) {
        (void)munmap(ring->region, mapping_bytes(ring->capacity_bytes));
    }
    *ring = (struct ms_ring){.side = ring->side};
}

size_t ms_ring_record_max(const struct ms_ring *ring)
{
    return ring->capacity_bytes / 2 - LENGTH_BYTES;
}

uint64_t ms_ring_used_bytes(const struct ms_ring *ring)
{
    uint64_t used;

    assert(ring->side == MS_RING_PRODUCER);

    used = ring->position - atomic_load_explicit(&ring->region->head, memory_order_relaxed);
    return used > ring->capacity_bytes ? ring->capacity_bytes : used;
}

/* Producer: how far has the consumer come? It can only have moved on, and not past us. */
static int load_head(struct ms_ring *ring)
{
    uint64_t head = atomic_load_explicit(&ring->region->head, memory_order_acquire);

    if (!is_aligned(head) || head - ring->seen > ring->position - ring->seen) {
        return MS_ECORRUPT;
    }
    ring->seen = head;
    return MS_OK;
}

static uint64_t free_bytes(const struct ms_ring *ring)
{
    return ring->capacity_bytes - (ring->position - ring->seen);
}

/* The second look that makes waiting safe: see "Sleeping" above. */
static int wait_for_room(struct ms_ring *ring, uint64_t total_bytes)
{
    int rc;

    (void)exchange_flag(&ring->region->producer_waits, 1);
    rc = load_head(ring);
    if (rc != MS_OK) {
        return rc;
    }
    if (free_bytes(ring) < total_bytes) {
        return MS_EAGAIN;
    }
    (void)exchange_flag(&ring->region->producer_waits, 0);
    return MS_OK;
}

int ms_ring_reserve(struct ms_ring *ring, size_t len_bytes, void **out)
{
    const uint64_t length = len_bytes;
    uint64_t total_bytes;
    uint8_t *record;
    int rc;

    assert(ring->side == MS_RING_PRODUCER);
    assert(len_bytes > 0);

    if (len_bytes > ms_ring_record_max(ring)) {
        return MS_ERANGE;
    }
    total_bytes = record_bytes(len_bytes);
    if (free_bytes(ring) < total_bytes) {
        rc = load_head(ring);
        if (rc == MS_OK && free_bytes(ring) < total_bytes) {
            rc = wait_for_room(ring, total_bytes);
        }
        if (rc != MS_OK) {
            return rc;
        }
    }
    record = record_at(ring, ring->position);
    memcpy(record, &length, LENGTH_BYTES);
    ring->pending_bytes = total_bytes;
    *out = record + LENGTH_BYTES;
    return MS_OK;
}

void ms_ring_commit(struct ms_ring *ring)
{
    assert(ring->side == MS_RING_PRODUCER);
    assert(ring->pending_bytes > 0);

    ring->position += ring->pending_bytes;
    ring->pending_bytes = 0;
    atomic_store_explicit(&ring->region->tail, ring->position, memory_order_release);
}

/*
 * Asks only when we moved since the last time. That spares the exchange, and it keeps two ends that
 * have nothing to say from waking each other for ever.
 */
static bool far_side_rests(struct ms_ring *ring, _Atomic uint32_t *flag)
{
    if (ring->announced == ring->position) {
        return false;
    }
    ring->announced = ring->position;
    return exchange_flag(flag, 0);
}

bool ms_ring_consumer_sleeps(struct ms_ring *ring)
{
    assert(ring->side == MS_RING_PRODUCER);

    return far_side_rests(ring, &ring->region->consumer_sleeps);
}

static uint64_t waiting_bytes(const struct ms_ring *ring)
{
    return ring->seen - ring->position;
}

/* Consumer: how far has the producer come? It can only have moved on, and at most to full. */
static int load_tail(struct ms_ring *ring)
{
    uint64_t tail = atomic_load_explicit(&ring->region->tail, memory_order_acquire);

    if (!is_aligned(tail) || tail - ring->seen > ring->capacity_bytes - waiting_bytes(ring)) {
        return MS_ECORRUPT;
    }
    ring->seen = tail;
    return MS_OK;
}

int ms_ring_peek(struct ms_ring *ring, const void **out, size_t *len_bytes)
{
    const uint8_t *record;
    uint64_t length;
    int rc;

    assert(ring->side == MS_RING_CONSUMER);

    if (ring->seen == ring->position) {
        rc = load_tail(ring);
        if (rc != MS_OK) {
            return rc;
        }
        if (ring->seen == ring->position) {
            return MS_EAGAIN;
        }
    }
    record = record_at(ring, ring->position);
    /* volatile: read once. A second look could see another length than the one that was checked. */
    length = *(const volatile uint64_t *)record;
    if (length == 0 || length > ms_ring_record_max(ring) ||
        record_bytes(length) > waiting_bytes(ring)) {
        return MS_ECORRUPT;
    }
    ring->pending_bytes = record_bytes(length);
    *out = record + LENGTH_BYTES;
    *len_bytes = length;
    return MS_OK;
}

void ms_ring_consume(struct ms_ring *ring)
{
    assert(ring->side == MS_RING_CONSUMER);
    assert(ring->pending_bytes > 0);

    ring->position += ring->pending_bytes;
    ring->pending_bytes = 0;
    atomic_store_explicit(&ring->region->head, ring->position, memory_order_release);
}

bool ms_ring_producer_waits(struct ms_ring *ring)
{
    assert(ring->side == MS_RING_CONSUMER);

    return far_side_rests(ring, &ring->region->producer_waits);
}

bool ms_ring_prepare_sleep(struct ms_ring *ring)
{
    assert(ring->side == MS_RING_CONSUMER);

    if (ring->seen != ring->position) {
        return false;
    }
    (void)exchange_flag(&ring->region->consumer_sleeps, 1);
    /* Any change will do, even an impossible one: the next look at the ring reports it. */
    if (atomic_load_explicit(&ring->region->tail, memory_order_acquire) == ring->position) {
        return true;
    }
    (void)exchange_flag(&ring->region->consumer_sleeps, 0);
    return false;
}

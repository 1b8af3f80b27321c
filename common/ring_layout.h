/*
 * ring_layout: the shared bytes of a ring. Private to ring.c and to the tests that break rings.
 *
 *   0                    struct ms_ring_region, zeros up to MS_RING_HEADER_BYTES
 *   MS_RING_HEADER_BYTES capacity_bytes of records, without gaps, modulo the capacity:
 *
 *     0  8        length of the record, without this field and the padding
 *     8  length   the record
 *     .. 0 to 7   padding, so that the next one is aligned
 *
 * head and tail count bytes since the ring was made; they never wrap, only their place in the data
 * area does. The records that wait lie in [head, tail).
 */
#ifndef METASTORE_COMMON_RING_LAYOUT_H
#define METASTORE_COMMON_RING_LAYOUT_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#define MS_RING_MAGIC        UINT64_C(0x474e4952534d0001)
#define MS_RING_VERSION      1
#define MS_RING_HEADER_BYTES 4096u /* a page: the data area behind it is mapped on its own */
#define MS_RING_RECORD_ALIGN 8u
#define MS_RING_CACHE_LINE   64

struct ms_ring_region {
    /* Written once by ms_ring_create. */
    uint64_t magic;
    uint64_t version;
    uint64_t capacity_bytes;
    uint64_t generation;

    /* What is written by different sides lies on different cache lines. */
    alignas(MS_RING_CACHE_LINE) _Atomic uint64_t head; /* consumer: everything before it is free */
    alignas(MS_RING_CACHE_LINE) _Atomic uint64_t tail; /* producer: everything before it is there */
    /* Statements of one side, withdrawn by itself or cleared by the other. */
    alignas(MS_RING_CACHE_LINE) _Atomic uint32_t consumer_sleeps;
    alignas(MS_RING_CACHE_LINE) _Atomic uint32_t producer_waits;
};

_Static_assert(sizeof(struct ms_ring_region) <= MS_RING_HEADER_BYTES, "the header is one page");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
               "a lock inside an atomic would not be shared between processes");

#endif

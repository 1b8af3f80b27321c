/*
 * ring_fuzz: a corrupt producer. The input is what it leaves in the shared memory of one ring; we
 * are the consumer, through a link, until the first refusal.
 *
 * input: 0 role and kind; 1 8 bytes head; 9 8 bytes tail; 17 .. data area, repeated
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/link.h"
#include "common/ring_layout.h"

#define CAPACITY   4096u
#define HEAD_BYTES 17u

/* A link has two ends; these are all of them. */
static const struct {
    enum ms_role self_role;
    struct ms_link_info info;
} ends[] = {
    {MS_ROLE_RAFTD, {.kind = MS_LINK_API_RAFT, .peer_role = MS_ROLE_APID}},
    {MS_ROLE_APID, {.kind = MS_LINK_API_RAFT, .peer_role = MS_ROLE_RAFTD}},
    {MS_ROLE_APID, {.kind = MS_LINK_API_STORE, .peer_role = MS_ROLE_STORAGED}},
    {MS_ROLE_STORAGED, {.kind = MS_LINK_API_STORE, .peer_role = MS_ROLE_APID}},
    {MS_ROLE_STORAGED, {.kind = MS_LINK_RAFT_LOG, .peer_role = MS_ROLE_RAFTD}},
    {MS_ROLE_RAFTD, {.kind = MS_LINK_RAFT_LOG, .peer_role = MS_ROLE_STORAGED}},
    {MS_ROLE_STORAGED, {.kind = MS_LINK_RAFT_APPLY, .peer_role = MS_ROLE_RAFTD}},
    {MS_ROLE_RAFTD, {.kind = MS_LINK_RAFT_APPLY, .peer_role = MS_ROLE_STORAGED}},
};

/* Writes the input into the ring behind fd. */
static void corrupt(int fd, const uint8_t *data, size_t size_bytes)
{
    const size_t mapping_bytes = MS_RING_HEADER_BYTES + CAPACITY;
    struct ms_ring_region *region;
    uint64_t head;
    uint64_t tail;
    uint8_t *area;

    region = mmap(NULL, mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (region == MAP_FAILED) {
        abort();
    }
    memcpy(&head, data + 1, sizeof(head));
    memcpy(&tail, data + 1 + sizeof(head), sizeof(tail));
    atomic_store(&region->head, head);
    atomic_store(&region->tail, tail);
    area = (uint8_t *)region + MS_RING_HEADER_BYTES;
    for (size_t i = 0; i < CAPACITY && size_bytes > HEAD_BYTES; i++) {
        area[i] = data[HEAD_BYTES + i % (size_bytes - HEAD_BYTES)];
    }
    (void)munmap(region, mapping_bytes);
}

/* Looks at every byte that a receiver may look at. */
static uint8_t digest(const struct ms_ipc_message *message)
{
    uint8_t sum = 0;

    for (uint32_t i = 0; i < message->tail_bytes; i++) {
        sum ^= message->tail[i];
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    static volatile uint8_t sink;
    struct ms_ipc_message message;
    struct ms_link link;
    int fds[MS_LINK_FD_COUNT];
    int far_fds[MS_LINK_FD_COUNT];
    size_t end;

    if (size_bytes < HEAD_BYTES) {
        return 0;
    }
    end = data[0] % (sizeof(ends) / sizeof(ends[0]));
    if (ms_link_create(&ends[end].info, CAPACITY, fds, far_fds, NULL) != MS_OK) {
        abort();
    }
    corrupt(fds[MS_LINK_FD_IN], data, size_bytes);
    if (ms_link_take(&link, &ends[end].info, ends[end].self_role, fds, NULL) == MS_OK) {
        /* The capacity bounds it: no message is free. */
        while (ms_link_receive(&link, &message) == MS_OK) {
            sink = digest(&message);
            ms_link_release(&link);
        }
        (void)sink;
        ms_link_flush(&link);
        (void)ms_link_prepare_sleep(&link);
        ms_link_fini(&link);
    }
    for (size_t i = 0; i < MS_LINK_FD_COUNT; i++) {
        (void)close(far_fds[i]);
    }
    return 0;
}

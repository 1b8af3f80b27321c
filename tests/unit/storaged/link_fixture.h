/*
 * link_fixture: both ends of a link in one process, for tests that play raftd or apid.
 */
#ifndef METASTORE_TESTS_LINK_FIXTURE_H
#define METASTORE_TESTS_LINK_FIXTURE_H

#include <poll.h>
#include <string.h>

#include <criterion/criterion.h>

#include "common/link.h"
#include "storaged/ipc_entries.h"

#define LINK_FIXTURE_RING (1u << 16)

/* Makes a link; near is storaged's end, far the neighbour's. */
static inline void link_fixture_make(enum ms_link_kind kind, enum ms_role peer, uint64_t origin,
                                     struct ms_link *near_end, struct ms_link *far_end)
{
    static uint64_t generation;
    struct ms_link_info info = {.kind = kind, .generation = ++generation, .peer_origin = origin};
    struct ms_err err = {.status = MS_OK};
    int left[MS_LINK_FD_COUNT];
    int right[MS_LINK_FD_COUNT];

    cr_assert_eq(ms_link_create(&info, LINK_FIXTURE_RING, left, right, &err), MS_OK, "%s",
                 err.text);
    info.peer_role = MS_ROLE_STORAGED;
    cr_assert_eq(ms_link_take(far_end, &info, peer, left, &err), MS_OK, "%s", err.text);
    info.peer_role = peer;
    cr_assert_eq(ms_link_take(near_end, &info, MS_ROLE_STORAGED, right, &err), MS_OK, "%s",
                 err.text);
}

/* The next message at the far end, waiting for it; false after so many milliseconds. */
static inline bool link_fixture_receive(struct ms_link *far_end, struct ms_ipc_message *out,
                                        int timeout_ms)
{
    struct pollfd wait = {.fd = far_end->doorbell_fd, .events = POLLIN};

    for (;;) {
        int rc = ms_link_receive(far_end, out);

        if (rc == MS_OK) {
            return true;
        }
        cr_assert_eq(rc, MS_EAGAIN);
        if (!ms_link_prepare_sleep(far_end)) {
            continue;
        }
        if (poll(&wait, 1, timeout_ms) == 0) {
            return false;
        }
        ms_link_clear_doorbell(far_end);
    }
}

/* Like receive, of which type is expected; the fixed part goes to body. */
static inline void link_fixture_expect(struct ms_link *far_end, enum ms_ipc_type type, void *body,
                                       size_t body_bytes)
{
    struct ms_ipc_message message;

    cr_assert(link_fixture_receive(far_end, &message, 5000), "no %s came", ms_ipc_name(type));
    cr_assert_eq(message.type, type, "%s instead of %s", ms_ipc_name(message.type),
                 ms_ipc_name(type));
    memcpy(body, message.body, body_bytes);
    ms_link_release(far_end);
    ms_link_flush(far_end);
}

/* A message with entries [first, first + count) of the term, each with the data. */
static inline int link_fixture_entries(struct ms_link *far_end, enum ms_ipc_type type,
                                       const void *fixed, size_t fixed_bytes, raft_index first,
                                       uint32_t count, const struct log_entry *like)
{
    size_t tail_bytes = count * ipc_entry_bytes(like->data_bytes);
    void *body;
    void *tail;
    uint8_t *dst;
    int rc = ms_link_begin(far_end, type, tail_bytes, &body, &tail);

    if (rc != MS_OK) {
        return rc;
    }
    memcpy(body, fixed, fixed_bytes);
    dst = tail;
    for (uint32_t i = 0; i < count; i++) {
        struct log_entry entry = *like;

        entry.index = first + i;
        dst += ipc_entry_put(dst, &entry);
    }
    ms_link_commit(far_end);
    ms_link_flush(far_end);
    return MS_OK;
}

/* LOG_APPEND of count entries of term 1. */
static inline int link_fixture_append(struct ms_link *far_end, uint64_t seq, raft_index first,
                                      uint32_t count)
{
    const struct ms_log_append append = {.seq = seq,
                                         .first_index = first,
                                         .count = count,
                                         .has_hard_state = 1,
                                         .hard_state = {.term = 1, .vote = 1}};
    const struct log_entry like = {.term = 1,
                                   .data_bytes = 100,
                                   .data =
                                       (const uint8_t *)"0123456789012345678901234567890123456"
                                                        "789012345678901234567890123456789012345"
                                                        "678901234567890123456789"};

    return link_fixture_entries(far_end, MS_IPC_LOG_APPEND, &append, sizeof(append), first, count,
                                &like);
}

#endif

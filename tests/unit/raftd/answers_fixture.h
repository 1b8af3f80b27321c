/*
 * answers_fixture: one apid's link, for tests of what answers it.
 */
#ifndef METASTORE_TESTS_UNIT_RAFTD_ANSWERS_FIXTURE_H
#define METASTORE_TESTS_UNIT_RAFTD_ANSWERS_FIXTURE_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "raftd/api_client.h"

struct answers_fixture {
    struct api_clients clients;
    struct ms_link api; /* the apid's end */
    struct api_client_ref ref;
};

static inline void answers_init(struct answers_fixture *f, uint64_t ring_bytes)
{
    struct ms_link_info info = {
        .kind = MS_LINK_API_RAFT, .peer_role = MS_ROLE_APID, .peer_instance = 3, .generation = 8};
    struct ms_link link;
    int left[MS_LINK_FD_COUNT];
    int right[MS_LINK_FD_COUNT];

    api_clients_init(&f->clients);
    f->ref = (struct api_client_ref){.instance = 3, .generation = 8};
    cr_assert_eq(ms_link_create(&info, ring_bytes, left, right, NULL), MS_OK);
    cr_assert_eq(ms_link_take(&link, &info, MS_ROLE_RAFTD, right, NULL), MS_OK);
    info.peer_role = MS_ROLE_RAFTD;
    cr_assert_eq(ms_link_take(&f->api, &info, MS_ROLE_APID, left, NULL), MS_OK);
    cr_assert_eq(api_client_take_link(&f->clients.slots[3], &link), MS_OK);
}

static inline void answers_fini(struct answers_fixture *f)
{
    api_clients_fini(&f->clients);
    ms_link_fini(&f->api);
}

/* Sends what waits and takes the next answer; false if there is none. */
static inline bool answers_next(struct answers_fixture *f, struct ms_ipc_message *out)
{
    cr_assert_eq(api_client_pump(&f->clients.slots[3]), MS_OK);
    if (ms_link_receive(&f->api, out) != MS_OK) {
        return false;
    }
    ms_link_release(&f->api);
    return true;
}

static inline void *answers_take(void *ctx, size_t len_bytes)
{
    bool *refuse = ctx;

    return refuse != NULL && *refuse ? NULL : malloc(len_bytes);
}

static inline void answers_give(void *ctx, void *memory)
{
    (void)ctx;
    free(memory);
}

#endif

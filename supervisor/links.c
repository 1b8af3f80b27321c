/*
 * links: see links.h.
 */
#include "supervisor/links.h"

#include <assert.h>
#include <unistd.h>

#include "common/control.h"
#include "common/link.h"
#include "common/ring.h"

/* What a request needs in a ring besides its value: key, headers, the entry around it. */
#define REQUEST_OVERHEAD_BYTES (UINT64_C(64) << 10)

int links_capacity_bytes(const struct worker_link *link, uint64_t max_request_bytes, uint64_t *out,
                         struct ms_err *err)
{
    uint64_t capacity = link->capacity_min_bytes;

    if (link->carries_requests) {
        if (max_request_bytes > MS_RING_CAPACITY_MAX / 2 - REQUEST_OVERHEAD_BYTES) {
            return ms_err_set(err, MS_ERANGE, 0, "requests of %ju bytes are more than a ring holds",
                              (uintmax_t)max_request_bytes);
        }
        while (capacity < 2 * (max_request_bytes + REQUEST_OVERHEAD_BYTES)) {
            capacity *= 2;
        }
    }
    *out = capacity;
    return MS_OK;
}

static void close_all(const int fds[MS_LINK_FD_COUNT])
{
    for (int i = 0; i < MS_LINK_FD_COUNT; i++) {
        (void)close(fds[i]);
    }
}

static int send_end(struct worker *to, const struct worker *peer, struct ms_link_info info,
                    const int fds[MS_LINK_FD_COUNT], struct ms_err *err)
{
    info.peer_role = (uint32_t)peer->role->role;
    info.peer_instance = peer->instance;
    info.peer_origin = peer->origin;
    return ms_control_send(to->control_fd, MS_CONTROL_LINK, &info, fds, err);
}

struct connecting {
    struct links *links;
    struct worker *worker;
    uint64_t max_request_bytes;
    links_failed_fn *failed;
    void *ctx;
};

static int connect_pair(const struct connecting *c, const struct worker_link *link,
                        struct worker *neighbour, struct ms_err *err)
{
    bool worker_is_left = c->worker->role->role == link->left;
    struct ms_link_info info = {.kind = (uint32_t)link->kind};
    int left_fds[MS_LINK_FD_COUNT];
    int right_fds[MS_LINK_FD_COUNT];
    struct ms_err neighbour_err = {0};
    uint64_t capacity_bytes = 0;
    int rc;

    rc = links_capacity_bytes(link, c->max_request_bytes, &capacity_bytes, err);
    if (rc != MS_OK) {
        return rc;
    }
    info.generation = ++c->links->generation;
    rc = ms_link_create(&info, capacity_bytes, left_fds, right_fds, err);
    if (rc != MS_OK) {
        return rc;
    }
    rc = send_end(c->worker, neighbour, info, worker_is_left ? left_fds : right_fds, err);
    if (rc == MS_OK) {
        int neighbour_rc = send_end(neighbour, c->worker, info,
                                    worker_is_left ? right_fds : left_fds, &neighbour_err);

        if (neighbour_rc != MS_OK && neighbour_rc != MS_EPEER) {
            c->failed(c->ctx, neighbour, &neighbour_err);
        }
    }
    close_all(left_fds);
    close_all(right_fds);
    return rc;
}

int links_connect(struct links *links, struct worker_table *table, struct worker *worker,
                  uint64_t max_request_bytes, links_failed_fn *failed, void *ctx,
                  struct ms_err *err)
{
    const struct connecting connecting = {links, worker, max_request_bytes, failed, ctx};
    const struct worker_link *all;
    size_t kinds;

    assert(worker_is_alive(worker));
    all = worker_table_links(&kinds);
    for (size_t k = 0; k < kinds; k++) {
        enum ms_role self = worker->role->role;
        enum ms_role other = all[k].left == self ? all[k].right : all[k].left;

        if (all[k].left != self && all[k].right != self) {
            continue;
        }
        for (size_t i = 0; i < table->count; i++) {
            struct worker *neighbour = &table->workers[i];
            int rc;

            if (neighbour->role->role != other || !worker_is_alive(neighbour)) {
                continue;
            }
            rc = connect_pair(&connecting, &all[k], neighbour, err);
            if (rc != MS_OK) {
                return rc;
            }
        }
    }
    return MS_OK;
}

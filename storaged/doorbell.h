/*
 * doorbell: links in an epoll set.
 *
 * Edge-triggered, so that a doorbell needs no reading: waiting for the set takes the edge. A link
 * must leave the set before it is closed, for other processes hold the same eventfd open.
 */
#ifndef METASTORE_STORAGED_DOORBELL_H
#define METASTORE_STORAGED_DOORBELL_H

#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "common/err.h"
#include "common/link.h"

static inline int doorbell_watch(int epoll_fd, const struct ms_link *link, struct ms_err *err)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET}; /* data 0: NODE_EVENT_DOORBELL */

    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, link->doorbell_fd, &event) != 0) {
        return ms_err_set(err, MS_EIO, errno, "watch a doorbell");
    }
    return MS_OK;
}

/* Also for links that are closed. */
static inline void doorbell_close(int epoll_fd, struct ms_link *link)
{
    if (ms_link_is_open(link)) {
        (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, link->doorbell_fd, NULL);
    }
    ms_link_fini(link);
    ms_link_init_closed(link);
}

#endif

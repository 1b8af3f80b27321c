/*
 * load: fills a node with distinct keys over HTTP, as fast as it takes them.
 *
 *   load PORT COUNT CONNECTIONS
 *
 * Keys are 16 bytes, in a scattered order, values 128 bytes. Each connection has one request under
 * way. Prints one line of JSON; any answer but 204 ends it with status 1.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"

enum {
    VALUE_BYTES = 128,
    CONNECTIONS_MAX = 1024,
    EVENTS_MAX = 256,
    REPLY_BYTES = 2048
};

struct lane {
    int fd;
    size_t have;
    char reply[REPLY_BYTES];
};

static struct lane lanes[CONNECTIONS_MAX];
static char value[VALUE_BYTES + 1];

/* The keys in a scattered order: a prime, so each comes once for any other count. */
#define SCATTER UINT64_C(7368787)

static int send_next(struct lane *lane, uint64_t number, uint64_t count)
{
    char request[512];
    int len_bytes;

    len_bytes =
        snprintf(request, sizeof(request),
                 "PUT /load/%010" PRIu64 " HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s",
                 number * SCATTER % count, VALUE_BYTES, value);
    lane->have = 0;
    return send(lane->fd, request, (size_t)len_bytes, MSG_NOSIGNAL) == len_bytes ? 0 : -1;
}

static int connect_lane(struct lane *lane, uint16_t port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int on = 1;

    lane->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (lane->fd < 0 ||
        connect(lane->fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        return -1;
    }
    return setsockopt(lane->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* 1: a whole answer is there, 0: not yet, -1: broken, or not 204. */
static int take_answer(struct lane *lane)
{
    ssize_t got = recv(lane->fd, lane->reply + lane->have, REPLY_BYTES - 1 - lane->have, 0);

    if (got <= 0) {
        return -1;
    }
    lane->have += (size_t)got;
    lane->reply[lane->have] = '\0';
    if (strstr(lane->reply, "\r\n\r\n") == NULL) {
        return 0;
    }
    if (strncmp(lane->reply, "HTTP/1.1 204", 12) != 0) {
        (void)fprintf(stderr, "load: %s\n", lane->reply);
        return -1;
    }
    return 1;
}

int main(int argc, char **argv)
{
    uint64_t count = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;
    uint64_t connections = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;
    uint64_t sent = 0;
    uint64_t answered = 0;
    struct ms_instant began;
    double seconds;
    int poll_fd;

    if (count == 0 || connections == 0 || connections > CONNECTIONS_MAX) {
        (void)fprintf(stderr, "usage: load PORT COUNT CONNECTIONS\n");
        return 2;
    }
    memset(value, 'v', VALUE_BYTES);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (uint64_t i = 0; i < connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &lanes[i]};

        if (connect_lane(&lanes[i], (uint16_t)strtoul(argv[1], NULL, 10)) != 0 ||
            epoll_ctl(poll_fd, EPOLL_CTL_ADD, lanes[i].fd, &event) != 0) {
            (void)fprintf(stderr, "load: connect: %s\n", strerror(errno));
            return 1;
        }
    }
    began = ms_clock_now();
    for (uint64_t i = 0; i < connections && sent < count; i++) {
        if (send_next(&lanes[i], sent++, count) != 0) {
            return 1;
        }
    }
    while (answered < count) {
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(poll_fd, events, EVENTS_MAX, -1);

        for (int i = 0; i < ready; i++) {
            struct lane *lane = events[i].data.ptr;
            int answer = take_answer(lane);

            if (answer < 0 || (answer > 0 && sent < count && send_next(lane, sent++, count) != 0)) {
                (void)fprintf(stderr, "load: failed after %" PRIu64 " keys\n", answered);
                return 1;
            }
            answered += answer > 0;
        }
    }
    seconds = (double)ms_clock_elapsed_ns(began, ms_clock_now()) / 1e9;
    (void)printf("{\"keys\":%" PRIu64 ",\"seconds\":%.3f,\"per_second\":%.0f}\n", count, seconds,
                 (double)count / seconds);
    for (uint64_t i = 0; i < connections; i++) {
        (void)close(lanes[i].fd);
    }
    (void)close(poll_fd);
    return 0;
}

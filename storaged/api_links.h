/*
 * api_links: storaged's ends of the links to the apid processes.
 *
 * One slot per apid process. Says which file to read and what became of operations, and keeps
 * requests that wait for an applied index. What finds a ring full stays with whoever sends it.
 */
#ifndef METASTORE_STORAGED_API_LINKS_H
#define METASTORE_STORAGED_API_LINKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "common/link.h"
#include "storaged/apply.h"
#include "storaged/waiters.h"

/* Requests taken from one link in one round. */
#define API_LINKS_ROUND_MAX 256

struct api_slot {
    struct ms_link link; /* closed: no such process now */
    struct waiters waiters;
    bool greeted;
    bool told_full; /* what STORE_SPACE said last */
    bool blocked;   /* its ring is full: nothing is taken until its doorbell says there is room */
    bool repeating; /* answers that the state has are sent again, from repeat_seq on */
    uint64_t repeat_seq;
};

/* What every apid is told. */
struct api_links_news {
    uint64_t epoch;
    raft_index read_floor;
    const char *directory; /* borrowed until there is other news */
};

struct api_links {
    int epoll_fd; /* borrowed */
    struct api_slot slots[MS_API_WORKERS_MAX];
    struct api_links_news news;
    bool memory_full;
    /* Called when an apid broke the protocol, after its link was closed. */
    void (*report)(void *ctx, const struct ms_link_info *peer, const char *text);
    /* The answers that the state keeps; see apply_next_answer. */
    bool (*next_answer)(void *ctx, uint64_t origin, uint64_t from_seq, struct apply_result *out);
    void *ctx;
};

void api_links_init(struct api_links *links, int epoll_fd);
void api_links_fini(struct api_links *links);

/*
 * Takes over a new link, also on failure; an older one of that process is closed. MS_EINVAL:
 * impossible instance; MS_EIO.
 */
int api_links_take(struct api_links *links, const struct ms_link *link, struct ms_err *err);

/* The process is dead: its link and what waited for it go. */
void api_links_drop(struct api_links *links, uint32_t instance);

/*
 * Sends a result to the process that has the origin. MS_EAGAIN: its ring is full. A result for a
 * process that is not (or no longer) here is dropped, MS_OK: whoever comes in its place has not
 * asked.
 */
int api_links_result(struct api_links *links, const struct apply_result *result);

/*
 * Takes requests and sends what is due: greetings, news of space, and the answers of those that
 * waited for an index up to applied. True if there is more to do at once.
 */
bool api_links_run(struct api_links *links, raft_index applied);

/*
 * The engine's file is another one: everybody is told, and gets again what the new state says was
 * answered to it. Operations may have been applied on the way to that state, without a word here.
 */
void api_links_renew(struct api_links *links, const struct api_links_news *news);

/* Whether every apid has been told of the engine's file. */
bool api_links_all_greeted(const struct api_links *links);

void api_links_flush(struct api_links *links);

/* Bytes that all apids together have not taken yet. */
uint64_t api_links_backlog_bytes(const struct api_links *links);

/* False: something has come in meanwhile. */
bool api_links_prepare_sleep(struct api_links *links);

#endif

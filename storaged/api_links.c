/*
 * api_links: answers for apid.
 */
#include "storaged/api_links.h"

#include <string.h>


void api_links_init(struct api_links *links, int epoll_fd)
{
    memset(links, 0, sizeof(*links));
    links->epoll_fd = epoll_fd;
    for (size_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        ms_link_init_closed(&links->slots[i].link);
    }
}

static void close_slot(struct api_links *links, struct api_slot *slot)
{
    ms_link_unwatch(&slot->link, links->epoll_fd);
    ms_link_fini(&slot->link);
    ms_link_init_closed(&slot->link);
    waiters_fini(&slot->waiters);
    slot->greeted = false;
    slot->told_full = false;
    slot->blocked = false;
    slot->repeating = false;
}

void api_links_fini(struct api_links *links)
{
    for (size_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        close_slot(links, &links->slots[i]);
    }
}

int api_links_take(struct api_links *links, const struct ms_link *link, struct ms_err *err)
{
    struct api_slot *slot;
    int rc;

    if (link->info.peer_instance >= MS_API_WORKERS_MAX) {
        struct ms_link unused = *link;

        ms_link_fini(&unused);
        return ms_err_set(err, MS_EINVAL, 0, "a link to apid %u", link->info.peer_instance);
    }
    slot = &links->slots[link->info.peer_instance];
    close_slot(links, slot);
    slot->link = *link;
    rc = ms_link_watch(&slot->link, links->epoll_fd, err);
    if (rc != MS_OK) {
        close_slot(links, slot);
    }
    return rc;
}

void api_links_drop(struct api_links *links, uint32_t instance)
{
    if (instance < MS_API_WORKERS_MAX) {
        close_slot(links, &links->slots[instance]);
    }
}

static void refuse_peer(struct api_links *links, struct api_slot *slot, const char *text)
{
    struct ms_link_info peer = slot->link.info;

    close_slot(links, slot);
    links->report(links->ctx, &peer, text);
}

static struct api_slot *find_origin(struct api_links *links, uint64_t origin)
{
    for (size_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        if (ms_link_is_open(&links->slots[i].link) &&
            links->slots[i].link.info.peer_origin == origin) {
            return &links->slots[i];
        }
    }
    return NULL;
}

/* The first words on a link. MS_EAGAIN cannot be in a new ring, but nothing depends on that. */
static int greet(struct api_links *links, struct api_slot *slot)
{
    const struct ms_store_opened opened = {.epoch = links->news.epoch,
                                           .read_floor = links->news.read_floor};
    size_t len_bytes = strlen(links->news.directory);
    void *body;
    void *tail;
    int rc;

    if (slot->greeted) {
        return MS_OK;
    }
    rc = ms_link_begin(&slot->link, MS_IPC_STORE_OPENED, len_bytes, &body, &tail);
    if (rc == MS_OK) {
        memcpy(body, &opened, sizeof(opened));
        memcpy(tail, links->news.directory, len_bytes);
        ms_link_commit(&slot->link);
        slot->greeted = true;
    }
    return rc;
}

static int send_result(struct api_slot *slot, const struct apply_result *result)
{
    const struct ms_apply_result message = {
        .id = result->id, .revision = result->revision, .code = (uint32_t)result->code};

    return ms_link_send(&slot->link, MS_IPC_APPLY_RESULT, &message);
}

int api_links_result(struct api_links *links, const struct apply_result *result)
{
    struct api_slot *slot = find_origin(links, result->id.origin);
    int rc;

    if (slot == NULL) {
        return MS_OK;
    }
    rc = greet(links, slot);
    if (rc == MS_OK) {
        rc = send_result(slot, result);
    }
    if (rc != MS_OK && rc != MS_EAGAIN) {
        refuse_peer(links, slot, "broken ring to apid");
        rc = MS_OK;
    }
    return rc;
}

/* Answers those whose index has come. MS_EAGAIN: the ring is full. */
static int answer_waiters(struct api_slot *slot, raft_index applied)
{
    struct waiter waiter;

    while (waiters_first(&slot->waiters, &waiter) == MS_OK && waiter.index <= applied) {
        const struct ms_wait_done done = {.request = waiter.request, .applied = applied};
        int rc = ms_link_send(&slot->link, MS_IPC_WAIT_DONE, &done);

        if (rc != MS_OK) {
            return rc;
        }
        waiters_pop(&slot->waiters);
    }
    return MS_OK;
}

/* Takes requests. MS_EAGAIN: none waits, or no more can; MS_OK: there may be more. */
static int take_requests(struct api_slot *slot)
{
    for (unsigned i = 0; i < API_LINKS_ROUND_MAX; i++) {
        struct ms_ipc_message message;
        const struct ms_wait_applied *wait = (const void *)message.body;
        int rc;

        if (slot->waiters.count == WAITERS_MAX) {
            return MS_EAGAIN;
        }
        rc = ms_link_receive(&slot->link, &message);
        if (rc != MS_OK) {
            return rc;
        }
        /* The catalogue lets nothing but WAIT_APPLIED in. */
        rc = waiters_add(&slot->waiters,
                         &(struct waiter){.index = wait->index, .request = wait->request});
        ms_link_release(&slot->link);
        if (rc != MS_OK) {
            return rc;
        }
    }
    return MS_OK;
}

static int tell_space(const struct api_links *links, struct api_slot *slot)
{
    const struct ms_store_space space = {.memory_full = links->memory_full ? 1 : 0};
    int rc = MS_OK;

    if (slot->told_full != links->memory_full) {
        rc = ms_link_send(&slot->link, MS_IPC_STORE_SPACE, &space);
        if (rc == MS_OK) {
            slot->told_full = links->memory_full;
        }
    }
    return rc;
}

/* Sends again what the state has. MS_EAGAIN: the ring is full. */
static int repeat_answers(struct api_links *links, struct api_slot *slot)
{
    uint64_t origin = slot->link.info.peer_origin;
    struct apply_result result;

    while (slot->repeating && links->next_answer(links->ctx, origin, slot->repeat_seq, &result)) {
        int rc = send_result(slot, &result);

        if (rc != MS_OK) {
            return rc;
        }
        slot->repeat_seq = result.id.seq + 1;
    }
    slot->repeating = false;
    return MS_OK;
}

/* MS_OK: more may wait; MS_EAGAIN: done for now. */
static int run_slot(struct api_links *links, struct api_slot *slot, raft_index applied)
{
    int taken;
    int rc = greet(links, slot);

    slot->blocked = true;
    if (rc == MS_OK) {
        rc = tell_space(links, slot);
    }
    if (rc == MS_OK) {
        rc = repeat_answers(links, slot);
    }
    if (rc == MS_OK) {
        rc = answer_waiters(slot, applied);
    }
    if (rc != MS_OK) {
        return rc;
    }
    taken = take_requests(slot);
    if (taken != MS_OK && taken != MS_EAGAIN) {
        return taken;
    }
    rc = answer_waiters(slot, applied);
    if (rc != MS_OK) {
        return rc;
    }
    slot->blocked = slot->waiters.count == WAITERS_MAX; /* the applied index will make room */
    return slot->blocked ? MS_EAGAIN : taken;
}

bool api_links_run(struct api_links *links, raft_index applied)
{
    bool more = false;

    for (size_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        struct api_slot *slot = &links->slots[i];
        int rc;

        if (!ms_link_is_open(&slot->link)) {
            continue;
        }
        rc = run_slot(links, slot, applied);
        if (rc == MS_OK) {
            more = true;
        } else if (rc != MS_EAGAIN) {
            refuse_peer(links, slot, "malformed message from apid");
        }
    }
    return more;
}

void api_links_renew(struct api_links *links, const struct api_links_news *news)
{
    links->news = *news;
    for (size_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        links->slots[i].greeted = false;
        links->slots[i].repeating = true;
        links->slots[i].repeat_seq = 0;
    }
}

bool api_links_all_greeted(const struct api_links *links)
{
    for (size_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        if (ms_link_is_open(&links->slots[i].link) && !links->slots[i].greeted) {
            return false;
        }
    }
    return true;
}

void api_links_flush(struct api_links *links)
{
    for (size_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        ms_link_flush(&links->slots[i].link);
    }
}

uint64_t api_links_backlog_bytes(const struct api_links *links)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        bytes += ms_link_backlog_bytes(&links->slots[i].link);
    }
    return bytes;
}

bool api_links_prepare_sleep(struct api_links *links)
{
    bool sleep = true;

    for (size_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        struct api_slot *slot = &links->slots[i];

        /* Nothing is taken from a blocked one, so what waits in it is no reason to stay awake. */
        if (!slot->blocked && !ms_link_prepare_sleep(&slot->link)) {
            sleep = false;
        }
    }
    return sleep;
}

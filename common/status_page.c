/*
 * status_page: a sequence lock over a page that one process writes and many read.
 *
 * The words are atomics of their own: a plain copy under a sequence lock is a data race by C's
 * rules, however well it works. Release stores of the words keep the odd sequence number before
 * them, acquire loads keep the second look at it behind them; so no fence is needed (and the thread
 * sanitizer, which does not know fences, can follow).
 */
#include "common/status_page.h"

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "common/shm.h"

#define STATUS_MAGIC UINT64_C(0x4547415053544154)

/* What a frequent write copies, and what only a change of members does. */
#define HEAD_BYTES   offsetof(struct ms_raft_status, members)
#define HEAD_WORDS   (HEAD_BYTES / sizeof(uint64_t))
#define STATUS_WORDS (sizeof(struct ms_raft_status) / sizeof(uint64_t))
_Static_assert(HEAD_BYTES % sizeof(uint64_t) == 0, "the head is whole words");
_Static_assert(sizeof(struct ms_raft_status) % sizeof(uint64_t) == 0, "the status is whole words");

/*
 * A writer holds the lock for some hundred nanoseconds. A reader that still finds it held after
 * the first tries gives the writer the processor; after all of them it was killed or stopped
 * inside.
 */
#define READ_TRIES_BUSY 16
#define READ_TRIES_MAX  256

struct ms_status_page {
    uint64_t magic;
    _Atomic uint64_t sequence; /* odd while words are being written */
    _Atomic uint64_t commit;   /* never decreases */
    uint64_t pad[5];           /* the words start on a cache line */
    _Atomic uint64_t words[STATUS_WORDS];
};

int ms_status_page_create(int *out_fd, struct ms_err *err)
{
    const struct ms_status_page page = {.magic = STATUS_MAGIC};

    return ms_shm_create("metastore-status", sizeof(page), &page, sizeof(page.magic), out_fd, err);
}

int ms_status_page_map(int fd, bool writable, struct ms_status_page **out, struct ms_err *err)
{
    struct ms_status_page *page;
    void *memory;
    int rc;

    rc = ms_shm_map(fd, sizeof(*page), writable, &memory, err);
    if (rc != MS_OK) {
        return rc;
    }
    page = memory;
    if (page->magic != STATUS_MAGIC) {
        ms_status_page_unmap(page);
        return ms_err_set(err, MS_ECORRUPT, 0, "status page: not one");
    }
    *out = page;
    return MS_OK;
}

void ms_status_page_unmap(struct ms_status_page *page)
{
    if (page != NULL) {
        (void)munmap(page, sizeof(*page));
    }
}

void ms_status_page_write(struct ms_status_page *page, const struct ms_raft_status *status,
                          bool members_changed)
{
    uint64_t sequence = atomic_load_explicit(&page->sequence, memory_order_relaxed);
    const uint8_t *from = (const uint8_t *)status;
    size_t count;

    /* First of all, so that nobody can learn of a commit index that is not here yet. */
    if (status->commit > atomic_load_explicit(&page->commit, memory_order_relaxed)) {
        atomic_store_explicit(&page->commit, status->commit, memory_order_release);
    }
    /* Odd already: the writer before us died inside, so any word may be half of something. */
    count = members_changed || (sequence & 1) != 0 ? STATUS_WORDS : HEAD_WORDS;
    sequence |= 1;
    atomic_store_explicit(&page->sequence, sequence, memory_order_relaxed);
    for (size_t i = 0; i < count; i++) {
        uint64_t word;

        memcpy(&word, from + i * sizeof(word), sizeof(word));
        atomic_store_explicit(&page->words[i], word, memory_order_release);
    }
    atomic_store_explicit(&page->sequence, sequence + 1, memory_order_release);
}

int ms_status_page_read(const struct ms_status_page *page, bool with_members,
                        struct ms_raft_status *out)
{
    size_t count = with_members ? STATUS_WORDS : HEAD_WORDS;

    for (int tries = 0; tries < READ_TRIES_MAX; tries++) {
        uint64_t words[STATUS_WORDS];
        uint64_t before = atomic_load_explicit(&page->sequence, memory_order_acquire);

        if ((before & 1) == 0) {
            for (size_t i = 0; i < count; i++) {
                words[i] = atomic_load_explicit(&page->words[i], memory_order_acquire);
            }
            if (atomic_load_explicit(&page->sequence, memory_order_relaxed) == before) {
                memcpy(out, words, count * sizeof(words[0]));
                /* raftd is trusted with Raft, not with our memory. */
                if (out->member_count > MS_STATUS_MEMBERS_MAX) {
                    out->member_count = MS_STATUS_MEMBERS_MAX;
                }
                return MS_OK;
            }
        }
        if (tries >= READ_TRIES_BUSY) {
            (void)sched_yield();
        }
    }
    return MS_EAGAIN;
}

raft_index ms_status_page_commit(const struct ms_status_page *page)
{
    return atomic_load_explicit(&page->commit, memory_order_acquire);
}

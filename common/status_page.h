/*
 * status_page: what the other processes may know of Raft without asking.
 *
 * Written by raftd alone under a sequence lock, read by all. It lives in a memfd that the
 * supervisor keeps, so it outlives raftd: the commit index in it stays true for ever, the rest is
 * as of raftd's last word. The commit index is published here before any other process learns of
 * it.
 */
#ifndef METASTORE_COMMON_STATUS_PAGE_H
#define METASTORE_COMMON_STATUS_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/types.h"

enum ms_raft_role {
    MS_RAFT_NONE = 0, /* not yet recovered */
    MS_RAFT_FOLLOWER = 1,
    MS_RAFT_PRE_CANDIDATE = 2,
    MS_RAFT_CANDIDATE = 3,
    MS_RAFT_LEADER = 4,
};

#define MS_STATUS_MEMBERS_MAX 64
#define MS_PEER_URL_BYTES     256

enum ms_member_role {
    MS_MEMBER_VOTER = 1,
    MS_MEMBER_LEARNER = 2,
};

struct ms_status_member {
    node_id id;
    uint32_t role; /* enum ms_member_role */
    uint32_t pad;
    char peer_url[MS_PEER_URL_BYTES];
};

struct ms_raft_status {
    node_id self;
    node_id leader; /* 0: none known */
    raft_term term;
    raft_index commit;
    raft_index first_index;
    raft_index last_index;
    uint64_t lease_end_ns;        /* CLOCK_MONOTONIC; 0: no lease */
    uint64_t leaderless_since_ns; /* CLOCK_MONOTONIC; 0 while a leader is known */
    uint32_t role;                /* enum ms_raft_role */
    /*
     * 1: the only voter, everything it ever acknowledged is committed, and everything that members
     * of the past acknowledged is applied.
     */
    uint32_t sole_voter;
    uint32_t log_full;
    uint32_t member_count;
    struct ms_status_member members[MS_STATUS_MEMBERS_MAX];
};

struct ms_status_page; /* the shared bytes */

int ms_status_page_create(int *out_fd, struct ms_err *err);

/* Maps the page behind fd (borrowed). writable only in raftd. */
int ms_status_page_map(int fd, bool writable, struct ms_status_page **out, struct ms_err *err);
void ms_status_page_unmap(struct ms_status_page *page);

/*
 * raftd: publishes. The members part is copied only when members_changed, so that the frequent
 * case (a commit) stays short. A writer that died inside is repaired by the next writer.
 */
void ms_status_page_write(struct ms_status_page *page, const struct ms_raft_status *status,
                          bool members_changed);

/*
 * A consistent copy, without the members unless with_members. MS_EAGAIN if the writer died or was
 * stopped inside a write and no consistent copy could be had in a bounded number of tries.
 */
int ms_status_page_read(const struct ms_status_page *page, bool with_members,
                        struct ms_raft_status *out);

/* The commit index alone: one atomic load, monotonic over all incarnations of raftd. */
raft_index ms_status_page_commit(const struct ms_status_page *page);

#endif

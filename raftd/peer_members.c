/*
 * peer_members: whom to talk to, and when to dial whom.
 */
#include <stdlib.h>
#include <string.h>

#include "raftd/peer_private.h"

#define BACKOFF_MS_MIN 20u

/* What a former member gets to take in what was queued for it. */
#define FAREWELL_MS 3000u

struct peer_member *peer_members_find(const struct peers *peers, node_id id)
{
    for (size_t i = 0; i < peers->member_count; i++) {
        if (peers->members[i]->id == id) {
            return peers->members[i];
        }
    }
    return NULL;
}

bool peer_members_is_up(const struct peer_member *member)
{
    return member != NULL && member->out != NULL && member->out->state == PEER_CONNECTION_ADMITTED;
}

bool peers_is_connected(const struct peers *peers, node_id peer)
{
    return peer_members_is_up(peer_members_find(peers, peer));
}

/* ---- the list ---- */

/* Lets go of the connection to a member, after what is queued for it. */
static void part_from(struct peers *peers, struct peer_member *member)
{
    struct peer_connection *out = member->out;

    member->out = NULL;
    if (out != NULL && out->state == PEER_CONNECTION_ADMITTED) {
        peer_connection_finish(out, peers_now_ms(peers) + FAREWELL_MS);
    } else if (out != NULL && out->state < PEER_CONNECTION_ADMITTED) {
        peer_connection_break(out, MS_OK);
    }
}

/* Snapshots to a former member, or to where it was, are of no use. */
static void stop_snapshots(struct peers *peers, node_id id)
{
    for (struct peer_connection *at = peers->connections; at != NULL; at = at->next) {
        if (at->dialled && at->channel == PEER_CHANNEL_SNAPSHOT && at->peer == id) {
            peer_connection_break(at, MS_EPEER);
        }
    }
}

static void remove_member(struct peers *peers, size_t position)
{
    struct peer_member *member = peers->members[position];

    part_from(peers, member);
    stop_snapshots(peers, member->id);
    peer_incoming_expire(peers, member->id, peers_now_ms(peers) + FAREWELL_MS);
    peers->members[position] = peers->members[--peers->member_count];
    free(member);
}

static bool is_listed(const struct peers_member *members, size_t count, node_id id)
{
    for (size_t i = 0; i < count; i++) {
        if (members[i].id == id) {
            return true;
        }
    }
    return false;
}

static int find_target(const struct peers *peers, const char *url, struct peer_target *out,
                       struct ms_err *err)
{
    struct peer_target target;

    if (peer_target_parse(url, &target) != MS_OK) {
        return ms_err_set(err, MS_EINVAL, 0, "\"%s\" is not a peer URL", url);
    }
    if (!peers->options.has_key && target.is_literal &&
        !peer_address_is_loopback((const struct sockaddr *)&target.address)) {
        return ms_err_set(err, MS_EINVAL, 0,
                          "\"%s\" is not a loopback address, and there is no cluster key", url);
    }
    *out = target;
    return MS_OK;
}

/* Adds a member, or takes over its new URL. */
static int set_member(struct peers *peers, const struct peers_member *wanted, struct ms_err *err)
{
    struct peer_member *member = peer_members_find(peers, wanted->id);
    struct peer_target target;
    int rc;

    if (member != NULL && strcmp(member->url, wanted->url) == 0) {
        return MS_OK;
    }
    rc = find_target(peers, wanted->url, &target, err);
    if (rc != MS_OK) {
        return rc;
    }
    if (member == NULL) {
        member = calloc(1, sizeof(*member));
        if (member == NULL) {
            return ms_err_set(err, MS_ENOMEM, 0, "member %llu", (unsigned long long)wanted->id);
        }
        member->id = wanted->id;
        peers->members[peers->member_count++] = member;
        peer_incoming_expire(peers, member->id, 0);
    } else {
        part_from(peers, member);
        stop_snapshots(peers, member->id);
    }
    memcpy(member->url, wanted->url, sizeof(member->url));
    member->target = target;
    member->backoff_ms = 0;
    member->redial_ms = 0;
    member->complained = false;
    return MS_OK;
}

int peers_set_members(struct peers *peers, const struct peers_member *members, size_t count,
                      struct ms_err *err)
{
    int rc = MS_OK;

    if (count > RAFT_MEMBERS_MAX) {
        return ms_err_set(err, MS_EINVAL, 0, "%zu members are more than %d", count,
                          RAFT_MEMBERS_MAX);
    }
    for (size_t i = peers->member_count; i > 0; i--) {
        if (!is_listed(members, count, peers->members[i - 1]->id)) {
            remove_member(peers, i - 1);
        }
    }
    for (size_t i = 0; i < count; i++) {
        /* The first reason is reported; the others are in effect. */
        if (members[i].id != peers->options.self && members[i].id != RAFT_NONE) {
            int one = set_member(peers, &members[i], rc == MS_OK ? err : NULL);

            rc = rc == MS_OK ? one : rc;
        }
    }
    peers_wake(peers);
    return rc;
}

void peer_members_free(struct peers *peers)
{
    for (size_t i = 0; i < peers->member_count; i++) {
        free(peers->members[i]);
    }
    peers->member_count = 0;
}

/* ---- dialling ---- */

static void dial(struct peers *peers, struct peer_member *member)
{
    struct peer_connection *connection;

    member->redial_ms = peers_now_ms(peers) + peers->backoff_max_ms;
    if (peer_connection_create(peers, PEER_CHANNEL_MESSAGES, true, &connection) == MS_OK) {
        member->out = connection;
        peer_connection_dial(connection, member);
    }
}

uint64_t peer_members_dial_due(struct peers *peers, uint64_t now_ms)
{
    uint64_t due_ms = UINT64_MAX;

    for (size_t i = 0; i < peers->member_count; i++) {
        struct peer_member *member = peers->members[i];

        if (member->out == NULL && now_ms >= member->redial_ms) {
            dial(peers, member);
        }
        if (member->out == NULL) {
            due_ms = peers_earlier(due_ms, member->redial_ms);
        }
    }
    return due_ms;
}

void peer_members_hurry(struct peers *peers, node_id id)
{
    for (size_t i = 0; i < peers->member_count; i++) {
        struct peer_member *member = peers->members[i];

        if (member->out == NULL && (id == RAFT_NONE || id == member->id)) {
            member->backoff_ms = 0;
            member->redial_ms = 0;
        }
    }
}

bool peer_members_connected(struct peers *peers, struct peer_connection *connection)
{
    struct peer_member *member = peer_members_find(peers, connection->peer);

    if (member == NULL || member->out != connection) {
        return false; /* given up on purpose */
    }
    member->attempts = 0;
    member->complained = false;
    ms_log(MS_LOG_INFO, "connected to a member", MS_F_U64("peer", member->id),
           MS_F_STR("address", connection->address));
    return true;
}

/* Waits longer each time, and not as long as others do. */
static void back_off(struct peers *peers, struct peer_member *member, bool refused)
{
    if (refused) {
        member->backoff_ms = peers->backoff_max_ms;
    } else {
        member->backoff_ms *= 2;
        if (member->backoff_ms < BACKOFF_MS_MIN) {
            member->backoff_ms = BACKOFF_MS_MIN;
        } else if (member->backoff_ms > peers->backoff_max_ms) {
            member->backoff_ms = peers->backoff_max_ms;
        }
    }
    member->redial_ms = peers_now_ms(peers) + member->backoff_ms / 2 +
                        randombytes_uniform(member->backoff_ms / 2 + 1);
}

void peer_members_lost(struct peers *peers, const struct peer_connection *connection)
{
    struct peer_member *member = peer_members_find(peers, connection->peer);

    if (member == NULL || member->out != connection) {
        return; /* given up on purpose */
    }
    member->out = NULL;
    member->attempts++;
    if (connection->was == PEER_CONNECTION_ADMITTED &&
        peers_now_ms(peers) >= connection->admitted_ms + peers->backoff_max_ms) {
        member->backoff_ms = 0; /* it has worked for a while */
    }
    back_off(peers, member, connection->refused);
    if (connection->was == PEER_CONNECTION_ADMITTED) {
        ms_log(MS_LOG_INFO, "connection to a member lost", MS_F_U64("peer", member->id),
               MS_F_STR("address", connection->address),
               MS_F_STR("detail", peer_connection_why(connection)));
    } else if (!member->complained && !connection->refused) {
        member->complained = true;
        ms_log(MS_LOG_WARN, "cannot connect to a member", MS_F_U64("peer", member->id),
               MS_F_STR("url", member->url), MS_F_STR("detail", peer_connection_why(connection)));
    }
}

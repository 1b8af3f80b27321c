/*
 * admission: see admission.h.
 */
#include "raftd/admission.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "common/clock.h"
#include "common/le.h"
#include "common/log.h"
#include "raftd/admission_private.h"

/* The same refusal is logged again only after so long. */
#define LOG_INTERVAL_MS 10000u
/*
 * A conflict that is not heard of any more is forgotten: who caused it was stopped. Both are far
 * longer than the pauses between two attempts to connect.
 */
#define CONFLICT_TIMEOUTS 10u
#define CONFLICT_MS_MIN   10000u
/*
 * For so long nobody must have admitted a node whose data dir is refused before it gives up: a
 * member that lags may not know yet that this node was added anew.
 */
#define DATA_REFUSED_TIMEOUTS 2u

/* ---- what is known ---- */

const struct ms_conf_member *admission_find(const struct admission *admission, node_id id)
{
    for (uint32_t i = 0; i < admission->conf.member_count; i++) {
        if (admission->conf.members[i].id == id) {
            return &admission->conf.members[i];
        }
    }
    return NULL;
}

bool admission_is_listed(const struct admission *admission, node_id id)
{
    return id >= 1 && id <= admission->listed_count;
}

bool admission_is_joining(const struct admission *admission)
{
    return admission->join && admission_find(admission, admission->self) == NULL;
}

uint64_t admission_own_cluster(const struct admission *admission)
{
    return admission_is_joining(admission) ? 0 : admission->conf.cluster_id;
}

void admission_pin_data(struct admission *admission, node_id id, uint64_t data_id)
{
    if (admission_data_id(admission, id) != 0) {
        return;
    }
    /* Only members are pinned, and there are no more of them than pins. */
    assert(admission->pin_count < MS_STATUS_MEMBERS_MAX);
    admission->pins[admission->pin_count++] = (struct admission_pin){.id = id, .data_id = data_id};
}

uint64_t admission_data_id(const struct admission *admission, node_id id)
{
    if (id == admission->self) {
        return admission->data_id;
    }
    for (size_t i = 0; i < admission->pin_count; i++) {
        if (admission->pins[i].id == id) {
            return admission->pins[i].data_id;
        }
    }
    return 0;
}

/* ---- creation ---- */

/*
 * Founders must come to the same id without talking to each other, so it depends on the list
 * alone.
 */
static uint64_t hash_list(const struct admission *admission)
{
    uint8_t bytes[MS_STATUS_MEMBERS_MAX * (sizeof(uint64_t) + MS_PEER_URL_BYTES)];
    size_t at = 0;
    uint64_t hash;

    for (size_t i = 0; i < admission->listed_count; i++) {
        size_t url_bytes = strlen(admission->listed[i]);

        ms_le_put_u64(bytes + at, i + 1);
        at += sizeof(uint64_t);
        memcpy(bytes + at, admission->listed[i], url_bytes + 1); /* the 0 ends it */
        at += url_bytes + 1;
    }
    hash = XXH3_64bits(bytes, at);
    return hash != 0 ? hash : 1;
}

/* What the first entries will lead to: they are the same on every founder. */
static void assume_founding_conf(struct admission *admission)
{
    admission->conf.cluster_id = admission->listed_cluster_id;
    admission->conf.member_count = (uint32_t)admission->listed_count;
    for (size_t i = 0; i < admission->listed_count; i++) {
        struct ms_conf_member *member = &admission->conf.members[i];

        member->id = i + 1;
        member->flags = MS_CONF_VOTER;
        memcpy(member->peer_url, admission->listed[i], sizeof(member->peer_url));
    }
}

int admission_init(struct admission *admission, const struct ms_config *config, uint64_t data_id,
                   struct ms_instant now, struct ms_err *err)
{
    uint64_t count = ms_config_cluster_size(config);

    if (count > MS_STATUS_MEMBERS_MAX) {
        return ms_err_set(err, MS_EINVAL, 0, "--cluster: %" PRIu64 " members, allowed are %d",
                          count, MS_STATUS_MEMBERS_MAX);
    }
    memset(admission, 0, sizeof(*admission));
    for (uint64_t i = 0; i < count; i++) {
        if (ms_config_cluster_url(config, i + 1, admission->listed[i], MS_PEER_URL_BYTES) !=
            MS_OK) {
            return ms_err_set(err, MS_EINVAL, 0, "--cluster: member %" PRIu64 " has no usable URL",
                              i + 1);
        }
    }
    if (ms_config_own_url(config, admission->own_url, sizeof(admission->own_url)) != MS_OK) {
        return ms_err_set(err, MS_EINVAL, 0, "--cluster has no URL of member %" PRIu64, config->id);
    }
    admission->self = config->id;
    admission->data_id = data_id;
    admission->join = config->join != 0;
    admission->election_timeout_ms = config->election_timeout_ms;
    admission->started = now;
    admission->listed_count = (size_t)count;
    admission->listed_cluster_id = hash_list(admission);
    if (!admission->join) {
        assume_founding_conf(admission);
    }
    return MS_OK;
}

uint64_t admission_founding_cluster_id(const struct admission *admission)
{
    return admission->listed_cluster_id;
}

/* ---- the membership ---- */

/* Pins go with members that have gone, and where the membership itself says which data dir. */
static void drop_pins(struct admission *admission)
{
    size_t kept = 0;

    for (size_t i = 0; i < admission->pin_count; i++) {
        const struct admission_pin one = admission->pins[i];
        const struct ms_conf_member *member = admission_find(admission, one.id);

        if (member != NULL && member->data_id == 0) {
            admission->pins[kept++] = one;
        }
    }
    admission->pin_count = kept;
}

static bool has_member(const struct ms_conf_state *conf, node_id id)
{
    for (uint32_t i = 0; i < conf->member_count; i++) {
        if (conf->members[i].id == id) {
            return true;
        }
    }
    return false;
}

static bool is_connected(const struct admission *admission, node_id id)
{
    for (size_t i = 0; i < admission->connected_count; i++) {
        if (admission->connected[i] == id) {
            return true;
        }
    }
    return false;
}

/*
 * Remembers a member that next has no more, so that it can still be told. One that is not there now
 * is told by the refusal it gets when it comes back.
 */
static void note_departure(struct admission *admission, const struct ms_conf_state *next,
                           node_id id)
{
    if (has_member(next, id) || !is_connected(admission, id)) {
        return;
    }
    for (size_t i = 0; i < ADMISSION_DEPARTED_MAX; i++) {
        if (admission->departed[i].id == id) {
            admission->departed[i].id = 0; /* it had left before */
        }
    }
    admission->departed[admission->departed_next] = (struct admission_departed){.id = id};
    admission->departed_next = (admission->departed_next + 1) % ADMISSION_DEPARTED_MAX;
}

void admission_set_membership(struct admission *admission, const struct ms_conf_state *conf,
                              raft_index conf_index)
{
    if (!admission->join && conf->member_count < admission->listed_count &&
        conf_index < admission->listed_count &&
        (conf->cluster_id == admission->listed_cluster_id || conf->member_count == 0)) {
        return; /* in the midst of the first entries: what all of them lead to holds already */
    }
    for (uint32_t i = 0; i < admission->conf.member_count; i++) {
        note_departure(admission, conf, admission->conf.members[i].id);
    }
    admission->conf = *conf;
    admission->conf_index = conf_index;
    if (conf->cluster_id != 0) {
        admission->adopted_cluster_id = conf->cluster_id;
    }
    drop_pins(admission);
}

void admission_set_founding(struct admission *admission, bool founding)
{
    admission->founding = founding && !admission->join;
}

static size_t add_contact(struct peers_member *out, size_t count, node_id id, const char *url)
{
    if (url[0] == '\0') {
        return count;
    }
    out[count].id = id;
    memcpy(out[count].url, url, MS_PEER_URL_BYTES);
    return count + 1;
}

size_t admission_contacts(const struct admission *admission, struct peers_member *out)
{
    bool joining = admission_is_joining(admission);
    size_t count = 0;

    for (uint32_t i = 0; i < admission->conf.member_count; i++) {
        const struct ms_conf_member *member = &admission->conf.members[i];

        /* While history is replayed, the list is newer than it. */
        if (member->id != admission->self &&
            !(joining && admission_is_listed(admission, member->id))) {
            count = add_contact(out, count, member->id, member->peer_url);
        }
    }
    for (size_t i = 0; joining && i < admission->listed_count; i++) {
        /* The list of a node that was added later may have a gap before its own URL. */
        if (i + 1 != admission->self && strcmp(admission->listed[i], admission->own_url) != 0) {
            count = add_contact(out, count, i + 1, admission->listed[i]);
        }
    }
    return count;
}

void admission_hello(const struct admission *admission, struct peers_hello *out)
{
    *out = (struct peers_hello){.cluster_id = admission_own_cluster(admission),
                                .from = admission->self,
                                .data_id = admission->data_id,
                                .conf_index = admission->conf_index,
                                .founding = admission->founding};
}

/* ---- conflicts ---- */

static uint64_t conflict_ms(const struct admission *admission)
{
    uint64_t timeouts_ms = CONFLICT_TIMEOUTS * admission->election_timeout_ms;

    return timeouts_ms > CONFLICT_MS_MIN ? timeouts_ms : CONFLICT_MS_MIN;
}

void admission_forget_conflict(struct admission *admission, node_id id)
{
    size_t kept = 0;

    for (size_t i = 0; i < admission->conflict_count; i++) {
        if (admission->conflicts[i].id != id) {
            admission->conflicts[kept++] = admission->conflicts[i];
        }
    }
    admission->conflict_count = kept;
}

void admission_note_conflict(struct admission *admission, node_id id, uint64_t cluster_id,
                             struct ms_instant now)
{
    if (!admission->founding || !admission_is_listed(admission, id)) {
        return;
    }
    admission_forget_conflict(admission, id);
    /* Ids are within the list, whose length is the same limit. */
    assert(admission->conflict_count < ADMISSION_CONFLICTS_MAX);
    admission->conflicts[admission->conflict_count++] =
        (struct admission_conflict){.id = id, .cluster_id = cluster_id, .heard = now};
}

bool admission_is_barred(const struct admission *admission, struct ms_instant now)
{
    bool waited = ms_clock_elapsed_ms(admission->started, now) >= admission->election_timeout_ms;

    if (!admission->founding || admission->listed_count < 2) {
        return false;
    }
    if (admission->data_refused || admission->fate != ADMISSION_GOES_ON) {
        return true;
    }
    for (size_t i = 0; i < admission->conflict_count; i++) {
        if (ms_clock_elapsed_ms(admission->conflicts[i].heard, now) < conflict_ms(admission)) {
            return true;
        }
    }
    for (size_t i = 0; !waited && i < admission->listed_count; i++) {
        if (i + 1 != admission->self && !admission->tried[i]) {
            return true;
        }
    }
    return false;
}

void admission_print_list(const struct admission *admission, char *dst, size_t dst_bytes)
{
    size_t at = 0;

    dst[0] = '\0';
    for (size_t i = 0; i < admission->listed_count && at < dst_bytes; i++) {
        int written =
            snprintf(dst + at, dst_bytes - at, "%s%s", i > 0 ? "," : "", admission->listed[i]);

        assert(written > 0);
        at += (size_t)written;
    }
}

/* ---- what others say ---- */

static void mark_tried(struct admission *admission, node_id id)
{
    if (admission_is_listed(admission, id)) {
        admission->tried[id - 1] = true;
    }
}

static void log_refusal(struct admission *admission, const struct peers_hello *theirs,
                        enum peers_refusal reason, const char *text, struct ms_instant now)
{
    static const char *const messages[] = {
        [PEERS_ADMITTED] = "admitted",
        [PEERS_REFUSED_VERSION] = "a peer speaks another protocol version",
        [PEERS_REFUSED_CLUSTER] = "a peer belongs to another cluster",
        [PEERS_REFUSED_IDENTITY] = "another member answers at a peer's URL",
        [PEERS_REFUSED_STRANGER] = "a peer says that this node is no member",
        [PEERS_REFUSED_REMOVED] = "a peer says that this node was removed",
        [PEERS_REFUSED_DATA] = "a peer says that this member votes with another data dir",
    };
    const char *message = reason == PEERS_REFUSED_STRANGER && admission_is_joining(admission)
                              ? "a peer does not know this node: it has to be added first"
                              : messages[reason];
    char list[MS_PEER_URL_BYTES];
    bool grave =
        reason == PEERS_REFUSED_DATA || (reason == PEERS_REFUSED_CLUSTER && admission->founding);

    if (admission->logged[reason] &&
        ms_clock_elapsed_ms(admission->logged_at[reason], now) < LOG_INTERVAL_MS) {
        return;
    }
    admission->logged[reason] = true;
    admission->logged_at[reason] = now;
    admission_print_list(admission, list, sizeof(list));
    ms_log(grave ? MS_LOG_ERROR : MS_LOG_WARN, message, MS_F_U64("peer", theirs->from),
           MS_F_STR("reason", text), MS_F_STR("cluster", list));
}

void admission_refused(struct admission *admission, const struct peers_hello *theirs,
                       enum peers_refusal reason, const char *text, struct ms_instant now)
{
    if (reason <= PEERS_ADMITTED || reason > PEERS_REFUSED_DATA) {
        return; /* a number of a later version: what it would mean is not known */
    }
    mark_tried(admission, theirs->from);
    switch (reason) {
    case PEERS_ADMITTED:
    case PEERS_REFUSED_VERSION:
    case PEERS_REFUSED_IDENTITY:
    case PEERS_REFUSED_STRANGER:
        break;
    case PEERS_REFUSED_CLUSTER:
        admission_note_conflict(admission, theirs->from, theirs->cluster_id, now);
        break;
    case PEERS_REFUSED_REMOVED:
        /* From one that knows less, or of another cluster, it means nothing. */
        if (admission_find(admission, admission->self) != NULL &&
            theirs->cluster_id == admission->conf.cluster_id &&
            theirs->conf_index > admission->conf_index && admission->fate == ADMISSION_GOES_ON) {
            admission->fate = ADMISSION_REMOVED;
        }
        break;
    case PEERS_REFUSED_DATA:
        if (!admission->data_refused) {
            admission->data_refused = true;
            admission->data_refused_at = now;
        }
        break;
    }
    log_refusal(admission, theirs, reason, text, now);
}

void admission_connected(struct admission *admission, node_id peer)
{
    mark_tried(admission, peer);
    admission->data_refused = false;
    if (admission_is_listed(admission, peer) && admission_is_joining(admission) &&
        admission->adopted_cluster_id == 0) {
        admission->adopted_cluster_id = admission->their_cluster[peer - 1];
    }
    admission_disconnected(admission, peer); /* each peer once */
    if (admission->connected_count < ADMISSION_CONTACTS_MAX) {
        admission->connected[admission->connected_count++] = peer;
    }
}

void admission_absent(struct admission *admission, node_id peer)
{
    mark_tried(admission, peer);
}

void admission_disconnected(struct admission *admission, node_id peer)
{
    size_t kept = 0;

    for (size_t i = 0; i < admission->connected_count; i++) {
        if (admission->connected[i] != peer) {
            admission->connected[kept++] = admission->connected[i];
        }
    }
    admission->connected_count = kept;
}

enum admission_fate admission_fate(struct admission *admission, struct ms_instant now)
{
    uint64_t patience_ms = DATA_REFUSED_TIMEOUTS * admission->election_timeout_ms;

    if (admission->fate == ADMISSION_GOES_ON && admission->data_refused &&
        admission->connected_count == 0 &&
        ms_clock_elapsed_ms(admission->data_refused_at, now) >= patience_ms) {
        admission->fate = ADMISSION_DATA_LOST;
        ms_log(MS_LOG_ERROR,
               "the data dir of this member was lost or replaced: remove the member and add it "
               "again, then start with --join",
               MS_F_U64("id", admission->self));
    }
    return admission->fate;
}

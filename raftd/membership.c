/*
 * membership: see membership.h.
 */
#include "raftd/membership.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(RAFT_MEMBERS_MAX == MS_STATUS_MEMBERS_MAX, "member limits differ");

void membership_init(struct membership *membership)
{
    memset(membership, 0, sizeof(*membership));
}

int membership_decode(struct membership *membership, raft_index index, const uint8_t *data,
                      size_t len_bytes)
{
    int rc = MS_OK;

    if (len_bytes == 0) {
        membership_init(membership);
    } else {
        rc = ms_conf_state_decode(data, len_bytes, &membership->conf);
    }
    if (rc == MS_OK) {
        membership->index = index;
    }
    return rc;
}

/* Where the member is in conf; member_count if it is not. */
static uint32_t position_of(const struct ms_conf_state *conf, node_id id)
{
    uint32_t position = 0;

    while (position < conf->member_count && conf->members[position].id != id) {
        position++;
    }
    return position;
}

const struct ms_conf_member *membership_find(const struct membership *membership, node_id id)
{
    uint32_t position = position_of(&membership->conf, id);

    return position < membership->conf.member_count ? &membership->conf.members[position] : NULL;
}

int membership_encode(const struct membership *membership, const struct raft_alloc *alloc,
                      struct conf_record *out)
{
    struct raft_buffer *buffer = NULL;
    uint8_t *bytes = NULL;
    size_t len_bytes = ms_conf_state_encoded_bytes(&membership->conf);
    int rc = raft_buffer_create(alloc, len_bytes, &buffer, &bytes);

    if (rc != MS_OK) {
        return rc;
    }
    ms_conf_state_encode(&membership->conf, bytes);
    *out = (struct conf_record){
        .index = membership->index, .buffer = buffer, .bytes = bytes, .len_bytes = len_bytes};
    return MS_OK;
}

/* ---- to and from the core ---- */

static void add_if(struct raft_ids *ids, const struct ms_conf_member *member, uint32_t flag)
{
    if ((member->flags & flag) != 0) {
        ids->ids[ids->count++] = member->id;
    }
}

void membership_to_core(const struct membership *membership, struct raft_conf_state *out)
{
    memset(out, 0, sizeof(*out));
    out->auto_leave = membership->conf.auto_leave != 0;
    for (uint32_t i = 0; i < membership->conf.member_count; i++) {
        const struct ms_conf_member *member = &membership->conf.members[i];

        add_if(&out->voters, member, MS_CONF_VOTER);
        add_if(&out->voters_outgoing, member, MS_CONF_VOTER_OUTGOING);
        add_if(&out->learners, member, MS_CONF_LEARNER);
        add_if(&out->learners_next, member, MS_CONF_LEARNER_NEXT);
    }
}

/* Flags the ids, adding those that are not there yet. */
static void flag_all(struct ms_conf_state *conf, const struct raft_ids *ids, uint32_t flag)
{
    for (size_t i = 0; i < ids->count; i++) {
        uint32_t position = position_of(conf, ids->ids[i]);

        if (position == conf->member_count) {
            assert(conf->member_count < MS_STATUS_MEMBERS_MAX); /* the core keeps the same limit */
            conf->members[conf->member_count++] = (struct ms_conf_member){.id = ids->ids[i]};
        }
        conf->members[position].flags |= flag;
    }
}

static int by_id(const void *left, const void *right)
{
    const struct ms_conf_member *a = left;
    const struct ms_conf_member *b = right;

    return a->id < b->id ? -1 : a->id > b->id;
}

/* What the change says of its member beyond what the core knows. */
static void take_context(struct ms_conf_member *member, const struct member_context *context)
{
    if (context->peer_url[0] != '\0') {
        memcpy(member->peer_url, context->peer_url, sizeof(member->peer_url));
    }
    if (context->data_id != 0) {
        member->data_id = context->data_id;
    }
}

void membership_update(struct membership *membership, const struct raft_conf_state *conf,
                       const struct membership_change *change)
{
    struct ms_conf_state *old = &membership->conf;
    struct ms_conf_state next = {.cluster_id = old->cluster_id,
                                 .auto_leave = conf->auto_leave ? 1 : 0};

    flag_all(&next, &conf->voters, MS_CONF_VOTER);
    flag_all(&next, &conf->voters_outgoing, MS_CONF_VOTER_OUTGOING);
    flag_all(&next, &conf->learners, MS_CONF_LEARNER);
    flag_all(&next, &conf->learners_next, MS_CONF_LEARNER_NEXT);
    for (uint32_t i = 0; i < next.member_count; i++) {
        const struct ms_conf_member *known = membership_find(membership, next.members[i].id);

        if (known != NULL) {
            next.members[i].data_id = known->data_id;
            memcpy(next.members[i].peer_url, known->peer_url, sizeof(known->peer_url));
        }
    }
    if (change->change->count == 1) {
        uint32_t position = position_of(&next, change->change->changes[0].id);

        if (position < next.member_count) {
            take_context(&next.members[position], change->context);
        }
    }
    if (change->context->cluster_id != 0) {
        next.cluster_id = change->context->cluster_id;
    }
    qsort(next.members, next.member_count, sizeof(next.members[0]), by_id);
    *old = next;
    membership->index = change->index;
}

void membership_to_status(const struct membership *membership, struct ms_raft_status *out)
{
    out->member_count = membership->conf.member_count;
    for (uint32_t i = 0; i < membership->conf.member_count; i++) {
        const struct ms_conf_member *from = &membership->conf.members[i];
        bool votes = (from->flags & (MS_CONF_VOTER | MS_CONF_VOTER_OUTGOING)) != 0;
        struct ms_status_member *to = &out->members[i];

        *to = (struct ms_status_member){.id = from->id,
                                        .role = votes ? MS_MEMBER_VOTER : MS_MEMBER_LEARNER};
        memcpy(to->peer_url, from->peer_url, sizeof(to->peer_url));
    }
}

/* ---- the first start ---- */

/* The entry that adds one member of --cluster; *out holds one reference to its data. */
static int founding_entry(const struct ms_config *config, const struct member_context *common,
                          const struct raft_alloc *alloc, node_id id, struct raft_entry *out,
                          struct ms_err *err)
{
    struct member_context context = *common;
    uint8_t context_bytes[MEMBER_CONTEXT_BYTES_MAX];
    struct raft_conf_change change = {.v1 = true, .count = 1, .context = context_bytes};
    struct raft_buffer *buffer = NULL;
    uint8_t *bytes = NULL;
    size_t len_bytes = 0;
    int rc = ms_config_cluster_url(config, id, context.peer_url, sizeof(context.peer_url));

    if (rc != MS_OK) {
        return ms_err_set(err, MS_EINVAL, 0, "--cluster: member %ju has no usable URL",
                          (uintmax_t)id);
    }
    change.changes[0] = (struct raft_change){.type = RAFT_ADD_VOTER, .id = id};
    change.context_bytes = member_context_encode(&context, context_bytes);
    rc = raft_conf_change_encode(&change, NULL, 0, &len_bytes);
    assert(rc == MS_ERANGE);
    rc = raft_buffer_create(alloc, len_bytes, &buffer, &bytes);
    if (rc != MS_OK) {
        return ms_err_set(err, rc, 0, "first entries");
    }
    rc = raft_conf_change_encode(&change, bytes, len_bytes, &len_bytes);
    assert(rc == MS_OK);
    *out = (struct raft_entry){.term = MEMBERSHIP_FOUNDING_TERM,
                               .index = id,
                               .data = bytes,
                               .len_bytes = len_bytes,
                               .owner = buffer,
                               .type = RAFT_ENTRY_CONF_CHANGE};
    return MS_OK;
}

int membership_bootstrap(const struct ms_config *config, const struct membership_founding *founding,
                         const struct raft_alloc *alloc, struct raft_slice *out, struct ms_err *err)
{
    struct raft_entry entries[MS_STATUS_MEMBERS_MAX] = {{0}};
    uint64_t size = ms_config_cluster_size(config);
    /* All founders must lay the same entries, so only who founds alone can name his data dir. */
    const struct member_context common = {.cluster_id = founding->cluster_id,
                                          .data_id = size == 1 ? founding->data_id : 0};
    size_t made = 0;
    int rc = MS_OK;

    if (size == 0 || size > MS_STATUS_MEMBERS_MAX) {
        return ms_err_set(err, MS_EINVAL, 0, "--cluster: %ju members, allowed are 1 to %d",
                          (uintmax_t)size, MS_STATUS_MEMBERS_MAX);
    }
    while (rc == MS_OK && made < size) {
        rc = founding_entry(config, &common, alloc, made + 1, &entries[made], err);
        made += rc == MS_OK ? 1 : 0;
    }
    if (rc == MS_OK) {
        rc = raft_slice_create(alloc, entries, made, out);
    }
    for (size_t i = 0; i < made; i++) {
        raft_buffer_release(entries[i].owner);
    }
    return rc;
}

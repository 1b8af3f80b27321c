/*
 * conf_state: the codec of the membership; drawn in conf_state.h.
 */
#include "common/conf_state.h"

#include <assert.h>
#include <string.h>

#include "common/le.h"

#define HEADER_BYTES 24
#define MEMBER_BYTES 24

enum header_offset {
    OFFSET_FORMAT = 0,
    OFFSET_AUTO_LEAVE = 4,
    OFFSET_COUNT = 8,
    OFFSET_ZERO = 12,
    OFFSET_CLUSTER_ID = 16,
};

enum member_offset {
    OFFSET_ID = 0,
    OFFSET_DATA_ID = 8,
    OFFSET_FLAGS = 16,
    OFFSET_URL_BYTES = 20,
    OFFSET_MEMBER_ZERO = 22,
};

#define FLAGS_ALL (MS_CONF_VOTER | MS_CONF_VOTER_OUTGOING | MS_CONF_LEARNER | MS_CONF_LEARNER_NEXT)

static size_t url_bytes(const struct ms_conf_member *member)
{
    return strnlen(member->peer_url, sizeof(member->peer_url) - 1);
}

size_t ms_conf_state_encoded_bytes(const struct ms_conf_state *conf)
{
    size_t total = HEADER_BYTES;

    assert(conf->member_count <= MS_STATUS_MEMBERS_MAX);
    for (uint32_t i = 0; i < conf->member_count; i++) {
        total += MEMBER_BYTES + url_bytes(&conf->members[i]);
    }
    return total;
}

void ms_conf_state_encode(const struct ms_conf_state *conf, uint8_t *dst)
{
    assert(conf->member_count <= MS_STATUS_MEMBERS_MAX);

    ms_le_put_u32(dst + OFFSET_FORMAT, MS_CONF_STATE_FORMAT);
    ms_le_put_u32(dst + OFFSET_AUTO_LEAVE, conf->auto_leave);
    ms_le_put_u32(dst + OFFSET_COUNT, conf->member_count);
    ms_le_put_u32(dst + OFFSET_ZERO, 0);
    ms_le_put_u64(dst + OFFSET_CLUSTER_ID, conf->cluster_id);
    dst += HEADER_BYTES;
    for (uint32_t i = 0; i < conf->member_count; i++) {
        const struct ms_conf_member *member = &conf->members[i];
        size_t len_bytes = url_bytes(member);

        ms_le_put_u64(dst + OFFSET_ID, member->id);
        ms_le_put_u64(dst + OFFSET_DATA_ID, member->data_id);
        ms_le_put_u32(dst + OFFSET_FLAGS, member->flags);
        ms_le_put_u16(dst + OFFSET_URL_BYTES, (uint16_t)len_bytes);
        ms_le_put_u16(dst + OFFSET_MEMBER_ZERO, 0);
        memcpy(dst + MEMBER_BYTES, member->peer_url, len_bytes);
        dst += MEMBER_BYTES + len_bytes;
    }
}

/* One member at the start of data into *out; its length, or 0 if it is none. */
static size_t decode_member(const uint8_t *data, size_t len_bytes, struct ms_conf_member *out)
{
    size_t len_url;

    if (len_bytes < MEMBER_BYTES) {
        return 0;
    }
    len_url = ms_le_get_u16(data + OFFSET_URL_BYTES);
    out->id = ms_le_get_u64(data + OFFSET_ID);
    out->data_id = ms_le_get_u64(data + OFFSET_DATA_ID);
    out->flags = ms_le_get_u32(data + OFFSET_FLAGS);
    if (out->id == 0 || out->flags == 0 || (out->flags & ~(uint32_t)FLAGS_ALL) != 0 ||
        ms_le_get_u16(data + OFFSET_MEMBER_ZERO) != 0 || len_url >= sizeof(out->peer_url) ||
        len_url > len_bytes - MEMBER_BYTES || memchr(data + MEMBER_BYTES, 0, len_url) != NULL) {
        return 0;
    }
    memcpy(out->peer_url, data + MEMBER_BYTES, len_url);
    out->peer_url[len_url] = '\0';
    return MEMBER_BYTES + len_url;
}

int ms_conf_state_decode(const uint8_t *data, size_t len_bytes, struct ms_conf_state *out)
{
    struct ms_conf_state conf = {0};
    size_t at = HEADER_BYTES;

    if (len_bytes < HEADER_BYTES || ms_le_get_u32(data + OFFSET_FORMAT) != MS_CONF_STATE_FORMAT ||
        ms_le_get_u32(data + OFFSET_ZERO) != 0) {
        return MS_ECORRUPT;
    }
    conf.cluster_id = ms_le_get_u64(data + OFFSET_CLUSTER_ID);
    conf.auto_leave = ms_le_get_u32(data + OFFSET_AUTO_LEAVE);
    conf.member_count = ms_le_get_u32(data + OFFSET_COUNT);
    if (conf.auto_leave > 1 || conf.member_count > MS_STATUS_MEMBERS_MAX) {
        return MS_ECORRUPT;
    }
    for (uint32_t i = 0; i < conf.member_count; i++) {
        size_t used = decode_member(data + at, len_bytes - at, &conf.members[i]);

        if (used == 0 || (i > 0 && conf.members[i].id <= conf.members[i - 1].id)) {
            return MS_ECORRUPT;
        }
        at += used;
    }
    if (at != len_bytes) {
        return MS_ECORRUPT;
    }
    *out = conf;
    return MS_OK;
}
